//! What OpenAI's two dialects share: fields of one name and meaning, log probabilities, tool parameters.
//!
//! Rules: shared fields pass between the two as they are; for every other target they are losses.

use serde_json::Value;

use super::chat::{Logprob, Request, Sampling, Thinking, OPENAI_SHARED};
use super::fields::{Fields, Object};
use super::Losses;

/// Reads the members both requests spell alike.
pub(super) fn read_shared(fields: &mut Fields<'_>, request: &mut Request) {
    request.model = fields.string("model");
    request.stream = fields.flag("stream").unwrap_or(false);
    request.parallel_tools = fields.flag("parallel_tool_calls");
    request.user = fields.string("user");
    request.sampling.temperature = fields.number("temperature");
    request.sampling.top_p = fields.number("top_p");
    request.sampling.top_logprobs = fields.count("top_logprobs");
    if let Some(Value::Object(metadata)) = fields.object("metadata") {
        request.metadata.clone_from(metadata);
    }
    for key in OPENAI_SHARED {
        if let Some(value) = fields.any(key) {
            request.openai.insert(key.to_owned(), value.clone());
        }
    }
}

pub(super) fn write_shared(request: &Request, out: &mut Object) {
    out.maybe("model", request.model.clone());
    if request.stream {
        out.set("stream", true);
    }
    out.maybe("parallel_tool_calls", request.parallel_tools);
    out.maybe("user", request.user.clone());
    out.maybe("temperature", number(&request.sampling.temperature));
    out.maybe("top_p", number(&request.sampling.top_p));
    if !request.metadata.is_empty() {
        out.set("metadata", request.metadata.clone());
    }
    for (key, value) in &request.openai {
        // Verbosity stands elsewhere in responses.
        if key != "verbosity" {
            out.set(key, value.clone());
        }
    }
}

/// What no OpenAI dialect has.
pub(super) fn lose_foreign(request: &Request, losses: &mut Losses) {
    if request.sampling.top_k.is_some() {
        losses.add("top_k", "OpenAI has no such option");
    }
    for (index, tool) in request.tools.iter().enumerate() {
        if tool.cache.is_some() {
            losses.add(format!("tools[{index}].cache_control"), "OpenAI caches prompts by itself");
        }
    }
}

/// What only OpenAI's dialects have, for all other targets.
pub(super) fn lose_shared(request: &Request, known: &[&str], losses: &mut Losses) {
    for (key, value) in &request.openai {
        // Nobody else keeps answers, or has another tier than the usual.
        let usual = matches!((key.as_str(), value.as_str()), ("service_tier", Some("auto" | "default")));
        if usual || (key == "store" && value == &Value::Bool(false)) {
            continue;
        }
        if !known.contains(&key.as_str()) {
            losses.add(key.clone(), "known to OpenAI alone");
        }
    }
}

/// The effort that says best how much may be thought. OpenAI knows no budgets.
pub(super) fn effort<'a>(thinking: &'a Thinking, losses: &mut Losses) -> Option<&'a str> {
    use super::chat::Budget;
    if let Some(effort) = &thinking.effort {
        // The highest OpenAI knows.
        return Some(if effort == "max" { "xhigh" } else { effort });
    }
    let effort = match thinking.budget? {
        Budget::Off => return Some("none"),
        Budget::Adaptive => return None,
        Budget::Tokens(0..=1024) => "minimal",
        Budget::Tokens(1025..=4096) => "low",
        Budget::Tokens(4097..=16_384) => "medium",
        Budget::Tokens(_) => "high",
    };
    losses.add("thinking.budget_tokens", "a budget became an effort");
    Some(effort)
}

pub(super) fn number(number: &Option<serde_json::Number>) -> Option<Value> {
    number.clone().map(Value::Number)
}

/// Samples are drawn alike everywhere but for the penalties, which Anthropic, Bedrock and responses lack.
pub(super) fn lose_penalties(sampling: &Sampling, whose: &'static str, losses: &mut Losses) {
    let given = [
        ("presence_penalty", sampling.presence_penalty.is_some()),
        ("frequency_penalty", sampling.frequency_penalty.is_some()),
        ("seed", sampling.seed.is_some()),
        ("n", sampling.candidates.is_some_and(|n| n > 1)),
    ];
    for (path, _) in given.iter().filter(|(_, given)| *given) {
        losses.add(*path, format!("{whose} has no such option"));
    }
}

/// Entries of `logprobs.content`, or of an output text's `logprobs`.
pub(super) fn read_logprobs(list: &[Value]) -> Vec<Logprob> {
    list.iter()
        .filter_map(|entry| {
            let (token, logprob) = read_logprob(entry)?;
            let top = entry.get("top_logprobs").and_then(Value::as_array);
            let top = top.into_iter().flatten().filter_map(read_logprob).collect();
            Some(Logprob { token, logprob, top })
        })
        .collect()
}

fn read_logprob(entry: &Value) -> Option<(String, serde_json::Number)> {
    let token = entry.get("token")?.as_str()?.to_owned();
    Some((token, entry.get("logprob")?.as_number()?.clone()))
}

pub(super) fn write_logprobs(list: &[Logprob]) -> Vec<Value> {
    list.iter()
        .map(|entry| {
            let mut out = write_logprob(&entry.token, &entry.logprob);
            let top = entry.top.iter().map(|(token, logprob)| write_logprob(token, logprob).into());
            out.set("top_logprobs", top.collect::<Vec<Value>>());
            out.into()
        })
        .collect()
}

fn write_logprob(token: &str, logprob: &serde_json::Number) -> Object {
    let mut out = Object::new();
    out.set("token", token).set("logprob", Value::Number(logprob.clone()));
    out.set("bytes", token.bytes().map(Value::from).collect::<Vec<_>>());
    out
}
