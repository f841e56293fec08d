//! Our client against our server: verification, pins, client certificates, resumption.

use super::world::{config, params, World, NOW};
use crate::tls::{CertificateMaterial, Client, Material, Server, TlsError, TlsStore};
use base64::Engine;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;

/// Client and server of two stores shake hands; the client's session, or the first error.
fn meet(client: &TlsStore, server: &TlsStore, host: &str, piece: usize) -> Result<(Client, Server), TlsError> {
    let mut there = Server::new(server.server("web").unwrap().clone(), NOW);
    let mut here = Client::new(client.client("up").unwrap(), host, &[b"h2", b"http/1.1"])?;
    let (mut plain, mut done) = (Vec::new(), 0);
    loop {
        let mut up = Vec::new();
        here.output(&mut up);
        let fed = there.feed(&up, &mut plain);
        let mut down = Vec::new();
        there.output(&mut down);
        for bytes in down.chunks(piece) {
            let fed = here.feed(bytes, &mut plain);
            if let Err(error) = &fed {
                // The alert says why, but for one that answers an alert.
                let mut alert = Vec::new();
                here.output(&mut alert);
                assert_eq!(alert.is_empty(), error.text().starts_with("the peer sent the alert"), "{error}");
                assert_eq!(here.feed(b"", &mut plain), fed);
            }
            done += usize::from(fed?.handshake_done);
        }
        fed?;
        if up.is_empty() && down.is_empty() {
            assert!(done == 1 && plain.is_empty());
            return Ok((here, there));
        }
    }
}

fn service(tls: &str, url: &str) -> String {
    format!("[services.up]\nendpoints = ['{url}']\n[services.up.tls]\n{tls}")
}

fn store(world: &World, tls: &str, certificates: Vec<CertificateMaterial>) -> TlsStore {
    let material = Material {
        certificates,
        roots: [("ca.pem".to_owned(), world.ca.pem()), (String::new(), world.ca.pem())].into(),
        ..Material::default()
    };
    world.store(&service(tls, "https://a.example"), &material)
}

fn pin(certificate: &CertificateMaterial) -> String {
    use rustls::pki_types::pem::PemObject;
    let der = rustls::pki_types::CertificateDer::from_pem_slice(certificate.cert.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::prelude::X509Certificate::from_der(&der).unwrap();
    format!("sha256/{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(parsed.public_key().raw)))
}

#[test]
fn endpoints_are_verified() {
    let world = World::new();
    let stranger = World::named("a stranger");
    let good = world.material(&[("a", &["a.example", "10.0.0.1", "*.b.example"])]);
    let expired = {
        let mut params = params(&["a.example"]);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        world.issue_for("a", params, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    };
    let early = {
        let mut params = params(&["a.example"]);
        params.not_before = rcgen::date_time_ymd(2030, 1, 1);
        world.issue_for("a", params, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    };
    let foreign = stranger.issue("a", &["a.example"]);
    let pin_a = pin(&good.certificates[0]);
    let wrong = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let default = "[entrypoints.web.tls]\ndefault_certificate = 'a'";
    let serve = |certificate: CertificateMaterial| {
        world.store(default, &Material { certificates: vec![certificate], ..Material::default() })
    };
    let good = world.store(default, &good);
    let (expired, early, foreign) = (serve(expired), serve(early), serve(foreign));
    let pins = |pins: &[&str]| format!("pins = {pins:?}");
    let insecure = |more: String| format!("insecure_skip_verify = true\n{more}");
    let no = |text: &'static str| Err(text);
    for (tls, server, host, wanted) in [
        ("ca = 'ca.pem'".to_owned(), &good, "a.example", Ok(Some("a.example"))),
        (String::new(), &good, "a.example", Ok(Some("a.example"))),
        ("ca = 'ca.pem'".to_owned(), &good, "X.b.example", Ok(Some("x.b.example"))),
        ("ca = 'ca.pem'".to_owned(), &good, "10.0.0.1", Ok(None)),
        ("ca = 'ca.pem'".to_owned(), &good, "10.0.0.2", no("the peer's certificate is for another name")),
        ("ca = 'ca.pem'".to_owned(), &good, "b.example", no("the peer's certificate is for another name")),
        ("server_name = 'a.example'".to_owned(), &good, "elsewhere", Ok(Some("a.example"))),
        ("server_name = 'c.example'".to_owned(), &good, "a.example", no("the peer's certificate is for another name")),
        (String::new(), &expired, "a.example", no("the peer's certificate has expired")),
        (String::new(), &early, "a.example", no("the peer's certificate is not valid yet")),
        (String::new(), &foreign, "a.example", no("the peer's certificate has an unknown issuer")),
        (insecure(String::new()), &foreign, "a.example", Ok(Some("a.example"))),
        (insecure(String::new()), &expired, "other", Ok(Some("other"))),
        (pins(&[&pin_a]), &good, "a.example", Ok(Some("a.example"))),
        (pins(&[wrong, &pin_a]), &good, "a.example", Ok(Some("a.example"))),
        (pins(&[wrong]), &good, "a.example", no("the peer's certificate has none of the pinned keys")),
        (pins(&[&pin_a]), &foreign, "a.example", no("the peer's certificate has an unknown issuer")),
        (insecure(pins(&[&pin_a])), &good, "other", Ok(Some("other"))),
        (insecure(pins(&[&pin_a])), &foreign, "a.example", no("the peer's certificate has none of the pinned keys")),
    ] {
        let client = store(&world, &tls, Vec::new());
        for piece in [1, 1000, usize::MAX] {
            let met = meet(&client, server, host, piece);
            match wanted {
                Ok(sni) => {
                    let (here, there) = met.unwrap();
                    let facts = here.facts().unwrap();
                    assert_eq!((facts.sni.as_deref(), facts.alpn.as_deref()), (sni, Some(&b"h2"[..])));
                    assert_eq!(there.facts().unwrap().sni.as_deref(), sni);
                    assert!(!here.is_handshaking());
                }
                Err(why) => assert_eq!(met.err().map(|e| e.to_string()).as_deref(), Some(why), "{tls} {host}"),
            }
        }
    }
}

#[test]
fn an_untold_time_verifies_nothing() {
    let world = World::new();
    let client = store(&world, "", Vec::new());
    client.set_now(0);
    let server = world.store("", &world.material(&[("a", &["a.example"])]));
    assert_eq!(meet(&client, &server, "a.example", 9).err().unwrap().text(), "the time was not told yet");
    client.set_now(NOW);
    meet(&client, &server, "a.example", 9).unwrap();
}

#[test]
fn versions_names_and_identities_are_as_configured() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let old = world.store("[entrypoints.web.tls.options]\nmax_version = '1.2'", &material);
    let client = store(&world, "", Vec::new());
    let (here, _) = meet(&client, &old, "a.example", 100).unwrap();
    assert_eq!(here.facts().unwrap().version, "1.2");
    let strict = store(&world, "min_version = '1.3'", Vec::new());
    meet(&strict, &old, "a.example", 100).err().unwrap();
    let plan = client.client("up").unwrap();
    assert!(Client::new(plan, "a b", &[]).is_err() && Client::new(plan, "", &[]).is_err());

    let guarded = "[entrypoints.web.tls.options]\nclient_auth = 'require'\nclient_ca = 'ca.pem'";
    let server = world.store(guarded, &material);
    // With TLS 1.3 the client is done before the server says no.
    assert_eq!(
        meet(&client, &server, "a.example", 100).err().unwrap().text(),
        "the peer sent the alert CertificateRequired"
    );
    let own = store(&world, "certificate = 'me'", vec![world.issue("me", &["gateway.example"])]);
    let (_, there) = meet(&own, &server, "a.example", 100).unwrap();
    assert_eq!(there.facts().unwrap().client.as_ref().unwrap().sans, ["gateway.example"]);
}

#[test]
fn sessions_are_taken_up_again() {
    use crate::shared::{Layout, Shared};
    let world = World::new();
    let memory = Shared::format(&tempfile::tempfile().unwrap(), Layout::for_workers(1)).unwrap();
    crate::tls::rotate_ticket_keys(&memory, &[5; crate::tls::TICKET_KEY_BYTES]);
    let tickets = crate::tls::Tickets::new(std::sync::Arc::new(memory));
    let server = world.store_with("", &world.material(&[("a", &["a.example", "b.example"])]), Some(tickets));
    let client = store(&world, "", Vec::new());
    let resumed = |host: &str| meet(&client, &server, host, 1000).unwrap().0.facts().unwrap().resumed;
    assert!(!resumed("a.example") && resumed("a.example") && !resumed("b.example") && resumed("b.example"));
    // Another plan has its own memory.
    let other = store(&world, "", Vec::new());
    assert!(!meet(&other, &server, "a.example", 1000).unwrap().0.facts().unwrap().resumed);
}

#[test]
fn bytes_go_both_ways_and_the_end_is_told() {
    let world = World::new();
    let server = world.store("", &world.material(&[("a", &["a.example"])]));
    let client = store(&world, "", Vec::new());
    let (mut here, mut there) = meet(&client, &server, "a.example", 1000).unwrap();
    let long: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    for piece in [7, 5000, usize::MAX] {
        let (mut wire, mut got) = (Vec::new(), Vec::new());
        here.send(&long, &mut wire);
        for bytes in wire.chunks(piece) {
            there.feed(bytes, &mut got).unwrap();
        }
        assert!(got == long);
        let (mut wire, mut got) = (Vec::new(), Vec::new());
        there.send(&long, &mut wire);
        for bytes in wire.chunks(piece) {
            here.feed(bytes, &mut got).unwrap();
        }
        assert!(got == long);
    }
    let (mut wire, mut got) = (Vec::new(), Vec::new());
    here.send(b"last", &mut wire);
    here.close(&mut wire);
    wire.extend_from_slice(b"what follows is not read");
    let fed = there.feed(&wire, &mut got).unwrap();
    assert!(fed.peer_closed && got == b"last");
    let mut answer = Vec::new();
    there.send(b"still", &mut answer);
    there.close(&mut answer);
    got.clear();
    assert!(here.feed(&answer, &mut got).unwrap().peer_closed && got == b"still");
}

#[test]
fn only_services_with_tls_have_a_plan() {
    let material = Material::default();
    let mut config = config("", &material);
    config.entrypoints.clear();
    let more: crate::config::Config = toml::from_str("[services.up]\nendpoints = ['http://a', 'unix:/x']").unwrap();
    config.services = more.services;
    let store = TlsStore::compile(&config, &material, None).unwrap();
    assert!(store.client("up").is_none() && store.client("x").is_none() && store.server("web").is_none());
}
