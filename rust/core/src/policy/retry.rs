//! `retry`: send a request again when the upstream failed.

use super::{Policy, Retry, RouteShape};
use crate::config::{Duration, Size};
use crate::error::Problem;
use crate::grpc::Status;
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
    /// gRPC statuses that count as failures, such as `unavailable`: calls are sent again when nothing but such a status
    /// came back. Calls are POST, so `non_idempotent` must be set.
    pub grpc_statuses: Vec<String>,
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
            grpc_statuses: Vec::new(),
            max_body: Size(64 << 10),
            non_idempotent: false,
            budget_percent: 20,
            backoff: Duration::millis(25),
        }
    }
}

struct Again {
    config: Config,
    grpc_statuses: Vec<Status>,
}

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
        let mut grpc_statuses = Vec::new();
        for (i, name) in self.grpc_statuses.iter().enumerate() {
            match Status::ALL.iter().find(|s| s.name().eq_ignore_ascii_case(name)) {
                Some(Status::Ok) | None => {
                    let problem = Problem::new(at(&format!("grpc_statuses[{i}]")), format!("{name:?} is no failure"));
                    let names: Vec<String> = Status::ALL[1..].iter().map(|s| s.name().to_lowercase()).collect();
                    let nearest = crate::error::nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
                    let problem = problem.expected("a gRPC status other than `ok`, such as `unavailable`");
                    problems.push(match nearest {
                        Some(nearest) => problem.nearest(nearest),
                        None => problem,
                    });
                }
                Some(status) => grpc_statuses.push(*status),
            }
        }
        if !grpc_statuses.is_empty() && !self.non_idempotent {
            let problem = Problem::new(at("non_idempotent"), "gRPC calls are POST and would never be sent again");
            problems.push(problem.expected("`true`, with `grpc_statuses`"));
        }
        if self.budget_percent > 100 {
            problems.push(Problem::new(at("budget_percent"), "more than all requests").expected("0 to 100"));
        }
        if problems.is_empty() {
            Ok(Arc::new(Again { config: self.clone(), grpc_statuses }))
        } else {
            Err(problems)
        }
    }
}

impl Policy for Again {
    fn shape(&self, route: &mut RouteShape) {
        route.retry = Some(Retry {
            attempts: self.config.attempts,
            statuses: self.config.statuses.clone(),
            grpc_statuses: self.grpc_statuses.clone(),
            max_body: self.config.max_body,
            non_idempotent: self.config.non_idempotent,
            budget_percent: self.config.budget_percent,
            backoff: self.config.backoff.0,
        });
    }

    fn describe(&self) -> String {
        let c = &self.config;
        let numbers = c.statuses.iter().map(u16::to_string);
        let statuses: Vec<String> = numbers.chain(self.grpc_statuses.iter().map(|s| s.name().into())).collect();
        let on = if statuses.is_empty() { String::new() } else { format!(" and on {}", statuses.join(", ")) };
        let methods = if c.non_idempotent { "any method" } else { "idempotent methods" };
        format!("retry: up to {} attempts for {methods}, when no answer came{on}", c.attempts)
    }
}

#[cfg(test)]
mod tests {
    use crate::grpc::Status;
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
        shape = RouteShape::default();
        let config = json!({"grpc_statuses": ["unavailable", "Resource_Exhausted"], "non_idempotent": true});
        let policy = compile(json!({"retry": config})).unwrap();
        policy.shape(&mut shape);
        assert_eq!(shape.retry.unwrap().grpc_statuses, [Status::Unavailable, Status::ResourceExhausted]);
        assert!(policy.describe().ends_with("UNAVAILABLE, RESOURCE_EXHAUSTED"), "{}", policy.describe());
        assert_eq!(
            problem_paths(json!({"retry": {"grpc_statuses": ["unavailable", "ok", "unavailible"]}})),
            [
                "policies.p.retry.grpc_statuses[1]",
                "policies.p.retry.grpc_statuses[2]",
                "policies.p.retry.non_idempotent"
            ]
        );
    }
}
