//! Amazon's event-stream framing (`application/vnd.amazon.eventstream`), read as the bytes come and written.
//!
//! A frame is a prelude (total length, length of the headers, CRC-32 of both), typed headers, the payload, and a
//! CRC-32 of all of it; numbers are big-endian.
//!
//! Rules:
//! 1. Both checksums are checked and the headers are taken apart before a frame is given out. A length is believed
//!    only after the prelude's checksum.
//! 2. A frame that lies in one piece of input is lent from it; only what spans pieces is copied.
//! 3. After a fault the stream is lost, as its frames can no longer be told apart.

use std::ops::Range;

/// Longest frame the format allows.
pub const MAX_FRAME: usize = 16 << 20;
/// Longest headers it allows.
const MAX_HEADERS: usize = 128 << 10;
const PRELUDE: usize = 12;
/// Prelude and the checksum behind the payload.
const OVERHEAD: usize = PRELUDE + 4;
/// A buffer kept from one frame to the next is at most this large.
const KEPT: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Lengths that contradict each other, or exceed the cap.
    Length,
    /// A checksum that is not that of the bytes.
    Checksum,
    /// Headers that cannot be taken apart, or two of one name.
    Headers,
}

/// Value of a header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Bool(bool),
    /// The format's byte, short, integer and long.
    Integer(i64),
    Bytes(&'a [u8]),
    Text(&'a str),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    Uuid([u8; 16]),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    headers: &'a [u8],
    pub payload: &'a [u8],
    /// Where the frame stands in the stream.
    pub raw: Range<u64>,
}

impl<'a> Frame<'a> {
    /// The headers in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let mut rest = self.headers;
        // They were read once before, so nothing is lost by ending at a fault.
        std::iter::from_fn(move || header(&mut rest).ok().flatten())
    }

    pub fn header(&self, name: &str) -> Option<Value<'a>> {
        self.headers().find_map(|(seen, value)| (seen == name).then_some(value))
    }

    /// Value of a header that is text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.header(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// What the frame says: the name of an event, or of an exception.
    pub fn event(&self) -> Option<Named<'a>> {
        match self.text(":message-type")? {
            "event" => self.text(":event-type").map(Named::Event),
            "exception" => self.text(":exception-type").map(Named::Exception),
            "error" => self.text(":error-code").map(Named::Exception),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    Event(&'a str),
    Exception(&'a str),
}

/// Reads a stream of frames; used like [`sse::Reader`](super::sse::Reader).
#[derive(Debug)]
pub struct Reader {
    max: usize,
    position: u64,
    /// A frame that has not ended.
    held: Vec<u8>,
    /// Length of the frame in `held`, once its prelude was checked.
    length: Option<usize>,
    /// The frame given out last is lent from `held`.
    spent: bool,
    failed: Option<Fault>,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader::new(MAX_FRAME)
    }
}

impl Reader {
    pub fn new(max: usize) -> Reader {
        Reader { max, position: 0, held: Vec::new(), length: None, spent: false, failed: None }
    }

    /// The next frame of `input`, which is moved on behind it; `None` when all of it is used up.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'a>>, Fault> {
        if self.spent {
            self.spent = false;
            self.length = None;
            self.held.clear();
            self.held.shrink_to(KEPT);
        }
        if let Some(fault) = self.failed {
            return Err(fault);
        }
        match self.frame(input) {
            Ok(None) => Ok(None),
            Ok(Some(length)) => {
                let begin = self.position;
                self.position += length as u64;
                let bytes: &'a [u8] = if self.spent {
                    &self.held
                } else {
                    let (frame, rest) = input.split_at(length);
                    *input = rest;
                    frame
                };
                match open(bytes) {
                    Ok((headers, payload)) => Ok(Some(Frame { headers, payload, raw: begin..self.position })),
                    Err(fault) => {
                        self.failed = Some(fault);
                        Err(fault)
                    }
                }
            }
            Err(fault) => {
                self.failed = Some(fault);
                Err(fault)
            }
        }
    }

    /// The stream may end here: no frame is half way through.
    pub fn between(&self) -> bool {
        self.failed.is_none() && (self.spent || self.held.is_empty())
    }

    /// Length of a frame that is there as a whole: in `held` (then `spent` is set), or at the front of `input`.
    fn frame(&mut self, input: &mut &[u8]) -> Result<Option<usize>, Fault> {
        if self.held.is_empty() {
            match prelude(input, self.max)? {
                Some(length) if input.len() >= length => return Ok(Some(length)),
                _ => {}
            }
        }
        loop {
            let wanted = self.length.unwrap_or(PRELUDE);
            let (taken, rest) = input.split_at(wanted.saturating_sub(self.held.len()).min(input.len()));
            self.held.extend_from_slice(taken);
            *input = rest;
            if self.held.len() < wanted {
                return Ok(None);
            }
            if self.length.is_some() {
                self.spent = true;
                return Ok(Some(wanted));
            }
            self.length = prelude(&self.held, self.max)?;
        }
    }
}

/// Length of the frame whose first bytes these are, if its prelude is there.
fn prelude(bytes: &[u8], max: usize) -> Result<Option<usize>, Fault> {
    let Some((prelude, _)) = bytes.split_first_chunk::<PRELUDE>() else { return Ok(None) };
    let [a, b, c, d, e, f, g, h, crc @ ..] = *prelude;
    if crc32fast::hash(&prelude[..8]) != u32::from_be_bytes(crc) {
        return Err(Fault::Checksum);
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let headers = u32::from_be_bytes([e, f, g, h]) as usize;
    if length > max || headers > MAX_HEADERS || length < OVERHEAD.saturating_add(headers) {
        return Err(Fault::Length);
    }
    Ok(Some(length))
}

/// Headers and payload of a whole frame whose prelude was checked.
fn open(frame: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let (checked, crc) = frame.split_last_chunk::<4>().ok_or(Fault::Length)?;
    if crc32fast::hash(checked) != u32::from_be_bytes(*crc) {
        return Err(Fault::Checksum);
    }
    let length = checked.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let body = checked.get(PRELUDE..).ok_or(Fault::Length)?;
    let (headers, payload) = body.split_at_checked(length.ok_or(Fault::Length)? as usize).ok_or(Fault::Length)?;
    let mut rest = headers;
    while let Some((name, _)) = header(&mut rest)? {
        let mut others = rest;
        while let Some((other, _)) = header(&mut others)? {
            if other == name {
                return Err(Fault::Headers);
            }
        }
    }
    Ok((headers, payload))
}

/// Takes the first header off; `None` at the end.
fn header<'a>(rest: &mut &'a [u8]) -> Result<Option<(&'a str, Value<'a>)>, Fault> {
    if rest.is_empty() {
        return Ok(None);
    }
    let [length] = array(rest)?;
    let name = std::str::from_utf8(take(rest, usize::from(length))?).map_err(|_| Fault::Headers)?;
    let [kind] = array(rest)?;
    let value = match kind {
        0 => Value::Bool(true),
        1 => Value::Bool(false),
        2 => Value::Integer(i8::from_be_bytes(array(rest)?).into()),
        3 => Value::Integer(i16::from_be_bytes(array(rest)?).into()),
        4 => Value::Integer(i32::from_be_bytes(array(rest)?).into()),
        5 => Value::Integer(i64::from_be_bytes(array(rest)?)),
        6 | 7 => {
            let length = u16::from_be_bytes(array(rest)?);
            let bytes = take(rest, usize::from(length))?;
            match kind {
                6 => Value::Bytes(bytes),
                _ => Value::Text(std::str::from_utf8(bytes).map_err(|_| Fault::Headers)?),
            }
        }
        8 => Value::Timestamp(i64::from_be_bytes(array(rest)?)),
        9 => Value::Uuid(array(rest)?),
        _ => return Err(Fault::Headers),
    };
    Ok(Some((name, value)))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Fault> {
    let (taken, after) = rest.split_at_checked(length).ok_or(Fault::Headers)?;
    *rest = after;
    Ok(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (taken, after) = rest.split_first_chunk().ok_or(Fault::Headers)?;
    *rest = after;
    Ok(*taken)
}

/// Appends a frame with text headers. What is too long for the format (names of 255 bytes, values of 32 KiB) is cut.
pub fn write(out: &mut Vec<u8>, headers: &[(&str, &str)], payload: &[u8]) {
    let begin = out.len();
    out.extend_from_slice(&[0; PRELUDE]);
    for (name, value) in headers {
        let name = cut(name, 255);
        let value = cut(value, i16::MAX as usize);
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        out.push(7);
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    let headers = (out.len() - begin - PRELUDE) as u32;
    out.extend_from_slice(payload);
    let length = (out.len() - begin + 4) as u32;
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    out[begin + 4..begin + 8].copy_from_slice(&headers.to_be_bytes());
    let crc = crc32fast::hash(&out[begin..begin + 8]);
    out[begin + 8..begin + 12].copy_from_slice(&crc.to_be_bytes());
    let crc = crc32fast::hash(&out[begin..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// The front of a text that has at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Appends an event of Bedrock's streams with a JSON payload.
pub fn write_event(out: &mut Vec<u8>, event: &str, payload: &[u8]) {
    let headers = [(":event-type", event), (":content-type", "application/json"), (":message-type", "event")];
    write(out, &headers, payload);
}

/// Appends an exception, which ends a stream.
pub fn write_exception(out: &mut Vec<u8>, exception: &str, payload: &[u8]) {
    let headers =
        [(":exception-type", exception), (":content-type", "application/json"), (":message-type", "exception")];
    write(out, &headers, payload);
}

#[cfg(test)]
#[path = "event_stream_tests.rs"]
mod tests;
