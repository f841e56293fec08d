//! TLS on either leg, and TCP routes, with sessions of the library's own as the far ends.

use super::world::{State, World, BASE};
use super::OK;
use crate::config::Config;
use crate::exchange::ConnId;
use crate::observe::Counter;
use crate::proxy_protocol;
use crate::tls::{CertificateMaterial, Client, Material, Server, TlsStore};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::sync::Arc;

const SECURE: &str = r#"
[entrypoints.plain]
address = "127.0.0.1:0"

[entrypoints.raw]
address = "127.0.0.1:0"
protocol = "tcp"

[certificates.here]
cert = "x"
key = "x"
[certificates.guarded]
cert = "x"
key = "x"

[services.secure]
endpoints = ["https://up.test:9443"]
tls = { ca = "ca.pem", certificate = "here" }
[services.bytes]
endpoints = ["tcp://127.0.0.1:9000"]
[services.far]
endpoints = ["https://here.test"]
tls = { ca = "ca.pem" }
[services.far-known]
endpoints = ["https://guarded.test"]
tls = { ca = "ca.pem", certificate = "here" }

[[routes]]
name = "secure"
match = { path = "/secure/**" }
service = "secure"
[[routes]]
name = "mine"
match = { path = "/mine", client_cert = { subject = "CN=agent" } }
service = "app"

[[tcp_routes]]
name = "pass"
entrypoints = ["web"]
match = { sni = "pass.test" }
service = "bytes"
proxy_protocol = "v2"
idle_timeout = "2s"
[[tcp_routes]]
name = "raw"
service = "bytes"
proxy_protocol = "v1"
max_lifetime = "4s"
"#;

/// A world with certificates, and what is needed to be its client.
struct Secured {
    world: World,
    store: Arc<TlsStore>,
}

impl Secured {
    fn new() -> Secured {
        Secured::with(&format!("{BASE}{SECURE}"))
    }

    fn with(text: &str) -> Secured {
        let tls = "tls = { hosts.\"guarded.test\" = { client_auth = \"require\", client_ca = \"ca.pem\" } }";
        let text = text.replacen("address = \"127.0.0.1:0\"", &format!("address = \"127.0.0.1:0\"\n{tls}"), 1);
        let config: Config = toml::from_str(&text).expect("a configuration");
        let (ca, issuer) = authority();
        let material = Material {
            certificates: vec![
                issue(&issuer, "here", &["here.test", "up.test"]),
                issue(&issuer, "guarded", &["guarded.test"]),
            ],
            roots: [("ca.pem".to_owned(), ca)].into(),
            ..Material::default()
        };
        let store = Arc::new(TlsStore::compile(&config, &material, None).expect("sound"));
        let mut world = World::new(&text);
        world.engine.publish_tls(store.clone());
        store.set_now(world.now.wall_ns / 1_000_000_000);
        Secured { world, store }
    }

    fn client(&mut self, service: &str, host: &str) -> Browser {
        let session =
            Client::new(self.store.client(service).expect("a plan"), host, &[b"http/1.1"]).expect("a session");
        let conn = self.world.client();
        Browser { session, conn, plain: Vec::new(), failed: false }
    }

    /// The endpoint's side of the newest connection.
    fn upstream(&mut self, alpn: &[u8]) -> (ConnId, Server) {
        let conn = self.world.connected();
        let plan = self.store.server("web").expect("a plan").clone();
        let mut session = Server::new(plan, self.world.now.wall_ns / 1_000_000_000);
        let mut plain = Vec::new();
        self.serve(conn, &mut session, &mut plain);
        assert_eq!(session.facts().and_then(|f| f.alpn.as_deref()), Some(alpn));
        (conn, session)
    }

    fn anybody(&self) -> Server {
        Server::new(self.store.server("web").expect("a plan").clone(), 1_760_000_000)
    }

    fn serve(&mut self, conn: ConnId, session: &mut Server, plain: &mut Vec<u8>) {
        loop {
            let bytes = self.world.take_bytes(conn);
            let fed = session.feed(&bytes, plain);
            let mut out = Vec::new();
            session.output(&mut out);
            if !out.is_empty() && self.world.side(conn).open() {
                self.world.send(conn, &out);
            }
            if out.is_empty() || fed.is_err() {
                return;
            }
        }
    }
}

struct Browser {
    session: Client,
    conn: ConnId,
    plain: Vec<u8>,
    failed: bool,
}

impl Browser {
    fn run(&mut self, world: &mut World) {
        loop {
            let mut out = Vec::new();
            self.session.output(&mut out);
            if !out.is_empty() && world.side(self.conn).open() {
                // In pieces: nothing depends on how it comes.
                for piece in out.chunks(97) {
                    world.send(self.conn, piece);
                }
            }
            let back = world.take_bytes(self.conn);
            if back.is_empty() {
                return;
            }
            self.failed |= self.session.feed(&back, &mut self.plain).is_err();
        }
    }

    fn send(&mut self, world: &mut World, text: &str) {
        let mut out = Vec::new();
        self.session.send(text.as_bytes(), &mut out);
        world.send(self.conn, &out);
        self.run(world);
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.plain)).into_owned()
    }
}

fn authority() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).expect("signed").pem();
    (pem, Issuer::new(params, key))
}

fn issue(issuer: &Issuer<'static, KeyPair>, name: &str, hosts: &[&str]) -> CertificateMaterial {
    let key = KeyPair::generate().expect("a key");
    let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("params");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "agent");
    let cert = params.signed_by(&key, issuer).expect("signed");
    CertificateMaterial {
        name: name.into(),
        source: format!("{name}.pem"),
        cert: cert.pem(),
        key: key.serialize_pem(),
        ocsp: String::new(),
    }
}

#[test]
fn requests_cross_tls_on_both_legs() {
    let mut secured = Secured::new();
    let mut browser = secured.client("far", "here.test");
    browser.run(&mut secured.world);
    browser.send(&mut secured.world, "GET /secure/a HTTP/1.1\r\nhost: here.test\r\nclient-cert: :AAAA:\r\n\r\n");
    // The endpoint offers HTTP/2 first; our client takes it.
    let conn = secured.world.connected();
    let plan = secured.store.server("web").expect("a plan").clone();
    let mut session = Server::new(plan, 1_760_000_000);
    let mut plain = Vec::new();
    secured.serve(conn, &mut session, &mut plain);
    assert_eq!(session.facts().and_then(|f| f.alpn.as_deref()), Some(&b"h2"[..]));
    assert!(plain.starts_with(crate::http2::PREFACE), "HTTP/2 over TLS");
    // To one that must speak HTTP/1.1, an upgrade does.
    browser.run(&mut secured.world);
    secured.world.reset(conn);
    browser.run(&mut secured.world);
    let got = browser.text();
    assert!(got.starts_with("HTTP/1.1 502"), "{got}");
    let upgrade = "GET /secure/w HTTP/1.1\r\nhost: here.test\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n";
    browser.send(&mut secured.world, upgrade);
    let (conn, mut session) = secured.upstream(b"http/1.1");
    let mut plain = Vec::new();
    secured.serve(conn, &mut session, &mut plain);
    let text = String::from_utf8_lossy(&plain).into_owned();
    assert!(text.starts_with("GET /secure/w HTTP/1.1\r\n") || text.is_empty(), "{text}");
    let mut out = Vec::new();
    session.send(OK.as_bytes(), &mut out);
    secured.world.send(conn, &out);
    browser.run(&mut secured.world);
    assert!(browser.text().ends_with("hello"));
    secured.world.assert_at_rest();
}

#[test]
fn the_certificate_shown_is_routed_on_and_sent_on_and_nobody_elses() {
    let mut secured = Secured::new();
    let mut browser = secured.client("far-known", "guarded.test");
    browser.run(&mut secured.world);
    assert!(!browser.failed);
    browser.send(&mut secured.world, "GET /mine HTTP/1.1\r\nhost: guarded.test\r\nclient-cert: :AAAA:\r\n\r\n");
    let up = secured.world.connected();
    let sent = secured.world.take(up);
    assert!(sent.contains("client-cert: :MII") && !sent.contains("AAAA"), "{sent}");
    assert!(sent.contains("x-forwarded-proto: https"), "{sent}");
    secured.world.send(up, OK);
    browser.run(&mut secured.world);
    assert!(browser.text().ends_with("hello"));
    // Another name on the same connection would be served by other rules.
    browser.send(&mut secured.world, "GET /mine HTTP/1.1\r\nhost: here.test\r\n\r\n");
    assert!(browser.text().contains("x-pygate-error: misdirected"));
    // Without a certificate there is no connection to the guarded name, and no route on it elsewhere.
    let mut stranger = secured.client("far", "guarded.test");
    stranger.run(&mut secured.world);
    assert!(stranger.failed, "refused in the handshake");
    assert!(secured.world.count(Counter::TlsFailed) >= 1);
    let mut plain = secured.client("far", "here.test");
    plain.run(&mut secured.world);
    plain.send(&mut secured.world, "GET /mine HTTP/1.1\r\nhost: here.test\r\nclient-cert: :AAAA:\r\n\r\n");
    let sent = secured.world.take(up);
    assert!(!sent.contains("client-cert"), "{sent}");
    secured.world.send(up, OK);
    plain.run(&mut secured.world);
    secured.world.assert_at_rest();
}

#[test]
fn what_is_no_handshake_ends_with_an_alert_or_at_its_deadline() {
    let mut secured = Secured::new();
    let world = &mut secured.world;
    let client = world.client();
    world.send(client, "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(world.take_bytes(client)[0], 21, "an alert");
    world.seconds(3.0);
    assert!(!world.side(client).open());
    // One that says nothing, and one that says too little.
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let client = world.client();
        if !bytes.is_empty() {
            world.send(client, bytes);
        }
        world.seconds(9.0);
        assert!(world.side(client).open());
        world.seconds(2.0);
        assert_eq!(world.side(client).state, State::Aborted);
    }
    assert!(world.asked.is_empty());
    world.assert_at_rest();
}

#[test]
fn an_endpoint_that_is_not_who_it_should_be_gets_no_request() {
    let mut secured = Secured::new();
    let mut browser = secured.client("far", "here.test");
    browser.run(&mut secured.world);
    browser.send(&mut secured.world, "GET /secure/a HTTP/1.1\r\nhost: here.test\r\n\r\n");
    let conn = secured.world.connected();
    // Another authority's certificate for the right name.
    let (_, issuer) = authority();
    let text = "[entrypoints.web]\naddress = \"x:1\"\ntls = {}\n[certificates.here]\ncert = \"x\"\nkey = \"x\"\n";
    let config: Config = toml::from_str(text).expect("a configuration");
    let material = Material { certificates: vec![issue(&issuer, "here", &["up.test"])], ..Material::default() };
    let other = TlsStore::compile(&config, &material, None).expect("sound");
    let mut session = Server::new(other.server("web").expect("a plan").clone(), 1_760_000_000);
    let mut plain = Vec::new();
    secured.serve(conn, &mut session, &mut plain);
    assert!(plain.is_empty());
    assert!(!secured.world.side(conn).open());
    browser.run(&mut secured.world);
    let got = browser.text();
    assert!(got.contains("x-pygate-error: upstream-tls"), "{got}");
    secured.world.assert_at_rest();
}

#[test]
fn connections_are_passed_on_by_the_name_in_their_hello_and_left_as_they_are() {
    let mut secured = Secured::new();
    let mut browser = secured.client("far", "pass.test");
    let mut hello = Vec::new();
    browser.session.output(&mut hello);
    let world = &mut secured.world;
    for byte in &hello {
        world.send(browser.conn, [*byte]);
    }
    assert!(world.take_bytes(browser.conn).is_empty(), "nobody answered it here");
    let up = world.connected();
    let sent = world.take_bytes(up);
    let (used, header) = proxy_protocol::parse(&sent).expect("sound").expect("whole");
    assert_eq!(header, proxy_protocol::Header::Proxied { ip: "192.0.2.7".parse().expect("an address"), port: 4711 });
    assert_eq!(sent[used..], hello);
    world.send(up, b"raw answer");
    assert_eq!(world.take_bytes(browser.conn), b"raw answer");
    assert_eq!(world.records.iter().filter(|r| r.1).count(), 0, "under way");
    world.seconds(3.0);
    assert!(!world.side(browser.conn).open() && !world.side(up).open(), "silent for too long");
    assert_eq!(world.outcomes(), 1);
    assert_eq!(world.count(Counter::TcpSent), 10);
    world.assert_at_rest();
}

#[test]
fn a_tcp_entrypoint_speaks_first_or_last_and_ends_in_time() {
    let mut secured = Secured::new();
    let world = &mut secured.world;
    // The endpoint speaks first.
    let client = world.client_on("raw", "192.0.2.7").expect("accepted");
    let up = world.connected();
    assert!(world.take(up).starts_with("PROXY TCP4 192.0.2.7 0.0.0.0 4711 0\r\n"));
    world.send(up, b"220 ready\r\n");
    assert_eq!(world.take(client), "220 ready\r\n");
    world.send(client, b"HELO\r\n");
    assert_eq!(world.take(up), "HELO\r\n");
    for _ in 0..4 {
        world.seconds(1.0);
        if world.side(up).open() {
            world.send(up, b".");
        }
    }
    world.seconds(0.5);
    assert!(!world.side(client).open() && !world.side(up).open(), "longer than its route allows");
    // An endpoint that is not there.
    let client = world.client_on("raw", "192.0.2.7").expect("accepted");
    world.connect_failed(false);
    assert_eq!(world.side(client).state, State::Aborted);
    assert!(world.take(client).is_empty(), "no HTTP is spoken");
    assert_eq!(world.outcomes(), 2);
    world.assert_at_rest();
}

#[test]
fn large_bodies_of_clear_clients_are_encrypted_towards_the_endpoint() {
    let text = format!("{BASE}{SECURE}").replace(
        "endpoints = [\"https://up.test:9443\"]",
        "endpoints = [\"https://up.test:9443\"]\nprotocol = \"http1\"",
    );
    let mut secured = Secured::with(&text);
    let client = secured.world.client_on("plain", "192.0.2.7").expect("accepted");
    secured.world.send(client, "POST /secure/a HTTP/1.1\r\nhost: h\r\ncontent-length: 200000\r\n\r\n");
    let (conn, mut session) = secured.upstream(b"http/1.1");
    let mut plain = Vec::new();
    secured.serve(conn, &mut session, &mut plain);
    // One read, large enough to be passed on by reference.
    secured.world.send(client, vec![b'S'; 200_000]);
    let wire = secured.world.take_bytes(conn);
    assert!(!wire.windows(32).any(|w| w == [b'S'; 32]), "in the clear");
    session.feed(&wire, &mut plain).expect("sound records");
    assert_eq!(plain.iter().filter(|b| **b == b'S').count(), 200_000);
    let mut out = Vec::new();
    session.send(OK.as_bytes(), &mut out);
    secured.world.send(conn, &out);
    assert!(secured.world.take(client).ends_with("hello"));
    // An answer that ends with its connection ends only where TLS says so.
    for goodbye in [true, false] {
        secured.world.send(client, "GET /secure/a HTTP/1.1\r\nhost: h\r\n\r\n");
        let (conn, mut session) = match secured.world.side(conn).open() {
            true => (conn, std::mem::replace(&mut session, secured.anybody())),
            false => secured.upstream(b"http/1.1"),
        };
        let mut out = Vec::new();
        session.send(b"HTTP/1.1 200 OK\r\n\r\npart", &mut out);
        if goodbye {
            session.close(&mut out);
        }
        secured.world.send(conn, &out);
        if goodbye {
            assert!(secured.world.take(client).ends_with("4\r\npart\r\n0\r\n\r\n"));
        } else {
            secured.world.eof(conn);
            assert_eq!(secured.world.side(client).state, State::Aborted);
        }
    }
    secured.world.assert_at_rest();
}

#[test]
fn an_endpoint_that_never_shakes_hands_is_given_up_and_asked_again() {
    let text = format!("{BASE}{SECURE}").replace(
        "endpoints = [\"https://up.test:9443\"]",
        "endpoints = [\"https://up.test:9443\"]\nprotocol = \"http2\"\nconnect_timeout = \"1s\"",
    );
    let mut secured = Secured::with(&text);
    let client = secured.world.client_on("plain", "192.0.2.7").expect("accepted");
    secured.world.send(client, "GET /secure/a HTTP/1.1\r\nhost: h\r\n\r\n");
    let silent = secured.world.connected();
    secured.world.seconds(3.0);
    assert!(secured.world.take(client).contains(" 504 "));
    assert!(!secured.world.side(silent).open());
    secured.world.send(client, "GET /secure/a HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(secured.world.asked.len(), 2, "nobody waits for the silent one");
    secured.world.connect_failed(false);
    assert!(secured.world.take(client).contains(" 502 "));
    secured.world.assert_at_rest();
}

#[test]
fn what_was_decrypted_goes_only_to_routes_that_end_tls() {
    let routes = r#"
[[tcp_routes]]
name = "ended"
entrypoints = ["raw"]
priority = 5
match = { sni = "here.test", alpn = "foo" }
service = "bytes"
tls = "terminate"
[[tcp_routes]]
name = "kept"
entrypoints = ["raw"]
priority = 4
match = { sni = "here.test" }
service = "bytes"
"#;
    let text = format!("{BASE}{SECURE}{routes}").replace("protocol = \"tcp\"", "protocol = \"tcp\"\ntls = {}");
    let mut secured = Secured::with(&text);
    for (alpn, ended) in [(&b"foo"[..], true), (b"bar", false)] {
        let plan = secured.store.client("far").expect("a plan").clone();
        let session = Client::new(&plan, "here.test", &[alpn]).expect("a session");
        let conn = secured.world.client_on("raw", "192.0.2.7").expect("accepted");
        let mut client = Browser { session, conn, plain: Vec::new(), failed: false };
        client.run(&mut secured.world);
        if ended && !client.failed {
            client.send(&mut secured.world, "secret words");
        }
        let up = secured.world.connected();
        let got = secured.world.take_bytes(up);
        let clear = got.windows(12).any(|w| w == b"secret words");
        assert_eq!(clear, ended, "{}", String::from_utf8_lossy(&got));
        assert_eq!(got.first() == Some(&22), !ended, "a handshake record, or what was inside");
        secured.world.reset(up);
        secured.world.seconds(1.0);
    }
    secured.world.assert_at_rest();
}

#[test]
fn bytes_behind_a_split_proxy_header_are_not_lost() {
    let text = format!("{BASE}{SECURE}")
        .replace("protocol = \"tcp\"", "protocol = \"tcp\"\nproxy_protocol = [\"192.0.2.0/24\"]");
    let mut secured = Secured::with(&text);
    let world = &mut secured.world;
    let client = world.client_on("raw", "192.0.2.7").expect("accepted");
    world.send(client, "PROXY TCP4 203.0.113.9 ");
    world.send(client, "192.0.2.2 1 2\r\nHELLO");
    let up = world.connected();
    assert_eq!(world.take(up), "PROXY TCP4 203.0.113.9 0.0.0.0 1 0\r\nHELLO");
    world.reset(client);
    assert!(!world.side(up).open());
    world.assert_at_rest();
}
