//! Compression of a stream, piece by piece.
//!
//! Rules:
//! 1. Output is appended to the caller's buffer; an encoder keeps no more than its window and one block.
//! 2. [`Encoder::flush`] makes all that was written readable for the peer; without it, bytes may stay inside
//!    until [`Encoder::finish`].
//! 3. Windows are small, because a gateway has many streams open. Measured at the default levels, an open
//!    stream holds about 310 KB (gzip), 380 KB (zstd), and 0.4 MB after a few hundred bytes to 1.5 MB after
//!    many (br); br at level 6 holds 4.3 MB, at 9 it would be 26.

use super::Coding;
use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct};
use brotli::enc::StandardAlloc;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use zstd::stream::raw::{CParameter, Encoder as Zstd, InBuffer, Operation, OutBuffer};

/// Base-2 logarithms of the windows.
const DEFLATE_WINDOW: u8 = 15;
const BR_WINDOW: u32 = 16;
/// From level 5 on, brotli takes another hash table in a window as small as that one, of 8 MB.
const BR_WINDOW_FROM_5: u32 = 17;
/// Beyond it memory grows out of all proportion.
const BR_MOST: u8 = 6;
const ZSTD_WINDOW: u32 = 16;
/// Room made for output at a time.
const STEP: usize = 4 << 10;

/// A coder failed in itself; the stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError;

impl std::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body could not be compressed")
    }
}

impl std::error::Error for EncodeError {}

/// One body being compressed.
pub struct Encoder {
    inner: Inner,
    /// Something was written since the last flush.
    dirty: bool,
    finished: bool,
}

enum Inner {
    Gzip { deflate: Compress, crc: Crc, begun: bool },
    Deflate(Compress),
    Br(Box<BrotliEncoderStateStruct<StandardAlloc>>),
    Zstd(Zstd<'static>),
}

impl Encoder {
    /// `level` in the coding's own scale (gzip 1–9, br 0–6, zstd 1–12); others count as the nearest of these.
    pub fn new(coding: Coding, level: u8) -> Result<Encoder, EncodeError> {
        let compression = Compression::new(u32::from(level.clamp(1, 9)));
        let inner = match coding {
            Coding::Gzip => Inner::Gzip {
                deflate: Compress::new_with_window_bits(compression, false, DEFLATE_WINDOW),
                crc: Crc::new(),
                begun: false,
            },
            Coding::Deflate => Inner::Deflate(Compress::new_with_window_bits(compression, true, DEFLATE_WINDOW)),
            Coding::Br => {
                let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
                let window = if level < 5 { BR_WINDOW } else { BR_WINDOW_FROM_5 };
                state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, u32::from(level.min(BR_MOST)));
                state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, window);
                Inner::Br(Box::new(state))
            }
            Coding::Zstd => {
                let mut zstd = Zstd::new(i32::from(level.clamp(1, 12))).map_err(|_| EncodeError)?;
                for parameter in [
                    CParameter::WindowLog(ZSTD_WINDOW),
                    CParameter::HashLog(ZSTD_WINDOW - 1),
                    CParameter::ChainLog(ZSTD_WINDOW - 1),
                    CParameter::ChecksumFlag(false),
                ] {
                    zstd.set_parameter(parameter).map_err(|_| EncodeError)?;
                }
                Inner::Zstd(zstd)
            }
        };
        Ok(Encoder { inner, dirty: false, finished: false })
    }

    /// Takes `input` and appends what the coder gives out so far, which may be nothing.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.finished {
            return Err(EncodeError);
        }
        if input.is_empty() {
            return Ok(());
        }
        self.dirty = true;
        match &mut self.inner {
            Inner::Gzip { deflate: coder, crc, begun } => {
                gzip_head(begun, out);
                crc.update(input);
                deflate(coder, input, out, FlushCompress::None)
            }
            Inner::Deflate(coder) => deflate(coder, input, out, FlushCompress::None),
            Inner::Br(state) => br(state, input, out, BrotliEncoderOperation::BROTLI_OPERATION_PROCESS),
            Inner::Zstd(coder) => {
                let mut input = InBuffer::around(input);
                while input.pos() < input.src.len() {
                    zstd_step(out, |out| coder.run(&mut input, out))?;
                }
                Ok(())
            }
        }
    }

    /// Appends everything a peer needs to read all that was written. Costs a few bytes each time, and nothing
    /// when nothing was written since the last one.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.finished || !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        match &mut self.inner {
            Inner::Gzip { deflate: coder, .. } | Inner::Deflate(coder) => deflate(coder, &[], out, FlushCompress::Sync),
            Inner::Br(state) => br(state, &[], out, BrotliEncoderOperation::BROTLI_OPERATION_FLUSH),
            Inner::Zstd(coder) => {
                while zstd_step(out, |out| coder.flush(out))? > 0 {}
                Ok(())
            }
        }
    }

    /// Appends the rest. Nothing may be written behind it; a second call appends nothing.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        match &mut self.inner {
            Inner::Gzip { deflate: coder, crc, begun } => {
                gzip_head(begun, out);
                deflate(coder, &[], out, FlushCompress::Finish)?;
                out.extend_from_slice(&crc.sum().to_le_bytes());
                out.extend_from_slice(&crc.amount().to_le_bytes());
                Ok(())
            }
            Inner::Deflate(coder) => deflate(coder, &[], out, FlushCompress::Finish),
            Inner::Br(state) => br(state, &[], out, BrotliEncoderOperation::BROTLI_OPERATION_FINISH),
            Inner::Zstd(coder) => {
                while zstd_step(out, |out| coder.finish(out, true))? > 0 {}
                Ok(())
            }
        }
    }
}

/// RFC 1952 §2.3: deflate, no flags, no time, an unknown system.
fn gzip_head(begun: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::replace(begun, true) {
        out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    }
}

fn deflate(coder: &mut Compress, mut input: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> Result<(), EncodeError> {
    loop {
        out.reserve(STEP);
        let before = coder.total_in();
        let status = coder.compress_vec(input, out, flush).map_err(|_| EncodeError)?;
        let taken = usize::try_from(coder.total_in() - before).unwrap_or(usize::MAX);
        input = input.get(taken..).unwrap_or_default();
        let room = out.len() < out.capacity();
        match flush {
            FlushCompress::Finish if status == Status::StreamEnd => return Ok(()),
            FlushCompress::Finish => {}
            // Room that was left means that there was nothing more to say.
            _ if input.is_empty() && room => return Ok(()),
            _ => {}
        }
    }
}

fn br(
    state: &mut BrotliEncoderStateStruct<StandardAlloc>,
    input: &[u8],
    out: &mut Vec<u8>,
    operation: BrotliEncoderOperation,
) -> Result<(), EncodeError> {
    let (mut left, mut at) = (input.len(), 0);
    loop {
        let good = state.compress_stream(
            operation,
            &mut left,
            input,
            &mut at,
            &mut 0,
            &mut [],
            &mut 0,
            &mut None,
            &mut |_, _, _, _| (),
        );
        if !good {
            return Err(EncodeError);
        }
        loop {
            let mut size = 0;
            let piece = state.take_output(&mut size);
            if size == 0 {
                break;
            }
            out.extend_from_slice(&piece[..size]);
        }
        let done = match operation {
            BrotliEncoderOperation::BROTLI_OPERATION_FINISH => state.is_finished(),
            _ => left == 0 && !state.has_more_output(),
        };
        if done {
            return Ok(());
        }
    }
}

fn zstd_step(
    out: &mut Vec<u8>,
    step: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> std::io::Result<usize>,
) -> Result<usize, EncodeError> {
    out.reserve(STEP);
    let at = out.len();
    step(&mut OutBuffer::around_pos(out, at)).map_err(|_| EncodeError)
}
