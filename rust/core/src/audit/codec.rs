//! Records as bytes: tagged fields that describe themselves.
//!
//! A record is `length: u32 LE | kind: u8 | fields`; the length counts kind and fields. A field is one tag
//! byte, `id << 2 | wire`, and a value in one of four wires: LEB128 varint, length-prefixed bytes, 8 bytes,
//! 16 bytes (integers little-endian, ids as they are).
//!
//! Rules:
//! 1. An id never changes its meaning. A new fact gets a new id; a reader shows ids it does not know as
//!    `field-N` and goes on, and kinds it does not know as `kind-N`.
//! 2. Id 63 is a typed extension: a name and opaque bytes, as many as needed. Modules that come later hang
//!    their facts on a record through [`extend`], without touching this one.
//! 3. Empty and zero fields are left out. What is always there is laid out in one block, copied at once.
//! 4. Decoding never trusts: every length is checked, and a record that lies is a [`Malformed`].

use super::record::{Finding, Intent, Outcome};
use crate::grpc::Status;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The extension of an outcome that says what an AI call came to: a JSON object (`docs/audit.md`).
pub const LLM: &str = "llm";

/// Kinds of record.
pub const INTENT: u8 = 1;
pub const OUTCOME: u8 = 2;

const VARINT: u8 = 0;
const BYTES: u8 = 1;
const FIXED8: u8 = 2;
const FIXED16: u8 = 3;

pub(super) const HTTPS: u64 = 1;
pub(super) const SAMPLED: u64 = 2;
pub(super) const TRUNCATED: u64 = 4;

const SHADOW: u64 = 1;
const RESPONSE: u64 = 2;

pub(super) mod id {
    pub const EXCHANGE: u8 = 1;
    pub const WALL: u8 = 2;
    pub const MONO: u8 = 3;
    pub const REVISION: u8 = 4;
    pub const TRACE: u8 = 5;
    pub const SPAN: u8 = 6;
    pub const PARENT: u8 = 7;
    pub const FLAGS: u8 = 8;
    pub const CLIENT: u8 = 9;
    pub const ENTRYPOINT: u8 = 10;
    pub const ROUTE: u8 = 11;
    pub const SERVICE: u8 = 12;
    pub const METHOD: u8 = 13;
    pub const HOST: u8 = 14;
    pub const PATH: u8 = 15;
    pub const IDENTITY: u8 = 16;
    pub const USER_AGENT: u8 = 17;
    pub const DURATION: u8 = 18;
    pub const STATUS: u8 = 19;
    pub const CODE: u8 = 20;
    pub const ENDPOINT: u8 = 21;
    pub const ATTEMPTS: u8 = 22;
    pub const UPSTREAM: u8 = 23;
    pub const REQUEST_BYTES: u8 = 24;
    pub const RESPONSE_BYTES: u8 = 25;
    pub const FINDING: u8 = 26;
    /// One more than its number: what is zero is left out, and 0 is OK.
    pub const GRPC_STATUS: u8 = 27;
    pub const TLS: u8 = 40;
    pub const CLIENT_CERT: u8 = 41;
    pub const EXTENSION: u8 = 63;
    // Inside a finding.
    pub const RULE: u8 = 1;
    pub const ACTION: u8 = 2;
    pub const FINDING_FLAGS: u8 = 3;
    pub const START: u8 = 4;
    pub const END: u8 = 5;
}

const fn tag(id: u8, wire: u8) -> u8 {
    id << 2 | wire
}

/// Appends an intent record to `out`.
pub fn encode_intent(intent: &Intent<'_>, out: &mut Vec<u8>) {
    let texts = intent.entrypoint.len() + intent.route.len() + intent.service.len() + intent.method.len();
    let texts = texts + intent.host.len() + intent.path.len() + intent.identity.len() + intent.user_agent.len();
    let texts = texts + intent.tls.len() + intent.client_cert.len();
    let mut record = Cursor::begin(out, INTENT, 112 + 10 * TEXT + texts);
    let block = record.block::<69>();
    put(block, 0, tag(id::EXCHANGE, FIXED16), &intent.exchange);
    put(block, 17, tag(id::WALL, FIXED8), &intent.wall_ns.to_le_bytes());
    put(block, 26, tag(id::MONO, FIXED8), &intent.mono_ns.to_le_bytes());
    put(block, 35, tag(id::TRACE, FIXED16), &intent.trace_id);
    put(block, 52, tag(id::SPAN, FIXED8), &intent.span_id);
    block[61] = tag(id::REVISION, BYTES);
    put(block, 62, 6, &intent.revision);
    record.client(intent.client_ip, intent.client_port);
    record.varint(id::FLAGS, (HTTPS * intent.https as u64) | (SAMPLED * intent.sampled as u64));
    if intent.parent_span_id != [0; 8] {
        put(record.block::<9>(), 0, tag(id::PARENT, FIXED8), &intent.parent_span_id);
    }
    record.bytes(id::ENTRYPOINT, intent.entrypoint.as_bytes());
    record.bytes(id::ROUTE, intent.route.as_bytes());
    record.bytes(id::SERVICE, intent.service.as_bytes());
    record.bytes(id::METHOD, intent.method);
    record.bytes(id::HOST, intent.host);
    record.bytes(id::PATH, intent.path);
    record.bytes(id::IDENTITY, intent.identity.as_bytes());
    record.bytes(id::USER_AGENT, intent.user_agent);
    record.bytes(id::TLS, intent.tls.as_bytes());
    record.bytes(id::CLIENT_CERT, intent.client_cert.as_bytes());
    record.finish();
}

/// Appends an outcome record to `out`.
pub fn encode_outcome(outcome: &Outcome<'_>, out: &mut Vec<u8>) {
    let texts = outcome.code.len() + outcome.endpoint.len() + outcome.entrypoint.len();
    let findings: usize = outcome.findings.iter().map(|f| 64 + f.rule.len() + f.action.len()).sum();
    let mut record = Cursor::begin(out, OUTCOME, 160 + 3 * TEXT + texts + findings);
    let block = record.block::<26>();
    put(block, 0, tag(id::EXCHANGE, FIXED16), &outcome.exchange);
    put(block, 17, tag(id::WALL, FIXED8), &outcome.wall_ns.to_le_bytes());
    record.varint(id::DURATION, outcome.duration_ns);
    record.varint(id::STATUS, outcome.status.into());
    record.varint(id::ATTEMPTS, outcome.attempts.into());
    record.varint(id::UPSTREAM, outcome.upstream_ns);
    record.varint(id::REQUEST_BYTES, outcome.request_bytes);
    record.varint(id::RESPONSE_BYTES, outcome.response_bytes);
    record.varint(id::FLAGS, TRUNCATED * outcome.truncated as u64);
    record.varint(id::GRPC_STATUS, outcome.grpc_status.map_or(0, |status| 1 + u64::from(status.number())));
    if outcome.revision != [0; 6] {
        record.bytes(id::REVISION, &outcome.revision);
    }
    if let Some(ip) = outcome.client_ip {
        record.client(ip, 0);
    }
    record.bytes(id::CODE, outcome.code.as_bytes());
    record.bytes(id::ENDPOINT, outcome.endpoint.as_bytes());
    record.bytes(id::ENTRYPOINT, outcome.entrypoint.as_bytes());
    for finding in outcome.findings {
        record.finding(finding);
    }
    record.finish();
}

/// Adds a typed extension to the record that begins at `start` and ends with `out`.
///
/// `name` is kebab-case with its module first (`llm.usage`); shorter than 128 bytes. What `value` means is
/// the business of whoever owns the name; readers that do not know it show it as hex.
pub fn extend(out: &mut Vec<u8>, start: usize, name: &str, value: &[u8]) {
    let name = &name.as_bytes()[..name.len().min(127)];
    let at = out.len();
    out.resize(at + 16 + name.len() + value.len(), 0);
    let mut record = Cursor { out, start, at };
    record.length(id::EXTENSION, 1 + name.len() + value.len());
    record.raw(&[name.len() as u8]);
    record.raw(name);
    record.raw(value);
    record.finish();
}

/// Most bytes a text field takes besides its text.
const TEXT: usize = 11;

#[inline(always)]
fn put<const N: usize, const M: usize>(block: &mut [u8; N], at: usize, tag: u8, value: &[u8; M]) {
    block[at] = tag;
    if let Some(place) = block[at + 1..].first_chunk_mut() {
        *place = *value;
    }
}

/// Writes a record into space that was made for the longest it can be, and gives back the rest: appending
/// field by field would check for space at each.
struct Cursor<'a> {
    out: &'a mut Vec<u8>,
    /// Where the record begins, and where its next byte goes.
    start: usize,
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn begin(out: &'a mut Vec<u8>, kind: u8, bound: usize) -> Self {
        let start = out.len();
        out.resize(start + bound, 0);
        out[start + 4] = kind;
        Cursor { out, start, at: start + 5 }
    }

    /// The next `N` bytes, to be written at fixed places.
    #[inline(always)]
    fn block<const N: usize>(&mut self) -> &mut [u8; N] {
        let at = self.at;
        self.at += N;
        match self.out[at..].first_chunk_mut() {
            Some(block) => block,
            None => unreachable!("a record is never longer than its bound"),
        }
    }

    #[inline(always)]
    fn raw(&mut self, value: &[u8]) {
        self.out[self.at..self.at + value.len()].copy_from_slice(value);
        self.at += value.len();
    }

    #[inline(always)]
    fn bytes(&mut self, id: u8, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        if value.len() >= 0x80 {
            self.length(id, value.len());
            return self.raw(value);
        }
        let field = &mut self.out[self.at..self.at + 2 + value.len()];
        field[0] = tag(id, BYTES);
        field[1] = value.len() as u8;
        field[2..].copy_from_slice(value);
        self.at += 2 + value.len();
    }

    #[inline(always)]
    fn varint(&mut self, id: u8, value: u64) {
        if value != 0 {
            self.number(tag(id, VARINT), value);
        }
    }

    fn length(&mut self, id: u8, len: usize) {
        self.number(tag(id, BYTES), len as u64);
    }

    #[inline(always)]
    fn number(&mut self, tag: u8, mut value: u64) {
        let field = &mut self.out[self.at..self.at + 11];
        field[0] = tag;
        let mut len = 1;
        for byte in &mut field[1..] {
            len += 1;
            if value < 0x80 {
                *byte = value as u8;
                break;
            }
            *byte = value as u8 | 0x80;
            value >>= 7;
        }
        self.at += len;
    }

    #[inline(always)]
    fn client(&mut self, ip: IpAddr, port: u16) {
        let port = port.to_be_bytes();
        match ip {
            IpAddr::V4(v4) => {
                let block = self.block::<8>();
                block[0] = tag(id::CLIENT, BYTES);
                put(block, 1, 6, &v4.octets());
                [block[6], block[7]] = port;
            }
            IpAddr::V6(v6) => {
                let block = self.block::<20>();
                block[0] = tag(id::CLIENT, BYTES);
                put(block, 1, 18, &v6.octets());
                [block[18], block[19]] = port;
            }
        }
    }

    /// Its length is always written as two bytes, which the names are cut to fit.
    fn finding(&mut self, finding: &Finding<'_>) {
        self.raw(&[tag(id::FINDING, BYTES), 0, 0]);
        let begun = self.at;
        self.bytes(id::RULE, cut(finding.rule).as_bytes());
        self.bytes(id::ACTION, cut(finding.action).as_bytes());
        self.varint(id::FINDING_FLAGS, (SHADOW * finding.shadow as u64) | (RESPONSE * finding.response as u64));
        self.varint(id::START, finding.start.into());
        self.varint(id::END, finding.end.into());
        let len = self.at - begun;
        self.out[begun - 2] = len as u8 | 0x80;
        self.out[begun - 1] = (len >> 7) as u8;
    }

    #[inline(always)]
    fn finish(self) {
        let len = (self.at - self.start - 4) as u32;
        if let Some(place) = self.out[self.start..].first_chunk_mut() {
            *place = len.to_le_bytes();
        }
        self.out.truncate(self.at);
    }
}

/// At most 4 KiB of a name.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(4096);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// A record that does not hold together. In a log whose checksums hold, it was written so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed record: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// An encoded record, not yet looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded<'a> {
    pub kind: u8,
    pub raw_fields: &'a [u8],
}

/// A field's value as it lies in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

/// Splits the first record off `input`; `None` at its end.
pub fn split<'a>(input: &mut &'a [u8]) -> Result<Option<Encoded<'a>>, Malformed> {
    if input.is_empty() {
        return Ok(None);
    }
    let (head, rest) = input.split_first_chunk::<4>().ok_or(Malformed("length cut off"))?;
    let len = u32::from_le_bytes(*head) as usize;
    let body = rest.get(..len).ok_or(Malformed("longer than its frame"))?;
    let (&kind, fields) = body.split_first().ok_or(Malformed("no kind"))?;
    *input = &rest[len..];
    Ok(Some(Encoded { kind, raw_fields: fields }))
}

impl<'a> Encoded<'a> {
    /// The exchange this record belongs to, if it has one.
    pub fn exchange(&self) -> Option<[u8; 16]> {
        match self.find(id::EXCHANGE)? {
            Value::Bytes(bytes) => bytes.try_into().ok(),
            Value::Int(_) => None,
        }
    }

    /// Wall clock of the record, ns since the Unix epoch; 0 when it has none.
    pub fn wall_ns(&self) -> u64 {
        match self.find(id::WALL) {
            Some(Value::Int(ns)) => ns,
            _ => 0,
        }
    }

    /// The trace is to be exported (intents only).
    pub fn sampled(&self) -> bool {
        matches!(self.find(id::FLAGS), Some(Value::Int(flags)) if flags & SAMPLED != 0)
    }

    /// Status sent to the client (outcomes only); 0 when none was.
    pub fn status(&self) -> u16 {
        match self.find(id::STATUS) {
            Some(Value::Int(status)) => status as u16,
            _ => 0,
        }
    }

    /// Name of the route (intents only).
    pub fn route(&self) -> &'a [u8] {
        match self.find(id::ROUTE) {
            Some(Value::Bytes(route)) => route,
            _ => &[],
        }
    }

    fn find(&self, wanted: u8) -> Option<Value<'a>> {
        self.fields().map_while(Result::ok).find(|(id, _)| *id == wanted).map(|(_, value)| value)
    }

    /// The fields as they come; ends after the first malformed one.
    pub fn fields(&self) -> Fields<'a> {
        Fields { rest: self.raw_fields }
    }

    /// Tells `sink` every fact of the record by name.
    pub fn visit(&self, sink: &mut impl Sink) -> Result<(), Malformed> {
        match self.kind {
            INTENT => sink.text("kind", "intent"),
            OUTCOME => sink.text("kind", "outcome"),
            other => sink.text("kind", &format!("kind-{other}")),
        }
        for field in self.fields() {
            let (id, value) = field?;
            match value {
                Value::Int(number) => self.visit_int(id, number, sink),
                Value::Bytes(bytes) => visit_bytes(id, bytes, sink)?,
            }
        }
        Ok(())
    }

    fn visit_int(&self, id: u8, number: u64, sink: &mut impl Sink) {
        let name = match id {
            id::WALL => "wall_ns",
            id::MONO => "mono_ns",
            id::DURATION => "duration_ns",
            id::STATUS => "status",
            id::ATTEMPTS => "attempts",
            id::UPSTREAM => "upstream_ns",
            id::REQUEST_BYTES => "request_bytes",
            id::RESPONSE_BYTES => "response_bytes",
            id::GRPC_STATUS => {
                if let Some(status) = grpc_status(number) {
                    sink.text("grpc_status", status.name());
                }
                return;
            }
            id::SPAN => return sink.text("span_id", &hex::encode(number.to_le_bytes())),
            id::PARENT => return sink.text("parent_span_id", &hex::encode(number.to_le_bytes())),
            id::FLAGS => {
                for (bit, name) in [(HTTPS, "https"), (SAMPLED, "sampled"), (TRUNCATED, "truncated")] {
                    if number & bit != 0 {
                        sink.flag(name);
                    }
                }
                return;
            }
            _ => return sink.other(&format!("field-{id}"), &number.to_be_bytes()),
        };
        sink.int(name, number);
    }
}

fn visit_bytes(id: u8, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Malformed> {
    let name = match id {
        id::ENTRYPOINT => "entrypoint",
        id::ROUTE => "route",
        id::SERVICE => "service",
        id::METHOD => "method",
        id::HOST => "host",
        id::PATH => "path",
        id::IDENTITY => "identity",
        id::USER_AGENT => "user_agent",
        id::TLS => "tls",
        id::CLIENT_CERT => "client_cert",
        id::CODE => "code",
        id::ENDPOINT => "endpoint",
        id::EXCHANGE => {
            let exchange = bytes.try_into().map_err(|_| Malformed("exchange id of the wrong size"))?;
            sink.text("exchange", &uuid(exchange));
            return Ok(());
        }
        id::TRACE => {
            sink.text("trace_id", &hex::encode(bytes));
            return Ok(());
        }
        id::REVISION => {
            sink.text("revision", &hex::encode(bytes));
            return Ok(());
        }
        id::CLIENT => {
            let (ip, port) = client(bytes).ok_or(Malformed("client address of the wrong size"))?;
            sink.text("client_ip", &ip.to_string());
            if port != 0 {
                sink.int("client_port", port.into());
            }
            return Ok(());
        }
        id::FINDING => {
            sink.finding(&decode_finding(bytes)?);
            return Ok(());
        }
        id::EXTENSION => {
            let (&len, rest) = bytes.split_first().ok_or(Malformed("empty extension"))?;
            let (name, value) = rest.split_at_checked(len.into()).ok_or(Malformed("extension name cut off"))?;
            sink.other(&String::from_utf8_lossy(name), value);
            return Ok(());
        }
        _ => {
            sink.other(&format!("field-{id}"), bytes);
            return Ok(());
        }
    };
    sink.text(name, &String::from_utf8_lossy(bytes));
    Ok(())
}

pub(super) fn grpc_status(number: u64) -> Option<Status> {
    Status::ALL.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
}

pub(super) fn client(bytes: &[u8]) -> Option<(IpAddr, u16)> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => return None,
    };
    Some((ip, u16::from_be_bytes(*port)))
}

pub(super) fn decode_finding(bytes: &[u8]) -> Result<Finding<'_>, Malformed> {
    let mut finding = Finding { rule: "", action: "", shadow: false, response: false, start: 0, end: 0 };
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Malformed("finding not in UTF-8"));
    for field in (Fields { rest: bytes }) {
        match field? {
            (id::RULE, Value::Bytes(rule)) => finding.rule = text(rule)?,
            (id::ACTION, Value::Bytes(action)) => finding.action = text(action)?,
            (id::FINDING_FLAGS, Value::Int(flags)) => {
                finding.shadow = flags & SHADOW != 0;
                finding.response = flags & RESPONSE != 0;
            }
            (id::START, Value::Int(start)) => finding.start = start as u32,
            (id::END, Value::Int(end)) => finding.end = end as u32,
            _ => {}
        }
    }
    Ok(finding)
}

/// Canonical text of an exchange id (RFC 9562).
pub fn uuid(id: [u8; 16]) -> String {
    let hex = hex::encode(id);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The fields of a record, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (value, rest) = self.rest.split_at_checked(len).ok_or(Malformed("field cut off"))?;
        self.rest = rest;
        Ok(value)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("number too long"))
    }

    fn field(&mut self) -> Result<(u8, Value<'a>), Malformed> {
        let tag = self.take(1)?[0];
        let value = match tag & 3 {
            VARINT => Value::Int(self.varint()?),
            FIXED8 => {
                let bytes = self.take(8)?;
                Value::Int(bytes.try_into().map(u64::from_le_bytes).map_err(|_| Malformed("field cut off"))?)
            }
            FIXED16 => Value::Bytes(self.take(16)?),
            _ => {
                let len = self.varint()?;
                Value::Bytes(self.take(len.try_into().map_err(|_| Malformed("field cut off"))?)?)
            }
        };
        Ok((tag >> 2, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u8, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Receives the facts of a record by name; names are those of [`Intent`] and [`Outcome`].
pub trait Sink {
    /// Ids come as text: the exchange as a UUID, trace, span and revision as lower-case hex.
    fn text(&mut self, name: &'static str, value: &str);
    fn int(&mut self, name: &'static str, value: u64);
    /// Only flags that are set are told.
    fn flag(&mut self, name: &'static str);
    fn finding(&mut self, finding: &Finding<'_>);
    /// Extensions by name, and fields of later versions as `field-N`.
    fn other(&mut self, name: &str, value: &[u8]);
}

impl Sink for serde_json::Map<String, serde_json::Value> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.insert(name.into(), value.into());
    }
    fn int(&mut self, name: &'static str, value: u64) {
        self.insert(name.into(), value.into());
    }
    fn flag(&mut self, name: &'static str) {
        self.insert(name.into(), true.into());
    }
    fn finding(&mut self, finding: &Finding<'_>) {
        let list = self.entry("findings").or_insert_with(|| serde_json::Value::Array(Vec::new()));
        if let Some(list) = list.as_array_mut() {
            list.push(serde_json::json!({
                "rule": finding.rule, "action": finding.action, "shadow": finding.shadow,
                "response": finding.response, "start": finding.start, "end": finding.end,
            }));
        }
    }
    fn other(&mut self, name: &str, value: &[u8]) {
        let json = (name == LLM).then(|| serde_json::from_slice(value).ok()).flatten();
        self.insert(name.into(), json.unwrap_or_else(|| hex::encode(value).into()));
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
