//! Rows of a series table and the names of their keys: the writer's side.
//!
//! Rules:
//! 1. One writer per block. Every store is a plain relaxed one, except that a row is complete before the
//!    word that publishes it is stored with Release.
//! 2. A writer killed between any two stores leaves at worst a row that no index slot points to: its counts
//!    are zero or still right, because readers add rows of equal labels.
//! 3. Row 0 of a table counts what found no room. Nothing is lost silently.

use super::labels::OVERFLOW;
use super::layout::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};

/// Adds without a locked instruction: this process is the only writer.
#[inline]
pub(super) fn add(word: &AtomicU64, n: u64) {
    word.store(word.load(Relaxed).wrapping_add(n), Relaxed);
}

/// What a key stands for, written down when its first row is made.
pub(super) type Name<'a> = [&'a str; 2];

/// One worker's words.
pub(super) type Block = [AtomicU64; WORDS];

impl TableLayout {
    /// The row of (`labels`, `key`), made if need be. `N` is `row_words`.
    #[inline(always)]
    pub(super) fn row<'b, 'n, const N: usize>(
        &self,
        block: &'b Block,
        labels: u64,
        key: u64,
        name: impl Fn() -> Name<'n>,
    ) -> &'b [AtomicU64; N] {
        let mut slot = mix(labels, key);
        loop {
            let place = &block[self.index + (slot as usize & (self.index_len - 1))];
            let number = place.load(Relaxed) as usize;
            if number == 0 || number > self.rows_len {
                return self.make(block, place, labels, key, name());
            }
            let row = self.at(block, number - 1);
            if row[ROW_LABELS].load(Relaxed) == labels && row[ROW_KEY].load(Relaxed) == key {
                return row;
            }
            slot = slot.wrapping_add(1);
        }
    }

    /// Row `number`, or the last when there is no such row.
    #[inline(always)]
    fn at<'b, const N: usize>(&self, block: &'b Block, number: usize) -> &'b [AtomicU64; N] {
        let start = self.rows + number.min(self.rows_len - 1) * self.row_words;
        block[start..].first_chunk().expect("rows lie inside the block")
    }

    #[cold]
    fn make<'b, const N: usize>(
        &self,
        block: &'b Block,
        place: &AtomicU64,
        labels: u64,
        key: u64,
        name: Name<'_>,
    ) -> &'b [AtomicU64; N] {
        let used = block[self.used].load(Relaxed) as usize;
        let overflow = self.at(block, 0);
        overflow[ROW_LABELS].store(OVERFLOW, Relaxed);
        let number = used.max(1);
        if number >= self.rows_len {
            return overflow;
        }
        write_name(block, key, name);
        let row = self.at(block, number);
        row[ROW_LABELS].store(labels, Relaxed);
        row[ROW_KEY].store(key, Relaxed);
        block[self.used].store(number as u64 + 1, Release);
        place.store(number as u64 + 1, Release);
        row
    }
}

fn mix(labels: u64, key: u64) -> u64 {
    let h = (key ^ labels).wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^ h >> 32
}

/// Writes a name down unless its key has one. A full table leaves keys unnamed; too long names are cut.
fn write_name(block: &[AtomicU64], key: u64, [first, second]: Name<'_>) {
    let used = block[NAMES_USED].load(Relaxed) as usize;
    let name_at = |n: usize| &block[NAMES + n * NAME_WORDS..NAMES + (n + 1) * NAME_WORDS];
    if used >= NAMES_LEN || (0..used).any(|n| name_at(n)[0].load(Relaxed) == key) {
        return;
    }
    let mut text = [0u8; NAME_BYTES];
    let mut length = 0;
    for byte in first.bytes().chain(std::iter::once(0)).chain(second.bytes()).take(NAME_BYTES) {
        text[length] = byte;
        length += 1;
    }
    let row = name_at(used);
    row[0].store(key, Relaxed);
    row[1].store(length as u64, Relaxed);
    for (word, bytes) in row[2..].iter().zip(text.chunks_exact(8)) {
        word.store(bytes.iter().rev().fold(0, |word, &b| word << 8 | u64::from(b)), Relaxed);
    }
    block[NAMES_USED].store(used as u64 + 1, Release);
}

/// The two parts of a written name.
pub(super) fn read_name(row: &[AtomicU64]) -> (u64, [String; 2]) {
    let length = (row[1].load(Relaxed) as usize).min(NAME_BYTES);
    let bytes: Vec<u8> = row[2..].iter().flat_map(|w| w.load(Relaxed).to_le_bytes()).take(length).collect();
    let mut parts = bytes.splitn(2, |&b| b == 0).map(|p| String::from_utf8_lossy(p).into_owned());
    (row[0].load(Relaxed), [parts.next().unwrap_or_default(), parts.next().unwrap_or_default()])
}
