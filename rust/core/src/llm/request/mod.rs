//! What policies need to know of a request, read in one pass over its body without building it.
//!
//! Rules:
//! 1. Only what the dialect itself gives a meaning counts: a `max_tokens` in a Responses body is no limit.
//! 2. Members that decide something may stand only once in their object; what was meant to be a model's or a tool's
//!    name and is no string is refused. Everything else of a wrong kind is the provider's to refuse.
//! 3. Gemini reads `snake_case` as `camelCase`; so does this, and both together are one name twice.
//! 4. Estimates ([`Prompt::tokens`]) are for reservations and choices; bills are settled from the provider's usage.

mod operation;
mod prompt;
mod rewrite;
mod tools;

pub use operation::{operation, Call, Operation};
pub use prompt::Prompt;
pub use rewrite::{set_max_output, Changes};

use super::json::{self, Cursor, Fault, Kind, Once, Text};
use super::Dialect;
use std::borrow::Cow;
use std::ops::Range;

/// Names of members that decide policies, in whatever object they are read.
const DECISIVE: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "include_usage",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "maxOutputTokens",
    "maxTokens",
    "n",
    "candidateCount",
    "temperature",
    "tools",
    "functions",
    "toolConfig",
    "messages",
    "input",
    "prompt",
    "instructions",
    "system",
    "contents",
    "content",
    "requests",
    "systemInstruction",
    "generationConfig",
    "inferenceConfig",
    "user",
    "safety_identifier",
    "metadata",
    "user_id",
    "previous_response_id",
    "response_format",
    "text",
    "format",
    "output_format",
    "output_config",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "modalities",
    "responseModalities",
    "name",
    "type",
    "function",
    "custom",
    "toolSpec",
    "functionDeclarations",
];

/// What a model must be able to do to answer a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub vision: bool,
    pub audio: bool,
    pub video: bool,
    pub documents: bool,
    pub tools: bool,
    /// Output as JSON, free or by a schema.
    pub json_output: bool,
    pub reasoning: bool,
    pub audio_output: bool,
    pub image_output: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peek {
    /// Gemini and Bedrock name it in the path instead, see [`operation`].
    pub model: Option<String>,
    /// As the body says; Gemini and Bedrock say it in the path.
    pub stream: bool,
    /// `stream_options.include_usage` is set.
    pub include_usage: bool,
    pub max_output: Option<u64>,
    /// Answers asked for (`n`, `candidateCount`), at least one.
    pub choices: u64,
    pub temperature: Option<f64>,
    /// Names of tools offered; built-in ones by their type.
    pub tools: Vec<String>,
    pub needs: Needs,
    /// The end user, as the client names them.
    pub user: Option<String>,
    /// The prompt continues one that the provider keeps; its size is not known here.
    pub previous_response: Option<String>,
    pub prompt: Prompt,
    places: Places,
}

/// Where edits of [`rewrite`] go.
#[derive(Clone, Debug, Default, PartialEq)]
struct Places {
    model: Option<Range<usize>>,
    stream: Option<Range<usize>>,
    stream_options: Option<Range<usize>>,
    include_usage: Option<Range<usize>>,
    /// Behind the last member, or the opening brace.
    end: usize,
    empty: bool,
}

impl Peek {
    /// Reads a request's body: of a chat-like call, or of `embeddings`, `completions` and the like in OpenAI's form.
    pub fn read(dialect: Dialect, body: &[u8]) -> Result<Peek, Fault> {
        json::utf8(body)?;
        let mut peek = Peek { choices: 1, ..Peek::default() };
        peek.prompt = Prompt::new(dialect);
        let mut cursor = Cursor::new(body);
        cursor.must(Kind::Object)?;
        peek.places = Places { end: cursor.at() + 1, empty: true, ..Places::default() };
        object(dialect, &mut cursor, |name, cursor| {
            let begin = cursor.at();
            peek.member(dialect, name, cursor)?;
            if cursor.at() == begin {
                cursor.skip()?;
            }
            (peek.places.end, peek.places.empty) = (cursor.at(), false);
            Ok(())
        })?;
        cursor.end()?;
        let prompt = &peek.prompt;
        peek.needs.tools = !peek.tools.is_empty();
        peek.needs.vision = prompt.images > 0;
        peek.needs.audio = prompt.audio > 0;
        peek.needs.video = prompt.videos > 0;
        peek.needs.documents = prompt.documents > 0;
        Ok(peek)
    }

    fn member<'a>(&mut self, dialect: Dialect, name: &str, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        use Dialect::{Anthropic, Bedrock, Gemini, OpenAiChat, OpenAiResponses};
        match (dialect, name) {
            (OpenAiChat | OpenAiResponses | Anthropic, "model") => {
                if let Some(text) = chosen(cursor)? {
                    self.places.model = Some(text.range());
                    self.model = Some(text.decode().into_owned());
                }
            }
            (OpenAiChat | OpenAiResponses | Anthropic, "stream") => {
                let begin = cursor.at();
                self.stream = cursor.bool_or_skip()? == Some(true);
                self.places.stream = Some(begin..cursor.at());
            }
            (OpenAiChat, "stream_options") => {
                let begin = cursor.at();
                object(dialect, cursor, |name, cursor| {
                    if name == "include_usage" {
                        let begin = cursor.at();
                        self.include_usage = cursor.bool_or_skip()? == Some(true);
                        self.places.include_usage = Some(begin..cursor.at());
                    }
                    Ok(())
                })?;
                self.places.stream_options = Some(begin..cursor.at());
            }
            (OpenAiChat, "max_tokens" | "max_completion_tokens")
            | (OpenAiResponses, "max_output_tokens")
            | (Anthropic, "max_tokens") => self.limit(cursor)?,
            (OpenAiChat, "n") => self.choices = cursor.integer_or_skip()?.unwrap_or(1).max(1),
            (OpenAiChat | OpenAiResponses | Anthropic, "temperature") => self.temperature = number(cursor)?,
            (OpenAiChat | OpenAiResponses, "user" | "safety_identifier") => self.name_user(cursor)?,
            (Anthropic, "metadata") => {
                object(
                    dialect,
                    cursor,
                    |name, cursor| if name == "user_id" { self.name_user(cursor) } else { Ok(()) },
                )?;
            }
            (OpenAiResponses, "previous_response_id") => {
                self.previous_response = cursor.text_or_skip()?.map(|text| text.decode().into_owned());
            }
            (OpenAiChat, "reasoning_effort") | (OpenAiResponses, "reasoning") => {
                self.needs.reasoning |= cursor.peek()? != Kind::Null;
            }
            (Anthropic, "thinking") => {
                self.needs.reasoning |= typed(dialect, cursor)?.is_some_and(|kind| kind != "disabled");
            }
            (OpenAiChat, "response_format") | (Anthropic, "output_format") => self.format(dialect, cursor)?,
            (OpenAiResponses, "text") | (Anthropic, "output_config") => {
                object(dialect, cursor, |name, cursor| match name {
                    "format" => self.format(dialect, cursor),
                    _ => Ok(()),
                })?;
            }
            (OpenAiChat, "modalities") => self.modalities(cursor)?,
            (OpenAiChat | OpenAiResponses | Anthropic, "tools") | (OpenAiChat, "functions") | (Gemini, "tools") => {
                self.tools(dialect, cursor)?;
            }
            (Bedrock, "toolConfig") => {
                object(dialect, cursor, |name, cursor| match name {
                    "tools" => self.tools(dialect, cursor),
                    _ => Ok(()),
                })?;
            }
            (Gemini, "generationConfig") => {
                object(dialect, cursor, |name, cursor| self.generation(dialect, name, cursor))?;
            }
            (Bedrock, "inferenceConfig") => {
                object(dialect, cursor, |name, cursor| match name {
                    "maxTokens" => self.limit(cursor),
                    "temperature" => {
                        self.temperature = number(cursor)?;
                        Ok(())
                    }
                    _ => Ok(()),
                })?;
            }
            (OpenAiChat | Anthropic | Bedrock, "messages")
            | (OpenAiResponses | OpenAiChat, "input")
            | (Gemini, "contents" | "requests") => self.prompt.conversation(cursor)?,
            (OpenAiChat, "prompt")
            | (OpenAiResponses, "instructions" | "prompt")
            | (Anthropic | Bedrock, "system")
            | (Gemini, "systemInstruction" | "content") => self.prompt.part(cursor)?,
            _ => {}
        }
        Ok(())
    }

    fn generation<'a>(&mut self, dialect: Dialect, name: &str, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        match name {
            "maxOutputTokens" => self.limit(cursor)?,
            "candidateCount" => self.choices = cursor.integer_or_skip()?.unwrap_or(1).max(1),
            "temperature" => self.temperature = number(cursor)?,
            "responseMimeType" => {
                let kind = cursor.text_or_skip()?;
                self.needs.json_output |= kind.is_some_and(|kind| kind.is("application/json"));
            }
            "responseSchema" | "responseJsonSchema" => {
                self.needs.json_output |= cursor.peek()? == Kind::Object;
                self.prompt.structure(cursor)?;
            }
            "responseModalities" => self.modalities(cursor)?,
            "thinkingConfig" => {
                object(dialect, cursor, |name, cursor| {
                    match name {
                        "thinkingBudget" => self.needs.reasoning |= cursor.integer_or_skip()? != Some(0),
                        "thinkingLevel" => self.needs.reasoning |= cursor.peek()? == Kind::String,
                        _ => {}
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn limit(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        self.max_output = self.max_output.max(cursor.integer_or_skip()?);
        Ok(())
    }

    fn name_user(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        if let Some(text) = cursor.text_or_skip()? {
            self.user.get_or_insert_with(|| text.decode().into_owned());
        }
        Ok(())
    }

    /// `{"type": "json_schema", …}` and the like.
    fn format(&mut self, dialect: Dialect, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        let mut schema = cursor.clone();
        if typed(dialect, cursor)?.is_some_and(|kind| kind.starts_with("json")) {
            self.needs.json_output = true;
            self.prompt.structure(&mut schema)?;
        }
        Ok(())
    }

    fn modalities(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        cursor.elements(|cursor| {
            if let Some(text) = cursor.text_or_skip()? {
                let text = text.decode();
                self.needs.audio_output |= text.eq_ignore_ascii_case("audio");
                self.needs.image_output |= text.eq_ignore_ascii_case("image");
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// [`Cursor::members`] with names decoded, and those of [`DECISIVE`] refused when they stand twice.
fn object<'a>(
    dialect: Dialect,
    cursor: &mut Cursor<'a>,
    mut tell: impl FnMut(&str, &mut Cursor<'a>) -> Result<(), Fault>,
) -> Result<bool, Fault> {
    let mut once = Once::new(DECISIVE);
    cursor.members(|name, cursor| {
        let decoded = canonical(dialect, name.decode());
        once.see(&decoded, name.range().start)?;
        let begin = cursor.at();
        tell(&decoded, cursor)?;
        if cursor.at() == begin {
            cursor.skip()?;
        }
        Ok(())
    })
}

fn canonical(dialect: Dialect, name: Cow<'_, str>) -> Cow<'_, str> {
    if dialect != Dialect::Gemini || !name.contains('_') {
        return name;
    }
    let mut camel = String::with_capacity(name.len());
    let mut up = false;
    for c in name.chars() {
        match c {
            '_' => up = true,
            c => camel.push(if std::mem::take(&mut up) { c.to_ascii_uppercase() } else { c }),
        }
    }
    Cow::Owned(camel)
}

/// A name that decides: a string, or null for none.
fn chosen<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Text<'a>>, Fault> {
    match cursor.peek()? {
        Kind::Null => cursor.skip().map(|_| None),
        _ => cursor.string().map(Some),
    }
}

fn owned(text: Option<Text<'_>>) -> Option<String> {
    text.map(|text| text.decode().into_owned())
}

fn number(cursor: &mut Cursor<'_>) -> Result<Option<f64>, Fault> {
    let range = cursor.skip()?;
    Ok(std::str::from_utf8(cursor.slice(range)).ok().and_then(|number| number.parse().ok()))
}

/// The `type` of an object.
fn typed(dialect: Dialect, cursor: &mut Cursor<'_>) -> Result<Option<String>, Fault> {
    let mut kind = None;
    object(dialect, cursor, |name, cursor| {
        if name == "type" {
            kind = owned(cursor.text_or_skip()?);
        }
        Ok(())
    })?;
    Ok(kind)
}

#[cfg(test)]
mod tests;
