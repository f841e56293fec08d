//! The table as a whole: by example, against a naive matcher, and by what it refuses.

use super::*;
use crate::config;
use crate::message::{Method, PathOptions};
use proptest::prelude::*;
use serde_json::json;

fn routes(value: serde_json::Value) -> Vec<config::Route> {
    serde_json::from_value(value).unwrap()
}

fn table(value: serde_json::Value) -> RouteTable {
    RouteTable::compile(&routes(value), &["private".into(), "web".into()]).unwrap()
}

fn request(method: &str, host: &str, target: &str) -> RequestHead {
    let mut head = RequestHead { method: Method::parse(method.as_bytes()).unwrap(), ..RequestHead::default() };
    head.host = host.as_bytes().to_vec();
    head.target.parse(target.as_bytes(), PathOptions::default()).unwrap();
    head
}

fn found(table: &RouteTable, method: &str, host: &str, target: &str) -> String {
    match table.find(&request(method, host, target), &Peer::default()) {
        Found::Route(i) => table.names[i as usize].to_string(),
        Found::MethodNotAllowed(allow) => format!("405 {}", String::from_utf8(allow).unwrap()),
        Found::None => "404".into(),
    }
}

#[test]
fn the_documented_order() {
    let table = table(json!([
        {"name": "all"},
        {"name": "below-x", "match": {"host": "*.x"}},
        {"name": "below-b-x", "match": {"host": "*.b.x"}},
        {"name": "a-x", "match": {"host": "a.x"}},
        {"name": "users", "match": {"path": "/users/**"}},
        {"name": "user", "match": {"path": "/users/{id}"}},
        {"name": "me", "match": {"path": "/users/me"}},
        {"name": "me-debug", "match": {"path": "/users/me", "query": {"debug": "*"}}},
        {"name": "me-post", "match": {"path": "/users/me", "method": "POST"}},
        {"name": "first", "match": {"path": "/users/first/**"}, "priority": 1},
        {"name": "literal-first", "match": {"path": "/users/me/**"}},
        {"name": "template-first", "match": {"path": "/{kind}/me/photo"}},
    ]));
    for (method, host, target, expected) in [
        ("GET", "z", "/", "all"),
        ("GET", "", "/", "all"),
        ("OPTIONS", "z", "*", "all"),
        ("GET", "c.x", "/", "below-x"),
        ("GET", "x", "/", "all"),
        ("GET", "c.b.x", "/users/me", "below-b-x"),
        ("GET", "a.x", "/users/me", "a-x"),
        ("GET", "a.x.", "/users/me", "a-x"),
        ("GET", "z", "/users", "users"),
        ("GET", "z", "/users/", "users"),
        ("GET", "z", "/usersx", "all"),
        ("GET", "z", "/users/7", "user"),
        ("GET", "z", "/users/7/x", "users"),
        ("GET", "z", "/users/me", "me"),
        ("GET", "z", "/users/%6de", "me"),
        ("GET", "z", "/users/x/../me", "me"),
        ("GET", "z", "/users/me?debug=1", "me-debug"),
        ("POST", "z", "/users/me", "me-post"),
        ("GET", "a.x", "/users/first/x", "first"),
        ("GET", "z", "/users/me/photo", "literal-first"),
        ("GET", "z", "/teams/me/photo", "template-first"),
    ] {
        assert_eq!(found(&table, method, host, target), expected, "{method} {host}{target}");
    }
}

#[test]
fn a_wrong_method_is_told_from_a_wrong_target() {
    let table = table(json!([
        {"name": "read", "match": {"path": "/x", "method": ["GET", "HEAD"]}},
        {"name": "write", "match": "Path(`/x`) && Method(`PUT`) && Header(`x-key`)"},
        {"name": "purge", "match": {"path": "/**", "method": "PURGE"}},
        {"name": "private", "match": {"path": "/x", "method": "DELETE"}, "entrypoints": ["web"]},
    ]));
    assert_eq!(found(&table, "GET", "z", "/x"), "read");
    assert_eq!(found(&table, "POST", "z", "/x"), "405 GET, HEAD, PURGE");
    assert_eq!(found(&table, "PUT", "z", "/x"), "405 GET, HEAD, PURGE", "the header is missing");
    assert_eq!(found(&table, "DELETE", "z", "/x"), "405 GET, HEAD, PURGE", "another entrypoint");
    assert_eq!(found(&table, "GET", "z", "/y"), "405 PURGE");
    assert_eq!(found(&table, "OPTIONS", "z", "*"), "404");
}

#[test]
fn expressions_are_indexed_and_split() {
    let table = table(json!([
        {"name": "either", "match": "(Host(`a.x`) || Host(`b.x`)) && (PathPrefix(`/v1`) || PathPrefix(`/v2`)) && !Query(`debug`)"},
        {"name": "late", "match": "Host(`a.x`) || Query(`debug`)"},
        {"name": "regex", "match": "PathRegexp(`/v[0-9]+`) && ClientIP(`10.0.0.0/8`, `0.0.0.0`)"},
    ]));
    assert_eq!(found(&table, "GET", "b.x", "/v2/z"), "either");
    assert_eq!(found(&table, "GET", "a.x", "/v1?debug"), "late");
    assert_eq!(found(&table, "GET", "c.x", "/?debug"), "late");
    assert_eq!(found(&table, "GET", "c.x", "/v7"), "regex");
    assert_eq!(found(&table, "GET", "c.x", "/v7/x"), "404");
}

#[test]
fn hostile_hosts_and_paths_are_only_not_found() {
    let table = table(json!([
        {"name": "a", "match": {"host": "*.x", "path": "/{a}/{b}/**"}},
        {"name": "b", "match": {"host": "*.y.x", "path": "/{a}/b/{c}"}},
    ]));
    for host in [".x", "x", "..x", "a..", &"a.".repeat(20_000), &format!("{}x", "a.".repeat(130))] {
        for target in ["*", "/", "/////a", &"/a".repeat(10_000)] {
            let head = request("GET", host, target);
            let slowly = table.explain(&head, &Peer::default()).winner.map_or("404".to_owned(), |w| w.route);
            assert_eq!(found(&table, "GET", host, target), slowly, "{host} {target}");
        }
    }
}

#[test]
fn mistakes_are_reported_all_at_once() {
    let problems = RouteTable::compile(
        &routes(json!([
            {"name": "a", "match": {"path": "/x/{id}"}, "entrypoints": ["wbe"]},
            {"name": "a", "match": {"path": "/y", "method": ["GET", "POST"]}},
            {"name": "", "match": "Path("},
            {"name": "never", "match": {"path": "/y", "method": "POST"}},
            {"name": "alias", "match": "Path(`/x/{name}`)"},
            {"name": "partly", "match": {"path": ["/y", "/z"], "method": "GET"}},
            {"name": "contradiction", "match": "Host(`a`) && Host(`b`)"},
        ])),
        &["web".into()],
    )
    .err()
    .unwrap();
    let shown: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
    assert_eq!(
        shown,
        [
            "routes[0].entrypoints[0]: there is no entrypoint \"wbe\"",
            "routes[1].name: the name \"a\" is already taken by routes[0]",
            "routes[2].name: the name is empty",
            "routes[2].match: at byte 5: expected a quoted text",
            "routes[6].match: the conditions contradict each other: no request can match",
            "routes[3].match: route \"never\" can never be reached: route \"a\" takes everything it matches",
            "routes[4].match: route \"alias\" can never be reached: route \"a\" takes everything it matches",
        ]
    );
    assert_eq!(problems[0].nearest.as_deref(), Some("web"));
}

#[test]
fn a_priority_makes_a_narrower_twin_reachable() {
    table(json!([
        {"name": "wide", "match": {"path": "/y", "method": ["GET", "POST"]}},
        {"name": "narrow", "match": {"path": "/y", "method": "POST"}, "priority": 1},
    ]));
}

#[test]
fn an_explanation_names_winner_and_losers() {
    let table = table(json!([
        {"name": "orders", "match": {"host": "api.x", "path": "/orders/**", "method": ["GET"]}},
        {"name": "orders-any", "match": {"path": "/orders/**"}},
        {"name": "debug", "match": {"host": "api.x", "path": "/orders/**", "header": {"x-debug": "1"}}},
        {"name": "far", "match": {"host": "other", "path": "/z", "method": "PUT"}},
        {"name": "web-only", "match": {"path": "/orders/**"}, "entrypoints": ["web"]},
    ]));
    let mut head = request("GET", "api.x", "/orders/./7");
    head.fields.append(b"x-debug", b"2");
    let shown = table.explain(&head, &Peer::default());
    assert_eq!(shown.winner.as_ref().unwrap().route, "orders");
    assert_eq!(shown.path, "/orders/7");
    let whys: Vec<(&str, &str)> = shown.losers.iter().map(|l| (l.route.as_str(), l.why.as_str())).collect();
    assert_eq!(
        whys,
        [
            ("orders-any", "matches too, but host api.x is more specific than *"),
            ("debug", "header: wanted Header(`x-debug`, `1`), saw \"2\""),
            ("web-only", "entrypoint: wanted web, saw private"),
            ("far", "host: wanted other, saw api.x (and 2 more)"),
        ]
    );
    let none = table.explain(&request("POST", "api.x", "/y"), &Peer::default());
    assert!(none.winner.is_none() && none.allow.is_none());
    assert_eq!(none.why, "no route matches");
}

/// The documented order applied to every route in turn, with matching written a second time.
mod naive {
    use super::*;

    #[derive(Clone, Debug)]
    pub struct Rule {
        pub hosts: Vec<String>,
        pub paths: Vec<String>,
        pub methods: Vec<String>,
        pub header: Option<String>,
        pub query: bool,
        pub priority: i32,
        pub entrypoint: bool,
        pub as_expression: bool,
    }

    #[derive(Clone, Debug)]
    pub struct Request {
        pub host: String,
        pub path: String,
        pub method: &'static str,
        pub header: Option<String>,
        pub query: bool,
    }

    type Rank = (i32, (u8, usize), Vec<u8>, usize, std::cmp::Reverse<usize>);

    impl Rule {
        pub fn to_json(&self, i: usize) -> serde_json::Value {
            let name = format!("r{i}");
            let entrypoints = if self.entrypoint { vec!["private"] } else { vec![] };
            if !self.as_expression {
                let header: serde_json::Map<_, _> = self.header.iter().map(|v| ("x-h".to_owned(), json!(v))).collect();
                let query = if self.query { json!({"q": "*"}) } else { json!({}) };
                return json!({"name": name, "priority": self.priority, "entrypoints": entrypoints, "match": {
                    "host": self.hosts, "path": self.paths, "method": self.methods, "header": header, "query": query}});
            }
            let any = |f: &str, values: &[String]| -> Option<String> {
                let calls: Vec<String> = values.iter().map(|v| format!("{f}(`{v}`)")).collect();
                (!calls.is_empty()).then(|| format!("!!({})", calls.join("||")))
            };
            let methods: Vec<String> = self.methods.iter().map(|m| format!("`{m}`")).collect();
            let mut terms: Vec<String> = any("Host", &self.hosts).into_iter().chain(any("Path", &self.paths)).collect();
            terms.extend((!methods.is_empty()).then(|| format!("Method({})", methods.join(","))));
            terms.extend(self.header.iter().map(|v| format!("Header(`x-h`,`{v}`)")));
            terms.extend(self.query.then(|| "!(!Query(`q`))".to_owned()));
            let text = if terms.is_empty() { "Host(`*`)".to_owned() } else { terms.join(" && ") };
            json!({"name": name, "priority": self.priority, "entrypoints": entrypoints, "match": text})
        }

        /// Rank of the best matching combination, with and without regard to the method.
        pub fn judge(&self, index: usize, request: &Request) -> Option<(Rank, bool)> {
            let host = best(&self.hosts, (0, 0), |h| host_rank(h, &request.host))?;
            let path = best(&self.paths, vec![], |p| path_rank(p, &request.path))?;
            let header = self.header.is_none() || self.header == request.header;
            if !header || (self.query && !request.query) {
                return None;
            }
            let allowed = self.methods.is_empty() || self.methods.iter().any(|m| m == request.method);
            let further = usize::from(!self.methods.is_empty())
                + usize::from(self.header.is_some())
                + usize::from(self.query)
                + usize::from(self.entrypoint);
            Some(((self.priority, host, path, further, std::cmp::Reverse(index)), allowed))
        }
    }

    fn best<R: Ord>(patterns: &[String], none: R, rank: impl Fn(&str) -> Option<R>) -> Option<R> {
        if patterns.is_empty() {
            return Some(none);
        }
        patterns.iter().filter_map(|p| rank(p)).max()
    }

    fn host_rank(pattern: &str, host: &str) -> Option<(u8, usize)> {
        match pattern.strip_prefix('*') {
            Some(tail) => (host.len() > tail.len() && host.ends_with(tail)).then(|| (1, tail.matches('.').count())),
            None => (pattern == host).then_some((2, 0)),
        }
    }

    fn path_rank(pattern: &str, path: &str) -> Option<Vec<u8>> {
        let mut rank = Vec::new();
        let mut saw = path.split('/').skip(1);
        for want in pattern.split('/').skip(1) {
            if want == "**" {
                rank.push(1);
                return Some(rank);
            }
            let saw = saw.next()?;
            if want.starts_with('{') {
                rank.push(2);
                if saw.is_empty() {
                    return None;
                }
            } else {
                rank.push(3);
                if saw != want {
                    return None;
                }
            }
        }
        rank.push(4);
        saw.next().is_none().then_some(rank)
    }

    pub fn find(rules: &[Rule], request: &Request) -> Found {
        let judged: Vec<_> = rules.iter().enumerate().filter_map(|(i, r)| Some((r.judge(i, request)?, i))).collect();
        if let Some(((_, _), i)) = judged.iter().filter(|j| j.0 .1).max() {
            return Found::Route(*i as u32);
        }
        if judged.is_empty() {
            return Found::None;
        }
        let order = ["GET", "POST", "PURGE"];
        let allow: Vec<&str> =
            order.into_iter().filter(|m| judged.iter().any(|j| rules[j.1].methods.iter().any(|x| x == m))).collect();
        Found::MethodNotAllowed(allow.join(", ").into_bytes())
    }
}

fn rule() -> impl Strategy<Value = naive::Rule> {
    let host = prop::sample::select(vec!["x", "a.x", "b.a.x", "*.x", "*.a.x"]).prop_map(String::from);
    let segment = prop::sample::select(vec!["a", "b", "{p}"]);
    let path = (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(segments, below)| {
        let head: String = segments.iter().map(|s| format!("/{s}")).collect();
        match (below, head.is_empty()) {
            (true, _) => format!("{head}/**"),
            (false, true) => "/".to_owned(),
            (false, false) => head,
        }
    });
    let method = prop::sample::select(vec!["GET", "POST", "PURGE"]).prop_map(String::from);
    (
        prop::collection::vec(host, 0..3),
        prop::collection::vec(path, 0..3),
        prop::collection::btree_set(method, 0..3).prop_map(|s| s.into_iter().collect()),
        prop::option::weighted(0.3, prop::sample::select(vec!["1", "2"]).prop_map(String::from)),
        prop::bool::weighted(0.3),
        prop::sample::select(vec![0, 0, 0, 1, -1]),
        prop::bool::weighted(0.2),
        any::<bool>(),
    )
        .prop_map(|(hosts, paths, methods, header, query, priority, entrypoint, as_expression)| naive::Rule {
            hosts,
            paths,
            methods,
            header,
            query,
            priority,
            entrypoint,
            as_expression,
        })
}

fn asked() -> impl Strategy<Value = naive::Request> {
    (
        prop::sample::select(vec!["x", "a.x", "b.x", "b.a.x", "c.b.a.x", "y", ""]).prop_map(String::from),
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c", ""]), 0..5).prop_map(|s| {
            // Empty segments survive canonicalisation at the end only.
            let last = s.len().saturating_sub(1);
            let kept: Vec<_> = s.iter().enumerate().filter(|(i, x)| !x.is_empty() || *i == last).collect();
            format!("/{}", kept.iter().map(|(_, x)| **x).collect::<Vec<_>>().join("/"))
        }),
        prop::sample::select(vec!["GET", "POST", "PURGE"]),
        prop::option::of(prop::sample::select(vec!["1", "2"]).prop_map(String::from)),
        any::<bool>(),
    )
        .prop_map(|(host, path, method, header, query)| naive::Request { host, path, method, header, query })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn finds_what_the_naive_matcher_finds(
        rules in prop::collection::vec(rule(), 1..24),
        requests in prop::collection::vec(asked(), 1..16),
    ) {
        // Unreachable routes are refused; what they would have matched is won by others anyway.
        let mut rules = rules;
        let names = ["private".to_owned(), "web".to_owned()];
        let table = loop {
            let config: Vec<_> = rules.iter().enumerate().map(|(i, r)| r.to_json(i)).collect();
            match RouteTable::compile(&routes(json!(config)), &names) {
                Ok(table) => break table,
                Err(problems) => {
                    let before = rules.len();
                    for problem in problems.iter().rev() {
                        prop_assert!(problem.message.contains("can never be reached"), "{problem:?}");
                        let index: usize = problem.path["routes[".len()..problem.path.find(']').unwrap()].parse().unwrap();
                        let removed = rules.remove(index);
                        for request in &requests {
                            let mut with = rules.clone();
                            with.insert(index, removed.clone());
                            prop_assert_ne!(naive::find(&with, request), Found::Route(index as u32));
                        }
                    }
                    prop_assert!(rules.len() < before);
                }
            }
        };
        for asked in &requests {
            let target = format!("{}{}", asked.path, if asked.query { "?q=1" } else { "" });
            let mut head = request(asked.method, &asked.host, &target);
            if let Some(value) = &asked.header {
                head.fields.append(b"X-H", value.as_bytes());
            }
            let expected = naive::find(&rules, asked);
            let found = table.find(&head, &Peer::default());
            prop_assert_eq!(&found, &expected, "{:?} {:?}", asked, rules);
            let explained = table.explain(&head, &Peer::default());
            let winner = explained.winner.map_or(Found::None, |w| Found::Route(w.index));
            if let Found::Route(_) = found {
                prop_assert_eq!(winner, found);
            } else {
                prop_assert_eq!(winner, Found::None);
                prop_assert_eq!(explained.allow.is_some(), found != Found::None);
            }
        }
    }
}
