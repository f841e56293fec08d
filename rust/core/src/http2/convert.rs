//! Heads: the `http` crate's to neutral ones and back.

use crate::error::Code;
use crate::http1::{content_length, is_plain_trailer, read_authority, shadows_known, HeadLimits, Violation};
use crate::message::{BodyLength, Fields, Known, Method, RequestHead, ResponseHead, Scheme, Version};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{request, response};

/// A request head as it came. `end`: nothing follows it.
pub fn request(
    parts: &request::Parts,
    end: bool,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<(), Violation> {
    head.clear();
    head.version = Version::Http2;
    let method = parts.method.as_str().as_bytes();
    if method.iter().any(u8::is_ascii_lowercase) {
        return Err(Violation::bad("lower-case letter in the method"));
    }
    head.method = Method::parse(method).ok_or(Violation::bad("malformed method"))?;
    head.scheme = if parts.uri.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
    let tunnel = parts.extensions.get::<h2::ext::Protocol>();
    if head.method == Method::Connect {
        // RFC 8441: the same request that HTTP/1.1 makes with GET and Upgrade.
        let Some(protocol) = tunnel.filter(|p| p.as_str() == "websocket") else {
            return Err(Violation { code: Code::NotImplemented, detail: "CONNECT is not supported" });
        };
        head.method = Method::Get;
        head.upgrade = true;
        head.fields.append_known(Known::Upgrade, b"upgrade", protocol.as_str().as_bytes());
    }
    if parts.headers.len() > limits.fields {
        return Err(Violation { code: Code::HeadTooLarge, detail: "too many fields" });
    }
    let mut length = None;
    let mut cookie = Vec::new();
    for (name, value) in &parts.headers {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        check_field(name, value)?;
        let known = Known::of(name);
        match known {
            Known::ContentLength => only(&mut length, value)?,
            Known::Host => {
                let named = parts.uri.authority().map(|a| a.as_str().as_bytes());
                if !head.host.is_empty() || named.is_some_and(|a| !a.eq_ignore_ascii_case(value)) {
                    return Err(Violation::bad(":authority and Host differ"));
                }
                if named.is_none() {
                    read_authority(value, head)?;
                }
            }
            // RFC 9113 §8.2.3: pieces of one field.
            Known::Cookie => {
                if !cookie.is_empty() {
                    cookie.extend_from_slice(b"; ");
                }
                cookie.extend_from_slice(value);
            }
            Known::Expect => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Violation { code: Code::ExpectationFailed, detail: "unknown expectation" });
                }
                head.expect_continue = true;
            }
            Known::Te => {
                if !value.eq_ignore_ascii_case(b"trailers") {
                    return Err(Violation::bad("TE may only be trailers"));
                }
            }
            _ if is_connection_field(known) => return Err(Violation::bad("connection field in HTTP/2")),
            Known::Trailer | Known::Http2Settings | Known::ProxyAuthorization => {}
            Known::Other if shadows_known(name) || !limits.admits(name)? => {}
            _ => head.fields.append_known(known, name, value),
        }
    }
    if !cookie.is_empty() {
        head.fields.append_known(Known::Cookie, b"cookie", &cookie);
    }
    if let Some(authority) = parts.uri.authority() {
        read_authority(authority.as_str().as_bytes(), head)?;
    }
    if head.host.is_empty() {
        return Err(Violation::bad(":authority is missing"));
    }
    head.length = match length {
        _ if head.upgrade => BodyLength::None,
        Some(n) if end && n > 0 => return Err(Violation::bad("Content-Length without a body")),
        _ if end => BodyLength::None,
        Some(n) => BodyLength::Exact(n),
        None => BodyLength::Streamed,
    };
    // Without :authority the `http` crate keeps no scheme.
    let scheme = parts.uri.scheme_str().unwrap_or_default().as_bytes();
    if parts.uri.authority().is_some() && !scheme.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(Violation::bad("malformed :scheme"));
    }
    let target = parts.uri.path_and_query().map_or("", |t| t.as_str());
    if target == "*" && head.method != Method::Options {
        return Err(Violation::bad("malformed request target"));
    }
    head.target.parse(target.as_bytes(), limits.path).map_err(|e| Violation::bad(e.0))
}

/// An answer's head as it came. `end`: nothing follows it; `to_head`: it answers HEAD.
pub fn response(parts: &response::Parts, end: bool, to_head: bool, head: &mut ResponseHead) -> Result<(), Violation> {
    head.clear();
    head.status = parts.status.as_u16();
    if !(100..=599).contains(&head.status) || head.status == 101 {
        return Err(Violation::bad("status out of range"));
    }
    let mut length = None;
    for (name, value) in &parts.headers {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        check_field(name, value)?;
        let known = Known::of(name);
        match known {
            Known::ContentLength => only(&mut length, value)?,
            _ if is_connection_field(known) => return Err(Violation::bad("connection field in HTTP/2")),
            Known::Te | Known::Trailer => {}
            Known::Other if shadows_known(name) => {}
            _ => head.fields.append_known(known, name, value),
        }
    }
    if head.status < 200 || head.status == 204 {
        if length.is_some_and(|n| n > 0) {
            return Err(Violation::bad("body announced where none may be"));
        }
        head.length = if end || head.status < 200 { BodyLength::None } else { BodyLength::Exact(0) };
        return Ok(());
    }
    if to_head || head.status == 304 {
        if let Some(n) = length {
            let text = itoa::Buffer::new().format(n).to_owned();
            head.fields.append_known(Known::ContentLength, b"content-length", text.as_bytes());
        }
        return Ok(());
    }
    head.length = match length {
        Some(n) if end && n > 0 => return Err(Violation::bad("Content-Length without a body")),
        _ if end => BodyLength::None,
        Some(n) => BodyLength::Exact(n),
        None => BodyLength::Streamed,
    };
    Ok(())
}

/// Trailers, by the rules of HTTP/1's.
pub fn trailers(map: &HeaderMap, fields: &mut Fields) -> Result<(), Violation> {
    fields.clear();
    for (name, value) in map {
        check_field(name.as_str().as_bytes(), value.as_bytes())?;
        if is_plain_trailer(name.as_str().as_bytes()) {
            fields.append(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    Ok(())
}

/// Fields as HTTP/2 writes them; what cannot be written (no caller makes such) is left out.
pub fn append(map: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
        map.append(name, value);
    }
}

pub fn append_all(map: &mut HeaderMap, fields: &Fields) {
    for (known, name, value) in fields.iter() {
        if !is_connection_field(known) {
            append(map, name, value);
        }
    }
}

/// A length that is said once.
fn only(length: &mut Option<u64>, value: &[u8]) -> Result<(), Violation> {
    match length.replace(content_length(value)?) {
        None => Ok(()),
        Some(_) => Err(Violation::bad("more than one Content-Length")),
    }
}

/// RFC 9113 §8.2.2: of the connection, which HTTP/2 has no fields for.
fn is_connection_field(known: Known) -> bool {
    matches!(
        known,
        Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::TransferEncoding | Known::Upgrade
    )
}

/// RFC 9113 §8.2.1. The `http` crate's names may hold a quotation mark, which no token does.
fn check_field(name: &[u8], value: &[u8]) -> Result<(), Violation> {
    if !crate::message::fields::is_field_name(name) {
        return Err(Violation::bad("malformed field name"));
    }
    let padded = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    if padded(value.first()) || padded(value.last()) || !crate::message::fields::is_field_value(value) {
        return Err(Violation::bad("malformed field value"));
    }
    Ok(())
}
