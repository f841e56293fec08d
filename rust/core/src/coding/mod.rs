//! Content codings (RFC 9110 §8.4): answers compressed on their way out, bodies decompressed for guards.
//!
//! Rules:
//! 1. Everything is incremental: any split of the input gives the same text. Nothing waits for more than a
//!    coder needs, and a flush hands out all that was written.
//! 2. Memory is bounded whatever the peer sends: encoders run in small windows ([`encode`] says how small),
//!    decoders stop at a cap while they decode, not after ([`decode`]).
//! 3. A decoder is strict: cut, damaged or followed by anything else is an error, never a shorter text.
//! 4. No transfer codings, and no decision on its own: `policy::compress` decides, `exchange` carries it out.

mod choice;
pub mod decode;
pub mod encode;
mod gunzip;
pub mod negotiate;

pub use choice::{vary, weaken, Choice};
pub use decode::{DecodeError, Decoder};
pub use encode::{EncodeError, Encoder};
pub use negotiate::negotiate;

/// A content coding that can be written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Coding {
    /// RFC 1952.
    Gzip = 1,
    /// RFC 7932.
    Br = 2,
    /// RFC 8878, in windows of at most 8 MiB (RFC 9659).
    Zstd = 3,
    /// RFC 1950; read in its bare form (RFC 1951), too.
    Deflate = 4,
}

impl Coding {
    /// The name in `content-encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Br => "br",
            Coding::Zstd => "zstd",
            Coding::Deflate => "deflate",
        }
    }

    /// From a coding's name in any case; `x-gzip` is `gzip` (RFC 9110 §8.4.1.3).
    pub fn of(name: &[u8]) -> Option<Coding> {
        const NAMES: [(&[u8], Coding); 5] = [
            (b"gzip", Coding::Gzip),
            (b"x-gzip", Coding::Gzip),
            (b"br", Coding::Br),
            (b"zstd", Coding::Zstd),
            (b"deflate", Coding::Deflate),
        ];
        NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, coding)| *coding)
    }
}

#[cfg(test)]
mod tests;
