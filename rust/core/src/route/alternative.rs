//! From a route's match to alternatives: conjunctions that the index can file by host and path.
//!
//! Rules:
//! 1. A disjunction is split only where hosts or paths are at stake; any other group stays together as one
//!    condition. The number of alternatives of a route is capped.
//! 2. Each alternative is filed under the most specific host and path it demands; what else it demands
//!    remains as further conditions, so that nothing is lost and nothing is tested twice.

use super::condition::{Condition, MethodSet, Test, Tree};
use super::pattern::{HostPattern, PathPattern};
use crate::config::{Match, MatchTable, OneOrMany};
use crate::error::Problem;

/// Most alternatives one route may split into.
const MAX_ALTERNATIVES: usize = 4096;

/// Conditions that must all hold.
#[derive(Clone, Debug, Default)]
pub struct Alternative {
    pub host: HostPattern,
    /// `None`: any, even `*`.
    pub path: Option<PathPattern>,
    pub methods: Option<MethodSet>,
    pub further: Vec<Tree>,
}

impl Alternative {
    /// Every way in which `matches` can hold. Problems carry paths below `at`.
    pub fn all(matches: &Match, at: &str) -> Result<Vec<Alternative>, Vec<Problem>> {
        let tree = match matches {
            Match::Table(table) => tree_of(table, at)?,
            Match::Expression(text) => super::expression::parse(text).map_err(|mut problem| {
                problem.path = at.to_owned();
                vec![problem]
            })?,
        };
        let Some(conjunctions) = split(positive(tree, false)) else {
            let message = format!("splits into more than {MAX_ALTERNATIVES} combinations of hosts and paths");
            return Err(vec![Problem::new(at, message).expected("several routes with fewer alternatives each")]);
        };
        let alternatives: Vec<_> = conjunctions.into_iter().filter_map(Alternative::of).collect();
        if alternatives.is_empty() {
            return Err(vec![Problem::new(at, "the conditions contradict each other: no request can match")]);
        }
        Ok(alternatives)
    }

    /// `None` when no request can match.
    fn of(conjunction: Vec<Tree>) -> Option<Alternative> {
        let mut alternative = Alternative::default();
        for tree in conjunction {
            match tree {
                Tree::Leaf(Condition::Host(host)) => {
                    if host.specificity() > alternative.host.specificity() {
                        let other = std::mem::replace(&mut alternative.host, host);
                        if other != HostPattern::Any {
                            alternative.further.push(Tree::Leaf(Condition::Host(other)));
                        }
                    } else if host != alternative.host && host != HostPattern::Any {
                        alternative.further.push(Tree::Leaf(Condition::Host(host)));
                    }
                }
                Tree::Leaf(Condition::Path(path)) => match &mut alternative.path {
                    None => alternative.path = Some(path),
                    Some(kept) if *kept == path => {}
                    Some(kept) => {
                        let other = if path.compare(kept).is_gt() { std::mem::replace(kept, path) } else { path };
                        alternative.further.push(Tree::Leaf(Condition::Path(other)));
                    }
                },
                Tree::Leaf(Condition::Method(set)) => match &mut alternative.methods {
                    None => alternative.methods = Some(set),
                    Some(kept) => kept.intersect(&set),
                },
                tree if alternative.further.contains(&tree) => {}
                tree => alternative.further.push(tree),
            }
        }
        let possible = !alternative.methods.as_ref().is_some_and(MethodSet::is_empty) && alternative.hosts_agree();
        possible.then_some(alternative)
    }

    /// An exact host decides every other condition on the host.
    fn hosts_agree(&self) -> bool {
        let HostPattern::Exact(name) = &self.host else {
            return true;
        };
        self.further.iter().all(|tree| match tree {
            Tree::Leaf(Condition::Host(other)) => other.matches(name.as_bytes()),
            Tree::Not(tree) => match &**tree {
                Tree::Leaf(Condition::Host(other)) => !other.matches(name.as_bytes()),
                _ => true,
            },
            _ => true,
        })
    }

    /// Conditions beyond host and path.
    pub fn further_count(&self) -> usize {
        self.further.len() + usize::from(self.methods.is_some())
    }
}

fn tree_of(table: &MatchTable, at: &str) -> Result<Tree, Vec<Problem>> {
    let (mut problems, mut all) = (Vec::new(), Vec::new());
    fn note<T>(problems: &mut Vec<Problem>, path: String, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| problems.push(Problem { path, ..problem })).ok()
    }
    let each = |key: &str, list: &OneOrMany| -> Vec<(String, String)> {
        let path = |i: usize| match list {
            OneOrMany::One(_) => format!("{at}.{key}"),
            OneOrMany::Many(_) => format!("{at}.{key}[{i}]"),
        };
        list.as_slice().iter().enumerate().map(|(i, text)| (path(i), text.clone())).collect()
    };
    type Make = fn(&str) -> Result<Condition, Problem>;
    let host: Make = |text| HostPattern::parse(text).map(Condition::Host);
    let path: Make = |text| PathPattern::parse(text).map(Condition::Path);
    for (key, list, make) in [("host", &table.host, host), ("path", &table.path, path)] {
        let mut any = Vec::new();
        for (path, text) in each(key, list) {
            any.extend(note(&mut problems, path, make(&text)).map(Tree::Leaf));
        }
        if !any.is_empty() {
            all.push(Tree::Any(any));
        }
    }
    let mut methods = MethodSet::default();
    for (path, text) in each("method", &table.method) {
        note(&mut problems, path, methods.insert(&text));
    }
    if !methods.is_empty() {
        all.push(Tree::Leaf(Condition::Method(methods)));
    }
    for (name, text) in &table.header {
        let condition = Test::from_table(text).and_then(|test| Condition::header(name, test));
        all.extend(note(&mut problems, format!("{at}.header.{name}"), condition).map(Tree::Leaf));
    }
    for (name, text) in &table.query {
        let test = note(&mut problems, format!("{at}.query.{name}"), Test::from_table(text));
        all.extend(test.map(|test| Tree::Leaf(Condition::Query { name: name.as_str().into(), test })));
    }
    for (part, text) in &table.client_cert {
        let condition = Test::from_table(text).and_then(|test| Condition::client_cert(part, test));
        all.extend(note(&mut problems, format!("{at}.client_cert.{part}"), condition).map(Tree::Leaf));
    }
    let mut blocks = Vec::new();
    for (path, text) in each("client_ip", &table.client_ip) {
        if let Some(Condition::ClientIp(block)) =
            note(&mut problems, path, Condition::client_ip([text.as_str()].into_iter()))
        {
            blocks.extend(block);
        }
    }
    if !blocks.is_empty() {
        all.push(Tree::Leaf(Condition::ClientIp(blocks)));
    }
    if problems.is_empty() {
        Ok(Tree::All(all))
    } else {
        Err(problems)
    }
}

/// Pushes negations down to the leaves (De Morgan).
fn positive(tree: Tree, negated: bool) -> Tree {
    let each = |trees: Vec<Tree>| trees.into_iter().map(|t| positive(t, negated)).collect();
    match (tree, negated) {
        (Tree::Not(tree), _) => positive(*tree, !negated),
        (Tree::All(trees), false) | (Tree::Any(trees), true) => Tree::All(each(trees)),
        (Tree::Any(trees), false) | (Tree::All(trees), true) => Tree::Any(each(trees)),
        (leaf, false) => leaf,
        (leaf, true) => Tree::Not(Box::new(leaf)),
    }
}

/// Something the index could use: a host or path that is demanded, not forbidden.
fn files(tree: &Tree) -> bool {
    match tree {
        Tree::Leaf(condition) => matches!(condition, Condition::Host(_) | Condition::Path(_)),
        Tree::Not(_) => false,
        Tree::All(trees) | Tree::Any(trees) => trees.iter().any(files),
    }
}

/// Disjunctive normal form as far as [`files`] asks for it; `None` beyond the cap.
fn split(tree: Tree) -> Option<Vec<Vec<Tree>>> {
    match tree {
        Tree::Any(trees) if trees.len() == 1 => split(trees.into_iter().next()?),
        Tree::Any(trees) if trees.iter().any(files) => {
            let mut out = Vec::new();
            for tree in trees {
                out.extend(split(tree)?);
                if out.len() > MAX_ALTERNATIVES {
                    return None;
                }
            }
            Some(out)
        }
        Tree::All(trees) => {
            let mut out: Vec<Vec<Tree>> = vec![Vec::new()];
            for tree in trees {
                let choices = split(tree)?;
                if out.len() * choices.len() > MAX_ALTERNATIVES {
                    return None;
                }
                out =
                    out.iter().flat_map(|left| choices.iter().map(|right| [&left[..], &right[..]].concat())).collect();
            }
            Some(out)
        }
        other => Some(vec![vec![other]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let alternatives = Alternative::all(&Match::Expression(text.into()), "m").unwrap();
        let show = |a: Alternative| {
            let path = a.path.map_or("-".into(), |p| p.to_string());
            let further: Vec<String> = a.further.iter().map(Tree::to_string).collect();
            format!("{} {} {} {}", a.host, path, a.methods.unwrap_or_default(), further.join(" && ")).trim().to_owned()
        };
        alternatives.into_iter().map(show).collect()
    }

    #[test]
    fn hosts_and_paths_are_found_in_the_tree() {
        for (text, expected) in [
            ("Host(`a`) && Path(`/x`)", &["a /x"][..]),
            ("(Host(`a`) || Host(`b`)) && PathPrefix(`/x`)", &["a /x/**", "b /x/**"]),
            ("Host(`*.x`) && Host(`a.x`)", &["a.x -  Host(`*.x`)"]),
            ("!(!Host(`a`) || Query(`q`))", &["a -  !Query(`q`)"]),
            ("Host(`a`) || Query(`q`)", &["a -", "* -  Query(`q`)"]),
            ("Path(`/**`) && Path(`/a/{b}`)", &["* /a/{b}  Path(`/**`)"]),
            ("Query(`a`) || Query(`b`)", &["* -  (Query(`a`) || Query(`b`))"]),
            ("Method(`GET`,`POST`) && Method(`POST`) && !Method(`PUT`)", &["* - POST !Method(`PUT`)"]),
            ("Host(`a`) && (Host(`b`) || Path(`/y`))", &["a /y"]),
            ("Host(`*`) && Host(`a`)", &["a -"]),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn contradictions_and_explosions_are_problems() {
        for text in ["Host(`a`) && Host(`b`)", "Host(`a`) && !Host(`a`)", "Method(`GET`) && Method(`POST`)"] {
            let problems = Alternative::all(&Match::Expression(text.into()), "m").unwrap_err();
            assert!(problems[0].message.contains("contradict"), "{text}");
        }
        let wide = vec!["(Path(`/a`) || Path(`/b`))"; 13].join(" && ");
        let problems = Alternative::all(&Match::Expression(wide), "m").unwrap_err();
        assert!(problems[0].message.contains("combinations"));
    }

    #[test]
    fn every_mistake_in_a_table_is_reported_with_its_path() {
        let table: MatchTable = serde_json::from_value(serde_json::json!({
            "host": ["a", "http://b"], "path": "x", "method": ["get"], "header": {"a b": "c"},
            "query": {"q": "~("}, "client_ip": ["10.0.0.0/8", "10"],
        }))
        .unwrap();
        let problems = Alternative::all(&Match::Table(table), "routes[0].match").unwrap_err();
        let paths: Vec<&str> = problems.iter().map(|p| p.path.strip_prefix("routes[0].match.").unwrap()).collect();
        assert_eq!(paths, ["host[1]", "path", "method[0]", "header.a b", "query.q", "client_ip[1]"]);
    }
}
