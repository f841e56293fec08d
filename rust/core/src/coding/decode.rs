//! Decompression of a stream, piece by piece, for those who must read what somebody else compressed.
//!
//! Rules:
//! 1. The caps hold while decoding: the output never grows past the limit, is never allocated past it, and a
//!    stream that swells beyond [`MAX_RATIO`] is given up early (decompression bombs, CWE-409).
//! 2. What is decoded is the whole text or an error. Cut, damaged, or with bytes behind the end: an error.
//!    Checksums are checked.
//! 3. Windows: 32 KiB for gzip and deflate, up to 8 MiB for zstd (RFC 9659), up to 16 MiB for br without its
//!    large-window extension. Of a window only what the text fills is ever touched.
//! 4. An empty body is an empty text in every coding; servers send that.

use super::gunzip::Gunzip;
use super::Coding;
use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as Zstd, InBuffer, Operation, OutBuffer};

/// Most codings applied one on another.
pub const MAX_STACKED: usize = 2;
/// Text per byte of the encoded body beyond the first [`FREE`] bytes of text.
pub const MAX_RATIO: u64 = 1000;
/// Text whose ratio does not matter: a few bytes may well stand for this much white space.
pub const FREE: u64 = 64 << 10;

/// Most output made room for at a time, and the buffer between two codings.
const STEP: usize = 16 << 10;
const ZSTD_WINDOW: u32 = 23;

/// Why a body could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A coding that is not known here.
    Unsupported,
    /// More than [`MAX_STACKED`] codings.
    TooMany,
    /// Not what the coding says: damaged, or its checksum is wrong.
    Malformed,
    /// Bytes behind the end.
    Trailing,
    /// The body ended before the coding did.
    Truncated,
    /// Longer than the limit.
    TooLong,
    /// Swells beyond [`MAX_RATIO`].
    Bomb,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DecodeError::Unsupported => "the body has a content coding that is not supported",
            DecodeError::TooMany => "the body has too many content codings",
            DecodeError::Malformed => "the body is damaged: it does not decode",
            DecodeError::Trailing => "the encoded body is followed by something else",
            DecodeError::Truncated => "the encoded body is cut",
            DecodeError::TooLong => "the decoded body is too long",
            DecodeError::Bomb => "the encoded body swells beyond all measure",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Codings of a body by its `content-encoding` lines, in the order they were applied; `identity` is none.
pub fn codings<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Coding>, DecodeError> {
    let mut found = Vec::new();
    for line in lines {
        for name in line.split(|&b| b == b',').map(|name| name.trim_ascii()) {
            if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            found.push(Coding::of(name).ok_or(DecodeError::Unsupported)?);
            if found.len() > MAX_STACKED {
                return Err(DecodeError::TooMany);
            }
        }
    }
    Ok(found)
}

/// One body being decoded.
pub struct Decoder {
    /// The outermost coding first.
    stages: Vec<Stage>,
    /// What passes between two stages.
    between: Vec<u8>,
    failed: Option<DecodeError>,
}

struct Stage {
    coder: Coder,
    taken: u64,
    written: u64,
}

enum Coder {
    Gzip(Gunzip),
    Deflate(Inflate),
    Br(Box<Brotli>),
    Zstd { coder: Zstd<'static>, at_end: bool },
}

impl Decoder {
    /// `codings` in the order they were applied, as [`codings`] returns them; none passes the body as it is.
    pub fn new(codings: &[Coding]) -> Result<Decoder, DecodeError> {
        if codings.len() > MAX_STACKED {
            return Err(DecodeError::TooMany);
        }
        let stage = |&coding: &Coding| {
            let coder = match coding {
                Coding::Gzip => Coder::Gzip(Gunzip::new()),
                Coding::Deflate => Coder::Deflate(Inflate::default()),
                Coding::Br => Coder::Br(Box::new(Brotli::new())),
                Coding::Zstd => {
                    let mut coder = Zstd::new().map_err(|_| DecodeError::Unsupported)?;
                    let limited = coder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW));
                    limited.map_err(|_| DecodeError::Unsupported)?;
                    Coder::Zstd { coder, at_end: true }
                }
            };
            Ok(Stage { coder, taken: 0, written: 0 })
        };
        let stages: Vec<Stage> = codings.iter().rev().map(stage).collect::<Result<_, _>>()?;
        let between = if stages.len() > 1 { vec![0; STEP] } else { Vec::new() };
        Ok(Decoder { stages, between, failed: None })
    }

    /// Takes the next bytes of the body and appends their text to `out`. No stage may put out more than
    /// `limit` bytes in all; at most that much is appended, whatever is returned. After an error nothing more
    /// is decoded, and the error is returned again.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>, limit: u64) -> Result<(), DecodeError> {
        let result = match self.failed {
            Some(error) => Err(error),
            None => self.decode(input, out, limit),
        };
        self.failed = result.err();
        result
    }

    /// The body is complete: an error if its coding is not.
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        let whole = |stage: &Stage| stage.taken == 0 || stage.coder.at_end();
        match self.failed {
            Some(error) => Err(error),
            None if self.stages.iter().all(whole) => Ok(()),
            None => Err(DecodeError::Truncated),
        }
    }

    fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, limit: u64) -> Result<(), DecodeError> {
        match self.stages.as_mut_slice() {
            [] => {
                if (out.len() + input.len()) as u64 > limit {
                    return Err(DecodeError::TooLong);
                }
                out.extend_from_slice(input);
                Ok(())
            }
            [only] => only.pour(input, out, limit),
            [outer, inner, ..] => {
                let mut rest = input;
                outer.taken += input.len() as u64;
                loop {
                    let (taken, written) = outer.step(rest, &mut self.between, limit)?;
                    rest = &rest[taken..];
                    inner.pour(&self.between[..written], out, limit)?;
                    if rest.is_empty() && written < self.between.len() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl Stage {
    /// Decodes all of `input` into `out`.
    fn pour(&mut self, input: &[u8], out: &mut Vec<u8>, limit: u64) -> Result<(), DecodeError> {
        let mut rest = input;
        self.taken += input.len() as u64;
        loop {
            // One byte more than may be, to see that there is one.
            let room = usize::try_from((limit - self.written.min(limit)).saturating_add(1)).unwrap_or(STEP);
            let want = rest.len().saturating_mul(4).clamp(1 << 10, STEP).min(room);
            let length = out.len();
            make_room(out, want, room);
            out.resize(length + want, 0);
            let stepped = self.step(rest, &mut out[length..], limit);
            let allowed = if want == room { want - 1 } else { want };
            match stepped {
                Ok((taken, written)) => {
                    out.truncate(length + written);
                    rest = &rest[taken..];
                    if rest.is_empty() && written < want {
                        return Ok(());
                    }
                }
                Err(error) => {
                    let kept = if error == DecodeError::TooLong { allowed } else { 0 };
                    out.truncate(length + kept);
                    return Err(error);
                }
            }
        }
    }

    /// One turn of the coder, and the caps.
    fn step(&mut self, input: &[u8], out: &mut [u8], limit: u64) -> Result<(usize, usize), DecodeError> {
        let (taken, written) = self.coder.step(input, out)?;
        self.written += written as u64;
        if self.written > limit {
            return Err(DecodeError::TooLong);
        }
        if self.written > FREE && self.written > self.taken.saturating_mul(MAX_RATIO) {
            return Err(DecodeError::Bomb);
        }
        // A coder that neither takes nor gives, with room and input, would be asked for ever.
        if taken == 0 && written == 0 && !input.is_empty() && !out.is_empty() {
            return Err(DecodeError::Malformed);
        }
        Ok((taken, written))
    }
}

/// Room for `want` more bytes, doubling as vectors do but never past `room`.
fn make_room(out: &mut Vec<u8>, want: usize, room: usize) {
    if out.capacity() - out.len() < want {
        out.reserve_exact(out.len().clamp(want, room));
    }
}

impl Coder {
    fn at_end(&self) -> bool {
        match self {
            Coder::Gzip(gunzip) => gunzip.at_end(),
            Coder::Deflate(inflate) => inflate.ended,
            Coder::Br(brotli) => brotli.ended,
            Coder::Zstd { at_end, .. } => *at_end,
        }
    }

    /// Takes bytes and writes text; returns how many of each. With input left or `out` full there may be more.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), DecodeError> {
        match self {
            Coder::Gzip(gunzip) => gunzip.step(input, out),
            Coder::Deflate(inflate) => inflate.step(input, out),
            Coder::Br(brotli) => brotli.step(input, out),
            Coder::Zstd { coder, at_end } => {
                let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(out));
                if *at_end && input.is_empty() {
                    return Ok((0, 0));
                }
                let hint = coder.run(&mut from, &mut to).map_err(|_| DecodeError::Malformed)?;
                *at_end = hint == 0;
                Ok((from.pos(), to.pos()))
            }
        }
    }
}

/// One turn of deflate: bytes taken, bytes written, whether the stream has ended.
pub(super) fn inflate(
    coder: &mut Decompress,
    input: &[u8],
    out: &mut [u8],
) -> Result<(usize, usize, bool), DecodeError> {
    let (taken, written) = (coder.total_in(), coder.total_out());
    let status = coder.decompress(input, out, FlushDecompress::None).map_err(|_| DecodeError::Malformed)?;
    let moved = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
    Ok((moved(coder.total_in(), taken), moved(coder.total_out(), written), status == Status::StreamEnd))
}

/// `deflate` as it is sent: with the zlib wrapper (RFC 1950) as it should be, or bare (RFC 1951).
#[derive(Default)]
struct Inflate {
    /// Absent until the first two bytes tell which.
    coder: Option<Decompress>,
    first: Option<u8>,
    /// Bytes of the beginning that the coder has not taken yet.
    head: ([u8; 2], usize),
    ended: bool,
}

impl Inflate {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), DecodeError> {
        let mut skipped = 0;
        let mut rest = input;
        if self.coder.is_none() {
            while let (None, [byte, more @ ..]) = (&self.coder, rest) {
                (rest, skipped) = (more, skipped + 1);
                match self.first {
                    None => self.first = Some(*byte),
                    Some(first) => {
                        let wrapped = first & 0x0f == 8
                            && first >> 4 <= 7
                            && (u16::from(first) << 8 | u16::from(*byte)).is_multiple_of(31);
                        self.coder = Some(Decompress::new(wrapped));
                        self.head = ([first, *byte], 2);
                    }
                }
            }
        }
        let Some(coder) = &mut self.coder else { return Ok((skipped, 0)) };
        let mut written = 0;
        while self.head.1 > 0 && !self.ended {
            let start = self.head.0.len() - self.head.1;
            let (taken, wrote, end) = inflate(coder, &self.head.0[start..], &mut out[written..])?;
            self.head.1 -= taken;
            written += wrote;
            self.ended = end;
            if taken == 0 && wrote == 0 {
                break;
            }
        }
        if self.ended {
            let behind = self.head.1 > 0 || !rest.is_empty();
            return if behind { Err(DecodeError::Trailing) } else { Ok((skipped, written)) };
        }
        if self.head.1 > 0 {
            return Ok((skipped, written));
        }
        let (taken, wrote, end) = inflate(coder, rest, &mut out[written..])?;
        self.ended = end;
        if end && taken < rest.len() {
            return Err(DecodeError::Trailing);
        }
        Ok((skipped + taken, written + wrote))
    }
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    ended: bool,
}

impl Brotli {
    fn new() -> Brotli {
        let (bytes, words, codes) = Default::default();
        Brotli { state: BrotliState::new_strict(bytes, words, codes), ended: false }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), DecodeError> {
        if self.ended {
            return if input.is_empty() { Ok((0, 0)) } else { Err(DecodeError::Trailing) };
        }
        let (mut left, mut taken) = (input.len(), 0);
        let (mut room, mut written) = (out.len(), 0);
        let result =
            BrotliDecompressStream(&mut left, &mut taken, input, &mut room, &mut written, out, &mut 0, &mut self.state);
        match result {
            BrotliResult::ResultFailure => return Err(DecodeError::Malformed),
            BrotliResult::ResultSuccess => {
                self.ended = true;
                if left > 0 {
                    return Err(DecodeError::Trailing);
                }
            }
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok((taken, written))
    }
}
