//! A streamed answer from one dialect into another, event by event.
//!
//! Owns when a stream is over. Rules:
//! 1. Whole is what ended with its dialect's terminal event, or cleanly with every candidate's finish reason told.
//! 2. Everything else – cut, broken JSON, an error event – ends in the target's error event.
//! 3. Nothing is written behind either; what comes later is passed over.

use super::chat::Delta;
use super::flow::{Broken, Flow, Write};
use super::{
    anthropic_stream, bedrock_stream, gemini_stream, openai_chat_stream, openai_responses_stream, Context, Losses,
};
use crate::llm::error::{Error, Kind};
use crate::llm::Dialect;

/// Where a reader tells what it finds: candidate and delta.
pub(super) type Sink<'s> = &'s mut dyn FnMut(usize, Delta<'_>);

/// An event that is not what its dialect sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<serde_json::Error> for Malformed {
    fn from(_: serde_json::Error) -> Malformed {
        Malformed
    }
}

/// A dialect's reader of streams.
pub(super) trait Read: Send {
    fn event(&mut self, name: Option<&str>, data: &[u8], sink: Sink<'_>) -> Result<(), Malformed>;
}

/// How a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Events are still to come.
    Open,
    /// It ended as its dialect's streams end.
    Whole,
    /// It ended in an error event of the target's: the provider's own, translated.
    Failed,
    /// It ended in an error event: the upstream's stream was cut or not to be understood.
    Broken,
}

/// Translates one stream. Fed the events of the provider, writes the bytes of the client's.
pub struct Stream {
    reader: Box<dyn Read>,
    flow: Flow,
    from: Dialect,
    to: Dialect,
    end: End,
}

impl Stream {
    /// `from` is the provider's dialect, `to` the client's.
    pub fn new(from: Dialect, to: Dialect, context: Context) -> Stream {
        let reader: Box<dyn Read> = match from {
            Dialect::OpenAiChat => Box::new(openai_chat_stream::Reader::new(context.clone())),
            Dialect::OpenAiResponses => Box::new(openai_responses_stream::Reader::default()),
            Dialect::Anthropic => Box::new(anthropic_stream::Reader),
            Dialect::Gemini => Box::new(gemini_stream::Reader::new(context.clone())),
            Dialect::Bedrock => Box::new(bedrock_stream::Reader),
        };
        let (prefix, writer) = writer(to, &context);
        Stream { reader, flow: Flow::new(from, prefix, context, writer), from, to, end: End::Open }
    }

    /// Takes an event: its name (SSE's `event`, or the frame's `:event-type` or `:exception-type`) and its data.
    /// What there is to tell the client is appended to `out`.
    pub fn event(&mut self, name: Option<&str>, data: &[u8], out: &mut Vec<u8>) {
        if self.end != End::Open {
            return;
        }
        let from = self.from;
        let (flow, mut done, mut failed, mut broken) = (&mut self.flow, false, None, None);
        let read = self.reader.event(name, data, &mut |candidate, delta| match delta {
            Delta::Done => done = true,
            Delta::Failed(data) => {
                let error = match (from, name) {
                    (Dialect::Bedrock, Some(name)) => Error::read_exception(name, data),
                    _ => Error::read(0, data),
                };
                // The provider's own code means nothing to the client's SDK; the kind's does.
                failed = Some(Error { code: None, param: None, ..error });
            }
            delta => broken = broken.or(flow.take(candidate, delta, out).err()),
        });
        if let Some(error) = failed {
            self.fail(End::Failed, &error, out);
        } else if read.is_err() {
            self.fail(End::Broken, &broke("the provider sent an event that cannot be read"), out);
        } else if broken == Some(Broken::Waiting) {
            self.fail(End::Broken, &broke("the provider interleaves too many tool calls"), out);
        } else if done {
            self.end = End::Whole;
            self.flow.end(out);
        }
    }

    /// The upstream's stream ended: `cut`, or cleanly as far as the transport can tell.
    pub fn end(&mut self, cut: bool, out: &mut Vec<u8>) {
        if self.end != End::Open {
            return;
        }
        if !cut && self.flow.finished() {
            self.end = End::Whole;
            return self.flow.end(out);
        }
        self.fail(End::Broken, &broke("the provider's stream was cut before its end"), out);
    }

    pub fn state(&self) -> End {
        self.end
    }

    /// What the client's dialect could not say so far.
    pub fn losses(&self) -> Losses {
        let mut losses = Losses::default();
        if self.flow.left_out {
            losses.add("choices[1]", "the client's dialect has one candidate");
        }
        losses
    }

    /// Ends the stream with an error of the caller's: a deadline that ran out, a guard that blocked.
    pub fn abort(&mut self, error: &Error, out: &mut Vec<u8>) {
        if self.end == End::Open {
            self.fail(End::Broken, error, out);
        }
    }

    /// As if the terminal event had come.
    #[cfg(test)]
    pub(super) fn flow_end(&mut self, out: &mut Vec<u8>) {
        self.flow.end(out);
    }

    fn fail(&mut self, end: End, error: &Error, out: &mut Vec<u8>) {
        self.end = end;
        error.write_event(self.to, None, self.flow.sequence(), out);
    }
}

fn broke(what: &str) -> Error {
    Error::new(Kind::BadGateway, what)
}

/// A dialect's writer, and the prefix of its answers' ids.
pub(super) fn writer(to: Dialect, context: &Context) -> (&'static str, Box<dyn Write>) {
    match to {
        Dialect::OpenAiChat => ("chatcmpl-", Box::new(openai_chat_stream::Writer::new(context))),
        Dialect::OpenAiResponses => ("resp_", Box::new(openai_responses_stream::Writer::new(context.clone()))),
        Dialect::Anthropic => ("msg_", Box::new(anthropic_stream::Writer::default())),
        Dialect::Gemini => ("", Box::new(gemini_stream::Writer::default())),
        Dialect::Bedrock => ("", Box::new(bedrock_stream::Writer::default())),
    }
}
