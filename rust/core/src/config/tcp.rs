//! Routes for connections instead of requests.

use super::{Duration, OneOrMany, RouteAudit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One TCP route: bytes of a matching connection are passed both ways untouched.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpRoute {
    /// Unique name, also among `routes`; metrics, logs and audit records carry it.
    pub name: String,
    /// Which connections; without conditions all.
    #[serde(rename = "match", default)]
    pub matches: TcpMatch,
    /// Higher wins before anything else; then exact names, wildcards, ALPN, address, in this order.
    #[serde(default)]
    pub priority: i32,
    /// Entrypoints this route listens on; empty: all with `protocol = "tcp"`. On an HTTP entrypoint with TLS, a route
    /// that names a host takes its connections away before TLS ends here.
    #[serde(default)]
    pub entrypoints: Vec<String>,
    /// Service the connection is passed to.
    pub service: String,
    /// What becomes of TLS.
    #[serde(default)]
    pub tls: TcpTls,
    /// PROXY protocol header sent to the endpoint.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Longest silence.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Duration,
    /// Longest life of a connection; 0: no limit.
    #[serde(default)]
    pub max_lifetime: Duration,
    /// Audit settings.
    #[serde(default)]
    pub audit: RouteAudit,
}

fn idle_timeout() -> Duration {
    Duration::secs(600)
}

/// Conditions that must all hold; a list holds when one of its items does.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpMatch {
    /// Server names of the ClientHello: `db.example.com` or `*.example.com` (any depth below).
    pub sni: OneOrMany,
    /// Application protocols, one of which the client must offer.
    pub alpn: OneOrMany,
    /// CIDR blocks the client address must lie in.
    pub client_ip: OneOrMany,
}

/// What becomes of TLS on a TCP route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TcpTls {
    /// Bytes pass as they are; a ClientHello is only looked at.
    #[default]
    Passthrough,
    /// TLS ends here, by the entrypoint's `tls`.
    Terminate,
}

/// PROXY protocol versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    #[default]
    Off,
    /// Text.
    V1,
    /// Binary.
    V2,
}
