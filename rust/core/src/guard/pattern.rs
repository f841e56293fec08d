//! One pattern: what is allowed in it, how wide its matches are, and what must be in every one of them.
//!
//! Rules:
//! 1. Patterns are over bytes and in the syntax that Rust `regex`, Hyperscan and Python `re` read alike.
//!    What they read differently is refused with a message, not translated.
//! 2. Every match is bounded: `*`, `+` and `{n,}` mean "at most [`REPEAT`] more"; a pattern that can still be
//!    wider than [`MAX_WIDTH`] is refused.
//! 3. A [`Gate`] is a necessary condition that is cheap to find in text. It never misses a match.

use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// What an open-ended repetition is bounded to.
pub(super) const REPEAT: u32 = 256;
/// Widest match allowed, in bytes.
pub(super) const MAX_WIDTH: usize = 8 << 10;
/// Narrowest match allowed.
pub(super) const MIN_WIDTH: usize = 3;

/// Most alternative literals of a gate.
const MAX_LITERALS: usize = 48;
/// Longest literal of a gate; more adds states, not precision.
const MAX_LITERAL: usize = 12;
/// Least precision of a literal gate, in the units of [`weight`].
const MIN_WEIGHT: u32 = 9;

#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// The pattern with all repetitions bounded.
    pub text: String,
    /// An expression that ends wherever the pattern does, and maybe elsewhere, for engines that only report
    /// ends: without a variable beginning before the first literal, which would keep them busy everywhere.
    pub ending: String,
    /// Widest match.
    pub width: usize,
    /// Narrowest match.
    pub shortest: usize,
    pub gate: Gate,
}

/// What every match contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// One of these (lowercase; text is compared without case), beginning at most `before` bytes after the
    /// match does.
    Literals { literals: Vec<Vec<u8>>, before: usize },
    /// At least this many decimal digits.
    Digits(usize),
    /// An unbroken run of at least this many token bytes (`[A-Za-z0-9_-]`).
    Run(usize),
    /// Nothing that helps: the rule's regex runs over all text.
    Nothing,
}

/// Why a pattern is refused, and what would do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub message: String,
    pub expected: &'static str,
}

fn refuse<T>(message: impl Into<String>, expected: &'static str) -> Result<T, Refusal> {
    Err(Refusal { message: message.into(), expected })
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Pattern, Refusal> {
        let tree = syntax_tree(text)?;
        let mut edits = ast::visit(&tree, Check { edits: Vec::new() })?;
        let mut bounded = text.to_owned();
        edits.sort_by_key(|edit| std::cmp::Reverse(edit.0));
        for (from, to, replacement) in &edits {
            bounded.replace_range(*from..*to, replacement);
        }
        let hir =
            regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(&bounded).or_else(|error| {
                refuse(first_line(&error.to_string()), "bytes and ASCII classes; no Unicode classes")
            })?;
        let properties = hir.properties();
        for look in [Look::Start, Look::End] {
            if properties.look_set().contains(look) {
                return refuse(
                    "text anchors (^, $, \\A, \\z) do not work on text that arrives in pieces",
                    "\\b, or (?m) with ^ and $ for line ends",
                );
            }
        }
        let width = match properties.maximum_len() {
            Some(width) if width <= MAX_WIDTH => width,
            Some(width) => {
                return refuse(
                    format!("a match can be {width} bytes wide, the most is {MAX_WIDTH}"),
                    "smaller repetitions, such as {0,64} in place of *",
                )
            }
            None => return refuse("a match has no greatest width", "{n,m} in place of *, + and {n,}"),
        };
        let shortest = properties.minimum_len().unwrap_or(0);
        if shortest < MIN_WIDTH {
            return refuse(
                format!("a match can be {shortest} bytes short, the least is {MIN_WIDTH}"),
                "a pattern for something longer",
            );
        }
        let gate = gate(&hir, width);
        let ending = bounded[variable_beginning(&syntax_tree(&bounded)?)..].to_owned();
        Ok(Pattern { text: bounded, ending, width, shortest, gate })
    }
}

fn syntax_tree(text: &str) -> Result<Ast, Refusal> {
    ast::parse::Parser::new().parse(text).or_else(|error| {
        refuse(
            format!("{} (at byte {})", error.kind(), error.span().start.offset),
            "the common syntax of Rust regex and Hyperscan (no look-around, no back-references)",
        )
    })
}

/// How much of a pattern stands before its first literal, when that is only classes of which at least one is
/// repeated a variable number of times; else nothing.
fn variable_beginning(tree: &Ast) -> usize {
    let Ast::Concat(concat) = tree else { return 0 };
    let mut variable = false;
    for part in &concat.asts {
        match part {
            Ast::Assertion(_) | Ast::ClassBracketed(_) | Ast::ClassPerl(_) | Ast::Dot(_) => {}
            Ast::Repetition(repetition)
                if matches!(*repetition.ast, Ast::ClassBracketed(_) | Ast::ClassPerl(_) | Ast::Dot(_)) =>
            {
                variable = true;
            }
            Ast::Literal(literal) if variable => return literal.span.start.offset,
            _ => return 0,
        }
    }
    0
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| line.starts_with("error:")).unwrap_or(text).to_owned()
}

/// Walks the syntax tree: refuses what engines read differently, collects the bounds to insert.
struct Check {
    edits: Vec<(usize, usize, String)>,
}

impl ast::Visitor for Check {
    type Output = Vec<(usize, usize, String)>;
    type Err = Refusal;

    fn finish(self) -> Result<Self::Output, Refusal> {
        Ok(self.edits)
    }

    fn visit_post(&mut self, node: &Ast) -> Result<(), Refusal> {
        match node {
            Ast::Repetition(repetition) => {
                let range = match &repetition.op.kind {
                    ast::RepetitionKind::ZeroOrMore => format!("{{0,{REPEAT}}}"),
                    ast::RepetitionKind::OneOrMore => format!("{{1,{REPEAT}}}"),
                    ast::RepetitionKind::Range(ast::RepetitionRange::AtLeast(n)) => {
                        format!("{{{n},{}}}", n.saturating_add(REPEAT))
                    }
                    _ => return Ok(()),
                };
                let lazy = if repetition.greedy { "" } else { "?" };
                let span = &repetition.op.span;
                self.edits.push((span.start.offset, span.end.offset, range + lazy));
            }
            Ast::Flags(flags) => return check_flags(&flags.flags),
            Ast::Group(group) => {
                if let Some(flags) = group.flags() {
                    return check_flags(flags);
                }
                if let ast::GroupKind::CaptureName { starts_with_p: false, .. } = group.kind {
                    return refuse("(?<name>…) is not read by every engine", "(?P<name>…)");
                }
            }
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::StartLine
                | ast::AssertionKind::EndLine
                | ast::AssertionKind::StartText
                | ast::AssertionKind::EndText
                | ast::AssertionKind::WordBoundary
                | ast::AssertionKind::NotWordBoundary => {}
                _ => return refuse("\\b{…}, \\< and \\> are not read by every engine", "\\b"),
            },
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), Refusal> {
        match item {
            ast::ClassSetItem::Bracketed(_) | ast::ClassSetItem::Ascii(_) => {
                refuse("classes inside classes are not read by every engine", "one flat class, such as [a-z0-9_]")
            }
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), Refusal> {
        refuse("class operations (&&, --, ~~) are not read by every engine", "one flat class")
    }
}

fn check_flags(flags: &ast::Flags) -> Result<(), Refusal> {
    for item in &flags.items {
        if let ast::FlagsItemKind::Flag(flag) = item.kind {
            if !matches!(flag, ast::Flag::CaseInsensitive | ast::Flag::MultiLine | ast::Flag::DotMatchesNewLine) {
                return refuse("only the flags i, m and s are read by every engine", "(?i), (?m), (?s)");
            }
        }
    }
    Ok(())
}

/// The best gate of a pattern.
fn gate(hir: &Hir, width: usize) -> Gate {
    if let Some(best) = Literals::of(hir).best {
        if best.weight() >= MIN_WEIGHT {
            return Gate::Literals { literals: best.literals, before: best.before };
        }
    }
    let digits = least(hir, &|byte| byte.is_ascii_digit());
    let run = longest_run(hir);
    if run >= 16 {
        Gate::Run(run)
    } else if digits >= 3 || (digits >= 2 && width <= 64) {
        Gate::Digits(digits)
    } else {
        Gate::Nothing
    }
}

pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The least number of bytes in any match for which `is` holds.
fn least(hir: &Hir, is: &dyn Fn(u8) -> bool) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.iter().filter(|&&b| is(b)).count(),
        HirKind::Class(class) => usize::from(all(class, is)),
        HirKind::Repetition(repetition) => repetition.min as usize * least(&repetition.sub, is),
        HirKind::Capture(capture) => least(&capture.sub, is),
        HirKind::Concat(parts) => parts.iter().map(|part| least(part, is)).sum(),
        HirKind::Alternation(branches) => branches.iter().map(|branch| least(branch, is)).min().unwrap_or(0),
    }
}

fn all(class: &Class, is: &dyn Fn(u8) -> bool) -> bool {
    match class {
        Class::Bytes(bytes) => bytes.ranges().iter().all(|range| (range.start()..=range.end()).all(is)),
        Class::Unicode(_) => false,
    }
}

/// Length of a run of token bytes that every match contains.
fn longest_run(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Concat(parts) => {
            let (mut best, mut run) = (0, 0);
            for part in parts {
                if matches!(part.kind(), HirKind::Look(_) | HirKind::Empty) {
                    continue;
                }
                if only_tokens(part) {
                    run += part.properties().minimum_len().unwrap_or(0);
                } else {
                    best = best.max(run).max(longest_run(part));
                    run = 0;
                }
            }
            best.max(run)
        }
        HirKind::Capture(capture) => longest_run(&capture.sub),
        HirKind::Alternation(branches) => branches.iter().map(longest_run).min().unwrap_or(0),
        _ if only_tokens(hir) => hir.properties().minimum_len().unwrap_or(0),
        _ => 0,
    }
}

fn only_tokens(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.iter().all(|&b| is_token(b)),
        HirKind::Class(class) => all(class, &is_token),
        HirKind::Repetition(repetition) => only_tokens(&repetition.sub),
        HirKind::Capture(capture) => only_tokens(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(only_tokens),
    }
}

/// What is known about the literals of a subpattern.
#[derive(Debug, Default)]
struct Literals {
    /// All texts it can match, when they are few.
    exact: Option<Vec<Vec<u8>>>,
    /// The best set of which one is in every match.
    best: Option<Required>,
}

#[derive(Clone, Debug)]
struct Required {
    literals: Vec<Vec<u8>>,
    before: usize,
}

impl Required {
    fn new(mut literals: Vec<Vec<u8>>, before: usize) -> Option<Required> {
        for literal in &mut literals {
            literal.truncate(MAX_LITERAL);
        }
        literals.sort();
        literals.dedup();
        (!literals.is_empty() && literals.iter().all(|literal| !literal.is_empty()))
            .then_some(Required { literals, before })
    }

    fn weight(&self) -> u32 {
        let least = self.literals.iter().map(|literal| precision(literal)).min();
        least.unwrap_or(0).saturating_sub(self.literals.len().ilog2())
    }

    fn better(a: Option<Required>, b: Option<Required>) -> Option<Required> {
        match (a, b) {
            // The earlier one on a tie: it has less before it.
            (Some(a), Some(b)) => Some(if b.weight() > a.weight() { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// Words so frequent that they narrow nothing down.
const COMMON: &[&str] = &[
    "all", "and", "any", "are", "for", "from", "have", "her", "his", "its", "new", "not", "now", "one", "our", "out",
    "that", "the", "these", "they", "this", "those", "was", "were", "what", "which", "with", "you", "your",
];

/// How much a literal narrows text down.
fn precision(literal: &[u8]) -> u32 {
    let word = literal.trim_ascii();
    let sum: u32 = literal.iter().map(|&b| weight(b)).sum();
    if COMMON.iter().any(|common| common.as_bytes() == word) {
        sum.min(4)
    } else {
        sum
    }
}

/// How much a byte narrows a literal down, in text written by people.
fn weight(byte: u8) -> u32 {
    match byte {
        b' ' => 2,
        b'a'..=b'z' | b'0'..=b'9' | b'.' | b'\n' => 4,
        b'@' => 12,
        _ => 6,
    }
}

impl Literals {
    fn of(hir: &Hir) -> Literals {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Literals::exactly(vec![Vec::new()]),
            HirKind::Literal(literal) => Literals::exactly(vec![literal.0.to_ascii_lowercase()]),
            HirKind::Class(Class::Bytes(bytes)) => {
                let mut folded: Vec<u8> = Vec::new();
                for range in bytes.ranges() {
                    for byte in range.start()..=range.end() {
                        let byte = byte.to_ascii_lowercase();
                        if !folded.contains(&byte) {
                            folded.push(byte);
                        }
                        if folded.len() > 8 {
                            return Literals::default();
                        }
                    }
                }
                Literals::exactly(folded.into_iter().map(|byte| vec![byte]).collect())
            }
            HirKind::Class(Class::Unicode(_)) => Literals::default(),
            HirKind::Capture(capture) => Literals::of(&capture.sub),
            HirKind::Repetition(repetition) => {
                let inner = Literals::of(&repetition.sub);
                let exact = match (&inner.exact, repetition.min, repetition.max) {
                    (Some(exact), 0, Some(1)) => {
                        let mut exact = exact.clone();
                        exact.push(Vec::new());
                        Some(exact)
                    }
                    (Some(exact), min, Some(max)) if min == max && max <= 8 => {
                        (0..max).try_fold(vec![Vec::new()], |all, _| product(&all, exact))
                    }
                    _ => None,
                };
                let best = if repetition.min > 0 { inner.best } else { None };
                match exact {
                    Some(exact) => Literals { best: Required::new(exact.clone(), 0).or(best), exact: Some(exact) },
                    None => Literals { exact: None, best },
                }
            }
            HirKind::Alternation(branches) => {
                let parts: Vec<Literals> = branches.iter().map(Literals::of).collect();
                let exact = parts
                    .iter()
                    .try_fold(Vec::new(), |mut all, part| {
                        all.extend(part.exact.as_ref()?.iter().cloned());
                        Some(all)
                    })
                    .filter(|all| all.len() <= MAX_LITERALS);
                let mut before = 0;
                let union = parts.into_iter().try_fold(Vec::new(), |mut all, part| {
                    let best = part.best?;
                    before = before.max(best.before);
                    all.extend(best.literals);
                    Some(all)
                });
                let best =
                    union.and_then(|all| Required::new(all, before)).filter(|r| r.literals.len() <= MAX_LITERALS);
                Literals { exact, best }
            }
            HirKind::Concat(parts) => Literals::of_concat(parts),
        }
    }

    fn exactly(exact: Vec<Vec<u8>>) -> Literals {
        Literals { best: Required::new(exact.clone(), 0), exact: Some(exact) }
    }

    fn of_concat(parts: &[Hir]) -> Literals {
        let mut best = None;
        // The run of exactly known text being built, and how much may stand before it.
        let mut run = vec![Vec::new()];
        let (mut run_before, mut width) = (0, 0);
        let mut whole = true;
        for part in parts {
            let known = Literals::of(part);
            let longer = known.exact.as_ref().and_then(|exact| product(&run, exact));
            if let Some(longer) = longer {
                run = longer;
            } else {
                whole = false;
                best = Required::better(best, Required::new(std::mem::take(&mut run), run_before));
                let inside = known.best.map(|r| Required { before: r.before + width, ..r });
                best = Required::better(best, inside);
                match known.exact {
                    Some(exact) => (run, run_before) = (exact, width),
                    None => {
                        run = vec![Vec::new()];
                        run_before = width + part.properties().maximum_len().unwrap_or(MAX_WIDTH);
                    }
                }
            }
            width += part.properties().maximum_len().unwrap_or(MAX_WIDTH);
        }
        best = Required::better(best, Required::new(run.clone(), run_before));
        Literals { exact: whole.then_some(run), best }
    }
}

/// Every text of `a` followed by every text of `b`, when they stay few and short.
fn product(a: &[Vec<u8>], b: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    if a.len() * b.len() > MAX_LITERALS {
        return None;
    }
    let all: Vec<Vec<u8>> = a.iter().flat_map(|x| b.iter().map(move |y| [x.as_slice(), y].concat())).collect();
    all.iter().all(|text| text.len() <= 256).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate_of(text: &str) -> Gate {
        Pattern::parse(text).unwrap().gate
    }

    fn literals(of: &[&str], before: usize) -> Gate {
        Gate::Literals { literals: of.iter().map(|text| text.as_bytes().to_vec()).collect(), before }
    }

    #[test]
    fn gates_are_the_best_that_every_match_contains() {
        for (text, gate) in [
            (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", literals(&["akia", "asia"], 0)),
            (r"(?i)\bIgnore (?:all )?previous\b", literals(&["ignore all p", "ignore previ"], 0)),
            (r"[a-z]{1,9}@[a-z]{2,9}", literals(&["@"], 9)),
            (r"\b[0-9a-f]{32}-us[0-9]{1,2}\b", literals(&["-us"], 32)),
            (r"(?:foo|ba[rz])[0-9]{3}", literals(&["bar", "baz", "foo"], 0)),
            (r"x?[0-9]{4}-[0-9]{4}", Gate::Digits(8)),
            (r"\b[A-Za-z0-9]{26}\b", Gate::Run(26)),
            (r"[a-z]{3,9} [a-z]{3}", Gate::Nothing),
            (r"(?:secret)?[a-z]{3,9}", Gate::Nothing),
        ] {
            assert_eq!(gate_of(text), gate, "{text}");
        }
    }

    #[test]
    fn a_variable_beginning_is_left_to_the_confirmation() {
        for (text, ending) in [
            (r"\b[a-z][a-z.]{0,63}@[a-z]{2,9}", "@[a-z]{2,9}"),
            (r"\bkey[a-z]{0,9}=[0-9]{4}", r"\bkey[a-z]{0,9}=[0-9]{4}"),
            (r"(?i)[a-z]{0,9}@[a-z]{3}", r"(?i)[a-z]{0,9}@[a-z]{3}"),
            (r"[a-z]{3,9}", r"[a-z]{3,9}"),
        ] {
            assert_eq!(Pattern::parse(text).unwrap().ending, ending);
        }
    }

    #[test]
    fn open_ended_repetitions_are_bounded() {
        let pattern = Pattern::parse(r"ab+?c{2,}(?:de)*f{3}").unwrap();
        assert_eq!(pattern.text, r"ab{1,256}?c{2,258}(?:de){0,256}f{3}");
        assert_eq!((pattern.shortest, pattern.width), (1 + 1 + 2 + 3, 1 + 256 + 258 + 512 + 3));
    }
}
