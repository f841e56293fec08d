//! Decoded text on its way to the scanner, and the map from it back to raw bytes.
//!
//! A [`Batch`] holds the text of consecutive channels, each ended by a newline that belongs to none, so
//! that one scan covers many short strings. A channel longer than a batch passes through it in windows.
//!
//! Rules:
//! 1. Filling stops at exactly [`LIMIT`] bytes, so where batches end depends on the text alone.
//! 2. Positions inside a batch are `u32` offsets into `text`; positions in a channel count from its first
//!    decoded byte; raw positions count from the body's first byte.
//! 3. Where decoded and raw text differ in length there is a [`Jump`]; everywhere else they run in step.

/// Bytes of text per scan. At 60 MB/s (the slower engine) one scan takes about 1 ms.
pub(super) const LIMIT: usize = 64 << 10;

/// What the text was, which decides how a mask is written into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    JsonString,
    /// A number is replaced as a whole, by a string.
    JsonNumber,
    Form,
}

/// A channel, or the part of it that is in the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// First byte in `text`; the piece ends at `end`.
    pub start: u32,
    pub end: u32,
    /// Channel position of `start`.
    pub origin: u32,
    /// Raw position of `start`.
    pub raw: u32,
    /// First jump of the piece.
    jumps: u32,
    /// Ordinal of the channel in the body.
    pub channel: u32,
    pub kind: Kind,
    /// The channel ends here.
    pub complete: bool,
    /// Channel positions where the member's name ends and its value begins (`name: value`).
    pub name_end: u32,
    pub value: Option<u32>,
    /// Raw extent of a number.
    pub token: (u32, u32),
}

/// Decoded bytes `at..at + len` stand for raw bytes `raw..raw + raw_len`.
#[derive(Clone, Copy, Debug)]
struct Jump {
    at: u32,
    len: u32,
    raw: u32,
    raw_len: u32,
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    pub text: Vec<u8>,
    pub pieces: Vec<Piece>,
    jumps: Vec<Jump>,
    channels: u32,
    /// Channels shorter than this cannot match anything and are dropped.
    pub shortest: usize,
    open: bool,
}

impl Batch {
    pub fn clear(&mut self) {
        self.text.clear();
        self.pieces.clear();
        self.jumps.clear();
        self.channels = 0;
        self.open = false;
    }

    /// Bytes that may still be pushed before the batch must be scanned.
    pub fn room(&self) -> usize {
        LIMIT.saturating_sub(self.text.len())
    }

    /// Begins a channel whose first decoded byte is the raw byte at `raw`.
    pub fn open(&mut self, kind: Kind, raw: u32) {
        debug_assert!(!self.open);
        let start = self.text.len() as u32;
        self.pieces.push(Piece {
            start,
            end: start,
            origin: 0,
            raw,
            jumps: self.jumps.len() as u32,
            channel: self.channels,
            kind,
            complete: false,
            name_end: 0,
            value: None,
            token: (0, 0),
        });
        self.open = true;
    }

    /// Appends raw bytes that mean themselves; the caller respects [`Batch::room`].
    pub fn push(&mut self, run: &[u8]) {
        self.text.extend_from_slice(run);
    }

    /// Appends `decoded`, which is written as `raw_len` raw bytes at `raw`.
    pub fn push_escaped(&mut self, decoded: &[u8], raw: u32, raw_len: u32) {
        self.jumps.push(Jump { at: self.text.len() as u32, len: decoded.len() as u32, raw, raw_len });
        self.text.extend_from_slice(decoded);
    }

    /// The text so far was a member's name; its value's first byte is at `value_raw`.
    pub fn begin_value(&mut self, value_raw: u32, kind: Kind) {
        let at = self.text.len() as u32;
        let raw = self.pieces.last().map_or(0, |piece| self.to_raw(piece, at, true));
        if let Some(piece) = self.pieces.last_mut() {
            piece.name_end = piece.origin + (at - piece.start);
            piece.value = Some(piece.name_end + 2);
            piece.kind = kind;
        }
        self.push_escaped(b": ", raw, value_raw.saturating_sub(raw));
    }

    /// Appends a whole number token found at `raw`.
    pub fn push_number(&mut self, token: &[u8], raw: u32) {
        if let Some(piece) = self.pieces.last_mut() {
            piece.token = (raw, raw + token.len() as u32);
        }
        self.push(token);
    }

    /// Ends the open channel.
    pub fn close(&mut self) {
        self.open = false;
        let end = self.text.len() as u32;
        let Some(piece) = self.pieces.last_mut() else { return };
        self.channels += 1;
        if piece.origin == 0 && ((end - piece.start) as usize) < self.shortest {
            self.text.truncate(piece.start as usize);
            self.jumps.truncate(piece.jumps as usize);
            self.pieces.pop();
            return;
        }
        piece.end = end;
        piece.complete = true;
        self.text.push(b'\n');
    }

    /// Sets the open piece's end for a scan in the middle of its channel.
    pub fn seal(&mut self) {
        let end = self.text.len() as u32;
        if let Some(piece) = self.pieces.last_mut().filter(|piece| !piece.complete) {
            piece.end = end;
        }
    }

    /// Forgets what has been scanned, except the open channel from `keep` (an offset into `text`) on.
    pub fn advance(&mut self, keep: u32) {
        let Some(piece) = self.pieces.last().copied().filter(|piece| !piece.complete) else {
            self.text.clear();
            self.pieces.clear();
            self.jumps.clear();
            return;
        };
        let mut keep = keep.max(piece.start);
        // Never cut the decoded form of an escape in two.
        let first = self.jumps[piece.jumps as usize..].partition_point(|jump| jump.at + jump.len <= keep);
        let first = piece.jumps as usize + first;
        if let Some(jump) = self.jumps.get(first) {
            if jump.at < keep {
                keep = jump.at;
            }
        }
        let raw = self.to_raw(&piece, keep, false);
        self.text.drain(..keep as usize);
        self.jumps.drain(..first);
        for jump in &mut self.jumps {
            jump.at -= keep;
        }
        self.pieces.clear();
        let end = self.text.len() as u32;
        self.pieces.push(Piece { start: 0, end, origin: piece.origin + (keep - piece.start), raw, jumps: 0, ..piece });
    }

    /// Raw position of offset `at` of `text`, inside `piece`. An offset within an escape becomes the escape's
    /// beginning, or with `end` its end.
    pub fn to_raw(&self, piece: &Piece, at: u32, end: bool) -> u32 {
        let jumps = &self.jumps[piece.jumps as usize..];
        // Jumps of later pieces start behind `at` or, for an empty rest, exactly at it: `<` keeps them out
        // for ends, and for starts `at` is always a byte of this piece.
        let before =
            if end { jumps.partition_point(|jump| jump.at < at) } else { jumps.partition_point(|jump| jump.at <= at) };
        let Some(jump) = before.checked_sub(1).and_then(|i| jumps.get(i)) else {
            return piece.raw + (at - piece.start);
        };
        match (at - jump.at).checked_sub(jump.len) {
            Some(past) => jump.raw + jump.raw_len + past,
            None if end => jump.raw + jump.raw_len,
            None => jump.raw,
        }
    }
}
