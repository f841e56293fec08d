//! From a client's bytes to an exchange that knows its route, its policies and its endpoint's service.

use super::connection::{pause, Deadlines, Down, DownWire, Exchange, Stage};
use super::identity::{exchange_id, Trace};
use super::wheel::Timer;
use super::{Action, AfterEof, ConnId, Engine};
use crate::error::Code;
use crate::http1::{RequestEvent, Violation};
use crate::http2::PREFACE;
use crate::message::{BodyLength, Known, Scheme};
use crate::observe::Counter;
use crate::policy::{Answer, Flow, RequestCx};
use crate::proxy_protocol::{self, Header};
use crate::route::Found;
use crate::websocket::Side;
use std::sync::Arc;

/// Pipelined input kept while an exchange is under way; beyond it the client is not read.
const KEEP: usize = 64 << 10;

impl Engine {
    pub(super) fn downstream_input(&mut self, id: u32, bytes: &[u8], direct: bool) {
        let Some(down) = self.downs.get_mut(id as usize) else { return };
        if down.closing {
            return;
        }
        if matches!(down.wire, DownWire::Http2(_)) {
            return self.session_input(id, bytes);
        }
        if down.kept.is_empty() {
            let used = self.downstream_consume(id, bytes, direct);
            self.keep_down(id, &bytes[used..]);
        } else {
            let mut kept = std::mem::take(&mut down.kept);
            kept.extend_from_slice(bytes);
            self.consume_kept(id, kept);
        }
    }

    /// Kept input may be usable now.
    pub(super) fn downstream_resume(&mut self, id: u32) {
        let Some(down) = self.downs.get_mut(id as usize) else { return };
        if down.closing {
            return;
        }
        match down.wire {
            DownWire::Http2(_) => return self.serve_later(ConnId::Down(id)),
            DownWire::Stream { .. } => return,
            _ => {}
        }
        let kept = std::mem::take(&mut down.kept);
        let read_closed = down.read_closed;
        self.consume_kept(id, kept);
        let idle = |d: &Down| d.exchange.is_none() && !d.deferred && (!d.write_blocked || d.kept.is_empty());
        let idle = self.downs.get(id as usize).is_some_and(|d| idle(d));
        if idle && read_closed {
            self.close_down(id);
        } else if idle && self.draining {
            let down = &mut self.downs[id as usize];
            if down.head_begun.is_some() {
                return;
            }
            self.wheel.set(&mut down.deadline, self.now.mono + super::DRAIN_GRACE, Timer::Down(id));
        }
    }

    fn consume_kept(&mut self, id: u32, mut kept: Vec<u8>) {
        let used = self.downstream_consume(id, &kept, false);
        if used == kept.len() {
            kept.clear();
            if kept.capacity() > 4 << 10 {
                kept = Vec::new();
            }
        } else {
            kept.drain(..used);
        }
        if let Some(down) = self.downs.get_mut(id as usize) {
            if !down.closing {
                down.kept = kept;
            }
            let down = &self.downs[id as usize];
            if matches!(down.wire, DownWire::Bytes) {
                return;
            }
            let full = down.kept.len() > KEEP && (down.exchange.is_some() || down.write_blocked || down.deferred);
            self.pause_down(id, pause::KEPT, full);
        }
    }

    fn keep_down(&mut self, id: u32, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        if let Some(down) = self.downs.get_mut(id as usize) {
            if !down.closing {
                down.kept.extend_from_slice(rest);
                if (down.exchange.is_some() || down.write_blocked || down.deferred) && down.kept.len() > KEEP {
                    self.pause_down(id, pause::KEPT, true);
                }
            }
        }
    }

    /// Reads as far as the connection's state allows; returns how many bytes were used.
    fn downstream_consume(&mut self, id: u32, input: &[u8], direct: bool) -> usize {
        let mut at = 0;
        if self.downs[id as usize].proxy_header {
            match self.read_proxy_header(id, input) {
                Some(used) => at = used,
                None => return 0,
            }
            let down = &self.downs[id as usize];
            if down.revision.entrypoints[down.peer.entrypoint as usize].tcp {
                self.begin_bytes(id);
                return at;
            }
        }
        if matches!(self.downs[id as usize].wire, DownWire::Undecided) {
            let rest = &input[at..];
            let common = rest.len().min(PREFACE.len());
            if common > 0 && rest[..common] != PREFACE[..common] {
                self.downs[id as usize].wire = DownWire::Http1;
            } else if common == PREFACE.len() {
                self.begin_session(id, rest);
                return input.len();
            } else {
                return at;
            }
        }
        loop {
            let Some(down) = self.downs.get_mut(id as usize) else { return input.len() };
            if down.closing {
                return input.len();
            }
            let rest = &input[at..];
            if let Some(ex) = down.exchange {
                if self.exchanges[ex as usize].stage == Stage::Tunnel {
                    self.tunnel_to_up(ex, input, at, direct);
                    return input.len();
                }
                if !down.server.in_request() {
                    return at;
                }
            } else if !down.server.in_request() && (rest.is_empty() || down.write_blocked) {
                // A client that does not read its answers gets no more of them.
                return at;
            }
            if down.exchange.is_none() && !down.server.in_request() && self.begun >= super::BEGUN_AT_ONCE {
                self.defer(id);
                return at;
            }
            if !down.server.in_request() && down.head_begun.is_none() && !rest.is_empty() {
                down.head_begun = Some(self.now.mono);
                let wait = down.revision.entrypoints[down.peer.entrypoint as usize].head_timeout;
                self.wheel.set(&mut down.deadline, self.now.mono + wait, Timer::Down(id));
            }
            let mut fresh = None;
            let head = match down.exchange {
                Some(ex) => &mut self.exchanges[ex as usize].head,
                None => {
                    let ex: &mut Box<Exchange> = fresh.insert(self.spare.pop().unwrap_or_default());
                    &mut ex.head
                }
            };
            let limits = &down.revision.entrypoints[down.peer.entrypoint as usize].limits;
            match down.server.read(rest, limits, head) {
                Ok((used, event)) => {
                    at += used;
                    match event {
                        RequestEvent::NeedMore => {
                            self.spare.extend(fresh);
                            return at;
                        }
                        RequestEvent::Head => {
                            self.begun += 1;
                            if let Some(ex) = fresh {
                                self.begin(id, ex);
                            }
                        }
                        RequestEvent::Data(range) => {
                            self.spare.extend(fresh);
                            let base = at - used;
                            self.request_data(id, input, base + range.start..base + range.end, direct);
                            self.pieces += 1;
                            if self.pieces >= super::PIECES_AT_ONCE {
                                // A body of tiny chunks: others have their turn first.
                                self.defer(id);
                                return at;
                            }
                        }
                        RequestEvent::End => {
                            self.spare.extend(fresh);
                            self.request_end(id);
                        }
                    }
                }
                Err(violation) => {
                    self.malformed(id, fresh, violation);
                    return input.len();
                }
            }
        }
    }

    pub(super) fn read_proxy_header(&mut self, id: u32, input: &[u8]) -> Option<usize> {
        match proxy_protocol::parse(input) {
            Ok(Some((used, header))) => {
                let down = &mut self.downs[id as usize];
                down.proxy_header = false;
                if let Header::Proxied { ip, port } = header {
                    down.peer.ip = crate::config::ipnet_text::canonical(ip);
                    down.peer.port = port;
                    down.ip_text = super::connection::text_of(down.peer.ip);
                    let plan = &down.revision.entrypoints[down.peer.entrypoint as usize];
                    down.peer.trusted = plan.trusted_peers.iter().any(|net| net.contains(down.peer.ip));
                }
                Some(used)
            }
            Ok(None) => None,
            Err(_) => {
                self.meter.add(Counter::ParseErrors, 1);
                self.abort_down(id);
                None
            }
        }
    }

    /// Bytes that are not HTTP: one answer, one record, and the connection closes.
    fn malformed(&mut self, id: u32, fresh: Option<Box<Exchange>>, violation: Violation) {
        self.meter.add(Counter::ParseErrors, 1);
        self.downs[id as usize].unread = true;
        if let Some(ex) = fresh {
            // The head never became a request: an exchange without route and intent.
            let ex = self.adopt(id, ex);
            self.exchanges[ex as usize].request_complete = true;
            self.refuse_and_close(ex, violation.code, Some(violation.detail));
        } else if let Some(ex) = self.downs[id as usize].exchange {
            self.fail_request(ex, violation.code, Some(violation.detail));
        } else {
            self.abort_down(id);
        }
    }

    /// The request cannot be completed: answered if nothing was yet, else cut.
    pub(super) fn fail_request(&mut self, ex: u32, code: Code, detail: Option<&str>) {
        let exchange = &mut self.exchanges[ex as usize];
        exchange.close_after = true;
        exchange.request_complete = true;
        self.drop_upstream(ex);
        if self.exchanges[ex as usize].answer_begun {
            self.cut(ex, code);
        } else {
            self.refuse_and_close(ex, code, detail);
        }
    }

    /// Gives `ex` a number and ties it to the connection.
    pub(super) fn adopt(&mut self, id: u32, mut ex: Box<Exchange>) -> u32 {
        self.serial += 1;
        self.refresh(id);
        let down = &mut self.downs[id as usize];
        ex.serial = self.serial;
        ex.down = id;
        ex.orphan = false;
        ex.started = down.head_begun.take().unwrap_or(self.now.mono);
        ex.id = exchange_id(self.now.wall_ns, &mut self.entropy);
        ex.early = down.early;
        ex.peer = down.peer.clone();
        ex.revision = Some(down.revision.clone());
        // How a client came is a fact of its connection; a target `https://…` is only its word.
        let proto = ex.head.fields.get_known(Known::XForwardedProto).filter(|_| ex.peer.trusted);
        let https = proto.map_or(ex.peer.tls.is_some(), |proto| proto.eq_ignore_ascii_case(b"https"));
        ex.head.scheme = if https { Scheme::Https } else { Scheme::Http };
        self.wheel.clear(&mut down.deadline);
        down.served += 1;
        self.meter.begin(&ex.head.method, ex.head.scheme);
        let number = self.exchanges.insert(ex) as u32;
        if self.deadlines.len() <= number as usize {
            self.deadlines.resize(number as usize + 1, Deadlines::default());
        }
        down.exchange = Some(number);
        number
    }

    /// The connection goes on under the revision in force.
    pub(super) fn refresh(&mut self, id: u32) {
        let down = &mut self.downs[id as usize];
        if !Arc::ptr_eq(&down.revision, &self.revision) {
            let plan = &down.revision.entrypoints[down.peer.entrypoint as usize];
            // An entrypoint that is no longer configured keeps its settings until its connections end.
            if let Some(index) = self.revision.entrypoint(&plan.name) {
                down.peer.entrypoint = index;
                down.revision = self.revision.clone();
            }
        }
    }

    /// The head is complete: identity, route, policies.
    pub(super) fn begin(&mut self, id: u32, ex: Box<Exchange>) {
        let ex = self.adopt(id, ex);
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.clone() else { return };
        exchange.request_complete = exchange.head.length == BodyLength::None;
        exchange.replayable = true;
        exchange.parsed = true;
        exchange.grpc = super::grpc::Call::of(&exchange.head);

        if exchange.peer.trusted {
            if let Some(client) = forwarded_client(exchange, &revision) {
                exchange.peer.ip = client;
            }
        } else {
            for known in UNTRUSTED {
                exchange.head.fields.remove_known(known);
            }
        }
        if let Some(client) = exchange.peer.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
            exchange.notes.identity = Some(format!("cert:{}", client.subject).into());
            // The certificate shown here is the one that counts.
            exchange.head.fields.remove_known(Known::ClientCert);
            exchange.head.fields.remove_known(Known::ClientCertChain);
        }
        let parent = exchange.head.fields.get_known(Known::Traceparent);
        exchange.trace = Trace::begin(parent, revision.sample, &mut self.entropy);
        if exchange.trace.parent_span_id == [0; 8] {
            exchange.head.fields.remove_known(Known::Tracestate);
        }
        exchange.head.fields.remove_known(Known::Traceparent);
        if let Some(id) = exchange.head.fields.get_known(Known::XRequestId).and_then(parse_uuid) {
            exchange.id = id;
        }
        exchange.head.fields.remove_known(Known::XRequestId);
        exchange.head.fields.remove_known(Known::XPygateError);

        if !self.may_serve(ex) {
            return;
        }
        let exchange = &mut self.exchanges[ex as usize];
        let route = match revision.table.find(&exchange.head, &exchange.peer) {
            Found::Route(route) => route,
            Found::MethodNotAllowed(allow) => {
                exchange.notes.response_fields.append(b"allow", &allow);
                return self.refuse(ex, Code::MethodNotAllowed, None);
            }
            Found::None => return self.refuse(ex, Code::NoRoute, None),
        };
        exchange.route = Some(route);
        exchange.service = revision.routes[route as usize].service;
        let plan = &revision.routes[route as usize];
        if self.ledger.broken && plan.audit.fail == crate::config::Fail::Closed {
            return self.refuse(ex, Code::AuditFailed, None);
        }
        if let (Some(max), BodyLength::Exact(n)) = (plan.shape.max_body, exchange.head.length) {
            if n > max {
                return self.refuse(ex, Code::BodyTooLarge, None);
            }
        }
        if !self.begin_total(ex, plan.shape.total_timeout) {
            return;
        }
        let exchange = &mut self.exchanges[ex as usize];
        let mut cx = RequestCx {
            head: &mut exchange.head,
            peer: &exchange.peer,
            route: plan.key,
            now: self.now,
            shared: &self.shared,
            worker: self.worker,
            path_options: revision.entrypoints[exchange.peer.entrypoint as usize].limits.path,
            notes: &mut exchange.notes,
        };
        exchange.slots.resize(plan.policies.len(), 0);
        for (policy, slot) in plan.policies.iter().zip(exchange.slots.iter_mut()) {
            match policy.on_request(&mut cx, slot) {
                Flow::Next => exchange.passed += 1,
                Flow::Answer(answer) => return self.answer_with(ex, *answer),
                Flow::Refuse(code, detail) => return self.refuse(ex, code, detail.as_deref()),
            }
        }
        exchange.unwrap_call();
        if !plan.plugins.is_empty() {
            exchange.stage = Stage::Plugin;
            let serial = exchange.serial;
            self.actions.push(Action::Plugin { exchange: ex, serial, response: false });
            return;
        }
        self.after_policies(ex);
    }

    /// What this connection may not carry is refused, whatever route it would take; proofs for a certificate
    /// authority are given.
    fn may_serve(&mut self, ex: u32) -> bool {
        let exchange = &self.exchanges[ex as usize];
        if exchange.early && !exchange.head.method.is_safe() {
            self.refuse(ex, Code::TooEarly, None);
            return false;
        }
        if let Some(facts) = &exchange.peer.tls {
            let id = match self.downs.get(exchange.down as usize).map(|d| &d.wire) {
                Some(DownWire::Stream { parent, .. }) => *parent,
                _ => exchange.down,
            };
            let session = self.downs.get(id as usize).and_then(|d| d.tls.as_deref());
            if session.is_some_and(|s| !s.plan().serves(facts, &exchange.head.host)) {
                self.refuse(ex, Code::Misdirected, None);
                return false;
            }
        }
        if let Some(token) = exchange.head.target.path().strip_prefix(b"/.well-known/acme-challenge/") {
            if let Some(proof) = self.tls.as_ref().and_then(|store| store.challenge(token)) {
                let mut answer = Answer { status: 200, body: proof.as_bytes().to_vec(), ..Answer::default() };
                answer.fields.append(b"content-type", b"application/octet-stream");
                self.answer_with(ex, answer);
                return false;
            }
        }
        true
    }

    /// Policies and plugins let the request pass.
    pub(super) fn after_policies(&mut self, ex: u32) {
        if self.exchanges[ex as usize].head.upgrade && !self.open_socket(ex) {
            return;
        }
        let serves_models = self.serves_models(ex);
        if serves_models && !self.open_call(ex) {
            return;
        }
        if self.judges_request(ex) {
            self.exchanges[ex as usize].stage = Stage::Judging;
            self.ask_for_body(ex);
            // A body that is already complete is judged when its end is read.
            if self.exchanges[ex as usize].request_complete {
                self.request_judged(ex);
            }
            return;
        }
        if serves_models {
            return self.gather_call(ex);
        }
        self.dispatch(ex);
    }

    fn serves_models(&self, ex: u32) -> bool {
        let exchange = &self.exchanges[ex as usize];
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        plan.is_some_and(|plan| plan.llm.is_some())
    }

    /// A piece of the request body.
    pub(super) fn request_data(&mut self, id: u32, input: &[u8], range: std::ops::Range<usize>, direct: bool) {
        let Some(ex) = self.downs[id as usize].exchange else { return };
        let exchange = &mut self.exchanges[ex as usize];
        exchange.request_bytes += range.len() as u64;
        let plan = exchange.route.zip(exchange.revision.as_ref()).map(|(r, rev)| &rev.routes[r as usize]);
        if let Some(max) = plan.and_then(|p| p.shape.max_body) {
            if exchange.request_bytes > max {
                return self.fail_request(ex, Code::BodyTooLarge, None);
            }
        }
        let unwrapped;
        let (input, range, direct) = match exchange.unwrapped(&input[range.clone()]) {
            None => (input, range, direct),
            Some(Ok(bytes)) => {
                unwrapped = bytes;
                (&unwrapped[..], 0..unwrapped.len(), false)
            }
            Some(Err(_)) => return self.fail_request(ex, Code::BadRequest, Some("the body is not base64")),
        };
        let exchange = &mut self.exchanges[ex as usize];
        match exchange.stage {
            Stage::Sending | Stage::PluginAnswer | Stage::Answering if exchange.up.is_some() => {
                self.request_data_up(ex, input, range, direct);
            }
            Stage::Answering | Stage::AwaitOutcome => {} // answered early: the rest is dropped
            Stage::Judging if exchange.judged.is_none() => self.gather_data(ex, &input[range]),
            Stage::Judging => self.judge_data(ex, &input[range]),
            _ => {
                exchange.body.extend_from_slice(&input[range]);
                self.pause_down(id, pause::PEER, true);
            }
        }
        if let Some(down) = self.downs.get_mut(id as usize) {
            if down.closing {
                // It has been told off and lingers: that deadline stands.
                return;
            }
            let wait = down.revision.entrypoints[down.peer.entrypoint as usize].body_timeout;
            self.wheel.set(&mut down.deadline, self.now.mono + wait, Timer::Down(id));
        }
    }

    pub(super) fn request_end(&mut self, id: u32) {
        let down = &mut self.downs[id as usize];
        let Some(ex) = down.exchange else {
            // Answered before its end was read.
            let plan = &down.revision.entrypoints[down.peer.entrypoint as usize];
            self.wheel.set(&mut down.deadline, self.now.mono + plan.idle_timeout, Timer::Down(id));
            if down.read_closed || self.draining {
                self.ready.push(id);
            }
            return;
        };
        if !down.write_blocked {
            self.wheel.clear(&mut down.deadline);
        }
        let exchange = &mut self.exchanges[ex as usize];
        if !exchange.unwrapped_whole() {
            return self.fail_request(ex, Code::BadRequest, Some("the body ends inside base64"));
        }
        exchange.request_complete = true;
        match exchange.stage {
            Stage::Judging => self.request_judged(ex),
            Stage::Sending | Stage::PluginAnswer | Stage::Answering if exchange.up.is_some() => self.request_end_up(ex),
            _ => {}
        }
    }

    /// Tells a client that waits for it to go on with the body.
    pub(super) fn ask_for_body(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        if exchange.head.expect_continue && !exchange.continue_sent && exchange.request_bytes == 0 {
            exchange.continue_sent = true;
            let down = exchange.down;
            self.client_continue(down);
        }
        let exchange = &self.exchanges[ex as usize];
        if !exchange.request_complete {
            let id = exchange.down;
            if let Some(down) = self.downs.get_mut(id as usize) {
                let wait = down.revision.entrypoints[down.peer.entrypoint as usize].body_timeout;
                self.wheel.set(&mut down.deadline, self.now.mono + wait, Timer::Down(id));
            }
        }
    }

    pub(super) fn downstream_eof(&mut self, id: u32) -> AfterEof {
        let Some(down) = self.downs.get_mut(id as usize) else { return AfterEof::Close };
        down.read_closed = true;
        if matches!(down.wire, DownWire::Http2(_)) {
            return AfterEof::Close;
        }
        let Some(ex) = down.exchange else {
            // Between requests, or inside a head that will never be complete.
            if down.head_begun.is_some() {
                self.meter.add(Counter::ParseErrors, 1);
            }
            let waits = down.write_blocked && !down.kept.is_empty() && !down.closing;
            return if waits { AfterEof::KeepOpen } else { AfterEof::Close };
        };
        let exchange = &self.exchanges[ex as usize];
        if exchange.stage == Stage::Tunnel {
            let down = &self.downs[id as usize];
            let forged = down.tls.is_some() && !down.goodbye;
            if let Some(after) = self.socket_eof(ex, Side::Client) {
                return after;
            }
            if forged {
                // RFC 8446 §6.1: an end that TLS does not vouch for may be anybody's.
                self.tunnel_cut(ex);
                return AfterEof::Close;
            }
            if let Some(up) = self.exchanges[ex as usize].up {
                if self.ups[up as usize].read_closed {
                    self.tunnel_end(ex);
                    return AfterEof::Close;
                }
                self.up_eof(up);
            }
            return AfterEof::KeepOpen;
        }
        if !exchange.request_complete {
            self.client_left(ex);
            return AfterEof::Close;
        }
        // Half-closed: the answer is still wanted.
        AfterEof::KeepOpen
    }

    pub(super) fn downstream_lost(&mut self, id: u32) {
        self.lose_streams(id);
        let Some(down) = self.downs.try_remove(id as usize) else { return };
        self.downs_left.keep(id, down.deadline);
        if let Some(ex) = down.exchange {
            self.exchanges[ex as usize].orphan = true;
            self.client_left(ex);
        }
        self.meter.set(crate::observe::Gauge::ConnectionsOpen, self.connections() as u64);
    }

    /// Bytes through a tunnel, client to upstream.
    pub(super) fn tunnel_to_up(&mut self, ex: u32, input: &[u8], at: usize, direct: bool) {
        let exchange = &mut self.exchanges[ex as usize];
        exchange.request_bytes += (input.len() - at) as u64;
        if self.socket_data(ex, Side::Client, input, at..input.len(), direct) {
            return;
        }
        let exchange = &self.exchanges[ex as usize];
        if let Some(up) = exchange.up {
            self.up_bytes(up, input, at..input.len(), direct);
        }
        self.tunnel_alive(ex);
    }
}

/// Fields only a trusted peer may send.
const UNTRUSTED: [Known; 13] = [
    Known::ClientCert,
    Known::ClientCertChain,
    Known::EarlyData,
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedPort,
    Known::XForwardedPrefix,
    Known::XForwardedProto,
    Known::XRealIp,
    Known::Forwarded,
    Known::Traceparent,
    Known::Tracestate,
    Known::XRequestId,
];

/// The right-most address of `x-forwarded-for` that is not itself a trusted peer.
fn forwarded_client(ex: &Exchange, revision: &crate::revision::Revision) -> Option<std::net::IpAddr> {
    let trusted = &revision.entrypoints[ex.peer.entrypoint as usize].trusted_peers;
    let mut client = None;
    let lines: Vec<&[u8]> = ex.head.fields.all(b"x-forwarded-for").collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(|&b| b == b',')) {
        let text = std::str::from_utf8(hop).ok()?.trim();
        let ip = crate::config::ipnet_text::canonical(text.parse().ok()?);
        client = Some(ip);
        if !trusted.iter().any(|net| net.contains(ip)) {
            break;
        }
    }
    client
}

/// A trusted peer's exchange id, if it is a UUID.
fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let digits: smallvec::SmallVec<[u8; 36]> = text.iter().copied().filter(|&b| b != b'-').collect();
    let mut id = [0; 16];
    (text.len() == 36).then_some(())?;
    hex::decode_to_slice(&digits, &mut id).ok()?;
    Some(id)
}
