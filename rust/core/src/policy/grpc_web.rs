//! `grpc_web`: calls of browsers become plain gRPC.
//!
//! Rules:
//! 1. This policy changes the request's head and says so ([`Notes::web`](super::Notes)); the exchange carries the
//!    translation of both bodies and of the answer's head out.
//! 2. Requests of any other type pass untouched: one route may serve both kinds of client.

use super::{Flow, Policy, RequestCx};
use crate::error::Problem;
use crate::grpc::web::Web;
use crate::message::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Translate gRPC-Web (`application/grpc-web`, `application/grpc-web-text`) to gRPC for the upstream, and its answers
/// back. Pages of other origins need `cors` before it, exposing `grpc-status` and `grpc-message`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

struct GrpcWeb;

impl Config {
    pub fn compile(&self, _name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        Ok(Arc::new(GrpcWeb))
    }
}

impl Policy for GrpcWeb {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        if cx.head.method == Method::Post && cx.notes.web.is_none() {
            cx.notes.web = Web::request(cx.head);
        }
        Flow::Next
    }

    fn describe(&self) -> String {
        "grpc_web: gRPC-Web calls go upstream as gRPC".into()
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::stage::{compile, Stage};
    use serde_json::json;

    #[test]
    fn only_grpc_web_posts_are_translated() {
        let policy = compile(json!({"grpc_web": {}})).unwrap();
        for (method, from, to) in [
            ("POST", "application/grpc-web+proto", Some("application/grpc+proto")),
            ("POST", "application/grpc-web-text", Some("application/grpc")),
            ("POST", "application/grpc", None),
            ("POST", "application/json", None),
            ("GET", "application/grpc-web", None),
        ] {
            let mut stage = Stage::new("a", "/s/m").method(method).field("content-type", from);
            stage.request(&policy);
            assert_eq!(stage.notes.web.is_some(), to.is_some(), "{method} {from}");
            assert_eq!(stage.head.fields.get(b"content-type"), Some(to.unwrap_or(from).as_bytes()));
            // Listed twice, it has nothing left to do.
            let translated = stage.notes.web.clone();
            stage.request(&policy);
            assert_eq!(stage.notes.web, translated);
        }
    }
}
