//! WebSocket: the handshake of every upgrade to it, and the relay of routes that read its messages.
//!
//! Rules:
//! 1. Every upgrade is checked on both sides, whatever the route does with the connection: what asks wrongly goes
//!    nowhere, what answers wrongly is a bad upstream. Each leg is asked in the words of its own protocol (RFC 6455,
//!    RFC 8441).
//! 2. A route with `websocket`, or with a guard, reads messages through [`Relay`]; every other one passes bytes, and this
//!    module sees nothing of them.
//! 3. Each side is parted from the exchange by itself, as the relay says: a client may be gone while its upstream is
//!    still being told. The exchange ends when both are.
//! 4. Messages are judged whole. Long ones are judged a part per tick, so that nobody else waits for them; who sent one
//!    is not read meanwhile.
//! 5. One deadline serves pings and closing: the exchange's step. The idle deadline of tunnels counts what was passed
//!    on, not pings that we ask for.

use super::connection::{pause, DownWire, Stage, UpWire};
use super::wheel::Timer;
use super::{AfterEof, Engine};
use crate::config::Fail;
use crate::error::Code;
use crate::guard::{self, ContentKind, Judging, Unjudgeable};
use crate::message::{Known, Method, Version};
use crate::observe::Counter;
use crate::revision::RoutePlan;
use crate::time::Instant;
use crate::websocket::frame::Opcode;
use crate::websocket::handshake::{Key, Opening, Refusal, Via};
use crate::websocket::{code, Closing, Options, Origin, Out, Relay, Side, Verdict};
use std::ops::Range;
use std::time::Duration;

/// From the first close frame to the end of both sides.
const CLOSE: Duration = Duration::from_secs(3);

/// Bytes of messages judged in one callback: a few milliseconds.
const JUDGED_AT_ONCE: usize = 256 << 10;

/// What judging even an empty message costs, in bytes.
const PER_MESSAGE: usize = 512;

/// An upgrade to WebSocket, from its request to its end.
pub struct Socket {
    opening: Opening,
    /// What an upstream of HTTP/1.1 is asked with.
    key: Key,
    /// Reads the messages, once the upstream has agreed.
    relay: Option<Relay>,
    /// Messages and bytes of each side that were counted.
    counted: [(u64, u64); 2],
    /// The judging of each side's message, and how much of it was taken.
    judging: [Option<(Box<Judging>, usize)>; 2],
    /// Judging goes on at the tick.
    queued: bool,
}

impl Engine {
    /// Checks an upgrade that is about to go upstream; false: it was refused.
    pub(super) fn open_socket(&mut self, ex: u32) -> bool {
        let entropy = self.random();
        let exchange = &mut self.exchanges[ex as usize];
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        let Some(plan) = plan else { return true };
        let via = if exchange.head.version == Version::Http2 { Via::Connect } else { Via::Upgrade };
        let reads = plan.websocket.as_ref();
        let fields = &mut exchange.head.fields;
        match Opening::read(fields, via, reads.is_none_or(|w| w.compression)) {
            Ok(_) if exchange.head.method != Method::Get => {
                self.refuse(ex, Code::BadRequest, Some("WebSocket is asked for with GET"));
                false
            }
            Ok(opening) => {
                let queued = false;
                let key = if reads.is_some() { opening.rewrite(fields, Via::Upgrade, entropy) } else { None };
                let key = key.unwrap_or_else(|| opening.ask(fields, entropy));
                let (counted, judging) = Default::default();
                exchange.socket = Some(Box::new(Socket { opening, key, relay: None, counted, judging, queued }));
                true
            }
            Err(Refusal::NotWebSocket) => {
                if plan.guard.any() {
                    // Bytes of a protocol nobody here reads would pass the guard: the request stands without it.
                    exchange.head.upgrade = false;
                    fields.remove_known(Known::Upgrade);
                }
                true
            }
            Err(Refusal::Version) => {
                exchange.notes.response_fields.append(b"sec-websocket-version", b"13");
                exchange.notes.response_fields.append(b"upgrade", b"websocket");
                self.refuse(ex, Code::UpgradeRequired, None);
                false
            }
            Err(Refusal::Malformed(detail)) => {
                self.refuse(ex, Code::BadRequest, Some(detail));
                false
            }
        }
    }

    /// Whether the connection `parent` can carry this upgrade now. If not, it waits, or was refused.
    pub(super) fn takes_sockets(&mut self, ex: u32, parent: u32) -> bool {
        let Some(UpWire::Http2(session)) = self.ups.get(parent as usize).map(|up| &up.wire) else { return false };
        match session.extended() {
            Some(true) => true,
            Some(false) => {
                self.forget_attempt(ex);
                self.refuse(ex, Code::BadUpstream, Some("the endpoint takes no WebSocket over HTTP/2 (RFC 8441)"));
                false
            }
            None => {
                let exchange = &mut self.exchanges[ex as usize];
                exchange.stage = Stage::Connecting;
                self.unsettled.push((parent, ex, exchange.serial));
                let plan = exchange.revision.as_ref().zip(exchange.service);
                let service = plan.map(|(rev, service)| rev.services[service as usize].connect_timeout);
                self.step_deadline(ex, service.unwrap_or(CLOSE));
                false
            }
        }
    }

    /// The endpoint has said what it takes: upgrades that waited for that are sent.
    pub(super) fn open_sockets(&mut self, parent: u32) {
        for ex in self.settled(parent) {
            let room = match self.ups.get_mut(parent as usize).map(|up| &mut up.wire) {
                Some(UpWire::Http2(session)) => session.has_room(),
                _ => false,
            };
            if room {
                self.send_on(ex, parent);
            } else {
                self.attempt_failed(ex, Code::NoEndpoint, super::upstream::Failure::Unprocessed);
            }
        }
    }

    /// The connection is gone, and with it what waited for its endpoint's word.
    pub(super) fn lose_unsettled(&mut self, parent: u32) {
        for ex in self.settled(parent) {
            self.attempt_failed(ex, Code::UpstreamReset, super::upstream::Failure::Unprocessed);
        }
    }

    fn settled(&mut self, parent: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let exchanges = &self.exchanges;
        self.unsettled.retain(|&(of, ex, serial)| {
            let waits = exchanges.get(ex as usize).is_some_and(|e| e.serial == serial && e.stage == Stage::Connecting);
            if of == parent && waits {
                found.push(ex);
            }
            of != parent
        });
        found
    }

    /// The upgrade cannot be, and the endpoint is not to blame.
    pub(super) fn fail_socket(&mut self, ex: u32, detail: &str) {
        self.forget_attempt(ex);
        self.refuse(ex, Code::BadUpstream, Some(detail));
    }

    /// The upstream switches protocols: checks that it answers what it was asked, and answers the client in its own
    /// words. False: the exchange was ended.
    pub(super) fn join_socket(&mut self, ex: u32) -> bool {
        let entropy = self.random();
        let exchange = &mut self.exchanges[ex as usize];
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        let (Some(socket), Some(plan)) = (exchange.socket.as_mut(), plan) else { return true };
        let up = exchange.up.and_then(|up| self.ups.get(up as usize));
        let streamed = up.is_some_and(|up| matches!(up.wire, UpWire::Stream { .. }));
        let key = (!streamed).then_some(&socket.key);
        let fields = &mut self.response.fields;
        let agreed = match plan.websocket {
            Some(_) => socket.opening.check(fields, key),
            None => socket.opening.check_plain(fields, key).map(|()| None),
        };
        match agreed {
            Ok(params) => {
                socket.opening.answer(fields);
                let options = plan.websocket.as_ref().map(|_| options(plan));
                socket.relay = options.map(|options| Relay::new(options, params, entropy, self.now.mono));
                true
            }
            Err(detail) => {
                exchange.upstream_failed = true;
                self.end_attempt(ex, 0, Some(Code::BadUpstream));
                self.refuse(ex, Code::BadUpstream, Some(detail));
                false
            }
        }
    }

    /// The client was told that the connection is open.
    pub(super) fn begin_socket(&mut self, ex: u32) {
        if self.is_relayed(ex) {
            if self.draining {
                self.relay(ex, None, b"", 0, false, |relay, now, out| relay.drain(now, out));
            }
            self.relay_on(ex, false);
        }
    }

    fn is_relayed(&self, ex: u32) -> bool {
        let exchange = self.exchanges.get(ex as usize);
        exchange.is_some_and(|e| e.stage == Stage::Tunnel && e.socket.as_ref().is_some_and(|s| s.relay.is_some()))
    }

    /// Bytes of `side`; false: nobody reads messages here.
    pub(super) fn socket_data(&mut self, ex: u32, side: Side, input: &[u8], range: Range<usize>, direct: bool) -> bool {
        if !self.is_relayed(ex) {
            return false;
        }
        let (base, bytes) = (range.start, &input[range]);
        let passed =
            self.relay(ex, Some(side), input, base, direct, |relay, now, out| relay.feed(side, bytes, now, out));
        self.relay_on(ex, passed);
        true
    }

    /// The transport of `side` is gone; false: nobody reads messages here.
    pub(super) fn socket_gone(&mut self, ex: u32, side: Side) -> bool {
        if !self.is_relayed(ex) {
            return false;
        }
        if side == Side::Upstream {
            self.drop_stream(ex);
        }
        self.relay(ex, Some(side), b"", 0, false, |relay, now, out| relay.gone(side, now, out));
        self.relay_on(ex, false);
        true
    }

    /// Takes the exchange's place off its HTTP/2 connection, which may be about to go itself.
    fn drop_stream(&mut self, ex: u32) {
        let up = self.exchanges[ex as usize].up;
        if up.is_some_and(|up| matches!(self.ups[up as usize].wire, UpWire::Stream { .. })) {
            self.drop_upstream(ex);
        }
    }

    /// `side` sends no more. Behind its close frame that is in order; else it is gone.
    pub(super) fn socket_eof(&mut self, ex: u32, side: Side) -> Option<AfterEof> {
        if !self.is_relayed(ex) {
            return None;
        }
        let exchange = &self.exchanges[ex as usize];
        let (down, up) = (exchange.down, exchange.up);
        if exchange.socket.as_ref().and_then(|s| s.relay.as_ref()).is_some_and(|r| r.said_close(side)) {
            return Some(AfterEof::KeepOpen);
        }
        // The place of a stream goes when it is parted; only a connection of its own is closed by the caller.
        let conn = match side {
            Side::Client => self.downs.get(down as usize).is_some_and(|d| !matches!(d.wire, DownWire::Stream { .. })),
            Side::Upstream => {
                up.and_then(|up| self.ups.get(up as usize)).is_some_and(|u| !matches!(u.wire, UpWire::Stream { .. }))
            }
        };
        self.socket_gone(ex, side);
        let kept = match side {
            Side::Client => self.downs.get(down as usize).is_some_and(|d| d.exchange == Some(ex)),
            Side::Upstream => up.and_then(|up| self.ups.get(up as usize)).is_some_and(|u| u.exchange == Some(ex)),
        };
        Some(if conn && !kept { AfterEof::Close } else { AfterEof::KeepOpen })
    }

    /// The client does not read what it is sent; false: nobody reads messages here.
    pub(super) fn socket_stalled(&mut self, ex: u32) -> bool {
        if !self.is_relayed(ex) {
            return false;
        }
        self.part_client(ex, false);
        self.socket_gone(ex, Side::Client)
    }

    /// Ends both sides in good order (1001); false: nobody reads messages here.
    pub(super) fn socket_drained(&mut self, ex: u32) -> bool {
        if !self.is_relayed(ex) {
            return false;
        }
        self.relay(ex, None, b"", 0, false, |relay, now, out| relay.drain(now, out));
        self.relay_on(ex, false);
        true
    }

    /// The worker drains: clients may come back elsewhere.
    pub(super) fn drain_sockets(&mut self) {
        let open: Vec<u32> = self.exchanges.iter().map(|(ex, _)| ex as u32).filter(|ex| self.is_relayed(*ex)).collect();
        for ex in open {
            self.socket_drained(ex);
        }
    }

    /// A ping is due, or the close takes too long.
    pub(super) fn socket_woken(&mut self, ex: u32) {
        if !self.is_relayed(ex) {
            return;
        }
        let exchange = &self.exchanges[ex as usize];
        let unread = !exchange.orphan && self.downs.get(exchange.down as usize).is_some_and(|d| d.pauses != 0);
        self.relay(ex, None, b"", 0, false, |relay, now, out| {
            if unread {
                relay.excuse_silence(now);
            }
            relay.tick(now, out);
        });
        self.relay_on(ex, false);
    }

    /// Long messages are judged on.
    pub(super) fn judge_on(&mut self) {
        for (ex, serial) in std::mem::take(&mut self.unjudged) {
            let exchange = self.exchanges.get_mut(ex as usize).filter(|e| e.serial == serial);
            if let Some(socket) = exchange.and_then(|e| e.socket.as_mut()) {
                socket.queued = false;
                self.relay_on(ex, false);
            }
        }
    }

    /// Lets the relay take one step and does what it asks for, except to judge. `from`: whose doing it is; ranges are of
    /// `input` from `base` on. Whether anything was passed on.
    fn relay(
        &mut self,
        ex: u32,
        from: Option<Side>,
        input: &[u8],
        base: usize,
        direct: bool,
        step: impl FnOnce(&mut Relay, Instant, &mut Vec<Out>),
    ) -> bool {
        let mut outs = std::mem::take(&mut self.outs);
        let exchange = &mut self.exchanges[ex as usize];
        let Some(Socket { relay: Some(relay), counted, .. }) = exchange.socket.as_deref_mut() else { return false };
        let open = relay.closing().is_none();
        step(relay, self.now.mono, &mut outs);
        if let Some(closing) = relay.closing().filter(|_| open && exchange.code.is_none()) {
            exchange.code = code_of(closing, from);
        }
        let numbers = [
            (Side::Client, Counter::WebSocketReceived, Counter::WebSocketBytesReceived),
            (Side::Upstream, Counter::WebSocketSent, Counter::WebSocketBytesSent),
        ];
        for ((side, messages, bytes), counted) in numbers.into_iter().zip(counted) {
            let now = (relay.messages(side), relay.bytes(side));
            if now != *counted {
                self.meter.add(messages, now.0 - counted.0);
                self.meter.add(bytes, now.1 - counted.1);
                *counted = now;
            }
        }
        let mut passed = false;
        for out in outs.drain(..) {
            match out {
                Out::Forward { to, range } => {
                    passed = true;
                    self.send_to(ex, to, input, base + range.start..base + range.end, direct);
                }
                Out::Send { to, bytes } => {
                    passed |= from.is_some_and(|from| from != to);
                    self.send_to(ex, to, &bytes, 0..bytes.len(), false);
                }
                Out::Message { .. } => {}
                Out::End { side: Side::Client, clean } => self.part_client(ex, clean),
                Out::End { side: Side::Upstream, clean: true } => self.part_upstream(ex),
                Out::End { side: Side::Upstream, clean: false } => self.drop_upstream(ex),
            }
        }
        self.outs = outs;
        passed
    }

    /// Judges what waits for it, ends what is over, and sees to deadlines and pauses.
    fn relay_on(&mut self, ex: u32, mut passed: bool) {
        let mut budget = JUDGED_AT_ONCE;
        while let Some(side) = self.next_to_judge(ex) {
            let Some(verdict) = self.judge_message(ex, side, &mut budget) else {
                let exchange = &mut self.exchanges[ex as usize];
                let Some(socket) = &mut exchange.socket else { return };
                if !std::mem::replace(&mut socket.queued, true) {
                    self.unjudged.push((ex, exchange.serial));
                }
                break;
            };
            passed |=
                self.relay(ex, Some(side), b"", 0, false, |relay, now, out| relay.verdict(side, verdict, now, out));
        }
        let Some(relay) = self.relay_of(ex) else { return };
        let (client, upstream) = (relay.is_closed(Side::Client), relay.is_closed(Side::Upstream));
        let (waits, answers) = (relay.is_waiting(Side::Client), relay.is_waiting(Side::Upstream));
        let deadline = relay.deadline();
        if client {
            self.part_client(ex, true);
        }
        if upstream {
            self.part_upstream(ex);
        }
        if client && upstream {
            self.end_attempt(ex, 101, None);
            self.write_outcome(ex);
            return self.complete(ex);
        }
        match deadline {
            Some(due) => self.wheel.set(&mut self.deadlines[ex as usize].step, due, Timer::Exchange(ex)),
            None => self.wheel.clear(&mut self.deadlines[ex as usize].step),
        }
        let exchange = &self.exchanges[ex as usize];
        let (down, up, orphan) = (exchange.down, exchange.up, exchange.orphan);
        if !orphan {
            self.pause_down(down, pause::JUDGED, waits);
        }
        if let Some(up) = up {
            self.pause_up(up, pause::JUDGED, answers);
        }
        if orphan || up.is_none() {
            return;
        }
        if passed {
            return self.tunnel_alive(ex);
        }
        self.tunnel_pauses(ex);
    }

    /// Whose message is judged next: the shorter one, so that a long one does not hold up the other direction. One that
    /// was begun waits for its tick.
    fn next_to_judge(&self, ex: u32) -> Option<Side> {
        let socket = self.exchanges.get(ex as usize)?.socket.as_ref()?;
        let relay = socket.relay.as_ref()?;
        let begun = |side: Side| socket.judging[usize::from(side == Side::Upstream)].is_some();
        let waiting = Side::BOTH.into_iter().filter(|side| !(socket.queued && begun(*side)));
        let length = |side: Side| relay.message(side).map(|(_, message)| (message.len(), side));
        waiting.filter_map(length).min_by_key(|(length, _)| *length).map(|(_, side)| side)
    }

    fn relay_of(&self, ex: u32) -> Option<&Relay> {
        self.exchanges.get(ex as usize)?.socket.as_ref()?.relay.as_ref()
    }

    fn send_to(&mut self, ex: u32, to: Side, input: &[u8], range: Range<usize>, direct: bool) {
        let exchange = &self.exchanges[ex as usize];
        match to {
            Side::Client if !exchange.orphan => self.client_bytes(exchange.down, input, range, direct),
            Side::Client => {}
            Side::Upstream => {
                if let Some(up) = exchange.up {
                    self.up_bytes(up, input, range, direct);
                }
            }
        }
    }

    /// Parts the exchange from its client, which is closed behind what was written, or cut.
    fn part_client(&mut self, ex: u32, clean: bool) {
        let by_us = self.relay_of(ex).and_then(Relay::closing).is_some_and(|c| c.by == Origin::Gateway);
        let exchange = &mut self.exchanges[ex as usize];
        if std::mem::replace(&mut exchange.orphan, true) {
            return;
        }
        let (id, up) = (exchange.down, exchange.up);
        if let Some(down) = self.downs.get_mut(id as usize) {
            down.exchange = None;
            // It may still be sending: closing at once would reset what we have just said.
            down.unread |= by_us;
            if !clean {
                self.abort_down(id);
            } else {
                if self.stream_of(id).is_some() {
                    self.client_eof(id);
                }
                self.close_down(id);
            }
        }
        if let Some(up) = up {
            self.pause_up(up, pause::PEER, false);
        }
    }

    /// Parts the exchange from its upstream, which is closed behind what was written.
    pub(super) fn part_upstream(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(up) = exchange.up.take() else { return };
        let (down, orphan) = (exchange.down, exchange.orphan);
        if let Some((session, stream)) = self.up_stream(up) {
            // A reset would overtake what was written: the place stays until the endpoint ends its half, too.
            session.end(stream, &Default::default());
            self.pause_up(up, u8::MAX, false);
            let place = &mut self.ups[up as usize];
            place.exchange = None;
            place.closing = true;
            self.wheel.set(&mut place.deadline, self.now.mono + CLOSE, Timer::Up(up));
            if place.read_closed {
                self.remove_place(up);
            }
        } else {
            if let Some(place) = self.ups.get_mut(up as usize) {
                place.exchange = None;
            }
            self.close_up(up);
        }
        if !orphan {
            self.pause_down(down, pause::PEER, false);
        }
    }

    /// Judges the message of `side` as far as `budget` goes; `None`: not to its end.
    fn judge_message(&mut self, ex: u32, side: Side, budget: &mut usize) -> Option<Verdict> {
        let exchange = &mut self.exchanges[ex as usize];
        let revision = exchange.revision.clone()?;
        let guard = &revision.routes[exchange.route? as usize].guard;
        let plan = if side == Side::Client { &guard.request } else { &guard.response };
        let Some(Socket { relay: Some(relay), judging, .. }) = exchange.socket.as_deref_mut() else { return None };
        let slot = &mut judging[usize::from(side == Side::Upstream)];
        let (kind, message) = relay.message(side)?;
        // As with bodies: an upstream may read a request whatever it is called, answers are judged if they are text.
        let plan = plan.as_ref().filter(|plan| !plan.is_empty() && (side == Side::Client || kind == Opcode::Text));
        let Some(plan) = plan else { return Some(Verdict::Pass) };
        let mut masked = Vec::new();
        let judged = 'judged: {
            if message.len() > guard.max_body {
                break 'judged Err(Unjudgeable::TooLong);
            }
            let begin = || (Box::new(Judging::new(plan, ContentKind::Unknown)), 0);
            let (judging, at) = slot.get_or_insert_with(begin);
            while *at < message.len() {
                if *budget == 0 {
                    return None;
                }
                let piece = &message[*at..message.len().min(*at + *budget)];
                match judging.feed(piece) {
                    Ok(taken) => {
                        *at += taken;
                        *budget -= taken;
                    }
                    Err(error) => break 'judged Err(error),
                }
            }
            *budget = budget.saturating_sub(PER_MESSAGE);
            judging.finish(message, &mut masked)
        };
        *slot = None;
        match judged {
            Ok(judgement) => {
                let ruleset = plan.ruleset().clone();
                self.note_findings(ex, Some(ruleset), &judgement.findings, side == Side::Upstream);
                Some(match judgement.verdict {
                    guard::Verdict::Pass => Verdict::Pass,
                    guard::Verdict::Masked => Verdict::Replace(masked),
                    guard::Verdict::Block { .. } => {
                        self.exchanges[ex as usize].code = Some(Code::GuardBlocked);
                        Verdict::Block(code::POLICY)
                    }
                })
            }
            Err(error) => {
                self.meter.add(Counter::GuardUnjudged, 1);
                if guard.fail == Fail::Open {
                    return Some(Verdict::Pass);
                }
                let (code, close) = match (error, side) {
                    (Unjudgeable::TooLong, Side::Client) => (Code::BodyTooLarge, code::TOO_BIG),
                    (Unjudgeable::TooLong, Side::Upstream) => (Code::UpstreamTooLarge, code::TOO_BIG),
                    _ => (Code::GuardFailed, code::POLICY),
                };
                self.exchanges[ex as usize].code = Some(code);
                Some(Verdict::Block(close))
            }
        }
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.entropy.draw().to_le_bytes()[..piece.len()]);
        }
        bytes
    }
}

fn options(plan: &RoutePlan) -> Options {
    let websocket = plan.websocket.clone().unwrap_or_default();
    Options {
        max_message: websocket.max_message.0,
        ping_interval: websocket.ping_interval.0,
        close_timeout: CLOSE,
        judge_client: plan.guard.request.as_ref().is_some_and(|plan| !plan.is_empty()),
        judge_upstream: plan.guard.response.as_ref().is_some_and(|plan| !plan.is_empty()),
    }
}

/// What the record says of how it ended; nothing of an end in good order.
fn code_of(closing: Closing, from: Option<Side>) -> Option<Code> {
    match (closing.code, closing.by, from) {
        (code::ABNORMAL, Origin::Client | Origin::Gateway, _) => Some(Code::ClientClosed),
        (code::ABNORMAL, Origin::Upstream, _) => Some(Code::UpstreamReset),
        (code::TOO_BIG, Origin::Gateway, Some(Side::Client)) => Some(Code::BodyTooLarge),
        (code::TOO_BIG, Origin::Gateway, Some(Side::Upstream)) => Some(Code::UpstreamTooLarge),
        (_, Origin::Gateway, Some(Side::Client)) => Some(Code::BadRequest),
        (_, Origin::Gateway, Some(Side::Upstream)) => Some(Code::BadUpstream),
        _ => None,
    }
}
