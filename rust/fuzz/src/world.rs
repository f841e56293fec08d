//! Clients and upstreams around one engine in virtual time: carries out what it asks for and watches it.
//!
//! Rules it holds the engine to: no action on a connection that never was, Pause and Resume alternate, nothing is
//! written after our own end, `lost` follows every close, and what goes on the ledger can be read.

use pygate_core::audit::codec;
use pygate_core::config::Config;
use pygate_core::exchange::{Action, AfterEof, ConnId, Engine};
use pygate_core::revision::Revision;
use pygate_core::shared::{Layout, Shared};
use pygate_core::time::{Instant, Now};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Connecting,
    Open,
    Gone,
}

/// A connection as its far end knows it.
#[derive(Debug)]
pub struct Side {
    pub conn: ConnId,
    pub state: State,
    /// Everything that was sent to it, and by it.
    pub out: Vec<u8>,
    pub sent: Vec<u8>,
    /// It said that it sends no more; we said so.
    pub half_closed: bool,
    pub eof: bool,
    paused: bool,
    pub blocked: bool,
    /// Requests on it that were answered, for whoever counts them.
    pub answered: usize,
}

pub struct World {
    pub engine: Engine,
    now: Now,
    /// Every connection there ever was, in order.
    pub sides: Vec<Side>,
    by_conn: BTreeMap<(bool, u32), usize>,
    /// Exchange ids of intents and of outcomes.
    pub intents: Vec<[u8; 16]>,
    pub outcomes: Vec<[u8; 16]>,
    /// The next connections asked for fail, or stay open questions.
    pub fail_connects: bool,
    pub hold_connects: bool,
    pub durable: bool,
    made: u64,
    /// Sessions are to be flushed.
    flush: bool,
}

pub fn revision(toml: &str) -> Arc<Revision> {
    let config: Config = toml::from_str(toml).expect("a configuration");
    match Revision::compile(&config, "0123456789ab", 1, Some(super::texts::ruleset())) {
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
    pub fn new(revision: Arc<Revision>) -> World {
        let file = tempfile::tempfile().expect("a file");
        // Small, as clearing it would take most of the time; the metrics' part is then too small and takes no counts.
        let mut layout = Layout::for_workers(1);
        layout.words.iter_mut().for_each(|words| *words = (*words).min(1 << 10));
        let shared = Arc::new(Shared::format(&file, layout).expect("shared memory"));
        let now = Now { mono: Instant(1_000_000_000_000), wall_ns: 1_760_000_000_000_000_000 };
        World {
            engine: Engine::new(shared, 0, [1, 2, 3, 4], revision, now),
            now,
            sides: Vec::new(),
            by_conn: BTreeMap::new(),
            intents: Vec::new(),
            outcomes: Vec::new(),
            fail_connects: false,
            hold_connects: false,
            durable: true,
            made: 0,
            flush: false,
        }
    }

    fn add(&mut self, conn: ConnId, state: State) -> usize {
        let number = self.sides.len();
        if let Some(before) = self.by_conn.insert(key(conn), number) {
            assert_eq!(self.sides[before].state, State::Gone, "{conn:?} was given twice");
        }
        let (out, sent) = Default::default();
        let (half_closed, eof, paused, blocked) = Default::default();
        self.sides.push(Side { conn, state, out, sent, half_closed, eof, paused, blocked, answered: 0 });
        number
    }

    /// Number of the new client's side.
    pub fn client(&mut self) -> Option<usize> {
        let id = self.engine.accept(self.now, "web", [192, 0, 2, 7].into(), 4711, None)?;
        let number = self.add(ConnId::Down(id), State::Open);
        self.engine.opened(self.now);
        self.perform(b"");
        Some(number)
    }

    /// Number of the newest upstream connection in `state`.
    pub fn upstream(&self, state: State) -> Option<usize> {
        self.sides.iter().rposition(|s| matches!(s.conn, ConnId::Up(_)) && s.state == state)
    }

    /// The far end sends, unless it said that it would not, or is not read.
    pub fn send(&mut self, side: usize, bytes: &[u8]) {
        let Side { state: State::Open, half_closed: false, conn, .. } = self.sides[side] else { return };
        self.sides[side].sent.extend_from_slice(bytes);
        self.engine.input(self.now, conn, bytes);
        self.perform(bytes);
    }

    pub fn eof(&mut self, side: usize) {
        let Side { state: State::Open, half_closed: false, conn, .. } = self.sides[side] else { return };
        self.sides[side].half_closed = true;
        let after = self.engine.eof(self.now, conn);
        self.perform(b"");
        if after == AfterEof::Close {
            self.reset(side);
        }
    }

    pub fn reset(&mut self, side: usize) {
        let Side { state: State::Open, conn, .. } = self.sides[side] else { return };
        self.sides[side].state = State::Gone;
        self.engine.lost(self.now, conn);
        self.perform(b"");
    }

    pub fn block(&mut self, side: usize) {
        let Side { state: State::Open, conn, blocked, .. } = self.sides[side] else { return };
        self.sides[side].blocked = !blocked;
        self.engine.write_blocked(self.now, conn, !blocked);
        self.perform(b"");
    }

    pub fn connected(&mut self, side: usize) {
        let ConnId::Up(id) = self.sides[side].conn else { return };
        self.sides[side].state = State::Open;
        self.engine.connected(self.now, id);
        self.perform(b"");
    }

    pub fn connect_failed(&mut self, side: usize, timed_out: bool) {
        let ConnId::Up(id) = self.sides[side].conn else { return };
        self.sides[side].state = State::Gone;
        self.engine.connect_failed(self.now, id, timed_out);
        self.perform(b"");
    }

    /// Moves time in ticks.
    pub fn advance(&mut self, by: Duration, tick: Duration) {
        let mut left = by;
        while left > Duration::ZERO {
            let step = tick.min(left);
            self.now.mono = self.now.mono + step;
            self.now.wall_ns += step.as_nanos() as u64;
            self.engine.tick(self.now);
            self.perform(b"");
            left -= step;
        }
    }

    /// Records that were made become durable.
    pub fn sync(&mut self) {
        self.engine.durable(self.now, self.made);
        self.perform(b"");
    }

    pub fn drain(&mut self) {
        self.engine.drain(self.now);
        self.perform(b"");
    }

    /// Carries out what the engine asks for until it asks for nothing more.
    fn perform(&mut self, input: &[u8]) {
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
            let (mut gone, mut asked) = (Vec::new(), Vec::new());
            for action in &actions {
                self.carry_out(action, input, &mut gone, &mut asked);
            }
            self.engine.recycle(actions);
            input = b"";
            for conn in gone {
                self.engine.lost(self.now, conn);
            }
            if fresh {
                self.engine.durable(self.now, self.made);
            }
            for side in asked {
                let ConnId::Up(id) = self.sides[side].conn else { continue };
                if self.fail_connects {
                    self.sides[side].state = State::Gone;
                    self.engine.connect_failed(self.now, id, false);
                } else if !self.hold_connects {
                    self.sides[side].state = State::Open;
                    self.engine.connected(self.now, id);
                }
            }
        }
    }

    fn note(&mut self, bytes: &[u8], count: u32) {
        let (mut rest, mut seen) = (bytes, 0);
        while let Some(record) = codec::split(&mut rest).expect("a record that can be read") {
            let id = record.exchange().expect("an exchange id");
            let list = if record.kind == codec::OUTCOME { &mut self.outcomes } else { &mut self.intents };
            assert!(!list.contains(&id), "an exchange has two records of a kind");
            list.push(id);
            seen += 1;
        }
        assert_eq!(seen, count);
        self.made += u64::from(count);
    }

    fn side(&mut self, conn: ConnId) -> &mut Side {
        &mut self.sides[self.by_conn[&key(conn)]]
    }

    fn carry_out(&mut self, action: &Action, input: &[u8], gone: &mut Vec<ConnId>, asked: &mut Vec<usize>) {
        match action {
            Action::Write { conn, data } | Action::Sealed { conn, data } => self.deliver(*conn, data),
            Action::WriteInput { conn, start, end } => self.deliver(*conn, &input[*start..*end]),
            Action::WriteEof(conn) => self.side(*conn).eof = true,
            Action::Close(conn) | Action::Abort(conn) => {
                let side = self.side(*conn);
                if side.state == State::Open {
                    side.state = State::Gone;
                    gone.push(*conn);
                }
            }
            Action::Pause(conn) => assert!(!std::mem::replace(&mut self.side(*conn).paused, true), "paused twice"),
            Action::Resume(conn) => assert!(std::mem::replace(&mut self.side(*conn).paused, false), "resumed twice"),
            Action::Connect { up, .. } => asked.push(self.add(ConnId::Up(*up), State::Connecting)),
            Action::Direct(_) => {}
            Action::Flush => self.flush = true,
            Action::Plugin { .. } => panic!("no plugin is configured"),
        }
    }

    fn deliver(&mut self, conn: ConnId, bytes: &[u8]) {
        let side = self.side(conn);
        assert!(bytes.is_empty() || !side.eof, "written after the end: {conn:?}");
        assert!(side.state != State::Connecting, "written before it was open: {conn:?}");
        if side.state == State::Open {
            side.out.extend_from_slice(bytes);
        }
    }
}
