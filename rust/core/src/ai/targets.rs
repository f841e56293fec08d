//! How targets and credentials fared lately in this worker, and the order in which a call tries them.
//!
//! Rules:
//! 1. Kept under the target's own key, not the revision's numbers: it survives reloads.
//! 2. A target or credential that failed is passed over until its cooldown ends, but is still tried last: a call is
//!    not refused because of what is only remembered.
//! 3. One that is told `Retry-After` rests for that long, others for longer with each failure in a row.

use super::plan::{ModelPlan, TargetPlan};
use super::provider::{Credential, ProviderPlan};
use crate::config::ModelStrategy;
use crate::llm::request::Needs;
use crate::time::Instant;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::time::Duration;

const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Longest that a provider's own `Retry-After` keeps it out.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// Time in which a moving average forgets half.
const HALF_LIFE: f64 = 10e9;

#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    rests_until: Instant,
    failures: u32,
    /// When it last failed.
    failed: Instant,
    tokens: u64,
    /// Nanoseconds to the first token, as a moving average that follows peaks at once.
    first_token: f64,
    told: Instant,
    /// Calls begun, to take credentials in turn.
    calls: u64,
}

/// One worker's memory.
#[derive(Debug, Default)]
pub struct Targets(HashMap<u64, Memory>);

/// What the choice depends on.
pub struct Wanted<'c> {
    pub needs: Needs,
    pub prompt: u64,
    pub key: &'c str,
    pub key_name: &'c str,
    pub team: &'c str,
    /// Whether the request has this field, with this value or any (`*`).
    pub header: &'c dyn Fn(&str, &str) -> bool,
}

impl Targets {
    /// Numbers of the model's targets that may serve the call, best first.
    pub fn order(&self, model: &ModelPlan, wanted: &Wanted<'_>, now: Instant, entropy: u64) -> SmallVec<[u16; 8]> {
        let mut random = entropy | 1;
        let mut keyed: SmallVec<[(bool, u8, f64, u16); 8]> = SmallVec::new();
        for (number, target) in model.targets.iter().enumerate() {
            if !fits(target, wanted) {
                continue;
            }
            let memory = self.0.get(&target.key).copied().unwrap_or_default();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let share = ((random >> 11) as f64 / (1u64 << 53) as f64).max(1e-12);
            let weight = f64::from(target.weight);
            // Weighted sampling without replacement (Efraimidis, Spirakis 2006): the greatest u^(1/w) first.
            let drawn = if target.weight == 0 { f64::MAX } else { -share.ln() / weight };
            let rank = match model.strategy {
                ModelStrategy::Weighted => drawn,
                ModelStrategy::LeastTokens => memory.tokens as f64 / weight.max(0.001) + share,
                ModelStrategy::Fastest => faded(&memory, now) + share,
                ModelStrategy::Cheapest => {
                    let rates = target.prices.as_ref().map(|prices| prices.rates(wanted.prompt));
                    let sum = rates.and_then(|r| Some(r.input?.pico().saturating_add(r.output?.pico()) as f64));
                    sum.unwrap_or(f64::MAX) + share
                }
            };
            keyed.push((memory.rests_until > now, target.priority, rank, number as u16));
        }
        keyed.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
        keyed.into_iter().map(|(.., number)| number).collect()
    }

    /// The credential a call is made with: of those that do not rest, the one used least.
    pub fn credential<'p>(&mut self, provider: &'p ProviderPlan, now: Instant) -> Option<&'p Credential> {
        let chosen = provider.credentials.iter().min_by_key(|credential| {
            let memory = self.0.get(&credential.key).copied().unwrap_or_default();
            (memory.rests_until > now, memory.calls)
        })?;
        self.0.entry(chosen.key).or_default().calls += 1;
        Some(chosen)
    }

    /// A call with about so many tokens goes to a target.
    pub fn begun(&mut self, target: u64, tokens: u64) {
        self.0.entry(target).or_default().tokens += tokens;
    }

    /// It is over.
    pub fn ended(&mut self, target: u64, tokens: u64) {
        if let Some(memory) = self.0.get_mut(&target) {
            memory.tokens = memory.tokens.saturating_sub(tokens);
        }
    }

    /// The first token came after `wait`.
    pub fn first_token(&mut self, target: u64, wait: Duration, now: Instant) {
        let memory = self.0.entry(target).or_default();
        let (old, new) = (faded(memory, now), wait.as_nanos() as f64);
        memory.first_token = if new > old { new } else { old * 0.8 + new * 0.2 };
        memory.told = now;
    }

    /// Whether a target or credential is passed over.
    pub fn rests(&self, key: u64, now: Instant) -> bool {
        self.0.get(&key).is_some_and(|memory| memory.rests_until > now)
    }

    /// A target or credential did its work in an attempt that began at `begun`: a failure since then stands.
    pub fn did_well(&mut self, key: u64, begun: Instant) {
        if let Some(memory) = self.0.get_mut(&key).filter(|memory| memory.failed < begun) {
            memory.failures = 0;
            memory.rests_until = Instant::default();
        }
    }

    /// A target or credential failed; `asked`: it said when to come back.
    pub fn failed(&mut self, key: u64, asked: Option<Duration>, now: Instant) {
        let memory = self.0.entry(key).or_default();
        let rest = match asked {
            Some(asked) => asked.min(LONGEST_ASKED),
            None => (FIRST_REST * (1 << memory.failures.min(5))).min(LONGEST_REST),
        };
        memory.failed = now;
        memory.failures = memory.failures.saturating_add(1);
        memory.rests_until = memory.rests_until.max(now + rest);
    }
}

/// The average as it stands `now`: what was long ago counts for less.
fn faded(memory: &Memory, now: Instant) -> f64 {
    let passed = now.since(memory.told).as_nanos() as f64;
    memory.first_token * 0.5f64.powf(passed / HALF_LIFE)
}

fn fits(target: &TargetPlan, wanted: &Wanted<'_>) -> bool {
    let when = &target.when;
    target.can(&wanted.needs)
        && when.min_prompt_tokens.is_none_or(|min| wanted.prompt >= min)
        && when.max_prompt_tokens.is_none_or(|max| wanted.prompt <= max)
        && (when.key.is_empty() || when.key.iter().any(|key| key == wanted.key || key == wanted.key_name))
        && (when.team.is_empty() || when.team.iter().any(|team| team == wanted.team))
        && when.header.iter().all(|(name, value)| (wanted.header)(name, value))
}
