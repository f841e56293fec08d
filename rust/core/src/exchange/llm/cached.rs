//! Answers that are given again: when one is looked for, kept, and told.

use super::super::connection::Stage;
use super::super::Engine;
use crate::ai::cache::{Kept, Question, MAX_ANSWER};
use crate::llm::request::Call as Kinds;
use crate::llm::usage::Ending;
use crate::message::{BodyLength, Fields, Known, ResponseHead};

impl Engine {
    /// Answers from what is kept, if the route keeps answers and has this one.
    pub(super) fn answer_again(&mut self, ex: u32) -> bool {
        let exchange = &mut self.exchanges[ex as usize];
        let Some((revision, route)) = exchange.revision.clone().zip(exchange.route) else { return false };
        let plan = &revision.routes[route as usize];
        let Some(call) = exchange.llm.as_deref_mut() else { return false };
        let keeps = plan.llm.as_ref().is_some_and(|llm| llm.cache.is_some());
        if !keeps || !matches!(call.kind, Kinds::Chat | Kinds::Embeddings) {
            return false;
        }
        let key = call.key.as_deref();
        // Without keys whoever a policy took the caller for.
        let other = exchange.notes.identity.as_deref().unwrap_or("");
        let question = Question {
            tenant: key.map_or(other, |key| if key.team.is_empty() { &key.id } else { &key.team }),
            route: &plan.name,
            model: &call.asked,
            dialect: call.dialect.name(),
            stream: call.stream,
            body: &call.body,
        };
        call.cache = question.key();
        let Some(kept) = call.cache.and_then(|key| self.answers.get(&key, self.now.mono)) else { return false };
        let mut fields = Fields::default();
        fields.set_known(Known::ContentType, &kept.content_type);
        fields.append(b"x-pygate-cache", b"hit");
        let body = kept.body.clone();
        call.cached = true;
        call.cache = None;
        exchange.stage = Stage::Answering;
        let length = BodyLength::Exact(body.len() as u64);
        self.write_intent(ex);
        self.response = ResponseHead { status: 200, fields, length };
        if !self.judges_response(ex) {
            self.start_answer(ex, length, None);
        }
        if self.call_out(ex, &body) {
            self.finish_call(ex);
        }
        true
    }

    /// Notes what the client is told, where it may be told again.
    pub(super) fn copy_answer(&mut self, ex: u32, bytes: &[u8]) {
        let Some(call) = self.exchanges[ex as usize].llm.as_deref_mut() else { return };
        if call.cache.is_some() {
            if call.copy.len() + bytes.len() > MAX_ANSWER {
                (call.cache, call.copy) = (None, Vec::new());
                return;
            }
            call.copy.extend_from_slice(bytes);
        }
    }

    /// The answer ended: kept if it did so cleanly.
    pub(super) fn keep_answer(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some((revision, route)) = exchange.revision.clone().zip(exchange.route) else { return };
        let Some((ttl, most)) = revision.routes[route as usize].llm.as_ref().and_then(|llm| llm.cache) else { return };
        let truncated = exchange.truncated;
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        let ended = call.answering.meter().map(|meter| meter.ending());
        let whole = matches!(ended, Some(Ending::Clean | Ending::Finished)) && !truncated;
        let Some(key) = call.cache.take().filter(|_| whole) else { return };
        let content_type: &[u8] = if call.stream { call.dialect.stream_type().as_bytes() } else { b"application/json" };
        let kept = Kept { content_type: content_type.to_vec(), body: std::mem::take(&mut call.copy) };
        self.answers.put(key, kept, ttl, most, self.now.mono);
    }
}
