//! Random interleavings: whatever happens in whatever order, nothing panics, every exchange ends once, and
//! nothing is left behind.

use super::world::{State, World, BASE};
use super::OK;
use crate::exchange::ConnId;
use proptest::prelude::*;

const REQUESTS: [&str; 9] = [
    "GET /a HTTP/1.1\r\nhost: h\r\n\r\n",
    "HEAD /a HTTP/1.1\r\nhost: h\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello",
    "PUT / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx: y\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
    "GET / HTTP/1.0\r\n\r\n",
    "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nbytes",
    "GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    "GET /a HTTP/1.1\r\nhost: h\r\nhost: i\r\n\r\n",
];

const ANSWERS: [&str; 9] = [
    OK,
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nuntil close",
    "HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nno",
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nmore",
    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
    "nonsense\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokTOO MUCH",
];

#[derive(Clone, Debug)]
enum Step {
    Accept,
    /// The next `usize` bytes of a client's script.
    Client(usize, usize),
    Upstream(usize, usize),
    Connect(bool),
    Eof(usize),
    Reset(usize),
    Block(usize, bool),
    Wait(u16),
    Durable,
    Broken(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Accept),
        8 => (any::<usize>(), 1usize..120).prop_map(|(who, n)| Step::Client(who, n)),
        8 => (any::<usize>(), 1usize..120).prop_map(|(who, n)| Step::Upstream(who, n)),
        6 => Just(Step::Connect(true)),
        1 => Just(Step::Connect(false)),
        1 => any::<usize>().prop_map(Step::Eof),
        1 => any::<usize>().prop_map(Step::Reset),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(who, on)| Step::Block(who, on)),
        2 => (1u16..2500).prop_map(Step::Wait),
        3 => Just(Step::Durable),
        1 => any::<bool>().prop_map(Step::Broken),
    ]
}

struct Script {
    text: Vec<u8>,
    at: usize,
}

fn config(variant: u8) -> String {
    let durability = ["async", "answer", "call"][variant as usize % 3];
    let fail = ["closed", "open"][variant as usize / 3 % 2];
    BASE.replace(
        "path = \"/**\" }",
        &format!(
            "path = \"/**\" }}\npolicies = [\"r\"]\naudit = {{ durability = \"{durability}\", fail = \"{fail}\" }}"
        ),
    )
    .replace("max_connections = 8", "max_connections = 2")
        + "[policies.r.retry]\nattempts = 3\nstatuses = [503]\nbackoff = \"50ms\"\nnon_idempotent = true\n"
}

fn run(variant: u8, scripts: &[Vec<usize>], answers: &[usize], steps: &[Step]) {
    let mut world = World::new(&config(variant));
    world.durable = false;
    let mut clients: Vec<(ConnId, Script)> = Vec::new();
    let mut upstreams: std::collections::BTreeMap<u32, Script> = Default::default();
    let mut next_answer = 0;
    let mut seen = 0;
    for step in steps {
        match step {
            Step::Accept if clients.len() < scripts.len() => {
                if let Some(conn) = world.client_from("192.0.2.9") {
                    let text = scripts[clients.len()].iter().flat_map(|i| REQUESTS[i % 9].bytes()).collect();
                    clients.push((conn, Script { text, at: 0 }));
                }
            }
            Step::Client(who, n) if !clients.is_empty() => {
                let count = clients.len();
                let (conn, script) = &mut clients[who % count];
                let end = (script.at + n).min(script.text.len());
                let side = world.side(*conn);
                if side.open() && !side.paused && !side.half_closed && script.at < end {
                    let bytes = script.text[script.at..end].to_vec();
                    script.at = end;
                    world.send(*conn, bytes);
                }
            }
            Step::Upstream(who, n) => {
                let open: Vec<u32> = world
                    .sides
                    .iter()
                    .filter(|(k, s)| k.0 && s.open() && !s.paused && !s.half_closed)
                    .map(|(k, _)| k.1)
                    .collect();
                if open.is_empty() {
                    continue;
                }
                let id = open[who % open.len()];
                let script = upstreams.entry(id).or_insert(Script { text: Vec::new(), at: 0 });
                if script.at == script.text.len() {
                    if world.sides[&(true, id)].out.is_empty() {
                        continue;
                    }
                    world.sides.get_mut(&(true, id)).unwrap().out.clear();
                    *script = Script { text: ANSWERS[answers[next_answer % answers.len()] % 9].into(), at: 0 };
                    next_answer += 1;
                }
                let end = (script.at + n).min(script.text.len());
                let bytes = script.text[script.at..end].to_vec();
                script.at = end;
                world.send(ConnId::Up(id), bytes);
            }
            Step::Connect(ok) => {
                let waiting = world.sides.iter().find(|(k, s)| k.0 && s.state == State::Connecting).map(|(k, _)| k.1);
                if let Some(id) = waiting {
                    world.asked.push(id);
                    upstreams.remove(&id);
                    if *ok {
                        world.connected();
                    } else {
                        world.connect_failed(false);
                    }
                }
            }
            Step::Eof(who) | Step::Reset(who) | Step::Block(who, _) => {
                let open: Vec<_> =
                    world.sides.iter().filter(|(_, s)| s.open()).map(|(k, s)| (*k, s.half_closed)).collect();
                if open.is_empty() {
                    continue;
                }
                let ((up, id), half) = open[who % open.len()];
                let conn = if up { ConnId::Up(id) } else { ConnId::Down(id) };
                match step {
                    Step::Eof(_) if !half && !world.side(conn).paused => drop(world.eof(conn)),
                    Step::Reset(_) => world.reset(conn),
                    Step::Block(_, on) => world.blocked(conn, *on),
                    _ => {}
                }
            }
            Step::Wait(ms) => world.advance(std::time::Duration::from_millis(u64::from(*ms))),
            Step::Durable => {
                let made = world.records.len() as u64;
                world.engine.durable(world.now, made);
                world.perform(b"");
            }
            Step::Broken(broken) => {
                world.engine.audit_broken(world.now, *broken);
                world.perform(b"");
            }
            _ => {}
        }
        world.engine.assert_consistent();
        seen = world.outcomes().max(seen);
    }
    // Everybody goes home; every deadline runs out.
    world.engine.audit_broken(world.now, false);
    let made = world.records.len() as u64;
    world.engine.durable(world.now, made);
    world.perform(b"");
    for (conn, _) in &clients {
        if world.side(*conn).open() {
            world.reset(*conn);
        }
    }
    while let Some(id) = world.sides.iter().find(|(k, s)| k.0 && s.state == State::Connecting).map(|(k, _)| k.1) {
        world.asked.push(id);
        world.connect_failed(true);
    }
    let made = world.records.len() as u64;
    world.engine.durable(world.now, made);
    world.perform(b"");
    world.seconds(40.0);
    assert_eq!(world.engine.open_connections(), 0);
    assert!(world.sides.values().all(|s| !s.open()), "{:?}", world.sides);
    world.assert_at_rest();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_ever_left_behind(
        variant in 0u8..6,
        scripts in prop::collection::vec(prop::collection::vec(any::<usize>(), 1..5), 1..5),
        answers in prop::collection::vec(any::<usize>(), 1..8),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(variant, &scripts, &answers, &steps);
    }
}
