//! The access log's lines, rendered from joined records without a Python object per call.
//!
//! Rules:
//! 1. One call, one line. No value can end a line or move a terminal's cursor: control characters (C0, DEL, C1),
//!    line and paragraph separators and text-direction marks are JSON escapes; what is not UTF-8 becomes U+FFFD.
//! 2. Names and order of the fields are a contract (`docs/telemetry.md`); new ones go to the end.
//! 3. Nothing is allocated per call but the room for its text. Only calls that were asked for are kept as records,
//!    for the dicts that spans, logs and exemplars are made of.

use crate::audit_calls::{Call, Joined};
use pygate_core::audit::codec::Malformed;
use pygate_core::audit::facts::Facts;
use pygate_core::observe::DURATION_BOUNDS_NS;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::IpAddr;

/// Which calls are told one by one, besides their lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    All,
    Sampled,
    /// Of the sampled ones, the last per series and duration bucket: what exemplars keep.
    Latest,
}

/// What one poll gathered.
#[derive(Default)]
pub struct Access {
    pub lines: AccessLines,
    pub calls: Vec<Call>,
    latest: HashMap<u64, usize>,
    hasher: RandomState,
}

impl Access {
    pub fn is_empty(&self) -> bool {
        self.lines.count == 0 && self.calls.is_empty()
    }

    pub fn take(&mut self, call: &Joined<'_>, lines: bool, wanted: Wanted) -> Result<(), Malformed> {
        let mut facts = Facts::default();
        for placed in [call.intent, call.outcome].into_iter().flatten() {
            facts.read(&placed.record)?;
        }
        if lines {
            self.lines.push(&facts);
        }
        match wanted {
            Wanted::All => self.calls.push(call.keep()),
            Wanted::Sampled if facts.sampled() => self.calls.push(call.keep()),
            Wanted::Latest if facts.sampled() && facts.complete => {
                let bucket = DURATION_BOUNDS_NS.partition_point(|&bound| bound < facts.duration_ns);
                let key =
                    (facts.route, facts.method, facts.https(), facts.status, facts.code, facts.grpc_status, bucket);
                match self.latest.entry(self.hasher.hash_one(key)) {
                    std::collections::hash_map::Entry::Occupied(at) => self.calls[*at.get()] = call.keep(),
                    std::collections::hash_map::Entry::Vacant(free) => {
                        free.insert(self.calls.len());
                        self.calls.push(call.keep());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Lines one after the other, each with its end.
#[derive(Default)]
pub struct AccessLines {
    pub text: Vec<u8>,
    pub count: usize,
    /// The second last written (since the Unix epoch) and its text: calls come many to the second.
    second: Option<u64>,
    second_text: Vec<u8>,
}

impl AccessLines {
    pub fn push(&mut self, call: &Facts<'_>) {
        self.text.extend_from_slice(b"{\"time\":\"");
        self.time(call.start_ns());
        let out = &mut self.text;
        out.extend_from_slice(b"\",\"exchange\":\"");
        uuid(out, call.exchange);
        out.extend_from_slice(b"\",\"revision\":\"");
        hex(out, call.revision);
        out.extend_from_slice(b"\",\"trace_id\":\"");
        hex(out, call.trace_id);
        out.extend_from_slice(b"\",\"span_id\":\"");
        hex(out, call.span_id.as_ref().map_or(&[][..], |id| id));
        out.extend_from_slice(b"\",\"sampled\":");
        flag(out, call.sampled());
        text(out, b",\"entrypoint\":\"", call.entrypoint);
        text(out, b"\",\"route\":\"", call.route);
        text(out, b"\",\"service\":\"", call.service);
        text(out, b"\",\"endpoint\":\"", call.endpoint);
        out.extend_from_slice(b"\",\"client\":\"");
        address(out, call.client_ip);
        text(out, b"\",\"identity\":\"", call.identity);
        text(out, b"\",\"method\":\"", call.method);
        out.extend_from_slice(if call.https() { b"\",\"scheme\":\"https" } else { b"\",\"scheme\":\"http" });
        text(out, b"\",\"host\":\"", call.host);
        text(out, b"\",\"path\":\"", call.path);
        number(out, b"\",\"status\":", call.status);
        text(
            out,
            b",\"error\":\"",
            if call.code.is_empty() && !call.complete { b"unknown-outcome" } else { call.code },
        );
        milliseconds(out, b"\",\"duration_ms\":", call.duration_ns);
        milliseconds(out, b",\"upstream_ms\":", call.upstream_ns);
        number(out, b",\"attempts\":", call.attempts);
        number(out, b",\"request_bytes\":", call.request_bytes);
        number(out, b",\"response_bytes\":", call.response_bytes);
        out.extend_from_slice(b",\"truncated\":");
        flag(out, call.truncated());
        text(out, b",\"user_agent\":\"", call.user_agent);
        out.push(b'"');
        for (n, finding) in call.findings.iter().enumerate() {
            text(out, if n == 0 { b",\"findings\":[{\"rule\":\"" } else { b",{\"rule\":\"" }, finding.rule.as_bytes());
            text(out, b"\",\"action\":\"", finding.action.as_bytes());
            out.extend_from_slice(b"\",\"shadow\":");
            flag(out, finding.shadow);
            let side: &[u8] = if finding.response { b",\"side\":\"response\"}" } else { b",\"side\":\"request\"}" };
            out.extend_from_slice(side);
        }
        if !call.findings.is_empty() {
            out.push(b']');
        }
        if let Some(status) = call.grpc_status {
            text(out, b",\"grpc_status\":\"", status.name().as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b"}\n");
        self.count += 1;
    }

    /// RFC 3339 in UTC, cut to milliseconds.
    fn time(&mut self, ns: u64) {
        let second = ns / 1_000_000_000;
        if self.second != Some(second) {
            let (year, month, day) = date(second / 86_400);
            let (hour, minute, rest) = (second / 3600 % 24, second / 60 % 60, second % 60);
            self.second_text.clear();
            // Writing to a Vec cannot fail.
            let _ = write!(self.second_text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{rest:02}.");
            self.second = Some(second);
        }
        self.text.extend_from_slice(&self.second_text);
        let ms = (ns / 1_000_000 % 1000) as u32;
        self.text.extend_from_slice(&thousandths(ms));
        self.text.push(b'Z');
    }
}

/// Year, month and day of a day since the Unix epoch, in the Gregorian calendar: years are counted from March, so
/// that the leap day comes last, in eras of 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let since = days + 719_468; // 0000-03-01
    let day = since % ERA;
    let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (since / ERA * 400 + year + u64::from(month <= 2), month, day - (153 * march + 2) / 5 + 1)
}

fn flag(out: &mut Vec<u8>, set: bool) {
    out.extend_from_slice(if set { b"true" } else { b"false" });
}

fn number(out: &mut Vec<u8>, before: &[u8], mut value: u64) {
    out.extend_from_slice(before);
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// With as many of three decimals as needed, at least one.
fn milliseconds(out: &mut Vec<u8>, before: &[u8], ns: u64) {
    let us = ns / 1000 + u64::from(ns % 1000 >= 500);
    number(out, before, us / 1000);
    let decimals = thousandths((us % 1000) as u32);
    let kept = if decimals[2] != b'0' { 3 } else { 1 + usize::from(decimals[1] != b'0') };
    out.push(b'.');
    out.extend_from_slice(&decimals[..kept]);
}

fn thousandths(value: u32) -> [u8; 3] {
    [value / 100, value / 10 % 10, value % 10].map(|digit| b'0' + digit as u8)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let at = out.len();
    out.resize(at + 2 * bytes.len(), 0);
    for (pair, &byte) in out[at..].chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// Canonical text of an exchange id (RFC 9562).
fn uuid(out: &mut Vec<u8>, id: &[u8]) {
    let mut rest = id;
    for len in [4, 2, 2, 2] {
        let Some((part, after)) = rest.split_at_checked(len) else { break };
        hex(out, part);
        out.push(b'-');
        rest = after;
    }
    hex(out, rest);
}

fn address(out: &mut Vec<u8>, ip: Option<IpAddr>) {
    match ip {
        Some(IpAddr::V4(ip)) => {
            for (n, &byte) in ip.octets().iter().enumerate() {
                number(out, if n == 0 { b"" } else { b"." }, byte.into());
            }
        }
        Some(IpAddr::V6(ip)) => drop(write!(out, "{ip}")),
        None => {}
    }
}

/// `value` as the inside of a JSON string.
fn text(out: &mut Vec<u8>, before: &[u8], value: &[u8]) {
    out.extend_from_slice(before);
    let plain = plain(value);
    out.extend_from_slice(&value[..plain]);
    if plain < value.len() {
        odd_text(out, &value[plain..]);
    }
}

/// Length of the front of `value` that needs no look at its characters: eight bytes at a time (bit tricks as for
/// finding a zero byte), then the rest one by one.
fn plain(value: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let mut at = 0;
    while let Some(eight) = value[at..].first_chunk() {
        let word = u64::from_le_bytes(*eight);
        let below = |limit: u64, word: u64| word.wrapping_sub(ONES * limit) & !word;
        let is = |byte: u8, word: u64| below(1, word ^ (ONES * u64::from(byte)));
        if (below(0x20, word) | is(b'"', word) | is(b'\\', word) | is(0x7f, word) | word) & HIGH != 0 {
            break;
        }
        at += 8;
    }
    let harmless = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    at + value[at..].iter().position(|byte| !harmless(byte)).unwrap_or(value.len() - at)
}

#[cold]
fn odd_text(out: &mut Vec<u8>, value: &[u8]) {
    for piece in value.utf8_chunks() {
        for character in piece.valid().chars() {
            let short = match character {
                '"' | '\\' => character as u8,
                '\u{8}' => b'b',
                '\t' => b't',
                '\n' => b'n',
                '\u{c}' => b'f',
                '\r' => b'r',
                // All of them are in the basic plane.
                _ if unsafe_to_show(character) => {
                    let _ = write!(out, "\\u{:04x}", character as u32);
                    continue;
                }
                _ => {
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            out.extend_from_slice(&[b'\\', short]);
        }
        if !piece.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn unsafe_to_show(character: char) -> bool {
    matches!(character,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
