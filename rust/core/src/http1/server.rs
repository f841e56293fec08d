//! The downstream side: a connection's requests, one after the other.

use super::body::{Body, Part};
use super::head::{find_end, parse_request, HeadLimits};
use super::Violation;
use crate::config::Underscores;
use crate::message::{Fields, RequestHead};
use std::ops::Range;

/// Reads requests from one connection.
///
/// The caller keeps unconsumed bytes and passes them again, longer, when more have come.
#[derive(Debug, Default)]
pub struct Server {
    body: Body,
    in_body: bool,
    /// How far an incomplete head was searched for its end.
    scanned: usize,
    keep_alive: bool,
    /// Trailers of the current request, complete when its `End` was returned.
    pub trailers: Fields,
}

#[derive(Debug, PartialEq, Eq)]
pub enum RequestEvent {
    /// Nothing more to find in this input.
    NeedMore,
    /// The caller's head is filled.
    Head,
    /// A piece of the body, as a range of the input.
    Data(Range<usize>),
    /// The request is complete.
    End,
}

impl Server {
    /// Finds the next event in `input`; returns how many bytes it consumed.
    ///
    /// After an error the connection can only be answered and closed.
    pub fn read(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
        head: &mut RequestHead,
    ) -> Result<(usize, RequestEvent), Violation> {
        if self.in_body {
            let (used, part) = self.body.read(input, &mut self.trailers)?;
            let event = match part {
                Part::NeedMore => RequestEvent::NeedMore,
                Part::Data(range) => RequestEvent::Data(range),
                Part::End => {
                    self.in_body = false;
                    self.admit_trailers(limits)?;
                    RequestEvent::End
                }
            };
            return Ok((used, event));
        }
        // One empty line before a request is tolerated (RFC 9112 §2.2); it is kept until the request follows.
        let skip = match input {
            [b'\r'] => return Ok((0, RequestEvent::NeedMore)),
            [b'\r', b'\n', b'\r' | b'\n', ..] => return Err(Violation::bad("empty lines instead of a request")),
            [b'\r', b'\n', ..] => 2,
            _ => 0,
        };
        Ok(match self.read_head(&input[skip..], limits, head)? {
            Some(n) => (n + skip, RequestEvent::Head),
            None => (0, RequestEvent::NeedMore),
        })
    }

    fn read_head(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
        head: &mut RequestHead,
    ) -> Result<Option<usize>, Violation> {
        let Some(end) = find_end(input, &mut self.scanned, limits.bytes)? else {
            return Ok(None);
        };
        self.scanned = 0;
        self.keep_alive = parse_request(&input[..end], limits, head)?.keep_alive;
        self.body = Body::new(head.length);
        self.trailers.clear();
        self.in_body = true;
        Ok(Some(end))
    }

    /// The entrypoint's say on names with `_` holds for fields that come late, too.
    fn admit_trailers(&mut self, limits: &HeadLimits) -> Result<(), Violation> {
        if limits.underscores == Underscores::Keep || self.trailers.is_empty() {
            return Ok(());
        }
        for (_, name, _) in self.trailers.iter() {
            limits.admits(name)?;
        }
        self.trailers.retain(|_, name, _| limits.admits(name) == Ok(true));
        Ok(())
    }

    /// The current (or last) request allows another after it.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Inside a request: its head was read, its end was not.
    pub fn in_request(&self) -> bool {
        self.in_body
    }
}
