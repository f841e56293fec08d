//! gRPC calls: their statuses, deadlines, ends and the wrapping of browsers, in virtual time.

use super::http2::{h2_upstream, Browser, Origin};
use super::world::World;
use crate::grpc::Status;
use crate::http2::Reset;
use crate::message::{BodyLength, Fields, Method, PathOptions, RequestHead, ResponseHead};
use crate::observe::Snapshot;
use base64::engine::general_purpose::STANDARD;
use base64::Engine;

const MESSAGE: &[u8] = b"\0\0\0\0\x03abc";
const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// Begins a call; its request is complete unless `open`.
fn call(world: &mut World, browser: &mut Browser, owner: u32, fields: &[(&str, &str)], open: bool) -> u32 {
    let mut head = RequestHead { method: Method::Post, length: BodyLength::Streamed, ..RequestHead::default() };
    head.target.parse(b"/pkg.Svc/Do", PathOptions::default()).expect("a path");
    for (name, value) in fields {
        head.fields.append(name.as_bytes(), value.as_bytes());
    }
    let stream = browser.session.open(owner, &head, b"h", false, |_| {}).expect("opened");
    browser.session.data(stream, MESSAGE);
    if !open {
        browser.session.end(stream, &Fields::default());
    }
    browser.run(world);
    stream
}

fn head(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead { status, ..ResponseHead::default() };
    fields.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
    head
}

fn trailers(lines: &[(&str, &str)]) -> Fields {
    head(200, lines).fields
}

impl Origin {
    /// The last request, begun: head and one message.
    fn begin(&mut self, world: &mut World) -> u32 {
        self.run(world);
        let stream = *self.streams.last().expect("a request");
        self.session.head(stream, &head(200, &[GRPC]), |_| {});
        self.session.data(stream, MESSAGE);
        self.run(world);
        stream
    }

    fn end(&mut self, world: &mut World, stream: u32, lines: &[(&str, &str)]) {
        self.session.end(stream, &trailers(lines));
        self.run(world);
    }

    /// The last request, answered with nothing but a status.
    fn refuse(&mut self, world: &mut World, status: &str) {
        self.run(world);
        let stream = *self.streams.last().expect("a request");
        self.session.head(stream, &head(200, &[GRPC, ("grpc-status", status)]), |_| {});
        self.end(world, stream, &[]);
    }

    fn asked(&self, name: &str) -> Option<String> {
        self.request.fields.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

impl Browser {
    fn head_field(&self, name: &str) -> String {
        String::from_utf8_lossy(self.response.fields.get(name.as_bytes()).unwrap_or(b"-")).into_owned()
    }

    fn trailer(&self, name: &str) -> String {
        String::from_utf8_lossy(self.session.trailers.get(name.as_bytes()).unwrap_or(b"-")).into_owned()
    }
}

#[test]
fn statuses_of_trailers_and_heads_are_passed_on_and_noted() {
    let mut world = h2_upstream("");
    let mut browser = Browser::open(&mut world);
    call(&mut world, &mut browser, 1, &[GRPC], false);
    let mut origin = Origin::open(&mut world);
    let stream = origin.begin(&mut world);
    origin.end(&mut world, stream, &[("grpc-status", "5"), ("grpc-message", "no"), ("x-more-bin", "AP8")]);
    browser.run(&mut world);
    assert_eq!((browser.trailer("grpc-status"), browser.trailer("x-more-bin")), ("5".into(), "AP8".into()));
    call(&mut world, &mut browser, 2, &[GRPC], false);
    origin.refuse(&mut world, "0");
    browser.run(&mut world);
    assert_eq!((browser.head_field("grpc-status"), browser.head_field("content-length")), ("0".into(), "-".into()));
    assert!(browser.has("2.0"), "{:?}", browser.told);
    // One that ends without a status gets one.
    call(&mut world, &mut browser, 3, &[GRPC], false);
    let stream = origin.begin(&mut world);
    origin.end(&mut world, stream, &[]);
    browser.run(&mut world);
    assert_eq!(browser.trailer("grpc-status"), "2");
    // Other requests have none.
    call(&mut world, &mut browser, 4, &[("content-type", "text/plain")], false);
    let stream = origin.begin(&mut world);
    origin.end(&mut world, stream, &[("grpc-status", "13")]);
    browser.run(&mut world);
    assert_eq!(browser.trailer("grpc-status"), "13");
    assert_eq!(world.grpc, [Some(Status::NotFound), Some(Status::Ok), Some(Status::Unknown), None]);
    let mut counted: Vec<_> =
        Snapshot::take(&world.shared, world.now.mono).requests.iter().map(|r| r.labels.grpc_status).collect();
    counted.sort_unstable();
    assert_eq!(counted, ["", "NOT_FOUND", "OK", "UNKNOWN"]);
    world.assert_at_rest();
}

#[test]
fn the_gateways_own_errors_are_statuses() {
    let mut world = h2_upstream("");
    let mut browser = Browser::open(&mut world);
    call(&mut world, &mut browser, 1, &[GRPC], false);
    world.connect_failed(false);
    browser.run(&mut world);
    assert!(browser.has("1:200 connect-failed") && browser.has("1.0"), "{:?}", browser.told);
    assert_eq!(browser.head_field("grpc-status"), "14");
    assert_eq!(browser.head_field("grpc-message"), "Upstream unreachable");
    assert_eq!(browser.head_field("content-type"), "application/grpc");
    assert_ne!(browser.head_field("x-request-id"), "-");
    // Over HTTP/1.1 as well, and wrapped for browsers even where no policy unwraps their calls.
    for kind in ["application/grpc", "application/grpc-web-text"] {
        let client = world.client();
        let text = format!("POST /a/b HTTP/1.1\r\nhost: h\r\ncontent-type: {kind}\r\ncontent-length: 0\r\n\r\n");
        world.send(client, text);
        world.connect_failed(true);
        let got = world.take(client);
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.contains("grpc-status: 14\r\n"), "{got}");
        assert!(got.contains(&format!("content-type: {kind}\r\n")), "{got}");
        assert!(got.contains("x-pygate-error: connect-timeout\r\n") && got.ends_with("\r\n\r\n"), "{got}");
    }
    assert_eq!(world.grpc, [Some(Status::Unavailable); 3]);
    world.assert_at_rest();
}

#[test]
fn answers_that_are_not_grpc_become_statuses() {
    let mut world = World::base();
    let mut browser = Browser::open(&mut world);
    for (owner, (answer, status)) in [
        ("HTTP/1.1 503 Busy\r\nretry-after: 3\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\nbusy", "14"),
        ("HTTP/1.1 404 No\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n", "12"),
        ("HTTP/1.1 200 OK\r\nretry-after: 3\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi", "2"),
    ]
    .into_iter()
    .enumerate()
    {
        call(&mut world, &mut browser, owner as u32, &[GRPC], false);
        let up = world.connected();
        assert!(!world.take(up).contains("te: trailers"), "not in HTTP/1.1 without its connection field");
        world.send(up, answer);
        browser.run(&mut world);
        assert!(browser.has(&format!("{owner}:200 -")) && browser.has(&format!("{owner}.0")), "{:?}", browser.told);
        assert_eq!(browser.head_field("grpc-status"), status, "{answer}");
        assert_eq!(browser.head_field("retry-after"), "3", "what it said besides is kept");
        assert_eq!(browser.head_field("content-type"), "application/grpc");
    }
    world.assert_at_rest();
}

#[test]
fn a_failure_inside_200_opens_the_breaker_but_a_callers_hurry_does_not() {
    let policy = "[policies.b.circuit_breaker]\nconsecutive_failures = 1\n";
    let routed = "connect_timeout = \"1s\"\nprotocol = \"http2\"";
    let mut world = World::new(
        &(super::world::BASE
            .replace("connect_timeout = \"1s\"", routed)
            .replace("service = \"app\"\n", "service = \"app\"\npolicies = [\"b\"]\n")
            + policy),
    );
    let mut browser = Browser::open(&mut world);
    call(&mut world, &mut browser, 1, &[GRPC, ("grpc-timeout", "1S")], false);
    let mut origin = Origin::open(&mut world);
    origin.refuse(&mut world, "4");
    call(&mut world, &mut browser, 2, &[GRPC], false);
    origin.refuse(&mut world, "5");
    call(&mut world, &mut browser, 3, &[GRPC], false);
    origin.refuse(&mut world, "14");
    browser.run(&mut world);
    assert!(browser.has("3:200 -"), "{:?}", browser.told);
    call(&mut world, &mut browser, 4, &[GRPC], false);
    assert!(browser.has("4:200 circuit-open"), "{:?}", browser.told);
    assert_eq!(browser.head_field("grpc-status"), "14");
    world.assert_at_rest();
}

#[test]
fn statuses_are_retried_while_nothing_was_sent() {
    let policy = "[policies.r.retry]\ngrpc_statuses = [\"unavailable\"]\nnon_idempotent = true\nbackoff = \"0s\"\n";
    let config = super::world::BASE
        .replace("connect_timeout = \"1s\"", "connect_timeout = \"1s\"\nprotocol = \"http2\"")
        .replace("service = \"app\"\n", "service = \"app\"\npolicies = [\"r\"]\n");
    let mut world = World::new(&(config + policy));
    let mut browser = Browser::open(&mut world);
    call(&mut world, &mut browser, 1, &[GRPC], false);
    let mut origin = Origin::open(&mut world);
    origin.refuse(&mut world, "14");
    assert!(browser.told.is_empty() && origin.streams.len() == 2, "{:?}", origin.seen);
    let stream = origin.begin(&mut world);
    origin.end(&mut world, stream, &[("grpc-status", "0")]);
    browser.run(&mut world);
    assert_eq!(browser.trailer("grpc-status"), "0");
    assert_eq!(origin.seen.iter().filter(|s| s.starts_with("=\0")).count(), 2, "the message was sent again");
    // A second failure is the answer, and other statuses are answers at once.
    for (owner, status, sent) in [(2, "14", 2), (3, "8", 1)] {
        let before = origin.streams.len();
        call(&mut world, &mut browser, owner, &[GRPC], false);
        for _ in 0..sent {
            origin.refuse(&mut world, status);
        }
        browser.run(&mut world);
        assert_eq!((origin.streams.len() - before, browser.head_field("grpc-status")), (sent, status.into()));
    }
    assert_eq!(world.grpc, [Some(Status::Ok), Some(Status::Unavailable), Some(Status::ResourceExhausted)]);
    world.assert_at_rest();
}

#[test]
fn the_callers_deadline_is_kept_and_told_upstream() {
    let mut world = h2_upstream("");
    let mut browser = Browser::open(&mut world);
    for (owner, (value, status)) in [("1s", "3"), ("", "3"), ("0S", "4")].into_iter().enumerate() {
        call(&mut world, &mut browser, owner as u32, &[GRPC, ("grpc-timeout", value)], false);
        assert_eq!(browser.head_field("grpc-status"), status, "{value:?}");
    }
    assert!(world.asked.is_empty());
    call(&mut world, &mut browser, 3, &[GRPC, ("grpc-timeout", "500m")], false);
    world.seconds(0.2);
    let mut origin = Origin::open(&mut world);
    assert_eq!(origin.asked("grpc-timeout"), Some("300000u".into()));
    world.seconds(0.2);
    browser.run(&mut world);
    assert!(!browser.has("3.0"), "{:?}", browser.told);
    world.seconds(0.2);
    browser.run(&mut world);
    assert!(browser.has("3:200 upstream-timeout"), "{:?}", browser.told);
    assert_eq!(browser.head_field("grpc-status"), "4");
    origin.run(&mut world);
    assert_eq!(origin.seen.last().map(String::as_str), Some("!"), "the stream is reset");
    // It ends an answer that has begun, too.
    call(&mut world, &mut browser, 4, &[GRPC, ("grpc-timeout", "1S")], true);
    origin.begin(&mut world);
    world.seconds(1.1);
    browser.run(&mut world);
    assert!(browser.has("4:200 -") && browser.has("4.2"), "{:?}", browser.told);
    assert_eq!(browser.trailer("grpc-status"), "4");
    world.assert_at_rest();
}

#[test]
fn an_answer_that_is_cut_ends_in_trailers_between_messages_and_in_a_reset_within_one() {
    for whole in [true, false] {
        let mut world = h2_upstream("");
        let mut browser = Browser::open(&mut world);
        call(&mut world, &mut browser, 1, &[GRPC], false);
        let mut origin = Origin::open(&mut world);
        let stream = origin.begin(&mut world);
        if !whole {
            origin.session.data(stream, b"\0\0\0\0\x09half");
            origin.run(&mut world);
        }
        origin.session.close(stream, Reset::Internal);
        origin.run(&mut world);
        browser.run(&mut world);
        assert_eq!((browser.has("1.2"), browser.has("1!")), (whole, !whole), "{:?}", browser.told);
        if whole {
            assert_eq!(browser.trailer("grpc-status"), "14");
        }
        assert_eq!(world.grpc, [Some(Status::Unavailable)]);
        world.assert_at_rest();
    }
}

/// Posts `body` as a gRPC-Web call over HTTP/1.1 and answers it with one message; what the upstream saw, and the answer.
fn web(kind: &str, body: &[u8], early: bool) -> (String, Vec<u8>, String) {
    let config = super::world::BASE
        .replace("connect_timeout = \"1s\"", "connect_timeout = \"1s\"\nprotocol = \"http2\"")
        .replace("service = \"app\"\n", "service = \"app\"\npolicies = [\"zip\", \"w\"]\n");
    let mut world = World::new(&(config + "[policies.w.grpc_web]\n[policies.zip.compress]\nmin_size = \"1B\"\n"));
    let client = world.client();
    let head = format!("POST /s/m HTTP/1.1\r\nhost: h\r\naccept-encoding: gzip\r\ncontent-type: {kind}\r\n");
    world.send(client, format!("{head}content-length: {}\r\n\r\n", body.len()));
    let mut origin = Origin::open(&mut world);
    for byte in body {
        world.send(client, [*byte]);
    }
    origin.run(&mut world);
    let seen = origin.seen.iter().filter_map(|seen| seen.strip_prefix('=')).collect();
    assert_eq!(origin.asked("content-type").as_deref(), Some("application/grpc"));
    if early {
        origin.refuse(&mut world, "7");
        let got = world.take_bytes(client);
        world.assert_at_rest();
        return (seen, got, String::new());
    }
    let stream = origin.begin(&mut world);
    let first = world.take_bytes(client);
    origin.end(&mut world, stream, &[("grpc-status", "0"), ("grpc-message", "ok")]);
    let rest = world.take(client);
    world.assert_at_rest();
    (seen, first, rest)
}

#[test]
fn calls_of_browsers_are_translated_piece_by_piece() {
    let (seen, first, rest) = web("application/grpc-web", MESSAGE, false);
    assert_eq!(seen.as_bytes(), MESSAGE);
    assert!(first.ends_with(b"8\r\n\0\0\0\0\x03abc\r\n"), "{:?}", String::from_utf8_lossy(&first));
    let head = String::from_utf8_lossy(&first).into_owned();
    assert!(head.contains("content-type: application/grpc-web\r\n") && !head.contains("gzip"), "{head}");
    assert!(rest.starts_with("27\r\n") && rest.ends_with("\r\n\r\n0\r\n\r\n"), "{rest:?}");
    assert!(rest.contains("\0\0\0\x22grpc-status: 0\r\ngrpc-message: ok\r\n"), "{rest:?}");

    let (seen, first, rest) = web("application/grpc-web-text", STANDARD.encode(MESSAGE).as_bytes(), false);
    assert_eq!(seen.as_bytes(), MESSAGE);
    let text = String::from_utf8_lossy(&first).into_owned();
    let (_, chunks) = text.split_once("\r\n\r\n").expect("a head");
    let sent: String = chunks.split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(sent, STANDARD.encode(MESSAGE), "at once, whole");
    let body: String = rest.split("\r\n").filter(|line| line.len() > 3).collect();
    let frame = STANDARD.decode(body).expect("base64");
    assert_eq!(frame[0], 0x80);
    assert!(frame.ends_with(b"grpc-status: 0\r\ngrpc-message: ok\r\n"));

    // Trailers only: they stay in the head.
    let (_, answer, _) = web("application/grpc-web", MESSAGE, true);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("grpc-status: 7\r\n") && answer.contains("content-length: 0\r\n"), "{answer}");
}

#[test]
fn a_body_that_is_not_base64_is_refused() {
    let config = super::world::BASE.replace("service = \"app\"\n", "service = \"app\"\npolicies = [\"w\"]\n");
    for body in ["AAA*", "AAAAA"] {
        let mut world = World::new(&(config.clone() + "[policies.w.grpc_web]\n"));
        let client = world.client();
        let head = "POST /s/m HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc-web-text\r\n";
        world.send(client, format!("{head}content-length: {}\r\n\r\n{body}", body.len()));
        let got = world.take(client);
        assert!(got.contains("grpc-status: 3\r\n") && got.contains("x-pygate-error: bad-request"), "{got}");
        world.seconds(3.0);
    }
}
