//! Anthropic messages: streams.
//!
//! Rules: `message_start` first, blocks counted without gaps, `message_delta` with the usage and `message_stop` last; no
//! `[DONE]`. Usage in `message_start` is what is known then, mostly nothing; the whole of it stands in `message_delta`.
//! A redacted thought is a block of its own kind, so a thought's block starts with its first text or seal.

use serde_json::Value;

use super::anthropic::{read_stop, write_stop};
use super::chat::{Block, Delta, Event, Origin, Seal};
use super::claude::tool_id;
use super::fields::{quote, render, Fields, Object};
use super::flow::{Head, Write};
use super::hot::{self, Of};
use super::stream::{Malformed, Read, Sink};
use crate::llm::{Dialect, Usage};

#[derive(Default)]
pub(super) struct Reader;

impl Read for Reader {
    fn event(&mut self, _name: Option<&str>, data: &[u8], sink: Sink<'_>) -> Result<(), Malformed> {
        if let Some(piece) = hot::anthropic(data) {
            let (slot, text) = (u32::try_from(piece.index).unwrap_or(0), &*piece.text);
            sink(
                0,
                match piece.of {
                    Of::Text => Delta::Text { slot, text, logprobs: Vec::new() },
                    Of::Thought => Delta::Thought { slot, text },
                    Of::Arguments => Delta::Arguments { slot, json: text },
                },
            );
            return Ok(());
        }
        let event: Value = serde_json::from_slice(data)?;
        let mut fields = Fields::of(&event);
        let slot = fields.count("index").and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
        match fields.text("type") {
            Some("message_start") => {
                let mut message = fields.inner("message");
                sink(0, Delta::Head { id: message.text("id"), model: message.text("model"), created: None });
                if let Some(usage) = message.object("usage") {
                    sink(0, Delta::Usage(usage));
                }
            }
            Some("content_block_start") => start(fields.inner("content_block"), slot, sink),
            Some("content_block_delta") => delta(fields.inner("delta"), slot, sink),
            Some("content_block_stop") => sink(0, Delta::Close { slot }),
            Some("message_delta") => {
                let mut inner = fields.inner("delta");
                if let Some(reason) = inner.text("stop_reason") {
                    sink(0, Delta::Finish { stop: read_stop(reason), sequence: inner.text("stop_sequence") });
                }
                if let Some(usage) = fields.object("usage") {
                    sink(0, Delta::Usage(usage));
                }
            }
            Some("message_stop") => sink(0, Delta::Done),
            Some("error") => sink(0, Delta::Failed(data)),
            // Pings, and what is to come.
            _ => {}
        }
        Ok(())
    }
}

fn start(mut block: Fields<'_>, slot: u32, sink: Sink<'_>) {
    match block.text("type") {
        Some("text") => sink(0, Delta::Text { slot, text: block.text("text").unwrap_or(""), logprobs: Vec::new() }),
        Some("thinking") => sink(0, Delta::Thought { slot, text: block.text("thinking").unwrap_or("") }),
        Some("redacted_thinking") => {
            if let Some(data) = block.text("data") {
                sink(0, Delta::Seal { slot, seal: Seal::read(Origin::Redacted, data) });
            }
        }
        Some("tool_use") => {
            let (id, name) = (block.text("id").unwrap_or(""), block.text("name").unwrap_or(""));
            sink(0, Delta::Open { slot, id: id.into(), name });
            // Compatible servers put the whole input here.
            if let Some(input) = block.object("input").filter(|input| input.as_object().is_some_and(|o| !o.is_empty()))
            {
                sink(0, Delta::Arguments { slot, json: &input.to_string() });
            }
        }
        _ => {}
    }
}

fn delta(mut delta: Fields<'_>, slot: u32, sink: Sink<'_>) {
    match delta.text("type") {
        Some("text_delta") => {
            sink(0, Delta::Text { slot, text: delta.text("text").unwrap_or(""), logprobs: Vec::new() });
        }
        Some("thinking_delta") => sink(0, Delta::Thought { slot, text: delta.text("thinking").unwrap_or("") }),
        Some("signature_delta") => {
            if let Some(signature) = delta.text("signature").filter(|signature| !signature.is_empty()) {
                sink(0, Delta::Seal { slot, seal: Seal::read(Origin::Anthropic, signature) });
            }
        }
        Some("input_json_delta") => {
            sink(0, Delta::Arguments { slot, json: delta.text("partial_json").unwrap_or("") });
        }
        _ => {}
    }
}

#[derive(Default)]
pub(super) struct Writer {
    index: usize,
    /// A thought that was opened but has no block yet.
    thinking: bool,
    /// A block was started.
    open: bool,
    stop: Option<(&'static str, Option<String>)>,
}

fn event(out: &mut Vec<u8>, name: &str, value: &Value) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    render(out, value);
    out.extend_from_slice(b"\n\n");
}

impl Writer {
    fn start(&mut self, block: Object, out: &mut Vec<u8>) {
        self.open = true;
        let mut start = Object::typed("content_block_start");
        start.set("index", self.index).set("content_block", block);
        event(out, "content_block_start", &start.into());
    }

    fn delta(&self, kind: &str, key: &str, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
        out.extend_from_slice(itoa::Buffer::new().format(self.index).as_bytes());
        out.extend_from_slice(b",\"delta\":{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        quote(out, text);
        out.extend_from_slice(b"}}\n\n");
    }

    /// The block of a thought that has something to show.
    fn think(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.thinking) {
            let mut block = Object::typed("thinking");
            block.set("thinking", "").set("signature", "");
            self.start(block, out);
        }
    }
}

impl Write for Writer {
    fn write(&mut self, head: &Head, _candidate: usize, event_: Event<'_>, out: &mut Vec<u8>) {
        match event_ {
            Event::Start => {
                let mut message = Object::new();
                message.set("id", head.id.as_str()).set("type", "message").set("role", "assistant");
                message.set("model", head.model.as_str()).set("content", Vec::<Value>::new());
                message.set("stop_reason", Value::Null).set("stop_sequence", Value::Null);
                message.set("usage", Usage::default().write(Dialect::Anthropic));
                let mut start = Object::typed("message_start");
                start.set("message", message);
                event(out, "message_start", &start.into());
            }
            Event::Open(Block::Thought) => self.thinking = true,
            Event::Open(Block::Text | Block::Refusal) => {
                let mut block = Object::typed("text");
                block.set("text", "");
                self.start(block, out);
            }
            Event::Open(Block::Call { id, name }) => {
                let mut block = Object::typed("tool_use");
                block.set("id", tool_id(id)).set("name", name.as_str()).set("input", Object::new());
                self.start(block, out);
            }
            Event::Text(text, _) | Event::Refusal(text) => self.delta("text_delta", "text", text, out),
            Event::Thought(text) => {
                self.think(out);
                self.delta("thinking_delta", "thinking", text, out);
            }
            Event::Seal(seal) if self.thinking && seal.origin == Origin::Redacted => {
                self.thinking = false;
                let mut block = Object::typed("redacted_thinking");
                block.set("data", seal.value.as_str());
                self.start(block, out);
            }
            Event::Seal(seal) => {
                self.think(out);
                self.delta("signature_delta", "signature", &seal.write(Origin::Anthropic), out);
            }
            Event::Arguments(json) => self.delta("input_json_delta", "partial_json", json, out),
            Event::Close => {
                self.thinking = false;
                if std::mem::take(&mut self.open) {
                    let mut stop = Object::typed("content_block_stop");
                    stop.set("index", self.index);
                    event(out, "content_block_stop", &stop.into());
                    self.index += 1;
                }
            }
            Event::Finish { stop, sequence } => self.stop = Some((write_stop(stop), sequence.map(str::to_owned))),
            Event::End(usage) => {
                let (reason, sequence) = self.stop.take().unwrap_or(("end_turn", None));
                let (mut inner, mut delta) = (Object::new(), Object::typed("message_delta"));
                inner.set("stop_reason", reason).set("stop_sequence", sequence.map_or(Value::Null, Value::from));
                delta.set("delta", inner).set("usage", usage.copied().unwrap_or_default().write(Dialect::Anthropic));
                event(out, "message_delta", &delta.into());
                event(out, "message_stop", &Object::typed("message_stop").into());
            }
        }
    }
}
