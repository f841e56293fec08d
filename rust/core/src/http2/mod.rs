//! HTTP/2 both ways (RFC 9113), without a socket.
//!
//! The `h2` crate does frames, header compression and flow control. It is polled by hand over memory: a session is fed
//! bytes, asked for events until it has no more, and drained of bytes.
//!
//! Rules:
//! 1. Nothing waits. Wakers only note which stream may go on; a session is polled after every input, every
//!    output of its owner, and whenever its transport can take bytes again.
//! 2. Every queue has a bound that is ours: unread body bytes by the windows we grant, unsent ones by
//!    [`HIGH_WATER`] per stream (the owner stops reading its source above it), sealed frames by [`pipe::MOST_OUT`].
//! 3. What costs a peer nothing and us something is counted before it is worked on ([`meter`]): resets, empty and
//!    control frames beyond their allowance end the connection with ENHANCE_YOUR_CALM.
//! 4. Heads become neutral heads here and nowhere else; what HTTP/1 would refuse in a field, a target or an
//!    authority is refused here too, and connection fields never pass.
//! 5. A stream is known to its owner by the owner's own number; the session never interprets it.

mod client;
mod convert;
mod meter;
mod outbox;
mod pipe;
mod ready;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientEvent, ClientLimits};
pub use meter::Allowance;
pub use outbox::{HIGH_WATER, LOW_WATER};
pub use server::{Server, ServerEvent, ServerLimits};

/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9113 §7, those that owners choose among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The exchange ended well; the rest of the request is not wanted.
    NoError,
    /// It did not.
    Internal,
    /// Nobody wants the answer any more.
    Cancel,
    /// Not worked on: may be sent again.
    Refused,
    Protocol,
}

impl Reset {
    fn reason(self) -> h2::Reason {
        match self {
            Reset::NoError => h2::Reason::NO_ERROR,
            Reset::Internal => h2::Reason::INTERNAL_ERROR,
            Reset::Cancel => h2::Reason::CANCEL,
            Reset::Refused => h2::Reason::REFUSED_STREAM,
            Reset::Protocol => h2::Reason::PROTOCOL_ERROR,
        }
    }
}
