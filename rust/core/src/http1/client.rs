//! The upstream side: the answers to requests sent one at a time on a connection.

use super::body::{Body, Part};
use super::head::{find_end, parse_response, HeadLimits};
use super::Violation;
use crate::message::{Fields, ResponseHead};
use std::ops::Range;

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// No request is out: whatever arrives is a violation.
    #[default]
    Idle,
    Head,
    Body,
    /// After 101: bytes belong to another protocol.
    Tunnel,
}

/// Reads responses from one connection.
#[derive(Debug, Default)]
pub struct Client {
    state: State,
    body: Body,
    scanned: usize,
    to_head: bool,
    keep_alive: bool,
    /// A head was read since the request was written.
    begun: bool,
    pub trailers: Fields,
}

#[derive(Debug, PartialEq, Eq)]
pub enum ResponseEvent {
    NeedMore,
    /// An interim head (1xx other than 101); the final one is still to come.
    Interim,
    /// The final head is filled.
    Head,
    Data(Range<usize>),
    End,
}

impl Client {
    /// A request was written; `to_head` when its method is HEAD.
    pub fn expect_response(&mut self, to_head: bool) {
        self.state = State::Head;
        self.to_head = to_head;
        self.scanned = 0;
        self.keep_alive = false;
        self.begun = false;
    }

    /// No HTTP is spoken: whatever comes is passed on.
    pub fn tunnel(&mut self) {
        self.state = State::Tunnel;
    }

    /// A head, interim or final, was read since the request was written.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Whatever the answer said: no other request is sent on this connection.
    pub fn refuse_reuse(&mut self) {
        self.keep_alive = false;
    }

    /// Finds the next event in `input`; returns how many bytes it consumed.
    pub fn read(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
        head: &mut ResponseHead,
    ) -> Result<(usize, ResponseEvent), Violation> {
        match self.state {
            State::Idle if input.is_empty() => Ok((0, ResponseEvent::NeedMore)),
            State::Idle => Err(Violation::bad("bytes without a request")),
            State::Tunnel if input.is_empty() => Ok((0, ResponseEvent::NeedMore)),
            State::Tunnel => Ok((input.len(), ResponseEvent::Data(0..input.len()))),
            State::Head => {
                let Some(end) = find_end(input, &mut self.scanned, limits.bytes)? else {
                    return Ok((0, ResponseEvent::NeedMore));
                };
                self.scanned = 0;
                let info = parse_response(&input[..end], self.to_head, head)?;
                self.begun = true;
                if head.status == 101 {
                    self.state = State::Tunnel;
                    return Ok((end, ResponseEvent::Head));
                }
                if head.status < 200 {
                    return Ok((end, ResponseEvent::Interim));
                }
                // A body sent all the same, late, would be taken for the next answer (RFC 9112 §6.3).
                self.keep_alive = info.keep_alive && !self.to_head;
                self.body = Body::new(head.length);
                self.trailers.clear();
                self.state = State::Body;
                Ok((end, ResponseEvent::Head))
            }
            State::Body => {
                let (used, part) = self.body.read(input, &mut self.trailers)?;
                let event = match part {
                    Part::NeedMore => ResponseEvent::NeedMore,
                    Part::Data(range) => ResponseEvent::Data(range),
                    Part::End => {
                        self.state = State::Idle;
                        ResponseEvent::End
                    }
                };
                Ok((used, event))
            }
        }
    }

    /// The peer closed its sending side. True when that properly ends the answer.
    pub fn closed(&mut self) -> bool {
        match self.state {
            State::Body if self.body.closed() => {
                self.state = State::Idle;
                true
            }
            State::Idle => true,
            _ => false,
        }
    }

    /// After `End`: another request may be sent on this connection.
    pub fn reusable(&self) -> bool {
        self.state == State::Idle && self.keep_alive
    }
}
