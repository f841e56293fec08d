//! Joins intents and outcomes to calls, and picks those asked for.
//!
//! Rules:
//! 1. A call's records lie in one log. Its intent waits here until its outcome comes.
//! 2. An intent whose writer is gone, or that was pushed out by [`WAITING`] younger ones, is told without an
//!    outcome: what became of the call is unknown.

use crate::audit_tail::Event;
use pygate_core::audit::codec::{Encoded, INTENT, OUTCOME};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Intents that may wait per log.
const WAITING: usize = 200_000;

/// Which calls are asked for; the default asks for all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub sampled_only: bool,
    /// Not begun before, ns since the Unix epoch.
    pub since_ns: u64,
    pub route: Option<String>,
    /// Lowest and highest status; calls without outcome never match it.
    pub status: Option<(u16, u16)>,
    /// Only calls without outcome.
    pub unknown_only: bool,
    pub exchange: Option<[u8; 16]>,
}

/// A record kept with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub sequence: u64,
    kind: u8,
    fields: Box<[u8]>,
}

impl Kept {
    fn new(sequence: u64, record: &Encoded<'_>) -> Kept {
        Kept { sequence, kind: record.kind, fields: record.raw_fields.into() }
    }
    pub fn record(&self) -> Encoded<'_> {
        Encoded { kind: self.kind, raw_fields: &self.fields }
    }
    fn placed(&self) -> Placed<'_> {
        Placed { sequence: self.sequence, record: self.record() }
    }
}

/// A record with its place, borrowed from the log or from an intent that waited.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    pub sequence: u64,
    pub record: Encoded<'a>,
}

/// What is known of a call, as it is told: at least one of the two.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    pub log: &'a str,
    pub intent: Option<Placed<'a>>,
    pub outcome: Option<Placed<'a>>,
}

impl Joined<'_> {
    pub fn keep(&self) -> Call {
        let kept = |placed: Placed<'_>| Kept::new(placed.sequence, &placed.record);
        Call { log: self.log.into(), intent: self.intent.map(kept), outcome: self.outcome.map(kept) }
    }

    fn wall_ns(&self) -> u64 {
        self.intent.or(self.outcome).map_or(0, |placed| placed.record.wall_ns())
    }
}

/// A call that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub log: String,
    pub intent: Option<Kept>,
    pub outcome: Option<Kept>,
}

impl Call {
    /// When it began (its end, if only that is known), ns since the Unix epoch.
    pub fn wall_ns(&self) -> u64 {
        self.intent.as_ref().or(self.outcome.as_ref()).map_or(0, |kept| kept.record().wall_ns())
    }
}

impl Filter {
    fn wants(&self, call: &Joined<'_>) -> bool {
        let intent = call.intent.map(|placed| placed.record);
        let outcome = call.outcome.map(|placed| placed.record);
        let route = |wanted: &String| intent.is_some_and(|intent| intent.route() == wanted.as_bytes());
        let status = |(low, high): (u16, u16)| outcome.is_some_and(|o| (low..=high).contains(&o.status()));
        let exchange = |wanted| intent.or(outcome).is_some_and(|record| record.exchange() == Some(wanted));
        (!self.sampled_only || intent.is_some_and(|intent| intent.sampled()))
            && (self.since_ns == 0 || call.wall_ns() >= self.since_ns)
            && self.route.as_ref().is_none_or(route)
            && self.status.is_none_or(status)
            && (!self.unknown_only || outcome.is_none())
            && self.exchange.is_none_or(exchange)
    }
}

/// Joins the records of all logs; feed it every event of a [`crate::audit_tail::Tail`].
#[derive(Default)]
pub struct Join {
    pub filter: Filter,
    logs: BTreeMap<String, Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// With the intent's sequence. `None`: one that the filter turns down whatever comes; its outcome is not
    /// told either.
    intents: HashMap<[u8; 16], (u64, Option<Kept>)>,
    /// Intents by age, also some that wait no more; the sequence tells apart those that share an id.
    order: VecDeque<([u8; 16], u64)>,
}

impl Join {
    pub fn new(filter: Filter) -> Join {
        Join { filter, logs: BTreeMap::new() }
    }

    pub fn feed(&mut self, event: Event<'_>, done: &mut dyn FnMut(Joined<'_>)) {
        match event {
            Event::NewWriter { log } => {
                if let Some(waiting) = self.logs.remove(log) {
                    waiting.unknown(log, &self.filter, done);
                }
            }
            Event::Record { log, sequence, record } => {
                if !self.logs.contains_key(log) {
                    self.logs.insert(log.into(), Waiting::default());
                }
                if let (Some(waiting), Some(exchange)) = (self.logs.get_mut(log), record.exchange()) {
                    waiting.feed(log, exchange, sequence, &record, &self.filter, done);
                }
            }
        }
    }

    /// Tells the calls that still wait, as unknown.
    pub fn finish(&mut self, done: &mut dyn FnMut(Joined<'_>)) {
        for (log, waiting) in std::mem::take(&mut self.logs) {
            waiting.unknown(&log, &self.filter, done);
        }
    }
}

impl Waiting {
    fn feed(
        &mut self,
        log: &str,
        exchange: [u8; 16],
        sequence: u64,
        record: &Encoded<'_>,
        filter: &Filter,
        done: &mut dyn FnMut(Joined<'_>),
    ) {
        let mut tell = |intent: Option<&Kept>, outcome| {
            let call = Joined { log, intent: intent.map(Kept::placed), outcome };
            if filter.wants(&call) {
                done(call);
            }
        };
        let here = Placed { sequence, record: *record };
        match record.kind {
            INTENT => {
                let hopeless = (filter.sampled_only && !record.sampled())
                    || filter.exchange.is_some_and(|wanted| wanted != exchange)
                    || filter.route.as_ref().is_some_and(|wanted| record.route() != wanted.as_bytes());
                let kept = (!hopeless).then(|| Kept::new(sequence, record));
                // An id that comes again (a trusted client chose it) is another call.
                if let Some((_, Some(before))) = self.intents.insert(exchange, (sequence, kept)) {
                    tell(Some(&before), None);
                }
                self.order.push_back((exchange, sequence));
                if self.order.len() > 2 * self.intents.len() + 1024 {
                    let intents = &self.intents;
                    self.order.retain(|(exchange, sequence)| intents.get(exchange).is_some_and(|i| i.0 == *sequence));
                }
                while self.intents.len() > WAITING {
                    let Some(oldest) = self.order.pop_front() else { break };
                    if let Some(Some(intent)) = self.take(oldest) {
                        tell(Some(&intent), None);
                    }
                }
            }
            OUTCOME => match self.intents.remove(&exchange) {
                Some((_, None)) => {}
                Some((_, intent)) => tell(intent.as_ref(), Some(here)),
                None => tell(None, Some(here)),
            },
            _ => {}
        }
    }

    /// Takes the intent of this id out if it is still the one with this sequence.
    fn take(&mut self, (exchange, sequence): ([u8; 16], u64)) -> Option<Option<Kept>> {
        let same = self.intents.get(&exchange).is_some_and(|intent| intent.0 == sequence);
        same.then(|| self.intents.remove(&exchange)).flatten().map(|intent| intent.1)
    }

    fn unknown(mut self, log: &str, filter: &Filter, done: &mut dyn FnMut(Joined<'_>)) {
        while let Some(oldest) = self.order.pop_front() {
            if let Some(Some(intent)) = self.take(oldest) {
                let call = Joined { log, intent: Some(intent.placed()), outcome: None };
                if filter.wants(&call) {
                    done(call);
                }
            }
        }
    }
}
