//! Edits of a request's body: those every call of a virtual model needs in one copy, those of policies by path.

use super::super::json::{self, edit, Fault, Step};
use super::super::Dialect;
use super::Peek;
use std::ops::Range;

/// What to change in the copy [`Peek::rewrite`] makes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes<'a> {
    /// The name the provider knows. Nothing for Gemini and Bedrock, where it is in the path.
    pub model: Option<&'a str>,
    pub stream: Option<bool>,
    /// Ask for the usage chunk at the end of a stream of OpenAI's chat.
    pub include_usage: bool,
}

impl Peek {
    /// Appends the body this was read from with `changes`; all other bytes stay as they are.
    pub fn rewrite(&self, body: &[u8], changes: Changes<'_>, out: &mut Vec<u8>) {
        let places = &self.places;
        let mut cuts: Vec<(Range<usize>, Vec<u8>)> = Vec::with_capacity(4);
        let mut added = Vec::new();
        if let Some(model) = changes.model {
            let mut value = Vec::with_capacity(model.len() + 2);
            json::write_string(&mut value, model);
            put(&places.model, "model", value, &mut cuts, &mut added);
        }
        if let Some(stream) = changes.stream {
            let value = if stream { b"true".to_vec() } else { b"false".to_vec() };
            put(&places.stream, "stream", value, &mut cuts, &mut added);
        }
        if changes.include_usage && !self.include_usage {
            match (&places.include_usage, &places.stream_options) {
                (Some(range), _) => cuts.push((range.clone(), b"true".to_vec())),
                (None, Some(range)) => cuts.push(within(body, range)),
                (None, None) => {
                    put(&None, "stream_options", b"{\"include_usage\":true}".to_vec(), &mut cuts, &mut added)
                }
            }
        }
        if !added.is_empty() {
            // Every addition begins with a comma, which the first of an empty object does not have.
            let skip = usize::from(places.empty);
            cuts.push((places.end..places.end, added.split_off(skip)));
        }
        cuts.sort_by_key(|(range, _)| range.start);
        out.reserve(body.len() + 64);
        let mut from = 0;
        for (range, bytes) in &cuts {
            out.extend_from_slice(body.get(from..range.start).unwrap_or_default());
            out.extend_from_slice(bytes);
            from = range.end;
        }
        out.extend_from_slice(body.get(from..).unwrap_or_default());
    }
}

fn put(
    place: &Option<Range<usize>>,
    name: &str,
    value: Vec<u8>,
    cuts: &mut Vec<(Range<usize>, Vec<u8>)>,
    added: &mut Vec<u8>,
) {
    match place {
        Some(range) => cuts.push((range.clone(), value)),
        None => {
            added.push(b',');
            json::write_string(added, name);
            added.push(b':');
            added.extend_from_slice(&value);
        }
    }
}

/// `include_usage` as the first member of the object at `range`; what is no object gives way to one.
fn within(body: &[u8], range: &Range<usize>) -> (Range<usize>, Vec<u8>) {
    let rest = body.get(range.clone()).and_then(|value| value.strip_prefix(b"{")).map(<[u8]>::trim_ascii_start);
    let at = range.start + 1;
    match rest {
        Some(b"}") => (at..at, b"\"include_usage\":true".to_vec()),
        Some(_) => (at..at, b"\"include_usage\":true,".to_vec()),
        None => (range.clone(), b"{\"include_usage\":true}".to_vec()),
    }
}

/// Sets the limit of output tokens. Chat has two names for it: those that stand there are set, else the newer, or
/// with `older` the one that compatible providers know.
pub fn set_max_output(dialect: Dialect, body: &mut Vec<u8>, limit: u64, older: bool) -> Result<(), Fault> {
    let value = limit.to_string();
    let set = |body: &mut Vec<u8>, path: &[&str]| {
        let path: Vec<Step<'_>> = path.iter().map(|name| Step::Name(name)).collect();
        edit::set(body, &path, value.as_bytes()).map(|_| ())
    };
    match dialect {
        Dialect::OpenAiChat => {
            let members = json::members(body, &[])?;
            let has = |name: &str| members.iter().any(|member| member.name.is(name));
            let (new, old) = (has("max_completion_tokens"), has("max_tokens"));
            drop(members);
            if old || (older && !new) {
                set(body, &["max_tokens"])?;
            }
            if new || (!older && !old) {
                set(body, &["max_completion_tokens"])?;
            }
            Ok(())
        }
        Dialect::OpenAiResponses => set(body, &["max_output_tokens"]),
        Dialect::Anthropic => set(body, &["max_tokens"]),
        Dialect::Gemini => {
            // Under either spelling, whichever stands there.
            let members = json::members(body, &[])?;
            let snake = members.iter().any(|member| member.name.is("generation_config"));
            drop(members);
            let outer = if snake { "generation_config" } else { "generationConfig" };
            edit::remove(body, &[outer.into(), "max_output_tokens".into()])?;
            set(body, &[outer, "maxOutputTokens"])
        }
        Dialect::Bedrock => set(body, &["inferenceConfig", "maxTokens"]),
    }
}
