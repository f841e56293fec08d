use super::super::usage::{Ending, Meter};
use super::super::Dialect;
use super::*;
use proptest::prelude::*;
use serde_json::{json, Value};

fn written(error: &Error, dialect: Dialect) -> Value {
    let mut out = Vec::new();
    error.write(dialect, Some("id-1"), &mut out);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn errors_have_each_dialects_shape() {
    let error = Error::new(Kind::RateLimited, "slow \"down\"").param("model");
    let openai = json!({"error": {"message": "slow \"down\"", "type": "requests", "param": "model",
        "code": "rate_limit_exceeded"}});
    assert_eq!(written(&error, Dialect::OpenAiChat), openai);
    assert_eq!(written(&error, Dialect::OpenAiResponses), openai);
    assert_eq!(written(&error.clone().code("budget"), Dialect::OpenAiChat)["error"]["code"], "budget");
    let anthropic = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow \"down\""},
        "request_id": "id-1"});
    assert_eq!(written(&error, Dialect::Anthropic), anthropic);
    let gemini = json!({"error": {"code": 429, "message": "slow \"down\"", "status": "RESOURCE_EXHAUSTED"}});
    assert_eq!(written(&error, Dialect::Gemini), gemini);
    assert_eq!(written(&error, Dialect::Bedrock), json!({"message": "slow \"down\""}));
    assert_eq!(error.header(Dialect::Bedrock), Some(("x-amzn-errortype", "ThrottlingException")));
    assert_eq!(error.header(Dialect::Anthropic), None);
    let statuses = |kind| Dialect::ALL.map(|dialect| Error::new(kind, "").status(dialect));
    assert_eq!(statuses(Kind::Overloaded), [503, 503, 529, 503, 503]);
    assert_eq!(statuses(Kind::Quota), [429, 429, 402, 429, 400]);
    assert_eq!(statuses(Kind::ContextLength), [400; 5]);
}

#[test]
fn an_error_event_fails_the_stream() {
    for kind in Kind::ALL {
        for dialect in Dialect::ALL {
            let mut out = Vec::new();
            Error::new(kind, "a\nb").write_event(dialect, None, 7, &mut out);
            let mut meter = Meter::stream(dialect);
            meter.feed(&out, 0);
            let seen = (meter.ending(), meter.events(), meter.malformed(), meter.is_lost());
            assert_eq!(seen, (Ending::Failed, 1, 0, false), "{dialect:?} {kind:?}");
        }
    }
    let mut out = Vec::new();
    Error::new(Kind::Internal, "x").write_event(Dialect::OpenAiResponses, None, 7, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("event: error\ndata: {\"type\":\"error\",\"sequence_number\":7,"), "{text}");
}

#[test]
fn providers_errors_are_understood() {
    let openai = |kind: &str, code: Value, message: &str| json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    let anthropic = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}});
    let gemini =
        |code: u16, status: &str, message: &str| json!({"error": {"code": code, "message": message, "status": status}});
    let long = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.";
    for (status, body, kind) in [
        (400, openai("invalid_request_error", json!("context_length_exceeded"), "x"), Kind::ContextLength),
        (400, openai("BadRequestError", json!(400), long), Kind::ContextLength),
        (422, json!({"detail": "Input is too long"}), Kind::ContextLength),
        (400, openai("invalid_request_error", json!(null), "bad"), Kind::BadRequest),
        (401, openai("invalid_request_error", json!("invalid_api_key"), "no"), Kind::Unauthenticated),
        (404, openai("invalid_request_error", json!("model_not_found"), "no"), Kind::NotFound),
        (429, openai("tokens", json!("rate_limit_exceeded"), "Limit on tokens per min"), Kind::RateLimited),
        (429, openai("insufficient_quota", json!("insufficient_quota"), "x"), Kind::Quota),
        (402, json!({"error": "Insufficient Balance"}), Kind::Quota),
        (400, openai("", json!("content_filter"), "filtered"), Kind::ContentFilter),
        (500, openai("server_error", json!(null), "x"), Kind::Internal),
        (503, openai("server_error", json!(null), "x"), Kind::Unavailable),
        (0, openai("server_error", json!(502), "x"), Kind::BadGateway),
        (
            0,
            json!({"type": "response.failed", "response": {"status": "failed", "error":
            {"code": "rate_limit_exceeded", "message": "x"}}}),
            Kind::RateLimited,
        ),
        (0, json!({"type": "error", "code": "server_error", "message": "x"}), Kind::Internal),
        (
            400,
            anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            Kind::ContextLength,
        ),
        (
            400,
            anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit: 1"),
            Kind::ContextLength,
        ),
        (400, anthropic("invalid_request_error", "Your credit balance is too low to access"), Kind::Quota),
        (529, anthropic("overloaded_error", "Overloaded"), Kind::Overloaded),
        (0, anthropic("overloaded_error", "Overloaded"), Kind::Overloaded),
        (413, anthropic("request_too_large", "x"), Kind::TooLarge),
        (
            400,
            gemini(400, "INVALID_ARGUMENT", "The input token count (1) exceeds the maximum number of tokens"),
            Kind::ContextLength,
        ),
        (429, gemini(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota"), Kind::RateLimited),
        (503, gemini(503, "UNAVAILABLE", "overloaded"), Kind::Unavailable),
        (403, json!([gemini(403, "PERMISSION_DENIED", "x")]), Kind::Forbidden),
        (400, json!({"message": "Input is too long for requested model."}), Kind::ContextLength),
        (429, json!({"message": "Too many tokens, please wait before trying again."}), Kind::RateLimited),
        (400, json!({"__type": "com.amazon.coral#AccessDeniedException", "Message": "x"}), Kind::Forbidden),
        (529, json!(null), Kind::Overloaded),
    ] {
        let error = Error::read(status, body.to_string().as_bytes());
        assert_eq!(error.kind, kind, "{status} {body}");
    }
    let error = Error::read(400, b"{\"error\":{\"message\":\"m\",\"code\":\"c\",\"param\":\"p\"}}");
    assert_eq!(error, Error::new(Kind::BadRequest, "m").code("c").param("p"));
    let error = Error::read(502, b"<html>Bad gateway at 10.0.0.1</html>");
    assert_eq!(error, Error::new(Kind::BadGateway, ""));
    let error = Error::read_exception("ValidationException:http://a/", b"{\"message\":\"Input is too long\"}");
    assert_eq!(error.kind, Kind::ContextLength);
    let error = Error::read_exception("throttlingException", b"{\"message\":\"slow\"}");
    assert_eq!(error, Error::new(Kind::RateLimited, "slow").code("throttlingException"));
}

#[test]
fn what_is_written_is_understood() {
    for kind in Kind::ALL {
        for dialect in [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::Anthropic, Dialect::Gemini] {
            let error = Error::new(kind, "");
            let status = error.status(dialect);
            let back = Error::read(status, written(&error, dialect).to_string().as_bytes());
            assert_eq!(back.status(dialect), status, "{dialect:?} {kind:?} {back:?}");
        }
    }
}

#[test]
fn kinds_are_told_apart_for_failover() {
    let over: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.fails_over()).map(Kind::name).collect();
    let expected = "context-length quota timeout conflict rate-limited internal bad-gateway overloaded unavailable";
    assert_eq!(over.join(" "), expected);
    assert!(Kind::Quota.blames_credential() && !Kind::Internal.blames_credential());
    let status = |status| Kind::of_status(status).name();
    assert_eq!(
        [408, 409, 418, 429, 500, 599].map(status),
        ["timeout", "conflict", "bad-request", "rate-limited", "internal", "internal"]
    );
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..99), text in ".{0,30}", status: u16) {
        Error::read(status, &body);
        let error = Error::read(status, json!({"error": {"message": text}}).to_string().as_bytes());
        prop_assert_eq!(&error.message, &text);
    }
}
