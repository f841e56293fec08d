//! permessage-deflate, one direction at a time (RFC 7692 §7.2).
//!
//! Rules:
//! 1. Output is handed on in blocks of [`BLOCK`] bytes, so that its receiver can stop a bomb at its own limit.
//! 2. State is made with the first compressed message; what keeps no context is reset after each.
//! 3. A final block (BFINAL) inside a message is allowed (§7.2.3.4) but decoders differ on what follows it; we begin
//!    anew, say so by [`Inflater::ended_early`], and allow [`MAX_FINALS`] per message.
//! 4. A window of 8 bits is read with one of 9 (raw deflate has none); nothing is compressed for one.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes of output handed on at once.
pub const BLOCK: usize = 8 << 10;
/// Final blocks in one message; each costs a reset.
const MAX_FINALS: u32 = 16;
/// What a sender takes off each message and a receiver puts back.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// How one direction is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Base-2 logarithm of its size, 8 to 15.
    pub bits: u8,
    /// Whether a message may refer to those before it.
    pub takeover: bool,
}

impl Window {
    fn bits(self) -> u8 {
        self.bits.clamp(9, 15)
    }
}

/// Why a message cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError<E> {
    /// Not deflate data.
    Malformed,
    /// The receiver of the output said no.
    Refused(E),
}

/// Decompresses the messages of one direction.
pub struct Inflater {
    window: Window,
    engine: Option<Box<Decompress>>,
    finals: u32,
    /// Nothing was read since the start, or since a final block.
    fresh: bool,
}

impl Inflater {
    pub fn new(window: Window) -> Inflater {
        Inflater { window, engine: None, finals: 0, fresh: true }
    }

    /// Reads a piece of a message and hands what it holds to `sink`.
    pub fn inflate<E>(
        &mut self,
        piece: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), InflateError<E>> {
        if piece.is_empty() {
            return Ok(());
        }
        self.run(piece, &mut sink)
    }

    /// Ends the message.
    pub fn finish<E>(&mut self, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), InflateError<E>> {
        // Right behind a final block the tail would be the start of something; the message is complete as it is.
        if !(self.fresh && self.finals > 0) {
            self.run(&TAIL, &mut sink)?;
        }
        self.finals = 0;
        if !self.window.takeover {
            self.reset();
        }
        Ok(())
    }

    /// Whether the message under way held a final block, behind which decoders may read different things.
    pub fn ended_early(&self) -> bool {
        self.finals > 0
    }

    fn reset(&mut self) {
        self.fresh = true;
        if let Some(engine) = &mut self.engine {
            engine.reset(false);
        }
    }

    fn run<E>(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), InflateError<E>> {
        let mut block = Vec::with_capacity(BLOCK);
        let mut at = 0;
        loop {
            let bits = self.window.bits();
            let engine = self.engine.get_or_insert_with(|| Box::new(Decompress::new_with_window_bits(false, bits)));
            self.fresh = false;
            block.clear();
            let before = engine.total_in();
            let status = engine
                .decompress_vec(&input[at..], &mut block, FlushDecompress::Sync)
                .map_err(|_| InflateError::Malformed)?;
            let used = (engine.total_in() - before) as usize;
            at += used;
            if !block.is_empty() {
                sink(&block).map_err(InflateError::Refused)?;
            }
            if status == Status::StreamEnd {
                self.finals += 1;
                if self.finals > MAX_FINALS {
                    return Err(InflateError::Malformed);
                }
                self.reset();
                if at == input.len() {
                    return Ok(());
                }
            } else if at == input.len() && block.len() < block.capacity() {
                return Ok(());
            } else if used == 0 && block.is_empty() {
                return Err(InflateError::Malformed);
            }
        }
    }
}

/// Compresses the messages of one direction.
pub struct Deflater {
    window: Window,
    engine: Option<Box<Compress>>,
}

impl Deflater {
    pub fn new(window: Window) -> Deflater {
        Deflater { window, engine: None }
    }

    /// Appends the compressed form of a whole message. `false`: not compressed, nothing appended; send it as it is.
    pub fn deflate(&mut self, message: &[u8], out: &mut Vec<u8>) -> bool {
        if self.window.bits < 9 {
            return false;
        }
        let bits = self.window.bits();
        let engine = self
            .engine
            .get_or_insert_with(|| Box::new(Compress::new_with_window_bits(Compression::fast(), false, bits)));
        let (start, first) = (out.len(), engine.total_in());
        loop {
            out.reserve((message.len() / 2).clamp(64, 64 << 10));
            let at = (engine.total_in() - first) as usize;
            let done = match engine.compress_vec(&message[at..], out, FlushCompress::Sync) {
                Ok(_) => (engine.total_in() - first) as usize == message.len() && out.len() < out.capacity(),
                Err(_) => {
                    // Not reached with valid parameters; the next message begins a new stream.
                    self.engine = None;
                    out.truncate(start);
                    return false;
                }
            };
            if done {
                break;
            }
        }
        if !self.window.takeover {
            engine.reset();
        }
        if out[start..].ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        if out.len() == start {
            // An empty message is one empty block without its tail (§7.2.3.6).
            out.push(0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::Digest as _;

    const FULL: Window = Window { bits: 15, takeover: true };

    fn message(inflater: &mut Inflater, pieces: &[&[u8]], most: usize) -> Result<Vec<u8>, InflateError<()>> {
        let mut out = Vec::new();
        let mut sink = |block: &[u8]| {
            out.extend_from_slice(block);
            if out.len() > most {
                Err(())
            } else {
                Ok(())
            }
        };
        for piece in pieces {
            inflater.inflate(piece, &mut sink)?;
        }
        inflater.finish(&mut sink)?;
        Ok(out)
    }

    /// The examples of RFC 7692 §7.2.3.
    #[test]
    fn the_examples_of_the_rfc() {
        let hello: &[u8] = b"\xF2\x48\xCD\xC9\xC9\x07\x00";
        let mut inflater = Inflater::new(FULL);
        assert_eq!(message(&mut inflater, &[hello], 100), Ok(b"Hello".to_vec()));
        // The second refers to the first.
        assert_eq!(message(&mut inflater, &[b"\xF2\x00\x11\x00\x00"], 100), Ok(b"Hello".to_vec()));
        for raw in [
            &b"\x00\x05\x00\xFA\xFF\x48\x65\x6C\x6C\x6F\x00"[..],
            b"\xF3\x48\xCD\xC9\xC9\x07\x00\x00",
            b"\xF2\x48\x05\x00\x00\x00\xFF\xFF\xCA\xC9\xC9\x07\x00",
        ] {
            assert_eq!(message(&mut Inflater::new(FULL), &[raw], 100), Ok(b"Hello".to_vec()));
        }
        assert_eq!(message(&mut Inflater::new(FULL), &[b"\x00"], 100), Ok(vec![]));
    }

    #[test]
    fn without_takeover_nothing_is_remembered() {
        let mut inflater = Inflater::new(Window { takeover: false, bits: 15 });
        assert_eq!(message(&mut inflater, &[b"\xF2\x48\xCD\xC9\xC9\x07\x00"], 100), Ok(b"Hello".to_vec()));
        assert_eq!(message(&mut inflater, &[b"\xF2\x00\x11\x00\x00"], 100), Err(InflateError::Malformed));
    }

    #[test]
    fn final_blocks_are_read_told_and_counted() {
        let last = b"\xF3\x48\xCD\xC9\xC9\x07\x00";
        let mut inflater = Inflater::new(FULL);
        for _ in 0..3 {
            inflater.inflate(last, |block| if block == b"Hello" { Ok(()) } else { Err(()) }).unwrap();
            assert!(inflater.ended_early());
            assert_eq!(message(&mut inflater, &[], 0), Ok(vec![]));
            assert!(!inflater.ended_early());
        }
        let many = last.repeat(MAX_FINALS as usize + 1);
        assert_eq!(message(&mut Inflater::new(FULL), &[&many], 1000), Err(InflateError::Malformed));
    }

    #[test]
    fn a_bomb_stops_at_its_receiver() {
        let mut bomb = Vec::new();
        assert!(Deflater::new(FULL).deflate(&vec![0; 64 << 20], &mut bomb));
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        let mut seen = 0;
        let result = Inflater::new(FULL).inflate(&bomb, |block| {
            seen += block.len();
            if seen > 1 << 20 {
                Err(())
            } else {
                Ok(())
            }
        });
        assert_eq!(result, Err(InflateError::Refused(())));
        assert!(seen <= (1 << 20) + BLOCK);
    }

    #[test]
    fn small_windows_are_kept_to() {
        // 700 bytes without a pattern, twice: a window of 512 bytes cannot reach back to the first.
        let noise: Vec<u8> = (0..22u8).flat_map(|n| sha2::Sha256::digest([n])).take(700).collect();
        let twice = [&noise[..], &noise[..]].concat();
        let size = |bits| {
            let mut out = Vec::new();
            assert!(Deflater::new(Window { bits, takeover: true }).deflate(&twice, &mut out));
            assert_eq!(message(&mut Inflater::new(Window { bits, takeover: true }), &[&out], 2000), Ok(twice.clone()));
            out.len()
        };
        assert!(size(9) > 1300, "{}", size(9));
        assert!(size(15) < 900, "{}", size(15));
        assert!(!Deflater::new(Window { bits: 8, takeover: true }).deflate(b"x", &mut Vec::new()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn messages_survive_every_window_and_split(
            messages in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..3000),
                    prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b')], 0..40_000),
                ], 1..5),
            bits in 9u8..=15, takeover: bool,
            at: prop::sample::Index,
        ) {
            let window = Window { bits, takeover };
            let (mut deflater, mut inflater) = (Deflater::new(window), Inflater::new(window));
            for text in messages {
                let mut raw = Vec::new();
                prop_assert!(deflater.deflate(&text, &mut raw));
                let (a, b) = raw.split_at(at.index(raw.len() + 1));
                prop_assert_eq!(message(&mut inflater, &[a, b], usize::MAX), Ok(text));
            }
        }

        #[test]
        fn every_split_of_a_short_message(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut raw = Vec::new();
            prop_assert!(Deflater::new(FULL).deflate(&text, &mut raw));
            for at in 0..=raw.len() {
                let (a, b) = raw.split_at(at);
                prop_assert_eq!(message(&mut Inflater::new(FULL), &[a, b], usize::MAX), Ok(text.clone()));
            }
            let bytes: Vec<&[u8]> = raw.chunks(1).collect();
            prop_assert_eq!(message(&mut Inflater::new(FULL), &bytes, usize::MAX), Ok(text));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            raw in prop::collection::vec(any::<u8>(), 0..400), bits in 8u8..=15, takeover: bool,
        ) {
            let mut inflater = Inflater::new(Window { bits, takeover });
            let _ = message(&mut inflater, &[&raw], 1 << 20);
            let _ = message(&mut inflater, &[&raw], 1 << 20);
        }
    }
}
