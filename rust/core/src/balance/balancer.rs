//! Chooses endpoints: one worker's counts and turns, joined with what shared memory knows.
//!
//! Rules:
//! 1. State is kept under the keys of services and endpoints, so a reload keeps turns, counts of requests
//!    in flight and retries; [`Balancer::retain`] drops what no revision names any more.
//! 2. Every [`Balancer::started`] is followed by exactly one [`Balancer::finished`] with the same plan and
//!    index, every granted retry by one [`Balancer::retry_end`].
//! 3. An endpoint that is known to be down is never chosen. Ejected ones are chosen when nothing else is
//!    left (panic mode: guessing from failed requests must not take a whole service out), endpoints already
//!    tried for this request before those.

use super::state::{self, Entry, Slot, Word, DOWN};
use super::ServicePlan;
use crate::config::{Outlier, Strategy};
use crate::error::Code;
use crate::shared::Shared;
use crate::time::Instant;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

/// Maps whose keys are hashes already.
pub(super) type KeyMap<V> = HashMap<u64, V, BuildHasherDefault<KeyHasher>>;

#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Worker-local balancing state of all services.
#[derive(Default)]
pub struct Balancer {
    services: Vec<Service>,
    by_key: KeyMap<u32>,
    /// Key and place of the service asked for last: one request asks three times.
    last: (u64, u32),
    endpoints: Vec<Endpoint>,
    by_endpoint: KeyMap<u32>,
}

struct Service {
    /// [`ServicePlan::shape`] the members were looked up for; 0: look up again.
    shape: u64,
    /// Per endpoint of the plan, its place in `endpoints`.
    members: Vec<u32>,
    /// Next turn of an even round robin.
    cursor: usize,
    in_flight: u32,
    retries: u32,
}

struct Endpoint {
    key: u64,
    /// Place in shared memory; `None`: not needed, or no room.
    slot: Option<Slot>,
    in_flight: u32,
    /// Smooth weighted round robin's current weight.
    turn: i64,
}

/// How much an endpoint is wanted; lower is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u8);
const WANTED: Rank = Rank(0);
const NEVER: Rank = Rank(4);
const TRIED: u8 = 1;
const EJECTED: u8 = 2;

impl Balancer {
    pub fn new() -> Balancer {
        Balancer::default()
    }

    /// Chooses an endpoint of `plan` and returns its index. `entropy` is any random word; `tried` lists the
    /// indices already used for this request. `NoEndpoint` when all are down.
    pub fn pick(
        &mut self,
        plan: &ServicePlan,
        shared: &Shared,
        now: Instant,
        entropy: u64,
        tried: &[u32],
    ) -> Result<u32, Code> {
        let place = self.place(plan, Some((shared, now)), entropy);
        let service = &mut self.services[place];
        let endpoints = &mut self.endpoints;
        let mut lost = false;
        let mut rank = |endpoints: &[Endpoint], members: &[u32], index: usize| {
            rank(plan, &endpoints[members[index] as usize], index, shared, now, tried, &mut lost)
        };
        let count = plan.endpoints.len();
        let chosen = match plan.strategy {
            Strategy::RoundRobin if plan.even => {
                let mut best = (NEVER, 0);
                let mut index = if service.cursor < count { service.cursor } else { 0 };
                for _ in 0..count {
                    let r = rank(endpoints, &service.members, index);
                    if r < best.0 {
                        best = (r, index);
                        if r == WANTED {
                            break;
                        }
                    }
                    index += 1;
                    if index == count {
                        index = 0;
                    }
                }
                service.cursor = best.1 + 1;
                (best.0 < NEVER).then_some(best.1)
            }
            Strategy::RoundRobin => {
                let members = &service.members;
                let best = (0..count).map(|i| rank(endpoints, members, i)).min().unwrap_or(NEVER);
                let mut total = 0;
                let mut first: Option<(usize, i64)> = None;
                for index in (0..if best == NEVER { 0 } else { count }).filter(|&i| plan.endpoints[i].weight > 0) {
                    if rank(endpoints, members, index) == best {
                        let weight = i64::from(plan.endpoints[index].weight);
                        let endpoint = &mut endpoints[members[index] as usize];
                        endpoint.turn += weight;
                        total += weight;
                        if first.is_none_or(|(_, turn)| endpoint.turn > turn) {
                            first = Some((index, endpoint.turn));
                        }
                    }
                }
                first.map(|(index, _)| {
                    endpoints[members[index] as usize].turn -= total;
                    index
                })
            }
            Strategy::LeastInFlight => {
                let members = &service.members;
                let load = |i: usize| u64::from(endpoints[members[i] as usize].in_flight);
                let weight = |i: usize| u64::from(plan.endpoints[i].weight);
                // a is less loaded than b: in_flight(a) / weight(a) < in_flight(b) / weight(b)
                let lighter = |a: usize, b: usize| load(a) * weight(b) < load(b) * weight(a);
                let (a, b) = two_by_weight(plan, entropy);
                if rank(endpoints, members, a) == WANTED && rank(endpoints, members, b) == WANTED {
                    Some(if lighter(b, a) { b } else { a })
                } else {
                    let ranked = (0..count).map(|i| (rank(endpoints, members, i), i)).filter(|(r, _)| *r < NEVER);
                    ranked
                        .reduce(|x, y| if y.0 < x.0 || (y.0 == x.0 && lighter(y.1, x.1)) { y } else { x })
                        .map(|(_, i)| i)
                }
            }
        };
        if lost {
            service.shape = 0;
        }
        chosen.map(|index| index as u32).ok_or(Code::NoEndpoint)
    }

    /// A request goes to endpoint `index` of `plan`.
    pub fn started(&mut self, plan: &ServicePlan, index: u32) {
        let place = self.place(plan, None, 0);
        let service = &mut self.services[place];
        service.in_flight += 1;
        if let Some(&member) = service.members.get(index as usize) {
            self.endpoints[member as usize].in_flight += 1;
        }
    }

    /// The request is over. `failed`: refused, reset, timed out, malformed or 5xx. Returns true when that
    /// ejected the endpoint.
    pub fn finished(&mut self, plan: &ServicePlan, index: u32, shared: &Shared, now: Instant, failed: bool) -> bool {
        let place = self.place(plan, None, 0);
        let service = &mut self.services[place];
        service.in_flight = service.in_flight.saturating_sub(1);
        let Some(&member) = service.members.get(index as usize) else { return false };
        let endpoint = &mut self.endpoints[member as usize];
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        let Some(outlier) = &plan.outlier else { return false };
        let Some(entry) = endpoint.slot.and_then(|slot| state::at(shared, slot, endpoint.key)) else { return false };
        if !failed {
            if entry.get(Word::Third) != 0 {
                entry.set(Word::Third, 0);
            }
            return false;
        }
        let run = entry.update(Word::Third, |run| Some(run + 1)).map_or(0, |(_, run)| run);
        run >= u64::from(outlier.consecutive_failures) && eject(plan, outlier, entry, shared, now)
    }

    /// Requests this worker has at an endpoint.
    pub fn in_flight(&self, endpoint_key: u64) -> u32 {
        self.by_endpoint.get(&endpoint_key).map_or(0, |&i| self.endpoints[i as usize].in_flight)
    }

    /// Asks for a retry within the budget: `percent` of the service's requests in flight, at least three.
    pub fn retry_allowed(&mut self, plan: &ServicePlan, percent: u8) -> bool {
        let place = self.place(plan, None, 0);
        let service = &mut self.services[place];
        let budget = (u64::from(service.in_flight) * u64::from(percent) / 100).max(3);
        let allowed = u64::from(service.retries) < budget;
        service.retries += u32::from(allowed);
        allowed
    }

    /// A retry granted by [`Balancer::retry_allowed`] is over.
    pub fn retry_end(&mut self, plan: &ServicePlan) {
        let place = self.place(plan, None, 0);
        self.services[place].retries = self.services[place].retries.saturating_sub(1);
    }

    /// Forgets services and endpoints that no plan in `live` names and nobody uses any more.
    pub fn retain<'a>(&mut self, live: impl IntoIterator<Item = &'a ServicePlan>) {
        let mut services = HashSet::new();
        let mut endpoints = HashSet::new();
        for plan in live {
            services.insert(plan.key);
            endpoints.extend(plan.endpoints.iter().map(|e| e.key));
        }
        let mut kept = Vec::new();
        let mut by_key = KeyMap::default();
        let mut old: Vec<Option<Service>> = self.services.drain(..).map(Some).collect();
        for (&key, &place) in &self.by_key {
            let Some(mut service) = old.get_mut(place as usize).and_then(Option::take) else { continue };
            if services.contains(&key) || service.in_flight + service.retries > 0 {
                service.shape = 0;
                by_key.insert(key, kept.len() as u32);
                kept.push(service);
            }
        }
        (self.services, self.by_key, self.last) = (kept, by_key, (0, 0));
        self.endpoints.retain(|e| e.in_flight > 0 || endpoints.contains(&e.key));
        self.by_endpoint = self.endpoints.iter().enumerate().map(|(i, e)| (e.key, i as u32)).collect();
    }

    /// The service's place, its members in step with `plan`.
    #[inline]
    fn place(&mut self, plan: &ServicePlan, claim: Option<(&Shared, Instant)>, entropy: u64) -> usize {
        let (key, mut place) = self.last;
        if key != plan.key {
            let Some(&found) = self.by_key.get(&plan.key) else { return self.sync(plan, claim, entropy) };
            place = found;
            self.last = (plan.key, place);
        }
        match self.services.get(place as usize) {
            Some(service) if service.shape == plan.shape => place as usize,
            _ => self.sync(plan, claim, entropy),
        }
    }

    #[cold]
    fn sync(&mut self, plan: &ServicePlan, claim: Option<(&Shared, Instant)>, entropy: u64) -> usize {
        let place = *self.by_key.entry(plan.key).or_insert_with(|| {
            // Workers begin at different endpoints.
            let cursor = entropy as usize % plan.endpoints.len();
            self.services.push(Service { shape: 0, members: Vec::new(), cursor, in_flight: 0, retries: 0 });
            (self.services.len() - 1) as u32
        }) as usize;
        let members = plan.endpoints.iter().map(|e| {
            let member = *self.by_endpoint.entry(e.key).or_insert_with(|| {
                self.endpoints.push(Endpoint { key: e.key, slot: None, in_flight: 0, turn: 0 });
                (self.endpoints.len() - 1) as u32
            });
            if let (Some((shared, now)), true) = (claim, watched(plan)) {
                self.endpoints[member as usize].slot = state::claim(shared, e.key, now).map(|entry| entry.slot());
            }
            member
        });
        self.services[place].members = members.collect();
        // Without the shared table at hand the places in it stay unknown: the next pick looks again.
        self.services[place].shape = if claim.is_some() || !watched(plan) { plan.shape } else { 0 };
        place
    }
}

fn watched(plan: &ServicePlan) -> bool {
    plan.health.is_some() || plan.outlier.is_some()
}

#[inline]
fn rank(
    plan: &ServicePlan,
    endpoint: &Endpoint,
    index: usize,
    shared: &Shared,
    now: Instant,
    tried: &[u32],
    lost: &mut bool,
) -> Rank {
    if plan.endpoints[index].weight == 0 {
        return NEVER;
    }
    let mut rank = if tried.contains(&(index as u32)) { TRIED } else { 0 };
    if watched(plan) {
        if let Some(slot) = endpoint.slot {
            match state::at(shared, slot, endpoint.key) {
                Some(entry) if plan.health.is_some() && entry.get(Word::Main) == DOWN => return NEVER,
                Some(entry) if plan.outlier.is_some() && is_ejected(entry, now) => rank += EJECTED,
                Some(_) => {}
                None => *lost = true,
            }
        }
    }
    Rank(rank)
}

/// Two different endpoints drawn by weight (the same one twice when only one has a weight).
fn two_by_weight(plan: &ServicePlan, entropy: u64) -> (usize, usize) {
    let sums = &plan.weight_sums;
    let total = sums.last().copied().unwrap_or(0);
    let scale = |random: u64, below: u64| ((u128::from(random as u32) * u128::from(below)) >> 32) as u64;
    let holder = |x: u64| sums.partition_point(|&sum| sum <= x);
    let a = holder(scale(entropy, total));
    let weight = u64::from(plan.endpoints[a].weight);
    if weight == total {
        return (a, a);
    }
    let x = scale(entropy >> 32, total - weight);
    let b = holder(if x >= sums[a] - weight { x + weight } else { x });
    (a, b)
}

/// Ejections are kept as `end in units of 10 ms << 6 | number of ejections`.
const EJECTION_UNIT: u64 = 10_000_000;

#[inline]
fn is_ejected(entry: Entry<'_>, now: Instant) -> bool {
    (entry.get(Word::Second) >> 6) * EJECTION_UNIT > now.0
}

/// When the endpoint's ejection ends, if it is ejected at `now`.
pub fn ejected_until(entry: Entry<'_>, now: Instant) -> Option<Instant> {
    is_ejected(entry, now).then(|| Instant((entry.get(Word::Second) >> 6) * EJECTION_UNIT))
}

#[cold]
fn eject(plan: &ServicePlan, outlier: &Outlier, entry: Entry<'_>, shared: &Shared, now: Instant) -> bool {
    let in_use = plan.endpoints.iter().filter(|e| e.weight > 0);
    let out = in_use.clone().filter(|e| state::find(shared, e.key).is_some_and(|entry| is_ejected(entry, now)));
    let percent = usize::from(outlier.max_ejected_percent);
    // A share that rounds to nothing still lets one go, else small services could never eject.
    let most = (in_use.clone().count() * percent / 100).max(usize::from(percent > 0));
    if out.count() >= most {
        return false;
    }
    let ejected = entry.update(Word::Second, |word| {
        let ended = (word >> 6) * EJECTION_UNIT;
        if ended > now.0 {
            return None;
        }
        let calm = now.since(Instant(ended)) > outlier.max_ejection.0;
        let times = if word == 0 || calm { 1 } else { (word & 0x3f) + 1 }.min(0x3f);
        let length: Duration = outlier.base_ejection.0.saturating_mul(times as u32).min(outlier.max_ejection.0);
        Some(((now + length).0.div_ceil(EJECTION_UNIT) << 6) | times)
    });
    entry.set(Word::Third, 0);
    entry.touch(now);
    ejected.is_some()
}

#[cfg(test)]
#[path = "balancer_tests.rs"]
mod tests;
