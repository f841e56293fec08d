//! Virtual keys, as the control process publishes them.
//!
//! Rules:
//! 1. Only hashes come here. A key is looked up by the SHA-256 of all of it.
//! 2. A table is complete and immutable; a change is another table.
//! 3. What a key may spend is a list of limits, its team's and project's among them: all must hold.

use crate::shared::stable_hash;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Requests,
    InputTokens,
    OutputTokens,
    TotalTokens,
    NanoUsd,
}

impl Kind {
    /// As texts and the store spell it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Requests => "requests",
            Kind::InputTokens => "input_tokens",
            Kind::OutputTokens => "output_tokens",
            Kind::TotalTokens => "total_tokens",
            Kind::NanoUsd => "nano_usd",
        }
    }
}

impl Kind {
    pub const ALL: [Kind; 5] =
        [Kind::Requests, Kind::InputTokens, Kind::OutputTokens, Kind::TotalTokens, Kind::NanoUsd];

    /// What a counter holds of an amount of this kind: money is counted in millionths of a dollar, rounded up.
    pub fn counted(self, amount: u64) -> u64 {
        if self == Kind::NanoUsd {
            amount.div_ceil(1000)
        } else {
            amount
        }
    }
}

/// A calendar window in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

impl Window {
    pub const ALL: [Window; 5] = [Window::Minute, Window::Hour, Window::Day, Window::Week, Window::Month];

    pub fn name(self) -> &'static str {
        match self {
            Window::Minute => "minute",
            Window::Hour => "hour",
            Window::Day => "day",
            Window::Week => "week",
            Window::Month => "month",
        }
    }

    /// Begin and end, in seconds of Unix time, of the window that `unix` lies in.
    pub fn around(self, unix: u64) -> (u64, u64) {
        const DAY: u64 = 86_400;
        let fixed = |length: u64, offset: u64| {
            let begin = (unix + offset) / length * length;
            (begin.saturating_sub(offset), begin + length - offset)
        };
        match self {
            Window::Minute => fixed(60, 0),
            Window::Hour => fixed(3600, 0),
            Window::Day => fixed(DAY, 0),
            // The epoch was a Thursday: weeks begin three days before it.
            Window::Week => fixed(7 * DAY, 3 * DAY),
            Window::Month => {
                let (year, month) = month_of(unix / DAY);
                let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                (days_before(year, month) * DAY, days_before(next.0, next.1) * DAY)
            }
        }
    }
}

/// Year and month (from 1) of a day since the epoch.
fn month_of(day: u64) -> (u64, u64) {
    let mut year = 1970 + day / 366;
    while days_before(year + 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|&month| days_before(year, month) <= day).unwrap_or(1);
    (year, month)
}

/// Days from the epoch to the first of a month in the Gregorian calendar.
fn days_before(year: u64, month: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + BEFORE[month as usize - 1] + u64::from(leap && month > 2)
}

/// One limit on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Stable hash of whose it is, what it counts and over which window.
    pub key: u64,
    /// `key:…`, `team:…` or `project:…`.
    pub scope: String,
    pub kind: Kind,
    pub window: Window,
    pub max: u64,
}

/// What a limit's counter is kept under, whatever its window's period.
pub fn counter_key(scope: &str, kind: Kind, window: Window) -> u64 {
    stable_hash(&[b"budget", scope.as_bytes(), kind.name().as_bytes(), window.name().as_bytes()])
}

/// A virtual key.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub name: String,
    pub team: String,
    pub project: String,
    /// What the record says of the caller.
    pub identity: Arc<str>,
    /// Patterns of models it may ask for; None: any.
    models: Option<Vec<String>>,
    /// Unix seconds.
    expires: Option<u64>,
    pub priority: u8,
    pub max_output: Option<u64>,
    pub max_prompt: Option<u64>,
    pub limits: Vec<Limit>,
}

impl Key {
    pub fn is_expired(&self, unix: u64) -> bool {
        self.expires.is_some_and(|end| unix >= end)
    }

    /// Whether it may ask for the model called `name`.
    pub fn may(&self, name: &str) -> bool {
        let fits = |pattern: &String| match pattern.split_once('*') {
            Some((before, after)) => {
                name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            }
            None => pattern == name,
        };
        self.models.as_ref().is_none_or(|models| models.iter().any(fits))
    }
}

/// All keys that are valid.
#[derive(Debug, Default)]
pub struct KeyTable {
    pub version: u64,
    keys: HashMap<[u8; 32], Arc<Key>>,
}

#[derive(Deserialize)]
struct Snapshot {
    version: u64,
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    name: String,
    sha256: String,
    #[serde(default)]
    team: Option<String>,
    #[serde(default)]
    project: Option<String>,
    #[serde(default)]
    models: Option<Vec<String>>,
    #[serde(default)]
    expires: Option<u64>,
    #[serde(default)]
    priority: u8,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    max_prompt_tokens: Option<u64>,
    #[serde(default)]
    limits: Vec<EntryLimit>,
}

#[derive(Deserialize)]
struct EntryLimit {
    scope: String,
    kind: Kind,
    window: Window,
    max: u64,
}

impl KeyTable {
    /// Reads a snapshot (JSON). The error says what is wrong with it.
    pub fn read(snapshot: &[u8]) -> Result<KeyTable, String> {
        let snapshot: Snapshot = serde_json::from_slice(snapshot).map_err(|e| e.to_string())?;
        let mut table = KeyTable { version: snapshot.version, keys: HashMap::with_capacity(snapshot.keys.len()) };
        for entry in snapshot.keys {
            let mut hash = [0; 32];
            hex::decode_to_slice(&entry.sha256, &mut hash).map_err(|_| format!("{}: no SHA-256", entry.id))?;
            let limit = |limit: EntryLimit| Limit {
                key: counter_key(&limit.scope, limit.kind, limit.window),
                scope: limit.scope,
                kind: limit.kind,
                window: limit.window,
                max: limit.max,
            };
            let key = Key {
                identity: format!("key:{}", entry.id).into(),
                id: entry.id,
                name: entry.name,
                team: entry.team.unwrap_or_default(),
                project: entry.project.unwrap_or_default(),
                models: entry.models,
                expires: entry.expires,
                priority: entry.priority,
                max_output: entry.max_output_tokens,
                max_prompt: entry.max_prompt_tokens,
                limits: entry.limits.into_iter().map(limit).collect(),
            };
            table.keys.insert(hash, Arc::new(key));
        }
        Ok(table)
    }

    /// The valid key with this hash.
    pub fn get(&self, hash: &[u8; 32], unix: u64) -> Option<&Arc<Key>> {
        self.keys.get(hash).filter(|key| !key.is_expired(unix))
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn windows_are_those_of_the_calendar() {
        for (window, at, begin, end) in [
            (Window::Minute, 1_764_105_999, 1_764_105_960, 1_764_106_020),
            (Window::Day, 1_764_105_999, 1_764_028_800, 1_764_115_200),
            // 2025-11-25 is a Tuesday; its week begins on the 24th.
            (Window::Week, 1_764_105_999, 1_763_942_400, 1_764_547_200),
            (Window::Month, 1_764_105_999, 1_761_955_200, 1_764_547_200),
            // 29 February 2024.
            (Window::Month, 1_709_164_800, 1_706_745_600, 1_709_251_200),
            (Window::Month, 0, 0, 31 * 86_400),
        ] {
            assert_eq!(window.around(at), (begin, end), "{window:?} {at}");
        }
    }

    #[test]
    fn patterns_of_models() {
        let snapshot = br#"{"version": 3, "keys": [{"id": "key_1", "sha256":
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "models": ["fast", "gpt-*", "*-mini"],
            "expires": 100, "limits": [{"scope": "team:a", "kind": "nano_usd", "window": "month", "max": 5}]}]}"#;
        let table = KeyTable::read(snapshot).unwrap();
        let hash = crate::policy::sha256(&[b""]);
        let key = table.get(&hash, 99).unwrap();
        assert!(table.get(&hash, 100).is_none());
        for (name, may) in [("fast", true), ("faster", false), ("gpt-5", true), ("x-mini", true), ("claude", false)] {
            assert_eq!(key.may(name), may, "{name}");
        }
        assert_eq!(key.limits[0].max, 5);
        assert!(KeyTable::read(b"{\"version\": 1, \"keys\": [{\"id\": \"k\", \"sha256\": \"00\"}]}").is_err());
    }

    proptest! {
        #[test]
        fn every_instant_lies_in_its_window(unix in 0u64..8_000_000_000, which in 0usize..5) {
            let window = [Window::Minute, Window::Hour, Window::Day, Window::Week, Window::Month][which];
            let (begin, end) = window.around(unix);
            prop_assert!(begin <= unix && unix < end);
            prop_assert_eq!(window.around(end).0, end);
            prop_assert_eq!(window.around(begin), (begin, end));
        }
    }
}
