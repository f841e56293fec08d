use super::*;
use proptest::prelude::*;
use serde_json::{json, Value};

fn read(dialect: Dialect, body: &Value) -> Peek {
    Peek::read(dialect, body.to_string().as_bytes()).unwrap()
}

#[test]
fn chat_is_read() {
    let peek = read(
        Dialect::OpenAiChat,
        &json!({
            "model": "gpt-4o", "stream": true, "stream_options": {"include_usage": true}, "n": 2, "temperature": 0.5,
            "max_tokens": 100, "max_completion_tokens": 300, "user": "u1", "reasoning_effort": "low",
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
                ]},
            ],
            "tools": [
                {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}},
                {"type": "custom", "custom": {"name": "run"}},
            ],
            "functions": [{"name": "old"}],
        }),
    );
    assert_eq!(peek.model.as_deref(), Some("gpt-4o"));
    assert!(peek.stream && peek.include_usage);
    assert_eq!((peek.choices, peek.max_output, peek.temperature), (2, Some(300), Some(0.5)));
    assert_eq!(peek.user.as_deref(), Some("u1"));
    assert_eq!(peek.tools, ["look_up", "run", "old"]);
    let Needs { vision, audio, video, documents, tools, json_output, reasoning, audio_output, image_output } =
        peek.needs;
    assert!(vision && audio && documents && tools && json_output && reasoning);
    assert!(!video && !audio_output && !image_output);
    assert_eq!((peek.prompt.images, peek.prompt.audio, peek.prompt.documents, peek.prompt.messages), (1, 1, 1, 2));
}

#[test]
fn other_dialects_are_read() {
    let peek = read(
        Dialect::OpenAiResponses,
        &json!({
            "model": "o", "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"},
                {"type": "input_image", "image_url": "https://h/x.png"}, {"type": "input_file", "file_id": "f"}]},
                {"type": "function_call", "name": "f", "arguments": "{}"}],
            "max_output_tokens": 7, "max_tokens": 9, "previous_response_id": "resp_1",
            "text": {"format": {"type": "json_object"}}, "reasoning": {"effort": "high"},
            "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
        }),
    );
    assert_eq!((peek.max_output, peek.previous_response.as_deref()), (Some(7), Some("resp_1")));
    assert_eq!(peek.tools, ["f", "web_search"]);
    assert!(peek.needs.vision && peek.needs.documents && peek.needs.json_output && peek.needs.reasoning);

    let peek = read(
        Dialect::Anthropic,
        &json!({
            "model": "claude", "max_tokens": 50, "stream": true, "metadata": {"user_id": "u"},
            "thinking": {"type": "enabled", "budget_tokens": 10}, "system": [{"type": "text", "text": "s"}],
            "messages": [{"role": "user", "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words of it"}},
                {"type": "tool_use", "name": "t", "input": {"type": "image", "data": "AAAA"}},
                {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "u"}}]},
            ]}],
            "tools": [{"name": "t", "input_schema": {}}, {"type": "web_search_20250305", "name": "web_search"}],
        }),
    );
    assert_eq!((peek.max_output, peek.user.as_deref(), peek.prompt.images), (Some(50), Some("u"), 2));
    assert_eq!(peek.tools, ["t", "web_search"]);
    assert!(peek.stream && peek.needs.reasoning && !peek.needs.json_output);

    let gemini = json!({
        "contents": [{"role": "user", "parts": [{"text": "hi"}, {"inlineData": {"mimeType": "image/png", "data": "AA"}},
            {"file_data": {"mime_type": "audio/mp3", "file_uri": "u"}},
            {"functionCall": {"name": "f", "args": {"mimeType": "video/mp4", "data": "AA"}}}]}],
        "system_instruction": {"parts": [{"text": "s"}]},
        "generation_config": {"max_output_tokens": 5, "candidateCount": 3, "responseMimeType": "application/json",
            "temperature": 1, "responseModalities": ["TEXT", "IMAGE"], "thinkingConfig": {"thinkingBudget": 0}},
        "tools": [{"function_declarations": [{"name": "f"}, {"name": "g"}]}, {"googleSearch": {}}],
    });
    let peek = read(Dialect::Gemini, &gemini);
    assert_eq!((peek.max_output, peek.choices, peek.model), (Some(5), 3, None));
    assert_eq!(peek.tools, ["f", "g", "googleSearch"]);
    assert!(peek.needs.vision && peek.needs.audio && peek.needs.json_output && peek.needs.image_output);
    assert!(!peek.needs.video && !peek.needs.reasoning && !peek.needs.audio_output);

    let peek = read(
        Dialect::Bedrock,
        &json!({
            "messages": [{"role": "user", "content": [{"text": "hi"},
                {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                {"document": {"format": "pdf", "name": "d", "source": {"bytes": "AAAA"}}},
                {"toolUse": {"toolUseId": "x", "name": "t", "input": {"video": {}}}}]}],
            "system": [{"text": "s"}], "inferenceConfig": {"maxTokens": 8, "temperature": 0.1},
            "toolConfig": {"tools": [{"toolSpec": {"name": "t", "inputSchema": {"json": {}}}}]},
        }),
    );
    assert_eq!((peek.max_output, peek.temperature, peek.tools.len()), (Some(8), Some(0.1), 1));
    assert!(peek.needs.vision && peek.needs.documents && !peek.needs.video);
}

#[test]
fn bad_bodies_are_refused_with_their_offset() {
    for (dialect, body, expected) in [
        (Dialect::OpenAiChat, r#"{"model":"a","model":"b"}"#, "`model` stands a second time at byte 13"),
        (Dialect::OpenAiChat, r#"{"model":"a","\u006dodel":"b"}"#, "`model` stands a second time at byte 13"),
        (Dialect::OpenAiChat, r#"{"model":7}"#, "expected a string at byte 9"),
        (Dialect::OpenAiChat, r#"{"model":"a""#, "expected `,` or `}` at byte 12"),
        (Dialect::OpenAiChat, "[]", "expected an object at byte 0"),
        (
            Dialect::OpenAiChat,
            r#"{"tools":[{"function":{"name":"a","name":"b"}}]}"#,
            "`name` stands a second time at byte 34",
        ),
        (
            Dialect::OpenAiChat,
            r#"{"tools":[{"function":{"name":"a"},"function":{"name":"b"}}]}"#,
            "`function` stands a second time at byte 35",
        ),
        (Dialect::Anthropic, r#"{"tools":[{"name":["a"]}]}"#, "expected a string at byte 18"),
        (
            Dialect::Gemini,
            r#"{"generationConfig":{},"generation_config":{}}"#,
            "`generationConfig` stands a second time at byte 23",
        ),
        (Dialect::Bedrock, r#"{"toolConfig":{"tools":[],"tools":[]}}"#, "`tools` stands a second time at byte 26"),
    ] {
        assert_eq!(Peek::read(dialect, body.as_bytes()).unwrap_err().to_string(), expected, "{body}");
    }
    // What decides nothing may stand twice, in metadata and in arguments.
    let body = r#"{"model":"a","metadata":{"model":1,"x":1,"x":2},"x":1,"x":2,"messages":[{"name":"a","name":"b"}]}"#;
    assert_eq!(Peek::read(Dialect::OpenAiChat, body.as_bytes()).unwrap().model.as_deref(), Some("a"));
}

#[test]
fn estimates_follow_the_text() {
    let tokens = |content: &Value| {
        let body = json!({"messages": [{"role": "user", "content": content}]});
        read(Dialect::OpenAiChat, &body).prompt.tokens()
    };
    assert_eq!(tokens(&json!("x".repeat(4000))), 1004);
    assert_eq!(tokens(&json!("語".repeat(100))), 104);
    let image = json!([{"type": "image_url", "image_url": {"url": format!("data:x,{}", "A".repeat(1 << 20))}}]);
    assert_eq!(tokens(&image), 1204);
    let file = json!([{"type": "file", "file": {"file_data": "A".repeat(100_000)}}]);
    assert!((2300..2400).contains(&tokens(&file)), "{}", tokens(&file));
    let embedding = read(Dialect::OpenAiChat, &json!({"model": "e", "input": ["abcd", "efgh"]}));
    assert_eq!(embedding.prompt.tokens(), 2);
    let numbers = read(Dialect::OpenAiChat, &json!({"model": "e", "input": [[1, 2, 3], [4, 5]]}));
    assert_eq!(numbers.prompt.tokens(), 5);
}

fn rewritten(body: &str, changes: Changes<'_>) -> String {
    let mut out = Vec::new();
    Peek::read(Dialect::OpenAiChat, body.as_bytes()).unwrap().rewrite(body.as_bytes(), changes, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn rewriting_changes_nothing_else() {
    let usage = Changes { include_usage: true, ..Changes::default() };
    let all = Changes { model: Some("n\"w"), stream: Some(true), include_usage: true };
    for (body, changes, expected) in [
        (r#"{ "model" : "a" ,"x": 1.0}"#, Changes::default(), r#"{ "model" : "a" ,"x": 1.0}"#),
        (
            r#"{ "model" : "a" ,"x": 1.0 }"#,
            all,
            r#"{ "model" : "n\"w" ,"x": 1.0,"stream":true,"stream_options":{"include_usage":true} }"#,
        ),
        ("{ }", all, r#"{"model":"n\"w","stream":true,"stream_options":{"include_usage":true} }"#),
        (r#"{"stream_options":{}}"#, usage, r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":{ "a":1}}"#, usage, r#"{"stream_options":{"include_usage":true, "a":1}}"#),
        (r#"{"stream_options":null}"#, usage, r#"{"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":{"include_usage": false }}"#, usage, r#"{"stream_options":{"include_usage": true }}"#),
        (r#"{"stream_options":{"include_usage": true }}"#, usage, r#"{"stream_options":{"include_usage": true }}"#),
        (r#"{"stream":false}"#, Changes { stream: Some(true), ..Changes::default() }, r#"{"stream":true}"#),
    ] {
        assert_eq!(rewritten(body, changes), expected);
    }
}

#[test]
fn limits_are_set_where_the_dialect_has_them() {
    use Dialect::*;
    for (dialect, older, body, expected) in [
        (OpenAiChat, false, "{}", r#"{"max_completion_tokens":5}"#),
        (OpenAiChat, true, "{}", r#"{"max_tokens":5}"#),
        (OpenAiChat, false, r#"{"max_tokens":9}"#, r#"{"max_tokens":5}"#),
        (OpenAiChat, true, r#"{"max_completion_tokens":9}"#, r#"{"max_completion_tokens":5}"#),
        (OpenAiResponses, false, "{}", r#"{"max_output_tokens":5}"#),
        (Anthropic, false, r#"{"max_tokens":9}"#, r#"{"max_tokens":5}"#),
        (Gemini, false, "{}", r#"{"generationConfig":{"maxOutputTokens":5}}"#),
        (
            Gemini,
            false,
            r#"{"generation_config":{"max_output_tokens":9}}"#,
            r#"{"generation_config":{"maxOutputTokens":5}}"#,
        ),
        (Bedrock, false, r#"{"inferenceConfig":{}}"#, r#"{"inferenceConfig":{"maxTokens":5}}"#),
    ] {
        let mut bytes = body.as_bytes().to_vec();
        set_max_output(dialect, &mut bytes, 5, older).unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(Peek::read(dialect, &bytes).unwrap().max_output, Some(5));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), path in ".{0,40}") {
        for dialect in Dialect::ALL {
            let _ = Peek::read(dialect, &bytes);
        }
        let _ = operation(&path);
    }

    #[test]
    fn a_rewritten_body_says_what_was_asked(
        model in ".{0,12}", old in proptest::option::of(".{0,12}"), stream: bool, before: bool,
        options in proptest::sample::select(&["", "null", "{}", r#"{"x":1}"#, r#"{"include_usage":false}"#][..]),
    ) {
        let mut body = json!({"messages": []});
        if let Some(old) = &old {
            body["model"] = json!(old);
        }
        if before {
            body["stream"] = json!(!stream);
        }
        if !options.is_empty() {
            body["stream_options"] = serde_json::from_str(options).unwrap();
        }
        let changes = Changes { model: Some(&model), stream: Some(stream), include_usage: true };
        let out = rewritten(&body.to_string(), changes);
        let peek = Peek::read(Dialect::OpenAiChat, out.as_bytes()).unwrap();
        prop_assert_eq!((peek.model, peek.stream, peek.include_usage), (Some(model), stream, true));
    }
}
