//! The chunked transfer coding (RFC 9112 §7.1), read strictly.
//!
//! Rules:
//! 1. A size is 1 to 15 hex digits and nothing else; no sign, no prefix, no space around it.
//! 2. Lines end in CRLF. A bare LF or CR anywhere is an error.
//! 3. Extensions are checked against the grammar and dropped; all of one body's together may not exceed
//!    [`MAX_EXTENSIONS`].
//! 4. Trailer lines are collected up to [`MAX_TRAILERS`] bytes and handed out whole.

use super::Violation;
use crate::message::fields::is_token_byte;
use std::ops::Range;

const MAX_EXTENSIONS: u32 = 1 << 10;
const MAX_TRAILERS: usize = 8 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before or inside the size, with the digits seen.
    Size {
        digits: u8,
    },
    Extension(Extension),
    /// After the CR of a size line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line or the final CRLF.
    Trailers,
    Done,
}

/// Where in `*( ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] BWS )` (RFC 9112 §7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// Behind the semicolon.
    Start,
    Name,
    /// Space behind a name.
    Named,
    /// Behind the equals sign.
    Equals,
    Value,
    Quoted,
    /// Behind a backslash inside quotes.
    Escaped,
    /// Behind the closing quote.
    Closed,
    /// Space behind a value.
    Valued,
}

impl Extension {
    /// The place behind `b`; `None` when it may not stand here. The line may end where [`Self::may_end`] holds.
    fn next(self, b: u8) -> Option<Extension> {
        use Extension::*;
        let (space, token) = (matches!(b, b' ' | b'\t'), is_token_byte(b));
        match self {
            Quoted => match b {
                b'"' => Some(Closed),
                b'\\' => Some(Escaped),
                0x20..=0x7e | b'\t' => Some(Quoted),
                _ => None,
            },
            Escaped => matches!(b, 0x20..=0x7e | b'\t').then_some(Quoted),
            Start if space => Some(Start),
            Equals if space => Some(Equals),
            Name | Named if space => Some(Named),
            Value | Closed | Valued if space => Some(Valued),
            Start | Name if token => Some(Name),
            Equals | Value if token => Some(Value),
            Equals if b == b'"' => Some(Quoted),
            Name | Named if b == b'=' => Some(Equals),
            Name | Named | Value | Closed | Valued if b == b';' => Some(Start),
            _ => None,
        }
    }

    fn may_end(self) -> bool {
        matches!(self, Extension::Name | Extension::Value | Extension::Closed)
    }
}

#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    left: u64,
    extensions: u32,
    trailers: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    NeedMore,
    /// Body bytes, as a range of the input.
    Data(Range<usize>),
    /// The last chunk and its trailers are complete; [`Chunked::trailers`] has the raw lines.
    End,
}

impl Default for Chunked {
    fn default() -> Self {
        Chunked { state: State::Size { digits: 0 }, left: 0, extensions: 0, trailers: Vec::new() }
    }
}

impl Chunked {
    /// Reads on; returns how many bytes of `input` were consumed (data included) and what was found.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, Piece), Violation> {
        let mut at = 0;
        while at < input.len() {
            let b = input[at];
            match self.state {
                State::Size { digits } => {
                    if let Some(digit) = (b as char).to_digit(16) {
                        if digits == 15 {
                            return Err(Violation::bad("chunk size too large"));
                        }
                        self.left = self.left << 4 | u64::from(digit);
                        self.state = State::Size { digits: digits + 1 };
                    } else if digits == 0 {
                        return Err(Violation::bad("chunk size is not hexadecimal"));
                    } else if b == b'\r' {
                        self.state = State::SizeLf;
                    } else if b == b';' {
                        self.state = State::Extension(Extension::Start);
                    } else {
                        return Err(Violation::bad("malformed chunk size"));
                    }
                }
                State::Extension(place) => {
                    self.extensions += 1;
                    if self.extensions > MAX_EXTENSIONS {
                        return Err(Violation::bad("chunk extensions too long"));
                    }
                    self.state = if b == b'\r' && place.may_end() {
                        State::SizeLf
                    } else {
                        State::Extension(place.next(b).ok_or(Violation::bad("malformed chunk extension"))?)
                    };
                }
                State::SizeLf => {
                    expect(b, b'\n', "chunk size line must end in CRLF")?;
                    self.state = if self.left == 0 { State::Trailers } else { State::Data };
                }
                State::Data => {
                    let take = (input.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= take as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok((at + take, Piece::Data(at..at + take)));
                }
                State::DataCr => {
                    expect(b, b'\r', "chunk data must be followed by CRLF")?;
                    self.state = State::DataLf;
                }
                State::DataLf => {
                    expect(b, b'\n', "chunk data must be followed by CRLF")?;
                    self.state = State::Size { digits: 0 };
                }
                State::Trailers => {
                    self.trailers.push(b);
                    if b == b'\n' {
                        let n = self.trailers.len();
                        if n < 2 || self.trailers[n - 2] != b'\r' {
                            return Err(Violation::bad("trailer line must end in CRLF"));
                        }
                        // An empty line ends the section: CRLF alone or right after another CRLF.
                        if n == 2 || self.trailers.ends_with(b"\r\n\r\n") {
                            self.state = State::Done;
                            return Ok((at + 1, Piece::End));
                        }
                    } else if self.trailers.len() > MAX_TRAILERS {
                        return Err(Violation::bad("trailers too long"));
                    }
                }
                State::Done => return Ok((at, Piece::End)),
            }
            at += 1;
        }
        Ok((at, Piece::NeedMore))
    }

    /// Raw trailer lines including the final empty line, once [`Piece::End`] was returned.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }
}

fn expect(got: u8, wanted: u8, message: &'static str) -> Result<(), Violation> {
    if got == wanted {
        Ok(())
    } else {
        Err(Violation::bad(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), &'static str> {
        let mut chunked = Chunked::default();
        let (mut body, mut ended) = (Vec::new(), false);
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() && !ended {
                let (used, found) = chunked.read(rest).map_err(|v| v.detail)?;
                match found {
                    Piece::Data(range) => body.extend_from_slice(&rest[range]),
                    Piece::End => ended = true,
                    Piece::NeedMore => {}
                }
                rest = &rest[used..];
            }
        }
        Ok((body, ended))
    }

    #[test]
    fn accepts() {
        for (raw, body) in [
            (&b"5\r\nhello\r\n0\r\n\r\n"[..], &b"hello"[..]),
            (b"5;a=b\r\nhello\r\n1;q=\"x;\\\"y\"\r\n!\r\n0;z\r\nt: v\r\n\r\n", b"hello!"),
            (b"5; a = b ;c\t=\t\"d\" ; e\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"0\r\n\r\n", b""),
            (b"00000A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        ] {
            assert_eq!(decode(&[raw]), Ok((body.to_vec(), true)));
        }
    }

    #[test]
    fn refuses() {
        for raw in [
            &b"0x5\r\nhello"[..],
            b"+5\r\nhello",
            b"-1\r\n",
            b" 5\r\nhello",
            b"5 \r\nhello",
            b"5_0\r\n",
            b"\r\n",
            b"5\nhello\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\rX",
            b"fffffffffffffffff\r\n",
            b"5;a\nb\r\nhello",
            b"5;\x00\r\nhello",
            b"5;\"a\r\nhello",
            b"0\r\n\n",
            b"0\r\nt: v\n\r\n",
            b"0\r\nt: v\r\n\n",
            b"5;\r\nhello",
            b"5;=\r\nhello",
            b"5;=b\r\nhello",
            b"5;a=\r\nhello",
            b"5;;a\r\nhello",
            b"5;a;\r\nhello",
            b"5;a \r\nhello",
            b"5;a b\r\nhello",
            b"5;a==b\r\nhello",
            b"5;a=b=c\r\nhello",
            b"5;a=b c\r\nhello",
            b"5;\"a\"\r\nhello",
            b"5;a\"b\"\r\nhello",
            b"5;a=b\"c\"\r\nhello",
            b"5;a=\"b\"c\r\nhello",
            b"5;a=\"b\" \r\nhello",
            b"5;a=\"\\\r\"\r\nhello",
        ] {
            assert!(decode(&[raw]).is_err(), "{}", raw.escape_ascii());
        }
        let long = [b"1;".to_vec(), vec![b'a'; 2000]].concat();
        assert!(decode(&[&long]).is_err());
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same(cuts in proptest::collection::vec(0usize..60, 0..6)) {
            let raw = b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\ntrailer: yes\r\n\r\nNEXT";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(raw.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts { pieces.push(&raw[from..cut]); from = cut; }
            pieces.push(&raw[from..]);
            prop_assert_eq!(decode(&pieces), Ok((b"hello world".to_vec(), true)));
        }
    }
}
