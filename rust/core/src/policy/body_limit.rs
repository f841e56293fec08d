//! `body_limit`: the longest request body.

use super::{Policy, RouteShape};
use crate::config::Size;
use crate::error::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Refuse longer request bodies (413), before anything is sent upstream where their length is announced.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Longest request body; of several limits on a route the smallest counts.
    pub max: Size,
}

struct BodyLimit(Size);

impl Config {
    pub fn compile(&self, _name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        Ok(Arc::new(BodyLimit(self.max)))
    }
}

impl Policy for BodyLimit {
    fn shape(&self, route: &mut RouteShape) {
        route.max_body = Some(route.max_body.map_or(self.0 .0, |other| other.min(self.0 .0)));
    }

    fn describe(&self) -> String {
        format!("body_limit: request bodies up to {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::stage::compile;
    use crate::policy::RouteShape;
    use serde_json::json;

    #[test]
    fn the_smallest_limit_counts() {
        let mut shape = RouteShape::default();
        for max in ["2KiB", "1KiB", "3KiB"] {
            compile(json!({"body_limit": {"max": max}})).unwrap().shape(&mut shape);
        }
        assert_eq!(shape.max_body, Some(1024));
    }
}
