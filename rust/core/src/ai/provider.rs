//! Providers: what each kind is, and how a call to one is addressed and authenticated.

use crate::balance::Address;
use crate::config::{Provider, ProviderKind, Service};
use crate::error::Problem;
use crate::llm::request::Call;
use crate::llm::sigv4;
use crate::llm::Dialect;
use crate::message::fields::{is_field_name, is_field_value};
use crate::message::Fields;
use crate::shared::stable_hash;
use std::fmt::Write;

/// How a credential is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `authorization: Bearer …`
    Bearer,
    /// In a field of this name.
    Field(&'static str),
    /// AWS Signature Version 4, where the credential is a pair of keys.
    Sign,
}

/// A secret that says of itself only that there is one.
pub struct Credential {
    pub name: String,
    /// What is kept of it per worker is kept under this.
    pub key: u64,
    secret: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({})", self.name)
    }
}

#[derive(Debug)]
pub struct ProviderPlan {
    pub name: String,
    pub kind: ProviderKind,
    /// Number of the service that is connected to.
    pub service: u32,
    /// Path in front of every call's own, without a final slash.
    prefix: String,
    auth: Auth,
    region: String,
    pub credentials: Vec<Credential>,
    headers: Vec<(String, String)>,
}

/// What is known of a kind.
struct Facts {
    base_url: Option<&'static str>,
    auth: Auth,
}

fn facts(kind: ProviderKind) -> Facts {
    let openai = |base_url| Facts { base_url: Some(base_url), auth: Auth::Bearer };
    match kind {
        ProviderKind::OpenAi => openai("https://api.openai.com/v1"),
        ProviderKind::Mistral => openai("https://api.mistral.ai/v1"),
        ProviderKind::Cohere => openai("https://api.cohere.ai/compatibility/v1"),
        ProviderKind::Groq => openai("https://api.groq.com/openai/v1"),
        ProviderKind::DeepSeek => openai("https://api.deepseek.com/v1"),
        ProviderKind::Xai => openai("https://api.x.ai/v1"),
        ProviderKind::OpenRouter => openai("https://openrouter.ai/api/v1"),
        ProviderKind::Together => openai("https://api.together.xyz/v1"),
        ProviderKind::Fireworks => openai("https://api.fireworks.ai/inference/v1"),
        ProviderKind::Ollama => openai("http://127.0.0.1:11434/v1"),
        ProviderKind::Vllm => openai("http://127.0.0.1:8000/v1"),
        ProviderKind::Compatible => Facts { base_url: None, auth: Auth::Bearer },
        ProviderKind::Azure => Facts { base_url: None, auth: Auth::Field("api-key") },
        ProviderKind::Anthropic => {
            Facts { base_url: Some("https://api.anthropic.com"), auth: Auth::Field("x-api-key") }
        }
        ProviderKind::Gemini => {
            Facts { base_url: Some("https://generativelanguage.googleapis.com"), auth: Auth::Field("x-goog-api-key") }
        }
        ProviderKind::Vertex => Facts { base_url: None, auth: Auth::Bearer },
        ProviderKind::Bedrock => Facts { base_url: None, auth: Auth::Sign },
    }
}

/// The name of the service a provider without one of its own is reached by.
pub fn service_name(provider: &str) -> String {
    format!("ai/{provider}")
}

/// The service that stands for a provider without one of its own.
pub fn service(provider: &Provider) -> Option<Service> {
    if provider.service.is_some() {
        return None;
    }
    let (origin, _) = split(&base_url(provider)?)?;
    let mut service: Service = serde_json::from_value(serde_json::json!({ "endpoints": [origin] })).ok()?;
    service.connect_timeout = provider.connect_timeout;
    service.first_byte_timeout = provider.first_byte_timeout;
    service.body_timeout = provider.body_timeout;
    service.pass_host = false;
    service.max_connections = 0;
    Some(service)
}

fn base_url(provider: &Provider) -> Option<String> {
    match (&provider.base_url, provider.kind, &provider.region) {
        (Some(url), _, _) => Some(url.clone()),
        (None, ProviderKind::Bedrock, Some(region)) => Some(format!("https://bedrock-runtime.{region}.amazonaws.com")),
        (None, kind, _) => facts(kind).base_url.map(str::to_owned),
    }
}

/// Origin and path.
fn split(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    Some((format!("{scheme}://{authority}"), if path.is_empty() { String::new() } else { format!("/{path}") }))
}

impl ProviderPlan {
    pub fn compile(
        name: &str,
        config: &Provider,
        service: impl Fn(&str) -> Option<u32>,
    ) -> Result<ProviderPlan, Vec<Problem>> {
        let at = |key: &str| format!("ai.providers.{name}.{key}");
        let mut problems = Vec::new();
        let url = base_url(config);
        let (origin, prefix) = match url.as_deref().map(split) {
            Some(Some(parts)) => parts,
            Some(None) => {
                let problem = Problem::new(at("base_url"), format!("{:?} is not a URL", url.unwrap_or_default()));
                problems.push(problem.expected("`https://host[:port][/prefix]`"));
                Default::default()
            }
            None => {
                let (what, expected) = match config.kind {
                    ProviderKind::Bedrock => ("its region is not given", "`region`, such as \"eu-central-1\""),
                    _ => ("this kind has no public address", "`base_url`"),
                };
                problems.push(Problem::new(at("base_url"), what).expected(expected));
                Default::default()
            }
        };
        if config.service.is_none() && !origin.is_empty() {
            if let Err(why) = Address::parse(&origin) {
                problems.push(Problem::new(at("base_url"), format!("{origin:?}: {why}")));
            }
        }
        if prefix.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'?' | b'#')) {
            problems.push(Problem::new(at("base_url"), "its path may have no query and no fragment"));
        }
        for (field, value) in &config.headers {
            if !is_field_name(field.as_bytes()) || !is_field_value(value.as_bytes()) {
                problems.push(Problem::new(at(&format!("headers.{field}")), "is not a field"));
            }
        }
        for (credential, secret) in &config.credentials {
            if !is_field_value(secret.as_bytes()) || secret.is_empty() {
                problems.push(Problem::new(at(&format!("credentials.{credential}")), "cannot be sent in a field"));
            }
        }
        if config.kind == ProviderKind::Bedrock && config.region.is_none() {
            problems
                .push(Problem::new(at("region"), "calls are signed for a region").expected("such as \"eu-central-1\""));
        }
        let number = service(config.service.as_deref().unwrap_or(&service_name(name)));
        if let (None, Some(named)) = (number, &config.service) {
            problems.push(Problem::new(at("service"), format!("there is no service {named:?}")));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(ProviderPlan {
            name: name.to_owned(),
            kind: config.kind,
            service: number.unwrap_or_default(),
            prefix,
            auth: facts(config.kind).auth,
            region: config.region.clone().unwrap_or_default(),
            credentials: config
                .credentials
                .iter()
                .map(|(credential, secret)| Credential {
                    name: credential.clone(),
                    key: stable_hash(&[b"credential", name.as_bytes(), credential.as_bytes()]),
                    secret: secret.clone(),
                })
                .collect(),
            headers: config.headers.iter().map(|(k, v)| (k.to_ascii_lowercase(), v.clone())).collect(),
        })
    }

    /// The dialect a chat is sent to it in, for a client that speaks `client`.
    pub fn dialect(&self, client: Dialect) -> Dialect {
        match self.kind {
            ProviderKind::Anthropic => Dialect::Anthropic,
            ProviderKind::Gemini | ProviderKind::Vertex => Dialect::Gemini,
            ProviderKind::Bedrock => Dialect::Bedrock,
            ProviderKind::OpenAi | ProviderKind::Azure if client == Dialect::OpenAiResponses => client,
            _ => Dialect::OpenAiChat,
        }
    }

    /// Path and query of a call. `own` is what follows the version in the client's path, for calls that are passed on as
    /// they are.
    pub fn target(&self, dialect: Dialect, call: Call, model: &str, stream: bool, own: &str) -> String {
        let mut path = self.prefix.clone();
        let version = match self.kind {
            ProviderKind::Anthropic => "/v1",
            ProviderKind::Gemini => "/v1beta",
            ProviderKind::Vertex => "/publishers/google",
            _ => "",
        };
        path.push_str(version);
        match (dialect, call) {
            (Dialect::OpenAiChat, Call::Chat) => path.push_str("/chat/completions"),
            (Dialect::OpenAiResponses, Call::Chat) => path.push_str("/responses"),
            (Dialect::Anthropic, Call::Chat) => path.push_str("/messages"),
            (Dialect::Gemini, Call::Chat) if stream => {
                path.push_str("/models/");
                encode(&mut path, model);
                path.push_str(":streamGenerateContent?alt=sse");
            }
            (Dialect::Gemini, Call::Chat) => {
                path.push_str("/models/");
                encode(&mut path, model);
                path.push_str(":generateContent");
            }
            (Dialect::Bedrock, Call::Chat) => {
                path.push_str("/model/");
                encode(&mut path, model);
                path.push_str(if stream { "/converse-stream" } else { "/converse" });
            }
            (Dialect::Gemini, _) => {
                path.push_str("/models/");
                encode(&mut path, model);
                let (own, query) = own.split_once('?').map_or((own, None), |(own, query)| (own, Some(query)));
                path.push_str(own.rfind(':').map_or("", |at| &own[at..]));
                if let Some(query) = query {
                    path.push('?');
                    path.push_str(query);
                }
            }
            (_, Call::Realtime) => {
                path.push_str("/realtime?model=");
                encode(&mut path, model);
            }
            _ => path.push_str(own),
        }
        path
    }

    /// Adds what authenticates a call, and the fields every call of this provider has.
    pub fn authenticate(&self, fields: &mut Fields, credential: Option<&Credential>, sent: &Sent<'_>, unix: u64) {
        for (name, value) in &self.headers {
            fields.set(name.as_bytes(), value.as_bytes());
        }
        if self.kind == ProviderKind::Anthropic && fields.get(b"anthropic-version").is_none() {
            fields.append(b"anthropic-version", b"2023-06-01");
        }
        let Some(credential) = credential else { return };
        let secret = credential.secret.as_str();
        match (self.auth, secret.split_once(':')) {
            (Auth::Field(name), _) => fields.set(name.as_bytes(), secret.as_bytes()),
            (Auth::Sign, Some((key_id, rest))) => {
                let (secret, session_token) = match rest.split_once(':') {
                    Some((secret, token)) => (secret, Some(token)),
                    None => (rest, None),
                };
                let (path, query) = sent.target.split_once('?').unwrap_or((sent.target, ""));
                let request =
                    sigv4::Request { method: sent.method, path, query, host: sent.host, fields: &[], body: sent.body };
                let credentials = sigv4::Credentials { key_id, secret, session_token };
                let scope = sigv4::Scope { region: &self.region, service: "bedrock" };
                for (name, value) in sigv4::sign(&request, &credentials, &scope, unix) {
                    fields.set(name.as_bytes(), value.as_bytes());
                }
            }
            (Auth::Bearer, _) | (Auth::Sign, None) => {
                let mut value = String::with_capacity(7 + secret.len());
                let _ = write!(value, "Bearer {secret}");
                fields.set(b"authorization", value.as_bytes());
            }
        }
    }
}

/// A request as it is sent: what a signature covers.
pub struct Sent<'a> {
    pub method: &'a str,
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    pub body: &'a [u8],
}

/// A path segment (RFC 3986 §3.3), everything but unreserved bytes escaped.
fn encode(path: &mut String, segment: &str) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
}
