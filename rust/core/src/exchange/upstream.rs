//! From a routed request to an endpoint's connection, and from its bytes to events of an answer.

use super::client::forwarding_lines;
use super::connection::{pause, Stage, Up, UpWire};
use super::wheel::Timer;
use super::{identity, Action, AfterEof, ConnId, Engine};
use crate::audit::record::Intent;
use crate::balance::{share_of, Address, EndpointPlan, ServicePlan, Spoken};
use crate::config::{Durability, UpstreamProtocol};
use crate::error::Code;
use crate::http1::{write, HeadLimits, ResponseEvent};
use crate::message::{BodyLength, Known, Method, Scheme};
use crate::observe::{attempt_span, Called, Counter};
use crate::revision::Revision;
use crate::tls;
use crate::websocket::Side;
use std::time::Duration;

/// How an attempt came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Plain,
    /// A connection that had served before closed without a byte (RFC 9112 §9.3.1).
    Race,
    /// The endpoint says that it did not work on the request (RFC 9113 §8.7).
    Unprocessed,
}

/// Request bodies up to this size are kept so that a request can be sent again.
const REPLAY: usize = 64 << 10;

impl Engine {
    /// The request may go upstream: first its intent, then a connection.
    pub(super) fn dispatch(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.clone() else { return };
        let Some(route) = exchange.route else { return };
        let plan = &revision.routes[route as usize];
        if exchange.llm.is_some() {
            return self.dispatch_call(ex);
        }
        if plan.service.is_none() {
            return self.refuse(ex, Code::NoRoute, Some("the route has no service"));
        }
        self.write_intent(ex);
        if plan.audit.durability == Durability::Call {
            let exchange = &mut self.exchanges[ex as usize];
            exchange.stage = Stage::AwaitIntent;
            let serial = exchange.serial;
            return self.await_record(ex, serial);
        }
        self.connect(ex);
    }

    pub(super) fn write_intent(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        if exchange.intent_written {
            return;
        }
        exchange.intent_written = true;
        let Some(revision) = exchange.revision.as_ref() else { return };
        let route = exchange.route.map(|r| &revision.routes[r as usize]);
        let service = exchange.service.map(|s| &revision.services[s as usize]);
        let tls = exchange.peer.tls.as_deref();
        let intent = Intent {
            exchange: exchange.id,
            wall_ns: self.now.wall_ns,
            mono_ns: self.now.mono.0,
            revision: revision.id,
            entrypoint: &revision.entrypoints[exchange.peer.entrypoint as usize].name,
            route: route.map_or("", |r| &r.name),
            service: service.map_or("", |s| &s.name),
            method: exchange.head.method.as_bytes(),
            https: exchange.head.scheme == Scheme::Https,
            host: &exchange.head.host,
            path: exchange.head.target.path(),
            client_ip: exchange.peer.ip,
            client_port: exchange.peer.port,
            identity: exchange.notes.identity.as_deref().unwrap_or(""),
            trace_id: exchange.trace.trace_id,
            span_id: exchange.trace.span_id,
            parent_span_id: exchange.trace.parent_span_id,
            sampled: exchange.trace.sampled,
            user_agent: exchange.head.fields.get_known(Known::UserAgent).unwrap_or(b""),
            tls: tls.map_or("", |tls| tls.version),
            client_cert: tls.and_then(|tls| tls.client.as_ref()).map_or("", |client| &client.fingerprint),
        };
        crate::audit::encode_intent(&intent, &mut self.ledger.bytes);
        self.ledger.made();
    }

    /// Picks an endpoint and gets a connection to it.
    pub(super) fn connect(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.clone() else { return };
        let Some(service) = exchange.service else { return };
        let service = &revision.services[service as usize];
        let entropy = self.entropy.draw();
        let picked = self.balancer.pick(service, &self.shared, self.now.mono, entropy, &exchange.tried);
        let index = match picked {
            Ok(index) => index,
            Err(code) if exchange.llm.is_some() => return self.target_failed(ex, code, None),
            Err(code) => return self.refuse(ex, code, None),
        };
        let endpoint = &service.endpoints[index as usize];
        exchange.endpoint = Some(index);
        let cap = share_of(service.max_connections, revision.workers);
        let (raw, upgrade) = (exchange.raw, exchange.head.upgrade);
        let http2 = service.speaks_http2(endpoint);
        let learned = !upgrade && self.mux.contains_key(&endpoint.key);
        if !raw && (http2 || learned) {
            if let Some(parent) = self.mux_room(endpoint.key) {
                self.meter.add(Counter::PoolReuse, 1);
                self.begin_attempt(ex, service, index);
                return self.send_on(ex, parent);
            }
            if self.mux_opening(endpoint.key, service.max_streams) {
                return self.wait_for_connection(ex, service, endpoint.key);
            }
        }
        let exchange = &mut self.exchanges[ex as usize];
        // A retry trusts no idle connection as long as it may open one.
        let fresh = (exchange.attempts > 0 || raw) && self.pool.open(endpoint.key, cap);
        if !fresh && !raw {
            if let Some(up) = self.pool.take(endpoint.key) {
                self.meter.add(Counter::PoolReuse, 1);
                self.begin_attempt(ex, service, index);
                return self.send(ex, up);
            }
        }
        if !fresh && !self.pool.open(endpoint.key, cap) {
            return self.wait_for_connection(ex, service, endpoint.key);
        }
        self.begin_attempt(ex, service, index);
        let tls = match endpoint.spoken {
            Spoken::Https => match self.secure_client(service, endpoint, upgrade) {
                Some(tls) => Some(Box::new(tls)),
                None => {
                    self.pool.closed(endpoint.key);
                    return self.attempt_failed(ex, Code::UpstreamTls, Failure::Plain);
                }
            },
            _ => None,
        };
        let exchange = &mut self.exchanges[ex as usize];
        exchange.stage = Stage::Connecting;
        let timeout = connect_timeout(&revision, exchange.route, service.connect_timeout);
        if http2 {
            self.mux_asked(endpoint.key);
        }
        let up = self.ups.vacant_key() as u32;
        let limits = (http2 || tls.is_some()).then(|| service.http2_limits());
        let place = Up::new(UpWire::Http1, ex, endpoint.key, service.max_head, self.ups_left.take(up, self.now.mono));
        self.ups.insert(Box::new(Up { http2: limits, tls, greeting: timeout, opening: http2, ..place }));
        self.exchanges[ex as usize].up = Some(up);
        self.meter.add(Counter::UpstreamConnects, 1);
        self.actions.push(Action::Connect { up, address: endpoint.address.clone(), timeout });
        // Whoever connects reports in time; should it never report, the exchange ends all the same.
        self.step_deadline(ex, timeout + Duration::from_secs(1));
    }

    /// The next connection or stream that comes free is this exchange's.
    fn wait_for_connection(&mut self, ex: u32, service: &ServicePlan, endpoint: u64) {
        let exchange = &mut self.exchanges[ex as usize];
        exchange.stage = Stage::Connecting;
        self.pool.wait(endpoint, (ex, exchange.serial));
        let route = exchange.route;
        let wait = exchange
            .revision
            .as_ref()
            .map_or(service.connect_timeout, |revision| connect_timeout(revision, route, service.connect_timeout));
        self.step_deadline(ex, wait);
    }

    pub(super) fn begin_attempt(&mut self, ex: u32, service: &ServicePlan, index: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        exchange.attempts = exchange.attempts.saturating_add(1);
        exchange.sent = None;
        exchange.upstream_failed = false;
        exchange.counted = true;
        exchange.forget_status();
        self.balancer.started(service, index);
    }

    /// The connection asked for is open.
    pub fn connected(&mut self, now: crate::time::Now, id: u32) {
        self.now = now;
        if let Some(up) = self.ups.get_mut(id as usize) {
            up.connected = true;
            match up.tls {
                Some(_) => self.greet_endpoint(id),
                None => self.up_open(id),
            }
        }
        self.settle();
    }

    /// The connection may carry what it is for.
    pub(super) fn up_open(&mut self, id: u32) {
        let up = &mut self.ups[id as usize];
        self.wheel.clear(&mut up.deadline);
        let speaks_http2 = match &up.tls {
            None => up.http2.is_some(),
            Some(tls) => tls.facts().is_some_and(|f| f.alpn.as_deref() == Some(b"h2")),
        };
        match up.http2 {
            Some(limits) if speaks_http2 => return self.begin_mux(id, limits),
            // HTTP/2 was asked for, and the endpoint does not speak it.
            Some(_) if up.opening => {
                up.opening = false;
                let (endpoint, ex) = (up.endpoint, up.exchange);
                self.mux_settled(endpoint);
                return match ex {
                    Some(ex) => self.attempt_failed(ex, Code::UpstreamTls, Failure::Plain),
                    None => self.close_up(id),
                };
            }
            _ => {}
        }
        let up = &mut self.ups[id as usize];
        up.http2 = None;
        match up.exchange {
            Some(ex) if self.exchanges[ex as usize].raw => self.join_bytes(ex, id),
            Some(ex) => self.send(ex, id),
            None => self.idle_up(id),
        }
    }

    /// TLS for a connection to `endpoint`, offering what the service speaks.
    fn secure_client(&mut self, service: &ServicePlan, endpoint: &EndpointPlan, upgrade: bool) -> Option<tls::Client> {
        let plan = self.tls.as_ref()?.client(&service.name)?;
        let host = match &endpoint.address {
            Address::Tcp { host, .. } => host.as_str(),
            Address::Unix(_) => "localhost",
        };
        let alpn: &[&[u8]] = match service.protocol {
            UpstreamProtocol::Http2 => &[b"h2"],
            UpstreamProtocol::Auto if !upgrade => &[b"h2", b"http/1.1"],
            _ => &[b"http/1.1"],
        };
        tls::Client::new(plan, host, alpn).ok()
    }

    /// The connection asked for could not be opened.
    pub fn connect_failed(&mut self, now: crate::time::Now, id: u32, timed_out: bool) {
        self.now = now;
        if self.ups.get(id as usize).is_some_and(|up| up.connected) {
            // Too late to fail: the connection's own end is reported by `lost`.
            return;
        }
        if let Some(up) = self.ups.try_remove(id as usize) {
            self.ups_left.keep(id, up.deadline);
            self.pool.closed(up.endpoint);
            if up.opening {
                self.mux_settled(up.endpoint);
            }
            self.meter.add(Counter::UpstreamConnectErrors, 1);
            self.wake_waiting(up.endpoint);
            if let Some(ex) = up.exchange {
                self.exchanges[ex as usize].up = None;
                let code = if timed_out { Code::ConnectTimeout } else { Code::ConnectFailed };
                if timed_out {
                    self.meter.add(Counter::TimeoutConnect, 1);
                }
                self.attempt_failed(ex, code, Failure::Plain);
            }
        }
        self.settle();
    }

    /// Writes the request to `up`.
    pub(super) fn send(&mut self, ex: u32, id: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.clone() else { return };
        let Some(service) = exchange.service else { return };
        let service = &revision.services[service as usize];
        let Some(endpoint) = exchange.endpoint.and_then(|i| service.endpoints.get(i as usize)) else { return };
        let up = &mut self.ups[id as usize];
        up.exchange = Some(ex);
        up.served += 1;
        up.client.expect_response(exchange.head.method == Method::Head);
        exchange.up = Some(id);
        exchange.stage = Stage::Sending;
        self.wheel.clear(&mut self.deadlines[ex as usize].step);

        let http2 = matches!(self.ups[id as usize].wire, UpWire::Stream { .. });
        exchange.send_call(http2, self.now.mono);
        let head = &exchange.head;
        let mut host = smallvec::SmallVec::<[u8; 64]>::new();
        if let Some(set) = head.fields.get_known(Known::Host) {
            // A policy's or plugin's: the client's own was taken out of the fields when it was read.
            host.extend_from_slice(set);
        } else if service.pass_host && !head.host.is_empty() {
            host.extend_from_slice(&head.host);
            if let Some(port) = head.port {
                host.push(b':');
                host.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
            }
        } else {
            host.extend_from_slice(&endpoint.host_header);
        }
        let down = self.downs.get(exchange.down as usize).filter(|_| !exchange.orphan);
        let trace = identity::Trace { span_id: attempt_span(exchange.trace.span_id), ..exchange.trace }.traceparent();
        let ip = down.map(|down| &down.ip_text[..]);
        if let UpWire::Stream { parent, .. } = self.ups[id as usize].wire {
            let exchange = &mut self.exchanges[ex as usize];
            if exchange.socket.is_none() {
                // HTTP/2 knows no other upgrade; the request stands without it (RFC 9110 §7.8).
                exchange.head.upgrade = false;
            }
            let exchange = &self.exchanges[ex as usize];
            let end = exchange.request_complete && exchange.body.is_empty() && !exchange.head.upgrade;
            let Some(UpWire::Http2(session)) = self.ups.get_mut(parent as usize).map(|up| &mut up.wire) else { return };
            let opened = session.open(id, &exchange.head, &host, end, |add| {
                forwarding_lines(exchange, ip, &trace, add);
            });
            self.flush_later(ConnId::Up(parent));
            let Some(stream) = opened else {
                // No verdict on the endpoint: it was never asked.
                self.forget_attempt(ex);
                return self.refuse(ex, Code::BadRequest, Some("the request cannot be written in HTTP/2"));
            };
            self.ups[id as usize].wire = UpWire::Stream { parent, stream };
        } else {
            let out = self.actions.buffer(ConnId::Up(id));
            write::request_head(out, &exchange.head, &host, |out| {
                forwarding_lines(exchange, ip, &trace, &mut |name, value| write::field(out, name, value));
            });
        }
        let exchange = &mut self.exchanges[ex as usize];
        exchange.body_sent = 0;
        if !exchange.body.is_empty() {
            let body = std::mem::take(&mut exchange.body);
            self.body_piece(ex, id, &body, 0..body.len(), false);
            let exchange = &mut self.exchanges[ex as usize];
            exchange.body_sent = body.len();
            if exchange.replayable && body.len() <= REPLAY {
                exchange.body = body;
            } else {
                exchange.replayable = false;
            }
        }
        let exchange = &self.exchanges[ex as usize];
        let (complete, down) = (exchange.request_complete, exchange.down);
        if complete {
            self.request_end_up(ex);
        } else {
            self.pause_down(down, pause::PEER, false);
            self.ask_for_body(ex);
        }
        if self.downs.get(down as usize).is_some_and(|d| d.write_blocked) {
            self.pause_up(id, pause::PEER, true);
        }
    }

    /// A piece of the request body goes straight through.
    pub(super) fn request_data_up(&mut self, ex: u32, input: &[u8], range: std::ops::Range<usize>, direct: bool) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(up) = exchange.up else { return };
        if exchange.replayable {
            if exchange.body.len() + range.len() <= REPLAY {
                exchange.body.extend_from_slice(&input[range.clone()]);
                exchange.body_sent = exchange.body.len();
            } else {
                exchange.replayable = false;
                exchange.body = Vec::new();
            }
        }
        self.body_piece(ex, up, input, range, direct);
        if self.ups[up as usize].write_blocked {
            let down = self.exchanges[ex as usize].down;
            self.pause_down(down, pause::PEER, true);
        }
    }

    fn body_piece(&mut self, ex: u32, up: u32, input: &[u8], range: std::ops::Range<usize>, direct: bool) {
        let conn = ConnId::Up(up);
        let framed = matches!(self.ups[up as usize].wire, UpWire::Http1);
        if !framed {
            self.up_bytes(up, input, range, direct);
        } else if self.exchanges[ex as usize].head.length == BodyLength::Streamed {
            if range.is_empty() {
                return;
            }
            write::chunk_size(self.actions.buffer(conn), range.len());
            self.forward(conn, input, range, direct);
            self.actions.buffer(conn).extend_from_slice(b"\r\n");
        } else {
            self.forward(conn, input, range, direct);
        }
    }

    /// The request is complete and all of it was written.
    pub(super) fn request_end_up(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(id) = exchange.up else { return };
        let streamed = exchange.head.length == BodyLength::Streamed;
        let place = exchange.down as usize;
        if matches!(self.ups[id as usize].wire, UpWire::Stream { .. }) {
            if !exchange.head.upgrade {
                let trailers = self.downs.get(place).map(|d| d.server.trailers.clone()).unwrap_or_default();
                let trailers = if streamed { trailers } else { Default::default() };
                if let Some((session, stream)) = self.up_stream(id) {
                    session.end(stream, &trailers);
                }
            }
        } else if streamed {
            let empty = Default::default();
            let trailers = self.downs.get(place).map_or(&empty, |d| &d.server.trailers);
            write::last_chunk(self.actions.buffer(ConnId::Up(id)), trailers);
        }
        let exchange = &mut self.exchanges[ex as usize];
        exchange.sent = Some(self.now.mono);
        self.call_sent(ex);
        let wait = self.first_byte_timeout(ex);
        if self.exchanges[ex as usize].stage == Stage::Sending {
            let up = &mut self.ups[id as usize];
            self.wheel.set(&mut up.deadline, self.now.mono + wait, Timer::Up(id));
        }
    }

    pub(super) fn first_byte_timeout(&self, ex: u32) -> Duration {
        let exchange = &self.exchanges[ex as usize];
        let Some((revision, route)) = exchange.revision.as_ref().zip(exchange.route) else {
            return Duration::from_secs(60);
        };
        let plan = &revision.routes[route as usize];
        let service = exchange.service.map(|s| &revision.services[s as usize]);
        plan.shape.first_byte_timeout.or(service.map(|s| s.first_byte_timeout)).unwrap_or(Duration::from_secs(60))
    }

    pub(super) fn upstream_body_timeout(&self, ex: u32) -> Duration {
        let exchange = &self.exchanges[ex as usize];
        let Some((revision, route)) = exchange.revision.as_ref().zip(exchange.route) else {
            return Duration::from_secs(60);
        };
        let plan = &revision.routes[route as usize];
        let service = exchange.service.map(|s| &revision.services[s as usize]);
        plan.shape.body_timeout.or(service.map(|s| s.body_timeout)).unwrap_or(Duration::from_secs(60))
    }

    pub(super) fn upstream_input(&mut self, id: u32, bytes: &[u8], direct: bool) {
        let Some(up) = self.ups.get_mut(id as usize) else { return };
        if up.closing {
            return;
        }
        if matches!(up.wire, UpWire::Http2(_)) {
            return self.mux_input(id, bytes);
        }
        let Some(ex) = up.exchange else {
            // Bytes nobody asked for: whatever they are, this connection is not used again.
            return self.close_up(id);
        };
        if self.exchanges[ex as usize].stage == Stage::PluginAnswer {
            up.kept.extend_from_slice(bytes);
            return;
        }
        if up.kept.is_empty() {
            let used = self.upstream_consume(id, bytes, direct);
            if used < bytes.len() {
                if let Some(up) = self.ups.get_mut(id as usize).filter(|up| !up.closing) {
                    up.kept.extend_from_slice(&bytes[used..]);
                }
            }
        } else {
            let mut kept = std::mem::take(&mut up.kept);
            kept.extend_from_slice(bytes);
            let used = self.upstream_consume(id, &kept, false);
            if used < kept.len() {
                kept.drain(..used);
                if let Some(up) = self.ups.get_mut(id as usize).filter(|up| !up.closing) {
                    up.kept = kept;
                }
            }
        }
    }

    fn upstream_consume(&mut self, id: u32, input: &[u8], direct: bool) -> usize {
        let mut at = 0;
        loop {
            let Some(up) = self.ups.get_mut(id as usize) else { return input.len() };
            let Some(ex) = up.exchange.filter(|_| !up.closing) else {
                // The answer is complete. More bytes than were asked for: not used again.
                if at < input.len() && !up.closing {
                    self.close_up(id);
                }
                return input.len();
            };
            if self.exchanges[ex as usize].stage == Stage::PluginAnswer {
                return at;
            }
            let limits = HeadLimits { bytes: up.max_head, ..HeadLimits::default() };
            match up.client.read(&input[at..], &limits, &mut self.response) {
                Ok((used, event)) => {
                    let base = at;
                    at += used;
                    match event {
                        ResponseEvent::NeedMore => return at,
                        ResponseEvent::Interim => self.interim(ex),
                        ResponseEvent::Head => {
                            let exchange = &mut self.exchanges[ex as usize];
                            let sent = exchange.sent.unwrap_or(self.now.mono);
                            exchange.upstream_ns = self.now.mono.since(sent).as_nanos() as u64;
                            self.answer_head(ex);
                        }
                        ResponseEvent::Data(range) => {
                            self.answer_data(ex, input, base + range.start..base + range.end, direct);
                        }
                        ResponseEvent::End => {
                            if at < input.len() {
                                // More than one answer to one request: the rest is nobody's.
                                up.client.refuse_reuse();
                            }
                            std::mem::swap(&mut self.trailers, &mut up.client.trailers);
                            self.answer_end(ex);
                        }
                    }
                    if at == input.len() && self.exchanges.get(ex as usize).is_some_and(|e| e.up == Some(id)) {
                        self.answer_goes_on(ex);
                    }
                }
                Err(_) => {
                    self.attempt_failed(ex, Code::BadUpstream, Failure::Plain);
                    return input.len();
                }
            }
        }
    }

    /// What was kept of an answer may be read now.
    pub(super) fn upstream_resume(&mut self, id: u32) {
        self.pause_up(id, pause::KEPT, false);
        let Some(up) = self.ups.get_mut(id as usize) else { return };
        if !matches!(up.wire, UpWire::Http1) {
            return;
        }
        let kept = std::mem::take(&mut up.kept);
        let used = self.upstream_consume(id, &kept, false);
        if let Some(up) = self.ups.get_mut(id as usize).filter(|up| !up.closing) {
            up.kept.extend_from_slice(&kept[used..]);
            if std::mem::take(&mut up.read_closed) && self.upstream_eof(id) == AfterEof::Close {
                self.close_up(id);
            }
        }
    }

    /// The upstream gave a sign of life, or is read again: its next deadline starts now.
    pub(super) fn answer_goes_on(&mut self, ex: u32) {
        let exchange = &self.exchanges[ex as usize];
        let (Some(id), stage) = (exchange.up, exchange.stage) else { return };
        let wait = match stage {
            // After an interim answer.
            Stage::Sending if exchange.sent.is_some() => self.first_byte_timeout(ex),
            Stage::Answering => self.upstream_body_timeout(ex),
            _ => return,
        };
        let up = &mut self.ups[id as usize];
        self.wheel.set(&mut up.deadline, self.now.mono + wait, Timer::Up(id));
    }

    pub(super) fn upstream_eof(&mut self, id: u32) -> AfterEof {
        let Some(up) = self.ups.get_mut(id as usize) else { return AfterEof::Close };
        if matches!(up.wire, UpWire::Http2(_)) {
            up.closing = true;
            self.lose_mux(id);
            return AfterEof::Close;
        }
        // RFC 9112 §9.8: an end that TLS does not vouch for may be anybody's.
        let forged = up.tls.is_some() && !up.goodbye;
        let Some(ex) = up.exchange else {
            up.closing = true;
            self.pool.remove(up.endpoint, id);
            return AfterEof::Close;
        };
        if self.exchanges[ex as usize].stage == Stage::PluginAnswer {
            up.read_closed = true;
            return AfterEof::KeepOpen;
        }
        if self.exchanges[ex as usize].stage == Stage::Tunnel {
            up.read_closed = true;
            if let Some(after) = self.socket_eof(ex, Side::Upstream) {
                return after;
            }
            if forged {
                self.tunnel_cut(ex);
                return AfterEof::Close;
            }
            let down = self.exchanges[ex as usize].down;
            if self.downs.get(down as usize).is_some_and(|d| d.read_closed) {
                self.tunnel_end(ex);
                return AfterEof::Close;
            }
            self.client_eof(down);
            return AfterEof::KeepOpen;
        }
        if !forged && up.client.closed() {
            self.answer_end(ex);
        } else {
            let failure = lost_race(up);
            self.attempt_failed(ex, Code::UpstreamReset, failure);
        }
        AfterEof::Close
    }

    pub(super) fn upstream_lost(&mut self, id: u32) {
        match self.ups.get_mut(id as usize) {
            Some(up) => up.closing = true,
            None => return,
        }
        self.lose_mux(id);
        let Some(up) = self.ups.try_remove(id as usize) else { return };
        self.ups_left.keep(id, up.deadline);
        if up.opening {
            // Not yet greeted.
            self.mux_settled(up.endpoint);
        }
        if up.exchange.is_none() {
            self.pool.remove(up.endpoint, id);
        }
        self.pool.closed(up.endpoint);
        self.wake_waiting(up.endpoint);
        if let Some(ex) = up.exchange {
            let exchange = &mut self.exchanges[ex as usize];
            exchange.up = None;
            if exchange.stage == Stage::Tunnel {
                if !self.socket_gone(ex, Side::Upstream) {
                    self.tunnel_cut(ex);
                }
                return;
            }
            // Without an end of stream first this was a reset, even to an answer that ends with the connection.
            self.attempt_failed(ex, Code::UpstreamReset, lost_race(&up));
        }
    }

    /// An attempt came to nothing: another one if the rules allow, else the client is told.
    pub(super) fn attempt_failed(&mut self, ex: u32, code: Code, failure: Failure) {
        self.exchanges[ex as usize].upstream_failed = true;
        self.end_attempt(ex, 0, Some(code));
        self.drop_upstream(ex);
        let exchange = &mut self.exchanges[ex as usize];
        if exchange.answer_begun {
            return self.cut(ex, code);
        }
        let Some((revision, route)) = exchange.revision.clone().zip(exchange.route) else { return };
        let retry = revision.routes[route as usize].shape.retry.as_ref();
        let idempotent = exchange.head.method.is_idempotent();
        let replay = exchange.replayable && (exchange.request_complete || exchange.body_sent == 0);
        let race = match failure {
            Failure::Plain => false,
            // A call of a model changes nothing that a second one would change again.
            Failure::Race => (idempotent || exchange.llm.is_some()) && exchange.attempts == 1,
            Failure::Unprocessed => exchange.attempts <= 2,
        };
        let unsent = matches!(code, Code::ConnectFailed | Code::ConnectTimeout);
        if exchange.llm.is_some() && !exchange.orphan {
            if race {
                return self.same_target(ex);
            }
            return self.target_failed(ex, code, None);
        }
        let by_policy = retry.is_some_and(|r| {
            exchange.attempts < r.attempts
                && (idempotent || r.non_idempotent || unsent)
                && exchange.body.len() as u64 <= r.max_body.0
        });
        // Plugins were shown this answer and will decide on it: no second answer may take its place.
        let shown = exchange.shown.take().is_some();
        if exchange.orphan || shown || !replay || !(race || by_policy) {
            return self.refuse(ex, code, None);
        }
        if race {
            // Only replaces a connection that was closing as it was used: not a retry by policy.
            self.meter.add(Counter::Retries, 1);
            return self.connect(ex);
        }
        if !self.retry_allowed(ex) {
            return self.refuse(ex, code, None);
        }
        self.exchanges[ex as usize].retrying = true;
        self.try_again(ex);
    }

    /// Takes a retry out of the service's budget; the attempt that follows gives it back.
    pub(super) fn retry_allowed(&mut self, ex: u32) -> bool {
        let exchange = &self.exchanges[ex as usize];
        let Some((revision, route)) = exchange.revision.as_ref().zip(exchange.route) else { return false };
        let plan = &revision.routes[route as usize];
        let (Some(retry), Some(service)) = (&plan.shape.retry, exchange.service) else { return false };
        let allowed = self.balancer.retry_allowed(&revision.services[service as usize], retry.budget_percent);
        self.meter.add(if allowed { Counter::Retries } else { Counter::RetriesDenied }, 1);
        allowed
    }

    /// Sends the request once more, to another endpoint where there is one.
    pub(super) fn try_again(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        exchange.tried.extend(exchange.endpoint);
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        let backoff = plan.and_then(|p| p.shape.retry.as_ref()).map_or(Duration::ZERO, |r| r.backoff);
        let backoff = backoff * (1 << u32::from(exchange.attempts.clamp(1, 10) - 1));
        if backoff.is_zero() {
            self.connect(ex);
        } else {
            exchange.stage = Stage::Backoff;
            let jitter = self.entropy.draw() % (backoff.as_nanos() as u64 / 2 + 1);
            self.step_deadline(ex, backoff + Duration::from_nanos(jitter));
        }
    }

    /// The attempt at the current endpoint is over: its counters and its health.
    pub(super) fn end_attempt(&mut self, ex: u32, status: u16, code: Option<Code>) {
        let exchange = &mut self.exchanges[ex as usize];
        if !exchange.counted && !exchange.retrying {
            return;
        }
        let Some((revision, service)) = exchange.revision.as_ref().zip(exchange.service) else { return };
        let plan = &revision.services[service as usize];
        if std::mem::take(&mut exchange.retrying) {
            self.balancer.retry_end(plan);
        }
        if !std::mem::take(&mut exchange.counted) {
            return;
        }
        let Some(index) = exchange.endpoint else { return };
        let failed = code.is_some_and(|c| c != Code::ClientClosed) || status >= 500 || exchange.call_failed();
        if self.balancer.finished(plan, index, &self.shared, self.now.mono, failed) {
            self.meter.add(Counter::Ejections, 1);
        }
        let since = exchange.sent.unwrap_or(exchange.started);
        self.meter.upstream(&Called {
            endpoint: &revision.endpoint_labels[service as usize][index as usize],
            method: &exchange.head.method,
            scheme: Scheme::Http,
            status,
            code,
            duration_ns: self.now.mono.since(since).as_nanos() as u64,
        });
    }
}

/// The keep-alive race (RFC 9112 §9.3.1): a connection that had served before closed without a byte.
fn lost_race(up: &Up) -> Failure {
    if up.served > 1 && up.kept.is_empty() && !up.client.begun() {
        Failure::Race
    } else {
        Failure::Plain
    }
}

fn connect_timeout(revision: &Revision, route: Option<u32>, service: Duration) -> Duration {
    route.and_then(|r| revision.routes[r as usize].shape.connect_timeout).unwrap_or(service)
}
