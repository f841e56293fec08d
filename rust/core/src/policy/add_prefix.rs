//! `add_prefix`: put something before the path.

use super::{rewrite, Flow, Policy, RequestCx};
use crate::error::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Put a prefix before the path that is sent upstream.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The prefix: `/v1` makes `/v1/users` of `/users`.
    pub prefix: String,
}

struct AddPrefix {
    prefix: String,
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let at = format!("policies.{name}.add_prefix.prefix");
        let prefix = rewrite::literal(&self.prefix).map_err(|p| vec![Problem { path: at.clone(), ..p }])?;
        let prefix = prefix.trim_end_matches('/').to_owned();
        if prefix.is_empty() {
            return Err(vec![Problem::new(at, "the prefix is empty").expected("a path such as `/v1`")]);
        }
        Ok(Arc::new(AddPrefix { prefix }))
    }
}

impl Policy for AddPrefix {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        let path = cx.head.target.path();
        if path == b"*" {
            return Flow::Next;
        }
        let path = [self.prefix.as_bytes(), path].concat();
        rewrite::set(cx, &path)
    }

    fn describe(&self) -> String {
        format!("add_prefix: {} before the path", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::stage::{compile, problem_paths, Stage};
    use serde_json::json;

    #[test]
    fn the_prefix_stands_before_every_path() {
        for (prefix, target, expected) in [
            ("/v1", "/users?x=1", "/v1/users?x=1"),
            ("/v1/", "/users", "/v1/users"),
            ("/a/b", "/", "/a/b/"),
            ("/caf\u{e9}", "/x", "/caf%C3%A9/x"),
            ("/v1", "*", "*"),
        ] {
            let policy = compile(json!({"add_prefix": {"prefix": prefix}})).unwrap();
            let mut stage = Stage::new("a", target);
            assert!(matches!(stage.request(&policy), crate::policy::Flow::Next));
            assert_eq!(stage.target(), expected);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for prefix in ["", "/", "v1", "/a?b", "/..", "/a#"] {
            let paths = problem_paths(json!({"add_prefix": {"prefix": prefix}}));
            assert_eq!(paths, ["policies.p.add_prefix.prefix"], "{prefix}");
        }
    }
}
