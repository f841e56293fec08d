//! TCP routes: a connection that is passed on as bytes, recorded and counted like an exchange.
//!
//! The client's connection becomes an exchange without a request: its intent is written before an endpoint is called,
//! its outcome when either side has ended. Which route it takes is decided by what is known without speaking: the
//! entrypoint, the client's address, and the names in its ClientHello, which is looked at and left as it is.

use super::connection::{Down, DownWire, Exchange, Stage};
use super::identity::Trace;
use super::wheel::Timer;
use super::{ConnId, Engine};
use crate::config::{ProxyProtocol, TcpTls};
use crate::error::Code;
use crate::message::Method;
use crate::observe::Counter;
use crate::proxy_protocol;
use crate::route::tcp::Seen;
use crate::tls::client_hello;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

impl Engine {
    /// The ClientHello, as far as it has come: decides who gets the connection.
    pub(super) fn look_at_hello(&mut self, id: u32, kept: Vec<u8>) {
        let hello = match kept.first() {
            None => return,
            // A handshake record; anything else is not TLS.
            Some(22) => match client_hello(&kept) {
                Ok(Some(hello)) => Some(hello),
                Ok(None) => return self.keep_raw(id, kept),
                Err(_) => None,
            },
            Some(_) => None,
        };
        self.refresh(id);
        let Some(down) = self.downs.get_mut(id as usize) else { return };
        down.hello = false;
        let revision = down.revision.clone();
        let tcp = revision.entrypoints[down.peer.entrypoint as usize].tcp;
        down.asked = hello.map(Box::new);
        let passed = match revision.tcp.find(&seen(down), None) {
            Some(route) => revision.routes[route as usize].tcp.as_ref().is_some_and(|t| t.tls == TcpTls::Passthrough),
            None => false,
        };
        if passed || (tcp && down.tls.is_none()) {
            // TLS, if that is what it is, is between the client and its endpoint.
            down.tls = None;
            down.kept = kept;
            return self.begin_bytes(id);
        }
        if !tcp {
            down.asked = None;
        }
        if down.tls.is_none() {
            return self.downstream_input(id, &kept, false);
        }
        self.secure_input(id, &kept);
    }

    /// Passes the connection on as bytes, by the route that matches.
    pub(super) fn begin_bytes(&mut self, id: u32) {
        self.refresh(id);
        let Some(down) = self.downs.get_mut(id as usize) else { return };
        down.wire = DownWire::Bytes;
        let revision = down.revision.clone();
        // What was encrypted goes only where plaintext is meant to go, and the other way round.
        let tls = if down.tls.is_some() { TcpTls::Terminate } else { TcpTls::Passthrough };
        let route = revision.tcp.find(&seen(down), Some(tls));
        let name = seen(down).sni.map(|name| name.as_bytes().to_vec()).unwrap_or_default();
        down.asked = None;
        let mut ex: Box<Exchange> = self.spare.pop().unwrap_or_default();
        // A connection has no method; this one is what opens others through a gateway.
        ex.head.method = Method::Connect;
        let ex = self.adopt(id, ex);
        let exchange = &mut self.exchanges[ex as usize];
        exchange.raw = true;
        exchange.parsed = true;
        exchange.request_complete = true;
        exchange.replayable = true;
        exchange.trace = Trace::begin(None, revision.sample, &mut self.entropy);
        exchange.head.host = name;
        exchange.route = route;
        let Some(route) = route else {
            self.meter.add(Counter::ConnectionsUnrouted, 1);
            return self.end_bytes(ex, Code::NoRoute);
        };
        let plan = &revision.routes[route as usize];
        exchange.service = plan.service;
        if self.ledger.broken && plan.audit.fail == crate::config::Fail::Closed {
            return self.end_bytes(ex, Code::AuditFailed);
        }
        if let Some(life) = plan.tcp.as_ref().map(|t| t.max_lifetime).filter(|life| !life.is_zero()) {
            let until = self.exchanges[ex as usize].started + life;
            self.wheel.set(&mut self.deadlines[ex as usize].total, until, Timer::Exchange(ex));
        }
        // Not read beyond what is kept until an endpoint can take it.
        self.pause_down(id, super::pause::KEPT, true);
        self.dispatch(ex);
    }

    /// The connection ends without an endpoint, or with it.
    pub(super) fn end_bytes(&mut self, ex: u32, code: Code) {
        let exchange = &mut self.exchanges[ex as usize];
        exchange.code = Some(code);
        exchange.close_after = true;
        let (down, orphan) = (exchange.down, exchange.orphan);
        self.write_intent_of_refused(ex);
        self.forget_attempt(ex);
        self.drop_upstream(ex);
        if !orphan {
            self.abort_down(down);
        }
        self.write_outcome(ex);
        self.complete(ex);
    }

    /// The endpoint's connection is open: what is known of the client, then what the client has sent.
    pub(super) fn join_bytes(&mut self, ex: u32, id: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some((revision, route)) = exchange.revision.clone().zip(exchange.route) else { return };
        let Some(plan) = &revision.routes[route as usize].tcp else { return };
        exchange.stage = Stage::Tunnel;
        exchange.answer_begun = true;
        exchange.sent = Some(self.now.mono);
        let client = SocketAddr::new(exchange.peer.ip, exchange.peer.port);
        let down = exchange.down;
        let local = self.downs.get(down as usize).and_then(|d| d.local);
        if plan.proxy_protocol != ProxyProtocol::Off {
            let to = local.unwrap_or_else(|| match client.ip() {
                IpAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
                IpAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
            });
            let out = self.actions.buffer(ConnId::Up(id));
            match plan.proxy_protocol {
                ProxyProtocol::V1 => proxy_protocol::write_v1(out, client, to),
                _ => proxy_protocol::write_v2(out, client, to),
            }
        }
        self.ups[id as usize].client.tunnel();
        self.wheel.clear(&mut self.deadlines[ex as usize].step);
        let Some(client) = self.downs.get_mut(down as usize) else { return };
        let (kept, read_closed) = (std::mem::take(&mut client.kept), client.read_closed);
        if !kept.is_empty() {
            self.tunnel_to_up(ex, &kept, 0, false);
        }
        if read_closed {
            self.up_eof(id);
        }
        self.pause_down(down, super::pause::KEPT, false);
        self.tunnel_alive(ex);
        self.tunnel_direct(ex);
    }

    /// Longest silence of a tunnel.
    pub(super) fn tunnel_timeout(&self, ex: u32) -> Option<Duration> {
        let exchange = &self.exchanges[ex as usize];
        let route = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        if let Some(tcp) = route.and_then(|r| r.tcp.as_ref()) {
            return Some(tcp.idle_timeout);
        }
        let down = self.downs.get(exchange.down as usize)?;
        Some(down.revision.entrypoints[down.peer.entrypoint as usize].tunnel_timeout)
    }
}

fn seen(down: &Down) -> Seen<'_> {
    let facts = down.peer.tls.as_deref();
    let asked = down.asked.as_deref();
    Seen {
        entrypoint: down.peer.entrypoint,
        ip: down.peer.ip,
        sni: asked.and_then(|h| h.sni.as_deref()).or(facts.and_then(|f| f.sni.as_deref())),
        alpn: match asked {
            Some(hello) => hello.alpn.iter().map(Vec::as_slice).collect(),
            None => facts.and_then(|f| f.alpn.as_deref()).into_iter().collect(),
        },
    }
}
