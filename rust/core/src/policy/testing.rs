//! A bench to run one policy on, in virtual time and real shared memory.

use super::{EndCx, Flow, Notes, Policy, RequestCx};
use crate::error::Code;
use crate::message::{PathOptions, Peer, RequestHead};
use crate::shared::{Layout, Shared};
use crate::time::{Instant, Now};
use std::time::Duration;

/// What an exchange would hand to a policy; tests change what they need.
pub struct Bench {
    pub shared: Shared,
    pub head: RequestHead,
    pub peer: Peer,
    pub notes: Notes,
    pub now: Now,
    pub worker: usize,
    pub route: u64,
    pub code: Option<Code>,
    upstream: (bool, bool),
}

impl Bench {
    pub fn new() -> Bench {
        Bench {
            shared: memory(Layout::for_workers(2)),
            head: RequestHead::default(),
            peer: Peer::default(),
            notes: Notes::default(),
            now: Now { mono: Instant(1_000_000_000_000), wall_ns: 0 },
            worker: 0,
            route: 1,
            code: None,
            upstream: (false, false),
        }
    }

    /// Starts over with a limiter table of so many words.
    pub fn shrink_limits(&mut self, words: usize) {
        let mut layout = Layout::for_workers(2);
        layout.words[crate::shared::Region::Limits as usize] = words;
        self.shared = memory(layout);
    }

    pub fn advance(&mut self, by: Duration) {
        self.now.mono = self.now.mono + by;
    }

    /// Runs `on_request` and returns its flow and slot.
    pub fn request(&mut self, policy: &dyn Policy) -> (Flow, u64) {
        let mut slot = 0;
        let mut cx = RequestCx {
            head: &mut self.head,
            peer: &self.peer,
            now: self.now,
            shared: &self.shared,
            worker: self.worker,
            route: self.route,
            path_options: PathOptions::default(),
            notes: &mut self.notes,
        };
        let flow = policy.on_request(&mut cx, &mut slot);
        (flow, slot)
    }

    /// What the next [`Bench::end`] says about the upstream.
    pub fn upstream(&mut self, called: bool, failed: bool) {
        self.upstream = (called, failed);
    }

    pub fn end(&self) -> EndCx<'_> {
        EndCx {
            now: self.now,
            shared: &self.shared,
            worker: self.worker,
            status: 200,
            code: self.code,
            upstream_called: self.upstream.0,
            upstream_failed: self.upstream.1,
        }
    }

    /// Fields noted for the answer, `name: value` joined by `, `.
    pub fn fields(&self) -> String {
        let lines = self.notes.response_fields.iter();
        let text = lines.map(|(_, n, v)| format!("{}: {}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)));
        text.collect::<Vec<_>>().join(", ")
    }
}

fn memory(layout: Layout) -> Shared {
    Shared::format(&tempfile::tempfile().unwrap(), layout).unwrap()
}
