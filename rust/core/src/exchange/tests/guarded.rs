//! Routes with a guard: what is held, what is let go, and in which form, however a body was cut.

use super::world::{State, World};
use super::GET;
use crate::observe::Counter;

fn world(fail: &str) -> World {
    let guard = format!(
        "[routes.guard]\nrequest = [\"words\"]\nresponse = [\"words\"]\nmax_body = \"64B\"\nfail = \"{fail}\"\n"
    );
    World::with("service = \"app\"", "service = \"app\"", &guard)
}

fn post(body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nhost: h\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn chunked(start: &str, body: &str, size: usize) -> String {
    let chunks = body.as_bytes().chunks(size).map(|c| format!("{size:x}\r\n{}\r\n", String::from_utf8_lossy(c)));
    format!(
        "{start}content-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunks.collect::<String>()
    )
}

const START: &str = "HTTP/1.1 200 OK\r\netag: \"1\"\r\n";

#[test]
fn requests_are_masked_or_blocked_before_anything_goes_upstream() {
    let start = "POST /a HTTP/1.1\r\nhost: h\r\n";
    for raw in [post("say hush-1234 now"), chunked(start, "say hush-1234 now", 1)] {
        let mut world = world("closed");
        let client = world.client();
        let (most, last) = raw.split_at(raw.len() - 1);
        for byte in most.bytes() {
            world.send(client, [byte]);
            assert!(world.asked.is_empty(), "called before the verdict");
        }
        world.send(client, last);
        let up = world.connected();
        let got = world.take(up);
        let (head, body) = got.split_once("\r\n\r\n").expect("a request");
        assert!(!body.contains("hush-1234") && body.starts_with("say ") && body.ends_with(" now"), "{got}");
        assert!(head.contains(&format!("content-length: {}", body.len())) && !head.contains("transfer"), "{got}");
        world.send(up, super::OK);
        assert!(world.take(client).ends_with("hello"));
        world.assert_at_rest();
    }
    let mut world = world("closed");
    let client = world.client();
    world.send(client, chunked(start, "a poison !", 2));
    assert!(world.take(client).contains("x-pygate-error: guard-blocked\r\n"));
    assert!(world.asked.is_empty() && world.side(client).open());
    assert_eq!(world.count(Counter::GuardBlock), 1);
    world.assert_at_rest();
}

#[test]
fn answers_are_held_until_they_are_judged() {
    for (text, status) in [("say hush-1234 now", "200"), ("a poison pills! !", "403"), ("nothing of a kind", "200")] {
        let answer = chunked(START, text, 1);
        let mut world = world("closed");
        let client = world.client();
        world.send(client, GET);
        let up = world.connected();
        let (most, last) = answer.split_at(answer.len() - 1);
        for byte in most.bytes() {
            world.send(up, [byte]);
            assert_eq!(world.take(client), "", "shown before the verdict");
        }
        world.send(up, last);
        let got = world.take(client);
        assert!(got.starts_with("HTTP/1.1 ") && !got.contains("poison") && !got.contains("hush-1234"), "{got}");
        let blocked = status != "200";
        assert_eq!(got.contains("guard-blocked"), blocked, "{got}");
        assert_eq!(got.contains("etag"), text.starts_with("nothing"), "{got}");
        assert!(world.side(up).open() && world.side(client).open());
        world.assert_at_rest();
    }
}

#[test]
fn bodies_too_long_to_judge_fail_closed_or_pass_as_the_route_says() {
    let long = "x".repeat(80);
    for fail in ["closed", "open"] {
        let mut world = world(fail);
        let client = world.client();
        world.send(client, post(&long));
        if fail == "closed" {
            assert!(world.take(client).starts_with("HTTP/1.1 413"));
            assert!(world.asked.is_empty());
        } else {
            let up = world.connected();
            assert!(world.take(up).ends_with(&long));
            world.send(up, super::OK);
            assert!(world.take(client).contains("200 OK"));
        }
        assert_eq!(world.count(Counter::GuardUnjudged), 1);
        world.assert_at_rest();
    }
}

#[test]
fn answers_too_long_to_judge_fail_closed_or_pass_as_the_route_says() {
    let answer = chunked(START, &"hush-1234".repeat(10), 9);
    for fail in ["closed", "open"] {
        let mut world = world(fail);
        let client = world.client();
        world.send(client, GET);
        let up = world.connected();
        world.send(up, &answer);
        let got = world.take(client);
        if fail == "closed" {
            assert!(got.starts_with("HTTP/1.1 502") && !got.contains("hush-"), "{got}");
            assert_eq!(world.side(up).state, State::Aborted);
        } else {
            assert_eq!(got.matches("hush-1234").count(), 10, "{got}");
            assert!(got.ends_with("0\r\n\r\n"));
        }
        world.assert_at_rest();
    }
}

#[test]
fn encoded_answers_are_not_judged_blindly_and_cut_ones_never_shown() {
    let mut world = world("closed");
    let client = world.client();
    world.send(client, "GET /a HTTP/1.1\r\nhost: h\r\naccept-encoding: gzip\r\n\r\n");
    let up = world.connected();
    assert!(!world.take(up).contains("accept-encoding"));
    world.send(
        up,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nxyz",
    );
    let got = world.take(client);
    assert!(got.contains("x-pygate-error: guard-failed\r\n") && !got.contains("xyz"), "{got}");
    world.send(client, GET);
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nhalf");
    world.reset(up);
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 502") && !got.contains("half"), "{got}");
    world.assert_at_rest();
}

fn gzipped(text: &str) -> Vec<u8> {
    crate::coding::Choice { coding: crate::coding::Coding::Gzip, level: 6, flush: false }
        .whole(text.as_bytes())
        .expect("encoded")
}

#[test]
fn encoded_bodies_are_judged_by_their_text() {
    for (text, passes) in [("all is well", true), ("hush-1234 here", true), ("a poison !", false)] {
        let body = gzipped(text);
        let mut world = world("closed");
        let client = world.client();
        let head =
            "POST /a HTTP/1.1\r\nhost: h\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-length";
        let request = [format!("{head}: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
        for byte in &request {
            world.send(client, [*byte]);
        }
        if !passes {
            assert!(world.take(client).contains("x-pygate-error: guard-blocked"));
            continue;
        }
        let up = world.connected();
        let text_sent = world.take(up);
        // What was judged is what goes on.
        let left = if text.contains("hush") { "[words:secret]" } else { "all is well" };
        assert!(!text_sent.contains("content-encoding") && text_sent.contains(left), "{text_sent}");
        // The answer, too.
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-length";
        world.send(up, [format!("{head}: {}\r\n\r\n", body.len()).as_bytes(), &body].concat());
        let got = world.take(client);
        assert!(got.contains(left) && !got.contains("hush-") && !got.contains("content-encoding"), "{got}");
        world.assert_at_rest();
    }
}

#[test]
fn a_body_that_swells_is_cut_off_at_the_cap() {
    let body = gzipped(&"a".repeat(5_000_000));
    let mut world = world("closed");
    let client = world.client();
    let head = "POST /a HTTP/1.1\r\nhost: h\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-length";
    world.send(client, [format!("{head}: {}\r\n\r\n", body.len()).as_bytes(), &body].concat());
    assert!(world.take(client).starts_with("HTTP/1.1 413"));
    assert!(world.asked.is_empty());
}

#[test]
fn a_request_is_judged_whatever_type_its_sender_calls_it() {
    for kind in ["application/octet-stream", "image/png", "multipart/form-data; boundary=x"] {
        let mut world = world("closed");
        let client = world.client();
        let body = "a poison !";
        world.send(
            client,
            format!(
                "POST /a HTTP/1.1\r\nhost: h\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        assert!(world.take(client).contains("x-pygate-error: guard-blocked\r\n"), "{kind}");
        assert!(world.asked.is_empty());
        world.assert_at_rest();
    }
}

#[test]
fn a_judged_answer_is_asked_for_whole() {
    let mut world = world("closed");
    let client = world.client();
    world.send(
        client,
        "GET /a HTTP/1.1\r\nhost: h\r\nrange: bytes=0-9\r\nif-range: \"1\"\r\naccept-encoding: gzip\r\n\r\n",
    );
    let up = world.connected();
    let asked = world.take(up);
    assert!(!asked.contains("range") && !asked.contains("accept-encoding"), "{asked}");
    world.send(up, super::OK);
    assert!(world.take(client).ends_with("hello"));
    world.assert_at_rest();
}
