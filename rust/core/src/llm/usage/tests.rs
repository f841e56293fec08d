use super::*;
use proptest::prelude::*;

fn usage(input: u64, output: u64, cached_read: u64, cached_write: u64, reasoning: u64) -> Usage {
    Usage { input, output, cached_read, cached_write, reasoning, complete: true, ..Usage::default() }
}

#[test]
fn every_dialect_means_the_same() {
    use Dialect::*;
    for (dialect, object, expected) in [
        (OpenAiChat, json!({"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}), usage(9, 12, 0, 0, 0)),
        (
            OpenAiChat,
            json!({"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
                   "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 3},
                   "completion_tokens_details": {"reasoning_tokens": 256, "audio_tokens": 4,
                   "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}),
            Usage { audio_input: 3, audio_output: 4, ..usage(2006, 300, 1920, 0, 256) },
        ),
        // null details, DeepSeek's and Moonshot's own cache counts, embeddings, xAI's reasoning apart
        (
            OpenAiChat,
            json!({"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, "prompt_tokens_details": null,
                   "prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": 4}),
            usage(20, 5, 16, 0, 0),
        ),
        (OpenAiChat, json!({"prompt_tokens": 20, "completion_tokens": 5, "cached_tokens": 7}), usage(20, 5, 7, 0, 0)),
        (OpenAiChat, json!({"prompt_tokens": 8, "total_tokens": 8}), usage(8, 0, 0, 0, 0)),
        (
            OpenAiChat,
            json!({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
                   "completion_tokens_details": {"reasoning_tokens": 94}}),
            usage(32, 103, 0, 0, 94),
        ),
        (OpenAiChat, json!({"prompt_tokens": 9.0, "completion_tokens": 12.0}), usage(9, 12, 0, 0, 0)),
        (
            OpenAiResponses,
            json!({"input_tokens": 75, "input_tokens_details": {"cached_tokens": 64}, "output_tokens": 1186,
                   "output_tokens_details": {"reasoning_tokens": 1024}, "total_tokens": 1261}),
            usage(75, 1186, 64, 0, 1024),
        ),
        (
            Anthropic,
            json!({"input_tokens": 50, "cache_creation_input_tokens": 248, "cache_read_input_tokens": 1800,
                   "output_tokens": 503, "service_tier": "standard"}),
            usage(2098, 503, 1800, 248, 0),
        ),
        (
            Anthropic,
            json!({"input_tokens": 1, "output_tokens": 2, "cache_creation":
                   {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}}),
            usage(31, 2, 0, 30, 0),
        ),
        (
            Gemini,
            json!({"promptTokenCount": 300, "candidatesTokenCount": 40, "thoughtsTokenCount": 60,
                   "cachedContentTokenCount": 200, "totalTokenCount": 400,
                   "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 30}, {"modality": "IMAGE",
                   "tokenCount": 258}, {"modality": "AUDIO", "tokenCount": 12}],
                   "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 31}]}),
            Usage { image: 31, audio_input: 12, ..usage(300, 100, 200, 0, 60) },
        ),
        (Gemini, json!({"promptTokenCount": 10, "totalTokenCount": 10}), usage(10, 0, 0, 0, 0)),
        (
            Bedrock,
            json!({"inputTokens": 10, "outputTokens": 20, "totalTokens": 160, "cacheReadInputTokens": 100,
                   "cacheWriteInputTokens": 30}),
            usage(140, 20, 100, 30, 0),
        ),
    ] {
        assert_eq!(Usage::read(dialect, &object), Some(expected), "{dialect:?} {object}");
    }
}

#[test]
fn what_holds_no_count_is_no_usage() {
    for object in [json!(null), json!({}), json!([]), json!("x"), json!({"prompt_tokens": null}), json!({"a": 1})] {
        for dialect in Dialect::ALL {
            assert_eq!(Usage::read(dialect, &object), None, "{object}");
        }
    }
    for bad in [json!(-1), json!(1.5), json!("7"), json!(1e300)] {
        assert_eq!(Usage::read(Dialect::OpenAiChat, &json!({"prompt_tokens": bad})), None, "{bad}");
    }
}

#[test]
fn parts_of_a_stream_add_up() {
    let mut usage = Usage::default();
    let start = json!({"input_tokens": 25, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 7});
    assert!(usage.update(Dialect::Anthropic, &start));
    assert!(!usage.complete);
    assert!(usage.update(Dialect::Anthropic, &json!({"output_tokens": 15, "input_tokens": null})));
    assert_eq!((usage.input, usage.output, usage.cached_read, usage.cached_write), (132, 15, 100, 7));
    // Later events repeat the whole; it replaces and does not add.
    let last = json!({"input_tokens": 30, "cache_read_input_tokens": 100, "output_tokens": 16});
    assert!(usage.update(Dialect::Anthropic, &last));
    assert_eq!((usage.input, usage.output, usage.complete), (137, 16, true));
    assert!(!usage.update(Dialect::Anthropic, &json!({})));
}

#[test]
fn nonsense_is_bounded() {
    let huge = u64::MAX;
    let object = json!({"input_tokens": huge, "cache_read_input_tokens": huge, "output_tokens": huge});
    let usage = Usage::read(Dialect::Anthropic, &object).unwrap();
    assert_eq!((usage.input, usage.total()), (huge, huge));
    let object = json!({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}});
    assert_eq!(Usage::read(Dialect::OpenAiChat, &object).unwrap().input, 9);
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        plain in 0u64..1 << 40, read in 0u64..1 << 40, written in 0u64..1 << 40,
        said in 0u64..1 << 40, reasoning in 0u64..1 << 40,
    ) {
        let full = usage(plain + read + written, said + reasoning, read, written, reasoning);
        for dialect in Dialect::ALL {
            let back = Usage::read(dialect, &full.write(dialect)).unwrap();
            prop_assert_eq!((back.input, back.output, back.cached_read), (full.input, full.output, full.cached_read));
            prop_assert_eq!(back.total(), full.total());
            prop_assert!(back.complete);
        }
    }
}
