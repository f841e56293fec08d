//! Attempts: the request of one target after the other.

use super::super::connection::Stage;
use super::super::Engine;
use super::{exact, Answering};
use crate::ai::plan::TargetPlan;
use crate::ai::provider::{ProviderPlan, Sent};
use crate::config::{Durability, LossUse};
use crate::error::Code;
use crate::llm::request::{set_max_output, Call as Kinds, Changes};
use crate::llm::translate::{self, Options, Refused};
use crate::llm::Dialect;
use crate::message::{Known, Method};
use crate::observe::Counter;
use crate::revision::Revision;
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// Sends the call to the next target of its order.
    pub(in super::super) fn next_target(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.clone() else { return };
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        let model = &revision.ai.models[call.model as usize];
        let Some(&number) = call.order.get(call.next) else {
            return self.refuse(ex, Code::NoEndpoint, Some("every target of the model failed"));
        };
        call.next += 1;
        let target = &model.targets[number as usize];
        let provider = &revision.ai.providers[target.provider as usize];
        let credential = self.targets.credential(provider, self.now.mono).map(|c| c.key);
        let credential = credential.and_then(|key| provider.credentials.iter().position(|c| c.key == key));
        call.target = Some(number);
        call.credential = credential.map(|at| at as u16);
        call.speaks = if call.kind == Kinds::Chat { provider.dialect(call.dialect) } else { call.dialect };
        call.answering = Answering::None;
        call.losses.clear();
        call.copy.clear();
        exchange.service = Some(provider.service);
        exchange.endpoint = None;
        exchange.tried.clear();
        exchange.judged = None;
        // What the record says of the request is what the client sent.
        self.write_intent(ex);
        if !self.write_call(ex, &revision, target, provider) {
            return;
        }
        let exchange = &mut self.exchanges[ex as usize];
        let Some(route) = exchange.route else { return };
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        call.attempt_begun = self.now.mono;
        call.flying = true;
        self.targets.begun(target.key, call.prompt);
        if call.next == 1 && revision.routes[route as usize].audit.durability == Durability::Call {
            exchange.stage = Stage::AwaitIntent;
            let serial = exchange.serial;
            return self.await_record(ex, serial);
        }
        self.connect(ex);
    }

    /// Writes head and body of the request for a target; false: the call was refused.
    fn write_call(&mut self, ex: u32, revision: &Arc<Revision>, target: &TargetPlan, provider: &ProviderPlan) -> bool {
        let unix = self.now.wall_ns / 1_000_000_000;
        let exchange = &mut self.exchanges[ex as usize];
        let Some(route) = exchange.route else { return false };
        let Some(plan) = revision.routes[route as usize].llm.as_ref() else { return false };
        let Some(call) = exchange.llm.as_deref_mut() else { return false };
        let mut body = std::mem::take(&mut exchange.body);
        body.clear();
        let limit = super::most_output(plan.max_output, call.key.as_deref());
        if call.speaks != call.dialect {
            let options = Options {
                model: Some(target.model.clone()),
                stream: Some(call.stream),
                refuse_losses: plan.loss == LossUse::Refuse,
                ..Options::default()
            };
            match translate::request(call.dialect, call.speaks, &call.body, &options, &mut body) {
                Ok(losses) => {
                    call.losses = losses.iter().map(|loss| loss.path.clone()).collect();
                }
                Err(refused) => {
                    let code = match refused {
                        Refused::Lossy(_) => Code::TranslationLoss,
                        _ => Code::BadCall,
                    };
                    self.refuse(ex, code, Some(&refused.to_string()));
                    return false;
                }
            }
            call.hides_usage = false;
        } else if call.kind.has_peek() {
            let in_body = !matches!(call.dialect, Dialect::Gemini | Dialect::Bedrock);
            let asks = call.stream && call.dialect == Dialect::OpenAiChat && call.kind == Kinds::Chat;
            call.hides_usage = asks && !call.peek.include_usage;
            let changes =
                Changes { model: in_body.then_some(target.model.as_str()), stream: None, include_usage: asks };
            call.peek.rewrite(&call.body, changes, &mut body);
        } else {
            body.extend_from_slice(&call.body);
        }
        if let Some(limit) = limit.filter(|_| call.kind == Kinds::Chat) {
            if call.peek.max_output.is_none_or(|asked| asked > limit) {
                // The body was read before: what could fail is found there.
                let _ = set_max_output(call.speaks, &mut body, limit, false);
            }
        }
        let path = provider.target(call.speaks, call.kind, &target.model, call.stream, &call.own);
        let options = revision.entrypoints[exchange.peer.entrypoint as usize].limits.path;
        let head = &mut exchange.head;
        if head.target.parse(path.as_bytes(), options).is_err() {
            self.refuse(ex, Code::NoTarget, Some("the target's address cannot be written"));
            return false;
        }
        std::mem::swap(&mut head.fields, &mut self.refused_head.fields);
        head.fields.clear();
        for (known, name, value) in call.fields.iter() {
            let foreign = name.starts_with(b"anthropic-") && call.speaks != Dialect::Anthropic
                || name.starts_with(b"openai-") && provider.dialect(Dialect::OpenAiChat) != Dialect::OpenAiChat;
            if !foreign {
                head.fields.append_known(known, name, value);
            }
        }
        if call.kind.has_peek() {
            head.fields.set_known(Known::ContentType, b"application/json");
        }
        head.fields.append(b"accept", if call.stream { call.speaks.stream_type().as_bytes() } else { b"*/*" });
        head.host.clear();
        head.port = None;
        head.expect_continue = false;
        if !head.upgrade {
            head.length = exact(&body);
        }
        if call.kind.has_peek() {
            head.method = Method::Post;
        }
        let service = &revision.services[provider.service as usize];
        let host = service.endpoints.first().map_or("", |e| std::str::from_utf8(&e.host_header).unwrap_or(""));
        let credential = call.credential.and_then(|at| provider.credentials.get(at as usize));
        let method = String::from_utf8_lossy(head.method.as_bytes()).into_owned();
        let target = String::from_utf8_lossy(head.target.as_bytes()).into_owned();
        let sent = Sent { method: &method, host, target: &target, body: &body };
        provider.authenticate(&mut head.fields, credential, &sent, unix);
        exchange.body = body;
        exchange.body_sent = 0;
        exchange.request_complete = true;
        exchange.replayable = true;
        true
    }

    /// An attempt came to nothing before anything of an answer reached the client: the next target, or the end.
    pub(in super::super) fn target_failed(&mut self, ex: u32, code: Code, asked: Option<Duration>) {
        self.land(ex);
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.clone() else { return };
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        call.answering = Answering::None;
        exchange.judged = None;
        let model = &revision.ai.models[call.model as usize];
        if let Some(target) = call.target {
            self.targets.failed(model.targets[target as usize].key, asked, self.now.mono);
        }
        if self.may_try_another(ex) {
            self.meter.add(Counter::Retries, 1);
            return self.next_target(ex);
        }
        self.refuse(ex, code, None);
    }

    /// The attempt lost a race with its connection's end: the same again.
    pub(in super::super) fn same_target(&mut self, ex: u32) {
        self.land(ex);
        if let Some(call) = self.exchanges[ex as usize].llm.as_deref_mut() {
            call.next = call.next.saturating_sub(1);
        }
        self.meter.add(Counter::Retries, 1);
        self.next_target(ex);
    }

    /// Whether a stream's first token is waited for.
    pub(in super::super) fn awaits_first_token(&self, ex: u32) -> bool {
        let exchange = &self.exchanges[ex as usize];
        exchange.llm.as_ref().is_some_and(|call| call.stream) && !exchange.answer_begun
    }

    /// Whether there is another target for this call.
    pub(super) fn may_try_another(&self, ex: u32) -> bool {
        let exchange = &self.exchanges[ex as usize];
        let (Some(revision), Some(call)) = (&exchange.revision, &exchange.llm) else { return false };
        let model = &revision.ai.models[call.model as usize];
        !exchange.orphan && !exchange.answer_begun && call.next < call.order.len().min(model.attempts.into())
    }

    /// The target no longer has this call's tokens in flight.
    pub(super) fn land(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let (Some(revision), Some(call)) = (&exchange.revision, exchange.llm.as_deref_mut()) else { return };
        if let Some(target) = call.target.filter(|_| std::mem::take(&mut call.flying)) {
            let key = revision.ai.models[call.model as usize].targets[target as usize].key;
            self.targets.ended(key, call.prompt);
        }
    }

    /// The request is with the provider: the first token has a deadline.
    pub(in super::super) fn call_sent(&mut self, ex: u32) {
        let exchange = &self.exchanges[ex as usize];
        let (Some(revision), Some(call)) = (&exchange.revision, &exchange.llm) else { return };
        let wait = revision.ai.models[call.model as usize].first_token_timeout;
        if let Some(wait) = wait.filter(|_| call.stream) {
            self.step_deadline(ex, wait);
        }
    }
}
