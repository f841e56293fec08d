//! `sec-websocket-extensions` and the parameters of permessage-deflate (RFC 6455 §9.1, RFC 7692 §7.1).
//!
//! Rules:
//! 1. A list that breaks the grammar is refused whole. An extension other than permessage-deflate is dropped from an
//!    offer and refused in an answer.
//! 2. An offer with a parameter that is unknown, doubled or out of range is dropped, as a server must decline it; the
//!    same in an answer ends the handshake.
//! 3. An answer stands only if one of the offers passed on allows it.

use super::deflate::Window;
use crate::message::fields::is_token_byte;

const NAME: &[u8] = b"permessage-deflate";
/// Offers beyond are dropped: clients make one to three.
const MAX_OFFERS: usize = 8;

/// One offer of permessage-deflate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub server_no_context_takeover: bool,
    pub client_no_context_takeover: bool,
    pub server_max_window_bits: Option<u8>,
    /// `Some(None)`: offered without a value.
    pub client_max_window_bits: Option<Option<u8>>,
}

/// What both sides agreed on: how the frames of each are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    pub client: Window,
    pub server: Window,
}

/// The offers of permessage-deflate in a request's lines of `sec-websocket-extensions`.
pub(super) fn offers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Offer>, &'static str> {
    let mut offers = Vec::new();
    for line in lines {
        each(line, |name, params| {
            if name.eq_ignore_ascii_case(NAME) && offers.len() < MAX_OFFERS {
                offers.extend(Offer::read(params));
            }
            Ok(())
        })?;
    }
    Ok(offers)
}

/// The extension an answer names, if it is one of `offers` with parameters that offer allows.
pub(super) fn accepted<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    offers: &[Offer],
) -> Result<Option<Params>, &'static str> {
    let mut found = None;
    for line in lines {
        each(line, |name, params| {
            if !name.eq_ignore_ascii_case(NAME) {
                return Err("extension accepted that was not offered");
            }
            let answer = Offer::read(params).ok_or("permessage-deflate accepted with bad parameters")?;
            let fits = answer.client_max_window_bits != Some(None) && offers.iter().any(|offer| offer.allows(&answer));
            if !fits {
                return Err("permessage-deflate accepted beyond what was offered");
            }
            match found.replace(answer) {
                None => Ok(()),
                Some(_) => Err("extension accepted twice"),
            }
        })?;
    }
    Ok(found.map(|answer| Params {
        client: Window {
            bits: answer.client_max_window_bits.flatten().unwrap_or(15),
            takeover: !answer.client_no_context_takeover,
        },
        server: Window {
            bits: answer.server_max_window_bits.unwrap_or(15),
            takeover: !answer.server_no_context_takeover,
        },
    }))
}

impl Offer {
    fn read(params: &[(&[u8], Option<Vec<u8>>)]) -> Option<Offer> {
        let mut offer = Offer::default();
        for (name, value) in params {
            let doubled = if name.eq_ignore_ascii_case(b"server_no_context_takeover") && value.is_none() {
                std::mem::replace(&mut offer.server_no_context_takeover, true)
            } else if name.eq_ignore_ascii_case(b"client_no_context_takeover") && value.is_none() {
                std::mem::replace(&mut offer.client_no_context_takeover, true)
            } else if name.eq_ignore_ascii_case(b"server_max_window_bits") {
                offer.server_max_window_bits.replace(bits(value.as_deref()?)?).is_some()
            } else if name.eq_ignore_ascii_case(b"client_max_window_bits") {
                let bits = match value {
                    Some(value) => Some(bits(value)?),
                    None => None,
                };
                offer.client_max_window_bits.replace(bits).is_some()
            } else {
                return None;
            };
            if doubled {
                return None;
            }
        }
        Some(offer)
    }

    /// RFC 7692 §7.1.1 and §7.1.2.
    fn allows(&self, answer: &Offer) -> bool {
        let server_bits = match (self.server_max_window_bits, answer.server_max_window_bits) {
            (Some(most), Some(bits)) => bits <= most,
            (Some(_), None) => false,
            (None, _) => true,
        };
        server_bits
            && (answer.server_no_context_takeover || !self.server_no_context_takeover)
            && (self.client_max_window_bits.is_some() || answer.client_max_window_bits.is_none())
    }

    /// Appends it as an element of `sec-websocket-extensions`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(NAME);
        if self.server_no_context_takeover {
            out.extend_from_slice(b"; server_no_context_takeover");
        }
        if self.client_no_context_takeover {
            out.extend_from_slice(b"; client_no_context_takeover");
        }
        if let Some(bits) = self.server_max_window_bits {
            out.extend_from_slice(format!("; server_max_window_bits={bits}").as_bytes());
        }
        match self.client_max_window_bits {
            Some(Some(bits)) => out.extend_from_slice(format!("; client_max_window_bits={bits}").as_bytes()),
            Some(None) => out.extend_from_slice(b"; client_max_window_bits"),
            None => {}
        }
    }
}

/// 8 to 15, digits without a leading zero.
fn bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// Calls `take(name, parameters)` for each extension of one line; quoted values come without quotes.
fn each(
    line: &[u8],
    mut take: impl FnMut(&[u8], &[(&[u8], Option<Vec<u8>>)]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    const MALFORMED: &str = "malformed sec-websocket-extensions";
    let mut reader = Tokens { rest: line };
    let mut any = false;
    loop {
        reader.spaces();
        if reader.take(b',') {
            continue; // RFC 9110 §5.6.1: empty elements are ignored.
        }
        if reader.rest.is_empty() {
            return if any { Ok(()) } else { Err(MALFORMED) };
        }
        let name = reader.token().ok_or(MALFORMED)?;
        let mut params = Vec::new();
        reader.spaces();
        while reader.take(b';') {
            reader.spaces();
            let param = reader.token().ok_or(MALFORMED)?;
            reader.spaces();
            let mut value = None;
            if reader.take(b'=') {
                reader.spaces();
                value = Some(reader.value().ok_or(MALFORMED)?);
                reader.spaces();
            }
            params.push((param, value));
        }
        if !reader.rest.is_empty() && reader.rest[0] != b',' {
            return Err(MALFORMED);
        }
        any = true;
        take(name, &params)?;
    }
}

struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    fn spaces(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|&b| !is_token_byte(b)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token, or a quoted string whose content is one (RFC 6455 §9.1).
    fn value(&mut self) -> Option<Vec<u8>> {
        if !self.take(b'"') {
            return self.token().map(<[u8]>::to_vec);
        }
        let mut value = Vec::new();
        loop {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return (!value.is_empty()).then_some(value),
                b'\\' => {
                    let (&escaped, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    value.push(escaped);
                }
                _ => value.push(byte),
            }
            if !value.last().is_some_and(|&b| is_token_byte(b)) {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewritten(line: &str) -> Result<String, &'static str> {
        let mut out = Vec::new();
        for offer in offers([line.as_bytes()].into_iter())? {
            if !out.is_empty() {
                out.extend_from_slice(b", ");
            }
            offer.write(&mut out);
        }
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn offers_are_read_and_written() {
        for (line, kept) in [
            ("permessage-deflate", "permessage-deflate"),
            ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits"),
            (
                "PerMessage-Deflate;client_max_window_bits=\"1\\0\" ; server_max_window_bits = 9",
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
            ),
            (
                "x-webkit-deflate-frame, permessage-deflate; server_no_context_takeover; client_no_context_takeover, \
                 permessage-deflate",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover, permessage-deflate",
            ),
            ("foo; bar=\"baz\"", ""),
            // Declined, not refused: a server must do so.
            ("permessage-deflate; unknown", ""),
            ("permessage-deflate; server_no_context_takeover=1", ""),
            ("permessage-deflate; server_max_window_bits", ""),
            ("permessage-deflate; server_max_window_bits=7", ""),
            ("permessage-deflate; server_max_window_bits=16", ""),
            ("permessage-deflate; server_max_window_bits=09", ""),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits", ""),
            (", ,permessage-deflate,", "permessage-deflate"),
        ] {
            assert_eq!(rewritten(line).as_deref(), Ok(kept), "{line}");
        }
    }

    #[test]
    fn broken_lists_are_refused() {
        for line in
            ["", ",", ";", "a b", "a;", "a;=", "a;b=", "a;b=\"", "a;b=\"\"", "a;b=\"c d\"", "a;b=c d", "a=b", "ä"]
        {
            assert!(rewritten(line).is_err(), "{line}");
        }
    }

    #[test]
    fn offers_are_bounded() {
        let line = vec!["permessage-deflate"; 100].join(",");
        assert_eq!(offers([line.as_bytes()].into_iter()).unwrap().len(), MAX_OFFERS);
    }

    fn agreed(offer: &str, answer: &str) -> Result<Option<Params>, &'static str> {
        accepted([answer.as_bytes()].into_iter(), &offers([offer.as_bytes()].into_iter())?)
    }

    #[test]
    fn an_answer_must_fit_an_offer() {
        const D: &str = "permessage-deflate";
        let window = |bits, takeover| Window { bits, takeover };
        for (offer, answer, client, server) in [
            ("", "", window(15, true), window(15, true)),
            ("; client_max_window_bits", "; client_max_window_bits=9", window(9, true), window(15, true)),
            ("; client_max_window_bits=10", "", window(15, true), window(15, true)),
            ("; server_max_window_bits=10", "; server_max_window_bits=10", window(15, true), window(10, true)),
            ("", "; server_max_window_bits=8", window(15, true), window(8, true)),
            ("; server_no_context_takeover", "; server_no_context_takeover", window(15, true), window(15, false)),
            ("", "; client_no_context_takeover; server_no_context_takeover", window(15, false), window(15, false)),
            // The second offer allows it.
            (
                "; server_max_window_bits=9, permessage-deflate; client_max_window_bits",
                "; client_max_window_bits=12",
                window(12, true),
                window(15, true),
            ),
        ] {
            let params = agreed(&format!("{D}{offer}"), &format!("{D}{answer}"));
            assert_eq!(params, Ok(Some(Params { client, server })), "{offer} {answer}");
        }
        for (offer, answer) in [
            ("permessage-deflate", "permessage-deflate; client_max_window_bits=9"),
            ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits"),
            ("permessage-deflate; server_max_window_bits=10", "permessage-deflate"),
            ("permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=11"),
            ("permessage-deflate; server_no_context_takeover", "permessage-deflate"),
            ("permessage-deflate", "permessage-deflate; unknown"),
            ("permessage-deflate", "permessage-deflate, permessage-deflate"),
            ("permessage-deflate", "x-other"),
            ("x-other", "x-other"),
            ("x-other", "permessage-deflate"),
        ] {
            assert!(agreed(offer, answer).is_err(), "{offer} {answer}");
        }
        assert_eq!(accepted(std::iter::empty(), &[Offer::default()]), Ok(None));
    }

    proptest! {
        #[test]
        fn nothing_panics(line in "[ ,;=\"\\\\a8]{0,30}|permessage-deflate[ ,;=\"\\\\a_18]{0,30}") {
            let _ = rewritten(&line);
        }
    }
}
