//! `ip_allow`: who may come in, by client address.

use super::{Flow, Policy, RequestCx};
use crate::config::ipnet_text::{canonical, Net};
use crate::error::{Code, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Admit or refuse clients by address (after PROXY protocol and trusted forwarding fields). `deny` wins.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// CIDR blocks that may come in; empty: all that are not denied.
    pub allow: Vec<Net>,
    /// CIDR blocks that may not.
    pub deny: Vec<Net>,
}

struct IpAllow(Config);

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        if self.allow.is_empty() && self.deny.is_empty() {
            let problem =
                Problem::new(format!("policies.{name}.ip_allow.allow"), "neither `allow` nor `deny` is given");
            return Err(vec![problem.expected("CIDR blocks such as `10.0.0.0/8`")]);
        }
        Ok(Arc::new(IpAllow(self.clone())))
    }
}

impl Policy for IpAllow {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        let ip = canonical(cx.peer.ip);
        let among = |blocks: &[Net]| blocks.iter().any(|block| block.contains(ip));
        if among(&self.0.deny) || !(self.0.allow.is_empty() || among(&self.0.allow)) {
            return Flow::Refuse(Code::Forbidden, None);
        }
        Flow::Next
    }

    fn describe(&self) -> String {
        let list = |blocks: &[Net]| blocks.iter().map(|b| b.0.to_string()).collect::<Vec<_>>().join(", ");
        match (self.0.allow.is_empty(), self.0.deny.is_empty()) {
            (false, true) => format!("ip_allow: only {}", list(&self.0.allow)),
            (false, false) => format!("ip_allow: only {}, but not {}", list(&self.0.allow), list(&self.0.deny)),
            _ => format!("ip_allow: all but {}", list(&self.0.deny)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::stage::{compile, problem_paths, Stage};
    use crate::policy::Flow;
    use serde_json::json;

    #[test]
    fn deny_wins_over_allow_and_mapped_addresses_are_unwrapped() {
        let both = json!({"allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.9.0.0/16"]});
        for (config, ip, passes) in [
            (&both, "10.1.2.3", true),
            (&both, "::ffff:10.1.2.3", true),
            (&both, "10.9.1.1", false),
            (&both, "::ffff:10.9.1.1", false),
            (&both, "192.0.2.1", false),
            (&both, "2001:db8::1", true),
            (&json!({"deny": ["::/0"]}), "10.1.2.3", true),
            (&json!({"deny": ["::/0"]}), "::1", false),
        ] {
            let policy = compile(json!({"ip_allow": config})).unwrap();
            let mut stage = Stage::new("a", "/");
            stage.peer.ip = ip.parse().unwrap();
            assert_eq!(matches!(stage.request(&policy), Flow::Next), passes, "{ip}");
        }
        assert_eq!(problem_paths(json!({"ip_allow": {}})), ["policies.p.ip_allow.allow"]);
    }
}
