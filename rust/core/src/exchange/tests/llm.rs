//! Calls of models: who is asked, what they are sent, what the client hears, and what it is settled at.

use super::world::World;
use crate::ai::KeyTable;
use crate::exchange::ConnId;
use crate::limit::budget;
use crate::policy::sha256;
use serde_json::{json, Value};
use std::sync::Arc;

const AI: &str = r#"
[entrypoints.web]
address = "127.0.0.1:0"

[ai.providers.one]
kind = "openai"
base_url = "http://127.0.0.1:9001/v1"
credentials = { main = "sk-one" }

[ai.providers.two]
kind = "anthropic"
base_url = "http://127.0.0.1:9002"
credentials = { main = "sk-two" }

[ai.models.fast]
targets = [{ provider = "one", model = "gpt-x" }, { provider = "two", model = "claude-x", priority = 1 }]
first_token_timeout = "2s"

[ai.models.solo]
targets = ["one/gpt-y"]

[ai.prices."gpt-y"]
input = "1.00"
output = "2.00"

[[routes]]
name = "ai"
match = { path = "/**" }
llm = { keys = "off" }
"#;

const CHUNK: &str = r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-y","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}

"#;
const STOP: &str = r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-y","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

"#;
const USAGE: &str = r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-y","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}

"#;
const DONE: &str = "data: [DONE]\n\n";
const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nset-cookie: a=b\r\ntransfer-encoding: chunked\r\n\r\n";

fn world() -> World {
    World::new(AI)
}

fn post(path: &str, body: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: gw\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len())
}

fn ask(world: &mut World, model: &str, stream: bool) -> ConnId {
    let client = world.client();
    let body =
        format!(r#"{{"model":"{model}", "stream":{stream}, "messages":[{{"role":"user","content":"hello"}}], "x":1}}"#);
    world.send(client, post("/v1/chat/completions", &body, "authorization: Bearer vk\r\ncookie: c=d\r\n"));
    client
}

fn chunked(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn answered(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn failed(status: u16, more: &str) -> String {
    let body = r#"{"error":{"message":"no","type":"server_error"}}"#;
    format!(
        "HTTP/1.1 {status} No\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn body_of(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

const WHOLE: &str = r#"{"id":"c1","object":"chat.completion","created":1,"model":"gpt-y","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;

#[test]
fn a_call_reaches_its_target_in_its_own_bytes_and_with_the_gateways_credential() {
    let mut world = world();
    let client = ask(&mut world, "solo", false);
    let up = world.connected();
    let sent = world.take(up);
    assert!(sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("host: 127.0.0.1:9001\r\n") && sent.contains("authorization: Bearer sk-one\r\n"), "{sent}");
    for secret in ["vk", "cookie", "x-forwarded-for"] {
        assert!(!sent.contains(secret), "{secret}: {sent}");
    }
    // Order, spaces and unknown members stay.
    let expected = r#"{"model":"gpt-y", "stream":false, "messages":[{"role":"user","content":"hello"}], "x":1}"#;
    assert!(sent.ends_with(expected), "{sent}");
    world.send(up, answered(WHOLE));
    let got = world.take(client);
    assert!(got.ends_with(WHOLE), "{got}");
    assert_eq!(world.calls.len(), 1);
    let call = &world.calls[0];
    for (name, value) in [
        ("model", json!("solo")),
        ("target", json!("gpt-y")),
        ("provider", json!("one")),
        ("credential", json!("main")),
        ("input", json!(7)),
        ("output", json!(3)),
        ("estimated", json!(false)),
        // 7 × 1 µUSD and 3 × 2 µUSD.
        ("nano_usd", json!(13_000)),
        ("end", json!("clean")),
    ] {
        assert_eq!(call[name], value, "{name}");
    }
    world.assert_at_rest();
}

#[test]
fn what_is_wrong_is_said_in_the_clients_dialect() {
    let mut world = world();
    for (path, body, status, message, code) in [
        (
            "/v1/chat/completions",
            r#"{"model":"sollo","messages":[]}"#,
            404,
            "did you mean solo",
            json!("model_not_found"),
        ),
        ("/v1/chat/completions", r#"{"model":"solo",}"#, 400, "byte 16", json!("bad-call")),
        ("/v1/chat/completions", r#"{"model":"solo","model":"fast"}"#, 400, "model", json!("bad-call")),
        ("/v1/chat/completions", r#"{"messages":[]}"#, 400, "`model` is missing", json!("bad-call")),
        ("/v1/nothing", "{}", 404, "no call", json!("model_not_found")),
    ] {
        let client = world.client();
        world.send(client, post(path, body, ""));
        let got = world.take(client);
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{got}");
        let error = &body_of(&got)["error"];
        assert!(error["message"].as_str().unwrap().contains(message), "{got}");
        assert_eq!(error["code"], code, "{got}");
    }
    let client = world.client();
    world.send(client, post("/v1/messages", r#"{"model":"x","messages":[],"max_tokens":1}"#, ""));
    let got = world.take(client);
    assert_eq!(body_of(&got)["type"], "error", "{got}");
    assert_eq!(body_of(&got)["error"]["type"], "not_found_error", "{got}");
    assert!(world.asked.is_empty());
    world.assert_at_rest();
}

#[test]
fn a_stream_is_passed_on_without_the_usage_only_the_gateway_asked_for() {
    let mut world = world();
    let client = ask(&mut world, "solo", true);
    let up = world.connected();
    assert!(world.take(up).contains(r#""stream_options":{"include_usage":true}"#));
    world.send(up, STREAM);
    assert_eq!(world.take(client), "", "nothing before the first token");
    world.send(up, chunked(CHUNK));
    let got = world.take(client);
    assert!(got.contains("content-type: text/event-stream") && got.contains("\"Hi\""), "{got}");
    assert!(!got.contains("set-cookie"), "{got}");
    world.send(up, chunked(STOP) + &chunked(USAGE) + &chunked(DONE) + "0\r\n\r\n");
    let got = world.take(client);
    assert!(got.contains("[DONE]") && !got.contains("prompt_tokens"), "{got}");
    assert_eq!((&world.calls[0]["input"], &world.calls[0]["output"]), (&json!(7), &json!(3)));
    assert_eq!(world.calls[0]["end"], "clean");
    world.assert_at_rest();
}

#[test]
fn a_cut_stream_ends_in_an_error_event_and_is_settled_by_what_came() {
    for reset in [false, true] {
        let mut world = world();
        let client = ask(&mut world, "solo", true);
        let up = world.connected();
        world.send(up, format!("{STREAM}{}", chunked(CHUNK)));
        world.take(client);
        if reset {
            world.reset(up);
        } else {
            // Its transport ends in order, the stream does not.
            world.send(up, "0\r\n\r\n");
        }
        let got = world.take(client);
        assert!(got.contains("\"error\"") && !got.contains("[DONE]") && got.ends_with("0\r\n\r\n"), "{got}");
        let call = &world.calls[0];
        assert_eq!((&call["end"], &call["estimated"], &call["output"]), (&json!("cut"), &json!(true), &json!(1)));
        assert!(call["input"].as_u64().unwrap() > 0);
        world.assert_at_rest();
    }
}

#[test]
fn until_the_first_token_another_target_takes_over_and_answers_in_the_clients_dialect() {
    type Fault = fn(&mut World, ConnId);
    let faults: [(&str, Fault); 6] = [
        ("500", |world, up| world.send(up, failed(500, ""))),
        ("429", |world, up| world.send(up, failed(429, "retry-after: 7\r\n"))),
        ("reset", |world, up| world.reset(up)),
        ("cut before a token", |world, up| {
            world.send(up, STREAM);
            world.send(up, "0\r\n\r\n");
        }),
        ("error event", |world, up| {
            world.send(up, STREAM);
            world.send(up, chunked("data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\"}}\n\n"));
        }),
        ("no first token in time", |world, up| {
            world.send(up, STREAM);
            world.seconds(2.1);
        }),
    ];
    for (name, fault) in faults {
        let mut world = world();
        let client = ask(&mut world, "fast", true);
        let up = world.connected();
        world.take(up);
        fault(&mut world, up);
        assert_eq!(world.asked.len(), 2, "{name}");
        let up = world.connected();
        let sent = world.take(up);
        assert!(sent.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{name}: {sent}");
        assert!(sent.contains("x-api-key: sk-two\r\n") && sent.contains("anthropic-version: "), "{name}: {sent}");
        assert!(sent.contains(r#""model":"claude-x""#) && sent.contains(r#""max_tokens":"#), "{name}: {sent}");
        let events = [
            r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"claude-x","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}"#,
            r#"{"type":"message_stop"}"#,
        ];
        let mut stream = String::from(STREAM);
        for event in events {
            let kind = serde_json::from_str::<Value>(event).unwrap()["type"].as_str().unwrap().to_owned();
            stream += &chunked(&format!("event: {kind}\ndata: {event}\n\n"));
        }
        world.send(up, stream + "0\r\n\r\n");
        let got = world.take(client);
        assert!(
            got.contains("\"Hello\"") && got.contains("[DONE]") && got.contains(r#""model":"fast""#),
            "{name}: {got}"
        );
        let call = &world.calls[0];
        // A provider that had begun to answer has had the prompt, too.
        let begun = ["cut before a token", "error event", "no first token in time"].contains(&name);
        let input = call["input"].as_u64().unwrap();
        assert!(if begun { (10..40).contains(&input) } else { input == 9 }, "{name}: {input}");
        assert_eq!((&call["provider"], &call["output"]), (&json!("two"), &json!(4)), "{name}");
        assert_eq!(call["nano_usd"], Value::Null, "an unknown price is not zero");
        world.assert_at_rest();
    }
}

#[test]
fn a_refused_credential_is_not_the_clients_and_the_providers_text_stays_here() {
    let mut world = world();
    let client = ask(&mut world, "solo", false);
    let up = world.connected();
    world.send(
        up,
        failed(401, "").replace("\"no\"", "\"ad sk-one\"").replace("content-length: 48", "content-length: 55"),
    );
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 502 ") && !got.contains("sk-one"), "{got}");
    world.assert_at_rest();
}

#[test]
fn what_a_call_cost_stands_in_its_head_where_the_route_tells_it() {
    for (priced, cost) in [("gpt-y", "0.000013000"), ("other", "unknown")] {
        let toml = AI.replace("keys = \"off\"", "keys = \"off\", cost_header = true");
        let mut world = World::new(&toml.replace("prices.\"gpt-y\"", &format!("prices.\"{priced}\"")));
        let client = ask(&mut world, "solo", false);
        let up = world.connected();
        world.send(up, answered(WHOLE));
        let got = world.take(client);
        assert!(got.contains(&format!("x-pygate-cost: {cost}\r\n")) && got.ends_with(WHOLE), "{got}");
        world.assert_at_rest();
    }
}

fn keyed(limits: Value) -> World {
    let mut world = World::new(&AI.replace("keys = \"off\"", "keys = \"required\""));
    let hash = hex::encode(sha256(&[b"vk"]));
    let key = json!({"id": "key_1", "sha256": hash, "team": "a", "models": ["solo"], "limits": limits});
    let snapshot = json!({"version": 1, "keys": [key]}).to_string();
    world.engine.publish_keys(Arc::new(KeyTable::read(snapshot.as_bytes()).unwrap()));
    world
}

#[test]
fn without_a_valid_key_nobody_is_asked() {
    let mut world = keyed(json!([]));
    for more in ["", "authorization: Bearer wrong\r\n", "authorization: Bearer vk\r\nx-api-key: other\r\n"] {
        let client = world.client();
        world.send(client, post("/v1/chat/completions", r#"{"model":"solo","messages":[]}"#, more));
        assert!(world.take(client).starts_with("HTTP/1.1 401 "), "{more}");
    }
    // A model that is not the key's is not there for it.
    let client = ask(&mut world, "fast", false);
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 404 ") && !got.contains("fast, "), "{got}");
    assert!(world.asked.is_empty());
    for more in ["x-api-key: vk\r\n", "x-goog-api-key: vk\r\n", "authorization: Bearer vk\r\nx-api-key: vk\r\n"] {
        let client = world.client();
        world.send(client, post("/v1/chat/completions", r#"{"model":"solo","messages":[]}"#, more));
        assert_eq!(world.take(client), "", "{more}");
    }
    assert_eq!(world.asked.len(), 3);
}

#[test]
fn budgets_are_held_before_and_settled_after_whatever_happens() {
    let limit = |kind: &str, max: u64| json!({"scope": "team:a", "kind": kind, "window": "day", "max": max});
    let used = |world: &World, kind| {
        let unix = world.now.wall_ns / 1_000_000_000;
        let (begin, end) = crate::ai::keys::Window::Day.around(unix);
        let key = crate::ai::keys::counter_key("team:a", kind, crate::ai::keys::Window::Day);
        budget::used(&world.shared, budget::Counter { key, begin, end })
    };
    use crate::ai::keys::Kind;
    let mut world = keyed(json!([limit("requests", 9), limit("total_tokens", 1500), limit("nano_usd", 1_000_000_000)]));
    let client = ask(&mut world, "solo", false);
    let up = world.connected();
    assert!(used(&world, Kind::TotalTokens) > 1024);
    // What is under way counts: the second would not fit.
    let second = ask(&mut world, "solo", false);
    let got = world.take(second);
    assert!(got.starts_with("HTTP/1.1 429 ") && got.contains("retry-after: "), "{got}");
    assert_eq!(body_of(&got)["error"]["code"], "insufficient_quota", "{got}");
    assert!(body_of(&got)["error"]["message"].as_str().unwrap().contains("team:a per day"), "{got}");
    world.send(up, answered(WHOLE));
    world.take(client);
    assert_eq!((used(&world, Kind::TotalTokens), used(&world, Kind::NanoUsd)), (10, 13));
    // A client that leaves, a provider that fails, a stream that is cut.
    let client = ask(&mut world, "solo", false);
    world.take(up);
    world.reset(client);
    let after = used(&world, Kind::TotalTokens);
    assert!((11..100).contains(&after), "the prompt was sent: {after}");
    let client = ask(&mut world, "solo", false);
    let up = world.connected();
    world.send(up, failed(500, ""));
    assert!(world.take(client).starts_with("HTTP/1.1 500 "));
    assert_eq!(used(&world, Kind::TotalTokens), after, "a failed call costs no tokens");
    let settled: u64 = world.calls.iter().map(|c| c["input"].as_u64().unwrap() + c["output"].as_u64().unwrap()).sum();
    assert_eq!(settled, after, "the counter is the sum of the records");
    assert_eq!(used(&world, Kind::Requests), 3, "the one that was refused is none");
    world.assert_at_rest();
}

#[test]
fn the_same_question_is_answered_again_without_asking_anybody() {
    let mut world = World::new(&AI.replace("keys = \"off\"", "keys = \"off\", cache = { ttl = \"5s\" }"));
    let client = ask(&mut world, "solo", false);
    let up = world.connected();
    world.take(up);
    world.send(up, answered(WHOLE));
    assert!(!world.take(client).contains("x-pygate-cache"));
    // The same JSON in another order.
    let again = r#"{"x":1,"messages":[{"content":"hello","role":"user"}],"stream":false,"model":"solo"}"#;
    world.send(client, post("/v1/chat/completions", again, ""));
    let got = world.take(client);
    assert!(got.contains("x-pygate-cache: hit\r\n") && got.ends_with(WHOLE), "{got}");
    assert_eq!(world.take(up), "");
    let call = &world.calls[1];
    assert_eq!((&call["cache"], &call["input"], &call["nano_usd"]), (&json!("hit"), &json!(0), &json!(0)));
    // A stream is another question, and one that was cut is not kept.
    let client = ask(&mut world, "solo", true);
    world.send(up, format!("{STREAM}{}", chunked(CHUNK)));
    world.reset(up);
    assert!(world.take(client).contains("\"error\""));
    let client = ask(&mut world, "solo", true);
    let up = world.connected();
    let whole = STREAM.to_owned() + &chunked(CHUNK) + &chunked(STOP) + &chunked(USAGE) + &chunked(DONE) + "0\r\n\r\n";
    world.send(up, whole);
    assert!(world.take(client).contains("[DONE]"));
    let asked = world.asked.len();
    let client = ask(&mut world, "solo", true);
    let got = world.take(client);
    assert!(got.contains("x-pygate-cache: hit") && got.contains("[DONE]"), "{got}");
    assert_eq!(world.asked.len(), asked);
    // Its time ends.
    world.seconds(6.0);
    let client = ask(&mut world, "solo", false);
    assert_eq!(world.take(client), "");
}

#[test]
fn another_credential_of_the_same_target_is_tried_and_the_refused_one_rests() {
    let mut world = World::new(&AI.replace("{ main = \"sk-one\" }", "{ a = \"sk-a\", b = \"sk-b\" }"));
    let client = ask(&mut world, "solo", false);
    let up = world.connected();
    let first = world.take(up);
    world.send(up, failed(429, "retry-after: 60\r\n"));
    // A retry trusts no idle connection.
    let up = world.connected();
    let sent = world.take(up);
    let (used, other) = if first.contains("sk-a") { ("sk-a", "sk-b") } else { ("sk-b", "sk-a") };
    assert!(sent.contains(other), "{sent}");
    world.send(up, answered(WHOLE));
    assert!(world.take(client).contains("200 OK"));
    for _ in 0..3 {
        let client = ask(&mut world, "solo", false);
        let busy = world.sides.iter().find(|(_, side)| side.out.starts_with(b"POST")).map(|(key, _)| ConnId::Up(key.1));
        let up = busy.expect("a request");
        let sent = world.take(up);
        assert!(sent.contains(other) && !sent.contains(used), "{sent}");
        world.send(up, answered(WHOLE));
        world.take(client);
    }
    world.assert_at_rest();
}

#[test]
fn a_call_that_failed_over_gets_no_connection_of_the_provider_it_left() {
    let toml = AI.replace("base_url = \"http://127.0.0.1:9001/v1\"\n", "base_url = \"http://127.0.0.1:9001/v1\"\nservice = \"tight\"\n")
        + "\n[services.tight]\nendpoints = [\"http://127.0.0.1:9001\"]\nmax_connections = 1\nconnect_timeout = \"1s\"\n";
    let mut world = World::new(&toml);
    let first = ask(&mut world, "fast", false);
    let one = world.connected();
    world.take(one);
    let second = ask(&mut world, "fast", false);
    world.seconds(1.1);
    // It waits for the second provider's connection as the first provider's comes free.
    assert_eq!(world.asked.len(), 2);
    world.send(one, answered(WHOLE));
    assert!(world.take(first).contains("200 OK"));
    assert_eq!(world.take(one), "", "its request, and the other provider's credential");
    let two = world.connected();
    assert!(world.take(two).contains("x-api-key: sk-two"));
    world.reset(second);
    world.assert_at_rest();
}

#[test]
fn what_a_guard_blocks_is_settled_and_text_cut_into_deltas_is_found() {
    let guarded = AI.replace("keys = \"off\" }", "keys = \"off\" }\nguard = { response = [\"words\"] }");
    let mut world = World::new(&guarded);
    let client = ask(&mut world, "solo", true);
    let up = world.connected();
    world.take(up);
    let bit = |text: &str| chunked(&CHUNK.replace("Hi", text));
    world.send(up, format!("{STREAM}{}{}", bit("poi"), bit("son")));
    assert_eq!(world.take(client), "");
    world.send(up, chunked(STOP) + &chunked(USAGE) + &chunked(DONE) + "0\r\n\r\n");
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 403 ") && !got.contains("poi"), "{got}");
    assert_eq!((&world.calls[0]["input"], &world.calls[0]["output"]), (&json!(7), &json!(3)), "the provider did it");
    let client = ask(&mut world, "solo", false);
    world.take(up);
    world.send(up, answered(&WHOLE.replace("Hi", "poison")));
    assert!(world.take(client).starts_with("HTTP/1.1 403 "));
    assert_eq!(world.calls[1]["nano_usd"], json!(13_000));
    world.assert_at_rest();
}

#[test]
fn an_answer_too_long_for_the_guard_ends_the_call_once() {
    let guarded = AI.replace(
        "keys = \"off\" }",
        "keys = \"off\", cost_header = true }\nguard = { response = [\"words\"], max_body = \"1KiB\" }",
    );
    let mut world = World::new(&guarded);
    let client = ask(&mut world, "solo", false);
    let up = world.connected();
    world.send(up, answered(&WHOLE.replace("Hi", &"long ".repeat(1000))));
    assert!(world.take(client).starts_with("HTTP/1.1 502 "));
    assert_eq!(world.calls.len(), 1);
    world.assert_at_rest();
}

#[test]
fn a_stream_cut_within_an_event_still_ends_in_an_error_event() {
    let mut world = World::new(&AI.replace("\"one/gpt-y\"", "\"two/claude-y\""));
    let client = world.client();
    let body = r#"{"model":"solo","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    world.send(client, post("/v1/messages", body, ""));
    let up = world.connected();
    let begun = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"He\"}}\n\n";
    world.send(up, format!("{STREAM}{}{}", chunked(begun), chunked("event: content_block_del")));
    world.take(client);
    world.reset(up);
    let got = world.take(client);
    assert!(got.contains("\n\nevent: error\n"), "{got}");
    world.assert_at_rest();
}

#[test]
fn tokens_are_counted_by_whoever_speaks_the_dialect_and_else_by_estimate() {
    let mut world = world();
    let body = |model: &str| format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hello there"}}]}}"#);
    let client = world.client();
    world.send(client, post("/v1/messages/count_tokens", &body("solo"), ""));
    let got = world.take(client);
    assert!(got.contains("x-pygate-estimate: tokens") && body_of(&got)["input_tokens"].as_u64().unwrap() > 0, "{got}");
    // The first target speaks another dialect: it must not be sent this one's call.
    world.send(client, post("/v1/messages/count_tokens", &body("fast"), ""));
    let up = world.connected();
    let sent = world.take(up);
    assert!(sent.starts_with("POST /v1/messages/count_tokens ") && sent.contains("sk-two"), "{sent}");
    world.send(up, answered("{\"input_tokens\":3}"));
    assert!(world.take(client).ends_with("{\"input_tokens\":3}"));
    world.assert_at_rest();
}

#[test]
fn calls_that_nobody_asked_to_serve_are_not() {
    let mut world = world();
    for path in
        ["/v1/files", "/v1/batches/b", "/v1/images/generations", "/v1/responses/r", "/v1/vector_stores/v/files/f"]
    {
        let client = world.client();
        world.send(client, post(path, "{}", ""));
        assert!(world.take(client).starts_with("HTTP/1.1 404 "), "{path}");
    }
    assert!(world.asked.is_empty());
    let mut world = World::new(&AI.replace("keys = \"off\"", "keys = \"off\", calls = [\"images\"]"));
    let client = world.client();
    world.send(client, post("/v1/images/generations", r#"{"prompt":"x","model":"solo"}"#, ""));
    let up = world.connected();
    let sent = world.take(up);
    assert!(
        sent.contains("POST /v1/images/generations") && sent.ends_with(r#"{"prompt":"x","model":"gpt-y"}"#),
        "{sent}"
    );
    world.send(up, answered("{}"));
    world.take(client);
    assert_eq!(world.calls[0]["nano_usd"], Value::Null, "unmeasured is not free");
    world.assert_at_rest();
}

#[test]
fn a_budget_in_money_admits_no_call_that_has_no_price() {
    let toml = AI.replace("keys = \"off\"", "keys = \"required\"").replace("prices.\"gpt-y\"", "prices.\"other\"");
    let mut world = World::new(&toml);
    let limits = json!([{"scope": "team:a", "kind": "requests", "window": "day", "max": 2},
        {"scope": "team:a", "kind": "nano_usd", "window": "day", "max": 1_000_000_000}]);
    let key = json!({"id": "key_1", "sha256": hex::encode(sha256(&[b"vk"])), "limits": limits});
    let snapshot = json!({"version": 1, "keys": [key]}).to_string();
    world.engine.publish_keys(Arc::new(KeyTable::read(snapshot.as_bytes()).unwrap()));
    for _ in 0..5 {
        // What was held of the other limit is given back: it would be used up else.
        let client = ask(&mut world, "solo", false);
        let got = world.take(client);
        assert!(got.starts_with("HTTP/1.1 429 ") && got.contains("no price"), "{got}");
    }
    assert!(world.asked.is_empty());
}
