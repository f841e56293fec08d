//! The guard as its callers see it: packs in, verdicts out.

use super::channel::LIMIT;
use super::*;
use crate::config::Engine;
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};

fn rule(id: &str, pattern: &str, action: Action) -> RuleSpec {
    serde_json::from_value(serde_json::json!({ "id": id, "pattern": pattern, "action": action })).unwrap()
}

fn pack(rules: Vec<RuleSpec>) -> Pack {
    Pack { pack: Head { name: "t".into(), version: "1".into(), description: String::new() }, rule: rules }
}

fn compile(rules: Vec<RuleSpec>) -> Arc<Ruleset> {
    Arc::new(Ruleset::compile(&[pack(rules)], Engine::Rust, &[], None).unwrap())
}

fn plan(rules: Vec<RuleSpec>) -> Plan {
    compile(rules).plan(&["t".into()], Direction::Request).unwrap()
}

/// One rule for each kind of gate.
fn mixed() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        plan(vec![
            rule("email", r"[a-z0-9.]{1,20}@[a-z]{1,20}\.(?:com|org)\b", Action::Mask),
            rule("key", r"(?i)\bkey[-_ ]?[0-9a-f]{8}\b", Action::Mask),
            rule("named", r"(?i)\bpassword\s{0,3}[:=]\s{0,3}(?P<secret>[a-z0-9]{4,16})", Action::Mask),
            rule("digits", r"\b[0-9]{4}-[0-9]{4}\b", Action::Mask),
            rule("word", r"\b[0-9a-f]{24,32}\b", Action::Tag),
            rule("nothing", r"[XYZ][^ ]{2,6}[QWE]", Action::Tag),
            rule("aaa", r"a{3,5}", Action::Tag),
        ])
    })
}

fn judge(plan: &Plan, kind: ContentKind, body: &str) -> (Verdict, Vec<String>, String) {
    let mut masked = Vec::new();
    let judgement = plan.judge(kind, body.as_bytes(), &mut masked).unwrap();
    let found = judgement
        .findings
        .iter()
        .map(|f| {
            let name = plan.ruleset().rules()[f.rule as usize].name.split_once('/').unwrap().1.to_owned();
            format!("{name}@{}:{}-{}={}", f.channel, f.start, f.end, &body[f.raw_start as usize..f.raw_end as usize])
        })
        .collect();
    (judgement.verdict, found, String::from_utf8(masked).unwrap())
}

#[test]
fn text_is_masked_in_place() {
    let (verdict, found, masked) = judge(mixed(), ContentKind::Text, "mail bob@example.com, key-deadbeef now");
    assert_eq!(verdict, Verdict::Masked);
    assert_eq!(found, ["email@0:5-20=bob@example.com", "key@0:22-34=key-deadbeef"]);
    assert_eq!(masked, "mail [t:email], [t:key] now");
}

#[test]
fn json_strings_are_decoded_and_everything_else_kept() {
    let body = r#" {"m" : [ "x \u0062ob@ex\u0061mple.com\n", 1.50e2, true ],
  "a@b.com": {"k\ney": "\ud83d\ude00 key\u005fdeadbeef\\"} } "#;
    let (verdict, found, masked) = judge(mixed(), ContentKind::Json, body);
    assert_eq!(verdict, Verdict::Masked);
    assert_eq!(
        masked,
        " {\"m\" : [ \"x [t:email]\\n\", 1.50e2, true ],\n  \"[t:email]\": {\"k\\ney\": \"\\ud83d\\ude00 [t:key]\\\\\"} } "
    );
    assert_eq!(found.len(), 3);
    assert!(found[0].ends_with(r"=\u0062ob@ex\u0061mple.com"), "{found:?}");
    serde_json::from_str::<serde_json::Value>(&masked).unwrap();
}

#[test]
fn a_value_is_seen_behind_its_name() {
    let body = r#"{"user_password":"hunter22","password" : "hunter22", "n": {"password": 123456789}}"#;
    let (_, found, masked) = judge(mixed(), ContentKind::Json, body);
    assert_eq!(masked, r#"{"user_password":"hunter22","password" : "[t:named]", "n": {"password": "[t:named]"}}"#);
    assert_eq!(found, ["named@1:0-8=hunter22", "named@3:0-9=123456789"]);
}

#[test]
fn a_number_is_replaced_as_a_whole() {
    let digits = plan(vec![rule("card", r"[0-9]{16}", Action::Mask)]);
    let (_, _, masked) = judge(&digits, ContentKind::Json, r#"[4111111111111111, -14111111111111111]"#);
    assert_eq!(masked, r#"["[t:card]", "[t:card]"]"#);
}

#[test]
fn form_fields_are_decoded_and_escaped_again() {
    let (verdict, found, masked) =
        judge(mixed(), ContentKind::Form, "a=1&mail=%62ob%40example.com+x&b=%zz%4&password=abcd%2B");
    assert_eq!(verdict, Verdict::Masked);
    assert_eq!(masked, "a=1&mail=%5Bt%3Aemail%5D+x&b=%zz%4&password=%5Bt%3Anamed%5D%2B");
    assert_eq!(found.len(), 2);
}

#[test]
fn overlapping_masks_cover_both_and_name_the_leftmost() {
    let plan = plan(vec![
        rule("short", "bcd", Action::Mask),
        rule("left", "abcd", Action::Mask),
        rule("right", "cdefg", Action::Mask),
        rule("longer", "abcde", Action::Mask),
    ]);
    assert_eq!(judge(&plan, ContentKind::Text, "-abcdefgh").2, "-[t:longer]h");
}

#[test]
fn blocks_name_the_first_rule_and_shadow_does_nothing() {
    let specs = || vec![rule("a", "first", Action::Block), rule("b", "second", Action::Block)];
    let blocking = plan(specs());
    assert_eq!(judge(&blocking, ContentKind::Text, "second first").0, Verdict::Block { rule: 1 });
    for shadow in ["t/*", "t/b"] {
        let ruleset = Arc::new(Ruleset::compile(&[pack(specs())], Engine::Rust, &[shadow.into()], None).unwrap());
        let plan = ruleset.plan(&["t".into()], Direction::Request).unwrap();
        let (verdict, found, _) = judge(&plan, ContentKind::Text, "second");
        assert_eq!((verdict, found.len()), (Verdict::Pass, 1));
    }
}

#[test]
fn allow_exempts_what_lies_inside_it() {
    let plan = plan(vec![rule("ok", "test-[0-9]{4}-x", Action::Allow), rule("n", "[0-9]{4}", Action::Mask)]);
    let (_, found, masked) = judge(&plan, ContentKind::Text, "test-1234-x 5678");
    assert_eq!(masked, "test-1234-x [t:n]");
    assert_eq!(found.len(), 2);
}

#[test]
fn scope_and_packs_choose_the_rules() {
    let mut only = rule("only", "needle", Action::Block);
    only.scope = vec![Scope::Response];
    let ruleset = compile(vec![only]);
    assert!(ruleset.plan(&["t".into()], Direction::Request).unwrap().is_empty());
    assert_eq!(ruleset.plan(&["t".into()], Direction::Response).unwrap().len(), 1);
    let problem = ruleset.plan(&["tt".into()], Direction::Request).unwrap_err();
    assert_eq!(problem.nearest.as_deref(), Some("t"));
}

#[test]
fn what_is_not_json_is_unjudgeable() {
    let deep = "[".repeat(MAX_DEPTH + 1);
    for (body, why) in [
        ("", Unjudgeable::Malformed { at: 0 }),
        ("{", Unjudgeable::Malformed { at: 1 }),
        ("{\"a\" 1}", Unjudgeable::Malformed { at: 5 }),
        ("{'a':1}", Unjudgeable::Malformed { at: 1 }),
        ("[1,]", Unjudgeable::Malformed { at: 3 }),
        ("[01]", Unjudgeable::Malformed { at: 3 }),
        ("nul", Unjudgeable::Malformed { at: 3 }),
        ("{} {}", Unjudgeable::Malformed { at: 3 }),
        ("\"\\x\"", Unjudgeable::Malformed { at: 2 }),
        ("[1}", Unjudgeable::Malformed { at: 2 }),
        (&deep, Unjudgeable::TooDeep),
    ] {
        let expected = if body.is_empty() { Ok(Verdict::Pass) } else { Err(why) };
        let result = mixed().judge(ContentKind::Json, body.as_bytes(), &mut Vec::new()).map(|j| j.verdict);
        assert_eq!(result, expected, "{body}");
    }
    for body in ["{}", " [ ] ", "\u{feff}{\"a\":[{}]}", "1", "\"\\ud800\"", "-0.5E+7", "\"\u{1}\""] {
        assert!(mixed().judge(ContentKind::Json, body.as_bytes(), &mut Vec::new()).is_ok(), "{body}");
    }
    assert!(mixed().judge(ContentKind::JsonLines, b"{}\n[1]\n\"x\"", &mut Vec::new()).is_ok());
}

#[test]
fn content_types() {
    for (value, kind) in [
        ("application/json; charset=utf-8", Some(ContentKind::Json)),
        ("Application/Problem+JSON", Some(ContentKind::Json)),
        ("text/html;charset=\"ISO-8859-1\"", Some(ContentKind::Text)),
        ("application/x-www-form-urlencoded", Some(ContentKind::Form)),
        ("", Some(ContentKind::Unknown)),
        ("image/png", None),
    ] {
        assert_eq!(ContentKind::of(value.as_bytes()), Ok(kind), "{value}");
    }
    assert_eq!(ContentKind::of(b"text/plain; charset=UTF-16LE"), Err(Unjudgeable::Charset));
    assert!(is_identity(b"") && is_identity(b"identity") && !is_identity(b"gzip") && !is_identity(b"identity, br"));
}

#[test]
fn packs_are_refused_with_reasons() {
    let specs = ["a*b", "ab", "(?P<x>a)(b", "abc$", r"\p{Greek}{5}", "(?:a{0,200}b){200}", "[a&&b]{9}", "(?U)aaa"]
        .iter()
        .enumerate()
        .map(|(i, pattern)| rule(&format!("r{i}"), pattern, Action::Tag))
        .collect();
    let problems = Ruleset::compile(&[pack(specs)], Engine::Rust, &["t/r99".into()], None).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    let expected: Vec<String> = (0..8).map(|i| format!("packs.t.rule[{i}].pattern")).collect();
    assert_eq!(paths[..8], expected);
    assert_eq!(paths[8], "guard.shadow[0]");
    assert!(problems.iter().all(|problem| problem.expected.is_some()), "{problems:#?}");
}

#[test]
fn a_missing_engine_is_a_note_or_a_problem() {
    let specs = || pack(vec![rule("a", "needle", Action::Tag)]);
    let ruleset = Ruleset::compile(&[specs()], Engine::Auto, &[], None).unwrap();
    assert_eq!((ruleset.engine(), ruleset.notes().len()), ("rust", 1));
    let problems = Ruleset::compile(&[specs()], Engine::Hyperscan, &[], None).unwrap_err();
    assert_eq!(problems[0].path, "guard.engine");
    let wrong = HyperscanDb {
        bytes: vec![1, 2, 3],
        library: "/nonexistent.so".into(),
        version: "5.4.11".into(),
        fingerprint: ruleset.fingerprint().into(),
    };
    let ruleset = Ruleset::compile(&[specs()], Engine::Auto, &[], Some(&wrong)).unwrap();
    assert_eq!(ruleset.engine(), "rust");
}

/// What the rules find in one channel, by the regex alone.
fn oracle(plan: &Plan, text: &[u8]) -> Vec<(u16, usize, usize)> {
    let mut found = Vec::new();
    for (number, rule) in plan.ruleset().rules().iter().enumerate() {
        let regex = regex::bytes::RegexBuilder::new(&rule.pattern).unicode(false).build().unwrap();
        for captures in regex.captures_iter(text) {
            let span = captures.name("secret").or(captures.get(0)).unwrap();
            found.push((number as u16, span.start(), span.end()));
        }
    }
    found.sort_by_key(|&(rule, start, end)| (start, std::cmp::Reverse(end), rule));
    found
}

fn found(judgement: &Judgement) -> Vec<(u16, usize, usize)> {
    let mut all: Vec<_> =
        judgement.findings.iter().map(|f| (f.rule, f.raw_start as usize, f.raw_end as usize)).collect();
    all.sort_by_key(|&(rule, start, end)| (start, std::cmp::Reverse(end), rule));
    all
}

/// Text in which the rules of [`mixed`] nearly match all the time.
fn near_miss() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z0-9.]{0,6}@[a-z]{1,4}\\.(com|org|co)",
        "[kK][eE]y[-_ ]?[0-9a-f]{7,9}",
        "password[ :=]{1,5}[a-z0-9]{2,18}",
        "[0-9]{3,5}-[0-9]{3,5}",
        "[0-9a-f]{20,36}",
        "[XYZQWEa ]{0,9}",
        "a{1,12}",
        "[ \n\"\\\\é😀]{0,3}",
        "[a-z -]{0,12}",
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn feed_split(
    plan: &Plan,
    kind: ContentKind,
    body: &[u8],
    cuts: &[usize],
) -> (Result<Judgement, Unjudgeable>, Vec<u8>) {
    let mut judging = Judging::new(plan, kind);
    let mut masked = Vec::new();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    cuts.extend([0, body.len()]);
    cuts.sort_unstable();
    for pair in cuts.windows(2) {
        let mut rest = &body[pair[0]..pair[1]];
        while !rest.is_empty() {
            match judging.feed(rest) {
                Ok(taken) => rest = &rest[taken..],
                Err(why) => return (Err(why), masked),
            }
        }
    }
    (judging.finish(body, &mut masked), masked)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_findings_are_those_of_the_expressions(text in near_miss()) {
        let judgement = mixed().judge(ContentKind::Text, text.as_bytes(), &mut Vec::new()).unwrap();
        prop_assert_eq!(found(&judgement), oracle(mixed(), text.as_bytes()));
    }

    #[test]
    fn long_text_is_scanned_in_windows_without_a_seam(
        texts in prop::collection::vec(near_miss(), 1..12),
        times in 1usize..40,
        shift in 0usize..400,
        filler in prop::sample::select(vec!["a", " ", "0", "lorem ipsum ", "a1-"]),
    ) {
        let mut text = filler.repeat((LIMIT - 600) / filler.len() + shift);
        text.push_str(&texts.concat().repeat(times));
        let judgement = mixed().judge(ContentKind::Text, text.as_bytes(), &mut Vec::new()).unwrap();
        prop_assert_eq!(found(&judgement), oracle(mixed(), text.as_bytes()));
    }

    #[test]
    fn splits_change_nothing(
        texts in prop::collection::vec(near_miss(), 1..6),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        padding in prop::sample::select(vec![0usize, LIMIT - 300, 2 * LIMIT]),
    ) {
        let mut object = serde_json::Map::new();
        object.insert("pad".into(), "p ".repeat(padding / 2).into());
        for (i, text) in texts.iter().enumerate() {
            object.insert(format!("password{i} {text}"), text.as_str().into());
        }
        let json = serde_json::to_string(&object).unwrap();
        let form: String = texts.iter().map(|t| format!("password={}&", t.replace('&', "%26").replace(' ', "+"))).collect();
        for (kind, body) in [(ContentKind::Json, json), (ContentKind::Form, form), (ContentKind::Text, texts.concat()), (ContentKind::Unknown, texts.concat())] {
            let whole = feed_split(mixed(), kind, body.as_bytes(), &[]);
            let split = feed_split(mixed(), kind, body.as_bytes(), &cuts);
            prop_assert_eq!(&whole, &split);
            if kind != ContentKind::Unknown {
                let mut masked = Vec::new();
                prop_assert_eq!(&whole.0, &mixed().judge(kind, body.as_bytes(), &mut masked));
            }
        }
    }

    #[test]
    fn json_findings_and_masks_are_those_of_the_decoded_strings(texts in prop::collection::vec(near_miss(), 0..6), escape in any::<bool>()) {
        let body = if escape { escaped(&texts) } else { serde_json::to_string(&texts).unwrap() };
        let mut masked = Vec::new();
        let judgement = mixed().judge(ContentKind::Json, body.as_bytes(), &mut masked).unwrap();
        if judgement.verdict == Verdict::Pass {
            masked = body.clone().into_bytes();
        }
        let mut expected_count = 0;
        let expected: Vec<String> = texts.iter().map(|text| {
            expected_count += oracle(mixed(), text.as_bytes()).len();
            let mut masked = Vec::new();
            match mixed().judge(ContentKind::Text, text.as_bytes(), &mut masked).unwrap().verdict {
                Verdict::Masked => String::from_utf8(masked).unwrap(),
                _ => text.clone(),
            }
        }).collect();
        prop_assert_eq!(judgement.findings.len(), expected_count);
        let decoded: Vec<String> = serde_json::from_slice(&masked).unwrap();
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(any::<usize>(), 0..4)) {
        for kind in [ContentKind::Json, ContentKind::JsonLines, ContentKind::Form, ContentKind::Text, ContentKind::Unknown] {
            let whole = feed_split(mixed(), kind, &body, &[]);
            prop_assert_eq!(&whole, &feed_split(mixed(), kind, &body, &cuts));
        }
    }

    #[test]
    fn json_is_accepted_as_serde_does(body in "[\\[\\]{}\",:0-9eE.+\\-truefalsn\\\\ u]{0,24}") {
        let ours = mixed().judge(ContentKind::Json, body.as_bytes(), &mut Vec::new());
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&body);
        if !body.trim().is_empty() {
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?} {:?}", body, ours, theirs);
        }
    }
}

/// JSON with every character as `\uXXXX`.
fn escaped(texts: &[String]) -> String {
    let strings: Vec<String> = texts
        .iter()
        .map(|text| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>())
        .map(|text| format!("\"{text}\""))
        .collect();
    format!("[{}]", strings.join(", "))
}
