//! What is spoken on a connection and how strictly, as its reader writes it.

use super::units::{Duration, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an entrypoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntrypointProtocol {
    /// HTTP/1.1 and HTTP/2; `routes` decide.
    #[default]
    Http,
    /// Bytes; `tcp_routes` decide.
    Tcp,
}

/// What a service's endpoints speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// As negotiated by ALPN under TLS, HTTP/1.1 without.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, under TLS and (by prior knowledge) without.
    Http2,
}

/// HTTP/2 towards clients (RFC 9113).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http2 {
    /// Speak it at all.
    pub enabled: bool,
    /// Requests under way at the same time on one connection.
    #[schemars(range(min = 1, max = 1000))]
    pub max_streams: u32,
    /// Bytes of one request's body that may be on their way unread (flow-control window).
    pub stream_window: Size,
    /// The same for all requests of a connection together.
    pub connection_window: Size,
    /// Streams a client may reset, or make us reset, within ten seconds beyond those it lets finish; more end the
    /// connection (CVE-2023-44487, CVE-2025-8671).
    pub max_resets: u32,
    /// PING, SETTINGS, PRIORITY, empty DATA and window frames within ten seconds beyond one per frame that carries
    /// something; more end the connection (CVE-2019-9512 and its like).
    pub max_idle_frames: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        Http2 {
            enabled: true,
            max_streams: 128,
            stream_window: Size(256 << 10),
            connection_window: Size(1 << 20),
            max_resets: 200,
            max_idle_frames: 2000,
        }
    }
}

/// Field names with an underscore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Underscores {
    /// Passed on.
    #[default]
    Keep,
    /// Dropped.
    Drop,
    /// The request is refused.
    Refuse,
}

/// Upgraded connections whose messages are read (RFC 6455).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocket {
    /// Longest message, decompressed; a longer one ends the connection with close code 1009.
    pub max_message: Size,
    /// A silent client is sent a ping this often; one that answers none before the next is due is let go. 0: never.
    pub ping_interval: Duration,
    /// Let both sides agree on permessage-deflate (RFC 7692); else the offer is not passed on.
    pub compression: bool,
}

impl Default for WebSocket {
    fn default() -> Self {
        WebSocket { max_message: Size(1 << 20), ping_interval: Duration::secs(30), compression: true }
    }
}
