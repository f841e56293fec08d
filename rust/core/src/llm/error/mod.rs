//! Errors in the words of each dialect: read from providers, written to clients, before a stream and within it.
//!
//! Rules:
//! 1. What a client's SDK makes an exception of is decided by status and type; both are those of its own provider.
//! 2. Of a provider's error only its message, code and parameter are carried, never its body. What may be shown to a
//!    client is decided by who calls [`Error::write`].
//! 3. An error within a stream is the dialect's own event, and the last: nothing may follow that reads as an end.

mod read;
mod write;

/// What went wrong, as far as it makes a difference to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    BadRequest,
    /// Prompt and answer do not fit into the model's window.
    ContextLength,
    /// A provider's own filter refused the prompt.
    ContentFilter,
    Unauthenticated,
    /// The account or budget is used up; waiting for seconds does not help.
    Quota,
    Forbidden,
    /// Also: no such model.
    NotFound,
    Timeout,
    Conflict,
    TooLarge,
    RateLimited,
    Internal,
    /// A broken answer or connection of whoever was asked.
    BadGateway,
    Overloaded,
    Unavailable,
}

/// A kind in the words of the dialects.
struct Words {
    status: u16,
    openai: &'static str,
    openai_code: Option<&'static str>,
    anthropic: &'static str,
    gemini: &'static str,
    bedrock: &'static str,
}

impl Kind {
    pub const ALL: [Kind; 15] = [
        Kind::BadRequest,
        Kind::ContextLength,
        Kind::ContentFilter,
        Kind::Unauthenticated,
        Kind::Quota,
        Kind::Forbidden,
        Kind::NotFound,
        Kind::Timeout,
        Kind::Conflict,
        Kind::TooLarge,
        Kind::RateLimited,
        Kind::Internal,
        Kind::BadGateway,
        Kind::Overloaded,
        Kind::Unavailable,
    ];

    /// Kebab-case name for records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::BadRequest => "bad-request",
            Kind::ContextLength => "context-length",
            Kind::ContentFilter => "content-filter",
            Kind::Unauthenticated => "unauthenticated",
            Kind::Quota => "quota",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not-found",
            Kind::Timeout => "timeout",
            Kind::Conflict => "conflict",
            Kind::TooLarge => "too-large",
            Kind::RateLimited => "rate-limited",
            Kind::Internal => "internal",
            Kind::BadGateway => "bad-gateway",
            Kind::Overloaded => "overloaded",
            Kind::Unavailable => "unavailable",
        }
    }

    fn words(self) -> Words {
        let words = |status, openai, openai_code, anthropic, gemini, bedrock| Words {
            status,
            openai,
            openai_code,
            anthropic,
            gemini,
            bedrock,
        };
        let invalid = "invalid_request_error";
        match self {
            Kind::BadRequest => words(400, invalid, None, invalid, "INVALID_ARGUMENT", "ValidationException"),
            Kind::ContextLength => {
                words(400, invalid, Some("context_length_exceeded"), invalid, "INVALID_ARGUMENT", "ValidationException")
            }
            Kind::ContentFilter => {
                words(400, invalid, Some("content_filter"), invalid, "INVALID_ARGUMENT", "ValidationException")
            }
            Kind::Unauthenticated => words(
                401,
                invalid,
                Some("invalid_api_key"),
                "authentication_error",
                "UNAUTHENTICATED",
                "UnrecognizedClientException",
            ),
            Kind::Quota => words(
                429,
                "insufficient_quota",
                Some("insufficient_quota"),
                "billing_error",
                "RESOURCE_EXHAUSTED",
                "ServiceQuotaExceededException",
            ),
            Kind::Forbidden => {
                words(403, invalid, None, "permission_error", "PERMISSION_DENIED", "AccessDeniedException")
            }
            Kind::NotFound => words(
                404,
                invalid,
                Some("model_not_found"),
                "not_found_error",
                "NOT_FOUND",
                "ResourceNotFoundException",
            ),
            Kind::Timeout => {
                words(504, "server_error", None, "timeout_error", "DEADLINE_EXCEEDED", "ModelTimeoutException")
            }
            Kind::Conflict => words(409, "conflict_error", None, "api_error", "ABORTED", "ConflictException"),
            Kind::TooLarge => words(
                413,
                invalid,
                Some("request_too_large"),
                "request_too_large",
                "INVALID_ARGUMENT",
                "ValidationException",
            ),
            Kind::RateLimited => words(
                429,
                "requests",
                Some("rate_limit_exceeded"),
                "rate_limit_error",
                "RESOURCE_EXHAUSTED",
                "ThrottlingException",
            ),
            Kind::Internal => words(500, "server_error", None, "api_error", "INTERNAL", "InternalServerException"),
            Kind::BadGateway => words(502, "server_error", None, "api_error", "UNAVAILABLE", "ModelErrorException"),
            Kind::Overloaded => words(
                503,
                "server_error",
                Some("overloaded"),
                "overloaded_error",
                "UNAVAILABLE",
                "ServiceUnavailableException",
            ),
            Kind::Unavailable => {
                words(503, "server_error", None, "overloaded_error", "UNAVAILABLE", "ServiceUnavailableException")
            }
        }
    }

    /// Asking another target may help: the fault is the provider's, or another model has a larger window.
    pub fn fails_over(self) -> bool {
        !matches!(
            self,
            Kind::BadRequest
                | Kind::ContentFilter
                | Kind::NotFound
                | Kind::TooLarge
                | Kind::Unauthenticated
                | Kind::Forbidden
        )
    }

    /// The credential is at fault rather than the target: another one of the same provider may help.
    pub fn blames_credential(self) -> bool {
        matches!(self, Kind::Unauthenticated | Kind::Forbidden | Kind::Quota | Kind::RateLimited)
    }

    /// By status alone.
    pub fn of_status(status: u16) -> Kind {
        match status {
            401 => Kind::Unauthenticated,
            402 => Kind::Quota,
            403 => Kind::Forbidden,
            404 => Kind::NotFound,
            408 | 504 => Kind::Timeout,
            409 => Kind::Conflict,
            413 => Kind::TooLarge,
            429 => Kind::RateLimited,
            400..=499 => Kind::BadRequest,
            502 => Kind::BadGateway,
            503 => Kind::Unavailable,
            529 => Kind::Overloaded,
            _ => Kind::Internal,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    /// A code beside the kind's own: the provider's when read, the gateway's when written.
    pub code: Option<String>,
    /// The parameter at fault.
    pub param: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), code: None, param: None }
    }

    pub fn code(mut self, code: impl Into<String>) -> Error {
        self.code = Some(code.into());
        self
    }

    pub fn param(mut self, param: impl Into<String>) -> Error {
        self.param = Some(param.into());
        self
    }
}

#[cfg(test)]
mod tests;
