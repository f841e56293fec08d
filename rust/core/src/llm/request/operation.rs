//! Which call a path stands for. Only the end of a path is looked at, so that routes may put the dialects below
//! prefixes of their own.

use super::super::Dialect;
use std::borrow::Cow;

/// Kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// A conversation in the dialect's main form; the only kind that is translated.
    Chat,
    CountTokens,
    Embeddings,
    /// OpenAI's text completion.
    Completions,
    /// The list of models, or one of them.
    Models,
    Images,
    Audio,
    Moderations,
    Rerank,
    Files,
    Batches,
    Realtime,
    /// What else belongs to a dialect: a stored response, its items.
    Other,
}

impl Call {
    /// As records and metrics spell it.
    pub fn name(self) -> &'static str {
        match self {
            Call::Chat => "chat",
            Call::CountTokens => "count_tokens",
            Call::Embeddings => "embeddings",
            Call::Completions => "text_completion",
            Call::Models => "models",
            Call::Images => "images",
            Call::Audio => "audio",
            Call::Moderations => "moderations",
            Call::Rerank => "rerank",
            Call::Files => "files",
            Call::Batches => "batches",
            Call::Realtime => "realtime",
            Call::Other => "other",
        }
    }

    /// Its body is JSON that [`Peek`](super::Peek) understands.
    pub fn has_peek(self) -> bool {
        matches!(self, Call::Chat | Call::CountTokens | Call::Embeddings | Call::Completions | Call::Moderations)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<'p> {
    pub dialect: Dialect,
    pub call: Call,
    /// The model, where the path names it; percent-decoded.
    pub model: Option<Cow<'p, str>>,
    /// Whether it streams, where the path says so.
    pub stream: Option<bool>,
}

/// The call that a path without its query stands for.
pub fn operation(path: &str) -> Option<Operation<'_>> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    // Azure names the model in front.
    let mut pairs = segments.iter().zip(segments.iter().skip(1));
    let deployment = pairs.find(|(name, _)| **name == "deployments").map(|(_, model)| decode(model));
    let plain = |dialect, call| Some(Operation { dialect, call, model: None, stream: None });
    let openai = |call| Some(Operation { dialect: Dialect::OpenAiChat, call, model: deployment.clone(), stream: None });
    match segments.as_slice() {
        [.., "model", model, verb @ ("converse" | "converse-stream")] => Some(Operation {
            dialect: Dialect::Bedrock,
            call: Call::Chat,
            model: Some(decode(model)),
            stream: Some(*verb == "converse-stream"),
        }),
        [.., "model", model, "count-tokens"] => Some(Operation {
            dialect: Dialect::Bedrock,
            call: Call::CountTokens,
            model: Some(decode(model)),
            stream: Some(false),
        }),
        [.., "models", last] if verb(last).is_some() => {
            let (model, verb) = verb(last)?;
            let (call, stream) = match verb {
                "generateContent" => (Call::Chat, false),
                "streamGenerateContent" => (Call::Chat, true),
                "countTokens" => (Call::CountTokens, false),
                "embedContent" | "batchEmbedContents" => (Call::Embeddings, false),
                _ => (Call::Other, false),
            };
            Some(Operation { dialect: Dialect::Gemini, call, model: Some(decode(model)), stream: Some(stream) })
        }
        [.., "chat", "completions"] => openai(Call::Chat),
        [.., "completions"] => openai(Call::Completions),
        [.., "messages", "count_tokens"] => plain(Dialect::Anthropic, Call::CountTokens),
        [.., "messages", "batches"] | [.., "messages", "batches", _] | [.., "messages", "batches", _, _] => {
            plain(Dialect::Anthropic, Call::Batches)
        }
        [.., "messages"] => plain(Dialect::Anthropic, Call::Chat),
        [.., "responses", "input_tokens"] => plain(Dialect::OpenAiResponses, Call::CountTokens),
        [.., "responses"] => plain(Dialect::OpenAiResponses, Call::Chat),
        [.., "responses", _] | [.., "responses", _, "cancel" | "input_items"] => {
            plain(Dialect::OpenAiResponses, Call::Other)
        }
        [.., "embeddings"] => openai(Call::Embeddings),
        [.., "moderations"] => openai(Call::Moderations),
        [.., "rerank"] => openai(Call::Rerank),
        [.., "realtime"] => openai(Call::Realtime),
        [.., "images", "generations" | "edits" | "variations"] => openai(Call::Images),
        [.., "audio", "speech" | "transcriptions" | "translations"] => openai(Call::Audio),
        [.., "files"] | [.., "files", _] | [.., "files", _, "content"] => openai(Call::Files),
        [.., "batches"] | [.., "batches", _] | [.., "batches", _, "cancel"] => openai(Call::Batches),
        [.., "models"] => openai(Call::Models),
        [.., "models", model] => {
            Some(Operation { model: Some(decode(model)), ..plain(Dialect::OpenAiChat, Call::Models)? })
        }
        _ => None,
    }
}

/// Model and verb of Gemini's `MODEL:VERB`. Models of others have colons, too (`llama3:8b`): the verb is known by its
/// letters.
fn verb(segment: &str) -> Option<(&str, &str)> {
    let (model, verb) = segment.rsplit_once(':').or_else(|| {
        let at = segment.to_ascii_lowercase().rfind("%3a")?;
        Some((segment.get(..at)?, segment.get(at + 3..)?))
    })?;
    const VERBS: &[&str] = &[
        "generateContent",
        "streamGenerateContent",
        "countTokens",
        "embedContent",
        "batchEmbedContents",
        "predict",
        "rawPredict",
        "streamRawPredict",
    ];
    VERBS.contains(&verb).then_some((model, verb))
}

/// Percent-decodes; what is no escape stays, what becomes no UTF-8 is replaced.
fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|&byte| (byte as char).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_called() {
        use Dialect::*;
        for (path, dialect, call, model, stream) in [
            ("/v1/chat/completions", OpenAiChat, Call::Chat, None, None),
            ("/team/openai/v1/chat/completions/", OpenAiChat, Call::Chat, None, None),
            ("/openai/deployments/gpt%2D4o/chat/completions", OpenAiChat, Call::Chat, Some("gpt-4o"), None),
            ("/openai/deployments/e/embeddings", OpenAiChat, Call::Embeddings, Some("e"), None),
            ("/v1/responses", OpenAiResponses, Call::Chat, None, None),
            ("/v1/responses/resp_1", OpenAiResponses, Call::Other, None, None),
            ("/v1/messages", Anthropic, Call::Chat, None, None),
            ("/v1/messages/count_tokens", Anthropic, Call::CountTokens, None, None),
            ("/v1beta/models/gemini-2.5-pro:generateContent", Gemini, Call::Chat, Some("gemini-2.5-pro"), Some(false)),
            ("/v1/models/g:streamGenerateContent", Gemini, Call::Chat, Some("g"), Some(true)),
            ("/v1/models/g%3AcountTokens", Gemini, Call::CountTokens, Some("g"), Some(false)),
            (
                "/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent",
                Gemini,
                Call::Chat,
                Some("g"),
                Some(true),
            ),
            ("/model/anthropic.x-v1%3A0/converse-stream", Bedrock, Call::Chat, Some("anthropic.x-v1:0"), Some(true)),
            ("/model/arn%3aaws%2Fp/converse", Bedrock, Call::Chat, Some("arn:aws/p"), Some(false)),
            ("/v1/models", OpenAiChat, Call::Models, None, None),
            ("/v1/models/llama3:8b", OpenAiChat, Call::Models, Some("llama3:8b"), None),
            ("/v1/audio/speech", OpenAiChat, Call::Audio, None, None),
            ("/v1/files/f/content", OpenAiChat, Call::Files, None, None),
            ("/v2/rerank", OpenAiChat, Call::Rerank, None, None),
        ] {
            let model = model.map(Cow::Borrowed);
            assert_eq!(operation(path), Some(Operation { dialect, call, model, stream }), "{path}");
        }
        for path in ["", "/", "/v1", "/v1/audio", "/chat", "/model/x/invoke", "/openai/deployments/x"] {
            assert_eq!(operation(path), None, "{path}");
        }
        assert_eq!(decode("a%zz%4"), "a%zz%4");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }
}
