//! Gemini `generateContent`: requests and whole answers, as the Gemini API and Vertex have them.
//!
//! Rules: a `thoughtSignature` on a call or a text is a thought without text before it; on the way out it goes with the
//! part that follows. Calls without ids get some, results find theirs by name and order. Schemas are written in the
//! fields that take JSON Schema; Gemini's own schema language is read. Members may be spelt in snake case.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::chat::{
    alternate, text_of, Answer, Budget, Call, Candidate, Content, Format, Kind, Logprob, Media, Origin, Part, Request,
    Role, Seal, Source, Stop, Thought, Tool, ToolChoice, ToolResult, Turn,
};
use super::fields::{arguments, Fields, Object};
use super::openai::{self, number};
use super::{media, schema, shape, Context, Losses, Options, Refused};
use crate::llm::{Dialect, Usage};

/// What Google names for calls in a history that no Gemini made, which it would refuse otherwise.
const FOREIGN: &str = "skip_thought_signature_validator";
/// The first eight bytes of every seal of another dialect, which are base64 here as Gemini's own.
const MARK: &str = "cHlnYXRl";

/// Ids for calls that have none.
struct Ids<'c> {
    context: Option<&'c Context>,
    count: usize,
    /// Ids given, by the function's name, whose results have not been seen.
    open: HashMap<String, VecDeque<String>>,
}

impl Ids<'_> {
    fn give(&mut self, name: &str) -> String {
        self.count += 1;
        let id = match self.context {
            Some(context) => context.id("call_", self.count),
            None => format!("call_{}", self.count),
        };
        self.open.entry(name.to_owned()).or_default().push_back(id.clone());
        id
    }

    fn answer(&mut self, name: &str) -> String {
        let open = self.open.get_mut(name).and_then(VecDeque::pop_front);
        open.unwrap_or_else(|| format!("call_{name}"))
    }
}

pub(super) fn read_request(body: &Value, losses: &mut Losses) -> Result<Request, Refused> {
    let mut fields = Fields::proto(body);
    let mut request = Request::default();
    if !body.is_object() {
        return Err(shape("", "an object"));
    }
    request.model = fields.text("model").map(|model| model.trim_start_matches("models/").to_owned());
    let contents = fields.any("contents").and_then(Value::as_array).ok_or_else(|| shape("contents", "a list"))?;
    let mut ids = Ids { context: None, count: 0, open: HashMap::new() };
    let mut system = fields.inner("systemInstruction");
    read_parts(system.list("parts"), "systemInstruction.parts", &mut ids, &mut request.system, losses);
    for (index, content) in contents.iter().enumerate() {
        let path = format!("contents[{index}]");
        let mut content = Fields::proto(content);
        let role = match content.text("role") {
            None | Some("user" | "function") => Role::User,
            Some("model") => Role::Assistant,
            Some("system") => Role::System,
            _ => return Err(shape(format!("{path}.role"), "user or model")),
        };
        let mut parts = Vec::new();
        read_parts(content.list("parts"), &format!("{path}.parts"), &mut ids, &mut parts, losses);
        content.finish(&path, losses);
        request.turns.push(Turn { role, parts, name: None });
    }
    let config = fields.inner("generationConfig");
    read_config(config, &mut request, losses);
    read_tools(&mut fields, &mut request, losses);
    fields.finish("", losses);
    Ok(request)
}

fn read_config(mut config: Fields<'_>, request: &mut Request, losses: &mut Losses) {
    let sampling = &mut request.sampling;
    sampling.max_tokens = config.count("maxOutputTokens");
    sampling.temperature = config.number("temperature");
    sampling.top_p = config.number("topP");
    sampling.top_k = config.number("topK");
    sampling.stop = config.texts("stopSequences");
    sampling.seed = config.number("seed");
    sampling.presence_penalty = config.number("presencePenalty");
    sampling.frequency_penalty = config.number("frequencyPenalty");
    sampling.candidates = config.count("candidateCount");
    sampling.logprobs = config.flag("responseLogprobs");
    sampling.top_logprobs = config.count("logprobs");
    let json_schema = config.any("responseJsonSchema").cloned();
    let schema = json_schema.or_else(|| config.object("responseSchema").map(schema::from_gemini));
    request.format = match (config.text("responseMimeType"), schema) {
        (_, Some(schema)) => Some(Format::Schema { name: None, description: None, schema, strict: None }),
        (Some("application/json"), None) => Some(Format::Json),
        (Some("text/plain"), None) => Some(Format::Text),
        (Some(_), None) => {
            losses.add("generationConfig.responseMimeType", "a format not known");
            None
        }
        (None, None) => None,
    };
    let mut thinking = config.inner("thinkingConfig");
    request.thinking.show = thinking.flag("includeThoughts");
    request.thinking.budget = match thinking.number("thinkingBudget").and_then(|budget| budget.as_i64()) {
        None => None,
        Some(0) => Some(Budget::Off),
        Some(budget) => Some(u64::try_from(budget).map_or(Budget::Adaptive, Budget::Tokens)),
    };
    request.thinking.effort = thinking.text("thinkingLevel").map(str::to_ascii_lowercase);
    thinking.finish("generationConfig.thinkingConfig", losses);
    if config.list("responseModalities").iter().any(|modality| modality != "TEXT") {
        losses.add("generationConfig.responseModalities", "text is all that is translated");
    }
    config.finish("generationConfig", losses);
}

fn read_tools(fields: &mut Fields<'_>, request: &mut Request, losses: &mut Losses) {
    for (index, tool) in fields.list("tools").iter().enumerate() {
        let path = format!("tools[{index}]");
        let mut tool = Fields::proto(tool);
        for declaration in tool.list("functionDeclarations") {
            let mut declaration = Fields::proto(declaration);
            let json_schema = declaration.any("parametersJsonSchema").cloned();
            request.tools.push(Tool {
                name: declaration.string("name").unwrap_or_default(),
                description: declaration.string("description"),
                schema: json_schema.or_else(|| declaration.object("parameters").map(schema::from_gemini)),
                strict: None,
                cache: None,
            });
            declaration.finish(&format!("{path}.functionDeclarations"), losses);
        }
        tool.finish(&path, losses);
    }
    let mut config = fields.inner("toolConfig");
    let mut calling = config.inner("functionCallingConfig");
    let mut names = calling.texts("allowedFunctionNames");
    request.tool_choice = match (calling.text("mode").map(str::to_ascii_uppercase).as_deref(), names.len()) {
        (Some("NONE"), _) => Some(ToolChoice::None),
        (Some("ANY"), 0) => Some(ToolChoice::Any),
        (Some("ANY"), 1) => names.pop().map(ToolChoice::Tool),
        (Some(mode), 1..) => Some(ToolChoice::Allowed { must: mode == "ANY", names }),
        (Some(_), 0) => Some(ToolChoice::Auto),
        (None, _) => None,
    };
    calling.skip(&["streamFunctionCallArguments"]);
    calling.finish("toolConfig.functionCallingConfig", losses);
    config.finish("toolConfig", losses);
}

fn read_parts(list: &[Value], path: &str, ids: &mut Ids<'_>, parts: &mut Vec<Part>, losses: &mut Losses) {
    for (index, part) in list.iter().enumerate() {
        let at = format!("{path}[{index}]");
        let mut fields = Fields::proto(part);
        let seal = fields.text("thoughtSignature").and_then(read_seal);
        let thought = fields.flag("thought").unwrap_or(false);
        let content = if let Some(text) = fields.string("text") {
            if thought {
                parts.push(Content::Thought(Thought { text, seal }).into());
                continue;
            }
            (!text.is_empty() || seal.is_none()).then_some(Content::Text(text))
        } else {
            let content = read_part(&mut fields, &at, ids, losses);
            if content.is_none() {
                losses.add(at.as_str(), "a kind of part only Gemini knows");
            }
            content
        };
        if let Some(seal) = seal {
            parts.push(Content::Thought(Thought { seal: Some(seal), ..Thought::default() }).into());
        }
        parts.extend(content.map(Part::from));
        fields.finish(&at, losses);
    }
}

pub(super) fn read_seal(value: &str) -> Option<Seal> {
    if value == FOREIGN {
        return None;
    }
    let marked = value.starts_with(MARK).then(|| media::decode_text(value)).flatten();
    Some(marked.map_or_else(|| Seal::new(Origin::Gemini, value), |marked| Seal::read(Origin::Gemini, &marked)))
}

fn read_part(fields: &mut Fields<'_>, path: &str, ids: &mut Ids<'_>, losses: &mut Losses) -> Option<Content> {
    if fields.has("functionCall") {
        let mut call = fields.inner("functionCall");
        let name = call.string("name")?;
        let id = call.string("id").unwrap_or_else(|| ids.give(&name));
        let arguments = call.object("args").map(Value::to_string).unwrap_or_else(|| "{}".to_owned());
        call.finish(&format!("{path}.functionCall"), losses);
        return Some(Content::Call(Call { id, name, arguments }));
    }
    if fields.has("functionResponse") {
        let mut response = fields.inner("functionResponse");
        let name = response.string("name")?;
        let id = response.string("id").unwrap_or_else(|| ids.answer(&name));
        let (text, error) = read_response(response.object("response").unwrap_or(&Value::Null));
        let mut content = vec![Content::Text(text).into()];
        read_parts(response.list("parts"), &format!("{path}.functionResponse.parts"), ids, &mut content, losses);
        response.finish(&format!("{path}.functionResponse"), losses);
        return Some(Content::Result(ToolResult { id, name: Some(name), content, error }));
    }
    let (mut inner, key, data) = match fields.has("inlineData") {
        true => (fields.inner("inlineData"), "data", true),
        false => (fields.inner("fileData"), "fileUri", false),
    };
    let value = inner.string(key)?;
    let media_type = inner.string("mimeType");
    let guess = media_type.as_deref().or_else(|| media::type_by_name(&value)).unwrap_or("");
    let kind = Kind::of(guess);
    let source = match data {
        // Google's libraries send the alphabet of URLs, which no other dialect takes.
        true => {
            let value = value.replace('-', "+").replace('_', "/");
            media::plain_text(kind, guess, &value).unwrap_or(Source::Base64(value))
        }
        false => Source::Url(value),
    };
    let media_type = media_type.filter(|_| !matches!(source, Source::Text(_)));
    Some(Content::Media(Media { kind, source, media_type, name: inner.string("displayName"), detail: None }))
}

/// The text of a function's response, and whether it is an error.
fn read_response(response: &Value) -> (String, bool) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match response.as_object().map(|map| (map.len(), map.iter().next())) {
        Some((1, Some((key, value)))) if key == "output" || key == "result" => (text(value), false),
        Some((1, Some((key, value)))) if key == "error" => (text(value), true),
        None => (String::new(), false),
        Some(_) => (response.to_string(), false),
    }
}

fn write_response(result: &ToolResult) -> Value {
    let text = text_of(&result.content);
    let key = if result.error { "error" } else { "output" };
    if !result.error {
        if let Ok(Value::Object(map)) = serde_json::from_str::<Value>(&text) {
            // One that looks like the wrapping would be read as such.
            if !(map.len() == 1 && map.keys().any(|key| ["output", "result", "error"].contains(&key.as_str()))) {
                return Value::Object(map);
            }
        }
    }
    let mut out = Object::new();
    out.set(key, text);
    out.into()
}

pub(super) fn write_request(request: &Request, options: &Options, losses: &mut Losses) -> Value {
    openai::lose_shared(request, &[], losses);
    if request.user.is_some() || !request.metadata.is_empty() {
        losses.add("metadata", "Gemini takes none");
    }
    if request.parallel_tools == Some(false) {
        losses.add("parallel_tool_calls", "Gemini cannot forbid parallel calls");
    }
    let mut names: HashMap<&str, &str> = HashMap::new();
    for part in request.turns.iter().flat_map(|turn| &turn.parts) {
        if let Content::Call(call) = &part.content {
            names.insert(&call.id, &call.name);
        }
    }
    let mut out = Object::new();
    let mut system: Vec<&Part> = request.system.iter().collect();
    for (index, turn) in request.turns.iter().enumerate().filter(|(_, turn)| turn.role == Role::System) {
        losses.add(format!("contents[{index}]"), "a later system message moved to the system prompt");
        system.extend(&turn.parts);
    }
    let mut writer = PartWriter { names: &names, foreign: false, losses, calls: 0 };
    let system = writer.write(system.into_iter(), "systemInstruction");
    if !system.is_empty() {
        let mut instruction = Object::new();
        instruction.set("parts", system);
        out.set("systemInstruction", instruction);
    }
    let mut contents: Vec<Value> = Vec::with_capacity(request.turns.len());
    for (index, (role, parts)) in alternate(&request.turns).into_iter().enumerate() {
        writer.calls = 0;
        let parts = writer.write(parts.into_iter(), &format!("contents[{index}].parts"));
        if parts.is_empty() {
            continue;
        }
        let mut content = Object::new();
        content.set("role", if role == Role::User { "user" } else { "model" }).set("parts", parts);
        contents.push(content.into());
    }
    out.set("contents", contents);
    let declarations: Vec<Value> = request.tools.iter().map(|tool| write_tool(tool, losses)).collect();
    if !declarations.is_empty() {
        let mut tool = Object::new();
        tool.set("functionDeclarations", declarations);
        out.set("tools", vec![Value::from(tool)]);
    }
    if let Some(choice) = &request.tool_choice {
        out.set("toolConfig", write_choice(choice));
    }
    out.filled("generationConfig", write_config(request, options));
    out.into()
}

fn write_tool(tool: &Tool, losses: &mut Losses) -> Value {
    if tool.cache.is_some() {
        losses.add("tools.cache_control", "Gemini caches prompts by itself");
    }
    let mut out = Object::new();
    out.set("name", tool.name.as_str()).maybe("description", tool.description.clone());
    out.maybe("parametersJsonSchema", tool.schema.clone());
    out.into()
}

fn write_choice(choice: &ToolChoice) -> Value {
    let (mode, names) = match choice {
        ToolChoice::Auto => ("AUTO", &[][..]),
        ToolChoice::None => ("NONE", &[][..]),
        ToolChoice::Any => ("ANY", &[][..]),
        ToolChoice::Tool(name) => ("ANY", std::slice::from_ref(name)),
        ToolChoice::Allowed { must: true, names } => ("ANY", names.as_slice()),
        ToolChoice::Allowed { must: false, names } => ("VALIDATED", names.as_slice()),
    };
    let (mut out, mut calling) = (Object::new(), Object::new());
    calling.set("mode", mode);
    calling.many("allowedFunctionNames", names.iter().map(|name| name.as_str().into()).collect());
    out.set("functionCallingConfig", calling);
    out.into()
}

fn write_config(request: &Request, options: &Options) -> Object {
    let sampling = &request.sampling;
    let mut out = Object::new();
    out.maybe("maxOutputTokens", sampling.max_tokens);
    out.maybe("temperature", number(&sampling.temperature));
    out.maybe("topP", number(&sampling.top_p)).maybe("topK", number(&sampling.top_k));
    out.many("stopSequences", sampling.stop.iter().map(|stop| stop.as_str().into()).collect());
    out.maybe("seed", number(&sampling.seed));
    out.maybe("presencePenalty", number(&sampling.presence_penalty));
    out.maybe("frequencyPenalty", number(&sampling.frequency_penalty));
    out.maybe("candidateCount", sampling.candidates);
    out.maybe("responseLogprobs", sampling.logprobs).maybe("logprobs", sampling.top_logprobs);
    match &request.format {
        Some(Format::Text) => out.set("responseMimeType", "text/plain"),
        Some(Format::Json) => out.set("responseMimeType", "application/json"),
        Some(Format::Schema { schema, .. }) => {
            out.set("responseMimeType", "application/json").set("responseJsonSchema", schema.clone())
        }
        None => &mut out,
    };
    let mut thinking = Object::new();
    let effort = request.thinking.effort.as_deref();
    match (request.thinking.tokens(options.thinking_budget), request.thinking.budget) {
        (Some(budget), _) => thinking.set("thinkingBudget", budget),
        (None, Some(Budget::Off)) => thinking.set("thinkingBudget", 0),
        (None, Some(Budget::Adaptive)) if effort.is_none() => thinking.set("thinkingBudget", -1),
        _ => match effort {
            Some("none") => thinking.set("thinkingBudget", 0),
            Some("xhigh" | "max") => thinking.set("thinkingLevel", "HIGH"),
            effort => thinking.maybe("thinkingLevel", effort.map(str::to_ascii_uppercase)),
        },
    };
    thinking.maybe("includeThoughts", request.thinking.show);
    out.filled("thinkingConfig", thinking);
    out
}

/// Writes the parts of one content after another.
struct PartWriter<'w> {
    /// Names of functions by the ids of their calls.
    names: &'w HashMap<&'w str, &'w str>,
    /// Seals of other providers may be written: the client keeps them for us. Providers get their own alone.
    foreign: bool,
    losses: &'w mut Losses,
    calls: usize,
}

impl PartWriter<'_> {
    fn write<'a>(&mut self, parts: impl Iterator<Item = &'a Part>, path: &str) -> Vec<Value> {
        let mut out = Vec::new();
        let mut held: Option<&Seal> = None;
        for (index, part) in parts.enumerate() {
            let path = format!("{path}[{index}]");
            if part.cache.is_some() {
                self.losses.add(format!("{path}.cache_control"), "Gemini caches prompts by itself");
            }
            let Some(mut object) = self.part(part, &path, &mut held) else {
                continue;
            };
            if matches!(part.content, Content::Call(_)) {
                self.calls += 1;
                if held.is_none() && self.calls == 1 && !self.foreign {
                    object.set("thoughtSignature", FOREIGN);
                }
            }
            if let Some(seal) = held.take() {
                object.set("thoughtSignature", seal.value.as_str());
            }
            out.push(object.into());
        }
        if let Some(seal) = held {
            let mut object = Object::new();
            object.set("text", "").set("thoughtSignature", seal.value.as_str());
            out.push(object.into());
        }
        out
    }

    fn part<'a>(&mut self, part: &'a Part, path: &str, held: &mut Option<&'a Seal>) -> Option<Object> {
        let mut out = Object::new();
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => out.set("text", text.as_str()),
            Content::Media(media) => return self.media(media, path),
            Content::Call(call) => {
                let mut inner = Object::new();
                inner.set("id", call.id.as_str()).set("name", call.name.as_str());
                inner.set("args", arguments(&call.arguments, path, self.losses));
                out.set("functionCall", inner)
            }
            Content::Result(result) => {
                let name = result.name.as_deref().or_else(|| self.names.get(result.id.as_str()).copied());
                let mut inner = Object::new();
                inner.set("id", result.id.as_str()).set("name", name.unwrap_or(&result.id));
                inner.set("response", write_response(result));
                let media = result.content.iter().filter_map(|part| match &part.content {
                    Content::Media(media) => self.media(media, path).map(Value::from),
                    _ => None,
                });
                let media = media.collect();
                inner.many("parts", media);
                out.set("functionResponse", inner)
            }
            Content::Thought(thought) => {
                let own = thought.seal.as_ref().is_some_and(|seal| seal.origin == Origin::Gemini);
                if own && thought.text.is_empty() {
                    *held = thought.seal.as_ref();
                    return None;
                }
                if !own && !self.foreign {
                    self.losses.add(path, "a thought Gemini did not have is not taken");
                    return None;
                }
                out.set("text", thought.text.as_str()).set("thought", true);
                out.maybe("thoughtSignature", thought.seal.as_ref().map(write_seal))
            }
        };
        Some(out)
    }

    fn media(&mut self, media: &Media, path: &str) -> Option<Object> {
        let fallback = match media.kind {
            Kind::Image => "image/png",
            Kind::Document => "application/pdf",
            Kind::Audio => "audio/wav",
            Kind::Video => "video/mp4",
        };
        if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.losses.add(format!("{path}.detail"), "Gemini has no level of detail by part");
        }
        let (mut out, mut inner) = (Object::new(), Object::new());
        let named = media.name.as_deref().and_then(media::type_by_name);
        match &media.source {
            Source::Base64(data) => {
                let media_type = media.media_type.as_deref().or(named).unwrap_or(fallback);
                inner.set("mimeType", media_type).set("data", data.as_str());
                inner.maybe("displayName", media.name.clone());
                out.set("inlineData", inner);
            }
            Source::Text(text) => {
                inner.set("mimeType", "text/plain").set("data", media::encode(text));
                inner.maybe("displayName", media.name.clone());
                out.set("inlineData", inner);
            }
            Source::Url(url) => {
                let guess = media::type_by_name(url).unwrap_or(fallback);
                inner.set("mimeType", media.media_type.as_deref().unwrap_or(guess)).set("fileUri", url.as_str());
                out.set("fileData", inner);
            }
            Source::File(_) => {
                self.losses.add(format!("{path}.file_id"), "a file kept at another provider");
                return None;
            }
        }
        Some(out)
    }
}

/// Bytes on Gemini's wire are base64.
pub(super) fn write_seal(seal: &Seal) -> String {
    match seal.origin {
        Origin::Gemini => seal.value.clone(),
        _ => media::encode(seal.write(Origin::Gemini).as_ref()),
    }
}

pub(super) fn read_answer(body: &Value, context: &Context, losses: &mut Losses) -> Result<Answer, Refused> {
    let mut fields = Fields::proto(body);
    if !body.is_object() {
        return Err(shape("", "an object"));
    }
    let mut answer =
        Answer { id: fields.string("responseId"), model: fields.string("modelVersion"), ..Answer::default() };
    answer.usage = fields.any("usageMetadata").and_then(|usage| Usage::read(Dialect::Gemini, usage));
    let mut ids = Ids { context: Some(context), count: 0, open: HashMap::new() };
    for (index, candidate) in fields.list("candidates").iter().enumerate() {
        let path = format!("candidates[{index}]");
        let mut candidate = Fields::proto(candidate);
        let mut read = Candidate::default();
        let parts = candidate.inner("content").list("parts");
        read_parts(parts, &format!("{path}.content.parts"), &mut ids, &mut read.parts, losses);
        let calls = read.parts.iter().any(|part| matches!(part.content, Content::Call(_)));
        read.stop = candidate.text("finishReason").map(|reason| read_stop(reason, calls));
        read.logprobs = read_logprobs(&mut candidate);
        for cited in ["citationMetadata", "groundingMetadata", "urlContextMetadata"] {
            if candidate.object(cited).is_some() {
                losses.add(format!("{path}.{cited}"), "citations are not translated");
            }
        }
        answer.candidates.push(read);
    }
    if answer.candidates.is_empty() {
        if fields.inner("promptFeedback").text("blockReason").is_none() {
            return Err(shape("candidates", "a list of at least one"));
        }
        answer.candidates.push(Candidate { stop: Some(Stop::Filter), ..Candidate::default() });
    }
    Ok(answer)
}

pub(super) fn read_stop(reason: &str, calls: bool) -> Stop {
    match reason {
        "STOP" if calls => Stop::Tool,
        "MAX_TOKENS" => Stop::Length,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY" | "MODEL_ARMOR" => {
            Stop::Filter
        }
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "MALFORMED_RESPONSE" => Stop::Malformed,
        _ => Stop::End,
    }
}

pub(super) fn write_stop(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Sequence | Stop::Tool | Stop::Pause => "STOP",
        Stop::Length | Stop::Context => "MAX_TOKENS",
        Stop::Filter | Stop::Refusal => "SAFETY",
        Stop::Malformed => "MALFORMED_RESPONSE",
    }
}

/// `logprobsResult` of a candidate.
pub(super) fn read_logprobs(candidate: &mut Fields<'_>) -> Vec<Logprob> {
    let mut result = candidate.inner("logprobsResult");
    let entry = |value: &Value| {
        let mut fields = Fields::proto(value);
        Some((fields.string("token")?, fields.number("logProbability")?))
    };
    let tops = result.list("topCandidates");
    let chosen = result.list("chosenCandidates").iter().enumerate();
    chosen
        .filter_map(|(index, value)| {
            let (token, logprob) = entry(value)?;
            let top = tops.get(index).map(|top| Fields::proto(top).list("candidates")).unwrap_or_default();
            Some(Logprob { token, logprob, top: top.iter().filter_map(entry).collect() })
        })
        .collect()
}

pub(super) fn write_logprobs(list: &[Logprob]) -> Value {
    let entry = |token: &str, logprob: &serde_json::Number| {
        let mut out = Object::new();
        out.set("token", token).set("logProbability", Value::Number(logprob.clone()));
        Value::from(out)
    };
    let tops = list.iter().map(|logprob| {
        let mut out = Object::new();
        out.set("candidates", logprob.top.iter().map(|(token, number)| entry(token, number)).collect::<Vec<_>>());
        Value::from(out)
    });
    let mut out = Object::new();
    out.set("topCandidates", tops.collect::<Vec<_>>());
    out.set("chosenCandidates", list.iter().map(|one| entry(&one.token, &one.logprob)).collect::<Vec<_>>());
    out.into()
}

pub(super) fn write_answer(answer: &Answer, context: &Context, losses: &mut Losses) -> Value {
    let names = HashMap::new();
    let mut candidates: Vec<Value> = Vec::with_capacity(answer.candidates.len());
    for (index, candidate) in answer.candidates.iter().enumerate() {
        let mut writer = PartWriter { names: &names, foreign: true, losses, calls: 0 };
        let parts = writer.write(candidate.parts.iter(), &format!("candidates[{index}].content.parts"));
        let (mut out, mut content) = (Object::new(), Object::new());
        content.set("parts", parts).set("role", "model");
        out.set("content", content).set("finishReason", write_stop(candidate.stop.unwrap_or(Stop::End)));
        out.set("index", index);
        if !candidate.logprobs.is_empty() {
            out.set("logprobsResult", write_logprobs(&candidate.logprobs));
        }
        candidates.push(out.into());
    }
    let mut out = Object::new();
    out.set("candidates", candidates);
    out.maybe("usageMetadata", answer.usage.as_ref().map(|usage| usage.write(Dialect::Gemini)));
    out.set("modelVersion", context.model(answer.model.as_deref()));
    out.set("responseId", answer.id.clone().unwrap_or_else(|| context.id("", 0)));
    out.into()
}
