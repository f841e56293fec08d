//! The configuration of the AI gateway: providers, virtual models, prices, the store of keys, and a route's part.

use super::{Duration, Size};
use crate::llm::price::Prices;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The AI gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ai {
    /// Who serves models, by name.
    pub providers: BTreeMap<String, Provider>,
    /// Names that clients ask for, and what serves them.
    pub models: BTreeMap<String, VirtualModel>,
    /// Prices in USD per million tokens by `provider/model` or `model`; they go before the catalogue that comes with pygate.
    pub prices: BTreeMap<String, Prices>,
    /// Where keys, teams, projects and usage are kept.
    pub store: Store,
}

/// What a provider is; decides its address, dialect and how it is authenticated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    OpenAi,
    /// Azure OpenAI, by its `/openai/v1` address.
    Azure,
    Anthropic,
    Gemini,
    /// Gemini on Vertex AI; the credential is an OAuth access token.
    Vertex,
    /// Bedrock's Converse; the credential is `ACCESS_KEY:SECRET_KEY[:SESSION_TOKEN]` or a Bedrock API key.
    Bedrock,
    Mistral,
    Cohere,
    Groq,
    DeepSeek,
    Xai,
    OpenRouter,
    Together,
    Fireworks,
    Ollama,
    Vllm,
    /// Anything that speaks OpenAI's chat completions at `base_url`.
    Compatible,
}

/// Somebody who serves models.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// What it is.
    pub kind: ProviderKind,
    /// `https://host[:port][/prefix]`; default: the kind's public address, if it has one.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Name → credential, as `env:NAME` or `file:PATH`. Several are used in turn; none: calls carry none.
    #[serde(default)]
    pub credentials: BTreeMap<String, String>,
    /// Region that requests are signed for (Bedrock).
    #[serde(default)]
    pub region: Option<String>,
    /// Service whose endpoints, TLS and health checks are used instead of the host of `base_url`.
    #[serde(default)]
    pub service: Option<String>,
    /// Fields added to every call.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Time to establish a connection.
    #[serde(default = "defaults::connect")]
    pub connect_timeout: Duration,
    /// Time from the request's end to the answer's head.
    #[serde(default = "defaults::first_byte")]
    pub first_byte_timeout: Duration,
    /// Longest gap between two pieces of an answer.
    #[serde(default = "defaults::gap")]
    pub body_timeout: Duration,
}

/// A name that clients ask for.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualModel {
    /// What serves it: `"provider/model"`, or tables with weight, priority and conditions.
    pub targets: Vec<Target>,
    /// How one of the targets of the best priority is chosen.
    #[serde(default)]
    pub strategy: ModelStrategy,
    /// Time to the first token of a stream; then the next target is tried.
    #[serde(default)]
    pub first_token_timeout: Option<Duration>,
    /// Targets tried for one call.
    #[serde(default = "defaults::attempts")]
    #[schemars(range(min = 1, max = 16))]
    pub attempts: u8,
}

/// How a target is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelStrategy {
    /// By weight, at random.
    #[default]
    Weighted,
    /// The one with the fewest tokens in flight for its weight.
    LeastTokens,
    /// The one whose time to the first token was lately shortest (peak-sensitive moving average).
    Fastest,
    /// The one with the lowest price.
    Cheapest,
}

/// A model of a provider.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Target {
    /// `"provider/model"`
    Name(String),
    Table(TargetTable),
}

/// A model of a provider, with conditions.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetTable {
    /// A name under `ai.providers`.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// Share of calls relative to the other targets of its priority.
    #[serde(default = "defaults::one")]
    pub weight: u32,
    /// Lower comes first; others are for when those fail.
    #[serde(default)]
    pub priority: u8,
    /// Only for calls for which all of this holds.
    #[serde(default)]
    pub when: When,
    /// What it can do, of `vision`, `audio`, `video`, `documents`, `tools`, `json`, `reasoning`; absent: everything.
    #[serde(default)]
    pub can: Option<Vec<Capability>>,
}

/// Something a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    Vision,
    Audio,
    Video,
    Documents,
    Tools,
    Json,
    Reasoning,
}

/// Conditions on a call that must all hold.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Request field → exact value, or `*` for "present".
    pub header: BTreeMap<String, String>,
    /// Ids or names of keys.
    pub key: Vec<String>,
    /// Teams.
    pub team: Vec<String>,
    /// Estimated prompt tokens, at least.
    pub min_prompt_tokens: Option<u64>,
    /// Estimated prompt tokens, at most.
    pub max_prompt_tokens: Option<u64>,
}

/// Where keys, teams, projects and usage are kept.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `sqlite:PATH`, relative to the audit directory, or `postgresql://…` (also as `env:NAME`).
    pub url: String,
}

impl Default for Store {
    fn default() -> Self {
        Store { url: "sqlite:keys.db".into() }
    }
}

/// What an AI route serves. Which call a request is, is told by the end of its path (`/chat/completions`, `/messages`,
/// `/models/NAME:generateContent` …).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteLlm {
    /// Virtual models served here; empty: all.
    pub models: Vec<String>,
    /// Whether callers need a virtual key.
    pub keys: KeyUse,
    /// What becomes of what a target cannot express.
    pub loss: LossUse,
    /// Longest request body.
    pub max_body: Size,
    /// Longest prompt, in estimated tokens.
    pub max_prompt_tokens: Option<u64>,
    /// Most output tokens a call may ask for; written into calls that ask for none.
    pub max_output_tokens: Option<u64>,
    /// Calls may offer tools to the model.
    pub tools: bool,
    /// Answer for a budget that is used up: 429, or 402.
    pub over_budget: OverBudget,
    /// Keep answers and give them again to the same question of the same tenant (team, else key); absent: no.
    pub cache: Option<AnswerCache>,
    /// Put what the call cost into the field `x-pygate-cost` (of whole answers; a stream's is known at its end).
    pub cost_header: bool,
}

impl Default for RouteLlm {
    fn default() -> Self {
        RouteLlm {
            models: Vec::new(),
            keys: KeyUse::Required,
            loss: LossUse::Drop,
            max_body: Size(32 << 20),
            max_prompt_tokens: None,
            max_output_tokens: None,
            tools: true,
            over_budget: OverBudget::TooManyRequests,
            cache: None,
            cost_header: false,
        }
    }
}

/// How answers are kept: in each worker's memory, whole and streamed ones apart, only what ended cleanly.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerCache {
    /// How long an answer is given again.
    pub ttl: Duration,
    /// Bytes of all answers kept by one worker; the least recently used go first. An answer has at most 1 MiB.
    pub max_bytes: Size,
}

impl Default for AnswerCache {
    fn default() -> Self {
        AnswerCache { ttl: Duration::secs(300), max_bytes: Size(64 << 20) }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyUse {
    /// Calls without a valid key are refused.
    #[default]
    Required,
    /// Keys are not looked at: another policy guards the route.
    Off,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LossUse {
    /// It is left out and reported in `x-pygate-translation-loss` and in the audit record.
    #[default]
    Drop,
    /// The call is refused.
    Refuse,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OverBudget {
    #[default]
    #[serde(rename = "429")]
    TooManyRequests,
    #[serde(rename = "402")]
    PaymentRequired,
}

mod defaults {
    use super::Duration;

    pub fn connect() -> Duration {
        Duration::secs(5)
    }
    pub fn first_byte() -> Duration {
        Duration::secs(600)
    }
    pub fn gap() -> Duration {
        Duration::secs(120)
    }
    pub fn one() -> u32 {
        1
    }
    pub fn attempts() -> u8 {
        4
    }
}
