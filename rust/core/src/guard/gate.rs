//! The portable scanner: one pass over the text finds what rules cannot match without.
//!
//! One Aho-Corasick automaton over the literals of all rules (compared without case), and for rules without
//! literals a look at digits and at long words. What it proposes is a superset of what rules match.

use super::pattern::{is_token, Gate, Pattern};
use super::ruleset::{Region, RuleSet, Scanner};
use super::Unjudgeable;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use std::collections::HashMap;

pub(super) struct Gated {
    literals: Option<AhoCorasick>,
    /// For each literal, the rules that ask for it.
    targets: Vec<Box<[Target]>>,
    /// Rules that ask for digits: (rule, how many, within how many bytes).
    digits: Vec<(u16, usize, u32)>,
    /// Rules that ask for a long word: (rule, how long, widest match).
    runs: Vec<(u16, usize, u32)>,
    always: Vec<u16>,
    /// Least digits and shortest word anybody asks for.
    fewest: usize,
    shortest: usize,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    rule: u16,
    /// Most bytes of a match before the literal.
    before: u32,
    width: u32,
}

impl Gated {
    pub fn new(patterns: &[Pattern]) -> Result<Gated, String> {
        let mut known: HashMap<&[u8], Vec<Target>> = HashMap::new();
        let (mut digits, mut runs, mut always) = (Vec::new(), Vec::new(), Vec::new());
        for (rule, pattern) in patterns.iter().enumerate() {
            let (rule, width) = (rule as u16, pattern.width as u32);
            match &pattern.gate {
                Gate::Literals { literals, before } => {
                    for literal in literals {
                        known.entry(literal).or_default().push(Target { rule, before: *before as u32, width });
                    }
                }
                Gate::Digits(count) => digits.push((rule, *count, width)),
                Gate::Run(length) => runs.push((rule, *length, width)),
                Gate::Nothing => always.push(rule),
            }
        }
        let mut known: Vec<(&[u8], Vec<Target>)> = known.into_iter().collect();
        known.sort_by_key(|entry| entry.0);
        let literals = if known.is_empty() {
            None
        } else {
            let automaton = AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .match_kind(MatchKind::Standard)
                .kind(Some(AhoCorasickKind::DFA))
                .build(known.iter().map(|entry| entry.0))
                .map_err(|error| format!("the literals of all rules do not fit one automaton: {error}"))?;
            Some(automaton)
        };
        Ok(Gated {
            literals,
            targets: known.into_iter().map(|entry| entry.1.into_boxed_slice()).collect(),
            fewest: digits.iter().map(|entry| entry.1).min().unwrap_or(usize::MAX),
            shortest: runs.iter().map(|entry| entry.1).min().unwrap_or(usize::MAX),
            digits,
            runs,
            always,
        })
    }

    fn propose_digits(&self, text: &[u8], wanted: &RuleSet, regions: &mut Vec<Region>) {
        let positions: Vec<u32> =
            text.iter().enumerate().filter(|(_, b)| b.is_ascii_digit()).map(|(at, _)| at as u32).collect();
        if positions.len() < self.fewest {
            return;
        }
        for &(rule, count, width) in self.digits.iter().filter(|entry| wanted.contains(entry.0)) {
            for (first, last) in positions.iter().zip(positions.iter().skip(count - 1)) {
                if last - first < width {
                    // A match holds `count` digits in a row, of which these are some: it begins before the
                    // first of them and ends behind the last.
                    let from = (last + 1).saturating_sub(width);
                    push(regions, Region { rule, anchored: false, from, to: end(text, first + width) });
                }
            }
        }
    }

    fn propose_runs(&self, text: &[u8], wanted: &RuleSet, regions: &mut Vec<Region>) {
        let mut at = 0usize;
        // A run of at least `shortest` bytes covers every `shortest`-th position of the text.
        while let Some(probe) = at.checked_add(self.shortest - 1).filter(|&probe| probe < text.len()) {
            if !is_token(text[probe]) {
                at = probe + 1;
                continue;
            }
            let begin = text[at..probe].iter().rposition(|&b| !is_token(b)).map_or(at, |back| at + back + 1);
            let stop = text[probe..].iter().position(|&b| !is_token(b)).map_or(text.len(), |ahead| probe + ahead);
            for &(rule, length, width) in self.runs.iter().filter(|entry| wanted.contains(entry.0)) {
                if stop - begin >= length {
                    // The match's own run of `length` lies anywhere in this one.
                    let from = (begin + length).saturating_sub(width as usize) as u32;
                    push(regions, Region { rule, anchored: false, from, to: end(text, stop as u32 + width) });
                }
            }
            at = stop + 1;
        }
    }
}

impl Scanner for Gated {
    fn propose(&self, text: &[u8], wanted: &RuleSet, regions: &mut Vec<Region>) -> Result<(), Unjudgeable> {
        if let Some(literals) = &self.literals {
            for found in literals.find_overlapping_iter(text) {
                let at = found.start() as u32;
                for target in self.targets[found.pattern().as_usize()].iter() {
                    if wanted.contains(target.rule) {
                        regions.push(Region {
                            rule: target.rule,
                            anchored: target.before == 0,
                            from: at.saturating_sub(target.before),
                            to: end(text, at + target.width),
                        });
                    }
                }
            }
        }
        if self.digits.iter().any(|entry| wanted.contains(entry.0)) {
            self.propose_digits(text, wanted, regions);
        }
        if self.runs.iter().any(|entry| wanted.contains(entry.0)) {
            self.propose_runs(text, wanted, regions);
        }
        for &rule in self.always.iter().filter(|&&rule| wanted.contains(rule)) {
            regions.push(Region { rule, anchored: false, from: 0, to: text.len() as u32 });
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "rust"
    }
}

fn end(text: &[u8], at: u32) -> u32 {
    at.min(text.len() as u32)
}

/// Adds a region, or widens the last one when it reaches into it.
fn push(regions: &mut Vec<Region>, region: Region) {
    match regions.last_mut() {
        Some(last) if last.rule == region.rule && !last.anchored && region.from <= last.to => {
            last.to = last.to.max(region.to);
        }
        _ => regions.push(region),
    }
}
