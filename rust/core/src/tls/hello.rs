//! A look into a ClientHello (RFC 8446 §4.1.2) that leaves it as it is: for connections whose TLS ends elsewhere.
//!
//! Rules: strict, so that nobody reads another name out of the same bytes: every length must add up, no extension may
//! come twice, a name must be one. Records may cut the message anywhere. At most [`LIMIT`] bytes are looked at.

use super::names::canonical;
use super::TlsError;
use rustls::pki_types::ServerName;

/// Longest ClientHello, with its record headers.
const LIMIT: usize = 64 << 10;
const RECORD: usize = 5;
/// Longest plaintext record (RFC 8446 §5.1).
const RECORD_LIMIT: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;

/// What a client says before anything is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Lower case, no final dot; None: none, or an IP address.
    pub sni: Option<String>,
    /// In the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// Reads the ClientHello at the start of `input`, all that came so far; None: more bytes are needed. Fails on what is
/// no TLS, malformed, or longer than 64 KiB.
pub fn client_hello(input: &[u8]) -> Result<Option<Hello>, TlsError> {
    match whole(input)? {
        Some(message) => hello(&message).ok_or(TlsError::new("the ClientHello is malformed")).map(Some),
        None if input.len() >= LIMIT => Err(TlsError::new("the ClientHello is too long")),
        None => Ok(None),
    }
}

/// The handshake message's body, put together from its records.
fn whole(input: &[u8]) -> Result<Option<Vec<u8>>, TlsError> {
    const NO_TLS: TlsError = TlsError::new("not a TLS ClientHello");
    let mut rest = input;
    let mut message = Vec::new();
    loop {
        // What is there of the header must be right, even before it is complete.
        let header = &rest[..rest.len().min(RECORD)];
        let known = [HANDSHAKE, 3];
        if header.iter().zip(known).any(|(is, wanted)| *is != wanted) || header.get(2).is_some_and(|minor| *minor > 4) {
            return Err(NO_TLS);
        }
        let &[_, _, _, high, low] = header else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > RECORD_LIMIT {
            return Err(NO_TLS);
        }
        let body = &rest[RECORD..rest.len().min(RECORD + length)];
        message.extend_from_slice(body);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(NO_TLS);
        }
        if let Some(&[_, a, b, c]) = message.get(..4) {
            let wanted = u32::from_be_bytes([0, a, b, c]) as usize;
            if wanted + 4 + RECORD > LIMIT {
                return Err(TlsError::new("the ClientHello is too long"));
            }
            // Nothing may follow it in this flight.
            match message.len().cmp(&(wanted + 4)) {
                std::cmp::Ordering::Greater => return Err(NO_TLS),
                std::cmp::Ordering::Equal if body.len() == length => return Ok(Some(message.split_off(4))),
                _ => {}
            }
        }
        if body.len() < length {
            return Ok(None);
        }
        rest = &rest[RECORD + length..];
    }
}

/// Reads a message's fields one by one; None: it ended early.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    /// A field with its length (one byte) before it.
    fn short(&mut self) -> Option<Fields<'a>> {
        let length = self.u8()?;
        self.take(length.into()).map(Fields)
    }

    /// A field with its length (two bytes) before it.
    fn long(&mut self) -> Option<Fields<'a>> {
        let length = self.u16()?;
        self.take(length.into()).map(Fields)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn hello(body: &[u8]) -> Option<Hello> {
    let mut fields = Fields(body);
    let (version, _random) = (fields.u16()?, fields.take(32)?);
    let session = fields.short()?.0.len();
    let suites = fields.long()?.0.len();
    let compressions = fields.short()?.0;
    if version >> 8 != 3 || session > 32 || suites < 2 || suites % 2 != 0 || !compressions.contains(&0) {
        return None;
    }
    let mut hello = Hello::default();
    if fields.is_empty() {
        return Some(hello);
    }
    let mut extensions = fields.long()?;
    if !fields.is_empty() {
        return None;
    }
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let value = extensions.long()?;
        // RFC 8446 §4.2: none twice; pre_shared_key is the last.
        if seen.contains(&kind) || (kind == PRE_SHARED_KEY && !extensions.is_empty()) {
            return None;
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => hello.sni = server_name(value)?,
            ALPN => hello.alpn = protocols(value)?,
            _ => {}
        }
    }
    Some(hello)
}

/// RFC 6066 §3: one name of the one type there is. An address counts as none, as it does for the library.
fn server_name(mut value: Fields<'_>) -> Option<Option<String>> {
    let mut list = value.long()?;
    let (kind, name) = (list.u8()?, list.long()?);
    if kind != 0 || !list.is_empty() || !value.is_empty() {
        return None;
    }
    match canonical(name.0) {
        Some(name) => Some(Some(name)),
        None => matches!(ServerName::try_from(name.0), Ok(ServerName::IpAddress(_))).then_some(None),
    }
}

/// RFC 7301 §3.1.
fn protocols(mut value: Fields<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = value.long()?;
    let mut found = Vec::new();
    while !list.is_empty() {
        let name = list.short()?;
        if name.is_empty() {
            return None;
        }
        found.push(name.0.to_vec());
    }
    (value.is_empty() && !found.is_empty()).then_some(found)
}
