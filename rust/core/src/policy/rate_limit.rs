//! `rate_limit`: so many requests per time, counted exactly over all workers (see [`crate::limit::gcra`]).

use super::counted_by::CountedBy;
use super::{on_failure, Flow, Notes, Policy, RequestCx};
use crate::config::{Fail, Rate};
use crate::error::{Code, Problem};
use crate::limit::gcra::{self, Decision, Quota};
use crate::message::fields::Known;
use crate::shared::stable_hash;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Allow a burst of requests, then a steady rate; refuse the others with 429.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Steady rate.
    pub rate: Rate,
    /// Requests possible at once after a pause; default: the rate's count (`"100/s"`: 100).
    #[serde(default)]
    pub burst: Option<u64>,
    /// What has a limit of its own: each `client_ip` (IPv6: each /64), each value of `header:NAME`, each
    /// authenticated `identity`, each `route`, or `global`. Requests without the value share one limit.
    #[serde(default = "client_ip")]
    pub by: String,
    /// Fields that tell clients about the limit.
    #[serde(default)]
    pub fields: RateFields,
    /// What happens when the shared table has no room for another key.
    #[serde(default)]
    pub fail: Fail,
}

/// How answers tell about a limit. `Retry-After` is sent with every 429.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RateFields {
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`; of several limits the one nearest to its end.
    #[default]
    Classic,
    /// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers), one item per limit.
    Structured,
    /// None.
    Off,
}

fn client_ip() -> String {
    "client_ip".into()
}

struct RateLimit {
    config: Config,
    quota: Quota,
    by: CountedBy,
    base: u64,
    /// `"name"` as a structured field string.
    label: String,
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let path = format!("policies.{name}.rate_limit");
        let by = CountedBy::parse(&self.by, &format!("{path}.by"));
        let quota = Quota::new(self.rate, self.burst.unwrap_or(self.rate.count)).map_err(|why| {
            Problem::new(format!("{path}.{}", if self.burst.is_some() { "burst" } else { "rate" }), why)
        });
        match (by, quota) {
            (Ok(by), Ok(quota)) => {
                let printable = name.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'));
                let label = format!("\"{}\"", printable.collect::<String>());
                let base = stable_hash(&[b"rate_limit", name.as_bytes()]);
                Ok(Arc::new(RateLimit { config: self.clone(), quota, by, base, label }))
            }
            (by, quota) => Err(by.err().into_iter().chain(quota.err()).collect()),
        }
    }
}

impl Policy for RateLimit {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        let key = self.by.key(self.base, cx);
        let Some(found) = gcra::check(cx.shared, &self.quota, key, 1, cx.now.mono) else {
            return on_failure(self.config.fail, Code::LimiterFailed);
        };
        match self.config.fields {
            RateFields::Classic => classic(cx.notes, &found),
            RateFields::Structured => self.structured(cx.notes, &found),
            RateFields::Off => {}
        }
        if found.allowed {
            return Flow::Next;
        }
        let mut digits = itoa::Buffer::new();
        let wait = digits.format(seconds(found.retry_after).max(1));
        cx.notes.response_fields.set_known(Known::RetryAfter, wait.as_bytes());
        Flow::Refuse(Code::RateLimited, None)
    }

    fn describe(&self) -> String {
        let Config { rate, burst, fail, .. } = &self.config;
        let open = if *fail == Fail::Open { ", fails open" } else { "" };
        format!("rate_limit: {rate}, burst {}, by {}{open}", burst.unwrap_or(rate.count), self.by)
    }
}

fn classic(notes: &mut Notes, found: &Decision) {
    let fields = &mut notes.response_fields;
    if let Some(other) = fields.get(b"ratelimit-remaining") {
        let other = std::str::from_utf8(other).ok().and_then(|text| text.parse::<u64>().ok());
        if found.allowed && other.is_some_and(|other| other <= found.remaining) {
            return;
        }
        for name in [&b"ratelimit-limit"[..], b"ratelimit-remaining", b"ratelimit-reset"] {
            fields.remove(name);
        }
    }
    let mut digits = itoa::Buffer::new();
    fields.append_known(Known::Other, b"ratelimit-limit", digits.format(found.limit).as_bytes());
    fields.append_known(Known::Other, b"ratelimit-remaining", digits.format(found.remaining).as_bytes());
    fields.append_known(Known::Other, b"ratelimit-reset", digits.format(seconds(found.reset)).as_bytes());
}

impl RateLimit {
    fn structured(&self, notes: &mut Notes, found: &Decision) {
        // The nearest second: the quota's window is a rounded one.
        let window = (self.quota.window() + Duration::from_millis(500)).as_secs().max(1);
        let policy = format!("{};q={};w={window}", self.label, found.limit);
        // `t`: when the quota is whole again, or, refused, when to come back.
        let time = seconds(if found.allowed { found.reset } else { found.retry_after });
        let limit = format!("{};r={};t={time}", self.label, found.remaining);
        notes.response_fields.append(b"ratelimit-policy", policy.as_bytes());
        notes.response_fields.append(b"ratelimit", limit.as_bytes());
    }
}

/// Whole seconds, rounded up: a client that waits so long is not early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    fn policy(toml: &str) -> Arc<dyn Policy> {
        toml::from_str::<Config>(toml).unwrap().compile("limit").unwrap()
    }

    fn allowed(bench: &mut Bench, policy: &dyn Policy) -> bool {
        match bench.request(policy).0 {
            Flow::Next => true,
            Flow::Refuse(Code::RateLimited, _) => false,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_burst_is_allowed_then_refused_with_fields() {
        let mut bench = Bench::new();
        let limit = policy("rate = \"2/m\"\nburst = 2");
        assert!(allowed(&mut bench, &*limit));
        assert_eq!(bench.fields(), "ratelimit-limit: 2, ratelimit-remaining: 1, ratelimit-reset: 30");
        bench.notes.clear();
        assert!(allowed(&mut bench, &*limit));
        bench.notes.clear();
        bench.advance(Duration::from_secs(5));
        assert!(!allowed(&mut bench, &*limit));
        assert_eq!(bench.fields(), "ratelimit-limit: 2, ratelimit-remaining: 0, ratelimit-reset: 55, retry-after: 25");
        bench.advance(Duration::from_secs(25));
        assert!(allowed(&mut bench, &*limit));
        assert!(!allowed(&mut bench, &*limit));
    }

    #[test]
    fn structured_fields_list_every_limit_and_classic_ones_the_nearest_to_its_end() {
        let mut bench = Bench::new();
        let wide = toml::from_str::<Config>("rate = \"100/m\"\nfields = \"structured\"").unwrap();
        let wide = wide.compile("wi\"de").unwrap();
        let narrow = policy("rate = \"1/m\"\nburst = 3\nfields = \"structured\"");
        assert!(allowed(&mut bench, &*wide) && allowed(&mut bench, &*narrow));
        assert_eq!(
            bench.fields(),
            "ratelimit-policy: \"wide\";q=100;w=60, ratelimit: \"wide\";r=99;t=1, \
             ratelimit-policy: \"limit\";q=3;w=180, ratelimit: \"limit\";r=2;t=60"
        );
        for order in [["rate = \"9/m\"", "rate = \"4/m\""], ["rate = \"4/m\"", "rate = \"9/m\""]] {
            let mut bench = Bench::new();
            for (index, toml) in order.iter().enumerate() {
                let limit = toml::from_str::<Config>(toml).unwrap().compile(&index.to_string()).unwrap();
                assert!(allowed(&mut bench, &*limit));
            }
            assert_eq!(bench.fields(), "ratelimit-limit: 4, ratelimit-remaining: 3, ratelimit-reset: 15");
        }
    }

    #[test]
    fn what_is_counted_apart() {
        let mut bench = Bench::new();
        let once = |by: &str| policy(&format!("rate = \"1/h\"\nby = {by:?}"));
        let ip = once("client_ip");
        for (address, fresh) in [
            ("10.0.0.1", true),
            ("10.0.0.1", false),
            ("10.0.0.2", true),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
            ("2001:db8:0:1::2", true),
        ] {
            bench.peer.ip = address.parse().unwrap();
            assert_eq!(allowed(&mut bench, &*ip), fresh, "{address}");
        }
        let mut bench = Bench::new();
        let header = once("header:X-Api-Key");
        for (key, fresh) in [(None, true), (None, false), (Some("a"), true), (Some("a"), false), (Some("b"), true)] {
            bench.head.fields.remove(b"x-api-key");
            if let Some(key) = key {
                bench.head.fields.append(b"x-api-KEY", key.as_bytes());
            }
            assert_eq!(allowed(&mut bench, &*header), fresh, "{key:?}");
        }
        let mut bench = Bench::new();
        let identity = once("identity");
        for (who, fresh) in [(None, true), (Some("user:ann"), true), (Some("user:ann"), false), (None, false)] {
            bench.notes.identity = who.map(Into::into);
            assert_eq!(allowed(&mut bench, &*identity), fresh, "{who:?}");
        }
        for (by, other_route) in [("route", true), ("global", false)] {
            let mut bench = Bench::new();
            let limit = once(by);
            assert!(allowed(&mut bench, &*limit) && !allowed(&mut bench, &*limit));
            bench.route = 2;
            assert_eq!(allowed(&mut bench, &*limit), other_route, "{by}");
        }
    }

    #[test]
    fn state_belongs_to_the_policy_name_not_to_the_revision() {
        let mut bench = Bench::new();
        assert!(allowed(&mut bench, &*policy("rate = \"1/h\"")));
        assert!(!allowed(&mut bench, &*policy("rate = \"1/h\"")));
        let other = toml::from_str::<Config>("rate = \"1/h\"").unwrap().compile("other").unwrap();
        assert!(allowed(&mut bench, &*other));
    }

    #[test]
    fn a_full_table_refuses_or_lets_pass_as_told() {
        for (fail, passes) in [("closed", false), ("open", true)] {
            let mut bench = Bench::new();
            // One bucket of sixteen words is all the table has.
            bench.shrink_limits(32);
            let limit = policy(&format!("rate = \"1/h\"\nby = \"header:k\"\nfail = {fail:?}"));
            for key in 0..16 {
                bench.head.fields.set(b"k", format!("{key}").as_bytes());
                assert!(allowed(&mut bench, &*limit));
            }
            bench.head.fields.set(b"k", b"one too many");
            match bench.request(&*limit).0 {
                Flow::Next => assert!(passes),
                Flow::Refuse(Code::LimiterFailed, None) => assert!(!passes),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn problems_name_key_and_what_was_meant() {
        let config = toml::from_str::<Config>("rate = \"1/s\"\nburst = 0\nby = \"clientip\"").unwrap();
        let problems = config.compile("p").err().unwrap();
        let found: Vec<_> = problems.iter().map(|p| (p.path.as_str(), p.nearest.as_deref())).collect();
        assert_eq!(found, [("policies.p.rate_limit.by", Some("client_ip")), ("policies.p.rate_limit.burst", None)]);
        let fast = toml::from_str::<Config>("rate = \"5/us\"\nby = \"header:a b\"").unwrap();
        assert_eq!(fast.compile("p").err().unwrap().len(), 2);
    }
}
