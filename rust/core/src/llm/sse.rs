//! Server-sent events (WHATWG HTML, 9.2), read as the bytes come and written.
//!
//! Rules:
//! 1. An event is given out with the byte that ends its blank line; CR, LF and CRLF end lines in any mixture. After
//!    a CR nothing is waited for: the LF of a CRLF that ends an event is outside every event's range.
//! 2. An event that lies in one piece of input is lent from it; only what spans pieces is copied.
//! 3. What no event begins or ends with (comments, blank lines, blocks without `data`) is passed over. `id` and
//!    `retry` have no meaning here.
//! 4. Data is bytes. Whether they are UTF-8 or JSON is for who reads them.

use memchr::{memchr2, memchr2_iter};
use std::ops::Range;

/// Bytes an event may have, raw, unless told otherwise: providers send whole images in one.
pub const MAX_EVENT: usize = 16 << 20;
/// A buffer kept from one event to the next is at most this large.
const KEPT: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Value of the last `event` field; one that is not UTF-8 is U+FFFD, which no dialect knows.
    pub name: Option<&'a str>,
    /// The `data` lines, joined by LF.
    pub data: &'a [u8],
    /// Where the event stands in the stream: from its first line's first byte to its last terminator (rule 1).
    pub raw: Range<u64>,
}

/// An event is longer than the cap. The reader gives out nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Reads a stream of events:
///
/// ```text
/// let mut rest = bytes;
/// while let Some(event) = reader.next(&mut rest)? { … }
/// ```
#[derive(Debug)]
pub struct Reader {
    max: usize,
    /// Bytes taken in so far.
    position: u64,
    /// Position of the current block's first line.
    begin: Option<u64>,
    /// A line that has not ended.
    line: Vec<u8>,
    /// What was copied of the current event.
    name: Vec<u8>,
    data: Vec<u8>,
    named: bool,
    /// `data` fields seen in the current event.
    fields: usize,
    after_cr: bool,
    /// Something was read that is a line of its own: a byte order mark can no longer come.
    begun: bool,
    /// The event given out last is cleared with the next call, as it may be lent from here.
    spent: bool,
    failed: bool,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader::new(MAX_EVENT)
    }
}

impl Reader {
    /// `max` caps an event's raw bytes, and with it a line's.
    pub fn new(max: usize) -> Reader {
        Reader {
            max,
            position: 0,
            begin: None,
            line: Vec::new(),
            name: Vec::new(),
            data: Vec::new(),
            named: false,
            fields: 0,
            after_cr: false,
            begun: false,
            spent: false,
            failed: false,
        }
    }

    /// The next event of `input`, which is moved on behind it; `None` when all of it is used up.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Event<'a>>, TooLong> {
        self.clear_spent();
        if self.failed {
            return Err(TooLong);
        }
        let bytes: &'i [u8] = input;
        let mut at = 0;
        // The only `data` field and the last `event` field, as long as they need not be copied.
        let mut data: Option<&'i [u8]> = None;
        let mut name: Option<&'i [u8]> = None;
        let complete = loop {
            if self.after_cr && at < bytes.len() {
                self.after_cr = false;
                at += usize::from(bytes[at] == b'\n');
            }
            let rest = &bytes[at..];
            let from = self.position + at as u64 - self.line.len() as u64;
            let Some(length) = memchr2(b'\n', b'\r', rest) else {
                if !rest.is_empty() && self.begin.is_none() {
                    self.begin = Some(from);
                }
                self.line.extend_from_slice(rest);
                at = bytes.len();
                break false;
            };
            let ended = &rest[..length];
            self.after_cr = rest[length] == b'\r';
            at += length + 1;
            let carried = !self.line.is_empty();
            if carried {
                self.line.extend_from_slice(ended);
            }
            let mut line: &[u8] = if carried { &self.line } else { ended };
            if !self.begun {
                self.begun = true;
                line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            }
            if line.is_empty() {
                if self.fields > 0 {
                    self.line.clear();
                    break true;
                }
                let begun = self.begin.take().unwrap_or(from);
                if self.position + at as u64 - begun > self.max as u64 {
                    self.failed = true;
                    return Err(TooLong);
                }
                (self.named, name) = (false, None);
                self.line.clear();
                continue;
            }
            if self.begin.is_none() {
                self.begin = Some(from);
            }
            match field(line) {
                (b"data", value) => {
                    self.fields += 1;
                    if self.fields == 1 && !carried {
                        // Of the input, as nothing was carried.
                        data = Some(&ended[ended.len() - value.len()..]);
                    } else {
                        if let Some(lent) = data.take() {
                            self.data.extend_from_slice(lent);
                        }
                        if self.fields > 1 {
                            self.data.push(b'\n');
                        }
                        self.data.extend_from_slice(value);
                    }
                }
                (b"event", value) => {
                    self.named = true;
                    if carried {
                        name = None;
                        self.name.clear();
                        self.name.extend_from_slice(value);
                    } else {
                        name = Some(&ended[ended.len() - value.len()..]);
                    }
                }
                _ => {}
            }
            self.line.clear();
        };
        let end = self.position + at as u64;
        let begin = self.begin.unwrap_or(end);
        *input = &bytes[at..];
        self.position = end;
        if end - begin > self.max as u64 {
            self.failed = true;
            return Err(TooLong);
        }
        if !complete {
            if let Some(lent) = data {
                self.data.extend_from_slice(lent);
            }
            if let Some(lent) = name {
                self.name.clear();
                self.name.extend_from_slice(lent);
            }
            return Ok(None);
        }
        self.spent = true;
        let name = self.named.then(|| text(name.unwrap_or(&self.name)));
        Ok(Some(Event { name, data: data.unwrap_or(&self.data), raw: begin..end }))
    }

    /// The stream has ended: what stands there without a blank line behind it. The standard drops it; providers that
    /// forget the last blank line exist.
    pub fn end(&mut self) -> Option<Event<'_>> {
        self.clear_spent();
        if self.failed {
            return None;
        }
        let mut ends: &[u8] = b"\n\n";
        let begin = self.begin?;
        let end = self.position;
        // Lend nothing from `ends`: with a line carried or ended before, everything is in the buffers.
        match self.next(&mut ends) {
            Ok(Some(event)) => Some(Event { raw: begin..end, ..event }),
            _ => None,
        }
    }

    fn clear_spent(&mut self) {
        if self.spent {
            self.spent = false;
            self.begin = None;
            self.named = false;
            self.fields = 0;
            for buffer in [&mut self.name, &mut self.data, &mut self.line] {
                buffer.clear();
                buffer.shrink_to(KEPT);
            }
        }
    }
}

/// Name and value of a line. A comment's name is empty.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    // Names worth knowing are short: what has no colon early on is none of them, but for a bare `data`.
    match line.iter().take(8).position(|&byte| byte == b':') {
        Some(colon) => {
            let value = &line[colon + 1..];
            (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
        }
        None => (line, &[]),
    }
}

fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or("\u{fffd}")
}

/// Appends an event. Line ends in `data` become several `data` lines, those in `name` are left out.
pub fn write(out: &mut Vec<u8>, name: Option<&str>, data: &[u8]) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend(name.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        out.push(b'\n');
    }
    let mut from = 0;
    for at in memchr2_iter(b'\n', b'\r', data) {
        if at >= from {
            write_line(out, b"data: ", &data[from..at]);
            from = at + if data[at..].starts_with(b"\r\n") { 2 } else { 1 };
        }
    }
    write_line(out, b"data: ", &data[from..]);
    out.push(b'\n');
}

/// Appends a comment as a block of its own, which every client ignores: a heartbeat.
pub fn write_comment(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b": ");
    out.extend(text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')));
    out.extend_from_slice(b"\n\n");
}

fn write_line(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    out.extend_from_slice(field);
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
