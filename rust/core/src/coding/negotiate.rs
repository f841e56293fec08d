//! Proactive negotiation by `accept-encoding` (RFC 9110 §12.5.3).
//!
//! Rules:
//! 1. The client's weights decide; among equals the gateway's order does.
//! 2. What cannot be understood, and a field that is absent, ask for the body as it is.
//! 3. `identity` is compressed over when the client does not prefer it by a greater weight. When it forbids
//!    it and nothing else fits, it gets it all the same (§12.5.3 lets a server do that).

use super::Coding;
use crate::message::fields::is_token_byte;

/// The largest weight, in thousandths.
const FULL: u16 = 1000;

/// The coding for a client that sent these `accept-encoding` lines; `None`: the body as it is. `order` is
/// the gateway's, best first, without `deflate` (clients disagree on what that is).
pub fn negotiate<'a>(lines: impl Iterator<Item = &'a [u8]>, order: &[Coding]) -> Option<Coding> {
    let mut asked = Asked::default();
    for line in lines {
        for element in line.split(|&b| b == b',') {
            asked.take(element.trim_ascii())?;
        }
    }
    let mut best: Option<(u16, Coding)> = None;
    for &coding in order {
        let weight = asked.codings[coding as usize].or(asked.any).unwrap_or(0);
        if weight > best.map_or(0, |(most, _)| most) {
            best = Some((weight, coding));
        }
    }
    let identity = asked.identity.unwrap_or(0);
    best.filter(|&(weight, _)| weight >= identity).map(|(_, coding)| coding)
}

/// Weights in thousandths by what they were given to; the first mention counts.
#[derive(Default)]
struct Asked {
    codings: [Option<u16>; 5],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Asked {
    /// One element of the list; `None` when it is malformed.
    fn take(&mut self, element: &[u8]) -> Option<()> {
        if element.is_empty() {
            return Some(());
        }
        let (name, parameters) = match element.iter().position(|&b| b == b';') {
            Some(at) => (element[..at].trim_ascii_end(), Some(element[at + 1..].trim_ascii_start())),
            None => (element, None),
        };
        if name.is_empty() || !name.iter().all(|&b| is_token_byte(b)) {
            return None;
        }
        let weight = match parameters {
            Some([b'q' | b'Q', b'=', value @ ..]) => quality(value)?,
            Some(_) => return None,
            None => FULL,
        };
        let slot = match Coding::of(name) {
            Some(coding) => &mut self.codings[coding as usize],
            None if name == b"*" => &mut self.any,
            None if name.eq_ignore_ascii_case(b"identity") => &mut self.identity,
            None => return Some(()),
        };
        slot.get_or_insert(weight);
        Some(())
    }
}

/// RFC 9110 §12.4.2 `qvalue` in thousandths.
fn quality(text: &[u8]) -> Option<u16> {
    let (&whole, rest) = text.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] => digits,
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let places = [100, 10, 1];
    let part: u16 = digits.iter().zip(places).map(|(digit, place)| u16::from(digit - b'0') * place).sum();
    match whole {
        b'0' => Some(part),
        b'1' if part == 0 => Some(FULL),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Coding::{Br, Gzip, Zstd};

    const ORDER: [Coding; 3] = [Zstd, Br, Gzip];

    fn chosen(lines: &[&str]) -> Option<Coding> {
        negotiate(lines.iter().map(|line| line.as_bytes()), &ORDER)
    }

    #[test]
    fn the_clients_weights_decide_and_then_our_order() {
        for (line, expected) in [
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip, deflate, br", Some(Br)),
            ("gzip, deflate", Some(Gzip)),
            ("deflate", None),
            ("compress, exi, pack200-gzip", None),
            ("GZIP", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("gzip;q=1.0, br;q=0.9, zstd;q=0.8", Some(Gzip)),
            ("gzip;q=0.5, br;q=0.501", Some(Br)),
            ("gzip ; q=0.5 , br;\tQ=0.4", Some(Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=0.000, br;q=0.001", Some(Br)),
            ("*", Some(Zstd)),
            ("*;q=0", None),
            ("zstd;q=0, *", Some(Br)),
            ("gzip, *;q=0", Some(Gzip)),
            ("*;q=0.1, gzip;q=0.2", Some(Gzip)),
            ("identity", None),
            ("identity, gzip", Some(Gzip)),
            ("identity, gzip;q=0.9", None),
            ("identity;q=0.5, gzip;q=0.9", Some(Gzip)),
            ("identity;q=0, gzip;q=0.1", Some(Gzip)),
            ("identity;q=0", None),
            ("identity;q=0, *;q=0", None),
            ("identity;q=0.5, *;q=0.5", Some(Zstd)),
            ("gzip;q=0, gzip", None),
            (",, gzip,,", Some(Gzip)),
            ("", None),
            ("  ", None),
        ] {
            assert_eq!(chosen(&[line]), expected, "{line:?}");
        }
        assert_eq!(chosen(&[]), None, "no field asks for nothing");
        assert_eq!(chosen(&["deflate", "br;q=0.3", "gzip"]), Some(Gzip), "lines are one list");
        assert_eq!(negotiate([b"gzip, zstd".as_slice()].into_iter(), &[Gzip, Zstd]), Some(Gzip));
        assert_eq!(negotiate([b"gzip, zstd, *".as_slice()].into_iter(), &[]), None);
    }

    #[test]
    fn what_is_malformed_gets_the_body_as_it_is() {
        for line in [
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.1234",
            "gzip;q=.5",
            "gzip;q=",
            "gzip;q",
            "gzip;",
            "gzip;q=-1",
            "gzip;q=1;q=1",
            "gzip;level=9",
            "gzip;q=\"1\"",
            "gzip q=1",
            "gzip/1",
            "gzip;q=0.5 5",
            "\u{e9}",
            ";q=1",
            "gzip;q =1",
            "gzip;q= 1",
            "br, gzip;q=nan",
        ] {
            assert_eq!(chosen(&[line]), None, "{line:?}");
        }
        // One bad line spoils the list: what the client meant is not known.
        assert_eq!(chosen(&["gzip", "br;q=x"]), None);
        assert_eq!(chosen(&["gzip;q=1.000, br;q=0."]), Some(Gzip), "a bare point is a qvalue");
    }
}
