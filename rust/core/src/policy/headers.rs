//! `headers`: set, add and remove fields of requests and responses.

use super::{Flow, Policy, RequestCx, ResponseCx};
use crate::error::Problem;
use crate::message::fields::{is_field_name, is_field_value, Fields, Known};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Set, add and remove fields. Framing and connection fields (`host` aside) cannot be touched.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Changes to the request sent upstream.
    pub request: Changes,
    /// Changes to the answer sent to the client.
    pub response: Changes,
}

/// Removals first, then `set`, then `add`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// Fields to remove.
    pub remove: Vec<String>,
    /// Fields to replace.
    pub set: BTreeMap<String, String>,
    /// Fields to append to those already there.
    pub add: BTreeMap<String, String>,
}

struct Headers {
    request: Changes,
    response: Changes,
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let mut problems = Vec::new();
        for (side, changes) in [("request", &self.request), ("response", &self.response)] {
            let lines = changes.set.iter().chain(&changes.add).map(|(n, v)| (n, v.as_str()));
            for (field, value) in lines.chain(changes.remove.iter().map(|n| (n, ""))) {
                problems.extend(
                    problem_with(field, value)
                        .map(|problem| Problem { path: format!("policies.{name}.headers.{side}"), ..problem }),
                );
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Arc::new(Headers { request: self.request.clone(), response: self.response.clone() }))
    }
}

/// Why a configuration may not set this field to this value; the problem's path is empty.
pub(super) fn problem_with(field: &str, value: &str) -> Option<Problem> {
    if !is_field_name(field.as_bytes()) {
        Some(Problem::new("", format!("{field:?} is not a field name")).expected("letters, digits and -"))
    } else if is_protected(field.as_bytes()) {
        Some(Problem::new("", format!("{field:?} belongs to the protocol and cannot be changed")))
    } else if !is_field_value(value.as_bytes()) {
        Some(Problem::new("", format!("the value of {field:?} has control characters")))
    } else {
        None
    }
}

/// Fields that belong to the protocol or to the gateway, whoever would like to change them.
pub(crate) fn is_protected(field: &[u8]) -> bool {
    matches!(
        Known::of(field),
        Known::Connection
            | Known::ContentLength
            | Known::TransferEncoding
            | Known::Te
            | Known::Trailer
            | Known::Upgrade
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Expect
            | Known::XRequestId
            | Known::Traceparent
            | Known::XPygateError
    )
}

impl Policy for Headers {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        self.request.apply(&mut cx.head.fields);
        Flow::Next
    }

    fn on_response(&self, cx: &mut ResponseCx<'_>, _: &mut u64) {
        self.response.apply(&mut cx.head.fields);
    }

    fn describe(&self) -> String {
        let count = |c: &Changes| c.remove.len() + c.set.len() + c.add.len();
        format!("headers: {} request change(s), {} response change(s)", count(&self.request), count(&self.response))
    }
}

impl Changes {
    fn apply(&self, fields: &mut Fields) {
        for name in &self.remove {
            remove_spellings(fields, name.as_bytes());
        }
        for (name, value) in &self.set {
            remove_spellings(fields, name.as_bytes());
            fields.append(name.as_bytes(), value.as_bytes());
        }
        for (name, value) in &self.add {
            fields.append(name.as_bytes(), value.as_bytes());
        }
    }
}

/// Takes out `name` in every spelling that an application may read as it: any case, `_` for `-` (CVE-2026-39858).
fn remove_spellings(fields: &mut Fields, name: &[u8]) {
    fields.remove(name);
    let plain = |b: &u8| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    let is_it = |found: &[u8]| found.len() == name.len() && found.iter().map(plain).eq(name.iter().map(plain));
    fields.retain(|known, found, _| known != Known::Other || !is_it(found));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_or_removed_does_not_survive_in_another_spelling() {
        let mut fields = Fields::default();
        for name in ["X-User", "X_User", "x_USER", "X-Internal", "X_Internal", "X-Userx", "Accept"] {
            fields.append(name.as_bytes(), b"client");
        }
        let changes = Changes {
            remove: vec!["x-internal".into(), "accept".into()],
            set: BTreeMap::from([("x-user".into(), "gateway".into())]),
            add: BTreeMap::new(),
        };
        changes.apply(&mut fields);
        let left: Vec<_> = fields.iter().map(|(_, name, value)| (name, value)).collect();
        assert_eq!(left, [(&b"X-Userx"[..], &b"client"[..]), (b"x-user", b"gateway")]);
        assert!(!fields.has(Known::Accept));
    }
}
