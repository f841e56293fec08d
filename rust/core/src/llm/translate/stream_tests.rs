//! Streams by table, as providers are documented to send them and as they do send them.

use serde_json::{json, Value};

use super::agreement_tests::{assemble, context, events};
use super::chat::{Call, Content, Stop};
use super::*;
use Dialect::{Anthropic, Bedrock, Gemini, OpenAiChat, OpenAiResponses};

/// Feeds events, each a name and its data; returns the bytes told after each.
fn feed(stream: &mut Stream, list: &[(&str, Value)]) -> Vec<Vec<u8>> {
    let told = list.iter().map(|(name, data)| {
        let mut out = Vec::new();
        let data = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
        stream.event(Some(name).filter(|name| !name.is_empty()).copied(), data.as_bytes(), &mut out);
        out
    });
    told.collect()
}

fn run(from: Dialect, to: Dialect, list: &[(&str, Value)]) -> (Vec<u8>, End) {
    let mut stream = Stream::new(from, to, context());
    let mut out = feed(&mut stream, list).concat();
    stream.end(false, &mut out);
    (out, stream.state())
}

/// Events with their data as JSON, for comparison.
fn shown(to: Dialect, bytes: &[u8]) -> Vec<(String, Value)> {
    let show = |(name, data): (Option<String>, Vec<u8>)| {
        let text = String::from_utf8(data).unwrap();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (name.unwrap_or_default(), value)
    };
    events(to, bytes).into_iter().map(show).collect()
}

fn chunk(choices: Value) -> (&'static str, Value) {
    (
        "",
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "gpt", "choices": choices}),
    )
}

fn delta(delta: Value) -> (&'static str, Value) {
    chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]))
}

fn finish(reason: &str) -> (&'static str, Value) {
    chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}]))
}

fn done() -> (&'static str, Value) {
    ("", "[DONE]".into())
}

fn usage() -> (&'static str, Value) {
    let (name, mut data) = chunk(json!([]));
    data["usage"] = json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14});
    (name, data)
}

fn calling() -> Vec<(&'static str, Value)> {
    vec![
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "Hi"})),
        delta(
            json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
        ),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":"}}]})),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]})),
        delta(
            json!({"tool_calls": [{"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}),
        ),
        finish("tool_calls"),
        usage(),
        done(),
    ]
}

#[test]
fn a_chat_stream_becomes_anthropics_events_in_their_order() {
    let (out, end) = run(OpenAiChat, Anthropic, &calling());
    assert_eq!(end, End::Whole);
    let wanted = [
        json!({"type": "message_start", "message": {
            "id": "chatcmpl-1", "type": "message", "role": "assistant", "model": "gpt", "content": [], "stop_reason": null,
            "stop_sequence": null, "usage": {"input_tokens": 0, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0, "output_tokens": 0}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "1}"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "call_2", "name": "g", "input": {}}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {
            "input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 4}}),
        json!({"type": "message_stop"}),
    ];
    let found = shown(Anthropic, &out);
    assert_eq!(found.iter().map(|(_, value)| value).collect::<Vec<_>>(), wanted.iter().collect::<Vec<_>>());
    assert!(found.iter().all(|(name, value)| value["type"] == name.as_str()));
}

#[test]
fn an_anthropic_stream_becomes_responses_events_in_their_order() {
    let list = [
        (
            "message_start",
            json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 9, "output_tokens": 1}}}),
        ),
        (
            "content_block_start",
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        ),
        ("ping", json!({"type": "ping"})),
        (
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}}),
        ),
        (
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "SIG"}}),
        ),
        ("content_block_stop", json!({"type": "content_block_stop", "index": 0})),
        (
            "content_block_start",
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        ),
        (
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Yes"}}),
        ),
        ("content_block_stop", json!({"type": "content_block_stop", "index": 1})),
        (
            "content_block_start",
            json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}}),
        ),
        (
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}}),
        ),
        ("content_block_stop", json!({"type": "content_block_stop", "index": 2})),
        (
            "message_delta",
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 30}}),
        ),
        ("message_stop", json!({"type": "message_stop"})),
    ];
    let (out, end) = run(Anthropic, OpenAiResponses, &list);
    assert_eq!(end, End::Whole);
    let found = shown(OpenAiResponses, &out);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.trim_start_matches("response.")).collect();
    let wanted = [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(names, wanted);
    for (number, (name, value)) in found.iter().enumerate() {
        assert_eq!(
            (value["sequence_number"].as_u64(), &value["type"]),
            (Some(number as u64), &Value::from(name.as_str()))
        );
    }
    // What was told piece by piece is all in the last event.
    let last = &found[found.len() - 1].1["response"];
    let items: Vec<&Value> =
        found.iter().filter(|(name, _)| name.ends_with("item.done")).map(|(_, v)| &v["item"]).collect();
    assert_eq!(last["output"].as_array().unwrap().iter().collect::<Vec<_>>(), items);
    assert_eq!(items[0]["encrypted_content"], "pygate:anthropic:SIG");
    assert_eq!(items[2]["arguments"], "{\"a\":1}");
    assert_eq!(last["usage"]["input_tokens"], 9);
    assert_eq!(last["usage"]["output_tokens"], 30);
    assert_eq!(found[0].1["response"]["status"], "in_progress");
}

#[test]
fn chat_clients_get_usage_only_when_they_asked_and_in_a_chunk_without_choices() {
    let list = [
        (
            "",
            json!({"candidates": [{"content": {"parts": [{"text": "He"}], "role": "model"}, "index": 0}],
                    "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}, "modelVersion": "gemini", "responseId": "r"}),
        ),
        (
            "",
            json!({"candidates": [{"content": {"parts": [{"text": "y"}], "role": "model"}, "finishReason": "STOP", "index": 0}],
                    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}, "modelVersion": "gemini"}),
        ),
    ];
    let (out, end) = run(Gemini, OpenAiChat, &list);
    assert_eq!(end, End::Whole);
    let found = shown(OpenAiChat, &out);
    assert_eq!(found.len(), 6);
    assert_eq!(found[0].1["choices"][0]["delta"], json!({"role": "assistant", "content": "", "refusal": null}));
    assert_eq!(
        found[1].1["choices"][0],
        json!({"index": 0, "delta": {"content": "He"}, "logprobs": null, "finish_reason": null})
    );
    assert!(found[..4].iter().all(|(_, value)| value["usage"].is_null() && value.get("usage").is_some()));
    assert_eq!(found[3].1["choices"][0]["finish_reason"], "stop");
    assert_eq!((&found[4].1["choices"], &found[4].1["usage"]["total_tokens"]), (&json!([]), &json!(5)));
    assert_eq!(found[5].1, "[DONE]");
    let mut stream = Stream::new(Gemini, OpenAiChat, Context { include_usage: false, ..context() });
    let mut out = feed(&mut stream, &list).concat();
    stream.end(false, &mut out);
    let found = shown(OpenAiChat, &out);
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|(_, value)| value.get("usage").is_none()));
}

#[test]
fn bedrocks_events_become_geminis_and_calls_come_in_one_part() {
    let list = [
        ("messageStart", json!({"role": "assistant"})),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": "Hi"}})),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("contentBlockStart", json!({"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "f"}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{\"a\""}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": {"toolUse": {"input": ":1}"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 1})),
        ("messageStop", json!({"stopReason": "tool_use"})),
        (
            "metadata",
            json!({"usage": {"inputTokens": 5, "outputTokens": 6, "totalTokens": 11}, "metrics": {"latencyMs": 1}}),
        ),
    ];
    let (out, end) = run(Bedrock, Gemini, &list);
    assert_eq!(end, End::Whole);
    let parts: Vec<Value> =
        shown(Gemini, &out).into_iter().map(|(_, v)| v["candidates"][0]["content"]["parts"][0].clone()).collect();
    let call = json!({"functionCall": {"id": "t1", "name": "f", "args": {"a": 1}}});
    assert_eq!(parts, [json!({"text": "Hi"}), call, json!({"text": ""})]);
    let last = shown(Gemini, &out).pop().unwrap().1;
    assert_eq!(
        (&last["candidates"][0]["finishReason"], &last["usageMetadata"]["totalTokenCount"]),
        (&"STOP".into(), &11.into())
    );
}

#[test]
fn deltas_go_on_as_they_come() {
    for to in [OpenAiResponses, Anthropic, Bedrock] {
        let mut stream = Stream::new(OpenAiChat, to, context());
        let told = feed(&mut stream, &calling()[..6]);
        assert!(told.iter().all(|bytes| !bytes.is_empty()), "{to:?}");
        let text = |index: usize| String::from_utf8_lossy(&told[index]).into_owned();
        assert!(text(1).contains("Hi") && text(3).contains("{\\\"a\\\":") && text(4).contains("1}"), "{to:?}");
    }
}

/// The calls a client of Anthropic's sees in a chat stream.
fn calls(list: &[(&str, Value)]) -> Vec<Call> {
    let (out, end) = run(OpenAiChat, Anthropic, list);
    assert_eq!(end, End::Whole);
    let answer = assemble(Anthropic, &out);
    let parts = answer.candidates.into_iter().flat_map(|candidate| candidate.parts);
    parts.filter_map(|part| if let Content::Call(call) = part.content { Some(call) } else { None }).collect()
}

fn call(id: &str, name: &str, arguments: &str) -> Call {
    Call { id: id.into(), name: name.into(), arguments: arguments.into() }
}

#[test]
fn calls_are_told_apart_however_a_provider_numbers_them() {
    let tools = |list: Value| delta(json!({"tool_calls": list}));
    let wanted = [call("a", "f", "{\"x\":1}"), call("b", "g", "{\"y\":2}")];
    let table = [
        // Interleaved, as parallel decoders send them.
        vec![
            tools(json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\""}},
                         {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{\"y\""}}])),
            tools(json!([{"index": 1, "function": {"arguments": ":2}"}}])),
            tools(json!([{"index": 0, "function": {"arguments": ":1}"}}])),
        ],
        // Id and name in every chunk.
        vec![
            tools(json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\":"}}])),
            tools(json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "1}"}}])),
            tools(json!([{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{\"y\":2}"}}])),
        ],
        // Whole calls, all of index 0.
        vec![
            tools(json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\":1}"}}])),
            tools(json!([{"index": 0, "id": "b", "function": {"name": "g", "arguments": "{\"y\":2}"}}])),
        ],
        // No index at all.
        vec![
            tools(json!([{"id": "a", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                         {"id": "b", "function": {"name": "g", "arguments": "{\"y\":"}}])),
            tools(json!([{"function": {"arguments": "2}"}}])),
        ],
    ];
    for list in table {
        let list = [list, vec![finish("tool_calls"), done()]].concat();
        assert_eq!(calls(&list), wanted, "{list:?}");
    }
    // Without id one is made, without arguments there are none.
    let bare = [tools(json!([{"index": 0, "function": {"name": "f"}}])), finish("stop"), done()];
    assert_eq!(calls(&bare), [call("call_0707070707070707070707070001", "f", "{}")]);
}

#[test]
fn usage_may_come_early_late_repeated_or_never() {
    let with = |at: &[usize]| {
        let mut list = vec![
            delta(json!({"content": "a"})),
            delta(json!({"content": "b"})),
            finish("stop"),
            chunk(json!([])),
            done(),
        ];
        for index in at {
            list[*index].1["usage"] = json!({"prompt_tokens": 7, "completion_tokens": index});
        }
        let (out, end) = run(OpenAiChat, Anthropic, &list);
        assert_eq!(end, End::Whole);
        let found = shown(Anthropic, &out);
        let usage = found[found.len() - 2].1["usage"].clone();
        (usage["input_tokens"].as_u64().unwrap(), usage["output_tokens"].as_u64().unwrap())
    };
    assert_eq!(with(&[3]), (7, 3));
    assert_eq!(with(&[2]), (7, 2));
    assert_eq!(with(&[0, 1, 2, 3]), (7, 3));
    assert_eq!(with(&[]), (0, 0));
}

#[test]
fn a_stream_without_its_terminal_event_is_whole_if_it_has_its_reason_and_was_not_cut() {
    let list = [delta(json!({"content": "a"})), finish("stop")];
    let told = |kept: usize, cut: bool| {
        let mut stream = Stream::new(OpenAiChat, OpenAiResponses, context());
        let mut out = feed(&mut stream, &list[..kept]).concat();
        stream.end(cut, &mut out);
        // Once over, nothing more is told.
        let length = out.len();
        stream.event(None, b"[DONE]", &mut out);
        stream.end(true, &mut out);
        assert_eq!(out.len(), length);
        (stream.state(), shown(OpenAiResponses, &out).pop().unwrap().0)
    };
    assert_eq!(told(2, false), (End::Whole, "response.completed".into()));
    assert_eq!(told(2, true), (End::Broken, "error".into()));
    assert_eq!(told(1, false), (End::Broken, "error".into()));
    assert_eq!(told(0, false), (End::Broken, "error".into()));
}

#[test]
fn error_events_become_the_clients() {
    let table = [
        (
            OpenAiChat,
            "",
            json!({"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}),
        ),
        (OpenAiResponses, "error", json!({"type": "error", "code": "rate_limit_exceeded", "message": "slow down"})),
        (
            OpenAiResponses,
            "response.failed",
            json!({"type": "response.failed", "response": {"status": "failed",
            "error": {"code": "rate_limit_exceeded", "message": "slow down"}}}),
        ),
        (Anthropic, "error", json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}})),
        (Gemini, "", json!({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}})),
        (Bedrock, "throttlingException", json!({"message": "slow down"})),
    ];
    for (from, name, data) in table {
        for to in Dialect::ALL.into_iter().filter(|to| *to != from) {
            let (out, end) = run(from, to, &[(name, data.clone())]);
            assert_eq!(end, End::Failed, "{from:?} to {to:?}");
            let (name, value) = shown(to, &out).pop().unwrap();
            let (kind, message) = match to {
                OpenAiChat => (&value["error"]["code"], &value["error"]["message"]),
                OpenAiResponses => (&value["code"], &value["message"]),
                Anthropic => (&value["error"]["type"], &value["error"]["message"]),
                Gemini => (&value["error"]["status"], &value["error"]["message"]),
                Bedrock => (&Value::from(name), &value["message"]),
            };
            let kind = kind.as_str().unwrap().to_ascii_lowercase();
            let limited = ["rate_limit", "resource_exhausted", "throttling"].iter().any(|word| kind.contains(word));
            assert!(limited && message == "slow down", "{from:?} to {to:?}: {kind} {message}");
        }
    }
    let (out, end) = run(Anthropic, OpenAiChat, &[("", "{".into())]);
    assert_eq!((end, shown(OpenAiChat, &out).len()), (End::Broken, 1));
}

#[test]
fn two_candidates_go_to_those_who_know_them() {
    let list = [
        chunk(json!([{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}])),
        chunk(json!([{"index": 1, "delta": {"content": "B"}}, {"index": 0, "delta": {"content": "A"}}])),
        chunk(
            json!([{"index": 0, "delta": {}, "finish_reason": "stop"}, {"index": 1, "delta": {}, "finish_reason": "length"}]),
        ),
        done(),
    ];
    let (out, _) = run(OpenAiChat, Gemini, &list);
    let answer = assemble(Gemini, &out);
    let told: Vec<_> = answer.candidates.iter().map(|c| (chat::text_of(&c.parts), c.stop)).collect();
    assert_eq!(told, [("aA".into(), Some(Stop::End)), ("bB".into(), Some(Stop::Length))]);
    let mut stream = Stream::new(OpenAiChat, Anthropic, context());
    let out = feed(&mut stream, &list).concat();
    assert_eq!(chat::text_of(&assemble(Anthropic, &out).candidates[0].parts), "aA");
    assert_eq!(stream.losses().to_string(), "choices[1]");
}

#[test]
fn what_waits_for_a_call_that_never_ends_is_bounded() {
    let mut list =
        vec![delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}]}))];
    list.push(delta(
        json!({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "x".repeat(2 << 20)}}]}),
    ));
    let (out, end) = run(OpenAiChat, Anthropic, &list);
    assert_eq!(end, End::Broken);
    assert_eq!(shown(Anthropic, &out).pop().unwrap().0, "error");
}

#[test]
fn a_json_answer_that_a_tool_stood_for_is_streamed_as_text() {
    let list = [
        ("messageStart", json!({"role": "assistant"})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t", "name": JSON_TOOL}}}),
        ),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{\"a\""}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": ":1}"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("messageStop", json!({"stopReason": "tool_use"})),
        ("metadata", json!({"usage": {"inputTokens": 1, "outputTokens": 1}})),
    ];
    let (out, _) = run(Bedrock, OpenAiChat, &list);
    let answer = assemble(OpenAiChat, &out);
    assert_eq!(chat::text_of(&answer.candidates[0].parts), "{\"a\":1}");
    assert_eq!(answer.candidates[0].stop, Some(Stop::End));
}

#[test]
fn what_is_read_without_a_tree_says_what_the_reader_says() {
    // A delta, and the member that keeps it from being read so.
    let table = [
        (
            OpenAiChat,
            "",
            json!({"choices": [{"index": 0, "delta": {"content": "a\n\"ä"}}]}),
            "/choices/0/delta",
            "refusal",
            json!(""),
        ),
        (
            OpenAiChat,
            "",
            json!({"choices": [{"index": 0, "delta": {"content": null, "reasoning_content": "t"}}]}),
            "/choices/0/delta",
            "refusal",
            json!(""),
        ),
        (
            OpenAiChat,
            "",
            json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}]}),
            "/choices/0/delta",
            "refusal",
            json!(""),
        ),
        (
            Anthropic,
            "",
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}),
            "/delta",
            "x",
            json!(1),
        ),
        (
            Anthropic,
            "",
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "a"}}),
            "/delta",
            "x",
            json!(1),
        ),
        (
            Anthropic,
            "",
            json!({"type": "content_block_delta", "index": 9, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
            "/delta",
            "x",
            json!(1),
        ),
        (
            OpenAiResponses,
            "",
            json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 2, "delta": "a", "logprobs": []}),
            "",
            "logprobs",
            json!([{}]),
        ),
        (
            OpenAiResponses,
            "",
            json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"}),
            "",
            "logprobs",
            json!([{}]),
        ),
        (
            Gemini,
            "",
            json!({"candidates": [{"content": {"parts": [{"text": "a"}], "role": "model"}}], "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2}}),
            "/candidates/0/content/parts/0",
            "x",
            json!(1),
        ),
        (
            Gemini,
            "",
            json!({"candidates": [{"content": {"parts": [{"text": "a", "thought": true}]}, "index": 0}]}),
            "/candidates/0/content/parts/0",
            "x",
            json!(1),
        ),
        (
            Bedrock,
            "contentBlockDelta",
            json!({"contentBlockIndex": 3, "delta": {"text": "a"}, "p": "abc"}),
            "/delta",
            "x",
            json!(1),
        ),
        (
            Bedrock,
            "contentBlockDelta",
            json!({"contentBlockIndex": 3, "delta": {"toolUse": {"input": "{}"}}}),
            "/delta",
            "x",
            json!(1),
        ),
    ];
    for (from, name, event, path, key, value) in table {
        let mut slow = event.clone();
        slow.pointer_mut(path).unwrap()[key] = value;
        let read = |event: &Value| {
            let text = event.to_string();
            match from {
                OpenAiChat => hot::chat(text.as_bytes()).is_some(),
                Anthropic => hot::anthropic(text.as_bytes()).is_some(),
                OpenAiResponses => hot::responses(text.as_bytes()).is_some(),
                Gemini => hot::gemini(text.as_bytes()).is_some(),
                Bedrock => hot::bedrock(text.as_bytes()).is_some(),
            }
        };
        assert!(read(&event) && !read(&slow), "{event}");
        let to = if from == OpenAiChat { Anthropic } else { OpenAiChat };
        let call = match from {
            Anthropic => {
                json!({"type": "content_block_start", "index": 9, "content_block": {"type": "tool_use", "id": "i", "name": "f"}})
            }
            OpenAiResponses => {
                json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "call_id": "i", "name": "f"}})
            }
            Gemini => json!({"candidates": []}),
            Bedrock => json!({"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "i", "name": "f"}}}),
            OpenAiChat => {
                json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "i", "function": {"name": "f"}}]}}]})
            }
        };
        let calls = event.to_string().contains("{}");
        let first =
            (if from == Bedrock { "contentBlockStart" } else { "" }, if calls { call } else { json!({"choices": []}) });
        let tell = |event: Value| {
            let mut stream = Stream::new(from, to, context());
            let mut told = feed(&mut stream, &[first.clone(), (name, event)]);
            let mut rest = Vec::new();
            stream.flow_end(&mut rest);
            told.push(rest);
            told
        };
        let told = tell(event.clone());
        assert!(!told[1].is_empty(), "{event}");
        assert_eq!(told, tell(slow), "{event}");
    }
}
