//! OpenAI chat completions: requests and whole answers.
//!
//! Rules: leading system and developer messages are the system prompt; `tool` messages are results in the user's turn.
//! Thoughts are no part of OpenAI's own API: they are read and written as `reasoning_content` (DeepSeek, vLLM), with
//! seals in `reasoning_details` (OpenRouter), and a call's seal in `extra_content.google` (Gemini's compatible endpoint).

use serde_json::Value;

use super::chat::{
    text_of, Answer, Cache, Call, Candidate, Content, Format, Kind, Media, Origin, Part, Request, Role, Seal, Source,
    Stop, Thought, Tool, ToolChoice, ToolResult, Turn,
};
use super::fields::{Fields, Object};
use super::media;
use super::openai::{self, number, read_logprobs, write_logprobs};
use super::{shape, Context, Losses, Refused};
use crate::llm::{Dialect, Usage};

pub(super) fn read_request(body: &Value, losses: &mut Losses) -> Result<Request, Refused> {
    let mut fields = Fields::of(body);
    let mut request = Request::default();
    if !body.is_object() {
        return Err(shape("", "an object"));
    }
    let messages = fields.any("messages").and_then(Value::as_array).ok_or_else(|| shape("messages", "a list"))?;
    openai::read_shared(&mut fields, &mut request);
    for (index, message) in messages.iter().enumerate() {
        read_message(&mut request, message, &format!("messages[{index}]"), losses)?;
    }
    let sampling = &mut request.sampling;
    let old = fields.count("max_tokens");
    sampling.max_tokens = fields.count("max_completion_tokens").or(old);
    sampling.top_k = fields.number("top_k");
    sampling.seed = fields.number("seed");
    sampling.presence_penalty = fields.number("presence_penalty");
    sampling.frequency_penalty = fields.number("frequency_penalty");
    sampling.candidates = fields.count("n");
    sampling.logprobs = fields.flag("logprobs");
    sampling.stop = match fields.text("stop") {
        Some(one) => vec![one.to_owned()],
        None => fields.texts("stop"),
    };
    request.thinking.effort = fields.string("reasoning_effort");
    let mut stream = fields.inner("stream_options");
    request.include_usage = stream.flag("include_usage").unwrap_or(false);
    stream.skip(&["include_obfuscation"]);
    stream.finish("stream_options", losses);
    if fields.list("modalities").iter().any(|modality| modality != "text") {
        losses.add("modalities", "text is all that is translated");
    }
    read_tools(&mut fields, &mut request, losses);
    request.format = fields.any("response_format").and_then(|format| read_format(format, losses));
    fields.finish("", losses);
    Ok(request)
}

fn read_message(request: &mut Request, message: &Value, path: &str, losses: &mut Losses) -> Result<(), Refused> {
    let mut fields = Fields::of(message);
    let role = fields.text("role").ok_or_else(|| shape(format!("{path}.role"), "a string"))?;
    let name = fields.string("name");
    let mut parts = read_content(fields.any("content"), &format!("{path}.content"), losses);
    let role = match role {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => {
            let mut thoughts = read_thoughts(&mut fields);
            if let Some(refusal) = fields.string("refusal") {
                parts.push(Content::Refusal(refusal).into());
            }
            read_calls(fields.list("tool_calls"), &format!("{path}.tool_calls"), &mut parts, losses)?;
            thoughts.append(&mut parts);
            parts = thoughts;
            Role::Assistant
        }
        "tool" => {
            let id = fields.string("tool_call_id");
            let id = id.ok_or_else(|| shape(format!("{path}.tool_call_id"), "a string"))?;
            let error = fields.flag("is_error").unwrap_or(false);
            parts = vec![Content::Result(ToolResult { id, name: name.clone(), content: parts, error }).into()];
            Role::User
        }
        _ => return Err(shape(format!("{path}.role"), "system, developer, user, assistant or tool")),
    };
    fields.finish(path, losses);
    if role == Role::System && request.turns.is_empty() {
        request.system.append(&mut parts);
    } else {
        let name = name
            .filter(|_| role != Role::User || !matches!(parts.first(), Some(Part { content: Content::Result(_), .. })));
        request.turns.push(Turn { role, parts, name });
    }
    Ok(())
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
        "text" => Content::Text(fields.string("text")?),
        "refusal" => Content::Refusal(fields.string("refusal")?),
        "image_url" => {
            let mut image = fields.inner("image_url");
            let mut read = media::from_url(Kind::Image, image.text("url")?);
            read.detail = image.string("detail");
            image.finish(&format!("{path}.image_url"), losses);
            Content::Media(read)
        }
        "input_audio" => {
            let mut audio = fields.inner("input_audio");
            let source = Source::Base64(audio.string("data")?);
            let media_type = audio.text("format").and_then(media::type_of).map(str::to_owned);
            Content::Media(Media { kind: Kind::Audio, source, media_type, name: None, detail: None })
        }
        "file" => {
            let mut file = fields.inner("file");
            let name = file.string("filename");
            let mut read = match (file.text("file_data"), file.string("file_id")) {
                (Some(data), _) => media::from_url(Kind::Document, data),
                (None, Some(id)) => {
                    let source = Source::File(id);
                    Media { kind: Kind::Document, source, media_type: None, name: None, detail: None }
                }
                (None, None) => return None,
            };
            read.name = name;
            file.finish(&format!("{path}.file"), losses);
            Content::Media(read)
        }
        _ => {
            losses.add(path, "a kind of content not known");
            return None;
        }
    };
    let cache = read_cache(&mut fields);
    fields.finish(path, losses);
    Some(Part { content, cache })
}

/// The extension OpenRouter and others take from Anthropic's API.
fn read_cache(fields: &mut Fields<'_>) -> Option<Cache> {
    let mut cache = fields.has("cache_control").then(|| fields.inner("cache_control"))?;
    Some(Cache { ttl: cache.string("ttl") })
}

fn read_calls(calls: &[Value], path: &str, parts: &mut Vec<Part>, losses: &mut Losses) -> Result<(), Refused> {
    for (index, call) in calls.iter().enumerate() {
        let mut fields = Fields::of(call);
        let id = fields.string("id").unwrap_or_default();
        let kind = fields.text("type").unwrap_or("function");
        let mut function = fields.inner("function");
        let Some(name) = function.string("name").filter(|_| kind == "function") else {
            losses.add(format!("{path}[{index}]"), "a kind of tool call not known");
            continue;
        };
        if let Some(seal) = read_google_seal(call) {
            parts.push(Content::Thought(Thought { seal: Some(seal), ..Thought::default() }).into());
        }
        let arguments = function.string("arguments").unwrap_or_default();
        parts.push(Content::Call(Call { id, name, arguments }).into());
    }
    Ok(())
}

pub(super) fn read_google_seal(call: &Value) -> Option<Seal> {
    let value = call.get("extra_content")?.get("google")?.get("thought_signature")?.as_str()?;
    Some(Seal::new(Origin::Gemini, value))
}

/// Formats of `reasoning_details`, which say who can verify them.
const FORMATS: [(&str, Origin); 3] = [
    ("anthropic-claude-v1", Origin::Anthropic),
    ("google-gemini-v1", Origin::Gemini),
    ("openai-responses-v1", Origin::OpenAi),
];

pub(super) fn format_name(origin: Origin) -> &'static str {
    let origin = if origin == Origin::Redacted { Origin::Anthropic } else { origin };
    FORMATS.iter().find(|(_, o)| *o == origin).map_or("unknown", |(name, _)| name)
}

fn read_thoughts(fields: &mut Fields<'_>) -> Vec<Part> {
    let details = fields.list("reasoning_details");
    let plain = fields.text("reasoning_content");
    let plain = fields.text("reasoning").or(plain);
    let mut thoughts: Vec<Thought> = Vec::with_capacity(details.len());
    for thought in details.iter().filter_map(read_detail) {
        match thoughts.last_mut() {
            // A summary and what it is the summary of.
            Some(last) if last.seal.is_none() && thought.text.is_empty() => last.seal = thought.seal,
            _ => thoughts.push(thought),
        }
    }
    let parts: Vec<Part> = thoughts.into_iter().map(|thought| Content::Thought(thought).into()).collect();
    match plain {
        Some(text) if parts.is_empty() && !text.is_empty() => {
            vec![Content::Thought(Thought { text: text.to_owned(), ..Thought::default() }).into()]
        }
        _ => parts,
    }
}

/// One entry of `reasoning_details`.
pub(super) fn read_detail(detail: &Value) -> Option<Thought> {
    let mut fields = Fields::of(detail);
    let kind = fields.text("type")?;
    let format = fields.text("format").unwrap_or("");
    let origin = FORMATS.iter().find(|(name, _)| *name == format).map_or(Origin::Unknown, |(_, origin)| *origin);
    let id = fields.text("id");
    let text = match kind {
        "reasoning.summary" => fields.string("summary"),
        _ => fields.string("text"),
    };
    let seal = match kind {
        "reasoning.encrypted" => fields.text("data").map(|data| match origin {
            Origin::Anthropic => Seal::new(Origin::Redacted, data),
            // OpenAI checks the item's id together with it.
            Origin::OpenAi => Seal::new(Origin::OpenAi, format!("{}:{data}", id.unwrap_or_default())),
            origin => Seal::new(origin, data),
        }),
        _ => fields.text("signature").map(|signature| Seal::new(origin, signature)),
    };
    if text.is_none() && seal.is_none() {
        return None;
    }
    Some(Thought { text: text.unwrap_or_default(), seal })
}

/// One entry of `reasoning_details`. In a stream its text, its seal or both.
pub(super) fn write_detail(text: Option<&str>, seal: Option<&Seal>, index: usize) -> Value {
    let hidden = seal.filter(|seal| text.is_none() && seal.origin != Origin::Anthropic);
    let mut out = Object::typed(if hidden.is_some() { "reasoning.encrypted" } else { "reasoning.text" });
    match hidden {
        Some(seal) => match seal.value.split_once(':') {
            Some((id, data)) if seal.origin == Origin::OpenAi => out.set("data", data).set("id", id),
            _ => out.set("data", seal.value.as_str()),
        },
        None => out.maybe("text", text).maybe("signature", seal.map(|seal| seal.value.as_str())),
    };
    out.maybe("format", seal.map(|seal| format_name(seal.origin)));
    out.set("index", index);
    out.into()
}

/// Text and seal share an entry when their reader finds both there: OpenAI's and redacted ones stand alone.
fn write_details(thought: &Thought, details: &mut Vec<Value>) {
    let text = Some(thought.text.as_str()).filter(|text| !text.is_empty());
    match (text, &thought.seal) {
        (Some(text), Some(seal)) if matches!(seal.origin, Origin::OpenAi | Origin::Redacted) => {
            details.push(write_detail(Some(text), None, details.len()));
            details.push(write_detail(None, Some(seal), details.len()));
        }
        (text, seal) => details.push(write_detail(text, seal.as_ref(), details.len())),
    }
}

fn read_tools(fields: &mut Fields<'_>, request: &mut Request, losses: &mut Losses) {
    for (index, tool) in fields.list("tools").iter().enumerate() {
        let path = format!("tools[{index}]");
        let mut outer = Fields::of(tool);
        let kind = outer.text("type");
        let mut function = outer.inner("function");
        let Some(name) = function.string("name").filter(|_| kind == Some("function")) else {
            losses.add(path, "only function tools are translated");
            continue;
        };
        request.tools.push(Tool {
            name,
            description: function.string("description"),
            schema: function.object("parameters").cloned(),
            strict: function.flag("strict"),
            cache: read_cache(&mut outer).or_else(|| read_cache(&mut function)),
        });
        function.finish(&format!("{path}.function"), losses);
        outer.finish(&path, losses);
    }
    request.tool_choice = match fields.any("tool_choice") {
        Some(Value::String(mode)) => mode_of(mode),
        Some(choice) => read_choice(choice, losses),
        None => None,
    };
}

fn mode_of(mode: &str) -> Option<ToolChoice> {
    match mode {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        "required" => Some(ToolChoice::Any),
        _ => None,
    }
}

fn read_choice(choice: &Value, losses: &mut Losses) -> Option<ToolChoice> {
    let mut fields = Fields::of(choice);
    match fields.text("type") {
        Some("function") => fields.inner("function").string("name").map(ToolChoice::Tool),
        Some("allowed_tools") => {
            let mut allowed = fields.inner("allowed_tools");
            let must = allowed.text("mode") == Some("required");
            let names = allowed.list("tools").iter();
            let names = names.filter_map(|tool| Fields::of(tool).inner("function").string("name")).collect();
            Some(ToolChoice::Allowed { must, names })
        }
        _ => {
            losses.add("tool_choice", "only function tools are translated");
            None
        }
    }
}

fn read_format(format: &Value, losses: &mut Losses) -> Option<Format> {
    let mut fields = Fields::of(format);
    match fields.text("type") {
        Some("text") => Some(Format::Text),
        Some("json_object") => Some(Format::Json),
        Some("json_schema") => {
            let mut schema = fields.inner("json_schema");
            Some(Format::Schema {
                name: schema.string("name"),
                description: schema.string("description"),
                strict: schema.flag("strict"),
                schema: schema.object("schema").cloned().unwrap_or_else(|| Object::new().into()),
            })
        }
        _ => {
            losses.add("response_format", "a format not known");
            None
        }
    }
}

pub(super) fn write_request(request: &Request, losses: &mut Losses) -> Value {
    let mut out = Object::new();
    openai::write_shared(request, &mut out);
    openai::lose_foreign(request, losses);
    let mut messages: Vec<Value> = Vec::with_capacity(request.turns.len() + 1);
    if !request.system.is_empty() {
        let mut message = Object::new();
        message.set("role", "system").set("content", write_content(&request.system, "system", losses));
        messages.push(message.into());
    }
    for (index, turn) in request.turns.iter().enumerate() {
        write_turn(turn, &format!("turns[{index}]"), &mut messages, losses);
    }
    out.set("messages", messages);
    let sampling = &request.sampling;
    out.maybe("max_completion_tokens", sampling.max_tokens);
    out.maybe("seed", number(&sampling.seed));
    out.maybe("presence_penalty", number(&sampling.presence_penalty));
    out.maybe("frequency_penalty", number(&sampling.frequency_penalty));
    out.maybe("n", sampling.candidates);
    out.maybe("logprobs", sampling.logprobs);
    out.maybe("top_logprobs", sampling.top_logprobs);
    match sampling.stop.as_slice() {
        [] => {}
        stop => {
            if stop.len() > 4 {
                losses.add("stop[4]", "OpenAI takes four at most");
            }
            out.set("stop", stop.iter().take(4).cloned().collect::<Vec<_>>());
        }
    }
    if request.stream {
        // The gateway's accounting needs it, whatever the client asked for.
        let mut options = Object::new();
        options.set("include_usage", true);
        out.set("stream_options", options);
    }
    out.maybe("verbosity", request.openai.get("verbosity").cloned());
    out.maybe("reasoning_effort", openai::effort(&request.thinking, losses));
    out.many("tools", request.tools.iter().map(write_tool).collect());
    out.maybe("tool_choice", request.tool_choice.as_ref().map(write_choice));
    out.maybe("response_format", request.format.as_ref().map(write_format));
    out.into()
}

fn write_turn(turn: &Turn, path: &str, messages: &mut Vec<Value>, losses: &mut Losses) {
    let mut rest: Vec<Part> = Vec::new();
    for (index, part) in turn.parts.iter().enumerate() {
        let at = format!("{path}.parts[{index}]");
        match &part.content {
            Content::Result(result) => {
                let mut message = Object::new();
                message.set("role", "tool").set("tool_call_id", result.id.as_str());
                message.set("content", write_result(&result.content, &at, losses));
                if result.error {
                    losses.add(format!("{at}.is_error"), "OpenAI's tool messages cannot say so");
                }
                messages.push(message.into());
            }
            _ => rest.push(part.clone()),
        }
    }
    if rest.is_empty() && !(turn.parts.is_empty()) {
        return;
    }
    let mut message = Object::new();
    match turn.role {
        Role::System => message.set("role", "system").set("content", write_content(&rest, path, losses)),
        Role::User => message.set("role", "user").set("content", write_content(&rest, path, losses)),
        Role::Assistant => write_assistant(&mut message, &rest, false, path, losses),
    };
    message.maybe("name", turn.name.clone());
    messages.push(message.into());
}

/// Tool messages hold text alone.
fn write_result(parts: &[Part], path: &str, losses: &mut Losses) -> Value {
    let texts: Vec<&Part> = parts.iter().filter(|part| matches!(part.content, Content::Text(_))).collect();
    if texts.len() < parts.len() {
        losses.add(format!("{path}.content"), "a tool message holds text alone");
    }
    match texts.as_slice() {
        [] => Value::String(String::new()),
        [one] => write_content(std::slice::from_ref(*one), path, losses),
        many => many.iter().filter_map(|part| write_part(part, path, losses)).collect(),
    }
}

/// One text is a string, as the oldest clients and providers have it.
fn write_content(parts: &[Part], path: &str, losses: &mut Losses) -> Value {
    if let [Part { content: Content::Text(text), cache }] = parts {
        if cache.is_some() {
            losses.add(format!("{path}.cache_control"), "OpenAI caches prompts by itself");
        }
        return Value::String(text.clone());
    }
    let written = parts.iter().enumerate();
    written.filter_map(|(index, part)| write_part(part, &format!("{path}[{index}]"), losses)).collect()
}

fn write_part(part: &Part, path: &str, losses: &mut Losses) -> Option<Value> {
    if part.cache.is_some() {
        losses.add(format!("{path}.cache_control"), "OpenAI caches prompts by itself");
    }
    let mut out = Object::new();
    match &part.content {
        Content::Text(text) => out.set("type", "text").set("text", text.as_str()),
        Content::Refusal(text) => out.set("type", "refusal").set("refusal", text.as_str()),
        Content::Media(media) => return write_media(media, path, losses),
        Content::Call(_) | Content::Result(_) | Content::Thought(_) => {
            losses.add(path, "has no place in this message");
            return None;
        }
    };
    Some(out.into())
}

fn write_media(media: &Media, path: &str, losses: &mut Losses) -> Option<Value> {
    let mut inner = Object::new();
    let url = media::to_url(media);
    let kind = match (media.kind, &media.source) {
        (Kind::Image, _) if url.is_some() => {
            inner.maybe("url", url).maybe("detail", media.detail.clone());
            "image_url"
        }
        (Kind::Audio, Source::Base64(data)) => {
            let format = media.media_type.as_deref().and_then(media::format_of);
            inner.set("data", data.as_str()).set("format", format.unwrap_or("wav"));
            "input_audio"
        }
        (Kind::Document, Source::Base64(_) | Source::Text(_)) => {
            inner.set("filename", media.name.as_deref().unwrap_or("document")).maybe("file_data", url);
            "file"
        }
        (Kind::Document, Source::File(id)) => {
            inner.set("file_id", id.as_str()).maybe("filename", media.name.clone());
            "file"
        }
        _ => {
            losses.add(path, format!("chat completions take no such {}", media.kind.name()));
            return None;
        }
    };
    let mut out = Object::typed(kind);
    out.set(if kind == "image_url" || kind == "input_audio" { kind } else { "file" }, inner);
    Some(out.into())
}

/// Members of an assistant's message: in a request's history, and in an answer, whose content is one string.
fn write_assistant<'o>(
    out: &'o mut Object,
    parts: &[Part],
    answer: bool,
    path: &str,
    losses: &mut Losses,
) -> &'o mut Object {
    let (mut texts, mut refusals, mut calls, mut details) = (Vec::new(), String::new(), Vec::new(), Vec::new());
    let mut thoughts = String::new();
    for (index, part) in parts.iter().enumerate() {
        match &part.content {
            Content::Text(_) => texts.push(part.clone()),
            Content::Refusal(text) => refusals.push_str(text),
            Content::Thought(thought) => {
                if goes_with_call(thought, parts.get(index + 1)) {
                    continue;
                }
                thoughts.push_str(&thought.text);
                write_details(thought, &mut details);
            }
            Content::Call(call) => {
                let before = index.checked_sub(1).and_then(|before| parts.get(before));
                let seal = match before.map(|part| &part.content) {
                    Some(Content::Thought(thought)) if goes_with_call(thought, Some(part)) => thought.seal.as_ref(),
                    _ => None,
                };
                calls.push(write_call(call, seal));
            }
            Content::Media(_) | Content::Result(_) => {
                losses.add(format!("{path}[{index}]"), "an assistant's message holds text and calls alone");
            }
        }
    }
    out.set("role", "assistant");
    out.set(
        "content",
        match texts.as_slice() {
            [] => Value::Null,
            texts if answer => text_of(texts).into(),
            texts => write_content(texts, path, losses),
        },
    );
    if !refusals.is_empty() {
        out.set("refusal", refusals);
    }
    if !thoughts.is_empty() {
        out.set("reasoning_content", thoughts);
    }
    out.many("reasoning_details", details);
    out.many("tool_calls", calls)
}

/// A seal without text before a call is that call's own, as Gemini gives them.
fn goes_with_call(thought: &Thought, next: Option<&Part>) -> bool {
    let gemini = thought.seal.as_ref().is_some_and(|seal| seal.origin == Origin::Gemini);
    gemini && thought.text.is_empty() && matches!(next, Some(Part { content: Content::Call(_), .. }))
}

fn write_call(call: &Call, seal: Option<&Seal>) -> Value {
    let mut function = Object::new();
    let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
    function.set("name", call.name.as_str()).set("arguments", arguments);
    let mut out = Object::new();
    out.set("id", call.id.as_str()).set("type", "function").set("function", function);
    out.maybe("extra_content", seal.map(google_seal));
    out.into()
}

pub(super) fn google_seal(seal: &Seal) -> Value {
    let (mut outer, mut inner) = (Object::new(), Object::new());
    inner.set("thought_signature", seal.value.as_str());
    outer.set("google", inner);
    outer.into()
}

fn write_tool(tool: &Tool) -> Value {
    let mut function = Object::new();
    function.set("name", tool.name.as_str()).maybe("description", tool.description.clone());
    function.maybe("parameters", tool.schema.clone()).maybe("strict", tool.strict);
    let mut out = Object::typed("function");
    out.set("function", function);
    out.into()
}

fn named(name: &str) -> Object {
    let (mut out, mut function) = (Object::typed("function"), Object::new());
    function.set("name", name);
    out.set("function", function);
    out
}

fn write_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Any => "required".into(),
        ToolChoice::Tool(name) => named(name).into(),
        ToolChoice::Allowed { must, names } => {
            let mut allowed = Object::new();
            allowed.set("mode", if *must { "required" } else { "auto" });
            allowed.set("tools", names.iter().map(|name| named(name).into()).collect::<Vec<Value>>());
            let mut out = Object::typed("allowed_tools");
            out.set("allowed_tools", allowed);
            out.into()
        }
    }
}

fn write_format(format: &Format) -> Value {
    match format {
        Format::Text => Object::typed("text").into(),
        Format::Json => Object::typed("json_object").into(),
        Format::Schema { name, description, schema, strict } => {
            let mut inner = Object::new();
            // The name is required here, and means nothing.
            inner.set("name", name.as_deref().unwrap_or("answer")).maybe("description", description.clone());
            inner.set("schema", schema.clone()).maybe("strict", *strict);
            let mut out = Object::typed("json_schema");
            out.set("json_schema", inner);
            out.into()
        }
    }
}

pub(super) fn read_answer(body: &Value, losses: &mut Losses) -> Result<Answer, Refused> {
    let mut fields = Fields::of(body);
    let mut answer = Answer { id: fields.string("id"), model: fields.string("model"), ..Answer::default() };
    answer.created = fields.count("created");
    answer.usage = fields.any("usage").and_then(|usage| Usage::read(Dialect::OpenAiChat, usage));
    let choices = fields.any("choices").and_then(Value::as_array).ok_or_else(|| shape("choices", "a list"))?;
    for (index, choice) in choices.iter().enumerate() {
        let path = format!("choices[{index}]");
        let mut choice = Fields::of(choice);
        let mut candidate = Candidate::default();
        let mut message = choice.inner("message");
        candidate.parts = read_thoughts(&mut message);
        if let Some(text) = message.string("content").filter(|text| !text.is_empty()) {
            candidate.parts.push(Content::Text(text).into());
        }
        if let Some(refusal) = message.string("refusal") {
            candidate.parts.push(Content::Refusal(refusal).into());
        }
        read_calls(message.list("tool_calls"), &format!("{path}.message.tool_calls"), &mut candidate.parts, losses)?;
        message.skip(&["role"]);
        if message.list("annotations").is_empty() {
            message.skip(&["annotations"]);
        } else {
            losses.add(format!("{path}.message.annotations"), "citations are not translated");
        }
        message.finish(&format!("{path}.message"), losses);
        candidate.stop = choice.text("finish_reason").map(read_stop);
        candidate.logprobs = read_logprobs(choice.inner("logprobs").list("content"));
        answer.candidates.push(candidate);
    }
    Ok(answer)
}

pub(super) fn read_stop(reason: &str) -> Stop {
    match reason {
        "length" => Stop::Length,
        "tool_calls" | "function_call" => Stop::Tool,
        "content_filter" => Stop::Filter,
        _ => Stop::End,
    }
}

pub(super) fn write_stop(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Sequence | Stop::Pause | Stop::Malformed => "stop",
        Stop::Length | Stop::Context => "length",
        Stop::Tool => "tool_calls",
        Stop::Filter | Stop::Refusal => "content_filter",
    }
}

pub(super) fn write_answer(answer: &Answer, context: &Context, losses: &mut Losses) -> Value {
    let mut out = Object::new();
    out.set("id", answer.id.clone().unwrap_or_else(|| context.id("chatcmpl-", 0)));
    out.set("object", "chat.completion");
    out.set("created", answer.created.unwrap_or(context.created));
    out.set("model", context.model(answer.model.as_deref()));
    let choices = answer.candidates.iter().enumerate().map(|(index, candidate)| {
        let mut message = Object::new();
        write_assistant(&mut message, &candidate.parts, true, &format!("choices[{index}]"), losses);
        if !candidate.parts.iter().any(|part| matches!(part.content, Content::Refusal(_))) {
            message.set("refusal", Value::Null);
        }
        let mut choice = Object::new();
        choice.set("index", index).set("message", message);
        if candidate.logprobs.is_empty() {
            choice.set("logprobs", Value::Null);
        } else {
            let mut logprobs = Object::new();
            logprobs.set("content", write_logprobs(&candidate.logprobs)).set("refusal", Value::Null);
            choice.set("logprobs", logprobs);
        }
        choice.set("finish_reason", write_stop(candidate.stop.unwrap_or(Stop::End)));
        choice.into()
    });
    out.set("choices", choices.collect::<Vec<Value>>());
    out.maybe("usage", answer.usage.as_ref().map(|usage| usage.write(Dialect::OpenAiChat)));
    out.into()
}
