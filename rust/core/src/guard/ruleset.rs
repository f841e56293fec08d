//! Packs compiled into one set of rules, and a route's choice of them.
//!
//! Rules:
//! 1. A [`Ruleset`] is immutable and shared: one per revision, whatever the number of routes. A [`Plan`] is a
//!    set of bits over it.
//! 2. All problems of all packs are reported at once, with paths `packs.NAME.rule[N].KEY`.
//! 3. The same packs in the same order give the same rule numbers and the same [`Ruleset::fingerprint`], in
//!    every process. A foreign engine's database is only used when its fingerprint is ours.

use super::gate::Gated;
use super::hyperscan::{Hyperscan, HyperscanDb};
use super::judge::{Judgement, Judging};
use super::pack::{Action, Pack, RuleSpec, Scope, Severity};
use super::pattern::{Gate, Pattern};
use super::validate::Validator;
use super::{ContentKind, Direction, Unjudgeable};
use crate::config::Engine;
use crate::error::Problem;
use regex_automata::meta;
use regex_automata::util::syntax;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// Most rules in a set (rule numbers are 16-bit).
const MAX_RULES: usize = 16_384;

/// Proposes where rules may match.
pub(super) trait Scanner: Send + Sync {
    /// Adds regions of `text` such that every match of every rule in `wanted` lies within a region of that
    /// rule, and so does everything that the rule could match instead from the same start.
    fn propose(&self, text: &[u8], wanted: &RuleSet, regions: &mut Vec<Region>) -> Result<(), Unjudgeable>;
    fn name(&self) -> &'static str;
}

/// Where a rule may match. Regions of a rule may come in any order and overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Region {
    pub rule: u16,
    /// A match can only begin at `from` itself.
    pub anchored: bool,
    pub from: u32,
    pub to: u32,
}

/// Bits over rule numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleSet(Box<[u64]>);

impl RuleSet {
    fn new(rules: usize) -> RuleSet {
        RuleSet(vec![0; rules.div_ceil(64)].into())
    }
    fn insert(&mut self, rule: usize) {
        self.0[rule / 64] |= 1 << (rule % 64);
    }
    pub fn contains(&self, rule: u16) -> bool {
        self.0.get(usize::from(rule) / 64).is_some_and(|word| word >> (rule % 64) & 1 == 1)
    }
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// A compiled rule.
pub struct Rule {
    /// `pack/id`.
    pub name: Arc<str>,
    pub action: Action,
    pub severity: Severity,
    /// Found and recorded, but not acted on.
    pub shadow: bool,
    pub owasp: Box<str>,
    /// What replaces a finding, as plain text.
    pub mask: Box<str>,
    /// The pattern as compiled, with all repetitions bounded.
    pub pattern: Box<str>,
    /// The expression for engines that report ends.
    pub ending: Box<str>,
    pub(super) regex: meta::Regex,
    /// Number of the group that narrows the finding.
    pub(super) secret: Option<usize>,
    pub(super) validator: Validator,
    scope: Vec<Scope>,
    pack: usize,
}

/// All packs of a revision, compiled.
pub struct Ruleset {
    rules: Vec<Rule>,
    packs: Vec<String>,
    scanner: Box<dyn Scanner>,
    notes: Vec<String>,
    fingerprint: String,
    /// Widest and narrowest match of any rule.
    pub(super) width: usize,
    pub(super) shortest: usize,
}

impl std::fmt::Debug for Ruleset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ruleset")
            .field("packs", &self.packs)
            .field("rules", &self.rules.len())
            .field("engine", &self.scanner.name())
            .finish()
    }
}

impl Ruleset {
    /// Compiles packs.
    ///
    /// `shadow` lists `"pack/id"` and `"pack/*"`. With [`Engine::Auto`] a missing or unusable `hyperscan`
    /// database means the Rust engine and a line in [`Ruleset::notes`]; with [`Engine::Hyperscan`] it is an
    /// error.
    pub fn compile(
        packs: &[Pack],
        engine: Engine,
        shadow: &[String],
        hyperscan: Option<&HyperscanDb>,
    ) -> Result<Ruleset, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut notes = Vec::new();
        let mut rules = Vec::new();
        let mut patterns = Vec::new();
        for (number, pack) in packs.iter().enumerate() {
            let name = &pack.pack.name;
            if !is_name(name) {
                problems.push(
                    Problem::new(format!("packs.{name}.pack.name"), format!("{name:?} is not a pack name"))
                        .expected("lowercase letters, digits and -"),
                );
            }
            if packs[..number].iter().any(|other| other.pack.name == *name) {
                problems.push(Problem::new(format!("packs.{name}"), format!("pack {name:?} is given twice")));
            }
            let mut seen = HashMap::new();
            for (index, spec) in pack.rule.iter().enumerate() {
                let path = |key: &str| format!("packs.{name}.rule[{index}].{key}");
                if !is_name(&spec.id) {
                    problems.push(
                        Problem::new(path("id"), format!("{:?} is not a rule id", spec.id))
                            .expected("lowercase letters, digits and -"),
                    );
                }
                if let Some(first) = seen.insert(&spec.id, index) {
                    problems.push(Problem::new(path("id"), format!("{:?} is also the id of rule[{first}]", spec.id)));
                }
                match Rule::compile(name, number, spec) {
                    Ok((rule, pattern)) => {
                        if pattern.gate == Gate::Nothing {
                            notes.push(format!(
                                "rule {} has no literal, digits or long word that every match contains: \
                                 its expression runs over all text",
                                rule.name
                            ));
                        }
                        rules.push(rule);
                        patterns.push(pattern);
                    }
                    Err(problem) => problems.push(Problem { path: path(&problem.path), ..problem }),
                }
            }
        }
        if rules.len() > MAX_RULES {
            problems.push(Problem::new("packs", format!("{} rules; the most is {MAX_RULES}", rules.len())));
        }
        apply_shadow(&mut rules, shadow, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let fingerprint = fingerprint(&rules);
        let scanner = choose(engine, hyperscan, &fingerprint, &patterns, &mut notes)?;
        Ok(Ruleset {
            width: patterns.iter().map(|pattern| pattern.width).max().unwrap_or(0),
            shortest: patterns.iter().map(|pattern| pattern.shortest).min().unwrap_or(0),
            packs: packs.iter().map(|pack| pack.pack.name.clone()).collect(),
            rules,
            scanner,
            notes,
            fingerprint,
        })
    }

    /// A route's choice: these packs, in this direction. Every rule whose scope is empty or names the
    /// direction takes part.
    pub fn plan(self: &Arc<Self>, packs: &[String], direction: Direction) -> Result<Plan, Problem> {
        let mut wanted = RuleSet::new(self.rules.len());
        let scope = match direction {
            Direction::Request => Scope::Request,
            Direction::Response => Scope::Response,
        };
        for name in packs {
            let Some(pack) = self.packs.iter().position(|known| known == name) else {
                let problem = Problem::new("", format!("there is no rule pack {name:?}"))
                    .expected(format!("one of {}", self.packs.join(", ")));
                return Err(match nearest(name, self.packs.iter().map(String::as_str)) {
                    Some(near) => problem.nearest(near),
                    None => problem,
                });
            };
            for (number, rule) in self.rules.iter().enumerate() {
                if rule.pack == pack && (rule.scope.is_empty() || rule.scope.contains(&scope)) {
                    wanted.insert(number);
                }
            }
        }
        Ok(Plan { ruleset: Arc::clone(self), wanted: Arc::new(wanted) })
    }

    /// All rules, whatever their scope: for tools.
    pub fn everything(self: &Arc<Self>) -> Plan {
        let mut wanted = RuleSet::new(self.rules.len());
        for number in 0..self.rules.len() {
            wanted.insert(number);
        }
        Plan { ruleset: Arc::clone(self), wanted: Arc::new(wanted) }
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// `"hyperscan"` or `"rust"`.
    pub fn engine(&self) -> &'static str {
        self.scanner.name()
    }

    /// What an operator should know: why an engine was not used, which rules are slow.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Names the rules' patterns in their order: SHA-256 in hex.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn scanner(&self) -> &dyn Scanner {
        self.scanner.as_ref()
    }
}

impl Rule {
    fn compile(pack: &str, number: usize, spec: &RuleSpec) -> Result<(Rule, Pattern), Problem> {
        let pattern = Pattern::parse(&spec.pattern)
            .map_err(|refusal| Problem::new("pattern", refusal.message).expected(refusal.expected))?;
        let regex = meta::Regex::builder()
            .configure(
                meta::Config::new().utf8_empty(false).nfa_size_limit(Some(16 << 20)).hybrid_cache_capacity(256 << 10),
            )
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .build(&pattern.text)
            .map_err(|error| Problem::new("pattern", error.to_string()).expected("a smaller pattern"))?;
        let secret = regex.group_info().to_index(regex_automata::PatternID::ZERO, "secret");
        let validator = Validator::new(spec.validate.as_ref())?;
        let mask = spec.mask.clone().unwrap_or_else(|| format!("[{pack}:{}]", spec.id));
        let rule = Rule {
            name: format!("{pack}/{}", spec.id).into(),
            action: spec.action,
            severity: spec.severity,
            shadow: false,
            owasp: spec.owasp.as_str().into(),
            mask: mask.into(),
            pattern: pattern.text.as_str().into(),
            ending: pattern.ending.as_str().into(),
            regex,
            secret,
            validator,
            scope: spec.scope.clone(),
            pack: number,
        };
        Ok((rule, pattern))
    }
}

/// A route's rules in one direction.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) ruleset: Arc<Ruleset>,
    pub(super) wanted: Arc<RuleSet>,
}

impl Plan {
    /// No rule takes part: nothing needs to be judged.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Rules that take part.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    pub fn ruleset(&self) -> &Arc<Ruleset> {
        &self.ruleset
    }

    /// Judges a whole body at once. With [`Verdict::Masked`](super::Verdict::Masked), `masked` (emptied
    /// first) holds the body to send instead.
    pub fn judge(&self, kind: ContentKind, body: &[u8], masked: &mut Vec<u8>) -> Result<Judgement, Unjudgeable> {
        let mut judging = Judging::new(self, kind);
        let mut rest = body;
        while !rest.is_empty() {
            let taken = judging.feed(rest)?;
            rest = &rest[taken..];
        }
        judging.finish(body, masked)
    }
}

fn choose(
    engine: Engine,
    database: Option<&HyperscanDb>,
    fingerprint: &str,
    patterns: &[Pattern],
    notes: &mut Vec<String>,
) -> Result<Box<dyn Scanner>, Vec<Problem>> {
    let failure = match (engine, database) {
        (Engine::Rust, _) => None,
        (_, None) => Some("no compiled database was given".to_owned()),
        (_, Some(database)) => match Hyperscan::load(database, fingerprint, patterns) {
            Ok(scanner) => return Ok(Box::new(scanner)),
            Err(why) => Some(why),
        },
    };
    match failure {
        Some(why) if engine == Engine::Hyperscan => {
            return Err(vec![Problem::new("guard.engine", format!("Hyperscan cannot be used: {why}"))
                .expected("engine = \"auto\" or \"rust\"")]);
        }
        Some(why) => notes.push(format!("scanning with the Rust engine, because Hyperscan cannot be used: {why}")),
        None => {}
    }
    match Gated::new(patterns) {
        Ok(scanner) => Ok(Box::new(scanner)),
        Err(why) => Err(vec![Problem::new("packs", why)]),
    }
}

fn apply_shadow(rules: &mut [Rule], shadow: &[String], problems: &mut Vec<Problem>) {
    for (index, wanted) in shadow.iter().enumerate() {
        let mut found = false;
        for rule in rules.iter_mut() {
            let all =
                wanted.strip_suffix('*').is_some_and(|prefix| prefix.ends_with('/') && rule.name.starts_with(prefix));
            if all || *rule.name == **wanted {
                rule.shadow = true;
                found = true;
            }
        }
        if !found {
            let problem = Problem::new(format!("guard.shadow[{index}]"), format!("there is no rule {wanted:?}"))
                .expected("\"pack/rule-id\" or \"pack/*\"");
            problems.push(match nearest(wanted, rules.iter().map(|rule| &*rule.name)) {
                Some(near) => problem.nearest(near),
                None => problem,
            });
        }
    }
}

fn fingerprint(rules: &[Rule]) -> String {
    let mut hash = Sha256::new();
    for rule in rules {
        for expression in [&rule.pattern, &rule.ending] {
            hash.update((expression.len() as u64).to_be_bytes());
            hash.update(expression.as_bytes());
        }
    }
    hex::encode(hash.finalize())
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The name that shares most with `wanted`, if it is close.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = names.map(|name| (distance(wanted, name), name)).min()?;
    (near.0 <= wanted.len().max(4) / 3).then(|| near.1.to_owned())
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}
