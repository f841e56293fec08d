//! Two WebSocket connections joined, message by message, as a state machine.
//!
//! Rules:
//! 1. Directions that nobody judges stream: each checked piece goes on as it came, frames and masks untouched. A judged
//!    direction holds a message back until its verdict, and everything behind it, so that order is kept.
//! 2. Pings, pongs and close frames go end to end, even past the first frames of a message that is being gathered. Only
//!    answers to our own pings, known by their payload, end here.
//! 3. After a close frame to a side nothing more is sent to it; after one from a side nothing more is read from it. A
//!    side that has both is ended; one that breaks the protocol is told its code and ended, and the other side is told
//!    1001 (upstream) or 1014 (client).
//! 4. Nothing is put into the middle of a frame: what we have to say waits for its end, and where that cannot come the
//!    side is cut.
//! 5. A replaced message breaks the sender's compression context: from then on we compress that direction ourselves.

use super::deflate::Deflater;
use super::direction::{Direction, Found, KEPT};
use super::extension::Params;
use super::frame::{close_code, write, write_close, Opcode};
use super::mask_keys::MaskKeys;
use super::{code, Side, Violation};
use crate::time::Instant;
use std::ops::Range;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Longest message in bytes, decompressed.
    pub max_message: u64,
    /// How long a client may be silent before it is sent a ping, and then before it is let go. Zero: for ever.
    pub ping_interval: Duration,
    /// From the first close frame to the end of both sides.
    pub close_timeout: Duration,
    /// Messages of the client wait for [`Relay::verdict`].
    pub judge_client: bool,
    /// Messages of the upstream do.
    pub judge_upstream: bool,
}

/// What has to happen, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// These bytes of the input just fed go to `to` as they are.
    Forward { to: Side, range: Range<usize> },
    /// These bytes go to `to`.
    Send { to: Side, bytes: Vec<u8> },
    /// A message of `from` ([`Relay::message`]) waits for [`Relay::verdict`]; stop reading `from` until then.
    Message { from: Side },
    /// Nothing more will be sent to or read from `side`: flush and close it. Not `clean`: it was cut inside a frame.
    /// Comes once per side, except where the caller said [`Relay::gone`].
    End { side: Side, clean: bool },
}

/// What happens to a judged message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// This payload instead, of the same kind; text must be UTF-8.
    Replace(Vec<u8>),
    /// The message is dropped and both sides are closed: its sender and the client with this code, the upstream with
    /// 1001 unless it was the sender.
    Block(u16),
}

/// Who ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Client,
    Upstream,
    Gateway,
}

/// How the connection ended, for the record: the first close code seen or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// [`code::NONE`] for a close frame without one, [`code::ABNORMAL`] for none at all.
    pub code: u16,
    pub by: Origin,
    /// Why, if the gateway did it.
    pub detail: &'static str,
}

/// One side: what it says, and what it is told.
struct Way {
    from: Direction,
    judged: bool,
    /// Bytes of the frame under way that were consumed but not yet passed on.
    carry: Vec<u8>,
    /// The frames of the message that is judged.
    raw: Vec<u8>,
    /// The message's kind, while its verdict is awaited.
    waiting: Option<Opcode>,
    /// Input behind it, from `held_at`.
    held: Vec<u8>,
    held_at: usize,
    /// Its transport ended while input was held.
    ended: bool,
    /// Receiver's and sender's compression contexts differ.
    diverged: bool,
    deflater: Option<Deflater>,
    /// A frame to this side was begun and has not ended.
    mid_frame: bool,
    /// To be sent to this side once the frame under way ends.
    queued_ping: bool,
    queued_close: Option<u16>,
    close_got: bool,
    close_sent: bool,
    closed: bool,
}

pub struct Relay {
    options: Options,
    params: Option<Params>,
    client: Way,
    upstream: Way,
    keys: MaskKeys,
    /// Payload of our own pings.
    ping: [u8; 8],
    ping_due: Instant,
    /// A ping is unanswered.
    pinged: bool,
    closing: Option<Closing>,
    close_by: Option<Instant>,
}

impl Relay {
    /// `params`: the compression both sides agreed on; `entropy`: random bytes for masks and pings.
    pub fn new(options: Options, params: Option<Params>, entropy: [u8; 32], now: Instant) -> Relay {
        let way =
            |masked, judged, window| Way::new(Direction::new(masked, window, options.max_message, judged), judged);
        let (mut seed, mut ping) = ([0; 16], [0; 8]);
        seed.copy_from_slice(&entropy[..16]);
        ping.copy_from_slice(&entropy[16..24]);
        Relay {
            options,
            params,
            client: way(true, options.judge_client, params.map(|p| p.client)),
            upstream: way(false, options.judge_upstream, params.map(|p| p.server)),
            keys: MaskKeys::new(seed),
            ping,
            ping_due: now + options.ping_interval,
            pinged: false,
            closing: None,
            close_by: None,
        }
    }

    /// Takes bytes that came from `side`. `out` must be empty: ranges in it are of this input.
    pub fn feed(&mut self, side: Side, input: &[u8], now: Instant, out: &mut Vec<Out>) {
        if side == Side::Client {
            self.excuse_silence(now);
        }
        let way = self.way(side);
        if way.closed || way.close_got {
            return;
        }
        if way.waiting.is_some() {
            way.held.extend_from_slice(input);
            return;
        }
        let used = self.read(side, input, true, now, out);
        let way = self.way(side);
        if way.waiting.is_some() {
            way.held.extend_from_slice(&input[used..]);
        }
    }

    /// The message of `from` that waits for its verdict, decompressed.
    pub fn message(&self, from: Side) -> Option<(Opcode, &[u8])> {
        let way = self.side(from);
        way.waiting.map(|kind| (kind, &way.from.payload[..]))
    }

    /// Decides on the message of `from` and reads on behind it; nothing happens if none waits. What it appends to `out`
    /// holds no ranges.
    pub fn verdict(&mut self, from: Side, verdict: Verdict, now: Instant, out: &mut Vec<Out>) {
        let Some(kind) = self.way(from).waiting.take() else {
            return;
        };
        match verdict {
            Verdict::Pass => self.pass_message(from, kind, out),
            Verdict::Replace(text) if kind == Opcode::Text && std::str::from_utf8(&text).is_err() => {
                self.block(from, code::INTERNAL, "replaced by what is not text", now, out);
            }
            Verdict::Replace(payload) => self.send_message(from, kind, &payload, out),
            Verdict::Block(code) => self.block(from, code, "message blocked", now, out),
        }
        let way = self.way(from);
        way.forget_message();
        let held = std::mem::take(&mut way.held);
        let at = std::mem::take(&mut way.held_at);
        if !way.closed && at < held.len() {
            let used = self.read(from, &held[at..], false, now, out);
            let way = self.way(from);
            if way.waiting.is_some() {
                (way.held, way.held_at) = (held, at + used);
            }
        }
        let way = self.way(from);
        if way.ended && way.waiting.is_none() {
            self.gone(from, now, out);
        }
    }

    /// The transport of `side` ended.
    pub fn gone(&mut self, side: Side, now: Instant, out: &mut Vec<Out>) {
        let way = self.way(side);
        if way.closed {
            return;
        }
        if way.waiting.is_some() {
            // Its close frame may be among the bytes that are held.
            way.ended = true;
            return;
        }
        way.closed = true;
        let by = if side == Side::Client { Origin::Client } else { Origin::Upstream };
        self.begin_close(Closing { code: code::ABNORMAL, by, detail: "connection lost" }, now);
        self.say_close(side.other(), told_of(side), false, out);
    }

    /// Ends both sides with close code 1001, once.
    pub fn drain(&mut self, now: Instant, out: &mut Vec<Out>) {
        if self.closing.is_some() {
            return;
        }
        self.begin_close(Closing { code: code::GOING_AWAY, by: Origin::Gateway, detail: "drained" }, now);
        for side in Side::BOTH {
            self.say_close(side, code::GOING_AWAY, true, out);
        }
    }

    /// When [`Relay::tick`] is next due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.close_by {
            _ if self.is_finished() => None,
            Some(by) => Some(by),
            None => (!self.options.ping_interval.is_zero()).then_some(self.ping_due),
        }
    }

    /// Pings a silent client, lets one go that did not answer, ends a close that takes too long.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Out>) {
        if self.deadline().is_none_or(|due| now < due) {
            return;
        }
        if self.close_by.is_some() {
            for side in Side::BOTH {
                self.end(side, out);
            }
        } else if self.client.waiting.is_some() {
            self.excuse_silence(now);
        } else if self.pinged {
            let detail = "ping not answered";
            self.begin_close(Closing { code: code::ABNORMAL, by: Origin::Gateway, detail }, now);
            self.say_close(Side::Client, code::GOING_AWAY, false, out);
            self.end(Side::Client, out);
            self.say_close(Side::Upstream, code::GOING_AWAY, false, out);
        } else if self.client.mid_frame {
            self.client.queued_ping = true;
            self.ping_due = now + self.options.ping_interval;
        } else {
            self.send_ping(now, out);
        }
    }

    /// The client counts as heard: it spoke, or reading it was paused by the caller.
    pub fn excuse_silence(&mut self, now: Instant) {
        self.pinged = false;
        self.ping_due = now + self.options.ping_interval;
    }

    /// Whether a message of `side` waits for its verdict.
    pub fn is_waiting(&self, side: Side) -> bool {
        self.side(side).waiting.is_some()
    }

    /// Whether `side` is ended.
    pub fn is_closed(&self, side: Side) -> bool {
        self.side(side).closed
    }

    /// Whether a close frame of `side` was read: that it says nothing more is in order.
    pub fn said_close(&self, side: Side) -> bool {
        self.side(side).close_got
    }

    /// Whether both sides are ended.
    pub fn is_finished(&self) -> bool {
        self.client.closed && self.upstream.closed
    }

    /// Complete messages `side` sent.
    pub fn messages(&self, side: Side) -> u64 {
        self.side(side).from.messages
    }

    /// Bytes of these, decompressed.
    pub fn bytes(&self, side: Side) -> u64 {
        self.side(side).from.bytes
    }

    /// How the connection ended or is about to.
    pub fn closing(&self) -> Option<Closing> {
        self.closing
    }

    fn side(&self, side: Side) -> &Way {
        match side {
            Side::Client => &self.client,
            Side::Upstream => &self.upstream,
        }
    }

    fn way(&mut self, side: Side) -> &mut Way {
        match side {
            Side::Client => &mut self.client,
            Side::Upstream => &mut self.upstream,
        }
    }

    /// Reads until the input or a message to be judged ends; returns the bytes consumed. `ranges`: the input is the
    /// caller's, so that ranges of it can be returned.
    fn read(&mut self, side: Side, input: &[u8], ranges: bool, now: Instant, out: &mut Vec<Out>) -> usize {
        let to = side.other();
        let (mut at, mut start, base) = (0, 0, out.len());
        while at < input.len() {
            let deaf = self.side(to).is_deaf();
            let way = self.way(side);
            let (used, found) = match way.from.step(&input[at..]) {
                Ok(step) => step,
                Err(violation) => {
                    self.fail(side, violation, now, out);
                    return input.len();
                }
            };
            at += used;
            match found {
                Found::More => way.carry.extend_from_slice(&input[start..at]),
                Found::Data { message, .. } if way.judged => {
                    way.raw.append(&mut way.carry);
                    way.raw.extend_from_slice(&input[start..at]);
                    if message.is_some() && deaf {
                        way.forget_message();
                    } else if message.is_some() {
                        way.waiting = message;
                        out.push(Out::Message { from: side });
                        return at;
                    }
                }
                Found::Data { frame_end, .. } => {
                    self.pass(side, input, start..at, ranges, base, out);
                    let way = self.way(to);
                    way.mid_frame = !frame_end && !way.closed && !way.close_sent;
                    if frame_end && (way.queued_ping || way.queued_close.is_some()) {
                        self.unqueue(to, now, out);
                    }
                }
                Found::Control(Opcode::Close) => {
                    self.close_frame(side, input, start..at, ranges, base, now, out);
                    return input.len();
                }
                Found::Control(Opcode::Pong) if side == Side::Client && self.client.from.control() == self.ping => {
                    self.client.carry.clear();
                }
                Found::Control(_) => self.pass(side, input, start..at, ranges, base, out),
            }
            start = at;
        }
        at
    }

    /// Passes on what was carried and this range. Ranges that touch within one call (`base` outs old) become one.
    fn pass(&mut self, from: Side, input: &[u8], range: Range<usize>, ranges: bool, base: usize, out: &mut Vec<Out>) {
        let to = from.other();
        let deaf = self.side(to).is_deaf();
        let carry = &mut self.way(from).carry;
        if deaf {
            carry.clear();
            return;
        }
        if !ranges {
            let mut bytes = std::mem::take(carry);
            bytes.extend_from_slice(&input[range]);
            out.push(Out::Send { to, bytes });
            return;
        }
        if !carry.is_empty() {
            out.push(Out::Send { to, bytes: std::mem::take(carry) });
        }
        if range.is_empty() {
            return;
        }
        if let Some(Out::Forward { to: last, range: before }) = out[base..].last_mut() {
            if *last == to && before.end == range.start {
                before.end = range.end;
                return;
            }
        }
        out.push(Out::Forward { to, range });
    }

    #[allow(clippy::too_many_arguments)]
    fn close_frame(
        &mut self,
        side: Side,
        input: &[u8],
        range: Range<usize>,
        ranges: bool,
        base: usize,
        now: Instant,
        out: &mut Vec<Out>,
    ) {
        let code = match close_code(self.side(side).from.control()) {
            Ok(code) => code,
            Err(violation) => return self.fail(side, violation, now, out),
        };
        let (to, by) = match side {
            Side::Client => (Side::Upstream, Origin::Client),
            Side::Upstream => (Side::Client, Origin::Upstream),
        };
        self.begin_close(Closing { code, by, detail: "" }, now);
        self.pass(side, input, range, ranges, base, out);
        self.way(side).close_got = true;
        // A side that is gone cannot answer; we do.
        if self.side(to).closed {
            self.say_close(side, if code == code::NONE { code::NORMAL } else { code }, true, out);
        }
        self.way(to).close_sent = true;
        for side in Side::BOTH {
            if self.side(side).close_got && self.side(side).close_sent {
                self.end(side, out);
            }
        }
    }

    /// `side` broke the protocol.
    fn fail(&mut self, side: Side, violation: Violation, now: Instant, out: &mut Vec<Out>) {
        self.begin_close(Closing { code: violation.code, by: Origin::Gateway, detail: violation.detail }, now);
        self.way(side).carry.clear();
        self.say_close(side, violation.code, false, out);
        self.end(side, out);
        self.say_close(side.other(), told_of(side), false, out);
    }

    fn block(&mut self, from: Side, code: u16, detail: &'static str, now: Instant, out: &mut Vec<Out>) {
        self.begin_close(Closing { code, by: Origin::Gateway, detail }, now);
        self.say_close(from, code, true, out);
        let other = if from == Side::Upstream { code } else { code::GOING_AWAY };
        self.say_close(from.other(), other, true, out);
    }

    fn begin_close(&mut self, closing: Closing, now: Instant) {
        self.closing.get_or_insert(closing);
        self.close_by.get_or_insert(now + self.options.close_timeout);
    }

    /// Sends a close frame unless one was sent; in the middle of a frame it waits if that can still end, else the side
    /// is cut.
    fn say_close(&mut self, to: Side, code: u16, wait: bool, out: &mut Vec<Out>) {
        let way = self.way(to);
        if way.is_deaf() {
            return;
        }
        if way.mid_frame {
            if wait {
                way.queued_close.get_or_insert(code);
            } else {
                self.end(to, out);
            }
            return;
        }
        way.close_sent = true;
        let answered = way.close_got;
        let key = self.key(to);
        let mut bytes = Vec::new();
        write_close(&mut bytes, key, code);
        out.push(Out::Send { to, bytes });
        if answered {
            self.end(to, out);
        }
    }

    /// A frame to `to` ended: what waited for that.
    fn unqueue(&mut self, to: Side, now: Instant, out: &mut Vec<Out>) {
        let way = self.way(to);
        let (ping, close) = (std::mem::take(&mut way.queued_ping), way.queued_close.take());
        if let Some(code) = close {
            self.say_close(to, code, true, out);
        } else if ping && self.close_by.is_none() {
            self.send_ping(now, out);
        }
    }

    fn send_ping(&mut self, now: Instant, out: &mut Vec<Out>) {
        let mut bytes = Vec::new();
        write(&mut bytes, Opcode::Ping, false, None, &self.ping);
        out.push(Out::Send { to: Side::Client, bytes });
        self.pinged = true;
        self.ping_due = now + self.options.ping_interval;
    }

    fn end(&mut self, side: Side, out: &mut Vec<Out>) {
        let way = self.way(side);
        if !way.closed {
            way.closed = true;
            out.push(Out::End { side, clean: !way.mid_frame });
        }
    }

    fn pass_message(&mut self, from: Side, kind: Opcode, out: &mut Vec<Out>) {
        let way = self.way(from);
        if way.from.compressed && (way.diverged || way.from.ambiguous) {
            let payload = std::mem::take(&mut way.from.payload);
            return self.send_message(from, kind, &payload, out);
        }
        let bytes = std::mem::take(&mut way.raw);
        self.send(from.other(), bytes, out);
    }

    /// Sends a message in a frame of our own, compressed if the one it stands for was.
    fn send_message(&mut self, from: Side, kind: Opcode, payload: &[u8], out: &mut Vec<Out>) {
        let to = from.other();
        let window = self.params.map(|params| if from == Side::Client { params.client } else { params.server });
        let key = self.key(to);
        let way = self.way(from);
        let mut bytes = Vec::new();
        let mut deflated = Vec::new();
        let compressed = match window {
            Some(window) if way.from.compressed => {
                way.diverged |= window.takeover;
                way.deflater.get_or_insert_with(|| Deflater::new(window)).deflate(payload, &mut deflated)
            }
            _ => false,
        };
        write(&mut bytes, kind, compressed, key, if compressed { &deflated } else { payload });
        self.send(to, bytes, out);
    }

    fn send(&mut self, to: Side, bytes: Vec<u8>, out: &mut Vec<Out>) {
        if !self.side(to).is_deaf() {
            out.push(Out::Send { to, bytes });
        }
    }

    /// A mask key for frames to the upstream, none for those to the client.
    fn key(&mut self, to: Side) -> Option<[u8; 4]> {
        (to == Side::Upstream).then(|| self.keys.next())
    }
}

impl Way {
    fn new(from: Direction, judged: bool) -> Way {
        Way {
            from,
            judged,
            carry: Vec::new(),
            raw: Vec::new(),
            waiting: None,
            held: Vec::new(),
            held_at: 0,
            ended: false,
            diverged: false,
            deflater: None,
            mid_frame: false,
            queued_ping: false,
            queued_close: None,
            close_got: false,
            close_sent: false,
            closed: false,
        }
    }

    fn forget_message(&mut self) {
        self.from.release();
        self.raw.clear();
        if self.raw.capacity() > KEPT {
            self.raw = Vec::new();
        }
    }

    /// Nothing more may be sent to it.
    fn is_deaf(&self) -> bool {
        self.closed || self.close_sent
    }
}

/// The close code for the other side of one that is lost or broke the protocol.
fn told_of(side: Side) -> u16 {
    match side {
        Side::Client => code::GOING_AWAY,
        Side::Upstream => code::BAD_GATEWAY,
    }
}
