//! Bodies and the guard: hold them, judge them, and pass on what the verdict leaves.

use super::connection::{Encoded, Found, Judged, Stage};
use super::Engine;
use crate::coding::decode::codings;
use crate::coding::{DecodeError, Decoder};
use crate::config::Fail;
use crate::error::Code;
use crate::guard::{self, ContentKind, Finding, Judging, Ruleset, Unjudgeable, Verdict};
use crate::message::{BodyLength, Fields, Known, Method};
use crate::observe::Counter;
use crate::revision::GuardPlan;
use std::sync::Arc;

impl Engine {
    fn guard_plan(&self, ex: u32) -> Option<(Arc<crate::revision::Revision>, usize)> {
        let exchange = &self.exchanges[ex as usize];
        exchange.revision.clone().zip(exchange.route.map(|r| r as usize))
    }

    /// Whether this request's body must be judged; sets up its judging.
    pub(super) fn judges_request(&mut self, ex: u32) -> bool {
        let Some((revision, route)) = self.guard_plan(ex) else { return false };
        let guard = &revision.routes[route].guard;
        let exchange = &mut self.exchanges[ex as usize];
        if guard.response.is_some() {
            // Only plain and whole answers can be judged: a match asked for in ranges would leave in halves.
            exchange.head.fields.remove_known(Known::AcceptEncoding);
            exchange.head.fields.remove(b"range");
            exchange.head.fields.remove(b"if-range");
        }
        let Some(plan) = &guard.request else { return false };
        if exchange.head.length == BodyLength::None {
            return false;
        }
        // The client chooses the type, and upstreams may read a body whatever it is called.
        exchange.judged = match begin(plan, &exchange.head.fields, Some(ContentKind::Unknown)) {
            Some(judged) => Some(judged),
            None => return false,
        };
        true
    }

    /// Whether the answer in `self.response` must be judged before the client sees any of it.
    pub(super) fn judges_response(&mut self, ex: u32) -> bool {
        let Some((revision, route)) = self.guard_plan(ex) else { return false };
        let exchange = &mut self.exchanges[ex as usize];
        let Some(plan) = &revision.routes[route].guard.response else { return false };
        if exchange.head.method == Method::Head || self.response.length == BodyLength::None {
            return false;
        }
        // What a model says is judged whatever it is called.
        let other = exchange.llm.is_some().then_some(ContentKind::Unknown);
        match begin(plan, &self.response.fields, other) {
            Some(mut judged) => {
                judged.head = self.response.clone();
                exchange.status = self.response.status;
                exchange.judged = Some(judged);
                true
            }
            None => false,
        }
    }

    /// Takes body bytes into judgement.
    pub(super) fn judge_data(&mut self, ex: u32, bytes: &[u8]) {
        let Some((revision, route)) = self.guard_plan(ex) else { return };
        let guard = &revision.routes[route].guard;
        let exchange = &mut self.exchanges[ex as usize];
        let answering = exchange.stage == Stage::Answering;
        let Some(judged) = &mut exchange.judged else { return };
        let before = judged.body.len();
        match &mut judged.encoded {
            Some(encoded) => {
                encoded.bytes.extend_from_slice(bytes);
                if judged.failed.is_none() {
                    let decoded = encoded.decoder.write(bytes, &mut judged.body, guard.max_body as u64);
                    judged.failed = decoded.err().map(undecoded);
                }
            }
            None => judged.body.extend_from_slice(bytes),
        }
        let longest = judged.encoded.as_ref().map_or(0, |e| e.bytes.len()).max(judged.body.len());
        if longest > guard.max_body && judged.failed.is_none() {
            judged.failed = Some(Unjudgeable::TooLong);
        }
        let Judged { judging, body, failed, .. } = &mut **judged;
        let mut rest = &body[before..];
        while failed.is_none() && !rest.is_empty() {
            match judging.feed(rest) {
                Ok(taken) => rest = &rest[taken..],
                Err(error) => *failed = Some(error),
            }
        }
        if let Some(error) = *failed {
            // No more of it is held than the cap: a verdict that cannot come any more is acted on now.
            if guard.fail == Fail::Closed || longest > guard.max_body {
                self.unjudgeable(ex, guard, error, answering);
            }
        }
    }

    /// The request body is complete.
    pub(super) fn request_judged(&mut self, ex: u32) {
        let Some((revision, route)) = self.guard_plan(ex) else { return };
        let guard = &revision.routes[route].guard;
        let Some(mut judged) = self.exchanges[ex as usize].judged.take() else { return self.dispatch(ex) };
        let mut masked = Vec::new();
        let verdict = match finish(&mut judged, &mut masked) {
            Ok(judgement) => {
                let ruleset = guard.request.as_ref().map(|p| p.ruleset().clone());
                self.note_findings(ex, ruleset, &judgement.findings, false);
                judgement.verdict
            }
            Err(error) => {
                self.exchanges[ex as usize].judged = Some(judged);
                return self.unjudgeable(ex, guard, error, false);
            }
        };
        let exchange = &mut self.exchanges[ex as usize];
        exchange.body = match verdict {
            Verdict::Block { .. } => return self.refuse(ex, Code::GuardBlocked, None),
            Verdict::Masked => masked,
            Verdict::Pass => judged.body,
        };
        // What was judged is what goes on: nobody behind may read the encoded form in another way.
        exchange.head.fields.remove_known(Known::ContentEncoding);
        exchange.head.length = BodyLength::Exact(exchange.body.len() as u64);
        self.dispatch(ex);
    }

    /// The answer's body is complete.
    pub(super) fn response_judged(&mut self, ex: u32) {
        let Some((revision, route)) = self.guard_plan(ex) else { return };
        let guard = &revision.routes[route].guard;
        let Some(mut judged) = self.exchanges[ex as usize].judged.take() else { return };
        self.finish_upstream(ex);
        let mut masked = Vec::new();
        let verdict = match finish(&mut judged, &mut masked) {
            Ok(judgement) => {
                let ruleset = guard.response.as_ref().map(|p| p.ruleset().clone());
                self.note_findings(ex, ruleset, &judgement.findings, true);
                judgement.verdict
            }
            Err(_) if guard.fail == Fail::Open => {
                self.meter.add(Counter::GuardUnjudged, 1);
                Verdict::Pass
            }
            Err(error) => {
                self.exchanges[ex as usize].judged = Some(judged);
                return self.unjudgeable(ex, guard, error, true);
            }
        };
        if !matches!(verdict, Verdict::Block { .. }) && !self.stream_passes(ex, guard, &judged.body) {
            return self.refuse(ex, Code::GuardBlocked, None);
        }
        let body = match verdict {
            Verdict::Block { .. } => return self.refuse(ex, Code::GuardBlocked, None),
            Verdict::Masked => masked,
            Verdict::Pass => std::mem::take(&mut judged.body),
        };
        let decoded = judged.encoded.is_some();
        self.response = judged.head;
        // A validator of the body as it was would be a lie about the body as it is.
        self.response.fields.remove_known(Known::ContentEncoding);
        if verdict == Verdict::Masked || decoded {
            self.response.fields.remove_known(Known::Etag);
            self.response.fields.remove(b"content-md5");
            self.response.fields.remove(b"digest");
            self.response.fields.remove(b"repr-digest");
            self.response.fields.remove(b"content-digest");
        }
        self.start_answer(ex, BodyLength::Exact(body.len() as u64), None);
        self.body_out(ex, &body, 0..body.len(), false);
        self.end_answer(ex);
    }

    /// The body cannot be judged: the route decides.
    fn unjudgeable(&mut self, ex: u32, guard: &GuardPlan, error: Unjudgeable, response: bool) {
        self.meter.add(Counter::GuardUnjudged, 1);
        let Some(mut judged) = self.exchanges[ex as usize].judged.take() else { return };
        if guard.fail == Fail::Closed {
            let code = match (error, response) {
                (Unjudgeable::TooLong, false) => Code::BodyTooLarge,
                (Unjudgeable::TooLong, true) => Code::UpstreamTooLarge,
                _ => Code::GuardFailed,
            };
            let detail = error.to_string();
            if !self.exchanges[ex as usize].request_complete {
                return self.fail_request(ex, code, Some(&detail));
            }
            self.forget_attempt(ex);
            return self.refuse(ex, code, Some(&detail));
        }
        let body = judged.take_body();
        if response {
            self.response = judged.head;
            let length = self.response.length;
            self.start_answer(ex, length, None);
            self.body_out(ex, &body, 0..body.len(), false);
        } else {
            let exchange = &mut self.exchanges[ex as usize];
            exchange.body = body;
            if exchange.llm.is_some() && !exchange.request_complete {
                // A call goes on when all of it is there; its rest is gathered without the guard.
                return;
            }
            self.dispatch(ex);
        }
    }

    pub(super) fn note_findings(
        &mut self,
        ex: u32,
        ruleset: Option<Arc<Ruleset>>,
        findings: &[Finding],
        response: bool,
    ) {
        let Some(ruleset) = ruleset else { return };
        for finding in findings {
            let counter = match finding.action {
                _ if finding.shadow => Counter::GuardShadow,
                guard::Action::Allow => Counter::GuardAllow,
                guard::Action::Tag => Counter::GuardTag,
                guard::Action::Mask => Counter::GuardMask,
                guard::Action::Block => Counter::GuardBlock,
            };
            self.meter.add(counter, 1);
            // A record names each finding up to a cap; the counters above know all of them.
            let kept = &mut self.exchanges[ex as usize].findings;
            if kept.len() < 32 {
                kept.push(Found {
                    rule: ruleset.rules()[finding.rule as usize].name.clone(),
                    action: finding.action.name(),
                    shadow: finding.shadow,
                    response,
                    start: finding.start,
                    end: finding.end,
                });
            }
        }
    }
}

/// `other`: how bodies are judged whose type is not text; `None`: not at all.
fn begin(plan: &guard::Plan, fields: &Fields, other: Option<ContentKind>) -> Option<Box<Judged>> {
    if plan.is_empty() {
        return None;
    }
    let kind = match ContentKind::of(fields.get_known(Known::ContentType).unwrap_or(b"")) {
        Ok(kind) => Ok(kind.or(other)?),
        Err(error) => Err(error),
    };
    let (encoded, failed) = match decoder(fields) {
        Ok(decoder) => (decoder.map(|decoder| Encoded { decoder, bytes: Vec::new() }), kind.err()),
        Err(error) => (None, Some(undecoded(error))),
    };
    let judging = Judging::new(plan, kind.unwrap_or(ContentKind::Unknown));
    Some(Box::new(Judged { judging, body: Vec::new(), encoded, head: Default::default(), failed }))
}

/// What undoes the content codings of a body with these fields, if it has any.
fn decoder(fields: &Fields) -> Result<Option<Decoder>, DecodeError> {
    let codings = codings(fields.all(b"content-encoding"))?;
    if codings.is_empty() {
        return Ok(None);
    }
    Decoder::new(&codings).map(Some)
}

fn undecoded(error: DecodeError) -> Unjudgeable {
    match error {
        DecodeError::TooLong | DecodeError::Bomb => Unjudgeable::TooLong,
        _ => Unjudgeable::Encoded,
    }
}

impl Judged {
    /// The body as it came.
    fn take_body(&mut self) -> Vec<u8> {
        match self.encoded.take() {
            Some(encoded) => encoded.bytes,
            None => std::mem::take(&mut self.body),
        }
    }
}

fn finish(judged: &mut Judged, masked: &mut Vec<u8>) -> Result<guard::Judgement, Unjudgeable> {
    let cut = judged.encoded.as_mut().and_then(|encoded| encoded.decoder.finish().err());
    match judged.failed.or(cut.map(undecoded)) {
        Some(error) => Err(error),
        None => judged.judging.finish(&judged.body, masked),
    }
}
