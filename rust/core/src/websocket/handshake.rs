//! The opening handshake as a relay that understands it must check it (RFC 6455 §4, RFC 8441 §5).
//!
//! Rules:
//! 1. The client's request is checked as a server must, the upstream's answer as a client must; a request that fails
//!    never goes upstream, an answer that fails is a bad upstream.
//! 2. Of the extensions only permessage-deflate is passed on, written anew; the upstream may accept it, or nothing.
//! 3. The method is the caller's to check: GET by `Upgrade`, CONNECT with `:protocol` `websocket` by HTTP/2.

use super::extension::{accepted, offers, Offer, Params};
use crate::message::fields::{is_field_name, Fields, Known};
use base64::engine::{general_purpose::STANDARD, Engine as _};
use ring::digest::{digest, SHA1_FOR_LEGACY_USE_ONLY};

const KEY: &[u8] = b"sec-websocket-key";
const VERSION: &[u8] = b"sec-websocket-version";
const EXTENSIONS: &[u8] = b"sec-websocket-extensions";
const PROTOCOL: &[u8] = b"sec-websocket-protocol";
const ACCEPT: &[u8] = b"sec-websocket-accept";
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Value of `sec-websocket-key`: 16 bytes in base64.
pub type Key = [u8; 24];

/// How a client asked, or how the upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// HTTP/1.1: `Upgrade`, a key and its answer, status 101.
    Upgrade,
    /// HTTP/2 extended CONNECT: none of these, status 200.
    Connect,
}

/// Why a client's request cannot become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `Upgrade` does not name it; whatever else it asks for is no business of this module.
    NotWebSocket,
    /// Answered 426 with `sec-websocket-version: 13`.
    Version,
    /// Answered 400; the words are safe to show.
    Malformed(&'static str),
}

/// A checked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The client's key; `None` over HTTP/2.
    pub key: Option<Key>,
    /// What may be passed on of `sec-websocket-extensions`.
    pub offers: Vec<Offer>,
    protocols: Vec<Vec<u8>>,
}

impl Opening {
    /// Checks a request's fields; `compression` is the route's say on permessage-deflate.
    pub fn read(fields: &Fields, via: Via, compression: bool) -> Result<Opening, Refusal> {
        if via == Via::Upgrade && !fields.get_known(Known::Upgrade).is_some_and(names_websocket) {
            return Err(Refusal::NotWebSocket);
        }
        match only(fields, VERSION) {
            Ok(Some(b"13")) => {}
            Ok(_) => return Err(Refusal::Version),
            Err(()) => return Err(Refusal::Malformed("more than one sec-websocket-version")),
        }
        let key = match via {
            Via::Upgrade => match only(fields, KEY) {
                Ok(Some(value)) => Some(read_key(value).ok_or(Refusal::Malformed("malformed sec-websocket-key"))?),
                Ok(None) => return Err(Refusal::Malformed("no sec-websocket-key")),
                Err(()) => return Err(Refusal::Malformed("more than one sec-websocket-key")),
            },
            Via::Connect => None,
        };
        let mut protocols: Vec<Vec<u8>> = Vec::new();
        for token in fields.all(PROTOCOL).flat_map(|line| line.split(|&b| b == b',')).map(<[u8]>::trim_ascii) {
            if !is_field_name(token) || protocols.iter().any(|known| known == token) {
                return Err(Refusal::Malformed("malformed sec-websocket-protocol"));
            }
            protocols.push(token.to_vec());
        }
        let mut offers = offers(fields.all(EXTENSIONS)).map_err(Refusal::Malformed)?;
        if !compression {
            offers.clear();
        }
        Ok(Opening { key, offers, protocols })
    }

    /// Makes `fields` what goes upstream: extensions written anew, and for HTTP/1.1 `Upgrade`, version and a key – the
    /// client's, or one of `entropy` – which is returned; over HTTP/2 they are taken out.
    pub fn rewrite(&self, fields: &mut Fields, via: Via, entropy: [u8; 16]) -> Option<Key> {
        fields.remove(EXTENSIONS);
        if !self.offers.is_empty() {
            let mut value = Vec::new();
            for offer in &self.offers {
                if !value.is_empty() {
                    value.extend_from_slice(b", ");
                }
                offer.write(&mut value);
            }
            fields.append(EXTENSIONS, &value);
        }
        match via {
            Via::Upgrade => Some(self.ask(fields, entropy)),
            Via::Connect => {
                fields.remove_known(Known::Upgrade);
                fields.remove(KEY);
                None
            }
        }
    }

    /// Asks by `Upgrade` and with a key, which is returned; whatever else the fields say stays.
    pub fn ask(&self, fields: &mut Fields, entropy: [u8; 16]) -> Key {
        let key = self.key.unwrap_or_else(|| make_key(entropy));
        fields.set_known(Known::Upgrade, b"websocket");
        fields.set(KEY, &key);
        key
    }

    /// Checks the answer that opens the connection – 101, or 2xx over HTTP/2 – against what was asked with `key`.
    /// Returns the compression agreed on; an error's words are for the record of a bad upstream.
    pub fn check(&self, fields: &Fields, key: Option<&Key>) -> Result<Option<Params>, &'static str> {
        self.check_plain(fields, key)?;
        accepted(fields.all(EXTENSIONS), &self.offers)
    }

    /// The same for a tunnel, where extensions are the two ends' business.
    pub fn check_plain(&self, fields: &Fields, key: Option<&Key>) -> Result<(), &'static str> {
        if let Some(key) = key {
            if !fields.get_known(Known::Upgrade).is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
                return Err("upgraded to something else");
            }
            match only(fields, ACCEPT) {
                Ok(Some(value)) if value == accept(key) => {}
                _ => return Err("sec-websocket-accept does not answer the key"),
            }
        }
        match only(fields, PROTOCOL) {
            Ok(None) => {}
            Ok(Some(chosen)) if self.protocols.iter().any(|offered| offered == chosen) => {}
            _ => return Err("subprotocol that was not offered"),
        }
        Ok(())
    }

    /// Makes the fields of a checked answer what this client needs: `Upgrade` and `sec-websocket-accept` for its own
    /// key, or neither over HTTP/2.
    pub fn answer(&self, fields: &mut Fields) {
        match &self.key {
            Some(key) => {
                fields.set_known(Known::Upgrade, b"websocket");
                fields.set(ACCEPT, &accept(key));
            }
            None => {
                fields.remove_known(Known::Upgrade);
                fields.remove(ACCEPT);
            }
        }
    }
}

/// Value of `sec-websocket-key` from 16 random bytes.
pub fn make_key(entropy: [u8; 16]) -> Key {
    let mut key = [b'='; 24];
    // 16 bytes always make 24 characters.
    let written = STANDARD.encode_slice(entropy, &mut key);
    debug_assert_eq!(written, Ok(24));
    key
}

/// Value of `sec-websocket-accept` for a key (RFC 6455 §4.2.2).
pub fn accept(key: &Key) -> [u8; 28] {
    let mut text = [0; 60];
    text[..24].copy_from_slice(key);
    text[24..].copy_from_slice(GUID);
    let mut value = [b'='; 28];
    let written = STANDARD.encode_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text), &mut value);
    debug_assert_eq!(written, Ok(28));
    value
}

fn read_key(value: &[u8]) -> Option<Key> {
    let key: Key = value.try_into().ok()?;
    let mut raw = [0; 18];
    (STANDARD.decode_slice(key, &mut raw) == Ok(16)).then_some(key)
}

fn names_websocket(value: &[u8]) -> bool {
    value.split(|&b| b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

/// The one value of `name`; `Err` if there are several.
fn only<'a>(fields: &'a Fields, name: &'a [u8]) -> Result<Option<&'a [u8]>, ()> {
    let mut all = fields.all(name);
    let first = all.next();
    if all.next().is_some() {
        return Err(());
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        lines.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
        fields
    }

    fn request(more: &[(&str, &str)]) -> Fields {
        let mut lines = vec![("upgrade", "websocket"), ("Sec-WebSocket-Key", SAMPLE), ("Sec-WebSocket-Version", "13")];
        lines.retain(|(name, _)| !more.iter().any(|(other, _)| name == other));
        lines.extend(more.iter().filter(|(_, value)| *value != "-"));
        fields(&lines)
    }

    #[test]
    fn the_key_of_rfc_6455_is_answered() {
        let key: Key = SAMPLE.as_bytes().try_into().unwrap();
        assert_eq!(&accept(&key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(make_key(*b"the sample nonce"), key);
    }

    #[test]
    fn requests_that_pass() {
        for more in [
            &[][..],
            &[("upgrade", "WebSocket")],
            &[("upgrade", "foo, websocket")],
            &[("sec-websocket-protocol", "a, b"), ("sec-websocket-protocol", "c")],
            &[("sec-websocket-extensions", "foo"), ("sec-websocket-extensions", "permessage-deflate")],
        ] {
            assert!(Opening::read(&request(more), Via::Upgrade, true).is_ok(), "{more:?}");
        }
        let connect = fields(&[("sec-websocket-version", "13")]);
        assert_eq!(Opening::read(&connect, Via::Connect, true).unwrap().key, None);
    }

    #[test]
    fn requests_that_are_refused() {
        let malformed = Refusal::Malformed;
        for (more, refusal) in [
            (&[("upgrade", "-")][..], Refusal::NotWebSocket),
            (&[("upgrade", "websockets")], Refusal::NotWebSocket),
            (&[("Sec-WebSocket-Version", "-")], Refusal::Version),
            (&[("Sec-WebSocket-Version", "8")], Refusal::Version),
            (&[("Sec-WebSocket-Version", "13, 8")], Refusal::Version),
            (&[("sec-websocket-version", "13")], malformed("more than one sec-websocket-version")),
            (&[("Sec-WebSocket-Key", "-")], malformed("no sec-websocket-key")),
            (&[("sec-websocket-key", SAMPLE)], malformed("more than one sec-websocket-key")),
            (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ")], malformed("malformed sec-websocket-key")),
            (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=!")], malformed("malformed sec-websocket-key")),
            (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSE=")], malformed("malformed sec-websocket-key")),
            (&[("sec-websocket-protocol", "a, a")], malformed("malformed sec-websocket-protocol")),
            (&[("sec-websocket-protocol", "a,,b")], malformed("malformed sec-websocket-protocol")),
            (&[("sec-websocket-protocol", "a b")], malformed("malformed sec-websocket-protocol")),
            (&[("sec-websocket-extensions", "a;;")], malformed("malformed sec-websocket-extensions")),
        ] {
            assert_eq!(Opening::read(&request(more), Via::Upgrade, true), Err(refusal), "{more:?}");
        }
    }

    #[test]
    fn extensions_are_written_anew() {
        let offer = [("sec-websocket-extensions", "x-other, permessage-deflate ;client_max_window_bits")];
        for (compression, kept) in [(true, Some(&b"permessage-deflate; client_max_window_bits"[..])), (false, None)] {
            let mut fields = request(&offer);
            let opening = Opening::read(&fields, Via::Upgrade, compression).unwrap();
            let key = opening.rewrite(&mut fields, Via::Upgrade, [0; 16]);
            assert_eq!(key.as_ref().map(|key| &key[..]), Some(SAMPLE.as_bytes()));
            assert_eq!(fields.get(EXTENSIONS), kept);
        }
    }

    #[test]
    fn between_http1_and_http2() {
        let mut head = fields(&[("sec-websocket-version", "13")]);
        let opening = Opening::read(&head, Via::Connect, true).unwrap();
        let key = opening.rewrite(&mut head, Via::Upgrade, *b"the sample nonce").unwrap();
        assert_eq!(head.get(KEY), Some(SAMPLE.as_bytes()));
        assert_eq!(head.get_known(Known::Upgrade), Some(&b"websocket"[..]));
        let mut answer = fields(&[("upgrade", "websocket"), ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]);
        assert_eq!(opening.check(&answer, Some(&key)), Ok(None));
        opening.answer(&mut answer);
        assert!(answer.is_empty());

        let mut head = request(&[]);
        let opening = Opening::read(&head, Via::Upgrade, true).unwrap();
        assert_eq!(opening.rewrite(&mut head, Via::Connect, [0; 16]), None);
        assert!(head.get(KEY).is_none() && !head.has(Known::Upgrade));
        let mut answer = Fields::default();
        assert_eq!(opening.check(&answer, None), Ok(None));
        opening.answer(&mut answer);
        assert_eq!(answer.get(ACCEPT), Some(&b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..]));
    }

    #[test]
    fn answers_are_checked() {
        let offer = [("sec-websocket-extensions", "permessage-deflate"), ("sec-websocket-protocol", "chat, Soap")];
        let opening = Opening::read(&request(&offer), Via::Upgrade, true).unwrap();
        let good = [("upgrade", "WebSocket"), ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")];
        let check = |lines: &[(&str, &str)]| opening.check(&fields(lines), opening.key.as_ref());
        let with = |more: &[(&'static str, &'static str)]| check(&[&good[..], more].concat());
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&[("sec-websocket-protocol", "chat")]), Ok(None));
        assert!(with(&[("sec-websocket-extensions", "permessage-deflate")]).unwrap().is_some());
        for more in [
            &[("sec-websocket-protocol", "soap")][..],
            &[("sec-websocket-protocol", "chat, Soap")],
            &[("sec-websocket-protocol", "chat"), ("sec-websocket-protocol", "chat")],
            &[("sec-websocket-protocol", "")],
            &[("sec-websocket-extensions", "permessage-deflate, permessage-deflate")],
            &[("sec-websocket-extensions", "foo")],
            &[("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")],
        ] {
            assert!(with(more).is_err(), "{more:?}");
        }
        assert!(check(&good[..1]).is_err());
        assert!(check(&good[1..]).is_err());
        assert!(check(&[good[0], ("sec-websocket-accept", "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]).is_err());
        let silent = Opening::read(&request(&offer), Via::Upgrade, false).unwrap();
        let accepted = fields(&[&good[..], &[("sec-websocket-extensions", "permessage-deflate")]].concat());
        assert!(silent.check(&accepted, silent.key.as_ref()).is_err());
    }
}
