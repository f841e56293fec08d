//! A log on disk: the directory of one writer and its row of segment files.
//!
//! `<audit.dir>/worker-<slot>/00000001.wal …`, directory 0700, files 0600.
//!
//! Rules:
//! 1. One writer per directory, held by `flock` on its `.lock`. When an old worker of the slot still drains,
//!    the new one takes `worker-<slot>.1`, `.2`, …; so it does when the log is damaged, which is evidence and
//!    is left as it is.
//! 2. A segment is begun when there is something to write, never before.
//! 3. After a crash the torn tail is set aside in a file beside its segment and cut off; the next segment's
//!    header says so and the chain goes on from the last whole frame.
//! 4. After a failed write the segment is cut back to its last whole frame before anything else is tried.
//! 5. After a failed sync the kernel may have forgotten the pages (they read as clean), so the frame is never
//!    acknowledged from the same file: it is cut off and written again into a new segment.

use pygate_core::audit::frame::{seal, Chain, Recovered, SegmentHeader, SEALED};
use pygate_core::audit::read::{Position, Segment, Step};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Directories tried for one slot before giving up.
const LANES: u32 = 256;

pub struct Log {
    dir: PathBuf,
    /// Held for its lock, and to sync the directory.
    _lock: File,
    directory: File,
    segment_size: u64,
    identity: SegmentHeader,
    current: Option<Current>,
    position: Position,
    torn: Option<Torn>,
}

struct Current {
    file: File,
    /// Length up to the last whole frame.
    len: u64,
    /// There may be bytes beyond `len`.
    dirty: bool,
    /// A sync failed: nothing more is written here.
    distrusted: bool,
}

/// A tail to be set aside before the next segment is begun.
struct Torn {
    file: String,
    offset: u64,
    tail: Vec<u8>,
}

impl Log {
    /// Opens the log of `slot` below `root` and finds where it goes on. Reads the last segment, writes nothing
    /// but directories.
    pub fn open(root: &Path, slot: u32, segment_size: u64) -> io::Result<Log> {
        private_dirs().recursive(true).create(root)?;
        for lane in 0..LANES {
            let dir = match lane {
                0 => root.join(format!("worker-{slot}")),
                n => root.join(format!("worker-{slot}.{n}")),
            };
            private_dirs().recursive(true).create(&dir)?;
            let Some(lock) = lock(&dir.join(".lock"))? else { continue };
            let Some((position, torn)) = resume(&dir)? else { continue };
            let identity = SegmentHeader {
                slot,
                boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().into(),
                pid: std::process::id(),
                process_start_ns: wall_ns(),
                software: concat!("pygate ", env!("CARGO_PKG_VERSION")).into(),
                ..Default::default()
            };
            let directory = File::open(&dir)?;
            File::open(root)?.sync_all()?;
            return Ok(Log { dir, _lock: lock, directory, segment_size, identity, current: None, position, torn });
        }
        Err(io::Error::other(format!("{LANES} logs of slot {slot} in {} are in use or damaged", root.display())))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sequence the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.position.next_sequence
    }

    /// Writes one frame; with `sync` it is on disk when this returns. On an error nothing of it counts and the
    /// same frame may be tried again.
    pub fn append(&mut self, records: u32, payload: &[u8], sync: bool) -> io::Result<()> {
        let full = |current: &Current| current.distrusted || current.len >= self.segment_size;
        if self.current.as_ref().is_none_or(full) {
            self.end_segment()?;
            self.begin_segment()?;
        }
        self.write_frame(0, records, payload, sync)
    }

    /// Brings everything written so far to disk. After a failure the next call begins a new segment, which
    /// proves that the disk takes data again; frames written without `sync` may have been lost then.
    pub fn sync(&mut self) -> io::Result<()> {
        match &mut self.current {
            None => Ok(()),
            Some(current) if current.distrusted => {
                self.end_segment()?;
                self.begin_segment()
            }
            Some(current) => current.file.sync_data().inspect_err(|_| current.distrusted = true),
        }
    }

    /// Seals the current segment. The log can go on in a new one.
    pub fn end_segment(&mut self) -> io::Result<()> {
        match &mut self.current {
            None => return Ok(()),
            Some(current) if current.distrusted => {
                current.cut_back()?;
            }
            Some(_) => self.write_frame(SEALED, 0, &[], true)?,
        }
        self.current = None;
        Ok(())
    }

    fn write_frame(&mut self, flags: u8, records: u32, payload: &[u8], sync: bool) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Err(io::ErrorKind::NotFound.into()) };
        current.cut_back()?;
        let (header, trailer) = seal(self.position.chain, flags, self.position.next_sequence, records, payload);
        current.dirty = true;
        write_all(&mut current.file, &mut [IoSlice::new(&header), IoSlice::new(payload), IoSlice::new(&trailer)])?;
        if sync {
            current.file.sync_data().inspect_err(|_| current.distrusted = true)?;
        }
        current.dirty = false;
        current.len += (header.len() + payload.len() + trailer.len()) as u64;
        self.position.chain = Chain(trailer);
        self.position.next_sequence += u64::from(records);
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let recovered = self.torn.as_ref().map(|torn| self.set_aside(torn)).transpose()?;
        let index = self.position.index + 1;
        let header = SegmentHeader {
            index,
            first_sequence: self.position.next_sequence,
            wall_ns: wall_ns(),
            recovered,
            ..self.identity.clone()
        };
        let (bytes, chain) = header.encode(self.position.chain);
        let path = self.dir.join(segment_name(index));
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        let written = file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(|()| self.directory.sync_all());
        if let Err(error) = written {
            // It holds no record yet, and its name must be free for the next attempt.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.torn = None;
        self.position = Position { index, chain, next_sequence: self.position.next_sequence };
        self.current = Some(Current { file, len: bytes.len() as u64, dirty: false, distrusted: false });
        Ok(())
    }

    /// Keeps the torn bytes in a file of their own, then cuts them off. Can be repeated.
    fn set_aside(&self, torn: &Torn) -> io::Result<Recovered> {
        let kept_as = format!("{}.torn-{}", torn.file, torn.offset);
        let mut kept =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.dir.join(&kept_as))?;
        kept.write_all(&torn.tail)?;
        kept.sync_all()?;
        let path = self.dir.join(&torn.file);
        if torn.offset == 0 {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        } else {
            let segment = OpenOptions::new().write(true).open(&path)?;
            segment.set_len(torn.offset)?;
            segment.sync_all()?;
        }
        self.directory.sync_all()?;
        Ok(Recovered { file: torn.file.clone(), offset: torn.offset, bytes: torn.tail.len() as u64, kept_as })
    }
}

impl Current {
    fn cut_back(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.len)?;
            self.dirty = false;
        }
        Ok(())
    }
}

/// Where the log in `dir` goes on; `None` when it is damaged and must be left alone.
fn resume(dir: &Path) -> io::Result<Option<(Position, Option<Torn>)>> {
    let mut segments = segments(dir)?;
    let mut torn = None;
    while let Some((index, path)) = segments.pop() {
        let bytes = fs::read(&path)?;
        let tail = |offset: u64| Torn { file: segment_name(index), offset, tail: bytes[offset as usize..].to_vec() };
        let mut segment = match Segment::open(&bytes) {
            Ok(Some(segment)) => segment,
            // Killed while beginning it: no record is in there, the one before is the last.
            Ok(None) if torn.is_none() => {
                torn = Some(tail(0));
                continue;
            }
            Ok(None) | Err(_) => return Ok(None),
        };
        loop {
            match segment.step() {
                Step::Frame(_) => {}
                Step::End => return Ok(Some((segment.position, torn))),
                Step::Torn { .. } | Step::Damaged(_) if torn.is_some() => return Ok(None),
                Step::Torn { offset } => return Ok(Some((segment.position, Some(tail(offset))))),
                Step::Damaged(_) if segment.more_after_damage() => return Ok(None),
                Step::Damaged(fault) => return Ok(Some((segment.position, Some(tail(fault.offset))))),
            }
        }
    }
    Ok(Some((Position::start(), torn)))
}

/// File name of the segment with this index.
pub fn segment_name(index: u64) -> String {
    format!("{index:08}.wal")
}

/// The segments in `dir` in order; other files are passed over.
pub fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let index = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".wal")).map(str::parse);
        if let Some(Ok(index)) = index {
            found.push((index, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The logs below the audit directory, in order of their names.
pub fn logs(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|n| n.starts_with("worker-")) && entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn private_dirs() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// `None` when another process holds it. The lock lives as long as the file is open.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // SAFETY: flock takes no pointers, and the descriptor is open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(Some(file));
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        error => Err(error),
    }
}

fn write_all(file: &mut File, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match file.write_vectored(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut parts, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
