//! Limits on requests in flight over [`Region::Concurrency`]: one row of counters per worker.
//!
//! Layout: a row is buckets of eight words (one cache line); a word is `40 bits of hash | 24 bits of count`.
//!
//! Rules:
//! 1. A worker counts in its own row only, so that the control process can zero the row of a worker that
//!    died ([`clear_worker`]) and nothing stays taken for ever.
//! 2. Taking adds to the own row first, then sums all rows, and steps back when the sum is too high. Of two
//!    that race for the last place at least one sees the other: never more than `max` are in flight, and at
//!    worst both are refused.
//! 3. A word with count 0 may be taken by any key of its bucket.

use crate::shared::{Region, Shared};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const BUCKET: usize = 8;
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// A place taken; given back by [`release`]. Fits into a policy's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold(u64);

/// Why no place was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `max` requests are in flight.
    Full,
    /// The worker's row has no room for the key.
    NoRoom,
}

impl Hold {
    /// Never 0.
    pub fn to_word(self) -> u64 {
        self.0
    }
    pub fn from_word(word: u64) -> Option<Hold> {
        (word != 0).then_some(Hold(word))
    }
}

/// Takes a place for `key` on behalf of `worker`, if fewer than `max` are taken in all rows.
pub fn acquire(shared: &Shared, worker: usize, key: u64, max: u32) -> Result<Hold, Refusal> {
    let tag = tag(key);
    let row = shared.worker_region(Region::Concurrency, worker);
    let start = bucket(row.len(), key).ok_or(Refusal::NoRoom)?;
    let place = take(&row[start..start + BUCKET], tag).ok_or(Refusal::NoRoom)?;
    // A row has far fewer than 2²⁴ words.
    let hold = Hold(tag | (start + place) as u64);
    if in_flight(shared, key) > u64::from(max) {
        release(shared, worker, hold);
        return Err(Refusal::Full);
    }
    Ok(hold)
}

/// Gives a place back. Harmless after [`clear_worker`].
pub fn release(shared: &Shared, worker: usize, hold: Hold) {
    let (tag, place) = (hold.0 & !COUNT, (hold.0 & COUNT) as usize);
    if let Some(cell) = shared.worker_region(Region::Concurrency, worker).get(place) {
        let _ = cell.fetch_update(SeqCst, SeqCst, |word| (word & !COUNT == tag && word & COUNT > 0).then(|| word - 1));
    }
}

/// Requests in flight for `key` in all workers.
pub fn in_flight(shared: &Shared, key: u64) -> u64 {
    let tag = tag(key);
    let mut sum = 0;
    for worker in 0..shared.layout().workers {
        let row = shared.worker_region(Region::Concurrency, worker);
        if let Some(start) = bucket(row.len(), key) {
            let words = row[start..start + BUCKET].iter().map(|cell| cell.load(SeqCst));
            sum += words.filter(|word| word & !COUNT == tag).map(|word| word & COUNT).sum::<u64>();
        }
    }
    sum
}

/// Gives back everything a worker held. Only for a worker that is gone.
pub fn clear_worker(shared: &Shared, worker: usize) {
    for cell in shared.worker_region(Region::Concurrency, worker) {
        if cell.load(SeqCst) != 0 {
            cell.store(0, SeqCst);
        }
    }
}

/// Adds one to the key's word or takes a fresh one.
fn take(cells: &[AtomicU64], tag: u64) -> Option<usize> {
    loop {
        let words = || cells.iter().map(|cell| cell.load(SeqCst)).enumerate();
        let own = words().find(|(_, word)| word & !COUNT == tag);
        let (place, word) = own.or_else(|| words().find(|(_, word)| word & COUNT == 0))?;
        if word & COUNT == COUNT {
            return None;
        }
        let next = tag | ((word & COUNT) + 1);
        if cells[place].compare_exchange(word, next, SeqCst, SeqCst).is_ok() {
            return Some(place);
        }
    }
}

fn tag(key: u64) -> u64 {
    (key << COUNT_BITS).max(1 << COUNT_BITS)
}

fn bucket(row: usize, key: u64) -> Option<usize> {
    let buckets = (row / BUCKET) as u64;
    // The place comes from the bits the tag leaves out.
    (buckets > 0).then(|| (((key >> 40) * buckets) >> 24) as usize * BUCKET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::KeyHash;
    use crate::shared::Layout;
    use std::sync::atomic::{AtomicI64, AtomicU64 as Counter, Ordering};

    fn shared(workers: usize) -> Shared {
        Shared::format(&tempfile::tempfile().unwrap(), Layout::for_workers(workers)).unwrap()
    }

    #[test]
    fn places_are_counted_over_all_workers_and_freed_with_a_dead_one() {
        let shared = shared(3);
        let take = |worker, key| acquire(&shared, worker, key, 3);
        let (a, _b, _c) = (take(0, 9).unwrap(), take(1, 9).unwrap(), take(1, 9).unwrap());
        assert_eq!(take(2, 9), Err(Refusal::Full));
        assert!(take(2, 10).is_ok(), "other keys have their own places");
        release(&shared, 0, a);
        assert!(take(2, 9).is_ok());
        clear_worker(&shared, 1);
        assert_eq!(in_flight(&shared, 9), 1);
        release(&shared, 0, a);
        assert_eq!(in_flight(&shared, 9), 1, "a late release takes nothing from others");
        assert_eq!(Hold::from_word(a.to_word()), Some(a));
        assert_eq!(Hold::from_word(0), None);
    }

    #[test]
    fn a_full_bucket_says_so_and_recovers() {
        let shared = shared(1);
        // Same place, different tags.
        let holds: Vec<_> = (1..=8).map(|key| acquire(&shared, 0, key, 1).unwrap()).collect();
        assert_eq!(acquire(&shared, 0, 9, 1), Err(Refusal::NoRoom));
        release(&shared, 0, holds[3]);
        assert!(acquire(&shared, 0, 9, 1).is_ok());
        assert_eq!(in_flight(&shared, 4), 0);
        assert_eq!(acquire(&shared, 0, 1, 1), Err(Refusal::Full));
    }

    #[test]
    fn racing_workers_never_exceed_the_limit() {
        const MAX: i64 = 5;
        let shared = shared(4);
        let key = KeyHash::new(&shared, 1).part(b"x").finish();
        let (now, most, taken) = (AtomicI64::new(0), AtomicI64::new(0), Counter::new(0));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (shared, now, most, taken) = (&shared, &now, &most, &taken);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for turn in 0..20_000usize {
                        if let Ok(hold) = acquire(shared, worker, key, MAX as u32) {
                            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            taken.fetch_add(1, Ordering::SeqCst);
                            held.push(hold);
                        }
                        if turn % 3 == 0 || held.len() > 2 {
                            if let Some(hold) = held.pop() {
                                now.fetch_sub(1, Ordering::SeqCst);
                                release(shared, worker, hold);
                            }
                        }
                    }
                    for hold in held {
                        now.fetch_sub(1, Ordering::SeqCst);
                        release(shared, worker, hold);
                    }
                });
            }
        });
        assert!(most.into_inner() <= MAX);
        assert!(taken.into_inner() > 1_000);
        assert_eq!(in_flight(&shared, key), 0);
    }
}
