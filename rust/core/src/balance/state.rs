//! What all workers know about endpoints and breakers: a table in [`Region::Services`].
//!
//! Layout: entries of eight words (one cache line); word 0 is the key (0: never used), the others hold 40
//! bits of payload below 24 bits of the key as a tag. A tag that is not the key's makes the payload 0.
//!
//! Rules:
//! 1. An entry is claimed by one CAS of its key. Nothing has to be cleared with it: what the former owner
//!    left, or still writes late, carries the wrong tag and reads as 0. So being killed between any two
//!    instructions leaves nothing half done.
//! 2. A used entry never becomes unused again, so a look-up may stop at the first unused one.
//! 3. When a key's window is full, the entry that was not touched for longest (and at least
//!    [`STALE_SECONDS`]) is taken over. When there is none, the caller goes without shared state.
//! 4. State is soft. Two entries for one key, possible only in a race of two take-overs, make workers
//!    disagree for a while and nothing worse.

use crate::shared::{Region, Shared};
use crate::time::Instant;
use std::sync::atomic::{AtomicU64, Ordering};

const ENTRY_WORDS: usize = 8;
/// Entries looked at for one key.
const WINDOW: usize = 16;
const PAYLOAD: u64 = (1 << 40) - 1;
/// Age at which an entry may be taken over when room is short.
pub const STALE_SECONDS: u64 = 3600;

/// Words of an entry. Endpoints and breakers use different ones of the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// Seconds of the last write that mattered.
    Touched = 1,
    /// Endpoint: [`UP`], [`DOWN`] or 0 (not known yet). Breaker: its gate.
    Main = 2,
    /// Endpoint: end and number of ejections. Breaker: first of four window quarters.
    Second = 3,
    /// Consecutive failures of an endpoint.
    Third = 4,
    Fourth = 5,
    Fifth = 6,
    /// Consecutive failures of a breaker.
    Sixth = 7,
}

/// Health as the control process found it.
pub const UP: u64 = 1;
pub const DOWN: u64 = 2;

/// A place in the table, remembered by its finder and checked against the key on each use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// The words of one key.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    words: &'a [AtomicU64; ENTRY_WORDS],
    key: u64,
    slot: Slot,
}

/// The entry of `key`, if there is one.
pub fn find(shared: &Shared, key: u64) -> Option<Entry<'_>> {
    for entry in window(shared, key) {
        match entry.words[0].load(Ordering::Acquire) {
            0 => return None,
            found if found == key => return Some(entry),
            _ => {}
        }
    }
    None
}

/// The entry of `key`, made if need be. `None` when the table has no room for it.
pub fn claim(shared: &Shared, key: u64, now: Instant) -> Option<Entry<'_>> {
    // Each turn ends, or another process made progress; far more turns than there are rivals.
    for _ in 0..64 {
        let mut oldest: Option<(Entry<'_>, u64, u64)> = None;
        let mut unused = None;
        for entry in window(shared, key) {
            let owner = entry.words[0].load(Ordering::Acquire);
            if owner == key {
                return Some(entry);
            }
            if owner == 0 {
                unused = Some(entry);
                break;
            }
            let touched = Entry { key: owner, ..entry }.get(Word::Touched);
            if oldest.is_none_or(|(_, _, t)| touched < t) {
                oldest = Some((entry, owner, touched));
            }
        }
        let (entry, owner) = match (unused, oldest) {
            (Some(entry), _) => (entry, 0),
            (None, Some((entry, owner, touched))) if touched + STALE_SECONDS < seconds(now) => (entry, owner),
            _ => return None,
        };
        if entry.words[0].compare_exchange(owner, key, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            entry.touch(now);
            // Looked up once more, so that two who took over different entries mostly agree on the first.
        }
    }
    None
}

/// The entry at `slot`, as long as it still belongs to `key`.
#[inline]
pub fn at(shared: &Shared, slot: Slot, key: u64) -> Option<Entry<'_>> {
    let start = slot.0 as usize * ENTRY_WORDS;
    let words = shared.region(Region::Services).get(start..)?.first_chunk()?;
    let entry = Entry { words, key, slot };
    (entry.words[0].load(Ordering::Acquire) == key).then_some(entry)
}

/// Every key in use.
pub fn keys(shared: &Shared) -> impl Iterator<Item = u64> + '_ {
    let region = shared.region(Region::Services);
    region.chunks_exact(ENTRY_WORDS).map(|words| words[0].load(Ordering::Acquire)).filter(|&key| key != 0)
}

fn window(shared: &Shared, key: u64) -> impl Iterator<Item = Entry<'_>> {
    let region = shared.region(Region::Services);
    let entries = region.len() / ENTRY_WORDS;
    // The tag is the key's top 24 bits; the place comes from the others, so that neighbours' tags differ.
    let home = (((key & 0xffff_ffff) * entries as u64) >> 32) as usize;
    (0..WINDOW.min(entries)).filter_map(move |step| {
        let index = (home + step) % entries;
        let words = region[index * ENTRY_WORDS..].first_chunk()?;
        Some(Entry { words, key, slot: Slot(index as u32) })
    })
}

impl Entry<'_> {
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Payload of a word.
    #[inline]
    pub fn get(&self, word: Word) -> u64 {
        self.read(self.words[word as usize].load(Ordering::Acquire))
    }

    /// Replaces a word's payload (the low 40 bits of `value`).
    pub fn set(&self, word: Word, value: u64) {
        self.words[word as usize].store(self.tagged(value), Ordering::Release);
    }

    /// Replaces a payload if it is still `from`; says whether it did.
    pub fn swap(&self, word: Word, from: u64, to: u64) -> bool {
        self.update(word, |value| (value == from).then_some(to)).is_some()
    }

    /// Replaces a payload by what `next` makes of it; `None` leaves it. Returns the old and new one.
    pub fn update(&self, word: Word, mut next: impl FnMut(u64) -> Option<u64>) -> Option<(u64, u64)> {
        let cell = &self.words[word as usize];
        let mut seen = cell.load(Ordering::Acquire);
        loop {
            let old = self.read(seen);
            let new = next(old)?;
            match cell.compare_exchange_weak(seen, self.tagged(new), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some((old, new)),
                Err(now) => seen = now,
            }
        }
    }

    /// Keeps the entry from being taken over.
    pub fn touch(&self, now: Instant) {
        self.set(Word::Touched, seconds(now));
    }

    fn read(&self, word: u64) -> u64 {
        if (word ^ self.key) & !PAYLOAD == 0 {
            word & PAYLOAD
        } else {
            0
        }
    }

    fn tagged(&self, value: u64) -> u64 {
        (self.key & !PAYLOAD) | (value & PAYLOAD)
    }
}

fn seconds(now: Instant) -> u64 {
    now.0 / 1_000_000_000
}
