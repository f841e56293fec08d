//! Errors as a dialect's client expects them.

use super::super::{event_stream, sse, Dialect};
use super::{Error, Kind};
use serde_json::{json, Value};

impl Error {
    /// Status of an answer that is nothing but this error.
    pub fn status(&self, dialect: Dialect) -> u16 {
        match (dialect, self.kind) {
            (Dialect::Anthropic, Kind::Overloaded | Kind::Unavailable) => 529,
            (Dialect::Anthropic, Kind::Quota) => 402,
            (Dialect::Bedrock, Kind::Quota) => 400,
            (Dialect::Bedrock, Kind::Unauthenticated) => 403,
            (Dialect::Bedrock, Kind::Timeout) => 408,
            (Dialect::Bedrock, Kind::BadGateway) => 424,
            (_, kind) => kind.words().status,
        }
    }

    /// A field the dialect's SDKs take the type from, beside `content-type: application/json`.
    pub fn header(&self, dialect: Dialect) -> Option<(&'static str, &'static str)> {
        (dialect == Dialect::Bedrock).then(|| ("x-amzn-errortype", self.kind.words().bedrock))
    }

    /// Appends the body of such an answer. `id` is the exchange's.
    pub fn write(&self, dialect: Dialect, id: Option<&str>, out: &mut Vec<u8>) {
        let body = match dialect {
            Dialect::OpenAiChat | Dialect::OpenAiResponses => json!({"error": self.openai()}),
            Dialect::Anthropic => self.anthropic(id),
            Dialect::Gemini => self.gemini(),
            Dialect::Bedrock => json!({"message": self.message}),
        };
        put(&body, out);
    }

    /// Appends the wire bytes that end a stream with this error. `sequence` is the number of a Responses event.
    pub fn write_event(&self, dialect: Dialect, id: Option<&str>, sequence: u64, out: &mut Vec<u8>) {
        let mut data = Vec::new();
        match dialect {
            Dialect::OpenAiChat => {
                put(&json!({"error": self.openai()}), &mut data);
                sse::write(out, None, &data);
            }
            Dialect::OpenAiResponses => {
                // The documented members and, as the provider sends it, the object SDKs raise on.
                let event = json!({
                    "type": "error",
                    "sequence_number": sequence,
                    "code": self.openai_code(),
                    "message": self.message,
                    "param": self.param,
                    "error": self.openai(),
                });
                put(&event, &mut data);
                sse::write(out, Some("error"), &data);
            }
            Dialect::Anthropic => {
                put(&self.anthropic(id), &mut data);
                sse::write(out, Some("error"), &data);
            }
            Dialect::Gemini => {
                put(&self.gemini(), &mut data);
                sse::write(out, None, &data);
            }
            Dialect::Bedrock => {
                put(&json!({"message": self.message}), &mut data);
                event_stream::write_exception(out, self.kind.exception(), &data);
            }
        }
    }

    fn openai_code(&self) -> Option<&str> {
        self.code.as_deref().or(self.kind.words().openai_code)
    }

    fn openai(&self) -> Value {
        json!({
            "message": self.message,
            "type": self.kind.words().openai,
            "param": self.param,
            "code": self.openai_code(),
        })
    }

    fn anthropic(&self, id: Option<&str>) -> Value {
        let mut body = json!({
            "type": "error",
            "error": {"type": self.kind.words().anthropic, "message": self.message},
        });
        if let Some(id) = id {
            body["request_id"] = id.into();
        }
        body
    }

    fn gemini(&self) -> Value {
        json!({"error": {
            "code": self.status(Dialect::Gemini),
            "message": self.message,
            "status": self.kind.words().gemini,
        }})
    }
}

impl Kind {
    /// Name of the exception within a stream of Bedrock, which knows five.
    fn exception(self) -> &'static str {
        match self {
            Kind::BadRequest | Kind::ContextLength | Kind::ContentFilter | Kind::TooLarge => "validationException",
            Kind::Unauthenticated | Kind::Forbidden | Kind::NotFound | Kind::Conflict => "validationException",
            Kind::RateLimited | Kind::Quota => "throttlingException",
            Kind::Overloaded | Kind::Unavailable => "serviceUnavailableException",
            Kind::Timeout | Kind::BadGateway => "modelStreamErrorException",
            Kind::Internal => "internalServerException",
        }
    }
}

fn put(value: &Value, out: &mut Vec<u8>) {
    // Values cannot fail to serialise into memory.
    let _ = serde_json::to_writer(out, value);
}
