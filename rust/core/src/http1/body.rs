//! Where a body ends (RFC 9112 §6.3), for either direction.

use super::chunked::{Chunked, Piece};
use super::head::parse_trailers;
use super::Violation;
use crate::message::{BodyLength, Fields};
use std::ops::Range;

/// Reads one message's body.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// No body, or all of it was read.
    #[default]
    Done,
    Exact(u64),
    Chunked(Box<Chunked>),
    UntilClose,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    NeedMore,
    Data(Range<usize>),
    End,
}

impl Body {
    pub fn new(length: BodyLength) -> Body {
        match length {
            BodyLength::None | BodyLength::Exact(0) => Body::Done,
            BodyLength::Exact(n) => Body::Exact(n),
            BodyLength::Streamed => Body::Chunked(Box::default()),
            BodyLength::UntilClose => Body::UntilClose,
        }
    }

    /// Reads on. `trailers` is filled before `End` when the peer sent some.
    pub fn read(&mut self, input: &[u8], trailers: &mut Fields) -> Result<(usize, Part), Violation> {
        match self {
            Body::Done => Ok((0, Part::End)),
            _ if input.is_empty() => Ok((0, Part::NeedMore)),
            Body::Exact(left) => {
                let take = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= take as u64;
                if *left == 0 {
                    *self = Body::Done;
                }
                Ok((take, Part::Data(0..take)))
            }
            Body::Chunked(chunked) => {
                let (used, piece) = chunked.read(input)?;
                let part = match piece {
                    Piece::NeedMore => Part::NeedMore,
                    Piece::Data(range) => Part::Data(range),
                    Piece::End => {
                        parse_trailers(chunked.trailers(), trailers)?;
                        *self = Body::Done;
                        Part::End
                    }
                };
                Ok((used, part))
            }
            Body::UntilClose => Ok((input.len(), Part::Data(0..input.len()))),
        }
    }

    /// The peer closed its sending side. True when that ends the body properly.
    pub fn closed(&mut self) -> bool {
        match self {
            Body::Done => true,
            Body::UntilClose => {
                *self = Body::Done;
                true
            }
            _ => false,
        }
    }
}
