//! Audit records: what a call was, and what became of it.
//!
//! `record` defines what is written down; the codec, the frames of the write-ahead log and the hash chain
//! live beside it. Writing to disk is the caller's business.

pub mod record;

pub use record::{Finding, Intent, Outcome};
