//! `replace_path`: another path, fixed or made from the old one.

use super::rewrite::{self, Replacement};
use super::{Flow, Policy, RequestCx};
use crate::error::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Replace the path that is sent upstream; the query stays.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The new path. With `regex`: what replaces the matched part; `$1` and `${name}` stand for its groups.
    pub path: String,
    /// Regular expression searched in the path; paths in which it is not found stay as they are.
    #[serde(default)]
    pub regex: Option<String>,
}

struct ReplacePath(Replacement);

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        match Replacement::parse(&self.path, self.regex.as_deref()) {
            Ok(replacement) => Ok(Arc::new(ReplacePath(replacement))),
            Err((key, p)) => Err(vec![Problem { path: format!("policies.{name}.replace_path.{key}"), ..p }]),
        }
    }
}

impl Policy for ReplacePath {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        let path = cx.head.target.path();
        match self.0.apply(path) {
            Some(replaced) if path != b"*" => rewrite::set(cx, &replaced),
            _ => Flow::Next,
        }
    }

    fn describe(&self) -> String {
        format!("replace_path: {}", self.0.describe())
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Code;
    use crate::policy::stage::{compile, problem_paths, refused, Stage};
    use crate::policy::Flow;
    use serde_json::json;

    #[test]
    fn paths_are_replaced() {
        for (config, target, expected) in [
            (json!({"path": "/new"}), "/old?q=1", "/new?q=1"),
            (json!({"path": "/new"}), "*", "*"),
            (json!({"path": "/v2/$1", "regex": "^/v1/(.*)$"}), "/v1/a/b?q", "/v2/a/b?q"),
            (json!({"path": "/v2/$1", "regex": "^/v1/(.*)$"}), "/v3/a", "/v3/a"),
            (json!({"path": "/${name}s", "regex": "/(?P<name>[a-z]+)/[0-9]+"}), "/x/user/7/y", "/x/users/y"),
            (json!({"path": "/a b/$$", "regex": "^/x$"}), "/x", "/a%20b/$"),
        ] {
            let policy = compile(json!({"replace_path": config})).unwrap();
            let mut stage = Stage::new("a", target);
            assert!(matches!(stage.request(&policy), Flow::Next), "{target}");
            assert_eq!(stage.target(), expected);
        }
    }

    #[test]
    fn a_result_that_leaves_the_root_or_begins_with_no_slash_is_refused() {
        for (path, regex) in [("$1", "^/(.*)$"), ("/../$1", "^/(.*)$"), ("%2f$1", "^/x/(.*)$")] {
            let policy = compile(json!({"replace_path": {"path": path, "regex": regex}})).unwrap();
            let mut stage = Stage::new("a", "/x/y");
            assert_eq!(refused(stage.request(&policy)), Code::BadRequest, "{path}");
            assert_eq!(stage.target(), "/x/y", "a refused rewrite changes nothing");
        }
        // A question mark made by a rewrite stays part of the path.
        let policy = compile(json!({"replace_path": {"path": "/y?z", "regex": "^/x$"}})).unwrap();
        let mut stage = Stage::new("a", "/x");
        assert!(matches!(stage.request(&policy), Flow::Next));
        assert_eq!(stage.target(), "/y%3Fz");
    }

    #[test]
    fn mistakes_name_their_key() {
        for (config, key) in [
            (json!({"path": "new"}), "path"),
            (json!({"path": "*"}), "path"),
            (json!({"path": "/a", "regex": "("}), "regex"),
            (json!({"path": "/$2", "regex": "(x)"}), "path"),
            (json!({"path": "/$1a", "regex": "(x)"}), "path"),
            (json!({"path": "/${nme}", "regex": "(?<name>x)"}), "path"),
        ] {
            assert_eq!(problem_paths(json!({"replace_path": config})), [format!("policies.p.replace_path.{key}")]);
        }
    }
}
