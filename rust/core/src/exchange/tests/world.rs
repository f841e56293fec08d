//! A world for the engine: scripted clients and upstreams, actions carried out at once, time moved by hand.
//!
//! Rules it holds the engine to: no action on a connection that is gone, Pause and Resume alternate, nothing
//! is written after a close, and a `lost` follows every close.

use crate::audit::codec::OUTCOME;
use crate::audit::facts::Facts;
use crate::config::Config;
use crate::exchange::{Action, AfterEof, ConnId, Decision, Engine, View};
use crate::grpc::Status;
use crate::guard::Ruleset;
use crate::observe::{Counter, Snapshot};
use crate::revision::Revision;
use crate::shared::{Layout, Shared};
use crate::time::{Instant, Now};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Connecting,
    Open,
    Closed,
    Aborted,
}

/// The far end of a connection.
#[derive(Debug)]
pub struct Side {
    /// Bytes that arrived there and were not yet taken.
    pub out: Vec<u8>,
    pub state: State,
    /// We closed our sending side.
    pub eof: bool,
    pub paused: bool,
    pub address: String,
    /// It closed its sending side, and the engine keeps the connection.
    pub half_closed: bool,
}

impl Side {
    fn new(state: State, address: String) -> Side {
        Side { out: Vec::new(), state, eof: false, paused: false, address, half_closed: false }
    }

    pub fn open(&self) -> bool {
        self.state == State::Open
    }
}

pub struct World {
    pub engine: Engine,
    pub shared: Arc<Shared>,
    pub now: Now,
    pub sides: BTreeMap<(bool, u32), Side>,
    /// Numbers of upstream connections in the order they were asked for.
    pub asked: Vec<u32>,
    /// Every record so far, as (exchange id, is an outcome).
    pub records: Vec<([u8; 16], bool)>,
    /// What every outcome so far says of a gRPC call.
    pub grpc: Vec<Option<Status>>,
    /// What every outcome so far says of a call of a model.
    pub calls: Vec<serde_json::Value>,
    /// Plugin calls not yet decided, as (exchange, serial, of the answer).
    pub shown: Vec<(u32, u64, bool)>,
    /// Records become durable as soon as they are made.
    pub durable: bool,
    made: u64,
    /// Sessions are to be flushed.
    flush: bool,
}

pub const BASE: &str = r#"
[entrypoints.web]
address = "127.0.0.1:0"
trusted_peers = ["10.0.0.0/8"]
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
max_connections = 8

[[routes]]
name = "app"
match = { path = "/**" }
service = "app"
"#;

const PACK: &str = r#"
[pack]
name = "words"
version = "1"
[[rule]]
id = "secret"
pattern = 'hush-[0-9]{4}'
action = "mask"
[[rule]]
id = "poison"
pattern = 'poison'
action = "block"
"#;

pub fn revision(toml: &str, name: &str) -> Arc<Revision> {
    let config: Config = toml::from_str(toml).expect("a configuration");
    let pack = toml::from_str(PACK).expect("a pack");
    let rules = Ruleset::compile(&[pack], config.guard.engine, &[], None).expect("rules");
    match Revision::compile(&config, name, 1, Some(&Arc::new(rules))) {
        Ok(revision) => Arc::new(revision),
        Err(problems) => panic!("{problems:?}"),
    }
}

fn key(conn: ConnId) -> (bool, u32) {
    match conn {
        ConnId::Down(id) => (false, id),
        ConnId::Up(id) => (true, id),
    }
}

impl World {
    pub fn new(toml: &str) -> World {
        let file = tempfile::tempfile().expect("a file");
        let shared = Arc::new(Shared::format(&file, Layout::for_workers(1)).expect("shared memory"));
        let now = Now { mono: Instant(1_000_000_000_000), wall_ns: 1_760_000_000_000_000_000 };
        let engine = Engine::new(shared.clone(), 0, [1, 2, 3, 4], revision(toml, "0123456789ab"), now);
        let (sides, asked, records, grpc, calls, shown) = Default::default();
        World { engine, shared, now, sides, asked, records, grpc, calls, shown, durable: true, made: 0, flush: false }
    }

    pub fn base() -> World {
        World::new(BASE)
    }

    /// `BASE` with more lines, and `from` replaced by `to`.
    pub fn with(from: &str, to: &str, more: &str) -> World {
        assert!(BASE.contains(from));
        World::new(&format!("{}{more}", BASE.replacen(from, to, 1)))
    }

    pub fn client(&mut self) -> ConnId {
        self.client_from("192.0.2.7").expect("accepted")
    }

    pub fn client_from(&mut self, ip: &str) -> Option<ConnId> {
        self.client_on("web", ip)
    }

    pub fn client_on(&mut self, entrypoint: &str, ip: &str) -> Option<ConnId> {
        let id = self.engine.accept(self.now, entrypoint, ip.parse().expect("an address"), 4711, None)?;
        let before = self.sides.insert((false, id), Side::new(State::Open, String::new()));
        assert!(before.is_none_or(|side| !side.open()), "number {id} given twice");
        self.engine.opened(self.now);
        self.perform(b"");
        Some(ConnId::Down(id))
    }

    pub fn side(&self, conn: ConnId) -> &Side {
        &self.sides[&key(conn)]
    }

    /// Bytes from the far end.
    pub fn send(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>) {
        assert!(self.side(conn).open(), "{conn:?} is gone");
        self.engine.input(self.now, conn, bytes.as_ref());
        self.perform(bytes.as_ref());
    }

    /// What arrived at the far end since the last call.
    pub fn take(&mut self, conn: ConnId) -> String {
        String::from_utf8_lossy(&self.take_bytes(conn)).into_owned()
    }

    pub fn take_bytes(&mut self, conn: ConnId) -> Vec<u8> {
        std::mem::take(&mut self.sides.get_mut(&key(conn)).expect("a connection").out)
    }

    /// The newest connection asked for.
    pub fn newest(&self) -> ConnId {
        ConnId::Up(*self.asked.last().expect("a connection was asked for"))
    }

    /// Lets the newest connection succeed.
    pub fn connected(&mut self) -> ConnId {
        let conn = self.newest();
        let side = self.sides.get_mut(&key(conn)).expect("asked for");
        assert_eq!(side.state, State::Connecting);
        side.state = State::Open;
        let ConnId::Up(id) = conn else { unreachable!() };
        self.engine.connected(self.now, id);
        self.perform(b"");
        conn
    }

    pub fn connect_failed(&mut self, timed_out: bool) {
        let ConnId::Up(id) = self.newest() else { unreachable!() };
        self.sides.get_mut(&(true, id)).expect("asked for").state = State::Closed;
        self.engine.connect_failed(self.now, id, timed_out);
        self.perform(b"");
    }

    /// The far end sends no more.
    pub fn eof(&mut self, conn: ConnId) -> AfterEof {
        let after = self.engine.eof(self.now, conn);
        self.perform(b"");
        let side = self.sides.get_mut(&key(conn)).expect("a connection");
        side.half_closed = true;
        if after == AfterEof::Close && side.open() {
            side.state = State::Closed;
            self.engine.lost(self.now, conn);
            self.perform(b"");
        }
        after
    }

    /// The far end resets the connection.
    pub fn reset(&mut self, conn: ConnId) {
        self.sides.get_mut(&key(conn)).expect("a connection").state = State::Aborted;
        self.engine.lost(self.now, conn);
        self.perform(b"");
    }

    pub fn blocked(&mut self, conn: ConnId, blocked: bool) {
        self.engine.write_blocked(self.now, conn, blocked);
        self.perform(b"");
    }

    /// What the plugins of the oldest open call see.
    pub fn view(&self) -> Option<View> {
        let (ex, serial, _) = *self.shown.first().expect("plugins were called");
        self.engine.plugin_view(ex, serial)
    }

    /// Decides the oldest open plugin call; whether it was shown an answer.
    pub fn decide(&mut self, decision: Decision) -> bool {
        let (ex, serial, response) = self.shown.remove(0);
        self.engine.plugin_done(self.now, ex, serial, decision);
        self.perform(b"");
        response
    }

    /// Moves time, tick by tick.
    pub fn advance(&mut self, by: Duration) {
        let ticks = by.as_millis() / 20;
        for _ in 0..ticks {
            self.now.mono = self.now.mono + Duration::from_millis(20);
            self.now.wall_ns += 20_000_000;
            self.engine.tick(self.now);
            self.perform(b"");
        }
    }

    pub fn seconds(&mut self, seconds: f64) {
        self.advance(Duration::from_secs_f64(seconds));
    }

    /// Carries out what the engine asks for until it asks for nothing more.
    pub fn perform(&mut self, input: &[u8]) {
        let mut input = input;
        loop {
            let mut records = Vec::new();
            let batch = self.engine.take_records(&mut records);
            self.note(&records, batch.records);
            let actions = self.engine.take_actions();
            let fresh = batch.records > 0 && self.durable;
            if actions.is_empty() && !fresh {
                if std::mem::take(&mut self.flush) {
                    self.engine.flush(self.now);
                    continue;
                }
                return;
            }
            let mut gone = Vec::new();
            for action in &actions {
                self.carry_out(action, input, &mut gone);
            }
            self.engine.recycle(actions);
            for conn in gone {
                self.engine.lost(self.now, conn);
            }
            if fresh {
                self.engine.durable(self.now, self.made);
            }
            input = b"";
        }
    }

    fn note(&mut self, bytes: &[u8], count: u32) {
        let mut rest = bytes;
        let mut seen = 0;
        while let Some(record) = crate::audit::codec::split(&mut rest).expect("a sound record") {
            let id = record.exchange().expect("an exchange id");
            self.records.push((id, record.kind == OUTCOME));
            if record.kind == OUTCOME {
                let mut facts = Facts::default();
                facts.read(&record).expect("a sound record");
                self.grpc.push(facts.grpc_status);
                let mut json = serde_json::Map::new();
                record.visit(&mut json).expect("a sound record");
                self.calls.extend(json.remove("llm"));
            }
            seen += 1;
        }
        assert_eq!(seen, count);
        self.made += u64::from(count);
    }

    fn carry_out(&mut self, action: &Action, input: &[u8], gone: &mut Vec<ConnId>) {
        match action {
            Action::Write { conn, data } | Action::Sealed { conn, data } => self.deliver(*conn, data),
            Action::WriteInput { conn, start, end } => self.deliver(*conn, &input[*start..*end]),
            Action::WriteEof(conn) => self.open_side(*conn, |s| s.eof = true),
            Action::Close(conn) => {
                self.open_side(*conn, |s| s.state = State::Closed);
                gone.push(*conn);
            }
            Action::Abort(conn) => {
                if self.side(*conn).open() {
                    self.open_side(*conn, |s| s.state = State::Aborted);
                    gone.push(*conn);
                }
            }
            Action::Pause(conn) => self.open_side(*conn, |s| assert!(!std::mem::replace(&mut s.paused, true))),
            Action::Resume(conn) => self.open_side(*conn, |s| assert!(std::mem::replace(&mut s.paused, false))),
            Action::Connect { up, address, .. } => {
                let before = self.sides.insert((true, *up), Side::new(State::Connecting, format!("{address:?}")));
                assert!(before.is_none_or(|s| matches!(s.state, State::Closed | State::Aborted)));
                self.asked.push(*up);
            }
            Action::Direct(_) => {}
            Action::Flush => self.flush = true,
            Action::Plugin { exchange, serial, response } => self.shown.push((*exchange, *serial, *response)),
        }
    }

    fn open_side(&mut self, conn: ConnId, change: impl FnOnce(&mut Side)) {
        let side = self.sides.get_mut(&key(conn)).expect("a connection");
        if side.open() {
            change(side);
        }
    }

    fn deliver(&mut self, conn: ConnId, bytes: &[u8]) {
        let side = self.sides.get_mut(&key(conn)).expect("a connection");
        assert!(bytes.is_empty() || !side.eof, "written after the end: {conn:?}");
        if side.open() {
            side.out.extend_from_slice(bytes);
        }
    }

    pub fn count(&self, counter: Counter) -> u64 {
        let snapshot = Snapshot::take(&self.shared, self.now.mono);
        let mut counters = snapshot.counters.iter();
        let found = counters.find(|n| n.name == counter.name() && n.attribute == counter.attribute());
        found.map_or(0, |n| n.value)
    }

    /// Outcomes so far; every exchange has at most one.
    pub fn outcomes(&self) -> usize {
        let mut ids: Vec<_> = self.records.iter().filter(|r| r.1).map(|r| r.0).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "an exchange has two outcomes");
        all
    }

    /// Nothing is under way: every intent has its outcome, no request is counted as in flight.
    pub fn assert_at_rest(&self) {
        assert_eq!(self.engine.in_flight(), 0);
        let outcomes: Vec<_> = self.records.iter().filter(|r| r.1).map(|r| r.0).collect();
        for (id, _) in self.records.iter().filter(|r| !r.1) {
            assert!(outcomes.contains(id), "an intent without outcome");
        }
        let active: u64 = Snapshot::take(&self.shared, self.now.mono).active.iter().map(|a| a.value).sum();
        assert_eq!(active, 0);
        self.engine.assert_consistent();
    }
}
