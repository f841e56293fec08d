//! HTTP/2 on either leg, with sessions of our own as the far ends.

use super::world::World;
use super::{GET, OK};
use crate::exchange::ConnId;
use crate::http1::HeadLimits;
use crate::http2::{Allowance, Client, ClientEvent, ClientLimits, Reset, Server, ServerEvent, ServerLimits};
use crate::message::{BodyLength, Fields, Method, PathOptions, RequestHead, ResponseHead};
use crate::time::Instant;

const CALM: Allowance = Allowance { resets: 10_000, idle_frames: 1_000_000 };

/// A client that speaks HTTP/2 to the engine.
pub struct Browser {
    pub session: Client,
    pub conn: ConnId,
    pub told: Vec<String>,
    pub response: ResponseHead,
}

impl Browser {
    pub fn open(world: &mut World) -> Browser {
        Browser::with_window(world, 65_535)
    }

    pub fn with_window(world: &mut World, stream_window: u32) -> Browser {
        let limits = ClientLimits {
            streams: 100,
            stream_window,
            connection_window: 1 << 20,
            max_head: 16 << 10,
            allowance: CALM,
        };
        let conn = world.client();
        let mut browser =
            Browser { session: Client::new(limits, Instant(0)), conn, told: Vec::new(), response: Default::default() };
        browser.run(world);
        browser
    }

    /// Carries bytes both ways until there are none.
    pub fn run(&mut self, world: &mut World) {
        loop {
            while let Some(event) = self.session.next(&mut self.response) {
                let field = |name: &[u8]| {
                    self.response.fields.get(name).map_or("-".into(), |v| String::from_utf8_lossy(v).into_owned())
                };
                let text = match event {
                    ClientEvent::Head { owner } => {
                        format!("{owner}:{} {}", self.response.status, field(b"x-pygate-error"))
                    }
                    ClientEvent::Interim { owner } => format!("{owner}:{}", self.response.status),
                    ClientEvent::Data { owner, bytes } => format!("{owner}={}", String::from_utf8_lossy(&bytes)),
                    ClientEvent::End { owner } => format!("{owner}.{}", self.session.trailers.len()),
                    ClientEvent::Reset { owner, .. } => format!("{owner}!"),
                    ClientEvent::Closed => "closed".into(),
                    _ => continue,
                };
                self.told.push(text);
            }
            let mut out = Vec::new();
            self.session.output(&mut out);
            if !out.is_empty() && world.side(self.conn).open() {
                world.send(self.conn, &out);
            }
            let back = world.take_bytes(self.conn);
            if back.is_empty() && out.is_empty() {
                return;
            }
            self.session.feed(&back, Instant(0));
        }
    }

    fn get(&mut self, world: &mut World, owner: u32, path: &str) {
        self.request(world, owner, path, Method::Get, true);
    }

    fn request(&mut self, world: &mut World, owner: u32, path: &str, method: Method, end: bool) -> u32 {
        let mut head = RequestHead { method, ..RequestHead::default() };
        head.target.parse(path.as_bytes(), PathOptions::default()).expect("a path");
        head.length = if end { BodyLength::None } else { BodyLength::Streamed };
        let stream = self.session.open(owner, &head, b"h", end, |_| {}).expect("opened");
        self.run(world);
        stream
    }

    /// Extended CONNECT (RFC 8441).
    pub fn websocket(&mut self, world: &mut World, owner: u32) -> u32 {
        assert_eq!(self.session.extended(), Some(true));
        let mut head = RequestHead { upgrade: true, ..RequestHead::default() };
        head.target.parse(b"/ws", PathOptions::default()).expect("a path");
        head.fields.append(b"sec-websocket-version", b"13");
        let stream = self.session.open(owner, &head, b"h", false, |_| {}).expect("opened");
        self.run(world);
        stream
    }

    pub fn has(&self, line: &str) -> bool {
        self.told.iter().any(|t| t == line)
    }
}

/// An upstream that speaks HTTP/2.
pub struct Origin {
    pub session: Server,
    pub conn: ConnId,
    pub seen: Vec<String>,
    pub streams: Vec<u32>,
    pub request: RequestHead,
    /// Bytes of all requests.
    pub bytes: Vec<u8>,
}

impl Origin {
    pub fn open(world: &mut World) -> Origin {
        let limits = ServerLimits { streams: 3, stream_window: 65_535, connection_window: 1 << 20, allowance: CALM };
        let conn = world.connected();
        let session = Server::new(limits, HeadLimits::default(), Instant(0));
        let (seen, streams, request, bytes) = Default::default();
        let mut origin = Origin { session, conn, seen, streams, request, bytes };
        origin.run(world);
        origin
    }

    pub fn run(&mut self, world: &mut World) {
        loop {
            while let Some(event) = self.session.next(&mut self.request) {
                let text = match event {
                    ServerEvent::Request { stream } => {
                        self.session.name(stream, stream);
                        self.streams.push(stream);
                        let method = self.request.method.as_str();
                        format!("{method} {}", String::from_utf8_lossy(self.request.target.as_bytes()))
                    }
                    ServerEvent::Data { bytes, .. } => {
                        self.bytes.extend_from_slice(&bytes);
                        format!("={}", String::from_utf8_lossy(&bytes))
                    }
                    ServerEvent::End { .. } => format!(".{}", self.session.trailers.len()),
                    ServerEvent::Reset { .. } => "!".into(),
                    ServerEvent::Sent { owner } => {
                        self.session.close(owner, Reset::NoError);
                        continue;
                    }
                    _ => continue,
                };
                self.seen.push(text);
            }
            let mut out = Vec::new();
            self.session.output(&mut out);
            if !out.is_empty() && world.side(self.conn).open() {
                world.send(self.conn, &out);
            }
            let back = world.take_bytes(self.conn);
            if back.is_empty() && out.is_empty() {
                return;
            }
            self.session.feed(&back, Instant(0));
        }
    }

    /// Agrees to an extended CONNECT.
    pub fn switch(&mut self, world: &mut World, number: usize) {
        let head = ResponseHead { status: 200, ..ResponseHead::default() };
        self.session.head(self.streams[number], &head, |_| {});
        self.say(world, number, b"");
    }

    pub fn say(&mut self, world: &mut World, number: usize, bytes: &[u8]) {
        self.session.data(self.streams[number], bytes);
        self.run(world);
    }

    pub fn answer(&mut self, world: &mut World, number: usize, body: &[u8], trailers: &[(&[u8], &[u8])]) {
        let head = ResponseHead { status: 200, ..ResponseHead::default() };
        let mut fields = Fields::default();
        for (name, value) in trailers {
            fields.append(name, value);
        }
        let stream = self.streams[number];
        self.session.head(stream, &head, |_| {});
        self.session.data(stream, body);
        self.session.end(stream, &fields);
        self.run(world);
    }
}

pub fn h2_upstream(more: &str) -> World {
    World::with("connect_timeout = \"1s\"", "connect_timeout = \"1s\"\nprotocol = \"http2\"", more)
}

#[test]
fn many_requests_on_one_connection_are_answered_as_their_upstreams_do() {
    let mut world = World::base();
    let mut browser = Browser::open(&mut world);
    browser.get(&mut world, 1, "/one");
    let one = world.connected();
    browser.get(&mut world, 2, "/two");
    let two = world.connected();
    assert!(world.take(one).starts_with("GET /one HTTP/1.1\r\nhost: h\r\n"));
    assert!(world.take(two).contains("\r\nx-request-id: "));
    world.send(two, OK);
    browser.run(&mut world);
    assert!(browser.has("2:200 -") && browser.has("2=hello") && browser.has("2.0"), "{:?}", browser.told);
    assert!(!browser.told.iter().any(|t| t.starts_with("1:")));
    world.send(one, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n");
    browser.run(&mut world);
    assert!(browser.has("1=hi") && browser.has("1.1"), "{:?}", browser.told);
    assert_eq!(world.engine.open_connections(), 1);
    world.assert_at_rest();
    world.seconds(8.0);
    browser.run(&mut world);
    assert!(!world.side(browser.conn).open(), "idle for too long");
}

#[test]
fn bodies_and_trailers_cross_every_pair_of_protocols() {
    for http2_up in [false, true] {
        let mut world = if http2_up { h2_upstream("") } else { World::base() };
        let mut browser = Browser::open(&mut world);
        let stream = browser.request(&mut world, 1, "/up", Method::Post, false);
        if http2_up {
            let mut origin = Origin::open(&mut world);
            browser.session.data(stream, b"hello");
            let mut trailers = Fields::default();
            trailers.append(b"x-sum", b"5");
            browser.session.end(stream, &trailers);
            browser.run(&mut world);
            origin.run(&mut world);
            assert_eq!(origin.seen, ["POST /up", "=hello", ".1"]);
            origin.answer(&mut world, 0, b"done", &[(b"grpc-status", b"0")]);
        } else {
            let up = world.connected();
            browser.session.data(stream, b"hello");
            browser.session.end(stream, &Fields::default());
            browser.run(&mut world);
            let sent = world.take(up);
            assert!(sent.contains("transfer-encoding: chunked") && sent.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{sent}");
            world.send(up, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\nt: 1\r\n\r\n");
        }
        browser.run(&mut world);
        assert!(browser.has("1=done") && browser.has("1.1"), "{:?}", browser.told);
        world.assert_at_rest();
    }
    // HTTP/1.1 in, HTTP/2 out.
    let mut world = h2_upstream("");
    let client = world.client();
    world.send(client, "POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab");
    let mut origin = Origin::open(&mut world);
    assert_eq!(origin.seen, ["POST /x", "=ab", ".0"]);
    origin.answer(&mut world, 0, b"done", &[(b"t", b"1")]);
    assert!(world.take(client).ends_with("4\r\ndone\r\n0\r\nt: 1\r\n\r\n"));
    world.assert_at_rest();
}

#[test]
fn exchanges_share_a_connection_up_to_what_the_endpoint_takes() {
    let mut world = h2_upstream("");
    let clients: Vec<_> = (0..5).map(|_| world.client()).collect();
    for client in &clients {
        world.send(*client, GET);
    }
    assert_eq!(world.asked.len(), 1, "the others wait for the first");
    let mut origin = Origin::open(&mut world);
    // The endpoint's limit of three came after the first frames: what it refused goes to a second connection.
    assert_eq!((origin.streams.len(), world.asked.len()), (3, 2));
    let mut second = Origin::open(&mut world);
    assert_eq!(second.streams.len(), 2);
    for number in 0..3 {
        origin.answer(&mut world, number, b"x", &[]);
    }
    for number in 0..2 {
        second.answer(&mut world, number, b"x", &[]);
    }
    let answered = clients.iter().filter(|c| world.take(**c).contains("200 OK")).count();
    assert_eq!(answered, 5, "{:?}", origin.seen);
    world.assert_at_rest();
    // The connection goes when it was idle for long enough.
    assert!(world.side(origin.conn).open());
    world.seconds(7.0);
    assert!(!world.side(origin.conn).open());
}

#[test]
fn a_lost_connection_is_told_to_everyone_on_it_and_safe_requests_go_again() {
    let mut world = h2_upstream("");
    let first = world.client();
    world.send(first, GET);
    let mut origin = Origin::open(&mut world);
    origin.answer(&mut world, 0, b"x", &[]);
    world.take(first);
    let (get, post) = (world.client(), world.client());
    world.send(get, GET);
    world.send(post, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\na");
    origin.run(&mut world);
    assert_eq!(world.asked.len(), 1);
    world.reset(origin.conn);
    assert!(world.take(post).contains("502 Bad Gateway"));
    assert_eq!(world.asked.len(), 2, "the other is asked for again");
    let mut again = Origin::open(&mut world);
    again.answer(&mut world, 0, b"y", &[]);
    assert!(world.take(get).contains("200 OK"));
    // REFUSED_STREAM: never worked on, so even POST goes again.
    world.send(first, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\nb");
    again.run(&mut world);
    let refused = *again.streams.last().expect("a stream");
    again.session.close(refused, Reset::Refused);
    again.run(&mut world);
    let last = again.streams.len() - 1;
    again.answer(&mut world, last, b"z", &[]);
    assert!(world.take(first).contains("200 OK"), "{:?}", again.seen);
    world.assert_at_rest();
}

#[test]
fn clients_that_cancel_cancel_upstream_and_cost_no_connection() {
    let mut world = h2_upstream("");
    let mut browser = Browser::open(&mut world);
    browser.get(&mut world, 1, "/a");
    let mut origin = Origin::open(&mut world);
    browser.session.close(0);
    browser.run(&mut world);
    origin.run(&mut world);
    assert_eq!(origin.seen, ["GET /a", "!"]);
    assert!(world.side(origin.conn).open() && world.side(browser.conn).open());
    assert_eq!(world.outcomes(), 1);
    world.assert_at_rest();
}

#[test]
fn backpressure_reaches_the_other_leg() {
    let mut world = World::base();
    let mut browser = Browser::open(&mut world);
    browser.get(&mut world, 1, "/big");
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
    // The client's windows are its own: it reads nothing from now on.
    let conn = browser.conn;
    let piece = vec![b'x'; 50_000];
    let mut sent = 0;
    while !world.side(up).paused {
        world.send(up, &piece);
        sent += piece.len();
        assert!(sent <= 300_000, "unbounded");
    }
    assert!(world.side(conn).open());
    while sent < 1_000_000 {
        browser.run(&mut world);
        if !world.side(up).paused {
            let left = piece.len().min(1_000_000 - sent);
            world.send(up, &piece[..left]);
            sent += left;
        }
    }
    browser.run(&mut world);
    let got: usize = browser.told.iter().filter_map(|t| t.strip_prefix("1=")).map(str::len).sum();
    assert_eq!(got, 1_000_000);
    assert!(browser.has("1.0"));
    // One that reads nothing at all is let go, its stream first.
    browser.get(&mut world, 2, "/big");
    let up = world.newest();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
    while !world.side(up).paused {
        world.send(up, &piece);
    }
    world.seconds(4.0);
    assert!(!world.side(up).open());
    world.assert_at_rest();
}

#[test]
fn what_breaks_the_rules_is_answered_and_nothing_of_it_goes_upstream() {
    let mut world = World::base();
    let mut browser = Browser::open(&mut world);
    let mut head = RequestHead::default();
    head.target.parse(b"/x", PathOptions::default()).expect("a path");
    head.fields.append(b"expect", b"lunch");
    browser.session.open(7, &head, b"h", true, |_| {});
    browser.run(&mut world);
    assert!(browser.has("7:417 expectation-failed"), "{:?}", browser.told);
    assert!(world.asked.is_empty());
    world.assert_at_rest();
    // A flood ends the connection and every request on it.
    browser.get(&mut world, 8, "/slow");
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"12345678"].concat();
    world.send(browser.conn, ping.repeat(3000));
    browser.run(&mut world);
    assert!(!browser.session.has_room(), "{:?}", browser.told);
    world.seconds(3.0);
    assert!(!world.side(browser.conn).open());
    assert_eq!(world.outcomes(), 2);
    world.assert_at_rest();
}

#[test]
fn answers_wait_for_their_record_and_broken_logs_are_told() {
    let more = "[routes.audit]\ndurability = \"answer\"\n";
    let mut world = World::with("service = \"app\"\n", &format!("service = \"app\"\n{more}"), "");
    world.durable = false;
    let mut browser = Browser::open(&mut world);
    browser.get(&mut world, 1, "/a");
    let up = world.connected();
    world.send(up, OK);
    browser.run(&mut world);
    assert!(!browser.has("1.0") && !browser.has("1=hello"), "{:?}", browser.told);
    world.engine.audit_broken(world.now, true);
    world.perform(b"");
    browser.run(&mut world);
    assert!(browser.has("1:503 audit-failed"), "{:?}", browser.told);
    world.engine.audit_broken(world.now, false);
    world.perform(b"");
    world.durable = true;
    browser.get(&mut world, 2, "/b");
    let up = if world.side(up).open() { up } else { world.connected() };
    world.send(up, OK);
    browser.run(&mut world);
    assert!(browser.has("2=hello") && browser.has("2.0"), "{:?}", browser.told);
    world.assert_at_rest();
}

#[test]
fn draining_lets_requests_finish_and_takes_no_more() {
    let mut world = World::base();
    let mut browser = Browser::open(&mut world);
    browser.get(&mut world, 1, "/a");
    let up = world.connected();
    world.engine.drain(world.now);
    world.perform(b"");
    browser.run(&mut world);
    assert!(!browser.session.has_room());
    world.send(up, OK);
    browser.run(&mut world);
    assert!(browser.has("1=hello") && browser.has("1.0"), "{:?}", browser.told);
    world.seconds(3.0);
    assert!(!world.side(browser.conn).open());
    world.assert_at_rest();
}

#[test]
fn nobody_who_waits_is_sent_onto_a_connection_that_is_gone() {
    let base = super::world::BASE.replace("connect_timeout = \"1s\"", "connect_timeout = \"1s\"\nprotocol = \"http2\"");
    let mut world = World::new(&base.replace("max_connections = 8", "max_connections = 1"));
    let clients: Vec<_> = (0..5).map(|_| world.client()).collect();
    world.send(clients[0], GET);
    let mut origin = Origin::open(&mut world);
    // The endpoint takes three at a time, on the one connection there may be: two wait.
    for client in &clients[1..] {
        world.send(*client, GET);
    }
    origin.run(&mut world);
    assert_eq!((origin.streams.len(), world.asked.len()), (3, 1));
    world.reset(origin.conn);
    // The first is told, those that came onto a used connection and those that waited go onto a new one.
    assert!(world.take(clients[0]).contains(" 502 "));
    assert_eq!(world.asked.len(), 2);
    let mut second = Origin::open(&mut world);
    for number in 0..4 {
        second.run(&mut world);
        second.answer(&mut world, number, b"y", &[]);
    }
    for client in &clients[1..] {
        assert!(world.take(*client).contains("200 OK"));
    }
    world.assert_at_rest();
}

#[test]
fn what_the_client_may_ask_is_never_the_endpoints_fault() {
    let mut world = h2_upstream("");
    let client = world.client();
    world.send(client, "GET /q?a=<b>|\"c\" HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut origin = Origin::open(&mut world);
    assert_eq!(origin.seen, ["GET /q?a=%3Cb%3E%7C%22c%22"]);
    origin.answer(&mut world, 0, b"x", &[]);
    assert!(world.take(client).contains("200 OK"));
    world.assert_at_rest();
}

#[test]
fn answers_that_get_no_window_are_given_up_whatever_their_size() {
    let mut world = World::base();
    let mut browser = Browser::with_window(&mut world, 0);
    for (owner, size) in [(1, 5), (2, 300_000), (3, 20_000)] {
        browser.get(&mut world, owner, "/a");
        let up = match world.side(world.newest()).open() {
            true => world.newest(),
            false => world.connected(),
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
        world.send(up, [head.as_bytes(), &vec![b'x'; size]].concat());
    }
    browser.run(&mut world);
    assert_eq!(browser.told.iter().filter(|t| t.contains('=')).count(), 0);
    world.seconds(4.0);
    browser.run(&mut world);
    for owner in 1..4 {
        assert!(browser.has(&format!("{owner}!")), "{:?}", browser.told);
    }
    world.assert_at_rest();
}
