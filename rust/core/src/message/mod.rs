//! Protocol-neutral messages: what every protocol parses into and writes from.
//!
//! Owns heads, field lines and the canonical target. Knows nothing of framing, connections or hop-by-hop
//! rules: those belong to the protocol modules.

pub mod fields;
mod method;
mod peer;
mod target;

pub use fields::{Fields, Known};
pub use method::Method;
pub use peer::{ClientCertificate, Peer, TlsFacts};
pub use target::{form_decoded, PathOptions, Target, TargetError};

/// HTTP version the peer speaks, as far as semantics depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

/// `http` or `https`, as the client used it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

/// How the end of a body is known before it arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// No body at all.
    #[default]
    None,
    /// Exactly this many bytes.
    Exact(u64),
    /// Ends with an end mark of the protocol (chunked, END_STREAM); trailers may follow.
    Streamed,
    /// Ends when the connection closes (HTTP/1 responses only).
    UntilClose,
}

/// A request's control data and fields. Reused between requests: `clear` keeps the allocations.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    pub method: Method,
    pub version: Version,
    pub scheme: Scheme,
    /// Lower-case host without port; empty only for HTTP/1.0 without Host.
    pub host: Vec<u8>,
    pub port: Option<u16>,
    /// Canonical path and query.
    pub target: Target,
    pub fields: Fields,
    pub length: BodyLength,
    /// `Expect: 100-continue` was sent and not yet answered.
    pub expect_continue: bool,
    /// The upgrade token asked for (`websocket`), if the request is a well-formed upgrade.
    pub upgrade: bool,
}

impl RequestHead {
    pub fn clear(&mut self) {
        self.method = Method::default();
        self.version = Version::default();
        self.scheme = Scheme::default();
        self.host.clear();
        self.port = None;
        self.target.clear();
        self.fields.clear();
        self.length = BodyLength::None;
        self.expect_continue = false;
        self.upgrade = false;
    }
}

/// A response's status and fields.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    pub status: u16,
    pub fields: Fields,
    pub length: BodyLength,
}

impl ResponseHead {
    pub fn clear(&mut self) {
        self.status = 0;
        self.fields.clear();
        self.length = BodyLength::None;
    }
}
