//! OpenAI responses: requests and whole answers.
//!
//! Rules: `instructions` and leading system items are the system prompt; consecutive items of the assistant (reasoning,
//! calls, messages) are one turn. What needs OpenAI's own store (`previous_response_id`, `conversation`, item
//! references) cannot be translated and is a loss. Written requests set `store` to false unless told otherwise.

use serde_json::Value;

use super::chat::{
    Answer, Call, Candidate, Content, Format, Kind, Media, Origin, Part, Request, Role, Seal, Source, Stop, Thought,
    Tool, ToolChoice, ToolResult, Turn,
};
use super::fields::{Fields, Object};
use super::media;
use super::openai::{self, read_logprobs, write_logprobs};
use super::{shape, Context, Losses, Refused};
use crate::llm::{Dialect, Usage};

const ENCRYPTED: &str = "reasoning.encrypted_content";
const LOGPROBS: &str = "message.output_text.logprobs";

pub(super) fn read_request(body: &Value, losses: &mut Losses) -> Result<Request, Refused> {
    let mut fields = Fields::of(body);
    let mut request = Request::default();
    if !body.is_object() {
        return Err(shape("", "an object"));
    }
    openai::read_shared(&mut fields, &mut request);
    if let Some(text) = fields.string("instructions") {
        request.system.push(Content::Text(text).into());
    }
    match fields.any("input") {
        Some(Value::String(text)) => push(&mut request, Role::User, vec![Content::Text(text.clone()).into()]),
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                read_item(&mut request, item, &format!("input[{index}]"), losses)?;
            }
        }
        _ => return Err(shape("input", "a string or a list")),
    }
    request.sampling.max_tokens = fields.count("max_output_tokens");
    let mut reasoning = fields.inner("reasoning");
    request.thinking.effort = reasoning.string("effort");
    request.thinking.summary = reasoning.string("summary").or_else(|| reasoning.string("generate_summary"));
    request.thinking.show = request.thinking.summary.is_some().then_some(true);
    reasoning.finish("reasoning", losses);
    for (index, include) in fields.list("include").iter().enumerate() {
        match include.as_str() {
            Some(ENCRYPTED) => request.thinking.encrypted = true,
            Some(LOGPROBS) => request.sampling.logprobs = Some(true),
            _ => losses.add(format!("include[{index}]"), "not to be had from another API"),
        }
    }
    let mut text = fields.inner("text");
    if let Some(verbosity) = text.any("verbosity") {
        request.openai.insert("verbosity".to_owned(), verbosity.clone());
    }
    request.format = text.any("format").and_then(|format| read_format(format, losses));
    text.finish("text", losses);
    read_tools(&mut fields, &mut request, losses);
    if fields.text("truncation") == Some("disabled") || fields.flag("background") == Some(false) {
        fields.skip(&["truncation", "background"]);
    }
    fields.skip(&["stream_options"]);
    for stored in ["previous_response_id", "conversation", "prompt"] {
        if fields.any(stored).is_some() {
            losses.add(stored, "kept by OpenAI, and unknown to another API");
        }
    }
    fields.finish("", losses);
    Ok(request)
}

/// Appends to the last turn when the same side goes on; messages of the user stay apart.
fn push(request: &mut Request, role: Role, mut parts: Vec<Part>) {
    match request.turns.last_mut() {
        Some(turn) if role == Role::Assistant && turn.role == role => turn.parts.append(&mut parts),
        _ => request.turns.push(Turn { role, parts, name: None }),
    }
}

fn read_item(request: &mut Request, item: &Value, path: &str, losses: &mut Losses) -> Result<(), Refused> {
    let mut fields = Fields::of(item);
    match fields.text("type").unwrap_or("message") {
        "message" => {
            let role = match fields.text("role") {
                Some("user") => Role::User,
                Some("assistant") => Role::Assistant,
                Some("system" | "developer") => Role::System,
                _ => return Err(shape(format!("{path}.role"), "user, assistant, system or developer")),
            };
            let mut parts = read_content(fields.any("content"), &format!("{path}.content"), losses);
            if role == Role::System && request.turns.is_empty() {
                request.system.append(&mut parts);
            } else {
                push(request, role, parts);
            }
            fields.skip(&["id", "status", "phase"]);
        }
        "function_call" => {
            let call = read_call(&mut fields);
            push(request, Role::Assistant, vec![Content::Call(call).into()]);
        }
        "function_call_output" => {
            let id = fields.string("call_id").unwrap_or_default();
            let content = read_content(fields.any("output"), &format!("{path}.output"), losses);
            fields.skip(&["id", "status"]);
            let result = ToolResult { id, name: None, content, error: false };
            push(request, Role::User, vec![Content::Result(result).into()]);
        }
        "reasoning" => {
            if let Some(thought) = read_reasoning(&mut fields) {
                push(request, Role::Assistant, vec![Content::Thought(thought).into()]);
            }
        }
        _ => {
            losses.add(path, "a kind of item only OpenAI knows");
            return Ok(());
        }
    }
    fields.finish(path, losses);
    Ok(())
}

fn read_call(fields: &mut Fields<'_>) -> Call {
    fields.skip(&["id", "status"]);
    Call {
        id: fields.string("call_id").unwrap_or_default(),
        name: fields.string("name").unwrap_or_default(),
        arguments: fields.string("arguments").unwrap_or_default(),
    }
}

/// `None` for an item that neither shows nor seals anything.
fn read_reasoning(fields: &mut Fields<'_>) -> Option<Thought> {
    fields.skip(&["status"]);
    let mut text = String::new();
    let lists = [fields.list("summary"), fields.list("content")];
    for part in lists.into_iter().flatten().filter_map(|part| part.get("text")?.as_str()) {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(part);
    }
    let id = fields.text("id");
    let seal = fields.text("encrypted_content").map(|value| read_seal(id, value));
    (!text.is_empty() || seal.is_some()).then_some(Thought { text, seal })
}

/// OpenAI checks the item's id together with its seal, so that travels inside.
pub(super) fn read_seal(id: Option<&str>, value: &str) -> Seal {
    match Seal::read(Origin::OpenAi, value) {
        bare if bare.value == value => Seal::new(Origin::OpenAi, format!("{}:{value}", id.unwrap_or_default())),
        marked => marked,
    }
}

fn read_content(content: Option<&Value>, path: &str, losses: &mut Losses) -> Vec<Part> {
    match content {
        Some(Value::String(text)) => vec![Content::Text(text.clone()).into()],
        Some(Value::Array(list)) => {
            let parts = list.iter().enumerate();
            parts.filter_map(|(index, part)| read_part(part, &format!("{path}[{index}]"), losses)).collect()
        }
        _ => Vec::new(),
    }
}

fn read_part(part: &Value, path: &str, losses: &mut Losses) -> Option<Part> {
    let mut fields = Fields::of(part);
    let content = match fields.text("type")? {
        "input_text" | "output_text" | "text" => {
            fields.skip(&["logprobs"]);
            if !fields.list("annotations").is_empty() {
                losses.add(format!("{path}.annotations"), "citations are not translated");
            }
            Content::Text(fields.string("text")?)
        }
        "refusal" => Content::Refusal(fields.string("refusal")?),
        kind @ ("input_image" | "input_file") => {
            let (kind, url, data) = match kind {
                "input_image" => (Kind::Image, "image_url", ""),
                _ => (Kind::Document, "file_url", "file_data"),
            };
            let file = fields.string("file_id");
            let url = fields.text(data).or_else(|| fields.text(url));
            let mut read = match (url, file) {
                (Some(url), _) => media::from_url(kind, url),
                (None, Some(id)) => {
                    Media { kind, source: Source::File(id), media_type: None, name: None, detail: None }
                }
                (None, None) => return None,
            };
            read.name = fields.string("filename");
            read.detail = fields.string("detail");
            Content::Media(read)
        }
        "input_audio" => {
            let mut audio = fields.inner("input_audio");
            let source = Source::Base64(audio.string("data")?);
            let media_type = audio.text("format").and_then(media::type_of).map(str::to_owned);
            Content::Media(Media { kind: Kind::Audio, source, media_type, name: None, detail: None })
        }
        _ => {
            losses.add(path, "a kind of content not known");
            return None;
        }
    };
    fields.finish(path, losses);
    Some(content.into())
}

fn read_tools(fields: &mut Fields<'_>, request: &mut Request, losses: &mut Losses) {
    for (index, tool) in fields.list("tools").iter().enumerate() {
        let path = format!("tools[{index}]");
        let mut tool = Fields::of(tool);
        let kind = tool.text("type");
        let Some(name) = tool.string("name").filter(|_| kind == Some("function")) else {
            losses.add(path, "only function tools are translated");
            continue;
        };
        request.tools.push(Tool {
            name,
            description: tool.string("description"),
            schema: tool.object("parameters").cloned(),
            strict: tool.flag("strict"),
            cache: None,
        });
        tool.finish(&path, losses);
    }
    request.tool_choice = match fields.any("tool_choice") {
        Some(Value::String(mode)) => match mode.as_str() {
            "auto" => Some(ToolChoice::Auto),
            "none" => Some(ToolChoice::None),
            "required" => Some(ToolChoice::Any),
            _ => None,
        },
        Some(choice) => {
            let mut choice = Fields::of(choice);
            match choice.text("type") {
                Some("function") => choice.string("name").map(ToolChoice::Tool),
                Some("allowed_tools") => {
                    let must = choice.text("mode") == Some("required");
                    let names = choice.list("tools").iter();
                    let names = names.filter_map(|tool| Fields::of(tool).string("name")).collect();
                    Some(ToolChoice::Allowed { must, names })
                }
                _ => {
                    losses.add("tool_choice", "only function tools are translated");
                    None
                }
            }
        }
        None => None,
    };
}

fn read_format(format: &Value, losses: &mut Losses) -> Option<Format> {
    let mut fields = Fields::of(format);
    match fields.text("type") {
        Some("text") => Some(Format::Text),
        Some("json_object") => Some(Format::Json),
        Some("json_schema") => Some(Format::Schema {
            name: fields.string("name"),
            description: fields.string("description"),
            strict: fields.flag("strict"),
            schema: fields.object("schema").cloned().unwrap_or_else(|| Object::new().into()),
        }),
        _ => {
            losses.add("text.format", "a format not known");
            None
        }
    }
}

pub(super) fn write_request(request: &Request, losses: &mut Losses) -> Value {
    let mut out = Object::new();
    openai::write_shared(request, &mut out);
    if !request.openai.contains_key("store") {
        // No other dialect's answers are kept by the provider.
        out.set("store", false);
    }
    openai::lose_foreign(request, losses);
    openai::lose_penalties(&request.sampling, "responses", losses);
    if !request.sampling.stop.is_empty() {
        losses.add("stop", "responses has no stop sequences");
    }
    let mut input = Vec::new();
    match request.system.as_slice() {
        [] => {}
        [Part { content: Content::Text(text), cache }] => {
            if cache.is_some() {
                losses.add("system.cache_control", "OpenAI caches prompts by itself");
            }
            out.set("instructions", text.as_str());
        }
        parts => write_message("system", parts.iter(), "system", &mut input, losses),
    }
    for (index, turn) in request.turns.iter().enumerate() {
        let path = format!("turns[{index}]");
        if turn.name.is_some() {
            losses.add(format!("{path}.name"), "responses has no names of participants");
        }
        write_turn(turn, &path, &mut input, losses);
    }
    out.set("input", input);
    out.maybe("max_output_tokens", request.sampling.max_tokens);
    out.maybe("top_logprobs", request.sampling.top_logprobs);
    let mut include = Vec::new();
    // Without a store thoughts come back only so.
    let thinks = request.thinking.effort.as_deref().is_some_and(|effort| effort != "none");
    if request.thinking.encrypted || thinks || request.thinking.budget.is_some() {
        include.push(ENCRYPTED.into());
    }
    if request.sampling.logprobs == Some(true) {
        include.push(LOGPROBS.into());
    }
    out.many("include", include);
    let mut reasoning = Object::new();
    reasoning.maybe("effort", openai::effort(&request.thinking, losses));
    let shown = request.thinking.show.unwrap_or(false).then_some("auto");
    reasoning.maybe("summary", request.thinking.summary.as_deref().or(shown));
    out.filled("reasoning", reasoning);
    let mut text = Object::new();
    text.maybe("format", request.format.as_ref().map(write_format));
    text.maybe("verbosity", request.openai.get("verbosity").cloned());
    out.filled("text", text);
    out.many("tools", request.tools.iter().map(write_tool).collect());
    out.maybe("tool_choice", request.tool_choice.as_ref().map(write_choice));
    out.into()
}

fn write_turn(turn: &Turn, path: &str, input: &mut Vec<Value>, losses: &mut Losses) {
    let role = match turn.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let mut said: Vec<&Part> = Vec::new();
    for (index, part) in turn.parts.iter().enumerate() {
        let at = format!("{path}.parts[{index}]");
        let item = match &part.content {
            Content::Text(_) | Content::Refusal(_) | Content::Media(_) => {
                said.push(part);
                continue;
            }
            Content::Call(call) => write_call(call),
            Content::Result(result) => write_output(result, &at, losses),
            Content::Thought(thought) => match write_reasoning(thought, &at, losses) {
                Some(item) => item,
                None => continue,
            },
        };
        write_message(role, said.drain(..), path, input, losses);
        input.push(item);
    }
    write_message(role, said.drain(..), path, input, losses);
}

fn write_message<'a>(
    role: &str,
    parts: impl ExactSizeIterator<Item = &'a Part>,
    path: &str,
    input: &mut Vec<Value>,
    losses: &mut Losses,
) {
    if parts.len() == 0 {
        return;
    }
    let text = if role == "assistant" { "output_text" } else { "input_text" };
    let parts = parts.enumerate();
    let content = parts.filter_map(|(index, part)| write_part(part, text, &format!("{path}[{index}]"), losses));
    let mut content: Vec<Value> = content.collect();
    let mut item = Object::typed("message");
    item.set("role", role);
    match content.as_mut_slice() {
        // Without the id and the status it once had, what the assistant said is a string.
        [one] if role == "assistant" && one["type"] == "output_text" => item.set("content", one["text"].take()),
        _ => item.set("content", content),
    };
    input.push(item.into());
}

fn write_part(part: &Part, text_type: &str, path: &str, losses: &mut Losses) -> Option<Value> {
    if part.cache.is_some() {
        losses.add(format!("{path}.cache_control"), "OpenAI caches prompts by itself");
    }
    let mut out = Object::new();
    match &part.content {
        Content::Text(text) => out.set("type", text_type).set("text", text.as_str()),
        Content::Refusal(text) => out.set("type", "refusal").set("refusal", text.as_str()),
        Content::Media(media) if text_type == "input_text" => return write_media(media, path, losses),
        _ => {
            losses.add(path, "has no place in this item");
            return None;
        }
    };
    Some(out.into())
}

fn write_media(media: &Media, path: &str, losses: &mut Losses) -> Option<Value> {
    let (kind, url_key) = match (media.kind, &media.source) {
        (Kind::Image, _) => ("input_image", "image_url"),
        (Kind::Document, Source::Url(_)) => ("input_file", "file_url"),
        (Kind::Document, _) => ("input_file", "file_data"),
        (Kind::Audio | Kind::Video, _) => {
            losses.add(path, format!("responses takes no such {}", media.kind.name()));
            return None;
        }
    };
    let mut out = Object::typed(kind);
    match &media.source {
        Source::File(id) => out.set("file_id", id.as_str()),
        _ => out.maybe(url_key, media::to_url(media)),
    };
    if kind == "input_image" {
        out.set("detail", media.detail.as_deref().unwrap_or("auto"));
    } else {
        let needed = url_key == "file_data" && !matches!(media.source, Source::File(_));
        out.maybe("filename", media.name.as_deref().or(needed.then_some("document")));
    }
    Some(out.into())
}

fn write_call(call: &Call) -> Value {
    let mut item = Object::typed("function_call");
    let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
    item.set("call_id", call.id.as_str()).set("name", call.name.as_str()).set("arguments", arguments);
    item.into()
}

fn write_output(result: &ToolResult, path: &str, losses: &mut Losses) -> Value {
    let mut item = Object::typed("function_call_output");
    item.set("call_id", result.id.as_str());
    match result.content.as_slice() {
        [] => item.set("output", ""),
        [Part { content: Content::Text(text), .. }] => item.set("output", text.as_str()),
        parts => {
            let parts = parts.iter().filter_map(|part| write_part(part, "input_text", path, losses));
            item.set("output", parts.collect::<Vec<Value>>())
        }
    };
    if result.error {
        losses.add(format!("{path}.is_error"), "responses cannot say so");
    }
    item.into()
}

/// A thought in a request. OpenAI takes back its own alone.
fn write_reasoning(thought: &Thought, path: &str, losses: &mut Losses) -> Option<Value> {
    let own = thought.seal.as_ref().filter(|seal| seal.origin == Origin::OpenAi);
    let Some((id, encrypted)) = own.and_then(|seal| seal.value.split_once(':')) else {
        losses.add(path, "a thought OpenAI did not have is not taken");
        return None;
    };
    let mut item = Object::typed("reasoning");
    item.set("id", id).set("summary", summary(&thought.text)).set("encrypted_content", encrypted);
    Some(item.into())
}

fn summary(text: &str) -> Vec<Value> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut part = Object::typed("summary_text");
    part.set("text", text);
    vec![part.into()]
}

fn write_tool(tool: &Tool) -> Value {
    let mut out = Object::typed("function");
    out.set("name", tool.name.as_str()).maybe("description", tool.description.clone());
    out.set("parameters", tool.schema.clone().unwrap_or(Value::Null));
    // Absent means strict here, and lax in every other dialect.
    out.set("strict", tool.strict.unwrap_or(false));
    out.into()
}

fn write_choice(choice: &ToolChoice) -> Value {
    let named = |name: &String| {
        let mut out = Object::typed("function");
        out.set("name", name.as_str());
        Value::from(out)
    };
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Any => "required".into(),
        ToolChoice::Tool(name) => named(name),
        ToolChoice::Allowed { must, names } => {
            let mut out = Object::typed("allowed_tools");
            out.set("mode", if *must { "required" } else { "auto" });
            out.set("tools", names.iter().map(named).collect::<Vec<Value>>());
            out.into()
        }
    }
}

fn write_format(format: &Format) -> Value {
    match format {
        Format::Text => Object::typed("text").into(),
        Format::Json => Object::typed("json_object").into(),
        Format::Schema { name, description, schema, strict } => {
            let mut out = Object::typed("json_schema");
            out.set("name", name.as_deref().unwrap_or("answer")).maybe("description", description.clone());
            out.set("schema", schema.clone()).maybe("strict", *strict);
            out.into()
        }
    }
}

pub(super) fn read_answer(body: &Value, losses: &mut Losses) -> Result<Answer, Refused> {
    let mut fields = Fields::of(body);
    let mut answer = Answer { id: fields.string("id"), model: fields.string("model"), ..Answer::default() };
    answer.created = fields.number("created_at").and_then(|at| at.as_f64()).map(|at| at as u64);
    answer.usage = fields.any("usage").and_then(|usage| Usage::read(Dialect::OpenAiResponses, usage));
    let output = fields.any("output").and_then(Value::as_array).ok_or_else(|| shape("output", "a list"))?;
    let mut candidate = Candidate::default();
    for (index, item) in output.iter().enumerate() {
        let path = format!("output[{index}]");
        let mut item = Fields::of(item);
        match item.text("type") {
            Some("message") => {
                let content = item.any("content");
                for part in content.and_then(Value::as_array).into_iter().flatten() {
                    candidate.logprobs.append(&mut read_logprobs(Fields::of(part).list("logprobs")));
                }
                candidate.parts.append(&mut read_content(content, &format!("{path}.content"), losses));
            }
            Some("function_call") => candidate.parts.push(Content::Call(read_call(&mut item)).into()),
            Some("reasoning") => candidate.parts.extend(read_reasoning(&mut item).map(|t| Content::Thought(t).into())),
            _ => losses.add(path, "a kind of item only OpenAI knows"),
        }
    }
    let reason = fields.inner("incomplete_details").text("reason");
    let calls = candidate.parts.iter().any(|part| matches!(part.content, Content::Call(_)));
    candidate.stop = Some(read_stop(fields.text("status").unwrap_or("completed"), reason, calls));
    answer.candidates.push(candidate);
    Ok(answer)
}

pub(super) fn read_stop(status: &str, reason: Option<&str>, calls: bool) -> Stop {
    match (status, reason) {
        ("incomplete", Some("content_filter")) => Stop::Filter,
        ("incomplete", _) => Stop::Length,
        _ if calls => Stop::Tool,
        _ => Stop::End,
    }
}

/// `incomplete_details.reason`, when the answer is not complete.
pub(super) fn incomplete(stop: Option<Stop>) -> Option<&'static str> {
    match stop {
        Some(Stop::Length | Stop::Context) => Some("max_output_tokens"),
        Some(Stop::Filter | Stop::Refusal) => Some("content_filter"),
        _ => None,
    }
}

pub(super) fn write_answer(answer: &Answer, context: &Context, losses: &mut Losses) -> Value {
    let empty = Candidate::default();
    let candidate = answer.candidates.first().unwrap_or(&empty);
    if answer.candidates.len() > 1 {
        losses.add("choices[1]", "responses has one candidate");
    }
    let mut output: Vec<Value> = Vec::new();
    let mut logprobs = Some(write_logprobs(&candidate.logprobs));
    let mut content: Vec<Value> = Vec::new();
    for part in &candidate.parts {
        match &part.content {
            Content::Text(text) => content.push(output_text(text, logprobs.take().unwrap_or_default())),
            Content::Refusal(text) => {
                let mut part = Object::typed("refusal");
                part.set("refusal", text.as_str());
                content.push(part.into());
            }
            Content::Call(call) => {
                flush(&mut content, &mut output, context);
                output.push(call_item(call, &context.id("fc_", output.len() + 1)));
            }
            Content::Thought(thought) => {
                flush(&mut content, &mut output, context);
                let id = context.id("rs_", output.len() + 1);
                output.push(thought_item(&thought.text, thought.seal.as_ref(), &id));
            }
            Content::Media(_) | Content::Result(_) => {
                losses.add(format!("output[{}]", output.len()), "an answer holds text and calls alone");
            }
        }
    }
    flush(&mut content, &mut output, context);
    let head = Head {
        id: answer.id.clone().unwrap_or_else(|| context.id("resp_", 0)),
        created: answer.created.unwrap_or(context.created),
        model: context.model(answer.model.as_deref()).to_owned(),
    };
    response(&head, Some(candidate.stop), output, answer.usage.as_ref())
}

fn flush(content: &mut Vec<Value>, output: &mut Vec<Value>, context: &Context) {
    if !content.is_empty() {
        let id = context.id("msg_", output.len() + 1);
        output.push(message_item(&id, "completed", std::mem::take(content)));
    }
}

pub(super) fn output_text(text: &str, logprobs: Vec<Value>) -> Value {
    let mut part = Object::typed("output_text");
    part.set("text", text).set("annotations", Vec::<Value>::new()).set("logprobs", logprobs);
    part.into()
}

pub(super) fn message_item(id: &str, status: &str, content: Vec<Value>) -> Value {
    let mut item = Object::typed("message");
    item.set("id", id).set("status", status).set("role", "assistant").set("content", content);
    item.into()
}

pub(super) fn call_item(call: &Call, id: &str) -> Value {
    let mut item = Object::typed("function_call");
    let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
    item.set("id", id).set("call_id", call.id.as_str()).set("name", call.name.as_str()).set("arguments", arguments);
    item.set("status", "completed");
    item.into()
}

/// The item of a thought in an answer. Its seal is marked even if it is OpenAI's: the item's id is not the one it has.
pub(super) fn thought_item(text: &str, seal: Option<&Seal>, id: &str) -> Value {
    let mut item = Object::typed("reasoning");
    item.set("id", id).set("summary", summary(text)).maybe("encrypted_content", seal.map(Seal::marked));
    item.into()
}

/// What every `response` object of a call says alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub id: String,
    pub created: u64,
    pub model: String,
}

/// The `response` object; `stop` is `None` while it is in progress.
pub(super) fn response(head: &Head, stop: Option<Option<Stop>>, output: Vec<Value>, usage: Option<&Usage>) -> Value {
    let reason = stop.and_then(incomplete);
    let status = match (stop, reason) {
        (None, _) => "in_progress",
        (_, Some(_)) => "incomplete",
        _ => "completed",
    };
    let details = reason.map(|reason| {
        let mut details = Object::new();
        details.set("reason", reason);
        Value::from(details)
    });
    let mut out = Object::new();
    out.set("id", head.id.as_str()).set("object", "response").set("created_at", head.created).set("status", status);
    out.set("error", Value::Null).set("incomplete_details", details.unwrap_or(Value::Null));
    out.set("instructions", Value::Null).set("metadata", Value::Object(Default::default()));
    out.set("model", head.model.as_str()).set("output", output);
    out.set("parallel_tool_calls", true).set("temperature", Value::Null).set("top_p", Value::Null);
    out.set("tool_choice", "auto").set("tools", Vec::<Value>::new());
    out.set("usage", usage.map_or(Value::Null, |usage| usage.write(Dialect::OpenAiResponses)));
    out.into()
}
