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
use std::hash::{BuildHasherDefault, Hasher};

type Map = HashMap<Box<[u8]>, u32, BuildHasherDefault<Fold>>;

const NONE: u32 = u32::MAX;

pub struct Index {
    exact: Map,
    /// Wildcard hosts by what stands behind `*.`, and the lengths that occur among them.
    below: Map,
    below_lengths: [u64; MAX_HOST / 64 + 1],
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
    /// Child for a template `{name}`; [`NONE`] if there is none.
    one: u32,
    literal: Map,
    here: Vec<u32>,
    below: Vec<u32>,
}

impl Index {
    pub fn new() -> Index {
        let mut index = Index {
            exact: Map::default(),
            below: Map::default(),
            below_lengths: Default::default(),
            groups: Vec::new(),
            nodes: Vec::new(),
        };
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
                self.below_lengths[name.len() / 64] |= 1 << (name.len() % 64);
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
                // The dot before a wildcard's name; something must stand before the dot.
                for (dot, _) in host.iter().enumerate().skip(1).filter(|(_, &b)| b == b'.') {
                    let name = &host[dot + 1..];
                    if self.below_lengths[name.len() / 64] >> (name.len() % 64) & 1 == 1 {
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
        Node { first: NONE, one: NONE, literal: Map::default(), here: Vec::new(), below: Vec::new() }
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
            let end = slash(rest);
            let (segment, next) = (&rest[..end], rest.get(end + 1..));
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

/// Where the first `/` is, or the length. Segments are short: eight bytes at a time beat a call.
fn slash(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let mut at = 0;
    while let Some(chunk) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        // Bytes that are `/` become zero; the lowest zero byte sets the lowest high bit.
        let word = u64::from_le_bytes(*chunk) ^ (ONES * b'/' as u64);
        let found = word.wrapping_sub(ONES) & !word & HIGH;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    text[at..].iter().position(|&b| b == b'/').map_or(text.len(), |i| at + i)
}

/// A multiply-and-fold hash of eight bytes a step.
#[derive(Default)]
struct Fold(u64);

impl Fold {
    fn add(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (wide as u64) ^ (wide >> 64) as u64;
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        // Reads may overlap: the length is hashed too, so that different texts still differ.
        match (bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (Some(last), ..) => {
                let mut rest = &bytes[..bytes.len() - 1];
                while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
                    self.add(u64::from_le_bytes(*chunk));
                    rest = after;
                }
                self.add(u64::from_le_bytes(*last));
            }
            (None, Some(first), Some(last)) => {
                self.add(u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)));
            }
            _ => self.add(bytes.iter().fold(0, |word, &b| word << 8 | u64::from(b))),
        }
    }

    fn write_usize(&mut self, length: usize) {
        self.0 ^= (length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_found_wherever_they_are() {
        for length in 0..40 {
            let mut text = vec![b'.'; length];
            assert_eq!(slash(&text), length);
            for at in (0..length).rev() {
                text[at] = b'/';
                assert_eq!(slash(&text), at);
            }
        }
        assert_eq!(slash(b"\x00\xff.0-\xaf\x2e\x30/"), 8);
    }
}
