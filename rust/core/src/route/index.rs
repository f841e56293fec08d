//! Where candidates for a request are found: host first, then a tree of path segments.
//!
//! Rules:
//! 1. Entries are numbered by precedence: of two that match, the smaller number wins. A node knows the
//!    smallest number below it, so that whole branches are skipped once something better was found.
//! 2. A look-up costs one hash of the host (plus one per label while wildcards exist) and one per path
//!    segment, whatever the number of routes.
//! 3. Keys come from the configuration, so that the hash needs no secret; requests only look up.

use super::pattern::{HostPattern, PathPattern, Segment, MAX_HOST};
use std::collections::HashMap;

type Map<V> = HashMap<Box<[u8]>, V, ahash::RandomState>;

const NONE: u32 = u32::MAX;

pub struct Index {
    exact: Map<u32>,
    /// Wildcard hosts by what stands behind `*.`.
    below: Map<u32>,
    longest_below: usize,
    groups: Vec<Group>,
    nodes: Vec<Node>,
}

/// The entries of one host pattern. Group 0 is any host.
struct Group {
    first: u32,
    root: u32,
    /// Entries without a condition on the path.
    anywhere: Vec<u32>,
}

struct Node {
    /// Smallest entry here or below; [`NONE`] if there is none.
    first: u32,
    /// The only child for one empty-handed branch (`{name}`); [`NONE`] if there is none.
    one: u32,
    literal: Map<u32>,
    here: Vec<u32>,
    below: Vec<u32>,
}

fn map() -> Map<u32> {
    Map::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4))
}

impl Index {
    pub fn new() -> Index {
        let mut index = Index { exact: map(), below: map(), longest_below: 0, groups: Vec::new(), nodes: Vec::new() };
        index.add_group();
        index
    }

    /// Entries must come in order of precedence, numbered from 0.
    pub fn insert(&mut self, entry: u32, host: &HostPattern, path: Option<&PathPattern>) {
        let group = self.group(host);
        let group = &mut self.groups[group as usize];
        group.first = group.first.min(entry);
        let Some(path) = path else {
            group.anywhere.push(entry);
            return;
        };
        let mut at = group.root as usize;
        for segment in &path.segments {
            self.nodes[at].first = self.nodes[at].first.min(entry);
            let fresh = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let child = match segment {
                Segment::Literal(text) => *node.literal.entry(text.clone()).or_insert(fresh),
                Segment::One(_) => {
                    if node.one == NONE {
                        node.one = fresh;
                    }
                    node.one
                }
            };
            if child == fresh {
                self.nodes.push(Node::new());
            }
            at = child as usize;
        }
        let node = &mut self.nodes[at];
        node.first = node.first.min(entry);
        if path.below { &mut node.below } else { &mut node.here }.push(entry);
    }

    fn group(&mut self, host: &HostPattern) -> u32 {
        let (map, name) = match host {
            HostPattern::Any => return 0,
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Below(name) => {
                self.longest_below = self.longest_below.max(name.len());
                (&mut self.below, name)
            }
        };
        if let Some(&group) = map.get(name.as_bytes()) {
            return group;
        }
        let fresh = self.groups.len() as u32;
        map.insert(name.as_bytes().into(), fresh);
        self.add_group();
        fresh
    }

    fn add_group(&mut self) {
        self.groups.push(Group { first: NONE, root: self.nodes.len() as u32, anywhere: Vec::new() });
        self.nodes.push(Node::new());
    }

    /// The smallest entry filed under this host and path for which `test` holds.
    ///
    /// `test` is called for candidates only, in an order that finds the winner early.
    pub fn best(&self, host: &[u8], path: &[u8], test: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let mut search = Search { index: self, best: NONE, test };
        if host.len() <= MAX_HOST {
            if let Some(&group) = self.exact.get(host) {
                search.group(group, path);
            }
            if !self.below.is_empty() {
                for dot in memchr::memchr_iter(b'.', host) {
                    let name = &host[dot + 1..];
                    if dot > 0 && name.len() <= self.longest_below {
                        if let Some(&group) = self.below.get(name) {
                            search.group(group, path);
                        }
                    }
                }
            }
        }
        search.group(0, path);
        (search.best != NONE).then_some(search.best)
    }
}

impl Node {
    fn new() -> Node {
        Node { first: NONE, one: NONE, literal: map(), here: Vec::new(), below: Vec::new() }
    }
}

struct Search<'i, T> {
    index: &'i Index,
    best: u32,
    test: &'i mut T,
}

impl<T: FnMut(u32) -> bool> Search<'_, T> {
    fn group(&mut self, group: u32, path: &[u8]) {
        let group = &self.index.groups[group as usize];
        if group.first >= self.best {
            return;
        }
        if let Some(rest) = path.strip_prefix(b"/") {
            self.node(group.root, Some(rest));
        }
        self.entries(&group.anywhere);
    }

    /// `rest`: what follows the slash behind this node's segment; `None` at the end of the path. The depth
    /// of recursion is that of the longest pattern.
    fn node(&mut self, node: u32, rest: Option<&[u8]>) {
        let node = &self.index.nodes[node as usize];
        if node.first >= self.best {
            return;
        }
        if let Some(rest) = rest {
            let (segment, next) = match memchr::memchr(b'/', rest) {
                Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
                None => (rest, None),
            };
            if !node.literal.is_empty() {
                if let Some(&child) = node.literal.get(segment) {
                    self.node(child, next);
                }
            }
            if node.one != NONE && !segment.is_empty() {
                self.node(node.one, next);
            }
        } else {
            self.entries(&node.here);
        }
        self.entries(&node.below);
    }

    fn entries(&mut self, entries: &[u32]) {
        for &entry in entries {
            if entry >= self.best {
                return;
            }
            if (self.test)(entry) {
                self.best = entry;
                return;
            }
        }
    }
}
