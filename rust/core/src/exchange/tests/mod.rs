//! The engine in virtual time, between scripted clients and upstreams.

mod answers;
mod compressed;
mod deadlines;
mod durability;
mod grpc;
mod guarded;
mod http2;
mod interleaved;
mod llm;
mod messages;
mod plugins;
mod retries;
mod streams;
mod tls;
mod websocket;
mod world;

use super::connection::UpWire;
use super::Engine;

impl Engine {
    /// What must hold between any two callbacks.
    pub fn assert_consistent(&self) {
        let mut by_endpoint = std::collections::BTreeMap::<u64, (usize, u32)>::new();
        for (id, up) in &self.ups {
            if !matches!(up.wire, UpWire::Stream { .. }) {
                let kept = matches!(up.wire, UpWire::Http1) && up.connected && !up.closing && up.exchange.is_none();
                let counts = by_endpoint.entry(up.endpoint).or_default();
                counts.0 += usize::from(kept);
                counts.1 += 1;
            }
            if let Some(ex) = up.exchange {
                assert_eq!(self.exchanges[ex as usize].up, Some(id as u32), "an upstream connection of two exchanges");
            }
        }
        for (key, (idle, open)) in by_endpoint {
            assert_eq!(self.pool.idle_count(key), idle, "idle in the pool, or else attached");
            assert_eq!(self.pool.open_count(key), open);
        }
        for (id, down) in &self.downs {
            if let Some(ex) = down.exchange {
                assert_eq!(self.exchanges[ex as usize].down, id as u32);
            }
        }
        let attached = self.downs.iter().filter(|(_, d)| d.exchange.is_some()).count();
        let orphans = self.exchanges.iter().filter(|(_, e)| e.orphan).count();
        assert_eq!(attached + orphans, self.exchanges.len());
        if self.exchanges.is_empty() {
            for service in &self.revision.services {
                for endpoint in &service.endpoints {
                    assert_eq!(self.balancer.in_flight(endpoint.key), 0, "a request is counted for ever");
                }
            }
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const GET: &str = "GET /a HTTP/1.1\r\nhost: h\r\n\r\n";
