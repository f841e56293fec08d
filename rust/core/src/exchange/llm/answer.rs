//! Answers of providers: measured, translated, or the reason for another attempt.
//!
//! Rules:
//! 1. Of a stream nothing is told before its first token: until then its failure is the next target's chance.
//! 2. An answer in the client's own dialect goes on byte for byte, but for usage that only the gateway asked for.
//! 3. A provider's fields stay here, but for the type of its answer: they speak of the gateway's account, not the client's.
//! 4. A stream that breaks ends in the dialect's error event, never as if complete.

use super::super::connection::Stage;
use super::super::upstream::Failure;
use super::super::{identity, Engine};
use super::{exact, Call};
use crate::error::Code;
use crate::llm::error::{Error, Kind};
use crate::llm::request::Call as Kinds;
use crate::llm::translate::{self, Context};
use crate::llm::usage::{Ending, Meter};
use crate::llm::{event_stream, sse, Dialect};
use crate::message::{BodyLength, Fields, Known, ResponseHead};
use crate::policy::Answer;
use memchr::memmem;
use std::time::Duration;

/// Longest whole answer that is translated.
const MAX_WHOLE: usize = 16 << 20;
/// Longest error that is read.
const MAX_ERROR: usize = 64 << 10;
/// Time for all of an error.
const ERROR: Duration = Duration::from_secs(20);
/// Bytes of a stream held for its first token.
const MAX_PENDING: usize = 256 << 10;

/// How the answer of the attempt under way is dealt with.
#[derive(Default)]
pub enum Answering {
    #[default]
    None,
    /// Passed on as it comes.
    Whole(Box<Meter>),
    /// Gathered: to be translated, or an error to be understood.
    Gathered {
        head: Box<ResponseHead>,
        body: Vec<u8>,
        meter: Box<Meter>,
    },
    Stream(Box<Streaming>),
}

pub struct Streaming {
    pub meter: Meter,
    through: Through,
    /// Its head, until the client is told.
    head: Option<ResponseHead>,
    pending: Vec<u8>,
}

enum Through {
    /// The client's own dialect.
    Bytes,
    /// The same without the usage it did not ask for.
    Unasked(sse::Reader),
    Events(sse::Reader, translate::Stream),
    Frames(event_stream::Reader, translate::Stream),
}

impl Answering {
    pub fn meter(&self) -> Option<&Meter> {
        match self {
            Answering::None => None,
            Answering::Whole(meter) | Answering::Gathered { meter, .. } => Some(meter),
            Answering::Stream(streaming) => Some(&streaming.meter),
        }
    }
}

impl Streaming {
    /// The client was told that its stream broke.
    pub fn is_broken(&self) -> bool {
        match &self.through {
            Through::Events(_, stream) | Through::Frames(_, stream) => stream.state() == translate::End::Broken,
            _ => false,
        }
    }

    /// Takes bytes of the provider, appends those for the client. False: they cannot be understood.
    fn feed(&mut self, bytes: &[u8], at: u64, out: &mut Vec<u8>) -> bool {
        let mut rest = bytes;
        match &mut self.through {
            Through::Bytes => {
                self.meter.feed(bytes, at);
                out.extend_from_slice(bytes);
            }
            Through::Unasked(reader) => loop {
                match reader.next(&mut rest) {
                    Ok(Some(event)) => {
                        self.meter.event(event.name, event.data, at);
                        if !is_usage_alone(event.data) {
                            sse::write(out, event.name, event.data);
                        }
                    }
                    Ok(None) => break,
                    Err(_) => return false,
                }
            },
            Through::Events(reader, stream) => loop {
                match reader.next(&mut rest) {
                    Ok(Some(event)) => {
                        self.meter.event(event.name, event.data, at);
                        stream.event(event.name, event.data, out);
                    }
                    Ok(None) => break,
                    Err(_) => return false,
                }
            },
            Through::Frames(reader, stream) => loop {
                match reader.next(&mut rest) {
                    Ok(Some(frame)) => {
                        self.meter.frame(&frame, at);
                        let name = frame.event().map(|named| match named {
                            event_stream::Named::Event(name) | event_stream::Named::Exception(name) => name,
                        });
                        stream.event(name, frame.payload, out);
                    }
                    Ok(None) => break,
                    Err(_) => return false,
                }
            },
        }
        true
    }

    /// The provider's stream is over, `cut` if it broke off. What the client is told last is appended.
    fn finish(&mut self, cut: bool, at: u64, error: &Error, client: Dialect, id: &str, out: &mut Vec<u8>) {
        self.meter.end(at);
        let ending = self.meter.ending();
        let broken = ending != Ending::Clean && (cut || ending == Ending::Open);
        match &mut self.through {
            Through::Bytes => {
                if broken {
                    if client != Dialect::Bedrock {
                        // Half an event may have gone out: this ends it, so that the error is an event of its own.
                        out.extend_from_slice(b"\n\n");
                    }
                    error.write_event(client, Some(id), self.meter.events(), out);
                }
            }
            Through::Unasked(reader) => {
                let last = if cut { None } else { reader.end() };
                if let Some(event) = last.filter(|event| !is_usage_alone(event.data)) {
                    sse::write(out, event.name, event.data);
                }
                if broken {
                    error.write_event(client, Some(id), self.meter.events(), out);
                }
            }
            Through::Events(reader, stream) => {
                let last = if cut { None } else { reader.end() };
                if let Some(event) = last {
                    stream.event(event.name, event.data, out);
                }
                stream.end(broken, out);
            }
            Through::Frames(_, stream) => stream.end(broken, out),
        }
    }
}

/// OpenAI's last chunk of a stream that was asked to tell usage: no choices, only usage.
fn is_usage_alone(data: &[u8]) -> bool {
    if memmem::find(data, b"\"usage\"").is_none() || memmem::find(data, b"\"choices\"").is_none() {
        return false;
    }
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return false };
    value["choices"].as_array().is_some_and(Vec::is_empty) && value["usage"].is_object()
}

impl Engine {
    /// A provider's final head is in `self.response`.
    pub(in super::super) fn call_head(&mut self, ex: u32) {
        let head = std::mem::take(&mut self.response);
        let exchange = &mut self.exchanges[ex as usize];
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        exchange.stage = Stage::Answering;
        let kind = head.fields.get_known(Known::ContentType).unwrap_or(b"");
        let streams = kind.starts_with(b"text/event-stream") || kind.starts_with(b"application/vnd.amazon.eventstream");
        let good = (200..300).contains(&head.status);
        let encoded = head.fields.has(Known::ContentEncoding);
        let translates = call.speaks != call.dialect;
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        // What it cost is known at its end, and stands in its head.
        let priced = plan.and_then(|p| p.llm.as_ref()).is_some_and(|llm| llm.cost_header) && is_measured(call.kind);
        if encoded && (streams || translates || !good) {
            return self.attempt_failed(ex, Code::BadUpstream, Failure::Plain);
        }
        call.status = head.status;
        if good && streams && matches!(call.kind, Kinds::Chat | Kinds::Completions) {
            let context = Context {
                model: call.asked.clone(),
                created: self.now.wall_ns / 1_000_000_000,
                entropy: exchange.id,
                include_usage: call.peek.include_usage,
            };
            let through = match (translates, call.speaks) {
                (false, _) if call.hides_usage => Through::Unasked(sse::Reader::default()),
                (false, _) => Through::Bytes,
                (true, Dialect::Bedrock) => Through::Frames(
                    event_stream::Reader::default(),
                    translate::Stream::new(call.speaks, call.dialect, context),
                ),
                (true, speaks) => {
                    Through::Events(sse::Reader::default(), translate::Stream::new(speaks, call.dialect, context))
                }
            };
            let meter = Meter::stream(call.speaks);
            let streaming = Streaming { meter, through, head: Some(head), pending: Vec::new() };
            call.answering = Answering::Stream(Box::new(streaming));
            return;
        }
        let most = if is_measured(call.kind) { MAX_WHOLE } else { 0 };
        let meter = Box::new(Meter::whole(call.speaks, most));
        if good && !(translates || (priced && !encoded)) {
            call.answering = Answering::Whole(meter);
            let length = head.length;
            self.begin_call_answer(ex, head, length);
            return;
        }
        call.answering = Answering::Gathered { head: Box::new(head), body: Vec::new(), meter };
        if !good {
            self.step_deadline(ex, ERROR);
        }
    }

    /// Bytes of the provider's body.
    pub(in super::super) fn call_data(&mut self, ex: u32, bytes: &[u8]) {
        let at = self.call_micros(ex);
        let Some(call) = self.exchanges[ex as usize].llm.as_deref_mut() else { return };
        match &mut call.answering {
            Answering::None => {}
            Answering::Whole(meter) => {
                meter.feed(bytes, at);
                self.call_out(ex, bytes);
            }
            Answering::Gathered { head, body, .. } => {
                let good = (200..300).contains(&head.status);
                if body.len() + bytes.len() > if good { MAX_WHOLE } else { MAX_ERROR } {
                    if good {
                        return self.attempt_failed(ex, Code::UpstreamTooLarge, Failure::Plain);
                    }
                    return;
                }
                body.extend_from_slice(bytes);
            }
            Answering::Stream(_) => self.answer_stream(ex, bytes, at),
        }
    }

    fn answer_stream(&mut self, ex: u32, bytes: &[u8], at: u64) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(Call { answering: Answering::Stream(streaming), .. }) = exchange.llm.as_deref_mut() else { return };
        let mut out = std::mem::take(&mut self.translated);
        out.clear();
        let understood = streaming.feed(bytes, at, &mut out);
        let first = streaming.meter.first();
        let failed = streaming.meter.ending() == Ending::Failed;
        if streaming.head.is_some() {
            streaming.pending.extend_from_slice(&out);
            if understood && !failed && first.is_none() && streaming.pending.len() <= MAX_PENDING {
                self.translated = out;
                return;
            }
            if !understood || failed {
                self.translated = out;
                return self.attempt_failed(ex, Code::BadUpstream, Failure::Plain);
            }
            std::mem::swap(&mut out, &mut streaming.pending);
            self.begin_stream(ex);
        }
        let alive = self.call_out(ex, &out);
        self.translated = out;
        if alive && !understood {
            self.attempt_failed(ex, Code::BadUpstream, Failure::Plain);
        }
    }

    /// The first token is here: the client is told that its stream begins.
    fn begin_stream(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        let Answering::Stream(streaming) = &mut call.answering else { return };
        let Some(mut head) = streaming.head.take() else { return };
        head.fields.set_known(Known::ContentType, call.dialect.stream_type().as_bytes());
        self.begin_call_answer(ex, head, BodyLength::Streamed);
    }

    /// Starts the client's answer with what of the provider's head is the client's business.
    fn begin_call_answer(&mut self, ex: u32, head: ResponseHead, length: BodyLength) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.clone() else { return };
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        self.wheel.clear(&mut self.deadlines[ex as usize].step);
        call.first_token = Some(self.now.mono);
        if call.cache.is_none() {
            // No attempt will need it any more.
            call.body = Vec::new();
        }
        let model = &revision.ai.models[call.model as usize];
        if let Some(target) = call.target.map(|t| &model.targets[t as usize]) {
            self.targets.first_token(target.key, self.now.mono.since(call.attempt_begun), self.now.mono);
            self.targets.did_well(target.key, call.attempt_begun);
            let provider = &revision.ai.providers[target.provider as usize];
            if let Some(credential) = call.credential.and_then(|c| provider.credentials.get(c as usize)) {
                self.targets.did_well(credential.key, call.attempt_begun);
            }
        }
        let mut fields = Fields::default();
        for (known, name, value) in head.fields.iter() {
            if matches!(known, Known::ContentType | Known::ContentEncoding) || name == b"content-disposition" {
                fields.append_known(known, name, value);
            }
        }
        if matches!(length, BodyLength::Streamed | BodyLength::UntilClose) {
            fields.append(b"cache-control", b"no-cache");
        }
        if call.dialect == Dialect::Anthropic {
            fields.append(b"request-id", identity::text(&exchange.id).as_bytes());
        }
        if !call.losses.is_empty() {
            let mut text = String::new();
            for loss in call.losses.iter().take(16) {
                let plain: String =
                    loss.chars().map(|c| if c.is_ascii_graphic() && c != ',' { c } else { '_' }).collect();
                text += if text.is_empty() { "" } else { ", " };
                text += &plain;
            }
            fields.append(b"x-pygate-translation-loss", text.as_bytes());
        }
        self.response = ResponseHead { status: head.status, fields, ..ResponseHead::default() };
        self.response.length = length;
        if self.judges_response(ex) {
            return;
        }
        self.start_answer(ex, length, None);
    }

    /// Bytes for the client; false: the call is over, as the guard or the client's end had it.
    pub(super) fn call_out(&mut self, ex: u32, bytes: &[u8]) -> bool {
        let serial = self.exchanges[ex as usize].serial;
        if bytes.is_empty() {
            return true;
        }
        self.copy_answer(ex, bytes);
        if self.exchanges[ex as usize].judged.is_some() {
            self.judge_data(ex, bytes);
        } else {
            self.body_out(ex, bytes, 0..bytes.len(), false);
        }
        let exchange = self.exchanges.get(ex as usize);
        let Some(exchange) = exchange.filter(|e| e.serial == serial && e.stage == Stage::Answering) else {
            return false;
        };
        if let Some(up) = exchange.up {
            if self.downs.get(exchange.down as usize).is_some_and(|d| d.write_blocked) {
                self.pause_up(up, super::super::pause::PEER, true);
            }
        }
        true
    }

    /// The provider has said everything.
    pub(in super::super) fn call_end(&mut self, ex: u32) {
        let at = self.call_micros(ex);
        let Some(call) = self.exchanges[ex as usize].llm.as_deref_mut() else { return };
        match &mut call.answering {
            Answering::None => self.attempt_failed(ex, Code::BadUpstream, Failure::Plain),
            Answering::Whole(meter) => {
                meter.end(at);
                self.finish_call(ex);
            }
            Answering::Gathered { head, .. } if (200..300).contains(&head.status) => self.translate_answer(ex, at),
            Answering::Gathered { .. } => self.provider_error(ex),
            Answering::Stream(_) => self.answer_stream_end(ex, at),
        }
    }

    pub(super) fn finish_call(&mut self, ex: u32) {
        self.keep_answer(ex);
        if self.exchanges[ex as usize].judged.is_some() {
            return self.response_judged(ex);
        }
        self.finish_upstream(ex);
        self.end_answer(ex);
    }

    fn answer_stream_end(&mut self, ex: u32, at: u64) {
        let id = identity::text(&self.exchanges[ex as usize].id);
        let exchange = &mut self.exchanges[ex as usize];
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        let client = call.dialect;
        let Answering::Stream(streaming) = &mut call.answering else { return };
        let mut out = std::mem::take(&mut self.translated);
        out.clear();
        let error =
            Error::new(Kind::BadGateway, "the provider's stream ended before its end").code(Code::UpstreamReset.name());
        streaming.finish(false, at, &error, client, &id, &mut out);
        let broken = matches!(streaming.meter.ending(), Ending::Open | Ending::Failed);
        if streaming.head.is_some() {
            if broken {
                self.translated = out;
                return self.attempt_failed(ex, Code::UpstreamReset, Failure::Plain);
            }
            let mut pending = std::mem::take(&mut streaming.pending);
            pending.append(&mut out);
            out = pending;
            self.begin_stream(ex);
        }
        if broken {
            self.exchanges[ex as usize].truncated = true;
        }
        let alive = self.call_out(ex, &out);
        self.translated = out;
        if alive {
            self.finish_call(ex);
        }
    }

    fn translate_answer(&mut self, ex: u32, at: u64) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        let Answering::Gathered { head, body, meter } = &mut call.answering else { return };
        meter.feed(body, at);
        meter.end(at);
        let context = Context {
            model: call.asked.clone(),
            created: self.now.wall_ns / 1_000_000_000,
            entropy: exchange.id,
            include_usage: true,
        };
        let mut out = Vec::new();
        let mut head = std::mem::take(&mut **head);
        if call.speaks == call.dialect {
            out = std::mem::take(body);
        } else {
            match translate::answer(call.speaks, call.dialect, body, &context, &mut out) {
                Ok(losses) => call.losses.extend(losses.iter().map(|loss| loss.path.clone())),
                Err(_) => return self.attempt_failed(ex, Code::BadUpstream, Failure::Plain),
            }
            head.fields.set_known(Known::ContentType, b"application/json");
        }
        let cost = self.call_cost(ex);
        if let Some(cost) = cost {
            self.exchanges[ex as usize].notes.response_fields.append(b"x-pygate-cost", cost.as_bytes());
        }
        self.begin_call_answer(ex, head, exact(&out));
        if self.call_out(ex, &out) {
            self.finish_call(ex);
        }
    }

    /// What the call cost, in USD, where the route tells it; `unknown` where something of it has no price.
    fn call_cost(&self, ex: u32) -> Option<String> {
        let exchange = &self.exchanges[ex as usize];
        let (revision, route) = exchange.revision.as_ref().zip(exchange.route)?;
        revision.routes[route as usize].llm.as_ref().filter(|plan| plan.cost_header)?;
        let call = exchange.llm.as_deref()?;
        let target = &revision.ai.models[call.model as usize].targets[call.target? as usize];
        let usage = call.answering.meter()?.settle(call.prompt);
        let Some(cost) = target.prices.as_ref().and_then(|prices| prices.cost(&usage)) else {
            return Some("unknown".into());
        };
        let nano = cost.pico().div_ceil(1000);
        Some(format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000))
    }

    /// The provider answers with an error: the next target's chance, or the client's to hear.
    fn provider_error(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.clone() else { return };
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        let Answering::Gathered { head, body, .. } = &call.answering else { return };
        let status = head.status;
        let error = Error::read(status, body);
        let asked = retry_after(&head.fields);
        let (dialect, target, credential) = (call.dialect, call.target, call.credential);
        let blames = error.kind.blames_credential();
        let helps = error.kind.fails_over() || blames || matches!(status, 408 | 409 | 429 | 500..=599);
        exchange.status = status;
        let number = call.model;
        self.finish_upstream(ex);
        let model = &revision.ai.models[number as usize];
        if let Some(target) = target.map(|t| &model.targets[t as usize]) {
            let provider = &revision.ai.providers[target.provider as usize];
            let credential = credential.and_then(|c| provider.credentials.get(c as usize));
            match credential.filter(|_| blames && provider.credentials.len() > 1) {
                Some(credential) => self.targets.failed(credential.key, asked, self.now.mono),
                // Nothing is wrong with the target where the call is at fault.
                None if matches!(error.kind, Kind::ContextLength | Kind::Conflict) => {}
                None if helps => self.targets.failed(target.key, asked, self.now.mono),
                None => {}
            }
        }
        if helps && blames && self.another_credential(ex) {
            return;
        }
        self.land(ex);
        if helps && self.may_try_another(ex) {
            self.meter.add(crate::observe::Counter::Retries, 1);
            return self.next_target(ex);
        }
        if matches!(error.kind, Kind::Unauthenticated | Kind::Forbidden) {
            // The client's own key was good: what is refused is the gateway's.
            return self.refuse(ex, Code::ProviderRefused, None);
        }
        let mut answer = Answer { status, ..Answer::default() };
        if status == 404 {
            return self.refuse(ex, Code::ModelNotFound, Some("the provider does not know the target's model"));
        }
        let mut error = error;
        if !matches!(error.kind, Kind::BadRequest | Kind::ContextLength | Kind::ContentFilter | Kind::TooLarge) {
            // What it says of accounts and machines is not the client's business.
            error = Error::new(error.kind, format!("the provider answered {status}"));
        }
        error.write(dialect, Some(&identity::text(&self.exchanges[ex as usize].id)), &mut answer.body);
        answer.fields.append(b"content-type", b"application/json");
        if let Some((name, value)) = error.header(dialect) {
            answer.fields.append(name.as_bytes(), value.as_bytes());
        }
        if let Some(asked) = asked {
            answer.fields.append(b"retry-after", asked.as_secs().max(1).to_string().as_bytes());
        }
        self.answer_with(ex, answer);
    }

    /// A stream is cut after it has begun: its client is told in an event. False: it cannot be.
    pub(in super::super) fn end_stream_in_error(&mut self, ex: u32, code: Code) -> bool {
        let at = self.call_micros(ex);
        let id = identity::text(&self.exchanges[ex as usize].id);
        let exchange = &mut self.exchanges[ex as usize];
        if matches!(code, Code::ClientClosed | Code::AuditFailed)
            || exchange.orphan
            || exchange.stage != Stage::Answering
        {
            return false;
        }
        let Some(call) = exchange.llm.as_deref_mut() else { return false };
        let client = call.dialect;
        let Answering::Stream(streaming) = &mut call.answering else { return false };
        if client == Dialect::Bedrock && matches!(streaming.through, Through::Bytes) {
            // A frame may have gone out in half: only a cut connection says so.
            return false;
        }
        let mut out = Vec::new();
        let error = super::error_of(code, code.title());
        streaming.finish(true, at, &error, client, &id, &mut out);
        exchange.truncated = true;
        self.end_attempt(ex, 0, Some(code));
        self.drop_upstream(ex);
        if self.call_out(ex, &out) {
            self.exchanges[ex as usize].code = Some(code);
            self.trailers.clear();
            self.end_answer(ex);
        }
        true
    }

    /// Microseconds since the call began.
    pub(super) fn call_micros(&self, ex: u32) -> u64 {
        self.now.mono.since(self.exchanges[ex as usize].started).as_micros() as u64
    }
}

/// When a provider says to come back: seconds, or OpenAI's milliseconds.
fn retry_after(fields: &Fields) -> Option<Duration> {
    let number = |name: &[u8]| std::str::from_utf8(fields.get(name)?).ok()?.trim().parse::<f64>().ok();
    let seconds = number(b"retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number(b"retry-after"))?;
    (0.0..86_400.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// Whether a call of this kind is measured.
pub(super) fn is_measured(kind: Kinds) -> bool {
    matches!(kind, Kinds::Chat | Kinds::Embeddings | Kinds::Completions)
}
