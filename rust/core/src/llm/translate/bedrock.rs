//! Bedrock `converse`: requests and whole answers.
//!
//! Rules: every value of a union is an object with one member, named by its kind; a cache point is a block of its own
//! behind what it covers; turns alternate. What Claude's models take beyond converse (`thinking`, `top_k`) stands in
//! `additionalModelRequestFields`. The model's name and whether to stream stand in the path, never in the body.

use serde_json::Value;

use super::chat::{
    alternate, Answer, Budget, Cache, Call, Candidate, Content, Format, Kind, Media, Origin, Part, Request, Role, Seal,
    Source, Stop, Thought, Tool, ToolChoice, ToolResult, Turn,
};
use super::claude::{self, json_tool, tool_id, write_effort, write_thinking};
use super::fields::{arguments, Fields, Object};
use super::openai;
use super::{media, shape, Losses, Options, Refused};
use crate::llm::{Dialect, Usage};

/// Longest id of a tool call.
const ID: usize = 64;
/// What both OpenAI and Bedrock call a service tier.
const TIERS: [&str; 3] = ["default", "flex", "priority"];

pub(super) fn read_request(body: &Value, losses: &mut Losses) -> Result<Request, Refused> {
    let mut fields = Fields::of(body);
    if !body.is_object() {
        return Err(shape("", "an object"));
    }
    let messages = fields.any("messages").and_then(Value::as_array).ok_or_else(|| shape("messages", "a list"))?;
    let mut request = Request { model: fields.string("modelId"), ..Request::default() };
    request.system = read_blocks(fields.list("system"), "system", losses);
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages[{index}]");
        let mut message = Fields::of(message);
        let role = match message.text("role") {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            _ => return Err(shape(format!("{path}.role"), "user or assistant")),
        };
        let parts = read_blocks(message.list("content"), &format!("{path}.content"), losses);
        message.finish(&path, losses);
        request.turns.push(Turn { role, parts, name: None });
    }
    let mut config = fields.inner("inferenceConfig");
    request.sampling.max_tokens = config.count("maxTokens");
    request.sampling.temperature = config.number("temperature");
    request.sampling.top_p = config.number("topP");
    request.sampling.stop = config.texts("stopSequences");
    config.finish("inferenceConfig", losses);
    let mut more = fields.inner("additionalModelRequestFields");
    request.sampling.top_k = more.number("top_k");
    let mut thinking = more.inner("thinking");
    request.thinking.budget = match thinking.text("type") {
        Some("enabled") => thinking.count("budget_tokens").map(Budget::Tokens),
        Some("adaptive") => Some(Budget::Adaptive),
        Some("disabled") => Some(Budget::Off),
        _ => None,
    };
    request.thinking.show = match thinking.text("display") {
        Some(display) => Some(display != "omitted"),
        None => matches!(request.thinking.budget, Some(Budget::Tokens(_) | Budget::Adaptive)).then_some(true),
    };
    more.finish("additionalModelRequestFields", losses);
    let mut output = fields.inner("outputConfig");
    request.thinking.effort = output.string("effort");
    request.format = read_format(output.inner("textFormat"));
    output.finish("outputConfig", losses);
    read_tools(fields.inner("toolConfig"), &mut request, losses);
    if let Some(Value::Object(metadata)) = fields.object("requestMetadata") {
        request.metadata.clone_from(metadata);
    }
    match fields.inner("serviceTier").text("type") {
        Some(tier) if TIERS.contains(&tier) => {
            request.openai.insert("service_tier".to_owned(), tier.into());
        }
        Some(_) => losses.add("serviceTier", "known to Bedrock alone"),
        None => {}
    }
    fields.finish("", losses);
    Ok(request)
}

fn read_format(mut format: Fields<'_>) -> Option<Format> {
    let mut inner = format.inner("structure");
    let mut schema = inner.inner("jsonSchema");
    let text = schema.text("schema")?;
    Some(Format::Schema {
        name: schema.string("name"),
        description: schema.string("description"),
        schema: serde_json::from_str(text).ok()?,
        strict: None,
    })
}

fn read_tools(mut config: Fields<'_>, request: &mut Request, losses: &mut Losses) {
    for (index, tool) in config.list("tools").iter().enumerate() {
        let path = format!("toolConfig.tools[{index}]");
        let mut tool = Fields::of(tool);
        if tool.has("cachePoint") {
            let cache = read_cache_point(&mut tool);
            if let Some(last) = request.tools.last_mut() {
                last.cache = Some(cache);
            }
            continue;
        }
        let mut spec = tool.inner("toolSpec");
        if let Some(name) = spec.string("name") {
            request.tools.push(Tool {
                name,
                description: spec.string("description"),
                schema: spec.inner("inputSchema").any("json").cloned(),
                strict: spec.flag("strict"),
                cache: None,
            });
        }
        spec.finish(&format!("{path}.toolSpec"), losses);
        tool.finish(&path, losses);
    }
    let mut choice = config.inner("toolChoice");
    request.tool_choice = if choice.any("auto").is_some() {
        Some(ToolChoice::Auto)
    } else if choice.any("any").is_some() {
        Some(ToolChoice::Any)
    } else {
        choice.inner("tool").string("name").map(ToolChoice::Tool)
    };
    config.finish("toolConfig", losses);
}

fn read_cache_point(fields: &mut Fields<'_>) -> Cache {
    Cache { ttl: fields.inner("cachePoint").string("ttl") }
}

fn read_blocks(list: &[Value], path: &str, losses: &mut Losses) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::with_capacity(list.len());
    for (index, block) in list.iter().enumerate() {
        let at = format!("{path}[{index}]");
        let mut fields = Fields::of(block);
        if fields.has("cachePoint") {
            let cache = read_cache_point(&mut fields);
            match parts.last_mut() {
                Some(last) => last.cache = Some(cache),
                None => losses.add(at, "a cache point behind nothing"),
            }
            continue;
        }
        match read_block(&mut fields, &at, losses) {
            Some(content) => {
                parts.push(content.into());
                fields.finish(&at, losses);
            }
            None => losses.add(at, "a kind of block only Bedrock knows"),
        }
    }
    parts
}

fn read_block(fields: &mut Fields<'_>, path: &str, losses: &mut Losses) -> Option<Content> {
    if let Some(text) = fields.string("text") {
        return Some(Content::Text(text));
    }
    if let Some(json) = fields.any("json") {
        return Some(Content::Text(json.to_string()));
    }
    if fields.has("toolUse") {
        let mut call = fields.inner("toolUse");
        let arguments = call.any("input").map(Value::to_string).unwrap_or_default();
        return Some(Content::Call(Call { id: call.string("toolUseId")?, name: call.string("name")?, arguments }));
    }
    if fields.has("toolResult") {
        let mut result = fields.inner("toolResult");
        return Some(Content::Result(ToolResult {
            id: result.string("toolUseId")?,
            name: None,
            content: read_blocks(result.list("content"), &format!("{path}.toolResult.content"), losses),
            error: result.text("status") == Some("error"),
        }));
    }
    if fields.has("reasoningContent") {
        let mut reasoning = fields.inner("reasoningContent");
        if let Some(data) = reasoning.text("redactedContent") {
            return Some(Content::Thought(Thought { seal: Some(read_redacted(data)), ..Thought::default() }));
        }
        let mut text = reasoning.inner("reasoningText");
        let seal = text.text("signature").map(|signature| Seal::read(Origin::Anthropic, signature));
        return Some(Content::Thought(Thought { text: text.string("text")?, seal }));
    }
    if fields.has("citationsContent") {
        losses.add(format!("{path}.citationsContent.citations"), "citations are not translated");
        let mut cited = fields.inner("citationsContent");
        let texts = cited.list("content").iter().filter_map(|part| part.get("text")?.as_str());
        return Some(Content::Text(texts.collect()));
    }
    let kinds = [Kind::Image, Kind::Document, Kind::Audio, Kind::Video];
    let kind = kinds.into_iter().find(|kind| fields.has(kind.name()))?;
    let mut inner = fields.inner(kind.name());
    let media_type = inner.text("format").and_then(|format| match (kind, format) {
        (Kind::Audio, "mp4") => Some("audio/mp4"),
        (Kind::Audio, "webm") => Some("audio/webm"),
        _ => media::type_of(format),
    });
    let mut source = inner.inner("source");
    let source = match (source.string("bytes"), source.string("text")) {
        (Some(data), _) => media::plain_text(kind, media_type.unwrap_or(""), &data).unwrap_or(Source::Base64(data)),
        (None, Some(text)) => Source::Text(text),
        (None, None) => Source::Url(source.inner("s3Location").string("uri")?),
    };
    let media_type = media_type.filter(|_| !matches!(source, Source::Text(_))).map(str::to_owned);
    Some(Content::Media(Media { kind, source, media_type, name: inner.string("name"), detail: None }))
}

/// Bytes on Bedrock's wire are base64; those of another dialect's seal are its marked text.
pub(super) fn read_redacted(data: &str) -> Seal {
    let marked = data.starts_with("cHlnYXRl").then(|| media::decode_text(data)).flatten();
    marked.map_or_else(|| Seal::new(Origin::Redacted, data), |marked| Seal::read(Origin::Redacted, &marked))
}

pub(super) fn write_redacted(seal: &Seal) -> String {
    match seal.origin {
        Origin::Redacted => seal.value.clone(),
        _ => media::encode(seal.write(Origin::Redacted).as_ref()),
    }
}

pub(super) fn write_request(request: &Request, options: &Options, losses: &mut Losses) -> Value {
    let mut out = Object::new();
    lose(request, losses);
    let mut system: Vec<&Part> = request.system.iter().collect();
    for (index, turn) in request.turns.iter().enumerate().filter(|(_, turn)| turn.role == Role::System) {
        losses.add(format!("messages[{index}]"), "a later system message moved to the system prompt");
        system.extend(&turn.parts);
    }
    out.many("system", write_blocks(system.into_iter(), "system", false, losses));
    let mut messages: Vec<Value> = Vec::with_capacity(request.turns.len());
    for (index, (role, parts)) in alternate(&request.turns).into_iter().enumerate() {
        let path = format!("messages[{index}].content");
        let content = write_blocks(parts.into_iter(), &path, false, losses);
        if content.is_empty() {
            losses.add(format!("messages[{index}]"), "an empty message is not taken");
            continue;
        }
        let mut message = Object::new();
        message.set("role", if role == Role::User { "user" } else { "assistant" }).set("content", content);
        messages.push(message.into());
    }
    out.set("messages", messages);
    let sampling = &request.sampling;
    let (thinking, thinks) = write_thinking(request, options, losses);
    let [temperature, top_p, top_k] = claude::write_sampling(request, thinks, losses);
    let mut config = Object::new();
    let budget = request.thinking.tokens(options.thinking_budget).unwrap_or(0);
    let limit = match sampling.max_tokens {
        None if budget > 0 => Some(budget.saturating_add(options.max_tokens)),
        Some(limit) if limit <= budget => Some(budget.saturating_add(options.max_tokens)),
        limit => limit,
    };
    config.maybe("maxTokens", limit);
    config.maybe("temperature", temperature).maybe("topP", top_p);
    config.many("stopSequences", sampling.stop.iter().map(|stop| stop.as_str().into()).collect());
    out.filled("inferenceConfig", config);
    let mut more = Object::new();
    more.maybe("thinking", thinking).maybe("top_k", top_k);
    out.filled("additionalModelRequestFields", more);
    let mut output = Object::new();
    let mut by_tool = None;
    match &request.format {
        Some(Format::Schema { name, description, schema, .. }) if !options.schema_by_tool => {
            output.set("textFormat", write_format(name.as_deref(), description.as_deref(), schema));
        }
        Some(format) => by_tool = json_tool(format, request, thinks, losses),
        None => {}
    }
    output.maybe("effort", write_effort(&request.thinking, options));
    out.filled("outputConfig", output);
    write_tools(request, by_tool, &mut out, losses);
    if !request.metadata.is_empty() {
        out.set("requestMetadata", request.metadata.clone());
    }
    if let Some(tier) = request.openai.get("service_tier").and_then(Value::as_str).filter(|tier| TIERS.contains(tier)) {
        out.set("serviceTier", Object::typed(tier));
    }
    out.into()
}

fn lose(request: &Request, losses: &mut Losses) {
    let tier = request.openai.get("service_tier").and_then(Value::as_str);
    let known: &[&str] = if tier.is_some_and(|tier| TIERS.contains(&tier)) { &["service_tier"] } else { &[] };
    openai::lose_shared(request, known, losses);
    openai::lose_penalties(&request.sampling, "Bedrock", losses);
    if request.sampling.logprobs == Some(true) || request.sampling.top_logprobs.is_some_and(|n| n > 0) {
        losses.add("logprobs", "Bedrock has none");
    }
    if request.user.is_some() {
        losses.add("user", "Bedrock takes no user");
    }
    if request.parallel_tools == Some(false) {
        losses.add("parallel_tool_calls", "Bedrock cannot forbid parallel calls");
    }
}

fn write_format(name: Option<&str>, description: Option<&str>, schema: &Value) -> Object {
    let (mut inner, mut structure, mut out) = (Object::new(), Object::new(), Object::typed("json_schema"));
    inner.set("schema", schema.to_string()).maybe("name", name).maybe("description", description);
    structure.set("jsonSchema", inner);
    out.set("structure", structure);
    out
}

/// A value of a union.
fn only(key: &str, value: impl Into<Value>) -> Value {
    let mut out = Object::new();
    out.set(key, value);
    out.into()
}

fn cache_point(cache: &Cache) -> Value {
    let mut point = Object::typed("default");
    point.maybe("ttl", cache.ttl.clone());
    only("cachePoint", point)
}

/// Blocks of one message; `answer` takes thoughts whoever made them, a request Claude's alone.
fn write_blocks<'a>(
    parts: impl Iterator<Item = &'a Part>,
    path: &str,
    answer: bool,
    losses: &mut Losses,
) -> Vec<Value> {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (index, part) in parts.enumerate() {
        let at = format!("{path}[{index}]");
        let block = match &part.content {
            Content::Text(text) | Content::Refusal(text) if text.is_empty() => continue,
            Content::Text(text) | Content::Refusal(text) => only("text", text.as_str()),
            Content::Media(media) => match write_media(media, &at, index, losses) {
                Some(block) => block,
                None => continue,
            },
            Content::Call(call) => {
                let mut inner = Object::new();
                inner.set("toolUseId", short_id(&call.id)).set("name", call.name.as_str());
                inner.set("input", arguments(&call.arguments, &format!("{at}.input"), losses));
                only("toolUse", inner)
            }
            Content::Result(result) => {
                let mut inner = Object::new();
                let path = format!("{at}.toolResult.content");
                let mut content = write_blocks(result.content.iter(), &path, answer, losses);
                if content.is_empty() {
                    content.push(only("text", " "));
                }
                inner.set("toolUseId", short_id(&result.id)).set("content", content);
                inner.set("status", if result.error { "error" } else { "success" });
                only("toolResult", inner)
            }
            Content::Thought(thought) => {
                let own = matches!(&thought.seal, Some(Seal { origin: Origin::Anthropic | Origin::Redacted, .. }));
                if !own && !answer {
                    losses.add(at, "a thought Claude did not have is not taken");
                    continue;
                }
                write_thought(thought)
            }
        };
        let list = if matches!(part.content, Content::Result(_)) { &mut first } else { &mut rest };
        list.push(block);
        list.extend(part.cache.as_ref().map(cache_point));
    }
    first.append(&mut rest);
    first
}

fn write_thought(thought: &Thought) -> Value {
    match &thought.seal {
        Some(seal) if thought.text.is_empty() && seal.origin != Origin::Anthropic => {
            only("reasoningContent", only("redactedContent", write_redacted(seal)))
        }
        seal => {
            let mut text = Object::new();
            text.set("text", thought.text.as_str());
            text.maybe("signature", seal.as_ref().map(|seal| seal.write(Origin::Anthropic).into_owned()));
            only("reasoningContent", only("reasoningText", text))
        }
    }
}

/// Ids end at 64 bytes; a longer one gives way to its digest, the same for the call and its result.
fn short_id(id: &str) -> String {
    use sha2::{Digest, Sha256};
    if id.len() <= ID {
        return tool_id(id);
    }
    format!("call_{}", hex::encode(&Sha256::digest(id)[..16]))
}

fn write_media(media: &Media, path: &str, index: usize, losses: &mut Losses) -> Option<Value> {
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        losses.add(format!("{path}.detail"), "Bedrock has no level of detail");
    }
    let source = match &media.source {
        Source::Base64(data) => only("bytes", data.as_str()),
        Source::Text(text) if media.kind == Kind::Document => only("text", text.as_str()),
        Source::Url(url) if url.starts_with("s3://") => only("s3Location", only("uri", url.as_str())),
        _ => {
            losses.add(path, "Bedrock fetches nothing but from S3");
            return None;
        }
    };
    let by_name = media.name.as_deref().and_then(media::type_by_name).and_then(media::format_of);
    let format = media.media_type.as_deref().and_then(media::format_of).or(by_name).unwrap_or(match &media.source {
        Source::Text(_) => "txt",
        _ if media.kind == Kind::Document => "pdf",
        _ if media.kind == Kind::Image => "png",
        _ if media.kind == Kind::Audio => "wav",
        _ => "mp4",
    });
    let mut inner = Object::new();
    inner.set("format", format);
    if media.kind == Kind::Document {
        // A name is required, of few characters, and each once in a request.
        let name = media.name.as_deref().map(document_name).filter(|name| !name.is_empty());
        inner.set("name", name.unwrap_or_else(|| format!("document {}", index + 1)));
    }
    inner.set("source", source);
    Some(only(media.kind.name(), inner))
}

fn document_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-()[] ".contains(c);
    name.chars().map(|c| if fits(c) { c } else { '-' }).collect()
}

fn write_tools(request: &Request, by_tool: Option<Tool>, out: &mut Object, losses: &mut Losses) {
    let turns = request.turns.iter().flat_map(|turn| &turn.parts);
    let mut history = turns.map(|part| &part.content).filter(|c| matches!(c, Content::Call(_) | Content::Result(_)));
    if request.tool_choice == Some(ToolChoice::None) {
        if history.next().is_none() {
            // Without calls in the history they can be left out, which says the same.
            return;
        }
        losses.add("tool_choice", "Bedrock cannot forbid tools");
    }
    let mut tools = Vec::with_capacity(request.tools.len());
    for tool in request.tools.iter().chain(by_tool.as_ref()) {
        let mut spec = Object::new();
        spec.set("name", tool.name.as_str()).maybe("description", tool.description.clone());
        let schema = tool.schema.clone().unwrap_or_else(|| Object::typed("object").into());
        spec.set("inputSchema", only("json", schema)).maybe("strict", tool.strict);
        tools.push(only("toolSpec", spec));
        tools.extend(tool.cache.as_ref().map(cache_point));
    }
    if tools.is_empty() {
        return;
    }
    let mut config = Object::new();
    config.set("tools", tools);
    let empty = || Value::from(Object::new());
    let forced = by_tool.map(|tool| ToolChoice::Tool(tool.name));
    let choice = match forced.as_ref().or(request.tool_choice.as_ref()) {
        None | Some(ToolChoice::None) => None,
        Some(ToolChoice::Auto) => Some(only("auto", empty())),
        Some(ToolChoice::Any) => Some(only("any", empty())),
        Some(ToolChoice::Tool(name)) => Some(only("tool", only("name", name.as_str()))),
        Some(ToolChoice::Allowed { must, names }) => {
            losses.add("tool_choice", "Bedrock cannot allow some tools alone");
            match names.as_slice() {
                [one] if *must => Some(only("tool", only("name", one.as_str()))),
                _ => Some(only(if *must { "any" } else { "auto" }, empty())),
            }
        }
    };
    config.maybe("toolChoice", choice);
    out.set("toolConfig", config);
}

pub(super) fn read_answer(body: &Value, losses: &mut Losses) -> Result<Answer, Refused> {
    let mut fields = Fields::of(body);
    let mut message = fields.inner("output").inner("message");
    if !message.has("content") {
        return Err(shape("output.message.content", "a list"));
    }
    let candidate = Candidate {
        parts: read_blocks(message.list("content"), "output.message.content", losses),
        stop: fields.text("stopReason").map(read_stop),
        ..Candidate::default()
    };
    let usage = fields.any("usage").and_then(|usage| Usage::read(Dialect::Bedrock, usage));
    Ok(Answer { candidates: vec![candidate], usage, ..Answer::default() })
}

pub(super) fn read_stop(reason: &str) -> Stop {
    match reason {
        "max_tokens" => Stop::Length,
        "stop_sequence" => Stop::Sequence,
        "tool_use" => Stop::Tool,
        "guardrail_intervened" | "content_filtered" => Stop::Filter,
        "malformed_model_output" | "malformed_tool_use" => Stop::Malformed,
        "model_context_window_exceeded" => Stop::Context,
        _ => Stop::End,
    }
}

pub(super) fn write_stop(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Pause => "end_turn",
        Stop::Length => "max_tokens",
        Stop::Sequence => "stop_sequence",
        Stop::Tool => "tool_use",
        Stop::Filter | Stop::Refusal => "content_filtered",
        Stop::Malformed => "malformed_model_output",
        Stop::Context => "model_context_window_exceeded",
    }
}

pub(super) fn write_answer(answer: &Answer, losses: &mut Losses) -> Value {
    let empty = Candidate::default();
    let candidate = answer.candidates.first().unwrap_or(&empty);
    if answer.candidates.len() > 1 {
        losses.add("choices[1]", "Bedrock has one candidate");
    }
    if !candidate.logprobs.is_empty() {
        losses.add("choices[0].logprobs", "Bedrock has none");
    }
    let mut message = Object::new();
    let content = write_blocks(candidate.parts.iter(), "output.message.content", true, losses);
    message.set("role", "assistant").set("content", content);
    let mut out = Object::new();
    out.set("output", only("message", message));
    out.set("stopReason", write_stop(candidate.stop.unwrap_or(Stop::End)));
    out.set("usage", answer.usage.unwrap_or_default().write(Dialect::Bedrock));
    out.set("metrics", only("latencyMs", 0));
    out.into()
}
