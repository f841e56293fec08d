//! Client certificates and options per host: nothing serves a guarded name under other options.

use super::world::{fragmented, params, ClientSide, Pair, World, NOW};
use crate::tls::{CertificateMaterial, Material, Server, TlsStore};
use rcgen::{CertificateParams, DnType, KeyPair, SanType, PKCS_ECDSA_P256_SHA256};
use sha2::{Digest, Sha256};

const GUARDED: &str = "
[entrypoints.web.tls]
default_certificate = 'all'
[entrypoints.web.tls.hosts.'admin.example.com']
client_auth = 'require'
client_ca = 'ca.pem'
[entrypoints.web.tls.hosts.'*.maybe.example.com']
client_auth = 'verify-if-given'
client_ca = 'ca.pem'
";

fn guarded(world: &World) -> (Material, TlsStore) {
    let material = world.material(&[("all", &["*.example.com", "*.maybe.example.com", "x.admin.example.com"])]);
    let store = world.store(GUARDED, &material);
    (material, store)
}

fn identity(world: &World, change: impl FnOnce(&mut CertificateParams)) -> CertificateMaterial {
    let mut params = params(&["client.example"]);
    params.distinguished_name.push(DnType::OrganizationName, "Ex, ample+ \"Co\"; #1");
    params.distinguished_name.push(DnType::CommonName, " kate ");
    params.subject_alt_names.push(SanType::IpAddress("10.1.2.3".parse().unwrap()));
    params.subject_alt_names.push(SanType::IpAddress("2001:db8::1".parse().unwrap()));
    params.subject_alt_names.push(SanType::URI("spiffe://example/kate".try_into().unwrap()));
    params.subject_alt_names.push(SanType::Rfc822Name("kate@example.com".try_into().unwrap()));
    change(&mut params);
    world.issue_for("client", params, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
}

#[test]
fn a_client_certificate_is_asked_for_where_the_host_says_so() {
    let world = World::new();
    let stranger = World::named("a stranger");
    let (_, store) = guarded(&world);
    let plan = store.server("web").unwrap();
    let own = identity(&world, |_| {});
    let foreign = identity(&stranger, |_| {});
    let expired = identity(&world, |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1));
    for version in ["1.2", "1.3"] {
        for (host, shown, wanted) in [
            ("admin.example.com", Some(&own), Ok(true)),
            ("ADMIN.example.com", Some(&own), Ok(true)),
            ("admin.example.com", None, Err("the peer showed no certificate")),
            ("admin.example.com", Some(&foreign), Err("the peer's certificate has an unknown issuer")),
            ("admin.example.com", Some(&expired), Err("the peer's certificate has expired")),
            ("a.maybe.example.com", Some(&own), Ok(true)),
            ("a.maybe.example.com", None, Ok(false)),
            ("a.maybe.example.com", Some(&foreign), Err("the peer's certificate has an unknown issuer")),
            ("open.example.com", Some(&own), Ok(false)),
            ("open.example.com", None, Ok(false)),
            ("x.admin.example.com", None, Ok(false)),
        ] {
            let client = ClientSide::new(&world).version(version);
            let client = if let Some(shown) = shown { client.identity(shown) } else { client };
            let mut pair = Pair::new(plan, &client, host);
            let result = pair.handshake();
            let Ok(verified) = wanted else {
                assert_eq!(result.unwrap_err().text(), wanted.unwrap_err(), "{version} {host}");
                assert!(
                    pair.server.facts().is_none() && pair.last.first() == Some(&if version == "1.2" { 21 } else { 23 })
                );
                continue;
            };
            result.unwrap();
            assert_eq!(pair.facts().client.is_some(), verified, "{version} {host}");
        }
    }
}

#[test]
fn what_a_certificate_says_is_told() {
    let world = World::new();
    let (_, store) = guarded(&world);
    let client = ClientSide::new(&world).identity(&identity(&world, |_| {}));
    let mut pair = Pair::new(store.server("web").unwrap(), &client, "admin.example.com");
    pair.handshake().unwrap();
    let seen = pair.facts().client.unwrap();
    assert_eq!(seen.subject, r#"O=Ex\, ample\+ \"Co\"\; #1,CN=\ kate\ "#);
    assert_eq!(seen.sans, ["client.example", "10.1.2.3", "2001:db8::1", "spiffe://example/kate", "kate@example.com"]);
    assert_eq!(seen.fingerprint, hex::encode(Sha256::digest(&seen.der)));
}

#[test]
fn a_guarded_name_is_guarded_however_it_is_written() {
    let world = World::new();
    let (_, store) = guarded(&world);
    let plan = store.server("web").unwrap();
    // The client says a name of the same length and the bytes are changed on the way; with TLS 1.2 the request for a
    // certificate can be seen in the answer.
    let asked = |said: &str, made: &str, size: usize, piece: usize| -> Result<bool, String> {
        let client = ClientSide::new(&world).version("1.2");
        let mut pair = Pair::new(plan, &client, said);
        let mut hello = pair.hello();
        let at = hello.windows(said.len()).position(|w| w == said.as_bytes()).unwrap();
        hello[at..at + made.len()].copy_from_slice(made.as_bytes());
        pair.piece = piece;
        pair.feed(&fragmented(&hello, size)).map_err(|e| e.to_string())?;
        let mut out = Vec::new();
        pair.server.output(&mut out);
        Ok(asks_for_certificate(&out))
    };
    for (said, made, wanted) in [
        ("admin.example.com", "admin.example.com", true),
        ("admin.example.com", "ADMIN.EXAMPLE.COM", true),
        ("admin.example.comx", "admin.example.com.", true),
        ("admin.example.comx", "aDmIn.eXample.Com.", true),
        ("a.maybe.example.com", "A.MAYBE.example.com", true),
        ("other.example.com", "other.example.com", false),
    ] {
        for (size, piece) in [(5000, usize::MAX), (5000, 1), (1, usize::MAX), (1, 1), (3, 2), (100, 7)] {
            assert_eq!(asked(said, made, size, piece), Ok(wanted), "{made} {size} {piece}");
        }
    }
    // What is no name at all is not taken for one.
    for made in ["admin.example.com\0", "admin .example.com", "admin..example.com", "*.example.comxxxxx"] {
        let said = &"x".repeat(made.len());
        assert!(asked(said, made, 5000, usize::MAX).is_err(), "{made:?}");
    }
}

/// Whether a TLS 1.2 server's first flight has a CertificateRequest.
fn asks_for_certificate(mut flight: &[u8]) -> bool {
    let mut messages = Vec::new();
    while let [22, 3, _, high, low, rest @ ..] = flight {
        let (body, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        messages.extend_from_slice(body);
        flight = rest;
    }
    let mut at = &messages[..];
    while let [kind, a, b, c, rest @ ..] = at {
        if *kind == 13 {
            return true;
        }
        at = &rest[u32::from_be_bytes([0, *a, *b, *c]) as usize..];
    }
    false
}

#[test]
fn a_guarded_host_has_numbers_of_its_own() {
    let world = World::new();
    let (_, store) = guarded(&world);
    let plan = store.server("web").unwrap();
    let of = |host: &[u8]| plan.resolve(Some(host)).unwrap();
    assert_eq!(of(b"open.example.com"), of(b"else.example.com"));
    for host in [&b"admin.example.com"[..], b"ADMIN.example.COM.", b"a.maybe.example.com"] {
        assert_ne!(of(host).0, of(b"open.example.com").0);
        assert_eq!(of(host).1, of(b"open.example.com").1, "one certificate covers all");
    }
    // Two levels below is another name.
    assert_eq!(of(b"x.admin.example.com").0, of(b"open.example.com").0);
    assert_eq!(of(b"b.a.maybe.example.com").0, of(b"open.example.com").0);
    let client = ClientSide::new(&world);
    let mut pair = Pair::new(plan, &client, "open.example.com");
    pair.handshake().unwrap();
    assert!(!plan.serves(&pair.facts(), b"admin.example.com"));
    // Equal options are one set.
    let material = world.material(&[("all", &["*.example.com"])]);
    let more =
        "[entrypoints.web.tls.hosts.'a.example.com']\n[entrypoints.web.tls.hosts.'b.example.com']\nmax_version='1.2'";
    let store = world.store(more, &material);
    let plan = store.server("web").unwrap();
    assert_eq!(plan.resolve(Some(b"a.example.com")), plan.resolve(Some(b"z.example.com")));
    assert_ne!(plan.resolve(Some(b"b.example.com")), plan.resolve(Some(b"z.example.com")));
}

#[test]
fn the_name_may_not_change_after_a_retry() {
    // A hello without a usable key share is asked for again (HelloRetryRequest); the second must name the same host.
    let world = World::new();
    let (_, store) = guarded(&world);
    let mut server = Server::new(store.server("web").unwrap().clone(), NOW);
    let client = ClientSide::new(&world).version("1.3");
    let mut pair = Pair::new(store.server("web").unwrap(), &client, "other.example.com");
    let hello = pair.hello();
    // The group of its only share becomes one that it does not have a share for.
    let share = hello.windows(4).rposition(|w| w == [0x00, 0x1d, 0x00, 0x20]).unwrap();
    let mut first = hello.clone();
    first[share + 1] = 0x55;
    let mut plain = Vec::new();
    server.feed(&first, &mut plain).unwrap();
    let mut out = Vec::new();
    server.output(&mut out);
    assert_eq!(out.first(), Some(&22), "a HelloRetryRequest");
    let mut second = hello.clone();
    let said = b"other.example.com";
    let at = second.windows(said.len()).position(|w| w == said).unwrap();
    second[at..at + said.len()].copy_from_slice(b"admin.example.com");
    let error = server.feed(&second, &mut plain).unwrap_err();
    assert!(error.text().contains("ServerNameDifferedOnRetry"), "{error}");
}
