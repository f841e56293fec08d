//! Frames and segments of the write-ahead log.
//!
//! A log is a row of segment files of one writer. A segment is a header and frames:
//!
//! ```text
//! segment   "pygtwal1" | length u32 LE | JSON | crc32 u32 LE             (crc over everything before it)
//! frame     header (32 bytes) | payload | chain (32 bytes)
//!   header  "PGFR" | version u8 | flags u8 | 0 u16 | payload length u32 | records u32 |
//!           first sequence u64 | crc32 of the payload u32 | crc32 of the 28 bytes before u32      (all LE)
//!   payload records, see `codec`
//!   chain   SHA-256(previous chain | header | payload)
//! ```
//!
//! Rules:
//! 1. The chain of a segment begins with SHA-256(previous segment's last chain | segment header), so that
//!    an edit, a removal, an insertion or an exchange of places changes every chain value after it, within
//!    a segment and from one to the next.
//! 2. Sequences count records from 1 in one log, without gaps. A frame names its first one.
//! 3. The header has a checksum of its own: only a frame whose header is whole may be called cut off.
//! 4. A sealed segment ends with a frame of no records and the `SEALED` flag; it was closed in order.

use crc32fast::hash as crc32;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub const SEGMENT_MAGIC: [u8; 8] = *b"pygtwal1";
pub const FRAME_MAGIC: [u8; 4] = *b"PGFR";
pub const FRAME_HEADER: usize = 32;
pub const FRAME_TRAILER: usize = 32;
const VERSION: u8 = 1;
/// The segment was closed in order; nothing follows in it.
pub const SEALED: u8 = 1;
/// Longest segment header accepted.
const MAX_SEGMENT_HEADER: usize = 64 << 10;

/// A value of the hash chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    fn next(self, header: &[u8], payload: &[u8]) -> Chain {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(header);
        hash.update(payload);
        Chain(hash.finalize().into())
    }
}

/// What a segment says of itself; JSON in the file, so that `head` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SegmentHeader {
    /// Worker slot that wrote it.
    pub slot: u32,
    /// Place in the log, from 1; also the file's name.
    pub index: u64,
    /// Sequence of the first record in it.
    pub first_sequence: u64,
    /// Last chain value of the segment before, hex; 64 zeros for the first.
    pub previous_chain: String,
    /// The kernel's boot id.
    pub boot_id: String,
    pub pid: u32,
    /// When the writing process started, ns since the Unix epoch.
    pub process_start_ns: u64,
    /// When the segment was begun, ns since the Unix epoch.
    pub wall_ns: u64,
    /// Program and version that wrote it.
    pub software: String,
    /// Set when the segment before had a torn tail that was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Recovered>,
}

/// A torn tail that was cut off the segment before and set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// Segment file it was cut off.
    pub file: String,
    /// Where the segment now ends.
    pub offset: u64,
    /// Bytes cut off.
    pub bytes: u64,
    /// File beside the segment that keeps them.
    pub kept_as: String,
}

impl SegmentHeader {
    /// The header's bytes and the chain value its frames go on from.
    pub fn encode(&self, previous: Chain) -> (Vec<u8>, Chain) {
        let header = SegmentHeader { previous_chain: hex::encode(previous.0), ..self.clone() };
        let json = serde_json::to_vec(&header).unwrap_or_default();
        let mut out = Vec::with_capacity(16 + json.len());
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&(json.len() as u32).to_le_bytes());
        out.extend_from_slice(&json);
        out.extend_from_slice(&crc32(&out).to_le_bytes());
        let chain = previous.next(&out, &[]);
        (out, chain)
    }

    /// Reads a header off the front of a segment; see [`Parsed`].
    pub fn parse(bytes: &[u8]) -> Parsed<(SegmentHeader, Chain, usize)> {
        let magic = bytes.len().min(SEGMENT_MAGIC.len());
        if bytes[..magic] != SEGMENT_MAGIC[..magic] {
            return if bytes.iter().all(|&b| b == 0) {
                Parsed::Short
            } else {
                Parsed::Bad("not a segment of this log")
            };
        }
        let Some(len) = bytes.get(8..12).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes) else {
            return Parsed::Short;
        };
        let end = 12 + len as usize;
        if end > MAX_SEGMENT_HEADER {
            return Parsed::Bad("segment header of impossible length");
        }
        let Some(crc) = bytes.get(end..end + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes) else {
            return Parsed::Short;
        };
        if crc32(&bytes[..end]) != crc {
            return Parsed::Bad("checksum of the segment header");
        }
        let Ok(header) = serde_json::from_slice::<SegmentHeader>(&bytes[12..end]) else {
            return Parsed::Bad("segment header is not readable");
        };
        let Some(previous) = hex::decode(&header.previous_chain).ok().and_then(|b| b.try_into().ok()).map(Chain) else {
            return Parsed::Bad("segment header without a chain value");
        };
        let chain = previous.next(&bytes[..end + 4], &[]);
        Parsed::Whole((header, chain, end + 4))
    }
}

/// What a piece of a log turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    Whole(T),
    /// The file ends inside it: what a crash in the middle of a write leaves behind (also a tail of zeros).
    Short,
    Bad(&'static str),
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub flags: u8,
    pub payload: u32,
    pub records: u32,
    pub first_sequence: u64,
    crc: u32,
}

impl FrameHeader {
    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        FRAME_HEADER + self.payload as usize + FRAME_TRAILER
    }

    /// Reads the header at the front of `bytes`, which reach to the end of the file.
    pub fn parse(bytes: &[u8]) -> Parsed<FrameHeader> {
        let Some(head) = bytes.first_chunk::<FRAME_HEADER>() else { return Parsed::Short };
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if crc32(&head[..28]) != u32_at(28) || head[..4] != FRAME_MAGIC {
            let zeros = bytes.iter().all(|&b| b == 0);
            return if zeros { Parsed::Short } else { Parsed::Bad("checksum of a frame header") };
        }
        if head[4] != VERSION {
            return Parsed::Bad("frame of an unknown version");
        }
        Parsed::Whole(FrameHeader {
            flags: head[5],
            payload: u32_at(8),
            records: u32_at(12),
            first_sequence: u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32,
            crc: u32_at(24),
        })
    }
}

/// Header and trailer of a frame around `payload`, and the chain value after it. Nothing is copied: write
/// header, payload and trailer one after the other.
///
/// `payload` must be shorter than 4 GiB.
pub fn seal(
    chain: Chain,
    flags: u8,
    first_sequence: u64,
    records: u32,
    payload: &[u8],
) -> ([u8; FRAME_HEADER], [u8; FRAME_TRAILER]) {
    let mut header = [0; FRAME_HEADER];
    header[..4].copy_from_slice(&FRAME_MAGIC);
    header[4] = VERSION;
    header[5] = flags;
    header[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[12..16].copy_from_slice(&records.to_le_bytes());
    header[16..24].copy_from_slice(&first_sequence.to_le_bytes());
    header[24..28].copy_from_slice(&crc32(payload).to_le_bytes());
    let crc = crc32(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    let next = chain.next(&header, payload);
    (header, next.0)
}

/// Reads the frame at the front of `bytes`: its header and payload, checksums verified, the chain not.
pub fn parse(bytes: &[u8]) -> Parsed<(FrameHeader, &[u8])> {
    let header = match FrameHeader::parse(bytes) {
        Parsed::Whole(header) => header,
        Parsed::Short => return Parsed::Short,
        Parsed::Bad(why) => return Parsed::Bad(why),
    };
    let Some(frame) = bytes.get(..header.frame_len()) else { return Parsed::Short };
    let payload = &frame[FRAME_HEADER..frame.len() - FRAME_TRAILER];
    if crc32(payload) != header.crc {
        return Parsed::Bad("checksum of a frame's records");
    }
    Parsed::Whole((header, payload))
}

/// The chain value stored in the whole frame `frame`, if it is the right one after `chain`.
pub fn chained(chain: Chain, frame: &[u8]) -> Option<Chain> {
    let (body, trailer) = frame.split_last_chunk::<FRAME_TRAILER>()?;
    let (header, payload) = body.split_at_checked(FRAME_HEADER)?;
    let next = chain.next(header, payload);
    (next.0 == *trailer).then_some(next)
}
