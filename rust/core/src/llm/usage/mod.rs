//! Tokens of a call, meaning the same whatever the dialect.
//!
//! Rules:
//! 1. `input` includes what was read from and written to the provider's cache, `output` includes reasoning. Dialects
//!    that report them apart are added up here and nowhere else.
//! 2. A field that is absent, null or no count leaves what is known as it is, and so does a zero: providers send
//!    parts in several events, and counts of a stream only grow.
//! 3. Sums saturate; a provider's nonsense is never a panic, nor a negative bill.

mod events;
pub mod meter;

use super::Dialect;
pub use meter::{Ending, Meter, Spoken};
use serde_json::{json, Value};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    pub cached_read: u64,
    pub cached_write: u64,
    pub reasoning: u64,
    pub audio_input: u64,
    pub audio_output: u64,
    /// Tokens of images in the answer.
    pub image: u64,
    /// Both sides are known: nothing of it is a guess or half a stream's.
    pub complete: bool,
}

impl Usage {
    /// Reads a provider's usage object: the value of `usage` (OpenAI, Anthropic, Bedrock) or `usageMetadata` (Gemini).
    /// `None` when it holds no count.
    pub fn read(dialect: Dialect, object: &Value) -> Option<Usage> {
        let mut usage = Usage::default();
        usage.update(dialect, object).then_some(usage)
    }

    /// Takes over what an object says, later ones over earlier ones, as streams report it in parts (Anthropic's
    /// `message_start` and `message_delta`). False when it says nothing.
    pub fn update(&mut self, dialect: Dialect, object: &Value) -> bool {
        let given = match dialect {
            Dialect::OpenAiChat | Dialect::OpenAiResponses => Given::openai(object),
            Dialect::Anthropic => Given::anthropic(object),
            Dialect::Gemini => Given::gemini(object),
            Dialect::Bedrock => Given::bedrock(object),
        };
        self.take(&given)
    }

    /// Input tokens that neither came from a cache nor went into one.
    pub fn uncached(&self) -> u64 {
        self.input.saturating_sub(self.cached_read).saturating_sub(self.cached_write)
    }

    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    fn take(&mut self, given: &Given) -> bool {
        if given.is_nothing() {
            return false;
        }
        let newer = |given: Option<u64>, known: u64| given.filter(|&count| count > 0).unwrap_or(known);
        let side = |given: Option<Side>| given.filter(|side| !matches!(side, Side::Whole(0) | Side::Apart(0)));
        let apart = self.uncached();
        self.cached_read = newer(given.cached_read, self.cached_read);
        self.cached_write = newer(given.cached_write, self.cached_write);
        self.input = match side(given.input) {
            Some(Side::Whole(input)) => input.max(self.cached_read.saturating_add(self.cached_write)),
            Some(Side::Apart(input)) => input.saturating_add(self.cached_read).saturating_add(self.cached_write),
            None => apart.saturating_add(self.cached_read).saturating_add(self.cached_write),
        };
        let spoken = self.output.saturating_sub(self.reasoning);
        self.reasoning = newer(given.reasoning, self.reasoning);
        self.output = match side(given.output) {
            Some(Side::Whole(output)) => output.max(self.reasoning),
            Some(Side::Apart(output)) => output.saturating_add(self.reasoning),
            None => spoken.saturating_add(self.reasoning),
        };
        self.audio_input = newer(given.audio_input, self.audio_input);
        self.audio_output = newer(given.audio_output, self.audio_output);
        self.image = newer(given.image, self.image);
        self.complete |= given.input.is_some() && given.output.is_some();
        true
    }

    /// The usage object a dialect's client expects. Chat's is also that of embeddings.
    pub fn write(&self, dialect: Dialect) -> Value {
        let Usage { input, output, cached_read, cached_write, reasoning, .. } = *self;
        match dialect {
            Dialect::OpenAiChat => json!({
                "prompt_tokens": input,
                "completion_tokens": output,
                "total_tokens": self.total(),
                "prompt_tokens_details": {"cached_tokens": cached_read, "audio_tokens": self.audio_input},
                "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": self.audio_output},
            }),
            Dialect::OpenAiResponses => json!({
                "input_tokens": input,
                "input_tokens_details": {"cached_tokens": cached_read},
                "output_tokens": output,
                "output_tokens_details": {"reasoning_tokens": reasoning},
                "total_tokens": self.total(),
            }),
            Dialect::Anthropic => json!({
                "input_tokens": self.uncached(),
                "cache_creation_input_tokens": cached_write,
                "cache_read_input_tokens": cached_read,
                "output_tokens": output,
            }),
            Dialect::Gemini => {
                let mut object = json!({
                    "promptTokenCount": input,
                    "candidatesTokenCount": output.saturating_sub(reasoning),
                    "totalTokenCount": self.total(),
                });
                if cached_read > 0 {
                    object["cachedContentTokenCount"] = cached_read.into();
                }
                if reasoning > 0 {
                    object["thoughtsTokenCount"] = reasoning.into();
                }
                object
            }
            Dialect::Bedrock => {
                let mut object = json!({
                    "inputTokens": self.uncached(),
                    "outputTokens": output,
                    "totalTokens": self.total(),
                });
                if cached_read > 0 || cached_write > 0 {
                    object["cacheReadInputTokens"] = cached_read.into();
                    object["cacheWriteInputTokens"] = cached_write.into();
                }
                object
            }
        }
    }
}

/// One side's tokens: with the parts that have names of their own, or without.
#[derive(Clone, Copy)]
enum Side {
    Whole(u64),
    Apart(u64),
}

/// What an object says; everything may be missing.
#[derive(Clone, Copy, Default)]
struct Given {
    input: Option<Side>,
    output: Option<Side>,
    cached_read: Option<u64>,
    cached_write: Option<u64>,
    reasoning: Option<u64>,
    audio_input: Option<u64>,
    audio_output: Option<u64>,
    image: Option<u64>,
}

impl Given {
    fn is_nothing(&self) -> bool {
        self.input.is_none() && self.output.is_none() && self.cached_read.is_none() && self.cached_write.is_none()
    }

    /// Chat's names and those of Responses, Images and transcription; compatible providers mix them. DeepSeek counts
    /// `prompt_cache_hit_tokens`, Moonshot `cached_tokens`, both beside the details; xAI's `completion_tokens` leaves
    /// reasoning out, which its total gives away.
    fn openai(object: &Value) -> Given {
        let input = count(object, "prompt_tokens").or_else(|| count(object, "input_tokens"));
        let output = count(object, "completion_tokens").or_else(|| count(object, "output_tokens"));
        let read = part(object, "prompt_tokens_details").or_else(|| part(object, "input_tokens_details"));
        let made = part(object, "completion_tokens_details").or_else(|| part(object, "output_tokens_details"));
        let of = |details: Option<&Value>, name| details.and_then(|details| count(details, name));
        let reasoning = of(made, "reasoning_tokens");
        let total = count(object, "total_tokens");
        let apart = match (input, output, reasoning, total) {
            (Some(input), Some(output), Some(reasoning), Some(total)) if reasoning > 0 => {
                input.checked_add(output).and_then(|sum| sum.checked_add(reasoning)) == Some(total)
            }
            _ => false,
        };
        Given {
            input: input.map(Side::Whole),
            // Embeddings and moderations have no other side.
            output: match output {
                Some(output) if apart => Some(Side::Apart(output)),
                Some(output) => Some(Side::Whole(output)),
                None => (input.is_some() && total == input).then_some(Side::Whole(0)),
            },
            cached_read: of(read, "cached_tokens")
                .or_else(|| count(object, "prompt_cache_hit_tokens"))
                .or_else(|| count(object, "cached_tokens")),
            cached_write: of(read, "cache_write_tokens"),
            reasoning,
            audio_input: of(read, "audio_tokens"),
            audio_output: of(made, "audio_tokens"),
            image: of(made, "image_tokens"),
        }
    }

    fn anthropic(object: &Value) -> Given {
        let written = count(object, "cache_creation_input_tokens").or_else(|| {
            let parts = part(object, "cache_creation")?;
            let of = |name| count(parts, name);
            match (of("ephemeral_5m_input_tokens"), of("ephemeral_1h_input_tokens")) {
                (None, None) => None,
                (short, long) => Some(short.unwrap_or(0).saturating_add(long.unwrap_or(0))),
            }
        });
        Given {
            input: count(object, "input_tokens").map(Side::Apart),
            output: count(object, "output_tokens").map(Side::Whole),
            cached_read: count(object, "cache_read_input_tokens"),
            cached_write: written,
            ..Given::default()
        }
    }

    /// `candidatesTokenCount` is absent when nothing was said. What tools put into the prompt is billed as input.
    fn gemini(object: &Value) -> Given {
        let prompt = count(object, "promptTokenCount");
        let tools = count(object, "toolUsePromptTokenCount").unwrap_or(0);
        let thoughts = count(object, "thoughtsTokenCount");
        let said = count(object, "candidatesTokenCount").or_else(|| count(object, "responseTokenCount"));
        let of = |details: &str, modality: &str| {
            let entries = object.get(details)?.as_array()?;
            let entry = entries.iter().find(|e| e.get("modality").and_then(Value::as_str) == Some(modality))?;
            count(entry, "tokenCount")
        };
        Given {
            input: prompt.map(|prompt| Side::Whole(prompt.saturating_add(tools))),
            output: said.or(thoughts.or(prompt).map(|_| 0)).map(Side::Apart),
            cached_read: count(object, "cachedContentTokenCount"),
            reasoning: thoughts,
            audio_input: of("promptTokensDetails", "AUDIO"),
            audio_output: of("candidatesTokensDetails", "AUDIO"),
            image: of("candidatesTokensDetails", "IMAGE"),
            cached_write: None,
        }
    }

    fn bedrock(object: &Value) -> Given {
        let cached = |name, older| count(object, name).or_else(|| count(object, older));
        Given {
            input: count(object, "inputTokens").map(Side::Apart),
            output: count(object, "outputTokens").map(Side::Whole),
            cached_read: cached("cacheReadInputTokens", "cacheReadInputTokenCount"),
            cached_write: cached("cacheWriteInputTokens", "cacheWriteInputTokenCount"),
            ..Given::default()
        }
    }
}

/// A count: an integer, or a float that is one, as some providers' JSON libraries write.
fn count(object: &Value, name: &str) -> Option<u64> {
    let number = object.get(name)?;
    number.as_u64().or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && (0.0..9e15).contains(&float)).then_some(float as u64)
    })
}

fn part<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| value.is_object())
}

#[cfg(test)]
mod tests;
