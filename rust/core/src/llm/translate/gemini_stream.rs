//! Gemini `streamGenerateContent?alt=sse`: streams.
//!
//! Rules: each event is a whole answer of a few parts. A call comes in one part, so its arguments are gathered until it
//! closes; nothing else is. There is no terminal event: the last one has the finish reasons and the usage, and the stream
//! is whole if every candidate has its reason when the upstream ends.

use serde_json::Value;

use super::chat::{Block, Delta, Event, Logprob, Origin, Seal};
use super::fields::{quote, render, Fields, Object};
use super::flow::{Head, Write};
use super::gemini::{read_logprobs, read_seal, read_stop, write_logprobs, write_seal, write_stop};
use super::hot::{self, Of};
use super::stream::{Malformed, Read, Sink};
use super::{Context, Losses};
use crate::llm::Dialect;

#[derive(Default)]
pub(super) struct Reader {
    context: Context,
    begun: bool,
    /// Slots given; every call and every sealed thought gets the next.
    slot: u32,
    calls: usize,
}

impl Reader {
    pub(super) fn new(context: Context) -> Reader {
        Reader { context, ..Reader::default() }
    }

    fn part(&mut self, candidate: usize, part: &Value, logprobs: &mut Vec<Logprob>, sink: Sink<'_>) {
        let mut fields = Fields::proto(part);
        let seal = fields.text("thoughtSignature").and_then(read_seal);
        if fields.flag("thought").unwrap_or(false) {
            if let Some(text) = fields.text("text") {
                sink(candidate, Delta::Thought { slot: self.slot, text });
            }
            if let Some(seal) = seal {
                sink(candidate, Delta::Seal { slot: self.slot, seal });
                self.slot += 1;
            }
            return;
        }
        if let Some(seal) = seal {
            self.slot += 1;
            sink(candidate, Delta::Seal { slot: self.slot, seal });
            self.slot += 1;
        }
        if let Some(text) = fields.text("text") {
            sink(candidate, Delta::Text { slot: 0, text, logprobs: std::mem::take(logprobs) });
        } else if fields.has("functionCall") {
            let mut call = fields.inner("functionCall");
            self.slot += 1;
            let slot = self.slot;
            let Some(name) = call.text("name") else { return };
            self.calls += 1;
            let id = call.text("id").filter(|id| !id.is_empty());
            let id = id.map_or_else(|| self.context.id("call_", self.calls).into(), Into::into);
            sink(candidate, Delta::Open { slot, id, name });
            let arguments = call.object("args").map_or_else(|| "{}".to_owned(), Value::to_string);
            sink(candidate, Delta::Arguments { slot, json: &arguments });
            sink(candidate, Delta::Close { slot });
        }
    }
}

impl Read for Reader {
    fn event(&mut self, _name: Option<&str>, data: &[u8], sink: Sink<'_>) -> Result<(), Malformed> {
        if let Some((piece, usage)) = hot::gemini(data).filter(|_| self.begun) {
            let text = &*piece.text;
            sink(
                piece.candidate,
                match piece.of {
                    Of::Thought => Delta::Thought { slot: self.slot, text },
                    _ => Delta::Text { slot: 0, text, logprobs: Vec::new() },
                },
            );
            if let Some(usage) = usage {
                sink(0, Delta::RawUsage(usage));
            }
            return Ok(());
        }
        let chunk: Value = serde_json::from_slice(data)?;
        let mut fields = Fields::proto(&chunk);
        if fields.any("error").is_some() {
            sink(0, Delta::Failed(data));
            return Ok(());
        }
        if !self.begun {
            self.begun = true;
            sink(0, Delta::Head { id: fields.text("responseId"), model: fields.text("modelVersion"), created: None });
        }
        for value in fields.list("candidates") {
            let mut inner = Fields::proto(value);
            let candidate = inner.count("index").and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
            let mut logprobs = read_logprobs(&mut inner);
            for part in inner.inner("content").list("parts") {
                self.part(candidate, part, &mut logprobs, sink);
            }
            if !logprobs.is_empty() {
                sink(candidate, Delta::Text { slot: 0, text: "", logprobs });
            }
            if let Some(reason) = inner.text("finishReason").filter(|r| *r != "FINISH_REASON_UNSPECIFIED") {
                // With calls the flow makes it an end for them.
                sink(candidate, Delta::Finish { stop: read_stop(reason, false), sequence: None });
            }
        }
        if fields.inner("promptFeedback").text("blockReason").is_some() {
            sink(0, Delta::Finish { stop: super::chat::Stop::Filter, sequence: None });
        }
        if let Some(usage) = fields.object("usageMetadata") {
            sink(0, Delta::Usage(usage));
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Writer {
    lanes: Vec<Lane>,
    /// Model and id, as every event ends.
    tail: Vec<u8>,
    /// Candidates that have ended, as they are to be written.
    ended: Vec<Value>,
}

#[derive(Default)]
struct Lane {
    call: Option<(String, String)>,
    arguments: String,
    /// A thought that has shown nothing yet.
    silent: bool,
    /// A seal of Gemini's own, which goes with the part that follows.
    held: Option<Seal>,
}

impl Writer {
    fn begin(&mut self, head: &Head) {
        if self.tail.is_empty() {
            self.tail.extend_from_slice(b",\"modelVersion\":");
            quote(&mut self.tail, &head.model);
            self.tail.extend_from_slice(b",\"responseId\":");
            quote(&mut self.tail, &head.id);
            self.tail.extend_from_slice(b"}\n\n");
        }
    }

    /// One event with one part, whose members `inner` writes.
    fn chunk(&self, candidate: usize, seal: Option<&str>, logs: &[Logprob], out: &mut Vec<u8>, inner: &[(&str, &str)]) {
        out.extend_from_slice(b"data: {\"candidates\":[{\"content\":{\"parts\":[{");
        for (index, (key, text)) in inner.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            match *key {
                "text" => quote(out, text),
                // JSON already.
                _ => out.extend_from_slice(text.as_bytes()),
            }
        }
        if let Some(seal) = seal {
            out.extend_from_slice(b",\"thoughtSignature\":");
            quote(out, seal);
        }
        out.extend_from_slice(b"}],\"role\":\"model\"},\"index\":");
        out.extend_from_slice(itoa::Buffer::new().format(candidate).as_bytes());
        if !logs.is_empty() {
            out.extend_from_slice(b",\"logprobsResult\":");
            render(out, &write_logprobs(logs));
        }
        out.extend_from_slice(b"}]");
        out.extend_from_slice(&self.tail);
    }
}

impl Write for Writer {
    fn candidates(&self) -> bool {
        true
    }

    fn write(&mut self, head: &Head, candidate: usize, event: Event<'_>, out: &mut Vec<u8>) {
        self.begin(head);
        if self.lanes.len() <= candidate {
            self.lanes.resize_with(candidate + 1, Lane::default);
        }
        let lane = &mut self.lanes[candidate];
        match event {
            Event::Start => {}
            Event::Open(block) => {
                let held = if matches!(block, Block::Thought) { lane.held.take() } else { None };
                lane.silent = matches!(block, Block::Thought);
                if let Block::Call { id, name } = block {
                    lane.call = Some((id.clone(), name.clone()));
                }
                if let Some(seal) = held {
                    self.chunk(candidate, Some(&seal.value), &[], out, &[("text", "")]);
                }
            }
            Event::Text(text, logprobs) => {
                let held = lane.held.take();
                self.chunk(candidate, held.as_ref().map(|seal| seal.value.as_str()), logprobs, out, &[("text", text)]);
            }
            Event::Refusal(text) => self.chunk(candidate, None, &[], out, &[("text", text)]),
            Event::Thought(text) => {
                lane.silent = false;
                self.chunk(candidate, None, &[], out, &[("text", text), ("thought", "true")]);
            }
            Event::Seal(seal) if lane.silent && seal.origin == Origin::Gemini => lane.held = Some(seal.clone()),
            Event::Seal(seal) => {
                self.chunk(candidate, Some(&write_seal(seal)), &[], out, &[("text", ""), ("thought", "true")]);
            }
            Event::Arguments(json) => lane.arguments.push_str(json),
            Event::Close => {
                let Some((id, name)) = lane.call.take() else { return };
                let held = lane.held.take();
                let text = std::mem::take(&mut lane.arguments);
                let mut call = Object::new();
                call.set("id", id).set("name", name);
                call.set("args", super::fields::arguments(&text, "", &mut Losses::default()));
                let call = Value::from(call).to_string();
                let held = held.as_ref().map(|seal| seal.value.as_str());
                self.chunk(candidate, held, &[], out, &[("functionCall", &call)]);
            }
            Event::Finish { stop, .. } => {
                let held = lane.held.take();
                let (mut part, mut content, mut ended) = (Object::new(), Object::new(), Object::new());
                part.set("text", "").maybe("thoughtSignature", held.map(|seal| seal.value));
                content.set("parts", vec![Value::from(part)]).set("role", "model");
                ended.set("content", content).set("finishReason", write_stop(stop)).set("index", candidate);
                self.ended.push(ended.into());
            }
            Event::End(usage) => {
                out.extend_from_slice(b"data: {\"candidates\":");
                render(out, &Value::Array(std::mem::take(&mut self.ended)));
                if let Some(usage) = usage {
                    out.extend_from_slice(b",\"usageMetadata\":");
                    render(out, &usage.write(Dialect::Gemini));
                }
                out.extend_from_slice(&self.tail);
            }
        }
    }
}
