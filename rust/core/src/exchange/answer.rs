//! From an answer's head to its last byte at the client: whoever made it, one way out.

use super::coder::Coder;
use super::connection::{pause, DownWire, Stage, UpWire};
use super::upstream::Failure;
use super::wheel::Timer;
use super::{identity, Action, ConnId, Engine};
use crate::config::Durability;
use crate::error::Code;
use crate::http1::write::Framing;
use crate::message::{BodyLength, Fields, Known, Method, Version};
use crate::policy::{Answer, ResponseCx};
use crate::websocket::Side;

/// Interim answers one request may get; more are a way of never answering.
const MOST_INTERIMS: u8 = 16;

impl Engine {
    /// A 1xx head other than 101: passed on to clients that can take it.
    pub(super) fn interim(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        exchange.interims += 1;
        if exchange.interims > MOST_INTERIMS {
            return self.attempt_failed(ex, Code::BadUpstream, Failure::Plain);
        }
        self.response.fields.remove_known(Known::XPygateError);
        self.response.fields.remove_known(Known::XRequestId);
        let wanted = self.response.status != 100 && exchange.head.version >= Version::Http11 && !exchange.orphan;
        if wanted {
            let down = exchange.down;
            self.client_interim(down);
        }
    }

    /// The upstream's final head is in `self.response`.
    pub(super) fn answer_head(&mut self, ex: u32) {
        self.note_head(ex);
        let exchange = &mut self.exchanges[ex as usize];
        let status = self.response.status;
        if status == 101 && !(exchange.head.upgrade && agreed(&exchange.head.fields, &self.response.fields)) {
            return self.attempt_failed(ex, Code::BadUpstream, Failure::Plain);
        }
        if exchange.socket.is_some() && exchange.head.version == Version::Http2 && (200..300).contains(&status) {
            // To this client it would say that the tunnel is open.
            return self.fail_socket(ex, "the endpoint did not switch to WebSocket");
        }
        if exchange.llm.is_some() && status != 101 {
            return self.call_head(ex);
        }
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        let again = plan.and_then(|p| p.shape.retry.as_ref()).is_some_and(|retry| {
            (retry.statuses.contains(&status) || exchange.wants_again(retry))
                && exchange.attempts < retry.attempts
                && (exchange.head.method.is_idempotent() || retry.non_idempotent)
                && exchange.replayable
                && exchange.request_complete
                && !exchange.orphan
        });
        if again && self.retry_status(ex) {
            return;
        }
        self.response.fields.remove_known(Known::XPygateError);
        self.response.fields.remove_known(Known::XRequestId);
        if status == 101 {
            return self.begin_tunnel(ex);
        }
        let exchange = &mut self.exchanges[ex as usize];
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        if plan.is_some_and(|p| !p.plugins.is_empty()) {
            exchange.stage = Stage::PluginAnswer;
            exchange.shown = Some(Box::new(std::mem::take(&mut self.response)));
            let (serial, up) = (exchange.serial, exchange.up);
            if let Some(up) = up {
                self.pause_up(up, pause::KEPT, true);
            }
            self.actions.push(Action::Plugin { exchange: ex, serial, response: true });
            return;
        }
        self.answer_passed(ex);
    }

    /// The head in `self.response` may go to the client, or its body to the guard.
    pub(super) fn answer_passed(&mut self, ex: u32) {
        if self.answer_foreign(ex) {
            return;
        }
        if self.judges_response(ex) {
            self.exchanges[ex as usize].stage = Stage::Answering;
            return;
        }
        let length = self.response.length;
        self.start_answer(ex, length, None);
    }

    /// An answer with a status worth another attempt; false when there may be none.
    fn retry_status(&mut self, ex: u32) -> bool {
        if !self.retry_allowed(ex) {
            return false;
        }
        self.end_attempt(ex, self.response.status, None);
        self.drop_upstream(ex);
        self.exchanges[ex as usize].retrying = true;
        self.try_again(ex);
        true
    }

    /// Writes the head in `self.response`, after the policies and with the framing the client needs.
    pub(super) fn start_answer(&mut self, ex: u32, length: BodyLength, code: Option<Code>) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.clone() else { return };
        let plan = exchange.route.map(|r| &revision.routes[r as usize]);
        let mut encode = None;
        if let Some(plan) = plan {
            let mut cx = ResponseCx {
                head: &mut self.response,
                length,
                encode: &mut encode,
                now: self.now,
                shared: &self.shared,
                notes: &exchange.notes,
                code,
            };
            for i in (0..exchange.passed).rev() {
                plan.policies[i].on_response(&mut cx, &mut exchange.slots[i]);
            }
        }
        exchange.stage = Stage::Answering;
        exchange.answer_begun = true;
        exchange.code = code;
        exchange.status = self.response.status;
        for (known, name, value) in exchange.notes.response_fields.iter() {
            self.response.fields.append_known(known, name, value);
        }

        let bodiless = exchange.head.method == Method::Head || matches!(exchange.status, 204 | 304);
        let wrapped = exchange.wrap(&mut self.response, length);
        let length = if wrapped.is_some() { BodyLength::Streamed } else { length };
        exchange.answer_coder = wrapped.map(Box::new);
        let coder = encode
            .filter(|_| exchange.answer_coder.is_none())
            .and_then(|choice| Some((choice, Coder::encode(choice, length)?)));
        let length = match coder {
            Some((choice, coder)) => {
                choice.apply(&mut self.response);
                exchange.answer_coder = (!bodiless && length != BodyLength::None).then(|| Box::new(coder));
                if length == BodyLength::None {
                    length
                } else {
                    BodyLength::Streamed
                }
            }
            None => length,
        };
        let old = exchange.head.version == Version::Http10;
        exchange.framing = match length {
            _ if bodiless => Framing::None,
            BodyLength::None => Framing::Exact(0),
            BodyLength::Exact(n) => Framing::Exact(n),
            BodyLength::Streamed | BodyLength::UntilClose if old => Framing::UntilClose,
            BodyLength::Streamed | BodyLength::UntilClose => Framing::Chunked,
        };
        if let Framing::Exact(n) = exchange.framing {
            exchange.left = n;
        }
        let down = self.downs.get(exchange.down as usize).filter(|_| !exchange.orphan);
        let (keep_alive, limit, served) = down.map_or((false, 0, 0), |d| {
            (d.server.keep_alive(), d.revision.entrypoints[d.peer.entrypoint as usize].max_requests, d.served)
        });
        exchange.close_after |= !keep_alive
            || self.draining
            || exchange.framing == Framing::UntilClose
            || (limit > 0 && served >= limit)
            || !(exchange.request_complete || super::finish::discardable(exchange));

        let hold = plan.is_some_and(|p| p.audit.durability != Durability::Async);
        self.client_head(ex, code, hold);
    }

    /// A piece of the answer's body.
    pub(super) fn answer_data(&mut self, ex: u32, input: &[u8], range: std::ops::Range<usize>, direct: bool) {
        let exchange = &mut self.exchanges[ex as usize];
        if exchange.stage == Stage::Tunnel {
            exchange.response_bytes += range.len() as u64;
            if self.socket_data(ex, Side::Upstream, input, range.clone(), direct) {
                return;
            }
            let exchange = &self.exchanges[ex as usize];
            let down = exchange.down;
            self.client_bytes(down, input, range, direct);
            self.tunnel_alive(ex);
            return;
        }
        if exchange.llm.is_some() {
            return self.call_data(ex, &input[range]);
        }
        if exchange.judged.is_some() {
            return self.judge_data(ex, &input[range]);
        }
        self.body_out(ex, input, range, direct);
        let Some(exchange) = self.exchanges.get(ex as usize) else { return };
        if let Some(up) = exchange.up {
            if self.downs.get(exchange.down as usize).is_some_and(|d| d.write_blocked) {
                self.pause_up(up, pause::PEER, true);
            }
        }
    }

    /// Writes body bytes; those that would complete the answer may have to wait for its outcome.
    pub(super) fn body_out(&mut self, ex: u32, input: &[u8], range: std::ops::Range<usize>, direct: bool) {
        let exchange = &mut self.exchanges[ex as usize];
        exchange.note_messages(&input[range.clone()]);
        if exchange.answer_coder.is_some() && !exchange.orphan {
            let serial = exchange.serial;
            if self.held.last() != Some(&(ex, serial)) {
                self.held.push((ex, serial));
            }
            self.coded_out(ex, &input[range]);
            return;
        }
        exchange.response_bytes += range.len() as u64;
        if exchange.orphan || range.is_empty() || exchange.framing == Framing::None {
            return;
        }
        let last = match exchange.framing {
            Framing::Exact(_) => {
                exchange.left = exchange.left.saturating_sub(range.len() as u64);
                exchange.left == 0
            }
            _ => false,
        };
        let last = last && self.waits_for_outcome(ex);
        self.client_data(ex, input, range, direct, last);
    }

    /// The upstream's answer is complete.
    pub(super) fn answer_end(&mut self, ex: u32) {
        self.note_trailers(ex);
        if self.exchanges[ex as usize].llm.is_some() {
            return self.call_end(ex);
        }
        if self.exchanges[ex as usize].judged.is_some() {
            return self.response_judged(ex);
        }
        self.finish_upstream(ex);
        self.end_answer(ex);
    }

    /// The upstream has said everything: its connection is free, or of no more use.
    pub(super) fn finish_upstream(&mut self, ex: u32) {
        let status = self.exchanges[ex as usize].status;
        self.end_attempt(ex, status, None);
        if let Some(up) = self.exchanges[ex as usize].up {
            if self.exchanges[ex as usize].request_complete {
                self.exchanges[ex as usize].up = None;
                self.release_up(up);
            } else {
                // Answered before the request ended: its rest goes nowhere and the connection with it.
                self.drop_upstream(ex);
            }
        }
    }

    /// Everything of the answer but its end mark was written: record the outcome, then release the end.
    pub(super) fn end_answer(&mut self, ex: u32) {
        if !self.finish_coder(ex) {
            return;
        }
        let waits = self.waits_for_outcome(ex);
        let trailers = std::mem::take(&mut self.trailers);
        self.client_end(ex, &trailers, waits);
        self.trailers = trailers;
        self.trailers.clear();
        self.write_outcome(ex);
        if waits {
            let exchange = &mut self.exchanges[ex as usize];
            exchange.stage = Stage::AwaitOutcome;
            let serial = exchange.serial;
            return self.await_record(ex, serial);
        }
        self.complete(ex);
    }

    pub(super) fn waits_for_outcome(&self, ex: u32) -> bool {
        let exchange = &self.exchanges[ex as usize];
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        // That the log failed is said without it.
        let failed = exchange.code == Some(Code::AuditFailed);
        plan.is_some_and(|p| p.audit.durability != Durability::Async) && !failed
    }

    /// The callback ends: held bytes that need not wait for the outcome go out.
    pub(super) fn flush_held(&mut self, ex: u32, serial: u64) {
        if let Some(exchange) = self.exchanges.get(ex as usize).filter(|e| e.serial == serial) {
            if exchange.stage != Stage::AwaitOutcome && !exchange.last_held && !exchange.orphan && self.flush_coder(ex)
            {
                self.client_release(ex);
            }
        }
    }

    /// Answers with an error of the table; the connection is kept if the request allows it.
    pub(super) fn refuse(&mut self, ex: u32, code: Code, detail: Option<&str>) {
        let exchange = &mut self.exchanges[ex as usize];
        if exchange.raw {
            return self.end_bytes(ex, code);
        }
        if exchange.grpc.is_some() {
            return self.refuse_call(ex, code, detail);
        }
        if let Some((body, dialect)) = self.call_error(ex, code, detail) {
            let mut answer = Answer { status: code.status(), body, ..Answer::default() };
            answer.fields.append(b"content-type", b"application/json");
            if dialect == crate::llm::Dialect::Anthropic {
                let id = identity::text(&self.exchanges[ex as usize].id);
                answer.fields.append(b"request-id", id.as_bytes());
            }
            return self.local_answer(ex, answer, Some(code));
        }
        let mut body = serde_json::Map::new();
        body.insert("title".into(), code.title().into());
        body.insert("status".into(), code.status().into());
        if let Some(detail) = detail {
            body.insert("detail".into(), detail.into());
        }
        body.insert("code".into(), code.name().into());
        body.insert("exchange".into(), identity::text(&self.exchanges[ex as usize].id).into());
        let mut answer = Answer { status: code.status(), ..Answer::default() };
        answer.fields.append(b"content-type", b"application/problem+json");
        answer.body = serde_json::to_vec(&body).unwrap_or_default();
        self.local_answer(ex, answer, Some(code));
    }

    pub(super) fn refuse_and_close(&mut self, ex: u32, code: Code, detail: Option<&str>) {
        self.exchanges[ex as usize].close_after = true;
        self.refuse(ex, code, detail);
    }

    pub(super) fn answer_with(&mut self, ex: u32, answer: Answer) {
        self.local_answer(ex, answer, None);
    }

    fn local_answer(&mut self, ex: u32, answer: Answer, code: Option<Code>) {
        self.drop_upstream(ex);
        self.write_intent_of_refused(ex);
        self.response.clear();
        self.trailers.clear();
        self.response.status = answer.status;
        self.response.fields = answer.fields;
        self.start_answer(ex, BodyLength::Exact(answer.body.len() as u64), code);
        self.body_out(ex, &answer.body, 0..answer.body.len(), false);
        self.end_answer(ex);
    }

    /// The answer's head is out and its rest will not come: the client must see that it is cut.
    pub(super) fn cut(&mut self, ex: u32, code: Code) {
        if self.end_call(ex, code) || self.end_stream_in_error(ex, code) {
            return;
        }
        let exchange = &mut self.exchanges[ex as usize];
        exchange.truncated = true;
        exchange.code = Some(code);
        exchange.close_after = true;
        self.drop_upstream(ex);
        let exchange = &mut self.exchanges[ex as usize];
        let (down, orphan) = (exchange.down, exchange.orphan);
        if !orphan {
            // What waits for the outcome must not slip out before it.
            self.client_withhold(ex);
            // No end mark and no orderly close: a reset tells even a client that reads until close.
            self.abort_down(down);
        }
        self.end_attempt(ex, 0, Some(code));
        self.write_outcome(ex);
        self.complete(ex);
    }

    /// 101: from here on bytes pass both ways.
    fn begin_tunnel(&mut self, ex: u32) {
        if !self.join_socket(ex) {
            return;
        }
        self.exchanges[ex as usize].close_after = true;
        let exchange = &mut self.exchanges[ex as usize];
        exchange.status = 101;
        exchange.answer_begun = true;
        exchange.stage = Stage::Tunnel;
        // Tunnels have a deadline of their own.
        self.wheel.clear(&mut self.deadlines[ex as usize].total);
        let down = exchange.down;
        if exchange.orphan {
            return;
        }
        self.exchanges[ex as usize].framing = Framing::None;
        if self.stream_of(down).is_some() {
            // RFC 8441 §5: what 101 says in HTTP/1.1.
            self.response.status = 200;
        }
        self.client_head(ex, None, false);
        self.client_bytes(down, b"", 0..0, false);
        self.tunnel_alive(ex);
        self.tunnel_direct(ex);
        // Bytes the client sent behind its request were kept until now.
        self.pause_down(down, pause::KEPT, false);
        self.ready.push(down);
        self.begin_socket(ex);
    }

    /// A tunnel carried bytes: its idle deadline starts anew.
    pub(super) fn tunnel_alive(&mut self, ex: u32) {
        let exchange = &self.exchanges[ex as usize];
        let Some(id) = exchange.up else { return };
        let wait = self.tunnel_timeout(ex);
        if let (Some(up), Some(wait)) = (self.ups.get_mut(id as usize), wait) {
            self.wheel.set(&mut up.deadline, self.now.mono + wait, Timer::Up(id));
        }
        self.tunnel_pauses(ex);
    }

    /// Both legs carry bytes from now on. Streams share their connection with others, which stays as it is.
    pub(super) fn tunnel_direct(&mut self, ex: u32) {
        let exchange = &self.exchanges[ex as usize];
        let (down, up) = (exchange.down, exchange.up);
        if self.downs.get(down as usize).is_some_and(|d| !matches!(d.wire, DownWire::Stream { .. })) {
            self.actions.push(Action::Direct(ConnId::Down(down)));
        }
        if let Some(up) = up {
            if self.ups.get(up as usize).is_some_and(|u| !matches!(u.wire, UpWire::Stream { .. })) {
                self.actions.push(Action::Direct(ConnId::Up(up)));
            }
        }
    }

    /// Whoever cannot take more is not sent more.
    pub(super) fn tunnel_pauses(&mut self, ex: u32) {
        let exchange = &self.exchanges[ex as usize];
        let (Some(id), down) = (exchange.up, exchange.down) else { return };
        let (down_full, up_full) = (
            self.downs.get(down as usize).is_some_and(|d| d.write_blocked),
            self.ups.get(id as usize).is_some_and(|u| u.write_blocked),
        );
        if down_full {
            self.pause_up(id, pause::PEER, true);
        }
        if up_full {
            self.pause_down(down, pause::PEER, true);
        }
    }

    /// Both sides of a tunnel have said all, or its time is over.
    pub(super) fn tunnel_end(&mut self, ex: u32) {
        self.end_tunnel(ex, true);
    }

    /// One side of a tunnel broke off: the other must not take that for an end.
    pub(super) fn tunnel_cut(&mut self, ex: u32) {
        self.end_tunnel(ex, false);
    }

    fn end_tunnel(&mut self, ex: u32, clean: bool) {
        let exchange = &mut self.exchanges[ex as usize];
        let (down, orphan) = (exchange.down, exchange.orphan);
        exchange.truncated |= !clean;
        if clean {
            self.part_upstream(ex);
        } else if let Some(up) = exchange.up.take() {
            // Parted first: as its place comes free, another exchange may get it.
            if let Some(up) = self.ups.get_mut(up as usize) {
                up.exchange = None;
            }
            self.abort_up(up);
        }
        let status = self.exchanges[ex as usize].status;
        if !orphan && clean {
            if self.stream_of(down).is_some() {
                self.client_eof(down);
            }
            self.close_down(down);
        } else if !orphan {
            self.exchanges[ex as usize].orphan = true;
            if let Some(down) = self.downs.get_mut(down as usize) {
                down.exchange = None;
            }
            self.abort_down(down);
        }
        self.end_attempt(ex, status, None);
        self.write_outcome(ex);
        self.complete(ex);
    }
}

/// RFC 9110 §7.8: an upstream may switch only to a protocol that was asked for.
fn agreed(request: &Fields, answer: &Fields) -> bool {
    let tokens = |fields: &'_ Fields| -> Vec<Vec<u8>> {
        let lines = fields.all(b"upgrade").flat_map(|line| line.split(|&b| b == b','));
        lines.map(|token| token.trim_ascii().to_ascii_lowercase()).collect()
    };
    let (asked, taken) = (tokens(request), tokens(answer));
    !taken.is_empty() && taken.iter().all(|token| asked.contains(token))
}
