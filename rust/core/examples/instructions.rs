//! Fixed workloads for counting instructions: `instructions WORKLOAD` runs one of them.
//!
//! `bench/instructions` runs this under callgrind and counts inside [`measured`] only. Nothing here may depend
//! on time, addresses or the machine: two runs of one build must count the same.

use pygate_core::audit::codec::{encode_intent, encode_outcome};
use pygate_core::audit::record::{Intent, Outcome};
use pygate_core::config::{Config, Engine, Match, MatchTable, OneOrMany, Rate, Route};
use pygate_core::exchange::{Action, ConnId};
use pygate_core::guard::{ContentKind, Direction, Pack, Ruleset};
use pygate_core::http1::{HeadLimits, RequestEvent, Server};
use pygate_core::limit::gcra::{check, Quota};
use pygate_core::message::{Peer, RequestHead};
use pygate_core::revision::Revision;
use pygate_core::route::{Found, RouteTable};
use pygate_core::shared::{Layout, Shared};
use pygate_core::time::{Instant, Now};
use std::hint::black_box;
use std::sync::Arc;

/// Calls measured per run; the count is divided by it.
const CALLS: usize = 50;

const WORKLOADS: &[(&str, fn())] = &[
    ("audit-encode", audit_encode),
    ("exchange-get", exchange_get),
    ("gcra-check", gcra_check),
    ("guard-clean-4k", || guard(false)),
    ("guard-hits-4k", || guard(true)),
    ("head-parse", head_parse),
    ("route-find-1000", route_find),
];

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    match WORKLOADS.iter().find(|(name, _)| *name == wanted) {
        Some((_, run)) => run(),
        None => WORKLOADS.iter().for_each(|(name, _)| println!("{name} {CALLS}")),
    }
}

/// The only place where callgrind counts. The first calls, which fill buffers and caches, are not counted.
fn count(mut call: impl FnMut(usize)) {
    (0..CALLS).for_each(&mut call);
    measured(&mut call);
}

#[inline(never)]
fn measured(call: &mut dyn FnMut(usize)) {
    for n in 0..CALLS {
        call(n);
    }
}

const REQUEST: &[u8] = b"GET /api-3/small?page=2 HTTP/1.1\r\nHost: svc-07.bench.test\r\nUser-Agent: bench/1\r\n\
    Accept: application/json\r\nAccept-Encoding: gzip\r\nAccept-Language: en\r\nX-Api-Key: k-1234567890\r\n\
    Cookie: session=0123456789abcdef\r\n\r\n";

fn head_parse() {
    let mut server = Server::default();
    let limits = HeadLimits::default();
    let mut head = RequestHead::default();
    count(|_| {
        let (used, event) = server.read(black_box(REQUEST), &limits, &mut head).unwrap();
        assert_eq!((used, event), (REQUEST.len(), RequestEvent::Head));
        assert_eq!(server.read(b"", &limits, &mut head).unwrap().1, RequestEvent::End);
    });
}

/// A GET through everything: parse, route among 1,000, intent, pooled upstream, 1 KB answer, outcome, metrics.
fn exchange_get() {
    let mut config: Config = toml::from_str(
        "[entrypoints.web]\naddress = \"127.0.0.1:8080\"\n[services.origin]\nendpoints = [\"http://127.0.0.1:9000\"]\n",
    )
    .unwrap();
    config.routes = (0..1000).map(|n| route(n / 10, n % 10)).collect();
    let revision = Arc::new(Revision::compile(&config, "0123456789ab", 1, None).unwrap());
    let file = tempfile::tempfile().unwrap();
    let shared = Arc::new(Shared::format(&file, Layout::for_workers(1)).unwrap());
    let mut clock = Now { mono: Instant(1_000_000_000), wall_ns: 1_700_000_000_000_000_000 };
    let mut engine = pygate_core::exchange::Engine::new(shared, 0, [1, 2, 3, 4], revision, clock);
    let down = engine.accept(clock, "web", [127, 0, 0, 1].into(), 40_000, None).unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n{:1024}", "x");
    let mut records = Vec::with_capacity(4096);
    count(|_| {
        clock.mono = Instant(clock.mono.0 + 50_000);
        engine.input(clock, ConnId::Down(down), black_box(REQUEST));
        let mut answered = 0;
        loop {
            records.clear();
            engine.take_records(&mut records);
            let actions = engine.take_actions();
            let (mut connect, mut asked) = (None, None);
            for action in &actions {
                match action {
                    Action::Connect { up, .. } => connect = Some(*up),
                    Action::Write { conn: ConnId::Up(up), .. } => asked = Some(*up),
                    Action::Write { conn: ConnId::Down(_), data } => answered += data.len(),
                    other => panic!("unexpected {other:?}"),
                }
            }
            engine.recycle(actions);
            clock.mono = Instant(clock.mono.0 + 50_000);
            match (connect, asked) {
                (Some(up), _) => engine.connected(clock, up),
                (_, Some(up)) => engine.input(clock, ConnId::Up(up), black_box(answer.as_bytes())),
                _ => break,
            }
        }
        assert!(answered > 1024 && engine.in_flight() == 0);
    });
}

fn route_find() {
    let routes: Vec<Route> = (0..1000).map(|n| route(n / 10, n % 10)).collect();
    let table = RouteTable::compile(&routes, &["web".into()]).unwrap();
    let heads: Vec<RequestHead> = (0..CALLS).map(|n| head(n * 37 % 100, n % 10)).collect();
    let peer = Peer::default();
    count(|n| {
        let found = table.find(black_box(&heads[n]), &peer);
        assert_eq!(found, Found::Route((n * 37 % 100 * 10 + n % 10) as u32));
    });
}

fn route(host: usize, path: usize) -> Route {
    Route {
        name: format!("svc-{host:02}-api-{path}"),
        matches: Match::Table(MatchTable {
            host: OneOrMany::One(format!("svc-{host:02}.bench.test")),
            path: OneOrMany::One(format!("/api-{path}/**")),
            ..MatchTable::default()
        }),
        priority: 0,
        entrypoints: Vec::new(),
        policies: Vec::new(),
        llm: None,
        service: Some("origin".into()),
        guard: Default::default(),
        audit: Default::default(),
        plugins: Vec::new(),
        expose_revision: false,
        websocket: None,
    }
}

fn head(host: usize, path: usize) -> RequestHead {
    let mut head = RequestHead { host: format!("svc-{host:02}.bench.test").into_bytes(), ..Default::default() };
    head.target.parse(format!("/api-{path}/small?page=2").as_bytes(), Default::default()).unwrap();
    head.fields.append(b"user-agent", b"bench/1");
    head.fields.append(b"accept", b"*/*");
    head
}

/// 60 rules of our own, so that editing the packs under `rules/` does not move the baseline.
fn guard(hits: bool) {
    let mut text = String::from("[pack]\nname = \"bench\"\nversion = \"1\"\n");
    for n in 0..60 {
        text += &format!(
            "[[rule]]\nid = \"token-{n}\"\npattern = '''\\btk{n:02}_[A-Za-z0-9]{{24}}\\b'''\naction = \"mask\"\n\
             severity = \"high\"\nmatch = [\"tk{n:02}_abcdefghijklmnopqrstuvwx\"]\nno_match = [\"tk{n:02}_\"]\n"
        );
    }
    let pack: Pack = toml::from_str(&text).unwrap();
    let ruleset = Arc::new(Ruleset::compile(&[pack], Engine::Rust, &[], None).unwrap());
    let plan = ruleset.plan(&["bench".into()], Direction::Request).unwrap();
    let mut body = String::from("{\"messages\":[{\"role\":\"user\",\"content\":\"");
    for n in 0..usize::MAX {
        if body.len() > 4050 {
            break;
        }
        body += "The quarterly report says that orders grew by 12 % and that task_7 is done. ";
        if hits && n % 10 == 0 {
            body += "tk07_abcdefghijklmnopqrstuvwx ";
        }
    }
    body += "\"}]}";
    let mut masked = Vec::new();
    count(|_| {
        let judgement = plan.judge(ContentKind::Json, black_box(body.as_bytes()), &mut masked).unwrap();
        assert_eq!(judgement.findings.is_empty(), !hits);
    });
}

fn audit_encode() {
    let intent = Intent {
        exchange: [7; 16],
        wall_ns: 1_700_000_000_000_000_000,
        mono_ns: 1_000_000_000,
        revision: [1, 2, 3, 4, 5, 6],
        entrypoint: "web",
        route: "svc-07-api-3",
        service: "origin",
        method: b"GET",
        https: false,
        host: b"svc-07.bench.test",
        path: b"/api-3/small",
        client_ip: std::net::IpAddr::from([127, 0, 0, 1]),
        client_port: 40_000,
        identity: "",
        trace_id: [8; 16],
        span_id: [9; 8],
        parent_span_id: [0; 8],
        sampled: false,
        user_agent: b"bench/1",
        tls: "",
        client_cert: "",
    };
    let outcome = Outcome {
        exchange: [7; 16],
        wall_ns: 1_700_000_000_001_000_000,
        duration_ns: 1_000_000,
        status: 200,
        code: "",
        endpoint: "127.0.0.1:9000",
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
    };
    let mut out = Vec::with_capacity(4096);
    count(|_| {
        out.clear();
        encode_intent(black_box(&intent), &mut out);
        encode_outcome(black_box(&outcome), &mut out);
    });
}

fn gcra_check() {
    let file = tempfile::tempfile().unwrap();
    let shared = Shared::format(&file, Layout::for_workers(1)).unwrap();
    let quota = Quota::new(Rate::parse("100/s").unwrap(), 200).unwrap();
    count(|n| {
        let now = Instant(1_000_000_000 + n as u64 * 20_000_000);
        let key = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        assert!(check(&shared, black_box(&quota), key, 1, now).is_some_and(|d| d.allowed));
    });
}
