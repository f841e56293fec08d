//! What gRPC adds to HTTP/2: leaf functions over heads, trailers and bytes.
//!
//! Rules:
//! 1. Messages pass as they are; nothing here looks into one. What is read is the five bytes in front of each,
//!    to know where it ends.
//! 2. Whatever the gateway refuses, a gRPC client is told as a gRPC status ([`status`]), never as HTML.
//! 3. gRPC-Web is another wrapping of the same call ([`web`]): translated at the edge, plain gRPC inside.
//! 4. No connection, no timer: `exchange` carries these out.

pub mod status;
pub mod timeout;
pub mod web;

pub use status::Status;

/// Whether a `content-type` is gRPC's: `application/grpc`, alone, with a `+` suffix or parameters. gRPC-Web's
/// is not.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let Some(start) = content_type.get(..TYPE.len()) else { return false };
    let rest = content_type[TYPE.len()..].trim_ascii_start();
    start.eq_ignore_ascii_case(TYPE) && matches!(rest, [] | [b'+' | b';', ..])
}

/// Counts the messages of one direction of a call as its bytes pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages {
    head: [u8; 5],
    filled: u8,
    /// Bytes of the current message that have not come.
    left: u32,
    complete: u64,
}

impl Messages {
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled < 5 {
                let missing = usize::from(5 - self.filled).min(bytes.len());
                let (head, rest) = bytes.split_at(missing);
                self.head[usize::from(self.filled)..][..missing].copy_from_slice(head);
                self.filled += head.len() as u8;
                bytes = rest;
                if self.filled < 5 {
                    return;
                }
                self.left = u32::from_be_bytes([self.head[1], self.head[2], self.head[3], self.head[4]]);
            }
            let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= taken as u32;
            bytes = &bytes[taken..];
            if self.left == 0 {
                self.filled = 0;
                self.complete += 1;
            }
        }
    }

    /// Messages that have come as a whole.
    pub fn complete(&self) -> u64 {
        self.complete
    }

    /// No message is half way through: what follows may be trailers.
    pub fn between(&self) -> bool {
        self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_type() {
        for (text, expected) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc+json; charset=utf-8", true),
            ("application/grpc ; x=y", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web-text+proto", false),
            ("application/grpcx", false),
            ("application/grp", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn messages_are_counted_over_every_split() {
        let bytes = [&[0, 0, 0, 0, 3][..], b"abc", &[1, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[7; 256]].concat();
        for first in 0..=bytes.len() {
            for second in [first, (first + 1).min(bytes.len()), bytes.len()] {
                let mut messages = Messages::default();
                messages.take(&bytes[..first]);
                let boundaries = [0, 8, 13, bytes.len()];
                assert_eq!(messages.between(), boundaries.contains(&first), "{first}");
                messages.take(&bytes[first..second]);
                messages.take(&bytes[second..]);
                assert_eq!((messages.complete(), messages.between()), (3, true));
            }
        }
    }
}
