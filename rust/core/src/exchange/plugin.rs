//! The door to Python plugins: what they see of an exchange, and what their decision does to it.
//!
//! Rules:
//! 1. Plugins run outside: the engine shows heads, goes on with other connections and takes the decision
//!    when it comes. An exchange that ended meanwhile ignores it (its serial tells).
//! 2. They see and change fields only. Framing, connection and gateway-owned fields are not theirs; what they
//!    set passes the same checks as a policy's.
//! 3. Only upstream answers are shown; what the gateway answers itself is not for plugins to change.

use super::connection::Stage;
use super::{identity, Engine};
use crate::error::Code;
use crate::message::fields::{is_field_name, is_field_value, Fields};
use crate::message::Scheme;
use crate::observe::Counter;
use crate::policy::Answer;
use crate::time::Now;

/// What a route's plugins want.
#[derive(Debug)]
pub enum Decision {
    Continue(Vec<Change>),
    Answer(Box<Answer>),
    Fail,
}

/// A change to the fields of the head that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Set(Vec<u8>, Vec<u8>),
    Add(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
}

/// What plugins see. Text that is not UTF-8 is Latin-1, as fields are.
#[derive(Debug)]
pub struct View {
    pub revision: String,
    pub plugins: Vec<String>,
    pub method: String,
    pub path: String,
    pub query: String,
    pub scheme: &'static str,
    pub host: String,
    pub client_ip: String,
    pub route: String,
    pub exchange: String,
    pub identity: String,
    /// Fields of the request, or of the answer.
    pub fields: Vec<(String, String)>,
    /// Status of the answer; 0 for requests.
    pub status: u16,
}

impl Engine {
    /// What the plugins of a waiting exchange are to be shown; `None` when it is over.
    pub fn plugin_view(&self, ex: u32, serial: u64) -> Option<View> {
        let exchange = self.exchanges.get(ex as usize).filter(|e| e.serial == serial)?;
        let revision = exchange.revision.as_ref()?;
        let plan = &revision.routes[exchange.route? as usize];
        let head = &exchange.head;
        let (fields, status) = match &exchange.shown {
            Some(answer) => (&answer.fields, answer.status),
            None => (&head.fields, 0),
        };
        Some(View {
            revision: revision.name.clone(),
            plugins: plan.plugins.clone(),
            method: head.method.as_str().to_owned(),
            path: latin(head.target.path()),
            query: latin(head.target.query().unwrap_or(b"")),
            scheme: if head.scheme == Scheme::Https { "https" } else { "http" },
            host: latin(&head.host),
            client_ip: exchange.peer.ip.to_string(),
            route: plan.name.clone(),
            exchange: identity::text(&exchange.id),
            identity: exchange.notes.identity.as_deref().unwrap_or("").to_owned(),
            fields: fields.iter().map(|(_, n, v)| (latin(n), latin(v))).collect(),
            status,
        })
    }

    /// The plugins have decided.
    pub fn plugin_done(&mut self, now: Now, ex: u32, serial: u64, decision: Decision) {
        self.now = now;
        if let Some(exchange) = self.exchanges.get_mut(ex as usize).filter(|e| e.serial == serial) {
            self.meter.add(Counter::PluginCalls, 1);
            match (exchange.stage, decision) {
                (Stage::Plugin, Decision::Continue(changes)) => {
                    apply(&changes, &mut exchange.head.fields);
                    self.after_policies(ex);
                }
                (Stage::PluginAnswer, Decision::Continue(changes)) => {
                    if let Some(shown) = exchange.shown.take() {
                        self.response = *shown;
                    }
                    apply(&changes, &mut self.response.fields);
                    let up = exchange.up;
                    self.answer_passed(ex);
                    if let Some(up) = up {
                        self.upstream_resume(up);
                    }
                }
                (Stage::Plugin | Stage::PluginAnswer, Decision::Answer(mut answer))
                    if (200..=599).contains(&answer.status) =>
                {
                    answer.fields.retain(|_, name, value| allowed(name, value));
                    self.forget_attempt(ex);
                    self.answer_with(ex, *answer);
                }
                (Stage::Plugin | Stage::PluginAnswer, Decision::Answer(_) | Decision::Fail) => {
                    self.meter.add(Counter::PluginFailures, 1);
                    self.forget_attempt(ex);
                    self.refuse(ex, Code::PluginFailed, None);
                }
                _ => {}
            }
        }
        self.settle();
    }
}

fn apply(changes: &[Change], fields: &mut Fields) {
    for change in changes {
        match change {
            Change::Set(name, value) if allowed(name, value) => fields.set(name, value),
            Change::Add(name, value) if allowed(name, value) => fields.append(name, value),
            Change::Remove(name) if allowed(name, b"") => {
                fields.remove(name);
            }
            _ => {}
        }
    }
}

fn allowed(name: &[u8], value: &[u8]) -> bool {
    is_field_name(name) && is_field_value(value) && !crate::policy::is_protected(name)
}

fn latin(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&b| char::from(b)).collect(),
    }
}
