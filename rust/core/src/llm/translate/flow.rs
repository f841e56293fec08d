//! Puts what a stream reader finds into the strict order stream writers and client SDKs expect.
//!
//! Owns, for each candidate, which one block is open. Rules:
//! - a block opens with its first delta and closes when another opens, when its reader says so, or at the end;
//! - deltas go on at once. Only what arrives for another block while a call's arguments are half said waits, as when a
//!   provider interleaves parallel calls; how much may wait is bounded;
//! - the last finish reason and the last usage count, and are told at the end: providers repeat them and send them late;
//! - a call without arguments has `{}`; a call of the tool that stands for a JSON answer is text.
//!
//! It knows no dialect.

use std::collections::VecDeque;

use super::chat::{Block, Delta, Event, Logprob, Seal, Stop};
use super::{Context, JSON_TOOL};
use crate::llm::{Dialect, Usage};

/// Bytes that may wait for a call's arguments to end.
const WAITING: usize = 1 << 20;
/// Candidates of one answer.
const CANDIDATES: usize = 128;

/// What a stream's events all say.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub id: String,
    pub model: String,
    pub created: u64,
}

/// A dialect's writer of streams.
pub(super) trait Write: Send {
    /// Whether it has more than one candidate.
    fn candidates(&self) -> bool {
        false
    }

    fn write(&mut self, head: &Head, candidate: usize, event: Event<'_>, out: &mut Vec<u8>);

    /// Events written so far, for dialects that number them.
    fn sequence(&self) -> u64 {
        0
    }
}

/// Why a stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Waiting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Thought,
    Call,
    /// The call that stands for a JSON answer.
    Json,
}

/// How far the JSON of a call's arguments has come.
#[derive(Clone, Copy, Debug, Default)]
struct Json {
    depth: u32,
    string: bool,
    escape: bool,
    begun: bool,
}

impl Json {
    fn feed(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.string {
                match byte {
                    _ if self.escape => self.escape = false,
                    b'\\' => self.escape = true,
                    b'"' => self.string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    self.begun = true;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn whole(&self) -> bool {
        self.begun && self.depth == 0
    }
}

struct Open {
    kind: Kind,
    slot: u32,
    json: Json,
}

#[derive(Default)]
struct Lane {
    started: bool,
    open: Option<Open>,
    /// Deltas that wait for the open call.
    waiting: VecDeque<Owned>,
    waits: usize,
    calls: bool,
    finish: Option<(Stop, Option<String>)>,
}

/// A delta that waits.
enum Owned {
    Open(u32, String, String),
    Text(Kind, u32, String, Vec<Logprob>),
    Seal(u32, Seal),
    Arguments(u32, String),
    Close(u32),
}

pub(super) struct Flow {
    from: Dialect,
    context: Context,
    head: Option<Head>,
    lanes: Vec<Lane>,
    usage: Usage,
    used: bool,
    /// The last usage that was not read yet.
    raw_usage: String,
    writer: Box<dyn Write>,
    /// Candidates the target cannot express were left out.
    pub left_out: bool,
    prefix: &'static str,
}

impl Flow {
    pub(super) fn new(from: Dialect, prefix: &'static str, context: Context, writer: Box<dyn Write>) -> Flow {
        Flow {
            from,
            context,
            head: None,
            lanes: Vec::with_capacity(1),
            usage: Usage::default(),
            used: false,
            raw_usage: String::new(),
            writer,
            left_out: false,
            prefix,
        }
    }

    pub(super) fn sequence(&self) -> u64 {
        self.writer.sequence()
    }

    /// Every candidate that began has ended.
    pub(super) fn finished(&self) -> bool {
        !self.lanes.is_empty() && self.lanes.iter().all(|lane| lane.finish.is_some())
    }

    /// Takes one delta; `Failed` and `Done` are the caller's.
    pub(super) fn take(&mut self, candidate: usize, delta: Delta<'_>, out: &mut Vec<u8>) -> Result<(), Broken> {
        match delta {
            Delta::Head { id, model, created } => {
                if self.head.is_none() {
                    self.head = Some(self.make_head(id, model, created));
                    self.start(0, out);
                }
                return Ok(());
            }
            Delta::RawUsage(text) => {
                self.raw_usage.clear();
                self.raw_usage.push_str(text);
                return Ok(());
            }
            Delta::Usage(object) => {
                self.raw_usage.clear();
                self.used |= self.usage.update(self.from, object);
                return Ok(());
            }
            Delta::Failed(_) | Delta::Done => return Ok(()),
            _ => {}
        }
        if candidate > 0 && (!self.writer.candidates() || candidate >= CANDIDATES) {
            self.left_out = true;
            return Ok(());
        }
        self.start(candidate, out);
        let (Some(lane), Some(head)) = (self.lanes.get_mut(candidate), &self.head) else {
            return Ok(());
        };
        let mut way = Way { head, candidate, writer: self.writer.as_mut(), out };
        lane.take(delta, &mut way)
    }

    fn make_head(&self, id: Option<&str>, model: Option<&str>, created: Option<u64>) -> Head {
        Head {
            id: id.map_or_else(|| self.context.id(self.prefix, 0), str::to_owned),
            model: self.context.model(model).to_owned(),
            created: created.unwrap_or(self.context.created),
        }
    }

    fn start(&mut self, candidate: usize, out: &mut Vec<u8>) {
        if self.head.is_none() {
            self.head = Some(self.make_head(None, None, None));
        }
        if self.lanes.len() <= candidate {
            self.lanes.resize_with(candidate + 1, Lane::default);
        }
        if let (Some(lane), Some(head)) = (self.lanes.get_mut(candidate), &self.head) {
            if !lane.started {
                lane.started = true;
                self.writer.write(head, candidate, Event::Start, out);
            }
        }
    }

    /// The answer is whole: closes what is open and tells how it ended.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if let Ok(object) = serde_json::from_str(&std::mem::take(&mut self.raw_usage)) {
            self.used |= self.usage.update(self.from, &object);
        }
        self.start(0, out);
        let Some(head) = &self.head else { return };
        for (candidate, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.started {
                continue;
            }
            let mut way = Way { head, candidate, writer: self.writer.as_mut(), out };
            lane.finish(&mut way);
        }
        let usage = self.used.then_some(&self.usage);
        self.writer.write(head, 0, Event::End(usage), out);
    }
}

/// Where a lane's events go.
struct Way<'w> {
    head: &'w Head,
    candidate: usize,
    writer: &'w mut dyn Write,
    out: &'w mut Vec<u8>,
}

impl Way<'_> {
    fn write(&mut self, event: Event<'_>) {
        self.writer.write(self.head, self.candidate, event, self.out);
    }
}

impl Lane {
    fn take(&mut self, delta: Delta<'_>, way: &mut Way<'_>) -> Result<(), Broken> {
        match delta {
            Delta::Text { text: "", ref logprobs, .. } if logprobs.is_empty() => Ok(()),
            Delta::Refusal { text: "", .. } | Delta::Thought { text: "", .. } => Ok(()),
            Delta::Text { slot, text, logprobs } => self.said(Kind::Text, slot, text, &logprobs, way),
            Delta::Refusal { slot, text } => self.said(Kind::Refusal, slot, text, &[], way),
            Delta::Thought { slot, text } => self.said(Kind::Thought, slot, text, &[], way),
            Delta::Seal { slot, seal } => match self.ready(Kind::Thought, slot, way) {
                true => {
                    way.write(Event::Seal(&seal));
                    Ok(())
                }
                false => self.wait(seal.value.len(), Owned::Seal(slot, seal)),
            },
            Delta::Open { slot, id, name } => match self.may_open(way) {
                true => {
                    self.call(slot, id.into_owned(), name, way);
                    Ok(())
                }
                false => self.wait(id.len() + name.len(), Owned::Open(slot, id.into_owned(), name.to_owned())),
            },
            Delta::Arguments { slot, json } => self.arguments(slot, json, way),
            Delta::Close { slot } => {
                match &self.open {
                    Some(open) if open.slot == slot => {
                        self.close(way);
                        return self.drain(way);
                    }
                    _ if !self.waiting.is_empty() => return self.wait(0, Owned::Close(slot)),
                    _ => {}
                }
                Ok(())
            }
            Delta::Finish { stop, sequence } => {
                self.finish = Some((stop, sequence.map(str::to_owned)));
                Ok(())
            }
            Delta::Head { .. } | Delta::Usage(_) | Delta::RawUsage(_) | Delta::Failed(_) | Delta::Done => Ok(()),
        }
    }

    fn said(&mut self, kind: Kind, slot: u32, text: &str, logs: &[Logprob], way: &mut Way<'_>) -> Result<(), Broken> {
        if !self.ready(kind, slot, way) {
            return self.wait(text.len(), Owned::Text(kind, slot, text.to_owned(), logs.to_vec()));
        }
        way.write(match kind {
            Kind::Refusal => Event::Refusal(text),
            Kind::Thought => Event::Thought(text),
            _ => Event::Text(text, logs),
        });
        Ok(())
    }

    /// Nothing stands in the way of opening a block: no call is half said.
    fn may_open(&mut self, way: &mut Way<'_>) -> bool {
        match &self.open {
            Some(Open { kind: Kind::Call, json, .. }) if !json.whole() => false,
            _ => {
                self.close(way);
                true
            }
        }
    }

    /// Makes `kind` of `slot` the open block, if it may be.
    fn ready(&mut self, kind: Kind, slot: u32, way: &mut Way<'_>) -> bool {
        if self.open.as_ref().is_some_and(|open| open.kind == kind && open.slot == slot) {
            return true;
        }
        if !self.may_open(way) {
            return false;
        }
        self.open = Some(Open { kind, slot, json: Json::default() });
        way.write(Event::Open(&match kind {
            Kind::Refusal => Block::Refusal,
            Kind::Thought => Block::Thought,
            _ => Block::Text,
        }));
        true
    }

    fn call(&mut self, slot: u32, id: String, name: &str, way: &mut Way<'_>) {
        let json = Json::default();
        if name == JSON_TOOL {
            self.open = Some(Open { kind: Kind::Json, slot, json });
            way.write(Event::Open(&Block::Text));
            return;
        }
        self.calls = true;
        self.open = Some(Open { kind: Kind::Call, slot, json });
        way.write(Event::Open(&Block::Call { id, name: name.to_owned() }));
    }

    fn arguments(&mut self, slot: u32, json: &str, way: &mut Way<'_>) -> Result<(), Broken> {
        match &mut self.open {
            _ if json.is_empty() => Ok(()),
            Some(open) if open.slot == slot && open.kind == Kind::Json => {
                way.write(Event::Text(json, &[]));
                Ok(())
            }
            Some(open) if open.slot == slot && open.kind == Kind::Call => {
                open.json.feed(json);
                let whole = open.json.whole();
                // White space behind the end says nothing, and a waiting block may follow.
                way.write(Event::Arguments(json));
                open.json.begun = true;
                match whole && !self.waiting.is_empty() {
                    true => {
                        self.close(way);
                        self.drain(way)
                    }
                    false => Ok(()),
                }
            }
            _ if !self.waiting.is_empty() => self.wait(json.len(), Owned::Arguments(slot, json.to_owned())),
            // Of a call that is closed, or never was: nothing a client could use.
            _ => Ok(()),
        }
    }

    fn wait(&mut self, size: usize, delta: Owned) -> Result<(), Broken> {
        self.waits += size + std::mem::size_of::<Owned>();
        if self.waits > WAITING {
            return Err(Broken::Waiting);
        }
        self.waiting.push_back(delta);
        Ok(())
    }

    /// What waited goes its way, as far as it can; the rest waits on in its order.
    fn drain(&mut self, way: &mut Way<'_>) -> Result<(), Broken> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waits = 0;
        for delta in waiting {
            match delta {
                Owned::Open(slot, id, name) => self.take(Delta::Open { slot, id: id.into(), name: &name }, way)?,
                Owned::Text(kind, slot, text, logs) => self.said(kind, slot, &text, &logs, way)?,
                Owned::Seal(slot, seal) => self.take(Delta::Seal { slot, seal }, way)?,
                Owned::Arguments(slot, json) => self.arguments(slot, &json, way)?,
                Owned::Close(slot) => self.take(Delta::Close { slot }, way)?,
            }
        }
        Ok(())
    }

    fn close(&mut self, way: &mut Way<'_>) {
        let Some(open) = self.open.take() else { return };
        if open.kind == Kind::Call && !open.json.begun {
            way.write(Event::Arguments("{}"));
        }
        way.write(Event::Close);
    }

    fn finish(&mut self, way: &mut Way<'_>) {
        self.close(way);
        // Each round closes one call that never became whole; bounded by what waits.
        while !self.waiting.is_empty() {
            if self.drain(way).is_err() {
                self.waiting.clear();
            }
            self.close(way);
        }
        let (stop, sequence) = self.finish.take().unwrap_or((Stop::End, None));
        way.write(Event::Finish { stop: stop.settle(self.calls), sequence: sequence.as_deref() });
    }
}
