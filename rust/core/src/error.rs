//! The one table of errors the gateway answers itself (`docs/errors.md` is printed from it).
//!
//! A code never changes its meaning; `detail` texts are for people and may. No internal address, secret
//! or stack trace is ever part of one.

macro_rules! codes {
    ($($variant:ident = $code:literal, $status:literal, $title:literal, $cause:literal;)*) => {
        /// Why the gateway answered a request itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Code { $($variant),* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];
            /// Stable kebab-case name, sent as `x-pygate-error`.
            pub fn name(self) -> &'static str { match self { $(Code::$variant => $code),* } }
            /// HTTP status of the answer.
            pub fn status(self) -> u16 { match self { $(Code::$variant => $status),* } }
            /// RFC 9457 `title`.
            pub fn title(self) -> &'static str { match self { $(Code::$variant => $title),* } }
            /// What causes it and what to do, for the documentation.
            pub fn cause(self) -> &'static str { match self { $(Code::$variant => $cause),* } }
        }
    };
}

codes! {
    BadRequest = "bad-request", 400, "Malformed request", "The request breaks RFC 9110/9112 framing or syntax; the connection is closed and nothing is forwarded.";
    RequestTimeout = "request-timeout", 408, "Request took too long", "The head or the next piece of the body did not arrive in time.";
    HeadTooLarge = "head-too-large", 431, "Request head too large", "The request line and fields exceed the entrypoint's `max_head` or `max_fields`.";
    BodyTooLarge = "body-too-large", 413, "Request body too large", "The body exceeds the route's limit.";
    UpgradeRequired = "upgrade-required", 426, "Another protocol version needed", "A WebSocket of a version other than 13 (RFC 6455); `sec-websocket-version` says which is spoken.";
    NotImplemented = "not-implemented", 501, "Not implemented", "A transfer coding other than chunked, or CONNECT.";
    ExpectationFailed = "expectation-failed", 417, "Expectation failed", "An `Expect` other than 100-continue.";
    VersionNotSupported = "version-not-supported", 505, "HTTP version not supported", "Neither HTTP/1.0 nor HTTP/1.1.";
    Misdirected = "misdirected", 421, "Wrong connection", "The host has another certificate or other TLS options than the name this connection was opened for; open one for it.";
    TooEarly = "too-early", 425, "Too early", "The request is not safe and came as TLS 1.3 early data, which may be a replay; send it again after the handshake.";
    NoRoute = "no-route", 404, "No route matches", "No route of the revision in force matches; `pygate explain` says why.";
    MethodNotAllowed = "method-not-allowed", 405, "Method not allowed", "Routes match the target but not the method; `allow` lists those that do.";
    Unauthenticated = "unauthenticated", 401, "Authentication required", "Credentials are missing or wrong.";
    Forbidden = "forbidden", 403, "Forbidden", "A policy does not allow this client.";
    GuardBlocked = "guard-blocked", 403, "Blocked by a guardrail", "A rule with action `block` matched; the audit record names it.";
    GuardFailed = "guard-failed", 503, "Guardrail could not judge", "The body could not be judged (broken JSON, encoding, nesting) and the route fails closed. A body that is too long to be judged is `body-too-large` or `upstream-too-large`.";
    RateLimited = "rate-limited", 429, "Too many requests", "A rate limit is used up; `retry-after` says when to come back.";
    ConcurrencyLimited = "concurrency-limited", 503, "Too many requests in flight", "A concurrency limit is used up.";
    LimiterFailed = "limiter-failed", 503, "Limiter could not decide", "The shared limiter table is full and the policy fails closed.";
    CircuitOpen = "circuit-open", 503, "Circuit breaker open", "The service failed too often lately; it is probed again shortly.";
    NoEndpoint = "no-endpoint", 503, "No healthy endpoint", "Every endpoint of the service is down, ejected or at its cap.";
    ConnectFailed = "connect-failed", 502, "Upstream unreachable", "The connection was refused or failed.";
    UpstreamTls = "upstream-tls", 502, "Upstream TLS failed", "The endpoint's certificate was not accepted, or the handshake failed; the log says why.";
    ConnectTimeout = "connect-timeout", 504, "Upstream connect timeout", "The connection was not established in time.";
    UpstreamTimeout = "upstream-timeout", 504, "Upstream timeout", "The upstream did not answer in time.";
    UpstreamReset = "upstream-reset", 502, "Upstream closed early", "The upstream closed the connection before its answer was complete.";
    BadUpstream = "bad-upstream", 502, "Malformed upstream answer", "The upstream's answer breaks RFC 9112; its connection is not used again.";
    UpstreamTooLarge = "upstream-too-large", 502, "Upstream answer too large", "The answer exceeds what a guard on this route may hold.";
    AuditFailed = "audit-failed", 503, "Audit log unavailable", "The record could not be made durable and the route fails closed.";
    PluginFailed = "plugin-failed", 503, "Plugin failed", "A plugin raised or exceeded its budget and fails closed.";
    BadCall = "bad-call", 400, "Call not understood", "The body is not what the API expects (the detail says where), or asks for what the route does not allow.";
    ModelNotFound = "model-not-found", 404, "No such model", "No virtual model of this name is served here to this key; the detail has the nearest names.";
    NoTarget = "no-target", 400, "No target for this call", "No target of the model can do what the call needs (vision, tools, its length, its dialect).";
    PromptTooLong = "prompt-too-long", 400, "Prompt too long", "The prompt has more (estimated) tokens than the route or key allows.";
    TranslationLoss = "translation-loss", 400, "Not expressible", "The target's API cannot express a part of the request, and the route refuses to leave it out.";
    BudgetExceeded = "budget-exceeded", 429, "Budget used up", "A limit of the key, its team or its project is used up; the detail says which, what is left and when it begins anew.";
    BudgetSpent = "budget-spent", 402, "Budget used up", "As `budget-exceeded`, on routes with `over_budget = \"402\"`.";
    ProviderRefused = "provider-refused", 502, "Provider refused the gateway", "The provider did not accept the gateway's own credential; the audit record names it.";
    ClientClosed = "client-closed", 499, "Client closed the connection", "The client left before the answer was complete; only seen in records.";
}

/// One thing wrong with a configuration, as found by the compiler.
///
/// `path` is a dotted path into the configuration (`routes[3].match.path`), from which the control plane
/// finds file and line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    pub path: String,
    pub message: String,
    /// What would have been accepted, for the reader.
    pub expected: Option<String>,
    /// What was probably meant.
    pub nearest: Option<String>,
}

impl Problem {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { path: path.into(), message: message.into(), expected: None, nearest: None }
    }
    pub fn expected(mut self, what: impl Into<String>) -> Self {
        self.expected = Some(what.into());
        self
    }
    pub fn nearest(mut self, what: impl Into<String>) -> Self {
        self.nearest = Some(what.into());
        self
    }
}

/// What was probably meant by `name`: the candidate with the fewest edits, if they are few.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let name = name.to_lowercase();
    let scored = candidates.into_iter().map(|c| (edits(name.as_bytes(), c.to_lowercase().as_bytes()), c));
    scored.min_by_key(|s| s.0).filter(|s| s.0 <= 1 + name.len() / 3).map(|s| s.1)
}

/// Levenshtein distance.
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
