//! The relay between two sides that are written down byte by byte.

use super::frame::{mask, write, write_close, Event, Opcode, Reader};
use super::*;
use crate::time::Instant;
use proptest::prelude::*;
use std::time::Duration;

const KEY: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
const SECOND: u64 = 1_000_000_000;

fn options() -> Options {
    Options {
        max_message: 1 << 20,
        ping_interval: Duration::from_secs(30),
        close_timeout: Duration::from_secs(5),
        judge_client: false,
        judge_upstream: false,
    }
}

fn judged() -> Options {
    Options { judge_client: true, judge_upstream: true, ..options() }
}

fn params(client: Window, server: Window) -> Option<Params> {
    Some(Params { client, server })
}

const FULL: Window = Window { bits: 15, takeover: true };

/// A relay, what it sent, and the judge.
struct Bench {
    relay: Relay,
    now: u64,
    sent: [Vec<u8>; 2],
    ended: [Option<bool>; 2],
    /// Verdicts to come; then everything passes.
    verdicts: Vec<Verdict>,
    judged: Vec<(Side, Opcode, Vec<u8>)>,
    /// Leave messages waiting.
    slow: bool,
}

fn index(side: Side) -> usize {
    side as usize
}

impl Bench {
    fn new(options: Options, params: Option<Params>) -> Bench {
        let now = 1000 * SECOND;
        Bench {
            relay: Relay::new(options, params, [7; 32], Instant(now)),
            now,
            sent: [Vec::new(), Vec::new()],
            ended: [None, None],
            verdicts: Vec::new(),
            judged: Vec::new(),
            slow: false,
        }
    }

    fn apply(&mut self, input: &[u8], out: Vec<Out>) {
        let mut todo = out;
        while !todo.is_empty() {
            let mut next = Vec::new();
            for out in std::mem::take(&mut todo) {
                match out {
                    Out::Forward { to, range } => self.send(to, &input[range]),
                    Out::Send { to, bytes } => self.send(to, &bytes),
                    Out::End { side, clean } => {
                        assert_eq!(self.ended[index(side)].replace(clean), None, "ended twice");
                    }
                    Out::Message { from } if !self.slow => {
                        let (kind, payload) = self.relay.message(from).unwrap();
                        self.judged.push((from, kind, payload.to_vec()));
                        let verdict = if self.verdicts.is_empty() { Verdict::Pass } else { self.verdicts.remove(0) };
                        self.relay.verdict(from, verdict, Instant(self.now), &mut next);
                    }
                    Out::Message { from } => assert!(self.relay.is_waiting(from)),
                }
            }
            todo = next;
        }
    }

    fn send(&mut self, to: Side, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        assert_eq!(self.ended[index(to)], None, "sent to an ended side");
        self.sent[index(to)].extend_from_slice(bytes);
    }

    fn feed(&mut self, side: Side, input: &[u8]) {
        let mut out = Vec::new();
        self.relay.feed(side, input, Instant(self.now), &mut out);
        self.apply(input, out);
    }

    fn with(&mut self, call: impl FnOnce(&mut Relay, Instant, &mut Vec<Out>)) {
        let mut out = Vec::new();
        call(&mut self.relay, Instant(self.now), &mut out);
        self.apply(&[], out);
    }

    fn tick_after(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
        self.with(|relay, now, out| relay.tick(now, out));
    }

    fn take(&mut self, side: Side) -> Vec<u8> {
        std::mem::take(&mut self.sent[index(side)])
    }

    /// The code of the only thing sent to `side`, a close frame.
    fn closed_with(&mut self, side: Side) -> Option<u16> {
        let raw = self.take(side);
        let frames = decode(side, &raw, None);
        match &frames[..] {
            [] => None,
            [(Opcode::Close, payload)] => Some(u16::from_be_bytes([payload[0], payload[1]])),
            other => panic!("{other:?}"),
        }
    }
}

/// What `side` reads: whole messages and control frames, decompressed with `window`.
fn decode(side: Side, raw: &[u8], window: Option<Window>) -> Vec<(Opcode, Vec<u8>)> {
    let mut reader = Reader::new(side == Side::Upstream, window.is_some());
    let mut inflater = window.map(Inflater::new);
    let (mut found, mut message, mut control) = (Vec::new(), (Opcode::Binary, false, Vec::new()), Vec::new());
    let mut header = None;
    let mut rest = raw;
    while !rest.is_empty() {
        let (used, event) = reader.read(rest).unwrap();
        let end = match event {
            Event::NeedMore => false,
            Event::Header(h) => {
                header = Some(h);
                if h.opcode.is_control() {
                    control.clear();
                } else if h.opcode != Opcode::Continuation {
                    message = (h.opcode, h.rsv1, Vec::new());
                }
                h.length == 0
            }
            Event::Payload { range, offset, end } => {
                let mut bytes = rest[range].to_vec();
                if let Some(key) = header.unwrap().mask {
                    mask(&mut bytes, key, offset);
                }
                let into = if header.unwrap().opcode.is_control() { &mut control } else { &mut message.2 };
                into.extend(bytes);
                end
            }
        };
        rest = &rest[used..];
        let Some(h) = header.filter(|h| end && h.fin) else { continue };
        if h.opcode.is_control() {
            found.push((h.opcode, control.clone()));
            continue;
        }
        let (kind, compressed, payload) = message.clone();
        if !compressed {
            found.push((kind, payload));
            continue;
        }
        let (inflater, mut plain) = (inflater.as_mut().unwrap(), Vec::new());
        let mut sink = |block: &[u8]| -> Result<(), ()> {
            plain.extend_from_slice(block);
            Ok(())
        };
        inflater.inflate(&payload, &mut sink).unwrap();
        inflater.finish(&mut sink).unwrap();
        found.push((kind, plain));
    }
    assert!(reader.is_between_frames(), "ends inside a frame");
    found
}

fn key_of(side: Side) -> Option<[u8; 4]> {
    (side == Side::Client).then_some(KEY)
}

fn frame(from: Side, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    write(&mut raw, opcode, false, key_of(from), payload);
    raw
}

fn close(from: Side, code: u16) -> Vec<u8> {
    let mut raw = Vec::new();
    write_close(&mut raw, key_of(from), code);
    raw
}

/// A message in fragments of the given sizes.
fn fragments(from: Side, opcode: Opcode, rsv1: bool, payload: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let (mut rest, mut frames) = (payload, Vec::new());
    for (n, &size) in sizes.iter().chain([&usize::MAX]).enumerate() {
        let last = n == sizes.len();
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        let mut raw = Vec::new();
        write(&mut raw, if n == 0 { opcode } else { Opcode::Continuation }, rsv1 && n == 0, key_of(from), piece);
        if !last {
            raw[0] &= 0x7F;
        }
        frames.push(raw);
    }
    frames
}

#[test]
fn a_breach_is_told_its_code_and_nothing_of_it_passes() {
    use Side::{Client, Upstream};
    let text = |side, bytes: &[u8]| frame(side, Opcode::Text, bytes);
    let rsv = |side, mut raw: Vec<u8>| {
        assert!(!decode(if side == Client { Upstream } else { Client }, &raw, None).is_empty());
        raw[0] |= 0x40;
        raw
    };
    for options in [options(), judged()] {
        for (side, raw, code) in [
            (Client, frame(Upstream, Opcode::Text, b"unmasked"), 1002),
            (Upstream, frame(Client, Opcode::Text, b"masked"), 1002),
            (Client, rsv(Client, text(Client, b"x")), 1002),
            (Upstream, rsv(Upstream, text(Upstream, b"x")), 1002),
            (Client, frame(Client, Opcode::Continuation, b"x"), 1002),
            (Client, text(Client, b"\xC3("), 1007),
            (Upstream, text(Upstream, b"\xC3("), 1007),
            (Upstream, text(Upstream, b"cut \xE2\x82"), 1007),
            (Client, text(Client, b"\xED\xA0\x80"), 1007),
            (Client, close(Client, 1005), 1002),
            (Client, close(Client, 1006), 1002),
            (Upstream, close(Upstream, 999), 1002),
            (Upstream, frame(Upstream, Opcode::Close, b"\x03"), 1002),
            (Client, frame(Client, Opcode::Close, b"\x03\xE8\xFF\xFF"), 1007),
            // One byte beyond the cap; its header is enough.
            (Client, vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 1, 1, 2, 3, 4], 1009),
            (Upstream, vec![0x82, 0x7F, 0, 0, 0, 0, 0, 0x10, 0, 1], 1009),
        ] {
            for whole in [true, false] {
                let mut bench = Bench::new(options, None);
                let pieces: Vec<&[u8]> = if whole { vec![&raw] } else { raw.chunks(1).collect() };
                pieces.into_iter().for_each(|piece| bench.feed(side, piece));
                let context = format!("{side:?} {} {whole}", raw.escape_ascii());
                assert_eq!(bench.ended[index(side)], Some(true), "{context}");
                assert_eq!(bench.closed_with(side), Some(code), "{context}");
                // In single bytes, what came before the wrong one was on its way already: the other side is cut.
                if bench.ended[index(side.other())].is_none() {
                    let told = if side == Client { 1001 } else { 1014 };
                    assert_eq!(bench.closed_with(side.other()), Some(told), "{context}");
                } else {
                    assert_eq!(bench.ended[index(side.other())], Some(false), "{context}");
                    assert!(!whole && !options.judge_client && code == 1007, "{context}");
                }
                let closing = bench.relay.closing().unwrap();
                assert_eq!((closing.code, closing.by), (code, Origin::Gateway));
                assert_eq!(bench.relay.messages(side), 0);
            }
        }
    }
}

#[test]
fn the_cap_counts_fragments_what_they_unpack_to_and_empty_frames() {
    let small = Options { max_message: 1000, ..options() };
    let mut deflated = Vec::new();
    Deflater::new(FULL).deflate(&[b'a'; 1001], &mut deflated);
    let mut fitting = Vec::new();
    Deflater::new(FULL).deflate(&[b'a'; 1000], &mut fitting);
    for options in [small, Options { judge_client: true, ..small }] {
        for (pieces, fits) in [
            (fragments(Side::Client, Opcode::Text, false, &[b'a'; 1000], &[400, 400]), true),
            (fragments(Side::Client, Opcode::Text, false, &[b'a'; 1001], &[400, 400]), false),
            (fragments(Side::Client, Opcode::Text, true, &fitting, &[2]), true),
            (fragments(Side::Client, Opcode::Text, true, &deflated, &[2]), false),
            (fragments(Side::Client, Opcode::Text, false, b"a", &[0; 10_000]), false),
        ] {
            let mut bench = Bench::new(options, params(FULL, FULL));
            pieces.iter().for_each(|raw| bench.feed(Side::Client, raw));
            if fits {
                assert_eq!(bench.take(Side::Upstream), pieces.concat());
                assert_eq!((bench.relay.messages(Side::Client), bench.relay.bytes(Side::Client)), (1, 1000));
            } else {
                assert_eq!(bench.closed_with(Side::Client), Some(1009));
                assert_eq!(bench.relay.closing().unwrap().code, 1009);
            }
        }
    }
}

#[test]
fn close_goes_end_to_end_and_ends_both() {
    for options in [options(), judged()] {
        for (first, by) in [(Side::Client, Origin::Client), (Side::Upstream, Origin::Upstream)] {
            let second = first.other();
            let mut bench = Bench::new(options, None);
            let raw = frame(first, Opcode::Close, b"\x0F\xA0over");
            bench.feed(first, &[&raw[..], b"ignored garbage"].concat());
            assert_eq!(bench.take(second), raw);
            assert_eq!(bench.ended, [None, None]);
            assert_eq!(bench.relay.deadline(), Some(Instant(bench.now + 5 * SECOND)));
            // The other side may go on until it answers.
            let late = frame(second, Opcode::Text, b"late");
            bench.feed(second, &[late.clone(), raw_close(second)].concat());
            assert_eq!(bench.take(first), [late, raw_close(second)].concat());
            assert_eq!(bench.ended, [Some(true), Some(true)]);
            assert!(bench.relay.is_finished() && bench.relay.deadline().is_none());
            let closing = bench.relay.closing().unwrap();
            assert_eq!((closing.code, closing.by), (4000, by));
        }
    }
}

fn raw_close(from: Side) -> Vec<u8> {
    close(from, 1000)
}

#[test]
fn a_close_without_code_is_recorded_as_1005() {
    let mut bench = Bench::new(options(), None);
    bench.feed(Side::Upstream, &frame(Side::Upstream, Opcode::Close, b""));
    assert_eq!(bench.relay.closing().unwrap().code, code::NONE);
}

#[test]
fn a_close_that_is_not_answered_ends_at_its_deadline() {
    let mut bench = Bench::new(options(), None);
    bench.feed(Side::Client, &raw_close(Side::Client));
    bench.tick_after(4);
    assert_eq!(bench.ended, [None, None]);
    bench.tick_after(1);
    assert_eq!(bench.ended, [Some(true), Some(true)]);
}

#[test]
fn a_lost_connection_is_told_to_the_other_side() {
    for (side, told) in [(Side::Client, 1001), (Side::Upstream, 1014)] {
        let mut bench = Bench::new(options(), None);
        bench.with(|relay, now, out| relay.gone(side, now, out));
        assert_eq!(bench.closed_with(side.other()), Some(told));
        assert_eq!(bench.relay.closing().unwrap().code, code::ABNORMAL);
        bench.feed(side.other(), &close(side.other(), told));
        assert_eq!(bench.ended[index(side.other())], Some(true));
        assert!(bench.relay.is_finished());

        // In the middle of a frame there is nothing left to say.
        let mut bench = Bench::new(options(), None);
        bench.feed(side, &frame(side, Opcode::Binary, &[0; 100])[..50]);
        bench.with(|relay, now, out| relay.gone(side, now, out));
        assert_eq!(bench.ended[index(side.other())], Some(false));
    }
}

#[test]
fn what_was_said_before_the_connection_was_lost_is_judged_and_sent() {
    let mut bench = Bench::new(judged(), None);
    bench.slow = true;
    let message = frame(Side::Upstream, Opcode::Text, b"last words");
    bench.feed(Side::Upstream, &message);
    bench.feed(Side::Upstream, &raw_close(Side::Upstream));
    bench.with(|relay, now, out| relay.gone(Side::Upstream, now, out));
    assert!(bench.take(Side::Client).is_empty());
    bench.with(|relay, now, out| relay.verdict(Side::Upstream, Verdict::Pass, now, out));
    assert_eq!(bench.take(Side::Client), [message, raw_close(Side::Upstream)].concat());
    assert_eq!(bench.relay.closing().unwrap().code, 1000);
    bench.feed(Side::Client, &raw_close(Side::Client));
    assert!(bench.relay.is_finished());
}

#[test]
fn drain_says_1001_to_both_once_and_between_frames() {
    let mut bench = Bench::new(options(), None);
    let long = frame(Side::Upstream, Opcode::Binary, &[1; 200]);
    bench.feed(Side::Upstream, &long[..100]);
    bench.with(|relay, now, out| relay.drain(now, out));
    bench.with(|relay, now, out| relay.drain(now, out));
    assert_eq!(bench.closed_with(Side::Upstream), Some(1001));
    assert_eq!(bench.take(Side::Client), &long[..100]);
    bench.feed(Side::Upstream, &[&long[100..], &frame(Side::Upstream, Opcode::Text, b"too late")].concat());
    assert_eq!(bench.take(Side::Client), [&long[100..], &[0x88, 2, 0x03, 0xE9]].concat());
    for side in Side::BOTH {
        bench.feed(side, &close(side, 1001));
        assert_eq!(bench.ended[index(side)], Some(true));
    }
    assert!(bench.take(Side::Client).is_empty() && bench.take(Side::Upstream).is_empty());
    assert_eq!(bench.relay.closing().unwrap().by, Origin::Gateway);
}

#[test]
fn a_silent_client_is_pinged_and_let_go() {
    let mut bench = Bench::new(options(), None);
    bench.tick_after(29);
    assert!(bench.take(Side::Client).is_empty());
    bench.tick_after(1);
    let ping = bench.take(Side::Client);
    let payload = match &decode(Side::Client, &ping, None)[..] {
        [(Opcode::Ping, payload)] => payload.clone(),
        other => panic!("{other:?}"),
    };
    // Our pong is swallowed, in any split; another's is passed on.
    let pong = frame(Side::Client, Opcode::Pong, &payload);
    pong.chunks(1).for_each(|byte| bench.feed(Side::Client, byte));
    bench.feed(Side::Client, &pong);
    assert!(bench.take(Side::Upstream).is_empty());
    let foreign = frame(Side::Client, Opcode::Pong, b"other");
    bench.feed(Side::Client, &foreign);
    assert_eq!(bench.take(Side::Upstream), foreign);
    // An upstream that sends the same payload is not us.
    let unasked = frame(Side::Upstream, Opcode::Pong, &payload);
    bench.feed(Side::Upstream, &unasked);
    assert_eq!(bench.take(Side::Client), unasked);

    bench.tick_after(30);
    assert_eq!(bench.take(Side::Client), ping);
    bench.tick_after(29);
    assert_eq!(bench.ended, [None, None]);
    bench.tick_after(1);
    assert_eq!(bench.closed_with(Side::Client), Some(1001));
    assert_eq!(bench.closed_with(Side::Upstream), Some(1001));
    assert_eq!(bench.ended, [Some(true), None]);
    assert_eq!(bench.relay.closing().unwrap().detail, "ping not answered");
}

#[test]
fn any_word_of_the_client_or_a_pause_counts_as_life() {
    let mut bench = Bench::new(options(), None);
    bench.tick_after(30);
    bench.take(Side::Client);
    bench.now += 29 * SECOND;
    bench.feed(Side::Client, b"\x82");
    bench.tick_after(29);
    bench.with(|relay, now, _| relay.excuse_silence(now));
    bench.tick_after(29);
    assert!(bench.take(Side::Client).is_empty() && bench.ended == [None, None]);

    let mut never = Bench::new(Options { ping_interval: Duration::ZERO, ..options() }, None);
    assert_eq!(never.relay.deadline(), None);
    never.tick_after(1000);
    assert!(never.take(Side::Client).is_empty());
}

#[test]
fn a_ping_waits_for_the_end_of_a_frame() {
    let mut bench = Bench::new(options(), None);
    let long = frame(Side::Upstream, Opcode::Binary, &[1; 200]);
    bench.feed(Side::Upstream, &long[..100]);
    bench.tick_after(30);
    bench.tick_after(30);
    assert_eq!(bench.take(Side::Client), &long[..100]);
    bench.feed(Side::Upstream, &long[100..]);
    let sent = bench.take(Side::Client);
    assert_eq!(&sent[..100 + 4], &long[100..]);
    assert_eq!(sent[104], 0x89);
    assert_eq!(bench.ended, [None, None]);
}

#[test]
fn pings_overtake_a_held_message() {
    let mut bench = Bench::new(judged(), None);
    let parts = fragments(Side::Client, Opcode::Text, false, b"hello world", &[5]);
    let ping = frame(Side::Client, Opcode::Ping, b"p");
    bench.feed(Side::Client, &parts[0]);
    bench.feed(Side::Client, &ping);
    assert_eq!(bench.take(Side::Upstream), ping);
    bench.feed(Side::Client, &parts[1]);
    assert_eq!(bench.take(Side::Upstream), parts.concat());
    assert_eq!(bench.judged, [(Side::Client, Opcode::Text, b"hello world".to_vec())]);
}

#[test]
fn verdicts_pass_replace_and_block() {
    let mut bench = Bench::new(judged(), None);
    bench.verdicts = vec![Verdict::Pass, Verdict::Replace(b"***".to_vec()), Verdict::Block(1008)];
    let words: Vec<Vec<u8>> =
        [&b"one"[..], b"two", b"three", b"four"].map(|word| frame(Side::Client, Opcode::Text, word)).to_vec();
    bench.feed(Side::Client, &words.concat());
    let sent = bench.take(Side::Upstream);
    assert!(sent.starts_with(&words[0]));
    let read = decode(Side::Upstream, &sent, None);
    assert_eq!(read[1], (Opcode::Text, b"***".to_vec()));
    assert_eq!(read[2], (Opcode::Close, 1001u16.to_be_bytes().to_vec()));
    assert_eq!(read.len(), 3);
    assert_eq!(bench.closed_with(Side::Client), Some(1008));
    assert_eq!(bench.judged.len(), 3);
    // The mask is not the client's, nor the same twice.
    assert_ne!(sent[words[0].len() + 2..][..4], KEY);

    let mut bench = Bench::new(judged(), None);
    bench.verdicts = vec![Verdict::Block(1008)];
    bench.feed(Side::Upstream, &frame(Side::Upstream, Opcode::Binary, b"secret"));
    assert_eq!(bench.closed_with(Side::Client), Some(1008));
    assert_eq!(bench.closed_with(Side::Upstream), Some(1008));

    let mut bench = Bench::new(judged(), None);
    bench.verdicts = vec![Verdict::Replace(vec![0xFF])];
    bench.feed(Side::Upstream, &frame(Side::Upstream, Opcode::Text, b"x"));
    assert_eq!(bench.closed_with(Side::Client), Some(1011));
}

#[test]
fn a_slow_verdict_keeps_the_order() {
    let mut bench = Bench::new(judged(), None);
    bench.slow = true;
    let raw: Vec<Vec<u8>> = (0..3u8).map(|n| frame(Side::Client, Opcode::Binary, &[n; 10])).collect();
    bench.feed(Side::Client, &[&raw[0][..], &raw[1], &raw[2][..5]].concat());
    bench.feed(Side::Client, &raw[2][5..]);
    for (n, frame) in raw.iter().enumerate() {
        assert!(bench.take(Side::Upstream).is_empty());
        assert_eq!(bench.relay.message(Side::Client), Some((Opcode::Binary, &[n as u8; 10][..])));
        bench.with(|relay, now, out| relay.verdict(Side::Client, Verdict::Pass, now, out));
        assert_eq!(&bench.take(Side::Upstream), frame);
    }
    assert_eq!(bench.relay.message(Side::Client), None);
    bench.with(|relay, now, out| relay.verdict(Side::Client, Verdict::Block(1008), now, out));
    assert!(bench.relay.closing().is_none());
}

#[test]
fn compression_survives_a_replaced_message() {
    for side in Side::BOTH {
        for takeover in [true, false] {
            for bits in [8, 9, 15] {
                let window = Window { bits, takeover };
                let mut bench = Bench::new(judged(), params(window, window));
                bench.verdicts = vec![Verdict::Pass, Verdict::Replace(b"other words".to_vec())];
                let mut deflater = Deflater::new(Window { bits: bits.max(9), takeover });
                let words = ["the same words again and again"; 4];
                for word in words {
                    let mut raw = Vec::new();
                    assert!(deflater.deflate(word.as_bytes(), &mut raw));
                    fragments(side, Opcode::Text, true, &raw, &[3]).iter().for_each(|raw| bench.feed(side, raw));
                }
                let read = decode(side.other(), &bench.take(side.other()), Some(window));
                let read: Vec<&str> = read.iter().map(|(_, text)| std::str::from_utf8(text).unwrap()).collect();
                assert_eq!(read, [words[0], "other words", words[2], words[3]]);
            }
        }
    }
}

#[test]
fn a_judged_message_that_decoders_may_read_differently_is_written_anew() {
    let mut bench = Bench::new(judged(), params(FULL, FULL));
    // "Hello" in a final block, then "Hello" behind it.
    let twice = b"\xF3\x48\xCD\xC9\xC9\x07\x00\xF2\x48\xCD\xC9\xC9\x07\x00";
    let mut raw = Vec::new();
    write(&mut raw, Opcode::Text, true, Some(KEY), twice);
    bench.feed(Side::Client, &raw);
    assert_eq!(bench.judged[0].2, b"HelloHello");
    let sent = bench.take(Side::Upstream);
    assert_ne!(sent, raw);
    assert_eq!(decode(Side::Upstream, &sent, Some(FULL)), [(Opcode::Text, b"HelloHello".to_vec())]);
}

#[test]
fn broken_compression_is_1007() {
    let mut bench = Bench::new(options(), params(FULL, FULL));
    let mut raw = Vec::new();
    write(&mut raw, Opcode::Binary, true, Some(KEY), b"\xFF\xFF\xFF\xFF");
    bench.feed(Side::Client, &raw);
    assert_eq!(bench.closed_with(Side::Client), Some(1007));
}

#[derive(Clone, Debug)]
struct Spoken {
    text: bool,
    compressed: bool,
    payload: String,
    sizes: Vec<usize>,
    ping: Option<Vec<u8>>,
}

fn spoken() -> impl Strategy<Value = Spoken> {
    let payload = prop_oneof![any::<String>(), "[ab€😀]{0,300}", "[a]{0,3000}"];
    let ping = prop::option::of(prop::collection::vec(any::<u8>(), 0..126));
    (any::<bool>(), any::<bool>(), payload, prop::collection::vec(0usize..40, 0..4), ping)
        .prop_map(|(text, compressed, payload, sizes, ping)| Spoken { text, compressed, payload, sizes, ping })
}

/// The raw bytes of `spoken`, and what they say in the order a receiver learns it.
fn speak(from: Side, spoken: &[Spoken], window: Option<Window>) -> (Vec<u8>, Vec<(Opcode, Vec<u8>)>) {
    let mut deflater = window.map(Deflater::new);
    let (mut raw, mut said) = (Vec::new(), Vec::new());
    for s in spoken {
        let kind = if s.text { Opcode::Text } else { Opcode::Binary };
        let mut deflated = Vec::new();
        let rsv1 = match &mut deflater {
            Some(deflater) if s.compressed => deflater.deflate(s.payload.as_bytes(), &mut deflated),
            _ => false,
        };
        let body = if rsv1 { &deflated[..] } else { s.payload.as_bytes() };
        for (n, part) in fragments(from, kind, rsv1, body, &s.sizes).iter().enumerate() {
            // Behind the first fragment: inside the message if there are more.
            raw.extend_from_slice(part);
            if let (0, Some(ping)) = (n, &s.ping) {
                raw.extend(frame(from, Opcode::Ping, ping));
            }
        }
        let ping = s.ping.iter().map(|ping| (Opcode::Ping, ping.clone()));
        let message = [(kind, s.payload.clone().into_bytes())];
        if s.sizes.is_empty() {
            said.extend(message.into_iter().chain(ping));
        } else {
            said.extend(ping.chain(message));
        }
    }
    (raw, said)
}

fn cut<'a>(raw: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(raw.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(raw.len());
    let mut from = 0;
    cuts.into_iter().map(|to| &raw[std::mem::replace(&mut from, to)..to]).collect()
}

fn windows() -> impl Strategy<Value = Option<Window>> {
    prop::option::of((8u8..=15, any::<bool>()).prop_map(|(bits, takeover)| Window { bits, takeover }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_split_of_any_conversation_arrives_as_it_was_said(
        words in prop::collection::vec(spoken(), 0..5),
        window in windows(),
        client: bool, judge: bool, replace: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let side = if client { Side::Client } else { Side::Upstream };
        let (raw, said) = speak(side, &words, window);
        let options = if judge { judged() } else { options() };
        let mut bench = Bench::new(options, window.and_then(|w| params(w, w)));
        if replace {
            // By itself: what we write says the same.
            bench.verdicts = words.iter().map(|s| Verdict::Replace(s.payload.clone().into_bytes())).collect();
        }
        cut(&raw, &cuts).into_iter().for_each(|piece| bench.feed(side, piece));
        let sent = bench.take(side.other());
        if !judge {
            prop_assert_eq!(&sent, &raw);
        }
        let read = decode(side.other(), &sent, window);
        let pick = |all: &[(Opcode, Vec<u8>)], control| -> Vec<(Opcode, Vec<u8>)> {
            all.iter().filter(|(kind, _)| kind.is_control() == control).cloned().collect()
        };
        prop_assert_eq!(pick(&read, false), pick(&said, false));
        prop_assert_eq!(pick(&read, true), pick(&said, true));
        if judge {
            let seen: Vec<_> = bench.judged.iter().map(|(_, kind, payload)| (*kind, payload.clone())).collect();
            prop_assert_eq!(seen, pick(&said, false));
        } else {
            prop_assert_eq!(read, said);
        }
        prop_assert_eq!(bench.relay.messages(side), words.len() as u64);
        prop_assert_eq!(bench.relay.bytes(side), words.iter().map(|s| s.payload.len() as u64).sum::<u64>());
        prop_assert!(bench.relay.closing().is_none());
    }

    #[test]
    fn broken_text_is_found_in_every_split_and_a_judge_never_sees_it(
        bytes in prop::collection::vec(
            prop_oneof![Just(b'a'), 0x80u8..0xC0, Just(0xC3), Just(0xE2), Just(0xF0)], 0..12),
        sizes in prop::collection::vec(0usize..4, 0..4),
        compressed: bool, judge: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut deflated = Vec::new();
        let body = if compressed {
            Deflater::new(FULL).deflate(&bytes, &mut deflated);
            &deflated
        } else {
            &bytes
        };
        let raw = fragments(Side::Client, Opcode::Text, compressed, body, &sizes).concat();
        let mut bench = Bench::new(if judge { judged() } else { options() }, params(FULL, FULL));
        cut(&raw, &cuts).into_iter().for_each(|piece| bench.feed(Side::Client, piece));
        let good = std::str::from_utf8(&bytes).is_ok();
        prop_assert_eq!(bench.relay.closing().map(|closing| closing.code), (!good).then_some(1007));
        prop_assert_eq!(bench.judged.len(), usize::from(good && judge));
    }

    #[test]
    fn nothing_either_side_or_the_judge_does_panics_or_leaves_it_open(
        steps in prop::collection::vec(
            (0u8..12, prop::collection::vec(
                prop_oneof![any::<u8>(), Just(0x81), Just(0x82), Just(0x80), Just(0), Just(0x7E), Just(0xC1)], 0..40)),
            0..30),
        window in windows(), judge: bool, slow: bool,
    ) {
        let options = Options { max_message: 500, ..if judge { judged() } else { options() } };
        let mut bench = Bench::new(options, window.and_then(|w| params(w, w)));
        bench.slow = slow;
        for (step, bytes) in steps {
            let side = if step % 2 == 0 { Side::Client } else { Side::Upstream };
            match step {
                0 | 1 => bench.feed(side, &bytes),
                2 | 3 => bench.feed(side, &frame(side, Opcode::Binary, &bytes)),
                4 | 5 => {
                    let whole = frame(side, Opcode::Text, &bytes);
                    bench.feed(side, &whole[..whole.len() / 2]);
                    bench.feed(side, &whole[whole.len() / 2..]);
                }
                6 | 7 => {
                    let verdict = match bytes.len() % 3 {
                        0 => Verdict::Pass,
                        1 => Verdict::Replace(bytes),
                        _ => Verdict::Block(1008),
                    };
                    bench.with(|relay, now, out| relay.verdict(side, verdict, now, out));
                }
                8 | 9 => bench.feed(side, &raw_close(side)),
                10 => {
                    let lost = if bytes.len() % 2 == 0 { side } else { side.other() };
                    bench.with(|relay, now, out| relay.gone(lost, now, out));
                }
                _ => bench.tick_after(bytes.len() as u64),
            }
        }
        // Whatever happened, a drain and its deadline end it.
        bench.with(|relay, now, out| relay.drain(now, out));
        bench.tick_after(5);
        prop_assert!(bench.relay.is_finished());
    }
}
