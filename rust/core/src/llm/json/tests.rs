use super::edit::{insert, remove, set};
use super::*;
use proptest::prelude::*;
use serde_json::{json, Value};

fn agrees(bytes: &[u8]) -> bool {
    // `IgnoredAny` has no cap on depth and accepts lone surrogates, as the grammar does.
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut most, mut string, mut escape) = (0usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escape => escape = false,
            b'\\' if string => escape = true,
            b'"' => string = !string,
            b'{' | b'[' if !string => depth += 1,
            b'}' | b']' if !string => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

#[test]
fn faults_tell_their_offset() {
    for (text, expected) in [
        ("", "expected a value at byte 0"),
        ("{", "expected a name in quotes at byte 1"),
        (r#"{"a" 1}"#, "expected `:` at byte 5"),
        (r#"{"a":1,}"#, "expected a name in quotes at byte 7"),
        (r#"{"a":1 "b":2}"#, "expected `,` or `}` at byte 7"),
        ("[1 2]", "expected `,` or `]` at byte 3"),
        ("[1,]", "expected a value at byte 3"),
        ("{}x", "expected the end at byte 2"),
        ("[tru]", "expected a value at byte 1"),
        ("-", "expected a digit at byte 1"),
        ("1.", "expected a digit at byte 2"),
        ("01", "expected the end at byte 1"),
        ("1e+", "expected a digit at byte 3"),
        (r#""abc"#, "expected the end of a string at byte 4"),
        ("\"a\nb\"", "expected an escaped control character at byte 2"),
        (r#""a\x""#, "expected an escape at byte 2"),
        (r#""a\u12g4""#, "expected four hexadecimal digits at byte 2"),
        ("\u{feff}{}", "expected a value at byte 0"),
        ("{'a':1}", "expected a name in quotes at byte 1"),
    ] {
        assert_eq!(check(text.as_bytes()).unwrap_err().to_string(), expected, "{text}");
        assert!(!agrees(text.as_bytes()), "{text}");
    }
    assert_eq!(check(b"\"a\xffb\"").unwrap_err().to_string(), "not UTF-8 at byte 2");
    let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
    assert_eq!(check(&deep(64)), Ok(()));
    assert_eq!(check(&deep(65)).unwrap_err().to_string(), "nested deeper than 64 at byte 64");
    assert_eq!(check(&b"[".repeat(1 << 20)).unwrap_err().at, 64);
}

#[test]
fn members_are_listed_and_chosen_names_stand_once() {
    let text = br#" { "model" : "x", "messages":[{"model":"y"}], "n":1,"n":2 } "#;
    let seen = members(text, &["model", "messages"]).unwrap();
    let seen: Vec<_> = seen.iter().map(|m| (m.name.decode().into_owned(), &text[m.value.clone()])).collect();
    assert_eq!(seen[0], ("model".into(), &b"\"x\""[..]));
    assert_eq!(seen[1], ("messages".into(), &b"[{\"model\":\"y\"}]"[..]));
    assert_eq!(seen.len(), 4);
    for twice in [r#"{"model":"a","model":"b"}"#, r#"{"model":"a","mod\u0065l":"b"}"#, r#"{"\u006dodel":1,"model":2}"#]
    {
        let fault = members(twice.as_bytes(), &["stream", "model"]).unwrap_err();
        assert_eq!(fault.what, What::Duplicate("model"), "{twice}");
        assert!(twice[fault.at..].starts_with('"'));
        assert_eq!(members(twice.as_bytes(), &["stream"]).unwrap().len(), 2);
    }
    assert_eq!(members(b"[]", &[]).unwrap_err().to_string(), "expected an object at byte 0");
}

#[test]
fn strings_decode() {
    for (text, expected) in [
        (r#""plain ä""#, "plain ä"),
        (r#""\n\t\r\b\f\/\\\"""#, "\n\t\r\u{8}\u{c}/\\\""),
        (r#""\u00e4 \ud83d\ude00!""#, "ä 😀!"),
        (r#""\ud83d""#, "\u{fffd}"),
        (r#""\ud83d x\ude00""#, "\u{fffd} x\u{fffd}"),
        (r#""\ud83d\n\ude00""#, "\u{fffd}\n\u{fffd}"),
    ] {
        let text = Cursor::new(text.as_bytes()).string().unwrap();
        assert_eq!(text.decode(), expected);
        assert!(text.is(expected) && !text.is("other"));
    }
}

#[test]
fn values_of_other_kinds_are_passed() {
    let mut cursor = Cursor::new(br#"[12, 1e3, 2.0, -1, 1.5, "7", true, false, null, {"a":[]}, "end"]"#);
    let mut seen = Vec::new();
    cursor
        .elements(|cursor| {
            let mut other = cursor.clone();
            let mut third = cursor.clone();
            seen.push((cursor.integer_or_skip()?, other.bool_or_skip()?, third.text_or_skip()?.is_some()));
            Ok(())
        })
        .unwrap();
    let integers: Vec<_> = seen.iter().map(|s| s.0).collect();
    assert_eq!(integers[..6], [Some(12), Some(1000), Some(2), None, None, None]);
    let bools: Vec<_> = seen.iter().map(|s| s.1).collect();
    assert_eq!(bools[5..9], [None, Some(true), Some(false), None]);
    assert_eq!(seen.iter().filter(|s| s.2).count(), 2);
}

fn steps<'a>(path: &[&'a str]) -> Vec<Step<'a>> {
    path.iter().map(|step| step.parse().map_or(Step::Name(step), Step::Index)).collect()
}

#[test]
fn edits_leave_the_rest_as_it_was() {
    let body = "{ \"b\" : 1.0e0 ,\n \"model\":\"x\", \"t\":[ {\"n\":1} , 2 ], \"o\":{} , \"z\":null}";
    for (path, value, expected) in [
        (&["model"][..], "\"y\"", body.replace("\"x\"", "\"y\"")),
        (&["t", "0", "n"], "[]", body.replace("{\"n\":1}", "{\"n\":[]}")),
        (&["t", "1"], "3", body.replace(", 2 ]", ", 3 ]")),
        (&["t", "9"], "3", body.into()),
        (&["o", "a"], "1", body.replace("{}", "{\"a\":1}")),
        (&["o", "a", "b"], "1", body.replace("{}", "{\"a\":{\"b\":1}}")),
        (&["z", "a"], "1", body.replace("null", "{\"a\":1}")),
        (&["new"], "true", body.replace("null}", "null,\"new\":true}")),
        (&["q\"", "1"], "true", body.into()),
        (&[], "5", "5".into()),
    ] {
        let mut text = body.as_bytes().to_vec();
        set(&mut text, &steps(path), value.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected, "{path:?}");
    }
    for (path, expected) in [
        (&["b"][..], body.replace("\"b\" : 1.0e0 ,\n ", "")),
        (&["z"], body.replace(" , \"z\":null", "")),
        (&["t", "0"], body.replace("{\"n\":1} , ", "")),
        (&["t", "1"], body.replace(" , 2", "")),
        (&["t", "0", "n"], body.replace("{\"n\":1}", "{}")),
        (&["none"], body.into()),
        (&["z", "none"], body.into()),
    ] {
        let mut text = body.as_bytes().to_vec();
        assert_eq!(remove(&mut text, &steps(path)).unwrap(), body != expected);
        assert_eq!(String::from_utf8(text).unwrap(), expected, "{path:?}");
    }
    for (path, expected) in [
        (&["t", "0"][..], body.replace("[ {", "[ 7,{")),
        (&["t", "1"], body.replace(", 2", ", 7,2")),
        (&["t", "2"], body.replace(" 2 ]", " 2,7 ]")),
        (&["o", "0"], body.into()),
    ] {
        let mut text = body.as_bytes().to_vec();
        assert_eq!(insert(&mut text, &steps(path), b"7").unwrap(), body != expected);
        assert_eq!(String::from_utf8(text).unwrap(), expected, "{path:?}");
    }
    let mut text = b"{\"m\":[ ]}".to_vec();
    assert!(insert(&mut text, &steps(&["m", "0"]), b"7").unwrap());
    assert_eq!(text, b"{\"m\":[7 ]}");
}

#[test]
fn a_name_that_stands_twice_is_changed_twice() {
    let mut text = br#"{"n":1,"a":2,"\u006e":3,"n":4}"#.to_vec();
    assert!(edit::set(&mut text, &steps(&["n"]), b"9").unwrap());
    assert_eq!(text, br#"{"n":9,"a":2,"\u006e":9,"n":9}"#);
    assert!(edit::remove(&mut text, &steps(&["n"])).unwrap());
    assert_eq!(text, br#"{"a":2}"#);
    assert!(edit::remove(&mut text, &steps(&["a"])).unwrap());
    assert_eq!(text, b"{}");
    let mut broken = b"{\"n\":1".to_vec();
    assert!(edit::set(&mut broken, &steps(&["n"]), b"9").is_err());
    assert_eq!(broken, b"{\"n\":1");
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec(("[a-d]", inner), 0..5)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// Things that are nearly JSON.
const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b" ",
    b"\n",
    b"\"",
    b"\"a\"",
    b"\"model\"",
    b"\\",
    b"\\u00e4",
    b"\\ud800",
    b"\\n",
    b"\x01",
    b"\xff",
    "ä".as_bytes(),
    b"0",
    b"12",
    b"-",
    b".5",
    b"e9",
    b"E+",
    b"true",
    b"null",
    b"fals",
    b"\"longer than eight bytes\"",
];

proptest! {
    #[test]
    fn serde_agrees_on_what_is_valid(tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 0..16)) {
        let bytes = tokens.concat();
        prop_assert_eq!(check(&bytes).is_ok(), agrees(&bytes));
    }

    #[test]
    fn serde_agrees_on_bytes_changed_in_a_text(value in values(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = serde_json::to_vec_pretty(&value).unwrap();
        prop_assert_eq!(check(&bytes), Ok(()));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        prop_assert_eq!(check(&bytes).is_ok(), agrees(&bytes));
        let end = check(&bytes[..at]).map_or_else(|fault| fault.at, |()| at);
        prop_assert!(end <= at);
        prop_assert_eq!(check(&bytes[..at]).is_ok(), agrees(&bytes[..at]));
    }

    #[test]
    fn depth_alone_is_stricter(opens in proptest::collection::vec(any::<bool>(), 0..130)) {
        let mut text: Vec<u8> = opens.iter().flat_map(|&o| if o { &b"{\"a\":"[..] } else { b"[" }).copied().collect();
        text.push(b'1');
        text.extend(opens.iter().rev().map(|&o| if o { b'}' } else { b']' }));
        prop_assert!(agrees(&text));
        prop_assert_eq!(check(&text).is_ok(), depth(&text) <= usize::from(MAX_DEPTH));
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (check(&bytes), members(&bytes, &["a"]));
        let before = bytes.clone();
        if edit::set(&mut bytes, &[Step::Name("a"), Step::Index(0)], b"1").is_err() {
            prop_assert_eq!(before, bytes);
        }
    }

    #[test]
    fn edits_do_what_they_do_to_values(
        value in values(), names in proptest::collection::vec("[a-d]", 1..3), new in values(),
    ) {
        let path: Vec<Step<'_>> = names.iter().map(|name| Step::Name(name)).collect();
        let bytes = serde_json::to_vec(&value).unwrap();

        let mut text = bytes.clone();
        edit::set(&mut text, &path, &serde_json::to_vec(&new).unwrap()).unwrap();
        let mut expected = value.clone();
        let mut place = &mut expected;
        for name in &names {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[name.as_str()];
        }
        *place = new;
        // Compared as texts: a float may read back as its neighbour.
        prop_assert_eq!(String::from_utf8(text).unwrap(), expected.to_string());

        let mut text = bytes;
        edit::remove(&mut text, &path).unwrap();
        let mut expected = value;
        let (last, parents) = names.split_last().unwrap();
        let parent = parents.iter().try_fold(&mut expected, |place, name| place.get_mut(name.as_str()));
        if let Some(parent) = parent.and_then(|place| place.as_object_mut()) {
            parent.shift_remove(last.as_str());
        }
        prop_assert_eq!(String::from_utf8(text).unwrap(), expected.to_string());
    }

    #[test]
    fn strings_decode_as_serde_says(text in "\\PC{0,20}") {
        let quoted = serde_json::to_vec(&text).unwrap();
        let ascii: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        for bytes in [quoted, format!("\"{ascii}\"").into_bytes()] {
            prop_assert_eq!(check(&bytes), Ok(()));
            prop_assert_eq!(Cursor::new(&bytes).string().unwrap().decode(), text.as_str());
        }
    }
}
