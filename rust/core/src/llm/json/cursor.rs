//! A place in a JSON text that moves on value by value. Everything it passes is checked against the grammar, except
//! that it takes bytes for UTF-8 ([`super::utf8`] checks that, over the whole at once).

use super::text::{plain, Text};
use super::{Fault, What, MAX_DEPTH};
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::Bool => "true or false",
            Kind::Null => "null",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Containers open here.
    depth: u8,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0, depth: 0 }
    }

    /// Offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes of a range this cursor has given out.
    pub fn slice(&self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// What the next value is.
    pub fn peek(&mut self) -> Result<Kind, Fault> {
        self.space();
        match self.bytes.get(self.at) {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => Err(Fault::expected(self.at, "a value")),
        }
    }

    /// Refuses a next value of another kind.
    pub fn must(&mut self, kind: Kind) -> Result<(), Fault> {
        match self.peek()? {
            seen if seen == kind => Ok(()),
            _ => Err(Fault::expected(self.at, kind.name())),
        }
    }

    /// Passes a string; of another kind, is refused.
    pub fn string(&mut self) -> Result<Text<'a>, Fault> {
        self.must(Kind::String)?;
        self.text()
    }

    /// Passes a value; it is given if it is a string.
    pub fn text_or_skip(&mut self) -> Result<Option<Text<'a>>, Fault> {
        match self.peek()? {
            Kind::String => self.text().map(Some),
            _ => self.skip().map(|_| None),
        }
    }

    /// Passes a value; it is given if it is an integer in range, written in whatever way.
    pub fn integer_or_skip(&mut self) -> Result<Option<u64>, Fault> {
        let kind = self.peek()?;
        let range = self.skip()?;
        if kind != Kind::Number {
            return Ok(None);
        }
        let Ok(number) = std::str::from_utf8(self.slice(range)) else { return Ok(None) };
        Ok(number.parse().ok().or_else(|| {
            let float: f64 = number.parse().ok()?;
            (float.fract() == 0.0 && (0.0..9e15).contains(&float)).then_some(float as u64)
        }))
    }

    /// Passes a value; it is given if it is `true` or `false`.
    pub fn bool_or_skip(&mut self) -> Result<Option<bool>, Fault> {
        let range = self.skip()?;
        Ok(match self.slice(range) {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        })
    }

    /// Passes an object, telling each member: its name, and the cursor before its value, which is passed if `tell`
    /// leaves it. A value of another kind is passed and false.
    pub fn members(
        &mut self,
        mut tell: impl FnMut(Text<'a>, &mut Cursor<'a>) -> Result<(), Fault>,
    ) -> Result<bool, Fault> {
        if self.peek()? != Kind::Object {
            self.skip()?;
            return Ok(false);
        }
        self.open()?;
        self.space();
        if !self.close(b'}') {
            loop {
                let name = self.name()?;
                self.space();
                let begin = self.at;
                tell(name, self)?;
                if self.at == begin {
                    self.skip()?;
                }
                self.space();
                if self.close(b'}') {
                    break;
                }
                self.comma("`,` or `}`")?;
            }
        }
        self.depth -= 1;
        Ok(true)
    }

    /// Passes an array, telling each element like [`members`](Cursor::members).
    pub fn elements(&mut self, mut tell: impl FnMut(&mut Cursor<'a>) -> Result<(), Fault>) -> Result<bool, Fault> {
        if self.peek()? != Kind::Array {
            self.skip()?;
            return Ok(false);
        }
        self.open()?;
        self.space();
        if !self.close(b']') {
            loop {
                self.space();
                let begin = self.at;
                tell(self)?;
                if self.at == begin {
                    self.skip()?;
                }
                self.space();
                if self.close(b']') {
                    break;
                }
                self.comma("`,` or `]`")?;
            }
        }
        self.depth -= 1;
        Ok(true)
    }

    /// Passes a value of any kind; where it stood.
    pub fn skip(&mut self) -> Result<Range<usize>, Fault> {
        self.space();
        let begin = self.at;
        let depth = self.depth;
        // Open containers within this value, the innermost lowest; a set bit is an object.
        let mut objects = 0u64;
        loop {
            match self.peek()? {
                Kind::Object => {
                    self.open()?;
                    self.space();
                    if !self.close(b'}') {
                        objects = objects << 1 | 1;
                        self.name()?;
                        continue;
                    }
                    self.depth -= 1;
                }
                Kind::Array => {
                    self.open()?;
                    self.space();
                    if !self.close(b']') {
                        objects <<= 1;
                        continue;
                    }
                    self.depth -= 1;
                }
                kind => self.scalar(kind)?,
            }
            // Behind a value: on to the next, or out of what ends here.
            loop {
                if self.depth == depth {
                    return Ok(begin..self.at);
                }
                let object = objects & 1 == 1;
                self.space();
                if self.close(if object { b'}' } else { b']' }) {
                    self.depth -= 1;
                    objects >>= 1;
                    continue;
                }
                self.comma(if object { "`,` or `}`" } else { "`,` or `]`" })?;
                if object {
                    self.name()?;
                }
                break;
            }
        }
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Result<(), Fault> {
        self.space();
        match self.at == self.bytes.len() {
            true => Ok(()),
            false => Err(Fault::expected(self.at, "the end")),
        }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn open(&mut self) -> Result<(), Fault> {
        if self.depth >= MAX_DEPTH {
            return Err(Fault { at: self.at, what: What::TooDeep });
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn close(&mut self, bracket: u8) -> bool {
        let closes = self.bytes.get(self.at) == Some(&bracket);
        self.at += usize::from(closes);
        closes
    }

    fn comma(&mut self, expected: &'static str) -> Result<(), Fault> {
        match self.close(b',') {
            true => Ok(()),
            false => Err(Fault::expected(self.at, expected)),
        }
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Result<Text<'a>, Fault> {
        self.space();
        if self.bytes.get(self.at) != Some(&b'"') {
            return Err(Fault::expected(self.at, "a name in quotes"));
        }
        let name = self.text()?;
        self.space();
        match self.close(b':') {
            true => Ok(name),
            false => Err(Fault::expected(self.at, "`:`")),
        }
    }

    fn scalar(&mut self, kind: Kind) -> Result<(), Fault> {
        match kind {
            Kind::String => self.text().map(|_| ()),
            Kind::Number => self.number(),
            _ => {
                let words: [&[u8]; 3] = [b"true", b"false", b"null"];
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                match words.into_iter().find(|word| rest.starts_with(word)) {
                    Some(word) => {
                        self.at += word.len();
                        Ok(())
                    }
                    None => Err(Fault::expected(self.at, "a value")),
                }
            }
        }
    }

    /// A string, of which the opening quote is next.
    fn text(&mut self) -> Result<Text<'a>, Fault> {
        let at = self.at;
        let mut end = at + 1;
        let mut escaped = false;
        loop {
            end += plain(self.bytes.get(end..).unwrap_or_default());
            match self.bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    end += match self.bytes.get(end + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u') => match self.bytes.get(end + 2..end + 6) {
                            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => 6,
                            _ => return Err(Fault::expected(end, "four hexadecimal digits")),
                        },
                        _ => return Err(Fault::expected(end, "an escape")),
                    };
                }
                Some(_) => return Err(Fault::expected(end, "an escaped control character")),
                None => return Err(Fault::expected(end, "the end of a string")),
            }
        }
        self.at = end + 1;
        Ok(Text::new(self.bytes.get(at + 1..end).unwrap_or_default(), at, escaped))
    }

    fn number(&mut self) -> Result<(), Fault> {
        let _ = self.close(b'-');
        if !self.close(b'0') {
            self.digits()?;
        }
        if self.close(b'.') {
            self.digits()?;
        }
        if self.close(b'e') || self.close(b'E') {
            let _ = self.close(b'+') || self.close(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let begin = self.at;
        while let Some(b'0'..=b'9') = self.bytes.get(self.at) {
            self.at += 1;
        }
        match self.at > begin {
            true => Ok(()),
            false => Err(Fault::expected(self.at, "a digit")),
        }
    }
}
