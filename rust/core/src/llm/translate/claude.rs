//! What Claude's models want alike at Anthropic and at Bedrock: thinking, effort, a forced tool for JSON, plain ids.
//!
//! Rules: an effort is written as such unless the options say the model takes a budget; the forced tool stands alone.

use serde_json::{Number, Value};

use super::chat::{Budget, Format, Request, Thinking, Tool, ToolChoice};
use super::fields::Object;
use super::{Losses, Options, JSON_TOOL};

/// `thinking` of Claude's, at Anthropic and at Bedrock, and whether the model is to think. It cannot when it is made to
/// call a tool, which is what the client wants more.
pub(super) fn write_thinking(request: &Request, options: &Options, losses: &mut Losses) -> (Option<Object>, bool) {
    let thinking = &request.thinking;
    let none = thinking.effort.as_deref() == Some("none");
    let mut out = match (thinking.tokens(options.thinking_budget), thinking.budget) {
        (Some(budget), _) => {
            let mut out = Object::typed("enabled");
            out.set("budget_tokens", budget.max(1024));
            out
        }
        (None, Some(Budget::Off)) => return (Some(Object::typed("disabled")), false),
        (None, Some(_)) => Object::typed("adaptive"),
        (None, None) if none => return (Some(Object::typed("disabled")), false),
        (None, None) if thinking.effort.is_some() => Object::typed("adaptive"),
        (None, None) => return (None, false),
    };
    let forced = match &request.tool_choice {
        Some(ToolChoice::Any | ToolChoice::Tool(_)) => true,
        Some(ToolChoice::Allowed { must, .. }) => *must,
        _ => false,
    };
    if forced && !request.tools.is_empty() {
        losses.add("thinking", "Claude does not think when made to call a tool");
        return (None, false);
    }
    if thinking.show == Some(false) {
        out.set("display", "omitted");
    }
    (Some(out), true)
}

/// What Claude takes for its temperature, `top_p` and `top_k`: it refuses them beside thinking.
pub(super) fn write_sampling(request: &Request, thinks: bool, losses: &mut Losses) -> [Option<Value>; 3] {
    let sampling = &request.sampling;
    let mut given = [&sampling.temperature, &sampling.top_p, &sampling.top_k].map(|number| number.clone());
    if let Some(temperature) = given[0].as_mut().filter(|t| t.as_f64().is_some_and(|t| t > 1.0)) {
        losses.add("temperature", "Claude's ends at 1");
        *temperature = 1.into();
    }
    let fits = |key: &str, number: &Number| match key {
        "temperature" => number.as_f64() == Some(1.0),
        "top_p" => number.as_f64().is_some_and(|p| p >= 0.95),
        _ => false,
    };
    for (key, given) in ["temperature", "top_p", "top_k"].into_iter().zip(&mut given) {
        if thinks && given.as_ref().is_some_and(|number| !fits(key, number)) {
            losses.add(key, "Claude does not take it beside thinking");
            *given = None;
        }
    }
    given.map(|number| number.map(Value::Number))
}

/// The effort as Claude's models spell it, unless it has become a budget.
pub(super) fn write_effort<'a>(thinking: &'a Thinking, options: &Options) -> Option<&'a str> {
    match thinking.effort.as_deref()? {
        _ if options.thinking_budget => None,
        "none" => None,
        "minimal" => Some("low"),
        effort => Some(effort),
    }
}

/// The tool that stands for a JSON answer. It must be forced, which neither thinking nor tools of the client's go with.
pub(super) fn json_tool(format: &Format, request: &Request, thinks: bool, losses: &mut Losses) -> Option<Tool> {
    let (schema, description) = match format {
        Format::Text => return None,
        Format::Json => (Object::typed("object").into(), None),
        Format::Schema { schema, description, .. } => (schema.clone(), description.clone()),
    };
    if thinks || !request.tools.is_empty() {
        losses.add("response_format", "the model has no JSON mode beside thinking or tools");
        return None;
    }
    let description = description.or_else(|| Some("Gives the answer.".to_owned()));
    Some(Tool { name: JSON_TOOL.to_owned(), description, schema: Some(schema), strict: None, cache: None })
}

/// Ids hold letters, digits, `_` and `-` alone; others come from providers of other dialects.
pub(super) fn tool_id(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect()
}
