//! When a request is sent again, and when it must not be.

use super::world::World;
use super::{GET, OK};
use crate::observe::Counter;

const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab";

/// A world whose connection has served before, and its client.
fn warm(policy: &str) -> (World, crate::exchange::ConnId, crate::exchange::ConnId) {
    let mut world = if policy.is_empty() {
        World::base()
    } else {
        World::with("path = \"/**\" }", "path = \"/**\" }\npolicies = [\"r\"]", policy)
    };
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, OK);
    world.take(client);
    world.take(up);
    (world, client, up)
}

#[test]
fn the_keep_alive_race_is_run_once_more_on_a_fresh_connection() {
    for reset in [false, true] {
        let (mut world, client, up) = warm("");
        world.send(client, "PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab");
        world.take(up);
        if reset {
            world.reset(up);
        } else {
            world.eof(up);
        }
        let second = world.connected();
        assert!(world.take(second).ends_with("\r\n\r\nab"), "the body again, too");
        // A fresh connection that closes is no race any more.
        world.eof(second);
        assert!(world.take(client).starts_with("HTTP/1.1 502"));
        assert_eq!((world.asked.len(), world.count(Counter::Retries)), (2, 1));
        world.assert_at_rest();
    }
}

#[test]
fn what_is_not_idempotent_or_was_answered_in_part_is_not_sent_again() {
    for (request, partial) in [(POST, ""), (GET, "HTTP/1.1 2"), (GET, "HTTP/1.1 103 Early Hints\r\n\r\n")] {
        let (mut world, client, up) = warm("");
        world.send(client, request);
        if !partial.is_empty() {
            world.send(up, partial);
        }
        world.eof(up);
        let got = world.take(client);
        assert!(got.contains("HTTP/1.1 502") && got.contains("upstream-reset"), "{got}");
        assert_eq!(world.asked.len(), 1, "{request}{partial}");
        assert!(world.side(client).open());
        world.assert_at_rest();
    }
}

#[test]
fn a_first_use_that_fails_is_not_a_race() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.eof(up);
    assert!(world.take(client).starts_with("HTTP/1.1 502"));
    assert_eq!(world.asked.len(), 1);
}

#[test]
fn statuses_are_retried_with_growing_pauses_and_the_last_one_is_passed_on() {
    let policy = "[policies.r.retry]\nattempts = 3\nstatuses = [503]\nbackoff = \"100ms\"\n";
    let (mut world, client, up) = warm(policy);
    let busy = "HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy";
    world.send(client, GET);
    world.send(up, busy);
    assert!(!world.side(up).open() && world.asked.len() == 1);
    world.seconds(0.2);
    let second = world.connected();
    world.send(second, busy);
    world.seconds(0.16);
    assert_eq!(world.asked.len(), 2, "the second pause is longer");
    world.seconds(0.2);
    let third = world.connected();
    world.send(third, busy);
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 503") && got.ends_with("busy") && !got.contains("x-pygate-error"), "{got}");
    assert_eq!((world.count(Counter::Retries), world.outcomes()), (2, 2));
    world.assert_at_rest();
}

#[test]
fn the_retry_budget_is_given_back() {
    let policy = "[policies.r.retry]\nattempts = 2\nstatuses = [503]\nbackoff = \"1s\"\n";
    let (mut world, _, _) = warm(policy);
    // Clients that leave during the pause return what they took: three at a time are always allowed.
    for _ in 0..5 {
        let clients: Vec<_> = (0..3).map(|_| world.client()).collect();
        for &client in &clients {
            world.send(client, GET);
            let up = world.newest();
            if !world.side(up).open() {
                world.connected();
            }
            let up = world.newest();
            world.send(up, "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
        }
        for &client in &clients {
            world.reset(client);
        }
    }
    assert_eq!((world.count(Counter::Retries), world.count(Counter::RetriesDenied)), (15, 0));
    world.assert_at_rest();
}

#[test]
fn a_refused_connection_is_tried_elsewhere_even_for_post() {
    let policy = "[policies.r.retry]\nbackoff = \"0s\"\n";
    let mut world = World::new(
        &format!("{}{policy}", super::world::BASE)
            .replace("9001\"", "9001\", \"http://127.0.0.1:9002\"")
            .replace("path = \"/**\" }", "path = \"/**\" }\npolicies = [\"r\"]"),
    );
    let client = world.client();
    world.send(client, POST);
    world.connect_failed(false);
    let addresses: Vec<_> = world.asked.iter().map(|up| world.sides[&(true, *up)].address.clone()).collect();
    assert_eq!(addresses.len(), if addresses[0].is_empty() { 0 } else { world.asked.len() });
    let up = world.connected();
    assert!(world.take(up).ends_with("ab"));
    // Once it was sent, only what is idempotent goes out again.
    world.eof(up);
    assert!(world.take(client).starts_with("HTTP/1.1 502"));
    world.assert_at_rest();
}

#[test]
fn a_body_too_long_to_keep_is_sent_once() {
    let policy = "[policies.r.retry]\nbackoff = \"0s\"\n";
    let (mut world, client, up) = warm(policy);
    let body = "x".repeat(70_000);
    world.send(client, format!("PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 70000\r\n\r\n{body}"));
    assert!(world.take(up).ends_with(&body));
    world.eof(up);
    assert!(world.take(client).starts_with("HTTP/1.1 502"));
    assert_eq!(world.asked.len(), 1);
    world.assert_at_rest();
}
