//! Host and path patterns: reading, matching one by itself, and how specific one is.
//!
//! Rules:
//! 1. Patterns pass through the same canonicalisation as requests, so that `/%7Eann` and `/~ann` are one.
//! 2. A path is compared segment by segment; `/a/**` is `/a` and everything below it, never `/ab`.
//! 3. Specificity is a property of the pattern alone, so that the order of routes can be fixed when they
//!    are compiled and does not depend on a request.

use crate::error::Problem;
use crate::message::{PathOptions, Target};
use std::cmp::Ordering;
use std::fmt;

/// Longest host name looked up (RFC 1035 §2.3.4); longer ones can only match "any host".
pub const MAX_HOST: usize = 255;
/// Most segments of a path pattern, which bounds the depth of the path tree.
const MAX_SEGMENTS: usize = 64;

/// Lower-case, without port and without the root's dot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum HostPattern {
    #[default]
    Any,
    /// `*.example.com`, kept without the `*.`: hosts at any depth below it, not itself.
    Below(Box<str>),
    Exact(Box<str>),
}

impl HostPattern {
    pub fn parse(text: &str) -> Result<HostPattern, Problem> {
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        let bad = |why: String| Problem::new("", why).expected("`api.example.com`, `*.example.com` or `[::1]`");
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (name, below) = match lower.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (lower.as_str(), false),
        };
        if name.is_empty() {
            return Err(bad(format!("{text:?} is not a host")));
        }
        if name.contains("://") || name.contains('/') {
            return Err(bad(format!("{text:?} is a URL, not a host")));
        }
        if name.contains('*') {
            return Err(bad(format!("{text:?}: `*` may only stand for the first labels, as `*.`")));
        }
        if !name.is_ascii() {
            return Err(bad(format!("{text:?}: write internationalised names as they are sent (`xn--…`)")));
        }
        let v6 = name.starts_with('[') && name.ends_with(']');
        if !v6 && name.contains(':') {
            return Err(bad(format!("{text:?}: ports belong to entrypoints, not to `host`")));
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let is_good = if v6 {
            !below && name[1..name.len() - 1].parse::<std::net::Ipv6Addr>().is_ok_and(|ip| name == format!("[{ip}]"))
        } else {
            name.bytes().all(fits) && !name.split('.').any(str::is_empty)
        };
        if !is_good {
            return Err(bad(format!("{text:?} is not a host")));
        }
        if name.len() > MAX_HOST {
            return Err(bad(format!("a host has at most {MAX_HOST} bytes")));
        }
        Ok(if below { HostPattern::Below(name.into()) } else { HostPattern::Exact(name.into()) })
    }

    /// `host` is lower-case, without port and root dot.
    pub fn matches(&self, host: &[u8]) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Exact(name) => host == name.as_bytes(),
            HostPattern::Below(name) => host
                .strip_suffix(name.as_bytes())
                .and_then(|rest| rest.strip_suffix(b"."))
                .is_some_and(|rest| !rest.is_empty() && host.len() <= MAX_HOST),
        }
    }

    /// Exact, then wildcards with more labels first, then any.
    pub fn specificity(&self) -> (u8, usize) {
        match self {
            HostPattern::Any => (0, 0),
            HostPattern::Below(name) => (1, name.split('.').count()),
            HostPattern::Exact(_) => (2, 0),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Any => f.write_str("*"),
            HostPattern::Below(name) => write!(f, "*.{name}"),
            HostPattern::Exact(name) => f.write_str(name),
        }
    }
}

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    Literal(Box<[u8]>),
    /// `{id}`: any one non-empty segment. The name is for the reader.
    One(Box<str>),
}

/// `/exact`, `/users/{id}`, `/files/**`.
#[derive(Clone, Debug)]
pub struct PathPattern {
    pub segments: Vec<Segment>,
    /// Ends in `/**`: what stands before it, and everything below.
    pub below: bool,
}

/// How specific each step of a path pattern is; greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Below,
    One,
    Literal,
    End,
}

impl PathPattern {
    pub fn parse(text: &str) -> Result<PathPattern, Problem> {
        let bad = |why: String| {
            Problem::new("", why).expected("`/exact`, `/users/{id}` (one segment) or `/files/**` (this and below)")
        };
        let whole = if text == "**" { "/**" } else { text };
        let (path, below) = match whole.strip_suffix("/**") {
            Some(rest) => (rest, true),
            None => (whole, false),
        };
        if path.contains('?') {
            return Err(bad(format!("{text:?}: the query is not part of the path; use `query`")));
        }
        if below && path.is_empty() {
            return Ok(PathPattern { segments: Vec::new(), below });
        }
        if !path.starts_with('/') {
            return Err(bad(format!("{text:?} does not begin with `/`")).nearest(format!("/{text}")));
        }
        let path = if below { path.trim_end_matches('/') } else { path };
        let mut target = Target::default();
        let options = PathOptions { merge_slashes: true, allow_encoded_slash: true };
        target.parse(escape_for_target(path).as_bytes(), options).map_err(|e| bad(format!("{text:?}: {}", e.0)))?;
        let mut segments = Vec::new();
        for segment in target.path()[1..].split(|&b| b == b'/') {
            segments.push(Segment::parse(segment).map_err(|why| bad(format!("{text:?}: {why}")))?);
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(bad(format!("a path pattern has at most {MAX_SEGMENTS} segments")));
        }
        Ok(PathPattern { segments, below })
    }

    /// The pattern for a prefix: `/x` is `/x/**`.
    pub fn prefix(text: &str) -> Result<PathPattern, Problem> {
        PathPattern::parse(&format!("{}/**", text.strip_suffix("/**").unwrap_or(text).trim_end_matches('/')))
    }

    /// `path` is canonical.
    pub fn matches(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(b"/") else {
            return false;
        };
        let length = rest.split(|&b| b == b'/').count();
        let fits = length == self.segments.len() || (self.below && length > self.segments.len());
        fits && self.leading_matches(path) == self.segments.len()
    }

    /// How many segments match before the first that does not.
    pub fn leading_matches(&self, path: &[u8]) -> usize {
        let segments = path.strip_prefix(b"/").unwrap_or_default().split(|&b| b == b'/');
        self.segments.iter().zip(segments).take_while(|(want, saw)| want.matches(saw)).count()
    }

    /// Compared segment by segment from the left; greater is more specific.
    pub fn specificity(&self) -> impl Iterator<Item = Step> + '_ {
        let of = |s: &Segment| if matches!(s, Segment::Literal(_)) { Step::Literal } else { Step::One };
        self.segments.iter().map(of).chain([if self.below { Step::Below } else { Step::End }])
    }

    /// The pattern without the names of its templates.
    pub fn shape(&self) -> String {
        let show = |s: &Segment| match s {
            Segment::Literal(text) => format!("/{}", String::from_utf8_lossy(text)),
            Segment::One(_) => "/{}".to_owned(),
        };
        self.segments.iter().map(show).chain(self.below.then(|| "/**".to_owned())).collect()
    }

    pub fn compare(&self, other: &PathPattern) -> Ordering {
        self.specificity().cmp(other.specificity())
    }
}

/// Names of templates do not count: `/users/{id}` and `/users/{name}` are one pattern.
impl PartialEq for PathPattern {
    fn eq(&self, other: &PathPattern) -> bool {
        let same = |(a, b): (&Segment, &Segment)| match (a, b) {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::One(_), Segment::One(_)) => true,
            _ => false,
        };
        self.below == other.below
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(same)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{}", String::from_utf8_lossy(text))?,
                Segment::One(name) => write!(f, "/{{{name}}}")?,
            }
        }
        f.write_str(if self.below { "/**" } else { "" })
    }
}

impl Segment {
    fn parse(segment: &[u8]) -> Result<Segment, String> {
        let text = String::from_utf8_lossy(segment);
        if let Some(name) = text.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            return if !name.is_empty() && name.bytes().all(fits) {
                Ok(Segment::One(name.into()))
            } else {
                Err(format!("`{text}` needs a name of letters, digits, - and _ in its braces"))
            };
        }
        if text.contains(['{', '}']) {
            return Err(format!("`{text}`: a template stands for a whole segment"));
        }
        match &*text {
            "**" => Err("`**` may only stand at the end".into()),
            "*" => Err("one segment is written `{name}`".into()),
            _ => Ok(Segment::Literal(segment.into())),
        }
    }

    pub fn matches(&self, segment: &[u8]) -> bool {
        match self {
            Segment::Literal(text) => **text == *segment,
            Segment::One(_) => !segment.is_empty(),
        }
    }
}

/// Writes what people write in files (`/café menu`) as it would be sent.
fn escape_for_target(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for b in path.bytes() {
        if b == b' ' || b >= 0x80 {
            out.push_str(&format!("%{b:02X}"));
        } else {
            out.push(b as char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (pattern, yes, no) in [
            ("API.example.com", &["api.example.com"][..], &["example.com", "x.api.example.com", ""][..]),
            (
                "*.example.com",
                &["a.example.com", "a.b.example.com"],
                &["example.com", "aexample.com", ".example.com", ""],
            ),
            ("example.com.", &["example.com"], &["com"]),
            ("[::1]", &["[::1]"], &["::1"]),
            ("*", &["", "anything"], &[]),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap();
            for host in yes {
                assert!(parsed.matches(host.as_bytes()), "{pattern} {host}");
            }
            for host in no {
                assert!(!parsed.matches(host.as_bytes()), "{pattern} {host}");
            }
        }
        for bad in
            ["", "*.", "http://a", "a/b", "a:80", "a.*.b", "é.com", "a..b", "[::1", "[x]", "*.[::1]", "[0::1]", "a b"]
        {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths() {
        for (pattern, yes, no) in [
            ("/a", &["/a"][..], &["/a/", "/ab", "/", "*"][..]),
            ("/", &["/"], &["/a"]),
            ("/a/", &["/a/"], &["/a"]),
            ("/a/**", &["/a", "/a/", "/a/b/c"], &["/ab", "/", "*"]),
            ("/**", &["/", "/a", "/a/b"], &["*"]),
            ("**", &["/", "/a"], &["*"]),
            ("/users/{id}", &["/users/7"], &["/users/", "/users", "/users/7/x"]),
            ("/{a}/x/**", &["/1/x", "/1/x/y"], &["/1/xy", "//x"]),
            ("/%7eann/caf\u{e9}", &["/~ann/caf%C3%A9"], &["/~ann"]),
            ("/a/./b/../c", &["/a/c"], &[]),
            ("/a%2fb", &["/a%2Fb"], &["/a/b"]),
        ] {
            let parsed = PathPattern::parse(pattern).unwrap();
            for path in yes {
                assert!(parsed.matches(path.as_bytes()), "{pattern} {path}");
            }
            for path in no {
                assert!(!parsed.matches(path.as_bytes()), "{pattern} {path}");
            }
        }
        for bad in ["", "a", "/a?b", "/**/a", "/*", "/a{b}", "/{}", "/{a b}", "/..", "/a#b", "/%zz", "/%00"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
        assert!(PathPattern::parse(&"/a".repeat(65)).is_err());
        for (prefix, shown) in [("/x", "/x/**"), ("/x/", "/x/**"), ("/", "/**"), ("/x/**", "/x/**")] {
            assert_eq!(PathPattern::prefix(prefix).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn paths_are_ordered_by_segment_from_the_left() {
        let order = ["/a/b", "/a/b/**", "/a/{x}", "/a/**", "/{x}/b", "/{x}/**", "/**"];
        for pair in order.windows(2) {
            let [better, worse] = [pair[0], pair[1]].map(|p| PathPattern::parse(p).unwrap());
            assert_eq!(better.compare(&worse), Ordering::Greater, "{better} {worse}");
        }
    }
}
