//! What a provider's error says.

use super::{Error, Kind};
use serde_json::Value;

/// Longer bodies are judged by their status: no provider's error is.
const MAX_BODY: usize = 256 << 10;
const MAX_MESSAGE: usize = 2048;

/// Phrases by which providers say that a prompt does not fit, in lower case.
const TOO_LONG: &[&str] = &[
    "context length",
    "context window",
    "context size",
    "context limit",
    "maximum context",
    "prompt is too long",
    "input is too long",
    "input too long",
    "too many input tokens",
    "too many total text bytes",
    "input token count",
    "token count exceeds",
    "exceeds the maximum number of tokens",
    "maximum prompt length",
    "max_tokens exceed",
    "reduce the length of the messages",
    "reduce your prompt",
    "exceeds the maximum allowed input length",
];

/// Phrases and codes by which they say that the account is empty.
const NO_CREDIT: &[&str] = &[
    "insufficient_quota",
    "credit balance is too low",
    "exceeded your current quota, please check your plan",
    "insufficient balance",
    "insufficient credits",
    "billing_not_active",
    "billing hard limit",
];

/// Phrases by which a key is refused where status and type say less.
const NO_KEY: &[&str] = &["api_key_invalid", "api key not valid", "api key expired"];

const FILTERED: &[&str] =
    &["content_filter", "content_policy_violation", "responsibleaipolicyviolation", "content management policy"];

impl Error {
    /// Reads the body of an answer with an error status, or the data of an error event (then with `status` 0). Never
    /// fails: what cannot be read is judged by its status.
    pub fn read(status: u16, body: &[u8]) -> Error {
        let value = match body.len() <= MAX_BODY {
            true => serde_json::from_slice::<Value>(body).unwrap_or_default(),
            false => Value::Null,
        };
        // Gemini's streams are arrays without `alt=sse`.
        let value = value.get(0).unwrap_or(&value);
        // A Responses stream fails with the response's error.
        let outer = value.get("response").unwrap_or(value);
        let inner = outer.get("error").filter(|error| !error.is_null()).unwrap_or(outer);
        let text = |name: &str| inner.get(name).or_else(|| outer.get(name)).and_then(Value::as_str);
        let message = inner.as_str().or_else(|| text("message")).or_else(|| text("Message")).or_else(|| text("detail"));
        let kind_name = text("type").or_else(|| text("__type")).filter(|kind| *kind != "error");
        let code = match inner.get("code") {
            Some(Value::String(code)) => Some(code.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        // Bedrock's `__type` may carry a namespace: `com.amazon#Name`.
        let named = text("status").or(kind_name).map(|name| name.rsplit('#').next().unwrap_or(name).to_owned());
        let number = code.as_ref().and_then(|code| code.parse().ok()).filter(|code| (400..600).contains(code));
        let status = if status >= 400 { status } else { number.unwrap_or(status) };
        let all =
            [message.unwrap_or_default(), named.as_deref().unwrap_or_default(), code.as_deref().unwrap_or_default()]
                .join("\n")
                .to_lowercase();
        let kind = judge(status, named.as_deref(), code.as_deref(), &all);
        Error {
            kind,
            message: message.unwrap_or_default().chars().take(MAX_MESSAGE).collect(),
            code: code.or(named),
            param: inner.get("param").and_then(Value::as_str).map(str::to_owned),
        }
    }

    /// Reads an exception of Bedrock, which is named outside of it: by the frame, or in `x-amzn-errortype`.
    pub fn read_exception(name: &str, payload: &[u8]) -> Error {
        let name = name.split(':').next().unwrap_or(name);
        let error = Error::read(0, payload);
        let kind = match error.kind {
            Kind::ContextLength | Kind::Quota => error.kind,
            _ => named(name).unwrap_or(Kind::Internal),
        };
        Error { kind, code: Some(name.to_owned()), ..error }
    }
}

fn judge(status: u16, name: Option<&str>, code: Option<&str>, all: &str) -> Kind {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| all.contains(phrase));
    // A limit on tokens per minute speaks of tokens, too.
    let client = matches!(status, 0 | 400 | 413 | 422) || status < 400;
    if code == Some("context_length_exceeded") || (client && says(TOO_LONG)) {
        return Kind::ContextLength;
    }
    if says(NO_CREDIT) {
        return Kind::Quota;
    }
    if client && says(NO_KEY) {
        return Kind::Unauthenticated;
    }
    if client && says(FILTERED) {
        return Kind::ContentFilter;
    }
    let found = code.and_then(named).or_else(|| name.and_then(named));
    match found {
        // A type that says no more than whose fault it is yields to the status.
        Some(Kind::BadRequest | Kind::Internal | Kind::Unavailable) if status >= 400 => Kind::of_status(status),
        Some(kind) => kind,
        None => Kind::of_status(status),
    }
}

/// The kind that a dialect's word stands for.
fn named(word: &str) -> Option<Kind> {
    Some(match word {
        "invalid_request_error" | "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => Kind::BadRequest,
        "ValidationException" | "validationException" => Kind::BadRequest,
        "exceed_context_size_error" => Kind::ContextLength,
        "invalid_api_key" | "authentication_error" | "UNAUTHENTICATED" => Kind::Unauthenticated,
        "UnrecognizedClientException" | "ExpiredTokenException" | "InvalidSignatureException" => Kind::Unauthenticated,
        "billing_error" | "insufficient_quota" | "ServiceQuotaExceededException" => Kind::Quota,
        "permission_error" | "PERMISSION_DENIED" | "AccessDeniedException" => Kind::Forbidden,
        "not_found_error" | "model_not_found" | "NOT_FOUND" | "ResourceNotFoundException" => Kind::NotFound,
        "DeploymentNotFound" => Kind::NotFound,
        "timeout_error" | "DEADLINE_EXCEEDED" | "ModelTimeoutException" | "modelTimeoutException" => Kind::Timeout,
        "conflict_error" | "ABORTED" | "ConflictException" => Kind::Conflict,
        "request_too_large" => Kind::TooLarge,
        "rate_limit_error" | "rate_limit_exceeded" | "RESOURCE_EXHAUSTED" => Kind::RateLimited,
        "ThrottlingException" | "throttlingException" | "TooManyRequestsException" => Kind::RateLimited,
        "ModelNotReadyException" => Kind::Unavailable,
        "api_error" | "server_error" | "INTERNAL" | "UNKNOWN" => Kind::Internal,
        "InternalServerException" | "internalServerException" => Kind::Internal,
        "ModelErrorException" | "ModelStreamErrorException" | "modelStreamErrorException" => Kind::BadGateway,
        "overloaded_error" | "overloaded" | "slow_down" => Kind::Overloaded,
        "UNAVAILABLE" | "ServiceUnavailableException" | "serviceUnavailableException" => Kind::Unavailable,
        _ => return None,
    })
}
