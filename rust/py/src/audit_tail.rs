//! Follows the logs of all workers while they are written.
//!
//! Rules:
//! 1. A record is told once, in the order of its log; logs are told one after the other.
//! 2. An unfinished frame is waited for: it becomes whole, or its writer dies and the next one cuts it off.
//! 3. Checksums are verified, the chain is not (that is `verify`'s work). What is damaged is skipped to the
//!    next whole frame and counted.
//! 4. New logs and segments are found by listing the directory at each poll; a segment is left only when a
//!    newer one was there before its end was read.
//! 5. A segment is known by its file until its header was read: another may take its name before.
//! 6. Positions can be saved and given back: nothing is then told twice, nothing left out.

use crate::audit_log::{logs, segment_name, segments};
use pygate_core::audit::codec::Encoded;
use pygate_core::audit::frame::{self, FrameHeader, Parsed, SegmentHeader, FRAME_HEADER, FRAME_MAGIC};
use pygate_core::audit::read::Records;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes read at once.
const CHUNK: usize = 512 << 10;

/// A record counts once more towards a poll's limit for every so many bytes: memory is bounded by the limit.
const LONG: usize = 1024;

/// How far one log has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Segment index; 0 before the first was found.
    pub index: u64,
    pub offset: u64,
    /// Sequence of the next record.
    pub sequence: u64,
}

/// What a poll tells.
pub enum Event<'a> {
    Record {
        log: &'a str,
        sequence: u64,
        record: Encoded<'a>,
    },
    /// Another process goes on with this log: what the one before left unfinished stays so.
    NewWriter {
        log: &'a str,
    },
}

pub struct Tail {
    root: PathBuf,
    logs: BTreeMap<String, Followed>,
    /// Pieces skipped because they were damaged.
    pub damaged: u64,
}

struct Followed {
    dir: PathBuf,
    mark: Mark,
    file: Option<File>,
    writer: (u32, u64),
}

impl Tail {
    /// Follows everything below `root`, from the beginning or from `marks`.
    pub fn new(root: &Path, marks: BTreeMap<String, Mark>) -> Tail {
        let followed = |(name, mark): (String, Mark)| {
            let dir = root.join(&name);
            (name, Followed { dir, mark, file: None, writer: (0, 0) })
        };
        Tail { root: root.into(), logs: marks.into_iter().map(followed).collect(), damaged: 0 }
    }

    /// Marks at the present end of every log: what is there already is not told.
    pub fn ends(root: &Path) -> io::Result<BTreeMap<String, Mark>> {
        let mut ends = BTreeMap::new();
        for dir in listed(root)? {
            let Some((index, path)) = segments(&dir)?.pop() else { continue };
            ends.insert(name_of(&dir), end_of(index, &path)?);
        }
        Ok(ends)
    }

    pub fn marks(&self) -> BTreeMap<String, Mark> {
        self.logs.iter().map(|(name, log)| (name.clone(), log.mark)).collect()
    }

    /// Tells what is new, until about `limit` records were told; true when there may be more at once.
    pub fn poll(&mut self, limit: usize, tell: &mut dyn FnMut(Event<'_>)) -> io::Result<bool> {
        for dir in listed(&self.root)? {
            self.logs.entry(name_of(&dir)).or_insert_with(|| Followed {
                dir,
                mark: Mark::default(),
                file: None,
                writer: (0, 0),
            });
        }
        let mut left = limit;
        for (name, log) in &mut self.logs {
            log.poll(name, &mut left, &mut self.damaged, tell)?;
            if left == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Followed {
    fn poll(
        &mut self,
        name: &str,
        left: &mut usize,
        damaged: &mut u64,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<()> {
        loop {
            if self.file.is_none() && !self.open()? {
                return Ok(());
            }
            let newer = self.next_segment()?;
            if self.replaced()? {
                self.file = None;
                continue;
            }
            let ended = self.read(name, newer.is_some(), left, damaged, tell)?;
            if *left == 0 {
                return Ok(());
            }
            match newer {
                Some(index) if ended => {
                    self.file = None;
                    self.mark = Mark { index, offset: 0, sequence: self.mark.sequence };
                }
                _ => return Ok(()),
            }
        }
    }

    /// A writer that was killed while it began a segment left it without a whole header; the next writer makes
    /// another file of that name. Asked after the newer segments were listed: they come later than that one.
    fn replaced(&self) -> io::Result<bool> {
        let Some(file) = self.file.as_ref().filter(|_| self.mark.offset == 0) else { return Ok(false) };
        match std::fs::metadata(self.dir.join(segment_name(self.mark.index))) {
            Ok(now) => Ok(now.ino() != file.metadata()?.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Index of the first segment after the current one.
    fn next_segment(&self) -> io::Result<Option<u64>> {
        match segments(&self.dir) {
            Ok(found) => Ok(found.into_iter().map(|(index, _)| index).find(|&index| index > self.mark.index)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the current segment, or the first there is when it is gone or none was found yet.
    fn open(&mut self) -> io::Result<bool> {
        for index in [Some(self.mark.index), self.next_segment()?].into_iter().flatten().filter(|&index| index != 0) {
            match File::open(self.dir.join(segment_name(index))) {
                Ok(file) => {
                    if index != self.mark.index {
                        self.mark = Mark { index, offset: 0, sequence: self.mark.sequence };
                    }
                    self.file = Some(file);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Reads the current segment on; true when its end was reached and nothing more can come.
    fn read(
        &mut self,
        name: &str,
        last_word: bool,
        left: &mut usize,
        damaged: &mut u64,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(true) };
        let mut chunk = CHUNK;
        loop {
            let end = file.metadata()?.len();
            let remaining = end.saturating_sub(self.mark.offset);
            if remaining == 0 {
                return Ok(true);
            }
            let bytes = read_at(file, self.mark.offset, remaining.min(chunk as u64) as usize)?;
            let mut rest = bytes.as_slice();
            if self.mark.offset == 0 {
                if let Parsed::Whole((header, _, len)) = SegmentHeader::parse(rest) {
                    let writer = (header.pid, header.process_start_ns);
                    if self.writer != writer {
                        self.writer = writer;
                        tell(Event::NewWriter { log: name });
                    }
                    rest = &rest[len..];
                    self.mark.offset = len as u64;
                } else if last_word {
                    *damaged += 1;
                    return Ok(true);
                } else {
                    return Ok(false);
                }
            }
            let before = self.mark.offset;
            let wrong = loop {
                if *left == 0 || rest.is_empty() {
                    break None;
                }
                let (header, payload) = match frame::parse(rest) {
                    Parsed::Whole(whole) => whole,
                    other => break Some(matches!(other, Parsed::Bad(_))),
                };
                // A frame that a failed sync made its writer write again is told once.
                let known = self.mark.sequence.saturating_sub(header.first_sequence);
                for (sequence, record) in
                    Records::new(payload, header.first_sequence).map_while(Result::ok).skip(known as usize)
                {
                    tell(Event::Record { log: name, sequence, record });
                    *left = left.saturating_sub(1 + record.raw_fields.len() / LONG);
                }
                self.mark.sequence = self.mark.sequence.max(header.first_sequence + u64::from(header.records));
                self.mark.offset += header.frame_len() as u64;
                rest = &rest[header.frame_len()..];
            };
            let to_the_end = bytes.len() as u64 >= remaining;
            match wrong {
                None if *left == 0 => return Ok(false),
                None => {}
                // Perhaps only the chunk ends there.
                Some(_) if !to_the_end && self.mark.offset == before => chunk *= 2,
                Some(_) if !to_the_end => {}
                Some(bad) => match next_frame(rest) {
                    Some(at) if bad => {
                        *damaged += 1;
                        self.mark.offset += at as u64;
                    }
                    _ if last_word => {
                        *damaged += 1;
                        return Ok(true);
                    }
                    _ => return Ok(false),
                },
            }
        }
    }
}

/// Offset of the next whole frame header after the front of `bytes`.
fn next_frame(bytes: &[u8]) -> Option<usize> {
    (1..bytes.len().saturating_sub(FRAME_HEADER) + 1).find(|&at| {
        bytes[at..].starts_with(&FRAME_MAGIC) && matches!(FrameHeader::parse(&bytes[at..]), Parsed::Whole(_))
    })
}

/// Hops from frame to frame without reading them.
fn end_of(index: u64, path: &Path) -> io::Result<Mark> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut mark = Mark { index, offset: 0, sequence: 0 };
    let head = read_at(&file, 0, len.min(128 << 10) as usize)?;
    let Parsed::Whole((header, _, offset)) = SegmentHeader::parse(&head) else { return Ok(mark) };
    mark.offset = offset as u64;
    mark.sequence = header.first_sequence;
    while let Parsed::Whole(frame) = FrameHeader::parse(&read_at(&file, mark.offset, FRAME_HEADER)?) {
        if mark.offset + frame.frame_len() as u64 > len {
            break;
        }
        mark.offset += frame.frame_len() as u64;
        mark.sequence = frame.first_sequence + u64::from(frame.records);
    }
    Ok(mark)
}

/// Up to `len` bytes; fewer when the file ends before.
fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The logs below `root`; none while it does not exist yet.
fn listed(root: &Path) -> io::Result<Vec<PathBuf>> {
    match logs(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

pub fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
