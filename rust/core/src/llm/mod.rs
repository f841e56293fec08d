//! What the gateway understands of AI traffic: the dialects of providers and clients, as leaf functions and state
//! machines.
//!
//! Rules:
//! 1. No IO, no clock: bytes and instants are arguments. Nothing here knows another module of the core.
//! 2. Every parser is incremental or takes a complete body, reads the same whatever the split, has a cap on what it
//!    keeps, and never panics on what a peer sends.
//! 3. A body that stays in its dialect is never parsed and written anew: policies cut into its bytes ([`json`]), all
//!    others stay as they were, because prompt caches and unknown fields depend on them.
//! 4. Tokens mean the same for every dialect ([`Usage`]), money is integers ([`price`]).

pub mod error;
pub mod event_stream;
pub mod json;
pub mod price;
pub mod request;
pub mod sigv4;
pub mod sse;
pub mod translate;
pub mod usage;

pub use usage::Usage;

/// A wire format of chat-like calls, on either side of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub enum Dialect {
    /// `POST /v1/chat/completions`; spoken by most providers.
    #[serde(rename = "openai-chat")]
    OpenAiChat,
    /// `POST /v1/responses`.
    #[serde(rename = "openai-responses")]
    OpenAiResponses,
    /// `POST /v1/messages`.
    #[serde(rename = "anthropic")]
    Anthropic,
    /// `POST …/models/MODEL:generateContent` and `:streamGenerateContent`; also Vertex.
    #[serde(rename = "gemini")]
    Gemini,
    /// `POST /model/MODEL/converse` and `/converse-stream`, streams framed by [`event_stream`].
    #[serde(rename = "bedrock")]
    Bedrock,
}

impl Dialect {
    pub const ALL: [Dialect; 5] =
        [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock];

    /// As configuration, records and metrics spell it.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::OpenAiChat => "openai-chat",
            Dialect::OpenAiResponses => "openai-responses",
            Dialect::Anthropic => "anthropic",
            Dialect::Gemini => "gemini",
            Dialect::Bedrock => "bedrock",
        }
    }

    pub fn parse(name: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// `content-type` of a streamed answer.
    pub fn stream_type(self) -> &'static str {
        match self {
            Dialect::Bedrock => "application/vnd.amazon.eventstream",
            _ => "text/event-stream",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_are_those_of_the_configuration() {
        for dialect in Dialect::ALL {
            assert_eq!(Dialect::parse(dialect.name()), Some(dialect));
            assert_eq!(serde_json::to_value(dialect).unwrap(), dialect.name());
        }
        assert_eq!(Dialect::parse("openai"), None);
    }
}
