use super::*;
use proptest::prelude::*;

type Owned = (Option<String>, Vec<u8>, Range<u64>);

fn read(pieces: &[&[u8]]) -> Result<(Vec<Owned>, Option<Owned>), TooLong> {
    read_up_to(MAX_EVENT, pieces)
}

fn read_up_to(max: usize, pieces: &[&[u8]]) -> Result<(Vec<Owned>, Option<Owned>), TooLong> {
    let own = |e: Event<'_>| (e.name.map(str::to_owned), e.data.to_vec(), e.raw.clone());
    let mut reader = Reader::new(max);
    let mut events = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while let Some(event) = reader.next(&mut rest)? {
            events.push(own(event));
        }
        assert!(rest.is_empty());
    }
    Ok((events, reader.end().map(own)))
}

fn simple(bytes: &[u8]) -> Vec<(Option<String>, String)> {
    let (events, _) = read(&[bytes]).unwrap();
    events.into_iter().map(|(name, data, _)| (name, String::from_utf8(data).unwrap())).collect()
}

/// The standard's algorithm over a whole text, written as plainly as can be.
fn oracle(bytes: &[u8]) -> Vec<(Option<String>, Vec<u8>)> {
    let mut lines = vec![Vec::new()];
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => {
                at += 1;
                lines.push(Vec::new());
            }
            b'\r' | b'\n' => lines.push(Vec::new()),
            byte => lines.last_mut().unwrap().push(byte),
        }
        at += 1;
    }
    lines.pop();
    if let Some(first) = lines.first_mut() {
        if first.starts_with(b"\xef\xbb\xbf") {
            first.drain(..3);
        }
    }
    let mut events = Vec::new();
    let (mut name, mut data) = (None, None::<Vec<u8>>);
    for line in lines {
        if line.is_empty() {
            if let Some(data) = data.take() {
                events.push((name.take(), data));
            }
            name = None;
            continue;
        }
        let colon = line.iter().position(|&b| b == b':');
        let field = &line[..colon.unwrap_or(line.len())];
        let value = colon.map_or(&[][..], |c| &line[c + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = Some(String::from_utf8(value.to_vec()).unwrap_or("\u{fffd}".into())),
            b"data" => match &mut data {
                None => data = Some(value.to_vec()),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
            _ => {}
        }
    }
    events
}

#[test]
fn events_of_every_kind_are_read() {
    let none = |data: &str| (None, data.to_owned());
    let some = |name: &str, data: &str| (Some(name.to_owned()), data.to_owned());
    for (bytes, expected) in [
        ("data: {}\n\n", vec![none("{}")]),
        ("data:{}\r\n\r\ndata: x\r\r", vec![none("{}"), none("x")]),
        ("\u{feff}data: a\n\n", vec![none("a")]),
        ("data: a\n\n\u{feff}data: b\n\n", vec![none("a")]),
        ("event: ping\ndata: a\ndata:\ndata:  b\n\n", vec![some("ping", "a\n\n b")]),
        ("event: lost\n\ndata: a\n\n", vec![none("a")]),
        ("event: x\nevent: y\ndata: a\n\n", vec![some("y", "a")]),
        ("event\ndata\n\n", vec![some("", "")]),
        (": comment\n\n:\ndata: a\n: in it\nid: 7\nretry: 1\nother: x\n\n", vec![none("a")]),
        ("datax: a\n\n data: b\n\nDATA: c\n\n", vec![]),
        ("data: open\n", vec![]),
        ("\n\r\n\r\r\n\n", vec![]),
    ] {
        assert_eq!(simple(bytes.as_bytes()), expected, "{bytes:?}");
    }
    assert_eq!(simple(b"event: \xff\ndata: a\n\n"), [some("\u{fffd}", "a")]);
}

#[test]
fn ranges_cover_events_and_nothing_else() {
    let bytes = b": hello\n\nevent: a\ndata: 1\r\n\r\n\ndata: 2\n\n";
    let (events, _) = read(&[bytes]).unwrap();
    let raws: Vec<_> = events.iter().map(|e| &bytes[e.2.start as usize..e.2.end as usize]).collect();
    assert_eq!(raws, [&b"event: a\ndata: 1\r\n\r"[..], b"data: 2\n\n"]);
}

#[test]
fn what_lacks_its_blank_line_is_there_at_the_end() {
    for (bytes, expected) in [
        ("data: a\n\ndata: b", Some("b")),
        ("data: b\n", Some("b")),
        ("data: b\r", Some("b")),
        ("data: b\r\n", Some("b")),
        ("data: b\ndata: c", Some("b\nc")),
        ("data: b\n\n", None),
        ("event: x\n", None),
        (": x", None),
        ("", None),
    ] {
        let (_, last) = read(&[bytes.as_bytes()]).unwrap();
        let last = last.map(|(_, data, raw)| {
            assert_eq!(raw.end, bytes.len() as u64);
            String::from_utf8(data).unwrap()
        });
        assert_eq!(last.as_deref(), expected, "{bytes:?}");
    }
}

#[test]
fn nothing_grows_beyond_the_cap() {
    let long = [b'x'; 100];
    assert_eq!(read_up_to(64, &[b"data: ", &long]), Err(TooLong));
    assert_eq!(read_up_to(64, &[b": ", &long]), Err(TooLong));
    let mut reader = Reader::new(64);
    let mut lines = 0;
    while reader.next(&mut &b"data: a\n"[..]).is_ok() {
        lines += 1;
    }
    assert_eq!(lines, 8);
    assert_eq!(reader.next(&mut &b"\n\ndata: a\n\n"[..]), Err(TooLong));
    assert_eq!(reader.end(), None);
    let short = b"data: 0123456789\n\n".repeat(1000);
    assert_eq!(read_up_to(64, &[&short]).unwrap().0.len(), 1000);
}

#[test]
fn what_is_written_reads_back() {
    let mut out = Vec::new();
    write(&mut out, None, b"[DONE]");
    assert_eq!(out, b"data: [DONE]\n\n");
    write_comment(&mut out, "beat\n\ndata: x");
    write(&mut out, Some("a\r\nb"), b"1\r\n2\r3\n\n");
    assert_eq!(simple(&out), [(None, "[DONE]".into()), (Some("ab".into()), "1\n2\n3\n\n".into())]);
}

/// Texts in which everything that has a meaning is frequent.
const TOKENS: &[&[u8]] =
    &[b"data: ", b"data", b"event:", b":", b" ", b"\n", b"\n\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\xff", b"x"];

fn texts() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::sample::select(TOKENS), 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn every_split_reads_as_the_standard_says(bytes in texts()) {
        let expected = oracle(&bytes);
        let whole = read(&[&bytes]).unwrap();
        let seen: Vec<_> = whole.0.iter().map(|(name, data, _)| (name.clone(), data.clone())).collect();
        prop_assert_eq!(seen, expected);
        for at in 0..=bytes.len() {
            prop_assert_eq!(&read(&[&bytes[..at], &bytes[at..]]).unwrap(), &whole, "split at {}", at);
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&read(&single).unwrap(), &whole);
        for (_, _, raw) in &whole.0 {
            let alone = read(&[&bytes[raw.start as usize..raw.end as usize]]).unwrap();
            prop_assert_eq!(alone.0.len(), 1);
        }
    }

    #[test]
    fn caps_hold_for_every_split(bytes in texts(), max in 1usize..40, piece in 1usize..9) {
        let whole = read_up_to(max, &[&bytes]).map(|(events, _)| events);
        let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
        let split = read_up_to(max, &pieces).map(|(events, _)| events);
        prop_assert_eq!(whole, split);
    }
}
