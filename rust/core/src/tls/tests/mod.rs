//! Server and client against each other in memory, against the library's own peers, and against rubbish.

mod config;
mod hostile;
mod names;
mod policy;
mod resumption;
mod upstream;
mod world;

use world::{ClientSide, Pair, World, NOW};

#[test]
fn both_versions_carry_bytes_in_pieces_of_every_size() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let store = world.store("", &material);
    let plan = store.server("web").unwrap();
    for (version, cipher) in [("1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"), ("1.3", "TLS_AES_256_GCM_SHA384")] {
        for piece in [1, 2, 3, 5, 17, 64, 200, 1000, 5000, 70_000] {
            let client = ClientSide::new(&world).version(version).alpn(&["http/1.1"]);
            let mut pair = Pair::new(plan, &client, "a.example");
            pair.piece = piece;
            pair.handshake().unwrap();
            let facts = pair.facts();
            assert_eq!((facts.version, facts.cipher), (version, cipher));
            assert_eq!(facts.sni.as_deref(), Some("a.example"));
            assert_eq!(facts.alpn.as_deref(), Some(&b"http/1.1"[..]));
            assert!(!facts.resumed && facts.client.is_none());
            assert_eq!(pair.done, 1, "the handshake became done once");
            assert_eq!(pair.up(b"ping"), b"ping");
            let long = vec![7; 100_000];
            assert!(pair.up(&long) == long && pair.down(&long) == long, "{version} {piece}");
            let mut bye = Vec::new();
            pair.server.close(&mut bye);
            pair.deliver(&bye).unwrap();
            assert!(pair.client_closed);
            pair.client.send_close_notify();
            assert!(pair.flush().unwrap().peer_closed);
        }
    }
}

#[test]
fn the_handshake_stands_every_single_split() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let store = world.store("", &material);
    let plan = store.server("web").unwrap();
    let client = ClientSide::new(&world).alpn(&["h2"]);
    let length = {
        let mut pair = Pair::new(plan, &client, "a.example");
        pair.hello().len()
    };
    for cut in 0..length {
        let mut pair = Pair::new(plan, &client, "a.example");
        let hello = pair.hello();
        let (first, second) = hello.split_at(cut.min(hello.len()));
        pair.feed(first).unwrap();
        assert!(pair.server.facts().is_none() && pair.server.is_handshaking());
        pair.feed(second).unwrap();
        pair.handshake().unwrap();
        assert!(!pair.server.is_handshaking());
        assert_eq!(pair.facts().alpn.as_deref(), Some(&b"h2"[..]));
    }
}

#[test]
fn what_is_sent_early_is_kept_until_the_handshake_is_done() {
    let world = World::new();
    let store = world.store("", &world.material(&[("a", &["a.example"])]));
    let client = ClientSide::new(&world);
    let mut pair = Pair::new(store.server("web").unwrap(), &client, "a.example");
    let hello = pair.hello();
    pair.feed(&hello).unwrap();
    let mut out = Vec::new();
    pair.server.send(b"answer", &mut out);
    pair.deliver(&out).unwrap();
    pair.handshake().unwrap();
    assert_eq!(pair.at_client, b"answer");
}

#[test]
fn protocols_that_do_not_meet_end_the_handshake() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let plain = world.store("", &material);
    let only = world.store("[entrypoints.web.tls.options]\nalpn = ['http/1.1']", &material);
    for (store, offered, agreed) in [
        (&plain, &["h2", "http/1.1"][..], Some("h2")),
        (&plain, &["http/1.1", "h2"], Some("h2")),
        (&plain, &[], None),
        (&only, &["h2", "http/1.1"], Some("http/1.1")),
    ] {
        let client = ClientSide::new(&world).alpn(offered);
        let mut pair = Pair::new(store.server("web").unwrap(), &client, "a.example");
        pair.handshake().unwrap();
        assert_eq!(pair.facts().alpn.as_deref(), agreed.map(str::as_bytes));
    }
    for version in ["1.2", "1.3"] {
        let client = ClientSide::new(&world).version(version).alpn(&["h2"]);
        let mut pair = Pair::new(only.server("web").unwrap(), &client, "a.example");
        assert_eq!(pair.handshake().unwrap_err().text(), "no application protocol in common");
        // With TLS 1.3 it is encrypted already.
        assert!(version == "1.3" || pair.alert() == Some(120));
    }
}

#[test]
fn versions_and_suites_are_limited() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let with = |options: &str| world.store(&format!("[entrypoints.web.tls.options]\n{options}"), &material);
    let suite12 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    for (options, offered, wanted) in [
        ("min_version = '1.3'", "1.2", None),
        ("min_version = '1.3'", "both", Some("1.3")),
        ("max_version = '1.2'", "1.3", None),
        ("max_version = '1.2'", "both", Some("1.2")),
        ("suites = ['TLS_CHACHA20_POLY1305_SHA256']", "1.2", None),
        ("suites = ['TLS_CHACHA20_POLY1305_SHA256']", "both", Some("1.3")),
        ("suites = ['TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256']", "both", Some("1.2")),
        ("suites = ['TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256']", "both", None),
    ] {
        let store = with(options);
        let client = ClientSide::new(&world).version(offered);
        let mut pair = Pair::new(store.server("web").unwrap(), &client, "a.example");
        match wanted {
            Some(version) => {
                pair.handshake().unwrap();
                assert_eq!(pair.facts().version, version, "{options}");
                if options.contains("CHACHA20") {
                    let suite = if version == "1.3" { "TLS_CHACHA20_POLY1305_SHA256" } else { suite12 };
                    assert_eq!(pair.facts().cipher, suite);
                }
            }
            None => {
                pair.handshake().unwrap_err();
                assert!(matches!(pair.alert(), Some(40 | 70)), "{options}: {:?}", pair.alert());
            }
        }
    }
    // The order written is the order that counts.
    let store = with("suites = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384']");
    let client = ClientSide::new(&world);
    let mut pair = Pair::new(store.server("web").unwrap(), &client, "a.example");
    pair.handshake().unwrap();
    assert_eq!(pair.facts().cipher, "TLS_AES_128_GCM_SHA256");
}

#[test]
fn the_time_is_what_was_told() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let store = world.store("", &material);
    let client = ClientSide::new(&world);
    let mut pair = Pair::at(store.server("web").unwrap(), &client, "a.example", 0);
    pair.handshake().unwrap_err();
    let mut pair = Pair::at(store.server("web").unwrap(), &client, "a.example", NOW);
    pair.handshake().unwrap();
    assert_eq!(store.server("web").unwrap().handshake_timeout().as_secs(), 10);
}
