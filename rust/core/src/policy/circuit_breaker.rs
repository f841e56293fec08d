//! `circuit_breaker`: stop calling an upstream that keeps failing; shared by all workers.
//!
//! State lives in the policy's entry of [`crate::balance::state`]. The gate word is `milliseconds << 2 | mode`:
//! closed (0), open until, or probing until. One request wins the CAS from "open, time over" to "probing" and
//! goes upstream; its end closes the gate or opens it again. A probe that does not come back in time (its
//! worker was killed) is followed by the next. Outcomes are counted in four quarters of the window, each
//! `12 bits of quarter number | 14 bits of requests | 14 bits of failures`.
//!
//! Without room in the shared table the breaker stays closed: it protects an upstream, it guards nothing.

use super::{EndCx, Flow, Policy, RequestCx};
use crate::balance::state::{self, Entry, Word};
use crate::config::Duration;
use crate::error::{Code, Problem};
use crate::message::fields::Known;
use crate::shared::{stable_hash, Shared};
use crate::time::Instant;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Stop calling an upstream that fails too often; after a pause one request probes it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Share of failed requests (5xx, reset, timeout, refused) within `window` that opens the breaker, 0 to 1.
    pub failure_ratio: f64,
    /// Rolling window for `failure_ratio`.
    pub window: Duration,
    /// Requests within `window` before `failure_ratio` counts.
    pub min_requests: u32,
    /// Open after so many failures in a row, whatever the ratio; 0: off.
    pub consecutive_failures: u32,
    /// How long the breaker stays open before a probe, and how long a probe may take before the next.
    pub open_for: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            failure_ratio: 0.5,
            window: Duration::secs(10),
            min_requests: 20,
            consecutive_failures: 0,
            open_for: Duration::secs(10),
        }
    }
}

/// Largest number a quarter counts to; beyond, both its counts are halved.
const COUNT: u64 = (1 << 14) - 1;
const QUARTERS: [Word; 4] = [Word::Second, Word::Third, Word::Fourth, Word::Fifth];
const GATE: Word = Word::Main;
const RUN: Word = Word::Sixth;

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const PROBING: u64 = 2;

struct CircuitBreaker {
    config: Config,
    key: u64,
    /// Nanoseconds of a quarter window.
    quarter: u64,
    /// `failure_ratio` in millionths.
    ratio: u64,
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let problem = |key: &str, why: &str| Problem::new(format!("policies.{name}.circuit_breaker.{key}"), why);
        let mut problems = Vec::new();
        if !(self.failure_ratio > 0.0 && self.failure_ratio <= 1.0) {
            problems.push(problem("failure_ratio", "must be above 0 and at most 1"));
        }
        if !(1..=10_000).contains(&self.min_requests) {
            problems.push(problem("min_requests", "must be 1 to 10,000"));
        }
        if self.window < Duration::millis(100) || self.window > Duration::secs(86_400) {
            problems.push(problem("window", "must be 100ms to 1d"));
        }
        if self.open_for < Duration::millis(10) || self.open_for > Duration::secs(86_400) {
            problems.push(problem("open_for", "must be 10ms to 1d"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Arc::new(CircuitBreaker {
            config: self.clone(),
            key: key(name),
            quarter: self.window.0.as_nanos() as u64 / 4,
            ratio: (self.failure_ratio * 1e6) as u64,
        }))
    }
}

fn key(name: &str) -> u64 {
    stable_hash(&[b"circuit_breaker", name.as_bytes()])
}

/// State of the breaker policy called `name`: `closed`, `open` or `probing`.
pub fn breaker_state(shared: &Shared, name: &str) -> &'static str {
    match state::find(shared, key(name)).map_or(CLOSED, |entry| entry.get(GATE) & 3) {
        OPEN => "open",
        PROBING => "probing",
        _ => "closed",
    }
}

impl Policy for CircuitBreaker {
    fn on_request(&self, cx: &mut RequestCx<'_>, slot: &mut u64) -> Flow {
        let Some(entry) = state::claim(cx.shared, self.key, cx.now.mono) else { return Flow::Next };
        let gate = entry.get(GATE);
        if gate == CLOSED {
            return Flow::Next;
        }
        let (now, until) = (milliseconds(cx.now.mono), gate >> 2);
        if now >= until {
            let probing = (now + self.open_ms()) << 2 | PROBING;
            if entry.swap(GATE, gate, probing) {
                *slot = probing;
                return Flow::Next;
            }
        }
        let mut digits = itoa::Buffer::new();
        let wait = digits.format(until.saturating_sub(now).div_ceil(1_000).max(1));
        cx.notes.response_fields.set_known(Known::RetryAfter, wait.as_bytes());
        Flow::Refuse(Code::CircuitOpen, None)
    }

    fn on_end(&self, cx: &EndCx<'_>, slot: &mut u64) {
        let Some(entry) = state::find(cx.shared, self.key) else { return };
        let now = cx.now.mono;
        // A client that left says nothing about the upstream, unless the upstream had failed by then.
        let known = cx.upstream_called && (cx.upstream_failed || cx.code != Some(Code::ClientClosed));
        match std::mem::take(slot) {
            0 if known => self.count(entry, now, cx.upstream_failed),
            0 => {}
            probing if !known => {
                // Let the next request probe.
                entry.swap(GATE, probing, milliseconds(now) << 2 | OPEN);
            }
            probing if cx.upstream_failed => {
                entry.swap(GATE, probing, self.open_until(now));
                entry.touch(now);
            }
            probing => {
                if entry.swap(GATE, probing, CLOSED) {
                    QUARTERS.into_iter().chain([RUN]).for_each(|word| entry.set(word, 0));
                }
            }
        }
    }

    fn describe(&self) -> String {
        let c = &self.config;
        let row = match c.consecutive_failures {
            0 => String::new(),
            n => format!(" or {n} failures in a row"),
        };
        format!(
            "circuit_breaker: opens for {} at {}% failures of at least {} in {}{row}",
            c.open_for,
            self.ratio as f64 / 1e4,
            c.min_requests,
            c.window
        )
    }
}

impl CircuitBreaker {
    fn open_ms(&self) -> u64 {
        self.config.open_for.0.as_millis() as u64
    }

    fn open_until(&self, now: Instant) -> u64 {
        (milliseconds(now) + self.open_ms()) << 2 | OPEN
    }

    /// Counts an outcome seen while closed, and opens the gate when it is one too many. Outcomes of requests
    /// from before the gate opened change nothing any more.
    fn count(&self, entry: Entry<'_>, now: Instant, failed: bool) {
        if entry.get(GATE) != CLOSED {
            return;
        }
        let epoch = now.0 / self.quarter;
        entry.update(QUARTERS[(epoch % 4) as usize], |word| {
            let (mut requests, mut failures) = match word >> 28 == epoch & 0xfff {
                true => (word >> 14 & COUNT, word & COUNT),
                false => (0, 0),
            };
            if requests == COUNT {
                (requests, failures) = (requests / 2, failures / 2);
            }
            Some((epoch & 0xfff) << 28 | (requests + 1) << 14 | (failures + u64::from(failed)))
        });
        if !failed {
            if self.config.consecutive_failures > 0 && entry.get(RUN) != 0 {
                entry.set(RUN, 0);
            }
            return;
        }
        let in_row = u64::from(self.config.consecutive_failures);
        let run = if in_row > 0 { entry.update(RUN, |run| Some(run + 1)).map_or(0, |(_, run)| run) } else { 0 };
        let (requests, failures) = sums(entry, epoch);
        let too_many = requests >= u64::from(self.config.min_requests) && failures * 1_000_000 >= requests * self.ratio;
        if (too_many || (in_row > 0 && run >= in_row)) && entry.swap(GATE, CLOSED, self.open_until(now)) {
            entry.touch(now);
        }
    }
}

/// Requests and failures of the last four quarters.
fn sums(entry: Entry<'_>, epoch: u64) -> (u64, u64) {
    let current = QUARTERS.map(|word| entry.get(word)).into_iter();
    let current = current.filter(|word| (epoch & 0xfff).wrapping_sub(word >> 28) & 0xfff < 4);
    current.fold((0, 0), |(requests, failures), word| (requests + (word >> 14 & COUNT), failures + (word & COUNT)))
}

fn milliseconds(now: Instant) -> u64 {
    now.0 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;
    use std::time::Duration as Span;

    fn policy(toml: &str) -> Arc<dyn Policy> {
        toml::from_str::<Config>(toml).unwrap().compile("breaker").unwrap()
    }

    /// One request that goes upstream, or is refused (`None`).
    fn call(bench: &mut Bench, policy: &dyn Policy, failed: bool) -> Option<()> {
        let (flow, mut slot) = bench.request(policy);
        match flow {
            Flow::Next => {
                bench.upstream(true, failed);
                policy.on_end(&bench.end(), &mut slot);
                Some(())
            }
            Flow::Refuse(Code::CircuitOpen, None) => None,
            other => panic!("{other:?}"),
        }
    }

    fn passes(bench: &mut Bench, policy: &dyn Policy, times: u32, failed: bool) -> u32 {
        (0..times).filter(|_| call(bench, policy, failed).is_some()).count() as u32
    }

    #[test]
    fn a_failure_ratio_opens_a_single_probe_decides() {
        let mut bench = Bench::new();
        let (breaker, reloaded) = (policy("min_requests = 10"), policy("min_requests = 10"));
        assert_eq!(passes(&mut bench, &*breaker, 6, false), 6);
        assert_eq!(passes(&mut bench, &*breaker, 9, true), 6, "opens at 6 of 12");
        assert_eq!(bench.fields(), "retry-after: 10");
        assert_eq!(breaker_state(&bench.shared, "breaker"), "open");
        bench.advance(Span::from_millis(9_999));
        assert_eq!(call(&mut bench, &*reloaded, false), None, "another worker and revision see it too");
        bench.advance(Span::from_millis(1));
        // The probe is on its way: nobody else passes.
        let (probe, mut slot) = bench.request(&*breaker);
        assert!(matches!(probe, Flow::Next));
        assert_eq!(breaker_state(&bench.shared, "breaker"), "probing");
        assert_eq!(passes(&mut bench, &*breaker, 5, false), 0);
        bench.upstream(true, true);
        breaker.on_end(&bench.end(), &mut slot);
        bench.advance(Span::from_secs(9));
        assert_eq!(call(&mut bench, &*breaker, false), None, "the failed probe opened it anew");
        bench.advance(Span::from_secs(1));
        assert!(call(&mut bench, &*breaker, false).is_some());
        assert_eq!(breaker_state(&bench.shared, "breaker"), "closed");
        assert_eq!(passes(&mut bench, &*breaker, 9, true), 9, "closed, counting from the start");
        assert_eq!(passes(&mut bench, &*breaker, 1, true), 1);
        assert_eq!(call(&mut bench, &*breaker, false), None);
    }

    #[test]
    fn the_window_rolls() {
        let mut bench = Bench::new();
        let breaker = policy("min_requests = 10\nwindow = \"4s\"");
        assert_eq!(passes(&mut bench, &*breaker, 9, true), 9);
        bench.advance(Span::from_secs(3));
        assert_eq!(passes(&mut bench, &*breaker, 1, false), 1);
        bench.advance(Span::from_secs(1));
        assert_eq!(passes(&mut bench, &*breaker, 9, true), 9, "the nine of before are forgotten but for the success");
        assert!(call(&mut bench, &*breaker, false).is_none());
    }

    #[test]
    fn failures_in_a_row_open_too() {
        let mut bench = Bench::new();
        let breaker = policy("consecutive_failures = 3");
        assert_eq!(passes(&mut bench, &*breaker, 2, true), 2);
        assert_eq!(passes(&mut bench, &*breaker, 1, false), 1);
        assert_eq!(passes(&mut bench, &*breaker, 9, true), 3);
    }

    #[test]
    fn a_probe_that_never_ends_or_never_went_upstream_is_followed_by_another() {
        let mut bench = Bench::new();
        let breaker = policy("consecutive_failures = 1\nopen_for = \"5s\"");
        assert_eq!(passes(&mut bench, &*breaker, 2, true), 1);
        bench.advance(Span::from_secs(5));
        // Its worker is killed: the end never comes.
        assert!(matches!(bench.request(&*breaker).0, Flow::Next));
        bench.advance(Span::from_millis(4_999));
        assert!(matches!(bench.request(&*breaker).0, Flow::Refuse(..)));
        bench.advance(Span::from_millis(1));
        let (flow, mut slot) = bench.request(&*breaker);
        assert!(matches!(flow, Flow::Next));
        bench.upstream(false, false);
        breaker.on_end(&bench.end(), &mut slot);
        let (flow, mut slot) = bench.request(&*breaker);
        assert!(matches!(flow, Flow::Next), "a policy behind it refused the first");
        bench.upstream(true, false);
        bench.code = Some(Code::ClientClosed);
        breaker.on_end(&bench.end(), &mut slot);
        bench.code = None;
        assert!(call(&mut bench, &*breaker, false).is_some(), "the client left the second");
        assert_eq!(passes(&mut bench, &*breaker, 5, false), 5);
    }

    #[test]
    fn late_outcomes_and_uncalled_upstreams_do_not_count() {
        let mut bench = Bench::new();
        let breaker = policy("consecutive_failures = 2");
        let mut late: Vec<_> = (0..4).map(|_| bench.request(&*breaker).1).collect();
        bench.upstream(false, false);
        late.iter_mut().take(2).for_each(|slot| breaker.on_end(&bench.end(), slot));
        bench.upstream(true, true);
        breaker.on_end(&bench.end(), &mut late[2]);
        assert_eq!(passes(&mut bench, &*breaker, 1, true), 1);
        bench.advance(Span::from_secs(10));
        let (_, mut probe) = bench.request(&*breaker);
        bench.upstream(true, true);
        breaker.on_end(&bench.end(), &mut late[3]);
        bench.upstream(true, false);
        breaker.on_end(&bench.end(), &mut probe);
        assert_eq!(passes(&mut bench, &*breaker, 3, false), 3);
    }

    #[test]
    fn long_windows_of_many_requests_keep_their_ratio() {
        let mut bench = Bench::new();
        let breaker = policy("failure_ratio = 0.9\nwindow = \"1h\"\nmin_requests = 10000");
        for _ in 0..40_000 {
            assert!(call(&mut bench, &*breaker, false).is_some());
        }
        // 40,000 successes weigh as at least 8,191: not before nine times as many failures.
        let passed = passes(&mut bench, &*breaker, 200_000, true);
        assert!((8_000..100_000).contains(&passed), "{passed}");
    }

    #[test]
    fn wrong_settings_are_named_at_once() {
        let toml = "failure_ratio = 1.5\nwindow = \"1ms\"\nmin_requests = 0\nopen_for = \"0s\"";
        let problems = toml::from_str::<Config>(toml).unwrap().compile("p").err().unwrap();
        assert_eq!(problems.len(), 4);
        assert_eq!(problems[0].path, "policies.p.circuit_breaker.failure_ratio");
    }
}
