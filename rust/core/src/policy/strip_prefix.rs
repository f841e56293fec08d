//! `strip_prefix`: take something from the front of the path.

use super::{rewrite, Flow, Policy, RequestCx};
use crate::config::OneOrMany;
use crate::error::Problem;
use crate::route::PathPattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Take a prefix from the path that is sent upstream, by whole segments. Other paths stay as they are.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `/api`, or `/tenants/{id}` to strip any one segment; of several the first that matches is stripped.
    pub prefix: OneOrMany,
}

struct StripPrefix {
    prefixes: Vec<PathPattern>,
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let at = format!("policies.{name}.strip_prefix.prefix");
        let (mut prefixes, mut problems) = (Vec::new(), Vec::new());
        for text in self.prefix.as_slice() {
            match PathPattern::prefix(text) {
                Ok(prefix) if !prefix.segments.is_empty() => prefixes.push(prefix),
                Ok(_) => {
                    problems.push(Problem::new(&at, "`/` is no prefix to strip").expected("a path such as `/api`"))
                }
                Err(problem) => problems.push(Problem { path: at.clone(), ..problem }),
            }
        }
        if prefixes.is_empty() && problems.is_empty() {
            problems.push(Problem::new(at, "there is no prefix to strip").expected("a path such as `/api`"));
        }
        if problems.is_empty() {
            Ok(Arc::new(StripPrefix { prefixes }))
        } else {
            Err(problems)
        }
    }
}

impl Policy for StripPrefix {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        let path = cx.head.target.path();
        let Some(prefix) = self.prefixes.iter().find(|p| p.matches(path)) else {
            return Flow::Next;
        };
        // The slash behind the last stripped segment, if there is one.
        let rest = path.iter().enumerate().filter(|(_, &b)| b == b'/').nth(prefix.segments.len());
        let rest = rest.map_or(b"/".to_vec(), |(at, _)| path[at..].to_vec());
        rewrite::set(cx, &rest)
    }

    fn describe(&self) -> String {
        let list: Vec<String> =
            self.prefixes.iter().map(|p| p.to_string().trim_end_matches("/**").to_owned()).collect();
        format!("strip_prefix: {} taken from the path", list.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::stage::{compile, problem_paths, refused, Stage};
    use crate::policy::Flow;
    use serde_json::json;

    #[test]
    fn whole_segments_are_stripped() {
        for (prefix, target, expected) in [
            (json!("/api"), "/api/users?x", "/users?x"),
            (json!("/api/"), "/api", "/"),
            (json!("/api"), "/api/", "/"),
            (json!("/api"), "/apis/x", "/apis/x"),
            (json!("/api"), "*", "*"),
            (json!(["/x", "/tenants/{id}"]), "/tenants/7/users", "/users"),
            (json!("/%61pi"), "/api/x", "/x"),
            (json!("/api"), "/api/api/x", "/api/x"),
        ] {
            let policy = compile(json!({"strip_prefix": {"prefix": prefix}})).unwrap();
            let mut stage = Stage::new("a", target);
            assert!(matches!(stage.request(&policy), Flow::Next), "{target}");
            assert_eq!(stage.target(), expected);
        }
    }

    #[test]
    fn the_result_is_checked_like_a_path() {
        let policy = compile(json!({"strip_prefix": {"prefix": "/api"}})).unwrap();
        let mut stage = Stage::new("a", "/");
        let loose = crate::message::PathOptions { allow_encoded_slash: true, ..Default::default() };
        stage.head.target.parse(b"/api/a%2Fb", loose).unwrap();
        assert_eq!(refused(stage.request(&policy)), crate::error::Code::BadRequest);
        stage.path_options = loose;
        assert!(matches!(stage.request(&policy), Flow::Next));
        assert_eq!(stage.target(), "/a%2Fb");
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for prefix in [json!("/"), json!("api"), json!([]), json!("/a?b")] {
            assert_eq!(problem_paths(json!({"strip_prefix": {"prefix": prefix}})), ["policies.p.strip_prefix.prefix"]);
        }
    }
}
