//! What Claude's models want alike at Anthropic and at Bedrock: thinking, effort, a forced tool for JSON, plain ids.
//!
//! Rules: an effort is written as such unless the options say the model takes a budget; the forced tool stands alone.

use super::chat::{Budget, Format, Request, Thinking, Tool};
use super::fields::Object;
use super::{Losses, Options, JSON_TOOL};

/// `thinking` of Claude's, at Anthropic and at Bedrock.
pub(super) fn write_thinking(thinking: &Thinking, options: &Options) -> Option<Object> {
    let none = thinking.effort.as_deref() == Some("none");
    let mut out = match (thinking.tokens(options.thinking_budget), thinking.budget) {
        (Some(budget), _) => {
            let mut out = Object::typed("enabled");
            out.set("budget_tokens", budget.max(1024));
            out
        }
        (None, Some(Budget::Off)) => return Some(Object::typed("disabled")),
        (None, Some(_)) => Object::typed("adaptive"),
        (None, None) if none => return Some(Object::typed("disabled")),
        (None, None) if thinking.effort.is_some() => Object::typed("adaptive"),
        (None, None) => return None,
    };
    if thinking.show == Some(false) {
        out.set("display", "omitted");
    }
    Some(out)
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
