use super::*;
use proptest::prelude::*;
use serde_json::{json, Value};

/// Wire bytes of a stream: SSE, or frames named by the only key of each event.
fn wire(dialect: Dialect, events: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        if let Some(text) = event.as_str() {
            sse::write(&mut out, None, text.as_bytes());
        } else if dialect == Dialect::Bedrock {
            let (name, payload) = event.as_object().unwrap().iter().next().unwrap();
            match name.ends_with("Exception") {
                true => event_stream::write_exception(&mut out, name, payload.to_string().as_bytes()),
                false => event_stream::write_event(&mut out, name, payload.to_string().as_bytes()),
            }
        } else {
            sse::write(&mut out, event.get("type").and_then(Value::as_str), event.to_string().as_bytes());
        }
    }
    out
}

fn measured(dialect: Dialect, events: &[Value]) -> Meter {
    let mut meter = Meter::stream(dialect);
    for (at, event) in events.iter().enumerate() {
        meter.feed(&wire(dialect, std::slice::from_ref(event)), at as u64);
    }
    meter.end(events.len() as u64);
    meter
}

/// Input, output, cached_read, reasoning, complete.
fn counts(meter: &Meter) -> Option<(u64, u64, u64, u64, bool)> {
    meter.usage().map(|u| (u.input, u.output, u.cached_read, u.reasoning, u.complete))
}

fn chat() -> Vec<Value> {
    let choice = |delta: Value, why: Value| {
        json!({"id": "c1", "object": "chat.completion.chunk", "model": "gpt-4o-1", "usage": null,
               "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": why}]})
    };
    vec![
        choice(json!({"role": "assistant", "content": ""}), json!(null)),
        choice(json!({"content": "Hello"}), json!(null)),
        choice(json!({"content": " wörld, \"usage\":{\"prompt_tokens\":7}"}), json!(null)),
        choice(json!({}), json!("stop")),
        json!({"id": "c1", "model": "gpt-4o-1", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4,
               "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 2},
               "completion_tokens_details": {"reasoning_tokens": 1}}}),
        json!("[DONE]"),
    ]
}

fn responses() -> Vec<Value> {
    let response = |status: &str, usage: Value| {
        json!({"id": "r1", "model": "o1", "status": status, "error": null, "incomplete_details": null,
               "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}], "usage": usage})
    };
    vec![
        json!({"type": "response.created", "sequence_number": 0, "response": response("in_progress", json!(null))}),
        json!({"type": "response.output_text.delta", "delta": "Hi", "item_id": "m", "output_index": 0}),
        json!({"type": "response.output_text.done", "text": "Hi"}),
        json!({"type": "response.audio.delta", "delta": "AAAA"}),
        json!({"type": "response.completed", "response": response("completed", json!({"input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 3}, "output_tokens": 6,
            "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 11}))}),
    ]
}

fn anthropic() -> Vec<Value> {
    vec![
        json!({"type": "message_start", "message": {"id": "m1", "type": "message", "model": "claude-1", "content": [],
            "stop_reason": null, "usage": {"input_tokens": 25, "cache_creation_input_tokens": 10,
            "cache_read_input_tokens": 100, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQB"}}),
        json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": "{\"usage\":"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": 15}}),
        json!({"type": "message_stop"}),
    ]
}

fn gemini() -> Vec<Value> {
    let part = |text: &str| json!({"content": {"role": "model", "parts": [{"text": text}]}, "index": 0});
    let mut last = part("!");
    last["finishReason"] = json!("STOP");
    vec![
        json!({"candidates": [part("Hel")], "usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8},
            "modelVersion": "gemini-1", "responseId": "g1"}),
        json!({"candidates": [{"content": {"role": "model", "parts": [{"functionCall":
            {"name": "f", "args": {"usageMetadata": {"promptTokenCount": 1}}}}]}}], "usageMetadata":
            {"promptTokenCount": 8, "candidatesTokenCount": 2, "totalTokenCount": 10}}),
        json!({"candidates": [last], "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 3,
            "thoughtsTokenCount": 20, "cachedContentTokenCount": 5, "totalTokenCount": 31}}),
    ]
}

fn bedrock() -> Vec<Value> {
    vec![
        json!({"messageStart": {"role": "assistant"}}),
        json!({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hello"}}}),
        json!({"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{}"}}}}),
        json!({"contentBlockStop": {"contentBlockIndex": 0}}),
        json!({"messageStop": {"stopReason": "end_turn"}}),
        json!({"metadata": {"usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 130,
            "cacheReadInputTokens": 100}, "metrics": {"latencyMs": 1}}}),
    ]
}

fn streams() -> [(Dialect, Vec<Value>); 5] {
    [
        (Dialect::OpenAiChat, chat()),
        (Dialect::OpenAiResponses, responses()),
        (Dialect::Anthropic, anthropic()),
        (Dialect::Gemini, gemini()),
        (Dialect::Bedrock, bedrock()),
    ]
}

#[test]
fn streams_of_every_dialect_are_measured() {
    let expected = [
        (Some((9, 4, 2, 1, true)), (1, 2), "stop", Some("c1"), Some("gpt-4o-1")),
        (Some((5, 6, 3, 4, true)), (1, 1), "completed", Some("r1"), Some("o1")),
        (Some((135, 15, 100, 0, true)), (3, 5), "end_turn", Some("m1"), Some("claude-1")),
        (Some((8, 23, 5, 20, true)), (0, 2), "STOP", Some("g1"), Some("gemini-1")),
        (Some((110, 20, 100, 0, true)), (1, 2), "end_turn", None, None),
    ];
    for ((dialect, events), (usage, (first, last), why, id, model)) in streams().into_iter().zip(expected) {
        let meter = measured(dialect, &events);
        assert_eq!(counts(&meter), usage, "{dialect:?}");
        assert_eq!((meter.first(), meter.last()), (Some(first), Some(last)), "{dialect:?}");
        assert_eq!((meter.reasons(), meter.id(), meter.model()), (&[why.to_owned()][..], id, model), "{dialect:?}");
        assert_eq!((meter.ending(), meter.malformed(), meter.is_lost()), (Ending::Clean, 0, false), "{dialect:?}");
        assert_eq!(meter.settle(1000), meter.usage().unwrap());
    }
    assert_eq!(measured(Dialect::OpenAiChat, &chat()).deltas(), 2);
    assert_eq!(measured(Dialect::Anthropic, &anthropic()).deltas(), 2);
}

#[test]
fn cut_streams_are_settled_by_estimate() {
    use Ending::{Finished, Open};
    let expected = [(77, Finished), (77, Open), (135, Open), (8, Open), (77, Open)];
    for ((dialect, events), (input, ending)) in streams().into_iter().zip(expected) {
        let meter = measured(dialect, &events[..events.len() - 2]);
        assert_eq!(meter.ending(), ending, "{dialect:?}");
        let usage = meter.settle(77);
        assert!(!usage.complete, "{dialect:?}");
        assert_eq!((usage.input, usage.output), (input, usage.output.max(meter.spoken().tokens())), "{dialect:?}");
        assert!(usage.output > 0, "{dialect:?}");
    }
}

#[test]
fn quirks_of_providers_change_nothing() {
    let usage = || json!({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13});
    let base = chat();
    // Usage beside choices, and repeated with every chunk; then once more with nothing, null and zeros.
    let mut events = base[..3].to_vec();
    events[1]["usage"] = json!({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10});
    events[2]["usage"] = usage();
    events[2]["choices"][0]["finish_reason"] = json!("length");
    for empty in [json!(null), json!({}), json!({"prompt_tokens": 0, "completion_tokens": 0}), json!("x"), json!([1])] {
        let mut events = events.clone();
        events.push(json!({"choices": [], "usage": empty}));
        let meter = measured(Dialect::OpenAiChat, &events);
        assert_eq!(counts(&meter), Some((9, 4, 0, 0, true)), "{empty}");
        // [DONE] is missing.
        assert_eq!((meter.ending(), meter.reasons()), (Ending::Finished, &["length".to_owned()][..]));
    }
    // Two choices: one that stopped is not all.
    let mut two = base[..4].to_vec();
    two[2]["choices"][0]["index"] = json!(1);
    assert_eq!(measured(Dialect::OpenAiChat, &two).ending(), Ending::Open);
    // Groq's place.
    let groq = json!({"choices": [], "x_groq": {"id": "r", "usage": usage()}});
    let meter = measured(Dialect::OpenAiChat, &[base[3].clone(), groq, json!("[DONE]")]);
    assert_eq!(counts(&meter), Some((9, 4, 0, 0, true)));
    // Garbage in between, and a last event without its blank line.
    let mut meter = Meter::stream(Dialect::OpenAiChat);
    meter.feed(b"data: {broken\n\ndata: 7\n\n: beat\n\n", 0);
    meter.feed(format!("data: {}\n\ndata: [DONE]", json!({"choices": [], "usage": usage()})).as_bytes(), 1);
    assert_eq!(meter.ending(), Ending::Open);
    meter.end(2);
    assert_eq!((counts(&meter), meter.malformed(), meter.ending()), (Some((9, 4, 0, 0, true)), 2, Ending::Clean));
    // A gateway that sends zeros at the start, and one that repeats input as zero at the end.
    let mut events = anthropic();
    events[0]["message"]["usage"] = json!({"input_tokens": 0, "output_tokens": 0});
    events[7]["usage"] = json!({"input_tokens": 30, "output_tokens": 15});
    assert_eq!(counts(&measured(Dialect::Anthropic, &events)), Some((30, 15, 0, 0, true)));
    let mut events = anthropic();
    events[7]["usage"] = json!({"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 15});
    assert_eq!(counts(&measured(Dialect::Anthropic, &events)), Some((135, 15, 100, 0, true)));
    // A prompt that was blocked has no candidate.
    let meter = measured(Dialect::Gemini, &[json!({"promptFeedback": {"blockReason": "SAFETY"}})]);
    assert_eq!((meter.ending(), meter.reasons()), (Ending::Clean, &["SAFETY".to_owned()][..]));
}

#[test]
fn errors_in_streams_are_seen() {
    for (dialect, error) in [
        (Dialect::OpenAiChat, json!({"error": {"message": "no", "type": "server_error"}})),
        (Dialect::OpenAiResponses, json!({"type": "response.failed", "response": {"status": "failed"}})),
        (Dialect::OpenAiResponses, json!({"type": "error", "message": "no"})),
        (Dialect::Anthropic, json!({"type": "error", "error": {"type": "overloaded_error", "message": "no"}})),
        (Dialect::Gemini, json!({"error": {"code": 503, "message": "no"}})),
        (Dialect::Bedrock, json!({"throttlingException": {"message": "no"}})),
    ] {
        let meter = measured(dialect, &[error]);
        assert_eq!((meter.ending(), meter.malformed()), (Ending::Failed, 0), "{dialect:?}");
    }
    let mut meter = Meter::stream(Dialect::OpenAiChat);
    meter.feed(b"event: error\ndata: {\"message\":\"no\"}\n\n", 0);
    assert_eq!(meter.ending(), Ending::Failed);
    for nothing in [json!(null), json!(false), json!({}), json!("")] {
        assert_eq!(measured(Dialect::OpenAiChat, &[json!({"error": nothing})]).ending(), Ending::Open);
    }
}

fn whole(dialect: Dialect, body: &Value) -> Meter {
    let mut meter = Meter::whole(dialect, MAX_WHOLE);
    let text = body.to_string();
    let (front, back) = text.as_bytes().split_at(text.len() / 2);
    meter.feed(front, 3);
    meter.feed(back, 4);
    meter.end(5);
    meter
}

#[test]
fn whole_answers_of_every_dialect_are_measured() {
    let expected = [
        (
            json!({"id": "c", "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
            Dialect::OpenAiChat,
            "stop",
        ),
        (
            json!({"id": "r", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
            "output": [{"content": [{"text": "Hi"}]}], "usage": {"input_tokens": 1, "output_tokens": 2}}),
            Dialect::OpenAiResponses,
            "max_output_tokens",
        ),
        (
            json!({"id": "m", "type": "message", "stop_reason": "end_turn", "content": [{"type": "text", "text": "Hi"}],
            "usage": {"input_tokens": 1, "output_tokens": 2}}),
            Dialect::Anthropic,
            "end_turn",
        ),
        (
            json!({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2}}),
            Dialect::Gemini,
            "STOP",
        ),
        (
            json!({"output": {"message": {"content": [{"text": "Hi"}]}}, "stopReason": "end_turn",
            "usage": {"inputTokens": 1, "outputTokens": 2}}),
            Dialect::Bedrock,
            "end_turn",
        ),
    ];
    for (body, dialect, why) in expected {
        let meter = whole(dialect, &body);
        assert_eq!(counts(&meter), Some((1, 2, 0, 0, true)), "{dialect:?}");
        assert_eq!((meter.ending(), meter.reasons()), (Ending::Clean, &[why.to_owned()][..]), "{dialect:?}");
        assert_eq!((meter.spoken().ascii, meter.first()), (2, Some(3)), "{dialect:?}");
    }
    let meter = whole(Dialect::Gemini, &Value::from(gemini()));
    assert_eq!((counts(&meter), meter.ending()), (Some((8, 23, 5, 20, true)), Ending::Clean));
    let meter = whole(
        Dialect::OpenAiChat,
        &json!({"data": [{"embedding": [0.1]}], "usage":
        {"prompt_tokens": 8, "total_tokens": 8}}),
    );
    assert_eq!(counts(&meter), Some((8, 0, 0, 0, true)));
}

#[test]
fn what_cannot_be_read_is_told() {
    let mut meter = Meter::whole(Dialect::OpenAiChat, 10);
    meter.feed(&[b'x'; 11], 0);
    meter.feed(&[b'x'; 11], 0);
    meter.end(0);
    assert!(meter.is_lost());
    assert_eq!((meter.usage(), meter.ending()), (None, Ending::Open));
    let mut meter = Meter::whole(Dialect::OpenAiChat, 100);
    meter.feed(b"{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}", 0);
    meter.end(0);
    assert_eq!((meter.malformed(), meter.ending(), counts(&meter)), (1, Ending::Open, None));
    let long = json!({"choices": [], "usage": {"prompt_tokens": 1, "x": "x".repeat(20_000)}});
    assert_eq!(measured(Dialect::OpenAiChat, &[chat()[4].clone(), long]).usage().map(|u| u.input), Some(9));
    let mut meter = Meter::stream(Dialect::Bedrock);
    meter.feed(b"data: {}\n\ndata: {}\n\n", 0);
    assert!(meter.is_lost());
    let settled = meter.settle(5);
    assert_eq!((settled.input, settled.output, settled.complete), (5, 0, false));
}

fn summary(meter: &Meter) -> impl PartialEq + std::fmt::Debug {
    (
        (meter.usage(), meter.ending(), meter.reasons().to_vec(), meter.deltas(), meter.events()),
        (meter.malformed(), meter.is_lost(), meter.spoken(), meter.id().map(str::to_owned)),
    )
}

#[test]
fn no_split_changes_what_is_measured() {
    for (dialect, events) in streams() {
        let bytes = wire(dialect, &events);
        let mut expected = Meter::stream(dialect);
        expected.feed(&bytes, 0);
        expected.end(0);
        for at in 0..=bytes.len() {
            let mut meter = Meter::stream(dialect);
            meter.feed(&bytes[..at], 0);
            meter.feed(&bytes[at..], 0);
            meter.end(0);
            assert_eq!(summary(&meter), summary(&expected), "{dialect:?} {at}");
        }
        let mut meter = Meter::stream(dialect);
        bytes.chunks(1).for_each(|byte| meter.feed(byte, 0));
        meter.end(0);
        assert_eq!(summary(&meter), summary(&expected));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), split in 0usize..300,
        events in proptest::collection::vec("(\\{\"(choices|usage|type|delta|candidates)\":)?[\\[\\]{}:,\"a1]{0,12}", 0..8),
    ) {
        let mut text = Vec::new();
        events.iter().for_each(|event| sse::write(&mut text, None, event.as_bytes()));
        for bytes in [bytes, text] {
            let (front, back) = bytes.split_at(split.min(bytes.len()));
            for dialect in Dialect::ALL {
                let mut results = Vec::new();
                for pieces in [&[front, back][..], &[&bytes[..]]] {
                    let mut meter = Meter::stream(dialect);
                    pieces.iter().for_each(|piece| meter.feed(piece, 0));
                    meter.end(0);
                    results.push(format!("{:?}", summary(&meter)));
                }
                prop_assert_eq!(&results[0], &results[1]);
                let mut meter = Meter::whole(dialect, 200);
                meter.feed(&bytes, 0);
                meter.end(0);
            }
        }
    }

    #[test]
    fn a_whole_stream_is_needed_for_complete_usage(cut in any::<prop::sample::Index>(), which in 0usize..5) {
        let (dialect, events) = streams()[which].clone();
        let bytes = wire(dialect, &events);
        let mut meter = Meter::stream(dialect);
        meter.feed(&bytes[..cut.index(bytes.len())], 0);
        let settled = meter.settle(50);
        prop_assert!(settled.input > 0);
        prop_assert!(!settled.complete || meter.ending() >= Ending::Finished);
        prop_assert!(settled.output >= meter.spoken().tokens() || settled.complete);
    }
}
