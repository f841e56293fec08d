//! OpenAI chat completions: streams.
//!
//! Rules: each chunk is written whole, with `usage: null` where the client asked for usage, which then comes in a chunk
//! without choices before `[DONE]`. Read are also chunks of providers that leave out or repeat ids, names and indexes.

use serde_json::Value;

use super::chat::{Block, Delta, Event, Origin, Seal};
use super::fields::{quote, render, Fields};
use super::flow::{Head, Write};
use super::hot::{self, Of, Piece};
use super::openai::{read_logprobs, write_logprobs};
use super::openai_chat::{google_seal, read_detail, read_google_seal, read_stop, write_detail, write_stop};
use super::stream::{Malformed, Read, Sink};
use super::Context;
use crate::llm::Dialect;

/// Slots of the seals that belong to calls; those of thoughts are the provider's indexes.
const CALL_SEALS: u32 = 1 << 16;
/// Calls of one answer that are told apart.
const CALLS: usize = 1024;

#[derive(Default)]
pub(super) struct Reader {
    context: Context,
    begun: bool,
    calls: Vec<Call>,
    /// Candidate and slot of the last thought, while it has no seal.
    unsealed: Option<(usize, u32)>,
}

struct Call {
    candidate: usize,
    index: u64,
    id: String,
}

impl Reader {
    pub(super) fn new(context: Context) -> Reader {
        Reader { context, ..Reader::default() }
    }

    fn piece(&mut self, piece: &Piece<'_>, sink: Sink<'_>) -> Result<(), Malformed> {
        let candidate = piece.candidate;
        match piece.of {
            Of::Text => sink(candidate, Delta::Text { slot: 0, text: &piece.text, logprobs: Vec::new() }),
            Of::Thought => sink(candidate, Delta::Thought { slot: 0, text: &piece.text }),
            Of::Arguments => {
                let same = |call: &Call| call.candidate == candidate && call.index == piece.index;
                if let Some(slot) = self.calls.iter().rposition(same) {
                    sink(candidate, Delta::Arguments { slot: slot as u32, json: &piece.text });
                }
            }
        }
        Ok(())
    }

    fn choice(&mut self, choice: &Value, sink: Sink<'_>) {
        let mut fields = Fields::of(choice);
        let candidate = fields.count("index").and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
        let mut delta = fields.inner("delta");
        let details = delta.list("reasoning_details");
        for detail in details {
            let slot = detail.get("index").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            if let Some(thought) = read_detail(detail) {
                sink(candidate, Delta::Thought { slot, text: &thought.text });
                if !thought.text.is_empty() {
                    self.unsealed = Some((candidate, slot));
                }
                if let Some(seal) = thought.seal {
                    // What follows a summary in an entry of its own seals it.
                    let summary = self.unsealed.take().filter(|(whose, _)| *whose == candidate);
                    let slot = summary.map_or(slot, |(_, slot)| slot);
                    sink(candidate, Delta::Seal { slot, seal });
                }
            }
        }
        if details.is_empty() {
            if let Some(text) = delta.text("reasoning_content").or_else(|| delta.text("reasoning")) {
                sink(candidate, Delta::Thought { slot: 0, text });
            }
        }
        let logprobs = read_logprobs(fields.inner("logprobs").list("content"));
        if let Some(text) = delta.text("content") {
            sink(candidate, Delta::Text { slot: 0, text, logprobs });
        }
        if let Some(text) = delta.text("refusal") {
            sink(candidate, Delta::Refusal { slot: 0, text });
        }
        for call in delta.list("tool_calls") {
            self.call(candidate, call, sink);
        }
        if let Some(reason) = fields.text("finish_reason") {
            sink(candidate, Delta::Finish { stop: read_stop(reason), sequence: None });
        }
    }

    fn call(&mut self, candidate: usize, call: &Value, sink: Sink<'_>) {
        let mut fields = Fields::of(call);
        let index = fields.count("index");
        let id = fields.text("id").filter(|id| !id.is_empty());
        let mut function = fields.inner("function");
        let known = self.calls.iter().rposition(|call| {
            call.candidate == candidate
                && index.is_none_or(|index| index == call.index)
                && id.is_none_or(|id| id == call.id)
        });
        let name = function.text("name").filter(|name| !name.is_empty());
        let slot = match (known, name) {
            (Some(slot), _) => slot,
            (None, Some(name)) if self.calls.len() < CALLS => {
                let slot = self.calls.len();
                let id = id.map_or_else(|| self.context.id("call_", slot + 1), str::to_owned);
                if let Some(seal) = read_google_seal(call) {
                    sink(candidate, Delta::Seal { slot: CALL_SEALS + slot as u32, seal });
                }
                sink(candidate, Delta::Open { slot: slot as u32, id: id.as_str().into(), name });
                self.calls.push(Call { candidate, index: index.unwrap_or(slot as u64), id });
                slot
            }
            (None, _) => return,
        };
        if let Some(json) = function.text("arguments") {
            sink(candidate, Delta::Arguments { slot: slot as u32, json });
        }
    }
}

impl Read for Reader {
    fn event(&mut self, _name: Option<&str>, data: &[u8], sink: Sink<'_>) -> Result<(), Malformed> {
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            sink(0, Delta::Done);
            return Ok(());
        }
        if let Some(piece) = hot::chat(data).filter(|_| self.begun) {
            return self.piece(&piece, sink);
        }
        let chunk: Value = serde_json::from_slice(data)?;
        let mut fields = Fields::of(&chunk);
        if fields.any("error").is_some() {
            sink(0, Delta::Failed(data));
            return Ok(());
        }
        if !self.begun {
            self.begun = true;
            let (id, model) = (fields.text("id"), fields.text("model"));
            let id = id.filter(|id| !id.is_empty());
            sink(0, Delta::Head { id, model, created: fields.count("created").filter(|at| *at > 0) });
        }
        for choice in fields.list("choices") {
            self.choice(choice, sink);
        }
        if let Some(usage) = fields.object("usage") {
            sink(0, Delta::Usage(usage));
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Writer {
    include_usage: bool,
    /// All of a chunk up to its choices.
    head: Vec<u8>,
    lanes: Vec<Lane>,
}

#[derive(Default)]
struct Lane {
    calls: usize,
    thoughts: usize,
    /// A thought is open, and whether it has shown nothing yet.
    thinking: bool,
    silent: bool,
    /// A seal of Gemini's without thought, which may be the next call's.
    held: Option<Seal>,
    call: bool,
}

impl Writer {
    pub(super) fn new(context: &Context) -> Writer {
        Writer { include_usage: context.include_usage, ..Writer::default() }
    }

    fn begin(&mut self, head: &Head) {
        if self.head.is_empty() {
            self.head.extend_from_slice(b"data: {\"id\":");
            quote(&mut self.head, &head.id);
            self.head.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
            self.head.extend_from_slice(itoa::Buffer::new().format(head.created).as_bytes());
            self.head.extend_from_slice(b",\"model\":");
            quote(&mut self.head, &head.model);
            self.head.extend_from_slice(b",\"choices\":[");
        }
    }

    /// One chunk with a choice, whose delta `inner` writes.
    fn chunk(&self, candidate: usize, ending: &str, out: &mut Vec<u8>, inner: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":");
        out.extend_from_slice(itoa::Buffer::new().format(candidate).as_bytes());
        out.extend_from_slice(b",\"delta\":{");
        inner(out);
        out.extend_from_slice(ending.as_bytes());
        out.extend_from_slice(if self.include_usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" });
    }

    fn detail(&self, candidate: usize, text: Option<&str>, seal: Option<&Seal>, index: usize, out: &mut Vec<u8>) {
        self.chunk(candidate, PLAIN, out, |out| {
            if let Some(text) = text {
                out.extend_from_slice(b"\"reasoning_content\":");
                quote(out, text);
                out.push(b',');
            }
            out.extend_from_slice(b"\"reasoning_details\":[");
            render(out, &write_detail(text, seal, index));
            out.push(b']');
        });
    }

    /// A held seal that was no call's stands alone.
    fn release(&mut self, candidate: usize, out: &mut Vec<u8>) {
        let Some(lane) = self.lanes.get_mut(candidate) else { return };
        if let Some(seal) = lane.held.take() {
            let index = lane.thoughts;
            lane.thoughts += 1;
            self.detail(candidate, None, Some(&seal), index, out);
        }
    }
}

const PLAIN: &str = "},\"logprobs\":null,\"finish_reason\":null";

impl Write for Writer {
    fn candidates(&self) -> bool {
        true
    }

    fn write(&mut self, head: &Head, candidate: usize, event: Event<'_>, out: &mut Vec<u8>) {
        if self.lanes.len() <= candidate {
            self.lanes.resize_with(candidate + 1, Lane::default);
        }
        self.begin(head);
        match event {
            Event::Start => self.chunk(candidate, PLAIN, out, |out| {
                out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
            }),
            Event::Open(Block::Thought) => {
                self.release(candidate, out);
                (self.lanes[candidate].silent, self.lanes[candidate].thinking) = (true, true);
            }
            Event::Open(Block::Call { id, name }) => {
                let lane = &mut self.lanes[candidate];
                let (index, seal) = (lane.calls, lane.held.take());
                lane.call = true;
                self.chunk(candidate, PLAIN, out, |out| {
                    out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
                    out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
                    out.extend_from_slice(b",\"id\":");
                    quote(out, id);
                    out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
                    quote(out, name);
                    out.extend_from_slice(b",\"arguments\":\"\"}");
                    if let Some(seal) = seal {
                        out.extend_from_slice(b",\"extra_content\":");
                        render(out, &google_seal(&seal));
                    }
                    out.extend_from_slice(b"}]");
                });
            }
            Event::Open(_) => self.release(candidate, out),
            Event::Text(text, []) => self.chunk(candidate, PLAIN, out, |out| {
                out.extend_from_slice(b"\"content\":");
                quote(out, text);
            }),
            Event::Text(text, logprobs) => {
                let list = Value::Array(write_logprobs(logprobs)).to_string();
                let ending = format!("}},\"logprobs\":{{\"content\":{list},\"refusal\":null}},\"finish_reason\":null");
                self.chunk(candidate, &ending, out, |out| {
                    out.extend_from_slice(b"\"content\":");
                    quote(out, text);
                });
            }
            Event::Refusal(text) => self.chunk(candidate, PLAIN, out, |out| {
                out.extend_from_slice(b"\"refusal\":");
                quote(out, text);
            }),
            Event::Thought(text) => {
                let lane = &mut self.lanes[candidate];
                lane.silent = false;
                let index = lane.thoughts;
                self.detail(candidate, Some(text), None, index, out);
            }
            Event::Seal(seal) => {
                let lane = &mut self.lanes[candidate];
                if lane.silent && seal.origin == Origin::Gemini {
                    lane.held = Some(seal.clone());
                    return;
                }
                // Those have an entry of their own, see `write_details`.
                if !lane.silent && matches!(seal.origin, Origin::OpenAi | Origin::Redacted) {
                    lane.thoughts += 1;
                }
                lane.silent = false;
                let index = lane.thoughts;
                self.detail(candidate, None, Some(seal), index, out);
            }
            Event::Arguments(json) => {
                let index = self.lanes[candidate].calls;
                self.chunk(candidate, PLAIN, out, |out| {
                    out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
                    out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
                    out.extend_from_slice(b",\"function\":{\"arguments\":");
                    quote(out, json);
                    out.extend_from_slice(b"}}]");
                });
            }
            Event::Close => {
                let lane = &mut self.lanes[candidate];
                if std::mem::take(&mut lane.call) {
                    lane.calls += 1;
                } else if std::mem::take(&mut lane.thinking) && !lane.silent {
                    lane.thoughts += 1;
                }
                lane.silent = false;
            }
            Event::Finish { stop, .. } => {
                self.release(candidate, out);
                let ending = format!("}},\"logprobs\":null,\"finish_reason\":\"{}\"", write_stop(stop));
                self.chunk(candidate, &ending, out, |_| {});
            }
            Event::End(usage) => {
                if let (true, Some(usage)) = (self.include_usage, usage) {
                    out.extend_from_slice(&self.head);
                    out.extend_from_slice(b"],\"usage\":");
                    render(out, &usage.write(Dialect::OpenAiChat));
                    out.extend_from_slice(b"}\n\n");
                }
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
        }
    }
}
