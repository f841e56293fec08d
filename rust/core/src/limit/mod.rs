//! Limits that hold for all workers together: rates ([`gcra`]) and requests in flight ([`concurrency`]).
//!
//! Rules:
//! 1. What decides is one 64-bit word per key, changed by compare-and-swap: no lock, nothing half written,
//!    so a worker may be killed between any two instructions.
//! 2. A word carries part of its key's hash (20 or 40 bits, besides those its place stands for). Keys that
//!    agree in all of them share a limit; [`KeyHash`] is seeded, so that nobody can aim for that.
//! 3. State belongs to the policy's name and the counted value, never to a revision.

pub mod budget;
pub mod concurrency;
pub mod gcra;
mod key;

pub use concurrency::{Hold, Refusal};
pub use gcra::{Decision, Quota};
pub use key::{seed, KeyHash};

#[cfg(test)]
mod process_tests;
