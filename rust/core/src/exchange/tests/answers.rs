//! Bad input, from either side, and what the other one sees of it.

use super::world::{State, World};
use super::{GET, OK};
use crate::observe::Counter;

#[test]
fn a_malformed_request_is_answered_recorded_and_never_forwarded() {
    let whole = "GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n";
    for split in [false, true] {
        let mut world = World::base();
        let client = world.client();
        if split {
            for byte in whole.bytes() {
                world.send(client, [byte]);
            }
        } else {
            world.send(client, whole);
        }
        let got = world.take(client);
        assert!(got.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{got}");
        for line in ["connection: close\r\n", "x-pygate-error: bad-request\r\n", "x-request-id: ", "date: "] {
            assert!(got.contains(line), "{line} in {got}");
        }
        assert!(world.asked.is_empty());
        assert_eq!((world.outcomes(), world.count(Counter::ParseErrors)), (1, 1));
        // Our side is closed, what still comes is dropped, and the rest is cut off soon.
        assert!(world.side(client).eof);
        world.send(client, GET);
        assert_eq!(world.take(client), "");
        world.seconds(3.0);
        assert_eq!(world.side(client).state, State::Aborted);
        world.assert_at_rest();
    }
}

#[test]
fn a_malformed_body_ends_the_exchange_wherever_it_is() {
    let head = "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    // Before a connection is there, while the request goes out, and after the answer began.
    for stage in 0..3 {
        let mut world = World::base();
        let client = world.client();
        world.send(client, head);
        if stage > 0 {
            world.connected();
        }
        if stage > 1 {
            world.send(world.newest(), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi");
        }
        world.take(client);
        world.send(client, "zz\r\n");
        let got = world.take(client);
        if stage < 2 {
            assert!(got.starts_with("HTTP/1.1 400"), "{got}");
            assert!(world.side(client).eof);
        } else {
            assert_eq!((got.as_str(), world.side(client).state), ("", State::Aborted));
        }
        if stage > 0 {
            assert_eq!(world.side(world.newest()).state, State::Aborted);
        } else {
            world.connected();
        }
        assert_eq!(world.outcomes(), 1);
        world.assert_at_rest();
    }
}

#[test]
fn upstream_nonsense_is_a_502_and_its_connection_is_not_used_again() {
    for nonsense in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\nserver: x\n\n",
        "\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 42 What\r\n\r\n",
        "HTTP/1.1 700 What\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nfold: 1\r\n 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: \0\r\n\r\n",
    ] {
        let mut world = World::base();
        let client = world.client();
        world.send(client, GET);
        let up = world.connected();
        world.send(up, nonsense);
        let got = world.take(client);
        assert!(got.starts_with("HTTP/1.1 502") && got.contains("bad-upstream"), "{nonsense:?}: {got}");
        assert!(!got.contains("127.0.0.1") && !got.contains("9001"));
        assert!(!world.side(up).open() && world.side(client).open(), "{nonsense:?}");
        world.assert_at_rest();
    }
}

#[test]
fn bytes_nobody_asked_for_poison_no_other_exchange() {
    // Behind an answer, with another exchange waiting for the connection.
    let mut world = World::with("max_connections = 8", "max_connections = 1", "");
    let (one, two) = (world.client(), world.client());
    world.send(one, GET);
    let up = world.connected();
    world.send(two, GET);
    world.send(up, format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"));
    assert!(world.take(one).ends_with("hello"));
    assert_eq!(world.take(two), "");
    assert!(!world.side(up).open());
    let up = world.connected();
    world.send(up, OK);
    assert!(world.take(two).ends_with("hello"));
    // While it is idle.
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison");
    assert!(!world.side(up).open());
    world.send(one, GET);
    let up = world.connected();
    world.send(up, OK);
    assert!(world.take(one).ends_with("hello"));
    world.assert_at_rest();
}

#[test]
fn cut_answers_never_end_cleanly() {
    for (answer, reset) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nx: ", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nxx\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\nhalf", true),
    ] {
        for version in ["1.1", "1.0"] {
            let mut world = World::base();
            let client = world.client();
            world.send(client, format!("GET / HTTP/{version}\r\nhost: h\r\n\r\n"));
            let up = world.connected();
            world.send(up, answer);
            if world.side(up).open() {
                if reset {
                    world.reset(up);
                } else {
                    world.eof(up);
                }
            }
            let got = world.take(client);
            assert!(got.contains("half") && !got.ends_with("0\r\n\r\n"), "{got}");
            assert_eq!(world.side(client).state, State::Aborted, "{answer:?}");
            assert_eq!(world.outcomes(), 1);
            world.assert_at_rest();
        }
    }
}

#[test]
fn early_answers_pass_while_the_body_is_still_coming() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nA\r\n");
    assert!(world.take(client).ends_with("1\r\nA\r\n"));
    world.take(up);
    world.send(client, "1\r\nb\r\n");
    assert_eq!(world.take(up), "1\r\nb\r\n");
    world.send(up, "1\r\nB\r\n");
    assert_eq!(world.take(client), "1\r\nB\r\n");
    // The answer ends first: the upload goes nowhere, and its connection with it.
    world.send(up, "0\r\n\r\n");
    assert_eq!(world.take(client), "0\r\n\r\n");
    assert_eq!(world.side(up).state, State::Aborted);
    assert!(world.side(client).eof);
    world.assert_at_rest();
}

#[test]
fn a_short_rest_of_an_answered_request_is_read_and_dropped() {
    let mut world = World::with("path = \"/**\"", "path = \"/only\"", "");
    let client = world.client();
    world.send(client, "POST /no HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\n\r\nabc");
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 404") && !got.contains("connection: close"), "{got}");
    world.send(client, "defGET /only HTTP/1.1\r\nhost: h\r\n\r\n");
    let up = world.connected();
    world.send(up, OK);
    assert!(world.take(client).ends_with("hello"));
    // A long one is not.
    world.send(client, "POST /no HTTP/1.1\r\nhost: h\r\ncontent-length: 6000000\r\n\r\nabc");
    assert!(world.take(client).contains("connection: close"));
    assert!(world.side(client).eof && world.side(client).open());
    world.seconds(3.0);
    assert!(!world.side(client).open());
    world.assert_at_rest();
}

#[test]
fn heads_too_large_are_told_so() {
    let mut world = World::with("tunnel_timeout", "max_head = \"1KiB\"\nmax_fields = 5\ntunnel_timeout", "");
    let client = world.client();
    world.send(client, format!("GET /{} HTTP/1.1\r\n", "a".repeat(1100)));
    assert!(world.take(client).starts_with("HTTP/1.1 431"));
    let client = world.client();
    world.send(client, format!("GET / HTTP/1.1\r\nhost: h\r\n{}\r\n", "a: b\r\n".repeat(6)));
    assert!(world.take(client).starts_with("HTTP/1.1 431"));
    assert!(world.asked.is_empty());
}
