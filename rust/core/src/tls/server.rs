//! One connection's TLS, server side.

use super::facts;
use super::options::suite_name;
use super::plan::{Chosen, ServerTls};
use super::session::{plain_alert, pump, send, take_plain, take_records, version_name, Fed};
use super::TlsError;
use crate::config::ClientAuth;
use crate::message::TlsFacts;
use rustls::server::{Accepted, Acceptor, ServerConnection};
use rustls::HandshakeKind;
use std::io::Read;
use std::sync::Arc;

/// Alerts sent here because the library leaves them to its caller (RFC 8446 §6.2, RFC 6066 §3).
const UNRECOGNIZED_NAME: u8 = 112;
const DECODE_ERROR: u8 = 50;

/// A server's session. After an error only [`Server::output`] is of use.
pub struct Server {
    plan: Arc<ServerTls>,
    stage: Stage,
    /// An alert from before there was a session.
    alert: Vec<u8>,
    facts: Option<Arc<TlsFacts>>,
}

enum Stage {
    /// The ClientHello is not complete.
    Hello(Box<Acceptor>),
    Open(Box<Open>),
    Failed(TlsError),
}

struct Open {
    connection: ServerConnection,
    options: u32,
    certificate: u32,
    challenge: bool,
    done: bool,
}

impl Server {
    /// A session that waits for its ClientHello. `now_unix` tells the plan the time.
    pub fn new(plan: Arc<ServerTls>, now_unix: u64) -> Server {
        plan.clock.set(now_unix);
        Server { plan, stage: Stage::Hello(Box::default()), alert: Vec::new(), facts: None }
    }

    pub fn plan(&self) -> &Arc<ServerTls> {
        &self.plan
    }

    /// Takes ciphertext, appends plaintext to `plain`. After an error the alert is in [`Server::output`] and the
    /// connection must be closed; what was decrypted before it is in `plain`.
    pub fn feed(&mut self, mut input: &[u8], plain: &mut Vec<u8>) -> Result<Fed, TlsError> {
        let result = match self.accept(&mut input) {
            Ok(()) => self.advance(input, plain),
            Err(error) => Err(error),
        };
        result.inspect_err(|error| self.fail(error))
    }

    /// Keeps what the session still wants to send, lets go of the rest.
    fn fail(&mut self, error: &TlsError) {
        if let Stage::Open(open) = &mut self.stage {
            take_records(&mut open.connection, &mut self.alert);
        }
        if !matches!(self.stage, Stage::Failed(_)) {
            self.stage = Stage::Failed(error.clone());
        }
    }

    /// Reads on until the ClientHello is complete, then fixes certificate and options.
    fn accept(&mut self, input: &mut &[u8]) -> Result<(), TlsError> {
        let Stage::Hello(acceptor) = &mut self.stage else { return Ok(()) };
        while !input.is_empty() {
            if !acceptor.read_tls(input as &mut dyn Read).is_ok_and(|n| n > 0) {
                self.alert.extend(plain_alert(DECODE_ERROR));
                return Err(TlsError::new("the ClientHello is too long"));
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => return self.begin(accepted),
                Err((error, mut alert)) => {
                    // Writing to a Vec does not fail.
                    let _ = alert.write_all(&mut self.alert);
                    if self.alert.is_empty() {
                        self.alert.extend(plain_alert(DECODE_ERROR));
                    }
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, accepted: Accepted) -> Result<(), TlsError> {
        let Some(chosen) = self.plan.choose(&accepted.client_hello()) else {
            self.alert.extend(plain_alert(UNRECOGNIZED_NAME));
            return Err(TlsError::new("no certificate for the name asked for"));
        };
        let Chosen { config, options, certificate, challenge } = chosen;
        match accepted.into_connection(config) {
            Ok(mut connection) => {
                connection.set_buffer_limit(None);
                let open = Open { connection, options, certificate, challenge, done: false };
                self.stage = Stage::Open(Box::new(open));
                Ok(())
            }
            Err((error, mut alert)) => {
                let _ = alert.write_all(&mut self.alert);
                if self.alert.is_empty() {
                    self.alert.extend(plain_alert(DECODE_ERROR));
                }
                Err(error.into())
            }
        }
    }

    fn advance(&mut self, input: &[u8], plain: &mut Vec<u8>) -> Result<Fed, TlsError> {
        let open = match &mut self.stage {
            Stage::Hello(_) => return Ok(Fed::default()),
            Stage::Failed(error) => return Err(error.clone()),
            Stage::Open(open) => open,
        };
        let mut fed = Fed::default();
        let Open { connection, done, .. } = &mut **open;
        let was_done = *done;
        let mut step = |connection: &mut ServerConnection| -> Result<bool, TlsError> {
            let state = connection.process_new_packets();
            if !*done {
                if let Some(mut early) = connection.early_data() {
                    let before = plain.len();
                    // Reading what is held does not fail.
                    let _ = early.read_to_end(plain);
                    fed.early += plain.len() - before;
                }
                *done = state.is_ok() && !connection.is_handshaking();
            }
            take_plain(connection, plain);
            Ok(state?.peer_has_closed())
        };
        // What came behind the ClientHello is inside already.
        fed.peer_closed = step(connection)?;
        fed.peer_closed |= pump(connection, input, step)?;
        fed.handshake_done = open.done && !was_done;
        if self.facts.is_none() && (open.done || fed.early > 0) {
            self.facts = Some(Arc::new(facts_of(&self.plan, open)?));
        }
        if open.challenge && open.done {
            open.connection.send_close_notify();
            fed = Fed { peer_closed: true, ..Fed::default() };
        }
        Ok(fed)
    }

    /// Encrypts `plain` and appends it to `out`, ready to be sent. Until the handshake is done it is kept.
    pub fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if let Stage::Open(open) = &mut self.stage {
            send(&mut open.connection, plain, out);
        }
    }

    /// Appends whatever the session itself wants to send: handshake, tickets, alerts, key updates.
    pub fn output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.alert);
        if let Stage::Open(open) = &mut self.stage {
            take_records(&mut open.connection, out);
        }
    }

    /// Says goodbye (close_notify).
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if let Stage::Open(open) = &mut self.stage {
            open.connection.send_close_notify();
        }
        self.output(out);
    }

    /// What the handshake said, once it is done or 0-RTT data was taken.
    pub fn facts(&self) -> Option<&Arc<TlsFacts>> {
        self.facts.as_ref()
    }

    pub fn is_handshaking(&self) -> bool {
        match &self.stage {
            Stage::Hello(_) => true,
            Stage::Open(open) => !open.done,
            Stage::Failed(_) => false,
        }
    }
}

fn facts_of(plan: &ServerTls, open: &Open) -> Result<TlsFacts, TlsError> {
    let connection = &open.connection;
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let mut client = None;
    if let Some(set) = plan.set(open.options) {
        let shown = connection.peer_certificates().unwrap_or_default();
        match (&set.verifier, shown.split_first()) {
            (Some(verifier), Some((leaf, rest))) => {
                if resumed {
                    // The chain comes out of the ticket; it may have expired since.
                    let now = plan.clock.time().ok_or(TlsError::new("the time was not told yet"))?;
                    verifier.verify_client_cert(leaf, rest, now)?;
                }
                let read = facts::client_certificate(leaf);
                client = Some(read.ok_or(TlsError::new("the client's certificate cannot be read"))?);
            }
            (_, None) if set.client == ClientAuth::Require => {
                return Err(TlsError::new("the client showed no certificate"));
            }
            _ => {}
        }
    }
    Ok(TlsFacts {
        sni: connection.server_name().map(str::to_ascii_lowercase),
        version: version_name(connection.protocol_version()),
        cipher: suite_name(connection.negotiated_cipher_suite()),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        options: open.options,
        certificate: open.certificate,
        client,
        resumed,
    })
}

#[cfg(test)]
impl Server {
    /// The name that certificate and options were chosen by; None: none were chosen yet.
    pub(super) fn name_chosen_for(&self) -> Option<Option<String>> {
        match &self.stage {
            Stage::Open(open) => Some(open.connection.server_name().map(str::to_owned)),
            _ => None,
        }
    }
}
