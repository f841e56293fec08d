//! Readers of single texts: targets, route expressions, configurations, JSON bodies, the PROXY header.

use super::split::SPLITS;
use pygate_core::config::{Config, Engine};
use pygate_core::guard::{ContentKind, Direction, Judging, Pack, Plan, Ruleset, Verdict};
use pygate_core::message::{PathOptions, Peer, RequestHead, Target};
use pygate_core::proxy_protocol;
use pygate_core::revision::Revision;
use pygate_core::route::{normal_form, Found, RouteTable};
use std::sync::{Arc, OnceLock};

/// A request target: what is accepted is canonical, whatever the options.
pub fn target(data: &[u8]) {
    for (merge_slashes, allow_encoded_slash) in [(true, false), (true, true), (false, false), (false, true)] {
        let options = PathOptions { merge_slashes, allow_encoded_slash };
        let (mut once, mut twice) = (Target::default(), Target::default());
        if once.parse(data, options).is_err() || data == b"*" {
            continue;
        }
        assert_eq!(twice.parse(once.as_bytes(), options), Ok(()));
        assert_eq!(once, twice, "canonical form is no fixed point");
        twice.set_path(once.path(), options).expect("its own path");
        assert_eq!(once, twice);

        let path = once.path();
        assert_eq!(path.first(), Some(&b'/'));
        assert!(once.as_bytes().iter().all(|b| matches!(b, 0x21..=0x7e) && *b != b'#'));
        assert!(!path.contains(&b'\\') && !path.contains(&b'?'));
        let decoded = decode(path);
        assert!(!decoded.contains(&0), "NUL in {}", path.escape_ascii());
        for segment in path.split(|&b| b == b'/').chain(decoded.split(|&b| b == b'/' || b == b'\\')) {
            let dots = segment == b"." || segment == b"..";
            assert!(!dots || allow_encoded_slash, "dot segment in {}", path.escape_ascii());
        }
        assert!(!merge_slashes || path.windows(2).all(|w| w != b"//"), "{}", path.escape_ascii());
        let slashes = |bytes: &[u8]| bytes.iter().filter(|b| matches!(b, b'/' | b'\\')).count();
        assert!(allow_encoded_slash || slashes(&decoded) == slashes(path));

        let names: Vec<Vec<u8>> = once
            .query()
            .unwrap_or_default()
            .split(|&b| b == b'&')
            .map(|pair| {
                pygate_core::message::form_decoded(pair.split(|&b| b == b'=').next().unwrap_or_default()).collect()
            })
            .collect();
        for name in names {
            let mut without = once.clone();
            without.remove_parameter(&name);
            assert_eq!(without.parameters(&name).count(), 0);
            assert_eq!(without.path(), once.path());
        }
    }
}

fn decode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let digits = (text[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

/// A route expression: printed, it reads as itself; the table decides as the long way round does.
pub fn route_expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(printed) = normal_form(text) else { return };
    // Printing may be longer than what may be read, never different.
    match normal_form(&printed) {
        Ok(again) => assert_eq!(again, printed),
        Err(problem) => {
            assert!(problem.message.contains("longer than") || problem.message.contains("nested"), "{problem:?}")
        }
    }
    let matches = serde_json::to_string(text).expect("a JSON text");
    let routes = format!(
        r#"[{{"name": "a", "match": {matches}, "service": "s"}}, {{"name": "b", "match": {{"path": "/**"}}, "service": "s"}}]"#
    );
    let routes: Vec<_> = serde_json::from_str(&routes).expect("two routes");
    let Ok(table) = RouteTable::compile(&routes, &["web".to_owned()]) else { return };
    let peer = Peer { ip: [10, 1, 2, 3].into(), ..Peer::default() };
    for (method, host, path) in [("GET", "a.x", "/"), ("POST", "b.a.x", "/x/y?debug=1"), ("PUT", "", "/v1/users/7")] {
        let mut head = RequestHead { host: host.into(), ..RequestHead::default() };
        head.method = pygate_core::message::Method::parse(method.as_bytes()).expect("a method");
        head.target.parse(path.as_bytes(), PathOptions::default()).expect("a target");
        head.fields.append(b"x-env", b"dev");
        let explained = table.explain(&head, &peer).winner.map(|w| w.index);
        match table.find(&head, &peer) {
            Found::Route(number) => assert_eq!(explained, Some(number)),
            _ => assert_eq!(explained, None),
        }
    }
}

/// A configuration as text, through to the compiled revision.
pub fn config_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = toml::from_str::<Config>(text) else { return };
    // What was read can be written, and means the same: workers compile the JSON form.
    let json = serde_json::to_string(&config).expect("a configuration has a JSON form");
    let again: Config = serde_json::from_str(&json).expect("and is read from it");
    assert_eq!(serde_json::to_string(&again).expect("JSON"), json);
    let problems = |config: &Config| match Revision::compile(config, "0123456789ab", 1, Some(ruleset())) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|p| format!("{p:?}")).collect(),
    };
    assert_eq!(problems(&config), problems(&again));
}

const PACK: &str = r#"
[pack]
name = "words"
version = "1"
[[rule]]
id = "secret"
pattern = 'hush-[0-9]{4}'
action = "mask"
[[rule]]
id = "poison"
pattern = 'poison'
action = "block"
"#;

/// The rules that targets share; compiled once.
pub fn ruleset() -> &'static Arc<Ruleset> {
    static RULES: OnceLock<Arc<Ruleset>> = OnceLock::new();
    RULES.get_or_init(|| {
        let pack: Pack = toml::from_str(PACK).expect("a pack");
        Arc::new(Ruleset::compile(&[pack], Engine::Rust, &[], None).expect("rules"))
    })
}

/// JSON bodies through the guard: no split changes the verdict; what a JSON parser reads is read; what is masked is
/// still JSON and holds no match.
pub fn json_reader(data: &[u8]) {
    let plan = ruleset().plan(&["words".to_owned()], Direction::Request).expect("a plan");
    for kind in [ContentKind::Json, ContentKind::JsonLines, ContentKind::Unknown] {
        let mut masked = Vec::new();
        let whole = plan.judge(kind, data, &mut masked);
        for split in SPLITS {
            let mut again = Vec::new();
            assert_eq!(judge_pieces(&plan, kind, &split.pieces(data), data, &mut again), whole, "{split:?}");
            assert_eq!(again, masked);
        }
        let parsed = serde_json::from_slice::<serde_json::Value>(data);
        if kind == ContentKind::Json && parsed.is_ok() {
            assert!(whole.is_ok(), "valid JSON was refused: {whole:?}");
        }
        let Ok(judgement) = whole else { continue };
        for finding in &judgement.findings {
            assert!(finding.raw_start < finding.raw_end && finding.raw_end as usize <= data.len());
        }
        if judgement.verdict != Verdict::Masked {
            assert!(masked.is_empty());
            continue;
        }
        // What was text may now begin as JSON does: a mask is written in brackets.
        let json = data.trim_ascii_start().first().is_some_and(|b| matches!(b, b'{' | b'['));
        let again = if kind == ContentKind::Unknown && !json { ContentKind::Text } else { kind };
        let second = plan.judge(again, &masked, &mut Vec::new()).expect("what was masked can be judged");
        assert_eq!(second.findings, [], "left in {}", masked.escape_ascii());
        if parsed.is_ok() && kind == ContentKind::Json {
            serde_json::from_slice::<serde_json::Value>(&masked).expect("masking leaves JSON");
        }
    }
}

fn judge_pieces(
    plan: &Plan,
    kind: ContentKind,
    pieces: &[&[u8]],
    body: &[u8],
    masked: &mut Vec<u8>,
) -> Result<pygate_core::guard::Judgement, pygate_core::guard::Unjudgeable> {
    let mut judging = Judging::new(plan, kind);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let used = judging.feed(rest)?;
            rest = &rest[used..];
        }
    }
    judging.finish(body, masked)
}

/// The PROXY header: the shortest prefix that is complete decides, shorter ones wait, longer ones change nothing.
pub fn proxy_protocol(data: &[u8]) {
    let whole = proxy_protocol::parse(data);
    for end in 0..=data.len() {
        let part = proxy_protocol::parse(&data[..end]);
        match (part, whole) {
            (Ok(None), _) => {}
            (Ok(Some((used, _))), _) => {
                assert!(used <= end);
                assert_eq!(part, whole, "more bytes change the header");
            }
            (Err(_), _) => assert_eq!(part, whole, "more bytes mend a malformed header"),
        }
    }
    if let Ok(Some((used, _))) = whole {
        assert_eq!(proxy_protocol::parse(&data[..used - 1]), Ok(None));
    }
}
