//! WebSocket for a gateway that reads the messages it relays (RFC 6455, RFC 7692).
//!
//! Rules:
//! 1. Routes that need no messages tunnel bytes and never come here; `handshake` and [`Relay`] serve those that do.
//! 2. Each side is read as strictly as its own peer would have to: RSV bits, masks, shortest lengths, fragmentation,
//!    UTF-8 and close codes. A breach closes with 1002, 1007 or 1009 and none of the offending bytes is passed on.
//! 3. Both sides agree on one extension at most, permessage-deflate, with the same parameters: a message nobody
//!    changed keeps its frames, masks and compression byte for byte.
//! 4. What is held of a message is bounded by `max_message`, decompressed; between messages only small buffers stay.
//! 5. No clock, no randomness: `now` and entropy are arguments. Never knows routes, guards or the exchange.

mod deflate;
mod direction;
mod extension;
pub mod frame;
pub mod handshake;
mod mask_keys;
mod relay;
#[cfg(test)]
mod relay_tests;
mod utf8;

pub use deflate::{Deflater, InflateError, Inflater, Window};
pub use extension::{Offer, Params};
pub use relay::{Closing, Options, Origin, Out, Relay, Verdict};
pub use utf8::Utf8;

/// A side of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that asked for the connection; its frames are masked.
    Client,
    /// The service's endpoint; its frames are not.
    Upstream,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Client, Side::Upstream];

    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Upstream,
            Side::Upstream => Side::Client,
        }
    }
}

/// Close codes (RFC 6455 §7.4.1 and the IANA registry).
pub mod code {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Never sent: a close frame without a code.
    pub const NONE: u16 = 1005;
    /// Never sent: the connection ended without a close frame.
    pub const ABNORMAL: u16 = 1006;
    pub const INVALID_DATA: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const INTERNAL: u16 = 1011;
    pub const BAD_GATEWAY: u16 = 1014;

    /// Whether a peer may send it in a close frame.
    pub fn is_valid(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// A peer broke the protocol: the close code it gets and words that are safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub code: u16,
    pub detail: &'static str,
}

impl Violation {
    pub(crate) const fn protocol(detail: &'static str) -> Violation {
        Violation { code: code::PROTOCOL_ERROR, detail }
    }
    pub(crate) const fn data(detail: &'static str) -> Violation {
        Violation { code: code::INVALID_DATA, detail }
    }
    pub(crate) const fn too_big() -> Violation {
        Violation { code: code::TOO_BIG, detail: "message longer than allowed" }
    }
}
