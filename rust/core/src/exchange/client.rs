//! Towards the client: bytes, heads, ends and breaks, whatever it speaks.
//!
//! Everything the engine sends to or asks of a client's side goes through here; only this module and `session` know
//! that a place may be a stream of an HTTP/2 connection.

use super::connection::{DownWire, Exchange};
use super::wheel::Timer;
use super::{identity, Action, ConnId, Engine};
use crate::error::Code;
use crate::http1::write::{self, Framing};
use crate::http2::{self, Reset};
use crate::message::{Fields, Known};
use base64::Engine as _;

impl Engine {
    /// The session and stream of a place that is one; `None` for a connection of its own.
    pub(super) fn stream_of(&mut self, id: u32) -> Option<(&mut http2::Server, u32)> {
        let DownWire::Stream { parent, stream } = self.downs.get(id as usize)?.wire else { return None };
        self.flush_later(ConnId::Down(parent));
        match &mut self.downs.get_mut(parent as usize)?.wire {
            DownWire::Http2(session) => Some((session, stream)),
            _ => None,
        }
    }

    /// Whether the request's own end was read.
    pub(super) fn request_open(&self, id: u32) -> bool {
        self.downs.get(id as usize).is_some_and(|down| match down.wire {
            DownWire::Stream { .. } => down.exchange.is_some_and(|ex| !self.exchanges[ex as usize].request_complete),
            _ => down.server.in_request(),
        })
    }

    /// An interim answer.
    pub(super) fn client_interim(&mut self, id: u32) {
        let response = std::mem::take(&mut self.response);
        if let Some((session, stream)) = self.stream_of(id) {
            session.interim(stream, &response);
        } else {
            let out = self.actions.buffer(ConnId::Down(id));
            write::response_head(out, &response, Framing::None, false, false, |_| {});
        }
        self.response = response;
    }

    pub(super) fn client_continue(&mut self, id: u32) {
        if let Some((session, stream)) = self.stream_of(id) {
            let head = crate::message::ResponseHead { status: 100, ..Default::default() };
            session.interim(stream, &head);
        } else {
            self.actions.buffer(ConnId::Down(id)).extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// The head in `self.response` with what the gateway adds to it.
    pub(super) fn client_head(&mut self, ex: u32, code: Option<Code>, hold: bool) {
        let exchange = &self.exchanges[ex as usize];
        let (id, serial, framing) = (exchange.down, exchange.serial, exchange.framing);
        let revision = exchange.revision.clone();
        let plan = revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        let is_call = exchange.grpc.is_some();
        let expose = plan.is_some_and(|p| p.expose_revision).then_some(revision.as_ref()).flatten();
        let uuid = identity::uuid(&exchange.id);
        let wall = self.now.wall_ns;
        let needs_date = !self.response.fields.has(Known::Date);
        if needs_date && self.date_second != wall / 1_000_000_000 {
            self.date_second = wall / 1_000_000_000;
            self.date = identity::http_date(wall);
        }
        if exchange.orphan {
            return;
        }
        if hold {
            self.held.push((ex, serial));
        }
        let date = std::mem::take(&mut self.date);
        let extra = |add: &mut dyn FnMut(&[u8], &[u8])| {
            add(b"x-request-id", &uuid);
            if needs_date {
                add(b"date", date.as_bytes());
            }
            if let Some(code) = code {
                add(b"x-pygate-error", code.name().as_bytes());
            }
            if let Some(revision) = expose {
                add(b"x-pygate-revision", revision.name.as_bytes());
            }
        };
        if matches!(self.downs.get(id as usize).map(|d| &d.wire), Some(DownWire::Stream { .. })) {
            let response = std::mem::take(&mut self.response);
            if let Some((session, stream)) = self.stream_of(id) {
                session.hold(stream, hold);
                session.head(stream, &response, |add| {
                    extra(add);
                    // Calls know where their messages end, and take every field for metadata.
                    if let (Framing::Exact(n), false) = (framing, is_call) {
                        add(b"content-length", itoa::Buffer::new().format(n).as_bytes());
                    }
                });
            }
            self.response = response;
        } else {
            let exchange = &mut self.exchanges[ex as usize];
            let old = exchange.head.version == crate::message::Version::Http10;
            let close = exchange.close_after;
            let out = if hold { &mut exchange.held } else { self.actions.buffer(ConnId::Down(id)) };
            write::response_head(out, &self.response, framing, close, old && !close, |out| {
                extra(&mut |name, value| write::field(out, name, value));
            });
        }
        self.date = date;
    }

    /// A piece of the answer's body, framed as the head has announced. `last`: it completes the answer, and must wait
    /// for its record.
    pub(super) fn client_data(
        &mut self,
        ex: u32,
        input: &[u8],
        range: std::ops::Range<usize>,
        direct: bool,
        last: bool,
    ) {
        let id = self.exchanges[ex as usize].down;
        self.exchanges[ex as usize].last_held |= last;
        if let Some((session, stream)) = self.stream_of(id) {
            if last {
                session.hold(stream, true);
            }
            let full = session.data(stream, &input[range]);
            if full {
                self.down_blocked(id, true);
            }
            return;
        }
        let conn = ConnId::Down(id);
        let exchange = &mut self.exchanges[ex as usize];
        if last {
            exchange.held.extend_from_slice(&input[range]);
            return;
        }
        if !exchange.held.is_empty() {
            self.actions.buffer(conn).append(&mut exchange.held);
        }
        if exchange.framing == Framing::Chunked {
            write::chunk_size(self.actions.buffer(conn), range.len());
            self.forward(conn, input, range, direct);
            self.actions.buffer(conn).extend_from_slice(b"\r\n");
        } else {
            self.forward(conn, input, range, direct);
        }
    }

    /// The end mark of the answer; with `waits` it is held until its record is on disk.
    pub(super) fn client_end(&mut self, ex: u32, trailers: &Fields, waits: bool) {
        let exchange = &self.exchanges[ex as usize];
        if exchange.orphan {
            return;
        }
        let (id, framing) = (exchange.down, exchange.framing);
        self.exchanges[ex as usize].last_held |= waits;
        if let Some((session, stream)) = self.stream_of(id) {
            if waits {
                session.hold(stream, true);
            }
            session.end(stream, trailers);
            return;
        }
        if framing == Framing::Chunked {
            let exchange = &mut self.exchanges[ex as usize];
            let out = if waits || !exchange.held.is_empty() {
                &mut exchange.held
            } else {
                self.actions.buffer(ConnId::Down(id))
            };
            write::last_chunk(out, trailers);
        }
    }

    /// What was held may go.
    pub(super) fn client_release(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        if exchange.orphan {
            return;
        }
        let id = exchange.down;
        exchange.last_held = false;
        if !exchange.held.is_empty() {
            self.actions.buffer(ConnId::Down(id)).append(&mut exchange.held);
        } else if let Some((session, stream)) = self.stream_of(id) {
            session.hold(stream, false);
        }
    }

    /// Drops what was held; true when that was all of the answer, so that another can take its place.
    pub(super) fn client_withhold(&mut self, ex: u32) -> bool {
        let exchange = &mut self.exchanges[ex as usize];
        let id = exchange.down;
        let all = exchange.held.starts_with(b"HTTP/1.1 ");
        exchange.held.clear();
        exchange.last_held = false;
        match self.stream_of(id) {
            Some((session, stream)) => {
                let all = session.unanswered(stream);
                session.discard(stream);
                all
            }
            None => all,
        }
    }

    /// Bytes through a tunnel.
    pub(super) fn client_bytes(&mut self, id: u32, input: &[u8], range: std::ops::Range<usize>, direct: bool) {
        match self.stream_of(id) {
            Some((session, stream)) => {
                if session.data(stream, &input[range]) {
                    self.down_blocked(id, true);
                }
            }
            None => self.forward(ConnId::Down(id), input, range, direct),
        }
    }

    /// Our half of a tunnel is at its end.
    pub(super) fn client_eof(&mut self, id: u32) {
        match self.stream_of(id) {
            Some((session, stream)) => session.end(stream, &Fields::default()),
            None => self.actions.push(Action::WriteEof(ConnId::Down(id))),
        }
    }

    pub(super) fn pause_down(&mut self, id: u32, reason: u8, on: bool) {
        if let Some(down) = self.downs.get_mut(id as usize) {
            let before = down.pauses;
            down.pauses = if on { before | reason } else { before & !reason };
            if (before == 0) == (down.pauses == 0) || down.closing {
                return;
            }
            match self.stream_of(id) {
                Some((session, stream)) => session.pause(stream, on),
                None => self.actions.push(if on {
                    Action::Pause(ConnId::Down(id))
                } else {
                    Action::Resume(ConnId::Down(id))
                }),
            }
        }
    }

    /// Closes after what was written; nothing more is sent, and what still comes is dropped.
    ///
    /// While the client may still be sending, only our side is closed at first: a socket closed with input
    /// unread is reset, and the reset overtakes the answer (RFC 9112 §9.6).
    pub(super) fn close_down(&mut self, id: u32) {
        let Some(down) = self.downs.get_mut(id as usize) else { return };
        if down.closing {
            return;
        }
        match down.wire {
            DownWire::Stream { .. } => return self.end_stream(id),
            DownWire::Http2(_) => self.end_session(id),
            _ => {}
        }
        let Some(down) = self.downs.get_mut(id as usize) else { return };
        down.closing = true;
        let conn = ConnId::Down(id);
        let linger = (down.unread || down.server.in_request() || !down.kept.is_empty()) && !down.read_closed;
        down.kept = Vec::new();
        let unwritten = down.revision.entrypoints[down.peer.entrypoint as usize].body_timeout;
        let wait = if linger { super::LINGER } else { unwritten };
        self.wheel.set(&mut down.deadline, self.now.mono + wait, Timer::Down(id));
        if linger {
            if std::mem::take(&mut down.pauses) != 0 {
                self.actions.push(Action::Resume(conn));
            }
            self.actions.push(Action::WriteEof(conn));
        } else {
            self.actions.push(Action::Close(conn));
        }
    }

    /// Breaks off: the client must see that what it got is not all.
    pub(super) fn abort_down(&mut self, id: u32) {
        let Some(down) = self.downs.get_mut(id as usize) else { return };
        down.kept = Vec::new();
        match down.wire {
            DownWire::Stream { .. } => self.remove_stream(id, Reset::Internal),
            _ => {
                down.closing = true;
                self.wheel.clear(&mut down.deadline);
                self.actions.push(Action::Abort(ConnId::Down(id)));
            }
        }
    }
}

/// Lines every request upstream gets, whatever the endpoint speaks.
pub(super) fn forwarding_lines(
    exchange: &Exchange,
    ip_text: Option<&[u8]>,
    traceparent: &[u8],
    add: &mut dyn FnMut(&[u8], &[u8]),
) {
    let head = &exchange.head;
    add(b"x-request-id", &identity::uuid(&exchange.id));
    add(b"traceparent", traceparent);
    if exchange.llm.is_some() {
        // Who asked is no provider's business.
        return;
    }
    if let Some(ip) = ip_text {
        add(b"x-forwarded-for", ip);
    }
    if let Some(certificate) = exchange.peer.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
        // RFC 9440: the DER as a byte sequence (RFC 9651 §3.3.5).
        let mut value = String::from(":");
        base64::engine::general_purpose::STANDARD.encode_string(&certificate.der, &mut value);
        value.push(':');
        add(b"client-cert", value.as_bytes());
    }
    if exchange.early && !head.fields.has(Known::EarlyData) {
        add(b"early-data", b"1");
    }
    if !head.fields.has(Known::XForwardedProto) {
        let https = head.scheme == crate::message::Scheme::Https;
        add(b"x-forwarded-proto", if https { b"https" } else { b"http" });
    }
    if !head.fields.has(Known::XForwardedHost) && !head.host.is_empty() {
        let mut authority = smallvec::SmallVec::<[u8; 64]>::from_slice(&head.host);
        if let Some(port) = head.port {
            authority.push(b':');
            authority.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
        add(b"x-forwarded-host", &authority);
    }
}
