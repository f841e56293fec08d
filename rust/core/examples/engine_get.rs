//! A GET through the whole engine, `N` times: the workload behind `bench/instructions`.
//!
//! `cargo run --release --example engine_get -- 10000`

use pygate_core::config::Config;
use pygate_core::exchange::{Action, ConnId, Engine};
use pygate_core::revision::Revision;
use pygate_core::shared::{Layout, Shared};
use pygate_core::time::{Instant, Now};
use std::sync::Arc;

fn main() {
    let n: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1000);
    let routes: Vec<_> = (0..1000)
        .map(|i| {
            serde_json::json!({"name": format!("r{i}"), "match": {"host": format!("h{i}.example"), "path": format!("/p{i}/**")}, "service": "s"})
        })
        .chain([serde_json::json!({"name": "all", "match": {"path": "/**"}, "service": "s"})])
        .collect();
    let config: Config = serde_json::from_value(serde_json::json!({
        "entrypoints": {"web": {"address": "127.0.0.1:80"}},
        "services": {"s": {"endpoints": ["http://127.0.0.1:9000"]}},
        "routes": routes,
    }))
    .expect("a valid configuration");
    let revision = Revision::compile(&config, "000000000000", 1, None).expect("it compiles");
    let path = std::env::temp_dir().join(format!("pygate-example-{}", std::process::id()));
    let shared = Arc::new(Shared::create(&path, Layout::for_workers(1)).expect("shared memory"));
    let _ = std::fs::remove_file(&path);
    let mut now = Now { mono: Instant(1_000_000_000), wall_ns: 1_790_000_000_000_000_000 };
    let mut engine = Engine::new(shared, 0, [1, 2, 3, 4], Arc::new(revision), now);
    let down = engine.accept(now, "web", "10.0.0.1".parse().expect("an address"), 4000).expect("accepted");
    let request = b"GET /hello?x=1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: wrk/4.1\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n";
    let mut answer = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 22:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n".to_vec();
    answer.resize(answer.len() + 1024, b'x');
    let (mut up, mut sent, mut records) = (None, 0usize, Vec::new());
    for _ in 0..n {
        now.mono.0 += 100_000;
        now.wall_ns += 100_000;
        engine.input(now, ConnId::Down(down), request);
        engine.take_records(&mut records);
        let actions = engine.take_actions();
        if let [Action::Connect { up: id, .. }] = actions.as_slice() {
            up = Some(*id);
            engine.connected(now, *id);
            engine.take_actions();
        }
        engine.recycle(actions);
        engine.input(now, ConnId::Up(up.expect("connected")), &answer);
        engine.take_records(&mut records);
        let actions = engine.take_actions();
        sent += actions.iter().map(|a| if let Action::Write { data, .. } = a { data.len() } else { 0 }).sum::<usize>();
        engine.recycle(actions);
    }
    println!("requests={n} bytes_sent={sent}");
}
