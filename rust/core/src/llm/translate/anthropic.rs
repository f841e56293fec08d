//! Anthropic messages: requests and whole answers.
//!
//! Rules: `max_tokens` is demanded, so one is written; turns alternate and results stand first in theirs; system messages
//! in mid-conversation move to the system prompt, which is a loss of place; a thought goes back only to whom can verify
//! it. Structured output is `output_config.format`, or a forced tool when the options say the model has none.

use serde_json::Value;

use super::chat::{
    alternate, Answer, Budget, Cache, Call, Candidate, Content, Format, Kind, Media, Origin, Part, Request, Role, Seal,
    Source, Stop, Thought, Tool, ToolChoice, ToolResult, Turn,
};
use super::claude::{self, json_tool, tool_id, write_effort, write_thinking};
use super::fields::{arguments, Fields, Object};
use super::media;
use super::openai;
use super::{shape, Context, Losses, Options, Refused};
use crate::llm::{Dialect, Usage};

pub(super) fn read_request(body: &Value, losses: &mut Losses) -> Result<Request, Refused> {
    let mut fields = Fields::of(body);
    if !body.is_object() {
        return Err(shape("", "an object"));
    }
    let messages = fields.any("messages").and_then(Value::as_array).ok_or_else(|| shape("messages", "a list"))?;
    let mut request = Request { model: fields.string("model"), ..Request::default() };
    request.system = read_content(fields.any("system"), "system", losses);
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages[{index}]");
        let mut message = Fields::of(message);
        let role = match message.text("role") {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            _ => return Err(shape(format!("{path}.role"), "user or assistant")),
        };
        let parts = read_content(message.any("content"), &format!("{path}.content"), losses);
        message.finish(&path, losses);
        request.turns.push(Turn { role, parts, name: None });
    }
    request.stream = fields.flag("stream").unwrap_or(false);
    request.sampling.max_tokens = fields.count("max_tokens");
    request.sampling.temperature = fields.number("temperature");
    request.sampling.top_p = fields.number("top_p");
    request.sampling.top_k = fields.number("top_k");
    request.sampling.stop = fields.texts("stop_sequences");
    let mut metadata = fields.inner("metadata");
    request.user = metadata.string("user_id");
    metadata.finish("metadata", losses);
    read_thinking(&mut fields, &mut request, losses);
    read_tools(&mut fields, &mut request, losses);
    fields.finish("", losses);
    Ok(request)
}

fn read_thinking(fields: &mut Fields<'_>, request: &mut Request, losses: &mut Losses) {
    let mut thinking = fields.inner("thinking");
    request.thinking.budget = match thinking.text("type") {
        Some("enabled") => thinking.count("budget_tokens").map(Budget::Tokens),
        Some("adaptive") => Some(Budget::Adaptive),
        Some("disabled") => Some(Budget::Off),
        _ => None,
    };
    request.thinking.show = match thinking.text("display") {
        Some("omitted") => Some(false),
        Some(_) => Some(true),
        // Thoughts come unless told otherwise.
        None => matches!(request.thinking.budget, Some(Budget::Tokens(_) | Budget::Adaptive)).then_some(true),
    };
    thinking.finish("thinking", losses);
    let mut output = fields.inner("output_config");
    request.thinking.effort = output.string("effort");
    if let Some(format) = output.object("format") {
        let schema = Fields::of(format).object("schema").cloned().unwrap_or_else(|| Object::new().into());
        request.format = Some(Format::Schema { name: None, description: None, schema, strict: Some(true) });
    }
    output.finish("output_config", losses);
}

fn read_tools(fields: &mut Fields<'_>, request: &mut Request, losses: &mut Losses) {
    for (index, tool) in fields.list("tools").iter().enumerate() {
        let path = format!("tools[{index}]");
        let mut tool = Fields::of(tool);
        if tool.text("type").is_some_and(|kind| kind != "custom") {
            losses.add(path, "a tool run by Anthropic is not translated");
            continue;
        }
        request.tools.push(Tool {
            name: tool.string("name").unwrap_or_default(),
            description: tool.string("description"),
            schema: tool.object("input_schema").cloned(),
            strict: tool.flag("strict"),
            cache: read_cache(&mut tool),
        });
        tool.finish(&path, losses);
    }
    let mut choice = fields.inner("tool_choice");
    request.tool_choice = match choice.text("type") {
        Some("auto") => Some(ToolChoice::Auto),
        Some("any") => Some(ToolChoice::Any),
        Some("none") => Some(ToolChoice::None),
        Some("tool") => choice.string("name").map(ToolChoice::Tool),
        _ => None,
    };
    request.parallel_tools = choice.flag("disable_parallel_tool_use").map(|disable| !disable);
    choice.finish("tool_choice", losses);
}

fn read_cache(fields: &mut Fields<'_>) -> Option<Cache> {
    let mut cache = fields.has("cache_control").then(|| fields.inner("cache_control"))?;
    Some(Cache { ttl: cache.string("ttl") })
}

fn read_content(content: Option<&Value>, path: &str, losses: &mut Losses) -> Vec<Part> {
    match content {
        Some(Value::String(text)) => vec![Content::Text(text.clone()).into()],
        Some(Value::Array(list)) => {
            let blocks = list.iter().enumerate();
            blocks.filter_map(|(index, block)| read_block(block, &format!("{path}[{index}]"), losses)).collect()
        }
        _ => Vec::new(),
    }
}

fn read_block(block: &Value, path: &str, losses: &mut Losses) -> Option<Part> {
    let mut fields = Fields::of(block);
    let cache = read_cache(&mut fields);
    let content = match fields.text("type")? {
        "text" => {
            if !fields.list("citations").is_empty() {
                losses.add(format!("{path}.citations"), "citations are not translated");
            }
            Content::Text(fields.string("text")?)
        }
        "image" => Content::Media(read_source(Kind::Image, fields.inner("source"))?),
        "document" => {
            let mut read = read_source(Kind::Document, fields.inner("source"))?;
            read.name = fields.string("title");
            if !fields.inner("citations").flag("enabled").unwrap_or(false) {
                fields.skip(&["citations"]);
            }
            Content::Media(read)
        }
        "tool_use" => {
            let input = fields.any("input").map(Value::to_string).unwrap_or_default();
            fields.skip(&["caller"]);
            Content::Call(Call { id: fields.string("id")?, name: fields.string("name")?, arguments: input })
        }
        "tool_result" => Content::Result(ToolResult {
            id: fields.string("tool_use_id")?,
            name: None,
            content: read_content(fields.any("content"), &format!("{path}.content"), losses),
            error: fields.flag("is_error").unwrap_or(false),
        }),
        "thinking" => {
            let signature = fields.text("signature").filter(|signature| !signature.is_empty());
            let seal = signature.map(|signature| Seal::read(Origin::Anthropic, signature));
            Content::Thought(Thought { text: fields.string("thinking")?, seal })
        }
        "redacted_thinking" => {
            let seal = Seal::read(Origin::Redacted, fields.text("data")?);
            Content::Thought(Thought { seal: Some(seal), ..Thought::default() })
        }
        _ => {
            losses.add(path, "a kind of block only Anthropic knows");
            return None;
        }
    };
    fields.finish(path, losses);
    Some(Part { content, cache })
}

fn read_source(kind: Kind, mut fields: Fields<'_>) -> Option<Media> {
    let media_type = fields.string("media_type");
    let source = match fields.text("type")? {
        "base64" => Source::Base64(fields.string("data")?),
        "text" => Source::Text(fields.string("data")?),
        "url" => Source::Url(fields.string("url")?),
        "file" => Source::File(fields.string("file_id")?),
        _ => return None,
    };
    Some(Media { kind, source, media_type, name: None, detail: None })
}

pub(super) fn write_request(request: &Request, options: &Options, losses: &mut Losses) -> Value {
    let mut out = Object::new();
    out.maybe("model", request.model.clone());
    lose(request, losses);
    let mut system = write_system(request, losses);
    let plain =
        |block: &Value| Some(block.get("text")?.as_str()?.to_owned()).filter(|_| block.get("cache_control").is_none());
    match system.as_mut_slice() {
        [] => {}
        [one] if plain(one).is_some() => {
            out.maybe("system", plain(one));
        }
        _ => {
            out.set("system", system);
        }
    }
    let mut messages: Vec<Value> = Vec::with_capacity(request.turns.len());
    for (index, (role, parts)) in alternate(&request.turns).into_iter().enumerate() {
        let content = write_blocks(parts.into_iter(), index, losses);
        if content.is_empty() {
            losses.add(format!("messages[{index}]"), "an empty message is not taken");
            continue;
        }
        let mut message = Object::new();
        message.set("role", if role == Role::User { "user" } else { "assistant" }).set("content", simplify(content));
        messages.push(message.into());
    }
    out.set("messages", messages);
    let (thinking, thinks) = write_thinking(request, options, losses);
    write_sampling(request, options, thinks, &mut out, losses);
    out.maybe("thinking", thinking);
    let by_tool = write_output_config(request, options, thinks, &mut out, losses);
    write_tools(request, by_tool, &mut out, losses);
    if let Some(user) = &request.user {
        let mut metadata = Object::new();
        metadata.set("user_id", user.as_str());
        out.set("metadata", metadata);
    }
    if request.stream {
        out.set("stream", true);
    }
    out.into()
}

fn lose(request: &Request, losses: &mut Losses) {
    openai::lose_shared(request, &[], losses);
    openai::lose_penalties(&request.sampling, "Anthropic", losses);
    if request.sampling.logprobs == Some(true) || request.sampling.top_logprobs.is_some_and(|n| n > 0) {
        losses.add("logprobs", "Anthropic has none");
    }
    if !request.metadata.is_empty() {
        losses.add("metadata", "Anthropic takes a user id alone");
    }
}

fn write_system(request: &Request, losses: &mut Losses) -> Vec<Value> {
    let late = request.turns.iter().enumerate().filter(|(_, turn)| turn.role == Role::System);
    let mut parts: Vec<&Part> = request.system.iter().collect();
    for (index, turn) in late {
        losses.add(format!("messages[{index}]"), "a later system message moved to the system prompt");
        parts.extend(&turn.parts);
    }
    let blocks = parts.iter().enumerate().filter_map(|(index, part)| match &part.content {
        Content::Text(text) if !text.is_empty() => Some(write_block(Object::typed("text"), "text", text, part)),
        Content::Text(_) => None,
        _ => {
            losses.add(format!("system[{index}]"), "a system prompt is text");
            None
        }
    });
    blocks.collect()
}

fn write_block(mut block: Object, key: &str, text: &str, part: &Part) -> Value {
    block.set(key, text).maybe("cache_control", part.cache.as_ref().map(write_cache));
    block.into()
}

fn write_cache(cache: &Cache) -> Value {
    let mut out = Object::typed("ephemeral");
    out.maybe("ttl", cache.ttl.clone());
    out.into()
}

/// One plain text is a string, as most clients write it.
fn simplify(mut content: Vec<Value>) -> Value {
    if let [Value::Object(block)] = content.as_mut_slice() {
        if block.len() == 2 {
            if let Some(text @ Value::String(_)) = block.get_mut("text") {
                return text.take();
            }
        }
    }
    Value::Array(content)
}

/// Blocks of one message; results of tools first, as Anthropic wants them.
fn write_blocks<'a>(parts: impl Iterator<Item = &'a Part>, message: usize, losses: &mut Losses) -> Vec<Value> {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (index, part) in parts.enumerate() {
        let path = format!("messages[{message}].content[{index}]");
        let mut block = match &part.content {
            Content::Text(text) | Content::Refusal(text) => {
                if text.is_empty() {
                    continue;
                }
                let mut block = Object::typed("text");
                block.set("text", text.as_str());
                block
            }
            Content::Media(media) => match write_media(media, &path, losses) {
                Some(block) => block,
                None => continue,
            },
            Content::Call(call) => write_call(call, &path, losses),
            Content::Result(result) => write_result(result, &path, losses),
            Content::Thought(thought) => match &thought.seal {
                Some(Seal { origin: Origin::Anthropic | Origin::Redacted, .. }) => write_thought(thought),
                _ => {
                    losses.add(path, "a thought Anthropic did not have is not taken");
                    continue;
                }
            },
        };
        block.maybe("cache_control", part.cache.as_ref().map(write_cache));
        let list = if matches!(part.content, Content::Result(_)) { &mut first } else { &mut rest };
        list.push(block.into());
    }
    first.append(&mut rest);
    first
}

fn write_call(call: &Call, path: &str, losses: &mut Losses) -> Object {
    let mut block = Object::typed("tool_use");
    block.set("id", tool_id(&call.id)).set("name", call.name.as_str());
    block.set("input", arguments(&call.arguments, &format!("{path}.input"), losses));
    block
}

fn write_result(result: &ToolResult, path: &str, losses: &mut Losses) -> Object {
    let mut block = Object::typed("tool_result");
    block.set("tool_use_id", tool_id(&result.id));
    let mut content = Vec::new();
    for (index, part) in result.content.iter().enumerate() {
        let at = format!("{path}.content[{index}]");
        match &part.content {
            Content::Text(text) => content.push(write_block(Object::typed("text"), "text", text, part)),
            Content::Media(media) => content.extend(write_media(media, &at, losses).map(Value::from)),
            _ => losses.add(at, "has no place in a tool's result"),
        }
    }
    if !content.is_empty() {
        block.set("content", simplify(content));
    }
    if result.error {
        block.set("is_error", true);
    }
    block
}

fn write_media(media: &Media, path: &str, losses: &mut Losses) -> Option<Object> {
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        losses.add(format!("{path}.detail"), "Anthropic has no level of detail");
    }
    let kind = match media.kind {
        Kind::Image => "image",
        Kind::Document => "document",
        Kind::Audio | Kind::Video => {
            losses.add(path, format!("Anthropic takes no {}", media.kind.name()));
            return None;
        }
    };
    let mut source = Object::new();
    match &media.source {
        Source::Base64(data) => {
            let guess = media.name.as_deref().and_then(media::type_by_name);
            let blank = if media.kind == Kind::Image { "image/png" } else { "application/pdf" };
            let media_type = media.media_type.as_deref().or(guess).unwrap_or(blank);
            source.set("type", "base64").set("media_type", media_type).set("data", data.as_str())
        }
        Source::Url(url) => source.set("type", "url").set("url", url.as_str()),
        Source::Text(text) => source.set("type", "text").set("media_type", "text/plain").set("data", text.as_str()),
        Source::File(id) => {
            losses.add(format!("{path}.file_id"), "a file kept at another provider");
            let _ = id;
            return None;
        }
    };
    let mut block = Object::typed(kind);
    block.set("source", source);
    if media.kind == Kind::Document {
        block.maybe("title", media.name.clone());
    }
    Some(block)
}

/// A thought's block. One without seal has an empty signature, which readers of answers expect to be there.
fn write_thought(thought: &Thought) -> Object {
    match &thought.seal {
        Some(seal) if seal.origin == Origin::Redacted && thought.text.is_empty() => {
            let mut block = Object::typed("redacted_thinking");
            block.set("data", seal.value.as_str());
            block
        }
        seal => {
            let signature = seal.as_ref().map(|seal| seal.write(Origin::Anthropic).into_owned());
            let mut block = Object::typed("thinking");
            block.set("thinking", thought.text.as_str()).set("signature", signature.unwrap_or_default());
            block
        }
    }
}

fn write_sampling(request: &Request, options: &Options, thinks: bool, out: &mut Object, losses: &mut Losses) {
    let sampling = &request.sampling;
    let mut limit = sampling.max_tokens.unwrap_or(options.max_tokens);
    if let Some(budget) = request.thinking.tokens(options.thinking_budget) {
        // Thinking counts against the limit, which must exceed it.
        if limit <= budget {
            limit = budget.saturating_add(options.max_tokens);
        }
    }
    out.set("max_tokens", limit);
    let [temperature, top_p, top_k] = claude::write_sampling(request, thinks, losses);
    out.maybe("temperature", temperature).maybe("top_p", top_p).maybe("top_k", top_k);
    out.many("stop_sequences", sampling.stop.iter().map(|stop| stop.as_str().into()).collect());
}

/// Writes effort and format; returns the tool that has to stand for the latter.
fn write_output_config(
    request: &Request,
    options: &Options,
    thinks: bool,
    out: &mut Object,
    losses: &mut Losses,
) -> Option<Tool> {
    let mut output = Object::new();
    output.maybe("effort", write_effort(&request.thinking, options));
    let mut by_tool = None;
    match &request.format {
        Some(Format::Schema { schema, .. }) if !options.schema_by_tool => {
            let mut format = Object::typed("json_schema");
            format.set("schema", schema.clone());
            output.set("format", format);
        }
        Some(format) => by_tool = json_tool(format, request, thinks, losses),
        None => {}
    }
    out.filled("output_config", output);
    by_tool
}

fn write_tools(request: &Request, by_tool: Option<Tool>, out: &mut Object, losses: &mut Losses) {
    let forced = by_tool.as_ref().map(|tool| ToolChoice::Tool(tool.name.clone()));
    let tools: Vec<Value> = request.tools.iter().chain(by_tool.as_ref()).map(write_tool).collect();
    let some = !tools.is_empty();
    out.many("tools", tools);
    let choice = forced.as_ref().or(request.tool_choice.as_ref());
    let single = request.parallel_tools == Some(false);
    let mut written = match choice {
        None if !(single && some) => return,
        None | Some(ToolChoice::Auto) => Object::typed("auto"),
        Some(ToolChoice::None) => Object::typed("none"),
        Some(ToolChoice::Any) => Object::typed("any"),
        Some(ToolChoice::Tool(name)) => {
            let mut choice = Object::typed("tool");
            choice.set("name", name.as_str());
            choice
        }
        Some(ToolChoice::Allowed { must, names }) => {
            losses.add("tool_choice", "Anthropic cannot allow some tools alone");
            match names.as_slice() {
                [one] if *must => {
                    let mut choice = Object::typed("tool");
                    choice.set("name", one.as_str());
                    choice
                }
                _ => Object::typed(if *must { "any" } else { "auto" }),
            }
        }
    };
    if let (Some(parallel), true) = (request.parallel_tools, choice != Some(&ToolChoice::None)) {
        written.set("disable_parallel_tool_use", !parallel);
    }
    if some {
        out.set("tool_choice", written);
    }
}

fn write_tool(tool: &Tool) -> Value {
    let mut out = Object::new();
    out.set("name", tool.name.as_str()).maybe("description", tool.description.clone());
    out.set("input_schema", tool.schema.clone().unwrap_or_else(|| Object::typed("object").into()));
    out.maybe("strict", tool.strict).maybe("cache_control", tool.cache.as_ref().map(write_cache));
    out.into()
}

pub(super) fn read_answer(body: &Value, losses: &mut Losses) -> Result<Answer, Refused> {
    let mut fields = Fields::of(body);
    let mut answer = Answer { id: fields.string("id"), model: fields.string("model"), ..Answer::default() };
    if !fields.has("content") {
        return Err(shape("content", "a list"));
    }
    let candidate = Candidate {
        parts: read_content(fields.any("content"), "content", losses),
        stop: fields.text("stop_reason").map(read_stop),
        sequence: fields.string("stop_sequence"),
        logprobs: Vec::new(),
    };
    answer.candidates.push(candidate);
    answer.usage = fields.any("usage").and_then(|usage| Usage::read(Dialect::Anthropic, usage));
    Ok(answer)
}

pub(super) fn read_stop(reason: &str) -> Stop {
    match reason {
        "max_tokens" => Stop::Length,
        "stop_sequence" => Stop::Sequence,
        "tool_use" => Stop::Tool,
        "refusal" => Stop::Refusal,
        "pause_turn" => Stop::Pause,
        "model_context_window_exceeded" => Stop::Context,
        _ => Stop::End,
    }
}

pub(super) fn write_stop(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Malformed => "end_turn",
        Stop::Length => "max_tokens",
        Stop::Sequence => "stop_sequence",
        Stop::Tool => "tool_use",
        Stop::Filter | Stop::Refusal => "refusal",
        Stop::Pause => "pause_turn",
        Stop::Context => "model_context_window_exceeded",
    }
}

pub(super) fn write_answer(answer: &Answer, context: &Context, losses: &mut Losses) -> Value {
    let empty = Candidate::default();
    let candidate = answer.candidates.first().unwrap_or(&empty);
    if answer.candidates.len() > 1 {
        losses.add("choices[1]", "Anthropic has one candidate");
    }
    if !candidate.logprobs.is_empty() {
        losses.add("choices[0].logprobs", "Anthropic has none");
    }
    let mut content: Vec<Value> = Vec::new();
    for (index, part) in candidate.parts.iter().enumerate() {
        let path = format!("content[{index}]");
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => {
                content.push(write_block(Object::typed("text"), "text", text, part));
            }
            Content::Call(call) => content.push(write_call(call, &path, losses).into()),
            Content::Thought(thought) => content.push(write_thought(thought).into()),
            Content::Media(_) | Content::Result(_) => losses.add(path, "an answer holds text and calls alone"),
        }
    }
    let mut out = Object::new();
    out.set("id", answer.id.clone().unwrap_or_else(|| context.id("msg_", 0))).set("type", "message");
    out.set("role", "assistant").set("model", context.model(answer.model.as_deref())).set("content", content);
    out.set("stop_reason", write_stop(candidate.stop.unwrap_or(Stop::End)));
    out.set("stop_sequence", candidate.sequence.clone().map_or(Value::Null, Value::from));
    out.set("usage", answer.usage.unwrap_or_default().write(Dialect::Anthropic));
    out.into()
}
