//! AI calls: from a request on a route that serves models to a call of one of a model's targets, and back.
//!
//! The request's way: [`open`](Engine::open_call) knows the call by its path and its key by its hash, before the body is
//! read; the body is gathered (and judged by the guard) as on any route; [`dispatch`](Engine::dispatch_call) reads what
//! decides, holds budgets and orders targets; `attempt` writes the request of one target after the other until one
//! answers; `answer` takes that answer through measuring and translation; `settle` turns what was measured into budgets,
//! money and the record.
//!
//! Rules:
//! 1. The client's body is kept until a target has begun to answer: every attempt is made from it anew.
//! 2. Nothing of the request that names an address, a credential or a provider's model goes on: fields pass by a list.
//! 3. Until the first token a failure is the next target's chance. After it the client hears of it in its own words.
//! 4. Whatever way a call ends, it is settled exactly once, before its outcome is recorded.

mod answer;
mod attempt;
mod cached;
mod guarded;
mod settle;

pub use answer::Answering;
pub use settle::Settled;

use super::connection::Stage;
use super::Engine;
use crate::ai::keys::{Key, Kind as Counted};
use crate::ai::targets::Wanted;
use crate::config::{KeyUse, OverBudget};
use crate::error::Code;
use crate::limit::budget::{self, Counter as Budget};
use crate::llm::error::{Error, Kind};
use crate::llm::json::Fault;
use crate::llm::request::{operation, Call as Kinds, Peek};
use crate::llm::{Dialect, Usage};
use crate::message::{form_decoded, BodyLength, Fields, Known, Method};
use crate::policy::{sha256, Answer};
use crate::time::Instant;
use smallvec::SmallVec;
use std::sync::Arc;

/// Output tokens a call that names no limit is taken to need.
const USUAL_OUTPUT: u64 = 1024;

/// No model answers with more tokens.
const MOST_OUTPUT: u64 = 1 << 30;

/// Longest key looked at.
const MAX_KEY: usize = 1024;

/// What of a limit this call holds.
pub struct Held {
    budget: Budget,
    kind: Counted,
    amount: u64,
}

/// An AI call.
pub struct Call {
    /// What the client speaks.
    pub dialect: Dialect,
    pub kind: Kinds,
    pub stream: bool,
    /// The client's path behind its version, with its query.
    own: String,
    /// The client's fields that may go on.
    fields: Fields,
    key: Option<Arc<Key>>,
    /// The model asked for, and its number.
    pub asked: String,
    model: u32,
    peek: Peek,
    body: Vec<u8>,
    prompt: u64,
    held: SmallVec<[Held; 4]>,
    /// Targets left to try, best first; which of them is the next.
    order: SmallVec<[u16; 8]>,
    next: usize,
    /// The target and credential of the attempt under way or last made.
    target: Option<u16>,
    credential: Option<u16>,
    /// The target counts this call's tokens among those in flight.
    flying: bool,
    /// What the provider of the attempt speaks.
    speaks: Dialect,
    /// The request of the attempt was changed so that the stream tells usage, which the client did not ask for.
    hides_usage: bool,
    losses: Vec<String>,
    /// What its answer is kept under, and what of the answer was told so far.
    cache: Option<[u8; 32]>,
    copy: Vec<u8>,
    cached: bool,
    pub answering: Answering,
    /// What the provider of the attempt answered with; 0: nothing yet.
    status: u16,
    /// What attempts that were given up had used.
    spent: Usage,
    attempt_begun: Instant,
    first_token: Option<Instant>,
    pub settled: Option<Settled>,
}

/// Fields of a client that go to providers.
fn goes_on(known: Known, name: &[u8]) -> bool {
    matches!(known, Known::ContentType | Known::UserAgent)
        || matches!(name, b"anthropic-version" | b"anthropic-beta" | b"openai-beta" | b"x-goog-api-client")
        || name.starts_with(b"x-stainless-")
}

impl Engine {
    /// Keys are these from now on.
    pub fn publish_keys(&mut self, keys: Arc<crate::ai::KeyTable>) {
        self.keys = keys;
    }

    /// The request is on a route that serves models. False: it was answered.
    pub(super) fn open_call(&mut self, ex: u32) -> bool {
        let unix = self.now.wall_ns / 1_000_000_000;
        let exchange = &mut self.exchanges[ex as usize];
        let Some((revision, route)) = exchange.revision.clone().zip(exchange.route) else { return false };
        let Some(plan) = revision.routes[route as usize].llm.as_ref() else { return true };
        let path = String::from_utf8_lossy(exchange.head.target.path()).into_owned();
        let Some(operation) = operation(&path) else {
            self.refuse(ex, Code::NoRoute, Some("this path is no call of an API that is served here"));
            return false;
        };
        let key = match presented(&exchange.head.fields, &exchange.head.target) {
            _ if plan.keys == KeyUse::Off => None,
            Ok(Some(hash)) => self.keys.get(&hash, unix).cloned(),
            Ok(None) => None,
            Err(()) => {
                self.refuse(ex, Code::Unauthenticated, Some("there is more than one key in the request"));
                return false;
            }
        };
        let exchange = &mut self.exchanges[ex as usize];
        if plan.keys == KeyUse::Required && key.is_none() {
            self.refuse(ex, Code::Unauthenticated, Some("the key is missing, unknown, revoked or expired"));
            return false;
        }
        if let Some(key) = &key {
            exchange.notes.identity = Some(key.identity.to_string().into());
        }
        let dialect = operation.dialect;
        let kind = operation.call;
        exchange.head.target.remove_parameter(b"key");
        let mut fields = Fields::default();
        for (known, name, value) in exchange.head.fields.iter() {
            if goes_on(known, name) {
                fields.append_known(known, name, value);
            }
        }
        // Google's and OpenAI's lists of models have the same path.
        let google =
            exchange.head.fields.get(b"x-goog-api-key").or(exchange.head.fields.get(b"x-goog-api-client")).is_some();
        let target = String::from_utf8_lossy(exchange.head.target.as_bytes()).into_owned();
        exchange.llm = Some(Box::new(Call {
            dialect,
            kind,
            stream: operation.stream.unwrap_or(false),
            own: own(&target),
            fields,
            key,
            asked: operation.model.map(std::borrow::Cow::into_owned).unwrap_or_default(),
            model: 0,
            peek: Peek::default(),
            body: Vec::new(),
            prompt: 0,
            held: SmallVec::new(),
            order: SmallVec::new(),
            next: 0,
            target: None,
            credential: None,
            flying: false,
            speaks: dialect,
            hides_usage: false,
            losses: Vec::new(),
            cache: None,
            copy: Vec::new(),
            cached: false,
            answering: Answering::None,
            status: 0,
            spent: Usage { complete: true, ..Usage::default() },
            attempt_begun: self.now.mono,
            first_token: None,
            settled: None,
        }));
        if !plan.calls.contains(&kind) {
            let detail = format!("`{}` calls are not served here", kind.name());
            self.refuse(ex, Code::NoRoute, Some(&detail));
            return false;
        }
        if kind == Kinds::Models {
            let google = google || path.contains("/v1beta");
            self.list_models(ex, google);
            return false;
        }
        if kind.has_peek() && self.exchanges[ex as usize].head.method != Method::Post {
            let exchange = &mut self.exchanges[ex as usize];
            exchange.notes.response_fields.append(b"allow", b"POST");
            self.refuse(ex, Code::MethodNotAllowed, None);
            return false;
        }
        true
    }

    /// Gathers the body of a call, where no guard does.
    pub(super) fn gather_call(&mut self, ex: u32) {
        self.exchanges[ex as usize].stage = Stage::Judging;
        self.ask_for_body(ex);
        if self.exchanges[ex as usize].request_complete {
            self.request_judged(ex);
        }
    }

    /// Body bytes of a call that no guard looks at.
    pub(super) fn gather_data(&mut self, ex: u32, bytes: &[u8]) {
        let exchange = &mut self.exchanges[ex as usize];
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize]);
        let most = plan.and_then(|p| p.llm.as_ref()).map_or(0, |llm| llm.max_body);
        if exchange.body.len() + bytes.len() > most {
            return self.fail_request(ex, Code::BodyTooLarge, None);
        }
        exchange.body.extend_from_slice(bytes);
    }

    /// The whole request is here: which model, whether it may, and to whom it goes.
    pub(super) fn dispatch_call(&mut self, ex: u32) {
        let exchange = &mut self.exchanges[ex as usize];
        let Some((revision, route)) = exchange.revision.clone().zip(exchange.route) else { return };
        let Some(plan) = revision.routes[route as usize].llm.as_ref() else { return };
        let Some(call) = exchange.llm.as_deref_mut() else { return };
        call.body = std::mem::take(&mut exchange.body);
        if call.kind.has_peek() {
            match Peek::read(call.dialect, &call.body) {
                Ok(peek) => call.peek = peek,
                Err(fault) => return self.refuse(ex, Code::BadCall, Some(&fault.to_string())),
            }
            call.stream |= call.peek.stream;
            if let Some(model) = call.peek.model.clone().filter(|_| call.asked.is_empty()) {
                call.asked = model;
            }
        }
        let implied = if call.asked.is_empty() { self.implied_model(ex) } else { String::new() };
        let Some(call) = self.exchanges[ex as usize].llm.as_deref_mut() else { return };
        if call.asked.is_empty() {
            call.asked = implied;
        }
        if call.asked.is_empty() {
            return self.refuse(ex, Code::BadCall, Some("`model` is missing"));
        }
        let key = call.key.clone();
        let may = |number: u32| {
            plan.serves(number) && key.as_ref().is_none_or(|key| key.may(&revision.ai.models[number as usize].name))
        };
        let Some(number) = revision.ai.model(&call.asked).filter(|number| may(*number)) else {
            let near = revision.ai.nearest(&call.asked, may);
            let mut detail = format!("there is no model {:?} for you", call.asked);
            if !near.is_empty() {
                detail += &format!("; did you mean {}?", near.join(", "));
            }
            return self.refuse(ex, Code::ModelNotFound, Some(&detail));
        };
        call.model = number;
        call.prompt = call.peek.prompt.tokens();
        if !plan.tools && call.peek.needs.tools {
            return self.refuse(ex, Code::BadCall, Some("tools may not be offered on this route"));
        }
        let most = [plan.max_prompt, key.as_ref().and_then(|key| key.max_prompt)].into_iter().flatten().min();
        if let Some(most) = most.filter(|most| call.prompt > *most) {
            let detail = format!("the prompt has about {} tokens, at most {most} are allowed", call.prompt);
            return self.refuse(ex, Code::PromptTooLong, Some(&detail));
        }
        let exchange = &self.exchanges[ex as usize];
        let Some(call) = exchange.llm.as_deref() else { return };
        let model = &revision.ai.models[number as usize];
        let head = &exchange.head.fields;
        let has = |name: &str, value: &str| head.all(name.as_bytes()).any(|v| value == "*" || v == value.as_bytes());
        let empty = String::new();
        let wanted = Wanted {
            needs: call.peek.needs,
            prompt: call.prompt,
            key: key.as_ref().map_or(&empty, |key| &key.id),
            key_name: key.as_ref().map_or(&empty, |key| &key.name),
            team: key.as_ref().map_or(&empty, |key| &key.team),
            header: &has,
        };
        let entropy = self.entropy.draw();
        let mut order = self.targets.order(model, &wanted, self.now.mono, entropy);
        if call.kind != Kinds::Chat {
            // Only conversations are translated.
            let speaks = |target: &u16| {
                let provider = model.targets[*target as usize].provider;
                revision.ai.providers[provider as usize].dialect(call.dialect) == call.dialect
            };
            let able = !order.is_empty();
            order.retain(|target| speaks(target));
            if able && order.is_empty() && call.kind == Kinds::CountTokens {
                return self.count_tokens(ex);
            }
        }
        if order.is_empty() {
            let detail = format!("no target of {:?} can serve this call", call.asked);
            return self.refuse(ex, Code::NoTarget, Some(&detail));
        }
        if let Some(call) = self.exchanges[ex as usize].llm.as_deref_mut() {
            call.order = order;
        }
        if self.answer_again(ex) {
            return;
        }
        if self.hold_budgets(ex, plan.over_budget, most_output(plan.max_output, key.as_deref())) {
            self.next_target(ex);
        }
    }

    /// Counts tokens by the estimate, as no target speaks the client's dialect.
    fn count_tokens(&mut self, ex: u32) {
        let Some(call) = &self.exchanges[ex as usize].llm else { return };
        let count = call.prompt;
        let body = match call.dialect {
            Dialect::Gemini => serde_json::json!({"totalTokens": count}),
            Dialect::Bedrock => serde_json::json!({"inputTokens": count}),
            Dialect::OpenAiResponses => serde_json::json!({"object": "response.input_tokens", "input_tokens": count}),
            _ => serde_json::json!({"input_tokens": count}),
        };
        let mut answer =
            Answer { status: 200, body: serde_json::to_vec(&body).unwrap_or_default(), ..Answer::default() };
        answer.fields.append(b"content-type", b"application/json");
        answer.fields.append(b"x-pygate-estimate", b"tokens");
        self.answer_with(ex, answer);
    }

    /// The model of a call that names none: the only one that is served.
    fn implied_model(&self, ex: u32) -> String {
        let exchange = &self.exchanges[ex as usize];
        let Some((revision, route)) = exchange.revision.as_ref().zip(exchange.route) else { return String::new() };
        let (Some(plan), Some(call)) = (&revision.routes[route as usize].llm, &exchange.llm) else {
            return String::new();
        };
        if let Some(model) = exchange.head.target.parameters(b"model").next() {
            return String::from_utf8_lossy(&form_decoded(model).collect::<Vec<u8>>()).into_owned();
        }
        if call.kind.has_peek() {
            return String::new();
        }
        if let Ok(Some(model)) = named_in(&call.body) {
            return model;
        }
        let key = call.key.clone();
        let may = |number: u32| {
            plan.serves(number) && key.as_ref().is_none_or(|key| key.may(&revision.ai.models[number as usize].name))
        };
        let mut names = revision.ai.names(may);
        // The only one there is for this caller.
        names.next().filter(|_| names.next().is_none()).map(str::to_owned).unwrap_or_default()
    }

    /// Holds what the call may cost of every limit of its key; false: one of them does not allow it.
    fn hold_budgets(&mut self, ex: u32, over: OverBudget, most_output: Option<u64>) -> bool {
        let unix = self.now.wall_ns / 1_000_000_000;
        let exchange = &mut self.exchanges[ex as usize];
        let Some(revision) = exchange.revision.clone() else { return false };
        let Some(call) = exchange.llm.as_deref_mut() else { return false };
        let Some(key) = call.key.clone() else { return true };
        let output = if call.kind == Kinds::Chat || call.kind == Kinds::Completions {
            let asked = call.peek.max_output.unwrap_or(USUAL_OUTPUT).min(most_output.unwrap_or(MOST_OUTPUT));
            asked.saturating_mul(call.peek.choices)
        } else {
            0
        };
        let usage = Usage { input: call.prompt, output, complete: true, ..Usage::default() };
        let model = &revision.ai.models[call.model as usize];
        let prices = call.order.iter().filter_map(|t| model.targets[*t as usize].prices.as_ref());
        let pico = prices.filter_map(|prices| prices.cost(&usage)).map(|cost| cost.pico()).max();
        let in_money = key.limits.iter().any(|limit| limit.kind == Counted::NanoUsd);
        if in_money && pico.is_none() && answer::is_measured(call.kind) {
            let detail =
                "your budget is in money, and what this call may cost is not known: the model has no price here";
            return self.refuse_budget(ex, over, detail, None);
        }
        let pico = pico.unwrap_or(0);
        for limit in &key.limits {
            let amount = match limit.kind {
                Counted::Requests => 1,
                Counted::InputTokens => usage.input,
                Counted::OutputTokens => usage.output,
                Counted::TotalTokens => usage.total(),
                Counted::NanoUsd => pico.div_ceil(settle::PICO),
            };
            let (begin, end) = limit.window.around(unix);
            let budget = Budget { key: limit.key, begin, end };
            let max = if limit.kind == Counted::NanoUsd { limit.max / settle::NANO } else { limit.max };
            match budget::reserve(&self.shared, budget, max, amount, unix) {
                Ok(_) => call.held.push(Held { budget, kind: limit.kind, amount }),
                Err(budget::Refused::Full) => {
                    self.refuse(ex, Code::LimiterFailed, None);
                    return false;
                }
                Err(budget::Refused::Over(found)) => {
                    let left = match limit.kind {
                        Counted::NanoUsd => format!("{}.{:06} USD", found.left / 1_000_000, found.left % 1_000_000),
                        kind => format!("{} {}", found.left, kind.name().replace('_', " ")),
                    };
                    let detail = format!(
                        "the budget of {} per {} is used up: {left} left, this call may need more; it begins anew in {} s",
                        limit.scope,
                        limit.window.name(),
                        end - unix
                    );
                    return self.refuse_budget(ex, over, &detail, Some(end - unix));
                }
            }
        }
        true
    }

    /// Refuses a call because of a budget; what it held of others is given back. Always false.
    fn refuse_budget(&mut self, ex: u32, over: OverBudget, detail: &str, wait: Option<u64>) -> bool {
        let unix = self.now.wall_ns / 1_000_000_000;
        let exchange = &mut self.exchanges[ex as usize];
        if let Some(call) = exchange.llm.as_deref_mut() {
            for held in call.held.drain(..) {
                budget::settle(&self.shared, held.budget, held.amount, 0, unix);
            }
        }
        if let Some(wait) = wait {
            exchange.notes.response_fields.append(b"retry-after", wait.to_string().as_bytes());
        }
        let code = match over {
            OverBudget::TooManyRequests => Code::BudgetExceeded,
            OverBudget::PaymentRequired => Code::BudgetSpent,
        };
        self.refuse(ex, code, Some(detail));
        false
    }

    /// The models the caller may ask for.
    fn list_models(&mut self, ex: u32, gemini: bool) {
        let exchange = &self.exchanges[ex as usize];
        let Some((revision, route)) = exchange.revision.clone().zip(exchange.route) else { return };
        let (Some(plan), Some(call)) = (&revision.routes[route as usize].llm, &exchange.llm) else { return };
        let key = call.key.clone();
        let may = |number: u32| {
            plan.serves(number) && key.as_ref().is_none_or(|key| key.may(&revision.ai.models[number as usize].name))
        };
        let anthropic = exchange.head.fields.get(b"anthropic-version").is_some();
        let one = call.asked.clone();
        let names: Vec<&str> = revision.ai.names(may).filter(|name| one.is_empty() || *name == one).collect();
        if !one.is_empty() && names.is_empty() {
            return self.refuse(ex, Code::ModelNotFound, Some(&format!("there is no model {one:?} for you")));
        }
        let openai =
            |name: &str| serde_json::json!({"id": name, "object": "model", "created": 0, "owned_by": "pygate"});
        let claude = |name: &str| serde_json::json!({"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"});
        let google = |name: &str| {
            serde_json::json!({"name": format!("models/{name}"), "displayName": name, "version": "1",
                "supportedGenerationMethods": ["generateContent", "countTokens"]})
        };
        let body = match (names.as_slice(), one.is_empty()) {
            ([name], false) if gemini => google(name),
            ([name], false) if anthropic => claude(name),
            ([name], false) => openai(name),
            (names, _) if gemini => serde_json::json!({"models": names.iter().map(|n| google(n)).collect::<Vec<_>>()}),
            (names, _) if anthropic => serde_json::json!({"data": names.iter().map(|n| claude(n)).collect::<Vec<_>>(),
                "has_more": false, "first_id": names.first(), "last_id": names.last()}),
            (names, _) => {
                serde_json::json!({"object": "list", "data": names.iter().map(|n| openai(n)).collect::<Vec<_>>()})
            }
        };
        let mut answer =
            Answer { status: 200, body: serde_json::to_vec(&body).unwrap_or_default(), ..Answer::default() };
        answer.fields.append(b"content-type", b"application/json");
        self.answer_with(ex, answer);
    }

    /// The body of an error of the table, in the words of the client's dialect; None: this is no AI call.
    pub(super) fn call_error(&self, ex: u32, code: Code, detail: Option<&str>) -> Option<(Vec<u8>, Dialect)> {
        let exchange = &self.exchanges[ex as usize];
        let plan = exchange.revision.as_ref().zip(exchange.route).map(|(rev, r)| &rev.routes[r as usize])?;
        plan.llm.as_ref()?;
        let dialect = match &exchange.llm {
            Some(call) => call.dialect,
            None => {
                let path = String::from_utf8_lossy(exchange.head.target.path()).into_owned();
                operation(&path).map_or(Dialect::OpenAiChat, |operation| operation.dialect)
            }
        };
        let message = match detail {
            Some(detail) => format!("{}: {detail}", code.title()),
            None => code.title().to_owned(),
        };
        let error = error_of(code, message);
        let mut body = Vec::new();
        error.write(dialect, Some(&super::identity::text(&exchange.id)), &mut body);
        Some((body, dialect))
    }
}

/// What a code of the table is in the words of AI APIs.
pub(super) fn kind_of(code: Code) -> Kind {
    match code {
        Code::BudgetExceeded | Code::BudgetSpent => Kind::Quota,
        Code::GuardBlocked => Kind::ContentFilter,
        Code::PromptTooLong => Kind::ContextLength,
        code => Kind::of_status(code.status()),
    }
}

/// The error a client is told. Where its dialect has a code of its own for the kind, that is the one.
pub(super) fn error_of(code: Code, message: impl Into<String>) -> Error {
    let kind = kind_of(code);
    let error = Error::new(kind, message);
    match kind {
        Kind::NotFound | Kind::Unauthenticated | Kind::Quota | Kind::ContextLength | Kind::RateLimited => error,
        Kind::ContentFilter | Kind::TooLarge => error,
        _ => error.code(code.name()),
    }
}

fn most_output(route: Option<u64>, key: Option<&Key>) -> Option<u64> {
    [route, key.and_then(|key| key.max_output)].into_iter().flatten().min()
}

impl Call {
    /// The attempt is over and another may follow: what it used is kept.
    fn give_up_attempt(&mut self) {
        let answering = std::mem::take(&mut self.answering);
        if let Some(meter) = answering.meter().filter(|_| (200..300).contains(&self.status)) {
            self.spent = sum(self.spent, meter.settle(self.prompt));
        }
        self.status = 0;
    }
}

/// Both together.
fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        input: a.input.saturating_add(b.input),
        output: a.output.saturating_add(b.output),
        cached_read: a.cached_read.saturating_add(b.cached_read),
        cached_write: a.cached_write.saturating_add(b.cached_write),
        reasoning: a.reasoning.saturating_add(b.reasoning),
        audio_input: a.audio_input.saturating_add(b.audio_input),
        audio_output: a.audio_output.saturating_add(b.audio_output),
        image: a.image.saturating_add(b.image),
        complete: a.complete && b.complete,
    }
}

/// The model that a body names in JSON.
fn named_in(body: &[u8]) -> Result<Option<String>, Fault> {
    if body.first() != Some(&b'{') {
        return Ok(None);
    }
    let members = crate::llm::json::members(body, &["model"])?;
    let model = members.iter().find(|member| member.name.is("model"));
    Ok(model.and_then(|member| serde_json::from_slice(body.get(member.value.clone())?).ok()))
}

/// What follows the version in a path.
fn own(target: &str) -> String {
    let mut at = 0;
    let path = target.split('?').next().unwrap_or(target);
    for segment in path.split('/') {
        let version = segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        at += segment.len() + 1;
        if version {
            return format!("/{}", target.get(at..).unwrap_or(""));
        }
    }
    target.to_owned()
}

/// SHA-256 of the one key a request carries, wherever its SDK puts it; an error: there are several that differ.
fn presented(fields: &Fields, target: &crate::message::Target) -> Result<Option<[u8; 32]>, ()> {
    let mut found: Option<Vec<u8>> = None;
    let mut several = false;
    let mut take = |key: &[u8]| {
        if key.is_empty() || key.len() > MAX_KEY {
            return;
        }
        match &found {
            Some(other) => several |= other != key,
            None => found = Some(key.to_vec()),
        }
    };
    for value in fields.all(b"authorization") {
        match value.split_at_checked(7) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => take(key.trim_ascii()),
            _ => {}
        }
    }
    for name in [&b"x-api-key"[..], b"x-goog-api-key", b"api-key"] {
        fields.all(name).for_each(&mut take);
    }
    for raw in target.parameters(b"key") {
        take(&form_decoded(raw).take(MAX_KEY + 1).collect::<Vec<u8>>());
    }
    if several {
        return Err(());
    }
    Ok(found.map(|key| sha256(&[&key])))
}

/// Length of a request body that is known.
pub(super) fn exact(body: &[u8]) -> BodyLength {
    BodyLength::Exact(body.len() as u64)
}
