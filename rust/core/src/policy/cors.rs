//! `cors`: let pages of other origins call a route (the Fetch standard's CORS protocol).
//!
//! Rules:
//! 1. The gateway owns every `access-control-*` field of a route with this policy: what the upstream sends
//!    of them is removed.
//! 2. An origin is answered with itself, never with a pattern; `*` is only sent when no credentials are
//!    allowed. Answers that depend on the origin say so in `vary`.
//! 3. A preflight is answered here and never reaches the upstream. The route must let `OPTIONS` through:
//!    name it in `method`, or name no method.

use super::{Answer, Flow, Policy, RequestCx, ResponseCx};
use crate::config::Duration;
use crate::error::Problem;
use crate::message::fields::is_field_name;
use crate::message::{Known, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const PREFIX: &[u8] = b"access-control-";

/// Let pages of other origins call this route.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `https://app.example.com`, `https://*.example.com` (any depth below), or `*` for all.
    pub origins: Vec<String>,
    /// Methods a page may use.
    pub methods: Vec<String>,
    /// Request fields a page may set beyond the simple ones.
    pub headers: Vec<String>,
    /// Fields of the answer a page may read beyond the simple ones.
    pub expose: Vec<String>,
    /// Send and accept cookies and credentials. Needs origins by name.
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight.
    pub max_age: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            origins: Vec::new(),
            methods: ["GET", "HEAD", "POST"].map(String::from).to_vec(),
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false,
            max_age: Duration::secs(600),
        }
    }
}

enum Origin {
    Exact(String),
    /// `https://` and `.example.com` of `https://*.example.com`.
    Below(String, String),
}

struct Cors {
    any: bool,
    origins: Vec<Origin>,
    methods: String,
    headers: String,
    expose: String,
    credentials: bool,
    max_age: String,
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let at = |key: &str| format!("policies.{name}.cors.{key}");
        let (mut problems, mut origins, mut any) = (Vec::new(), Vec::new(), false);
        if self.origins.is_empty() {
            let problem = Problem::new(at("origins"), "no origin is allowed");
            problems.push(problem.expected("`https://app.example.com`, `https://*.example.com` or `*`"));
        }
        for (i, text) in self.origins.iter().enumerate() {
            match text.as_str() {
                "*" => any = true,
                _ => match Origin::parse(text) {
                    Some(origin) => origins.push(origin),
                    None => {
                        let problem = Problem::new(at(&format!("origins[{i}]")), format!("{text:?} is not an origin"));
                        problems.push(
                            problem.expected("scheme, host and port if any, without path: `https://app.example.com`"),
                        );
                    }
                },
            }
        }
        if self.credentials && (any || self.origins.iter().any(|o| o == "null")) {
            let problem =
                Problem::new(at("credentials"), "credentials for any origin would let every page act as its visitor");
            problems.push(problem.expected("origins by name, or `credentials = false`"));
        }
        for (key, list) in [("methods", &self.methods), ("headers", &self.headers), ("expose", &self.expose)] {
            for (i, text) in list.iter().enumerate() {
                if !is_field_name(text.as_bytes()) || text == "*" {
                    let problem = Problem::new(at(&format!("{key}[{i}]")), format!("{text:?} is not a name"));
                    problems.push(problem.expected("names one by one"));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Arc::new(Cors {
            any,
            origins,
            methods: self.methods.join(", "),
            headers: self.headers.join(", "),
            expose: self.expose.join(", "),
            credentials: self.credentials,
            max_age: self.max_age.0.as_secs().to_string(),
        }))
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Origin> {
        if text == "null" {
            return Some(Origin::Exact(text.to_owned()));
        }
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = lower.split_once("://")?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_');
        let (below, host) = rest.strip_prefix('*').map_or((false, rest), |suffix| (true, suffix));
        let good = !scheme.is_empty()
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && host.bytes().all(fits)
            && if below { host.starts_with('.') && host.len() > 1 } else { !host.is_empty() };
        let make = || {
            if below {
                Origin::Below(format!("{scheme}://"), host.to_owned())
            } else {
                Origin::Exact(lower.clone())
            }
        };
        good.then(make)
    }

    fn matches(&self, origin: &[u8]) -> bool {
        match self {
            Origin::Exact(text) => origin == text.as_bytes(),
            Origin::Below(scheme, suffix) => origin
                .strip_prefix(scheme.as_bytes())
                .and_then(|rest| rest.strip_suffix(suffix.as_bytes()))
                .is_some_and(|label| {
                    !label.is_empty()
                        && label.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
                }),
        }
    }
}

impl Cors {
    fn allows(&self, origin: &[u8]) -> bool {
        self.any || self.origins.iter().any(|o| o.matches(origin))
    }

    /// The value of `access-control-allow-origin` for an allowed origin.
    fn shown<'o>(&self, origin: &'o [u8]) -> &'o [u8] {
        if self.any {
            b"*"
        } else {
            origin
        }
    }

    fn preflight(&self, origin: &[u8]) -> Answer {
        let mut answer = Answer { status: 204, ..Answer::default() };
        let fields = &mut answer.fields;
        fields.append(b"vary", b"origin, access-control-request-method, access-control-request-headers");
        if !self.allows(origin) {
            return answer;
        }
        fields.append(b"access-control-allow-origin", self.shown(origin));
        fields.append(b"access-control-allow-methods", self.methods.as_bytes());
        if !self.headers.is_empty() {
            fields.append(b"access-control-allow-headers", self.headers.as_bytes());
        }
        if self.credentials {
            fields.append(b"access-control-allow-credentials", b"true");
        }
        fields.append(b"access-control-max-age", self.max_age.as_bytes());
        answer
    }
}

impl Policy for Cors {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        let origin = cx.head.fields.get_known(Known::Origin);
        if let Some(origin) = origin {
            let asks = cx.head.fields.get(b"access-control-request-method").is_some();
            if cx.head.method == Method::Options && asks {
                return Flow::Answer(Box::new(self.preflight(origin)));
            }
        }
        cx.notes.origin = origin.map(Into::into);
        Flow::Next
    }

    fn on_response(&self, cx: &mut ResponseCx<'_>, _: &mut u64) {
        let fields = &mut cx.head.fields;
        fields.retain(|_, name, _| !name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX)));
        if !self.any {
            fields.append_known(Known::Vary, b"vary", b"origin");
        }
        let Some(origin) = cx.notes.origin.as_deref().filter(|origin| self.allows(origin)) else {
            return;
        };
        fields.append(b"access-control-allow-origin", self.shown(origin));
        if self.credentials {
            fields.append(b"access-control-allow-credentials", b"true");
        }
        if !self.expose.is_empty() {
            fields.append(b"access-control-expose-headers", self.expose.as_bytes());
        }
    }

    fn describe(&self) -> String {
        let origins = if self.any { "any origin".to_owned() } else { format!("{} origin(s)", self.origins.len()) };
        let credentials = if self.credentials { ", with credentials" } else { "" };
        format!("cors: {origins} may use {}{credentials}", self.methods)
    }
}

#[cfg(test)]
mod tests {
    use crate::message::ResponseHead;
    use crate::policy::stage::{answered, compile, problem_paths, Stage};
    use crate::policy::{Flow, Policy};
    use serde_json::json;
    use std::sync::Arc;

    fn text(value: Option<&[u8]>) -> Option<&str> {
        value.map(|v| std::str::from_utf8(v).unwrap())
    }

    fn preflight(policy: &Arc<dyn Policy>, origin: &str) -> crate::policy::Answer {
        let stage = Stage::new("a", "/x").method("OPTIONS").field("Origin", origin);
        answered(stage.field("Access-Control-Request-Method", "PUT").request(policy))
    }

    #[test]
    fn preflights_are_answered_here() {
        let policy = compile(json!({"cors": {
            "origins": ["https://App.example.com", "https://*.example.org"], "methods": ["PUT"],
            "headers": ["x-key"], "credentials": true, "max_age": "1m",
        }}))
        .unwrap();
        for (origin, allowed) in [
            ("https://app.example.com", true),
            ("https://a.b.example.org", true),
            ("https://example.org", false),
            ("https://evil.com/.example.org", false),
            ("https://evil.com:1.example.org", false),
            ("http://app.example.com", false),
            ("https://app.example.com.evil.com", false),
            ("null", false),
        ] {
            let answer = preflight(&policy, origin);
            let shown = text(answer.fields.get(b"access-control-allow-origin"));
            assert_eq!(shown, allowed.then_some(origin), "{origin}");
            assert_eq!(answer.status, 204);
            assert!(text(answer.fields.get(b"vary")).unwrap().starts_with("origin"));
            assert_eq!(answer.fields.get(b"access-control-allow-credentials").is_some(), allowed);
        }
        let answer = preflight(&policy, "https://app.example.com");
        assert_eq!(text(answer.fields.get(b"access-control-allow-methods")), Some("PUT"));
        assert_eq!(text(answer.fields.get(b"access-control-allow-headers")), Some("x-key"));
        assert_eq!(text(answer.fields.get(b"access-control-max-age")), Some("60"));
    }

    #[test]
    fn answers_carry_the_gateways_fields_only() {
        let policy = compile(json!({"cors": {"origins": ["https://a.x"], "expose": ["x-total"]}})).unwrap();
        for (origin, expected) in
            [(Some("https://a.x"), Some("https://a.x")), (Some("https://b.x"), None), (None, None)]
        {
            let mut stage = Stage::new("a", "/");
            if let Some(origin) = origin {
                stage = stage.field("origin", origin);
            }
            assert!(matches!(stage.request(&policy), Flow::Next));
            let mut head = ResponseHead::default();
            head.fields.append(b"Access-Control-Allow-Origin", b"*");
            head.fields.append(b"vary", b"accept");
            stage.response(&policy, &mut head);
            assert_eq!(text(head.fields.get(b"access-control-allow-origin")), expected);
            assert_eq!(head.fields.get(b"access-control-expose-headers").is_some(), expected.is_some());
            assert_eq!(head.fields.all(b"vary").collect::<Vec<_>>(), [&b"accept"[..], b"origin"]);
        }
    }

    #[test]
    fn any_origin_is_answered_with_a_star() {
        let policy = compile(json!({"cors": {"origins": ["*"]}})).unwrap();
        let answer = preflight(&policy, "https://whoever.x");
        assert_eq!(text(answer.fields.get(b"access-control-allow-origin")), Some("*"));
        let plain = Stage::new("a", "/").method("OPTIONS").field("origin", "https://a.x").request(&policy);
        assert!(matches!(plain, Flow::Next), "OPTIONS without the request method is no preflight");
    }

    #[test]
    fn mistakes_name_their_key() {
        for (config, key) in [
            (json!({}), "origins"),
            (json!({"origins": ["*"], "credentials": true}), "credentials"),
            (json!({"origins": ["null"], "credentials": true}), "credentials"),
            (json!({"origins": ["app.example.com"]}), "origins[0]"),
            (json!({"origins": ["https://a.x/"]}), "origins[0]"),
            (json!({"origins": ["https://*x.y"]}), "origins[0]"),
            (json!({"origins": ["https://a.x"], "methods": ["*"]}), "methods[0]"),
            (json!({"origins": ["https://a.x"], "expose": ["a b"]}), "expose[0]"),
        ] {
            assert_eq!(problem_paths(json!({"cors": config})), [format!("policies.p.cors.{key}")], "{config}");
        }
    }
}
