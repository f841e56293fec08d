//! Audit records: what a call was, and what became of it.
//!
//! `record` defines what is written down, `codec` how it looks as bytes, `frame` how records are framed and
//! chained in the segments of a write-ahead log, `read` how a log is read back and verified, `facts` what a
//! whole call was, without a copy. Writing to disk is the caller's business.

pub mod codec;
pub mod facts;
pub mod frame;
pub mod read;
pub mod record;

pub use codec::{encode_intent, encode_outcome, extend, LLM};
pub use record::{Finding, Intent, Outcome};
