//! A client's and a server's session joined in memory.

use super::*;
use crate::http1::HeadLimits;
use crate::message::{BodyLength, Fields, Method, PathOptions, RequestHead, ResponseHead};
use crate::time::Instant;
use proptest::prelude::*;

const ALLOWANCE: Allowance = Allowance { resets: 20, idle_frames: 500 };

fn server() -> Server {
    let limits =
        ServerLimits { streams: 8, stream_window: 64 << 10, connection_window: 128 << 10, allowance: ALLOWANCE };
    Server::new(limits, HeadLimits::default(), Instant(0))
}

fn client() -> Client {
    let limits = ClientLimits {
        streams: 8,
        stream_window: 64 << 10,
        connection_window: 128 << 10,
        max_head: 16 << 10,
        allowance: ALLOWANCE,
    };
    Client::new(limits, Instant(0))
}

fn head(path: &str, length: BodyLength) -> RequestHead {
    let mut head = RequestHead { length, ..RequestHead::default() };
    head.method = if length == BodyLength::None { Method::Get } else { Method::Post };
    head.target.parse(path.as_bytes(), PathOptions::default()).expect("a path");
    head.fields.append(b"x-a", b"1");
    head
}

/// Both ends, and what each was told.
struct Pair {
    client: Client,
    server: Server,
    /// Bytes of one step are cut into pieces of this size.
    piece: usize,
    seen: Vec<String>,
    told: Vec<String>,
    request: RequestHead,
    response: ResponseHead,
    /// Server's streams in the order of their requests.
    streams: Vec<u32>,
    to_server: Vec<u8>,
}

impl Pair {
    fn new(piece: usize) -> Pair {
        let (client, server) = (client(), server());
        let (seen, told, request, response, streams, to_server) = Default::default();
        Pair { client, server, piece, seen, told, request, response, streams, to_server }
    }

    /// Carries bytes until neither end has more to say.
    fn run(&mut self) {
        for _ in 0..200_000 {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            while let Some(event) = self.client.next(&mut self.response) {
                let text = match event {
                    ClientEvent::Head { owner } => {
                        format!("{owner}:head {} {:?}", self.response.status, self.response.length)
                    }
                    ClientEvent::Interim { owner } => format!("{owner}:interim {}", self.response.status),
                    ClientEvent::Data { owner, bytes } => format!("{owner}:data {}", bytes.len()),
                    ClientEvent::End { owner } => format!("{owner}:end {}", self.client.trailers.len()),
                    ClientEvent::Reset { owner, unprocessed } => format!("{owner}:reset {unprocessed}"),
                    other => format!("{other:?}"),
                };
                self.told.push(text);
            }
            self.client.output(&mut up);
            self.to_server.extend_from_slice(&up);
            for piece in up.chunks(self.piece) {
                self.server.feed(piece, Instant(0));
                self.serve();
            }
            self.serve();
            self.server.output(&mut down);
            for piece in down.chunks(self.piece) {
                self.client.feed(piece, Instant(0));
            }
            if up.is_empty() && down.is_empty() && self.client.at_rest() && self.server.at_rest() {
                return;
            }
        }
        panic!("the two never come to rest: {:?} {:?}", self.seen, self.told);
    }

    fn serve(&mut self) {
        while let Some(event) = self.server.next(&mut self.request) {
            let text = match event {
                ServerEvent::Request { stream } => {
                    self.server.name(stream, stream);
                    self.streams.push(stream);
                    let target = String::from_utf8_lossy(self.request.target.as_bytes()).into_owned();
                    format!("{:?} {target} {:?}", self.request.method, self.request.length)
                }
                ServerEvent::Malformed { stream, violation } => {
                    self.server.close(stream, Reset::Protocol);
                    format!("malformed: {}", violation.detail)
                }
                ServerEvent::Data { bytes, .. } => format!("data {}", bytes.len()),
                ServerEvent::End { .. } => format!("end {}", self.server.trailers.len()),
                ServerEvent::Sent { owner } => {
                    self.server.close(owner, Reset::NoError);
                    "sent".into()
                }
                other => format!("{other:?}"),
            };
            self.seen.push(text);
        }
    }

    fn answer(&mut self, stream: u32, status: u16, body: &[u8], trailers: &Fields) {
        let mut head = ResponseHead { status, ..ResponseHead::default() };
        head.fields.append(b"content-type", b"text/plain");
        self.server.head(stream, &head, |add| add(b"x-b", b"2"));
        self.server.data(stream, body);
        self.server.end(stream, trailers);
    }

    fn get(&mut self, owner: u32, path: &str) {
        let opened = self.client.open(owner, &head(path, BodyLength::None), b"h", true, |_| {});
        assert!(opened.is_some());
    }
}

#[test]
fn requests_and_answers_cross_in_any_split() {
    for piece in [1, 7, 100, 1 << 20] {
        let mut pair = Pair::new(piece);
        pair.run();
        pair.get(1, "/one?x=1");
        let post = pair.client.open(2, &head("/two", BodyLength::Streamed), b"h", false, |_| {}).expect("opened");
        pair.client.data(post, b"hello");
        let mut trailers = Fields::default();
        trailers.append(b"x-sum", b"5");
        pair.client.end(post, &trailers);
        pair.run();
        assert_eq!(pair.seen[..2], ["Get /one?x=1 None", "Post /two Streamed"]);
        assert!(pair.seen.contains(&"data 5".to_owned()) && pair.seen.contains(&"end 1".to_owned()));
        let (one, two) = (pair.streams[0], pair.streams[1]);
        pair.answer(two, 200, b"", &trailers);
        pair.answer(one, 404, b"gone", &Fields::default());
        pair.run();
        for line in ["1:head 404 Streamed", "1:data 4", "1:end 0", "2:head 200 None", "2:end 0"] {
            assert!(pair.told.contains(&line.to_owned()), "{line} in {:?}", pair.told);
        }
        assert_eq!(pair.server.streams(), 0);
    }
}

#[test]
fn bodies_larger_than_every_window_pass_whole_and_queues_stay_bounded() {
    let mut pair = Pair::new(16 << 10);
    pair.run();
    let post = pair.client.open(1, &head("/", BodyLength::Streamed), b"h", false, |_| {}).expect("opened");
    pair.run();
    let (mut sent, mut full) = (0, false);
    while sent < 5 << 20 {
        if full {
            let before = pair.told.len();
            pair.run();
            assert!(pair.told[before..].iter().any(|t| t.starts_with("Writable")), "told to go on");
        }
        full = pair.client.data(post, &[7; 40 << 10]);
        sent += 40 << 10;
    }
    pair.client.end(post, &Fields::default());
    pair.run();
    let got: usize = pair.seen.iter().filter_map(|s| s.strip_prefix("data ")?.parse::<usize>().ok()).sum();
    assert_eq!(got, sent);
    // A paused stream is not read beyond its window.
    let stream = pair.streams[0];
    pair.answer(stream, 200, &vec![1; 1 << 20], &Fields::default());
    pair.client.pause(post, true);
    pair.run();
    assert!(!pair.told.iter().any(|t| t.starts_with("1:data")));
    pair.client.pause(post, false);
    pair.run();
    let got: usize = pair.told.iter().filter_map(|s| s.strip_prefix("1:data ")?.parse::<usize>().ok()).sum();
    assert_eq!(got, 1 << 20);
}

#[test]
fn held_answers_wait_and_discarded_ones_never_leave() {
    let mut pair = Pair::new(1 << 20);
    pair.run();
    pair.get(1, "/");
    pair.run();
    let stream = pair.streams[0];
    pair.server.hold(stream, true);
    pair.answer(stream, 200, b"secret", &Fields::default());
    pair.run();
    assert!(!pair.told.iter().any(|t| t.starts_with("1:")));
    assert!(pair.server.unanswered(stream));
    pair.server.discard(stream);
    pair.server.hold(stream, false);
    pair.answer(stream, 503, b"", &Fields::default());
    pair.run();
    assert_eq!(pair.told.iter().filter(|t| t.starts_with("1:")).collect::<Vec<_>>(), ["1:head 503 None", "1:end 0"]);
}

#[test]
fn either_side_may_break_off() {
    let mut pair = Pair::new(1 << 20);
    pair.run();
    pair.get(1, "/a");
    pair.get(2, "/b");
    pair.run();
    pair.client.close(0);
    pair.server.close(pair.streams[1], Reset::Refused);
    pair.run();
    assert!(pair.seen.contains(&format!("Reset {{ owner: {} }}", pair.streams[0])), "{:?}", pair.seen);
    assert!(pair.told.contains(&"2:reset true".to_owned()), "{:?}", pair.told);
    // A connection that drains takes no more and ends when it is empty.
    pair.get(3, "/c");
    pair.run();
    pair.server.drain();
    pair.run();
    assert!(!pair.client.has_room());
    let stream = pair.streams[2];
    pair.answer(stream, 200, b"last", &Fields::default());
    pair.run();
    assert!(pair.told.contains(&"3:end 0".to_owned()), "{:?}", pair.told);
    pair.run();
    assert!(pair.seen.contains(&"Closed".to_owned()), "{:?}", pair.seen);
}

#[test]
fn an_answer_right_before_the_end_of_its_connection_is_told_first() {
    let mut pair = Pair::new(1 << 20);
    pair.run();
    pair.get(1, "/a");
    pair.run();
    let head = b"\0\0\x01\x01\x04\0\0\0\x01\x88";
    let data = b"\0\0\x02\0\x01\0\0\0\x01hi";
    let goaway = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0";
    pair.client.feed(&[&head[..], data, goaway].concat(), Instant(0));
    pair.told.clear();
    while let Some(event) = pair.client.next(&mut pair.response) {
        pair.told.push(format!("{event:?}").split([' ', '{']).next().unwrap_or_default().to_owned());
    }
    assert_eq!(pair.told, ["Head", "Data", "End", "Closed"]);
}

#[test]
fn floods_end_the_session() {
    let mut pair = Pair::new(1 << 20);
    pair.run();
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"12345678"].concat();
    assert!(!pair.server.feed(&ping.repeat(600), Instant(0)));
    let mut out = Vec::new();
    while pair.server.next(&mut pair.request).is_some() {}
    pair.server.output(&mut out);
    let goaway = out.windows(9).any(|w| w[3] == 7 && w[5..] == [0; 4]);
    assert!(goaway, "{out:?}");

    // Closing the connection does not take the reason back.
    let mut pair = Pair::new(1 << 20);
    pair.run();
    pair.server.feed(&ping.repeat(600), Instant(0));
    pair.server.go_away(h2::Reason::NO_ERROR);
    while pair.server.next(&mut pair.request).is_some() {}
    out.clear();
    pair.server.output(&mut out);
    assert!(out.ends_with(&[0, 0, 0, 11]), "{out:?}");
}

#[test]
fn what_http1_refuses_is_refused() {
    type Edit = fn(&mut RequestHead);
    let edits: [(Edit, &str); 4] = [
        (|h| h.method = Method::parse(b"get").expect("a token"), "lower-case letter in the method"),
        (|h| h.fields.append(b"expect", b"lunch"), "unknown expectation"),
        (|h| h.target.parse(b"/a/%2e%2e/b%41", PathOptions::default()).expect("a path"), ""),
        (|h| h.fields.append(b"x_forwarded_for", b"1.2.3.4"), ""),
    ];
    for (edit, refusal) in edits {
        let mut pair = Pair::new(1 << 20);
        pair.run();
        let mut head = head("/", BodyLength::None);
        edit(&mut head);
        pair.client.open(1, &head, b"h", true, |_| {}).expect("opened");
        pair.run();
        match refusal {
            "" => {
                assert!(pair.seen[0].starts_with("Get /"), "{:?}", pair.seen);
                assert!(pair.request.fields.get(b"x_forwarded_for").is_none());
            }
            text => assert_eq!(pair.seen, [format!("malformed: {text}")]),
        }
    }
}

#[test]
fn a_name_that_only_the_http_crate_takes_for_one_is_refused() {
    let block = b"\x82\x86\x84\x41\x01h\x00\x03x\"a\x011";
    let mut input = [super::PREFACE, b"\0\0\0\x04\0\0\0\0\0", &[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]].concat();
    input.extend_from_slice(block);
    let (mut server, mut head) = (server(), RequestHead::default());
    assert!(server.feed(&input, Instant(0)));
    let event = std::iter::from_fn(|| server.next(&mut head)).next();
    let Some(ServerEvent::Malformed { violation, .. }) = event else { panic!("{event:?}") };
    assert_eq!(violation.detail, "malformed field name");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), piece in 1usize..64) {
        let mut head = RequestHead::default();
        let mut session = server();
        session.feed(PREFACE, Instant(0));
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            session.feed(piece, Instant(0));
            while session.next(&mut head).is_some() {}
            session.output(&mut out);
        }
    }
}
