//! OpenAI responses: streams.
//!
//! Rules: `response.created` first, every event numbered, an item added before its deltas and done after them, and
//! `response.completed` or `response.incomplete` last with the whole answer in it – which is why this writer alone keeps
//! what it wrote. No `[DONE]`. Text blocks that follow each other are parts of one message.

use serde_json::Value;

use super::chat::{Block, Call, Delta, Event, Logprob, Seal, Stop};
use super::fields::{quote, render, Fields, Object};
use super::flow::{Head, Write};
use super::hot::{self, Of};
use super::openai::{read_logprobs, write_logprobs};
use super::openai_responses::{
    call_item, message_item, output_text, read_seal, read_stop, response, thought_item, Head as Response,
};
use super::stream::{Malformed, Read, Sink};
use super::Context;

/// Slots of an item's parts; those of items are their indexes times this.
const PARTS: u64 = 1 << 10;

#[derive(Default)]
pub(super) struct Reader {
    calls: bool,
    /// The item whose thought is being told, and its last part: parts are told apart by an empty line.
    thinking: Option<(u64, u64)>,
}

impl Reader {
    fn thought(&mut self, item: u64, part: u64, text: &str, sink: Sink<'_>) {
        let slot = slot(item, 0);
        if self.thinking.is_some_and(|(last, before)| last == item && before != part) {
            sink(0, Delta::Thought { slot, text: "\n\n" });
        }
        self.thinking = Some((item, part));
        sink(0, Delta::Thought { slot, text });
    }

    fn end(&mut self, fields: &mut Fields<'_>, sink: Sink<'_>) {
        let mut response = fields.inner("response");
        let reason = response.inner("incomplete_details").text("reason");
        let stop = read_stop(response.text("status").unwrap_or("completed"), reason, self.calls);
        sink(0, Delta::Finish { stop, sequence: None });
        if let Some(usage) = response.object("usage") {
            sink(0, Delta::Usage(usage));
        }
        sink(0, Delta::Done);
    }
}

fn slot(item: u64, part: u64) -> u32 {
    u32::try_from(item.saturating_mul(PARTS).saturating_add(part.min(PARTS - 1))).unwrap_or(u32::MAX)
}

impl Read for Reader {
    fn event(&mut self, _name: Option<&str>, data: &[u8], sink: Sink<'_>) -> Result<(), Malformed> {
        if data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        if let Some((piece, part)) = hot::responses(data) {
            let text = &*piece.text;
            sink(
                0,
                match piece.of {
                    Of::Arguments => Delta::Arguments { slot: slot(piece.index, 0), json: text },
                    _ => Delta::Text { slot: slot(piece.index, part), text, logprobs: Vec::new() },
                },
            );
            return Ok(());
        }
        let event: Value = serde_json::from_slice(data)?;
        let mut fields = Fields::of(&event);
        let item = fields.count("output_index").unwrap_or(0);
        let part = fields.count("content_index").unwrap_or(0);
        match fields.text("type").unwrap_or("") {
            "response.created" => {
                let mut response = fields.inner("response");
                let created = response.number("created_at").and_then(|at| at.as_f64()).map(|at| at as u64);
                sink(0, Delta::Head { id: response.text("id"), model: response.text("model"), created });
            }
            "response.output_item.added" => {
                let mut added = fields.inner("item");
                if added.text("type") == Some("function_call") {
                    self.calls = true;
                    let (id, name) = (added.text("call_id").unwrap_or(""), added.text("name").unwrap_or(""));
                    sink(0, Delta::Open { slot: slot(item, 0), id: id.into(), name });
                    sink(0, Delta::Arguments { slot: slot(item, 0), json: added.text("arguments").unwrap_or("") });
                }
            }
            "response.output_text.delta" => {
                let logprobs = read_logprobs(fields.list("logprobs"));
                sink(0, Delta::Text { slot: slot(item, part), text: fields.text("delta").unwrap_or(""), logprobs });
            }
            "response.refusal.delta" => {
                sink(0, Delta::Refusal { slot: slot(item, part), text: fields.text("delta").unwrap_or("") });
            }
            "response.reasoning_summary_text.delta" => {
                let part = fields.count("summary_index").unwrap_or(0);
                self.thought(item, part, fields.text("delta").unwrap_or(""), sink);
            }
            "response.reasoning_text.delta" => {
                self.thought(item, PARTS + part, fields.text("delta").unwrap_or(""), sink);
            }
            "response.function_call_arguments.delta" => {
                sink(0, Delta::Arguments { slot: slot(item, 0), json: fields.text("delta").unwrap_or("") });
            }
            "response.output_item.done" => {
                let mut done = fields.inner("item");
                let kind = done.text("type");
                if kind == Some("reasoning") {
                    if let Some(encrypted) = done.text("encrypted_content") {
                        let seal = read_seal(done.text("id"), encrypted);
                        sink(0, Delta::Seal { slot: slot(item, 0), seal });
                    }
                }
                if kind != Some("message") {
                    sink(0, Delta::Close { slot: slot(item, 0) });
                }
            }
            "response.content_part.done" => sink(0, Delta::Close { slot: slot(item, part) }),
            "response.completed" | "response.incomplete" => self.end(&mut fields, sink),
            "response.failed" | "response.cancelled" | "error" => sink(0, Delta::Failed(data)),
            _ => {}
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Writer {
    context: Context,
    response: Response,
    sequence: u64,
    /// Items that are done.
    output: Vec<Value>,
    /// The message that is open, with its parts that are done.
    message: Option<(String, Vec<Value>)>,
    item: Option<(Item, String)>,
    text: String,
    logprobs: Vec<Logprob>,
    seal: Option<Seal>,
    stop: Option<Stop>,
}

/// What is open.
enum Item {
    Text,
    Refusal,
    /// Whether its summary was begun.
    Thought(bool),
    Call {
        id: String,
        name: String,
    },
}

impl Writer {
    pub(super) fn new(context: Context) -> Writer {
        Writer { context, ..Writer::default() }
    }

    fn event(&mut self, kind: &str, mut value: Object, out: &mut Vec<u8>) {
        value.set("sequence_number", self.sequence);
        self.sequence += 1;
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        render(out, &value.set("type", kind).take());
        out.extend_from_slice(b"\n\n");
    }

    /// A delta of the open block, which is what there are most of.
    fn delta(
        &mut self,
        kind: &str,
        indexes: &[(&str, usize)],
        text: &str,
        logprobs: Option<&[Logprob]>,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: {\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"sequence_number\":");
        let mut number = itoa::Buffer::new();
        out.extend_from_slice(number.format(self.sequence).as_bytes());
        self.sequence += 1;
        out.extend_from_slice(b",\"item_id\":\"");
        if let Some((_, id)) = &self.item {
            out.extend_from_slice(id.as_bytes());
        }
        out.extend_from_slice(b"\"");
        for (key, index) in [("output_index", self.output.len())].iter().chain(indexes) {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(number.format(*index).as_bytes());
        }
        out.extend_from_slice(b",\"delta\":");
        quote(out, text);
        if let Some(logprobs) = logprobs {
            out.extend_from_slice(b",\"logprobs\":");
            render(out, &Value::Array(write_logprobs(logprobs)));
        }
        out.extend_from_slice(b"}\n\n");
        self.text.push_str(text);
    }

    fn at(&self, id: &str) -> Object {
        let mut value = Object::new();
        value.set("item_id", id).set("output_index", self.output.len());
        value
    }

    fn parts(&self) -> usize {
        self.message.as_ref().map_or(0, |(_, parts)| parts.len())
    }

    fn added(&mut self, item: Value, out: &mut Vec<u8>) {
        let mut value = Object::new();
        value.set("output_index", self.output.len()).set("item", item);
        self.event("response.output_item.added", value, out);
    }

    fn done(&mut self, item: Value, out: &mut Vec<u8>) {
        let mut value = Object::new();
        value.set("output_index", self.output.len()).set("item", item.clone());
        self.event("response.output_item.done", value, out);
        self.output.push(item);
    }

    /// No more parts follow in the open message.
    fn end_message(&mut self, out: &mut Vec<u8>) {
        if let Some((id, parts)) = self.message.take() {
            self.done(message_item(&id, "completed", parts), out);
        }
    }

    fn open_part(&mut self, item: Item, part: Value, out: &mut Vec<u8>) {
        let id = match &self.message {
            Some((id, _)) => id.clone(),
            None => {
                let id = self.context.id("msg_", self.output.len() + 1);
                self.added(message_item(&id, "in_progress", Vec::new()), out);
                self.message = Some((id.clone(), Vec::new()));
                id
            }
        };
        let mut value = self.at(&id);
        value.set("content_index", self.parts()).set("part", part);
        self.event("response.content_part.added", value, out);
        self.item = Some((item, id));
    }

    fn close_part(&mut self, id: &str, refusal: bool, out: &mut Vec<u8>) {
        let text = std::mem::take(&mut self.text);
        let logprobs = write_logprobs(&std::mem::take(&mut self.logprobs));
        let index = self.parts();
        let mut value = self.at(id);
        value.set("content_index", index);
        let part = if refusal {
            value.set("refusal", text.as_str());
            self.event("response.refusal.done", value, out);
            refusal_part(&text)
        } else {
            value.set("text", text.as_str()).set("logprobs", logprobs.clone());
            self.event("response.output_text.done", value, out);
            output_text(&text, logprobs)
        };
        let mut value = self.at(id);
        value.set("content_index", index).set("part", part.clone());
        self.event("response.content_part.done", value, out);
        if let Some((_, parts)) = &mut self.message {
            parts.push(part);
        }
    }

    fn close_thought(&mut self, id: &str, summary: bool, out: &mut Vec<u8>) {
        let text = std::mem::take(&mut self.text);
        if summary {
            let mut value = self.at(id);
            value.set("summary_index", 0).set("text", text.as_str());
            self.event("response.reasoning_summary_text.done", value, out);
            let mut value = self.at(id);
            value.set("summary_index", 0).set("part", summary_part(&text));
            self.event("response.reasoning_summary_part.done", value, out);
        }
        let seal = self.seal.take();
        self.done(thought_item(&text, seal.as_ref(), id), out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some((item, id)) = self.item.take() else { return };
        match item {
            Item::Text => self.close_part(&id, false, out),
            Item::Refusal => self.close_part(&id, true, out),
            Item::Thought(summary) => self.close_thought(&id, summary, out),
            Item::Call { id: call, name } => {
                let arguments = std::mem::take(&mut self.text);
                let mut value = self.at(&id);
                value.set("name", name.as_str()).set("arguments", arguments.as_str());
                self.event("response.function_call_arguments.done", value, out);
                self.done(call_item(&Call { id: call, name, arguments }, &id), out);
            }
        }
    }

    fn open(&mut self, block: &Block, out: &mut Vec<u8>) {
        match block {
            Block::Text => self.open_part(Item::Text, output_text("", Vec::new()), out),
            Block::Refusal => self.open_part(Item::Refusal, refusal_part(""), out),
            Block::Thought => {
                self.end_message(out);
                let id = self.context.id("rs_", self.output.len() + 1);
                self.added(thought_item("", None, &id), out);
                self.item = Some((Item::Thought(false), id));
            }
            Block::Call { id, name } => {
                self.end_message(out);
                let item = self.context.id("fc_", self.output.len() + 1);
                let mut added = Object::typed("function_call");
                added.set("id", item.as_str()).set("call_id", id.as_str()).set("name", name.as_str());
                added.set("arguments", "").set("status", "in_progress");
                self.added(added.into(), out);
                self.item = Some((Item::Call { id: id.clone(), name: name.clone() }, item));
            }
        }
    }

    fn think(&mut self, text: &str, out: &mut Vec<u8>) {
        if let Some((Item::Thought(begun @ false), id)) = &mut self.item {
            *begun = true;
            let id = id.clone();
            let mut value = self.at(&id);
            value.set("summary_index", 0).set("part", summary_part(""));
            self.event("response.reasoning_summary_part.added", value, out);
        }
        self.delta("response.reasoning_summary_text.delta", &[("summary_index", 0)], text, None, out);
    }
}

fn refusal_part(text: &str) -> Value {
    let mut part = Object::typed("refusal");
    part.set("refusal", text);
    part.into()
}

fn summary_part(text: &str) -> Value {
    let mut part = Object::typed("summary_text");
    part.set("text", text);
    part.into()
}

impl Write for Writer {
    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn write(&mut self, head: &Head, _candidate: usize, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start => {
                self.response = Response { id: head.id.clone(), created: head.created, model: head.model.clone() };
                for kind in ["response.created", "response.in_progress"] {
                    let mut value = Object::new();
                    value.set("response", response(&self.response, None, Vec::new(), None));
                    self.event(kind, value, out);
                }
            }
            Event::Open(block) => self.open(block, out),
            Event::Text(text, logprobs) => {
                self.logprobs.extend_from_slice(logprobs);
                let index = self.parts();
                self.delta("response.output_text.delta", &[("content_index", index)], text, Some(logprobs), out);
            }
            Event::Refusal(text) => {
                let index = self.parts();
                self.delta("response.refusal.delta", &[("content_index", index)], text, None, out);
            }
            Event::Thought(text) => self.think(text, out),
            Event::Seal(seal) => self.seal = Some(seal.clone()),
            Event::Arguments(json) => self.delta("response.function_call_arguments.delta", &[], json, None, out),
            Event::Close => self.close(out),
            Event::Finish { stop, .. } => {
                self.end_message(out);
                self.stop = Some(stop);
            }
            Event::End(usage) => {
                let output = std::mem::take(&mut self.output);
                let whole = response(&self.response, Some(self.stop), output, usage);
                let kind = match super::openai_responses::incomplete(self.stop) {
                    Some(_) => "response.incomplete",
                    None => "response.completed",
                };
                let mut value = Object::new();
                value.set("response", whole);
                self.event(kind, value, out);
            }
        }
    }
}
