//! JSON (RFC 8259) taken apart into channels as it arrives: names, strings, numbers.
//!
//! Rules:
//! 1. Strict outside strings: what two parsers could read differently is refused. Inside strings control
//!    characters and invalid UTF-8 are passed on as they are, so that nothing in them hides from a rule.
//! 2. No recursion: containers are a stack of bytes, capped at [`MAX_DEPTH`](super::MAX_DEPTH).
//! 3. The value of a member is scanned behind its name, as `name: value`, so that rules may ask for context.

use super::channel::{Batch, Kind};
use super::{Unjudgeable, MAX_DEPTH};
use memchr::memchr2;

/// Longest number token; real ones have a few dozen digits.
const MAX_NUMBER: usize = 1024;
/// Shorter numbers are not worth a look.
const MIN_NUMBER: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a value; `first` directly after `[`.
    Value {
        first: bool,
    },
    /// Before a name; `first` directly after `{`.
    Name {
        first: bool,
    },
    Colon,
    /// After a value: a comma, a closing bracket, or the end.
    After,
    String {
        name: bool,
    },
    Escape {
        name: bool,
        raw: u32,
    },
    Unicode {
        name: bool,
        raw: u32,
        digits: u8,
        value: u16,
    },
    Number,
    /// Remaining bytes of `true`, `false` or `null`.
    Literal(&'static [u8]),
}

#[derive(Debug)]
pub(super) struct Json {
    state: State,
    /// `{` or `[` of each open container.
    stack: Vec<u8>,
    /// The open channel holds a name and waits for its value.
    named: bool,
    /// A high surrogate waiting for its partner, and where it stands.
    high: Option<(u16, u32)>,
    number: Vec<u8>,
    /// More than one top-level value may follow.
    lines: bool,
    seen_value: bool,
    /// Bytes of a byte order mark seen.
    bom: u8,
}

impl Json {
    pub fn new(lines: bool) -> Json {
        Json {
            state: State::Value { first: false },
            stack: Vec::new(),
            named: false,
            high: None,
            number: Vec::new(),
            lines,
            seen_value: false,
            bom: 0,
        }
    }

    /// Takes bytes that stand at raw position `base` until they are used up or the batch is full; returns
    /// how many were taken.
    pub fn feed(&mut self, bytes: &[u8], base: u32, batch: &mut Batch) -> Result<usize, Unjudgeable> {
        let mut at = 0;
        while at < bytes.len() && batch.room() > 0 {
            let raw = base + at as u32;
            let byte = bytes[at];
            match self.state {
                State::String { name } => {
                    at += self.string(&bytes[at..], raw, name, batch);
                    continue;
                }
                State::Escape { name, raw: begin } => self.escape(byte, name, begin, raw, batch)?,
                State::Unicode { name, raw: begin, digits, value } => {
                    let digit = (byte as char).to_digit(16).ok_or(Unjudgeable::Malformed { at: raw })? as u16;
                    let value = value << 4 | digit;
                    if digits == 3 {
                        self.code_unit(value, begin, batch);
                        self.state = State::String { name };
                    } else {
                        self.state = State::Unicode { name, raw: begin, digits: digits + 1, value };
                    }
                }
                State::Number => {
                    if matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') {
                        if self.number.len() == MAX_NUMBER {
                            return Err(Unjudgeable::Malformed { at: raw });
                        }
                        self.number.push(byte);
                    } else {
                        self.end_number(raw, batch)?;
                        continue;
                    }
                }
                State::Literal(rest) => match rest.split_first() {
                    Some((&expected, rest)) if expected == byte => {
                        self.state = if rest.is_empty() { State::After } else { State::Literal(rest) };
                    }
                    _ => return Err(Unjudgeable::Malformed { at: raw }),
                },
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {}
                // RFC 7464 record separators.
                _ if byte == 0x1e && self.lines && self.stack.is_empty() => {}
                State::Value { first } => self.value(byte, first, raw, batch)?,
                State::Name { first } => match byte {
                    b'"' => {
                        batch.open(Kind::JsonString, raw + 1);
                        self.state = State::String { name: true };
                    }
                    b'}' if first => self.end_container(b'{', raw)?,
                    _ => return Err(Unjudgeable::Malformed { at: raw }),
                },
                State::Colon => {
                    if byte != b':' {
                        return Err(Unjudgeable::Malformed { at: raw });
                    }
                    self.state = State::Value { first: false };
                }
                State::After => self.after(byte, raw, batch)?,
            }
            at += 1;
        }
        Ok(at)
    }

    /// The body ended at raw position `end`.
    pub fn finish(&mut self, end: u32, batch: &mut Batch) -> Result<(), Unjudgeable> {
        if self.state == State::Number {
            self.end_number(end, batch)?;
        }
        let complete = self.stack.is_empty()
            && match self.state {
                State::After => true,
                State::Value { .. } => !self.seen_value,
                _ => false,
            };
        if complete {
            Ok(())
        } else {
            Err(Unjudgeable::Malformed { at: end })
        }
    }

    fn value(&mut self, byte: u8, first: bool, raw: u32, batch: &mut Batch) -> Result<(), Unjudgeable> {
        if !self.seen_value {
            // A UTF-8 byte order mark may stand before everything else.
            let mark = [0xef, 0xbb, 0xbf];
            if mark.get(self.bom as usize) == Some(&byte) && usize::from(self.bom) == raw as usize {
                self.bom += 1;
                return Ok(());
            }
            if self.bom != 0 && self.bom != 3 {
                return Err(Unjudgeable::Malformed { at: raw });
            }
        }
        self.seen_value = true;
        match byte {
            b'"' => {
                if std::mem::take(&mut self.named) {
                    batch.begin_value(raw + 1, Kind::JsonString);
                } else {
                    batch.open(Kind::JsonString, raw + 1);
                }
                self.state = State::String { name: false };
                return Ok(());
            }
            b'-' | b'0'..=b'9' => {
                self.number.clear();
                self.number.push(byte);
                self.state = State::Number;
                return Ok(());
            }
            b'{' | b'[' => {
                if self.stack.len() == MAX_DEPTH {
                    return Err(Unjudgeable::TooDeep);
                }
                self.stack.push(byte);
                self.state = if byte == b'{' { State::Name { first: true } } else { State::Value { first: true } };
            }
            b't' => self.state = State::Literal(b"rue"),
            b'f' => self.state = State::Literal(b"alse"),
            b'n' => self.state = State::Literal(b"ull"),
            b']' if first => self.end_container(b'[', raw)?,
            _ => return Err(Unjudgeable::Malformed { at: raw }),
        }
        self.close_name(batch);
        Ok(())
    }

    fn after(&mut self, byte: u8, raw: u32, batch: &mut Batch) -> Result<(), Unjudgeable> {
        match (byte, self.stack.last()) {
            (b',', Some(b'{')) => self.state = State::Name { first: false },
            (b',', Some(_)) => self.state = State::Value { first: false },
            (b'}', _) => self.end_container(b'{', raw)?,
            (b']', _) => self.end_container(b'[', raw)?,
            (_, None) if self.lines => self.value(byte, false, raw, batch)?,
            _ => return Err(Unjudgeable::Malformed { at: raw }),
        }
        Ok(())
    }

    fn end_container(&mut self, opened_by: u8, raw: u32) -> Result<(), Unjudgeable> {
        if self.stack.pop() != Some(opened_by) {
            return Err(Unjudgeable::Malformed { at: raw });
        }
        self.state = State::After;
        Ok(())
    }

    /// A name whose value is not text is a channel of its own.
    fn close_name(&mut self, batch: &mut Batch) {
        if std::mem::take(&mut self.named) {
            batch.close();
        }
    }

    fn end_number(&mut self, raw: u32, batch: &mut Batch) -> Result<(), Unjudgeable> {
        if !is_number(&self.number) {
            return Err(Unjudgeable::Malformed { at: raw });
        }
        let begin = raw - self.number.len() as u32;
        if self.number.len() < MIN_NUMBER {
            self.close_name(batch);
        } else {
            if std::mem::take(&mut self.named) {
                batch.begin_value(begin, Kind::JsonNumber);
            } else {
                batch.open(Kind::JsonNumber, begin);
            }
            batch.push_number(&self.number, begin);
            batch.close();
        }
        self.state = State::After;
        Ok(())
    }

    /// Takes string contents up to and including the next quote or backslash, as far as there is room.
    fn string(&mut self, bytes: &[u8], raw: u32, name: bool, batch: &mut Batch) -> usize {
        if self.high.is_some() && bytes.first() != Some(&b'\\') {
            self.lone_surrogate(batch);
        }
        let window = &bytes[..bytes.len().min(batch.room())];
        let Some(stop) = memchr2(b'"', b'\\', window) else {
            batch.push(window);
            return window.len();
        };
        batch.push(&window[..stop]);
        if window[stop] == b'\\' {
            self.state = State::Escape { name, raw: raw + stop as u32 };
        } else if name {
            self.named = true;
            self.state = State::Colon;
        } else {
            batch.close();
            self.state = State::After;
        }
        stop + 1
    }

    fn escape(&mut self, byte: u8, name: bool, begin: u32, raw: u32, batch: &mut Batch) -> Result<(), Unjudgeable> {
        let decoded = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = State::Unicode { name, raw: begin, digits: 0, value: 0 };
                return Ok(());
            }
            _ => return Err(Unjudgeable::Malformed { at: raw }),
        };
        self.lone_surrogate(batch);
        batch.push_escaped(&[decoded], begin, 2);
        self.state = State::String { name };
        Ok(())
    }

    /// One `\uXXXX` that stands at `raw`.
    fn code_unit(&mut self, unit: u16, raw: u32, batch: &mut Batch) {
        if let Some((high, begin)) = self.high {
            if (0xdc00..0xe000).contains(&unit) {
                self.high = None;
                let point = 0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
                push_point(point, begin, 12, batch);
                return;
            }
        }
        self.lone_surrogate(batch);
        if (0xd800..0xdc00).contains(&unit) {
            self.high = Some((unit, raw));
        } else {
            push_point(u32::from(unit), raw, 6, batch);
        }
    }

    /// A surrogate without its partner stands for U+FFFD.
    fn lone_surrogate(&mut self, batch: &mut Batch) {
        if let Some((_, begin)) = self.high.take() {
            push_point(0xfffd, begin, 6, batch);
        }
    }
}

fn push_point(point: u32, raw: u32, raw_len: u32, batch: &mut Batch) {
    let character = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
    let mut buffer = [0; 4];
    batch.push_escaped(character.encode_utf8(&mut buffer).as_bytes(), raw, raw_len);
}

/// RFC 8259 section 6.
fn is_number(token: &[u8]) -> bool {
    let digits = |s: &[u8]| s.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut rest = token.strip_prefix(b"-").unwrap_or(token);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let n = digits(fraction);
        if n == 0 {
            return false;
        }
        rest = &fraction[n..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', digits @ ..] => digits,
            other => other,
        };
        let n = digits(exponent);
        if n == 0 {
            return false;
        }
        rest = &exponent[n..];
    }
    rest.is_empty()
}
