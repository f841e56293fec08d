//! Sessions taken up again: over workers and reloads, and never under another policy.

use super::world::{ClientSide, Pair, World, NOW};
use crate::shared::{Layout, Region, Shared};
use crate::tls::{rotate_ticket_keys, Material, Tickets, TlsStore, TICKET_KEY_BYTES};
use std::sync::atomic::Ordering;
use std::sync::Arc;

fn shared() -> Arc<Shared> {
    Arc::new(Shared::format(&tempfile::tempfile().unwrap(), Layout::for_workers(1)).unwrap())
}

fn key(seed: u8) -> [u8; TICKET_KEY_BYTES] {
    let mut key = [seed; TICKET_KEY_BYTES];
    key[TICKET_KEY_BYTES - 1] = seed.wrapping_mul(3);
    key
}

fn connect(store: &TlsStore, client: &ClientSide, host: &str, now: u64) -> Pair {
    let mut pair = Pair::at(store.server("web").unwrap(), client, host, now);
    client.set_now(now);
    pair.handshake().unwrap();
    pair
}

/// Whether the connection takes up an earlier session.
fn resumes(store: &TlsStore, client: &ClientSide, host: &str) -> bool {
    let pair = connect(store, client, host, NOW);
    pair.facts().resumed
}

#[test]
fn every_worker_and_every_reload_takes_a_session_up() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let memory = shared();
    let worker = || world.store_with("", &material, Some(Tickets::new(memory.clone())));
    for version in ["1.2", "1.3"] {
        let memory_is_new = memory.region(Region::Tickets)[0].load(Ordering::Relaxed) == 0;
        if memory_is_new {
            let (store, client) = (worker(), ClientSide::new(&world).version(version));
            assert!(!resumes(&store, &client, "a.example") && !resumes(&store, &client, "a.example"), "no keys yet");
        }
        rotate_ticket_keys(&memory, &key(1));
        let client = ClientSide::new(&world).version(version);
        let (one, other) = (worker(), worker());
        assert!(!resumes(&one, &client, "a.example"));
        assert!(resumes(&one, &client, "a.example"), "{version}");
        assert!(resumes(&other, &client, "a.example"), "another worker");
        assert!(resumes(&worker(), &client, "a.example"), "after a reload");
        // Nothing is bound to options that do not decide about clients.
        let changed = "[entrypoints.web.tls.options]\nalpn = ['http/1.1']";
        let reload = world.store_with(changed, &material, Some(Tickets::new(memory.clone())));
        assert!(resumes(&reload, &client, "a.example"));
        // Twice the newest key is changed: still known. The third time it is forgotten.
        let old = ClientSide::new(&world).version(version);
        assert!(!resumes(&one, &old, "a.example"));
        rotate_ticket_keys(&memory, &key(2));
        rotate_ticket_keys(&memory, &key(3));
        assert!(resumes(&one, &old, "a.example"));
        let forgotten = ClientSide::new(&world).version(version);
        assert!(!resumes(&one, &forgotten, "a.example"));
        for seed in 4..7 {
            rotate_ticket_keys(&memory, &key(seed));
        }
        assert!(!resumes(&one, &forgotten, "a.example") && resumes(&other, &forgotten, "a.example"));
    }
}

#[test]
fn tickets_grow_old() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let memory = shared();
    rotate_ticket_keys(&memory, &key(1));
    let store = world.store_with("", &material, Some(Tickets::new(memory)));
    for (later, wanted) in [(11 * 3600, true), (12 * 3600 + 1, false)] {
        // The client would not offer what the server called too old, so its clock stands still.
        let client = ClientSide::new(&world);
        connect(&store, &client, "a.example", NOW);
        let mut pair = Pair::at(store.server("web").unwrap(), &client, "a.example", NOW + later);
        pair.handshake().unwrap();
        assert_eq!(pair.facts().resumed, wanted, "{later}");
    }
}

#[test]
fn without_shared_memory_nothing_is_taken_up() {
    let world = World::new();
    let store = world.store("", &world.material(&[("a", &["a.example"])]));
    let client = ClientSide::new(&world);
    assert!(!resumes(&store, &client, "a.example") && !resumes(&store, &client, "a.example"));
}

fn guarded(world: &World, material: &Material, auth: &str, ca: &str, memory: &Arc<Shared>) -> TlsStore {
    let more = if auth.is_empty() {
        String::new()
    } else {
        format!("[entrypoints.web.tls.hosts.'a.example']\nclient_auth = '{auth}'\nclient_ca = '{ca}'")
    };
    world.store_with(&more, material, Some(Tickets::new(memory.clone())))
}

#[test]
fn a_session_is_no_good_under_another_policy() {
    let world = World::new();
    let other = World::new();
    let mut material = world.material(&[("a", &["a.example"])]);
    material.roots.insert("other.pem".into(), other.ca.pem());
    material.roots.insert("both.pem".into(), world.ca.pem() + &other.ca.pem());
    material.roots.insert("copy.pem".into(), world.ca.pem());
    let memory = shared();
    rotate_ticket_keys(&memory, &key(1));
    let identity = world.issue("client", &["client.example"]);
    let policies = [("", ""), ("require", "ca.pem"), ("verify-if-given", "ca.pem"), ("require", "both.pem")];
    for version in ["1.2", "1.3"] {
        for (i, made) in policies.iter().enumerate() {
            for (j, used) in policies.iter().enumerate() {
                let client = ClientSide::new(&world).version(version).identity(&identity);
                let first = guarded(&world, &material, made.0, made.1, &memory);
                let second = guarded(&world, &material, used.0, used.1, &memory);
                assert!(!resumes(&first, &client, "a.example"));
                let pair = connect(&second, &client, "a.example", NOW);
                let facts = pair.facts();
                assert_eq!(facts.resumed, i == j, "{version}: made under {made:?}, used under {used:?}");
                assert_eq!(facts.client.is_some(), !used.0.is_empty());
            }
        }
        // It is the roots that count, not their file's name.
        let client = ClientSide::new(&world).version(version).identity(&identity);
        assert!(!resumes(&guarded(&world, &material, "require", "ca.pem", &memory), &client, "a.example"));
        let copy = connect(&guarded(&world, &material, "require", "copy.pem", &memory), &client, "a.example", NOW);
        assert!(copy.facts().resumed);
        assert_eq!(copy.facts().client.unwrap().sans, ["client.example"]);
        // A client without a certificate cannot bring a session from the open policy.
        let client = ClientSide::new(&world).version(version);
        assert!(!resumes(&guarded(&world, &material, "", "", &memory), &client, "a.example"));
        let strict = guarded(&world, &material, "require", "ca.pem", &memory);
        let mut pair = Pair::new(strict.server("web").unwrap(), &client, "a.example");
        assert_eq!(pair.handshake().unwrap_err().text(), "the peer showed no certificate");
        // Nor does one of another authority.
        let foreign = guarded(&world, &material, "require", "other.pem", &memory);
        let client = ClientSide::new(&world).version(version).identity(&identity);
        assert!(!resumes(&strict, &client, "a.example"));
        let mut pair = Pair::new(foreign.server("web").unwrap(), &client, "a.example");
        assert!(pair.handshake().unwrap_err().text().contains("certificate"));
    }
}

#[test]
fn sessions_stay_with_their_entrypoint_and_name() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example", "b.example"])]);
    let memory = shared();
    rotate_ticket_keys(&memory, &key(1));
    let more = "[entrypoints.other]\naddress = '127.0.0.1:1'\ntls = {}";
    let store = world.store_with(more, &material, Some(Tickets::new(memory)));
    let client = ClientSide::new(&world);
    assert!(!resumes(&store, &client, "a.example") && resumes(&store, &client, "a.example"));
    let mut pair = Pair::new(store.server("other").unwrap(), &client, "a.example");
    pair.handshake().unwrap();
    assert!(!pair.facts().resumed);
}

#[test]
fn a_client_certificate_that_expired_meanwhile_is_refused() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let memory = shared();
    rotate_ticket_keys(&memory, &key(1));
    let mut params = super::world::params(&["client.example"]);
    // NOW is 08:00 on that day.
    params.not_after = rcgen::date_time_ymd(2027, 1, 15) + std::time::Duration::from_secs(12 * 3600);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let identity = world.issue_for("client", params, &key);
    let store = guarded(&world, &material, "require", "ca.pem", &memory);
    for version in ["1.2", "1.3"] {
        let client = ClientSide::new(&world).version(version).identity(&identity);
        connect(&store, &client, "a.example", NOW);
        assert!(resumes(&store, &client, "a.example"));
        let mut pair = Pair::at(store.server("web").unwrap(), &client, "a.example", NOW + 5 * 3600);
        assert_eq!(pair.handshake().unwrap_err().text(), "the peer's certificate has expired");
        assert!(pair.server.facts().is_none());
    }
}

#[test]
fn a_writer_may_die_at_any_word() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let memory = shared();
    rotate_ticket_keys(&memory, &key(1));
    rotate_ticket_keys(&memory, &key(2));
    rotate_ticket_keys(&memory, &key(3));
    let words = memory.region(Region::Tickets);
    let store = world.store_with("", &material, Some(Tickets::new(memory.clone())));
    let client = ClientSide::new(&world);
    assert!(!resumes(&store, &client, "a.example"));
    // Key 4 would go where key 1 is: slot 0. A writer that died left any mixture there, the count unchanged.
    for broken in 0..7 {
        let word = &words[8 + broken];
        let before = word.swap(0xdead, Ordering::Relaxed);
        let fresh = world.store_with("", &material, Some(Tickets::new(memory.clone())));
        assert!(resumes(&store, &client, "a.example"), "the keys it had");
        assert!(resumes(&fresh, &client, "a.example"), "the keys that are whole");
        word.store(before, Ordering::Relaxed);
    }
    // The newest itself is broken, as by a memory error: whoever had it goes on, others use the next.
    words[8 * 3].store(0xdead, Ordering::Relaxed);
    let fresh = world.store_with("", &material, Some(Tickets::new(memory.clone())));
    assert!(resumes(&store, &client, "a.example"));
    let client = ClientSide::new(&world);
    assert!(!resumes(&fresh, &client, "a.example") && resumes(&fresh, &client, "a.example"));
    // All broken: tickets are off, handshakes go on.
    for word in &words[8..] {
        word.store(7, Ordering::Relaxed);
    }
    let fresh = world.store_with("", &material, Some(Tickets::new(memory.clone())));
    let client = ClientSide::new(&world);
    assert!(!resumes(&fresh, &client, "a.example") && !resumes(&fresh, &client, "a.example"));
    // And the next key heals it.
    rotate_ticket_keys(&memory, &key(9));
    assert!(!resumes(&fresh, &client, "a.example") && resumes(&fresh, &client, "a.example"));
}

#[test]
fn early_data_is_taken_once_and_told_apart() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let memory = shared();
    rotate_ticket_keys(&memory, &key(1));
    let more = "[entrypoints.web.tls.options]\nearly_data = true\nalpn = ['http/1.1']";
    let store = world.store_with(more, &material, Some(Tickets::new(memory.clone())));
    let client = ClientSide::new(&world).alpn(&["http/1.1"]).early_data();
    connect(&store, &client, "a.example", NOW);
    for piece in [1, 100, usize::MAX] {
        let mut pair = Pair::new(store.server("web").unwrap(), &client, "a.example");
        pair.piece = piece;
        std::io::Write::write_all(&mut pair.client.early_data().unwrap(), b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let flight = pair.hello();
        let fed = pair.feed(&flight).unwrap();
        assert_eq!((fed.early, &pair.at_server[..]), (18, &b"GET / HTTP/1.1\r\n\r\n"[..]));
        assert!(!fed.handshake_done && pair.facts().resumed, "the facts are there with the first request");
        assert_eq!(pair.facts().alpn.as_deref(), Some(&b"http/1.1"[..]));
        pair.handshake().unwrap();
        assert!(pair.client.is_early_data_accepted());
        assert_eq!(pair.up(b"more"), b"GET / HTTP/1.1\r\n\r\nmore");
        assert_eq!(pair.early, 18, "what came later is not early");
        // The same flight again: the session is used up.
        let mut again = Pair::new(store.server("web").unwrap(), &client, "a.example");
        let fed = again.feed(&flight).unwrap();
        assert!(fed.early == 0 && again.at_server.is_empty(), "a replay gets nothing through");
    }
    // Another worker does not know the session.
    let other = world.store_with(more, &material, Some(Tickets::new(memory.clone())));
    let mut pair = Pair::new(other.server("web").unwrap(), &client, "a.example");
    std::io::Write::write_all(&mut pair.client.early_data().unwrap(), b"GET /").unwrap();
    pair.handshake().unwrap();
    assert!(!pair.client.is_early_data_accepted() && !pair.facts().resumed && pair.at_server.is_empty());
    // By default there is none.
    let store = world.store_with("", &material, Some(Tickets::new(memory)));
    let client = ClientSide::new(&world).early_data();
    connect(&store, &client, "a.example", NOW);
    let mut pair = Pair::new(store.server("web").unwrap(), &client, "a.example");
    assert!(pair.client.early_data().is_none());
    pair.handshake().unwrap();
    assert!(pair.facts().resumed && pair.early == 0);
}
