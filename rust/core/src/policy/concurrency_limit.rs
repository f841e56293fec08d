//! `concurrency_limit`: so many requests in flight, over all workers (see [`crate::limit::concurrency`]).

use super::counted_by::CountedBy;
use super::{on_failure, EndCx, Flow, Policy, RequestCx};
use crate::config::Fail;
use crate::error::{Code, Problem};
use crate::limit::concurrency::{self, Hold, Refusal};
use crate::message::fields::Known;
use crate::shared::stable_hash;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Allow so many requests at the same time; refuse the others with 503.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Requests in flight.
    pub max: u32,
    /// What has a limit of its own: each `client_ip` (IPv6: each /64), each value of `header:NAME`, each
    /// authenticated `identity`, each `route`, or `global`. Requests without the value share one limit.
    #[serde(default = "global")]
    pub by: String,
    /// What happens when the shared table has no room for another key.
    #[serde(default)]
    pub fail: Fail,
}

fn global() -> String {
    "global".into()
}

struct ConcurrencyLimit {
    max: u32,
    by: CountedBy,
    fail: Fail,
    base: u64,
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let path = format!("policies.{name}.concurrency_limit");
        let by = CountedBy::parse(&self.by, &format!("{path}.by")).map_err(|problem| vec![problem])?;
        if self.max == 0 {
            return Err(vec![Problem::new(format!("{path}.max"), "must be at least 1")]);
        }
        let base = stable_hash(&[b"concurrency_limit", name.as_bytes()]);
        Ok(Arc::new(ConcurrencyLimit { max: self.max, by, fail: self.fail, base }))
    }
}

impl Policy for ConcurrencyLimit {
    fn on_request(&self, cx: &mut RequestCx<'_>, slot: &mut u64) -> Flow {
        let key = self.by.key(self.base, cx);
        match concurrency::acquire(cx.shared, cx.worker, key, self.max) {
            Ok(hold) => {
                *slot = hold.to_word();
                Flow::Next
            }
            Err(Refusal::Full) => {
                cx.notes.response_fields.set_known(Known::RetryAfter, b"1");
                Flow::Refuse(Code::ConcurrencyLimited, None)
            }
            Err(Refusal::NoRoom) => on_failure(self.fail, Code::LimiterFailed),
        }
    }

    fn on_end(&self, cx: &EndCx<'_>, slot: &mut u64) {
        if let Some(hold) = Hold::from_word(std::mem::take(slot)) {
            concurrency::release(cx.shared, cx.worker, hold);
        }
    }

    fn describe(&self) -> String {
        let open = if self.fail == Fail::Open { ", fails open" } else { "" };
        format!("concurrency_limit: {} in flight, by {}{open}", self.max, self.by)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    fn policy(toml: &str) -> Arc<dyn Policy> {
        toml::from_str::<Config>(toml).unwrap().compile("busy").unwrap()
    }

    #[test]
    fn places_are_given_back_when_exchanges_end() {
        let mut bench = Bench::new();
        // A reload in between changes nothing.
        let (limit, reloaded) = (policy("max = 2"), policy("max = 2"));
        let (_, mut first) = bench.request(&*limit);
        bench.worker = 1;
        assert!(matches!(bench.request(&*reloaded), (Flow::Next, _)));
        let (refused, mut nothing) = bench.request(&*limit);
        assert!(matches!(refused, Flow::Refuse(Code::ConcurrencyLimited, None)), "{refused:?}");
        assert_eq!(bench.fields(), "retry-after: 1");
        limit.on_end(&bench.end(), &mut nothing);
        assert!(matches!(bench.request(&*limit).0, Flow::Refuse(..)));
        bench.worker = 0;
        reloaded.on_end(&bench.end(), &mut first);
        reloaded.on_end(&bench.end(), &mut first);
        assert!(matches!(bench.request(&*limit).0, Flow::Next));
        assert!(matches!(bench.request(&*limit).0, Flow::Refuse(..)));
    }

    #[test]
    fn values_have_their_own_places() {
        let mut bench = Bench::new();
        let limit = policy("max = 1\nby = \"client_ip\"");
        for (ip, passes) in [("10.0.0.1", true), ("10.0.0.1", false), ("10.0.0.2", true)] {
            bench.peer.ip = ip.parse().unwrap();
            assert_eq!(matches!(bench.request(&*limit).0, Flow::Next), passes, "{ip}");
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        for (toml, path) in [("max = 0", "max"), ("max = 1\nby = \"x\"", "by")] {
            let problems = toml::from_str::<Config>(toml).unwrap().compile("p").err().unwrap();
            assert_eq!(problems[0].path, format!("policies.p.concurrency_limit.{path}"));
        }
    }
}
