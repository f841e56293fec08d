//! Unpredictable mask keys from entropy given once (RFC 6455 §5.3).

use sha2::{Digest, Sha256};

/// A stream of keys: SHA-256 over the seed and a counter, cut in fours.
pub(super) struct MaskKeys {
    seed: [u8; 16],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl MaskKeys {
    pub fn new(seed: [u8; 16]) -> MaskKeys {
        MaskKeys { seed, counter: 0, block: [0; 32], used: 32 }
    }

    pub fn next(&mut self) -> [u8; 4] {
        if self.used == self.block.len() {
            self.block =
                Sha256::new().chain_update(self.seed).chain_update(self.counter.to_le_bytes()).finalize().into();
            self.counter += 1;
            self.used = 0;
        }
        let mut key = [0; 4];
        key.copy_from_slice(&self.block[self.used..self.used + 4]);
        self.used += 4;
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_differ_and_depend_on_the_seed() {
        let take = |seed: u8| {
            let mut keys = MaskKeys::new([seed; 16]);
            (0..100).map(|_| keys.next()).collect::<HashSet<_>>()
        };
        assert_eq!(take(1).len(), 100);
        assert!(take(1).is_disjoint(&take(2)));
    }
}
