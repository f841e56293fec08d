//! `answer`: a fixed answer made by the gateway.

use super::headers::problem_with;
use super::{Answer, Flow, Policy, RequestCx};
use crate::error::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Answer every request with the same status, fields and body. The upstream is not called.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Status, 200 to 599.
    pub status: u16,
    /// Fields of the answer; `content-type` is `text/plain; charset=utf-8` unless given.
    pub fields: BTreeMap<String, String>,
    /// Body of the answer.
    pub body: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { status: 200, fields: BTreeMap::new(), body: String::new() }
    }
}

struct Fixed(Answer);

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let at = |key: &str| format!("policies.{name}.answer.{key}");
        let mut problems = Vec::new();
        if !(200..=599).contains(&self.status) {
            problems
                .push(Problem::new(at("status"), format!("{} is no final status", self.status)).expected("200 to 599"));
        }
        if matches!(self.status, 204 | 205 | 304) && !self.body.is_empty() {
            problems.push(Problem::new(at("body"), format!("an answer with status {} has no body", self.status)));
        }
        let mut answer = Answer { status: self.status, body: self.body.clone().into_bytes(), ..Answer::default() };
        for (field, value) in &self.fields {
            match problem_with(field, value) {
                Some(problem) => problems.push(Problem { path: at(&format!("fields.{field}")), ..problem }),
                None => answer.fields.append(field.as_bytes(), value.as_bytes()),
            }
        }
        if answer.fields.get(b"content-type").is_none() && !self.body.is_empty() {
            answer.fields.append(b"content-type", b"text/plain; charset=utf-8");
        }
        if problems.is_empty() {
            Ok(Arc::new(Fixed(answer)))
        } else {
            Err(problems)
        }
    }
}

impl Policy for Fixed {
    fn on_request(&self, _: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        Flow::Answer(Box::new(self.0.clone()))
    }

    fn describe(&self) -> String {
        format!("answer: {} with {} byte(s), the upstream is not called", self.0.status, self.0.body.len())
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::stage::{answered, compile, problem_paths, Stage};
    use serde_json::json;

    #[test]
    fn answers() {
        let policy = compile(json!({"answer": {"status": 503, "fields": {"Retry-After": "60"}, "body": "later"}}));
        let answer = answered(Stage::new("a", "/").request(&policy.unwrap()));
        assert_eq!((answer.status, &answer.body[..]), (503, &b"later"[..]));
        assert_eq!(answer.fields.get(b"retry-after"), Some(&b"60"[..]));
        assert_eq!(answer.fields.get(b"content-type"), Some(&b"text/plain; charset=utf-8"[..]));
    }

    #[test]
    fn mistakes_name_their_key() {
        let config = json!({"status": 101, "fields": {"a b": "c", "content-length": "3", "x": "a\r\nb"}});
        assert_eq!(
            problem_paths(json!({"answer": config})),
            ["status", "fields.a b", "fields.content-length", "fields.x"].map(|k| format!("policies.p.answer.{k}"))
        );
        assert_eq!(problem_paths(json!({"answer": {"status": 204, "body": "x"}})), ["policies.p.answer.body"]);
    }
}
