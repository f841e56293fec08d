//! Budgets: how much of something was used in a calendar window, over [`Region::Budgets`].
//!
//! A counter is three words: whose it is and of which period (hash), when the period ends (unix seconds), and what was
//! used: `16 bits of the hash | 48 bits`. It is reserved before and settled after: what is under way counts in full.
//!
//! Rules:
//! 1. A charge is one CAS of the third word. A word whose 16 bits are another counter's counts as nothing used, so a
//!    place changes hands without a moment at which it lies.
//! 2. A counter whose period is over equals no counter: any other of the bucket may take its place. Nothing is swept.
//! 3. Two processes may take two places for one counter at once: the later place is given up, and what it held moved.
//! 4. A worker that is killed leaves what it had reserved and not settled as used, until the period ends.

use crate::shared::{Region, Shared};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const WORDS: usize = 3;
/// Counters of a bucket.
const BUCKET: usize = 16;
const CHECK_BITS: u32 = 16;
/// The most a counter holds; more is held as this.
pub const MOST: u64 = (1 << 48) - 1;
/// Attempts against rivals before giving up.
const ATTEMPTS: usize = 256;

/// One counter in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Stable hash of what is counted.
    pub key: u64,
    /// Unix seconds at which the period began and ends.
    pub begin: u64,
    pub end: u64,
}

/// A budget that does not allow a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// What is left of it.
    pub left: u64,
}

/// Why nothing was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Over(Over),
    /// The table has no room.
    Full,
}

impl Counter {
    fn hash(&self) -> u64 {
        // SplitMix64's finaliser over both.
        let mut mixed = self.key ^ self.begin.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }
}

/// Adds `amount` if the sum stays within `max`; returns what is used then.
pub fn reserve(shared: &Shared, counter: Counter, max: u64, amount: u64, unix: u64) -> Result<u64, Refused> {
    let place = Place::find(shared, counter, unix).ok_or(Refused::Full)?;
    place.change(|used| {
        let sum = used.saturating_add(amount);
        if sum > max {
            return Err(Refused::Over(Over { left: max.saturating_sub(used) }));
        }
        Ok(sum)
    })
}

/// Replaces what was reserved by what it came to, which may be more.
pub fn settle(shared: &Shared, counter: Counter, reserved: u64, actual: u64, unix: u64) {
    if reserved == actual || unix >= counter.end {
        return;
    }
    if let Some(place) = Place::find(shared, counter, unix) {
        let _ = place.change(|used| Ok(used.saturating_sub(reserved).saturating_add(actual)));
    }
}

/// Raises a counter to what a restart knows from elsewhere was used; one that stands higher stays. False: no room.
pub fn restore(shared: &Shared, counter: Counter, used: u64, unix: u64) -> bool {
    Place::find(shared, counter, unix).is_some_and(|place| place.change(|held| Ok(held.max(used))).is_ok())
}

/// What was used of a counter.
pub fn used(shared: &Shared, counter: Counter) -> u64 {
    let hash = counter.hash();
    let cells = bucket(shared, hash);
    let found = cells.chunks_exact(WORDS).find(|cell| cell[0].load(SeqCst) == hash);
    found.map_or(0, |cell| value(cell[2].load(SeqCst), hash))
}

fn bucket(shared: &Shared, hash: u64) -> &[AtomicU64] {
    let words = shared.region(Region::Budgets);
    let buckets = (words.len() / (BUCKET * WORDS)).max(1);
    let at = (hash >> 8) as usize % buckets * BUCKET * WORDS;
    &words[at.min(words.len())..(at + BUCKET * WORDS).min(words.len())]
}

fn check(hash: u64) -> u64 {
    (hash >> (64 - CHECK_BITS)) << 48
}

fn value(word: u64, hash: u64) -> u64 {
    if word & !MOST == check(hash) {
        word & MOST
    } else {
        0
    }
}

struct Place<'s> {
    used: &'s AtomicU64,
    hash: u64,
}

impl<'s> Place<'s> {
    /// The counter's place, taken if it has none.
    fn find(shared: &'s Shared, counter: Counter, unix: u64) -> Option<Place<'s>> {
        let hash = counter.hash();
        let cells = bucket(shared, hash);
        let place = |cell: &'s [AtomicU64]| {
            // Whoever took it may have been killed before it said until when.
            if cell[1].load(SeqCst) != counter.end {
                cell[1].store(counter.end, SeqCst);
            }
            Place { used: &cell[2], hash }
        };
        for _ in 0..ATTEMPTS {
            let mut free = None;
            for (index, cell) in cells.chunks_exact(WORDS).enumerate() {
                let owner = cell[0].load(SeqCst);
                if owner == hash {
                    return Some(place(cell));
                }
                if free.is_none() && (owner == 0 || cell[1].load(SeqCst) <= unix) {
                    free = Some((index, owner));
                }
            }
            let (index, owner) = free?;
            let mine = &cells[index * WORDS..(index + 1) * WORDS];
            if mine[0].compare_exchange(owner, hash, SeqCst, SeqCst).is_err() {
                continue;
            }
            mine[1].store(counter.end, SeqCst);
            // Taken again by somebody to whom its period seemed over: once more.
            let Some(first) = cells.chunks_exact(WORDS).position(|cell| cell[0].load(SeqCst) == hash) else { continue };
            if first == index {
                return Some(Place { used: &mine[2], hash });
            }
            let moved = value(mine[2].swap(0, SeqCst), hash);
            let _ = mine[0].compare_exchange(hash, 0, SeqCst, SeqCst);
            let place = place(&cells[first * WORDS..(first + 1) * WORDS]);
            let _ = place.change(|used| Ok(used.saturating_add(moved)));
            return Some(place);
        }
        None
    }

    fn change(&self, next: impl Fn(u64) -> Result<u64, Refused>) -> Result<u64, Refused> {
        let mut word = self.used.load(SeqCst);
        for _ in 0..ATTEMPTS {
            let sum = next(value(word, self.hash))?.min(MOST);
            match self.used.compare_exchange(word, check(self.hash) | sum, SeqCst, SeqCst) {
                Ok(_) => return Ok(sum),
                Err(found) => word = found,
            }
        }
        Err(Refused::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Layout;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn memory() -> Arc<Shared> {
        let file = tempfile::tempfile().unwrap();
        Arc::new(Shared::format(&file, Layout::for_workers(1)).unwrap())
    }

    const DAY: Counter = Counter { key: 7, begin: 0, end: 86_400 };

    #[test]
    fn what_is_reserved_counts_until_it_is_settled() {
        let shared = memory();
        assert_eq!(reserve(&shared, DAY, 100, 60, 1), Ok(60));
        assert_eq!(reserve(&shared, DAY, 100, 41, 1), Err(Refused::Over(Over { left: 40 })));
        settle(&shared, DAY, 60, 10, 2);
        assert_eq!(used(&shared, DAY), 10);
        assert_eq!(reserve(&shared, DAY, 100, 90, 3), Ok(100));
        settle(&shared, DAY, 90, 300, 4);
        assert_eq!(used(&shared, DAY), 310);
        assert_eq!(reserve(&shared, DAY, 100, 0, 5), Err(Refused::Over(Over { left: 0 })));
    }

    #[test]
    fn a_new_period_begins_with_nothing_and_takes_the_place_of_one_that_is_over() {
        let shared = memory();
        for day in 0..1000u64 {
            let counter = Counter { key: 7, begin: day * 86_400, end: (day + 1) * 86_400 };
            assert_eq!(reserve(&shared, counter, 100, 60, counter.begin), Ok(60));
        }
        // What comes after the period changes nothing.
        settle(&shared, DAY, 60, 0, 86_400);
        let last = Counter { key: 7, begin: 999 * 86_400, end: 1000 * 86_400 };
        assert_eq!(used(&shared, last), 60);
    }

    #[test]
    fn a_place_taken_by_a_process_that_was_killed_lies_about_nothing() {
        let shared = memory();
        reserve(&shared, DAY, 100, 60, 1).unwrap();
        // Another counter took the place and its process was killed before it charged.
        let hash = Counter { key: 8, ..DAY }.hash();
        let cells = bucket(&shared, DAY.hash());
        let index = cells.iter().position(|word| word.load(SeqCst) == DAY.hash()).unwrap();
        cells[index].store(hash, SeqCst);
        assert_eq!(value(cells[index + 2].load(SeqCst), hash), 0);
    }

    #[test]
    fn callers_at_the_same_time_cannot_spend_more_than_there_is() {
        let shared = memory();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let shared = shared.clone();
                std::thread::spawn(move || (0..2000).filter(|_| reserve(&shared, DAY, 3000, 1, 1).is_ok()).count())
            })
            .collect();
        let spent: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!((spent, used(&shared, DAY)), (3000, 3000));
    }

    proptest! {
        #[test]
        fn it_counts_like_a_map(steps in prop::collection::vec((0u64..40, 0u64..50, any::<bool>()), 1..200)) {
            let shared = memory();
            let mut model = std::collections::HashMap::new();
            for (key, amount, settles) in steps {
                let counter = Counter { key, begin: 60, end: 120 };
                let known = model.entry(key).or_insert(0u64);
                if settles {
                    settle(&shared, counter, (*known).min(3), amount, 61);
                    *known = *known - (*known).min(3) + amount;
                } else if reserve(&shared, counter, 500, amount, 61).is_ok() {
                    *known += amount;
                } else {
                    prop_assert!(*known + amount > 500);
                }
                prop_assert_eq!(used(&shared, counter), *known);
            }
        }
    }
}
