//! `api_key`: admit holders of a key.
//!
//! Rules:
//! 1. Keys are kept as SHA-256 only. That is enough for keys made by a machine (`pygate hash key` makes
//!    one); words that people choose belong into `basic_auth`, whose hashes are slow on purpose.
//! 2. A request that carries more than one key is refused: two parties might read different ones.
//! 3. The key is taken out of the request before it goes upstream, unless `forward` says otherwise.

use super::credential::{find, parse_key, sha256};
use super::{Flow, Policy, RequestCx};
use crate::error::{Code, Problem};
use crate::message::fields::is_field_name;
use crate::message::{form_decoded, Fields, Known};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest key looked at.
const MAX_KEY: usize = 1024;

/// Admit requests that carry a known API key; others get 401.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the holder → `sha256:` and the key's hash in hex, `env:NAME` or `file:PATH` (the key itself).
    pub keys: BTreeMap<String, String>,
    /// Field that carries the key; empty: none.
    pub header: String,
    /// Accept `authorization: Bearer KEY`, too.
    pub bearer: bool,
    /// Query parameter that carries the key; empty: none. Queries end up in logs of other parties.
    pub query: String,
    /// Send the key on to the upstream.
    pub forward: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            keys: BTreeMap::new(),
            header: "x-api-key".into(),
            bearer: false,
            query: String::new(),
            forward: false,
        }
    }
}

struct ApiKey {
    /// What `Notes::identity` says and the key's hash.
    keys: Vec<(Box<str>, [u8; 32])>,
    unresolved: usize,
    header: String,
    bearer: bool,
    query: String,
    forward: bool,
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let at = |key: &str| format!("policies.{name}.api_key.{key}");
        let (mut problems, mut keys, mut unresolved) = (Vec::new(), Vec::new(), 0);
        if self.keys.is_empty() {
            let problem = Problem::new(at("keys"), "there is no key: nobody could come in");
            problems.push(problem.expected("a table of names and hashes"));
        }
        for (holder, text) in &self.keys {
            match parse_key(text) {
                Ok(Some(hash)) => keys.push((format!("key:{holder}").into(), hash)),
                Ok(None) => unresolved += 1,
                Err(problem) => problems.push(Problem { path: at(&format!("keys.{holder}")), ..problem }),
            }
        }
        if !self.header.is_empty() && !is_field_name(self.header.as_bytes()) {
            let problem = Problem::new(at("header"), format!("{:?} is not a field name", self.header));
            problems.push(problem.expected("letters, digits and -"));
        }
        if self.header.is_empty() && !self.bearer && self.query.is_empty() {
            let problem = Problem::new(at("header"), "a key could not be sent anywhere");
            problems.push(problem.expected("`header`, `bearer = true` or `query`"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let (header, query) = (self.header.clone(), self.query.clone());
        Ok(Arc::new(ApiKey { keys, unresolved, header, bearer: self.bearer, query, forward: self.forward }))
    }
}

impl ApiKey {
    /// The hash of the one key the request carries; `None` when there is none, or more than one.
    fn presented(&self, cx: &RequestCx<'_>) -> Option<[u8; 32]> {
        let fields: &Fields = &cx.head.fields;
        let mut count = 0;
        let mut digest = None;
        let mut take = |key: &[u8]| {
            count += 1;
            digest = (!key.is_empty() && key.len() <= MAX_KEY).then(|| sha256(&[key]));
        };
        if !self.header.is_empty() {
            fields.all(self.header.as_bytes()).for_each(&mut take);
        }
        if self.bearer {
            fields.all(b"authorization").filter_map(bearer).for_each(&mut take);
        }
        if !self.query.is_empty() {
            for raw in cx.head.target.parameters(self.query.as_bytes()) {
                take(&form_decoded(raw).take(MAX_KEY + 1).collect::<Vec<u8>>());
            }
        }
        digest.filter(|_| count == 1)
    }

    fn strip(&self, cx: &mut RequestCx<'_>) {
        if !self.header.is_empty() {
            cx.head.fields.remove(self.header.as_bytes());
        }
        if self.bearer {
            cx.head.fields.retain(|known, _, value| known != Known::Authorization || bearer(value).is_none());
        }
        if !self.query.is_empty() {
            cx.head.target.remove_parameter(self.query.as_bytes());
        }
    }
}

/// The token of `Bearer TOKEN` (RFC 6750 §2.1); the scheme's case does not matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

impl Policy for ApiKey {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        let found = self.presented(cx).and_then(|digest| find(&digest, self.keys.iter().map(|(_, hash)| *hash)));
        let Some(at) = found else {
            let challenge: &[u8] = if self.bearer { b"Bearer" } else { b"ApiKey" };
            cx.notes.response_fields.append(b"www-authenticate", challenge);
            return Flow::Refuse(Code::Unauthenticated, None);
        };
        cx.notes.identity = Some(self.keys[at].0.clone());
        if !self.forward {
            self.strip(cx);
        }
        Flow::Next
    }

    fn describe(&self) -> String {
        let header = (!self.header.is_empty()).then(|| self.header.clone());
        let bearer = self.bearer.then(|| "bearer token".to_owned());
        let query = (!self.query.is_empty()).then(|| format!("query {}", self.query));
        let places: Vec<String> = [header, bearer, query].into_iter().flatten().collect();
        let count = self.keys.len() + self.unresolved;
        format!(
            "api_key: {count} key(s), in {}{}",
            places.join(" or "),
            if self.forward { "" } else { ", not sent upstream" }
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Code;
    use crate::policy::stage::{compile, problem_paths, refused, Stage};
    use crate::policy::Flow;
    use serde_json::{json, Value};

    fn config(extra: Value) -> Value {
        let hash = |key: &str| format!("sha256:{}", hex::encode(super::sha256(&[key.as_bytes()])));
        let keys = json!({"app": hash("k1"), "cron": hash("k 2"), "later": "env:KEY"});
        let mut config = json!({"keys": keys});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"api_key": config})
    }

    #[test]
    fn keys_are_found_wherever_they_may_be_and_taken_out() {
        let all = config(json!({"bearer": true, "query": "api_key"}));
        for (field, target, identity, left) in [
            (("X-API-Key", "k1"), "/", "key:app", "/"),
            (("authorization", "BEARER k1"), "/a", "key:app", "/a"),
            (("accept", "*/*"), "/?x=1&api_key=k+2", "key:cron", "/?x=1"),
        ] {
            let policy = compile(all.clone()).unwrap();
            let mut stage = Stage::new("a", target).field(field.0, field.1);
            assert!(matches!(stage.request(&policy), Flow::Next), "{field:?}");
            assert_eq!(stage.notes.identity.as_deref(), Some(identity));
            assert_eq!(stage.target(), left);
            assert!(stage.head.fields.get(b"x-api-key").or(stage.head.fields.get(b"authorization")).is_none());
        }
        let policy = compile(config(json!({"forward": true}))).unwrap();
        let mut stage = Stage::new("a", "/").field("x-api-key", "k1");
        assert!(matches!(stage.request(&policy), Flow::Next));
        assert!(stage.head.fields.get(b"x-api-key").is_some());
    }

    #[test]
    fn everything_else_is_refused() {
        let policy = compile(config(json!({"bearer": true, "query": "k"}))).unwrap();
        let long = "k".repeat(5000);
        for (fields, target) in [
            (&[][..], "/"),
            (&[("x-api-key", "")], "/"),
            (&[("x-api-key", "k3")], "/"),
            (&[("x-api-key", "env:KEY")], "/"),
            (&[("x-api-key", long.as_str())], "/"),
            (&[("x-api-key", "k1"), ("x-api-key", "k1")], "/"),
            (&[("x-api-key", "k1"), ("authorization", "Bearer k1")], "/"),
            (&[("x-api-key", "k1")], "/?k=k1"),
            (&[("authorization", "Basic k1")], "/"),
            (&[("authorization", "Bearer")], "/?kk=k1"),
        ] {
            let mut stage = Stage::new("a", target);
            for (name, value) in fields {
                stage = stage.field(name, value);
            }
            assert_eq!(refused(stage.request(&policy)), Code::Unauthenticated, "{fields:?}");
            assert_eq!(stage.notes.response_fields.get(b"www-authenticate"), Some(&b"Bearer"[..]));
            assert_eq!(stage.notes.identity, None);
        }
    }

    #[test]
    fn mistakes_name_their_key_and_show_no_secret() {
        assert_eq!(problem_paths(json!({"api_key": {}})), ["policies.p.api_key.keys"]);
        let literal = json!({"api_key": {"keys": {"a": "hunter2", "b": "sha256:00"}, "header": "a b"}});
        assert_eq!(
            problem_paths(literal.clone()),
            ["keys.a", "keys.b", "header"].map(|k| format!("policies.p.api_key.{k}"))
        );
        let problems = compile(literal).err().unwrap();
        assert!(!format!("{problems:?}").contains("hunter2"));
        assert_eq!(problem_paths(config(json!({"header": ""}))), ["policies.p.api_key.header"]);
    }
}
