//! What becomes of an endpoint's connection when its exchange is done with it: kept, given on, or closed.

use super::connection::{pause, Stage, UpWire};
use super::wheel::Timer;
use super::{Action, ConnId, Engine};
use crate::observe::Counter;
use std::time::Duration;

/// How long a closed connection may take to swallow what was written to it.
const UNWRITTEN: Duration = Duration::from_secs(30);

impl Engine {
    /// Parts the exchange from its upstream connection, which is not used again.
    pub(super) fn drop_upstream(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        if let Some(id) = exchange.up.take() {
            if let Some(up) = self.ups.get_mut(id as usize) {
                up.exchange = None;
                match up.wire {
                    UpWire::Stream { .. } => return self.remove_place(id),
                    // Still being greeted: it will serve whoever waits, or the next.
                    UpWire::Http2(_) => return,
                    UpWire::Http1 if up.opening && up.tls.as_ref().is_none_or(|t| t.is_handshaking()) => return,
                    UpWire::Http1 => {}
                }
                self.abort_up(id);
            }
        }
    }

    /// The connection carried a complete exchange and is free.
    pub(super) fn release_up(&mut self, id: u32) {
        let Some(up) = self.ups.get_mut(id as usize) else { return };
        up.exchange = None;
        if matches!(up.wire, UpWire::Stream { .. }) {
            return self.remove_place(id);
        }
        self.wheel.clear(&mut up.deadline);
        // One whose end was seen while its answer was shown to plugins is complete, and spent.
        if up.client.reusable() && up.kept.is_empty() && !up.read_closed && !up.closing {
            self.pause_up(id, pause::PEER, false);
            self.idle_up(id);
        } else {
            self.close_up(id);
        }
    }

    /// Gives a usable connection to whoever waits for one, or to the pool.
    pub(super) fn idle_up(&mut self, id: u32) {
        let endpoint = self.ups[id as usize].endpoint;
        if let Some((ex, service, index)) = self.next_waiter(endpoint) {
            self.meter.add(Counter::PoolReuse, 1);
            let Some(revision) = self.exchanges[ex as usize].revision.clone() else { return };
            self.begin_attempt(ex, &revision.services[service as usize], index);
            return self.send(ex, id);
        }
        let (max_idle, timeout) = self.revision.pooling(endpoint);
        let expires = self.now.mono + timeout;
        if let Some(evicted) = self.pool.put(endpoint, id, expires, max_idle) {
            self.close_up(evicted);
        }
        if let Some(up) = self.ups.get_mut(id as usize).filter(|up| !up.closing) {
            self.wheel.set(&mut up.deadline, expires, Timer::Up(id));
        }
    }

    /// The exchange that has waited longest for this endpoint and still does: with its service and endpoint.
    pub(super) fn next_waiter(&mut self, endpoint: u64) -> Option<(u32, u32, u32)> {
        while let Some((ex, serial)) = self.pool.next_waiter(endpoint) {
            let exchange = self.exchanges.get(ex as usize);
            let Some(exchange) = exchange.filter(|e| e.serial == serial && e.stage == Stage::Connecting) else {
                continue;
            };
            let Some(revision) = exchange.revision.as_ref() else { continue };
            if let (Some(service), Some(index), None) = (exchange.service, exchange.endpoint, exchange.up) {
                // It may wait for another endpoint by now: a call that failed over to another provider.
                let plan = revision.services.get(service as usize).and_then(|s| s.endpoints.get(index as usize));
                if plan.is_some_and(|plan| plan.key == endpoint) {
                    return Some((ex, service, index));
                }
            }
        }
        None
    }

    /// A connection slot of this endpoint came free: whoever waits picks again.
    ///
    /// One that picks another endpoint leaves the slot to the next.
    pub(super) fn wake_waiting(&mut self, endpoint: u64) {
        let open = self.pool.open_count(endpoint);
        for _ in 0..self.pool.waiting_count(endpoint) {
            let Some((ex, _, _)) = self.next_waiter(endpoint) else { return };
            self.connect(ex);
            if self.pool.open_count(endpoint) > open {
                return;
            }
        }
    }

    /// Ends an endpoint's side at once.
    pub(super) fn abort_up(&mut self, id: u32) {
        let Some(up) = self.ups.get_mut(id as usize) else { return };
        if matches!(up.wire, UpWire::Stream { .. }) {
            return self.remove_place(id);
        }
        if up.connected && !up.closing {
            up.closing = true;
            self.wheel.clear(&mut up.deadline);
            self.actions.push(Action::Abort(ConnId::Up(id)));
        }
    }

    pub(super) fn close_up(&mut self, id: u32) {
        if let Some(up) = self.ups.get_mut(id as usize) {
            if matches!(up.wire, UpWire::Stream { .. }) {
                return self.remove_place(id);
            }
            if up.exchange.is_none() {
                self.pool.remove(up.endpoint, id);
            }
            if !up.closing && up.connected {
                up.closing = true;
                if std::mem::take(&mut up.opening) {
                    let endpoint = up.endpoint;
                    self.mux_settled(endpoint);
                }
                let up = &mut self.ups[id as usize];
                self.wheel.set(&mut up.deadline, self.now.mono + UNWRITTEN, Timer::Up(id));
                self.actions.push(Action::Close(ConnId::Up(id)));
            }
        }
    }
}
