//! The intermediate representation every dialect is read into and written from.
//!
//! Owns what a conversation, an answer and a streamed answer are, whatever the wire calls them. Rules:
//! - a turn is what one side said; tool results are parts of the user's turn, thoughts and calls of the assistant's;
//! - arguments of a tool call are JSON text, as a stream brings them;
//! - a thought's signature means something to the provider that made it alone, so it carries its [`Origin`];
//! - `usage` counts as [`crate::llm::Usage`] does.
//!
//! It knows no dialect, never reads JSON, and holds nothing the wire did not bring.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use crate::llm::Usage;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Request {
    pub model: Option<String>,
    pub stream: bool,
    /// The client asked for usage in the stream; of meaning in OpenAI chat alone.
    pub include_usage: bool,
    pub system: Vec<Part>,
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    pub parallel_tools: Option<bool>,
    pub format: Option<Format>,
    pub sampling: Sampling,
    pub thinking: Thinking,
    pub user: Option<String>,
    pub metadata: Map<String, Value>,
    /// Fields both OpenAI dialects share by name and meaning; see [`OPENAI_SHARED`].
    pub openai: Map<String, Value>,
}

/// What chat and responses alike call so, and no other dialect knows.
pub(super) const OPENAI_SHARED: [&str; 8] = [
    "store",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "moderation",
    "verbosity",
];

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sampling {
    pub max_tokens: Option<u64>,
    pub temperature: Option<Number>,
    pub top_p: Option<Number>,
    pub top_k: Option<Number>,
    pub stop: Vec<String>,
    pub seed: Option<Number>,
    pub presence_penalty: Option<Number>,
    pub frequency_penalty: Option<Number>,
    pub candidates: Option<u64>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<u64>,
}

/// How much the model may think, in the words the client chose.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Thinking {
    /// none, minimal, low, medium, high, xhigh or max.
    pub effort: Option<String>,
    pub budget: Option<Budget>,
    /// Whether thoughts are to be shown, and for the responses dialect how: auto, concise, detailed.
    pub show: Option<bool>,
    pub summary: Option<String>,
    /// Encrypted thoughts are wanted in the answer (responses' `include`).
    pub encrypted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Budget {
    Off,
    Adaptive,
    Tokens(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    System,
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    pub role: Role,
    pub parts: Vec<Part>,
    pub name: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub content: Content,
    /// The prompt up to and including this part is to be cached.
    pub cache: Option<Cache>,
}

impl From<Content> for Part {
    fn from(content: Content) -> Self {
        Part { content, cache: None }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cache {
    /// "5m" or "1h"; the provider's default when absent.
    pub ttl: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Text(String),
    Refusal(String),
    Media(Media),
    Call(Call),
    Result(ToolResult),
    Thought(Thought),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Media {
    pub kind: Kind,
    pub source: Source,
    /// As in RFC 6838; absent when the dialect does not say.
    pub media_type: Option<String>,
    pub name: Option<String>,
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Image,
    Document,
    Audio,
    Video,
}

impl Kind {
    pub(super) fn of(media_type: &str) -> Kind {
        match media_type.split_once('/').map_or("", |(kind, _)| kind) {
            "image" => Kind::Image,
            "audio" => Kind::Audio,
            "video" => Kind::Video,
            _ => Kind::Document,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Image => "image",
            Kind::Document => "document",
            Kind::Audio => "audio",
            Kind::Video => "video",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    Base64(String),
    Url(String),
    /// A name in the provider's own file store.
    File(String),
    Text(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub id: String,
    pub name: String,
    pub arguments: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ToolResult {
    pub id: String,
    pub name: Option<String>,
    pub content: Vec<Part>,
    pub error: bool,
}

/// Thinking: its text, and what the provider wants back to believe it. Text may be empty: then only the seal counts, and
/// it belongs to the part that follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Thought {
    pub text: String,
    pub seal: Option<Seal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub origin: Origin,
    pub value: String,
}

/// Who can verify a seal. Claude's are the same at Anthropic and at Bedrock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Anthropic,
    /// The data of a redacted block, which has no text.
    Redacted,
    Gemini,
    OpenAi,
    Unknown,
}

impl Origin {
    const NAMES: [(Origin, &'static str); 5] = [
        (Origin::Anthropic, "anthropic"),
        (Origin::Redacted, "redacted"),
        (Origin::Gemini, "gemini"),
        (Origin::OpenAi, "openai"),
        (Origin::Unknown, "unknown"),
    ];
}

const MARK: &str = "pygate:";

impl Seal {
    pub(super) fn new(origin: Origin, value: impl Into<String>) -> Seal {
        Seal { origin, value: value.into() }
    }

    /// Reads a seal out of a field of `home`'s: it is `home`'s own unless the mark says otherwise.
    pub(super) fn read(home: Origin, value: &str) -> Seal {
        let marked = value.strip_prefix(MARK).and_then(|rest| rest.split_once(':'));
        let known = marked.and_then(|(name, rest)| {
            let (origin, _) = Origin::NAMES.iter().find(|(_, n)| *n == name)?;
            Some(Seal::new(*origin, rest))
        });
        known.unwrap_or_else(|| Seal::new(home, value))
    }

    /// The seal for a field of `home`'s: bare when it is at home there, marked when it only travels through.
    pub(super) fn write(&self, home: Origin) -> Cow<'_, str> {
        if self.origin == home {
            return Cow::Borrowed(&self.value);
        }
        Cow::Owned(self.marked())
    }

    pub(super) fn marked(&self) -> String {
        let name = Origin::NAMES.iter().find(|(o, _)| *o == self.origin).map_or("unknown", |(_, n)| n);
        format!("{MARK}{name}:{}", self.value)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// JSON Schema of the arguments.
    pub schema: Option<Value>,
    pub strict: Option<bool>,
    pub cache: Option<Cache>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToolChoice {
    Auto,
    None,
    Any,
    Tool(String),
    /// One of these, or none of them unless `must`.
    Allowed {
        must: bool,
        names: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Format {
    Text,
    Json,
    Schema { name: Option<String>, description: Option<String>, schema: Value, strict: Option<bool> },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub id: Option<String>,
    pub model: Option<String>,
    pub created: Option<u64>,
    pub candidates: Vec<Candidate>,
    pub usage: Option<Usage>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Candidate {
    pub parts: Vec<Part>,
    pub stop: Option<Stop>,
    pub sequence: Option<String>,
    pub logprobs: Vec<Logprob>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    End,
    Length,
    Sequence,
    Tool,
    Filter,
    Refusal,
    /// The context window is full.
    Context,
    /// A long turn was paused by the provider.
    Pause,
    /// The model produced what the provider could not read.
    Malformed,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Logprob {
    pub token: String,
    pub logprob: Number,
    pub top: Vec<(String, Number)>,
}

/// What a block of a streamed answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Text,
    Refusal,
    Thought,
    Call { id: String, name: String },
}

/// What a stream reader finds. `slot` tells blocks of one kind apart; only calls are opened, nothing need be closed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Delta<'a> {
    Head {
        id: Option<&'a str>,
        model: Option<&'a str>,
        created: Option<u64>,
    },
    Open {
        slot: u32,
        id: Cow<'a, str>,
        name: &'a str,
    },
    Text {
        slot: u32,
        text: &'a str,
        logprobs: Vec<Logprob>,
    },
    Refusal {
        slot: u32,
        text: &'a str,
    },
    Thought {
        slot: u32,
        text: &'a str,
    },
    Seal {
        slot: u32,
        seal: Seal,
    },
    Arguments {
        slot: u32,
        json: &'a str,
    },
    Close {
        slot: u32,
    },
    Finish {
        stop: Stop,
        sequence: Option<&'a str>,
    },
    /// A usage object of the provider's, whole or in part; later members win.
    Usage(&'a Value),
    /// The same, unparsed; of use for providers that tell it with every piece.
    RawUsage(&'a str),
    /// The provider's own error event, as it came.
    Failed(&'a [u8]),
    /// The dialect's terminal event.
    Done,
}

/// What a stream writer is told, in strict order for each candidate: `Start`, `Open`, its deltas, `Close`, …, `Finish`;
/// and one `End` after all.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event<'a> {
    Start,
    Open(&'a Block),
    Text(&'a str, &'a [Logprob]),
    Refusal(&'a str),
    Thought(&'a str),
    Seal(&'a Seal),
    Arguments(&'a str),
    Close,
    Finish { stop: Stop, sequence: Option<&'a str> },
    End(Option<&'a Usage>),
}

/// Turns of one role that follow each other become one, for dialects that alternate. Those of the system, which have no
/// place there, are left out.
pub(super) fn alternate(turns: &[Turn]) -> Vec<(Role, Vec<&Part>)> {
    let mut merged: Vec<(Role, Vec<&Part>)> = Vec::with_capacity(turns.len());
    for turn in turns.iter().filter(|turn| turn.role != Role::System) {
        match merged.last_mut() {
            Some((role, last)) if *role == turn.role => last.extend(&turn.parts),
            _ => merged.push((turn.role, turn.parts.iter().collect())),
        }
    }
    merged
}

/// The text of parts, one after the other.
pub(super) fn text_of(parts: &[Part]) -> String {
    let mut text = String::new();
    for part in parts {
        if let Content::Text(piece) | Content::Refusal(piece) = &part.content {
            text.push_str(piece);
        }
    }
    text
}

impl Answer {
    /// Sets right what providers leave to be inferred: a call of the tool that stood for a JSON answer becomes that
    /// answer, an end with calls is an end for them, and a call without id gets one.
    pub(super) fn settle(&mut self, context: &super::Context) {
        let mut unnamed = 0;
        for candidate in &mut self.candidates {
            let mut calls = false;
            for part in &mut candidate.parts {
                if let Content::Call(call) = &mut part.content {
                    if call.name == super::JSON_TOOL {
                        part.content = Content::Text(std::mem::take(&mut call.arguments));
                        continue;
                    }
                    calls = true;
                    if call.id.is_empty() {
                        unnamed += 1;
                        call.id = context.id("call_", unnamed);
                    }
                }
            }
            candidate.stop = Some(candidate.stop.unwrap_or(Stop::End).settle(calls));
        }
    }
}

impl Stop {
    /// An end of an answer with calls is for them, and none without is.
    pub(super) fn settle(self, calls: bool) -> Stop {
        match self {
            Stop::End if calls => Stop::Tool,
            Stop::Tool if !calls => Stop::End,
            other => other,
        }
    }
}

impl Thinking {
    /// The budget to be written, if it is to be a number of tokens: one the client gave, or the effort's if `wanted`.
    pub(super) fn tokens(&self, wanted: bool) -> Option<u64> {
        match (self.budget, self.effort.as_deref()) {
            (Some(Budget::Tokens(budget)), _) => Some(budget),
            (Some(Budget::Off), _) | (_, None) => None,
            (_, Some(effort)) if wanted => match effort {
                "none" => None,
                "minimal" => Some(1024),
                "low" => Some(4096),
                "medium" => Some(10_240),
                "high" => Some(24_576),
                _ => Some(32_768),
            },
            _ => None,
        }
    }
}
