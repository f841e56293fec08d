//! Answers kept to be given again to the same question of the same tenant.
//!
//! Rules:
//! 1. An answer belongs to a tenant, a route, a model, a dialect and a request, whole or streamed each for itself: what one
//!    tenant asked another never gets. Requests are the same when their JSON is, whatever the order of its members.
//! 2. Only what ended cleanly is kept. What is given is what the provider's answer became before the guard, so that the
//!    guard in force judges it again.
//! 3. One worker's memory, least recently used out first.

use crate::policy::sha256;
use crate::time::Instant;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Longest answer kept.
pub const MAX_ANSWER: usize = 1 << 20;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub content_type: Vec<u8>,
    pub body: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    until: Instant,
    turn: u64,
}

#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<[u8; 32], Entry>,
    /// Keys by the turn they were last used in.
    turns: BTreeMap<u64, [u8; 32]>,
    turn: u64,
    bytes: usize,
}

/// Whose question it is, and how it was put.
pub struct Question<'q> {
    pub tenant: &'q str,
    pub route: &'q str,
    pub model: &'q str,
    pub dialect: &'q str,
    pub stream: bool,
    pub body: &'q [u8],
}

impl Question<'_> {
    /// What its answer is kept under; None: it is not JSON.
    pub fn key(&self) -> Option<[u8; 32]> {
        let body = sorted(serde_json::from_slice(self.body).ok()?);
        let body = serde_json::to_vec(&body).ok()?;
        let mut length = Vec::new();
        for part in [self.tenant, self.route, self.model, self.dialect] {
            length.extend_from_slice(&(part.len() as u64).to_le_bytes());
        }
        let stream: &[u8] = if self.stream { b"stream" } else { b"whole" };
        let names = [self.tenant, self.route, self.model, self.dialect].map(str::as_bytes);
        Some(sha256(&[&length, names[0], names[1], names[2], names[3], stream, &body]))
    }
}

/// Members in the order of their names, at any depth.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let ordered: BTreeMap<String, Value> = members.into_iter().map(|(name, v)| (name, sorted(v))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

impl Cache {
    /// The answer kept under `key`, if its time is not over.
    pub fn get(&mut self, key: &[u8; 32], now: Instant) -> Option<&Kept> {
        if self.entries.get(key)?.until <= now {
            self.remove(key);
            return None;
        }
        self.turn += 1;
        let entry = self.entries.get_mut(key)?;
        self.turns.remove(&entry.turn);
        entry.turn = self.turn;
        self.turns.insert(self.turn, *key);
        Some(&entry.kept)
    }

    /// Keeps an answer for `ttl`, within `most` bytes of all answers.
    pub fn put(&mut self, key: [u8; 32], kept: Kept, ttl: Duration, most: usize, now: Instant) {
        self.remove(&key);
        let size = kept.body.len();
        if size > MAX_ANSWER || size > most {
            return;
        }
        while self.bytes + size > most {
            let Some((_, oldest)) = self.turns.first_key_value() else { break };
            let oldest = *oldest;
            self.remove(&oldest);
        }
        self.turn += 1;
        self.bytes += size;
        self.turns.insert(self.turn, key);
        self.entries.insert(key, Entry { kept, until: now + ttl, turn: self.turn });
    }

    fn remove(&mut self, key: &[u8; 32]) {
        if let Some(entry) = self.entries.remove(key) {
            self.turns.remove(&entry.turn);
            self.bytes -= entry.kept.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question<'q>(tenant: &'q str, stream: bool, body: &'q str) -> Question<'q> {
        Question { tenant, route: "r", model: "m", dialect: "d", stream, body: body.as_bytes() }
    }

    #[test]
    fn the_same_question_is_the_same_json_of_the_same_tenant() {
        let key = question("a", false, r#"{"x": 1, "y": {"b": 2, "a": [1, 2]}}"#).key();
        assert!(key.is_some());
        assert_eq!(question("a", false, r#"{"y":{"a":[1,2],"b":2},"x":1}"#).key(), key);
        for other in [
            question("b", false, r#"{"x": 1, "y": {"b": 2, "a": [1, 2]}}"#),
            question("a", true, r#"{"x": 1, "y": {"b": 2, "a": [1, 2]}}"#),
            question("a", false, r#"{"x": 1, "y": {"b": 2, "a": [2, 1]}}"#),
            Question { tenant: "ar", route: "", ..question("", false, r#"{"x": 1, "y": {"b": 2, "a": [1, 2]}}"#) },
        ] {
            assert_ne!(other.key(), key);
        }
        assert_eq!(question("a", false, "{").key(), None);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_all_go_in_time() {
        let (mut cache, now) = (Cache::default(), Instant(1));
        let kept = |n: usize| Kept { content_type: Vec::new(), body: vec![0; n] };
        let ttl = Duration::from_secs(1);
        cache.put([1; 32], kept(40), ttl, 100, now);
        cache.put([2; 32], kept(40), ttl, 100, now);
        assert!(cache.get(&[1; 32], now).is_some());
        cache.put([3; 32], kept(40), ttl, 100, now);
        assert!(cache.get(&[2; 32], now).is_none());
        assert!(cache.get(&[1; 32], now).is_some() && cache.get(&[3; 32], now).is_some());
        cache.put([4; 32], kept(101), ttl, 100, now);
        assert!(cache.get(&[4; 32], now).is_none() && cache.get(&[3; 32], now).is_some());
        assert!(cache.get(&[1; 32], now + ttl).is_none() && cache.get(&[3; 32], now + ttl).is_none());
        assert_eq!((cache.bytes, cache.turns.len()), (0, 0));
    }
}
