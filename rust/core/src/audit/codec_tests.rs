//! The codec: round trips, and what damage does to them.

use super::*;
use proptest::prelude::*;
use serde_json::{json, Map};

fn intent() -> Intent<'static> {
    Intent {
        exchange: *b"\x01\x90\x5d\x1a\x2b\x3c\x7d\x4e\x8f\x00\x11\x22\x33\x44\x55\x66",
        wall_ns: 1_790_000_000_123_456_789,
        mono_ns: 77_123_456_789,
        revision: [0xab, 0xcd, 0xef, 1, 2, 3],
        entrypoint: "web",
        route: "orders",
        service: "orders",
        method: b"GET",
        https: false,
        host: b"api.example.com",
        path: b"/orders/12345/items",
        client_ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        client_port: 51234,
        identity: "key:mobile-app",
        trace_id: [0x4b; 16],
        span_id: [0x5c; 8],
        parent_span_id: [0; 8],
        sampled: true,
        user_agent: b"curl/8.5.0",
        tls: "1.3",
        client_cert: "00ff",
    }
}

fn outcome() -> Outcome<'static> {
    Outcome {
        exchange: intent().exchange,
        wall_ns: 1_790_000_000_124_456_789,
        duration_ns: 1_000_000,
        status: 200,
        code: "",
        endpoint: "10.0.0.11:9000",
        attempts: 1,
        upstream_ns: 800_000,
        request_bytes: 0,
        response_bytes: 1024,
        truncated: false,
        grpc_status: None,
        findings: &[],
        client_ip: None,
        entrypoint: "",
        revision: [0; 6],
    }
}

fn show(bytes: &[u8]) -> serde_json::Value {
    let mut rest = bytes;
    let record = split(&mut rest).unwrap().unwrap();
    assert!(rest.is_empty());
    let mut map = Map::new();
    record.visit(&mut map).unwrap();
    map.into()
}

#[test]
fn a_call_is_small() {
    let mut out = Vec::new();
    encode_intent(&intent(), &mut out);
    encode_outcome(&outcome(), &mut out);
    assert!(out.len() <= 300, "{} bytes", out.len());
}

#[test]
fn records_read_back_by_name() {
    let mut out = Vec::new();
    encode_intent(&intent(), &mut out);
    assert_eq!(
        show(&out),
        json!({
            "kind": "intent", "exchange": "01905d1a-2b3c-7d4e-8f00-112233445566",
            "wall_ns": 1_790_000_000_123_456_789u64, "mono_ns": 77_123_456_789u64,
            "revision": "abcdef010203", "trace_id": "4b".repeat(16), "span_id": "5c".repeat(8),
            "sampled": true, "client_ip": "192.0.2.7", "client_port": 51234,
            "entrypoint": "web", "route": "orders", "service": "orders", "method": "GET",
            "host": "api.example.com", "path": "/orders/12345/items", "identity": "key:mobile-app",
            "tls": "1.3", "client_cert": "00ff",
            "user_agent": "curl/8.5.0",
        })
    );
    out.clear();
    let findings = [Finding { rule: "pii/email", action: "mask", shadow: true, response: true, start: 300, end: 317 }];
    let grpc_status = Some(Status::Unavailable);
    encode_outcome(&Outcome { findings: &findings, truncated: true, grpc_status, ..outcome() }, &mut out);
    assert_eq!(
        show(&out),
        json!({
            "kind": "outcome", "exchange": "01905d1a-2b3c-7d4e-8f00-112233445566",
            "wall_ns": 1_790_000_000_124_456_789u64, "duration_ns": 1_000_000, "status": 200,
            "attempts": 1, "upstream_ns": 800_000, "response_bytes": 1024, "truncated": true,
            "grpc_status": "UNAVAILABLE", "endpoint": "10.0.0.11:9000",
            "findings": [{"rule": "pii/email", "action": "mask", "shadow": true, "response": true,
                          "start": 300, "end": 317}],
        })
    );
}

#[test]
fn what_is_unknown_is_kept() {
    let mut out = Vec::new();
    encode_outcome(&outcome(), &mut out);
    extend(&mut out, 0, "llm.usage", b"\x01\x02");
    out.extend_from_slice(&[tag(61, VARINT), 5, tag(62, BYTES), 2, 0xfe, 0xff]);
    let len = out.len() as u32 - 4;
    out[..4].copy_from_slice(&len.to_le_bytes());
    let shown = show(&out);
    assert_eq!(shown["llm.usage"], "0102");
    assert_eq!(shown["field-61"], "0000000000000005");
    assert_eq!(shown["field-62"], "feff");
    assert_eq!(shown["status"], 200);
    out[4] = 9;
    assert_eq!(show(&out)["kind"], "kind-9");
}

#[test]
fn very_long_names_of_rules_are_cut() {
    let long = "é".repeat(5000);
    let findings = [Finding { rule: &long[..9999 - 1], action: "x", shadow: false, response: false, start: 0, end: 1 }];
    let mut out = Vec::new();
    encode_outcome(&Outcome { findings: &findings, ..outcome() }, &mut out);
    assert_eq!(show(&out)["findings"][0]["rule"], long[..4096]);
    assert_eq!(show(&out)["findings"][0]["action"], "x");
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..200).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn any_intent_reads_back(
        ids in any::<([u8; 16], [u8; 16], [u8; 8], [u8; 8], [u8; 6])>(),
        numbers in any::<(u64, u64, u16, bool, bool)>(),
        ip in any::<IpAddr>(),
        texts in proptest::array::uniform8(text()),
    ) {
        let [entrypoint, route, service, method, host, path, identity, user_agent] = &texts;
        let intent = Intent {
            exchange: ids.0, trace_id: ids.1, span_id: ids.2, parent_span_id: ids.3, revision: ids.4,
            wall_ns: numbers.0, mono_ns: numbers.1, client_port: numbers.2, https: numbers.3, sampled: numbers.4,
            client_ip: ip, entrypoint, route, service, method: method.as_bytes(), host: host.as_bytes(),
            path: path.as_bytes(), identity, user_agent: user_agent.as_bytes(),
            tls: "", client_cert: "",
        };
        let mut out = b"before".to_vec();
        encode_intent(&intent, &mut out);
        let shown = show(&out[6..]);
        let get = |name: &str| shown[name].as_str().unwrap_or_default();
        prop_assert_eq!(get("exchange"), uuid(ids.0));
        prop_assert_eq!(get("trace_id"), hex::encode(ids.1));
        prop_assert_eq!(get("span_id"), hex::encode(ids.2));
        prop_assert_eq!(get("revision"), hex::encode(ids.4));
        prop_assert_eq!(&shown["wall_ns"], numbers.0);
        prop_assert_eq!(&shown["mono_ns"], numbers.1);
        prop_assert_eq!(shown["client_port"].as_u64().unwrap_or(0), u64::from(numbers.2));
        prop_assert_eq!(shown["https"].as_bool().unwrap_or(false), numbers.3);
        prop_assert_eq!(shown["sampled"].as_bool().unwrap_or(false), numbers.4);
        prop_assert_eq!(get("client_ip"), ip.to_string());
        for (name, value) in ["entrypoint", "route", "service", "method", "host", "path", "identity", "user_agent"]
            .iter().zip(&texts)
        {
            prop_assert_eq!(get(name), value);
        }
    }

    #[test]
    fn any_outcome_reads_back(
        numbers in any::<(u64, u64, u16, u8, u64, u64, u64, bool)>(),
        ip in any::<Option<IpAddr>>(),
        texts in proptest::array::uniform3(text()),
        found in proptest::collection::vec((text(), text(), any::<(bool, bool, u32, u32)>()), 0..5),
    ) {
        let findings: Vec<Finding> = found.iter().map(|(rule, action, n)| Finding {
            rule, action, shadow: n.0, response: n.1, start: n.2, end: n.3,
        }).collect();
        let outcome = Outcome {
            exchange: [7; 16], wall_ns: numbers.0, duration_ns: numbers.1, status: numbers.2, attempts: numbers.3,
            upstream_ns: numbers.4, request_bytes: numbers.5, response_bytes: numbers.6, truncated: numbers.7,
            grpc_status: Status::parse(&numbers.3.to_string().into_bytes()),
            code: &texts[0], endpoint: &texts[1], entrypoint: &texts[2], findings: &findings, client_ip: ip,
            revision: [1, 2, 3, 4, 5, 6],
        };
        let mut out = Vec::new();
        encode_outcome(&outcome, &mut out);
        let shown = show(&out);
        let int = |name: &str| shown[name].as_u64().unwrap_or(0);
        prop_assert_eq!(int("wall_ns"), numbers.0);
        prop_assert_eq!(int("duration_ns"), numbers.1);
        prop_assert_eq!(int("status"), u64::from(numbers.2));
        prop_assert_eq!(int("attempts"), u64::from(numbers.3));
        prop_assert_eq!(int("upstream_ns"), numbers.4);
        prop_assert_eq!(int("request_bytes"), numbers.5);
        prop_assert_eq!(int("response_bytes"), numbers.6);
        prop_assert_eq!(shown["client_ip"].as_str().map(str::to_owned), ip.map(|ip| ip.to_string()));
        prop_assert_eq!(shown["findings"].as_array().map_or(0, Vec::len), found.len());
        for (n, (rule, action, flags)) in found.iter().enumerate() {
            let one = &shown["findings"][n];
            prop_assert_eq!(&one["rule"], rule.as_str());
            prop_assert_eq!(&one["action"], action.as_str());
            prop_assert_eq!(&one["shadow"], flags.0);
            prop_assert_eq!(&one["start"], flags.2);
            prop_assert_eq!(&one["end"], flags.3);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = (bytes.len() as u32).to_le_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        let mut rest = framed.as_slice();
        if let Ok(Some(record)) = split(&mut rest) {
            let mut map = Map::new();
            let _ = record.visit(&mut map);
            let _ = (record.exchange(), record.wall_ns(), record.sampled());
        }
        let mut rest = bytes.as_slice();
        while let Ok(Some(_)) = split(&mut rest) {}
    }
}
