//! Rate limits: the generic cell rate algorithm (ITU-T I.371) over [`Region::Limits`].
//!
//! Each key has a *theoretical arrival time* (TAT): when all it has used will have been earned back. A
//! request is allowed when, with its own cost added, the TAT is at most `burst` requests ahead of now.
//!
//! Layout: buckets of 16 words (two cache lines); bucket 0 is the table's header (word 0: the hash seed).
//! A word is `20 bits of hash | 44 bits of TAT` in units of 256 ns, modulo 2⁴⁴ (52 days); 0: never used.
//!
//! Rules:
//! 1. Hash and TAT change in one CAS. There is no state between "not charged" and "charged".
//! 2. A word whose TAT is past equals no word: any key of the bucket may take it. Nothing is ever swept.
//! 3. A word never becomes 0 again and the first takeable one is taken, so looking stops at the first 0.
//! 4. Two workers may take different words for one key at once. So who took a fresh word looks again, and
//!    steps back if there is another; and everybody counts all words of a key. Hence never more is allowed
//!    than the quota; at worst a request that races such a step back is refused.
//! 5. TATs more than [`LONGEST`] ahead are leftovers from 39 days ago and count as past.

use crate::config::Rate;
use crate::shared::{Region, Shared};
use crate::time::Instant;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

const BUCKET: usize = 16;
const TIME_BITS: u32 = 44;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// Nanoseconds of a unit.
const UNIT: u64 = 256;
/// Longest time, in units, a quota may take to be earned back: 13 days.
const LONGEST: u64 = 1 << 42;
/// Attempts against rivals before giving up; each lost one means that another worker got further.
const ATTEMPTS: usize = 256;

/// A rate and a burst, in the table's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Units one request takes to be earned back, rounded up: never more than the rate is allowed, and at
    /// 10,000/s at most 0.3 % less.
    interval: u64,
    burst: u64,
    /// `interval × burst`.
    window: u64,
}

/// What a check found, in the terms of the `RateLimit` fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// Requests possible at once after a pause: the burst.
    pub limit: u64,
    /// Requests possible at once now.
    pub remaining: u64,
    /// Time until all of `limit` is possible again.
    pub reset: Duration,
    /// Time until this request would be allowed; zero if it was.
    pub retry_after: Duration,
}

impl Quota {
    /// `burst` requests at once, then `rate`. The error says which bounds hold, for people.
    pub fn new(rate: Rate, burst: u64) -> Result<Quota, String> {
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        if rate.count == 0 || burst == 0 {
            return Err("rate and burst must be at least 1".into());
        }
        if rate.count > per / 1_000 {
            return Err("the rate exceeds 1,000,000 per second".into());
        }
        let interval = per.div_ceil(rate.count).div_ceil(UNIT);
        match interval.checked_mul(burst) {
            Some(window) if window < LONGEST => Ok(Quota { interval, burst, window }),
            _ => Err("the burst takes more than 13 days to be earned back".into()),
        }
    }

    /// Time in which the whole burst is earned back.
    pub fn window(&self) -> Duration {
        time(self.window)
    }
}

/// Charges `cost` requests to `key` if the quota allows. `None`: the table has no room for the key.
pub fn check(shared: &Shared, quota: &Quota, key: u64, cost: u32, now: Instant) -> Option<Decision> {
    let cells = bucket(shared, key)?;
    let tag = (key & 0xf_ffff).max(1) << TIME_BITS;
    let now = now.0 / UNIT;
    let price = quota.interval.saturating_mul(u64::from(cost));
    for _ in 0..ATTEMPTS {
        let seen = look(cells, tag, now);
        // A burst made smaller by a reload must not lock anybody out for the old one.
        let debt = seen.debt.min(quota.window);
        let charged = debt.saturating_add(price);
        if charged > quota.window {
            if seen.debt > quota.window && !lower(cells, &seen, tag, now, quota.window) {
                continue;
            }
            return Some(quota.decision(false, debt, charged - quota.window));
        }
        let (place, word) = seen.own.or(seen.free)?;
        let ahead = if seen.own.is_some() { ahead(word, now) } else { 0 };
        let next = tag | (now.wrapping_add(ahead).wrapping_add(price) & TIME);
        if cells[place].compare_exchange(word, next, SeqCst, SeqCst).is_err() {
            continue;
        }
        if seen.own.is_none() && look(cells, tag, now).owners > 1 {
            give_back(&cells[place], tag, price, next);
            continue;
        }
        return Some(quota.decision(true, charged, 0));
    }
    None
}

impl Quota {
    fn decision(&self, allowed: bool, debt: u64, wait: u64) -> Decision {
        let remaining = (self.window - debt) / self.interval;
        Decision { allowed, limit: self.burst, remaining, reset: time(debt), retry_after: time(wait) }
    }
}

/// What a bucket holds for one tag.
struct Seen {
    /// Sum of what all words of the tag are ahead.
    debt: u64,
    /// Words of the tag that are not past.
    owners: u32,
    /// First word of the tag, past or not.
    own: Option<(usize, u64)>,
    /// First word anybody may take.
    free: Option<(usize, u64)>,
}

#[inline]
fn look(cells: &[AtomicU64; BUCKET], tag: u64, now: u64) -> Seen {
    let mut seen = Seen { debt: 0, owners: 0, own: None, free: None };
    for (place, cell) in cells.iter().enumerate() {
        let word = cell.load(SeqCst);
        if word == 0 {
            seen.free = seen.free.or(Some((place, word)));
            break;
        }
        let ahead = ahead(word, now);
        if word & !TIME == tag {
            seen.debt += ahead;
            seen.owners += u32::from(ahead > 0);
            seen.own = seen.own.or(Some((place, word)));
        } else if ahead == 0 && seen.free.is_none() {
            seen.free = Some((place, word));
        }
    }
    seen
}

/// Units a word's TAT lies after now; 0 when it is past.
#[inline]
fn ahead(word: u64, now: u64) -> u64 {
    match word.wrapping_sub(now) & TIME {
        ahead if ahead < LONGEST => ahead,
        _ => 0,
    }
}

/// Brings a debt from before a reload down to the window of today.
#[cold]
fn lower(cells: &[AtomicU64; BUCKET], seen: &Seen, tag: u64, now: u64, window: u64) -> bool {
    let Some((place, word)) = seen.own else { return true };
    if seen.owners > 1 {
        // Rare twice over; the debt runs off by itself.
        return true;
    }
    let next = tag | (now.wrapping_add(window) & TIME);
    cells[place].compare_exchange(word, next, SeqCst, SeqCst).is_ok()
}

/// Takes a charge back, unless the word has gone to another key (then it had been paid off). `charged` is
/// the word as the charge left it: if it still stands, the word becomes past for every worker's clock.
#[cold]
fn give_back(cell: &AtomicU64, tag: u64, price: u64, charged: u64) {
    let _ = cell.fetch_update(SeqCst, SeqCst, |word| {
        let less = if word == charged { price + LONGEST / 4 } else { price };
        (word & !TIME == tag).then(|| tag | ((word & TIME).wrapping_sub(less) & TIME))
    });
}

#[inline]
fn bucket(shared: &Shared, key: u64) -> Option<&[AtomicU64; BUCKET]> {
    let region = shared.region(Region::Limits);
    let buckets = (region.len() / BUCKET).checked_sub(1)? as u64;
    let index = 1 + (((key >> 32) * buckets) >> 32) as usize;
    region.get(index * BUCKET..)?.first_chunk()
}

fn time(units: u64) -> Duration {
    Duration::from_nanos(units.saturating_mul(UNIT))
}

#[cfg(test)]
#[path = "gcra_tests.rs"]
mod tests;
