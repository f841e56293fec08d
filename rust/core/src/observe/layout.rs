//! Where everything lies in one worker's block of `Region::Metrics`, in words.
//!
//! ```text
//! 0         fingerprint of this layout
//! 1..4      rows in use: requests, upstreams, names
//! 4..7      loop lag: window number, its largest lag, the window's before
//! 8..       counters │ gauges │ active requests by method and scheme
//! 512..     request index │ upstream index │ request rows │ upstream rows │ name rows
//! ```
//!
//! An index slot holds a row number + 1; rows are handed out densely, so that a reader touches no page that
//! a writer has not.

use super::catalogue::{Counter, Gauge};
use super::labels::METHODS;
use crate::error::Code;
use crate::shared::stable_hash;

pub(super) const FINGERPRINT: usize = 0;
pub(super) const REQUESTS_USED: usize = 1;
pub(super) const UPSTREAMS_USED: usize = 2;
pub(super) const NAMES_USED: usize = 3;
pub(super) const LAG: usize = 4;
pub(super) const COUNTERS: usize = 8;
pub(super) const GAUGES: usize = COUNTERS + Counter::ALL.len();
/// `2 × METHODS.len()` words: http, then https.
pub(super) const ACTIVE: usize = GAUGES + Gauge::ALL.len();
const FIXED_END: usize = 512;
const _: () = assert!(ACTIVE + 2 * METHODS.len() <= FIXED_END);

/// Boundaries of `http.server.request.duration` and `http.client.request.duration` by the HTTP semantic
/// conventions, in nanoseconds, upper bounds inclusive.
pub const DURATION_BOUNDS_NS: [u64; 14] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];
/// Boundaries of the body size histograms in bytes: powers of four from 256 B to 64 MiB, inclusive.
pub const SIZE_BOUNDS: [u64; 10] =
    [1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26];

pub(super) const DURATION_BUCKETS: usize = DURATION_BOUNDS_NS.len() + 1;
pub(super) const SIZE_BUCKETS: usize = SIZE_BOUNDS.len() + 1;

/// Words of a row: labels and key, then what is counted.
pub(super) const ROW_LABELS: usize = 0;
pub(super) const ROW_KEY: usize = 1;
pub(super) const ROW_DURATION: usize = 2;
pub(super) const ROW_BUCKETS: usize = 3;
pub(super) const ROW_REQUEST_BYTES: usize = ROW_BUCKETS + DURATION_BUCKETS;
pub(super) const ROW_REQUEST_SIZES: usize = ROW_REQUEST_BYTES + 1;
pub(super) const ROW_RESPONSE_BYTES: usize = ROW_REQUEST_SIZES + SIZE_BUCKETS;
pub(super) const ROW_RESPONSE_SIZES: usize = ROW_RESPONSE_BYTES + 1;

/// A name: key, length, text.
pub(super) const NAME_WORDS: usize = 32;
pub(super) const NAME_BYTES: usize = (NAME_WORDS - 2) * 8;

/// A table of rows with its index.
#[derive(Clone, Copy)]
pub(super) struct TableLayout {
    pub used: usize,
    pub index: usize,
    /// A power of two, more than twice `rows`.
    pub index_len: usize,
    pub rows: usize,
    pub rows_len: usize,
    pub row_words: usize,
}

pub(super) const REQUESTS: TableLayout = TableLayout {
    used: REQUESTS_USED,
    index: FIXED_END,
    index_len: 1 << 15,
    rows: FIXED_END + (1 << 15) + (1 << 12),
    rows_len: 12 << 10,
    row_words: 48,
};
pub(super) const UPSTREAMS: TableLayout = TableLayout {
    used: UPSTREAMS_USED,
    index: REQUESTS.index + REQUESTS.index_len,
    index_len: 1 << 12,
    rows: REQUESTS.rows + REQUESTS.rows_len * REQUESTS.row_words,
    rows_len: 2 << 10,
    row_words: 24,
};
pub(super) const NAMES: usize = UPSTREAMS.rows + UPSTREAMS.rows_len * UPSTREAMS.row_words;
pub(super) const NAMES_LEN: usize = 8 << 10;
/// Words a worker's block must have.
pub(super) const WORDS: usize = NAMES + NAMES_LEN * NAME_WORDS;

const _: () = assert!(ROW_RESPONSE_SIZES + SIZE_BUCKETS <= REQUESTS.row_words);
const _: () = assert!(ROW_BUCKETS + DURATION_BUCKETS <= UPSTREAMS.row_words);
const _: () = assert!(WORDS <= 1 << 20);

/// Changes whenever words or numbers would mean something else; never 0.
pub(super) fn fingerprint() -> u64 {
    let sizes = [REQUESTS.row_words, REQUESTS.rows, UPSTREAMS.row_words, UPSTREAMS.rows, NAMES, WORDS];
    let names = Counter::ALL.iter().flat_map(|c| [c.name(), c.attribute().map_or("", |a| a.1)]);
    let names = names.chain(Gauge::ALL.iter().flat_map(|g| [g.name(), g.attribute().map_or("", |a| a.1)]));
    let all: Vec<String> = sizes
        .map(|n| n.to_string())
        .into_iter()
        .chain(names.chain(Code::ALL.iter().map(|c| c.name())).map(String::from))
        .collect();
    stable_hash(&all.iter().map(|s| s.as_bytes()).collect::<Vec<_>>())
}
