//! WebSocket through the exchange: handshakes on every pair of protocols, and routes that read messages.

use super::http2::{h2_upstream, Browser, Origin};
use super::world::{State, World, BASE};
use super::OK;
use crate::exchange::{AfterEof, ConnId};
use crate::observe::Counter;
use crate::websocket::frame::{write, write_close, Opcode};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [1, 2, 3, 4];

fn asking(more: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: {KEY}\r\n\
         sec-websocket-version: 13\r\n{more}\r\n"
    )
}

fn switched(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {ACCEPT}\r\n{more}\r\n"
    )
}

fn frame(opcode: Opcode, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, opcode, false, key, payload);
    bytes
}

/// A text message of the client.
fn says(text: &str) -> Vec<u8> {
    frame(Opcode::Text, Some(MASK), text.as_bytes())
}

/// A text message of the upstream.
fn answers(text: &str) -> Vec<u8> {
    frame(Opcode::Text, None, text.as_bytes())
}

fn close(key: Option<[u8; 4]>, code: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_close(&mut bytes, key, code);
    bytes
}

/// The code of a close frame to the client.
fn close_code(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [.., 0x88, 2, a, b] => Some(u16::from_be_bytes([*a, *b])),
        _ => None,
    }
}

/// The code of a close frame to the upstream, which is masked.
fn masked_close_code(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [.., 0x88, 0x82, k, l, _, _, a, b] => Some(u16::from_be_bytes([a ^ k, b ^ l])),
        _ => None,
    }
}

const READS: &str = "[routes.websocket]\nmax_message = \"200KiB\"\nping_interval = \"2s\"\n";

const GUARDED: &str = "[routes.guard]\nrequest = [\"words\"]\nresponse = [\"words\"]\n[routes.websocket]\n\
                       max_message = \"4MiB\"\nping_interval = \"0s\"\n";

/// A world whose route has these lines, and a WebSocket through it: client and upstream.
fn opened(route: &str) -> (World, ConnId, ConnId) {
    let mut world = World::new(&format!("{BASE}{route}"));
    let client = world.client();
    world.send(client, asking(""));
    let up = world.connected();
    let sent = world.take(up);
    assert!(sent.contains(&format!("sec-websocket-key: {KEY}\r\n")), "{sent}");
    world.send(up, switched(""));
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 101 ") && got.contains(&format!("sec-websocket-accept: {ACCEPT}\r\n")), "{got}");
    (world, client, up)
}

#[test]
fn requests_that_ask_wrongly_are_answered_here() {
    for route in ["", READS] {
        let mut world = World::new(&format!("{BASE}{route}"));
        for (from, to, status, more) in [
            (KEY, "short", "400 ", "malformed sec-websocket-key"),
            ("-key: ", "-kez: ", "400 ", "no sec-websocket-key"),
            ("GET ", "DELETE ", "400 ", "asked for with GET"),
            ("version: 13", "version: 8", "426 ", "sec-websocket-version: 13\r\n"),
            ("version: 13", "verzion: 13", "426 ", "upgrade: websocket\r\n"),
        ] {
            let client = world.client();
            world.send(client, asking("").replace(from, to));
            let got = world.take(client);
            assert!(got.starts_with(&format!("HTTP/1.1 {status}")) && got.contains(more), "{got}");
        }
        assert!(world.asked.is_empty());
        world.assert_at_rest();
    }
}

#[test]
fn answers_that_do_not_answer_are_a_bad_upstream() {
    for route in ["", READS] {
        for (from, to) in [(ACCEPT, KEY), ("-accept", "-akzept"), ("upgrade: websocket", "upgrade: other")] {
            let mut world = World::new(&format!("{BASE}{route}"));
            let client = world.client();
            world.send(client, asking(""));
            let up = world.connected();
            world.send(up, switched("").replace(from, to));
            let got = world.take(client);
            assert!(got.starts_with("HTTP/1.1 502 ") && got.contains("bad-upstream"), "{got}");
            assert_eq!(world.side(up).state, State::Aborted);
            world.assert_at_rest();
        }
    }
    // One that declines is passed on.
    let (mut world, ..) = (World::new(&format!("{BASE}{READS}")), ());
    let client = world.client();
    world.send(client, asking(""));
    let up = world.connected();
    world.send(up, OK);
    assert!(world.take(client).ends_with("hello"));
    world.assert_at_rest();
}

#[test]
fn tunnels_leave_extensions_and_other_protocols_alone() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, asking("sec-websocket-extensions: x-own; a=1\r\n"));
    let up = world.connected();
    assert!(world.take(up).contains("sec-websocket-extensions: x-own; a=1\r\n"));
    world.send(up, switched("sec-websocket-extensions: x-own\r\n"));
    assert!(world.take(client).contains("sec-websocket-extensions: x-own\r\n"));
    world.send(client, [0xff, 0]);
    assert_eq!(world.take_bytes(up), [0xff, 0]);
    let client = world.client();
    world.send(client, "GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: chat/2\r\n\r\n");
    let up = world.connected();
    assert!(world.take(up).contains("upgrade: chat/2\r\n"));
    world.send(up, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat/2\r\n\r\nhi");
    assert!(world.take(client).ends_with("\r\n\r\nhi"));
    // A guard cannot be passed in a protocol that nobody reads.
    let mut world = World::new(&format!("{BASE}{GUARDED}"));
    let client = world.client();
    world.send(client, "GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: chat/2\r\n\r\n");
    let up = world.connected();
    assert!(!world.take(up).contains("upgrade"));
}

#[test]
fn messages_stream_and_are_counted() {
    let (mut world, client, up) = opened(READS);
    let hello = says("hello");
    let (first, rest) = hello.split_at(8);
    world.send(client, first);
    assert_eq!(world.take_bytes(up), first, "passed on as it comes");
    world.send(client, rest);
    assert_eq!(world.take_bytes(up), rest);
    world.send(up, [answers("a"), answers("bc")].concat());
    assert_eq!(world.take_bytes(client), [answers("a"), answers("bc")].concat());
    assert_eq!(world.count(Counter::WebSocketReceived), 1);
    assert_eq!(world.count(Counter::WebSocketSent), 2);
    assert_eq!(world.count(Counter::WebSocketBytesReceived), 5);
    world.send(client, close(Some(MASK), 1000));
    assert_eq!(masked_close_code(&world.take_bytes(up)), Some(1000));
    assert_eq!(world.eof(client), AfterEof::KeepOpen, "it still gets the answer to its close");
    world.send(up, close(None, 1000));
    assert_eq!(close_code(&world.take_bytes(client)), Some(1000));
    assert!(!world.side(client).open() && !world.side(up).open());
    assert_eq!(world.outcomes(), 1);
    world.assert_at_rest();
}

#[test]
fn early_messages_wait_for_the_upstream() {
    let mut world = World::new(&format!("{BASE}{READS}"));
    let client = world.client();
    world.send(client, [asking("").as_bytes(), &says("early")].concat());
    let up = world.connected();
    assert!(!world.take(up).contains("early"));
    world.send(up, [switched("").as_bytes(), &answers("first")].concat());
    assert!(world.take_bytes(client).ends_with(&answers("first")));
    assert_eq!(world.take_bytes(up), says("early"));
}

#[test]
fn what_breaks_the_protocol_ends_with_its_code() {
    let unmasked = answers("hello");
    let huge = says(&"x".repeat(300_000));
    let broken = frame(Opcode::Text, Some(MASK), b"\xff\xfe");
    for (bytes, code) in [(unmasked, 1002), (broken, 1007), (huge, 1009)] {
        let (mut world, client, up) = opened(READS);
        world.send(client, bytes);
        assert_eq!(close_code(&world.take_bytes(client)), Some(code));
        assert!(world.side(client).eof && world.side(client).open(), "what it still sends must not reset this");
        assert_eq!(masked_close_code(&world.take_bytes(up)), Some(1001));
        world.send(up, close(None, 1001));
        assert!(!world.side(up).open());
        assert_eq!(world.outcomes(), 1);
        world.assert_at_rest();
        world.seconds(2.2);
        assert!(!world.side(client).open());
    }
    let (mut world, client, up) = opened(READS);
    world.send(up, says("masked"));
    assert_eq!(close_code(&world.take_bytes(client)), Some(1014));
    assert_eq!(masked_close_code(&world.take_bytes(up)), Some(1002));
    // A client that does not answer is let go.
    world.seconds(3.2);
    assert_eq!(world.outcomes(), 1);
    world.assert_at_rest();
}

#[test]
fn whoever_vanishes_is_reported_to_the_other() {
    for by_reset in [true, false] {
        let (mut world, client, up) = opened(READS);
        match by_reset {
            true => world.reset(up),
            false => assert_eq!(world.eof(up), AfterEof::Close),
        }
        assert_eq!(close_code(&world.take_bytes(client)), Some(1014));
        world.send(client, close(Some(MASK), 1014));
        assert!(!world.side(client).open() || world.side(client).eof);
        world.assert_at_rest();

        let (mut world, client, up) = opened(READS);
        match by_reset {
            true => world.reset(client),
            false => assert_eq!(world.eof(client), AfterEof::Close),
        }
        assert_eq!(masked_close_code(&world.take_bytes(up)), Some(1001));
        assert_eq!(world.engine.in_flight(), 1, "the upstream is still being told");
        // What it says meanwhile is for nobody, even if another client has the number now.
        let other = world.client();
        world.send(up, answers("late"));
        assert_eq!(world.take_bytes(other), b"");
        world.seconds(3.2);
        assert!(!world.side(up).open());
        world.assert_at_rest();
    }
}

#[test]
fn silent_clients_are_pinged_and_dead_ones_let_go() {
    let (mut world, client, up) = opened(READS);
    world.seconds(2.2);
    let ping = world.take_bytes(client);
    assert_eq!(ping[..2], [0x89, 8]);
    world.send(client, frame(Opcode::Pong, Some(MASK), &ping[2..]));
    assert_eq!(world.take_bytes(up), b"", "answers to our own pings end here");
    world.send(client, frame(Opcode::Pong, Some(MASK), b"own"));
    assert!(!world.take_bytes(up).is_empty(), "others do not");
    world.seconds(2.2);
    assert_eq!(world.take_bytes(client)[..2], [0x89, 8]);
    world.seconds(2.2);
    assert_eq!(close_code(&world.take_bytes(client)), Some(1001));
    assert_eq!(masked_close_code(&world.take_bytes(up)), Some(1001));
    world.send(up, close(None, 1001));
    world.assert_at_rest();
    world.seconds(3.2);
    assert!(!world.side(client).open() && !world.side(up).open());
}

#[test]
fn a_client_that_is_not_read_is_not_called_dead() {
    let (mut world, client, up) = opened(READS);
    world.blocked(up, true);
    assert!(world.side(client).paused);
    world.seconds(6.0);
    assert!(world.side(client).open(), "{:?}", world.take_bytes(client));
    world.blocked(up, false);
    assert!(!world.side(client).paused);
}

#[test]
fn silence_beyond_the_tunnel_timeout_ends_even_clients_that_answer_pings() {
    let (mut world, client, up) = opened(READS);
    for _ in 0..5 {
        world.seconds(1.9);
        let got = world.take_bytes(client);
        if let Some(code) = close_code(&got) {
            assert_eq!(code, 1001);
            assert_eq!(masked_close_code(&world.take_bytes(up)), Some(1001));
            return;
        }
        if got.len() == 10 {
            world.send(client, frame(Opcode::Pong, Some(MASK), &got[2..]));
        }
    }
    panic!("still open");
}

#[test]
fn draining_says_so_once_and_ends() {
    let (mut world, client, up) = opened(READS);
    world.engine.drain(world.now);
    world.engine.drain(world.now);
    world.perform(b"");
    let got = world.take_bytes(client);
    assert_eq!((got.len(), close_code(&got)), (4, Some(1001)));
    assert_eq!(masked_close_code(&world.take_bytes(up)), Some(1001));
    world.send(client, close(Some(MASK), 1001));
    world.send(up, close(None, 1001));
    assert_eq!(world.outcomes(), 1);
    world.assert_at_rest();
    // Tunnels stay, as nobody can tell their ends.
    let (mut world, client, up) = opened("");
    world.engine.drain(world.now);
    world.perform(b"");
    world.seconds(3.0);
    world.send(client, says("still here"));
    assert_eq!(world.take_bytes(up), says("still here"));
    assert!(world.side(client).open());
}

#[test]
fn each_side_pauses_the_other() {
    let (mut world, client, up) = opened(READS);
    world.blocked(client, true);
    assert!(world.side(up).paused);
    world.blocked(client, false);
    assert!(!world.side(up).paused);
    // One that reads nothing for too long is cut, and the upstream told.
    world.blocked(client, true);
    world.seconds(3.2);
    assert_eq!(world.side(client).state, State::Aborted);
    assert_eq!(masked_close_code(&world.take_bytes(up)), Some(1001));
    assert!(!world.side(up).paused);
    world.send(up, close(None, 1001));
    world.assert_at_rest();
}

#[test]
fn messages_of_both_directions_are_judged_whole() {
    let (mut world, client, up) = opened(GUARDED);
    let text = says("say hush-1234 now");
    for byte in &text[..text.len() - 1] {
        world.send(client, [*byte]);
        assert!(world.side(up).out.is_empty(), "sent before the verdict");
    }
    world.send(client, &text[text.len() - 1..]);
    let got = world.take_bytes(up);
    let key: [u8; 4] = got[2..6].try_into().expect("a masked frame");
    let plain: Vec<u8> = got[6..].iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
    let plain = String::from_utf8(plain).expect("text");
    assert!(plain.starts_with("say ") && plain.ends_with(" now") && !plain.contains("1234"), "{plain}");
    world.send(up, answers("and hush-9999 too"));
    let got = world.take(client);
    assert!(got.contains("and ") && got.ends_with(" too") && !got.contains("9999"), "{got}");
    assert_eq!(world.count(Counter::GuardMask), 2);
    // What nobody objects to keeps its bytes.
    world.send(client, says("plain"));
    assert_eq!(world.take_bytes(up), says("plain"));
    // Thousands of messages in one read are taken one after the other.
    let many = answers("x").repeat(5000);
    world.send(up, &many);
    world.seconds(2.0);
    assert_eq!(world.take_bytes(client), many);
    assert!(!world.side(up).paused);
}

#[test]
fn a_blocked_message_ends_the_connection_and_goes_nowhere() {
    for from_client in [true, false] {
        let (mut world, client, up) = opened(GUARDED);
        match from_client {
            true => world.send(client, says("a poison !")),
            false => world.send(up, answers("a poison !")),
        }
        let (told, other) = (world.take_bytes(client), world.take_bytes(up));
        assert_eq!(close_code(&told), Some(1008));
        assert_eq!(masked_close_code(&other), Some(if from_client { 1001 } else { 1008 }));
        assert_eq!((told.len(), other.len()), (4, 8), "nothing of it");
        world.send(client, close(Some(MASK), 1008));
        world.send(up, close(None, 1001));
        assert_eq!(world.count(Counter::GuardBlock), 1);
        assert_eq!(world.outcomes(), 1);
        world.assert_at_rest();
    }
    // A guard alone makes a route read messages.
    let (mut world, client, up) = opened("[routes.guard]\nrequest = [\"words\"]\n");
    world.send(client, frame(Opcode::Binary, Some(MASK), b"a poison !"));
    assert_eq!(close_code(&world.take_bytes(client)), Some(1008));
    assert_eq!(world.take_bytes(up).len(), 8);
}

#[test]
fn long_messages_are_judged_in_parts_while_their_sender_waits() {
    let (mut world, client, up) =
        opened(&GUARDED.replace("[routes.websocket]", "max_body = \"2MiB\"\n[routes.websocket]"));
    let long = says(&"words and ".repeat(100_000));
    for piece in long.chunks(100_000) {
        world.send(client, piece);
    }
    assert!(world.side(client).paused && world.side(up).out.is_empty());
    world.send(up, answers("meanwhile"));
    assert_eq!(world.take_bytes(client), answers("meanwhile"));
    world.seconds(0.2);
    assert!(!world.side(client).paused);
    assert_eq!(world.take_bytes(up), long);
    // One that leaves while its message is judged.
    world.send(client, &long);
    assert_eq!(world.eof(client), AfterEof::KeepOpen);
    world.seconds(0.2);
    let got = world.take_bytes(up);
    assert_eq!(got[..long.len()], long);
    assert_eq!(masked_close_code(&got), Some(1001));
    assert!(!world.side(client).open());
    world.send(up, close(None, 1001));
    world.assert_at_rest();
    // Longer than the guard takes.
    let (mut world, client, up) = opened(GUARDED);
    world.send(client, says(&"x".repeat(1_100_000)));
    assert_eq!(close_code(&world.take_bytes(client)), Some(1009));
    assert_eq!(world.take_bytes(up).len(), 8);
    assert_eq!(world.count(Counter::GuardUnjudged), 1);
}

#[test]
fn http2_clients_reach_http1_upstreams() {
    for route in ["", READS] {
        let mut world = World::new(&format!("{BASE}{route}"));
        let mut browser = Browser::open(&mut world);
        let stream = browser.websocket(&mut world, 1);
        let up = world.connected();
        let sent = world.take(up);
        assert!(sent.starts_with("GET /ws HTTP/1.1\r\n") && sent.contains("upgrade: websocket\r\n"), "{sent}");
        let key = sent.split("sec-websocket-key: ").nth(1).expect("a key").split("\r\n").next().expect("a line");
        let accept = crate::websocket::handshake::accept(key.as_bytes().try_into().expect("24 characters"));
        world.send(up, switched("").replace(ACCEPT, std::str::from_utf8(&accept).expect("base64")));
        browser.run(&mut world);
        assert!(browser.has("1:200 -"), "{:?}", browser.told);
        browser.session.data(stream, &says("hello"));
        browser.run(&mut world);
        assert_eq!(world.take_bytes(up), says("hello"));
        world.send(up, answers("back"));
        browser.run(&mut world);
        assert!(browser.told.iter().any(|t| t.ends_with("back")), "{:?}", browser.told);
        browser.session.data(stream, &close(Some(MASK), 1000));
        browser.run(&mut world);
        world.send(up, close(None, 1000));
        world.eof(up);
        browser.session.end(stream, &Default::default());
        browser.run(&mut world);
        assert!(browser.has("1.0"), "{:?}", browser.told);
        assert!(!world.side(up).open() && world.side(browser.conn).open());
        world.assert_at_rest();
        // 200 would say that the tunnel is open.
        browser.websocket(&mut world, 2);
        let up = world.connected();
        world.send(up, OK);
        browser.run(&mut world);
        assert!(browser.has("2:502 bad-upstream"), "{:?}", browser.told);
        world.assert_at_rest();
    }
}

#[test]
fn http1_clients_reach_http2_upstreams() {
    for route in ["", READS] {
        let mut world = h2_upstream(route);
        let client = world.client();
        world.send(client, asking(""));
        let mut origin = Origin::open(&mut world);
        assert_eq!(origin.seen, ["GET /ws"], "an extended CONNECT, as our own server reads it");
        assert!(origin.request.fields.get(b"sec-websocket-key").is_none());
        origin.switch(&mut world, 0);
        let got = world.take(client);
        assert!(got.starts_with("HTTP/1.1 101 "), "{got}");
        assert!(got.contains(&format!("sec-websocket-accept: {ACCEPT}\r\n")), "{got}");
        world.send(client, says("hello"));
        origin.run(&mut world);
        assert_eq!(origin.bytes, says("hello"));
        origin.say(&mut world, 0, &answers("back"));
        assert_eq!(world.take_bytes(client), answers("back"));
        origin.say(&mut world, 0, &close(None, 1000));
        assert_eq!(close_code(&world.take_bytes(client)), Some(1000));
        world.send(client, close(Some(MASK), 1000));
        origin.run(&mut world);
        assert_eq!(masked_close_code(&origin.bytes), Some(1000));
        if route.is_empty() {
            world.eof(client);
            origin.run(&mut world);
        }
        assert_eq!(origin.seen.last().map(String::as_str), Some(".0"), "an end, not a reset");
        origin.session.end(origin.streams[0], &Default::default());
        origin.run(&mut world);
        assert!(!origin.seen.contains(&"!".to_owned()), "{:?}", origin.seen);
        assert!(!world.side(client).open());
        assert!(world.side(origin.conn).open(), "others use it");
        world.assert_at_rest();
    }
}

#[test]
fn endpoints_that_take_no_websocket_over_http2_are_told_from_those_that_have_not_said() {
    let mut world = h2_upstream("");
    let client = world.client();
    world.send(client, asking(""));
    let up = world.connected();
    assert!(world.take(client).is_empty(), "its settings are awaited");
    world.send(up, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 502 ") && got.contains("takes no WebSocket over HTTP/2"), "{got}");
    world.assert_at_rest();
    // Lost before it has said anything.
    let mut world = h2_upstream("");
    let client = world.client();
    world.send(client, asking(""));
    let up = world.connected();
    world.reset(up);
    let second = world.newest();
    assert!(second != up || world.take(client).starts_with("HTTP/1.1 502 "));
}
