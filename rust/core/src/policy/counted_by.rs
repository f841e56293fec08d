//! What a limit counts by: shared by `rate_limit` and `concurrency_limit`.

use super::RequestCx;
use crate::error::{nearest, Problem};
use crate::limit::KeyHash;
use crate::message::fields::is_field_name;
use std::fmt;
use std::net::IpAddr;

/// Every distinct value has a limit of its own. Requests without the value (no such field, nobody
/// authenticated) share one: leaving a field out is no way around a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountedBy {
    /// The client's address; of IPv6 the first 64 bits, since one client owns all the others.
    ClientIp,
    /// The values of a request field.
    Header(String),
    /// Who authenticated.
    Identity,
    /// The route.
    Route,
    /// Nothing: all requests together.
    Global,
}

pub const EXPECTED: &str = "\"client_ip\", \"header:NAME\", \"identity\", \"route\" or \"global\"";

impl CountedBy {
    pub fn parse(text: &str, path: &str) -> Result<CountedBy, Problem> {
        match text {
            "client_ip" => Ok(CountedBy::ClientIp),
            "identity" => Ok(CountedBy::Identity),
            "route" => Ok(CountedBy::Route),
            "global" => Ok(CountedBy::Global),
            _ => match text.strip_prefix("header:").map(str::trim) {
                Some(name) if is_field_name(name.as_bytes()) => Ok(CountedBy::Header(name.to_ascii_lowercase())),
                Some(name) => Err(Problem::new(path, format!("{name:?} is not a field name")).expected(EXPECTED)),
                None => {
                    let problem = Problem::new(path, format!("cannot count by {text:?}")).expected(EXPECTED);
                    Err(match nearest(text, ["client_ip", "identity", "route", "global"]) {
                        Some(near) => problem.nearest(near),
                        None => problem,
                    })
                }
            },
        }
    }

    /// The key under which a request is counted. `base` names the policy.
    pub fn key(&self, base: u64, cx: &RequestCx<'_>) -> u64 {
        let hash = KeyHash::new(cx.shared, base);
        match self {
            CountedBy::ClientIp => match cx.peer.ip {
                IpAddr::V4(ip) => hash.part(&ip.octets()),
                IpAddr::V6(ip) => hash.part(&ip.octets()[..8]),
            },
            CountedBy::Header(name) => cx.head.fields.all(name.as_bytes()).fold(hash, |hash, value| hash.part(value)),
            CountedBy::Identity => match &cx.notes.identity {
                Some(identity) => hash.part(identity.as_bytes()),
                None => hash,
            },
            CountedBy::Route => hash.part(&cx.route.to_le_bytes()),
            CountedBy::Global => hash,
        }
        .finish()
    }
}

impl fmt::Display for CountedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CountedBy::ClientIp => f.write_str("client_ip"),
            CountedBy::Header(name) => write!(f, "header:{name}"),
            CountedBy::Identity => f.write_str("identity"),
            CountedBy::Route => f.write_str("route"),
            CountedBy::Global => f.write_str("global"),
        }
    }
}
