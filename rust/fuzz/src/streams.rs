//! HTTP/1 readers over a stream: requests, responses, chunked bodies.
//!
//! Promises: no split changes what is read; a message is framed as [`reference`](super::reference) frames it; no
//! framing or hop-by-hop field gets into a neutral head; what is written from a head reads back as that head.

use super::reference::{self, Message};
use super::split::{Split, SPLITS};
use pygate_core::http1::{write, Client, HeadLimits, RequestEvent, ResponseEvent, Server};
use pygate_core::message::{BodyLength, Fields, Known, Method, RequestHead, ResponseHead};

/// Small, so that the caps are reached too.
fn limits() -> HeadLimits {
    HeadLimits { bytes: 2048, fields: 24, ..HeadLimits::default() }
}

/// What was read of one message, framing apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    head: String,
    body: Vec<u8>,
    trailers: String,
    complete: bool,
}

/// What a stream was read as: its messages, and whether it ended in a refusal.
type Transcript = (Vec<Told>, bool);

/// Feeds `data` as a connection does: what was not used is kept and given again, longer.
fn feed(data: &[u8], split: Split, mut read: impl FnMut(&[u8]) -> Option<(usize, bool)>) -> bool {
    let mut kept = Vec::new();
    for piece in split.pieces(data) {
        kept.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match read(&kept[at..]) {
                None => return true,
                Some((used, more)) => {
                    at += used;
                    assert!(at <= kept.len(), "more was used than there is");
                    if !more {
                        break;
                    }
                }
            }
        }
        kept.drain(..at);
    }
    false
}

fn read_requests(data: &[u8], split: Split, mut each: impl FnMut(&RequestHead)) -> Transcript {
    let (mut server, mut head, limits) = (Server::default(), RequestHead::default(), limits());
    let mut told: Vec<Told> = Vec::new();
    let refused = feed(data, split, |input| {
        let (used, event) = server.read(input, &limits, &mut head).ok()?;
        match event {
            RequestEvent::NeedMore => return Some((used, false)),
            RequestEvent::Head => {
                told.push(Told { head: request_text(&head), ..Told::default() });
                each(&head);
            }
            RequestEvent::Data(range) => told.last_mut()?.body.extend_from_slice(&input[range]),
            RequestEvent::End => {
                let last = told.last_mut()?;
                last.complete = true;
                last.trailers = format!("{:?}", server.trailers);
                assert_no_framing(&server.trailers, false);
            }
        }
        Some((used, true))
    });
    (told, refused)
}

fn request_text(head: &RequestHead) -> String {
    format!("{head:?}")
}

/// A client's bytes.
pub fn request_head(data: &[u8]) {
    let mut heads = Vec::new();
    let whole = read_requests(data, Split::Whole, |head| heads.push(head.clone()));
    for split in SPLITS {
        assert_eq!(read_requests(data, split, |_| ()), whole, "{split:?}");
    }
    let seen = reference::requests(data);
    for (n, (told, head)) in whole.0.iter().zip(&heads).enumerate() {
        assert_no_framing(&head.fields, head.upgrade);
        let Some(message) = seen.get(n) else { panic!("request {n} is only there for the gateway: {told:?}") };
        assert_same_framing(told, message, whole.1 && n + 1 == whole.0.len());
        assert_eq!(head.method.as_bytes(), message.method());
        read_back(head);
    }
}

/// The gateway's reading of a message against the reference's. `last`: the stream was refused inside it.
fn assert_same_framing(told: &Told, message: &Message, last: bool) {
    if last && !told.complete {
        assert!(message.body.starts_with(&told.body), "other bytes were taken for the body");
    } else {
        assert_eq!((&told.body, told.complete), (&message.body, message.complete), "{told:?}\n{message:?}");
    }
}

/// Nothing that frames a message or belongs to one connection may travel in a neutral head.
fn assert_no_framing(fields: &Fields, upgrade: bool) {
    for (known, name, value) in fields.iter() {
        let dashed: Vec<u8> = name.iter().map(|&b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() }).collect();
        let forbidden = [
            "connection",
            "content-length",
            "expect",
            "host",
            "http2-settings",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
        ];
        assert!(
            !forbidden.iter().any(|f| f.as_bytes() == dashed),
            "{:?} came through",
            name.escape_ascii().to_string()
        );
        assert!(upgrade || dashed != b"upgrade", "upgrade came through");
        assert!(name.contains(&b'_') || (known == Known::of(&dashed)), "a known name went unknown");
        let clean = |b: &u8| !matches!(b, b'\r' | b'\n' | 0);
        assert!(!name.is_empty() && name.iter().chain(value).all(clean), "a line could be split");
    }
}

/// What goes upstream from an accepted head is that head again.
fn read_back(head: &RequestHead) {
    if head.host.is_empty() {
        return; // HTTP/1.0 without Host: the exchange puts the endpoint's own.
    }
    let (mut raw, mut host) = (Vec::new(), Vec::new());
    write::authority(&mut host, head);
    write::request_head(&mut raw, head, &host, |_| ());
    assert_eq!(reference::find(&raw, b"\r\n\r\n"), Some(raw.len() - 4), "the written head ends early");
    let (mut server, mut again) = (Server::default(), RequestHead::default());
    let limits = HeadLimits { bytes: 1 << 16, ..HeadLimits::default() };
    let read = server.read(&raw, &limits, &mut again);
    assert_eq!(read, Ok((raw.len(), RequestEvent::Head)), "refused what was written: {}", raw.escape_ascii());
    let length = match (head.length, &head.method) {
        // Methods that define content say that there is none.
        (BodyLength::None, Method::Post | Method::Put | Method::Patch) => BodyLength::Exact(0),
        (other, _) => other,
    };
    let expected =
        RequestHead { version: again.version, scheme: again.scheme, expect_continue: false, length, ..head.clone() };
    let lines = |head: &RequestHead| {
        // A field may move: `upgrade` goes last.
        let mut lines: Vec<_> = head.fields.iter().map(|(_, n, v)| (n.to_ascii_lowercase(), v.to_vec())).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&again), lines(&expected));
    assert_eq!(
        (&again.method, &again.host, again.port, &again.target, again.length, again.upgrade),
        (&expected.method, &expected.host, expected.port, &expected.target, expected.length, expected.upgrade)
    );
}

/// Answers to GET, HEAD, GET and so on, in turn; `first` shifts it by one.
fn read_responses(data: &[u8], split: Split, first: bool, mut each: impl FnMut(&ResponseHead)) -> Transcript {
    let (mut client, mut head, limits) = (Client::default(), ResponseHead::default(), limits());
    let mut told: Vec<Told> = Vec::new();
    let mut to_head = first;
    client.expect_response(to_head);
    let mut refused = feed(data, split, |input| {
        let (used, event) = client.read(input, &limits, &mut head).ok()?;
        match event {
            ResponseEvent::NeedMore => return Some((used, false)),
            ResponseEvent::Interim | ResponseEvent::Head => {
                told.push(Told { head: format!("{head:?}"), ..Told::default() });
                told.last_mut()?.complete = event == ResponseEvent::Interim;
                assert!(!client.reusable());
                each(&head);
            }
            // After 101, and for bodies that end with the connection, an empty read is no event.
            ResponseEvent::Data(range) => {
                let progress = !range.is_empty();
                told.last_mut()?.body.extend_from_slice(&input[range]);
                return Some((used, progress));
            }
            ResponseEvent::End => {
                let last = told.last_mut()?;
                last.complete = true;
                last.trailers = format!("{:?} {}", client.trailers, client.reusable());
                assert_no_framing(&client.trailers, false);
                to_head = !to_head;
                client.expect_response(to_head);
            }
        }
        Some((used, true))
    });
    if !refused && client.closed() {
        if let Some(last) = told.last_mut() {
            last.complete = true;
        }
    }
    refused |= told.iter().any(|t| t.head.is_empty());
    (told, refused)
}

/// An upstream's bytes.
pub fn response_head(data: &[u8]) {
    for first in [false, true] {
        let mut heads = Vec::new();
        let whole = read_responses(data, Split::Whole, first, |head| heads.push(head.clone()));
        for split in SPLITS {
            assert_eq!(read_responses(data, split, first, |_| ()), whole, "{split:?}");
        }
        let methods: Vec<Vec<u8>> =
            (0..heads.len()).map(|n| if (n % 2 == 0) == first { b"HEAD".to_vec() } else { b"GET".to_vec() }).collect();
        let seen = reference::responses(data, &methods, true);
        for (n, (told, head)) in whole.0.iter().zip(&heads).enumerate() {
            let Some(message) = seen.get(n) else { panic!("answer {n} is only there for the gateway: {told:?}") };
            assert_eq!(head.status, message.status());
            if head.status == 101 {
                break; // Bytes of another protocol follow.
            }
            assert_same_framing(told, message, whole.1 && n + 1 == whole.0.len());
            let mut fields = head.fields.clone();
            if head.length == BodyLength::None {
                // It tells what GET would have brought.
                fields.remove_known(Known::ContentLength);
            }
            // In an answer it frames nothing and means nothing.
            fields.remove_known(Known::Host);
            assert_no_framing(&fields, false);
        }
    }
}

/// The chunked coding behind a fixed head.
pub fn chunked(data: &[u8]) {
    let whole = [b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n", data].concat();
    // Only the first message: what follows it is `request_head`'s business.
    let read = |split| {
        let (mut told, refused) = read_requests(&whole, split, |_| ());
        let refused = refused && told.len() == 1;
        (told.swap_remove(0), refused)
    };
    let expected = read(Split::Whole);
    for split in SPLITS {
        assert_eq!(read(split), expected, "{split:?}");
    }
    let (body, _, complete) = reference::unchunk(data);
    let (told, refused) = expected;
    if told.complete {
        assert_eq!((&told.body, true), (&body, complete));
    } else {
        assert!(body.starts_with(&told.body), "other bytes were taken for the body");
        assert!(refused || !complete, "a complete body is waited for");
    }
}
