//! Measures an answer as its bytes pass: usage, when tokens came, why it ended.
//!
//! Rules:
//! 1. It looks on: nothing it meets can hold or change the answer. What it cannot read it counts and passes over.
//! 2. One pass over each event without building it ([`super::events`]). A usage object is copied and read when asked
//!    for, since some providers send one with every delta.
//! 3. Counts of a stream only grow: a later event without them, or with zeros, takes nothing away.
//! 4. A stream that was cut has no complete usage, whatever it said up to then.

use super::super::{event_stream, sse};
use super::{Dialect, Usage};

/// A whole answer is gathered up to this length; a longer one is [lost](Meter::is_lost).
pub const MAX_WHOLE: usize = 16 << 20;
/// A usage object has a few hundred bytes; what is longer is none.
const MAX_USAGE: usize = 16 << 10;
/// Reasons kept, and bytes of each.
const MAX_REASONS: usize = 16;
const MAX_WORD: usize = 256;

/// How an answer ended, as far as it says so itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Not at all: under way, or cut.
    #[default]
    Open,
    /// Every choice said why it stopped, but the dialect's terminal event has not come. Some providers forget it; a
    /// connection that ended cleanly here is a complete answer.
    Finished,
    /// With its terminal event; a whole body, by being one.
    Clean,
    /// With an error event.
    Failed,
}

/// Text that was generated, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    pub ascii: u64,
    pub wide: u64,
}

impl Spoken {
    /// Estimate of its tokens, by the rule of [`Prompt`](super::super::request::Prompt).
    pub fn tokens(&self) -> u64 {
        self.ascii.div_ceil(4) + self.wide.div_ceil(3)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let wide = if bytes.is_ascii() { 0 } else { bytes.iter().filter(|byte| !byte.is_ascii()).count() as u64 };
        self.wide += wide;
        self.ascii += bytes.len() as u64 - wide;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ascii == 0 && self.wide == 0
    }
}

#[derive(Debug)]
enum Framing {
    Events(sse::Reader),
    Frames(event_stream::Reader),
    Whole {
        body: Vec<u8>,
        max: usize,
    },
    /// What came cannot be told apart any more, or has ended.
    Over,
}

#[derive(Debug)]
pub struct Meter {
    pub(super) dialect: Dialect,
    framing: Framing,
    pub(super) seen: Seen,
    /// What usage objects said, up to the last.
    usage: Usage,
    /// The last one, unread.
    snapshot: Vec<u8>,
    first: Option<u64>,
    last: Option<u64>,
    deltas: u64,
    events: u64,
    malformed: u64,
    lost: bool,
}

/// What events have said beside usage.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub id: Option<String>,
    pub model: Option<String>,
    pub reasons: Vec<String>,
    pub spoken: Spoken,
    /// Choices (up to 64) that have begun, and that have said why they stopped.
    pub begun: u64,
    pub stopped: u64,
    pub terminal: bool,
    pub failed: bool,
}

impl Seen {
    pub fn reason(&mut self, word: &str) {
        if self.reasons.len() < MAX_REASONS {
            self.reasons.push(short(word));
        }
    }
}

pub(super) fn short(word: &str) -> String {
    word.chars().take(MAX_WORD / 4).collect()
}

impl Meter {
    /// For a streamed answer.
    pub fn stream(dialect: Dialect) -> Meter {
        Meter::new(
            dialect,
            match dialect {
                Dialect::Bedrock => Framing::Frames(event_stream::Reader::default()),
                _ => Framing::Events(sse::Reader::default()),
            },
        )
    }

    /// For a whole answer, of which up to `max` bytes are kept until its end.
    pub fn whole(dialect: Dialect, max: usize) -> Meter {
        Meter::new(dialect, Framing::Whole { body: Vec::new(), max })
    }

    fn new(dialect: Dialect, framing: Framing) -> Meter {
        Meter {
            dialect,
            framing,
            seen: Seen::default(),
            usage: Usage::default(),
            snapshot: Vec::new(),
            first: None,
            last: None,
            deltas: 0,
            events: 0,
            malformed: 0,
            lost: false,
        }
    }

    /// Takes bytes of the answer's body that came at the instant `at`: microseconds since whatever the caller counts
    /// from.
    pub fn feed(&mut self, bytes: &[u8], at: u64) {
        let mut rest = bytes;
        match std::mem::replace(&mut self.framing, Framing::Over) {
            Framing::Events(mut reader) => {
                loop {
                    match reader.next(&mut rest) {
                        Ok(Some(event)) => self.event(event.name, event.data, at),
                        Ok(None) => break,
                        Err(sse::TooLong) => {
                            self.lost = true;
                            return;
                        }
                    }
                }
                self.framing = Framing::Events(reader);
            }
            Framing::Frames(mut reader) => {
                loop {
                    match reader.next(&mut rest) {
                        Ok(Some(frame)) => self.frame(&frame, at),
                        Ok(None) => break,
                        Err(_) => {
                            self.lost = true;
                            return;
                        }
                    }
                }
                self.framing = Framing::Frames(reader);
            }
            Framing::Whole { mut body, max } => {
                self.first.get_or_insert(at);
                self.last = Some(at);
                if body.len() + bytes.len() > max {
                    self.lost = true;
                    return;
                }
                body.extend_from_slice(bytes);
                self.framing = Framing::Whole { body, max };
            }
            Framing::Over => {}
        }
    }

    /// The body has ended, cleanly or not. What follows is not looked at.
    pub fn end(&mut self, at: u64) {
        match std::mem::replace(&mut self.framing, Framing::Over) {
            Framing::Events(mut reader) => {
                if let Some(event) = reader.end() {
                    self.event(event.name, event.data, at);
                }
            }
            Framing::Whole { body, .. } => self.body(&body, at),
            Framing::Frames(_) | Framing::Over => {}
        }
    }

    /// Takes an event that somebody else has read from the stream, instead of [`feed`](Meter::feed).
    pub fn event(&mut self, name: Option<&str>, data: &[u8], at: u64) {
        self.events += 1;
        let before = self.seen.spoken;
        if self.read_event(name, data).is_err() {
            self.malformed += 1;
        }
        if self.seen.spoken != before {
            self.deltas += 1;
            self.first.get_or_insert(at);
            self.last = Some(at);
        }
    }

    /// As [`event`](Meter::event), for Bedrock's frames.
    pub fn frame(&mut self, frame: &event_stream::Frame<'_>, at: u64) {
        match frame.event() {
            Some(event_stream::Named::Event(name)) => self.event(Some(name), frame.payload, at),
            Some(event_stream::Named::Exception(_)) => {
                self.events += 1;
                self.seen.failed = true;
            }
            None => self.malformed += 1,
        }
    }

    fn body(&mut self, body: &[u8], at: u64) {
        self.events += 1;
        match self.read_whole(body) {
            Ok(()) => self.seen.terminal = true,
            Err(_) => self.malformed += 1,
        }
        if !self.seen.spoken.is_empty() {
            self.deltas += 1;
            self.first.get_or_insert(at);
        }
    }

    /// Keeps a usage object for later.
    pub(super) fn note(&mut self, object: &[u8]) {
        if object.len() > MAX_USAGE {
            return;
        }
        // Counts grow, so a shorter object lacks what the one before has; Anthropic's are parts by design.
        if object.len() < self.snapshot.len() || self.dialect == Dialect::Anthropic {
            self.usage = self.known();
        }
        self.snapshot.clear();
        self.snapshot.extend_from_slice(object);
    }

    fn known(&self) -> Usage {
        let mut usage = self.usage;
        if !self.snapshot.is_empty() {
            if let Ok(object) = serde_json::from_slice(&self.snapshot) {
                usage.update(self.dialect, &object);
            }
        }
        usage
    }

    /// What the provider has said of its usage up to now; `None` if nothing.
    pub fn usage(&self) -> Option<Usage> {
        let mut usage = self.known();
        let whole = self.ending() != Ending::Open && self.ending() != Ending::Failed;
        usage.complete &= whole;
        (usage != Usage::default()).then_some(usage)
    }

    /// What to settle: the provider's usage, and where it is missing or half a stream's an estimate, from what was
    /// generated and from `prompt` tokens.
    pub fn settle(&self, prompt: u64) -> Usage {
        let mut usage = self.usage().unwrap_or_default();
        if !usage.complete {
            usage.output = usage.output.max(self.seen.spoken.tokens());
            if usage.input == 0 {
                usage.input = prompt;
            }
        }
        usage
    }

    pub fn ending(&self) -> Ending {
        let seen = &self.seen;
        match () {
            () if seen.failed => Ending::Failed,
            () if seen.terminal => Ending::Clean,
            () if seen.stopped != 0 && seen.begun & !seen.stopped == 0 => Ending::Finished,
            () => Ending::Open,
        }
    }

    /// When the first token came, and the last. Of a whole body, its first and last bytes.
    pub fn first(&self) -> Option<u64> {
        self.first
    }

    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// Events that carried something generated.
    pub fn deltas(&self) -> u64 {
        self.deltas
    }

    /// Events of any kind.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Events that could not be read.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// The rest was not looked at: longer than the caps, or broken framing. With no complete usage, what was reserved
    /// is the safe thing to settle.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    pub fn spoken(&self) -> Spoken {
        self.seen.spoken
    }

    /// Why choices stopped, in the provider's words.
    pub fn reasons(&self) -> &[String] {
        &self.seen.reasons
    }

    /// The answer's id and model, as the provider says.
    pub fn id(&self) -> Option<&str> {
        self.seen.id.as_deref()
    }

    pub fn model(&self) -> Option<&str> {
        self.seen.model.as_deref()
    }
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
