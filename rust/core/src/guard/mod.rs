//! Guardrails: rules that look at the text of a message and say pass, mask or block.
//!
//! Rules:
//! 1. A verdict depends on the bytes of the body alone, never on how they were split on the way in.
//! 2. Rules see decoded text: each JSON string, form field or plain text is a *channel* of its own, with a
//!    map back to the raw bytes. What is not masked goes out byte for byte as it came in.
//! 3. A `Scanner` only proposes regions; whether and where a rule matches is decided by its Rust regex
//!    (leftmost-first, the oracle) and its validators. So all engines agree by construction on what they
//!    propose, and tests hold them to proposing everything.
//! 4. Every pattern has a bounded width. That is what makes windows, streams and slices exact.
//! 5. What cannot be judged is an error ([`Unjudgeable`]); the route decides what that means.
//! 6. Never logs or keeps matched text: findings are spans.

mod channel;
mod form;
mod gate;
mod hyperscan;
mod json;
mod judge;
mod pack;
mod pattern;
mod ruleset;
mod validate;

#[cfg(test)]
mod tests;

pub use hyperscan::HyperscanDb;
pub use judge::{Finding, Judgement, Judging, Verdict};
pub use pack::{pack_schema, Action, Head, Pack, RuleSpec, Scope, Severity, Validate};
pub use ruleset::{Plan, Rule, Ruleset};
pub use validate::Checksum;

/// Longest body that can be judged at all (spans are 32-bit); routes usually set far less.
pub const MAX_BODY: usize = 1 << 30;
/// Deepest nesting of JSON that is followed.
pub const MAX_DEPTH: usize = 512;
/// Most rule matches taken from one body before it counts as unjudgeable.
pub const MAX_FINDINGS: usize = 1 << 16;

/// Which way the text travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Request,
    Response,
}

/// How a body is taken apart into channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// One JSON text (RFC 8259).
    Json,
    /// JSON texts one after the other (NDJSON, JSON sequences).
    JsonLines,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// One channel, as it is.
    Text,
    /// Not declared: JSON when it begins like an object or array, else text.
    Unknown,
}

impl ContentKind {
    /// From a `content-type` value (empty when there is none). `Ok(None)` when bodies of that type are not
    /// text and are not judged; an error for text in an encoding whose ASCII is not ASCII.
    pub fn of(content_type: &[u8]) -> Result<Option<ContentKind>, Unjudgeable> {
        let mut parts = content_type.split(|&b| b == b';');
        let essence = parts.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        let kind = match essence.as_slice() {
            b"" => ContentKind::Unknown,
            b"application/x-www-form-urlencoded" => ContentKind::Form,
            b"application/json" | b"text/json" => ContentKind::Json,
            b"application/x-ndjson"
            | b"application/ndjson"
            | b"application/jsonl"
            | b"application/json-lines"
            | b"application/json-seq" => ContentKind::JsonLines,
            b"application/xml"
            | b"application/javascript"
            | b"application/graphql"
            | b"application/yaml"
            | b"application/x-yaml"
            | b"application/toml"
            | b"application/sql" => ContentKind::Text,
            other if other.starts_with(b"text/") || other.ends_with(b"+xml") || other.ends_with(b"+yaml") => {
                ContentKind::Text
            }
            other if other.ends_with(b"+json") => ContentKind::Json,
            _ => return Ok(None),
        };
        for parameter in parts {
            let parameter = parameter.trim_ascii().to_ascii_lowercase();
            if let Some(charset) = parameter.strip_prefix(b"charset=") {
                let charset = charset.trim_ascii();
                let charset = charset.strip_prefix(b"\"").unwrap_or(charset);
                if [b"utf-16".as_slice(), b"utf16", b"utf-32", b"utf32", b"utf-7", b"ucs-", b"ebcdic", b"ibm"]
                    .iter()
                    .any(|bad| charset.starts_with(bad))
                {
                    return Err(Unjudgeable::Charset);
                }
            }
        }
        Ok(Some(kind))
    }
}

/// Why a body could not be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unjudgeable {
    /// Longer than [`MAX_BODY`] or the route's cap.
    TooLong,
    /// A content coding that cannot be undone: the text cannot be seen.
    Encoded,
    /// A charset that is not a superset of ASCII.
    Charset,
    /// Declared JSON that is not JSON, at this byte.
    Malformed { at: u32 },
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// More than [`MAX_FINDINGS`] matches.
    TooManyFindings,
    /// The engine failed (its error code).
    Engine(i32),
}

impl std::fmt::Display for Unjudgeable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unjudgeable::TooLong => f.write_str("the body is too long to be judged"),
            Unjudgeable::Encoded => {
                f.write_str("the body's content coding cannot be undone, so that it cannot be judged")
            }
            Unjudgeable::Charset => f.write_str("the body's charset cannot be judged"),
            Unjudgeable::Malformed { at } => write!(f, "the body is not valid JSON (byte {at})"),
            Unjudgeable::TooDeep => write!(f, "the body is nested deeper than {MAX_DEPTH} levels"),
            Unjudgeable::TooManyFindings => write!(f, "the body has more than {MAX_FINDINGS} findings"),
            Unjudgeable::Engine(code) => write!(f, "the scanning engine failed (code {code})"),
        }
    }
}

impl std::error::Error for Unjudgeable {}

/// Whether a body with this `content-encoding` (empty when there is none) shows its text.
pub fn is_identity(content_encoding: &[u8]) -> bool {
    content_encoding.split(|&b| b == b',').all(|coding| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    })
}
