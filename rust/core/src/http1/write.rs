//! Writers: neutral heads to bytes, with the framing the connection at hand needs.

use crate::message::{BodyLength, Fields, Known, RequestHead, ResponseHead};

/// How a response is framed on its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body, and no length said either (1xx, 204, answers to HEAD, 304).
    #[default]
    None,
    Exact(u64),
    Chunked,
    /// The end of the connection ends the body (HTTP/1.0 clients).
    UntilClose,
}

/// Writes a request head for an upstream: `host` as the only Host, then the fields, then framing.
pub fn request_head(out: &mut Vec<u8>, head: &RequestHead, host: &[u8], extra: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(head.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    for (known, name, value) in head.fields.iter() {
        if known != Known::Host {
            field(out, name, value);
        }
    }
    extra(out);
    match head.length {
        BodyLength::None | BodyLength::UntilClose => {
            // RFC 9110 §8.6: methods that define content say so even when there is none.
            use crate::message::Method;
            if matches!(head.method, Method::Post | Method::Put | Method::Patch) {
                out.extend_from_slice(b"content-length: 0\r\n");
            }
        }
        BodyLength::Exact(n) => content_length(out, n),
        BodyLength::Streamed => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if head.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// `host[:port]` of a head, as a Host field carries it.
pub fn authority(out: &mut Vec<u8>, head: &RequestHead) {
    out.extend_from_slice(&head.host);
    if let Some(port) = head.port {
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
}

/// Writes a response head with the lines that `extra` adds. `close` announces that the connection ends after
/// this message; `keep_alive_10` tells an HTTP/1.0 client that it does not.
pub fn response_head(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    framing: Framing,
    close: bool,
    keep_alive_10: bool,
    extra: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(head.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(head.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    fields(out, &head.fields);
    extra(out);
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Exact(n) => content_length(out, n),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if head.status == 101 {
        out.extend_from_slice(b"connection: upgrade\r\n");
    } else if close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if head.fields.has(Known::Upgrade) {
        // RFC 9110 §7.8: 426 names what is spoken.
        out.extend_from_slice(b"connection: upgrade\r\n");
    } else if keep_alive_10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// One line.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub fn fields(out: &mut Vec<u8>, list: &Fields) {
    for (_, name, value) in list.iter() {
        field(out, name, value);
    }
}

/// The line in front of a chunk's data; the data is followed by CRLF.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for i in (0..nibbles).rev() {
        out.push(DIGITS[(size >> (i * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The last chunk and the trailers.
pub fn last_chunk(out: &mut Vec<u8>, trailers: &Fields) {
    out.extend_from_slice(b"0\r\n");
    fields(out, trailers);
    out.extend_from_slice(b"\r\n");
}

fn content_length(out: &mut Vec<u8>, n: u64) {
    field(out, Known::ContentLength.name().as_bytes(), itoa::Buffer::new().format(n).as_bytes());
}

/// RFC 9110 §15 and registered reason phrases; empty for the rest.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
