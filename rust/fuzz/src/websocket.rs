//! Two WebSocket sides joined, frame by frame.
//!
//! Input: a byte of options, then pieces – a byte whose high bit says who sends (set: the upstream) and whose other bits
//! are a length, and as many bytes.
//!
//! Promises: each side is sent whole, well-formed frames, masked as it must be, in messages that are not mixed; nothing
//! after a close frame or its end; until somebody closes or is judged, what is sent on is what came, however it was cut.

use super::split::{Split, SPLITS};
use pygate_core::time::Instant;
use pygate_core::websocket::{Options, Out, Params, Relay, Side, Verdict, Window};
use std::time::Duration;

/// What a side was sent, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sent {
    bytes: Vec<u8>,
    end: Option<bool>,
}

pub fn websocket_frames(data: &[u8]) {
    let Some((&options, script)) = data.split_first() else { return };
    let judged = options & 3 != 0;
    let whole = play(options, script, Split::Whole);
    for split in SPLITS {
        let again = play(options, script, split);
        // Where somebody broke the protocol it depends on the cut how much of that frame went on.
        if !judged && whole.2 && again.2 {
            assert_eq!((&again.0.bytes, &again.1.bytes), (&whole.0.bytes, &whole.1.bytes), "{split:?}");
        }
    }
}

/// Plays the script; what client and upstream were sent, and whether all of it was sound.
fn play(options: u8, script: &[u8], split: Split) -> (Sent, Sent, bool) {
    let window = Window { bits: 9 + (options >> 3) % 7, takeover: options & 0x40 != 0 };
    let params = (options & 4 != 0).then_some(Params { client: window, server: window });
    let settings = Options {
        max_message: 2048,
        ping_interval: Duration::from_secs(if options & 0x80 != 0 { 5 } else { 0 }),
        close_timeout: Duration::from_secs(3),
        judge_client: options & 1 != 0,
        judge_upstream: options & 2 != 0,
    };
    let mut now = Instant(1_000_000_000);
    let mut relay = Relay::new(settings, params, [7; 32], now);
    let mut sent = [Sent::default(), Sent::default()];
    let mut rest = script;
    while let Some((&head, after)) = rest.split_first() {
        let (piece, after) = after.split_at(usize::from(head & 0x7f).min(after.len()));
        rest = after;
        let from = if head & 0x80 == 0 { Side::Client } else { Side::Upstream };
        for piece in split.pieces(piece) {
            let mut out = Vec::new();
            relay.feed(from, piece, now, &mut out);
            carry_out(&mut relay, &mut sent, out, piece, now);
        }
    }
    // Once one side has closed, what the other did wrong afterwards is told nowhere.
    let sound = relay.closing().is_none();
    // The end: both sides are told within their time.
    let mut out = Vec::new();
    relay.drain(now, &mut out);
    carry_out(&mut relay, &mut sent, out, b"", now);
    for _ in 0..200 {
        let Some(deadline) = relay.deadline().filter(|_| !relay.is_finished()) else { break };
        now = now.max(deadline);
        let mut out = Vec::new();
        relay.tick(now, &mut out);
        carry_out(&mut relay, &mut sent, out, b"", now);
    }
    assert!(relay.is_finished(), "the relay never ends");
    let [client, upstream] = sent;
    well_formed(&client, false);
    well_formed(&upstream, true);
    (client, upstream, sound)
}

fn carry_out(relay: &mut Relay, sent: &mut [Sent; 2], out: Vec<Out>, input: &[u8], now: Instant) {
    let mut todo = out;
    let mut input = input;
    while !todo.is_empty() {
        let mut waiting = Vec::new();
        for step in std::mem::take(&mut todo) {
            match step {
                Out::Forward { to, range } => send(sent, to, &input[range]),
                Out::Send { to, bytes } => send(sent, to, &bytes),
                Out::Message { from } => waiting.push(from),
                Out::End { side, clean } => {
                    let end = &mut sent[usize::from(side == Side::Upstream)].end;
                    assert!(end.replace(clean).is_none(), "{side:?} was ended twice");
                }
            }
        }
        // Ranges are of the input that was fed, not of what a verdict sets free.
        input = b"";
        for from in waiting {
            let Some((_, message)) = relay.message(from) else { panic!("a message was announced that is not there") };
            let verdict = match message.first() {
                Some(b'B') => Verdict::Block(1008),
                Some(b'R') => Verdict::Replace(b"replaced".to_vec()),
                _ => Verdict::Pass,
            };
            relay.verdict(from, verdict, now, &mut todo);
        }
    }
}

fn send(sent: &mut [Sent; 2], to: Side, bytes: &[u8]) {
    let side = &mut sent[usize::from(to == Side::Upstream)];
    assert!(side.end.is_none() || bytes.is_empty(), "{to:?} was sent something after its end");
    side.bytes.extend_from_slice(bytes);
}

/// RFC 6455 §5, read once more.
fn well_formed(sent: &Sent, masked: bool) {
    let (mut rest, mut open, mut closed) = (sent.bytes.as_slice(), false, false);
    while let [first, second, after @ ..] = rest {
        assert!(!closed, "a frame after a close frame");
        let (fin, opcode) = (first & 0x80 != 0, first & 15);
        assert_eq!(second & 0x80 != 0, masked, "masked wrongly");
        assert_eq!(first & 0x30, 0, "reserved bits");
        let (length, after) = match (second & 0x7f, after) {
            (126, [a, b, after @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), after),
            (127, [a, b, c, d, e, f, g, h, after @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize, after)
            }
            (126 | 127, _) => break,
            (n, after) => (usize::from(n), after),
        };
        match opcode {
            0 => assert!(std::mem::replace(&mut open, !fin), "a continuation of nothing"),
            1 | 2 => assert!(!std::mem::replace(&mut open, !fin), "a message inside another"),
            8..=10 => {
                assert!(fin && length <= 125, "a control frame that may not be");
                closed = opcode == 8;
            }
            other => panic!("opcode {other}"),
        }
        let Some(after) = after.get(length + if masked { 4 } else { 0 }..) else { break };
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
    // Cut inside a frame: only where the side was told so.
    assert!(rest.is_empty() || sent.end == Some(false), "cut inside a frame and called clean");
}
