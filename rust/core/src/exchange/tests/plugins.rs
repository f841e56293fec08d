//! Routes with plugins: both stages, and what happens around an exchange while its plugins think.

use super::world::{State, World};
use super::{GET, OK};
use crate::exchange::{AfterEof, Change, Decision};
use crate::observe::Counter;
use crate::policy::Answer;

fn world() -> World {
    let more = "plugins = [\"probe\"]\n[plugins.probe]\nload = \"probe:probe\"\n";
    World::with("service = \"app\"", "service = \"app\"", more)
}

fn go_on() -> Decision {
    Decision::Continue(Vec::new())
}

fn teapot() -> Decision {
    Decision::Answer(Box::new(Answer { status: 418, body: b"short".to_vec(), ..Answer::default() }))
}

const CHUNKED: &str = "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n";

#[test]
fn plugins_see_and_change_both_heads_but_not_what_the_gateway_owns() {
    let mut world = world();
    let client = world.client();
    world.send(client, GET);
    assert!(world.asked.is_empty());
    let view = world.view().expect("a request");
    assert_eq!((view.method.as_str(), view.path.as_str(), view.status), ("GET", "/a", 0));
    let changes = vec![
        Change::Set(b"x-plugin".to_vec(), b"yes".to_vec()),
        Change::Set(b"content-length".to_vec(), b"9".to_vec()),
        Change::Set(b"x-split".to_vec(), b"a\r\nb: c".to_vec()),
    ];
    assert!(!world.decide(Decision::Continue(changes)));
    let up = world.connected();
    let got = world.take(up);
    assert!(got.contains("x-plugin: yes\r\n") && !got.contains("content-length") && !got.contains("x-split"), "{got}");
    world.send(up, "HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(world.take(client), "");
    assert!(world.side(up).paused);
    assert_eq!(world.view().expect("an answer").status, 200);
    assert!(world.decide(Decision::Continue(vec![Change::Remove(b"server".to_vec())])));
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("hello") && !got.contains("server"), "{got}");
    assert!(world.side(up).open() && !world.side(up).paused);
    world.assert_at_rest();
}

#[test]
fn plugins_answer_in_the_upstreams_place_at_either_stage() {
    let mut world = world();
    let client = world.client();
    world.send(client, GET);
    world.decide(teapot());
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 418") && got.ends_with("short"), "{got}");
    assert!(world.asked.is_empty());
    world.send(client, GET);
    world.decide(go_on());
    let up = world.connected();
    world.send(up, OK);
    world.decide(teapot());
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 418") && !got.contains("hello"), "{got}");
    // Its rest was never read: the connection is not used again.
    assert_eq!(world.side(up).state, State::Aborted);
    assert_eq!(world.outcomes(), 2);
    world.assert_at_rest();
}

#[test]
fn plugins_that_fail_close_their_exchange_and_nothing_else() {
    let mut world = world();
    let client = world.client();
    world.send(client, GET);
    world.decide(Decision::Fail);
    assert!(world.take(client).contains("x-pygate-error: plugin-failed\r\n"));
    world.send(client, GET);
    world.decide(go_on());
    let up = world.connected();
    world.send(up, OK);
    world.decide(Decision::Fail);
    assert!(world.take(client).starts_with("HTTP/1.1 503"));
    assert!(world.side(client).open());
    assert_eq!(world.count(Counter::PluginFailures), 2);
    world.assert_at_rest();
}

#[test]
fn a_body_goes_on_upstream_while_its_early_answer_is_shown() {
    for end_while_shown in [true, false] {
        let mut world = world();
        let client = world.client();
        world.send(client, CHUNKED);
        world.decide(go_on());
        let up = world.connected();
        assert!(world.take(up).ends_with("2\r\nab\r\n"));
        world.send(up, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nA\r\n");
        world.send(client, "1\r\nc\r\n");
        assert_eq!(world.take(up), "1\r\nc\r\n");
        assert!(!world.side(client).paused);
        if end_while_shown {
            world.send(client, "0\r\n\r\n");
        }
        world.decide(go_on());
        if !end_while_shown {
            world.send(client, "0\r\n\r\n");
        }
        assert_eq!(world.take(up), "0\r\n\r\n");
        assert!(world.take(client).ends_with("\r\n\r\n1\r\nA\r\n"));
        world.send(up, "0\r\n\r\n");
        assert_eq!(world.take(client), "0\r\n\r\n");
        assert!(world.side(up).open());
        // The head that went out before the request had ended announced the close.
        assert_eq!(world.side(client).open(), end_while_shown);
        world.assert_at_rest();
    }
}

#[test]
fn a_body_that_comes_before_the_decision_waits_and_goes_whole() {
    let mut world = world();
    let client = world.client();
    world.send(client, CHUNKED);
    assert!(world.side(client).paused);
    world.send(client, "1\r\nc\r\n0\r\n\r\n");
    world.decide(go_on());
    let up = world.connected();
    let got = world.take(up);
    assert!(got.ends_with("3\r\nabc\r\n0\r\n\r\n"), "{got}");
    world.send(up, OK);
    world.decide(go_on());
    assert!(world.take(client).ends_with("hello"));
    assert!(!world.side(client).paused);
    world.assert_at_rest();
}

#[test]
fn an_upstream_that_closes_while_its_answer_is_shown_has_answered() {
    for answer in [OK, "HTTP/1.1 200 OK\r\n\r\nhello"] {
        let mut world = world();
        let client = world.client();
        world.send(client, GET);
        world.decide(go_on());
        let up = world.connected();
        world.send(up, answer);
        assert_eq!(world.eof(up), AfterEof::KeepOpen);
        world.decide(go_on());
        let got = world.take(client);
        assert!(got.ends_with("hello") || got.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{got}");
        assert!(!world.side(up).open(), "{answer:?}");
        world.send(client, GET);
        world.decide(go_on());
        assert_eq!(world.asked.len(), 2);
        world.reset(client);
        world.connected();
        world.assert_at_rest();
    }
}

#[test]
fn a_reset_while_an_answer_is_shown_is_told_once_and_not_retried() {
    let more = "policies = [\"again\"]\nplugins = [\"probe\"]\n[plugins.probe]\nload = \"probe:probe\"\n\
                [policies.again.retry]\nattempts = 3\n";
    let mut world = World::with("service = \"app\"", "service = \"app\"", more);
    let client = world.client();
    world.send(client, GET);
    world.decide(go_on());
    let up = world.connected();
    world.send(up, OK);
    world.reset(up);
    assert!(world.take(client).starts_with("HTTP/1.1 502"));
    assert_eq!(world.asked.len(), 1);
    // The decision on an answer that was lost changes nothing.
    assert!(world.view().is_none());
    world.decide(teapot());
    assert_eq!(world.take(client), "");
    world.assert_at_rest();
}

#[test]
fn clients_that_leave_while_plugins_think_leave_nothing_behind() {
    for answered in [false, true] {
        let mut world = world();
        let client = world.client();
        world.send(client, GET);
        if answered {
            world.decide(go_on());
            let up = world.connected();
            world.send(up, OK);
        }
        world.reset(client);
        assert!(world.view().is_none());
        assert_eq!(world.decide(go_on()), answered);
        assert_eq!(world.outcomes(), 1);
        assert_eq!(world.asked.len(), usize::from(answered));
        world.assert_at_rest();
    }
}

#[test]
fn plugins_that_never_decide_keep_no_upstream_deadline_alive() {
    let mut world = world();
    let client = world.client();
    world.send(client, GET);
    world.decide(go_on());
    let up = world.connected();
    world.send(up, OK);
    world.seconds(9.0);
    assert_eq!(world.take(client), "");
    world.decide(go_on());
    assert!(world.take(client).ends_with("hello"));
    assert!(world.side(up).open());
    world.assert_at_rest();
}

#[test]
fn an_answer_of_plugins_cannot_frame_itself() {
    for (status, expected) in [(418, "HTTP/1.1 418 "), (101, "HTTP/1.1 503 "), (0, "HTTP/1.1 503 ")] {
        let mut world = world();
        let client = world.client();
        world.send(client, GET);
        let mut answer = Answer { status, body: b"short".to_vec(), ..Answer::default() };
        for (name, value) in
            [("content-length", "1"), ("transfer-encoding", "chunked"), ("x-a", "b\r\nx-evil: 1"), ("x-ok", "1")]
        {
            answer.fields.append(name.as_bytes(), value.as_bytes());
        }
        world.decide(Decision::Answer(Box::new(answer)));
        let got = world.take(client);
        assert!(got.starts_with(expected), "{got}");
        assert!(!got.contains("chunked") && !got.contains("evil") && !got.contains("content-length: 1\r\n"), "{got}");
        assert_eq!(got.contains("x-ok: 1"), status == 418, "{got}");
        world.assert_at_rest();
    }
}
