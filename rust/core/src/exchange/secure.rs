//! TLS between the wire and everything else, on either leg.
//!
//! Ciphertext is turned into plaintext before any protocol sees it, and back when a callback's actions are taken; in
//! between, nothing but this module knows. What a session itself wants to say (handshake, alerts, goodbyes) is written
//! at once as [`Action::Sealed`], so that order is kept.

use super::connection::DownWire;
use super::upstream::Failure;
use super::wheel::Timer;
use super::{Action, AfterEof, ConnId, Engine};
use crate::error::Code;
use crate::observe::Counter;
use crate::tls::{self, TlsStore};
use std::sync::Arc;

impl Engine {
    /// Handshakes from now on use `store`.
    pub fn publish_tls(&mut self, store: Arc<TlsStore>) {
        store.set_now(self.now.wall_ns / 1_000_000_000);
        self.tls = Some(store);
    }

    /// Bytes of a client as they came.
    pub(super) fn downstream_raw(&mut self, id: u32, bytes: &[u8]) {
        let Some(down) = self.downs.get_mut(id as usize).filter(|d| !d.closing) else { return };
        if down.tls.is_none() && !down.hello {
            return self.downstream_input(id, bytes, true);
        }
        if !down.proxy_header && !down.hello {
            return self.secure_input(id, bytes);
        }
        // Something is due in the clear first: a PROXY header, a ClientHello to look at.
        let mut kept = std::mem::take(&mut down.kept);
        kept.extend_from_slice(bytes);
        let mut at = 0;
        if down.proxy_header {
            match self.read_proxy_header(id, &kept) {
                Some(used) => at = used,
                None => return self.keep_raw(id, kept),
            }
        }
        if self.downs.get(id as usize).is_some_and(|d| d.hello) {
            kept.drain(..at);
            return self.look_at_hello(id, kept);
        }
        self.secure_input(id, &kept[at..]);
    }

    pub(super) fn keep_raw(&mut self, id: u32, kept: Vec<u8>) {
        if let Some(down) = self.downs.get_mut(id as usize).filter(|d| !d.closing) {
            down.kept = kept;
        }
    }

    /// Ciphertext of a client.
    pub(super) fn secure_input(&mut self, id: u32, bytes: &[u8]) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let mut out = Vec::new();
        let Some(session) = self.downs.get_mut(id as usize).and_then(|d| d.tls.as_mut()) else { return };
        let result = session.feed(bytes, &mut plain);
        session.output(&mut out);
        let facts = session.facts().cloned();
        self.actions.seal(ConnId::Down(id), out);
        if let Some(facts) = facts.filter(|_| self.downs[id as usize].peer.tls.is_none()) {
            self.meter.add(if facts.resumed { Counter::TlsResumed } else { Counter::TlsFull }, 1);
            self.secured(id, facts);
        }
        let early = result.as_ref().map_or(0, |fed| fed.early);
        if early > 0 {
            self.downs[id as usize].early = true;
            self.downstream_input(id, &plain[..early], false);
        }
        if let Ok(fed) = &result {
            if let Some(down) = self.downs.get_mut(id as usize) {
                down.early &= !fed.handshake_done;
            }
        }
        if plain.len() > early {
            self.downstream_input(id, &plain[early..], false);
        }
        plain.clear();
        if plain.capacity() <= 64 << 10 {
            self.plain = plain;
        }
        let Some(down) = self.downs.get_mut(id as usize).filter(|d| !d.closing) else { return };
        match result {
            Ok(fed) if fed.peer_closed => {
                down.goodbye = true;
                if self.downstream_eof(id) == AfterEof::Close {
                    self.close_down(id);
                }
            }
            Ok(_) => {}
            Err(_) => {
                if down.peer.tls.is_none() {
                    self.meter.add(Counter::TlsFailed, 1);
                }
                // The alert must reach a client that is still sending.
                down.unread = true;
                let ex = down.exchange.take();
                self.close_down(id);
                if let Some(ex) = ex {
                    self.exchanges[ex as usize].orphan = true;
                    self.client_left(ex);
                }
            }
        }
    }

    /// The handshake is done, or far enough for early data.
    fn secured(&mut self, id: u32, facts: Arc<crate::message::TlsFacts>) {
        let down = &mut self.downs[id as usize];
        let plan = &down.revision.entrypoints[down.peer.entrypoint as usize];
        let wait = plan.idle_timeout.min(plan.head_timeout);
        let http2 = plan.http2_enabled && facts.alpn.as_deref() == Some(b"h2");
        let bytes = plan.tcp;
        down.peer.tls = Some(facts);
        self.wheel.set(&mut down.deadline, self.now.mono + wait, Timer::Down(id));
        if bytes {
            self.begin_bytes(id);
        } else if http2 {
            self.begin_session(id, b"");
        } else {
            down.wire = DownWire::Http1;
        }
    }

    /// Whether what is sent on this connection is encrypted on the way out.
    pub(super) fn is_sealed(&self, conn: ConnId) -> bool {
        match conn {
            ConnId::Down(id) => self.downs.get(id as usize).is_some_and(|d| d.tls.is_some()),
            ConnId::Up(id) => self.ups.get(id as usize).is_some_and(|u| u.tls.is_some()),
        }
    }

    /// Sends `input[range]`: by reference where it is the caller's own input (`direct`), large, and goes as it is.
    pub(super) fn forward(&mut self, conn: ConnId, input: &[u8], range: std::ops::Range<usize>, direct: bool) {
        let direct = direct && !self.is_sealed(conn);
        self.actions.forward(conn, input, range, direct);
    }

    /// Bytes of an endpoint as they came.
    pub(super) fn upstream_raw(&mut self, id: u32, bytes: &[u8]) {
        let Some(up) = self.ups.get_mut(id as usize).filter(|u| !u.closing) else { return };
        let Some(session) = &mut up.tls else { return self.upstream_input(id, bytes, true) };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let mut out = Vec::new();
        let was = session.is_handshaking();
        let result = session.feed(bytes, &mut plain);
        session.output(&mut out);
        let done = was && session.facts().is_some();
        self.actions.seal(ConnId::Up(id), out);
        if done {
            self.up_open(id);
        }
        if !plain.is_empty() {
            self.upstream_input(id, &plain, false);
        }
        plain.clear();
        if plain.capacity() <= 64 << 10 {
            self.plain = plain;
        }
        match result {
            Ok(fed) if fed.peer_closed => {
                if let Some(up) = self.ups.get_mut(id as usize) {
                    up.goodbye = true;
                }
                if self.ups.get(id as usize).is_some_and(|u| !u.closing) && self.upstream_eof(id) == AfterEof::Close {
                    self.close_up(id);
                }
            }
            Ok(_) => {}
            Err(_) => self.upstream_insecure(id, was),
        }
    }

    /// TLS with an endpoint failed: in its handshake, or later.
    fn upstream_insecure(&mut self, id: u32, handshake: bool) {
        let Some(up) = self.ups.get_mut(id as usize).filter(|u| !u.closing) else { return };
        let (ex, endpoint) = (up.exchange, up.endpoint);
        if handshake {
            self.meter.add(Counter::UpstreamConnectErrors, 1);
            if std::mem::take(&mut up.opening) {
                self.mux_settled(endpoint);
            }
        } else {
            self.lose_mux(id);
        }
        match ex {
            Some(ex) => {
                let code = if handshake { Code::UpstreamTls } else { Code::UpstreamReset };
                self.attempt_failed(ex, code, Failure::Plain);
            }
            None => self.close_up(id),
        }
    }

    /// The transport to an endpoint is open: the handshake begins.
    pub(super) fn greet_endpoint(&mut self, id: u32) {
        let Some(up) = self.ups.get_mut(id as usize) else { return };
        let Some(session) = &mut up.tls else { return };
        let mut out = Vec::new();
        session.output(&mut out);
        // Whoever asked for it may have given up; the handshake must end all the same.
        self.wheel.set(&mut up.deadline, self.now.mono + up.greeting, Timer::Up(id));
        self.actions.seal(ConnId::Up(id), out);
    }

    /// Encrypts what this callback sends on sealed connections, and says goodbye before they close.
    pub(super) fn seal_actions(&mut self) {
        for action in self.actions.take() {
            let session = match action.connection() {
                Some(ConnId::Down(id)) => {
                    self.downs.get_mut(id as usize).and_then(|d| d.tls.as_deref_mut()).map(Session::Server)
                }
                Some(ConnId::Up(id)) => {
                    self.ups.get_mut(id as usize).and_then(|u| u.tls.as_deref_mut()).map(Session::Client)
                }
                None => None,
            };
            let Some(mut session) = session else {
                self.actions.push(action);
                continue;
            };
            match action {
                Action::Write { conn, data } => {
                    let mut out = self.actions.spare();
                    session.send(&data, &mut out);
                    self.actions.keep(data);
                    self.actions.seal(conn, out);
                }
                Action::WriteEof(conn) | Action::Close(conn) => {
                    let mut out = self.actions.spare();
                    session.close(&mut out);
                    self.actions.seal(conn, out);
                    self.actions.push(action);
                }
                // Plaintext may not leave by any way: there is none that leads here.
                Action::WriteInput { conn, .. } => self.actions.push(Action::Abort(conn)),
                other => self.actions.push(other),
            }
        }
    }
}

/// Either side's.
enum Session<'s> {
    Server(&'s mut tls::Server),
    Client(&'s mut tls::Client),
}

impl Session<'_> {
    fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        match self {
            Session::Server(session) => session.send(plain, out),
            Session::Client(session) => session.send(plain, out),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match self {
            Session::Server(session) => session.close(out),
            Session::Client(session) => session.close(out),
        }
    }
}
