//! What waits for the audit log, and what happens when it cannot be written.

use super::world::{State, World};
use super::{GET, OK};

fn world(durability: &str, fail: &str) -> World {
    let audit = format!("path = \"/**\" }}\naudit = {{ durability = \"{durability}\", fail = \"{fail}\" }}");
    let mut world = World::with("path = \"/**\" }", &audit, "");
    world.durable = false;
    world
}

fn make_durable(world: &mut World) {
    let made = world.records.len() as u64;
    world.engine.durable(world.now, made);
    world.perform(b"");
}

fn break_log(world: &mut World) {
    world.engine.audit_broken(world.now, true);
    world.perform(b"");
}

#[test]
fn the_end_of_an_answer_waits_for_its_outcome() {
    for (answer, early) in [
        (OK, ""),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "2\r\nhi\r\n"),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
    ] {
        let mut world = world("answer", "closed");
        let client = world.client();
        world.send(client, GET);
        let up = world.connected();
        world.send(up, answer);
        let got = world.take(client);
        assert!(got.ends_with(early) && !got.ends_with("0\r\n\r\n") && !got.ends_with("hello"), "{got}");
        world.send(client, GET);
        assert_eq!(world.engine.in_flight(), 1, "the next request waits its turn");
        make_durable(&mut world);
        let rest = got + &world.take(client);
        assert!(rest.starts_with("HTTP/1.1 20") && rest.ends_with(&answer[answer.len() - 4..]), "{rest}");
        world.send(up, OK);
        make_durable(&mut world);
        assert!(world.take(client).ends_with("hello"));
        world.assert_at_rest();
    }
}

#[test]
fn the_upstream_waits_for_the_intent() {
    let mut world = world("call", "closed");
    let client = world.client();
    world.send(client, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab");
    assert!(world.asked.is_empty() && world.records.len() == 1);
    make_durable(&mut world);
    let up = world.connected();
    assert!(world.take(up).ends_with("ab"));
    world.send(up, OK);
    assert_eq!(world.take(client), "");
    make_durable(&mut world);
    assert!(world.take(client).ends_with("hello"));
    world.assert_at_rest();
}

#[test]
fn a_broken_log_refuses_or_lets_pass_as_the_route_says() {
    for durability in ["answer", "call"] {
        for fail in ["closed", "open"] {
            let mut world = world(durability, fail);
            let client = world.client();
            world.send(client, GET);
            if durability == "answer" {
                let up = world.connected();
                world.send(up, OK);
            }
            break_log(&mut world);
            if durability == "call" && fail == "open" {
                let up = world.connected();
                world.send(up, OK);
            }
            let got = world.take(client);
            let status = if fail == "open" { "HTTP/1.1 200" } else { "HTTP/1.1 503" };
            assert!(got.starts_with(status), "{durability} {fail}: {got}");
            assert_eq!(got.contains("audit-failed"), fail == "closed");
            assert_eq!(got.matches("x-request-id").count(), 1);
            // The log is still broken: nothing may wait for it.
            let client = world.client();
            world.send(client, GET);
            if fail == "open" {
                if world.sides[&(true, *world.asked.last().unwrap())].state == State::Connecting {
                    world.connected();
                }
                let up = world.newest();
                world.send(up, OK);
            }
            assert!(world.take(client).starts_with(status));
            world.assert_at_rest();
        }
    }
}

#[test]
fn a_log_that_says_nothing_counts_as_broken_after_a_while() {
    for durability in ["answer", "call"] {
        let mut world = world(durability, "closed");
        let client = world.client();
        world.send(client, GET);
        if durability == "answer" {
            let up = world.connected();
            world.send(up, OK);
        }
        world.seconds(10.5);
        assert!(world.take(client).starts_with("HTTP/1.1 503"), "{durability}");
        world.assert_at_rest();
    }
}

#[test]
fn an_answer_that_has_begun_is_cut_when_its_outcome_cannot_be_kept() {
    let mut world = world("answer", "closed");
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab");
    assert!(world.take(client).ends_with("ab"));
    world.send(up, "cd");
    break_log(&mut world);
    assert_eq!((world.take(client).as_str(), world.side(client).state), ("", State::Aborted));
    world.assert_at_rest();
}

#[test]
fn head_requests_get_no_body_from_a_broken_log_either() {
    let mut world = world("answer", "closed");
    let client = world.client();
    world.send(client, "HEAD / HTTP/1.1\r\nhost: h\r\n\r\n");
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    break_log(&mut world);
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 503") && got.ends_with("\r\n\r\n"), "{got}");
}

#[test]
fn a_client_that_leaves_while_its_outcome_is_written_is_recorded_once() {
    let mut world = world("answer", "closed");
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, OK);
    world.reset(client);
    make_durable(&mut world);
    assert_eq!(world.outcomes(), 1);
    world.assert_at_rest();
}
