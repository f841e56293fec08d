//! HTTP/2 connections of clients: their requests become exchanges, each in a place of its own.
//!
//! A stream's place is an entry of `downs` like a connection's; it goes when both its answer was sent and its exchange
//! is complete. Deadlines are the places': the connection itself has one only while it carries no request.

use super::connection::{Down, DownWire, Exchange};
use super::wheel::Timer;
use super::{Action, AfterEof, ConnId, Engine};
use crate::http2::{self, Reset, ServerEvent};
use crate::observe::Counter;

/// Bytes a session is given at a time: it digests all it has before it tells of the first.
const SLICE: usize = 16 << 10;

impl Engine {
    /// Begins HTTP/2 on a connection: `input` starts with the client's preface, or a part of it.
    pub(super) fn begin_session(&mut self, id: u32, input: &[u8]) {
        let now = self.now.mono;
        let down = &mut self.downs[id as usize];
        let plan = &down.revision.entrypoints[down.peer.entrypoint as usize];
        down.wire = DownWire::Http2(Box::new(http2::Server::new(plan.http2, plan.limits, now)));
        let wait = plan.idle_timeout.min(plan.head_timeout);
        self.wheel.set(&mut down.deadline, now + wait, Timer::Down(id));
        self.session_input(id, input);
    }

    pub(super) fn session_input(&mut self, id: u32, input: &[u8]) {
        let now = self.now.mono;
        for slice in input.chunks(SLICE) {
            let Some(DownWire::Http2(session)) = self.downs.get_mut(id as usize).map(|d| &mut d.wire) else { return };
            let calm = session.feed(slice, now);
            if !calm {
                self.meter.add(Counter::FloodsStopped, 1);
            }
            self.serve_session(id);
            if !calm {
                break;
            }
        }
        self.flush_later(ConnId::Down(id));
    }

    /// The session of this connection is asked for what it has to tell before the callback ends.
    pub(super) fn serve_later(&mut self, conn: ConnId) {
        if self.dirty.last() != Some(&conn) {
            self.dirty.push(conn);
        }
    }

    /// What the session of this connection has to send goes out when this turn of the loop is done.
    pub(super) fn flush_later(&mut self, conn: ConnId) {
        let flushing = match conn {
            ConnId::Down(id) => self.downs.get_mut(id as usize).map(|d| &mut d.flushing),
            ConnId::Up(id) => self.ups.get_mut(id as usize).map(|u| &mut u.flushing),
        };
        if flushing.is_some_and(|flushing| !std::mem::replace(flushing, true)) {
            if self.unflushed.is_empty() {
                self.actions.push(Action::Flush);
            }
            self.unflushed.push(conn);
        }
    }

    pub(super) fn flush_session(&mut self, id: u32) {
        self.send_session(id);
        if let Some(down) = self.downs.get_mut(id as usize) {
            down.flushing = false;
        }
    }

    fn send_session(&mut self, id: u32) {
        loop {
            self.serve_session(id);
            let Some(down) = self.downs.get_mut(id as usize).filter(|d| !d.closing) else { return };
            let DownWire::Http2(session) = &mut down.wire else { return };
            let more = session.output(self.actions.buffer(ConnId::Down(id)));
            self.actions.drop_empty();
            if !more {
                return;
            }
        }
    }

    /// Takes what the session has to tell.
    pub(super) fn serve_session(&mut self, id: u32) {
        let mut fresh: Option<Box<Exchange>> = None;
        loop {
            if self.begun >= super::BEGUN_AT_ONCE {
                self.defer(id);
                break;
            }
            let ex = fresh.get_or_insert_with(|| self.spare.pop().unwrap_or_default());
            let Some(down) = self.downs.get_mut(id as usize).filter(|d| !d.closing) else { break };
            let DownWire::Http2(session) = &mut down.wire else { break };
            let Some(event) = session.next(&mut ex.head) else { break };
            match event {
                ServerEvent::Request { stream } => {
                    self.begun += 1;
                    let place = self.open_stream(id, stream);
                    let ex = fresh.take().unwrap_or_default();
                    let upgrade = ex.head.upgrade;
                    self.begin(place, ex);
                    if upgrade {
                        // Nothing of what follows is for the endpoint before it has agreed (CVE-2026-2833).
                        self.pause_down(place, super::pause::KEPT, true);
                    }
                }
                ServerEvent::Malformed { stream, violation } => {
                    self.begun += 1;
                    self.meter.add(Counter::ParseErrors, 1);
                    let place = self.open_stream(id, stream);
                    let ex = fresh.take().unwrap_or_default();
                    let ex = self.adopt(place, ex);
                    self.exchanges[ex as usize].request_complete = true;
                    self.refuse_and_close(ex, violation.code, Some(violation.detail));
                }
                ServerEvent::Data { owner, bytes } => self.stream_data(owner, &bytes),
                ServerEvent::End { owner } => {
                    let trailers = std::mem::take(&mut session.trailers);
                    self.stream_end(owner, trailers);
                }
                ServerEvent::Reset { owner } => self.stream_gone(owner),
                ServerEvent::Writable { owner } => self.down_blocked(owner, false),
                ServerEvent::Sent { owner } => {
                    if let Some(place) = self.downs.get_mut(owner as usize) {
                        place.sent = true;
                        if place.exchange.is_none() {
                            self.remove_stream(owner, Reset::NoError);
                        }
                    }
                }
                ServerEvent::Closed => {
                    self.close_down(id);
                    break;
                }
            }
        }
        self.spare.extend(fresh);
    }

    fn open_stream(&mut self, parent: u32, stream: u32) -> u32 {
        let id = self.downs.vacant_key() as u32;
        let from = &mut self.downs[parent as usize];
        from.served += 1;
        self.wheel.clear(&mut from.deadline);
        let (revision, peer, early, local) = (from.revision.clone(), from.peer.clone(), from.early, from.local);
        let place = Down::new(DownWire::Stream { parent, stream }, revision, peer, self.downs_left.take(id));
        let place = Box::new(Down { early, local, ..place });
        let plan = &from.revision.entrypoints[from.peer.entrypoint as usize];
        let last = self.draining || (plan.max_requests > 0 && from.served >= plan.max_requests);
        self.downs.insert(place);
        self.streams += 1;
        if let DownWire::Http2(session) = &mut self.downs[parent as usize].wire {
            session.name(stream, id);
            if last {
                session.drain();
            }
        }
        id
    }

    fn stream_data(&mut self, id: u32, bytes: &[u8]) {
        let Some(place) = self.downs.get(id as usize).filter(|p| !p.closing) else { return };
        let Some(ex) = place.exchange else { return };
        if self.exchanges[ex as usize].stage == super::connection::Stage::Tunnel {
            self.tunnel_to_up(ex, bytes, 0, false);
        } else {
            self.request_data(id, bytes, 0..bytes.len(), false);
        }
    }

    fn stream_end(&mut self, id: u32, trailers: crate::message::Fields) {
        let Some(place) = self.downs.get_mut(id as usize).filter(|p| !p.closing) else { return };
        place.server.trailers = trailers;
        let Some(ex) = place.exchange else { return };
        let exchange = &self.exchanges[ex as usize];
        if exchange.head.upgrade {
            if self.downstream_eof(id) == AfterEof::Close {
                self.close_down(id);
            }
        } else if !exchange.request_complete {
            self.request_end(id);
        }
    }

    /// The client wants no answer any more.
    fn stream_gone(&mut self, id: u32) {
        let Some(place) = self.downs.get_mut(id as usize) else { return };
        let ex = place.exchange.take();
        self.remove_stream(id, Reset::Cancel);
        if let Some(ex) = ex {
            self.exchanges[ex as usize].orphan = true;
            self.client_left(ex);
        }
    }

    /// The exchange is complete: the place goes as soon as what was written is sent.
    pub(super) fn end_stream(&mut self, id: u32) {
        let Some(place) = self.downs.get_mut(id as usize) else { return };
        place.exchange = None;
        if place.sent {
            return self.remove_stream(id, Reset::NoError);
        }
        let wait = place.revision.entrypoints[place.peer.entrypoint as usize].body_timeout;
        place.closing = true;
        self.wheel.set(&mut place.deadline, self.now.mono + wait, Timer::Down(id));
    }

    pub(super) fn remove_stream(&mut self, id: u32, reset: Reset) {
        if let Some((session, stream)) = self.stream_of(id) {
            session.close(stream, reset);
        }
        let Some(place) = self.downs.try_remove(id as usize) else { return };
        self.downs_left.keep(id, place.deadline);
        self.streams -= 1;
        if let Some(ex) = place.exchange {
            self.exchanges[ex as usize].orphan = true;
        }
        let DownWire::Stream { parent, .. } = place.wire else { return };
        let Some(down) = self.downs.get_mut(parent as usize).filter(|d| !d.closing) else { return };
        if let DownWire::Http2(session) = &down.wire {
            if session.streams() == 0 {
                let plan = &down.revision.entrypoints[down.peer.entrypoint as usize];
                let wait = if self.draining { super::DRAIN_GRACE } else { plan.idle_timeout };
                self.wheel.set(&mut down.deadline, self.now.mono + wait, Timer::Down(parent));
            }
        }
    }

    /// The connection's end: what the session still has to say is written, its requests are given up.
    pub(super) fn end_session(&mut self, id: u32) {
        let Some(DownWire::Http2(session)) = self.downs.get_mut(id as usize).map(|d| &mut d.wire) else { return };
        let mut head = std::mem::take(&mut self.refused_head);
        session.go_away(h2::Reason::NO_ERROR);
        while session.next(&mut head).is_some() {}
        session.output(self.actions.buffer(ConnId::Down(id)));
        self.actions.drop_empty();
        self.refused_head = head;
        // Whatever else comes is not for us: closing at once would reset what we have just said.
        self.downs[id as usize].unread = true;
        self.lose_streams(id);
    }

    /// The connection is gone or as good as gone.
    pub(super) fn lose_streams(&mut self, id: u32) {
        let owners = match self.downs.get(id as usize).map(|d| &d.wire) {
            Some(DownWire::Http2(session)) => session.owners(),
            _ => return,
        };
        for place in owners {
            self.stream_gone(place);
        }
    }

    /// The next requests of this connection wait for the tick.
    pub(super) fn defer(&mut self, id: u32) {
        if let Some(down) = self.downs.get_mut(id as usize) {
            if !std::mem::replace(&mut down.deferred, true) {
                self.deferred.push(id);
            }
        }
    }

    /// A client's place cannot take more, or can again.
    pub(super) fn down_blocked(&mut self, id: u32, blocked: bool) {
        let Some(down) = self.downs.get_mut(id as usize) else { return };
        down.write_blocked = blocked;
        let wait = down.revision.entrypoints[down.peer.entrypoint as usize].body_timeout;
        let ex = down.exchange;
        if let DownWire::Http2(session) = &mut down.wire {
            session.set_blocked(blocked);
            let idle = session.streams() == 0;
            if blocked {
                self.wheel.set(&mut down.deadline, self.now.mono + wait, Timer::Down(id));
            } else if !idle {
                self.wheel.clear(&mut down.deadline);
            }
            return self.flush_later(ConnId::Down(id));
        }
        if down.closing {
            return;
        }
        if blocked {
            self.wheel.set(&mut down.deadline, self.now.mono + wait, Timer::Down(id));
        } else if ex.is_none() {
            self.ready.push(id);
        } else if !self.request_open(id) {
            self.wheel.clear(&mut self.downs[id as usize].deadline);
        }
        let up = ex.and_then(|ex| self.exchanges.get(ex as usize)).and_then(|ex| ex.up);
        if let Some(up) = up {
            self.pause_up(up, super::pause::PEER, blocked);
            if let (false, Some(ex)) = (blocked, ex) {
                self.answer_goes_on(ex);
            }
        }
    }

    /// An HTTP/2 connection whose deadline has passed.
    pub(super) fn session_woken(&mut self, id: u32) {
        let down = &self.downs[id as usize];
        if down.write_blocked {
            // It reads nothing at all.
            self.meter.add(Counter::TimeoutBody, 1);
            self.lose_streams(id);
            return self.abort_down(id);
        }
        self.meter.add(Counter::TimeoutIdle, 1);
        self.close_down(id);
    }

    pub(super) fn drain_sessions(&mut self) {
        let sessions: Vec<u32> =
            self.downs.iter().filter(|(_, d)| matches!(d.wire, DownWire::Http2(_))).map(|(id, _)| id as u32).collect();
        for id in sessions {
            if let DownWire::Http2(session) = &mut self.downs[id as usize].wire {
                session.drain();
            }
            self.flush_later(ConnId::Down(id));
        }
    }

    /// Connections of clients, streams not counted.
    pub(super) fn connections(&self) -> usize {
        self.downs.len() - self.streams
    }
}
