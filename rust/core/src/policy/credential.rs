//! Credentials at rest: hashes, and references to where a secret is kept.
//!
//! Rules:
//! 1. The core reads neither environment nor files. Whoever hands it a configuration to serve has resolved
//!    every `env:NAME` and `file:PATH` into a hash (`pygate.config.credentials`).
//! 2. A reference that is still one when compiled (as in `pygate check`) stands for a credential that nobody
//!    has: it never matches.
//! 3. Comparisons take the same time for every candidate and look at all of them.

use crate::error::Problem;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

pub fn is_reference(text: &str) -> bool {
    text.starts_with("env:") || text.starts_with("file:")
}

/// `sha256:` and 64 hex digits; `None` for a reference.
pub fn parse_key(text: &str) -> Result<Option<[u8; 32]>, Problem> {
    if is_reference(text) {
        return Ok(None);
    }
    let mut out = [0; 32];
    match text.strip_prefix("sha256:").map(|digits| hex::decode_to_slice(digits, &mut out)) {
        Some(Ok(())) => Ok(Some(out)),
        // The text is not shown: it may be the secret itself.
        _ => Err(Problem::new("", "this is neither a hash nor a reference")
            .expected("`sha256:` and 64 hex digits (`pygate hash key`), `env:NAME` or `file:PATH`")),
    }
}

pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Index of the candidate that equals `digest`.
pub fn find(digest: &[u8; 32], candidates: impl Iterator<Item = [u8; 32]>) -> Option<usize> {
    let (mut found, mut at) = (Choice::from(0), 0);
    for (i, candidate) in candidates.enumerate() {
        let equal = candidate.ct_eq(digest);
        at.conditional_assign(&(i as u64), equal);
        found |= equal;
    }
    bool::from(found).then_some(at as usize)
}
