//! The whole engine: client and upstream bytes in, requests and answers out.
//!
//! `exchange_h1`: input is a script: text before the first 0xff is what a client sends; after that, each 0xff and a letter begin a
//! step (see [`step`]), whose payload runs to the next 0xff. Connections open at once unless a step says otherwise.
//!
//! Promises: every exchange ends exactly once and leaves nothing behind; an upstream is sent no request that the
//! [`reference`] does not find in the client's bytes, with the same method, canonical target and body, and no more
//! of them; a client gets at most one answer per request, and one more for bytes that are none.
//!
//! `h2_frames`: input is what follows a client's HTTP/2 preface; upstreams answer every request they were sent in full.
//! Promises: the same ends, requests upstream that are well formed, and no more of them than there were HEADERS.

use super::reference::{self, Message};
use super::split::{Split, SPLITS};
use super::world::{revision, State, World};
use pygate_core::exchange::ConnId;
use pygate_core::http2;
use pygate_core::message::{PathOptions, Target};
use pygate_core::revision::Revision;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const CONFIG: &str = r#"
[entrypoints.web]
address = "127.0.0.1:0"
http2 = { enabled = HTTP2 }
max_head = "2KiB"
max_fields = 24
head_timeout = "2s"
idle_timeout = "5s"
body_timeout = "3s"
tunnel_timeout = "7s"

[services.app]
endpoints = ["http://127.0.0.1:9001"]
connect_timeout = "1s"
first_byte_timeout = "4s"
body_timeout = "3s"
idle_timeout = "6s"
max_connections = 3

[policies.again.retry]
attempts = 2

[policies.small.body_limit]
max = "64B"

[[routes]]
name = "app"
match = { path = "/**" }
service = "app"

[[routes]]
name = "guarded"
match = { path = "/g/**" }
service = "app"
[routes.guard]
request = ["words"]
response = ["words"]
max_body = "128B"

[[routes]]
name = "durable"
match = { path = "/d/**" }
service = "app"
audit = { durability = "call" }

[[routes]]
name = "careful"
match = { path = "/r/**" }
service = "app"
policies = ["small", "again"]
audit = { durability = "answer" }
"#;

fn compiled(http2: bool) -> Arc<Revision> {
    static REVISIONS: [OnceLock<Arc<Revision>>; 2] = [OnceLock::new(), OnceLock::new()];
    let text = || CONFIG.replace("HTTP2", if http2 { "true" } else { "false" });
    REVISIONS[usize::from(http2)].get_or_init(|| revision(&text())).clone()
}

pub fn exchange_h1(data: &[u8]) {
    for split in SPLITS {
        play(data, split);
    }
}

fn play(data: &[u8], split: Split) {
    let mut world = World::new(compiled(false));
    let Some(mut client) = world.client() else { panic!("the first client was not accepted") };
    let mut parts = data.split(|&b| b == 0xff);
    for piece in split.pieces(parts.next().unwrap_or_default()) {
        world.send(client, piece);
    }
    for part in parts.take(64) {
        if let Some((&letter, payload)) = part.split_first() {
            step(&mut world, &mut client, letter, payload, split);
        }
    }
    judge(&world);
    end(&mut world);
    judge(&world);
}

fn step(world: &mut World, client: &mut usize, letter: u8, payload: &[u8], split: Split) {
    let upstream = world.upstream(State::Open);
    let connecting = world.upstream(State::Connecting);
    let oldest = world.sides.iter().position(|s| matches!(s.conn, ConnId::Up(_)) && s.state == State::Open);
    match letter {
        b'c' => split.pieces(payload).into_iter().for_each(|piece| world.send(*client, piece)),
        b'u' | b'v' => {
            let to = if letter == b'u' { upstream } else { oldest };
            for piece in split.pieces(payload) {
                if let Some(side) = to {
                    world.send(side, piece);
                }
            }
        }
        b'n' => {
            if let Some(number) = world.client() {
                *client = number;
                split.pieces(payload).into_iter().for_each(|piece| world.send(number, piece));
            }
        }
        b't' => {
            let units = payload.first().copied().unwrap_or(b'1');
            world.advance(
                Duration::from_millis(100) * u32::from(units - units.min(b'0')).max(1),
                Duration::from_millis(100),
            );
        }
        b'e' => world.eof(*client),
        b'E' => upstream.into_iter().for_each(|side| world.eof(side)),
        b'r' => world.reset(*client),
        b'R' => upstream.into_iter().for_each(|side| world.reset(side)),
        b'b' => world.block(*client),
        b'B' => upstream.into_iter().for_each(|side| world.block(side)),
        b'h' => world.hold_connects = !world.hold_connects,
        b'f' => world.fail_connects = !world.fail_connects,
        b'k' => connecting.into_iter().for_each(|side| world.connected(side)),
        b'K' => connecting.into_iter().for_each(|side| world.connect_failed(side, payload.is_empty())),
        b's' => world.durable = !world.durable,
        b'S' => world.sync(),
        b'd' => world.drain(),
        _ => {}
    }
}

/// A client's frames; upstreams answer at once what they were sent in full.
pub fn h2_frames(data: &[u8]) {
    let stream = [http2::PREFACE, data].concat();
    for split in SPLITS {
        let mut world = World::new(compiled(true));
        let Some(client) = world.client() else { panic!("the first client was not accepted") };
        for piece in split.pieces(&stream) {
            world.send(client, piece);
            answer_all(&mut world);
        }
        judge_frames(&world, data);
        world.eof(client);
        answer_all(&mut world);
        end(&mut world);
        judge_frames(&world, data);
    }
}

/// Answers by turns: with a length, with chunks and a trailer, without content.
const ANSWERS: [&[u8]; 3] = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: 1\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
];

fn answer_all(world: &mut World) {
    for side in 0..world.sides.len() {
        if matches!(world.sides[side].conn, ConnId::Down(_)) || world.sides[side].state != State::Open {
            continue;
        }
        let asked = reference::requests(&world.sides[side].out).iter().filter(|r| r.complete).count();
        let answered = world.sides[side].answered;
        world.sides[side].answered = asked;
        for n in answered..asked {
            world.send(side, ANSWERS[n % ANSWERS.len()]);
        }
    }
}

fn judge_frames(world: &World, data: &[u8]) {
    let heads = frames(data).iter().filter(|kind| **kind == 1).count();
    let mut ids = BTreeSet::new();
    for side in world.sides.iter().filter(|s| matches!(s.conn, ConnId::Up(_))) {
        for request in reference::requests(&side.out) {
            ids.insert(well_formed(&request));
        }
    }
    assert!(ids.len() <= heads, "{} requests went upstream, {heads} heads came", ids.len());
    assert!(world.outcomes.len() <= heads + 1, "more outcomes than heads");
}

/// Types of the frames in `data`, the last maybe incomplete.
fn frames(data: &[u8]) -> Vec<u8> {
    let (mut kinds, mut rest) = (Vec::new(), data);
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        kinds.push(head[3]);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        rest = &after[length.min(after.len())..];
    }
    kinds
}

/// Everyone leaves, time passes, and nothing may be left.
fn end(world: &mut World) {
    world.hold_connects = false;
    world.durable = true;
    while let Some(side) = world.upstream(State::Connecting) {
        world.connect_failed(side, true);
    }
    for side in 0..world.sides.len() {
        if matches!(world.sides[side].conn, ConnId::Down(_)) {
            world.reset(side);
        }
    }
    world.sync();
    world.advance(Duration::from_secs(40), Duration::from_millis(500));
    while let Some(side) = world.upstream(State::Connecting) {
        world.connect_failed(side, true);
    }
    assert_eq!(world.engine.in_flight(), 0, "an exchange never ended");
    for id in &world.intents {
        assert!(world.outcomes.contains(id), "an intent without outcome");
    }
    assert_eq!(world.engine.open_connections(), 0);
}

/// What both sides have seen so far against what was sent.
fn judge(world: &World) {
    let (mut asked, mut wanted) = (0, Vec::new());
    for side in world.sides.iter().filter(|s| matches!(s.conn, ConnId::Down(_))) {
        let requests = reference::requests(&side.sent);
        let methods: Vec<Vec<u8>> = requests.iter().map(|r| r.method().to_vec()).collect();
        let answers = reference::responses(&side.out, &methods, side.state == State::Gone);
        let finals = answers.iter().filter(|a| a.status() == 101 || a.status() >= 200).count();
        assert!(finals <= requests.len() + 1, "more answers than requests");
        asked += requests.len();
        wanted.extend(requests);
    }
    let mut ids = BTreeSet::new();
    for side in world.sides.iter().filter(|s| matches!(s.conn, ConnId::Up(_))) {
        for request in reference::requests(&side.out) {
            let upgrade = !request.all("upgrade").is_empty();
            let id = judge_request(&request, &wanted);
            ids.insert(id);
            if upgrade {
                break; // Another protocol may follow.
            }
        }
    }
    assert!(ids.len() <= asked, "{} requests went upstream, {asked} were sent", ids.len());
    assert!(world.outcomes.len() <= asked + world.sides.len(), "more outcomes than requests");
}

/// One request as an upstream reads it, against those that clients sent; returns its exchange id.
fn judge_request(request: &Message, wanted: &[Message]) -> Vec<u8> {
    let guarded = request.target().starts_with(b"/g/") || request.target() == b"/g";
    let same = wanted.iter().any(|sent| {
        let body = if request.complete { sent.body == request.body } else { sent.body.starts_with(&request.body) };
        sent.method() == request.method()
            && canonical(sent.target()) == Some(request.target().to_vec())
            && (body || guarded)
    });
    assert!(same, "no client sent {request:?}");
    well_formed(request)
}

/// What holds for every request that goes upstream; returns its exchange id.
fn well_formed(request: &Message) -> Vec<u8> {
    let one = |name: &str| match request.all(name).as_slice() {
        [value] => value.to_vec(),
        other => panic!("{} times {name} in {request:?}", other.len()),
    };
    one("host");
    one("traceparent");
    assert_eq!(request.line.split(|&b| b == b' ').count(), 3);
    assert!(request.line.ends_with(b" HTTP/1.1"));
    let (lengths, codings) = (request.all("content-length").len(), request.all("transfer-encoding").len());
    assert!(lengths + codings <= 1, "framed twice: {request:?}");
    for name in ["te", "trailer", "keep-alive", "proxy-connection", "http2-settings", "expect"] {
        assert!(request.all(name).is_empty(), "{name} went upstream");
    }
    one("x-request-id")
}

/// The target that must go upstream for one that a client wrote.
fn canonical(written: &[u8]) -> Option<Vec<u8>> {
    let path = match reference::find(written, b"://") {
        Some(at) if !written.starts_with(b"/") => {
            let rest = &written[at + 3..];
            rest.iter().position(|&b| b == b'/').map_or(&b"/"[..], |slash| &rest[slash..])
        }
        _ => written,
    };
    let mut target = Target::default();
    target.parse(path, PathOptions::default()).ok()?;
    Some(target.as_bytes().to_vec())
}
