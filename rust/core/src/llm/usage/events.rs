//! What one event, or a whole answer, of each dialect says to the [`Meter`].
//!
//! Rules:
//! 1. Names are followed only where the dialect puts them: a `usage` in a tool's arguments is nobody's usage.
//! 2. Generated text is every string below a delta but for labels, ids, signatures and data.

use super::super::json::{self, Cursor, Fault, Kind};
use super::meter::{short, Meter, Seen, Spoken};
use super::Dialect;
use memchr::memmem::Finder;
use std::sync::LazyLock;

impl Meter {
    pub(super) fn read_event(&mut self, name: Option<&str>, data: &[u8]) -> Result<(), Fault> {
        if data.trim_ascii() == b"[DONE]" {
            self.seen.terminal = true;
            return Ok(());
        }
        if self.dialect == Dialect::OpenAiChat && name.is_none() && self.seen.id.is_some() {
            if let Some(choices) = choices_alone(data) {
                let mut cursor = Cursor::new(choices);
                return cursor.elements(|cursor| choice(&mut self.seen, cursor)).map(|_| ());
            }
        }
        self.read(name, data, false)
    }

    pub(super) fn read_whole(&mut self, body: &[u8]) -> Result<(), Fault> {
        json::utf8(body)?;
        // Gemini's stream without `alt=sse` is an array of what would be events.
        let mut cursor = Cursor::new(body);
        if cursor.peek()? == Kind::Array {
            cursor.elements(|cursor| {
                let range = cursor.skip()?;
                self.read(None, cursor.slice(range), true)
            })?;
            return cursor.end();
        }
        self.read(None, body, true)
    }

    fn read(&mut self, name: Option<&str>, data: &[u8], whole: bool) -> Result<(), Fault> {
        let mut cursor = Cursor::new(data);
        cursor.must(Kind::Object)?;
        let mut usage = None;
        match self.dialect {
            Dialect::OpenAiChat => chat(&mut self.seen, &mut cursor, &mut usage)?,
            Dialect::OpenAiResponses => responses(&mut self.seen, name, whole, &mut cursor, &mut usage)?,
            Dialect::Anthropic => anthropic(&mut self.seen, name, &mut cursor, &mut usage)?,
            Dialect::Gemini => gemini(&mut self.seen, &mut cursor, &mut usage)?,
            Dialect::Bedrock => bedrock(&mut self.seen, &mut cursor, &mut usage)?,
        }
        if name == Some("error") {
            self.seen.failed = true;
        }
        cursor.end()?;
        if let Some(object) = usage {
            self.note(object);
        }
        Ok(())
    }
}

static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"error\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));
static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"choices\""));

/// A chunk of chat from the value of `choices` on, if there is nothing else in it to be read: most of a chunk repeats
/// what all of them say. Quotes within strings are escaped, so what is found with its quotes is no text.
fn choices_alone(data: &[u8]) -> Option<&[u8]> {
    if ERROR.find(data).is_some() {
        return None;
    }
    if let Some(at) = USAGE.find(data) {
        let value = data.get(at + 7..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        if !value.starts_with(b"null") {
            return None;
        }
    }
    let at = CHOICES.find(data)?;
    data.get(at + 9..)?.trim_ascii_start().strip_prefix(b":")
}

/// The usage object of an event, unread.
type Found<'a> = Option<&'a [u8]>;

fn object<'a>(cursor: &mut Cursor<'a>, found: &mut Found<'a>) -> Result<(), Fault> {
    let kind = cursor.peek()?;
    let range = cursor.skip()?;
    if kind == Kind::Object {
        *found = Some(cursor.slice(range));
    }
    Ok(())
}

fn word(cursor: &mut Cursor<'_>, kept: &mut Option<String>) -> Result<(), Fault> {
    if kept.is_none() {
        *kept = cursor.text_or_skip()?.map(|text| short(&text.decode()));
    }
    Ok(())
}

/// A reason; null while there is none.
fn reason(cursor: &mut Cursor<'_>, seen: &mut Seen) -> Result<bool, Fault> {
    match cursor.text_or_skip()? {
        Some(text) if !text.raw().is_empty() => {
            seen.reason(&text.decode());
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// An `error` member, unless it is null, false or empty.
fn error(cursor: &mut Cursor<'_>, seen: &mut Seen) -> Result<(), Fault> {
    let range = cursor.skip()?;
    seen.failed |= !matches!(cursor.slice(range), b"null" | b"false" | b"\"\"" | b"{}");
    Ok(())
}

/// Counts what was generated.
fn spoken(name: &[u8], cursor: &mut Cursor<'_>, count: &mut Spoken) -> Result<(), Fault> {
    match cursor.peek()? {
        Kind::String => {
            let text = cursor.string()?;
            match name {
                b"type" | b"role" | b"id" | b"call_id" | b"status" | b"mimeType" | b"data" | b"index" => {}
                b"signature" | b"thoughtSignature" | b"encrypted_content" | b"redactedContent" => {}
                _ => count.add(text.raw()),
            }
            Ok(())
        }
        Kind::Object => cursor.members(|name, cursor| spoken(name.raw(), cursor, count)).map(|_| ()),
        Kind::Array => cursor.elements(|cursor| spoken(name, cursor, count)).map(|_| ()),
        _ => cursor.skip().map(|_| ()),
    }
}

/// Chunks and whole answers of chat, text completions, embeddings, images, transcriptions.
fn chat<'a>(seen: &mut Seen, cursor: &mut Cursor<'a>, usage: &mut Found<'a>) -> Result<(), Fault> {
    cursor.members(|name, cursor| match name.raw() {
        b"choices" => cursor.elements(|cursor| choice(seen, cursor)).map(|_| ()),
        b"usage" => object(cursor, usage),
        // Groq's, when no usage chunk was asked for.
        b"x_groq" => cursor
            .members(|name, cursor| match name.raw() {
                b"usage" => object(cursor, usage),
                b"error" => error(cursor, seen),
                _ => Ok(()),
            })
            .map(|_| ()),
        b"error" => error(cursor, seen),
        b"id" => word(cursor, &mut seen.id),
        b"model" => word(cursor, &mut seen.model),
        _ => Ok(()),
    })?;
    Ok(())
}

fn choice(seen: &mut Seen, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    let mut index = 0;
    let mut stopped = false;
    cursor.members(|name, cursor| match name.raw() {
        b"delta" | b"message" | b"text" => spoken(b"", cursor, &mut seen.spoken),
        b"finish_reason" => {
            stopped = reason(cursor, seen)?;
            Ok(())
        }
        b"index" => {
            index = cursor.integer_or_skip()?.unwrap_or(0);
            Ok(())
        }
        _ => Ok(()),
    })?;
    let bit = 1 << index.min(63);
    seen.begun |= bit;
    seen.stopped |= if stopped { bit } else { 0 };
    Ok(())
}

fn responses<'a>(
    seen: &mut Seen,
    name: Option<&str>,
    whole: bool,
    cursor: &mut Cursor<'a>,
    usage: &mut Found<'a>,
) -> Result<(), Fault> {
    let mut kind = None;
    let mut text = Spoken::default();
    let mut why = None;
    cursor.members(|name, cursor| match name.raw() {
        b"type" => {
            kind = cursor.text_or_skip()?;
            Ok(())
        }
        b"delta" => spoken(b"", cursor, &mut text),
        b"response" => cursor.members(|name, cursor| response(seen, name.raw(), cursor, usage, &mut why)).map(|_| ()),
        b"output" if whole => spoken(b"", cursor, &mut seen.spoken),
        name if whole => response(seen, name, cursor, usage, &mut why),
        _ => Ok(()),
    })?;
    let kind = kind.as_ref().and_then(|kind| kind.plain()).or(name.map(str::as_bytes)).unwrap_or_default();
    match kind {
        b"response.completed" | b"response.incomplete" => {
            seen.terminal = true;
            seen.stopped |= 1;
        }
        b"response.failed" | b"error" => seen.failed = true,
        // Sound in base64.
        b"response.audio.delta" | b"response.output_audio.delta" => {}
        kind if kind.ends_with(b".delta") => {
            seen.begun |= 1;
            seen.spoken.ascii += text.ascii;
            seen.spoken.wide += text.wide;
        }
        _ => {}
    }
    if matches!(kind, b"response.completed" | b"response.incomplete") || whole {
        if let Some(why) = why {
            seen.reason(&why);
        }
    }
    Ok(())
}

/// A member of a response object. `why` becomes the status, or what made it incomplete.
fn response<'a>(
    seen: &mut Seen,
    name: &[u8],
    cursor: &mut Cursor<'a>,
    usage: &mut Found<'a>,
    why: &mut Option<String>,
) -> Result<(), Fault> {
    match name {
        b"id" => word(cursor, &mut seen.id)?,
        b"model" => word(cursor, &mut seen.model)?,
        b"usage" => object(cursor, usage)?,
        b"error" => error(cursor, seen)?,
        b"status" => word(cursor, why)?,
        b"incomplete_details" => {
            cursor.members(|name, cursor| {
                if name.is("reason") {
                    *why = cursor.text_or_skip()?.map(|text| short(&text.decode())).or(why.take());
                }
                Ok(())
            })?;
        }
        _ => {}
    }
    Ok(())
}

fn anthropic<'a>(
    seen: &mut Seen,
    event: Option<&str>,
    cursor: &mut Cursor<'a>,
    usage: &mut Found<'a>,
) -> Result<(), Fault> {
    let mut kind = None;
    let message = |seen: &mut Seen, name: &[u8], cursor: &mut Cursor<'a>, usage: &mut Found<'a>| {
        match name {
            b"id" => word(cursor, &mut seen.id)?,
            b"model" => word(cursor, &mut seen.model)?,
            b"usage" => object(cursor, usage)?,
            b"content" => spoken(b"", cursor, &mut seen.spoken)?,
            b"stop_reason" => seen.stopped |= u64::from(reason(cursor, seen)?),
            _ => {}
        }
        Ok(())
    };
    cursor.members(|name, cursor| match name.raw() {
        b"type" => {
            kind = cursor.text_or_skip()?;
            Ok(())
        }
        b"message" => cursor.members(|name, cursor| message(seen, name.raw(), cursor, usage)).map(|_| ()),
        b"delta" => cursor
            .members(|name, cursor| match name.raw() {
                b"stop_reason" => {
                    seen.stopped |= u64::from(reason(cursor, seen)?);
                    Ok(())
                }
                b"stop_sequence" | b"container" => Ok(()),
                name => spoken(name, cursor, &mut seen.spoken),
            })
            .map(|_| ()),
        b"error" => error(cursor, seen),
        name => message(seen, name, cursor, usage),
    })?;
    seen.begun |= 1;
    match kind.as_ref().and_then(|kind| kind.plain()).or(event.map(str::as_bytes)).unwrap_or_default() {
        b"message_stop" => seen.terminal = true,
        b"error" => seen.failed = true,
        _ => {}
    }
    Ok(())
}

fn gemini<'a>(seen: &mut Seen, cursor: &mut Cursor<'a>, usage: &mut Found<'a>) -> Result<(), Fault> {
    cursor.members(|name, cursor| match name.raw() {
        b"candidates" => cursor
            .elements(|cursor| {
                let (mut index, mut stopped) = (0, false);
                cursor.members(|name, cursor| {
                    match name.raw() {
                        b"content" => spoken(b"", cursor, &mut seen.spoken)?,
                        b"finishReason" => stopped = reason(cursor, seen)?,
                        b"index" => index = cursor.integer_or_skip()?.unwrap_or(0),
                        _ => {}
                    }
                    Ok(())
                })?;
                let bit = 1 << index.min(63);
                seen.begun |= bit;
                seen.stopped |= if stopped { bit } else { 0 };
                // There is no other terminal event.
                seen.terminal = seen.begun & !seen.stopped == 0;
                Ok(())
            })
            .map(|_| ()),
        b"usageMetadata" => object(cursor, usage),
        b"promptFeedback" => cursor
            .members(|name, cursor| {
                if name.is("blockReason") && reason(cursor, seen)? {
                    seen.terminal = true;
                }
                Ok(())
            })
            .map(|_| ()),
        b"responseId" => word(cursor, &mut seen.id),
        b"modelVersion" => word(cursor, &mut seen.model),
        b"error" => error(cursor, seen),
        _ => Ok(()),
    })?;
    Ok(())
}

/// Payloads of frames, whose names say nothing that their members do not, and whole answers.
fn bedrock<'a>(seen: &mut Seen, cursor: &mut Cursor<'a>, usage: &mut Found<'a>) -> Result<(), Fault> {
    seen.begun |= 1;
    cursor.members(|name, cursor| match name.raw() {
        b"delta" | b"output" => spoken(b"", cursor, &mut seen.spoken),
        b"stopReason" => {
            if reason(cursor, seen)? {
                seen.stopped |= 1;
                seen.terminal = true;
            }
            Ok(())
        }
        b"usage" => object(cursor, usage),
        _ => Ok(()),
    })?;
    Ok(())
}
