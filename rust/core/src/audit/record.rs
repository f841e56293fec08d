//! What is written down about an exchange.
//!
//! Rules:
//! 1. An intent says what was asked and is written before the first byte goes upstream; an outcome says what
//!    came of it. Both carry the exchange id. An intent without an outcome reads "unknown", never "ok".
//! 2. No bodies, no credentials, no query values: the path and the names of query parameters only.
//! 3. A request that never became an exchange (malformed) has an outcome alone, with what is known.
//! 4. Encoded forms are self-describing (tagged fields), so that later kinds of record and typed extensions
//!    can be added without breaking old readers.

use crate::grpc::Status;
use std::net::IpAddr;

/// UUIDv7, big-endian.
pub type ExchangeId = [u8; 16];

#[derive(Clone, Debug, PartialEq)]
pub struct Intent<'a> {
    pub exchange: ExchangeId,
    pub wall_ns: u64,
    pub mono_ns: u64,
    /// First 12 hex digits of the revision, as bytes.
    pub revision: [u8; 6],
    pub entrypoint: &'a str,
    pub route: &'a str,
    pub service: &'a str,
    pub method: &'a [u8],
    pub https: bool,
    pub host: &'a [u8],
    /// Canonical path, without the query.
    pub path: &'a [u8],
    pub client_ip: IpAddr,
    pub client_port: u16,
    /// Authenticated caller, empty if none.
    pub identity: &'a str,
    pub trace_id: [u8; 16],
    /// The gateway's own span.
    pub span_id: [u8; 8],
    /// Zero when the trace begins here.
    pub parent_span_id: [u8; 8],
    pub sampled: bool,
    pub user_agent: &'a [u8],
    /// TLS version, `1.2` or `1.3`; empty without TLS.
    pub tls: &'a str,
    /// SHA-256 of the client's verified certificate, lower hex; empty without one.
    pub client_cert: &'a str,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<'a> {
    pub exchange: ExchangeId,
    pub wall_ns: u64,
    /// From the first byte of the request head to the last byte of the answer.
    pub duration_ns: u64,
    /// Status sent to the client; 0 when none was.
    pub status: u16,
    /// Name of the error code when the gateway answered itself or cut the answer, else empty.
    pub code: &'a str,
    /// Endpoint that answered (`host:port`), empty if none was called.
    pub endpoint: &'a str,
    /// Upstream attempts made.
    pub attempts: u8,
    /// From the request's end upstream to the first byte of the answer; 0 if none.
    pub upstream_ns: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// The answer was cut after its head had been sent.
    pub truncated: bool,
    /// What a gRPC call came to; `None` for other requests.
    pub grpc_status: Option<Status>,
    pub findings: &'a [Finding<'a>],
    /// Only on an outcome without intent (a malformed request): what is known of the peer.
    pub client_ip: Option<IpAddr>,
    pub entrypoint: &'a str,
    pub revision: [u8; 6],
}

/// A guardrail rule that matched. Never the text itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding<'a> {
    /// `pack/rule-id`.
    pub rule: &'a str,
    /// `allow`, `tag`, `mask`, `tokenize`, `block`; with `shadow` nothing was done.
    pub action: &'a str,
    pub shadow: bool,
    /// True for the response body.
    pub response: bool,
    /// Byte span in the decoded channel.
    pub start: u32,
    pub end: u32,
}
