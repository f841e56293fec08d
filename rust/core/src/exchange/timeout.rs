//! What happens when time is up, phase by phase.

use super::connection::{DownWire, Stage, UpWire};
use super::upstream::Failure;
use super::wheel::Timer;
use super::{Action, ConnId, Engine};
use crate::error::Code;
use crate::observe::{Counter, Gauge};
use crate::time::Now;
use std::time::Duration;

/// Longest wait for a record to become durable before the log counts as broken for this exchange.
pub const AUDIT: Duration = Duration::from_secs(10);

/// The tick the caller promises; later is lag.
pub const TICK: Duration = Duration::from_millis(20);

/// How often gauges are set that take a look at every connection.
const COUNT_EVERY: Duration = Duration::from_secs(1);

impl Engine {
    /// To be called every [`TICK`].
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        if let Some(last) = self.last_tick.replace(now.mono) {
            let lag = now.mono.since(last).saturating_sub(TICK);
            self.meter.loop_lag(now.mono, lag.as_nanos() as u64);
        }
        if now.mono.since(self.last_count) >= COUNT_EVERY {
            self.last_count = now.mono;
            if let Some(tls) = &self.tls {
                tls.set_now(now.wall_ns / 1_000_000_000);
            }
            self.set_gauges();
        }
        self.wheel.advance(now.mono, &mut self.woken);
        // One at a time: those behind one that goes wrong are still there at the next tick.
        while let Some(timer) = self.woken.pop() {
            match timer {
                Timer::Down(id) => self.down_woken(id, timer),
                Timer::Up(id) => self.up_woken(id, timer),
                Timer::Exchange(ex) => self.exchange_woken(ex, timer),
            }
        }
        self.judge_on();
        self.begun = 0;
        for id in std::mem::take(&mut self.deferred) {
            if let Some(down) = self.downs.get_mut(id as usize) {
                down.deferred = false;
                self.ready.push(id);
            }
        }
        self.settle();
    }

    fn set_gauges(&self) {
        let (mut idle, mut used) = (0, 0);
        for (_, up) in &self.ups {
            let busy = match &up.wire {
                UpWire::Stream { .. } => continue,
                UpWire::Http2(session) => session.streams() > 0,
                UpWire::Http1 => up.exchange.is_some(),
            };
            *(if busy { &mut used } else { &mut idle }) += 1;
        }
        let paused = self.ups.iter().filter(|(_, up)| up.pauses != 0).count()
            + self.downs.iter().filter(|(_, down)| down.pauses != 0).count();
        let revisions = self.published.iter().filter(|r| r.strong_count() > 0).count();
        self.meter.set(Gauge::UpstreamIdle, idle);
        self.meter.set(Gauge::UpstreamOpen, used);
        self.meter.set(Gauge::Paused, paused as u64);
        self.meter.set(Gauge::Revisions, revisions as u64);
    }

    fn down_woken(&mut self, id: u32, timer: Timer) {
        let Some(down) = self.downs.get_mut(id as usize) else { return };
        if !self.wheel.woken(&mut down.deadline, self.now.mono, timer) {
            return;
        }
        if down.closing {
            return self.abort_down(id);
        }
        if matches!(down.wire, DownWire::Http2(_)) {
            return self.session_woken(id);
        }
        let Some(ex) = down.exchange else {
            if down.tls.is_some() && down.peer.tls.is_none() || down.hello {
                self.meter.add(Counter::TimeoutHandshake, 1);
                return self.abort_down(id);
            }
            if down.head_begun.is_some() || down.proxy_header {
                self.meter.add(Counter::TimeoutHead, 1);
                // The head never became a request; the client is told before it is let go.
                let exchange = self.spare.pop().unwrap_or_default();
                let ex = self.adopt(id, exchange);
                self.exchanges[ex as usize].request_complete = true;
                return self.refuse_and_close(
                    ex,
                    Code::RequestTimeout,
                    Some("the request head did not arrive in time"),
                );
            }
            self.meter.add(Counter::TimeoutIdle, 1);
            return self.close_down(id);
        };
        if down.write_blocked {
            // The client does not read its answer.
            self.meter.add(Counter::TimeoutBody, 1);
            if !self.socket_stalled(ex) {
                self.cut(ex, Code::ClientClosed);
            }
        } else if self.exchanges[ex as usize].request_complete {
            // The answer is what is waited for.
        } else if self.exchanges[ex as usize].up.is_some_and(|up| self.ups[up as usize].write_blocked) {
            self.meter.add(Counter::TimeoutUpstreamBody, 1);
            self.attempt_failed(ex, Code::UpstreamTimeout, Failure::Plain);
        } else if down.pauses != 0 {
            // It is we who do not read; the step that holds us up has a deadline of its own.
            let wait = down.revision.entrypoints[down.peer.entrypoint as usize].body_timeout;
            self.wheel.set(&mut down.deadline, self.now.mono + wait, timer);
        } else {
            self.meter.add(Counter::TimeoutBody, 1);
            self.fail_request(ex, Code::RequestTimeout, Some("the request body did not arrive in time"));
        }
    }

    fn up_woken(&mut self, id: u32, timer: Timer) {
        let Some(up) = self.ups.get_mut(id as usize) else { return };
        if !self.wheel.woken(&mut up.deadline, self.now.mono, timer) {
            return;
        }
        if up.closing && matches!(up.wire, UpWire::Stream { .. }) {
            return self.remove_place(id);
        }
        if up.closing {
            return self.actions.push(Action::Abort(ConnId::Up(id)));
        }
        if up.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            let ex = up.exchange.take();
            self.close_up(id);
            if let Some(ex) = ex {
                self.meter.add(Counter::TimeoutConnect, 1);
                self.exchanges[ex as usize].up = None;
                self.attempt_failed(ex, Code::ConnectTimeout, Failure::Plain);
            }
            return;
        }
        let Some(ex) = up.exchange else {
            return self.close_up(id);
        };
        debug_assert!(!matches!(up.wire, UpWire::Http2(_)), "a session's exchanges have places of their own");
        if up.pauses != 0 {
            // It is we who do not read: the client's own deadline decides.
            let wait = self.upstream_body_timeout(ex);
            let up = &mut self.ups[id as usize];
            self.wheel.set(&mut up.deadline, self.now.mono + wait, timer);
            return;
        }
        let stage = self.exchanges[ex as usize].stage;
        match stage {
            Stage::Tunnel if self.socket_drained(ex) => {}
            Stage::Tunnel => self.tunnel_end(ex),
            Stage::Sending => {
                self.meter.add(Counter::TimeoutFirstByte, 1);
                self.attempt_failed(ex, Code::UpstreamTimeout, Failure::Plain);
            }
            _ => {
                self.meter.add(Counter::TimeoutUpstreamBody, 1);
                self.attempt_failed(ex, Code::UpstreamTimeout, Failure::Plain);
            }
        }
    }

    fn exchange_woken(&mut self, ex: u32, timer: Timer) {
        let deadlines = &mut self.deadlines[ex as usize];
        let total = self.wheel.woken(&mut deadlines.total, self.now.mono, timer);
        let step = self.wheel.woken(&mut deadlines.step, self.now.mono, timer);
        let Some(exchange) = self.exchanges.get(ex as usize) else { return };
        let (stage, serial) = (exchange.stage, exchange.serial);
        if total && stage != Stage::AwaitOutcome {
            self.meter.add(Counter::TimeoutTotal, 1);
            if stage == Stage::Tunnel {
                return self.tunnel_end(ex);
            }
            self.forget_attempt(ex);
            self.drop_upstream(ex);
            if self.exchanges[ex as usize].answer_begun {
                return self.cut(ex, Code::UpstreamTimeout);
            }
            return self.refuse(ex, Code::UpstreamTimeout, Some("the exchange took longer than its route allows"));
        }
        if step {
            match stage {
                Stage::Backoff => self.connect(ex),
                Stage::Connecting => {
                    self.meter.add(Counter::TimeoutConnect, 1);
                    if self.exchanges[ex as usize].up.is_some() {
                        return self.attempt_failed(ex, Code::ConnectTimeout, Failure::Plain);
                    }
                    if self.exchanges[ex as usize].llm.is_some() {
                        return self.target_failed(ex, Code::NoEndpoint, None);
                    }
                    self.refuse(ex, Code::NoEndpoint, Some("no connection came free in time"));
                }
                Stage::AwaitIntent | Stage::AwaitOutcome => self.not_durable(ex, serial),
                Stage::Tunnel => self.socket_woken(ex),
                Stage::Sending | Stage::Answering if self.awaits_first_token(ex) => {
                    self.meter.add(Counter::TimeoutFirstByte, 1);
                    self.attempt_failed(ex, Code::UpstreamTimeout, Failure::Plain);
                }
                _ => {}
            }
        }
    }
}
