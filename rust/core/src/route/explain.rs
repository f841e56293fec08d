//! Why a request takes the route it takes: the long way round the same decision, for people.
//!
//! Looks at every route, so it is for `pygate explain` and the dashboard, never for the request path. It
//! evaluates conditions one by one instead of asking the index; that the two agree is tested.

use super::condition::{Condition, Seen, Tree};
use super::{Entry, RouteTable};
use crate::message::{Peer, RequestHead};
use serde::Serialize;
use std::cmp::Reverse;

/// Losers shown at most.
const NEAREST: usize = 5;

/// The decision and its reasons.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub method: String,
    pub host: String,
    /// Canonical path, as matching saw it.
    pub path: String,
    pub winner: Option<Winner>,
    /// One sentence.
    pub why: String,
    /// Value of `allow` when only the method was wrong.
    pub allow: Option<String>,
    /// The nearest others, nearest first.
    pub losers: Vec<Loser>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Winner {
    pub route: String,
    /// Index into the configuration's routes.
    pub index: u32,
    pub priority: i32,
    /// The conditions that matched.
    pub conditions: Vec<String>,
}

/// A route that did not win.
#[derive(Clone, Debug, Serialize)]
pub struct Loser {
    pub route: String,
    pub index: u32,
    /// The first condition that failed; `None` when all hold and another route comes first.
    pub failed: Option<Failed>,
    /// How many conditions failed.
    pub failures: usize,
    pub why: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// `entrypoint`, `host`, `path`, `method`, `header`, `query`, `client_ip` or `expression`.
    pub condition: String,
    pub wanted: String,
    pub saw: String,
}

impl RouteTable {
    pub fn explain(&self, head: &RequestHead, peer: &Peer) -> Explanation {
        let seen = Seen::new(head, peer);
        // One judgement per route: of its alternatives, the one that comes nearest to matching.
        let mut nearest: Vec<Option<Judged<'_>>> = Vec::new();
        nearest.resize_with(self.names.len(), || None);
        for (number, entry) in self.entries.iter().enumerate() {
            let judged = Judged::new(self, number, entry, &seen);
            let slot = &mut nearest[entry.route as usize];
            if slot.as_ref().is_none_or(|other| judged.distance < other.distance) {
                *slot = Some(judged);
            }
        }
        let mut judged: Vec<Judged<'_>> = nearest.into_iter().flatten().collect();
        judged.sort_by_key(|j| j.distance);
        let wins = judged.first().is_some_and(|j| j.failures.is_empty());
        let best = if wins { Some(judged.remove(0)) } else { None };
        let losers = judged.iter().take(NEAREST).map(|j| self.loser(j, best.as_ref())).collect();
        let allow = match self.find(head, peer) {
            super::Found::MethodNotAllowed(allow) => Some(String::from_utf8_lossy(&allow).into_owned()),
            _ => None,
        };
        let why = match (&best, judged.first(), &allow) {
            (Some(_), Some(next), _) if next.failures.is_empty() => {
                let others = judged.iter().filter(|j| j.failures.is_empty()).count();
                format!("{} routes match; this one comes first", others + 1)
            }
            (Some(_), ..) => "it is the only route that matches".into(),
            (None, _, Some(allow)) => format!("no route allows {}; allowed: {allow}", head.method.as_str()),
            (None, None, _) => "there are no routes".into(),
            (None, ..) => "no route matches".into(),
        };
        Explanation {
            method: head.method.as_str().to_owned(),
            host: String::from_utf8_lossy(seen.host).into_owned(),
            path: String::from_utf8_lossy(seen.path).into_owned(),
            winner: best.map(|j| self.winner(&j)),
            why,
            allow,
            losers,
        }
    }

    fn winner(&self, judged: &Judged<'_>) -> Winner {
        let entry = judged.entry;
        let alternative = &entry.alternative;
        let mut conditions = Vec::new();
        if alternative.host != super::HostPattern::Any {
            conditions.push(Condition::Host(alternative.host.clone()).to_string());
        }
        conditions.extend(alternative.path.clone().map(|p| Condition::Path(p).to_string()));
        conditions.extend(alternative.methods.clone().map(|m| Condition::Method(m).to_string()));
        conditions.extend(alternative.further.iter().map(Tree::to_string));
        conditions.extend(entry.entrypoints.as_ref().map(|list| format!("entrypoint {}", self.entrypoints(list))));
        Winner {
            route: self.names[entry.route as usize].to_string(),
            index: entry.route,
            priority: self.priorities[entry.route as usize],
            conditions,
        }
    }

    fn loser(&self, judged: &Judged<'_>, winner: Option<&Judged<'_>>) -> Loser {
        let why = match (judged.failures.first(), winner) {
            (Some(failed), _) => {
                let more = match judged.failures.len() - 1 {
                    0 => String::new(),
                    n => format!(" (and {n} more)"),
                };
                format!("{}: wanted {}, saw {}{more}", failed.condition, failed.wanted, failed.saw)
            }
            (None, Some(winner)) => format!("matches too, but {}", self.precedence(winner.entry, judged.entry)),
            (None, None) => "matches".into(),
        };
        Loser {
            route: self.names[judged.entry.route as usize].to_string(),
            index: judged.entry.route,
            failed: judged.failures.first().cloned(),
            failures: judged.failures.len(),
            why,
        }
    }

    /// Why `first` comes before `second`: the step of the documented order that decides.
    fn precedence(&self, first: &Entry, second: &Entry) -> String {
        let (a, b) = (&first.alternative, &second.alternative);
        let priority = |e: &Entry| self.priorities[e.route as usize];
        if priority(first) != priority(second) {
            return format!("priority {} comes before {}", priority(first), priority(second));
        }
        if a.host.specificity() != b.host.specificity() {
            return format!("host {} is more specific than {}", a.host, b.host);
        }
        if super::compare_paths(&a.path, &b.path).is_ne() {
            let show = |p: &Option<super::PathPattern>| p.as_ref().map_or("any".to_owned(), |p| p.to_string());
            return format!("path {} is more specific than {}", show(&a.path), show(&b.path));
        }
        if first.further_count() != second.further_count() {
            return format!("{} further condition(s) come before {}", first.further_count(), second.further_count());
        }
        "the other comes first in the configuration".into()
    }

    fn entrypoints(&self, list: &[u16]) -> String {
        let name = |&i: &u16| self.entrypoint_names.get(usize::from(i)).map_or("?", String::as_str);
        list.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// An entry held against a request, condition by condition.
struct Judged<'t> {
    entry: &'t Entry,
    failures: Vec<Failed>,
    /// Failed conditions, then how far the path got, then precedence: smaller is nearer.
    distance: (usize, Reverse<usize>, usize),
}

impl<'t> Judged<'t> {
    fn new(table: &RouteTable, number: usize, entry: &'t Entry, seen: &Seen<'_>) -> Judged<'t> {
        let alternative = &entry.alternative;
        let mut failures = Vec::new();
        if !entry.listens(seen) {
            failures.push(Failed {
                condition: "entrypoint".into(),
                wanted: table.entrypoints(entry.entrypoints.as_deref().unwrap_or_default()),
                saw: table.entrypoints(&[seen.peer.entrypoint]),
            });
        }
        let host = Tree::Leaf(Condition::Host(alternative.host.clone()));
        let path = alternative.path.clone().map(|p| Tree::Leaf(Condition::Path(p)));
        let methods = alternative.methods.clone().map(|m| Tree::Leaf(Condition::Method(m)));
        let trees = [Some(host), path, methods].into_iter().flatten();
        for tree in trees.chain(alternative.further.iter().cloned()) {
            if !tree.holds(seen) {
                failures.push(Failed::new(&tree, seen));
            }
        }
        let depth = alternative.path.as_ref().map_or(0, |p| p.leading_matches(seen.path));
        let distance = (failures.len(), Reverse(if failures.is_empty() { 0 } else { depth }), number);
        Judged { entry, failures, distance }
    }
}

impl Failed {
    fn new(tree: &Tree, seen: &Seen<'_>) -> Failed {
        let saw = tree.first().map_or_else(String::new, |c| c.saw(seen));
        match tree {
            Tree::Leaf(condition) => {
                let wanted = match condition {
                    Condition::Host(pattern) => pattern.to_string(),
                    Condition::Path(pattern) => pattern.to_string(),
                    Condition::Method(set) => set.to_string(),
                    other => other.to_string(),
                };
                Failed { condition: condition.subject().into(), wanted, saw }
            }
            Tree::Not(inner) => match &**inner {
                Tree::Leaf(condition) => {
                    Failed { condition: condition.subject().into(), wanted: tree.to_string(), saw }
                }
                _ => Failed { condition: "expression".into(), wanted: tree.to_string(), saw },
            },
            _ => Failed { condition: "expression".into(), wanted: tree.to_string(), saw },
        }
    }
}
