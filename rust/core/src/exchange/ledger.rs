//! Audit records on their way to the log, and who waits for them to be durable.

use std::collections::VecDeque;

/// What [`super::Engine::take_records`] handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub records: u32,
    /// Somebody waits for these records.
    pub durable: bool,
}

#[derive(Debug, Default)]
pub struct Ledger {
    /// Encoded records.
    pub bytes: Vec<u8>,
    batch: Batch,
    /// Records made in this engine's life.
    made: u64,
    /// How many of them are on disk.
    pub durable: u64,
    pub broken: bool,
    /// (record count, exchange, serial), in order.
    waiting: VecDeque<(u64, u32, u64)>,
}

impl Ledger {
    /// A record was appended to `bytes`.
    pub fn made(&mut self) {
        self.batch.records += 1;
        self.made += 1;
    }

    /// `exchange` goes on when everything made so far is on disk.
    pub fn wait(&mut self, exchange: u32, serial: u64) {
        self.batch.durable = true;
        self.waiting.push_back((self.made, exchange, serial));
    }

    pub fn take(&mut self, into: &mut Vec<u8>) -> Batch {
        into.clear();
        std::mem::swap(into, &mut self.bytes);
        std::mem::take(&mut self.batch)
    }

    pub fn next_released(&mut self) -> Option<(u32, u64)> {
        match self.waiting.front() {
            Some(&(count, exchange, serial)) if count <= self.durable => {
                self.waiting.pop_front();
                Some((exchange, serial))
            }
            _ => None,
        }
    }

    /// Everybody who waits, when waiting has become pointless.
    pub fn give_up(&mut self) -> Vec<(u32, u64)> {
        self.waiting.drain(..).map(|(_, exchange, serial)| (exchange, serial)).collect()
    }
}
