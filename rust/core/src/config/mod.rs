//! The configuration as its reader writes it: every key, its default and its one-line description.
//!
//! These types are the only definition. `pygate schema`, the reference in `docs/` and the checks of
//! `pygate check` are all made from the JSON Schema derived here; the comments are user documentation.
//! What a value means together with others is checked where it is compiled (`revision`).

mod ai;
mod protocol;
mod tcp;
mod tls;
mod units;

pub use ai::{
    Ai, AnswerCache, Capability, KeyUse, LossUse, ModelStrategy, OverBudget, Provider, ProviderKind, RouteLlm, Store,
    Target, TargetTable, VirtualModel, When,
};
pub use protocol::{EntrypointProtocol, Http2, Underscores, UpstreamProtocol, WebSocket};
pub use tcp::{ProxyProtocol, TcpMatch, TcpRoute, TcpTls};
pub use tls::{Acme, Certificate, Challenge, ClientAuth, EntrypointTls, ServiceTls, TlsOptions, TlsVersion};
pub use units::{Duration, Rate, Size};

use crate::policy::PolicySpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A pygate configuration.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Listening addresses, by name.
    pub entrypoints: BTreeMap<String, Entrypoint>,
    /// What requests are sent to, by name.
    pub services: BTreeMap<String, Service>,
    /// Which request goes where.
    pub routes: Vec<Route>,
    /// Which connection goes where, on TCP entrypoints or by the name in its TLS ClientHello.
    pub tcp_routes: Vec<TcpRoute>,
    /// Certificates, by name.
    pub certificates: BTreeMap<String, Certificate>,
    /// ACME accounts that obtain certificates, by name.
    pub acme: BTreeMap<String, Acme>,
    /// Named policies; routes list those they use, in order.
    pub policies: BTreeMap<String, PolicySpec>,
    /// The AI gateway: providers, virtual models, prices.
    pub ai: Ai,
    /// Guardrail rule packs.
    pub guard: Guard,
    /// The audit log.
    pub audit: Audit,
    /// OpenTelemetry export, Prometheus endpoint and access log.
    pub telemetry: Telemetry,
    /// The admin listener.
    pub admin: Admin,
    /// Python plugins, by name.
    pub plugins: BTreeMap<String, Plugin>,
    /// Worker processes and their limits.
    pub workers: Workers,
}

impl Config {
    /// The services, with one for each provider of models that has none of its own.
    pub fn all_services(&self) -> BTreeMap<String, Service> {
        let mut all = self.services.clone();
        for (name, provider) in &self.ai.providers {
            if let Some(service) = crate::ai::provider::service(provider) {
                all.insert(crate::ai::provider::service_name(name), service);
            }
        }
        all
    }
}

/// The JSON Schema of [`Config`].
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

/// A listening address.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entrypoint {
    /// `host:port`, `[v6]:port` or `unix:/path`.
    pub address: String,
    /// What is spoken on it: requests or plain connections.
    #[serde(default)]
    pub protocol: EntrypointProtocol,
    /// TLS; absent: none.
    #[serde(default)]
    pub tls: Option<EntrypointTls>,
    /// HTTP/2, by ALPN under TLS and by prior knowledge without.
    #[serde(default)]
    pub http2: Http2,
    /// Expect a PROXY protocol header (v1 or v2) from these peers (CIDR); others are refused. Empty: off.
    #[serde(default)]
    pub proxy_protocol: Vec<ipnet_text::Net>,
    /// Peers (CIDR) whose `x-forwarded-*`, `forwarded`, `x-request-id` and `traceparent` are believed.
    #[serde(default)]
    pub trusted_peers: Vec<ipnet_text::Net>,
    /// Longest request head accepted (request line and fields).
    #[serde(default = "defaults::max_head")]
    pub max_head: Size,
    /// Most field lines accepted in a head.
    #[serde(default = "defaults::max_fields")]
    #[schemars(range(min = 1, max = 256))]
    pub max_fields: u16,
    /// Time for a complete request head, from the first byte.
    #[serde(default = "defaults::head_timeout")]
    pub head_timeout: Duration,
    /// How long a connection may wait for its next request.
    #[serde(default = "defaults::idle_timeout")]
    pub idle_timeout: Duration,
    /// Longest gap between two pieces of a request body, and of an unread answer.
    #[serde(default = "defaults::body_timeout")]
    pub body_timeout: Duration,
    /// Longest silence on an upgraded connection (WebSocket).
    #[serde(default = "defaults::tunnel_timeout")]
    pub tunnel_timeout: Duration,
    /// Requests served on one connection before it is closed; 0: no limit.
    #[serde(default)]
    pub max_requests: u32,
    /// Merge `//` in paths before routing.
    #[serde(default = "defaults::yes")]
    pub merge_slashes: bool,
    /// Accept `%2F` and `%5C` in paths (some applications need it; routing sees them escaped).
    #[serde(default)]
    pub allow_encoded_slash: bool,
    /// Field names with `_`, which many applications read as `-`. A name that would then be one the gateway acts on is
    /// always dropped.
    #[serde(default)]
    pub underscores: Underscores,
}

/// Endpoints that serve the same thing, and how to choose between them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Where to connect: `"http://host:port"`, `"https://host:port"`, `"tcp://host:port"`, `"unix:/path"`, or a table
    /// with a weight.
    pub endpoints: Vec<Endpoint>,
    /// How HTTP is spoken to endpoints.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// TLS towards `https://` endpoints.
    #[serde(default)]
    pub tls: ServiceTls,
    /// Requests under way at the same time on one HTTP/2 connection; the endpoint may allow fewer.
    #[serde(default = "defaults::max_streams")]
    #[schemars(range(min = 1))]
    pub max_streams: u32,
    /// How an endpoint is chosen.
    #[serde(default)]
    pub strategy: Strategy,
    /// Active health check.
    #[serde(default)]
    pub health: Option<Health>,
    /// Passive ejection of endpoints that fail real requests.
    #[serde(default)]
    pub outlier: Option<Outlier>,
    /// Time to establish a connection.
    #[serde(default = "defaults::connect_timeout")]
    pub connect_timeout: Duration,
    /// Time from the request's end to the first byte of the answer.
    #[serde(default = "defaults::first_byte_timeout")]
    pub first_byte_timeout: Duration,
    /// Longest gap between two pieces of an answer.
    #[serde(default = "defaults::body_timeout")]
    pub body_timeout: Duration,
    /// How long an unused connection is kept.
    #[serde(default = "defaults::pool_idle")]
    pub idle_timeout: Duration,
    /// Connections per endpoint, over all workers; 0: no limit.
    #[serde(default = "defaults::max_connections")]
    pub max_connections: u32,
    /// Unused connections kept per endpoint, over all workers.
    #[serde(default = "defaults::max_idle")]
    pub max_idle: u32,
    /// Send the client's Host (true) or the endpoint's address (false).
    #[serde(default = "defaults::yes")]
    pub pass_host: bool,
    /// Longest answer head accepted.
    #[serde(default = "defaults::max_head")]
    pub max_head: Size,
}

/// One place a service runs.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Endpoint {
    Url(String),
    Weighted(WeightedEndpoint),
}

/// An endpoint with a weight.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedEndpoint {
    /// `"http://host:port"` or `"unix:/path"`.
    pub url: String,
    /// Share of requests relative to the others; 0 sends none.
    #[serde(default = "defaults::weight")]
    pub weight: u32,
}

impl Endpoint {
    pub fn url(&self) -> &str {
        match self {
            Endpoint::Url(url) => url,
            Endpoint::Weighted(w) => &w.url,
        }
    }
    pub fn weight(&self) -> u32 {
        match self {
            Endpoint::Url(_) => 1,
            Endpoint::Weighted(w) => w.weight,
        }
    }
}

/// How a service chooses an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// In turn, by weight (smooth weighted round robin).
    #[default]
    RoundRobin,
    /// The one with fewer requests in flight of two drawn by weight (power of two choices).
    LeastInFlight,
}

/// An active health check: a GET of `path`, or a call of the gRPC health protocol about `grpc`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Path requested with GET; any 2xx is healthy.
    #[serde(default)]
    pub path: Option<String>,
    /// Service asked about with `grpc.health.v1.Health/Check`, `""` for the server as a whole; `SERVING` is healthy.
    #[serde(default)]
    pub grpc: Option<String>,
    /// Time between two checks.
    #[serde(default = "defaults::health_interval")]
    pub interval: Duration,
    /// Time a check may take.
    #[serde(default = "defaults::health_timeout")]
    pub timeout: Duration,
    /// Successes in a row that bring an endpoint back.
    #[serde(default = "defaults::healthy_after")]
    pub healthy_after: u32,
    /// Failures in a row that take an endpoint out.
    #[serde(default = "defaults::unhealthy_after")]
    pub unhealthy_after: u32,
    /// Host (or `:authority`) of the check; default: the endpoint's address.
    #[serde(default)]
    pub host: Option<String>,
}

/// Passive ejection of failing endpoints.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outlier {
    /// Failures in a row (5xx, reset, timeout) that eject an endpoint.
    pub consecutive_failures: u32,
    /// First ejection; each further one lasts as much longer.
    pub base_ejection: Duration,
    /// Longest ejection.
    pub max_ejection: Duration,
    /// Largest share of a service's endpoints that may be ejected at once, percent.
    pub max_ejected_percent: u8,
}

impl Default for Outlier {
    fn default() -> Self {
        Outlier {
            consecutive_failures: 5,
            base_ejection: Duration::secs(30),
            max_ejection: Duration::secs(300),
            max_ejected_percent: 50,
        }
    }
}

/// One route: what it matches, what happens on the way, where it goes.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Unique name; metrics, logs and audit records carry it.
    pub name: String,
    /// Table or expression that selects requests.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// Higher wins before anything else; equal priorities follow the documented order.
    #[serde(default)]
    pub priority: i32,
    /// Entrypoints this route listens on; empty: all.
    #[serde(default)]
    pub entrypoints: Vec<String>,
    /// Policies applied in this order.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Service the request is sent to. Without one, a policy must answer (redirect, static answer).
    #[serde(default)]
    pub service: Option<String>,
    /// This route serves models instead of a service.
    #[serde(default)]
    pub llm: Option<RouteLlm>,
    /// Guardrails on this route.
    #[serde(default)]
    pub guard: RouteGuard,
    /// Audit settings of this route.
    #[serde(default)]
    pub audit: RouteAudit,
    /// Python plugins called on this route, in order.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// Put the revision id into the answer as `x-pygate-revision`.
    #[serde(default)]
    pub expose_revision: bool,
    /// Read the messages of upgraded connections instead of passing bytes.
    #[serde(default)]
    pub websocket: Option<WebSocket>,
}

/// Selects requests: a table of conditions that must all hold, or an expression.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Match {
    Table(MatchTable),
    /// `` Host(`a.example`) && PathPrefix(`/x`) && !Query(`debug`) ``
    Expression(String),
}

impl Default for Match {
    fn default() -> Self {
        Match::Table(MatchTable::default())
    }
}

/// Conditions that must all hold; a list holds when one of its items does.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MatchTable {
    /// `api.example.com` or `*.example.com` (any depth below).
    pub host: OneOrMany,
    /// `/exact`, `/users/{id}` (one segment), `/files/**` (this and everything below).
    pub path: OneOrMany,
    /// Methods.
    pub method: OneOrMany,
    /// Field name → exact value, `*` for "present", or `~regex` (matches the whole value).
    pub header: BTreeMap<String, String>,
    /// Query parameter → exact value, `*` for "present", or `~regex`.
    pub query: BTreeMap<String, String>,
    /// CIDR blocks the client address must lie in.
    pub client_ip: OneOrMany,
    /// `subject`, `san` or `fingerprint` (SHA-256, hex) of the client's verified certificate → exact value, `*` for
    /// "present", or `~regex`.
    pub client_cert: BTreeMap<String, String>,
}

/// One string or a list of them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        OneOrMany::Many(Vec::new())
    }
}

impl OneOrMany {
    pub fn as_slice(&self) -> &[String] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// Rule packs judged on a route.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteGuard {
    /// Packs applied to request bodies.
    pub request: Vec<String>,
    /// Packs applied to response bodies.
    pub response: Vec<String>,
    /// Longest body that is held to be judged; default: 1MiB.
    pub max_body: Option<Size>,
    /// What happens when a body cannot be judged (too long, encoded, engine error).
    pub fail: Fail,
}

/// What to do when something that should decide cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fail {
    /// Refuse the request.
    #[default]
    Closed,
    /// Let it pass, count it and say so.
    Open,
}

/// Guardrail rule packs and engine.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Extra directories with rule packs; the built-in packs are always known by name.
    pub packs: Vec<String>,
    /// Scanning engine.
    pub engine: Engine,
    /// Rules run in shadow mode (found, recorded, not acted on): `"pack/rule-id"` or `"pack/*"`.
    pub shadow: Vec<String>,
}

impl Default for Guard {
    fn default() -> Self {
        Guard { packs: Vec::new(), engine: Engine::Auto, shadow: Vec::new() }
    }
}

/// Which engine scans text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Hyperscan where its pinned library loads, else Rust.
    #[default]
    Auto,
    /// Hyperscan; a revision is refused where it cannot be used.
    Hyperscan,
    /// The reference engine.
    Rust,
}

/// When a record must be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the background, in batches.
    #[default]
    Async,
    /// The answer's end waits for the outcome record.
    Answer,
    /// The upstream is not called before the intent record is on disk; the answer's end waits too.
    Call,
}

/// Audit settings of a route.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteAudit {
    /// When a record must be on disk.
    pub durability: Durability,
    /// What happens when the log cannot be written.
    pub fail: Fail,
}

/// The audit log.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Directory of the log.
    pub dir: String,
    /// A segment is sealed and a new one begun at this size.
    pub segment_size: Size,
    /// Longest time an `async` record waits in memory.
    pub flush_interval: Duration,
}

impl Default for Audit {
    fn default() -> Self {
        Audit { dir: "run/audit".into(), segment_size: Size(64 << 20), flush_interval: Duration::millis(20) }
    }
}

/// OpenTelemetry, Prometheus and access log.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// OTLP endpoint, `"http://collector:4318"` (HTTP) or `"http://collector:4317"` (gRPC); empty: off.
    pub otlp: String,
    /// How OTLP is sent.
    pub protocol: OtlpProtocol,
    /// Extra OTLP headers; values may be `env:NAME` or `file:PATH`.
    pub headers: BTreeMap<String, String>,
    /// Share of traces begun here that are sampled, 0 to 1; a trusted parent's decision is kept.
    pub sample: f64,
    /// Time between two exports of the metrics.
    pub metrics_interval: Duration,
    /// JSON access log: `"stdout"`, `"stderr"`, `"off"` or a file.
    pub access_log: String,
    /// Access records sent as OTLP logs.
    pub logs: OtlpLogs,
    /// Added to the resource of every signal.
    pub resource: BTreeMap<String, String>,
    /// `deployment.environment.name`.
    pub environment: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry {
            otlp: String::new(),
            protocol: OtlpProtocol::Http,
            headers: BTreeMap::new(),
            sample: 0.1,
            metrics_interval: Duration::secs(15),
            access_log: "off".into(),
            logs: OtlpLogs::default(),
            resource: BTreeMap::new(),
            environment: String::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// Protobuf over HTTP.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

/// Which calls are sent as OTLP logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtlpLogs {
    /// Those of sampled traces.
    #[default]
    Sampled,
    /// Every call.
    All,
    /// None.
    Off,
}

/// The admin listener: metrics, health, revisions.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address; empty: off.
    pub address: String,
    /// Bearer token for everything but health, as `env:NAME` or `file:PATH`. Without one, only loopback peers are served.
    pub token: String,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { address: "127.0.0.1:9901".into(), token: String::new() }
    }
}

/// A Python plugin.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// Entry point `"package.module:attribute"` or file `"./plugin.py:attribute"`.
    pub load: String,
    /// Time one hook call may take.
    #[serde(default = "defaults::plugin_budget")]
    pub budget: Duration,
    /// What happens to an exchange whose hook raises or exceeds its budget.
    #[serde(default)]
    pub fail: Fail,
    /// Settings handed to the plugin.
    #[serde(default)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// Worker processes.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Workers {
    /// Number of workers; 0: one per core.
    pub count: u16,
    /// Client connections per worker; further ones are refused.
    pub max_connections: u32,
    /// How long a draining worker may finish its requests.
    pub drain_timeout: Duration,
}

impl Default for Workers {
    fn default() -> Self {
        Workers { count: 0, max_connections: 50_000, drain_timeout: Duration::secs(30) }
    }
}

mod defaults {
    use super::{Duration, Size};
    pub fn yes() -> bool {
        true
    }
    pub fn weight() -> u32 {
        1
    }
    pub fn max_head() -> Size {
        Size(32 << 10)
    }
    pub fn max_fields() -> u16 {
        100
    }
    pub fn head_timeout() -> Duration {
        Duration::secs(10)
    }
    pub fn idle_timeout() -> Duration {
        Duration::secs(75)
    }
    pub fn tunnel_timeout() -> Duration {
        Duration::secs(600)
    }
    pub fn body_timeout() -> Duration {
        Duration::secs(60)
    }
    pub fn connect_timeout() -> Duration {
        Duration::secs(5)
    }
    pub fn first_byte_timeout() -> Duration {
        Duration::secs(60)
    }
    pub fn pool_idle() -> Duration {
        Duration::secs(50)
    }
    pub fn max_connections() -> u32 {
        1024
    }
    pub fn max_streams() -> u32 {
        100
    }
    pub fn max_idle() -> u32 {
        256
    }
    pub fn health_interval() -> Duration {
        Duration::secs(5)
    }
    pub fn health_timeout() -> Duration {
        Duration::secs(2)
    }
    pub fn healthy_after() -> u32 {
        2
    }
    pub fn unhealthy_after() -> u32 {
        3
    }
    pub fn plugin_budget() -> Duration {
        Duration::millis(50)
    }
}

/// CIDR blocks as configuration text.
pub mod ipnet_text {
    use ipnet::IpNet;
    use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::net::IpAddr;

    /// `10.0.0.0/8`, `::1/128`, or one address.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Net(pub IpNet);

    impl Net {
        pub fn parse(text: &str) -> Option<Net> {
            let text = text.trim();
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|n| Net(n.trunc()))
        }

        /// IPv4-mapped IPv6 addresses count as the IPv4 address they carry (GO-2024-2917).
        pub fn contains(&self, ip: IpAddr) -> bool {
            self.0.contains(&canonical(ip))
        }
    }

    /// The address without its IPv4-mapped wrapping.
    pub fn canonical(ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
            v4 => v4,
        }
    }

    impl<'de> Deserialize<'de> for Net {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            let text = String::deserialize(d)?;
            Net::parse(&text)
                .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a CIDR block such as 10.0.0.0/8")))
        }
    }
    impl Serialize for Net {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.collect_str(&self.0)
        }
    }
    impl JsonSchema for Net {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "Net".into()
        }
        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "type": "string", "title": "a CIDR block", "examples": ["10.0.0.0/8", "::1"] })
        }
    }
}
