//! One connection's TLS, client side.

use super::options::suite_name;
use super::session::{pump, send, take_plain, take_records, version_name, Fed};
use super::verify::ClientTls;
use super::TlsError;
use crate::message::TlsFacts;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind};
use std::sync::Arc;

/// A client's session. It wants to speak first: [`Client::output`] has the ClientHello.
pub struct Client {
    connection: Box<ClientConnection>,
    sni: Option<String>,
    facts: Option<Arc<TlsFacts>>,
    failed: Option<TlsError>,
}

impl Client {
    /// A session with `host` (a name, or an IP address without brackets), offering `alpn`, the most wanted first.
    /// Fails when `host` is neither.
    pub fn new(plan: &Arc<ClientTls>, host: &str, alpn: &[&[u8]]) -> Result<Client, TlsError> {
        let name = match &plan.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|_| TlsError::new("not a host name or address"))?,
        };
        let sni = match &name {
            ServerName::DnsName(name) => Some(name.as_ref().to_ascii_lowercase()),
            _ => None,
        };
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let mut connection = ClientConnection::new_with_alpn(plan.config.clone(), name, alpn)?;
        connection.set_buffer_limit(None);
        Ok(Client { connection: Box::new(connection), sni, facts: None, failed: None })
    }

    /// Takes ciphertext, appends plaintext to `plain`. After an error the alert is in [`Client::output`] and the
    /// connection must be closed.
    pub fn feed(&mut self, input: &[u8], plain: &mut Vec<u8>) -> Result<Fed, TlsError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance(input, plain).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn advance(&mut self, input: &[u8], plain: &mut Vec<u8>) -> Result<Fed, TlsError> {
        let closed = pump(&mut *self.connection, input, |connection| {
            let state = connection.process_new_packets();
            take_plain(connection, plain);
            Ok(state?.peer_has_closed())
        })?;
        let mut fed = Fed { peer_closed: closed, ..Fed::default() };
        if self.facts.is_none() && !self.connection.is_handshaking() {
            fed.handshake_done = true;
            self.facts = Some(Arc::new(TlsFacts {
                sni: self.sni.take(),
                version: version_name(self.connection.protocol_version()),
                cipher: suite_name(self.connection.negotiated_cipher_suite()),
                alpn: self.connection.alpn_protocol().map(<[u8]>::to_vec),
                resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
                ..TlsFacts::default()
            }));
        }
        Ok(fed)
    }

    /// Encrypts `plain` and appends it to `out`, ready to be sent. Until the handshake is done it is kept.
    pub fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if self.failed.is_none() {
            send(&mut self.connection, plain, out);
        }
    }

    /// Appends whatever the session itself wants to send: handshake, alerts, key updates.
    pub fn output(&mut self, out: &mut Vec<u8>) {
        take_records(&mut self.connection, out);
    }

    /// Says goodbye (close_notify).
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.output(out);
    }

    /// What the handshake said, once it is done.
    pub fn facts(&self) -> Option<&Arc<TlsFacts>> {
        self.facts.as_ref()
    }

    pub fn is_handshaking(&self) -> bool {
        self.failed.is_none() && self.facts.is_none()
    }
}
