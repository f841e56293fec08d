//! The decision to encode an answer, and what it changes in the head.

use super::{Coding, EncodeError, Encoder};
use crate::message::{BodyLength, Fields, Known, ResponseHead};

/// How an answer's body is to be encoded, as `policy::compress` decided it.
///
/// Whoever sends the answer calls [`Choice::apply`] once all policies have seen the head, passes the body
/// through [`Choice::encoder`] (for an answer to HEAD: nowhere), and flushes after every piece if `flush`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub coding: Coding,
    /// In the coding's own scale.
    pub level: u8,
    /// Hand out every piece at once: an event stream.
    pub flush: bool,
}

impl Choice {
    /// Makes the head that of the encoded answer: `content-encoding`, a weak `etag`, no length, no ranges, no
    /// digests of what the body was before. `head.length` becomes [`BodyLength::Streamed`] if there was a body.
    pub fn apply(&self, head: &mut ResponseHead) {
        let fields = &mut head.fields;
        fields.set_known(Known::ContentEncoding, self.coding.name().as_bytes());
        fields.remove_known(Known::ContentLength);
        // Ranges count bytes of the encoded form, which nobody has kept (RFC 9110 §14).
        fields.remove(b"accept-ranges");
        // RFC 9530 §§2–3, RFC 3230, RFC 1864.
        for name in ["content-digest", "repr-digest", "digest", "content-md5"] {
            fields.remove(name.as_bytes());
        }
        weaken(fields);
        if head.length != BodyLength::None {
            head.length = BodyLength::Streamed;
        }
    }

    pub fn encoder(&self) -> Result<Encoder, EncodeError> {
        Encoder::new(self.coding, self.level)
    }

    /// Encodes a body that is there as a whole.
    pub fn whole(&self, body: &[u8]) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::with_capacity(body.len() / 3);
        let mut encoder = self.encoder()?;
        encoder.write(body, &mut out)?;
        encoder.finish(&mut out)?;
        Ok(out)
    }
}

/// Makes a strong validator weak: the bytes are others, the meaning is not (RFC 9110 §8.8.1, §8.8.3.3).
pub fn weaken(fields: &mut Fields) {
    let Some(tag) = fields.get_known(Known::Etag) else { return };
    if tag.starts_with(b"W/") {
        return;
    }
    let weak = [b"W/", tag].concat();
    fields.set_known(Known::Etag, &weak);
}

/// Adds `accept-encoding` to the answer's `vary`, in one line with what is there.
pub fn vary(fields: &mut Fields) {
    let mut merged = Vec::new();
    for line in fields.all(b"vary") {
        let mut elements = line.split(|&b| b == b',').map(|element| element.trim_ascii());
        if elements.any(|element| element == b"*" || element.eq_ignore_ascii_case(b"accept-encoding")) {
            return;
        }
        if !line.trim_ascii().is_empty() {
            merged.extend_from_slice(line);
            merged.extend_from_slice(b", ");
        }
    }
    merged.extend_from_slice(b"accept-encoding");
    fields.set_known(Known::Vary, &merged);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead { status: 200, length: BodyLength::Exact(9000), ..ResponseHead::default() };
        lines.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        head
    }

    fn shown(fields: &Fields) -> String {
        let lines = fields.iter().map(|(_, n, v)| [n, b": ", v].concat());
        lines.map(|line| String::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_head_becomes_that_of_the_encoded_answer() {
        let mut head = head(&[
            ("Content-Type", "text/html"),
            ("Content-Length", "9000"),
            ("Accept-Ranges", "bytes"),
            ("Repr-Digest", "sha-256=:x:"),
            ("Content-Digest", "sha-256=:x:"),
            ("Digest", "x"),
            ("Content-MD5", "x"),
            ("ETag", "\"a\""),
        ]);
        Choice { coding: Coding::Br, level: 4, flush: false }.apply(&mut head);
        assert_eq!(shown(&head.fields), "Content-Type: text/html\ncontent-encoding: br\netag: W/\"a\"");
        assert_eq!(head.length, BodyLength::Streamed);
        // Twice weak is no validator.
        weaken(&mut head.fields);
        assert_eq!(head.fields.get_known(Known::Etag), Some(&b"W/\"a\""[..]));
    }

    #[test]
    fn vary_is_merged() {
        for (before, after) in [
            (vec![], vec!["accept-encoding"]),
            (vec!["Accept"], vec!["Accept, accept-encoding"]),
            (vec!["accept", "origin, cookie"], vec!["accept, origin, cookie, accept-encoding"]),
            (vec!["x, Accept-Encoding"], vec!["x, Accept-Encoding"]),
            (vec!["accept", "*"], vec!["accept", "*"]),
            (vec!["x-accept-encoding"], vec!["x-accept-encoding, accept-encoding"]),
            (vec![""], vec!["accept-encoding"]),
        ] {
            let mut fields = Fields::default();
            before.iter().for_each(|line| fields.append(b"Vary", line.as_bytes()));
            vary(&mut fields);
            let lines: Vec<_> = fields.all(b"vary").map(|v| std::str::from_utf8(v).unwrap()).collect();
            assert_eq!(lines, after, "{before:?}");
        }
    }
}
