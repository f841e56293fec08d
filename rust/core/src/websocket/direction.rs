//! What one side says: its frames put together into messages and checked.
//!
//! Rules:
//! 1. Every piece is checked before it is reported: text as UTF-8, the message's decompressed length against the cap.
//! 2. A length that a header announces counts as soon as it is read; what a message costs on the wire is capped too, so
//!    that neither empty frames nor empty blocks are free.
//! 3. Messages are gathered only where somebody judges them.

use super::deflate::{InflateError, Inflater, Window};
use super::frame::{mask, Event, Header, Opcode, Reader, MAX_CONTROL};
use super::utf8::Utf8;
use super::Violation;

/// Masked bytes are copied in blocks of this size to be looked at.
const BLOCK: usize = 1 << 10;
/// Bytes every frame counts on the wire beside its payload.
const PER_FRAME: u64 = 8;
/// A buffer kept from one message to the next is at most this large.
pub(super) const KEPT: usize = 4 << 10;

pub(super) struct Direction {
    reader: Reader,
    max: u64,
    inflater: Option<Inflater>,
    gather: bool,
    frame: Header,
    /// Of the message under way or just ended.
    kind: Opcode,
    pub compressed: bool,
    /// The message just ended may be read differently by its receiver.
    pub ambiguous: bool,
    length: u64,
    wire: u64,
    utf8: Utf8,
    /// The message, if messages are gathered.
    pub payload: Vec<u8>,
    /// Payload of the control frame under way or just ended.
    control: [u8; MAX_CONTROL],
    control_length: usize,
    pub messages: u64,
    pub bytes: u64,
}

/// What a step found in the bytes it consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The input is used up inside a header or a control frame.
    More,
    /// Bytes of a data frame, header included; `message` when a message ended with them.
    Data { frame_end: bool, message: Option<Opcode> },
    /// A control frame ended; [`Direction::control`] has its payload.
    Control(Opcode),
}

impl Direction {
    pub fn new(masked: bool, window: Option<Window>, max: u64, gather: bool) -> Direction {
        Direction {
            reader: Reader::new(masked, window.is_some()),
            max,
            inflater: window.map(Inflater::new),
            gather,
            frame: Header { fin: true, rsv1: false, opcode: Opcode::Binary, mask: None, length: 0 },
            kind: Opcode::Binary,
            compressed: false,
            ambiguous: false,
            length: 0,
            wire: 0,
            utf8: Utf8::default(),
            payload: Vec::new(),
            control: [0; MAX_CONTROL],
            control_length: 0,
            messages: 0,
            bytes: 0,
        }
    }

    pub fn control(&self) -> &[u8] {
        &self.control[..self.control_length]
    }

    /// Drops the gathered message.
    pub fn release(&mut self) {
        self.payload.clear();
        if self.payload.capacity() > KEPT {
            self.payload = Vec::new();
        }
    }

    /// Reads up to the end of a frame; returns how many bytes were consumed.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, Found), Violation> {
        let (mut used, mut event) = self.reader.read(input)?;
        if let Event::Header(header) = event {
            self.begin(header)?;
            if header.length == 0 {
                return Ok((used, self.end_frame()?));
            }
            let (more, next) = self.reader.read(&input[used..])?;
            used += more;
            event = next;
        }
        let Event::Payload { range, offset, end } = event else {
            return Ok((used, Found::More));
        };
        // The range ends where the consumed bytes do.
        self.piece(&input[used - range.len()..used], offset)?;
        let found = if end {
            self.end_frame()?
        } else if self.frame.opcode.is_control() {
            Found::More
        } else {
            Found::Data { frame_end: false, message: None }
        };
        Ok((used, found))
    }

    fn begin(&mut self, header: Header) -> Result<(), Violation> {
        self.frame = header;
        match header.opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                self.control_length = 0;
                return Ok(());
            }
            Opcode::Text | Opcode::Binary => {
                self.kind = header.opcode;
                self.compressed = header.rsv1;
                (self.length, self.wire) = (0, 0);
                self.utf8 = Utf8::default();
            }
            Opcode::Continuation => {}
        }
        self.wire = self.wire.saturating_add(header.length).saturating_add(PER_FRAME);
        let most = self.max.saturating_add(self.max / 16).saturating_add(64 << 10);
        if self.wire > most || (!self.compressed && self.length.saturating_add(header.length) > self.max) {
            return Err(Violation::too_big());
        }
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8], offset: u64) -> Result<(), Violation> {
        let key = self.frame.mask;
        if self.frame.opcode.is_control() {
            // The reader let no more than MAX_CONTROL bytes through.
            let start = self.control_length;
            self.control_length = (start + bytes.len()).min(MAX_CONTROL);
            let place = &mut self.control[start..self.control_length];
            place.copy_from_slice(&bytes[..place.len()]);
            if let Some(key) = key {
                mask(place, key, offset);
            }
            return Ok(());
        }
        let text = self.kind == Opcode::Text;
        if !self.compressed {
            self.length += bytes.len() as u64;
            if self.gather {
                let start = self.payload.len();
                self.payload.extend_from_slice(bytes);
                if let Some(key) = key {
                    mask(&mut self.payload[start..], key, offset);
                }
                return if text { self.utf8.push(&self.payload[start..]).map_err(not_utf8) } else { Ok(()) };
            }
            if !text {
                return Ok(());
            }
        }
        let Some(key) = key else {
            return self.look(bytes);
        };
        let mut block = [0; BLOCK];
        let mut offset = offset;
        for piece in bytes.chunks(BLOCK) {
            let block = &mut block[..piece.len()];
            block.copy_from_slice(piece);
            mask(block, key, offset);
            offset += piece.len() as u64;
            self.look(block)?;
        }
        Ok(())
    }

    /// Checks unmasked bytes: text as it is, or what compressed bytes hold.
    fn look(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if !self.compressed {
            return self.utf8.push(bytes).map_err(not_utf8);
        }
        self.inflate(Some(bytes))
    }

    /// Takes compressed bytes, or the end of a compressed message.
    fn inflate(&mut self, bytes: Option<&[u8]>) -> Result<(), Violation> {
        let Direction { inflater, utf8, length, payload, kind, gather, max, .. } = self;
        let Some(inflater) = inflater else {
            return Err(Violation::protocol("compression bit where it may not be"));
        };
        let sink = |block: &[u8]| {
            *length += block.len() as u64;
            if *length > *max {
                return Err(Violation::too_big());
            }
            if *kind == Opcode::Text {
                utf8.push(block).map_err(not_utf8)?;
            }
            if *gather {
                payload.extend_from_slice(block);
            }
            Ok(())
        };
        let done = match bytes {
            Some(bytes) => inflater.inflate(bytes, sink),
            None => {
                self.ambiguous = inflater.ended_early();
                inflater.finish(sink)
            }
        };
        done.map_err(|error| match error {
            InflateError::Malformed => Violation::data("message is not deflate data"),
            InflateError::Refused(violation) => violation,
        })
    }

    fn end_frame(&mut self) -> Result<Found, Violation> {
        if self.frame.opcode.is_control() {
            return Ok(Found::Control(self.frame.opcode));
        }
        if !self.frame.fin {
            return Ok(Found::Data { frame_end: true, message: None });
        }
        self.ambiguous = false;
        if self.compressed {
            self.inflate(None)?;
        }
        if self.kind == Opcode::Text {
            self.utf8.finish().map_err(not_utf8)?;
        }
        self.messages += 1;
        self.bytes += self.length;
        Ok(Found::Data { frame_end: true, message: Some(self.kind) })
    }
}

fn not_utf8(_: super::utf8::NotUtf8) -> Violation {
    Violation::data("text is not UTF-8")
}
