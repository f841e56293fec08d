//! What a load command has seen, shared by the tasks of its one thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Seen {
    /// Times of what was answered, in µs.
    times: Vec<u32>,
    connect: u64,
    read: u64,
    status: u64,
}

/// Counts and times; clones share them.
#[derive(Clone)]
pub struct Outcome {
    seen: Rc<RefCell<Seen>>,
    started: Instant,
    until: Instant,
}

/// Why something was not answered.
pub enum Failure {
    /// No connection or handshake.
    Connect,
    /// The connection ended or went wrong before the whole answer.
    Read,
    /// A complete answer that is not the one asked for.
    Status,
}

impl Outcome {
    pub fn new(seconds: f64) -> Outcome {
        let started = Instant::now();
        Outcome { seen: Rc::default(), started, until: started + Duration::from_secs_f64(seconds) }
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    pub fn until(&self) -> Instant {
        self.until
    }

    pub fn answered(&self, since: Instant) {
        let micros = since.elapsed().as_micros().min(u128::from(u32::MAX));
        self.seen.borrow_mut().times.push(micros as u32);
    }

    pub fn failed(&self, why: Failure) {
        let mut seen = self.seen.borrow_mut();
        match why {
            Failure::Connect => seen.connect += 1,
            Failure::Read => seen.read += 1,
            Failure::Status => seen.status += 1,
        }
    }

    /// Prints the line of JSON.
    pub fn tell(&self) {
        self.tell_with("");
    }

    /// Prints it with more members.
    pub fn tell_with(&self, more: &str) {
        let mut seen = self.seen.borrow_mut();
        seen.times.sort_unstable();
        println!(
            "{{\"requests\":{},\"seconds\":{:.6},\"connect\":{},\"read\":{},\"write\":0,\"status\":{},\"timeout\":0,\
             \"p50\":{},\"p99\":{},\"max\":{}{}{more}}}",
            seen.times.len(),
            self.started.elapsed().as_secs_f64(),
            seen.connect,
            seen.read,
            seen.status,
            at(&seen.times, 0.5),
            at(&seen.times, 0.99),
            at(&seen.times, 1.0),
            if more.is_empty() { "" } else { "," }
        );
    }
}

/// The value that a share of sorted ones do not exceed; 0 of none.
pub fn at(sorted: &[u32], share: f64) -> u32 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share) as usize).copied().unwrap_or(0)
}
