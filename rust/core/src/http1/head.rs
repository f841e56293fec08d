//! Heads: from raw lines to a neutral head, with every framing rule of RFC 9112 §3, §5, §6 and §9.
//!
//! Rules:
//! 1. One pass. Framing, connection and gateway-owned fields are taken out while the rest is copied.
//! 2. A name written with `_` for `-` that would then be a name the gateway knows is dropped: some
//!    origins read it as that name (CVE-2026-39858).
//! 3. A method has no lower-case letter: some origins read `get` as GET, which no rule on methods here would
//!    have seen (found by `tests/differential`; no registered method has one).
//! 4. `Connection` may nominate only fields that neither frame the message nor carry identity.

use super::Violation;
use crate::config::Underscores;
use crate::error::Code;
use crate::message::fields::{is_field_name, is_field_value, Fields, Known};
use crate::message::{BodyLength, Method, PathOptions, RequestHead, ResponseHead, Scheme, Version};
use smallvec::SmallVec;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Caps on a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes up to and including the empty line.
    pub bytes: usize,
    /// Field lines; at most 256 are ever accepted.
    pub fields: usize,
    pub path: PathOptions,
    /// What becomes of field names with `_`.
    pub underscores: Underscores,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits { bytes: 32 << 10, fields: 100, path: PathOptions::default(), underscores: Underscores::default() }
    }
}

impl HeadLimits {
    /// Whether a request's field (header or trailer) of this name is passed on: false drops it, an error refuses the
    /// request. Names that the gateway would know with `-` for `_` are dropped elsewhere, whatever this says.
    pub fn admits(&self, name: &[u8]) -> Result<bool, Violation> {
        if self.underscores == Underscores::Keep || memchr::memchr(b'_', name).is_none() {
            return Ok(true);
        }
        match self.underscores {
            Underscores::Refuse => Err(Violation::bad("field name with an underscore (underscores = \"refuse\")")),
            _ => Ok(false),
        }
    }
}

/// What a head says about its connection, beside the neutral head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The connection may carry another message after this one.
    pub keep_alive: bool,
}

const MAX_FIELDS: usize = 256;
type Slots<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_FIELDS];

/// Looks for the end of a head from `scanned` on.
///
/// Returns the head's length, or `None` and updates `scanned`. A bare LF is refused as soon as it is seen,
/// and so is a head longer than `limit`.
pub fn find_end(input: &[u8], scanned: &mut usize, limit: usize) -> Result<Option<usize>, Violation> {
    static END: OnceLock<memchr::memmem::Finder<'static>> = OnceLock::new();
    let finder = END.get_or_init(|| memchr::memmem::Finder::new(b"\r\n\r\n"));
    // What was scanned before may hold the first bytes of the end.
    let from = scanned.saturating_sub(3);
    let end = finder.find(&input[from..]).map(|at| from + at + 4);
    let head = &input[from..end.unwrap_or(input.len())];
    let bare = |at: usize| match at {
        // Looked at before, with the byte in front of it.
        0 => from == 0,
        _ => head[at - 1] != b'\r',
    };
    if memchr::memchr_iter(b'\n', head).any(bare) {
        return Err(Violation::bad("line ends in a bare LF"));
    }
    if head.len() + from > limit {
        return Err(Violation { code: Code::HeadTooLarge, detail: "head too large" });
    }
    *scanned = input.len();
    Ok(end)
}

/// Parses a complete request head (`raw` ends with the empty line).
pub fn parse_request(raw: &[u8], limits: &HeadLimits, head: &mut RequestHead) -> Result<ConnectionInfo, Violation> {
    head.clear();
    let mut slots: Slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(raw, &mut slots[..limits.fields.min(MAX_FIELDS)]) {
        Ok(httparse::Status::Complete(n)) if n == raw.len() => {}
        Ok(_) => return Err(Violation::bad("malformed head")),
        // RFC 9112 §3: what is no version at all makes a malformed line, not another version.
        Err(httparse::Error::Version) if !names_version(raw) => return Err(Violation::bad("malformed request line")),
        Err(error) => return Err(tokeniser(error)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Violation::bad("malformed request line"));
    };
    head.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    if method.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(Violation::bad("lower-case letter in the method"));
    }
    head.method = Method::parse(method.as_bytes()).ok_or(Violation::bad("malformed method"))?;

    let mut reader = FieldReader::default();
    let mut host: Option<&[u8]> = None;
    for field in parsed.headers.iter() {
        let known = Known::of(field.name.as_bytes());
        match known {
            Known::Host => {
                if host.replace(field.value).is_some() {
                    return Err(Violation::bad("more than one Host"));
                }
            }
            Known::Expect => {
                if !field.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Violation { code: Code::ExpectationFailed, detail: "unknown expectation" });
                }
                head.expect_continue = head.version >= Version::Http11;
            }
            Known::Http2Settings | Known::ProxyAuthorization => {}
            Known::Other if !limits.admits(field.name.as_bytes())? => {}
            _ => reader.take(known, field, &mut head.fields)?,
        }
    }
    reader.finish(&mut head.fields)?;
    head.length = reader.request_length(head.version)?;

    read_target(target.as_bytes(), host, limits, head)?;
    head.upgrade = reader.upgrades(head);
    if head.upgrade {
        if let Some(token) = reader.upgrade {
            head.fields.append_known(Known::Upgrade, b"upgrade", token);
        }
    }
    Ok(ConnectionInfo { keep_alive: reader.keep_alive(head.version) })
}

/// Parses a complete response head. `to_head` when it answers a HEAD request.
pub fn parse_response(raw: &[u8], to_head: bool, head: &mut ResponseHead) -> Result<ConnectionInfo, Violation> {
    head.clear();
    if raw.first() != Some(&b'H') {
        // The tokeniser would skip empty lines.
        return Err(Violation::bad("malformed status line"));
    }
    let mut slots: Slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    config.allow_multiple_spaces_in_response_status_delimiters(false);
    match config.parse_response_with_uninit_headers(&mut parsed, raw, &mut slots) {
        Ok(httparse::Status::Complete(n)) if n == raw.len() => {}
        Ok(_) => return Err(Violation::bad("malformed head")),
        Err(error) => return Err(tokeniser(error)),
    }
    let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Violation::bad("malformed status line"));
    };
    if !(100..=599).contains(&status) {
        return Err(Violation::bad("status out of range"));
    }
    head.status = status;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let mut reader = FieldReader::default();
    for field in parsed.headers.iter() {
        reader.take(Known::of(field.name.as_bytes()), field, &mut head.fields)?;
    }
    reader.finish(&mut head.fields)?;
    head.length = reader.response_length(version, status, to_head, &mut head.fields)?;
    if status == 101 {
        if let Some(token) = reader.upgrade {
            head.fields.append_known(Known::Upgrade, b"upgrade", token);
        }
    }
    let keep_alive = reader.keep_alive(version) && head.length != BodyLength::UntilClose;
    Ok(ConnectionInfo { keep_alive })
}

/// Trailer lines; those that would frame, route or authenticate are dropped (RFC 9110 §6.5.1).
pub fn parse_trailers(raw: &[u8], trailers: &mut Fields) -> Result<(), Violation> {
    trailers.clear();
    if raw == b"\r\n" {
        return Ok(());
    }
    let mut slots = [httparse::EMPTY_HEADER; 32];
    let lines = match httparse::parse_headers(raw, &mut slots) {
        Ok(httparse::Status::Complete((n, lines))) if n == raw.len() => lines,
        _ => return Err(Violation::bad("malformed trailers")),
    };
    for line in lines.iter() {
        if !is_field_value(line.value) {
            return Err(Violation::bad("control character in a trailer"));
        }
        let name = line.name.as_bytes();
        if is_plain_trailer(name) {
            trailers.append(name, line.value);
        }
    }
    Ok(())
}

/// Only fields without a meaning to the gateway may come late.
pub(crate) fn is_plain_trailer(name: &[u8]) -> bool {
    Known::of(name) == Known::Other && !shadows_known(name) && !must_come_early(name)
}

/// Fields beyond the known ones that whoever reads a message needs before its content: modifiers, conditions,
/// credentials, what describes the content or how long it may be kept (RFC 9110 §6.5.1).
fn must_come_early(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 25] = [
        b"accept-charset",
        b"accept-language",
        b"accept-ranges",
        b"age",
        b"authentication-info",
        b"content-disposition",
        b"content-language",
        b"content-location",
        b"content-range",
        b"cookie2",
        b"early-data",
        b"expires",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"last-modified",
        b"max-forwards",
        b"pragma",
        b"proxy-authentication-info",
        b"range",
        b"set-cookie2",
        b"warning",
        b"www-authenticate",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Takes framing and connection fields out while copying the others.
#[derive(Default)]
struct FieldReader<'b> {
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep: bool,
    upgrade_nominated: bool,
    upgrade: Option<&'b [u8]>,
    nominated: SmallVec<[&'b [u8]; 4]>,
}

impl<'b> FieldReader<'b> {
    fn take(&mut self, known: Known, field: &httparse::Header<'b>, fields: &mut Fields) -> Result<(), Violation> {
        let (name, value) = (field.name.as_bytes(), field.value);
        match known {
            Known::ContentLength => {
                if self.content_length.replace(content_length(value)?).is_some() {
                    return Err(Violation::bad("more than one Content-Length"));
                }
            }
            Known::TransferEncoding => {
                if self.chunked {
                    return Err(Violation::bad("more than one Transfer-Encoding"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    let known_coding = value.split(|&b| b == b',').all(|coding| is_field_name(coding.trim_ascii()));
                    return Err(if known_coding && !value.is_empty() {
                        Violation { code: Code::NotImplemented, detail: "transfer coding not supported" }
                    } else {
                        Violation::bad("malformed Transfer-Encoding")
                    });
                }
                self.chunked = true;
            }
            Known::Connection => self.connection(value)?,
            Known::Upgrade => self.upgrade = Some(value),
            Known::KeepAlive | Known::ProxyConnection | Known::Te | Known::Trailer => {}
            _ => {
                // The tokeniser lets no control character but HTAB into a value.
                debug_assert!(is_field_value(value));
                if known != Known::Other || !shadows_known(name) {
                    fields.append_known(known, name, value);
                }
            }
        }
        Ok(())
    }

    fn connection(&mut self, value: &'b [u8]) -> Result<(), Violation> {
        for token in value.split(|&b| b == b',').map(|t| t.trim_ascii()).filter(|t| !t.is_empty()) {
            match Known::of(token) {
                _ if token.eq_ignore_ascii_case(b"close") => self.close = true,
                Known::KeepAlive => self.keep = true,
                Known::Upgrade => self.upgrade_nominated = true,
                Known::Te | Known::Trailer | Known::ProxyConnection | Known::Http2Settings => {}
                Known::Other if is_field_name(token) && !shadows_known(token) => self.nominated.push(token),
                _ => return Err(Violation::bad("Connection names a field it may not")),
            }
        }
        Ok(())
    }

    /// Drops the fields that `Connection` nominated.
    fn finish(&mut self, fields: &mut Fields) -> Result<(), Violation> {
        if self.chunked && self.content_length.is_some() {
            return Err(Violation::bad("both Content-Length and Transfer-Encoding"));
        }
        for name in &self.nominated {
            fields.remove(name);
        }
        Ok(())
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version >= Version::Http11 || self.keep)
    }

    fn request_length(&self, version: Version) -> Result<BodyLength, Violation> {
        if self.chunked && version == Version::Http10 {
            return Err(Violation::bad("Transfer-Encoding in HTTP/1.0"));
        }
        Ok(match self.content_length {
            _ if self.chunked => BodyLength::Streamed,
            Some(n) => BodyLength::Exact(n),
            None => BodyLength::None,
        })
    }

    fn response_length(
        &self,
        version: Version,
        status: u16,
        to_head: bool,
        fields: &mut Fields,
    ) -> Result<BodyLength, Violation> {
        if self.chunked && version == Version::Http10 {
            return Err(Violation::bad("Transfer-Encoding in HTTP/1.0"));
        }
        if status < 200 || status == 204 {
            if self.chunked || self.content_length.is_some_and(|n| n > 0) {
                return Err(Violation::bad("body announced where none may be"));
            }
            return Ok(BodyLength::None);
        }
        if to_head || status == 304 {
            // The length describes what GET would have brought.
            if let Some(n) = self.content_length {
                fields.append_known(Known::ContentLength, b"content-length", itoa::Buffer::new().format(n).as_bytes());
            }
            return Ok(BodyLength::None);
        }
        Ok(match self.content_length {
            _ if self.chunked => BodyLength::Streamed,
            Some(n) => BodyLength::Exact(n),
            None => BodyLength::UntilClose,
        })
    }

    /// RFC 9110 §7.8, without content (a length of 0 says the same as none, and is what is written for a POST).
    /// `h2c` is never passed on: the bytes behind it would escape every rule here.
    fn upgrades(&self, head: &RequestHead) -> bool {
        self.upgrade_nominated
            && head.version >= Version::Http11
            && matches!(head.length, BodyLength::None | BodyLength::Exact(0))
            && self.upgrade.is_some_and(|token| {
                !token.is_empty()
                    && is_field_value(token)
                    && !token.split(|&b| b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"h2c"))
            })
    }
}

/// RFC 9110 §8.6, digits only: no sign, list, space or leading zero.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Violation> {
    let plain = !value.is_empty()
        && value.len() <= 18
        && value.iter().all(u8::is_ascii_digit)
        && (value[0] != b'0' || value.len() == 1);
    if !plain {
        return Err(Violation::bad("malformed Content-Length"));
    }
    Ok(value.iter().fold(0, |n, &b| n * 10 + u64::from(b - b'0')))
}

/// `X_Forwarded_For` and its like: with `-` for `_` the gateway would know it.
pub(crate) fn shadows_known(name: &[u8]) -> bool {
    if memchr::memchr(b'_', name).is_none() {
        return false;
    }
    let dashed: SmallVec<[u8; 64]> = name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect();
    Known::of(&dashed) != Known::Other
}

/// RFC 9112 §3.2: origin-, absolute- and asterisk-form; CONNECT is not spoken.
fn read_target(raw: &[u8], host: Option<&[u8]>, limits: &HeadLimits, head: &mut RequestHead) -> Result<(), Violation> {
    if head.method == Method::Connect {
        return Err(Violation { code: Code::NotImplemented, detail: "CONNECT is not supported" });
    }
    if host.is_none() && head.version >= Version::Http11 {
        return Err(Violation::bad("Host is missing"));
    }
    let plain = raw.first() == Some(&b'/') || (raw == b"*" && head.method == Method::Options);
    if !plain {
        let (scheme, rest) = if let Some(rest) = strip_prefix_ignore_case(raw, b"http://") {
            (Scheme::Http, rest)
        } else if let Some(rest) = strip_prefix_ignore_case(raw, b"https://") {
            (Scheme::Https, rest)
        } else {
            return Err(Violation::bad("malformed request target"));
        };
        let end = rest.iter().position(|&b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        head.scheme = scheme;
        // The target's authority wins over Host (RFC 9112 §3.2.2), which must still be well formed.
        read_authority(&rest[..end], head)?;
        if let Some(host) = host {
            let mut other = RequestHead::default();
            read_authority(host, &mut other)?;
        }
        return head.target.parse(if end == rest.len() { b"/" } else { &rest[end..] }, limits.path).map_err(|e| {
            Violation::bad(if rest[end..].first() == Some(&b'?') { "absolute target without a path" } else { e.0 })
        });
    }
    if let Some(host) = host {
        if !(host.is_empty() && head.version == Version::Http10) {
            read_authority(host, head)?;
        }
    }
    head.target.parse(raw, limits.path).map_err(|e| Violation::bad(e.0))
}

/// `host[:port]` without userinfo (RFC 9110 §7.2), lower-cased; a final dot is dropped.
pub(crate) fn read_authority(raw: &[u8], head: &mut RequestHead) -> Result<(), Violation> {
    const BAD: Violation = Violation::bad("malformed host");
    let (host, port) = if raw.first() == Some(&b'[') {
        let end = memchr::memchr(b']', raw).ok_or(BAD)?;
        let inside = std::str::from_utf8(&raw[1..end]).map_err(|_| BAD)?;
        inside.parse::<std::net::Ipv6Addr>().map_err(|_| BAD)?;
        match &raw[end + 1..] {
            [] => (&raw[..=end], None),
            [b':', port @ ..] => (&raw[..=end], Some(port)),
            _ => return Err(BAD),
        }
    } else {
        match memchr::memchr(b':', raw) {
            Some(at) => (&raw[..at], Some(&raw[at + 1..])),
            None => (raw, None),
        }
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.is_empty() || host.len() > 255 {
        return Err(BAD);
    }
    head.port = match port {
        None | Some([]) => None,
        Some(digits) if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            let port = digits.iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0'));
            Some(u16::try_from(port).map_err(|_| BAD)?)
        }
        Some(_) => return Err(BAD),
    };
    head.host.clear();
    head.host.extend_from_slice(host);
    if host[0] == b'[' {
        // An address was parsed as a whole above; only its case is left to do.
        head.host.make_ascii_lowercase();
        return Ok(());
    }
    for b in &mut head.host {
        *b = HOST[*b as usize];
        if *b == 0 {
            return Err(BAD);
        }
    }
    Ok(())
}

/// Bytes of a host name in lower case; 0 for all others.
static HOST: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            table[i] = b.to_ascii_lowercase();
        }
        i += 1;
    }
    table
};

fn strip_prefix_ignore_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Whether the request line has a third word of the form `HTTP/1.1` (RFC 9112 §2.3) and ends there.
fn names_version(raw: &[u8]) -> bool {
    let line = memchr::memchr(b'\r', raw).map_or(raw, |end| &raw[..end]);
    let version = line.splitn(3, |&b| b == b' ').nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    version.is_some_and(|v| {
        v.iter().position(|&b| b == b'.').is_some_and(|dot| digits(&v[..dot]) && digits(&v[dot + 1..]))
    })
}

fn tokeniser(error: httparse::Error) -> Violation {
    match error {
        httparse::Error::TooManyHeaders => Violation { code: Code::HeadTooLarge, detail: "too many fields" },
        httparse::Error::Version => {
            Violation { code: Code::VersionNotSupported, detail: "only HTTP/1.0 and HTTP/1.1 are spoken here" }
        }
        httparse::Error::HeaderName => Violation::bad("malformed field name"),
        httparse::Error::HeaderValue => Violation::bad("malformed field value"),
        httparse::Error::NewLine => Violation::bad("malformed line end"),
        httparse::Error::Status => Violation::bad("malformed status line"),
        httparse::Error::Token => Violation::bad("malformed request line"),
    }
}
