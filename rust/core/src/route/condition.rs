//! One condition on a request, and trees of them.
//!
//! Rules:
//! 1. Conditions are built from values, never from the text of a rule: there is nothing to escape.
//! 2. Testing allocates nothing (query values longer than 128 bytes that a regex must see decoded aside).
//! 3. Everything prints as the expression that would have made it.

use super::pattern::{HostPattern, PathPattern};
use crate::config::ipnet_text::{canonical, Net};
use crate::error::Problem;
use crate::message::fields::is_field_name;
use crate::message::{form_decoded, ClientCertificate, Method, Peer, RequestHead};
use smallvec::SmallVec;
use std::fmt;

/// Largest compiled size of one regular expression.
const REGEX_SIZE: usize = 1 << 20;

/// A request as conditions see it.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub head: &'a RequestHead,
    pub peer: &'a Peer,
    /// Without the root's dot.
    pub host: &'a [u8],
    pub path: &'a [u8],
}

impl<'a> Seen<'a> {
    pub fn new(head: &'a RequestHead, peer: &'a Peer) -> Seen<'a> {
        let host = head.host.strip_suffix(b".").unwrap_or(&head.host);
        Seen { head, peer, host, path: head.target.path() }
    }

    fn certificate(&self) -> Option<&'a ClientCertificate> {
        self.peer.tls.as_ref()?.client.as_ref()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Host(HostPattern),
    Path(PathPattern),
    PathRegexp(Pattern),
    Method(MethodSet),
    Header { name: Box<str>, test: Test },
    Query { name: Box<str>, test: Test },
    ClientIp(Vec<Net>),
    ClientCert { part: CertPart, test: Test },
}

/// What of a client's verified certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertPart {
    /// Distinguished name (RFC 4514).
    Subject,
    /// Any subject alternative name.
    San,
    /// SHA-256 of the DER, lower hex.
    Fingerprint,
}

impl CertPart {
    const ALL: [(&'static str, CertPart); 3] =
        [("subject", CertPart::Subject), ("san", CertPart::San), ("fingerprint", CertPart::Fingerprint)];

    pub fn parse(name: &str) -> Result<CertPart, Problem> {
        let found = CertPart::ALL.iter().find(|(known, _)| *known == name);
        found.map(|f| f.1).ok_or_else(|| {
            let problem = Problem::new("", format!("a certificate has no {name:?} to match"));
            let problem = problem.expected("one of subject, san, fingerprint");
            match crate::error::nearest(name, CertPart::ALL.iter().map(|(known, _)| *known)) {
                Some(near) => problem.nearest(near),
                None => problem,
            }
        })
    }

    fn name(self) -> &'static str {
        CertPart::ALL.iter().find(|(_, part)| *part == self).map_or("", |(name, _)| name)
    }

    fn values(self, certificate: &ClientCertificate) -> impl Iterator<Item = &str> {
        let (one, many) = match self {
            CertPart::Subject => (Some(certificate.subject.as_str()), &[][..]),
            CertPart::San => (None, certificate.sans.as_slice()),
            CertPart::Fingerprint => (Some(certificate.fingerprint.as_str()), &[][..]),
        };
        one.into_iter().chain(many.iter().map(String::as_str))
    }
}

/// What a field or a query parameter must be. One of several values is enough.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    Present,
    Is(Box<str>),
    Like(Pattern),
}

/// A regular expression that must match the whole text.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    regex: regex::bytes::Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Pattern, Problem> {
        let bad = |error: String| {
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Problem::new("", format!("bad regular expression {text:?}: {reason}"))
                .expected("the syntax of Rust's `regex` crate (no look-around, no back-references)")
        };
        // By itself first: `a)|(b` would only be balanced inside the anchors.
        regex_syntax::parse(text).map_err(|e| bad(e.to_string()))?;
        let regex = regex::bytes::RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(REGEX_SIZE)
            .build()
            .map_err(|e| bad(e.to_string()))?;
        Ok(Pattern { text: text.into(), regex })
    }

    fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }
}

impl Test {
    /// `*` for present, `~regex`, or the exact value, as match tables write them.
    pub fn from_table(text: &str) -> Result<Test, Problem> {
        match (text, text.strip_prefix('~')) {
            ("*", _) => Ok(Test::Present),
            (_, Some(regex)) => Pattern::parse(regex).map(Test::Like),
            _ => Ok(Test::Is(text.into())),
        }
    }
}

/// A set of methods: the registered ones as bits, others by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MethodSet {
    bits: u16,
    others: Vec<Method>,
}

const REGISTERED: [Method; 9] = [
    Method::Get,
    Method::Head,
    Method::Post,
    Method::Put,
    Method::Delete,
    Method::Patch,
    Method::Options,
    Method::Connect,
    Method::Trace,
];

fn bit(method: &Method) -> u16 {
    match method {
        Method::Get => 1,
        Method::Head => 1 << 1,
        Method::Post => 1 << 2,
        Method::Put => 1 << 3,
        Method::Delete => 1 << 4,
        Method::Patch => 1 << 5,
        Method::Options => 1 << 6,
        Method::Connect => 1 << 7,
        Method::Trace => 1 << 8,
        Method::Other(_) => 0,
    }
}

impl MethodSet {
    pub fn insert(&mut self, text: &str) -> Result<(), Problem> {
        let bad = || Problem::new("", format!("{text:?} is not a method")).expected("a name such as `GET`");
        let method = Method::parse(text.as_bytes()).ok_or_else(bad)?;
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(bad().nearest(text.to_ascii_uppercase()));
        }
        self.bits |= bit(&method);
        if bit(&method) == 0 && !self.others.contains(&method) {
            self.others.push(method);
        }
        Ok(())
    }

    pub fn contains(&self, method: &Method) -> bool {
        match bit(method) {
            0 => self.others.contains(method),
            bit => self.bits & bit != 0,
        }
    }

    pub fn includes(&self, other: &MethodSet) -> bool {
        other.bits & !self.bits == 0 && other.others.iter().all(|m| self.others.contains(m))
    }

    pub fn intersect(&mut self, other: &MethodSet) {
        self.bits &= other.bits;
        self.others.retain(|m| other.others.contains(m));
    }

    pub fn unite(&mut self, other: &MethodSet) {
        self.bits |= other.bits;
        for method in &other.others {
            if !self.others.contains(method) {
                self.others.push(method.clone());
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bits == 0 && self.others.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Method> {
        REGISTERED.iter().filter(|m| self.bits & bit(m) != 0).chain(&self.others)
    }
}

/// `GET, HEAD`: the form of `Allow` (RFC 9110 §10.2.1).
impl fmt::Display for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, method) in self.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, method.as_str())?;
        }
        Ok(())
    }
}

impl Condition {
    /// A condition on a field; the name is checked and lower-cased.
    pub fn header(name: &str, test: Test) -> Result<Condition, Problem> {
        if !is_field_name(name.as_bytes()) {
            return Err(Problem::new("", format!("{name:?} is not a field name")).expected("letters, digits and -"));
        }
        if name.eq_ignore_ascii_case("host") {
            return Err(Problem::new("", "the host has a condition of its own").expected("`host` or Host(`…`)"));
        }
        Ok(Condition::Header { name: name.to_ascii_lowercase().into(), test })
    }

    pub fn client_ip<'t>(blocks: impl Iterator<Item = &'t str>) -> Result<Condition, Problem> {
        let read = |text: &str| {
            Net::parse(text).ok_or_else(|| {
                Problem::new("", format!("{text:?} is not a CIDR block"))
                    .expected("`10.0.0.0/8`, `2001:db8::/32` or one address")
            })
        };
        blocks.map(read).collect::<Result<_, _>>().map(Condition::ClientIp)
    }

    /// A condition on the client's certificate; fingerprints are compared without colons and case.
    pub fn client_cert(part: &str, test: Test) -> Result<Condition, Problem> {
        let part = CertPart::parse(part)?;
        let test = match (part, test) {
            (CertPart::Fingerprint, Test::Is(text)) => {
                let plain: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
                if plain.len() != 64 || !plain.bytes().all(|b| b.is_ascii_hexdigit()) {
                    let problem = Problem::new("", format!("{text:?} is not a SHA-256 fingerprint"));
                    return Err(problem.expected("64 hex digits"));
                }
                Test::Is(plain.into())
            }
            (_, test) => test,
        };
        Ok(Condition::ClientCert { part, test })
    }

    pub fn holds(&self, seen: &Seen<'_>) -> bool {
        match self {
            Condition::ClientCert { part, test } => {
                let Some(certificate) = seen.certificate() else { return false };
                let mut values = part.values(certificate);
                match test {
                    Test::Present => values.next().is_some(),
                    Test::Is(text) => values.any(|v| v == &**text),
                    Test::Like(pattern) => values.any(|v| pattern.matches(v.as_bytes())),
                }
            }
            Condition::Host(pattern) => pattern.matches(seen.host),
            Condition::Path(pattern) => pattern.matches(seen.path),
            Condition::PathRegexp(pattern) => pattern.matches(seen.path),
            Condition::Method(set) => set.contains(&seen.head.method),
            Condition::Header { name, test } => {
                let mut values = seen.head.fields.all(name.as_bytes());
                match test {
                    Test::Present => values.next().is_some(),
                    Test::Is(text) => values.any(|v| v == text.as_bytes()),
                    Test::Like(pattern) => values.any(|v| pattern.matches(v)),
                }
            }
            Condition::Query { name, test } => {
                let mut values = seen.head.target.parameters(name.as_bytes());
                match test {
                    Test::Present => values.next().is_some(),
                    Test::Is(text) => values.any(|v| form_decoded(v).eq(text.bytes())),
                    Test::Like(pattern) => values.any(|v| pattern.matches(&decoded(v))),
                }
            }
            Condition::ClientIp(blocks) => {
                let ip = canonical(seen.peer.ip);
                blocks.iter().any(|block| block.contains(ip))
            }
        }
    }

    /// What the request has where this condition looks, for people. Values of fields and of the query are
    /// the caller's own; only `pygate explain` shows them.
    pub fn saw(&self, seen: &Seen<'_>) -> String {
        let list = |values: Vec<String>| if values.is_empty() { "nothing".to_owned() } else { values.join(", ") };
        match self {
            Condition::Host(_) if seen.host.is_empty() => "no host".into(),
            Condition::Host(_) => String::from_utf8_lossy(seen.host).into_owned(),
            Condition::Path(_) | Condition::PathRegexp(_) => String::from_utf8_lossy(seen.path).into_owned(),
            Condition::Method(_) => seen.head.method.as_str().to_owned(),
            Condition::Header { name, .. } => list(
                seen.head.fields.all(name.as_bytes()).map(|v| format!("{:?}", String::from_utf8_lossy(v))).collect(),
            ),
            Condition::Query { name, .. } => list(
                seen.head
                    .target
                    .parameters(name.as_bytes())
                    .map(|v| format!("{:?}", String::from_utf8_lossy(&decoded(v))))
                    .collect(),
            ),
            Condition::ClientIp(_) => canonical(seen.peer.ip).to_string(),
            Condition::ClientCert { part, .. } => {
                list(seen.certificate().map(|c| part.values(c).map(|v| format!("{v:?}")).collect()).unwrap_or_default())
            }
        }
    }

    /// The word for what it looks at.
    pub fn subject(&self) -> &'static str {
        match self {
            Condition::Host(_) => "host",
            Condition::Path(_) | Condition::PathRegexp(_) => "path",
            Condition::Method(_) => "method",
            Condition::Header { .. } => "header",
            Condition::Query { .. } => "query",
            Condition::ClientIp(_) => "client_ip",
            Condition::ClientCert { .. } => "client_cert",
        }
    }
}

fn decoded(raw: &[u8]) -> SmallVec<[u8; 128]> {
    form_decoded(raw).collect()
}

/// Conditions joined by and, or and not.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Leaf(Condition),
    Not(Box<Tree>),
    All(Vec<Tree>),
    Any(Vec<Tree>),
}

impl Tree {
    pub fn holds(&self, seen: &Seen<'_>) -> bool {
        match self {
            Tree::Leaf(condition) => condition.holds(seen),
            Tree::Not(tree) => !tree.holds(seen),
            Tree::All(trees) => trees.iter().all(|t| t.holds(seen)),
            Tree::Any(trees) => trees.iter().any(|t| t.holds(seen)),
        }
    }

    /// The first condition in it, in reading order.
    pub fn first(&self) -> Option<&Condition> {
        match self {
            Tree::Leaf(condition) => Some(condition),
            Tree::Not(tree) => tree.first(),
            Tree::All(trees) | Tree::Any(trees) => trees.iter().find_map(Tree::first),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |f: &mut fmt::Formatter<'_>, function: &str, name: &str, test: &Test| match test {
            Test::Present => write!(f, "{function}({})", Quoted(name)),
            Test::Is(text) => write!(f, "{function}({}, {})", Quoted(name), Quoted(text)),
            Test::Like(pattern) => write!(f, "{function}Regexp({}, {})", Quoted(name), Quoted(&pattern.text)),
        };
        match self {
            Condition::Host(pattern) => write!(f, "Host({})", Quoted(&pattern.to_string())),
            Condition::Path(pattern) => write!(f, "Path({})", Quoted(&pattern.to_string())),
            Condition::PathRegexp(pattern) => write!(f, "PathRegexp({})", Quoted(&pattern.text)),
            Condition::Method(set) => {
                let names: Vec<String> = set.iter().map(|m| Quoted(m.as_str()).to_string()).collect();
                write!(f, "Method({})", names.join(", "))
            }
            Condition::Header { name, test } => named(f, "Header", name, test),
            Condition::Query { name, test } => named(f, "Query", name, test),
            Condition::ClientCert { part, test } => named(f, "ClientCert", part.name(), test),
            Condition::ClientIp(blocks) => {
                let blocks: Vec<String> = blocks.iter().map(|b| Quoted(&b.0.to_string()).to_string()).collect();
                write!(f, "ClientIP({})", blocks.join(", "))
            }
        }
    }
}

/// Text as expressions quote it.
struct Quoted<'t>(&'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains('`') {
            write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            write!(f, "`{}`", self.0)
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, trees: &[Tree], operator: &str| {
            for (i, tree) in trees.iter().enumerate() {
                write!(f, "{}{tree}", if i == 0 { "(" } else { operator })?;
            }
            f.write_str(if trees.is_empty() { "()" } else { ")" })
        };
        match self {
            Tree::Leaf(condition) => write!(f, "{condition}"),
            Tree::Not(tree) => write!(f, "!{tree}"),
            Tree::All(trees) => joined(f, trees, " && "),
            Tree::Any(trees) => joined(f, trees, " || "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::PathOptions;

    fn request(target: &str, fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead { host: b"a.example.".to_vec(), ..RequestHead::default() };
        head.target.parse(target.as_bytes(), PathOptions::default()).unwrap();
        for (name, value) in fields {
            head.fields.append(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn query(name: &str, test: &str) -> Condition {
        Condition::Query { name: name.into(), test: Test::from_table(test).unwrap() }
    }

    #[test]
    fn query_parameters_are_compared_decoded() {
        for (target, condition, expected) in [
            ("/?q=a%20b", query("q", "a b"), true),
            ("/?q=a+b", query("q", "a b"), true),
            ("/?%71=%61", query("q", "a"), true),
            ("/?q=a%2", query("q", "a%2"), true),
            ("/?q=%zz", query("q", "%zz"), true),
            ("/?debug", query("debug", "*"), true),
            ("/?debug", query("debug", ""), true),
            ("/?x=1&debug=2", query("debug", "~[0-9]"), true),
            ("/?debug=12", query("debug", "~[0-9]"), false),
            ("/?q=1&q=2", query("q", "2"), true),
            ("/?qq=1", query("q", "*"), false),
            ("/?&&=", query("", "*"), true),
            ("/?", query("q", "*"), false),
            ("/", query("q", "*"), false),
        ] {
            let (head, peer) = (request(target, &[]), Peer::default());
            assert_eq!(condition.holds(&Seen::new(&head, &peer)), expected, "{target} {condition}");
        }
    }

    #[test]
    fn fields_addresses_and_methods() {
        let head = request("/", &[("X-Env", "dev"), ("x-env", "prod")]);
        let peer = Peer { ip: "::ffff:10.1.2.3".parse().unwrap(), ..Peer::default() };
        let seen = Seen::new(&head, &peer);
        let header = |name: &str, test: &str| Condition::header(name, Test::from_table(test).unwrap()).unwrap();
        assert!(header("x-ENV", "prod").holds(&seen));
        assert!(header("x-env", "~pr.*").holds(&seen));
        assert!(!header("x-env", "~r").holds(&seen));
        assert!(!header("x-other", "*").holds(&seen));
        assert!(Condition::client_ip(["10.0.0.0/8"].into_iter()).unwrap().holds(&seen));
        assert!(!Condition::client_ip(["10.2.0.0/16", "::1"].into_iter()).unwrap().holds(&seen));
        assert!(Condition::Host(HostPattern::parse("a.example").unwrap()).holds(&seen), "the root's dot is no matter");
        let mut methods = MethodSet::default();
        for method in ["POST", "GET", "PURGE"] {
            methods.insert(method).unwrap();
        }
        assert_eq!(methods.to_string(), "GET, POST, PURGE");
        assert!(methods.contains(&Method::parse(b"PURGE").unwrap()) && !methods.contains(&Method::Head));
        assert_eq!(methods.insert("get").unwrap_err().nearest.as_deref(), Some("GET"));
        assert!(methods.insert("a b").is_err());
    }

    #[test]
    fn what_cannot_be_a_condition_says_why() {
        for problem in [
            Condition::header("a b", Test::Present).unwrap_err(),
            Condition::header("Host", Test::Present).unwrap_err(),
            Condition::client_ip(["10.0.0"].into_iter()).unwrap_err(),
            Pattern::parse("(").unwrap_err(),
            Pattern::parse("a)|(b").unwrap_err(),
            Pattern::parse("(?=x)").unwrap_err(),
            Pattern::parse(r"\pL{1000}{100}").unwrap_err(),
        ] {
            assert!(problem.expected.is_some(), "{problem:?}");
        }
    }
}
