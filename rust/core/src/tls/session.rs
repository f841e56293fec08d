//! What both sides' sessions share: the clock, and moving bytes through rustls.
//!
//! Rules: plaintext goes straight into the caller's buffer and ciphertext straight out; between two calls a session
//! keeps nothing but keys, an incomplete record and what waits for the handshake. The buffer a long input left behind
//! is given back.

use super::TlsError;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::ConnectionCommon;
use std::io::{self, BufRead, Read, Write};
use std::ops::DerefMut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What came of feeding a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// The handshake became done in this call.
    pub handshake_done: bool,
    /// close_notify came: nothing more will be read.
    pub peer_closed: bool,
    /// How many of the bytes appended are 0-RTT data, which an attacker may have replayed (RFC 8470); they come first.
    pub early: usize,
}

/// The time as it was told: unix seconds; 0: not told yet.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    pub(super) fn set(&self, unix: u64) {
        self.0.store(unix, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn time(&self) -> Option<UnixTime> {
        Some(self.now()).filter(|&now| now > 0).map(|now| UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        self.time()
    }
}

/// Most bytes rustls takes at once; its buffer is that long between records.
const READ: usize = 4096;
/// Plaintext encrypted before the records are moved out: four full ones.
const WRITE: usize = 64 << 10;

/// Puts all of `input` through, `step` after each piece; stops at close_notify.
pub(super) fn pump<C, D>(
    connection: &mut C,
    mut input: &[u8],
    mut step: impl FnMut(&mut C) -> Result<bool, TlsError>,
) -> Result<bool, TlsError>
where
    C: DerefMut<Target = ConnectionCommon<D>>,
{
    let long = input.len() > READ;
    let mut closed = false;
    while !input.is_empty() && !closed {
        match connection.read_tls(&mut input) {
            Ok(0) => return Ok(true),
            Ok(_) => closed = step(connection)?,
            Err(_) => return Err(TlsError::new("a message is too long")),
        }
    }
    if long {
        // Makes the library shrink its buffer now rather than at the next read, which on an idle connection is late.
        let _ = connection.read_tls(&mut Nothing);
    }
    Ok(closed)
}

/// A source that has nothing yet; unlike an empty one it does not mean the end.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Moves decrypted bytes to `plain`.
pub(super) fn take_plain<D>(connection: &mut ConnectionCommon<D>, plain: &mut Vec<u8>) {
    let mut reader = connection.reader();
    while let Ok(chunk) = reader.fill_buf() {
        if chunk.is_empty() {
            break;
        }
        let length = chunk.len();
        plain.extend_from_slice(chunk);
        reader.consume(length);
    }
}

/// Moves records that are ready to `out`.
pub(super) fn take_records<D>(connection: &mut ConnectionCommon<D>, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    while connection.wants_write() && connection.write_tls(out).is_ok_and(|n| n > 0) {}
}

/// Encrypts `plain` and moves the records to `out`; before the handshake is done the library keeps the bytes.
pub(super) fn send<D>(connection: &mut ConnectionCommon<D>, plain: &[u8], out: &mut Vec<u8>) {
    for piece in plain.chunks(WRITE) {
        if connection.writer().write_all(piece).is_err() {
            break;
        }
        take_records(connection, out);
    }
}

/// A fatal alert in the clear (RFC 8446 §6), for where the library has not sent one.
pub(super) fn plain_alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// The version's number, as records and metrics show it.
pub(super) fn version_name(version: Option<rustls::ProtocolVersion>) -> &'static str {
    match version {
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    }
}
