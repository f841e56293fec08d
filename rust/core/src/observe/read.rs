//! Reading the blocks of all workers: one consistent enough picture for exporters.
//!
//! Every number is read once and atomically; numbers that belong together (a histogram's sum and its buckets)
//! may be one observation apart. Rows of equal labels, from whichever worker, are added up.

use super::catalogue::{Counter, Gauge};
use super::labels::{unpack, Labels, METHODS};
use super::layout::*;
use super::table::read_name;
use super::LAG_WINDOW_NS;
use crate::shared::{Region, Shared};
use crate::time::Instant;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed};

/// All metrics at one moment, as the exporters take them (JSON).
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    pub duration_bounds_ns: &'static [u64],
    pub size_bounds: &'static [u64],
    pub requests: Vec<RequestSeries>,
    pub upstreams: Vec<UpstreamSeries>,
    pub counters: Vec<Number>,
    pub gauges: Vec<Number>,
    pub active: Vec<Active>,
    pub workers: Vec<Worker>,
}

/// Requests of one route, method, status, error, scheme and version.
#[derive(Clone, Debug, Serialize)]
pub struct RequestSeries {
    pub route: String,
    #[serde(flatten)]
    pub labels: Labels,
    pub duration: Histogram,
    pub request_size: Histogram,
    pub response_size: Histogram,
}

/// Attempts at one endpoint, by method, status and error.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamSeries {
    pub service: String,
    pub endpoint: String,
    #[serde(flatten)]
    pub labels: Labels,
    pub duration: Histogram,
}

/// One more bucket than bounds; the last is everything above. Unit: that of the bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Histogram {
    pub sum: u64,
    pub buckets: Vec<u64>,
}

/// A number of the catalogue, over all workers.
#[derive(Clone, Debug, Serialize)]
pub struct Number {
    pub name: &'static str,
    pub attribute: Option<(&'static str, &'static str)>,
    pub unit: &'static str,
    pub description: &'static str,
    pub value: u64,
}

/// Requests being served now.
#[derive(Clone, Debug, Serialize)]
pub struct Active {
    pub method: &'static str,
    pub scheme: &'static str,
    pub value: u64,
}

/// What only makes sense per worker.
#[derive(Clone, Debug, Serialize)]
pub struct Worker {
    pub slot: usize,
    /// Largest lateness of the event loop's tick in the last 10 to 20 seconds.
    pub loop_lag_max_ns: u64,
    pub connections_open: u64,
}

impl Snapshot {
    /// Reads every worker's block. `now` decides which loop lags are still news.
    pub fn take(shared: &Shared, now: Instant) -> Snapshot {
        let mut requests = BTreeMap::<(u64, u64), [Histogram; 3]>::new();
        let mut upstreams = BTreeMap::<(u64, u64), Histogram>::new();
        let mut names = BTreeMap::<u64, [String; 2]>::new();
        let mut counters = vec![0u64; Counter::ALL.len()];
        let mut gauges = vec![0u64; Gauge::ALL.len()];
        let mut active = [0u64; 2 * METHODS.len()];
        let mut workers = Vec::new();
        for (slot, block) in blocks(shared) {
            for row in rows(&REQUESTS, block) {
                let series = requests.entry((row[ROW_KEY].load(Relaxed), row[ROW_LABELS].load(Relaxed))).or_default();
                series[0].absorb(row, ROW_DURATION, ROW_BUCKETS, DURATION_BUCKETS);
                series[1].absorb(row, ROW_REQUEST_BYTES, ROW_REQUEST_SIZES, SIZE_BUCKETS);
                series[2].absorb(row, ROW_RESPONSE_BYTES, ROW_RESPONSE_SIZES, SIZE_BUCKETS);
            }
            for row in rows(&UPSTREAMS, block) {
                let series = upstreams.entry((row[ROW_KEY].load(Relaxed), row[ROW_LABELS].load(Relaxed))).or_default();
                series.absorb(row, ROW_DURATION, ROW_BUCKETS, DURATION_BUCKETS);
            }
            let used = (block[NAMES_USED].load(Acquire) as usize).min(NAMES_LEN);
            for row in block[NAMES..].chunks_exact(NAME_WORDS).take(used) {
                let (key, name) = read_name(row);
                names.entry(key).or_insert(name);
            }
            sum_into(&mut counters, &block[COUNTERS..]);
            sum_into(&mut gauges, &block[GAUGES..]);
            sum_into(&mut active, &block[ACTIVE..]);
            workers.push(Worker {
                slot,
                loop_lag_max_ns: loop_lag(block, now),
                connections_open: block[GAUGES + Gauge::ConnectionsOpen as usize].load(Relaxed),
            });
        }
        let name = |key: u64| names.get(&key).cloned().unwrap_or_else(|| [format!("#{key:016x}"), String::new()]);
        Snapshot {
            duration_bounds_ns: &DURATION_BOUNDS_NS,
            size_bounds: &SIZE_BOUNDS,
            requests: requests
                .into_iter()
                .filter(|(_, h)| !h[0].is_empty())
                .map(|((key, labels), [duration, request_size, response_size])| {
                    let labels = unpack(labels);
                    let route = if labels.overflow { String::new() } else { name(key)[0].clone() };
                    RequestSeries { route, labels, duration, request_size, response_size }
                })
                .collect(),
            upstreams: upstreams
                .into_iter()
                .filter(|(_, h)| !h.is_empty())
                .map(|((key, labels), duration)| {
                    let labels = unpack(labels);
                    let [service, endpoint] = if labels.overflow { Default::default() } else { name(key) };
                    UpstreamSeries { service, endpoint, labels, duration }
                })
                .collect(),
            counters: Counter::ALL
                .iter()
                .zip(counters)
                .map(|(c, value)| Number {
                    name: c.name(),
                    attribute: c.attribute(),
                    unit: c.unit(),
                    description: c.description(),
                    value,
                })
                .collect(),
            gauges: Gauge::ALL
                .iter()
                .zip(gauges)
                .map(|(g, value)| Number {
                    name: g.name(),
                    attribute: g.attribute(),
                    unit: g.unit(),
                    description: g.description(),
                    value,
                })
                .collect(),
            active: (0..2 * METHODS.len())
                .filter(|&i| active[i] > 0)
                .map(|i| Active {
                    method: METHODS[i % METHODS.len()],
                    scheme: if i < METHODS.len() { "http" } else { "https" },
                    value: active[i],
                })
                .collect(),
            workers,
        }
    }
}

/// Zeroes what a worker had open, once it is gone and nobody follows it in its slot.
pub fn retire(shared: &Shared, worker: usize) {
    for (_, block) in blocks(shared).filter(|(slot, _)| *slot == worker) {
        zero_gauges(block);
    }
}

pub(super) fn zero_gauges(block: &[AtomicU64]) {
    let lag = block.get(LAG..LAG + 3).into_iter().flatten();
    let gauges = block.get(GAUGES..ACTIVE + 2 * METHODS.len()).into_iter().flatten();
    for word in lag.chain(gauges) {
        word.store(0, Relaxed);
    }
}

/// The blocks that a worker of this version has written.
fn blocks(shared: &Shared) -> impl Iterator<Item = (usize, &[AtomicU64])> {
    (0..shared.layout().workers)
        .map(|worker| (worker, shared.worker_region(Region::Metrics, worker)))
        .filter(|(_, block)| block.len() >= WORDS && block[FINGERPRINT].load(Acquire) == fingerprint())
}

fn rows<'b>(table: &TableLayout, block: &'b [AtomicU64]) -> impl Iterator<Item = &'b [AtomicU64]> {
    let used = (block[table.used].load(Acquire) as usize).min(table.rows_len);
    block[table.rows..table.rows + used * table.row_words].chunks_exact(table.row_words)
}

fn sum_into(totals: &mut [u64], words: &[AtomicU64]) {
    for (total, word) in totals.iter_mut().zip(words) {
        *total = total.wrapping_add(word.load(Relaxed));
    }
}

fn loop_lag(block: &[AtomicU64], now: Instant) -> u64 {
    let age = (now.0 / LAG_WINDOW_NS).saturating_sub(block[LAG].load(Relaxed));
    match age {
        0 => block[LAG + 1].load(Relaxed).max(block[LAG + 2].load(Relaxed)),
        1 => block[LAG + 1].load(Relaxed),
        _ => 0,
    }
}

impl Histogram {
    fn absorb(&mut self, row: &[AtomicU64], sum: usize, buckets: usize, len: usize) {
        self.sum = self.sum.wrapping_add(row[sum].load(Relaxed));
        self.buckets.resize(len, 0);
        sum_into(&mut self.buckets, &row[buckets..buckets + len]);
    }

    fn is_empty(&self) -> bool {
        self.buckets.iter().all(|&n| n == 0)
    }
}
