//! HTTP/1.1 both ways (RFC 9112), as byte readers and writers without a socket.
//!
//! Rules:
//! 1. What one side could read differently from another is refused: bare LF, Content-Length beside
//!    Transfer-Encoding, duplicate or decorated lengths, folded lines, spaces before the colon. The
//!    table in `tests` holds each one.
//! 2. Framing and hop-by-hop fields never leave this module: a neutral head carries a [`BodyLength`]
//!    instead, and the writers put back what the connection at hand needs.
//! 3. Readers consume what they understand and return what they found, one event at a time; bytes of a
//!    body are returned as ranges of the input, never copied.
//! 4. `httparse` is the tokeniser only. Every rule on meaning is here.
//!
//! [`BodyLength`]: crate::message::BodyLength

mod body;
mod chunked;
mod client;
mod head;
mod server;
#[cfg(test)]
mod tests;
pub mod write;

pub use client::{Client, ResponseEvent};
pub use head::HeadLimits;
pub(crate) use head::{content_length, is_plain_trailer, read_authority, shadows_known};
pub use server::{RequestEvent, Server};

use crate::error::Code;

/// A peer broke the protocol: the answer's code and words that are safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub code: Code,
    pub detail: &'static str,
}

impl Violation {
    pub(crate) const fn bad(detail: &'static str) -> Violation {
        Violation { code: Code::BadRequest, detail }
    }
}
