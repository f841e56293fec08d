//! What the gateway counts while it works: metrics in shared memory.
//!
//! Owns `Region::Metrics`: one block per worker, written by that worker alone through [`Meter`], read by the
//! control process through [`Snapshot`]. Spans, access-log lines and exemplars are not made here: they come
//! from audit records.
//!
//! Rules:
//! 1. Single writer per block, so counting is a load and a store, never a locked instruction. Two live
//!    processes must not share a slot.
//! 2. Nothing here blocks, allocates or fails. A full table counts into its overflow row.
//! 3. Counters and rows outlive the worker: its successor in the slot goes on from them. Gauges start at 0.
//! 4. Labels are bounded: methods by number, routes and endpoints by key, no value a client can choose.

mod catalogue;
mod labels;
mod layout;
mod read;
mod table;

pub use catalogue::{Counter, Gauge};
pub use labels::Labels;
pub use layout::{DURATION_BOUNDS_NS, SIZE_BOUNDS};
pub use read::{retire, Snapshot};

use crate::error::Code;
use crate::grpc::Status;
use crate::message::{Method, Scheme, Version};
use crate::shared::{stable_hash, Region, Shared};
use crate::time::Instant;
use layout::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use table::{add, Block};

/// Length of a loop-lag window; a reader sees the largest lag of the last one to two.
pub const LAG_WINDOW_NS: u64 = 10_000_000_000;

/// A route as a series is keyed by it. Make it once per revision; it survives reloads as long as the name does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLabel {
    key: u64,
    name: Box<str>,
}

impl RouteLabel {
    /// `name` is empty for requests that matched no route.
    pub fn new(name: &str) -> RouteLabel {
        RouteLabel { key: stable_hash(&[b"route", name.as_bytes()]), name: name.into() }
    }
}

/// An endpoint of a service as a series is keyed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointLabel {
    key: u64,
    service: Box<str>,
    address: Box<str>,
}

impl EndpointLabel {
    /// `address` is `host:port` or the path of a unix socket.
    pub fn new(service: &str, address: &str) -> EndpointLabel {
        let key = stable_hash(&[b"endpoint", service.as_bytes(), address.as_bytes()]);
        EndpointLabel { key, service: service.into(), address: address.into() }
    }
}

/// One answered (or broken off) request.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    pub route: &'a RouteLabel,
    pub method: &'a Method,
    pub scheme: Scheme,
    pub version: Version,
    /// Status sent; 0 when none was.
    pub status: u16,
    /// Set when the gateway made the answer or cut it.
    pub code: Option<Code>,
    /// What a gRPC call came to; `None` for other requests.
    pub grpc_status: Option<Status>,
    pub duration_ns: u64,
    /// Bytes of the bodies, without framing.
    pub request_bytes: u64,
    pub response_bytes: u64,
}

/// One upstream attempt.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    pub endpoint: &'a EndpointLabel,
    pub method: &'a Method,
    pub scheme: Scheme,
    /// Status received; 0 when none was.
    pub status: u16,
    /// Why it failed, if no (complete) answer came back.
    pub code: Option<Code>,
    /// From the attempt's begin (connecting included) to the end of the answer or the failure.
    pub duration_ns: u64,
}

/// One worker's pen.
#[derive(Clone, Debug)]
pub struct Meter {
    shared: Arc<Shared>,
    /// First word of the block in its region.
    start: usize,
}

impl Meter {
    /// Takes over the worker's block: counters and rows go on, gauges start at zero. A block written by
    /// another version of the program is cleared.
    ///
    /// A file whose blocks are too small (made by tests of other modules) takes no counts.
    pub fn new(shared: Arc<Shared>, worker: usize) -> Meter {
        let share = shared.worker_region(Region::Metrics, worker).len();
        let start = if share < WORDS { usize::MAX } else { share * worker.min(shared.layout().workers - 1) };
        let meter = Meter { shared, start };
        if let Some(block) = meter.block() {
            if block[FINGERPRINT].load(Relaxed) != fingerprint() {
                for word in block.iter().filter(|w| w.load(Relaxed) != 0) {
                    word.store(0, Relaxed);
                }
                block[FINGERPRINT].store(fingerprint(), std::sync::atomic::Ordering::Release);
            }
            read::zero_gauges(block);
        }
        meter
    }

    #[inline]
    fn block(&self) -> Option<&Block> {
        self.shared.region(Region::Metrics).get(self.start..)?.first_chunk()
    }

    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        if let Some(block) = self.block() {
            add(&block[COUNTERS + counter as usize], n);
        }
    }

    #[inline]
    pub fn set(&self, gauge: Gauge, value: u64) {
        if let Some(block) = self.block() {
            block[GAUGES + gauge as usize].store(value, Relaxed);
        }
    }

    /// A request's head is complete: it is active until [`Meter::end`].
    #[inline]
    pub fn begin(&self, method: &Method, scheme: Scheme) {
        if let Some(block) = self.block() {
            add(&block[active(method, scheme)], 1);
        }
    }

    /// The counterpart of [`Meter::begin`], with the same arguments.
    #[inline]
    pub fn end(&self, method: &Method, scheme: Scheme) {
        if let Some(block) = self.block() {
            let word = &block[active(method, scheme)];
            word.store(word.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// Counts one request into `http.server.request.*`.
    pub fn request(&self, served: &Served<'_>) {
        let Some(block) = self.block() else { return };
        let labels = labels::pack(served.method, served.status, served.code, served.scheme, served.version)
            | labels::pack_grpc(served.grpc_status);
        let row: &[AtomicU64; REQUESTS.row_words] =
            REQUESTS.row(block, labels, served.route.key, || [&served.route.name, ""]);
        add(&row[ROW_DURATION], served.duration_ns);
        add(&row[ROW_BUCKETS + duration_bucket(served.duration_ns)], 1);
        add(&row[ROW_REQUEST_BYTES], served.request_bytes);
        add(&row[ROW_REQUEST_SIZES + size_bucket(served.request_bytes)], 1);
        add(&row[ROW_RESPONSE_BYTES], served.response_bytes);
        add(&row[ROW_RESPONSE_SIZES + size_bucket(served.response_bytes)], 1);
    }

    /// Counts one upstream attempt into `http.client.request.duration`.
    pub fn upstream(&self, called: &Called<'_>) {
        let Some(block) = self.block() else { return };
        let labels = labels::pack(called.method, called.status, called.code, called.scheme, Version::Http11);
        let name = || [&*called.endpoint.service, &*called.endpoint.address];
        let row: &[AtomicU64; UPSTREAMS.row_words] = UPSTREAMS.row(block, labels, called.endpoint.key, name);
        add(&row[ROW_DURATION], called.duration_ns);
        add(&row[ROW_BUCKETS + duration_bucket(called.duration_ns)], 1);
    }

    /// The loop's tick came `lag_ns` late.
    pub fn loop_lag(&self, now: Instant, lag_ns: u64) {
        let Some([window, largest, before]) = self.block().map(|b| [&b[LAG], &b[LAG + 1], &b[LAG + 2]]) else { return };
        let number = now.0 / LAG_WINDOW_NS;
        let last = window.load(Relaxed);
        if number != last {
            before.store(if number == last + 1 { largest.load(Relaxed) } else { 0 }, Relaxed);
            largest.store(lag_ns, Relaxed);
            window.store(number, Relaxed);
        } else if lag_ns > largest.load(Relaxed) {
            largest.store(lag_ns, Relaxed);
        }
    }
}

/// Span id of the upstream attempt, made from the exchange's own: what goes upstream in `traceparent`, so that
/// the control process can make the same client span from the record. Never zero.
pub fn attempt_span(exchange_span: [u8; 8]) -> [u8; 8] {
    let mixed = u64::from_be_bytes(exchange_span).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).max(1).to_be_bytes()
}

fn active(method: &Method, scheme: Scheme) -> usize {
    ACTIVE + labels::method_number(method) as usize + labels::METHODS.len() * usize::from(scheme == Scheme::Https)
}

fn duration_bucket(ns: u64) -> usize {
    DURATION_BOUNDS_NS.iter().position(|&bound| ns <= bound).unwrap_or(DURATION_BOUNDS_NS.len())
}

/// `SIZE_BOUNDS` are powers of four, so the bucket is half the number of bits of `bytes - 1` above the first.
fn size_bucket(bytes: u64) -> usize {
    let bits = u64::BITS - (bytes.max(1) - 1).leading_zeros();
    (bits.saturating_sub(7) as usize / 2).min(SIZE_BOUNDS.len())
}

#[cfg(test)]
mod tests;
