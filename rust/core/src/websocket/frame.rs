//! WebSocket frames (RFC 6455 §5.2), read strictly and written.
//!
//! Rules:
//! 1. A wrong byte is refused when it is seen, not when its frame is complete.
//! 2. Only the shortest form of a length is one; lengths have 63 bits at most.
//! 3. RSV1 may stand on the first frame of a message, and only where an extension gave it a meaning; RSV2 and RSV3
//!    never.
//! 4. Control frames are whole and at most [`MAX_CONTROL`] long; they may stand between the frames of a message.
//! 5. Payload bytes are returned as ranges of the input, still masked; nothing is copied or kept but a header's start.

use super::{code, Violation};
use std::ops::Range;

/// Longest payload of a control frame.
pub const MAX_CONTROL: usize = 125;
/// Longest header: two bytes, eight of length, four of mask.
pub const MAX_HEADER: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(nibble: u8) -> Option<Opcode> {
        Some(match nibble {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }

    fn nibble(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xA,
        }
    }

    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub fin: bool,
    /// First frame of a compressed message (RFC 7692 §6).
    pub rsv1: bool,
    pub opcode: Opcode,
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload that follow.
    pub length: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    NeedMore,
    /// A frame begins; one of length 0 is complete with it.
    Header(Header),
    /// Payload bytes as a range of the input; `offset` is where in the frame they stand (the mask's phase), `end` that
    /// they are its last.
    Payload {
        range: Range<usize>,
        offset: u64,
        end: bool,
    },
}

/// Reads one direction of a connection.
#[derive(Clone, Debug)]
pub struct Reader {
    masked: bool,
    rsv1: bool,
    /// A message has begun whose last frame has not.
    open: bool,
    have: u8,
    head: [u8; MAX_HEADER],
    left: u64,
    length: u64,
}

impl Reader {
    /// `masked`: the bytes come from a client, so every frame must be masked; else none may be. `rsv1`: compression was
    /// agreed on.
    pub fn new(masked: bool, rsv1: bool) -> Reader {
        Reader { masked, rsv1, open: false, have: 0, head: [0; MAX_HEADER], left: 0, length: 0 }
    }

    /// Whether the next byte begins a frame.
    pub fn is_between_frames(&self) -> bool {
        self.left == 0 && self.have == 0
    }

    /// Reads on; returns how many bytes of `input` were consumed (payload included) and what was found.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, Event), Violation> {
        if self.left == 0 {
            return self.read_header(input);
        }
        let take = input.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if take == 0 {
            return Ok((0, Event::NeedMore));
        }
        let offset = self.length - self.left;
        self.left -= take as u64;
        Ok((take, Event::Payload { range: 0..take, offset, end: self.left == 0 }))
    }

    fn read_header(&mut self, input: &[u8]) -> Result<(usize, Event), Violation> {
        let before = usize::from(self.have);
        let take = input.len().min(MAX_HEADER - before);
        self.head[before..before + take].copy_from_slice(&input[..take]);
        let have = before + take;
        let need = self.check(have)?;
        if have < need {
            self.have = have as u8;
            return Ok((take, Event::NeedMore));
        }
        let header = self.header(need)?;
        self.have = 0;
        self.length = header.length;
        self.left = header.length;
        if !header.opcode.is_control() {
            self.open = !header.fin;
        }
        Ok((need - before, Event::Header(header)))
    }

    /// Checks what the first `have` bytes tell; returns how many make the header, as far as is known.
    fn check(&self, have: usize) -> Result<usize, Violation> {
        if have == 0 {
            return Ok(2);
        }
        let first = self.head[0];
        let Some(opcode) = Opcode::of(first & 0x0F) else {
            return Err(Violation::protocol("unknown opcode"));
        };
        let fin = first & 0x80 != 0;
        if first & 0x30 != 0 {
            return Err(Violation::protocol("reserved bit set"));
        }
        if first & 0x40 != 0 && !(self.rsv1 && matches!(opcode, Opcode::Text | Opcode::Binary)) {
            return Err(Violation::protocol("compression bit where it may not be"));
        }
        match opcode {
            Opcode::Continuation if !self.open => return Err(Violation::protocol("nothing to continue")),
            Opcode::Text | Opcode::Binary if self.open => {
                return Err(Violation::protocol("new message inside another"));
            }
            _ if opcode.is_control() && !fin => return Err(Violation::protocol("fragmented control frame")),
            _ => {}
        }
        if have == 1 {
            return Ok(2);
        }
        let second = self.head[1];
        if (second & 0x80 != 0) != self.masked {
            let detail = if self.masked { "frame of a client is not masked" } else { "frame of a server is masked" };
            return Err(Violation::protocol(detail));
        }
        let length = second & 0x7F;
        if opcode.is_control() && usize::from(length) > MAX_CONTROL {
            return Err(Violation::protocol("control frame too long"));
        }
        Ok(2 + length_bytes(length) + if self.masked { 4 } else { 0 })
    }

    fn header(&self, need: usize) -> Result<Header, Violation> {
        let [first, second, ..] = self.head;
        let short = second & 0x7F;
        let extended = length_bytes(short);
        let length = match extended {
            0 => u64::from(short),
            n => self.head[2..2 + n].iter().fold(0, |sum, &b| sum << 8 | u64::from(b)),
        };
        if length >> 63 != 0 {
            return Err(Violation::protocol("length has its highest bit set"));
        }
        if (extended == 2 && length < 126) || (extended == 8 && length <= 0xFFFF) {
            return Err(Violation::protocol("length not in its shortest form"));
        }
        let mut mask = [0; 4];
        if self.masked {
            mask.copy_from_slice(&self.head[need - 4..need]);
        }
        Ok(Header {
            fin: first & 0x80 != 0,
            rsv1: first & 0x40 != 0,
            opcode: Opcode::of(first & 0x0F).ok_or(Violation::protocol("unknown opcode"))?,
            mask: self.masked.then_some(mask),
            length,
        })
    }
}

/// How many bytes of length follow the second byte.
fn length_bytes(short: u8) -> usize {
    match short {
        126 => 2,
        127 => 8,
        _ => 0,
    }
}

/// Applies `key` to bytes that stand `offset` bytes into their payload (RFC 6455 §5.3); its own inverse.
pub fn mask(bytes: &mut [u8], key: [u8; 4], offset: u64) {
    let mut key = key;
    key.rotate_left((offset & 3) as usize);
    let word = u64::from(u32::from_ne_bytes(key));
    let word = word << 32 | word;
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut value = [0; 8];
        value.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(value) ^ word).to_ne_bytes());
    }
    for (at, byte) in chunks.into_remainder().iter_mut().enumerate() {
        *byte ^= key[at & 3];
    }
}

/// Appends one whole frame; with `key` it is masked, as everything sent upstream must be.
pub fn write(out: &mut Vec<u8>, opcode: Opcode, rsv1: bool, key: Option<[u8; 4]>, payload: &[u8]) {
    out.reserve(MAX_HEADER + payload.len());
    out.push(0x80 | if rsv1 { 0x40 } else { 0 } | opcode.nibble());
    let bit = if key.is_some() { 0x80 } else { 0 };
    match payload.len() {
        n @ 0..=125 => out.push(bit | n as u8),
        n @ 126..=0xFFFF => {
            out.push(bit | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(bit | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    if let Some(key) = key {
        out.extend_from_slice(&key);
        let start = out.len();
        out.extend_from_slice(payload);
        mask(&mut out[start..], key, 0);
    } else {
        out.extend_from_slice(payload);
    }
}

/// Appends a close frame with `code`.
pub fn write_close(out: &mut Vec<u8>, key: Option<[u8; 4]>, code: u16) {
    write(out, Opcode::Close, false, key, &code.to_be_bytes());
}

/// The code of a close frame's payload; [`code::NONE`] if it has none (RFC 6455 §5.5.1, §7.4).
pub fn close_code(payload: &[u8]) -> Result<u16, Violation> {
    match payload {
        [] => Ok(code::NONE),
        [_] => Err(Violation::protocol("close frame with half a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !code::is_valid(code) {
                return Err(Violation::protocol("close code that may not be sent"));
            }
            std::str::from_utf8(reason).map_err(|_| Violation::data("close reason is not UTF-8"))?;
            Ok(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Headers and joined, unmasked payloads.
    fn frames(masked: bool, rsv1: bool, pieces: &[&[u8]]) -> Result<Vec<(Header, Vec<u8>)>, Violation> {
        let mut reader = Reader::new(masked, rsv1);
        let mut found: Vec<(Header, Vec<u8>)> = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (used, event) = reader.read(rest)?;
                match event {
                    Event::NeedMore => {}
                    Event::Header(header) => found.push((header, Vec::new())),
                    Event::Payload { range, offset, .. } => {
                        let (header, payload) = found.last_mut().unwrap();
                        assert_eq!(offset as usize, payload.len());
                        let start = payload.len();
                        payload.extend_from_slice(&rest[range]);
                        if let Some(key) = header.mask {
                            mask(&mut payload[start..], key, offset);
                        }
                    }
                }
                rest = &rest[used..];
            }
        }
        Ok(found)
    }

    #[test]
    fn every_rule_is_refused_with_1002() {
        for (masked, rsv1, raw, detail) in [
            (false, false, &b"\x83\x00"[..], "unknown opcode"),
            (false, false, b"\x8B\x00", "unknown opcode"),
            (false, true, b"\xA1\x00", "reserved bit set"),
            (false, true, b"\x91\x00", "reserved bit set"),
            (false, false, b"\xC1\x00", "compression bit where it may not be"),
            (false, true, b"\xC9\x00", "compression bit where it may not be"),
            (false, true, b"\x41\x00\xC0\x00", "compression bit where it may not be"),
            (false, false, b"\x80\x00", "nothing to continue"),
            (false, false, b"\x81\x00\x80\x00", "nothing to continue"),
            (false, false, b"\x01\x00\x81\x00", "new message inside another"),
            (false, false, b"\x01\x00\x02\x00", "new message inside another"),
            (false, false, b"\x09\x00", "fragmented control frame"),
            (false, false, b"\x08\x00", "fragmented control frame"),
            (false, false, b"\x89\x7E\x00\x7E", "control frame too long"),
            (false, false, b"\x8A\x7F\x00\x00\x00\x00\x00\x01\x00\x00", "control frame too long"),
            (false, false, b"\x81\x80\x01\x02\x03\x04", "frame of a server is masked"),
            (true, false, b"\x81\x00", "frame of a client is not masked"),
            (false, false, b"\x81\x7E\x00\x7D", "length not in its shortest form"),
            (false, false, b"\x81\x7F\x00\x00\x00\x00\x00\x00\xFF\xFF", "length not in its shortest form"),
            (false, false, b"\x81\x7F\x80\x00\x00\x00\x00\x00\x00\x00", "length has its highest bit set"),
        ] {
            let bytes: Vec<&[u8]> = raw.chunks(1).collect();
            let refused = Err(Violation { code: 1002, detail });
            assert_eq!(frames(masked, rsv1, &[raw]), refused, "{}", raw.escape_ascii());
            assert_eq!(frames(masked, rsv1, &bytes), refused, "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn a_wrong_first_byte_is_refused_alone() {
        assert!(frames(true, false, &[b"\x83"]).is_err());
        assert!(frames(true, false, &[b"\x81"]).is_ok());
    }

    #[test]
    fn close_payloads() {
        assert_eq!(close_code(b""), Ok(1005));
        assert_eq!(close_code(b"\x03\xE8bye"), Ok(1000));
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1011, 1014, 3000, 4999u16] {
            assert_eq!(close_code(&code.to_be_bytes()), Ok(code));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535u16] {
            assert_eq!(close_code(&code.to_be_bytes()).unwrap_err().code, 1002);
        }
        assert_eq!(close_code(b"\x03").unwrap_err().code, 1002);
        assert_eq!(close_code(b"\x03\xE8\xFF").unwrap_err().code, 1007);
    }

    #[test]
    fn lengths_are_written_in_their_shortest_form() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)] {
            for key in [None, Some([1, 2, 3, 4])] {
                let mut out = Vec::new();
                write(&mut out, Opcode::Binary, false, key, &vec![7; length]);
                assert_eq!(out.len(), header + length + if key.is_some() { 4 } else { 0 });
                let read = frames(key.is_some(), false, &[&out]).unwrap();
                assert_eq!(read[0].1, vec![7; length]);
            }
        }
    }

    fn cut(raw: &[u8], cuts: Vec<prop::sample::Index>) -> Vec<&[u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(raw.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(raw.len());
        let mut from = 0;
        cuts.into_iter().map(|to| &raw[std::mem::replace(&mut from, to)..to]).collect()
    }

    proptest! {
        #[test]
        fn masking_byte_by_byte_is_masking_at_once(
            bytes in prop::collection::vec(any::<u8>(), 0..200), key: [u8; 4], at: prop::sample::Index,
        ) {
            let plain: Vec<u8> = bytes.iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
            let mut pieces = bytes.clone();
            let (head, tail) = pieces.split_at_mut(at.index(bytes.len() + 1));
            mask(head, key, 0);
            mask(tail, key, head.len() as u64);
            prop_assert_eq!(pieces, plain);
        }

        #[test]
        fn any_split_reads_the_same(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
            key: Option<[u8; 4]>,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut raw = Vec::new();
            for payload in &payloads {
                write(&mut raw, Opcode::Binary, false, key, payload);
            }
            let read = frames(key.is_some(), false, &cut(&raw, cuts)).unwrap();
            prop_assert_eq!(read.iter().map(|(_, p)| p.clone()).collect::<Vec<_>>(), payloads);
        }

        #[test]
        fn nothing_a_peer_sends_panics_and_no_split_changes_the_verdict(
            raw in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x81), Just(0x80), Just(0x7E), Just(0)], 0..80),
            masked: bool, rsv1: bool,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            prop_assert_eq!(frames(masked, rsv1, &cut(&raw, cuts)), frames(masked, rsv1, &[&raw]));
        }
    }
}
