//! A request translated there and back says what it said, for every pair of dialects, as far as both can say it – and
//! then nothing is reported as lost.

use proptest::prelude::*;
use serde_json::{json, Number, Value};

use super::chat::{
    alternate, Budget, Cache, Call, Content, Format, Kind, Media, Part, Request, Role, Sampling, Source, Thinking,
    Tool, ToolChoice, ToolResult, Turn,
};
use super::*;

fn read(dialect: Dialect, body: &[u8]) -> Request {
    let value: Value = serde_json::from_slice(body).unwrap();
    let losses = &mut Losses::default();
    let request = match dialect {
        Dialect::OpenAiChat => openai_chat::read_request(&value, losses),
        Dialect::OpenAiResponses => openai_responses::read_request(&value, losses),
        Dialect::Anthropic => anthropic::read_request(&value, losses),
        Dialect::Gemini => gemini::read_request(&value, losses),
        Dialect::Bedrock => bedrock::read_request(&value, losses),
    };
    assert!(losses.is_empty(), "{losses:?}");
    request.unwrap()
}

fn write(dialect: Dialect, request: &Request) -> Vec<u8> {
    let (losses, options) = (&mut Losses::default(), &Options::default());
    let value = match dialect {
        Dialect::OpenAiChat => openai_chat::write_request(request, losses),
        Dialect::OpenAiResponses => openai_responses::write_request(request, losses),
        Dialect::Anthropic => anthropic::write_request(request, options, losses),
        Dialect::Gemini => gemini::write_request(request, options, losses),
        Dialect::Bedrock => bedrock::write_request(request, options, losses),
    };
    assert!(losses.is_empty(), "{losses:?}");
    value.to_string().into_bytes()
}

/// What means the same is the same.
fn canonical(mut request: Request) -> Request {
    for tool in &mut request.tools {
        tool.strict = tool.strict.filter(|strict| *strict);
    }
    if let Some(Format::Schema { name, strict, .. }) = &mut request.format {
        (*name, *strict) = (None, None);
    }
    request.openai.shift_remove("store");
    request.include_usage = false;
    // Whether thoughts are shown is inferred from other fields where a dialect does not say it.
    (request.thinking.encrypted, request.thinking.show, request.thinking.summary) = (false, None, None);
    let merged = alternate(&request.turns).into_iter().map(|(role, parts)| {
        let mut parts: Vec<Part> = parts.into_iter().cloned().collect();
        for part in &mut parts {
            if let Content::Result(result) = &mut part.content {
                result.name = None;
            }
        }
        Turn { role, parts, name: None }
    });
    request.turns = merged.collect();
    request
}

/// What both of a pair have.
#[derive(Clone, Copy, Debug)]
struct Both(Dialect, Dialect);

impl Both {
    fn within(self, dialects: &[Dialect]) -> bool {
        dialects.contains(&self.0) && dialects.contains(&self.1)
    }

    fn without(self, dialect: Dialect) -> bool {
        self.0 != dialect && self.1 != dialect
    }
}

use Dialect::{Anthropic, Bedrock, Gemini, OpenAiChat, OpenAiResponses};

fn text() -> impl Strategy<Value = Content> {
    "[a-zA-Z äß😀\n\"]{1,20}".prop_map(Content::Text)
}

fn media(both: Both) -> impl Strategy<Value = Content> {
    let image = |source, media_type: Option<&str>| {
        let media_type = media_type.map(str::to_owned);
        Content::Media(Media { kind: Kind::Image, source, media_type, name: None, detail: None })
    };
    let url = match both.without(Bedrock) && both.without(Gemini) {
        true => Source::Url("https://example.com/cat.png".into()),
        false => Source::Base64("aWE=".into()),
    };
    let of_url = matches!(url, Source::Base64(_)).then_some("image/gif");
    // Responses demands a level of detail, and writes the one that means none.
    let detail = (!both.without(OpenAiResponses) && both.within(&[OpenAiChat, OpenAiResponses])).then_some("auto");
    let images = [image(url, of_url), image(Source::Base64("aWI=".into()), Some("image/png"))].map(|content| {
        let Content::Media(mut media) = content else { unreachable!() };
        media.detail = detail.map(str::to_owned);
        Content::Media(media)
    });
    let document = Content::Media(Media {
        kind: Kind::Document,
        source: Source::Base64("JVBERg==".into()),
        media_type: Some("application/pdf".into()),
        name: Some("report (1)".into()),
        detail: None,
    });
    prop::sample::select([images.to_vec(), vec![document]].concat())
}

fn cached(content: Content, cache: bool, both: Both) -> Part {
    let cache = (cache && both.within(&[Anthropic, Bedrock])).then(|| Cache { ttl: Some("1h".into()) });
    Part { content, cache }
}

/// A question, perhaps calls and their results, and an answer.
fn exchange(both: Both) -> impl Strategy<Value = Vec<Turn>> {
    let asked = prop::collection::vec(prop_oneof![3 => text(), 1 => media(both)], 1..3);
    let results = prop::collection::vec(("[a-z ]{1,8}", "[a-z]{1,5}"), 0..3);
    (asked, results, text(), any::<bool>()).prop_map(move |(asked, results, answer, cache)| {
        let turn = |role, parts| Turn { role, parts, name: None };
        let mut turns = vec![turn(Role::User, asked.into_iter().map(|content| cached(content, cache, both)).collect())];
        let names = results.iter().enumerate();
        let call = |(index, (text, name)): (usize, &(String, String))| {
            let arguments = json!({"q": text, "n": [index]}).to_string();
            Part::from(Content::Call(Call { id: format!("call_{index}"), name: name.clone(), arguments }))
        };
        let calls: Vec<Part> = names.map(call).collect();
        if !calls.is_empty() {
            turns.push(turn(Role::Assistant, calls));
            let result = |(index, (text, name)): (usize, (String, String))| {
                let content = vec![Content::Text(text).into()];
                let result = ToolResult { id: format!("call_{index}"), name: Some(name), content, error: false };
                Part::from(Content::Result(result))
            };
            turns.push(turn(Role::User, results.into_iter().enumerate().map(result).collect()));
        }
        turns.push(turn(Role::Assistant, vec![answer.into()]));
        turns
    })
}

fn requests(both: Both) -> impl Strategy<Value = Request> {
    let schema = || json!({"type": "object", "properties": {"q": {"type": "string"}}, "additionalProperties": false});
    let tools = prop::collection::vec(("[a-z]{1,6}", any::<bool>()), 0..3);
    let shape = (prop::option::of(text()), prop::collection::vec(exchange(both), 1..3), any::<bool>(), tools);
    let choices = (0..4usize, any::<bool>(), any::<bool>(), 0..5usize, 0..8u8);
    (shape, choices).prop_map(move |((system, turns, cache, tools), (choice, format, effort, level, sampled))| {
        let on = |bit: u8| sampled & (1 << bit) != 0;
        let number = |x: f64| Number::from_f64(x);
        let tools: Vec<Tool> = tools
            .into_iter()
            .map(|(name, described)| Tool {
                name,
                description: described.then(|| "does it".to_owned()),
                schema: Some(schema()),
                strict: None,
                cache: cached(Content::Text(String::new()), cache, both).cache,
            })
            .collect();
        let named = tools.first().map(|tool| tool.name.clone());
        let tool_choice = named.and_then(|name| match choice {
            0 => Some(ToolChoice::Auto),
            1 => Some(ToolChoice::Any),
            2 => Some(ToolChoice::Tool(name)),
            _ => None,
        });
        let mut request = Request {
            model: (both.without(Gemini) && both.without(Bedrock)).then(|| "some-model".to_owned()),
            system: system.into_iter().map(|content| cached(content, cache, both)).collect(),
            turns: turns.into_iter().flatten().collect(),
            tools,
            tool_choice,
            format: format.then(|| Format::Schema { name: None, description: None, schema: schema(), strict: None }),
            sampling: Sampling {
                max_tokens: Some(1000),
                temperature: on(0).then(|| number(0.25)).flatten(),
                top_p: on(1).then(|| number(0.5)).flatten(),
                top_k: both.within(&[Anthropic, Gemini, Bedrock]).then(|| Number::from(40)),
                stop: if both.without(OpenAiResponses) { vec!["END".into()] } else { Vec::new() },
                ..Sampling::default()
            },
            ..Request::default()
        };
        if both.within(&[OpenAiChat, Gemini]) {
            request.sampling.seed = Some(7.into());
            request.sampling.presence_penalty = number(0.5);
            request.sampling.frequency_penalty = number(-0.5);
            request.sampling.candidates = Some(2);
        }
        if both.within(&[OpenAiChat, OpenAiResponses, Gemini]) && on(2) {
            request.sampling.logprobs = Some(true);
            request.sampling.top_logprobs = Some(3);
        }
        if both.within(&[OpenAiChat, OpenAiResponses, Anthropic]) {
            request.user = Some("user-1".into());
            request.stream = on(2);
        }
        if both.within(&[OpenAiChat, OpenAiResponses]) {
            request.openai.insert("service_tier".into(), "flex".into());
            request.openai.insert("verbosity".into(), "low".into());
        }
        if both.within(&[OpenAiChat, OpenAiResponses, Anthropic]) && !request.tools.is_empty() {
            request.parallel_tools = Some(false);
            request.tool_choice.get_or_insert(ToolChoice::Auto);
        }
        let claude = !(both.without(Anthropic) && both.without(Bedrock));
        if effort && !(claude && matches!(request.tool_choice, Some(ToolChoice::Any | ToolChoice::Tool(_)))) {
            let levels = ["low", "medium", "high"];
            request.thinking.effort = Some(levels[level % 3].to_owned());
        } else if both.within(&[Anthropic, Gemini, Bedrock]) && level == 4 {
            request.thinking.budget = Some(Budget::Tokens(512 + 1024));
            request.sampling.max_tokens = Some(4000);
            request.thinking.show = Some(true);
            request.tool_choice = None;
        }
        if claude && request.thinking != Thinking::default() {
            // Claude thinks with its own temperature.
            (request.sampling.temperature, request.sampling.top_p, request.sampling.top_k) = (None, None, None);
        }
        request
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn there_and_back_nothing_is_lost((both, request) in (0..5usize, 1..5usize).prop_flat_map(|(a, step)| {
        let both = Both(Dialect::ALL[a], Dialect::ALL[(a + step) % 5]);
        (Just(both), requests(both))
    })) {
        let Both(here, there) = both;
        let body = write(here, &request);
        let options = Options::default();
        let (mut over, mut back) = (Vec::new(), Vec::new());
        let losses = super::request(here, there, &body, &options, &mut over).unwrap();
        prop_assert!(losses.is_empty(), "{:?} {:?}", both, losses);
        let losses = super::request(there, here, &over, &options, &mut back).unwrap();
        let text = String::from_utf8_lossy(&over).into_owned();
        prop_assert!(losses.is_empty(), "{:?} {:?} {}", both, losses, text);
        prop_assert_eq!(canonical(read(here, &back)), canonical(read(here, &body)), "{:?} {}", both, text);
    }
}
