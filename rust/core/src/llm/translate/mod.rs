//! Translation between the dialects, each pair both ways, whole and streamed, through one representation ([`chat`]).
//!
//! Rules:
//! 1. A dialect has one reader and one writer for each of request, answer and stream. No module knows two dialects.
//! 2. What the target cannot express is a [`Loss`]: reported always, refused if [`Options`] say so. Nothing is dropped
//!    in silence, and nothing is made up but ids and times, which come from [`Context`].
//! 3. A stream's deltas go on as they come ([`Stream`]). What is kept is what the target's own events must repeat: the
//!    text so far for responses, one call's arguments for Gemini, which knows no fragments.
//! 4. A stream that was cut, or broke, ends in the target's error event, never as if complete.
//!
//! Never called when both sides speak the same dialect: then bytes are passed on. No IO, clock or randomness.

mod anthropic;
mod anthropic_stream;
mod bedrock;
mod bedrock_stream;
mod chat;
mod claude;
mod fields;
mod flow;
mod gemini;
mod gemini_stream;
mod hot;
mod media;
mod openai;
mod openai_chat;
mod openai_chat_stream;
mod openai_responses;
mod openai_responses_stream;
mod schema;
mod stream;

use std::borrow::Cow;

use serde_json::Value;

use super::Dialect;
pub use stream::{End, Stream};

/// Losses kept; of more than these only the count is.
const LOSSES: usize = 64;
/// Answers in place of `max_tokens`, where the dialect demands a number and the client named none.
const MAX_TOKENS: u64 = 8192;
/// The forced tool that stands for a JSON answer where the target has no such mode.
const JSON_TOOL: &str = "pygate_json_answer";

/// Something of the source the target does not say.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Loss {
    /// Where it stood, as `messages[2].content[0].detail`.
    pub path: String,
    pub what: Cow<'static, str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    list: Vec<Loss>,
    more: usize,
}

impl Losses {
    fn add(&mut self, path: impl Into<String>, what: impl Into<Cow<'static, str>>) {
        if self.list.len() == LOSSES {
            self.more += 1;
            return;
        }
        let loss = Loss { path: path.into(), what: what.into() };
        if !self.list.contains(&loss) {
            self.list.push(loss);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Loss> {
        self.list.iter()
    }

    /// How many there were beyond those listed.
    pub fn more(&self) -> usize {
        self.more
    }
}

/// As the header `x-pygate-translation-loss` has it: paths, comma-separated.
impl std::fmt::Display for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, loss) in self.list.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            // A path may hold keys a client chose.
            for c in loss.path.chars() {
                let plain = c.is_ascii_graphic() && c != ',';
                std::fmt::Write::write_char(f, if plain { c } else { '_' })?;
            }
        }
        if self.more > 0 {
            write!(f, ", +{}", self.more)?;
        }
        Ok(())
    }
}

/// Why a body was not translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not JSON; the offset in bytes.
    Syntax { offset: usize },
    /// JSON, but not what the dialect's bodies are.
    Shape { path: String, expected: &'static str },
    /// The target cannot express these, and `Options` do not let them be dropped.
    Lossy(Losses),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Syntax { offset } => write!(f, "the body is not JSON: malformed at byte {offset}"),
            Refused::Shape { path, expected } => write!(f, "{path}: expected {expected}"),
            Refused::Lossy(losses) => write!(f, "the target model's API cannot express: {losses}"),
        }
    }
}

fn shape(path: impl Into<String>, expected: &'static str) -> Refused {
    Refused::Shape { path: path.into(), expected }
}

/// How a request is to be translated.
#[derive(Clone, Debug)]
pub struct Options {
    /// The provider's name of the model, written where the dialect has it in the body.
    pub model: Option<String>,
    /// Whether the answer is to be streamed, where the client's dialect says so in the path (Gemini, Bedrock).
    pub stream: Option<bool>,
    /// Losses refuse the request instead of being dropped and reported.
    pub refuse_losses: bool,
    /// Written where the target demands a limit and the client gave none.
    pub max_tokens: u64,
    /// The target's model takes a thinking budget in tokens instead of an effort (older Claude and Gemini).
    pub thinking_budget: bool,
    /// The target's model has no structured output: a forced tool stands for it. Bedrock and Anthropic alone.
    pub schema_by_tool: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            model: None,
            stream: None,
            refuse_losses: false,
            max_tokens: MAX_TOKENS,
            thinking_budget: false,
            schema_by_tool: false,
        }
    }
}

/// What an answer needs that the provider does not say.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The model as the client named it; the provider's name when empty.
    pub model: String,
    /// Seconds since the epoch.
    pub created: u64,
    /// Ids are made of it; of its own for each call.
    pub entropy: [u8; 16],
    /// The client of an OpenAI chat stream asked for the usage chunk.
    pub include_usage: bool,
}

impl Context {
    /// An id with the dialect's prefix, the same for the same number.
    fn id(&self, prefix: &str, number: usize) -> String {
        let mut id = String::with_capacity(prefix.len() + 36);
        id.push_str(prefix);
        for byte in &self.entropy[..12] {
            let _ = std::fmt::Write::write_fmt(&mut id, format_args!("{byte:02x}"));
        }
        if number > 0 {
            let _ = std::fmt::Write::write_fmt(&mut id, format_args!("{number:04x}"));
        }
        id
    }

    fn model<'a>(&'a self, provider: Option<&'a str>) -> &'a str {
        match self.model.as_str() {
            "" => provider.unwrap_or(""),
            named => named,
        }
    }
}

/// Translates a request's body from the client's dialect to the provider's. `out` is appended to.
pub fn request(
    from: Dialect,
    to: Dialect,
    body: &[u8],
    options: &Options,
    out: &mut Vec<u8>,
) -> Result<Losses, Refused> {
    let value = parse(body)?;
    let mut losses = Losses::default();
    let mut read = match from {
        Dialect::OpenAiChat => openai_chat::read_request(&value, &mut losses),
        Dialect::OpenAiResponses => openai_responses::read_request(&value, &mut losses),
        Dialect::Anthropic => anthropic::read_request(&value, &mut losses),
        Dialect::Gemini => gemini::read_request(&value, &mut losses),
        Dialect::Bedrock => bedrock::read_request(&value, &mut losses),
    }?;
    if options.model.is_some() {
        read.model.clone_from(&options.model);
    }
    read.stream = options.stream.unwrap_or(read.stream);
    let written = match to {
        Dialect::OpenAiChat => openai_chat::write_request(&read, &mut losses),
        Dialect::OpenAiResponses => openai_responses::write_request(&read, &mut losses),
        Dialect::Anthropic => anthropic::write_request(&read, options, &mut losses),
        Dialect::Gemini => gemini::write_request(&read, options, &mut losses),
        Dialect::Bedrock => bedrock::write_request(&read, options, &mut losses),
    };
    if options.refuse_losses && !losses.is_empty() {
        return Err(Refused::Lossy(losses));
    }
    fields::render(out, &written);
    Ok(losses)
}

/// Translates a whole answer with a good status from the provider's dialect to the client's. `out` is appended to.
pub fn answer(
    from: Dialect,
    to: Dialect,
    body: &[u8],
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<Losses, Refused> {
    let value = parse(body)?;
    let mut losses = Losses::default();
    let mut read = match from {
        Dialect::OpenAiChat => openai_chat::read_answer(&value, &mut losses),
        Dialect::OpenAiResponses => openai_responses::read_answer(&value, &mut losses),
        Dialect::Anthropic => anthropic::read_answer(&value, &mut losses),
        Dialect::Gemini => gemini::read_answer(&value, context, &mut losses),
        Dialect::Bedrock => bedrock::read_answer(&value, &mut losses),
    }?;
    read.settle(context);
    let written = match to {
        Dialect::OpenAiChat => openai_chat::write_answer(&read, context, &mut losses),
        Dialect::OpenAiResponses => openai_responses::write_answer(&read, context, &mut losses),
        Dialect::Anthropic => anthropic::write_answer(&read, context, &mut losses),
        Dialect::Gemini => gemini::write_answer(&read, context, &mut losses),
        Dialect::Bedrock => bedrock::write_answer(&read, &mut losses),
    };
    fields::render(out, &written);
    Ok(losses)
}

fn parse(body: &[u8]) -> Result<Value, Refused> {
    serde_json::from_slice(body).map_err(|fault| Refused::Syntax { offset: offset(body, &fault) })
}

/// Where serde_json stopped, as an offset.
fn offset(body: &[u8], fault: &serde_json::Error) -> usize {
    let lines = body.split_inclusive(|byte| *byte == b'\n').take(fault.line().saturating_sub(1));
    (lines.map(<[u8]>::len).sum::<usize>() + fault.column().saturating_sub(1)).min(body.len())
}

#[cfg(test)]
mod agreement_tests;
#[cfg(test)]
mod round_trip_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
