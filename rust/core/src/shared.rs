//! The memory all processes of one gateway share: one mapped file of 64-bit words.
//!
//! Rules:
//! 1. Every word is atomic and every structure in here must survive its writer being killed between any
//!    two instructions: no locks, no multi-word invariants that a reader could trip over.
//! 2. The layout is fixed when the file is made; whoever opens it checks magic, version and sizes.
//! 3. What lives in a region and how is the business of the module that owns it (`limit`, `balance`,
//!    `observe`, `tls`), not of this one.
//!
//! This is one of the two modules with `unsafe`: the mapping is valid for the lifetime of [`Shared`],
//! page-aligned, never resized, and only ever viewed as `AtomicU64`.
#![allow(unsafe_code)]

use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: u64 = u64::from_be_bytes(*b"pygate03");
const HEADER_WORDS: usize = 512;

/// Parts of the file, each owned by one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Region {
    /// Configuration generation, worker states (`control`).
    Control = 0,
    /// Rate limiter cells (`limit`).
    Limits = 1,
    /// Endpoint health, ejection, breaker state (`balance`).
    Services = 2,
    /// Concurrency slots, one row per worker (`limit`).
    Concurrency = 3,
    /// Counters and histograms, one block per worker (`observe`).
    Metrics = 4,
    /// Keys of session tickets (`tls`).
    Tickets = 5,
    /// What was used of budgets (`limit`).
    Budgets = 6,
}

const REGIONS: usize = 7;

/// Sizes of the regions in words. Files are sparse: unused words cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub words: [usize; REGIONS],
    /// Worker slots the per-worker regions are divided into.
    pub workers: usize,
}

impl Layout {
    pub fn for_workers(workers: usize) -> Layout {
        let workers = workers.max(1);
        Layout { words: [4 << 10, 1 << 19, 1 << 16, (1 << 12) * workers, (1 << 20) * workers, 64, 48 << 13], workers }
    }
}

/// The mapped file.
#[derive(Debug)]
pub struct Shared {
    map: MmapRaw,
    layout: Layout,
    starts: [usize; REGIONS],
}

impl Shared {
    /// Makes a fresh file (mode 0600), replacing what was there.
    pub fn create(path: &Path, layout: Layout) -> io::Result<Shared> {
        use std::os::unix::fs::OpenOptionsExt;
        let _ = std::fs::remove_file(path);
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Self::format(&file, layout)
    }

    /// Formats an empty file opened by the caller (for example a memfd).
    pub fn format(file: &File, layout: Layout) -> io::Result<Shared> {
        let total = HEADER_WORDS + layout.words.iter().sum::<usize>();
        file.set_len((total * 8) as u64)?;
        let shared = Self::map(file, layout)?;
        let header = shared.slice(0, HEADER_WORDS);
        header[1].store(layout.workers as u64, Ordering::Relaxed);
        for (word, &size) in header[2..].iter().zip(&layout.words) {
            word.store(size as u64, Ordering::Relaxed);
        }
        header[0].store(MAGIC, Ordering::Release);
        Ok(shared)
    }

    /// Opens a file made by [`Shared::create`].
    pub fn open(path: &Path) -> io::Result<Shared> {
        Self::attach(&File::options().read(true).write(true).open(path)?)
    }

    /// Maps a formatted file opened by the caller.
    pub fn attach(file: &File) -> io::Result<Shared> {
        let length = file.metadata()?.len() as usize / 8;
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("shared memory file: {what}"));
        if length < HEADER_WORDS {
            return Err(bad("too short"));
        }
        let probe = Self::map(file, Layout { words: [0; REGIONS], workers: 1 })?;
        let header = probe.slice(0, HEADER_WORDS);
        if header[0].load(Ordering::Acquire) != MAGIC {
            return Err(bad("wrong magic or version"));
        }
        let mut layout = Layout { words: [0; REGIONS], workers: header[1].load(Ordering::Relaxed) as usize };
        for (size, word) in layout.words.iter_mut().zip(&header[2..]) {
            *size = word.load(Ordering::Relaxed) as usize;
        }
        if layout.workers == 0 || HEADER_WORDS + layout.words.iter().sum::<usize>() != length {
            return Err(bad("sizes do not add up"));
        }
        drop(probe);
        Self::map(file, layout)
    }

    fn map(file: &File, layout: Layout) -> io::Result<Shared> {
        let map = MmapOptions::new().map_raw(file)?;
        let mut starts = [0; REGIONS];
        let mut next = HEADER_WORDS;
        for (start, size) in starts.iter_mut().zip(&layout.words) {
            *start = next;
            next += size;
        }
        if map.len() < next * 8 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "shared memory file: truncated"));
        }
        Ok(Shared { map, layout, starts })
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// All words of a region.
    pub fn region(&self, region: Region) -> &[AtomicU64] {
        self.slice(self.starts[region as usize], self.layout.words[region as usize])
    }

    /// One worker's share of a per-worker region; a worker beyond the layout shares the last slot's.
    pub fn worker_region(&self, region: Region, worker: usize) -> &[AtomicU64] {
        let share = self.layout.words[region as usize] / self.layout.workers;
        let worker = worker.min(self.layout.workers - 1);
        self.slice(self.starts[region as usize] + worker * share, share)
    }

    fn slice(&self, start: usize, words: usize) -> &[AtomicU64] {
        assert!((start + words) * 8 <= self.map.len());
        // SAFETY: in bounds (asserted), aligned (page-aligned base, whole words), mapped for as long as
        // `self`, and nobody ever makes a non-atomic reference to these bytes.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU64>().add(start), words) }
    }
}

/// Hash that names things in shared memory: equal in every process and build (FNV-1a, finalised).
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for &b in *part {
            h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
        // Parts are kept apart, so that ("ab","c") and ("a","bc") differ.
        h = (h ^ 0xff).wrapping_mul(0x0100_0000_01b3);
    }
    h ^= h >> 32;
    h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^= h >> 32;
    h.max(1)
}
