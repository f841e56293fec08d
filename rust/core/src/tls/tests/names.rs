//! Which name gets which certificate.

use super::world::{fragmented, params, ClientSide, Pair, World, NOW};
use crate::tls::{client_hello, CertificateMaterial, Material, Server};
use rcgen::{CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{pem::PemObject, CertificateDer};

fn leaf(certificate: &CertificateMaterial) -> Vec<u8> {
    CertificateDer::from_pem_slice(certificate.cert.as_bytes()).unwrap().to_vec()
}

fn several(world: &World) -> Material {
    world.material(&[
        ("exact", &["a.example.com"]),
        ("wild", &["*.example.com"]),
        ("both", &["b.example.com", "c.example.com"]),
        ("other", &["other.example"]),
    ])
}

#[test]
fn the_best_match_is_shown_and_the_unknown_refused() {
    let world = World::new();
    let material = several(&world);
    let store = world.store("", &material);
    let plan = store.server("web").unwrap();
    for (host, shown) in [
        ("a.example.com", Some(0)),
        ("A.EXAMPLE.com", Some(0)),
        ("x.example.com", Some(1)),
        ("b.example.com", Some(2)),
        ("other.example", Some(3)),
        ("y.x.example.com", None),
        ("example.com", None),
        ("nowhere.test", None),
        ("10.0.0.1", None),
    ] {
        let client = ClientSide::new(&world);
        let mut pair = Pair::new(plan, &client, host);
        match shown {
            Some(number) => {
                pair.handshake().unwrap();
                assert_eq!(client.leaf(), leaf(&material.certificates[number]), "{host}");
                let (options, certificate) = plan.resolve(Some(host.as_bytes())).unwrap();
                assert_eq!((pair.facts().options, pair.facts().certificate), (options, certificate));
                assert_eq!(pair.facts().sni, Some(host.to_lowercase()));
            }
            None => {
                assert_eq!(pair.handshake().unwrap_err().text(), "no certificate for the name asked for");
                assert_eq!(pair.alert(), Some(112), "{host}");
                assert_eq!(plan.resolve(Some(host.as_bytes())), None);
            }
        }
    }
}

#[test]
fn the_default_certificate_is_for_all_others() {
    let world = World::new();
    let material = several(&world);
    let store = world.store("[entrypoints.web.tls]\ndefault_certificate = 'other'", &material);
    let plan = store.server("web").unwrap();
    for (client, host, shown) in [
        (ClientSide::new(&world), "nowhere.test", 3),
        (ClientSide::new(&world), "10.0.0.1", 3),
        (ClientSide::new(&world).without_sni(), "a.example.com", 3),
        (ClientSide::new(&world), "a.example.com", 0),
    ] {
        let mut pair = Pair::new(plan, &client, host);
        pair.handshake().unwrap();
        assert_eq!(client.leaf(), leaf(&material.certificates[shown]), "{host}");
    }
    assert_eq!(plan.resolve(None), plan.resolve(Some(b"other.example")));
    assert_eq!(plan.resolve(Some(b"10.0.0.1")), plan.resolve(None));
}

#[test]
fn only_listed_certificates_are_shown() {
    let world = World::new();
    let store = world.store("[entrypoints.web.tls]\ncertificates = ['wild', 'both']", &several(&world));
    let plan = store.server("web").unwrap();
    assert_eq!(plan.resolve(Some(b"a.example.com")), plan.resolve(Some(b"x.example.com")));
    assert!(plan.resolve(Some(b"b.example.com")) != plan.resolve(Some(b"x.example.com")));
    assert_eq!(plan.resolve(Some(b"other.example")), None);
}

#[test]
fn the_kind_of_key_is_chosen_by_what_the_client_can_verify() {
    let world = World::new();
    let mut material = Material::default();
    material.certificates.push(world.issue_rsa("rsa", &["a.example"]));
    material.certificates.push(world.issue("ecdsa", &["a.example"]));
    material.certificates.push(world.issue_rsa("wild", &["*.test"]));
    material.certificates.push(world.issue("exact", &["x.test"]));
    let store = world.store("", &material);
    let plan = store.server("web").unwrap();
    for version in ["1.2", "1.3"] {
        for (rsa, host, shown) in [
            (false, "a.example", 1),
            (true, "a.example", 0),
            (false, "x.test", 3),
            // Exact, but of no use to this client.
            (true, "x.test", 2),
        ] {
            let client = ClientSide::new(&world).version(version);
            let client = if rsa { client.rsa_only() } else { client };
            let mut pair = Pair::new(plan, &client, host);
            pair.handshake().unwrap();
            assert_eq!(client.leaf(), leaf(&material.certificates[shown]), "{version} {rsa} {host}");
        }
    }
    // To 421 the two for a.example are one.
    let client = ClientSide::new(&world).rsa_only();
    let mut pair = Pair::new(plan, &client, "a.example");
    pair.handshake().unwrap();
    assert_eq!(plan.resolve(Some(b"a.example")), Some((pair.facts().options, pair.facts().certificate)));
    // The connection serves its own name, whatever the better certificate is called.
    let client = ClientSide::new(&world).rsa_only();
    let mut pair = Pair::new(plan, &client, "x.test");
    pair.handshake().unwrap();
    assert!(plan.serves(&pair.facts(), b"X.test.") && !plan.serves(&pair.facts(), b"a.example"));
}

#[test]
fn other_hosts_are_served_where_certificate_and_options_are_the_same() {
    let world = World::new();
    let more = "[entrypoints.web.tls.hosts.'c.example.com']\nmax_version = '1.2'";
    let store = world.store(more, &several(&world));
    let plan = store.server("web").unwrap();
    let client = ClientSide::new(&world);
    let mut pair = Pair::new(plan, &client, "x.example.com");
    pair.handshake().unwrap();
    let facts = pair.facts();
    for (host, wanted) in [
        (&b"x.example.com"[..], true),
        (b"z.example.com", true),
        (b"Z.Example.com.", true),
        (b"a.example.com", false),
        (b"c.example.com", false),
        (b"other.example", false),
        (b"10.0.0.1", false),
        (b"", false),
        (b"\xff\x00", false),
    ] {
        assert_eq!(plan.serves(&facts, host), wanted, "{host:?}");
    }
}

#[test]
fn the_hello_is_read_in_any_number_of_records() {
    let world = World::new();
    let store = world.store("", &several(&world));
    let plan = store.server("web").unwrap();
    for size in [1, 2, 3, 7, 50, 100] {
        for piece in [1, 6, 4096] {
            let client = ClientSide::new(&world);
            let mut pair = Pair::new(plan, &client, "a.example.com");
            pair.piece = piece;
            let hello = fragmented(&pair.hello(), size);
            pair.feed(&hello).unwrap();
            pair.handshake().unwrap();
            assert_eq!(pair.facts().sni.as_deref(), Some("a.example.com"));
        }
    }
}

#[test]
fn a_look_into_the_hello_agrees_with_the_server_at_every_split() {
    let world = World::new();
    let client = ClientSide::new(&world).alpn(&["h2", "http/1.1"]);
    let store = world.store("", &several(&world));
    for host in ["A.Example.com", "b.example.com", "10.0.0.1"] {
        let mut pair = Pair::new(store.server("web").unwrap(), &client, host);
        let hello = pair.hello();
        for size in [1, 5, 100, 5000] {
            let cut = fragmented(&hello, size);
            for end in 0..cut.len() {
                assert_eq!(client_hello(&cut[..end]).unwrap(), None, "{end} of {}", cut.len());
            }
            let seen = client_hello(&cut).unwrap().unwrap();
            assert_eq!(seen.sni, (!host.starts_with('1')).then(|| host.to_lowercase()));
            assert_eq!(seen.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
            // Whatever follows the hello's record is not looked at.
            assert_eq!(client_hello(&[&cut[..], b"\x14\x03\x03"].concat()).unwrap().unwrap(), seen);
        }
    }
}

#[test]
fn challenges_are_answered_and_nothing_else_under_their_protocol() {
    let world = World::new();
    let mut material = several(&world);
    material.challenges.insert("token".into(), "token.key".into());
    material.alpn_challenges.push(world.issue("New.example", &["new.example"]));
    // As a real one is: no client of ours takes it, an authority does.
    let mut special = params(&["special.example"]);
    special.custom_extensions = vec![CustomExtension::new_acme_identifier(&[7; 32])];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    material.alpn_challenges.push(world.issue_for("special.example", special, &key));
    let more = "[entrypoints.web.tls.options]\nclient_auth = 'require'\nclient_ca = 'ca.pem'";
    let store = world.store(more, &material);
    assert_eq!(store.challenge(b"token"), Some("token.key"));
    assert_eq!(store.challenge(b"other"), None);
    assert_eq!(store.challenge(b"\xff"), None);
    let plan = store.server("web").unwrap();
    let client = ClientSide::new(&world).alpn(&["acme-tls/1"]);
    let mut pair = Pair::new(plan, &client, "new.example");
    let hello = pair.hello();
    pair.feed(&hello).unwrap();
    let mut out = Vec::new();
    pair.server.output(&mut out);
    pair.deliver(&out).unwrap();
    assert_eq!(pair.client.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    assert_eq!(client.leaf(), leaf(&material.alpn_challenges[0]));
    let fed = pair.flush().unwrap();
    assert!(fed.peer_closed && !fed.handshake_done, "it is over when it is done");
    // Other names, and other protocols beside it, are no challenge.
    for (host, alpn) in [("a.example.com", &["acme-tls/1"][..]), ("new.example", &["acme-tls/1", "h2"])] {
        let client = ClientSide::new(&world).alpn(alpn);
        let mut pair = Pair::new(plan, &client, host);
        pair.handshake().unwrap_err();
        assert_eq!(pair.alert(), Some(112));
    }
}

#[test]
fn a_stapled_response_reaches_the_client() {
    let world = World::new();
    let mut material = several(&world);
    // The library passes it on unread.
    material.certificates[0].ocsp = "MAMKAQY=".into();
    let store = world.store("", &material);
    for version in ["1.2", "1.3"] {
        for (host, wanted) in [("a.example.com", &b"\x30\x03\x0a\x01\x06"[..]), ("other.example", b"")] {
            let client = ClientSide::new(&world).version(version);
            let mut pair = Pair::new(store.server("web").unwrap(), &client, host);
            pair.handshake().unwrap();
            assert_eq!(client.stapled(), wanted);
        }
    }
}

#[test]
fn a_session_without_bytes_is_nothing() {
    let world = World::new();
    let store = world.store("", &several(&world));
    let mut server = Server::new(store.server("web").unwrap().clone(), NOW);
    let mut out = Vec::new();
    assert_eq!(server.feed(b"", &mut out), Ok(crate::tls::Fed::default()));
    server.output(&mut out);
    server.send(b"too early", &mut out);
    server.close(&mut out);
    assert!(out.is_empty() && server.is_handshaking() && server.facts().is_none());
}
