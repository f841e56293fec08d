//! HTTP/2 connections to endpoints: many exchanges on one, each in a place of its own.
//!
//! A stream's place is an entry of `ups` like a connection's. A connection that was asked for is counted as opening
//! until its endpoint can take requests, so that many exchanges wait for one connection instead of opening many.

use super::connection::{Stage, Up, UpWire};
use super::upstream::Failure;
use super::wheel::Timer;
use super::{Action, ConnId, Engine};
use crate::error::Code;
use crate::http2::{self, ClientEvent};
use crate::observe::Counter;
use crate::websocket::Side;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// By endpoint.
pub(super) type Muxes = BTreeMap<u64, Mux>;

/// The HTTP/2 connections of one endpoint.
#[derive(Default)]
pub(super) struct Mux {
    /// Open ones that may take requests.
    open: SmallVec<[u32; 4]>,
    /// Asked for, or not yet greeted.
    pub opening: u32,
}

impl Engine {
    /// The session and stream of a place that is one.
    pub(super) fn up_stream(&mut self, id: u32) -> Option<(&mut http2::Client, u32)> {
        let UpWire::Stream { parent, stream } = self.ups.get(id as usize)?.wire else { return None };
        self.flush_later(ConnId::Up(parent));
        match &mut self.ups.get_mut(parent as usize)?.wire {
            UpWire::Http2(session) => Some((session, stream)),
            _ => None,
        }
    }

    /// A connection to this endpoint that can take one more request.
    pub(super) fn mux_room(&mut self, endpoint: u64) -> Option<u32> {
        let mux = self.mux.get_mut(&endpoint)?;
        let mut found = None;
        mux.open.retain(|id| match self.ups.get_mut(*id as usize).filter(|up| !up.closing).map(|up| &mut up.wire) {
            Some(UpWire::Http2(session)) => {
                if found.is_none() && session.has_room() {
                    found = Some(*id);
                }
                !session.is_draining()
            }
            _ => false,
        });
        found
    }

    /// Exchanges may wait for a connection that is being opened: there is room for `waiting` more.
    pub(super) fn mux_opening(&self, endpoint: u64, max_streams: u32) -> bool {
        let opening = self.mux.get(&endpoint).map_or(0, |mux| mux.opening);
        (self.pool.queued(endpoint) as u64) < u64::from(opening) * u64::from(max_streams)
    }

    /// A connection asked for will speak HTTP/2.
    pub(super) fn mux_asked(&mut self, endpoint: u64) {
        self.mux.entry(endpoint).or_default().opening += 1;
    }

    /// A connection asked for came to nothing, or is open.
    pub(super) fn mux_settled(&mut self, endpoint: u64) {
        if let Some(mux) = self.mux.get_mut(&endpoint) {
            mux.opening = mux.opening.saturating_sub(1);
        }
    }

    /// Begins HTTP/2 on an open connection.
    pub(super) fn begin_mux(&mut self, id: u32, limits: http2::ClientLimits) {
        let up = &mut self.ups[id as usize];
        up.wire = UpWire::Http2(Box::new(http2::Client::new(limits, self.now.mono)));
        self.serve_later(ConnId::Up(id));
        self.flush_later(ConnId::Up(id));
    }

    pub(super) fn mux_input(&mut self, id: u32, input: &[u8]) {
        let now = self.now.mono;
        if let Some(UpWire::Http2(session)) = self.ups.get_mut(id as usize).map(|up| &mut up.wire) {
            let calm = session.feed(input, now);
            self.serve_later(ConnId::Up(id));
            self.flush_later(ConnId::Up(id));
            if !calm {
                self.meter.add(Counter::FloodsStopped, 1);
                self.lose_mux(id);
                self.close_up(id);
            }
        }
    }

    pub(super) fn flush_mux(&mut self, id: u32) {
        self.send_mux(id);
        if let Some(up) = self.ups.get_mut(id as usize) {
            up.flushing = false;
        }
    }

    fn send_mux(&mut self, id: u32) {
        loop {
            self.serve_mux(id);
            let Some(up) = self.ups.get_mut(id as usize).filter(|up| !up.closing) else { return };
            let UpWire::Http2(session) = &mut up.wire else { return };
            let more = session.output(self.actions.buffer(ConnId::Up(id)));
            self.actions.drop_empty();
            if !more {
                return;
            }
        }
    }

    /// Takes what the session has to tell.
    pub(super) fn serve_mux(&mut self, id: u32) {
        loop {
            let Some(up) = self.ups.get_mut(id as usize).filter(|up| !up.closing) else { return };
            let UpWire::Http2(session) = &mut up.wire else { return };
            let Some(event) = session.next(&mut self.response) else { return };
            match event {
                ClientEvent::Ready => self.mux_ready(id),
                ClientEvent::Settled => self.open_sockets(id),
                ClientEvent::Interim { owner } => {
                    if let Some(ex) = self.ups.get(owner as usize).and_then(|up| up.exchange) {
                        self.interim(ex);
                        self.place_goes_on(owner);
                    }
                }
                ClientEvent::Head { owner } => {
                    if let Some(ex) = self.ups.get(owner as usize).and_then(|up| up.exchange) {
                        let exchange = &mut self.exchanges[ex as usize];
                        if exchange.head.upgrade && self.response.status == 200 {
                            // RFC 8441 §5: what 101 says in HTTP/1.1.
                            self.response.status = 101;
                            self.response.fields.set_known(crate::message::Known::Upgrade, b"websocket");
                        }
                        let sent = exchange.sent.unwrap_or(self.now.mono);
                        exchange.upstream_ns = self.now.mono.since(sent).as_nanos() as u64;
                        self.answer_head(ex);
                        self.place_goes_on(owner);
                    }
                }
                ClientEvent::Data { owner, bytes } => {
                    if let Some(ex) = self.ups.get(owner as usize).and_then(|up| up.exchange) {
                        self.answer_data(ex, &bytes, 0..bytes.len(), false);
                        self.place_goes_on(owner);
                    }
                }
                ClientEvent::End { owner } => {
                    std::mem::swap(&mut self.trailers, &mut session.trailers);
                    if let Some(ex) = self.ups.get(owner as usize).and_then(|up| up.exchange) {
                        if self.exchanges[ex as usize].stage == Stage::Tunnel {
                            // If that was the tunnel's end, the place is gone with it.
                            self.upstream_eof(owner);
                        } else {
                            self.answer_end(ex);
                        }
                    } else {
                        self.end_place(owner);
                    }
                }
                ClientEvent::Reset { owner, unprocessed } => {
                    let failure = if unprocessed { Failure::Unprocessed } else { Failure::Plain };
                    self.place_failed(owner, Code::UpstreamReset, failure);
                }
                ClientEvent::Malformed { owner } => self.place_failed(owner, Code::BadUpstream, Failure::Plain),
                ClientEvent::Writable { owner } => self.up_blocked(owner, false),
                ClientEvent::Closed => {
                    self.lose_mux(id);
                    self.close_up(id);
                    return;
                }
            }
        }
    }

    /// The endpoint gave a sign of life on this place.
    fn place_goes_on(&mut self, id: u32) {
        let ex = self.ups.get(id as usize).and_then(|up| up.exchange);
        if let Some(ex) = ex.filter(|ex| self.exchanges.get(*ex as usize).is_some_and(|e| e.up == Some(id))) {
            self.answer_goes_on(ex);
        }
    }

    fn place_failed(&mut self, id: u32, code: Code, failure: Failure) {
        let Some(ex) = self.ups.get(id as usize).and_then(|up| up.exchange) else { return self.end_place(id) };
        if self.exchanges[ex as usize].stage == Stage::Tunnel {
            if !self.socket_gone(ex, Side::Upstream) {
                self.tunnel_cut(ex);
            }
            return;
        }
        self.attempt_failed(ex, code, failure);
    }

    /// The connection can take requests: first that of the exchange which asked for it, then whoever waits.
    fn mux_ready(&mut self, id: u32) {
        let up = &mut self.ups[id as usize];
        let (endpoint, asked) = (up.endpoint, up.exchange.take());
        self.wheel.clear(&mut up.deadline);
        let counted = std::mem::take(&mut up.opening);
        let mux = self.mux.entry(endpoint).or_default();
        mux.opening = mux.opening.saturating_sub(u32::from(counted));
        mux.open.push(id);
        if let Some(ex) = asked {
            self.exchanges[ex as usize].up = None;
            self.send_on(ex, id);
        }
        self.mux_freed(id);
    }

    /// Gives the exchange a place on the connection and sends its request.
    pub(super) fn send_on(&mut self, ex: u32, parent: u32) {
        if self.exchanges[ex as usize].socket.is_some() && !self.takes_sockets(ex, parent) {
            return;
        }
        let from = &mut self.ups[parent as usize];
        from.served += 1;
        self.wheel.clear(&mut from.deadline);
        let (endpoint, max_head, served) = (from.endpoint, from.max_head, from.served);
        let id = self.ups.vacant_key() as u32;
        let wire = UpWire::Stream { parent, stream: u32::MAX };
        let place = Up::new(wire, ex, endpoint, max_head, self.ups_left.take(id));
        self.ups.insert(Box::new(Up { connected: true, served: served - 1, ..place }));
        self.send(ex, id);
    }

    /// A tunnel's place whose exchange is over has ended on the endpoint's side, too.
    fn end_place(&mut self, id: u32) {
        if self.ups.get(id as usize).is_some_and(|up| up.closing && matches!(up.wire, UpWire::Stream { .. })) {
            self.remove_place(id);
        }
    }

    /// Takes a place off its connection; a stream that is not complete both ways is reset.
    pub(super) fn remove_place(&mut self, id: u32) {
        if let Some((session, stream)) = self.up_stream(id) {
            session.close(stream);
        }
        let Some(place) = self.ups.try_remove(id as usize) else { return };
        self.ups_left.keep(id, place.deadline);
        let UpWire::Stream { parent, .. } = place.wire else { return };
        self.mux_freed(parent);
    }

    /// A stream of this connection came free.
    fn mux_freed(&mut self, id: u32) {
        let Some(up) = self.ups.get_mut(id as usize).filter(|up| !up.closing) else { return };
        let endpoint = up.endpoint;
        loop {
            let Some(UpWire::Http2(session)) = self.ups.get_mut(id as usize).map(|up| &mut up.wire) else { return };
            if !session.has_room() {
                break;
            }
            let Some((ex, service, index)) = self.next_waiter(endpoint) else { break };
            let Some(revision) = self.exchanges[ex as usize].revision.clone() else { return };
            self.meter.add(Counter::PoolReuse, 1);
            self.begin_attempt(ex, &revision.services[service as usize], index);
            self.send_on(ex, id);
        }
        let Some(UpWire::Http2(session)) = self.ups.get(id as usize).map(|up| &up.wire) else { return };
        if session.streams() == 0 && !self.unsettled.iter().any(|waiting| waiting.0 == id) {
            if session.is_draining() {
                return self.close_up(id);
            }
            let (max_idle, timeout) = self.revision.pooling(endpoint);
            if max_idle == 0 {
                return self.close_up(id);
            }
            let up = &mut self.ups[id as usize];
            self.wheel.set(&mut up.deadline, self.now.mono + timeout, Timer::Up(id));
        }
    }

    /// The connection is gone or as good as gone: its exchanges fail.
    pub(super) fn lose_mux(&mut self, id: u32) {
        let Some(up) = self.ups.get_mut(id as usize) else { return };
        let UpWire::Http2(session) = &mut up.wire else { return };
        // First of all: no place that comes free may be given to anybody.
        session.abandon();
        let (owners, endpoint) = (session.owners(), up.endpoint);
        if let Some(mux) = self.mux.get_mut(&endpoint) {
            mux.open.retain(|other| *other != id);
        }
        self.lose_unsettled(id);
        for place in owners {
            // Used before and closed without a byte of the answer: as a kept HTTP/1 connection may be.
            let place_of = &self.ups[place as usize];
            let waits = |ex: u32| self.exchanges[ex as usize].stage == Stage::Sending;
            let race = place_of.served > 1 && place_of.exchange.is_some_and(waits);
            self.place_failed(place, Code::UpstreamReset, if race { Failure::Race } else { Failure::Plain });
        }
    }

    /// Bytes towards an endpoint that are not framed here.
    pub(super) fn up_bytes(&mut self, id: u32, input: &[u8], range: std::ops::Range<usize>, direct: bool) {
        match self.up_stream(id) {
            Some((session, stream)) => {
                if session.data(stream, &input[range]) {
                    self.ups[id as usize].write_blocked = true;
                }
            }
            None => self.forward(ConnId::Up(id), input, range, direct),
        }
    }

    /// Our half of a tunnel is at its end.
    pub(super) fn up_eof(&mut self, id: u32) {
        match self.up_stream(id) {
            Some((session, stream)) => session.end(stream, &Default::default()),
            None => self.actions.push(Action::WriteEof(ConnId::Up(id))),
        }
    }

    /// An endpoint's place cannot take more, or can again.
    pub(super) fn up_blocked(&mut self, id: u32, blocked: bool) {
        let Some(up) = self.ups.get_mut(id as usize) else { return };
        up.write_blocked = blocked;
        if let UpWire::Http2(session) = &mut up.wire {
            session.set_blocked(blocked);
            return self.flush_later(ConnId::Up(id));
        }
        if let Some(ex) = up.exchange.and_then(|ex| self.exchanges.get(ex as usize)) {
            let down = ex.down;
            if !ex.orphan {
                self.pause_down(down, super::pause::PEER, blocked);
            }
        }
    }

    pub(super) fn pause_up(&mut self, id: u32, reason: u8, on: bool) {
        // One that is not open yet is paused, if need be, when its request is sent.
        if let Some(up) = self.ups.get_mut(id as usize).filter(|up| up.connected) {
            let before = up.pauses;
            up.pauses = if on { before | reason } else { before & !reason };
            if (before == 0) == (up.pauses == 0) || up.closing {
                return;
            }
            match self.up_stream(id) {
                Some((session, stream)) => session.pause(stream, on),
                None => {
                    let conn = ConnId::Up(id);
                    self.actions.push(if on { Action::Pause(conn) } else { Action::Resume(conn) });
                }
            }
        }
    }
}
