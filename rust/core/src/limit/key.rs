//! Hashes of what is counted, seeded per gateway.

use crate::shared::{Region, Shared};
use std::sync::atomic::Ordering;

/// Odd constants with well-spread bits (digits of e and of the square root of 2).
const STEP: u64 = 0xadf8_5458_a2bb_4a9b;
const END: u64 = 0x6a09_e667_f3bc_c909;

/// Gives the limiter tables of a fresh file their secret seed; a second call changes nothing.
pub fn seed(shared: &Shared, entropy: u64) {
    if let Some(word) = shared.region(Region::Limits).first() {
        let _ = word.compare_exchange(0, entropy | 1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A keyed 64-bit hash, equal in all processes that share the file. Not for secrets: only places are
/// derived from it.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash(u64);

impl KeyHash {
    pub fn new(shared: &Shared, base: u64) -> KeyHash {
        let seed = shared.region(Region::Limits).first().map_or(0, |word| word.load(Ordering::Relaxed));
        KeyHash(fold(seed ^ END, base ^ STEP))
    }

    /// Adds one value; where values end counts.
    #[inline]
    pub fn part(self, bytes: &[u8]) -> KeyHash {
        let mut hash = self.0;
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            // chunks_exact: always eight bytes.
            hash = fold(hash ^ u64::from_le_bytes(chunk.try_into().unwrap_or_default()), STEP);
        }
        let rest = chunks.remainder();
        let last = rest.iter().rev().fold(0, |word, &b| (word << 8) | u64::from(b));
        KeyHash(fold(hash ^ last, STEP ^ bytes.len() as u64))
    }

    #[inline]
    pub fn finish(self) -> u64 {
        fold(self.0, END)
    }
}

/// Both halves of the product, so that every bit of either side reaches every bit.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x5bd1_e995_9e37_79b9) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Layout;

    #[test]
    fn hashes_differ_by_every_input_and_spread() {
        let file = tempfile::tempfile().unwrap();
        let shared = Shared::format(&file, Layout::for_workers(1)).unwrap();
        let hash = |base, part: &[u8]| KeyHash::new(&shared, base).part(part).finish();
        let unseeded = hash(1, b"a");
        seed(&shared, 42);
        seed(&shared, 43);
        assert_ne!(hash(1, b"a"), unseeded);
        let again = Shared::attach(&file).unwrap();
        assert_eq!(KeyHash::new(&again, 1).part(b"a").finish(), hash(1, b"a"));

        let mut seen = std::collections::HashSet::new();
        let (mut high, mut low) = ([0u32; 16], [0u32; 16]);
        for n in 0..40_000u32 {
            let text = format!("{n}");
            for h in [hash(1, text.as_bytes()), hash(2, text.as_bytes()), hash(1, &n.to_be_bytes())] {
                assert!(seen.insert(h));
                high[(h >> 60) as usize] += 1;
                low[(h & 15) as usize] += 1;
            }
        }
        assert!(high.iter().chain(&low).all(|&n| (7_000..8_000).contains(&n)), "{high:?} {low:?}");
        for (a, b) in [(&b""[..], &b"\0"[..]), (b"12345678", b"12345678\0"), (b"\0\0", b"\0")] {
            assert_ne!(hash(1, a), hash(1, b));
        }
        let split = |a: &[u8], b: &[u8]| KeyHash::new(&shared, 1).part(a).part(b).finish();
        assert_ne!(split(b"ab", b"c"), split(b"a", b"bc"));
    }
}
