//! Bedrock `converse-stream`: streams, each event a frame of [`crate::llm::event_stream`].
//!
//! Rules: what is read are payloads with the name of their event; `messageStop` has the reason, `metadata` after it the
//! usage and ends the stream. Only calls have a start event; exceptions end the stream.

use serde_json::Value;

use super::bedrock::{read_redacted, read_stop, write_redacted, write_stop};
use super::chat::{Block, Delta, Event, Origin, Seal, Stop};
use super::claude::tool_id;
use super::fields::{quote, render, Fields, Object};
use super::flow::{Head, Write};
use super::hot::{self, Of};
use super::stream::{Malformed, Read, Sink};
use crate::llm::{event_stream, Dialect};

#[derive(Default)]
pub(super) struct Reader;

impl Read for Reader {
    fn event(&mut self, name: Option<&str>, data: &[u8], sink: Sink<'_>) -> Result<(), Malformed> {
        if let Some(piece) = hot::bedrock(data).filter(|_| name == Some("contentBlockDelta")) {
            let (slot, text) = (u32::try_from(piece.index).unwrap_or(0), &*piece.text);
            sink(
                0,
                match piece.of {
                    Of::Arguments => Delta::Arguments { slot, json: text },
                    _ => Delta::Text { slot, text, logprobs: Vec::new() },
                },
            );
            return Ok(());
        }
        let event: Value = serde_json::from_slice(data)?;
        let mut fields = Fields::of(&event);
        let slot = fields.count("contentBlockIndex").and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
        match name.unwrap_or("") {
            "messageStart" => sink(0, Delta::Head { id: None, model: None, created: None }),
            "contentBlockStart" => {
                let mut call = fields.inner("start").inner("toolUse");
                if let Some(name) = call.text("name") {
                    sink(0, Delta::Open { slot, id: call.text("toolUseId").unwrap_or("").into(), name });
                }
            }
            "contentBlockDelta" => delta(fields.inner("delta"), slot, sink),
            "contentBlockStop" => sink(0, Delta::Close { slot }),
            "messageStop" => {
                let stop = fields.text("stopReason").map_or(Stop::End, read_stop);
                sink(0, Delta::Finish { stop, sequence: None });
            }
            "metadata" => {
                if let Some(usage) = fields.object("usage") {
                    sink(0, Delta::Usage(usage));
                }
                sink(0, Delta::Done);
            }
            name if name.ends_with("Exception") => sink(0, Delta::Failed(data)),
            _ => {}
        }
        Ok(())
    }
}

fn delta(mut delta: Fields<'_>, slot: u32, sink: Sink<'_>) {
    if let Some(text) = delta.text("text") {
        sink(0, Delta::Text { slot, text, logprobs: Vec::new() });
    } else if let Some(json) = delta.inner("toolUse").text("input") {
        sink(0, Delta::Arguments { slot, json });
    } else {
        let mut reasoning = delta.inner("reasoningContent");
        if let Some(text) = reasoning.text("text") {
            sink(0, Delta::Thought { slot, text });
        }
        if let Some(signature) = reasoning.text("signature") {
            sink(0, Delta::Seal { slot, seal: Seal::read(Origin::Anthropic, signature) });
        }
        if let Some(data) = reasoning.text("redactedContent") {
            sink(0, Delta::Seal { slot, seal: read_redacted(data) });
        }
    }
}

#[derive(Default)]
pub(super) struct Writer {
    index: usize,
    /// The block has shown something.
    shown: bool,
    payload: Vec<u8>,
}

impl Writer {
    /// One delta: `before`, the text as JSON, `after`, inside `delta`.
    fn delta(&mut self, before: &str, text: &str, after: &str, out: &mut Vec<u8>) {
        self.shown = true;
        self.payload.clear();
        self.payload.extend_from_slice(b"{\"contentBlockIndex\":");
        self.payload.extend_from_slice(itoa::Buffer::new().format(self.index).as_bytes());
        self.payload.extend_from_slice(b",\"delta\":{");
        self.payload.extend_from_slice(before.as_bytes());
        quote(&mut self.payload, text);
        self.payload.extend_from_slice(after.as_bytes());
        self.payload.extend_from_slice(b"}}");
        event_stream::write_event(out, "contentBlockDelta", &self.payload);
    }

    fn event(&mut self, name: &str, value: Object, out: &mut Vec<u8>) {
        self.payload.clear();
        render(&mut self.payload, &value.into());
        event_stream::write_event(out, name, &self.payload);
    }
}

impl Write for Writer {
    fn write(&mut self, _head: &Head, _candidate: usize, event: Event<'_>, out: &mut Vec<u8>) {
        let mut value = Object::new();
        match event {
            Event::Start => {
                value.set("role", "assistant");
                self.event("messageStart", value, out);
            }
            Event::Open(Block::Call { id, name }) => {
                self.shown = true;
                let (mut start, mut call) = (Object::new(), Object::new());
                call.set("toolUseId", tool_id(id)).set("name", name.as_str());
                start.set("toolUse", call);
                value.set("contentBlockIndex", self.index).set("start", start);
                self.event("contentBlockStart", value, out);
            }
            Event::Open(_) => self.shown = false,
            Event::Text(text, _) | Event::Refusal(text) => self.delta("\"text\":", text, "", out),
            Event::Thought(text) => self.delta("\"reasoningContent\":{\"text\":", text, "}", out),
            Event::Seal(seal) if self.shown || seal.origin == Origin::Anthropic => {
                let signature = seal.write(Origin::Anthropic);
                self.delta("\"reasoningContent\":{\"signature\":", &signature, "}", out);
            }
            Event::Seal(seal) => {
                self.delta("\"reasoningContent\":{\"redactedContent\":", &write_redacted(seal), "}", out);
            }
            Event::Arguments(json) => self.delta("\"toolUse\":{\"input\":", json, "}", out),
            Event::Close => {
                if std::mem::take(&mut self.shown) {
                    value.set("contentBlockIndex", self.index);
                    self.event("contentBlockStop", value, out);
                    self.index += 1;
                }
            }
            Event::Finish { stop, .. } => {
                value.set("stopReason", write_stop(stop));
                self.event("messageStop", value, out);
            }
            Event::End(usage) => {
                let mut metrics = Object::new();
                metrics.set("latencyMs", 0);
                value.set("usage", usage.copied().unwrap_or_default().write(Dialect::Bedrock)).set("metrics", metrics);
                self.event("metadata", value, out);
            }
        }
    }
}
