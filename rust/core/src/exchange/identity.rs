//! Exchange ids and trace contexts: made here, honoured from trusted peers, written for others.

use crate::audit::record::ExchangeId;
use std::fmt::Write as _;

/// Pseudo-random numbers for ids and choices, seeded by the caller from the system (xoshiro256++).
///
/// Not for secrets: ids only have to be unique.
#[derive(Clone, Debug)]
pub struct Entropy([u64; 4]);

impl Entropy {
    pub fn new(seed: [u64; 4]) -> Entropy {
        Entropy(if seed == [0; 4] { [1, 2, 3, 4] } else { seed })
    }

    pub fn draw(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }
}

/// UUIDv7 (RFC 9562 §5.7): milliseconds, then random bits.
pub fn exchange_id(wall_ns: u64, entropy: &mut Entropy) -> ExchangeId {
    let ms = wall_ns / 1_000_000;
    let (a, b) = (entropy.draw(), entropy.draw());
    let high = ms << 16 | 0x7000 | (a & 0x0fff);
    let low = 0x8000_0000_0000_0000 | (b & 0x3fff_ffff_ffff_ffff);
    ((u128::from(high)) << 64 | u128::from(low)).to_be_bytes()
}

/// The same as a text.
pub fn text(id: &ExchangeId) -> String {
    String::from_utf8_lossy(&uuid(id)).into_owned()
}

/// 8-4-4-4-12.
pub fn uuid(id: &ExchangeId) -> [u8; 36] {
    let mut text = [b'-'; 36];
    write_hex(&mut text[..8], &id[..4]);
    write_hex(&mut text[9..13], &id[4..6]);
    write_hex(&mut text[14..18], &id[6..8]);
    write_hex(&mut text[19..23], &id[8..10]);
    write_hex(&mut text[24..], &id[10..]);
    text
}

fn write_hex(text: &mut [u8], bytes: &[u8]) {
    for (pair, b) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&HEX_PAIRS[*b as usize]);
    }
}

static HEX_PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = [DIGITS[i >> 4], DIGITS[i & 15]];
        i += 1;
    }
    table
};

/// W3C Trace Context, level 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub trace_id: [u8; 16],
    /// The gateway's own span.
    pub span_id: [u8; 8],
    /// Zero when the trace begins here.
    pub parent_span_id: [u8; 8],
    pub sampled: bool,
}

impl Trace {
    /// Continues a well-formed `traceparent`, else begins a trace sampled with probability
    /// `threshold / 2^64`.
    pub fn begin(parent: Option<&[u8]>, threshold: u64, entropy: &mut Entropy) -> Trace {
        let span_id = entropy.draw().max(1).to_be_bytes();
        if let Some((trace_id, parent_span_id, flags)) = parent.and_then(parse_traceparent) {
            return Trace { trace_id, span_id, parent_span_id, sampled: flags & 1 == 1 };
        }
        let (a, b) = (entropy.draw(), entropy.draw());
        let trace_id = (u128::from(a) << 64 | u128::from(b)).max(1).to_be_bytes();
        Trace { trace_id, span_id, parent_span_id: [0; 8], sampled: b < threshold || threshold == u64::MAX }
    }

    /// The value of the field.
    pub fn traceparent(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace_id);
        write_hex(&mut text[36..52], &self.span_id);
        text[54] |= u8::from(self.sampled);
        text
    }
}

fn parse_traceparent(text: &[u8]) -> Option<([u8; 16], [u8; 8], u8)> {
    // version "-" trace-id "-" parent-id "-" flags; later versions may append.
    if text.len() < 55 || text[2] != b'-' || text[35] != b'-' || text[52] != b'-' {
        return None;
    }
    let version = byte(&text[0..2])?;
    if version == 0xff || (version == 0 && text.len() != 55) || (text.len() > 55 && text[55] != b'-') {
        return None;
    }
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    for (out, pair) in trace.iter_mut().zip(text[3..35].chunks(2)) {
        *out = byte(pair)?;
    }
    for (out, pair) in span.iter_mut().zip(text[36..52].chunks(2)) {
        *out = byte(pair)?;
    }
    (trace != [0; 16] && span != [0; 8]).then_some((trace, span, byte(&text[53..55])?))
}

fn byte(pair: &[u8]) -> Option<u8> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    Some(digit(pair[0])? << 4 | digit(pair[1])?)
}

/// IMF-fixdate (RFC 9110 §5.6.7).
pub fn http_date(wall_ns: u64) -> String {
    let secs = wall_ns / 1_000_000_000;
    let (days, rest) = (secs / 86_400, secs % 86_400);
    // Civil date from days since 1970-03-01-based eras of 400 years.
    let z = days as i64 + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut out = String::with_capacity(29);
    let _ = write!(
        out,
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[(month - 1) as usize],
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_sort_by_time() {
        let mut e = Entropy::new([1, 2, 3, 4]);
        let a = exchange_id(1_700_000_000_000_000_000, &mut e);
        let b = exchange_id(1_700_000_000_002_000_000, &mut e);
        assert!(a < b);
        let text = text(&a);
        assert_eq!((text.len(), &text[14..15]), (36, "7"));
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
    }

    #[test]
    fn traceparent_round_trip_and_refusals() {
        let mut e = Entropy::new([9, 9, 9, 9]);
        let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let t = Trace::begin(Some(parent), 0, &mut e);
        assert!(t.sampled && t.parent_span_id != [0; 8]);
        assert_eq!(t.traceparent()[..36], parent[..36]);
        for bad in [
            &b"00-00000000000000000000000000000000-00f067aa0ba902b7-01"[..],
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            b"",
        ] {
            assert_eq!(Trace::begin(Some(bad), 0, &mut e).parent_span_id, [0; 8]);
        }
    }

    #[test]
    fn dates() {
        assert_eq!(http_date(784_111_777_000_000_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(1_709_164_800_000_000_000), "Thu, 29 Feb 2024 00:00:00 GMT");
    }
}
