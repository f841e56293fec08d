//! `redirect`: send the client to another URL.
//!
//! Rules:
//! 1. The target is built from parts, each checked: a host comes from the configuration or is the one the
//!    client asked for, and a path made by a replacement is canonicalised like any other. No text from a
//!    request can name another host or add a field.
//! 2. A redirect to the URL that was asked for is not made; the request goes on. So a redirect to `https`
//!    may stand on a route that serves both.

use super::rewrite::Replacement;
use super::{Answer, Flow, Policy, RequestCx};
use crate::error::{Code, Problem};
use crate::message::{Scheme, Target};
use crate::route::HostPattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Redirect to another scheme, host, port or path. What is not given stays as the client asked.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Another host.
    pub host: Option<String>,
    /// Another port. A change of scheme or host without one means the scheme's own.
    pub port: Option<u16>,
    /// Another path. With `regex`: what replaces the matched part; `$1` and `${name}` stand for its groups.
    pub path: Option<String>,
    /// Regular expression searched in the path; paths in which it is not found are not redirected.
    pub regex: Option<String>,
    /// 301, 302, 303, 307 or 308. 307 and 308 keep the method; 301 and 308 may be cached for ever.
    pub status: u16,
    /// Keep the query.
    pub keep_query: bool,
}

impl Default for Config {
    fn default() -> Self {
        let (scheme, host, port, path, regex) = Default::default();
        Config { scheme, host, port, path, regex, status: 307, keep_query: true }
    }
}

struct Redirect {
    scheme: Option<Scheme>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<Replacement>,
    status: u16,
    keep_query: bool,
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let at = |key: &str| format!("policies.{name}.redirect.{key}");
        let mut problems = Vec::new();
        let scheme = match self.scheme.as_deref() {
            None => None,
            Some("http") => Some(Scheme::Http),
            Some("https") => Some(Scheme::Https),
            Some(other) => {
                let problem = Problem::new(at("scheme"), format!("{other:?} is no scheme to redirect to"));
                problems.push(problem.expected("`http` or `https`"));
                None
            }
        };
        let host = match self.host.as_deref().map(HostPattern::parse) {
            None => None,
            Some(Ok(HostPattern::Exact(host))) => Some(host.into_string()),
            Some(Ok(_)) => {
                problems.push(Problem::new(at("host"), "a wildcard is no host to redirect to").expected("one host"));
                None
            }
            Some(Err(problem)) => {
                problems.push(Problem { path: at("host"), ..problem });
                None
            }
        };
        let path = match (&self.path, self.regex.as_deref()) {
            (None, None) => None,
            (None, Some(_)) => {
                problems.push(Problem::new(at("path"), "`regex` needs `path`: what replaces the matched part"));
                None
            }
            (Some(path), regex) => match Replacement::parse(path, regex) {
                Ok(replacement) => Some(replacement),
                Err((key, problem)) => {
                    problems.push(Problem { path: at(key), ..problem });
                    None
                }
            },
        };
        if !matches!(self.status, 301 | 302 | 303 | 307 | 308) {
            let problem = Problem::new(at("status"), format!("{} is no redirect", self.status));
            problems.push(problem.expected("301, 302, 303, 307 or 308"));
        }
        if self.scheme.is_none()
            && self.host.is_none()
            && self.port.is_none()
            && self.path.is_none()
            && problems.is_empty()
        {
            let problem = Problem::new(format!("policies.{name}.redirect"), "the redirect changes nothing");
            problems.push(problem.expected("`scheme`, `host`, `port` or `path`"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Arc::new(Redirect { scheme, host, port: self.port, path, status: self.status, keep_query: self.keep_query }))
    }
}

impl Redirect {
    fn port(&self, scheme: Scheme, cx: &RequestCx<'_>) -> Option<u16> {
        let kept = if self.host.is_none() && scheme == cx.head.scheme { cx.head.port } else { None };
        let own = if scheme == Scheme::Https { 443 } else { 80 };
        self.port.or(kept).filter(|&port| port != own)
    }
}

impl Policy for Redirect {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        let head = &*cx.head;
        let scheme = self.scheme.unwrap_or(head.scheme);
        let mut target = Target::default();
        let old = head.target.path();
        if old == b"*" {
            return Flow::Next;
        }
        match self.path.as_ref().map(|replacement| replacement.apply(old)) {
            Some(None) => return Flow::Next,
            Some(Some(path)) => {
                if let Err(e) = target.parse(&path, cx.path_options) {
                    return Flow::Refuse(Code::BadRequest, Some(format!("the redirect's path: {}", e.0).into()));
                }
            }
            None => target.clone_from(&head.target),
        }
        let host = self.host.as_ref().map_or(&head.host[..], |host| host.as_bytes());
        let port = self.port(scheme, cx);
        let path = target.path();
        let query = if self.keep_query { head.target.query() } else { None };
        let same_port = port == head.port.filter(|&p| p != if scheme == Scheme::Https { 443 } else { 80 });
        if scheme == head.scheme && host == head.host && same_port && path == old && query == head.target.query() {
            return Flow::Next;
        }
        if host.is_empty() {
            return Flow::Refuse(Code::BadRequest, Some("a redirect needs a host".into()));
        }
        let mut location = Vec::with_capacity(16 + host.len() + path.len());
        location.extend_from_slice(if scheme == Scheme::Https { b"https://" } else { b"http://" });
        location.extend_from_slice(host);
        if let Some(port) = port {
            location.extend_from_slice(format!(":{port}").as_bytes());
        }
        location.extend_from_slice(path);
        if let Some(query) = query {
            location.push(b'?');
            location.extend_from_slice(query);
        }
        let mut answer = Answer { status: self.status, ..Answer::default() };
        answer.fields.append(b"location", &location);
        Flow::Answer(Box::new(answer))
    }

    fn describe(&self) -> String {
        let scheme = self.scheme.map(|s| if s == Scheme::Https { "scheme https" } else { "scheme http" }.to_owned());
        let host = self.host.as_ref().map(|h| format!("host {h}"));
        let port = self.port.map(|p| format!("port {p}"));
        let path = self.path.as_ref().map(|p| format!("path {}", p.describe()));
        let parts: Vec<String> = [scheme, host, port, path].into_iter().flatten().collect();
        format!("redirect: {} to {}", self.status, parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::stage::{answered, compile, problem_paths, refused, Stage};
    use crate::policy::Flow;
    use serde_json::json;

    #[test]
    fn locations() {
        for (config, port, target, expected) in [
            (json!({"scheme": "https"}), Some(8080), "/a?b=1", "https://h.x/a?b=1"),
            (json!({"scheme": "https", "port": 8443}), None, "/", "https://h.x:8443/"),
            (json!({"host": "new.x"}), Some(8080), "/a", "http://new.x/a"),
            (json!({"path": "/new"}), Some(8080), "/old?q", "http://h.x:8080/new?q"),
            (json!({"path": "/new", "keep_query": false}), None, "/old?q", "http://h.x/new"),
            (json!({"path": "/v2/$1", "regex": "^/v1/(.*)"}), None, "/v1/a/b", "http://h.x/v2/a/b"),
            (json!({"host": "new.x", "path": "/$1", "regex": "^/o/(.*)"}), None, "/o/evil.x", "http://new.x/evil.x"),
        ] {
            let policy = compile(json!({"redirect": config})).unwrap();
            let mut stage = Stage::new("h.x", target);
            stage.head.port = port;
            let answer = answered(stage.request(&policy));
            let location = String::from_utf8(answer.fields.get(b"location").unwrap().to_vec()).unwrap();
            assert_eq!((answer.status, location.as_str()), (307, expected), "{config}");
        }
    }

    #[test]
    fn no_redirect_to_where_the_client_is_or_where_nothing_matches() {
        for (config, target) in [
            (json!({"scheme": "http"}), "/"),
            (json!({"host": "h.x", "path": "/a"}), "/a?x"),
            (json!({"port": 80}), "/"),
            (json!({"path": "/b", "regex": "^/a"}), "/c"),
            (json!({"scheme": "https"}), "*"),
        ] {
            let policy = compile(json!({"redirect": config})).unwrap();
            assert!(matches!(Stage::new("h.x", target).request(&policy), Flow::Next), "{config}");
        }
    }

    #[test]
    fn requests_can_neither_name_a_host_nor_add_a_field() {
        // Two slashes at the front would be another host if the location were relative.
        let policy = compile(json!({"redirect": {"path": "/$1", "regex": "^/x(.*)"}})).unwrap();
        let mut stage = Stage::new("h.x", "/x/evil.x");
        stage.path_options.merge_slashes = false;
        let answer = answered(stage.request(&policy));
        assert_eq!(answer.fields.get(b"location"), Some(&b"http://h.x//evil.x"[..]));
        // Escaped line ends never reach a policy, and a path that leaves the root is refused.
        let policy = compile(json!({"redirect": {"path": "/../$1", "regex": "^/(.*)"}})).unwrap();
        assert_eq!(refused(Stage::new("h.x", "/x").request(&policy)), crate::error::Code::BadRequest);
        let policy = compile(json!({"redirect": {"scheme": "https"}})).unwrap();
        assert_eq!(refused(Stage::new("", "/x").request(&policy)), crate::error::Code::BadRequest);
    }

    #[test]
    fn mistakes_name_their_key() {
        for (config, key) in [
            (json!({}), ""),
            (json!({"scheme": "ftp"}), ".scheme"),
            (json!({"host": "*.x"}), ".host"),
            (json!({"host": "http://x"}), ".host"),
            (json!({"path": "x"}), ".path"),
            (json!({"regex": "x"}), ".path"),
            (json!({"path": "/", "regex": "("}), ".regex"),
            (json!({"scheme": "https", "status": 200}), ".status"),
        ] {
            assert_eq!(problem_paths(json!({"redirect": config})), [format!("policies.p.redirect{key}")], "{config}");
        }
    }
}
