//! `timeouts`: a route's own deadlines.

use super::{Policy, RouteShape};
use crate::config::Duration;
use crate::error::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Deadlines of a route in place of its service's. Listed later wins.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Time to establish a connection upstream.
    pub connect: Option<Duration>,
    /// Time from the request's end to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// Longest gap between two pieces of an answer.
    pub body: Option<Duration>,
    /// Time for the whole exchange, retries included.
    pub total: Option<Duration>,
}

struct Timeouts(Config);

impl Config {
    fn each(&self) -> [(&'static str, Option<Duration>); 4] {
        [("connect", self.connect), ("first_byte", self.first_byte), ("body", self.body), ("total", self.total)]
    }

    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.each().iter().all(|(_, value)| value.is_none()) {
            let problem = Problem::new(format!("policies.{name}.timeouts"), "no timeout is given");
            problems.push(problem.expected("`connect`, `first_byte`, `body` or `total`"));
        }
        for (key, value) in self.each() {
            if value.is_some_and(|v| v.0.is_zero()) {
                let problem =
                    Problem::new(format!("policies.{name}.timeouts.{key}"), "a timeout of zero always expires");
                problems.push(problem.expected("a duration such as `30s`"));
            }
        }
        if problems.is_empty() {
            Ok(Arc::new(Timeouts(self.clone())))
        } else {
            Err(problems)
        }
    }
}

impl Policy for Timeouts {
    fn shape(&self, route: &mut RouteShape) {
        let set =
            |slot: &mut Option<std::time::Duration>, value: Option<Duration>| *slot = value.map(|v| v.0).or(*slot);
        set(&mut route.connect_timeout, self.0.connect);
        set(&mut route.first_byte_timeout, self.0.first_byte);
        set(&mut route.body_timeout, self.0.body);
        set(&mut route.total_timeout, self.0.total);
    }

    fn describe(&self) -> String {
        let each: Vec<String> = self.0.each().iter().filter_map(|(key, v)| Some(format!("{key} {}", (*v)?))).collect();
        format!("timeouts: {}", each.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::stage::{compile, problem_paths};
    use crate::policy::RouteShape;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn later_ones_win_key_by_key() {
        let mut shape = RouteShape::default();
        for config in [json!({"connect": "1s", "total": "9s"}), json!({"total": "5s", "first_byte": "2s"})] {
            compile(json!({"timeouts": config})).unwrap().shape(&mut shape);
        }
        assert_eq!(shape.connect_timeout, Some(Duration::from_secs(1)));
        assert_eq!(shape.first_byte_timeout, Some(Duration::from_secs(2)));
        assert_eq!(shape.total_timeout, Some(Duration::from_secs(5)));
        assert_eq!(shape.body_timeout, None);
        assert_eq!(problem_paths(json!({"timeouts": {}})), ["policies.p.timeouts"]);
        assert_eq!(problem_paths(json!({"timeouts": {"body": "0s"}})), ["policies.p.timeouts.body"]);
    }
}
