//! What tells one series from another, packed into one word beside its key.
//!
//! bits 0–7 method, 8–23 status, 24–31 error code + 1, 32 https, 33–34 version, 35–39 gRPC
//! status + 1, 63 always set.

use crate::error::Code;
use crate::grpc::Status;
use crate::message::{Method, Scheme, Version};

/// Labels of the row that takes what the table has no room for.
pub(super) const OVERFLOW: u64 = 1 << 63 | 1 << 62;

/// RFC 9110 methods by number; any other is `_OTHER`, as the HTTP semantic conventions want it.
pub(super) const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "_OTHER"];

pub(super) fn method_number(method: &Method) -> u64 {
    match method {
        Method::Get => 0,
        Method::Head => 1,
        Method::Post => 2,
        Method::Put => 3,
        Method::Delete => 4,
        Method::Patch => 5,
        Method::Options => 6,
        Method::Connect => 7,
        Method::Trace => 8,
        Method::Other(_) => 9,
    }
}

pub(super) fn pack(method: &Method, status: u16, code: Option<Code>, scheme: Scheme, version: Version) -> u64 {
    1 << 63
        | (version as u64) << 33
        | u64::from(scheme == Scheme::Https) << 32
        | code.map_or(0, |c| c as u64 + 1) << 24
        | u64::from(status) << 8
        | method_number(method)
}

pub(super) fn pack_grpc(status: Option<Status>) -> u64 {
    status.map_or(0, |status| (u64::from(status.number()) + 1) << 35)
}

/// The labels as a reader names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Labels {
    pub method: &'static str,
    /// 0: no status was sent or received.
    pub status: u16,
    /// Name of the gateway's own error, empty if none.
    pub code: &'static str,
    pub scheme: &'static str,
    pub version: &'static str,
    /// Name of the status of a gRPC call, empty for other requests.
    pub grpc_status: &'static str,
    /// This is the row for what the table had no room for; the other labels say nothing.
    pub overflow: bool,
}

pub(super) fn unpack(word: u64) -> Labels {
    let code = (word >> 24 & 0xff) as usize;
    let grpc = (word >> 35 & 0x1f) as usize;
    Labels {
        method: METHODS.get((word & 0xff) as usize).copied().unwrap_or("_OTHER"),
        status: (word >> 8) as u16,
        code: code.checked_sub(1).and_then(|n| Code::ALL.get(n)).map_or("", |c| c.name()),
        scheme: if word >> 32 & 1 == 1 { "https" } else { "http" },
        version: match word >> 33 & 3 {
            0 => "1.0",
            1 => "1.1",
            _ => "2",
        },
        grpc_status: grpc.checked_sub(1).and_then(|n| Status::ALL.get(n)).map_or("", |s| s.name()),
        overflow: word & OVERFLOW == OVERFLOW,
    }
}
