//! What policy tests stand on: a request, and the hooks called as an exchange would.

use super::{Answer, Flow, Notes, Policy, PolicySpec, RequestCx, ResponseCx};
use crate::coding::Choice;
use crate::error::{Code, Problem};
use crate::message::{Method, PathOptions, Peer, RequestHead, ResponseHead};
use crate::shared::{Layout, Shared};
use crate::time::{Instant, Now};
use std::sync::Arc;

pub struct Stage {
    pub head: RequestHead,
    pub peer: Peer,
    pub now: Now,
    pub notes: Notes,
    pub path_options: PathOptions,
    shared: Shared,
    slot: u64,
}

impl Stage {
    /// `GET http://host/target`.
    pub fn new(host: &str, target: &str) -> Stage {
        let shared = Shared::format(&tempfile::tempfile().unwrap(), Layout { words: [64; 7], workers: 1 }).unwrap();
        let mut head = RequestHead { host: host.as_bytes().to_vec(), ..RequestHead::default() };
        head.target.parse(target.as_bytes(), PathOptions::default()).unwrap();
        let now = Now { mono: Instant(1_000_000_000), wall_ns: 1 };
        let (peer, notes, path_options) = Default::default();
        Stage { head, peer, now, notes, path_options, shared, slot: 0 }
    }

    pub fn method(mut self, method: &str) -> Stage {
        self.head.method = Method::parse(method.as_bytes()).unwrap();
        self
    }

    pub fn field(mut self, name: &str, value: &str) -> Stage {
        self.head.fields.append(name.as_bytes(), value.as_bytes());
        self
    }

    pub fn request(&mut self, policy: &Arc<dyn Policy>) -> Flow {
        let mut cx = RequestCx {
            route: 1,
            head: &mut self.head,
            peer: &self.peer,
            now: self.now,
            shared: &self.shared,
            worker: 0,
            path_options: self.path_options,
            notes: &mut self.notes,
        };
        policy.on_request(&mut cx, &mut self.slot)
    }

    /// Returns how the policy wants the body encoded.
    pub fn response(&mut self, policy: &Arc<dyn Policy>, head: &mut ResponseHead) -> Option<Choice> {
        let mut encode = None;
        let mut cx = ResponseCx {
            length: head.length,
            head,
            encode: &mut encode,
            now: self.now,
            shared: &self.shared,
            notes: &self.notes,
            code: None,
        };
        policy.on_response(&mut cx, &mut self.slot);
        encode
    }

    /// The target after the policy let the request pass.
    pub fn target(&self) -> &str {
        std::str::from_utf8(self.head.target.as_bytes()).unwrap()
    }
}

/// Compiles `{"kind": {…}}`.
pub fn compile(value: serde_json::Value) -> Result<Arc<dyn Policy>, Vec<Problem>> {
    serde_json::from_value::<PolicySpec>(value).unwrap().compile("p")
}

/// Paths of the problems with `{"kind": {…}}`.
pub fn problem_paths(value: serde_json::Value) -> Vec<String> {
    compile(value).err().unwrap_or_default().into_iter().map(|p| p.path).collect()
}

pub fn answered(flow: Flow) -> Answer {
    match flow {
        Flow::Answer(answer) => *answer,
        other => panic!("{other:?}"),
    }
}

pub fn refused(flow: Flow) -> Code {
    match flow {
        Flow::Refuse(code, _) => code,
        other => panic!("{other:?}"),
    }
}
