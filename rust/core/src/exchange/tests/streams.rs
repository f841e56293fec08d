//! Backpressure, half-closed connections, tunnels, clients that leave, and revisions that change meanwhile.

use super::world::{revision, State, World, BASE};
use super::{GET, OK};
use crate::exchange::AfterEof;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn each_leg_pauses_the_other() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nab");
    let up = world.newest();
    assert!(world.side(client).paused, "no connection yet");
    assert_eq!(world.connected(), up);
    assert!(!world.side(client).paused);
    world.blocked(up, true);
    assert!(world.side(client).paused);
    world.blocked(up, false);
    assert!(!world.side(client).paused);
    world.send(client, "cdefghij");
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab");
    world.blocked(client, true);
    assert!(world.side(up).paused);
    world.blocked(client, false);
    assert!(!world.side(up).paused);
    // Still blocked when the exchange ends: the pooled connection is readable for the next client.
    world.blocked(client, true);
    world.send(up, "cd");
    assert!(!world.side(up).paused);
    world.assert_at_rest();
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    assert_eq!(world.eof(client), AfterEof::KeepOpen);
    world.send(up, OK);
    assert!(world.take(client).ends_with("hello"));
    assert!(!world.side(client).open());
    // With a second request behind the first.
    let client = world.client();
    world.send(client, format!("{GET}{GET}"));
    world.eof(client);
    world.send(up, OK);
    world.send(up, OK);
    assert_eq!(world.take(client).matches("hello").count(), 2);
    assert!(!world.side(client).open());
    // Without the rest of its request it is gone.
    let client = world.client();
    world.send(client, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nab");
    assert_eq!(world.eof(client), AfterEof::Close);
    assert_eq!(world.side(up).state, State::Aborted);
    world.assert_at_rest();
}

#[test]
fn a_client_may_leave_at_any_moment() {
    for stage in 0..6 {
        let mut world = World::base();
        let client = world.client();
        world.send(client, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nab");
        if stage > 0 {
            world.connected();
        }
        if stage > 1 {
            world.send(client, "cd");
        }
        if stage > 2 {
            world.send(world.newest(), "HTTP/1.1 200 OK\r\n");
        }
        if stage > 3 {
            world.send(world.newest(), "content-length: 4\r\n\r\n");
        }
        if stage > 4 {
            world.send(world.newest(), "abcd");
        }
        world.reset(client);
        assert_eq!(world.outcomes(), 1);
        match stage {
            0 => {
                let up = world.connected();
                assert!(world.side(up).open(), "kept for the next");
            }
            5 => assert!(world.side(world.newest()).open()),
            _ => assert_eq!(world.side(world.newest()).state, State::Aborted),
        }
        world.assert_at_rest();
    }
}

#[test]
fn tunnels_carry_bytes_both_ways_until_both_ends_have_said_all() {
    for client_first in [false, true] {
        let mut world = World::base();
        let client = world.client();
        // What the client says too early is kept until the upstream has agreed.
        world.send(client, format!("{UPGRADE}early"));
        let up = world.connected();
        let sent = world.take(up);
        assert!(sent.contains("upgrade: websocket\r\n") && sent.contains("connection: upgrade\r\n"), "{sent}");
        assert!(!sent.contains("early"));
        world.send(up, format!("{SWITCHED}hello"));
        let got = world.take(client);
        assert!(got.starts_with("HTTP/1.1 101 ") && got.ends_with("\r\n\r\nhello"), "{got}");
        assert!(got.contains("upgrade: websocket\r\n") && got.contains("connection: upgrade\r\n"));
        assert_eq!(world.take(up), "early");
        world.send(client, [0x81, 0, 0xff]);
        assert_eq!(world.side(up).out, [0x81, 0, 0xff]);
        world.blocked(up, true);
        assert!(world.side(client).paused);
        world.blocked(up, false);
        // Longer than any exchange's deadline, but never silent for long.
        for _ in 0..4 {
            world.seconds(6.0);
            world.send(up, "tick");
        }
        let (first, second) = if client_first { (client, up) } else { (up, client) };
        assert_eq!(world.eof(first), AfterEof::KeepOpen);
        assert!(world.side(second).eof && world.side(second).open());
        world.send(second, "last words");
        assert!(world.take(first).ends_with("last words"));
        world.eof(second);
        assert!(!world.side(client).open() && !world.side(up).open());
        assert_eq!(world.outcomes(), 1);
        world.assert_at_rest();
    }
}

#[test]
fn silent_tunnels_end() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, UPGRADE);
    let up = world.connected();
    world.send(up, SWITCHED);
    world.seconds(7.2);
    assert!(!world.side(client).open() && !world.side(up).open());
    world.assert_at_rest();
}

#[test]
fn only_a_101_that_was_asked_for_makes_a_tunnel() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, UPGRADE);
    let up = world.connected();
    world.send(up, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert!(world.take(client).starts_with("HTTP/1.1 502"));
    world.send(client, UPGRADE);
    let up = world.connected();
    world.send(up, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n\r\nx");
    assert!(world.take(client).starts_with("HTTP/1.1 502"));
    world.send(client, UPGRADE);
    let up = world.connected();
    world.send(up, OK);
    assert!(world.take(client).ends_with("hello"));
    world.send(client, "GET  / HTTP/1.1\r\n\r\n");
    assert!(world.take(client).starts_with("HTTP/1.1 400"));
    assert!(!world.side(up).out.ends_with(b"GET  / HTTP/1.1\r\n\r\n"));
}

#[test]
fn many_small_requests_cannot_fill_memory_with_answers() {
    let mut world = World::with("path = \"/**\"", "path = \"/only\"", "");
    let client = world.client();
    world.send(client, GET);
    world.blocked(client, true);
    let before = world.side(client).out.len();
    for _ in 0..40 {
        if !world.side(client).paused {
            world.send(client, GET.repeat(100));
        }
    }
    assert!(world.side(client).paused);
    assert_eq!(world.side(client).out.len(), before, "no answers for a client that does not read them");
    world.blocked(client, false);
    assert!(!world.side(client).paused && world.side(client).out.len() > before);
    world.assert_at_rest();
}

#[test]
fn requests_keep_the_revision_they_began_with() {
    let exposed = BASE.replace("service = \"app\"", "service = \"app\"\nexpose_revision = true");
    let mut world = World::new(&exposed);
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    let other = exposed.replace("path = \"/**\"", "path = \"/b\"");
    world.engine.publish(revision(&other, "ba9876543210"));
    world.send(up, OK);
    assert!(world.take(client).contains("x-pygate-revision: 0123456789ab\r\n"));
    world.send(client, GET);
    assert!(world.take(client).starts_with("HTTP/1.1 404"), "the new one has no such route");
    world.send(client, GET.replace("/a", "/b"));
    assert_eq!(world.newest(), up, "pools outlive a revision");
    world.send(up, OK);
    assert!(world.take(client).contains("x-pygate-revision: ba9876543210\r\n"));
    world.assert_at_rest();
}

#[test]
fn a_full_worker_refuses_connections() {
    let mut world = World::new(&format!("{BASE}[workers]\nmax_connections = 1\n"));
    let client = world.client();
    assert!(world.client_from("192.0.2.8").is_none());
    world.reset(client);
    assert!(world.client_from("192.0.2.8").is_some());
}
