//! A streamed answer, put together again, says what the whole answer says: for every pair of dialects, any parts, any
//! split into deltas. And nothing a peer can send panics.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::Value;

use super::chat::{Answer, Block, Call, Candidate, Content, Event, Logprob, Origin, Part, Seal, Stop, Thought};
use super::flow::{Head, Write};
use super::stream::{Read, Stream};
use super::*;
use crate::llm::{event_stream, sse, Usage};

/// Puts events together to the answer they tell.
#[derive(Default)]
struct Collector(Arc<Mutex<Answer>>);

impl Write for Collector {
    fn candidates(&self) -> bool {
        true
    }

    fn write(&mut self, head: &Head, candidate: usize, event: Event<'_>, _out: &mut Vec<u8>) {
        let mut answer = self.0.lock().unwrap();
        answer.id = Some(head.id.clone());
        answer.model = Some(head.model.clone());
        if answer.candidates.len() <= candidate {
            answer.candidates.resize_with(candidate + 1, Candidate::default);
        }
        let lane = &mut answer.candidates[candidate];
        let last = lane.parts.last_mut().map(|part| &mut part.content);
        match (event, last) {
            (Event::Open(block), _) => lane.parts.push(Part::from(match block {
                Block::Text => Content::Text(String::new()),
                Block::Refusal => Content::Refusal(String::new()),
                Block::Thought => Content::Thought(Thought::default()),
                Block::Call { id, name } => {
                    Content::Call(Call { id: id.clone(), name: name.clone(), arguments: String::new() })
                }
            })),
            (Event::Text(text, logprobs), Some(Content::Text(told))) => {
                told.push_str(text);
                lane.logprobs.extend_from_slice(logprobs);
            }
            (Event::Refusal(text), Some(Content::Refusal(told))) => told.push_str(text),
            (Event::Thought(text), Some(Content::Thought(told))) => told.text.push_str(text),
            (Event::Seal(seal), Some(Content::Thought(told))) => told.seal = Some(seal.clone()),
            (Event::Arguments(json), Some(Content::Call(call))) => call.arguments.push_str(json),
            (Event::Finish { stop, sequence }, _) => {
                lane.stop = Some(stop);
                lane.sequence = sequence.map(str::to_owned);
            }
            (Event::End(usage), _) => answer.usage = usage.copied(),
            (Event::Start | Event::Close, _) => {}
            (event, last) => panic!("{event:?} behind {last:?}"),
        }
    }
}

/// Events of a stream's bytes: name and data.
pub(super) fn events(dialect: Dialect, bytes: &[u8]) -> Vec<(Option<String>, Vec<u8>)> {
    let mut events = Vec::new();
    if dialect == Dialect::Bedrock {
        let mut reader = event_stream::Reader::new(1 << 24);
        let mut input = bytes;
        while let Some(frame) = reader.next(&mut input).unwrap() {
            let name = frame.text(":event-type").or_else(|| frame.text(":exception-type")).map(str::to_owned);
            events.push((name, frame.payload.to_vec()));
        }
        assert!(reader.between());
        return events;
    }
    let text = std::str::from_utf8(bytes).unwrap();
    for block in text.split_terminator("\n\n") {
        let (mut name, mut data) = (None, None);
        for line in block.lines() {
            match line.split_once(": ").unwrap() {
                ("event", value) => name = Some(value.to_owned()),
                ("data", value) => data = Some(value.as_bytes().to_vec()),
                other => panic!("{other:?}"),
            }
        }
        events.push((name, data.unwrap()));
    }
    events
}

fn reader(dialect: Dialect, context: Context) -> Box<dyn Read> {
    match dialect {
        Dialect::OpenAiChat => Box::new(openai_chat_stream::Reader::new(context)),
        Dialect::OpenAiResponses => Box::new(openai_responses_stream::Reader::default()),
        Dialect::Anthropic => Box::new(anthropic_stream::Reader),
        Dialect::Gemini => Box::new(gemini_stream::Reader::new(context)),
        Dialect::Bedrock => Box::new(bedrock_stream::Reader),
    }
}

/// What a client of `dialect` makes of a stream.
pub(super) fn assemble(dialect: Dialect, bytes: &[u8]) -> Answer {
    let context = context();
    let told = Arc::new(Mutex::new(Answer::default()));
    let mut flow = flow::Flow::new(dialect, "none", Context::default(), Box::new(Collector(told.clone())));
    let mut reader = reader(dialect, context);
    let mut out = Vec::new();
    for (name, data) in events(dialect, bytes) {
        let name = name.as_deref();
        reader.event(name, &data, &mut |candidate, delta| flow.take(candidate, delta, &mut out).unwrap()).unwrap();
    }
    flow.end(&mut out);
    let answer = told.lock().unwrap().clone();
    answer
}

pub(super) fn context() -> Context {
    Context { model: String::new(), created: 1_700_000_000, entropy: [7; 16], include_usage: true }
}

fn read_answer(dialect: Dialect, body: &[u8]) -> Answer {
    let value: Value = serde_json::from_slice(body).unwrap();
    let losses = &mut Losses::default();
    let mut answer = match dialect {
        Dialect::OpenAiChat => openai_chat::read_answer(&value, losses),
        Dialect::OpenAiResponses => openai_responses::read_answer(&value, losses),
        Dialect::Anthropic => anthropic::read_answer(&value, losses),
        Dialect::Gemini => gemini::read_answer(&value, &context(), losses),
        Dialect::Bedrock => bedrock::read_answer(&value, losses),
    }
    .unwrap();
    assert!(losses.is_empty(), "{losses:?}");
    answer.settle(&context());
    answer
}

fn write_answer(dialect: Dialect, answer: &Answer) -> Vec<u8> {
    let losses = &mut Losses::default();
    let value = match dialect {
        Dialect::OpenAiChat => openai_chat::write_answer(answer, &context(), losses),
        Dialect::OpenAiResponses => openai_responses::write_answer(answer, &context(), losses),
        Dialect::Anthropic => anthropic::write_answer(answer, &context(), losses),
        Dialect::Gemini => gemini::write_answer(answer, &context(), losses),
        Dialect::Bedrock => bedrock::write_answer(answer, losses),
    };
    assert!(losses.is_empty(), "{losses:?}");
    value.to_string().into_bytes()
}

/// The stream a provider of `dialect` would send, its texts cut every `cut` characters.
fn write_stream(dialect: Dialect, answer: &Answer, cut: usize) -> Vec<u8> {
    let (_, mut writer) = stream::writer(dialect, &context());
    let mut out = Vec::new();
    let head = Head {
        id: answer.id.clone().unwrap_or_else(|| "none".into()),
        model: answer.model.clone().unwrap_or_default(),
        created: 1_700_000_000,
    };
    let pieces = |text: &str| -> Vec<String> {
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(cut).map(|piece| piece.iter().collect()).collect()
    };
    for candidate in 0..answer.candidates.len() {
        writer.write(&head, candidate, Event::Start, &mut out);
    }
    for (index, candidate) in answer.candidates.iter().enumerate() {
        let mut logprobs = candidate.logprobs.as_slice();
        let mut write = |event: Event<'_>| writer.write(&head, index, event, &mut out);
        for part in &candidate.parts {
            match &part.content {
                Content::Text(text) => {
                    write(Event::Open(&Block::Text));
                    for piece in pieces(text) {
                        write(Event::Text(&piece, std::mem::take(&mut logprobs)));
                    }
                }
                Content::Refusal(text) => {
                    write(Event::Open(&Block::Refusal));
                    pieces(text).iter().for_each(|piece| write(Event::Refusal(piece)));
                }
                Content::Thought(thought) => {
                    write(Event::Open(&Block::Thought));
                    pieces(&thought.text).iter().for_each(|piece| write(Event::Thought(piece)));
                    if let Some(seal) = &thought.seal {
                        write(Event::Seal(seal));
                    }
                }
                Content::Call(call) => {
                    write(Event::Open(&Block::Call { id: call.id.clone(), name: call.name.clone() }));
                    pieces(&call.arguments).iter().for_each(|piece| write(Event::Arguments(piece)));
                }
                other => panic!("{other:?}"),
            }
            write(Event::Close);
        }
        write(Event::Finish { stop: candidate.stop.unwrap(), sequence: candidate.sequence.as_deref() });
    }
    writer.write(&head, 0, Event::End(answer.usage.as_ref()), &mut out);
    out
}

/// Texts and unsealed thoughts that follow each other are one; what is empty is nothing.
fn canonical(mut answer: Answer, to: Dialect) -> Answer {
    answer.created = None;
    for candidate in &mut answer.candidates {
        let mut parts: Vec<Part> = Vec::new();
        if to == Dialect::OpenAiChat {
            // One string, wherever its pieces stood.
            let rank = |part: &Part| match part.content {
                Content::Thought(_) => 0,
                Content::Text(_) => 1,
                Content::Refusal(_) => 2,
                _ => 3,
            };
            let mut seals = candidate.parts.clone();
            // A seal of a call's stays before it.
            let mut index = 0;
            while index < seals.len() {
                let gemini = |seal: &Seal| seal.origin == Origin::Gemini;
                let goes = matches!(&seals[index].content, Content::Thought(t) if t.text.is_empty() && t.seal.as_ref().is_some_and(gemini))
                    && matches!(seals.get(index + 1).map(|part| &part.content), Some(Content::Call(_)));
                if goes {
                    if let Content::Thought(thought) = seals.remove(index).content {
                        if let Content::Call(call) = &mut seals[index].content {
                            call.name = format!("{} {:?}", call.name, thought.seal);
                        }
                    }
                }
                index += 1;
            }
            seals.sort_by_key(rank);
            candidate.parts = seals;
        }
        for part in std::mem::take(&mut candidate.parts) {
            match (&part.content, parts.last_mut().map(|part| &mut part.content)) {
                (Content::Text(text) | Content::Refusal(text), _) if text.is_empty() => {}
                (Content::Text(text), Some(Content::Text(last))) => last.push_str(text),
                (Content::Refusal(text), Some(Content::Refusal(last))) => last.push_str(text),
                (Content::Thought(thought), Some(Content::Thought(last))) if last.seal.is_none() => {
                    last.text.push_str(&thought.text);
                    last.seal.clone_from(&thought.seal);
                }
                _ => parts.push(part),
            }
        }
        candidate.parts = parts;
    }
    answer
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z ,.]{1,40}", "[ -~äß語😀\n\"\\\\]{1,12}"]
}

fn call() -> impl Strategy<Value = Content> {
    let arguments = prop_oneof![
        Just("{}".to_owned()),
        "[a-z{}\\[\\]\"\\\\]{0,12}".prop_map(|text| serde_json::json!({"a": text, "b": [1, {"c": null}]}).to_string()),
    ];
    ("[a-z0-9]{4,8}", "[a-z_]{1,10}", arguments)
        .prop_map(|(id, name, arguments)| Content::Call(Call { id: format!("call_{id}"), name, arguments }))
}

/// Thoughts as providers of the dialect have them.
fn thought(dialect: Dialect) -> BoxedStrategy<Vec<Content>> {
    let sealed = |text: String, origin, value: &str| {
        vec![Content::Thought(Thought { text, seal: Some(Seal::new(origin, value)) })]
    };
    let open = text().prop_map(|text| vec![Content::Thought(Thought { text, seal: None })]);
    match dialect {
        Dialect::OpenAiChat => open.boxed(),
        Dialect::OpenAiResponses => prop_oneof![
            text().prop_map(move |text| sealed(text, Origin::OpenAi, "rs_1:ENC")),
            Just(sealed(String::new(), Origin::OpenAi, "rs_2:ENC")),
        ]
        .boxed(),
        Dialect::Anthropic | Dialect::Bedrock => prop_oneof![
            text().prop_map(move |text| sealed(text, Origin::Anthropic, "SIG==")),
            Just(sealed(String::new(), Origin::Anthropic, "SIG==")),
            Just(sealed(String::new(), Origin::Redacted, "UkVE")),
        ]
        .boxed(),
        Dialect::Gemini => prop_oneof![
            open,
            (call(), Just(())).prop_map(move |(call, ())| {
                let mut parts = sealed(String::new(), Origin::Gemini, "Rw==");
                parts.push(call);
                parts
            }),
        ]
        .boxed(),
    }
}

fn candidate(dialect: Dialect) -> impl Strategy<Value = Candidate> {
    let text_part = text().prop_map(|text| vec![Content::Text(text)]);
    let part = prop_oneof![3 => text_part, 2 => call().prop_map(|call| vec![call]), 1 => thought(dialect)];
    let refused = if dialect == Dialect::Anthropic { Stop::Refusal } else { Stop::Filter };
    let stops = prop_oneof![Just(Stop::End), Just(Stop::Length), Just(refused)];
    let logs = prop::collection::vec(("[a-z]{1,4}", -9.0..0.0f64), 0..3);
    (prop::collection::vec(part, 0..6), stops, logs).prop_map(move |(parts, stop, logs)| {
        let mut parts: Vec<Part> = parts.into_iter().flatten().map(Part::from).collect();
        if dialect == Dialect::OpenAiChat {
            parts = canonical_order(parts);
        }
        let text = parts.iter().any(|part| matches!(part.content, Content::Text(_)));
        let has = matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::Gemini);
        let number = |x: f64| serde_json::Number::from_f64((x * 8.0).round() / 8.0).unwrap();
        let logprobs = logs.into_iter().filter(|_| has && text).map(|(token, x)| Logprob {
            top: vec![(token.clone(), number(x)), ("other".into(), number(x - 1.0))],
            token,
            logprob: number(x),
        });
        let calls = parts.iter().any(|part| matches!(part.content, Content::Call(_)));
        Candidate { logprobs: logprobs.collect(), stop: Some(stop.settle(calls)), parts, sequence: None }
    })
}

/// As a chat completion's message has its parts.
fn canonical_order(parts: Vec<Part>) -> Vec<Part> {
    let answer = Answer { candidates: vec![Candidate { parts, ..Candidate::default() }], ..Answer::default() };
    canonical(answer, Dialect::OpenAiChat).candidates.remove(0).parts
}

fn answers(dialect: Dialect) -> impl Strategy<Value = Answer> {
    let many = matches!(dialect, Dialect::OpenAiChat | Dialect::Gemini);
    let candidates = prop::collection::vec(candidate(dialect), 1..if many { 3 } else { 2 });
    (candidates, 0..1000u64, 1..1000u64, 0..100u64).prop_map(move |(candidates, input, output, cached)| {
        let usage = Usage { input: input + cached, output, cached_read: cached, complete: true, ..Usage::default() };
        let named = dialect != Dialect::Bedrock;
        Answer {
            id: named.then(|| "id-1".to_owned()),
            model: named.then(|| "model-1".to_owned()),
            created: None,
            candidates,
            usage: Some(usage),
        }
    })
}

fn pairs() -> impl Strategy<Value = (Dialect, Dialect)> {
    let all = || prop::sample::select(Dialect::ALL.to_vec());
    (all(), all()).prop_filter("the same dialect is never translated", |(from, to)| from != to)
}

fn translated_stream(from: Dialect, to: Dialect, bytes: &[u8]) -> (Vec<u8>, Stream) {
    let mut stream = Stream::new(from, to, context());
    let mut out = Vec::new();
    for (name, data) in events(from, bytes) {
        stream.event(name.as_deref(), &data, &mut out);
    }
    stream.end(false, &mut out);
    (out, stream)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streamed_and_whole_answers_agree((from, to, answer, cut) in pairs().prop_flat_map(|(from, to)| {
        (Just(from), Just(to), answers(from), 1..9usize)
    })) {
        let body = write_answer(from, &answer);
        let mut whole = Vec::new();
        answer_of(from, to, &body, &mut whole);
        let (streamed, stream) = translated_stream(from, to, &write_stream(from, &answer, cut));
        prop_assert_eq!(stream.state(), End::Whole);
        let mut whole = canonical(read_answer(to, &whole), to);
        let mut streamed = canonical(assemble(to, &streamed), to);
        if to == Dialect::Bedrock {
            // It names neither.
            for answer in [&mut whole, &mut streamed] {
                (answer.id, answer.model) = (None, None);
            }
        }
        prop_assert_eq!(whole, streamed, "{:?} to {:?}", from, to);
    }

    #[test]
    fn a_whole_answer_reads_back_as_it_was_written((dialect, answer) in
        prop::sample::select(Dialect::ALL.to_vec()).prop_flat_map(|dialect| (Just(dialect), answers(dialect)))
    ) {
        let read = canonical(read_answer(dialect, &write_answer(dialect, &answer)), dialect);
        let mut wanted = canonical(answer, dialect);
        if dialect == Dialect::OpenAiResponses {
            // Even OpenAI's own seals are marked in an answer, and read back as they were.
            prop_assert!(wanted.candidates.len() == 1);
        }
        wanted.id = read.id.clone();
        wanted.model = read.model.clone();
        prop_assert_eq!(read, wanted);
    }

    #[test]
    fn a_stream_cut_anywhere_ends_in_an_error_event((from, to, answer, at) in pairs().prop_flat_map(|(from, to)| {
        (Just(from), Just(to), answers(from), any::<prop::sample::Index>())
    })) {
        let events = events(from, &write_stream(from, &answer, 4));
        let kept = at.index(events.len());
        let mut stream = Stream::new(from, to, context());
        let mut out = Vec::new();
        for (name, data) in &events[..kept] {
            stream.event(name.as_deref(), data, &mut out);
        }
        // Responses, chat and the others have a terminal event, which is among what is cut off.
        stream.end(true, &mut out);
        prop_assert_eq!(stream.state(), End::Broken);
        let told = self::events(to, &out);
        let (name, data) = told.last().unwrap();
        let value: Value = serde_json::from_slice(data).unwrap();
        let is_error = match to {
            Dialect::OpenAiChat | Dialect::Gemini => value["error"]["message"].is_string(),
            Dialect::OpenAiResponses => value["type"] == "error" && value["sequence_number"] == told.len() - 1,
            Dialect::Anthropic => name.as_deref() == Some("error") && value["error"]["type"] == "api_error",
            Dialect::Bedrock => name.as_deref() == Some("modelStreamErrorException"),
        };
        prop_assert!(is_error, "{:?}", told.last());
        let complete = ["[DONE]", "message_stop", "response.completed", "response.incomplete", "metadata"];
        for (name, data) in &told {
            let name = name.as_deref().unwrap_or_else(|| std::str::from_utf8(data).unwrap());
            prop_assert!(!complete.contains(&name));
        }
    }

    #[test]
    fn any_json_is_translated_or_refused(from in 0..5usize, to in 0..5usize, value in json(), cuts in any::<u64>()) {
        let (from, to) = (Dialect::ALL[from], Dialect::ALL[to]);
        let body = value.to_string();
        let mut out = Vec::new();
        let options = Options { schema_by_tool: cuts % 2 == 0, thinking_budget: cuts % 3 == 0, ..Options::default() };
        let _ = request(from, to, body.as_bytes(), &options, &mut out);
        let _ = answer(from, to, body.as_bytes(), &context(), &mut out);
        let mut stream = Stream::new(from, to, context());
        let names = ["contentBlockDelta", "contentBlockStart", "messageStop", "metadata", "throttlingException"];
        let name = names[(cuts % 5) as usize];
        stream.event(Some(name), body.as_bytes(), &mut out);
        if let Value::Object(map) = &value {
            for inner in map.values() {
                stream.event(Some(name), inner.to_string().as_bytes(), &mut out);
            }
        }
        stream.event(None, b"{", &mut out);
        stream.end(false, &mut out);
        prop_assert_ne!(stream.state(), End::Open);
    }
}

fn answer_of(from: Dialect, to: Dialect, body: &[u8], out: &mut Vec<u8>) {
    super::answer(from, to, body, &context(), out).unwrap();
}

/// JSON of the words the dialects use, so that it gets somewhere.
fn json() -> impl Strategy<Value = Value> {
    const WORDS: &str = "model messages role content type text system user assistant tool tools name function parameters \
        tool_calls tool_call_id id index arguments input output contents parts functionCall functionResponse response args \
        candidates choices message delta finish_reason stop_reason stopReason finishReason usage image_url url data \
        source media_type base64 thinking signature redacted_thinking tool_use tool_result tool_use_id toolUse toolResult \
        toolUseId reasoningContent reasoningText reasoning summary encrypted_content format json_schema schema \
        generationConfig thinkingConfig thinkingBudget responseSchema inferenceConfig additionalModelRequestFields \
        toolConfig cachePoint cache_control ttl error contentBlockIndex start content_block content_block_start \
        content_block_delta message_start message_delta message_stop response.created response.output_item.added \
        response.completed output_index item function_call function_call_output call_id max_tokens inlineData mimeType \
        image document thoughtSignature thought promptFeedback blockReason logprobs token logprob status refusal items \
        instructions reasoning_details partial_json input_json_delta text_delta signature_delta";
    let words: Vec<String> = WORDS.split_whitespace().map(str::to_owned).collect();
    let word = prop::sample::select(words);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2..3i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[test]
fn written_streams_are_what_the_sse_reader_reads() {
    let part = |text: &str| Part::from(Content::Text(text.to_owned()));
    let candidate = Candidate { parts: vec![part("a\nb\u{2028}c")], stop: Some(Stop::End), ..Candidate::default() };
    let answer = Answer { candidates: vec![candidate], ..Answer::default() };
    for dialect in [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::Anthropic, Dialect::Gemini] {
        let bytes = write_stream(dialect, &answer, 100);
        let mut reader = sse::Reader::new(1 << 16);
        let mut input = bytes.as_slice();
        let mut seen = 0;
        while let Some(event) = reader.next(&mut input).unwrap() {
            let (name, data) = &events(dialect, &bytes)[seen];
            assert_eq!(event.data, data.as_slice());
            assert_eq!(event.name.unwrap_or(""), name.as_deref().unwrap_or(""));
            seen += 1;
        }
        assert_eq!(seen, events(dialect, &bytes).len());
    }
}
