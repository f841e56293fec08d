//! The deltas there are most of, read in one pass without a tree: pieces of text and of arguments.
//!
//! Rules: an event is read here only if it says nothing else; whatever is out of the ordinary – more members that count,
//! more than one choice, a duplicate – is `None`, and for the reader proper. So this may be removed without a difference
//! but in time.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, Visitor};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Text lent from the event, unless it has escapes.
pub(super) struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Lent;
        impl<'de> Visitor<'de> for Lent {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Lent)
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// What an event brings a piece of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Text,
    Thought,
    Arguments,
}

/// A piece of one block. `index` is the provider's, of the block or of the call.
pub(super) struct Piece<'a> {
    pub of: Of,
    pub candidate: usize,
    pub index: u64,
    pub text: Text<'a>,
}

type Any = Option<IgnoredAny>;

#[derive(Deserialize)]
struct ChatChunk<'a> {
    #[serde(borrow)]
    choices: (ChatChoice<'a>,),
    usage: Any,
    error: Any,
}

#[derive(Deserialize)]
struct ChatChoice<'a> {
    index: usize,
    #[serde(borrow)]
    delta: ChatDelta<'a>,
    finish_reason: Any,
    logprobs: Any,
}

#[derive(Deserialize)]
struct ChatDelta<'a> {
    #[serde(borrow)]
    content: Option<Text<'a>>,
    reasoning_content: Option<Text<'a>>,
    tool_calls: Option<(ChatCall<'a>,)>,
    reasoning: Any,
    reasoning_details: Any,
    refusal: Any,
}

#[derive(Deserialize)]
struct ChatCall<'a> {
    index: u64,
    #[serde(borrow)]
    function: ChatFunction<'a>,
    id: Any,
    extra_content: Any,
}

#[derive(Deserialize)]
struct ChatFunction<'a> {
    #[serde(borrow)]
    arguments: Text<'a>,
    name: Any,
}

pub(super) fn chat(data: &[u8]) -> Option<Piece<'_>> {
    let ChatChunk { choices: (choice,), usage: None, error: None } = serde_json::from_slice(data).ok()? else {
        return None;
    };
    let ChatChoice { index: candidate, delta, finish_reason: None, logprobs: None } = choice else { return None };
    let ChatDelta { content, reasoning_content, tool_calls, reasoning: None, reasoning_details: None, refusal: None } =
        delta
    else {
        return None;
    };
    match (content, reasoning_content, tool_calls) {
        (Some(text), None, None) => Some(Piece { of: Of::Text, candidate, index: 0, text }),
        (None, Some(text), None) => Some(Piece { of: Of::Thought, candidate, index: 0, text }),
        (None, None, Some((call,))) => {
            let ChatCall {
                index,
                function: ChatFunction { arguments: text, name: None },
                id: None,
                extra_content: None,
            } = call
            else {
                return None;
            };
            Some(Piece { of: Of::Arguments, candidate, index, text })
        }
        _ => None,
    }
}

#[derive(Deserialize)]
struct AnthropicDelta<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    index: u64,
    delta: AnthropicPiece<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnthropicPiece<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    text: Option<Text<'a>>,
    thinking: Option<Text<'a>>,
    partial_json: Option<Text<'a>>,
}

pub(super) fn anthropic(data: &[u8]) -> Option<Piece<'_>> {
    let event: AnthropicDelta<'_> = serde_json::from_slice(data).ok()?;
    if &*event.r#type != "content_block_delta" {
        return None;
    }
    let AnthropicPiece { r#type, text, thinking, partial_json } = event.delta;
    let (of, text) = match (&*r#type, text, thinking, partial_json) {
        ("text_delta", Some(text), None, None) => (Of::Text, text),
        ("thinking_delta", None, Some(text), None) => (Of::Thought, text),
        ("input_json_delta", None, None, Some(text)) => (Of::Arguments, text),
        _ => return None,
    };
    Some(Piece { of, candidate: 0, index: event.index, text })
}

#[derive(Deserialize)]
struct ResponsesDelta<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    output_index: u64,
    content_index: Option<u64>,
    delta: Text<'a>,
    /// None of them: with any the event is not read here.
    #[serde(default, rename = "logprobs")]
    _logprobs: Option<[(); 0]>,
}

/// A piece, and the index of the part it belongs to within its item.
pub(super) fn responses(data: &[u8]) -> Option<(Piece<'_>, u64)> {
    let event: ResponsesDelta<'_> = serde_json::from_slice(data).ok()?;
    let of = match &*event.r#type {
        "response.output_text.delta" => Of::Text,
        "response.function_call_arguments.delta" => Of::Arguments,
        _ => return None,
    };
    let piece = Piece { of, candidate: 0, index: event.output_index, text: event.delta };
    Some((piece, event.content_index.unwrap_or(0)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GeminiChunk<'a> {
    #[serde(borrow)]
    candidates: (GeminiCandidate<'a>,),
    usage_metadata: Option<&'a RawValue>,
    error: Any,
    prompt_feedback: Any,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GeminiCandidate<'a> {
    #[serde(default)]
    index: usize,
    #[serde(borrow)]
    content: GeminiContent<'a>,
    finish_reason: Any,
    logprobs_result: Any,
}

#[derive(Deserialize)]
struct GeminiContent<'a> {
    #[serde(borrow)]
    parts: (GeminiPart<'a>,),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GeminiPart<'a> {
    #[serde(borrow)]
    text: Text<'a>,
    thought: Option<bool>,
}

/// A piece, and the usage so far as it stands in the event.
pub(super) fn gemini(data: &[u8]) -> Option<(Piece<'_>, Option<&str>)> {
    let chunk: GeminiChunk<'_> = serde_json::from_slice(data).ok()?;
    let GeminiChunk { candidates: (candidate,), usage_metadata, error: None, prompt_feedback: None } = chunk else {
        return None;
    };
    let GeminiCandidate { index, content, finish_reason: None, logprobs_result: None } = candidate else {
        return None;
    };
    let (part,) = content.parts;
    let of = if part.thought == Some(true) { Of::Thought } else { Of::Text };
    Some((Piece { of, candidate: index, index: 0, text: part.text }, usage_metadata.map(RawValue::get)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BedrockDelta<'a> {
    content_block_index: u64,
    #[serde(borrow)]
    delta: BedrockPiece<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BedrockPiece<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    tool_use: Option<BedrockInput<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BedrockInput<'a> {
    #[serde(borrow)]
    input: Text<'a>,
}

pub(super) fn bedrock(data: &[u8]) -> Option<Piece<'_>> {
    let event: BedrockDelta<'_> = serde_json::from_slice(data).ok()?;
    let (of, text) = match (event.delta.text, event.delta.tool_use) {
        (Some(text), None) => (Of::Text, text),
        (None, Some(call)) => (Of::Arguments, call.input),
        _ => return None,
    };
    Some(Piece { of, candidate: 0, index: event.content_block_index, text })
}
