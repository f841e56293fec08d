//! Every phase has a deadline, and running out of it has one consequence.

use super::world::{State, World, BASE};
use super::{GET, OK};
use crate::observe::Counter;

#[test]
fn a_silent_client_is_let_go() {
    let mut world = World::base();
    let client = world.client();
    world.seconds(1.9);
    assert!(world.side(client).open());
    world.seconds(0.3);
    assert!(!world.side(client).open(), "head_timeout is also the wait for the first byte");
    // Between requests, after an answer of the upstream and after one of our own.
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, OK);
    world.seconds(4.8);
    assert!(world.side(client).open());
    world.seconds(0.4);
    assert!(!world.side(client).open());
    let mut world = World::with("path = \"/**\"", "path = \"/only\"", "");
    let client = world.client();
    world.send(client, GET);
    assert!(world.take(client).starts_with("HTTP/1.1 404"));
    world.seconds(5.2);
    assert!(!world.side(client).open());
    assert_eq!(world.count(Counter::TimeoutIdle), 1);
}

#[test]
fn a_slow_head_is_answered_408() {
    let mut world = World::base();
    let client = world.client();
    for byte in GET.bytes().take(20) {
        world.seconds(0.12);
        if !world.side(client).open() || world.side(client).eof {
            break;
        }
        world.send(client, [byte]);
    }
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 408") && got.contains("connection: close"), "{got}");
    assert_eq!((world.count(Counter::TimeoutHead), world.outcomes()), (1, 1));
    world.assert_at_rest();
}

#[test]
fn a_body_may_be_slow_but_not_stop() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n");
    let up = world.connected();
    for _ in 0..5 {
        world.seconds(2.5);
        world.send(client, "x");
    }
    assert!(world.side(up).open());
    world.seconds(3.2);
    assert!(world.take(client).starts_with("HTTP/1.1 408"));
    assert_eq!(world.side(up).state, State::Aborted);
    assert_eq!(world.count(Counter::TimeoutBody), 1);
    world.assert_at_rest();
}

#[test]
fn an_upstream_that_does_not_read_the_body_is_to_blame_for_it() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nabc");
    let up = world.connected();
    world.blocked(up, true);
    assert!(world.side(client).paused);
    world.seconds(3.2);
    assert!(world.take(client).starts_with("HTTP/1.1 504"));
    world.seconds(3.0);
    world.assert_at_rest();
}

#[test]
fn connecting_has_an_end_even_if_nobody_reports_it() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, GET);
    world.connect_failed(true);
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 504") && got.contains("connect-timeout"), "{got}");
    world.send(client, GET);
    world.connect_failed(false);
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 502") && got.contains("connect-failed"), "{got}");
    world.send(client, GET);
    world.seconds(2.2);
    assert!(world.take(client).starts_with("HTTP/1.1 504"));
    // The connection that comes too late is kept for the next.
    let up = world.connected();
    world.send(client, GET);
    world.send(up, OK);
    assert!(world.take(client).ends_with("hello"));
    world.assert_at_rest();
}

#[test]
fn waiting_for_a_connection_has_an_end() {
    let mut world = World::with("max_connections = 8", "max_connections = 1", "");
    let (one, two, three) = (world.client(), world.client(), world.client());
    world.send(one, GET);
    let up = world.connected();
    world.send(two, GET);
    world.send(three, GET);
    assert_eq!(world.asked.len(), 1);
    world.seconds(0.5);
    world.send(up, OK);
    assert!(world.take(up).matches("GET /a").count() == 2, "the next in line");
    world.seconds(0.7);
    let got = world.take(three);
    assert!(got.starts_with("HTTP/1.1 503") && got.contains("no-endpoint"), "{got}");
    world.send(up, OK);
    assert!(world.take(two).ends_with("hello"));
    world.assert_at_rest();
}

#[test]
fn answers_must_begin_and_go_on() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.seconds(3.0);
    world.send(up, "HTTP/1.1 102 Processing\r\n\r\n");
    world.seconds(3.5);
    world.send(up, "HTTP/1.1 200");
    world.seconds(0.7);
    let got = world.take(client);
    assert!(got.contains("HTTP/1.1 504") && got.contains("upstream-timeout"), "{got}");
    assert_eq!(world.count(Counter::TimeoutFirstByte), 1);
    world.send(client, GET);
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n");
    for _ in 0..4 {
        world.seconds(2.5);
        world.send(up, "x");
    }
    world.seconds(3.2);
    assert_eq!((world.side(client).state, world.side(up).state), (State::Aborted, State::Aborted));
    assert_eq!(world.count(Counter::TimeoutUpstreamBody), 1);
    world.assert_at_rest();
}

#[test]
fn a_total_timeout_covers_everything_but_tunnels() {
    let total = "[policies.t.timeouts]\ntotal = \"2s\"\n";
    let mut world = World::with("path = \"/**\" }", "path = \"/**\" }\npolicies = [\"t\"]", total);
    for begun in [false, true] {
        let client = world.client();
        world.send(client, GET);
        let up = world.connected();
        if begun {
            world.send(up, "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n");
        }
        world.seconds(1.0);
        world.send(up, if begun { "x" } else { "HTTP/1.1 103 Early Hints\r\n\r\n" });
        world.seconds(1.2);
        assert_eq!(world.side(client).state == State::Aborted, begun);
        assert_eq!(world.take(client).contains("HTTP/1.1 504"), !begun);
        world.assert_at_rest();
    }
    assert_eq!(world.count(Counter::TimeoutTotal), 2);
}

#[test]
fn a_client_that_does_not_read_is_cut_and_its_upstream_waits_until_then() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nx");
    world.blocked(client, true);
    assert!(world.side(up).paused);
    world.seconds(2.0);
    world.blocked(client, false);
    assert!(!world.side(up).paused);
    world.seconds(2.0);
    world.send(up, "x");
    world.blocked(client, true);
    world.seconds(3.2);
    assert_eq!((world.side(client).state, world.side(up).state), (State::Aborted, State::Aborted));
    assert_eq!((world.count(Counter::TimeoutBody), world.count(Counter::TimeoutUpstreamBody)), (1, 0));
    world.assert_at_rest();
}

#[test]
fn closing_has_an_end_when_the_client_does_not_read() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, OK);
    // A transport that cannot get rid of what it holds does not report the end by itself.
    world.blocked(client, true);
    world.send(client, "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    assert_eq!(world.take(up).matches("GET").count(), 1, "no more answers for who does not read them");
    world.seconds(5.5);
    assert!(!world.side(client).open());
    world.assert_at_rest();
}

#[test]
fn idle_upstream_connections_expire() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, OK);
    world.seconds(5.9);
    assert!(world.side(up).open());
    world.seconds(0.3);
    assert!(!world.side(up).open());
    world.assert_at_rest();
}

#[test]
fn proxy_headers_must_come_in_time() {
    let mut world =
        World::new(&BASE.replacen("tunnel_timeout", "proxy_protocol = [\"192.0.2.0/24\"]\ntunnel_timeout", 1));
    let client = world.client();
    world.send(client, "PROXY ");
    world.seconds(2.2);
    assert!(world.side(client).eof || !world.side(client).open());
    world.seconds(2.2);
    assert!(!world.side(client).open());
    world.assert_at_rest();
}

#[test]
fn a_draining_worker_finishes_and_closes() {
    let mut world = World::base();
    let (busy, idle) = (world.client(), world.client());
    world.send(idle, GET);
    let up = world.connected();
    world.send(up, OK);
    world.send(busy, GET);
    world.engine.drain(world.now);
    world.perform(b"");
    world.seconds(1.5);
    assert!(!world.side(idle).open());
    world.send(up, OK);
    let got = world.take(busy);
    assert!(got.contains("connection: close\r\n") && got.ends_with("hello"), "{got}");
    assert_eq!(world.engine.open_connections(), 0);
    world.assert_at_rest();
}
