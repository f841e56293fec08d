//! Floods (RFC 9113 §10.5): frames that cost their sender nothing, counted as they arrive.
//!
//! Only frame headers are looked at, before anything else works on the bytes, in any split. A window of
//! [`WINDOW`] has two allowances: resets ("rapid reset", CVE-2023-44487), and frames that carry nothing – PING,
//! SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, CONTINUATION, unknown ones. Frames that carry something earn idle
//! ones, so that a busy connection is never cut for its window updates.

use crate::time::Instant;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(10);
const HEADER: usize = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Resets in a window beyond one per request that was let finish.
    pub resets: u32,
    /// Idle frames in a window beyond one per frame that carries something.
    pub idle_frames: u32,
}

#[derive(Debug)]
pub struct Meter {
    allowance: Allowance,
    began: Instant,
    resets: u32,
    finished: u32,
    idle: u32,
    busy: u32,
    /// Bytes to skip before the next header: a preface or a payload.
    skip: usize,
    header: [u8; HEADER],
    seen: usize,
    /// The header of the peer's SETTINGS has come.
    announced: bool,
    /// They have come whole.
    pub settled: bool,
}

impl Meter {
    /// `skip` bytes come before the first frame.
    pub fn new(allowance: Allowance, skip: usize, now: Instant) -> Meter {
        Meter {
            allowance,
            began: now,
            resets: 0,
            finished: 0,
            idle: 0,
            busy: 0,
            skip,
            header: [0; HEADER],
            seen: 0,
            announced: false,
            settled: false,
        }
    }

    /// A request was answered to its end.
    pub fn finished(&mut self) {
        self.finished += 1;
    }

    /// We reset a stream over something its peer did (CVE-2025-8671).
    pub fn made_to_reset(&mut self) {
        self.resets += 1;
    }

    /// Counts what `input` holds; false when an allowance is used up.
    pub fn take(&mut self, mut input: &[u8], now: Instant) -> bool {
        if now.since(self.began) >= WINDOW {
            (self.began, self.resets, self.finished, self.idle, self.busy) = (now, 0, 0, 0, 0);
        }
        loop {
            let skipped = self.skip.min(input.len());
            self.skip -= skipped;
            input = &input[skipped..];
            if input.is_empty() {
                break;
            }
            let part = (HEADER - self.seen).min(input.len());
            self.header[self.seen..self.seen + part].copy_from_slice(&input[..part]);
            self.seen += part;
            input = &input[part..];
            if self.seen == HEADER {
                self.seen = 0;
                self.frame();
            }
        }
        self.settled |= self.announced && self.skip == 0;
        self.resets <= self.allowance.resets.saturating_add(self.finished)
            && self.idle <= self.allowance.idle_frames.saturating_add(self.busy)
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        self.settled |= self.announced;
        self.announced |= kind == 4 && flags & 1 == 0;
        const END_STREAM: u8 = 1;
        match kind {
            0 if length > 0 || flags & END_STREAM != 0 => self.busy += 1,
            1 => self.busy += 1,
            3 => self.resets += 1,
            _ => self.idle += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn floods_are_told_from_work_in_any_split() {
        let allowance = Allowance { resets: 3, idle_frames: 4 };
        let pings = frame(6, 0, b"12345678").repeat(5);
        let resets = frame(3, 0, b"abcd").repeat(4);
        let work = [frame(1, 5, b"headers"), frame(0, 0, b"data"), frame(8, 0, b"wind")].concat().repeat(50);
        for (stream, sound) in [(&pings, false), (&resets, false), (&work, true)] {
            for piece in [1, 3, 9, 10, 1000] {
                let mut meter = Meter::new(allowance, 0, Instant(0));
                let ok = stream.chunks(piece).all(|chunk| meter.take(chunk, Instant(0)));
                assert_eq!(ok, sound, "pieces of {piece}");
            }
        }
    }

    #[test]
    fn time_forgives_and_finished_requests_earn_resets() {
        let mut meter = Meter::new(Allowance { resets: 1, idle_frames: 1 }, 0, Instant(0));
        let ping = frame(6, 0, b"12345678");
        assert!(meter.take(&ping, Instant(0)) && !meter.take(&ping, Instant(0)));
        assert!(meter.take(&ping, Instant(0) + WINDOW));
        meter.finished();
        assert!(meter.take(&frame(3, 0, b"abcd").repeat(2), Instant(0) + WINDOW));
        meter.made_to_reset();
        assert!(!meter.take(b"", Instant(0) + WINDOW));
    }
}
