//! The exchange: the one state machine that takes a request through every other module.
//!
//! Owns all connections and exchanges of one worker. It is fed what happened ([`Engine::input`],
//! [`Engine::connected`], [`Engine::tick`] …), and what has to happen comes back as [`Action`]s; it does no
//! IO and never looks at a clock.
//!
//! The way of a request (each step in the file named):
//!
//! ```text
//! downstream  bytes → head → begin → policies → plugin? → guard? → dispatch
//! upstream    intent durable? → endpoint → connection → request out → answer's bytes
//! answer      policies → guard? → head, body, end → outcome → durable? → released
//! finish      outcome record, metrics, policy ends, the connections' next use
//! ```
//!
//! Rules:
//! 1. Every exchange ends in [`Engine::complete`], exactly once, whatever happens to its connections.
//! 2. An intent is recorded before the first byte goes upstream; an outcome before the answer's end.
//! 3. An exchange pins its revision when its head is complete and keeps it to the end.
//! 4. Only a connection whose message ended cleanly is used again.
//! 5. Bytes that cannot be passed on are kept up to one read, and their source is paused.
//! 6. Numbers of connections are valid until `lost`; an exchange's number only together with its serial.

mod action;
mod answer;
mod client;
mod coder;
mod connection;
mod downstream;
mod finish;
mod grpc;
pub mod identity;
mod judge;
mod ledger;
mod llm;
mod mux;
mod plugin;
mod pooling;
mod secure;
mod session;
mod tcp;
#[cfg(test)]
mod tests;
mod timeout;
mod upstream;
mod websocket;
mod wheel;

pub use action::{Action, ConnId};
pub use ledger::Batch;
pub use plugin::{Change, Decision, View};

use crate::balance::{Balancer, Pool};
use crate::message::{Fields, Peer, RequestHead, ResponseHead};
use crate::observe::{Counter, Gauge, Meter};
use crate::revision::Revision;
use crate::shared::Shared;
use crate::time::{Instant, Now};
use crate::tls::{self, TlsStore};
use action::Actions;
use connection::{pause, Deadlines, Down, DownWire, Exchange, Up};
use identity::Entropy;
use ledger::Ledger;
use slab::Slab;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;
use wheel::{Left, Timer, Wheel};

/// How long a client that was told off may go on sending before it is cut off.
const LINGER: Duration = Duration::from_secs(2);

/// Requests begun in one callback. One read may hold thousands that are answered here at once; the rest wait
/// for the tick, so that no connection holds the loop.
const BEGUN_AT_ONCE: u32 = 128;

/// Pieces of bodies taken in one callback: one read may hold tens of thousands of chunks.
const PIECES_AT_ONCE: u32 = 2048;

/// One worker's data plane.
pub struct Engine {
    shared: Arc<Shared>,
    worker: usize,
    revision: Arc<Revision>,
    downs: Slab<Box<Down>>,
    ups: Slab<Box<Up>>,
    exchanges: Slab<Box<Exchange>>,
    /// By the numbers of `exchanges`.
    deadlines: Vec<Deadlines>,
    /// Boxed, because they move between here and `exchanges` all the time.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Exchange>>,
    /// The answer head at hand; only valid within one event.
    response: ResponseHead,
    /// Trailers of the answer that has just ended.
    trailers: Fields,
    balancer: Balancer,
    /// Idle connections, and who waits for one (exchange, serial).
    pool: Pool<u32, (u32, u64)>,
    /// Endpoints that speak HTTP/2.
    mux: mux::Muxes,
    /// Entries of `downs` that are streams.
    streams: usize,
    /// Upgrades (HTTP/2 connection, exchange, serial) whose endpoint has not said yet whether it takes such.
    unsettled: Vec<(u32, u32, u64)>,
    /// Exchanges with messages whose judging goes on at the tick.
    unjudged: Vec<(u32, u64)>,
    /// What a relay has asked for.
    outs: Vec<crate::websocket::Out>,
    /// Connections of TCP routes that were just accepted.
    opened: Vec<u32>,
    /// Connections whose session has something to tell.
    dirty: Vec<ConnId>,
    /// Connections whose session has something to send. Answers of one turn of the loop leave together: what costs
    /// most is the write.
    unflushed: Vec<ConnId>,
    /// What handshakes are made with.
    tls: Option<Arc<TlsStore>>,
    /// Decrypted bytes of the callback at hand.
    plain: Vec<u8>,
    /// Encoded bytes of the callback at hand.
    coded: Vec<u8>,
    /// Filled by requests that nobody will answer any more.
    refused_head: RequestHead,
    meter: Meter,
    wheel: Wheel,
    downs_left: Left,
    ups_left: Left,
    woken: Vec<Timer>,
    actions: Actions,
    ledger: Ledger,
    entropy: Entropy,
    now: Now,
    date: String,
    date_second: u64,
    serial: u64,
    /// Clients' connections with kept input that may be usable now.
    ready: Vec<u32>,
    /// Clients' connections whose next requests wait for the tick.
    deferred: Vec<u32>,
    /// Requests begun in this callback.
    begun: u32,
    /// Pieces of bodies taken in this callback.
    pieces: u32,
    /// Exchanges with held bytes that may go out when the callback ends.
    held: Vec<(u32, u64)>,
    draining: bool,
    max_downs: usize,
    last_tick: Option<Instant>,
    /// When the gauges that take counting were last set.
    last_count: Instant,
    /// Virtual keys.
    keys: Arc<crate::ai::KeyTable>,
    /// How targets of models fared.
    targets: crate::ai::Targets,
    /// Answers of models.
    answers: crate::ai::cache::Cache,
    /// What a stream is translated into.
    translated: Vec<u8>,
    /// Every revision that may still serve a request.
    published: Vec<Weak<Revision>>,
}

/// How long an idle connection of a draining worker may still bring a request.
///
/// Closing at once would reset what a client is sending at that moment, or a connection just accepted.
const DRAIN_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// What to do with a connection whose peer has closed its sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterEof {
    KeepOpen,
    Close,
}

impl Engine {
    /// `seed` comes from the system's random source.
    pub fn new(shared: Arc<Shared>, worker: usize, seed: [u64; 4], revision: Arc<Revision>, now: Now) -> Engine {
        Engine {
            meter: Meter::new(shared.clone(), worker),
            wheel: Wheel::new(now.mono),
            max_downs: revision.max_connections,
            balancer: Balancer::default(),
            pool: Pool::default(),
            mux: mux::Muxes::default(),
            streams: 0,
            unsettled: Vec::new(),
            unjudged: Vec::new(),
            outs: Vec::new(),
            opened: Vec::new(),
            dirty: Vec::new(),
            unflushed: Vec::new(),
            tls: None,
            plain: Vec::new(),
            coded: Vec::new(),
            refused_head: RequestHead::default(),
            downs_left: Left::default(),
            ups_left: Left::default(),
            downs: Slab::new(),
            ups: Slab::new(),
            exchanges: Slab::new(),
            deadlines: Vec::new(),
            spare: Vec::new(),
            response: ResponseHead::default(),
            trailers: Fields::default(),
            woken: Vec::new(),
            actions: Actions::default(),
            ledger: Ledger::default(),
            entropy: Entropy::new(seed),
            now,
            date: String::new(),
            date_second: 0,
            serial: 0,
            ready: Vec::new(),
            deferred: Vec::new(),
            begun: 0,
            pieces: 0,
            held: Vec::new(),
            draining: false,
            last_tick: None,
            last_count: Instant(0),
            keys: Arc::default(),
            targets: crate::ai::Targets::default(),
            answers: crate::ai::cache::Cache::default(),
            translated: Vec::new(),
            published: vec![Arc::downgrade(&revision)],
            shared,
            worker,
            revision,
        }
    }

    /// Requests whose head is not yet complete use `revision` from now on.
    pub fn publish(&mut self, revision: Arc<Revision>) {
        self.max_downs = revision.max_connections;
        self.balancer.retain(&revision.services);
        self.published.retain(|old| old.strong_count() > 0);
        self.published.push(Arc::downgrade(&revision));
        self.revision = revision;
    }

    pub fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    /// A client connected to the entrypoint called `entrypoint`. `None`: close it at once.
    pub fn accept(
        &mut self,
        now: Now,
        entrypoint: &str,
        ip: IpAddr,
        port: u16,
        local: Option<SocketAddr>,
    ) -> Option<u32> {
        self.now = now;
        let index = self.revision.entrypoint(entrypoint);
        let plan = index.map(|i| &self.revision.entrypoints[i as usize]);
        let (Some(index), Some(plan)) = (index, plan) else { return None };
        // While draining only those still come that were accepted before the listener closed: they are served.
        if self.connections() >= self.max_downs {
            self.meter.add(Counter::ConnectionsRefused, 1);
            return None;
        }
        let ip = crate::config::ipnet_text::canonical(ip);
        let proxy_header = !plan.proxy_protocol.is_empty();
        if proxy_header && !plan.proxy_protocol.iter().any(|net| net.contains(ip)) {
            self.meter.add(Counter::ConnectionsRefused, 1);
            return None;
        }
        let trusted = plan.trusted_peers.iter().any(|net| net.contains(ip));
        let wait = if proxy_header { plan.head_timeout } else { plan.idle_timeout.min(plan.head_timeout) };
        let wait = if self.draining { wait.min(DRAIN_GRACE) } else { wait };
        let entry = self.downs.vacant_entry();
        let id = entry.key() as u32;
        let tls = match (&plan.tls, &self.tls) {
            (false, _) => None,
            (true, Some(store)) => store.server(&plan.name).cloned(),
            (true, None) => None,
        };
        if plan.tls && tls.is_none() {
            // No certificates for it: nothing is served in the clear instead.
            self.meter.add(Counter::ConnectionsRefused, 1);
            return None;
        }
        let wait = tls.as_ref().map_or(wait, |tls| tls.handshake_timeout());
        let hello = self.revision.tcp.looks_at_hello(index);
        let tls = tls.map(|plan| Box::new(tls::Server::new(plan, now.wall_ns / 1_000_000_000)));
        let wire = if plan.http2_enabled { DownWire::Undecided } else { DownWire::Http1 };
        let bytes = plan.tcp && tls.is_none() && !hello && !proxy_header;
        let peer = Peer { ip, port, entrypoint: index, trusted, tls: None };
        let down = Down::new(wire, self.revision.clone(), peer, self.downs_left.take(id, self.now.mono));
        let mut down = Box::new(Down { tls, hello, local, proxy_header, ..down });
        // A new connection must say something within the head deadline.
        self.wheel.set(&mut down.deadline, now.mono + wait, Timer::Down(id));
        entry.insert(down);
        self.meter.add(Counter::ConnectionsAccepted, 1);
        self.meter.set(Gauge::ConnectionsOpen, self.connections() as u64);
        if bytes {
            // Nobody waits for such a client to speak first.
            self.opened.push(id);
        }
        Some(id)
    }

    /// What sessions have gathered to send goes out.
    pub fn flush(&mut self, now: Now) {
        self.now = now;
        self.begun = 0;
        for conn in std::mem::take(&mut self.unflushed) {
            match conn {
                ConnId::Down(id) => self.flush_session(id),
                ConnId::Up(id) => self.flush_mux(id),
            }
        }
        self.settle();
    }

    /// The transport of a client that was accepted can be written to.
    pub fn opened(&mut self, now: Now) {
        self.now = now;
        while let Some(id) = self.opened.pop() {
            self.begin_bytes(id);
        }
        self.settle();
    }

    /// Bytes from a peer.
    pub fn input(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        self.now = now;
        self.begun = 0;
        match conn {
            ConnId::Down(id) => self.downstream_raw(id, bytes),
            ConnId::Up(id) => self.upstream_raw(id, bytes),
        }
        self.settle();
    }

    /// The peer sends no more.
    pub fn eof(&mut self, now: Now, conn: ConnId) -> AfterEof {
        self.now = now;
        let after = match conn {
            ConnId::Down(id) => self.downstream_eof(id),
            ConnId::Up(id) => self.upstream_eof(id),
        };
        self.settle();
        after
    }

    /// The connection is gone; its number may be given to another.
    pub fn lost(&mut self, now: Now, conn: ConnId) {
        self.now = now;
        match conn {
            ConnId::Down(id) => self.downstream_lost(id),
            ConnId::Up(id) => self.upstream_lost(id),
        }
        self.settle();
    }

    /// The transport's buffer is full (`blocked`) or drained again.
    pub fn write_blocked(&mut self, now: Now, conn: ConnId, blocked: bool) {
        self.now = now;
        match conn {
            ConnId::Down(id) => self.down_blocked(id, blocked),
            ConnId::Up(id) => self.up_blocked(id, blocked),
        }
        self.settle();
    }

    /// Answers announce the close from now on. Idle connections stay for [`DRAIN_GRACE`]: a request may be on its way.
    pub fn drain(&mut self, now: Now) {
        self.now = now;
        self.draining = true;
        for (id, down) in &mut self.downs {
            let carries = match &down.wire {
                DownWire::Http2(session) => session.streams() > 0,
                DownWire::Stream { .. } => true,
                _ => down.exchange.is_some() || !down.kept.is_empty() || down.server.in_request(),
            };
            if !carries {
                self.wheel.set(&mut down.deadline, now.mono + DRAIN_GRACE, Timer::Down(id as u32));
            }
        }
        self.drain_sessions();
        self.drain_sockets();
        self.settle();
    }

    /// Client connections still open.
    pub fn open_connections(&self) -> usize {
        self.connections()
    }

    /// Exchanges not yet complete.
    pub fn in_flight(&self) -> usize {
        self.exchanges.len()
    }

    /// The caller caught a panic or exception at its own door.
    pub fn count_panic(&mut self) {
        self.meter.add(Counter::CallbackPanics, 1);
    }

    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What has to be done now. Give the vector back with [`Engine::recycle`].
    pub fn take_actions(&mut self) -> Vec<Action> {
        if self.tls.is_some() && self.actions.iter().any(|a| a.connection().is_some_and(|c| self.is_sealed(c))) {
            self.seal_actions();
        }
        self.actions.take()
    }

    pub fn recycle(&mut self, actions: Vec<Action>) {
        self.actions.recycle(actions);
    }

    /// Records made since the last call, to be handed to the log before any action is carried out.
    pub fn take_records(&mut self, into: &mut Vec<u8>) -> Batch {
        let batch = self.ledger.take(into);
        if batch.records > 0 {
            self.meter.add(Counter::AuditBytes, into.len() as u64);
        }
        batch
    }

    /// The first `count` records of this engine's life are on disk.
    pub fn durable(&mut self, now: Now, count: u64) {
        self.now = now;
        self.ledger.durable = count;
        while let Some((ex, serial)) = self.ledger.next_released() {
            self.released(ex, serial);
        }
        self.settle();
    }

    /// The log cannot be written (or can again). Exchanges that wait are decided by their route.
    pub fn audit_broken(&mut self, now: Now, broken: bool) {
        self.now = now;
        self.ledger.broken = broken;
        if broken {
            for (ex, serial) in self.ledger.give_up() {
                self.not_durable(ex, serial);
            }
        }
        self.settle();
    }

    /// Loose ends of one callback: input that became usable, sessions, held bytes that need not wait.
    fn settle(&mut self) {
        loop {
            if let Some(id) = self.ready.pop() {
                self.downstream_resume(id);
            } else if let Some(conn) = self.dirty.pop() {
                match conn {
                    ConnId::Down(id) => self.serve_session(id),
                    ConnId::Up(id) => self.serve_mux(id),
                }
            } else if let Some((ex, serial)) = self.held.pop() {
                self.flush_held(ex, serial);
            } else {
                (self.begun, self.pieces) = (0, 0);
                return;
            }
        }
    }
}
