//! Session tickets that every worker and every reload can take up (RFC 8446 §4.6.1, RFC 5077).
//!
//! The keys lie in shared memory, written by the control process, read by all:
//!
//! ```text
//! word 0        how many keys were ever written; 0: none, tickets are off
//! word 8(1+s)   slot s of 3: name (2 words), AES-256-GCM key (4), checksum (1)
//! ```
//!
//! Rules:
//! 1. Key number n lies in slot (n - 1) mod 3, so writing one touches only the oldest; the count is raised last. A
//!    writer killed in between leaves one slot whose checksum fails and two keys that work.
//! 2. A reader takes what has a right checksum and never waits. What it cannot read it does without.
//! 3. Encrypted with the newest key, decrypted with any of the three. What is of another key, too old, altered or made
//!    under another [`Policy`] is no ticket: a full handshake follows.
//! 4. A ticket carries its time under encryption; past [`LIFETIME`] it is refused even if nobody rotates the keys.

use super::session::Clock;
use crate::shared::{Region, Shared};
use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_256_GCM};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::atomic::{fence, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroize;

/// Seconds a ticket is good for; RFC 8446 allows seven days.
pub(super) const LIFETIME: u32 = 12 * 3600;
/// Keys that decrypt.
const SLOTS: usize = 3;
const SLOT_WORDS: usize = 8;
const NAME: usize = 16;
/// Bytes of a key as the control process draws it: name and AES key.
pub const KEY_BYTES: usize = NAME + 32;
const NONCE: usize = 12;
const TIME: usize = 8;
const TAG: usize = 16;
/// Longest ticket looked at: TLS allows 64 KiB, ours hold a client's certificates at most.
const MAX_TICKET: usize = 24 << 10;
/// Tries to get a snapshot between two rotations.
const TRIES: usize = 4;

/// What a ticket is bound to: it is no good under another.
pub(super) type Policy = [u8; 32];

/// The keys in shared memory. Shared by all plans of a worker.
pub struct Tickets {
    shared: Arc<Shared>,
    random: SystemRandom,
    /// The keys of one count. Held for an instant, by this process alone.
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    count: u64,
    /// Newest first.
    keys: Arc<[Key]>,
}

struct Key {
    name: [u8; NAME],
    sealing: LessSafeKey,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

/// Makes `key` (fresh random bytes) the newest. For the control process alone; two writers at once cost a key.
pub fn rotate(shared: &Shared, key: &[u8; KEY_BYTES]) {
    let words = shared.region(Region::Tickets);
    let Some(count) = words.first() else { return };
    let next = count.load(Ordering::Acquire).wrapping_add(1).max(1);
    let Some(slot) = slot_of(words, next) else { return };
    // The checksum is broken first, so that a slot half written is never taken for a whole one.
    slot[6].store(0, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let mut text = *key;
    for (word, bytes) in slot.iter().zip(text.chunks_exact(8)) {
        word.store(u64::from_le_bytes(bytes.try_into().unwrap_or_default()), Ordering::Relaxed);
    }
    slot[6].store(checksum(&text), Ordering::Release);
    text.zeroize();
    count.store(next, Ordering::Release);
}

fn slot_of(words: &[AtomicU64], number: u64) -> Option<&[AtomicU64]> {
    let slot = (number.wrapping_sub(1) % SLOTS as u64) as usize;
    words.get(SLOT_WORDS * (1 + slot)..SLOT_WORDS * (2 + slot))
}

fn checksum(key: &[u8; KEY_BYTES]) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"pygate ticket key");
    hash.update(key);
    u64::from_le_bytes(hash.finalize()[..8].try_into().unwrap_or_default()).max(1)
}

fn read_slot(slot: &[AtomicU64]) -> Option<Key> {
    let mut bytes = [0; KEY_BYTES];
    let sum = slot[6].load(Ordering::Acquire);
    for (word, out) in slot.iter().zip(bytes.chunks_exact_mut(8)) {
        out.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    fence(Ordering::Acquire);
    let whole = sum != 0 && sum == checksum(&bytes) && slot[6].load(Ordering::Relaxed) == sum;
    let key = whole
        .then(|| UnboundKey::new(&AES_256_GCM, &bytes[NAME..]).ok())
        .flatten()
        .map(|unbound| Key { name: bytes[..NAME].try_into().unwrap_or_default(), sealing: LessSafeKey::new(unbound) });
    bytes.zeroize();
    key
}

impl Tickets {
    pub fn new(shared: Arc<Shared>) -> Arc<Tickets> {
        Arc::new(Tickets { shared, random: SystemRandom::new(), cache: Mutex::default() })
    }

    /// The keys in force, newest first; empty: none yet.
    fn keys(&self) -> Arc<[Key]> {
        let words = self.shared.region(Region::Tickets);
        // A panic elsewhere cannot leave the cache half changed: it is replaced as a whole.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            let count = words.first().map_or(0, |word| word.load(Ordering::Acquire));
            if count == cache.count {
                break;
            }
            let numbers = (0..SLOTS as u64).filter_map(|age| count.checked_sub(age)).filter(|&n| n > 0);
            let keys: Arc<[Key]> = numbers.filter_map(|n| read_slot(slot_of(words, n)?)).collect();
            fence(Ordering::Acquire);
            if !keys.is_empty() && words[0].load(Ordering::Relaxed) == count {
                *cache = Cache { count, keys };
                break;
            }
        }
        cache.keys.clone()
    }

    fn seal(&self, plain: &[u8], policy: &Policy, now: u64) -> Option<Vec<u8>> {
        let keys = self.keys();
        let key = keys.first()?;
        let mut nonce = [0; NONCE];
        self.random.fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(NAME + NONCE + TIME + plain.len() + TAG);
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&now.to_be_bytes());
        ticket.extend_from_slice(plain);
        if ticket.len() + TAG > MAX_TICKET {
            return None;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let body = &mut ticket[NAME + NONCE..];
        let tag = key.sealing.seal_in_place_separate_tag(nonce, Aad::from(policy), body).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], policy: &Policy, now: u64) -> Option<Vec<u8>> {
        if ticket.len() < NAME + NONCE + TIME + TAG || ticket.len() > MAX_TICKET {
            return None;
        }
        let (name, rest) = ticket.split_at(NAME);
        let (nonce, body) = rest.split_at(NONCE);
        let keys = self.keys();
        let key = keys.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let plain = key.sealing.open_in_place(nonce, Aad::from(policy), &mut body).ok()?;
        let (time, plain) = plain.split_at_checked(TIME)?;
        let made = u64::from_be_bytes(time.try_into().ok()?);
        // A clock set back makes a ticket younger, never invalid.
        (now.saturating_sub(made) <= u64::from(LIFETIME)).then(|| plain.to_vec())
    }
}

/// The tickets of one option set.
pub(super) struct Bound {
    pub(super) tickets: Arc<Tickets>,
    pub(super) policy: Policy,
    pub(super) clock: Arc<Clock>,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bound")
    }
}

impl ProducesTickets for Bound {
    fn enabled(&self) -> bool {
        !self.tickets.keys().is_empty()
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.seal(plain, &self.policy, self.clock.now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.tickets.open(ticket, &self.policy, self.clock.now())
    }
}
