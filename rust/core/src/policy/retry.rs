//! `retry`: send a request again when the upstream failed.

use super::{Policy, Retry, RouteShape};
use crate::config::{Duration, Size};
use crate::error::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Most attempts a policy may ask for.
const MAX_ATTEMPTS: u8 = 10;

/// Send a request again, to another endpoint where there is one, when it failed before an answer came.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Attempts in all, the first one included (2 to 10).
    pub attempts: u8,
    /// Statuses of an answer that count as failures, besides connections that fail.
    pub statuses: Vec<u16>,
    /// Longest request body kept for repeating; longer requests are sent once.
    pub max_body: Size,
    /// Repeat methods that are not idempotent (POST, PATCH), too.
    pub non_idempotent: bool,
    /// Retries allowed at a time, as a percentage of the requests in flight (at least three).
    pub budget_percent: u8,
    /// Wait before the second attempt; doubled before each further one.
    pub backoff: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            attempts: 2,
            statuses: Vec::new(),
            max_body: Size(64 << 10),
            non_idempotent: false,
            budget_percent: 20,
            backoff: Duration::millis(25),
        }
    }
}

struct Again(Config);

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let at = |key: &str| format!("policies.{name}.retry.{key}");
        let mut problems = Vec::new();
        if !(2..=MAX_ATTEMPTS).contains(&self.attempts) {
            let problem = Problem::new(at("attempts"), format!("{} attempts", self.attempts));
            problems.push(problem.expected(format!("2 to {MAX_ATTEMPTS}, the first one included")));
        }
        for (i, status) in self.statuses.iter().enumerate() {
            if !matches!(status, 408 | 425 | 429 | 500..=599) {
                let problem =
                    Problem::new(at(&format!("statuses[{i}]")), format!("{status} is no failure of an upstream"));
                problems.push(problem.expected("408, 425, 429 or 500 to 599"));
            }
        }
        if self.budget_percent > 100 {
            problems.push(Problem::new(at("budget_percent"), "more than all requests").expected("0 to 100"));
        }
        if problems.is_empty() {
            Ok(Arc::new(Again(self.clone())))
        } else {
            Err(problems)
        }
    }
}

impl Policy for Again {
    fn shape(&self, route: &mut RouteShape) {
        route.retry = Some(Retry {
            attempts: self.0.attempts,
            statuses: self.0.statuses.clone(),
            max_body: self.0.max_body,
            non_idempotent: self.0.non_idempotent,
            budget_percent: self.0.budget_percent,
            backoff: self.0.backoff.0,
        });
    }

    fn describe(&self) -> String {
        let c = &self.0;
        let statuses: Vec<String> = c.statuses.iter().map(u16::to_string).collect();
        let on = if statuses.is_empty() { String::new() } else { format!(" and on {}", statuses.join(", ")) };
        let methods = if c.non_idempotent { "any method" } else { "idempotent methods" };
        format!("retry: up to {} attempts for {methods}, when no answer came{on}", c.attempts)
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::stage::{compile, problem_paths};
    use crate::policy::RouteShape;
    use serde_json::json;

    #[test]
    fn the_route_takes_the_numbers() {
        let mut shape = RouteShape::default();
        compile(json!({"retry": {"attempts": 3, "statuses": [503]}})).unwrap().shape(&mut shape);
        let retry = shape.retry.unwrap();
        assert_eq!((retry.attempts, retry.statuses, retry.budget_percent), (3, vec![503], 20));
        assert_eq!(
            problem_paths(json!({"retry": {"attempts": 1, "statuses": [503, 404], "budget_percent": 101}})),
            ["policies.p.retry.attempts", "policies.p.retry.statuses[1]", "policies.p.retry.budget_percent"]
        );
    }
}
