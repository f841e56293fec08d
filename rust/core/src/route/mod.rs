//! Which route a request takes.
//!
//! Owns the matching of requests: conditions, their two written forms (table and expression), the order
//! of routes, the index that finds candidates, and the explanation of a decision. Knows nothing of what a
//! route does with a request.
//!
//! The order, also in `docs/routing.md`. Of all routes that match, the first of these that differs decides:
//!
//! 1. `priority`: higher first.
//! 2. Host: exact, then `*.` wildcards with more labels first, then none.
//! 3. Path, segment by segment from the left: the end of an exact pattern, then a literal, then a template
//!    `{name}`, then `**`; no condition on the path comes last.
//! 4. The number of further conditions (method, each header, query parameter, address list, expression
//!    term, and a list of entrypoints): more first. A group joined by `||` counts as one.
//! 5. The order in the configuration.
//!
//! An expression whose `||` joins hosts or paths is several alternatives; each has its own place in this
//! order. The length of a text decides nothing.
//!
//! Rules:
//! 1. Everything is decided when the table is compiled: each alternative has one number, its precedence.
//! 2. Matching sees the canonical path and the lower-case host. It neither allocates nor fails.
//! 3. A route that no request can reach is a mistake and is reported, not ignored.

mod alternative;
mod condition;
mod explain;
mod expression;
mod index;
mod pattern;
pub mod tcp;
#[cfg(test)]
mod tests;

pub use explain::{Explanation, Failed, Loser, Winner};
pub use pattern::{HostPattern, PathPattern};

use crate::config::Route;
use crate::error::{nearest, Problem};
use crate::message::{Peer, RequestHead};
use alternative::Alternative;
use condition::{MethodSet, Seen, Tree};
use index::Index;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Routes, ready to be looked up. Immutable.
pub struct RouteTable {
    index: Index,
    /// Best first.
    entries: Vec<Entry>,
    names: Vec<Box<str>>,
    priorities: Vec<i32>,
    entrypoint_names: Vec<String>,
}

/// One alternative of a route.
struct Entry {
    route: u32,
    /// Sorted indices; `None`: all.
    entrypoints: Option<Box<[u16]>>,
    alternative: Alternative,
}

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Index into the configuration's routes.
    Route(u32),
    /// Routes match all but the method; the value of `allow` (RFC 9110 §15.5.6).
    MethodNotAllowed(Vec<u8>),
    None,
}

impl RouteTable {
    /// `entrypoint_names` in the order [`Peer::entrypoint`] counts them.
    pub fn compile(routes: &[Route], entrypoint_names: &[String]) -> Result<RouteTable, Vec<Problem>> {
        let (mut problems, mut entries) = (Vec::new(), Vec::new());
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (i, route) in routes.iter().enumerate() {
            if let Some(first) = seen.get(route.name.as_str()) {
                let message = format!("the name {:?} is already taken by routes[{first}]", route.name);
                problems.push(Problem::new(format!("routes[{i}].name"), message).expected("a unique name"));
            } else if route.name.is_empty() {
                problems.push(Problem::new(format!("routes[{i}].name"), "the name is empty").expected("a unique name"));
            }
            seen.entry(&route.name).or_insert(i);
            let entrypoints = entrypoints(route, i, entrypoint_names).unwrap_or_else(|found| {
                problems.extend(found);
                None
            });
            match Alternative::all(&route.matches, &format!("routes[{i}].match")) {
                Ok(alternatives) => entries.extend(alternatives.into_iter().map(|alternative| Entry {
                    route: i as u32,
                    entrypoints: entrypoints.clone(),
                    alternative,
                })),
                Err(found) => problems.extend(found),
            }
        }
        let priorities: Vec<i32> = routes.iter().map(|r| r.priority).collect();
        entries.sort_by(|a, b| {
            let (left, right) = (&a.alternative, &b.alternative);
            Reverse(priorities[a.route as usize])
                .cmp(&Reverse(priorities[b.route as usize]))
                .then_with(|| right.host.specificity().cmp(&left.host.specificity()))
                .then_with(|| compare_paths(&right.path, &left.path))
                .then_with(|| b.further_count().cmp(&a.further_count()))
                .then_with(|| a.route.cmp(&b.route))
        });
        let entries = reachable(entries, routes, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut index = Index::new();
        for (number, entry) in entries.iter().enumerate() {
            index.insert(number as u32, &entry.alternative.host, entry.alternative.path.as_ref());
        }
        Ok(RouteTable {
            index,
            entries,
            names: routes.iter().map(|r| r.name.as_str().into()).collect(),
            priorities,
            entrypoint_names: entrypoint_names.to_vec(),
        })
    }

    /// The route a request takes. Allocates only to say which methods would have been allowed.
    pub fn find(&self, head: &RequestHead, peer: &Peer) -> Found {
        let seen = Seen::new(head, peer);
        let mut wrong_method = false;
        let best = self.index.best(seen.host, seen.path, &mut |number| {
            let entry = &self.entries[number as usize];
            let matches_else = entry.matches_but_for_method(&seen);
            let allowed = entry.allows(&seen);
            wrong_method |= matches_else && !allowed;
            matches_else && allowed
        });
        match best {
            Some(number) => Found::Route(self.entries[number as usize].route),
            None if wrong_method => Found::MethodNotAllowed(self.allow(&seen)),
            None => Found::None,
        }
    }

    fn allow(&self, seen: &Seen<'_>) -> Vec<u8> {
        let mut allow = MethodSet::default();
        self.index.best(seen.host, seen.path, &mut |number| {
            let entry = &self.entries[number as usize];
            if let (Some(methods), true) = (&entry.alternative.methods, entry.matches_but_for_method(seen)) {
                allow.unite(methods);
            }
            false
        });
        allow.to_string().into_bytes()
    }
}

/// An expression as it is printed: reading that again gives the same. For the fuzz targets.
#[doc(hidden)]
pub fn normal_form(expression: &str) -> Result<String, Problem> {
    expression::parse(expression).map(|tree| tree.to_string())
}

impl Entry {
    /// Host and path are known to match.
    fn matches_but_for_method(&self, seen: &Seen<'_>) -> bool {
        self.listens(seen) && self.alternative.further.iter().all(|tree| tree.holds(seen))
    }

    fn listens(&self, seen: &Seen<'_>) -> bool {
        self.entrypoints.as_ref().is_none_or(|list| list.contains(&seen.peer.entrypoint))
    }

    fn allows(&self, seen: &Seen<'_>) -> bool {
        self.alternative.methods.as_ref().is_none_or(|set| set.contains(&seen.head.method))
    }

    fn further_count(&self) -> usize {
        self.alternative.further_count() + usize::from(self.entrypoints.is_some())
    }

    /// Whether every request this one matches is matched by `other`, given that both have the same host,
    /// path and further conditions.
    fn is_covered_by(&self, other: &Entry) -> bool {
        let methods = match (&self.alternative.methods, &other.alternative.methods) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(mine), Some(theirs)) => theirs.includes(mine),
        };
        methods
            && match (&self.entrypoints, &other.entrypoints) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(mine), Some(theirs)) => mine.iter().all(|e| theirs.contains(e)),
            }
    }

    /// Equal for entries with the same host, path and further conditions.
    fn conditions(&self) -> String {
        let mut further: Vec<String> = self.alternative.further.iter().map(Tree::to_string).collect();
        further.sort();
        let path = self.alternative.path.as_ref().map_or("none".to_owned(), PathPattern::shape);
        format!("{} {path} {}", self.alternative.host, further.join(" "))
    }
}

fn compare_paths(a: &Option<PathPattern>, b: &Option<PathPattern>) -> std::cmp::Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.compare(b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

fn entrypoints(route: &Route, i: usize, names: &[String]) -> Result<Option<Box<[u16]>>, Vec<Problem>> {
    let (mut indices, mut problems) = (Vec::new(), Vec::new());
    for (j, wanted) in route.entrypoints.iter().enumerate() {
        match names.iter().position(|name| name == wanted) {
            Some(at) => indices.push(at as u16),
            None => {
                let all = names.iter().map(String::as_str);
                let mut problem =
                    Problem::new(format!("routes[{i}].entrypoints[{j}]"), format!("there is no entrypoint {wanted:?}"))
                        .expected(format!("one of {}", names.join(", ")));
                problem.nearest = nearest(wanted, all).map(str::to_owned);
                problems.push(problem);
            }
        }
    }
    indices.sort_unstable();
    indices.dedup();
    match problems.is_empty() {
        true => Ok((!indices.is_empty()).then(|| indices.into())),
        false => Err(problems),
    }
}

/// Drops entries that an earlier one with the same conditions covers, and reports routes of which none is left.
fn reachable(entries: Vec<Entry>, routes: &[Route], problems: &mut Vec<Problem>) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut same: HashMap<String, Vec<usize>> = HashMap::new();
    let mut covered_by: HashMap<u32, u32> = HashMap::new();
    let mut alive = vec![false; routes.len()];
    for entry in entries {
        let earlier = same.entry(entry.conditions()).or_default();
        match earlier.iter().find(|&&at| entry.is_covered_by(&kept[at])) {
            Some(&at) => {
                covered_by.insert(entry.route, kept[at].route);
            }
            None => {
                alive[entry.route as usize] = true;
                earlier.push(kept.len());
                kept.push(entry);
            }
        }
    }
    let mut dead: Vec<_> = covered_by.into_iter().filter(|(route, _)| !alive[*route as usize]).collect();
    dead.sort_unstable();
    for (route, by) in dead {
        let (route, by) = (route as usize, by as usize);
        let message = format!(
            "route {:?} can never be reached: route {:?} takes everything it matches",
            routes[route].name, routes[by].name
        );
        let expected = "different conditions, a higher `priority`, or one route fewer";
        problems.push(Problem::new(format!("routes[{route}].match"), message).expected(expected));
    }
    kept
}
