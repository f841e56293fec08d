//! Errors in the middle of a stream: a provider's error event read, and one written in the client's dialect.
//!
//! Rules: what a provider says is passed on as its message; a dialect's own kinds are chosen by what happened, so that the
//! client's SDK raises what it would for its own provider. An error ends a stream: nothing is written behind it.

use serde_json::Value;

use super::fields::{quote, Fields};
use crate::llm::{event_stream, Dialect};

/// What happened, as far as clients tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rate,
    Overloaded,
    Invalid,
    Timeout,
    Server,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub kind: Kind,
    pub message: String,
}

impl Trouble {
    pub(super) fn new(kind: Kind, message: &str) -> Trouble {
        Trouble { kind, message: message.to_owned() }
    }

    /// Reads a provider's error event; `name` is the event's where the dialect names errors so.
    pub(super) fn read(name: Option<&str>, data: &[u8]) -> Trouble {
        let value: Value = serde_json::from_slice(data).unwrap_or_default();
        let mut fields = Fields::of(&value);
        let message = fields.string("message");
        let mut code = fields.string("code");
        let mut response = fields.inner("response");
        let mut error = if fields.has("error") { fields.inner("error") } else { response.inner("error") };
        let words = [error.string("type"), error.string("status"), error.string("code"), code.take()];
        let number = error.count("code");
        let words = words.into_iter().flatten().chain(name.map(str::to_owned));
        let kind = words.filter_map(|word| kind_of(&word)).next().or(number.map(kind_of_status));
        let plain = fields.string("error");
        let message = error.string("message").or(message).or(plain).filter(|message| !message.is_empty());
        Trouble { kind: kind.unwrap_or(Kind::Server), message: message.unwrap_or_else(|| "the provider failed".into()) }
    }

    /// Appends the event that ends a stream of `to`; `sequence` is its number, where events have one.
    pub(super) fn write(&self, to: Dialect, sequence: u64, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(self.message.len() + 128);
        let mut put = |pieces: &[&str]| pieces.iter().for_each(|piece| payload.extend_from_slice(piece.as_bytes()));
        let name = self.name(to);
        match to {
            Dialect::OpenAiChat => put(&["{\"error\":{\"type\":\"", name, "\",\"param\":null,\"code\":null,\"message\":"]),
            Dialect::OpenAiResponses => put(&[
                "{\"type\":\"error\",\"sequence_number\":",
                itoa::Buffer::new().format(sequence),
                ",\"code\":\"",
                name,
                "\",\"param\":null,\"message\":",
            ]),
            Dialect::Anthropic => put(&["{\"type\":\"error\",\"error\":{\"type\":\"", name, "\",\"message\":"]),
            Dialect::Gemini => {
                let code = match self.kind {
                    Kind::Rate => "429",
                    Kind::Overloaded => "503",
                    Kind::Invalid => "400",
                    Kind::Timeout => "504",
                    Kind::Server => "500",
                };
                put(&["{\"error\":{\"code\":", code, ",\"status\":\"", name, "\",\"message\":"]);
            }
            Dialect::Bedrock => put(&["{\"message\":"]),
        }
        quote(&mut payload, &self.message);
        payload.extend_from_slice(match to {
            Dialect::OpenAiResponses | Dialect::Bedrock => b"}",
            _ => b"}}",
        });
        match to {
            Dialect::Bedrock => return event_stream::write_exception(out, name, &payload),
            Dialect::OpenAiResponses | Dialect::Anthropic => out.extend_from_slice(b"event: error\n"),
            _ => {}
        }
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&payload);
        out.extend_from_slice(b"\n\n");
    }

    fn name(&self, to: Dialect) -> &'static str {
        let names = match to {
            Dialect::OpenAiChat => {
                ["rate_limit_error", "server_error", "invalid_request_error", "server_error", "server_error"]
            }
            Dialect::OpenAiResponses => {
                ["rate_limit_exceeded", "server_error", "invalid_prompt", "server_error", "server_error"]
            }
            Dialect::Anthropic => {
                ["rate_limit_error", "overloaded_error", "invalid_request_error", "timeout_error", "api_error"]
            }
            Dialect::Gemini => {
                ["RESOURCE_EXHAUSTED", "UNAVAILABLE", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "INTERNAL"]
            }
            Dialect::Bedrock => [
                "throttlingException",
                "serviceUnavailableException",
                "validationException",
                "modelStreamErrorException",
                "internalServerException",
            ],
        };
        match self.kind {
            Kind::Rate => names[0],
            Kind::Overloaded => names[1],
            Kind::Invalid => names[2],
            Kind::Timeout => names[3],
            Kind::Server => names[4],
        }
    }
}

fn kind_of(word: &str) -> Option<Kind> {
    let word = word.to_ascii_lowercase();
    let has = |needles: &[&str]| needles.iter().any(|needle| word.contains(needle));
    match () {
        () if has(&["rate_limit", "throttl", "resource_exhausted", "quota"]) => Some(Kind::Rate),
        () if has(&["overloaded", "unavailable"]) => Some(Kind::Overloaded),
        () if has(&["invalid", "validation", "context_length"]) => Some(Kind::Invalid),
        () if has(&["timeout", "deadline"]) => Some(Kind::Timeout),
        () if has(&["server", "api_error", "internal", "modelstreamerror"]) => Some(Kind::Server),
        () => None,
    }
}

fn kind_of_status(status: u64) -> Kind {
    match status {
        429 => Kind::Rate,
        503 | 529 => Kind::Overloaded,
        408 | 504 => Kind::Timeout,
        400..=499 => Kind::Invalid,
        _ => Kind::Server,
    }
}
