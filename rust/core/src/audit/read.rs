//! Reading a log back, and proving that nobody touched it.
//!
//! Rules:
//! 1. A torn tail is not damage: the last segment may end inside a frame that was being written when the
//!    machine or the process died. Such a frame was never acknowledged. Everything else that does not
//!    hold – checksum, chain, sequence, a torn tail with a segment after it – is damage.
//! 2. A fault names offset and sequence; the file is the caller's to name.
//! 3. What cannot be seen here: the removal of whole frames or segments at the very end of a log. The
//!    chain proves what is before a known chain value, so keep [`Position::chain`] elsewhere.

use super::codec::{self, Encoded};
use super::frame::{self, Chain, FrameHeader, Parsed, SegmentHeader, SEALED};

/// Where and why a log does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Byte offset in the segment.
    pub offset: u64,
    /// The record that should be there.
    pub sequence: u64,
    pub what: String,
}

/// One step through a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Frame(Frame<'a>),
    /// The segment ends here, cleanly.
    End,
    /// The segment ends inside a frame that begins at this offset.
    Torn {
        offset: u64,
    },
    Damaged(Fault),
}

/// A frame whose checksums and chain hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub offset: u64,
    pub header: FrameHeader,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The records with their sequences.
    pub fn records(&self) -> Records<'a> {
        Records { rest: self.payload, sequence: self.header.first_sequence }
    }
}

/// The records of a payload with their sequences. Ends after the first malformed one.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    sequence: u64,
}

impl<'a> Records<'a> {
    pub fn new(payload: &'a [u8], first_sequence: u64) -> Self {
        Records { rest: payload, sequence: first_sequence }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u64, Encoded<'a>), codec::Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = codec::split(&mut self.rest).transpose()?;
        let sequence = self.sequence;
        self.sequence += 1;
        if record.is_err() {
            self.rest = &[];
        }
        Some(record.map(|record| (sequence, record)))
    }
}

/// How far a log is known to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index of the last segment.
    pub index: u64,
    pub chain: Chain,
    /// Sequence of the next record.
    pub next_sequence: u64,
}

impl Position {
    /// Before the first segment of a log.
    pub fn start() -> Position {
        Position { index: 0, chain: Chain::default(), next_sequence: 1 }
    }
}

/// Walks through one segment held in memory (or mapped).
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    bytes: &'a [u8],
    offset: usize,
    pub header: SegmentHeader,
    /// After the frames seen so far.
    pub position: Position,
    pub sealed: bool,
}

impl<'a> Segment<'a> {
    /// Reads the segment header. `Short`: the file ends inside it, so it holds no records.
    pub fn open(bytes: &'a [u8]) -> Result<Option<Segment<'a>>, Fault> {
        match SegmentHeader::parse(bytes) {
            Parsed::Whole((header, chain, offset)) => {
                let position = Position { index: header.index, chain, next_sequence: header.first_sequence };
                Ok(Some(Segment { bytes, offset, header, position, sealed: false }))
            }
            Parsed::Short => Ok(None),
            Parsed::Bad(what) => Err(Fault { offset: 0, sequence: 0, what: what.into() }),
        }
    }

    /// Does this segment follow on `before`?
    pub fn follows(&self, before: &Position) -> Result<(), Fault> {
        let fault = |what: String| Err(Fault { offset: 0, sequence: before.next_sequence, what });
        if self.header.index != before.index + 1 {
            return fault(format!("segment {} expected, {} found", before.index + 1, self.header.index));
        }
        if self.header.previous_chain != hex::encode(before.chain.0) {
            return fault("chain value of the segment before does not match".into());
        }
        if self.header.first_sequence != before.next_sequence {
            return fault(format!("begins with sequence {}", self.header.first_sequence));
        }
        Ok(())
    }

    /// Offset of the next frame.
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// The next frame, verified against checksum, sequence and chain.
    pub fn step(&mut self) -> Step<'a> {
        let bytes = &self.bytes[self.offset..];
        if bytes.is_empty() {
            return Step::End;
        }
        let damaged = |this: &Self, what: String| {
            Step::Damaged(Fault { offset: this.offset(), sequence: this.position.next_sequence, what })
        };
        if self.sealed {
            return damaged(self, "bytes after the end of a sealed segment".into());
        }
        let (header, payload) = match frame::parse(bytes) {
            Parsed::Whole(frame) => frame,
            Parsed::Short => return Step::Torn { offset: self.offset() },
            Parsed::Bad(what) => return damaged(self, what.into()),
        };
        if header.first_sequence != self.position.next_sequence {
            return damaged(self, format!("sequence {} found", header.first_sequence));
        }
        let Some(chain) = frame::chained(self.position.chain, &bytes[..header.frame_len()]) else {
            return damaged(self, "hash chain does not match".into());
        };
        let frame = Frame { offset: self.offset(), header, payload };
        let mut records = 0;
        for record in frame.records() {
            if let Err(malformed) = record {
                return damaged(self, malformed.to_string());
            }
            records += 1;
        }
        if records != header.records {
            return damaged(self, format!("{} records promised, {records} found", header.records));
        }
        self.offset += header.frame_len();
        self.position.chain = chain;
        self.position.next_sequence += u64::from(header.records);
        self.sealed = header.flags & SEALED != 0;
        Step::Frame(frame)
    }

    /// Is there a whole frame header anywhere after the current offset? Then what is broken here was not
    /// the last thing written.
    pub fn more_after_damage(&self) -> bool {
        let rest = self.bytes.get(self.offset + 1..).unwrap_or_default();
        memchr::memmem::find_iter(rest, &frame::FRAME_MAGIC)
            .any(|at| matches!(FrameHeader::parse(&rest[at..]), Parsed::Whole(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::seal;
    use super::*;
    use proptest::prelude::*;

    fn record(n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        codec::encode_outcome(
            &super::super::Outcome {
                exchange: [n as u8; 16],
                wall_ns: n,
                duration_ns: 5,
                status: 200,
                code: "",
                endpoint: "127.0.0.1:9",
                attempts: 1,
                upstream_ns: 1,
                request_bytes: 2,
                response_bytes: 3,
                truncated: false,
                grpc_status: None,
                findings: &[],
                client_ip: None,
                entrypoint: "web",
                revision: [1; 6],
            },
            &mut out,
        );
        out
    }

    /// A segment with these many records per frame, and where each frame begins.
    fn segment(before: Position, frames: &[u32], sealed: bool) -> (Vec<u8>, Vec<usize>, Position) {
        let header =
            SegmentHeader { index: before.index + 1, first_sequence: before.next_sequence, ..Default::default() };
        let (mut out, mut chain) = header.encode(before.chain);
        let mut sequence = before.next_sequence;
        let mut starts = Vec::new();
        let mut push = |flags, records: u32, out: &mut Vec<u8>| {
            let payload: Vec<u8> = (0..u64::from(records)).flat_map(|n| record(sequence + n)).collect();
            let (head, trailer) = seal(chain, flags, sequence, records, &payload);
            starts.push(out.len());
            out.extend_from_slice(&head);
            out.extend_from_slice(&payload);
            out.extend_from_slice(&trailer);
            chain = Chain(trailer);
            sequence += u64::from(records);
        };
        for &records in frames {
            push(0, records, &mut out);
        }
        if sealed {
            push(SEALED, 0, &mut out);
        }
        starts.push(out.len());
        (out, starts, Position { index: header.index, chain, next_sequence: sequence })
    }

    #[derive(Debug, PartialEq)]
    enum Verdict {
        Clean,
        Torn(u64),
        Damaged,
    }

    /// Sequences of the records before the first thing that is wrong, and the verdict.
    fn walk(bytes: &[u8], before: Position) -> (Vec<u64>, Verdict) {
        let mut seen = Vec::new();
        let mut segment = match Segment::open(bytes) {
            Ok(Some(segment)) => segment,
            Ok(None) => return (seen, Verdict::Torn(0)),
            Err(_) => return (seen, Verdict::Damaged),
        };
        if segment.follows(&before).is_err() {
            return (seen, Verdict::Damaged);
        }
        loop {
            match segment.step() {
                Step::Frame(frame) => seen.extend(frame.records().map(|r| r.unwrap().0)),
                Step::End => return (seen, Verdict::Clean),
                Step::Torn { offset } => return (seen, Verdict::Torn(offset)),
                Step::Damaged(fault) => {
                    assert_eq!(fault.sequence, seen.last().map_or(before.next_sequence, |s| s + 1));
                    return (seen, Verdict::Damaged);
                }
            }
        }
    }

    #[test]
    fn segments_follow_each_other() {
        let (first, _, middle) = segment(Position::start(), &[1, 3, 2], true);
        let (second, _, end) = segment(middle, &[5], false);
        assert_eq!(walk(&first, Position::start()), ((1..=6).collect(), Verdict::Clean));
        assert_eq!(walk(&second, middle), ((7..=11).collect(), Verdict::Clean));
        assert_eq!(end.next_sequence, 12);
        // A segment in the wrong place.
        assert_eq!(walk(&second, Position::start()).1, Verdict::Damaged);
        assert_eq!(walk(&first, middle).1, Verdict::Damaged);
        // The same place, another chain.
        let (other, _, _) = segment(Position { chain: Chain([1; 32]), ..middle }, &[5], false);
        assert_eq!(walk(&other, middle).1, Verdict::Damaged);
    }

    #[test]
    fn every_cut_is_a_torn_tail_or_a_clean_end() {
        let (bytes, starts, _) = segment(Position::start(), &[1, 3, 2], true);
        for cut in 0..bytes.len() {
            let whole = starts.iter().rposition(|&start| start <= cut);
            let expected = match whole {
                Some(n) if starts[n] == cut => Verdict::Clean,
                Some(n) => Verdict::Torn(starts[n] as u64),
                None => Verdict::Torn(0),
            };
            let (seen, verdict) = walk(&bytes[..cut], Position::start());
            assert_eq!(verdict, expected, "cut at {cut}");
            assert_eq!(seen.len(), [0, 1, 4, 6, 6][whole.unwrap_or(0)], "cut at {cut}");
            // A tail of zeros, as a lost page leaves it, is torn too (unless zeros complete nothing).
            let mut zeros = bytes[..cut].to_vec();
            zeros.resize(cut + 4096, 0);
            if whole.is_some_and(|n| starts[n] == cut) && !seen.is_empty() && cut < bytes.len() {
                assert_eq!(walk(&zeros, Position::start()).1, Verdict::Torn(cut as u64));
            }
        }
    }

    #[test]
    fn frames_cannot_be_moved_removed_or_added() {
        let (bytes, starts, _) = segment(Position::start(), &[1, 1, 1, 1], true);
        let frame = |n: usize| &bytes[starts[n]..starts[n + 1]];
        let head = &bytes[..starts[0]];
        let arrange = |order: &[usize]| order.iter().fold(head.to_vec(), |out, &n| [out.as_slice(), frame(n)].concat());
        assert_eq!(walk(&arrange(&[0, 1, 2, 3, 4]), Position::start()).1, Verdict::Clean);
        for order in [&[0, 2, 1, 3, 4][..], &[1, 2, 3, 4], &[0, 1, 3, 4], &[0, 1, 1, 2, 3, 4], &[0, 1, 2, 3, 4, 4]] {
            assert_eq!(walk(&arrange(order), Position::start()).1, Verdict::Damaged, "{order:?}");
        }
        // A frame made anew with the right checksums and sequence, but without the chain before it.
        let payload = record(99);
        let (header, trailer) = seal(Chain([9; 32]), 0, 2, 1, &payload);
        let forged = [&bytes[..starts[1]], &header, &payload, &trailer, &bytes[starts[2]..]].concat();
        let (seen, verdict) = walk(&forged, Position::start());
        assert_eq!((seen, verdict), (vec![1], Verdict::Damaged));
    }

    #[test]
    fn damage_before_whole_frames_is_told_from_damage_at_the_end() {
        let (bytes, starts, _) = segment(Position::start(), &[1, 1, 1], false);
        for (frame, more) in [(0, true), (1, true), (2, false)] {
            let mut bad = bytes.clone();
            bad[starts[frame] + 40] ^= 1;
            let mut segment = Segment::open(&bad).unwrap().unwrap();
            while let Step::Frame(_) = segment.step() {}
            assert_eq!(segment.offset() as usize, starts[frame]);
            assert_eq!(segment.more_after_damage(), more, "frame {frame}");
        }
    }

    proptest! {
        #[test]
        fn any_flipped_byte_is_found(
            frames in proptest::collection::vec(1u32..4, 1..5),
            sealed in any::<bool>(),
            at in any::<proptest::sample::Index>(),
            bits in 1u8..=255,
        ) {
            let (mut bytes, starts, _) = segment(Position::start(), &frames, sealed);
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            let (seen, verdict) = walk(&bytes, Position::start());
            // Bytes 8..12 are the length of the segment header: a larger one may reach past the end.
            if (8..12).contains(&at) {
                prop_assert_ne!(verdict, Verdict::Clean);
            } else {
                prop_assert_eq!(verdict, Verdict::Damaged);
            }
            let before = starts.iter().filter(|&&start| start <= at).count();
            let records: u32 = frames.iter().take(before.saturating_sub(1)).sum();
            prop_assert_eq!(seen.len() as u32, records);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in any::<bool>()) {
            let (mut whole, _, _) = segment(Position::start(), &[1], false);
            whole.extend_from_slice(&bytes);
            let (seen, _) = walk(if tail { &whole } else { &bytes }, Position::start());
            prop_assert_eq!(seen.len(), usize::from(tail));
        }
    }
}
