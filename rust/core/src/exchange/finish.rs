//! The end of an exchange: its outcome, its counters, and what its connection does next.

use super::connection::{DownWire, Exchange, Stage};
use super::wheel::Timer;
use super::Engine;
use crate::audit::record::{Finding, Outcome};
use crate::config::Fail;
use crate::error::Code;
use crate::http1::write::Framing;
use crate::message::{BodyLength, Fields, Method};
use crate::observe::{Counter, Served};
use crate::policy::EndCx;
use crate::websocket::Side;
use smallvec::SmallVec;
use std::time::Duration;

/// Exchanges kept for reuse.
const SPARE: usize = 256;

/// The rest of a request that was answered early is read and dropped up to this size; the connection is
/// closed instead of reading a longer one.
const DISCARD: u64 = 64 << 10;

/// The connection can be used again though the request was answered before its end.
pub(super) fn discardable(exchange: &Exchange) -> bool {
    let waits_for_continue = exchange.head.expect_continue && !exchange.continue_sent;
    matches!(exchange.head.length, BodyLength::Exact(n) if n <= DISCARD) && !waits_for_continue
}

impl Engine {
    /// A request that the gateway answers itself is recorded like any other, if it became one.
    pub(super) fn write_intent_of_refused(&mut self, ex: u32) {
        if self.exchanges[ex as usize].parsed {
            self.write_intent(ex);
        }
    }

    pub(super) fn write_outcome(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        if exchange.outcome_written {
            return;
        }
        exchange.outcome_written = true;
        let settled = if exchange.llm.is_some() { self.settle_call(ex) } else { None };
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.as_ref() else { return };
        let service = exchange.service;
        let endpoint = service.zip(exchange.endpoint).filter(|_| exchange.attempts > 0);
        let findings: SmallVec<[Finding<'_>; 4]> = exchange
            .findings
            .iter()
            .map(|f| Finding {
                rule: &f.rule,
                action: f.action,
                shadow: f.shadow,
                response: f.response,
                start: f.start,
                end: f.end,
            })
            .collect();
        let outcome = Outcome {
            exchange: exchange.id,
            wall_ns: self.now.wall_ns,
            duration_ns: self.now.mono.since(exchange.started).as_nanos() as u64,
            status: exchange.status,
            code: exchange.code.map_or("", Code::name),
            endpoint: endpoint.map_or("", |(s, e)| &revision.services[s as usize].endpoints[e as usize].label),
            attempts: exchange.attempts,
            upstream_ns: exchange.upstream_ns,
            request_bytes: exchange.request_bytes,
            response_bytes: exchange.response_bytes,
            truncated: exchange.truncated,
            grpc_status: exchange.grpc_status(),
            findings: &findings,
            client_ip: (!exchange.intent_written).then_some(exchange.peer.ip),
            entrypoint: if exchange.intent_written {
                ""
            } else {
                &revision.entrypoints[exchange.peer.entrypoint as usize].name
            },
            revision: revision.id,
        };
        let start = self.ledger.bytes.len();
        crate::audit::encode_outcome(&outcome, &mut self.ledger.bytes);
        if let Some(settled) = settled {
            crate::audit::extend(&mut self.ledger.bytes, start, crate::audit::LLM, &settled);
        }
        self.ledger.made();
        self.meter.add(Counter::AuditRecords, 1 + u64::from(exchange.intent_written));
    }

    /// The exchange goes on when what was recorded of it so far is on disk, or as its route says when it will not be.
    pub(super) fn await_record(&mut self, ex: u32, serial: u64) {
        if self.ledger.broken {
            return self.not_durable(ex, serial);
        }
        self.ledger.wait(ex, serial);
        self.step_deadline(ex, super::timeout::AUDIT);
    }

    /// What an exchange waited for is on disk.
    pub(super) fn released(&mut self, ex: u32, serial: u64) {
        let Some(exchange) = self.exchanges.get(ex as usize).filter(|e| e.serial == serial) else { return };
        self.wheel.clear(&mut self.deadlines[ex as usize].step);
        match exchange.stage {
            Stage::AwaitIntent => self.connect(ex),
            Stage::AwaitOutcome => self.release_end(ex),
            _ => {}
        }
    }

    /// The log is broken or too slow: the route decides.
    pub(super) fn not_durable(&mut self, ex: u32, serial: u64) {
        let Some(exchange) = self.exchanges.get(ex as usize).filter(|e| e.serial == serial) else { return };
        self.wheel.clear(&mut self.deadlines[ex as usize].step);
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        let fail = plan.map_or(Fail::Closed, |p| p.audit.fail);
        self.meter.add(Counter::AuditFailed, 1);
        match (exchange.stage, fail) {
            (Stage::AwaitIntent, Fail::Open) => self.connect(ex),
            (Stage::AwaitIntent, Fail::Closed) => self.refuse(ex, Code::AuditFailed, None),
            (Stage::AwaitOutcome, Fail::Open) => self.release_end(ex),
            (Stage::AwaitOutcome, Fail::Closed) => self.withhold_end(ex),
            _ => {}
        }
    }

    fn release_end(&mut self, ex: u32) {
        self.client_release(ex);
        self.complete(ex);
    }

    /// The outcome cannot be made durable and the route fails closed: an answer of which nothing was sent
    /// is replaced, one that has begun is cut.
    fn withhold_end(&mut self, ex: u32) {
        self.exchanges[ex as usize].close_after = true;
        if !self.client_withhold(ex) {
            self.exchanges[ex as usize].outcome_written = true;
            return self.cut(ex, Code::AuditFailed);
        }
        if self.exchanges[ex as usize].grpc.is_some() {
            self.error_head(ex, Code::AuditFailed, None);
            self.exchanges[ex as usize].framing = Framing::Exact(0);
            self.client_head(ex, Some(Code::AuditFailed), false);
            self.client_end(ex, &Fields::default(), false);
            let exchange = &mut self.exchanges[ex as usize];
            (exchange.status, exchange.code) = (200, Some(Code::AuditFailed));
            return self.complete(ex);
        }
        let body = br#"{"title":"Audit log unavailable","status":503,"code":"audit-failed"}"#;
        self.response.clear();
        self.response.status = 503;
        self.response.fields.append(b"content-type", b"application/problem+json");
        let exchange = &mut self.exchanges[ex as usize];
        let bodiless = exchange.head.method == Method::Head;
        exchange.framing = if bodiless { Framing::None } else { Framing::Exact(body.len() as u64) };
        self.client_head(ex, Some(Code::AuditFailed), false);
        if !bodiless && !self.exchanges[ex as usize].orphan {
            self.client_data(ex, body, 0..body.len(), false, false);
        }
        self.client_end(ex, &Fields::default(), false);
        let exchange = &mut self.exchanges[ex as usize];
        exchange.status = 503;
        exchange.code = Some(Code::AuditFailed);
        self.complete(ex);
    }

    /// The client is gone or has broken off its request.
    pub(super) fn client_left(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        match exchange.stage {
            // The answer is complete and recorded; only its release was outstanding.
            Stage::AwaitOutcome => return,
            Stage::Tunnel => {
                if !self.socket_gone(ex, Side::Client) {
                    self.tunnel_cut(ex);
                }
                return;
            }
            _ => {}
        }
        exchange.code = Some(Code::ClientClosed);
        exchange.truncated = exchange.answer_begun;
        exchange.close_after = true;
        self.write_intent_of_refused(ex);
        self.forget_attempt(ex);
        self.drop_upstream(ex);
        self.write_outcome(ex);
        self.complete(ex);
    }

    /// The attempt under way ends without a verdict on its endpoint.
    pub(super) fn forget_attempt(&mut self, ex: u32) {
        self.end_attempt(ex, 0, Some(Code::ClientClosed));
    }

    /// The end of every exchange.
    pub(super) fn complete(&mut self, ex: u32) {
        self.forget_attempt(ex);
        let mut exchange = self.exchanges.remove(ex as usize);
        self.wheel.clear(&mut self.deadlines[ex as usize].total);
        self.wheel.clear(&mut self.deadlines[ex as usize].step);
        let Some(revision) = exchange.revision.take() else { return };
        self.meter.end(&exchange.head.method, exchange.head.scheme);
        if exchange.raw {
            self.meter.add(Counter::TcpConnections, 1);
            self.meter.add(Counter::TcpReceived, exchange.request_bytes);
            self.meter.add(Counter::TcpSent, exchange.response_bytes);
        }
        self.meter.request(&Served {
            route: exchange.route.map_or(&revision.no_route, |r| &revision.routes[r as usize].label),
            method: &exchange.head.method,
            scheme: exchange.head.scheme,
            version: exchange.head.version,
            status: exchange.status,
            code: exchange.code,
            grpc_status: exchange.grpc_status(),
            duration_ns: self.now.mono.since(exchange.started).as_nanos() as u64,
            request_bytes: exchange.request_bytes,
            response_bytes: exchange.response_bytes,
        });
        if let Some(route) = exchange.route {
            let plan = &revision.routes[route as usize];
            let end = EndCx {
                now: self.now,
                shared: &self.shared,
                worker: self.worker,
                status: exchange.status,
                code: exchange.code,
                upstream_called: exchange.attempts > 0,
                upstream_failed: exchange.upstream_failed || (exchange.attempts > 0 && exchange.ended_badly()),
            };
            for i in (0..exchange.passed).rev() {
                plan.policies[i].on_end(&end, &mut exchange.slots[i]);
            }
        }
        let (id, orphan) = (exchange.down, exchange.orphan);
        let close = exchange.close_after || !(exchange.request_complete || discardable(&exchange));
        exchange.reset();
        if self.spare.len() < SPARE {
            self.spare.push(exchange);
        }
        if orphan {
            return;
        }
        let Some(down) = self.downs.get_mut(id as usize) else { return };
        down.exchange = None;
        if matches!(down.wire, DownWire::Stream { .. }) {
            return self.end_stream(id);
        }
        if close || down.closing {
            return self.close_down(id);
        }
        let plan = &down.revision.entrypoints[down.peer.entrypoint as usize];
        let wait = if down.server.in_request() { plan.body_timeout } else { plan.idle_timeout };
        self.wheel.set(&mut down.deadline, self.now.mono + wait, Timer::Down(id));
        if !down.kept.is_empty() || down.read_closed || self.draining {
            self.ready.push(id);
        }
        self.pause_down(id, super::pause::PEER, false);
    }

    pub(super) fn step_deadline(&mut self, ex: u32, wait: Duration) {
        self.wheel.set(&mut self.deadlines[ex as usize].step, self.now.mono + wait, Timer::Exchange(ex));
    }
}
