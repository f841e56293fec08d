//! The gzip wrapper (RFC 1952) around deflate: heads and ends of members, checked as they come.
//!
//! A stream is one member or several; behind a member stands another one or nothing. Names, comments and
//! extra fields are passed over without being kept.

use super::decode::{inflate, DecodeError};
use flate2::{Crc, Decompress};

const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

pub(super) struct Gunzip {
    inflate: Decompress,
    crc: Crc,
    at: At,
    flags: u8,
    /// Bytes of a part that is read as a whole.
    small: [u8; 10],
    filled: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Head,
    ExtraLength,
    Extra(u16),
    Name,
    Comment,
    HeadCrc,
    Body,
    Tail,
}

impl Gunzip {
    pub fn new() -> Gunzip {
        Gunzip { inflate: Decompress::new(false), crc: Crc::new(), at: At::Head, flags: 0, small: [0; 10], filled: 0 }
    }

    /// Between two members, or before the first.
    pub fn at_end(&self) -> bool {
        self.at == At::Head && self.filled == 0
    }

    /// Takes bytes and writes text; returns how many of each. Call again while either moves.
    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), DecodeError> {
        let (mut taken, mut written) = (0, 0);
        loop {
            let rest = &input[taken..];
            if self.at == At::Body {
                let (read, wrote, end) = inflate(&mut self.inflate, rest, &mut out[written..])?;
                self.crc.update(&out[written..written + wrote]);
                taken += read;
                written += wrote;
                if !end {
                    return Ok((taken, written));
                }
                self.at = At::Tail;
                continue;
            }
            if rest.is_empty() {
                return Ok((taken, written));
            }
            taken += self.wrapper(rest)?;
        }
    }

    /// Takes bytes of a member's head or end.
    fn wrapper(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        match self.at {
            At::Head => {
                let taken = self.gather(input, 10);
                let known = [0x1f, 0x8b, 8].iter().zip(&self.small[..self.filled]);
                if known.into_iter().any(|(a, b)| a != b) {
                    return Err(DecodeError::Malformed);
                }
                if self.filled == 10 {
                    self.flags = self.small[3];
                    if self.flags & RESERVED != 0 {
                        return Err(DecodeError::Malformed);
                    }
                    self.inflate.reset(false);
                    self.crc.reset();
                    self.next(At::ExtraLength);
                }
                Ok(taken)
            }
            At::ExtraLength => {
                let taken = self.gather(input, 2);
                if self.filled == 2 {
                    self.next(At::Extra(u16::from_le_bytes([self.small[0], self.small[1]])));
                }
                Ok(taken)
            }
            At::Extra(left) => {
                let taken = input.len().min(usize::from(left));
                let left = left - u16::try_from(taken).unwrap_or(left);
                self.next(At::Extra(left));
                Ok(taken)
            }
            At::Name | At::Comment => match input.iter().position(|&b| b == 0) {
                Some(end) => {
                    self.next(if self.at == At::Name { At::Comment } else { At::HeadCrc });
                    Ok(end + 1)
                }
                None => Ok(input.len()),
            },
            At::HeadCrc => {
                let taken = self.gather(input, 2);
                if self.filled == 2 {
                    self.next(At::Body);
                }
                Ok(taken)
            }
            At::Body => Ok(0),
            At::Tail => {
                let taken = self.gather(input, 8);
                if self.filled == 8 {
                    let tail = self.small;
                    let crc = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
                    let length = u32::from_le_bytes([tail[4], tail[5], tail[6], tail[7]]);
                    if crc != self.crc.sum() || length != self.crc.amount() {
                        return Err(DecodeError::Malformed);
                    }
                    self.next(At::Head);
                }
                Ok(taken)
            }
        }
    }

    /// Goes on with `at`, or with what follows it where the flags say that it is absent.
    fn next(&mut self, mut at: At) {
        self.filled = 0;
        if at == At::ExtraLength && self.flags & FEXTRA == 0 {
            at = At::Extra(0);
        }
        if at == At::Extra(0) {
            at = At::Name;
        }
        if at == At::Name && self.flags & FNAME == 0 {
            at = At::Comment;
        }
        if at == At::Comment && self.flags & FCOMMENT == 0 {
            at = At::HeadCrc;
        }
        if at == At::HeadCrc && self.flags & FHCRC == 0 {
            at = At::Body;
        }
        self.at = at;
    }

    /// Fills `small` up to `size`.
    fn gather(&mut self, input: &[u8], size: usize) -> usize {
        let taken = input.len().min(size - self.filled);
        self.small[self.filled..self.filled + taken].copy_from_slice(&input[..taken]);
        self.filled += taken;
        taken
    }
}
