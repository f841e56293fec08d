//! JSON (RFC 8259) of complete bytes, read without building values and changed without writing anew.
//!
//! Rules:
//! 1. Strict: what breaks the grammar, is not UTF-8 or nests deeper than [`MAX_DEPTH`] is refused with the offset.
//!    A lone surrogate in an escape is grammar; it decodes to U+FFFD.
//! 2. Names are compared as they decode (`"mod\u0065l"` is `model`). A name that decides a policy may stand only once
//!    where a caller asks so, because two readers would take different ones.
//! 3. One pass, no recursion over what is skipped, nothing allocated but for strings that have escapes.
//! 4. Edits leave every other byte as it was.

pub mod cursor;
pub mod edit;
mod text;

pub use cursor::{Cursor, Kind};
pub use edit::Step;
use std::fmt;
use std::ops::Range;
pub use text::Text;

/// Containers that may be open at once.
pub const MAX_DEPTH: u8 = 64;

/// Where a text stops being what it should be, as an offset in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: usize,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// What would have been grammar.
    Expected(&'static str),
    TooDeep,
    Utf8,
    /// A name that may stand only once stands here again.
    Duplicate(&'static str),
}

impl Fault {
    pub fn expected(at: usize, what: &'static str) -> Fault {
        Fault { at, what: What::Expected(what) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.what {
            What::Expected(what) => write!(f, "expected {what} at byte {at}"),
            What::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} at byte {at}"),
            What::Utf8 => write!(f, "not UTF-8 at byte {at}"),
            What::Duplicate(name) => write!(f, "`{name}` stands a second time at byte {at}"),
        }
    }
}

/// Checks that `bytes` are one JSON text.
pub fn check(bytes: &[u8]) -> Result<(), Fault> {
    utf8(bytes)?;
    let mut cursor = Cursor::new(bytes);
    cursor.skip()?;
    cursor.end()
}

pub fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|e| Fault { at: e.valid_up_to(), what: What::Utf8 })
}

/// A member of an object: its name, and where name (with quotes) and value stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    pub name: Text<'a>,
    pub at: Range<usize>,
    pub value: Range<usize>,
}

/// Checks `bytes` like [`check`] and lists the members of the object they are. Names in `once` are refused when they
/// stand twice.
pub fn members<'a>(bytes: &'a [u8], once: &[&'static str]) -> Result<Vec<Member<'a>>, Fault> {
    utf8(bytes)?;
    let mut cursor = Cursor::new(bytes);
    let mut members = Vec::new();
    let mut seen = Once::new(once);
    cursor.must(Kind::Object)?;
    cursor.members(|name, cursor| {
        let at = name.range();
        seen.see(&name.decode(), at.start)?;
        let value = cursor.skip()?;
        members.push(Member { name, at, value });
        Ok(())
    })?;
    cursor.end()?;
    Ok(members)
}

/// Names that may stand only once in an object.
#[derive(Clone, Debug)]
pub struct Once<'n> {
    names: &'n [&'static str],
    seen: u64,
}

impl<'n> Once<'n> {
    /// At most 64 names; those beyond would not be watched.
    pub fn new(names: &'n [&'static str]) -> Once<'n> {
        debug_assert!(names.len() <= 64);
        Once { names, seen: 0 }
    }

    /// Takes note of a name that stands at offset `at`.
    pub fn see(&mut self, name: &str, at: usize) -> Result<(), Fault> {
        let Some((index, known)) = self.names.iter().enumerate().take(64).find(|(_, known)| **known == name) else {
            return Ok(());
        };
        if self.seen & 1 << index != 0 {
            return Err(Fault { at, what: What::Duplicate(known) });
        }
        self.seen |= 1 << index;
        Ok(())
    }
}

/// Appends a string with its quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    // Strings cannot fail to serialise into memory.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests;
