//! The framing rules as a table, and what no way of cutting a stream may change.

use super::head::{parse_request, parse_response, parse_trailers};
use super::{Client, HeadLimits, RequestEvent, ResponseEvent, Server};
use crate::config::Underscores;
use crate::error::Code;
use crate::message::{BodyLength, RequestHead, ResponseHead};
use proptest::prelude::*;

fn request(raw: &str) -> Result<RequestHead, Code> {
    let mut head = RequestHead::default();
    let mut server = Server::default();
    match server.read(raw.as_bytes(), &HeadLimits::default(), &mut head) {
        Ok((_, RequestEvent::Head)) => Ok(head),
        Ok((_, event)) => panic!("no head in {raw:?}: {event:?}"),
        Err(violation) => Err(violation.code),
    }
}

/// `line` and `fields` with a Host and the empty line.
fn with(line: &str, fields: &str) -> String {
    format!("{line}\r\nHost: h\r\n{fields}\r\n")
}

#[test]
fn request_heads_that_are_refused() {
    let bad = Code::BadRequest;
    let get = "GET / HTTP/1.1";
    let rows: Vec<(&str, String, Code)> = vec![
        ("CL and TE", with(get, "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), bad),
        ("TE and CL", with(get, "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), bad),
        ("xchunked", with(get, "Transfer-Encoding: xchunked\r\n"), Code::NotImplemented),
        ("TE with vertical tab", with(get, "Transfer-Encoding: \x0bchunked\r\n"), bad),
        ("two equal CL", with(get, "Content-Length: 5\r\nContent-Length: 5\r\n"), bad),
        ("two unequal CL", with(get, "Content-Length: 5\r\nContent-Length: 6\r\n"), bad),
        ("CL as a list", with(get, "Content-Length: 5, 5\r\n"), bad),
        ("CL with a sign", with(get, "Content-Length: +5\r\n"), bad),
        ("negative CL", with(get, "Content-Length: -5\r\n"), bad),
        ("hexadecimal CL", with(get, "Content-Length: 0x5\r\n"), bad),
        ("CL with underscore", with(get, "Content-Length: 1_0\r\n"), bad),
        ("CL with inner space", with(get, "Content-Length: 1 0\r\n"), bad),
        ("empty CL", with(get, "Content-Length: \r\n"), bad),
        ("CL beyond 2^63", with(get, "Content-Length: 9223372036854775808\r\n"), bad),
        ("CL with leading zeros", with(get, "Content-Length: 05\r\n"), bad),
        ("two TE lines", with(get, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), bad),
        ("chunked not last", with(get, "Transfer-Encoding: chunked, gzip\r\n"), Code::NotImplemented),
        ("gzip, chunked", with(get, "Transfer-Encoding: gzip, chunked\r\n"), Code::NotImplemented),
        ("TE in HTTP/1.0", with("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n"), bad),
        ("empty TE", with(get, "Transfer-Encoding: \r\n"), bad),
        ("TE with a comma first", with(get, "Transfer-Encoding: ,chunked\r\n"), bad),
        ("TE with parameters", with(get, "Transfer-Encoding: chunked;q=1\r\n"), bad),
        ("space before the colon", with(get, "X-A : 1\r\n"), bad),
        ("folded line", with(get, "X-A: 1\r\n 2\r\n"), bad),
        ("space before a name", with(get, " X-A: 1\r\n"), bad),
        ("bare LF after a line", format!("{get}\nHost: h\r\n\r\n"), bad),
        ("bare LF at the end", format!("{get}\r\nHost: h\r\n\n"), bad),
        ("bare CR in a value", with(get, "X-A: a\rb\r\n"), bad),
        ("NUL in a value", with(get, "X-A: a\0b\r\n"), bad),
        ("control in a name", with(get, "X\x01A: b\r\n"), bad),
        ("empty name", with(get, ": b\r\n"), bad),
        ("no colon", with(get, "nonsense\r\n"), bad),
        ("Connection names Content-Length", with(get, "Connection: Content-Length\r\n"), bad),
        ("Connection names Host", with(get, "Connection: host\r\n"), bad),
        ("Connection names Authorization", with(get, "Connection: close, authorization\r\n"), bad),
        ("Connection names x_forwarded_for", with(get, "Connection: x_forwarded_for\r\n"), bad),
        ("unknown Expect", with(get, "Expect: 200-ok\r\n"), Code::ExpectationFailed),
        ("CONNECT", "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n".into(), Code::NotImplemented),
        ("HTTP/0.9", "GET /\r\n\r\n".into(), bad),
        ("HTTP/1.32", with("GET / HTTP/1.32", ""), Code::VersionNotSupported),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\n".into(), Code::VersionNotSupported),
        ("HTTP/3.0", with("GET / HTTP/3.0", ""), Code::VersionNotSupported),
        ("another protocol", with("GET / RTSP/1.0", ""), bad),
        ("version in lower case", with("GET / http/1.1", ""), bad),
        ("version without a minor", with("GET / HTTP/2", ""), bad),
        ("four words", with("GET / a HTTP/1.1", ""), bad),
        ("a space in the target", with("GET /a b HTTP/1.1", ""), bad),
        ("a space in the method", with("GE T / HTTP/1.1", ""), bad),
        ("space before the version", with("GET /  HTTP/1.1", ""), bad),
        ("method in lower case", with("get / HTTP/1.1", ""), bad),
        ("method with a lower-case letter", with("POSt / HTTP/1.1", ""), bad),
        ("method with a bracket", with("GE(T / HTTP/1.1", ""), bad),
        ("two spaces", with("GET  / HTTP/1.1", ""), bad),
        ("tab in the request line", with("GET\t/ HTTP/1.1", ""), bad),
        ("no Host", format!("{get}\r\n\r\n"), bad),
        ("two Hosts", with(get, "Host: h\r\n"), bad),
        ("empty Host", format!("{get}\r\nHost: \r\n\r\n"), bad),
        ("Host with userinfo", format!("{get}\r\nHost: a@h\r\n\r\n"), bad),
        ("Host with a path", format!("{get}\r\nHost: h/x\r\n\r\n"), bad),
        ("fragment", with("GET /a#b HTTP/1.1", ""), bad),
        ("encoded slash", with("GET /a%2fb HTTP/1.1", ""), bad),
        ("backslash", with("GET /a\\b HTTP/1.1", ""), bad),
        ("encoded NUL", with("GET /a%00 HTTP/1.1", ""), bad),
        ("encoded CRLF", with("GET /a%0d%0a HTTP/1.1", ""), bad),
        ("leaves the root", with("GET /../etc HTTP/1.1", ""), bad),
        ("target without a slash", with("GET a HTTP/1.1", ""), bad),
        ("asterisk for GET", with("GET * HTTP/1.1", ""), bad),
        ("authority of the target with userinfo", with("GET http://a@h/ HTTP/1.1", ""), bad),
        ("head too large", with(get, &format!("X: {}\r\n", "a".repeat(40_000))), Code::HeadTooLarge),
        ("too many fields", with(get, &"X: 1\r\n".repeat(200)), Code::HeadTooLarge),
    ];
    for (name, raw, code) in rows {
        let got = request(&raw);
        assert_eq!(got.as_ref().map(|_| ()).map_err(|c| *c), Err(code), "{name}");
    }
}

#[test]
fn request_heads_that_are_read() {
    let head = request("GET http://API.Example:8080/a/../b?q HTTP/1.1\r\nHost: other\r\n\r\n").unwrap();
    assert_eq!((&head.host[..], head.port, head.target.as_bytes()), (&b"api.example"[..], Some(8080), &b"/b?q"[..]));
    let head = request("POST / HTTP/1.1\r\nHost: [::1]:1\r\ntransfer-encoding: Chunked\r\n\r\n").unwrap();
    assert_eq!((head.length, &head.host[..]), (BodyLength::Streamed, &b"[::1]"[..]));
    let head = request(
        "GET / HTTP/1.1\r\nHost: h.\r\nX_Forwarded_For: 1\r\nContent_Length: 5\r\nX_Mine: 1\r\nTE: trailers\r\n\
         Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\n\r\n",
    )
    .unwrap();
    let names: Vec<_> = head.fields.iter().map(|(_, name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!((names.as_slice(), &head.host[..]), (&["X_Mine".to_owned()][..], &b"h"[..]));
    assert!(!head.upgrade && head.length == BodyLength::None);
    assert!(
        request("GET /w HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap().upgrade
    );
    assert!(!request("GET /w HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a, h2c\r\n\r\n").unwrap().upgrade);
    let post =
        |length: &str| with("POST /w HTTP/1.1", &format!("Connection: upgrade\r\nUpgrade: spdy/3.1\r\n{length}"));
    assert!(request(&post("")).unwrap().upgrade && request(&post("Content-Length: 0\r\n")).unwrap().upgrade);
    assert!(!request(&post("Content-Length: 1\r\n")).unwrap().upgrade);
    assert!(request("GET / HTTP/1.0\r\n\r\n").unwrap().host.is_empty());
}

#[test]
fn names_with_an_underscore_are_kept_dropped_or_refused_as_configured() {
    let raw = "POST / HTTP/1.1\r\nHost: h\r\nX_Mine: 1\r\nX_Forwarded_For: 2\r\nX-Fine: 3\r\n\
               Transfer-Encoding: chunked\r\n\r\n0\r\nT_Late: 4\r\nT-Fine: 5\r\n\r\n";
    let names = |fields: &crate::message::Fields| {
        fields.iter().map(|(_, name, _)| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
    };
    let read = |underscores: Underscores| -> Result<(Vec<String>, Vec<String>), Code> {
        let limits = HeadLimits { underscores, ..HeadLimits::default() };
        let (mut server, mut head) = (Server::default(), RequestHead::default());
        let (used, _) = server.read(raw.as_bytes(), &limits, &mut head).map_err(|v| v.code)?;
        let end = server.read(&raw.as_bytes()[used..], &limits, &mut head).map_err(|v| v.code)?;
        assert_eq!(end.1, RequestEvent::End);
        Ok((names(&head.fields), names(&server.trailers)))
    };
    let list = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(read(Underscores::Keep), Ok((list(&["X_Mine", "X-Fine"]), list(&["T_Late", "T-Fine"]))));
    assert_eq!(read(Underscores::Drop), Ok((list(&["X-Fine"]), list(&["T-Fine"]))));
    assert_eq!(read(Underscores::Refuse), Err(Code::BadRequest));
    let late = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT_Late: 4\r\n\r\n";
    let limits = HeadLimits { underscores: Underscores::Refuse, ..HeadLimits::default() };
    let (mut server, mut head) = (Server::default(), RequestHead::default());
    let (used, _) = server.read(late.as_bytes(), &limits, &mut head).unwrap();
    assert!(server.read(&late.as_bytes()[used..], &limits, &mut head).is_err());
}

#[test]
fn trailers_that_would_have_to_be_known_before_the_body_are_dropped() {
    for name in ["Range", "Max-Forwards", "if-match", "AGE", "Expires", "WWW-Authenticate", "Content-Range", "Pragma"] {
        let raw = format!("T: 1\r\n{name}: 2\r\n\r\n");
        let mut trailers = crate::message::Fields::default();
        parse_trailers(raw.as_bytes(), &mut trailers).unwrap();
        assert_eq!(trailers.iter().map(|(_, n, _)| n).collect::<Vec<_>>(), [b"T"], "{name}");
    }
}

#[test]
fn response_heads() {
    let read = |raw: &str, to_head: bool| {
        let mut head = ResponseHead::default();
        parse_response(raw.as_bytes(), to_head, &mut head).map(|info| (head.length, info.keep_alive))
    };
    type Read = Option<(BodyLength, bool)>;
    let rows: &[(&str, bool, Read)] = &[
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", false, Some((BodyLength::Exact(3), true))),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", true, Some((BodyLength::None, true))),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false, Some((BodyLength::Streamed, true))),
        ("HTTP/1.1 200 OK\r\n\r\n", false, Some((BodyLength::UntilClose, false))),
        ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n", false, Some((BodyLength::Exact(3), false))),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n", false, Some((BodyLength::None, true))),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", false, Some((BodyLength::None, true))),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\n", false, None),
        ("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", false, None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", false, None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n", false, None),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false, None),
        ("HTTP/1.1 999 Odd\r\n\r\n", false, None),
        ("HTTP/1.1 20 OK\r\n\r\n", false, None),
    ];
    for (raw, to_head, expected) in rows {
        assert_eq!(read(raw, *to_head).ok(), *expected, "{raw:?}");
    }
}

#[test]
fn a_heads_end_is_not_looked_for_beyond_itself() {
    let mut head = RequestHead::default();
    let raw = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(parse_request(raw, &HeadLimits::default(), &mut head).is_ok());
    // What follows may hold anything, bare LFs too.
    let mut server = Server::default();
    let stream = [&raw[..], b"\n\n"].concat();
    let read = server.read(&stream, &HeadLimits::default(), &mut head);
    assert_eq!(read, Ok((raw.len(), RequestEvent::Head)));
}

/// Feeds `stream` in pieces as the engine does and tells it as text.
fn requests(stream: &[u8], cuts: &[usize]) -> String {
    let (mut server, mut head) = (Server::default(), RequestHead::default());
    let (mut told, mut kept, mut from) = (String::new(), Vec::new(), 0);
    for to in cuts.iter().copied().chain([stream.len()]) {
        kept.extend_from_slice(&stream[from..to]);
        from = to;
        let mut at = 0;
        loop {
            let (used, event) = match server.read(&kept[at..], &HeadLimits::default(), &mut head) {
                Ok(found) => found,
                Err(violation) => return told + &format!("!{:?}", violation.code),
            };
            let rest = &kept[at..];
            at += used;
            match event {
                RequestEvent::NeedMore => break,
                RequestEvent::Head => told += &format!("<{} {:?}>", head.method.as_str(), head.length),
                RequestEvent::Data(range) => told += &String::from_utf8_lossy(&rest[range]),
                RequestEvent::End => told += &format!("[{}]", server.trailers.len()),
            }
        }
        kept.drain(..at);
    }
    told
}

fn responses(stream: &[u8], cuts: &[usize], to_head: &[bool]) -> String {
    let (mut client, mut head) = (Client::default(), ResponseHead::default());
    let (mut told, mut kept, mut from, mut next) = (String::new(), Vec::new(), 0, to_head.iter());
    client.expect_response(*next.next().unwrap_or(&false));
    for to in cuts.iter().copied().chain([stream.len()]) {
        kept.extend_from_slice(&stream[from..to]);
        from = to;
        let mut at = 0;
        loop {
            let (used, event) = match client.read(&kept[at..], &HeadLimits::default(), &mut head) {
                Ok(found) => found,
                Err(violation) => return told + &format!("!{:?}", violation.code),
            };
            let rest = &kept[at..];
            at += used;
            match event {
                ResponseEvent::NeedMore => break,
                ResponseEvent::Interim => told += "<1xx>",
                ResponseEvent::Head => told += &format!("<{} {:?}>", head.status, head.length),
                ResponseEvent::Data(range) => told += &String::from_utf8_lossy(&rest[range]),
                ResponseEvent::End => {
                    told += &format!("[{} {}]", client.trailers.len(), client.reusable());
                    match next.next() {
                        Some(to_head) => client.expect_response(*to_head),
                        None => return told,
                    }
                }
            }
        }
        kept.drain(..at);
    }
    told
}

const REQUESTS: &[u8] = b"\r\nPOST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /b?x HTTP/1.1\r\nHost: h\r\n\r\n\
    PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;e=\"1\"\r\ndefg\r\n0\r\nT-A: 1\r\n\r\n\
    HEAD /d HTTP/1.1\r\nHost: h\r\n\r\nGET /bad HTTP/1.1\r\nHost : h\r\n\r\n";

const RESPONSES: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
    HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: 1\r\n\r\n\
    HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n";

#[test]
fn streams_are_read_as_they_are_meant() {
    assert_eq!(
        requests(REQUESTS, &[]),
        "<POST Exact(5)>hello[0]<GET None>[0]<PUT Streamed>abcdefg[1]<HEAD None>[0]!BadRequest"
    );
    assert_eq!(
        responses(RESPONSES, &[], &[false, true, false, false]),
        "<1xx><200 Exact(2)>ok[0 true]<200 None>[0 false]<200 Streamed>hi[1 true]<304 None>[0 false]"
    );
}

#[test]
fn byte_by_byte_changes_nothing() {
    let every = |stream: &[u8]| (1..stream.len()).collect::<Vec<_>>();
    assert_eq!(requests(REQUESTS, &every(REQUESTS)), requests(REQUESTS, &[]));
    let kinds = [false, true, false, false];
    assert_eq!(responses(RESPONSES, &every(RESPONSES), &kinds), responses(RESPONSES, &[], &kinds));
}

proptest! {
    #[test]
    fn no_split_changes_what_is_read(mut cuts in proptest::collection::vec(0..REQUESTS.len(), 0..8)) {
        cuts.sort_unstable();
        prop_assert_eq!(requests(REQUESTS, &cuts), requests(REQUESTS, &[]));
        let cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(RESPONSES.len())).collect();
        let kinds = [false, true, false, false];
        prop_assert_eq!(responses(RESPONSES, &cuts, &kinds), responses(RESPONSES, &[], &kinds));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..400) {
        let cut = cut.min(bytes.len());
        let _ = requests(&bytes, &[cut]);
        let _ = responses(&bytes, &[cut], &[false, false]);
    }
}
