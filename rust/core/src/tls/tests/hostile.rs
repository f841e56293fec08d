//! Rubbish, and valid messages made rubbish: an alert and an error, never a panic, and no two readings of one hello.

use super::world::{fragmented, ClientSide, Pair, World, NOW};
use crate::tls::{client_hello, Client, Server, ServerTls};
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};

struct Bench {
    plan: Arc<ServerTls>,
    hello: Vec<u8>,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let world = World::new();
        let material = world.material(&[("a", &["a.example"])]);
        let store = world.store("[entrypoints.web.tls]\ndefault_certificate = 'a'", &material);
        let plan = store.server("web").unwrap().clone();
        let hello = Pair::new(&plan, &ClientSide::new(&world).alpn(&["h2"]), "a.example").hello();
        Bench { plan, hello }
    })
}

/// Feeds a fresh server; the error and what it sent.
fn answer(bytes: &[u8], piece: usize) -> (Option<String>, Vec<u8>) {
    let mut server = Server::new(bench().plan.clone(), NOW);
    let mut plain = Vec::new();
    let mut error = None;
    for part in bytes.chunks(piece.max(1)) {
        if let Err(found) = server.feed(part, &mut plain) {
            error = Some(found);
            break;
        }
    }
    assert!(plain.is_empty());
    let mut out = Vec::new();
    server.output(&mut out);
    if let Some(error) = &error {
        // It stays broken, and says its alert once.
        assert_eq!(server.feed(&bench().hello, &mut plain).as_ref().unwrap_err(), error);
        let mut more = Vec::new();
        server.output(&mut more);
        server.send(b"x", &mut more);
        server.close(&mut more);
        assert!(more.is_empty() && !server.is_handshaking());
    }
    (error.map(|e| e.to_string()), out)
}

#[test]
fn what_is_no_tls_gets_an_alert() {
    let hello = &bench().hello;
    let mut early_data = hello.clone();
    early_data.extend_from_slice(b"\x17\x03\x03\x00\x01x");
    let body = &hello[5..];
    let record = |kind: u8, body: &[u8]| {
        let mut out = vec![kind, 3, 1];
        out.extend_from_slice(&(body.len() as u16).to_be_bytes());
        out.extend_from_slice(body);
        out
    };
    let big = {
        // A ClientHello that says it is 16 MB long, in full records.
        let mut body = vec![1, 0xff, 0xff, 0xff];
        body.resize(16_000, 0);
        let mut out = record(22, &body);
        for _ in 0..20 {
            out.extend(record(22, &[0; 16_000]));
        }
        out
    };
    let long = {
        let mut body = vec![1, 0x00, 0xff, 0xf0];
        body.resize(16_000, 0);
        let mut out = record(22, &body);
        for _ in 0..5 {
            out.extend(record(22, &[0; 16_000]));
        }
        out
    };
    for (what, bytes) in [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".to_vec()),
        ("SSLv2", vec![0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10, 0, 0, 0, 0, 0]),
        ("zeroes", vec![0; 40]),
        ("application data", record(23, b"hello")),
        ("an alert", record(21, &[2, 40])),
        ("a change of cipher first", record(20, &[1])),
        ("a ServerHello", record(22, &[2, 0, 0, 4, 3, 3, 0, 0])),
        ("a hello of nothing", record(22, &[1, 0, 0, 0])),
        ("a record too long", vec![22, 3, 1, 0xff, 0xff, 1, 0, 0, 0]),
        ("16 MB announced", big),
        ("more than 64 KiB", long),
        ("two hellos in one record", record(22, &[body, body].concat())),
        ("empty records for ever", record(22, &[]).repeat(100)),
    ] {
        for piece in [1, 7, 4096, usize::MAX] {
            let (error, out) = answer(&bytes, piece);
            assert!(error.is_some(), "{what} in {piece}");
            assert!(matches!(out[..], [21, 3, _, 0, 2, _, _]), "{what} in {piece}: {out:?}");
        }
        assert!(client_hello(&bytes).is_err(), "{what}");
    }
    // After a good hello a wrong record ends it too.
    let (error, _) = answer(&early_data, usize::MAX);
    assert!(error.is_some());
}

#[test]
fn a_hello_is_looked_at_strictly() {
    let hello = &bench().hello;
    let ours = client_hello(hello).unwrap().unwrap();
    assert_eq!((ours.sni.as_deref(), &ours.alpn[..]), (Some("a.example"), &[b"h2".to_vec()][..]));
    // Extensions by hand.
    let with = |extensions: &[(u16, &[u8])]| {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        let mut list = Vec::new();
        for (kind, value) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend((value.len() as u16).to_be_bytes());
            list.extend_from_slice(value);
        }
        if !extensions.is_empty() {
            body.extend((list.len() as u16).to_be_bytes());
            body.extend(list);
        }
        let mut message = vec![1, 0, (body.len() >> 8) as u8, body.len() as u8];
        message.extend(body);
        let mut out = vec![22, 3, 1, (message.len() >> 8) as u8, message.len() as u8];
        out.extend(message);
        out
    };
    let name = |text: &[u8]| {
        let mut out = ((text.len() + 3) as u16).to_be_bytes().to_vec();
        out.push(0);
        out.extend((text.len() as u16).to_be_bytes());
        out.extend_from_slice(text);
        out
    };
    let (a, b) = (name(b"a.example"), name(b"b.example"));
    let two: Vec<u8> = [&[0, 24][..], &a[2..], &b[2..]].concat();
    for (what, extensions, wanted) in [
        ("none", vec![], Some(None)),
        ("a name", vec![(0, &a[..])], Some(Some("a.example"))),
        ("an address", vec![(0, &name(b"10.0.0.1")[..])], Some(None)),
        ("a final dot", vec![(0, &name(b"A.example.")[..])], Some(Some("a.example"))),
        ("two names", vec![(0, &two[..])], None),
        ("two extensions", vec![(0, &a[..]), (0, &b[..])], None),
        ("an unknown extension twice", vec![(0xfafa, &b""[..]), (0xfafa, &b""[..])], None),
        ("no name in it", vec![(0, &b""[..])], None),
        ("an empty list", vec![(0, &b"\0\0"[..])], None),
        ("an empty name", vec![(0, &name(b"")[..])], None),
        ("NUL", vec![(0, &name(b"a.example\0.b")[..])], None),
        ("a star", vec![(0, &name(b"*.example")[..])], None),
        ("not ASCII", vec![(0, &name("ä.example".as_bytes())[..])], None),
        ("another kind of name", vec![(0, &b"\0\x04\x01\0\x01x"[..])], None),
        ("more than it says", vec![(0, &[&a[..], b"x"].concat()[..])], None),
        ("no protocols", vec![(16, &b"\0\0"[..])], None),
        ("an empty protocol", vec![(16, &b"\0\x01\0"[..])], None),
        ("a protocol cut short", vec![(16, &b"\0\x03\x05h2"[..])], None),
        ("pre_shared_key before another", vec![(41, &b"x"[..]), (0, &a[..])], None),
    ] {
        let seen = client_hello(&with(&extensions));
        match wanted {
            Some(sni) => assert_eq!(seen.unwrap().unwrap().sni.as_deref(), sni, "{what}"),
            None => assert!(seen.is_err(), "{what}: {seen:?}"),
        }
    }
    // Every prefix waits or fails, never reads.
    for end in 0..hello.len() {
        assert_eq!(client_hello(&hello[..end]).unwrap(), None);
    }
}

#[test]
fn after_the_handshake_a_flipped_bit_is_fatal() {
    let world = World::new();
    let store = world.store("", &world.material(&[("a", &["a.example"])]));
    for version in ["1.2", "1.3"] {
        for bit in [8 * 5, 8 * 7 + 1, 8 * 12, 8 * 31 + 7] {
            let client = ClientSide::new(&world).version(version);
            let mut pair = Pair::new(store.server("web").unwrap(), &client, "a.example");
            pair.handshake().unwrap();
            std::io::Write::write_all(&mut pair.client.writer(), b"good bytes").unwrap();
            let mut record = pair.hello();
            record[bit / 8] ^= 1 << (bit % 8);
            pair.feed(&record).unwrap_err();
            assert!(pair.at_server.is_empty());
            let mut alert = Vec::new();
            pair.server.output(&mut alert);
            assert!(!alert.is_empty());
            pair.deliver(&alert).unwrap_err();
        }
    }
}

#[test]
fn a_client_stands_rubbish_too() {
    let world = World::new();
    let material =
        crate::tls::Material { roots: [(String::new(), world.ca.pem())].into(), ..crate::tls::Material::default() };
    let store = world.store("[services.up]\nendpoints = ['https://a.example']", &material);
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0; 30], &bench().hello, b"\x15\x03\x03\x00\x02\x02\x28"] {
        let mut client = Client::new(store.client("up").unwrap(), "a.example", &[]).unwrap();
        let mut plain = Vec::new();
        let error = client.feed(bytes, &mut plain).unwrap_err();
        assert!(plain.is_empty() && !client.is_handshaking() && client.facts().is_none());
        assert_eq!(client.feed(bytes, &mut plain).unwrap_err(), error);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), piece in 1usize..64) {
        let _ = client_hello(&bytes);
        answer(&bytes, piece);
        let mut record = vec![22, 3, 1, (bytes.len() >> 8) as u8, bytes.len() as u8];
        record.extend_from_slice(&bytes);
        let _ = client_hello(&record);
        let (error, out) = answer(&record, piece);
        prop_assert!(error.is_none() || !out.is_empty());
    }

    /// A hello with bytes changed, cut out or doubled: where both the look and the server take it, they take the same
    /// name out of it.
    #[test]
    fn a_damaged_hello_is_read_in_one_way(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        size in 1usize..600,
        piece in 1usize..600,
    ) {
        let mut hello = bench().hello.clone();
        for (at, value) in &changes {
            // The session id and the random number are not read by anybody.
            let at = 5 + at.index(hello.len() - 5);
            hello[at] = *value;
        }
        let cut = fragmented(&hello, size);
        let seen = client_hello(&cut);
        let mut server = Server::new(bench().plan.clone(), NOW);
        let mut plain = Vec::new();
        let mut error = None;
        for part in cut.chunks(piece) {
            error = error.or(server.feed(part, &mut plain).err());
        }
        let mut out = Vec::new();
        server.output(&mut out);
        prop_assert!(error.is_none() || !out.is_empty(), "an error has its alert: {:?}", error);
        if let (Ok(Some(seen)), Some(name)) = (&seen, server.name_chosen_for()) {
            prop_assert_eq!(seen.sni.as_deref(), name.as_deref());
        }
        // What the look takes for not yet complete, the server does not answer.
        if seen == Ok(None) {
            prop_assert!(error.is_some() || out.is_empty());
        }
    }
}
