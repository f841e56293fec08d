//! What a stream has still to send, whichever end we are.
//!
//! Rules:
//! 1. Bytes are handed to the session only as far as it has window and room for them; the rest waits here, where
//!    its owner can count it.
//! 2. The end goes with the last byte: an END_STREAM flag, or trailers.
//! 3. Held back means held back: while `hold` is set nothing moves, so that an answer's end can wait for its record.

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use std::collections::VecDeque;
use std::task::{Context, Poll};

/// Unsent bytes of one stream above which its owner is told to stop, and below which it may go on.
pub const HIGH_WATER: usize = 64 << 10;
pub const LOW_WATER: usize = 16 << 10;

#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    queued: usize,
    end: bool,
    trailers: Option<HeaderMap>,
    pub hold: bool,
    /// The end was handed over.
    pub sent: bool,
    /// More than [`HIGH_WATER`] waited, and the owner was not yet told that it may go on.
    pub full: bool,
}

/// What became of a stream while it was pumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Everything there is, or all that may go now.
    Fine,
    /// The stream is no more.
    Gone,
}

impl Outbox {
    pub fn push(&mut self, data: &[u8]) {
        if !data.is_empty() {
            self.queue.push_back(Bytes::copy_from_slice(data));
            self.queued += data.len();
            self.full |= self.queued > HIGH_WATER;
        }
    }

    pub fn finish(&mut self, trailers: Option<HeaderMap>) {
        self.end = true;
        self.trailers = trailers;
    }

    pub fn clear(&mut self) {
        // Who was told to stop is told to go on.
        *self = Outbox { sent: self.sent, full: self.full, ..Outbox::default() };
    }

    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Only the end is left, and it needs no trailers: a head sent now may carry it.
    pub fn ends_at_once(&self) -> bool {
        self.end && self.queued == 0 && self.trailers.is_none() && !self.sent
    }

    /// Only trailers are left.
    pub fn take_trailers_only(&mut self) -> Option<HeaderMap> {
        (self.end && self.queued == 0).then(|| self.trailers.take()).flatten()
    }

    /// Hands over what the stream can take.
    pub fn pump(&mut self, stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Pumped {
        if self.hold || self.sent {
            return Pumped::Fine;
        }
        while let Some(front) = self.queue.front_mut() {
            let mut room = stream.capacity();
            if room == 0 {
                stream.reserve_capacity(self.queued);
                match stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(granted))) if granted > 0 => room = granted,
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(Some(Err(_)) | None) => return Pumped::Gone,
                    Poll::Pending => return Pumped::Fine,
                }
            }
            let piece = front.split_to(room.min(front.len()));
            if front.is_empty() {
                self.queue.pop_front();
            }
            self.queued -= piece.len();
            let last = self.queue.is_empty() && self.end && self.trailers.is_none();
            if stream.send_data(piece, last).is_err() {
                return Pumped::Gone;
            }
            self.sent |= last;
        }
        if self.end && !self.sent {
            self.sent = true;
            let done = match self.trailers.take() {
                Some(trailers) => stream.send_trailers(trailers),
                None => stream.send_data(Bytes::new(), true),
            };
            if done.is_err() {
                return Pumped::Gone;
            }
        }
        Pumped::Fine
    }

    /// True once, when enough went that the owner may go on.
    pub fn relieved(&mut self) -> bool {
        self.full && self.queued <= LOW_WATER && std::mem::replace(&mut self.full, false)
    }
}
