//! Strings of a JSON text: left as they stand until somebody wants to know what they decode to.

use std::borrow::Cow;
use std::ops::Range;

/// A string as it stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    raw: &'a [u8],
    /// Offset of the opening quote.
    at: usize,
    escaped: bool,
}

impl<'a> Text<'a> {
    pub(super) fn new(raw: &'a [u8], at: usize, escaped: bool) -> Text<'a> {
        Text { raw, at, escaped }
    }

    /// Between the quotes, escapes as they are.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Where it stands, quotes included.
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.raw.len() + 2
    }

    /// Whether it decodes to `text`.
    pub fn is(&self, text: &str) -> bool {
        match self.escaped {
            false => self.raw == text.as_bytes(),
            true => self.decode() == text,
        }
    }

    /// Its bytes if there is nothing to decode, for `match`.
    pub fn plain(&self) -> Option<&'a [u8]> {
        (!self.escaped).then_some(self.raw)
    }

    /// The text it stands for. Lone surrogates and what is not UTF-8 are U+FFFD.
    pub fn decode(&self) -> Cow<'a, str> {
        match self.escaped {
            false => String::from_utf8_lossy(self.raw),
            true => Cow::Owned(unescape(self.raw)),
        }
    }
}

fn unescape(raw: &[u8]) -> String {
    let mut units: Vec<u16> = Vec::new();
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    loop {
        let length = rest.iter().position(|&byte| byte == b'\\').unwrap_or(rest.len());
        let (plain, after) = rest.split_at(length);
        if !plain.is_empty() || after.is_empty() {
            out.extend(char::decode_utf16(units.drain(..)).map(|c| c.unwrap_or('\u{fffd}')));
        }
        out.push_str(&String::from_utf8_lossy(plain));
        let [_, kind, after @ ..] = after else { return out };
        rest = after;
        let unit = match kind {
            b'n' => 0x0a,
            b't' => 0x09,
            b'r' => 0x0d,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'u' => {
                let (digits, after) = rest.split_at(rest.len().min(4));
                rest = after;
                digits.iter().fold(0, |unit, &digit| unit << 4 | (digit as char).to_digit(16).unwrap_or(0) as u16)
            }
            other => u16::from(*other),
        };
        units.push(unit);
    }
}

/// Length of the front that is neither a quote, a backslash nor a control character. Eight bytes at a time: texts
/// are long.
pub(super) fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let mut at = 0;
    while let Some((word, _)) = bytes.get(at..).and_then(|rest| rest.split_first_chunk()) {
        let word = u64::from_le_bytes(*word);
        // Borrows only falsify bytes above the first that is meant.
        let meant = below(word, 0x20) | below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1);
        if meant != 0 {
            return at + (meant.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\').unwrap_or(rest.len())
}
