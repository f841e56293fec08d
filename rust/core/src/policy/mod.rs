//! Policies: what a route does to a request on its way in and to the answer on its way out.
//!
//! Rules:
//! 1. A policy is one file with its configuration (user documentation in the comments), its compiled form
//!    and its tests, plus one line in `registry!` below. Nothing else needs to change.
//! 2. All work that can be done once is done in `compile`. The request path allocates nothing it can avoid.
//! 3. Policies run in the order the route lists them for requests, and in reverse for responses and ends.
//! 4. What a policy must remember between its hooks goes into its `slot` (one word per exchange).
//! 5. `on_end` runs exactly once for every policy whose `on_request` returned [`Flow::Next`], however the
//!    exchange ended.
//! 6. A policy that only sets numbers (timeouts, limits) does it once in `shape`, at compile time.

mod add_prefix;
mod answer;
mod api_key;
mod basic_auth;
mod body_limit;
mod circuit_breaker;
mod compress;
mod concurrency_limit;
mod cors;
mod counted_by;
mod credential;
mod grpc_web;
mod headers;
mod ip_allow;
mod rate_limit;
mod redirect;
mod replace_path;
mod retry;
mod rewrite;
#[cfg(test)]
mod stage;
mod strip_prefix;
#[cfg(test)]
mod testing;
mod timeouts;

pub use circuit_breaker::breaker_state;
pub use credential::sha256;

pub(crate) use headers::is_protected;

use crate::coding::Choice;
use crate::config::{Fail, Size};
use crate::error::{Code, Problem};
use crate::grpc::web::Web;
use crate::grpc::Status;
use crate::message::{BodyLength, Fields, PathOptions, Peer, RequestHead, ResponseHead};
use crate::shared::Shared;
use crate::time::Now;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

macro_rules! registry {
    ($($(#[$doc:meta])* $variant:ident => $module:ident;)*) => {
        /// One policy's configuration: exactly one kind per name.
        #[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub enum PolicySpec { $($(#[$doc])* $variant($module::Config)),* }

        impl PolicySpec {
            /// Compiles the policy called `name`; problems carry paths below `policies.NAME`.
            pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
                match self { $(PolicySpec::$variant(config) => config.compile(name)),* }
            }
            /// The kind's name as written in the configuration.
            pub fn kind(&self) -> &'static str {
                match self { $(PolicySpec::$variant(_) => stringify!($module)),* }
            }
        }
    };
}

registry! {
    /// Set, add and remove fields of requests and responses.
    Headers => headers;
    /// Limit the rate of requests.
    RateLimit => rate_limit;
    /// Limit the requests in flight.
    ConcurrencyLimit => concurrency_limit;
    /// Stop calling an upstream that keeps failing.
    CircuitBreaker => circuit_breaker;
    /// Put a prefix before the path that is sent upstream.
    AddPrefix => add_prefix;
    /// Take a prefix from the path that is sent upstream.
    StripPrefix => strip_prefix;
    /// Replace the path that is sent upstream.
    ReplacePath => replace_path;
    /// Send the client to another URL.
    Redirect => redirect;
    /// Answer without calling the upstream.
    Answer => answer;
    /// Let pages of other origins call this route.
    Cors => cors;
    /// Compress answers.
    Compress => compress;
    /// Translate gRPC-Web to gRPC.
    GrpcWeb => grpc_web;
    /// Admit holders of an API key.
    ApiKey => api_key;
    /// Admit users with a password (RFC 7617).
    BasicAuth => basic_auth;
    /// Admit or refuse clients by address.
    IpAllow => ip_allow;
    /// The longest request body.
    BodyLimit => body_limit;
    /// Deadlines of a route.
    Timeouts => timeouts;
    /// Send a request again when the upstream failed.
    Retry => retry;
}

/// A compiled policy. Every hook has an empty default.
pub trait Policy: Send + Sync {
    /// Adjusts the route's numbers at compile time.
    fn shape(&self, _route: &mut RouteShape) {}
    /// The request head is complete and canonical; nothing has gone upstream.
    fn on_request(&self, _cx: &mut RequestCx<'_>, _slot: &mut u64) -> Flow {
        Flow::Next
    }
    /// The head of the final answer, from the upstream or made here, before it is written.
    fn on_response(&self, _cx: &mut ResponseCx<'_>, _slot: &mut u64) {}
    /// The exchange is over; release what was taken.
    fn on_end(&self, _cx: &EndCx<'_>, _slot: &mut u64) {}
    /// One line for `pygate explain`, without secrets.
    fn describe(&self) -> String;
}

/// What a policy decided about a request.
#[derive(Debug)]
pub enum Flow {
    Next,
    /// Answer with this instead of calling the upstream.
    Answer(Box<Answer>),
    /// Answer with an error of the table; `detail` is shown to the client.
    Refuse(Code, Option<Box<str>>),
}

/// A complete answer made by the gateway.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
}

pub struct RequestCx<'a> {
    pub head: &'a mut RequestHead,
    pub peer: &'a Peer,
    pub now: Now,
    pub shared: &'a Shared,
    /// This worker's slot in shared memory.
    pub worker: usize,
    /// Stable hash of the route's name: names what is counted per route.
    pub route: u64,
    /// How paths are canonicalised on this entrypoint; rewrites go through [`crate::message::Target::set_path`].
    pub path_options: PathOptions,
    pub notes: &'a mut Notes,
}

pub struct ResponseCx<'a> {
    pub head: &'a mut ResponseHead,
    /// Of the body that will be sent, whoever made it; `None` for an answer without one.
    pub length: BodyLength,
    /// How the body shall be encoded; the exchange does it once every policy has seen the head.
    pub encode: &'a mut Option<Choice>,
    pub now: Now,
    pub shared: &'a Shared,
    pub notes: &'a Notes,
    /// Set when the gateway made the answer itself.
    pub code: Option<Code>,
}

pub struct EndCx<'a> {
    pub now: Now,
    pub shared: &'a Shared,
    pub worker: usize,
    /// Status sent (0: none) and why, when the gateway answered itself.
    pub status: u16,
    pub code: Option<Code>,
    /// The upstream was called, and failed (5xx, reset, timeout, refused).
    pub upstream_called: bool,
    pub upstream_failed: bool,
}

/// What policies learn about an exchange and others want to know.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Who authenticated, as a name without secrets (`key:mobile-app`, `user:ann`).
    pub identity: Option<Box<str>>,
    /// The request's `Origin`, kept for CORS.
    pub origin: Option<Box<[u8]>>,
    /// The head was gRPC-Web's and is plain gRPC's now; the exchange does the same to the bodies.
    pub web: Option<Web>,
    /// Fields to add to the answer, whoever makes it.
    pub response_fields: Fields,
}

impl Notes {
    pub fn clear(&mut self) {
        self.identity = None;
        self.origin = None;
        self.web = None;
        self.response_fields.clear();
    }
}

/// Numbers of a route that policies set at compile time (`None`: the service's or entrypoint's own).
#[derive(Clone, Debug, Default)]
pub struct RouteShape {
    pub max_body: Option<u64>,
    pub connect_timeout: Option<Duration>,
    pub first_byte_timeout: Option<Duration>,
    pub body_timeout: Option<Duration>,
    /// Whole exchange.
    pub total_timeout: Option<Duration>,
    pub retry: Option<Retry>,
}

/// When a request may be sent again.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Attempts in all, first one included.
    pub attempts: u8,
    /// Statuses that count as failures besides connection errors.
    pub statuses: Vec<u16>,
    /// The same for calls, whose answer is then nothing but a status.
    pub grpc_statuses: Vec<Status>,
    /// Longest request body kept for repeating.
    pub max_body: Size,
    /// Repeat methods that are not idempotent, too.
    pub non_idempotent: bool,
    /// Retries allowed as a percentage of requests in flight (and at least three).
    pub budget_percent: u8,
    pub backoff: Duration,
}

/// Shorthand for policies that can fail open or closed.
pub fn on_failure(fail: Fail, code: Code) -> Flow {
    match fail {
        Fail::Closed => Flow::Refuse(code, None),
        Fail::Open => Flow::Next,
    }
}
