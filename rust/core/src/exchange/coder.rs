//! What an answer's body goes through between its source and the client.
//!
//! Bytes that a coder keeps for company are flushed when the callback ends, if the answer is one that comes bit by bit:
//! a client sees what its upstream has said, when it has said it.

use super::Engine;
use crate::coding::{Choice, Encoder};
use crate::error::Code;
use crate::grpc::web::{Web, Writer};
use crate::message::{BodyLength, Fields};

/// A transformation of a body, piece by piece.
pub enum Coder {
    Encode {
        encoder: Encoder,
        /// Hand out every piece at once.
        flush: bool,
        /// Something was written since the last flush.
        pending: bool,
    },
    /// gRPC to gRPC-Web.
    Web(Writer),
}

/// The body cannot be transformed any further.
pub struct Failed;

impl Coder {
    /// The coder for `choice`, which is applied to the answer's head; `None`: it goes as it is.
    pub fn encode(choice: Choice, length: BodyLength) -> Option<Coder> {
        let encoder = choice.encoder().ok()?;
        let flush = choice.flush || !matches!(length, BodyLength::Exact(_));
        Some(Coder::Encode { encoder, flush, pending: false })
    }

    /// The coder for answers to gRPC-Web calls.
    pub fn web(web: &Web) -> Coder {
        Coder::Web(web.writer())
    }

    fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        match self {
            Coder::Encode { encoder, pending, .. } => {
                *pending = true;
                encoder.write(input, out).map_err(|_| Failed)
            }
            Coder::Web(writer) => {
                writer.write(input, out);
                Ok(())
            }
        }
    }

    /// What is kept is handed out, if that is wanted.
    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Failed> {
        match self {
            Coder::Encode { encoder, flush: true, pending: pending @ true } => {
                *pending = false;
                encoder.flush(out).map_err(|_| Failed)
            }
            Coder::Encode { .. } => Ok(()),
            Coder::Web(writer) => {
                writer.flush(out);
                Ok(())
            }
        }
    }

    /// The body's end; what of the trailers has become part of it is taken out.
    fn finish(&mut self, trailers: &mut Fields, out: &mut Vec<u8>) -> Result<(), Failed> {
        match self {
            Coder::Encode { encoder, .. } => encoder.finish(out).map_err(|_| Failed),
            Coder::Web(writer) => {
                let whole = writer.finish(trailers, out);
                trailers.clear();
                whole.then_some(()).ok_or(Failed)
            }
        }
    }
}

impl Engine {
    /// A piece of the body through the answer's coder; false when the answer had to be cut.
    pub(super) fn coded_out(&mut self, ex: u32, input: &[u8]) -> bool {
        self.through_coder(ex, |coder, out| coder.write(input, out))
    }

    /// What a coder has kept goes out, when the callback ends.
    pub(super) fn flush_coder(&mut self, ex: u32) -> bool {
        self.through_coder(ex, Coder::flush)
    }

    /// The rest of the body, before its end mark.
    pub(super) fn finish_coder(&mut self, ex: u32) -> bool {
        let mut trailers = std::mem::take(&mut self.trailers);
        let whole = self.through_coder(ex, |coder, out| coder.finish(&mut trailers, out));
        self.trailers = trailers;
        if let Some(exchange) = self.exchanges.get_mut(ex as usize).filter(|_| whole) {
            exchange.answer_coder = None;
        }
        whole
    }

    fn through_coder(&mut self, ex: u32, step: impl FnOnce(&mut Coder, &mut Vec<u8>) -> Result<(), Failed>) -> bool {
        let Some(coder) = &mut self.exchanges[ex as usize].answer_coder else { return true };
        let mut out = std::mem::take(&mut self.coded);
        out.clear();
        let done = step(coder, &mut out);
        if !out.is_empty() && done.is_ok() {
            self.exchanges[ex as usize].response_bytes += out.len() as u64;
            self.client_data(ex, &out, 0..out.len(), false, false);
        }
        if out.capacity() <= 64 << 10 {
            self.coded = out;
        }
        if done.is_err() {
            self.cut(ex, Code::BadUpstream);
        }
        done.is_ok()
    }
}
