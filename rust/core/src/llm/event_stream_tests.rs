use super::*;
use proptest::prelude::*;

type Owned = (Vec<(String, String)>, Vec<u8>, Range<u64>);

fn read(pieces: &[&[u8]]) -> (Vec<Owned>, Result<bool, Fault>) {
    let mut reader = Reader::default();
    let mut frames = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match reader.next(&mut rest) {
                Ok(Some(frame)) => {
                    let headers = frame.headers().map(|(name, value)| (name.to_owned(), format!("{value:?}")));
                    frames.push((headers.collect(), frame.payload.to_vec(), frame.raw.clone()));
                }
                Ok(None) => break,
                Err(fault) => return (frames, Err(fault)),
            }
        }
        assert!(rest.is_empty());
    }
    (frames, Ok(reader.between()))
}

/// A frame put together by hand, with right checksums.
fn frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((16 + headers.len() + payload.len()) as u32).to_be_bytes());
    bytes.extend((headers.len() as u32).to_be_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend(headers);
    bytes.extend(payload);
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

/// The empty frame of Amazon's published test suite.
#[test]
fn the_empty_frame_is_known() {
    let bytes = hex::decode("000000100000000005c248eb7d98c8ff").unwrap();
    assert_eq!(frame(b"", b""), bytes);
    assert_eq!(read(&[&bytes]), (vec![(vec![], vec![], 0..16)], Ok(true)));
}

#[test]
fn every_type_of_header_is_read() {
    let mut headers = Vec::new();
    for (name, rest) in [
        ("t", &[0][..]),
        ("f", &[1]),
        ("b", &[2, 0xff]),
        ("s", &[3, 0x01, 0x02]),
        ("i", &[4, 0, 0, 0, 9]),
        ("l", &[5, 0, 0, 0, 0, 0, 0, 1, 0]),
        ("x", &[6, 0, 2, 7, 8]),
        ("n", &[7, 0, 2, b'o', b'k']),
        ("d", &[8, 0, 0, 0, 0, 0, 0, 0, 5]),
        ("u", &[9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
    ] {
        headers.push(name.len() as u8);
        headers.extend(name.as_bytes());
        headers.extend(rest);
    }
    let bytes = frame(&headers, b"{}");
    let mut reader = Reader::default();
    let mut rest = &bytes[..];
    let frame = reader.next(&mut rest).unwrap().unwrap();
    let values: Vec<_> = frame.headers().map(|(_, value)| value).collect();
    let uuid = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    use Value::*;
    let expected = [
        Bool(true),
        Bool(false),
        Integer(-1),
        Integer(258),
        Integer(9),
        Integer(256),
        Bytes(&[7, 8]),
        Text("ok"),
        Timestamp(5),
        Uuid(uuid),
    ];
    assert_eq!(values, expected);
    assert_eq!((frame.text("n"), frame.text("l"), frame.text("no")), (Some("ok"), None, None));
}

#[test]
fn events_and_exceptions_are_told_apart() {
    let mut bytes = Vec::new();
    write_event(&mut bytes, "contentBlockDelta", b"{}");
    write_exception(&mut bytes, "throttlingException", b"{\"message\":\"slow\"}");
    write(&mut bytes, &[(":message-type", "other")], b"");
    let mut reader = Reader::default();
    let mut rest = &bytes[..];
    let mut seen = Vec::new();
    while let Some(frame) = reader.next(&mut rest).unwrap() {
        seen.push(format!("{:?}", frame.event()));
    }
    let expected = [Some(Named::Event("contentBlockDelta")), Some(Named::Exception("throttlingException")), None];
    assert_eq!(seen, expected.map(|event| format!("{event:?}")));
}

#[test]
fn what_is_broken_is_refused_and_stays_refused() {
    let good = frame(b"\x01a\x00", b"payload");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        let (frames, end) = read(&[&bad, &good]);
        assert!(frames.is_empty() && end.is_err(), "{at}");
    }
    for headers in
        [&b"\x01a\x00\x01a\x01"[..], b"\x05a", b"\x01a", b"\x01a\x0a", b"\x01\xff\x00", b"\x01a\x07\x00\x09x"]
    {
        assert_eq!(read(&[&frame(headers, b"")]).1, Err(Fault::Headers), "{headers:?}");
    }
    let prelude = |length: u32, headers: u32| {
        let mut bytes = [length.to_be_bytes(), headers.to_be_bytes()].concat();
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    };
    for (length, headers) in [(15, 0), (20, 5), (MAX_FRAME as u32 + 1, 0), (u32::MAX, u32::MAX), (1 << 20, 200 << 10)] {
        assert_eq!(read(&[&prelude(length, headers)]).1, Err(Fault::Length), "{length} {headers}");
    }
    let mut reader = Reader::default();
    assert_eq!(reader.next(&mut &prelude(1, 0)[..]), Err(Fault::Length));
    assert_eq!(reader.next(&mut &good[..]), Err(Fault::Length));
    assert!(!reader.between());
}

#[test]
fn what_is_too_long_for_the_format_is_cut() {
    let mut bytes = Vec::new();
    write(&mut bytes, &[(&"ä".repeat(200), &"ö".repeat(40_000))], b"x");
    let (frames, end) = read(&[&bytes]);
    assert_eq!((frames[0].0[0].0.len(), end), (254, Ok(true)));
}

proptest! {
    #[test]
    fn every_split_reads_what_was_written(
        frames in proptest::collection::vec((".{0,9}", proptest::collection::vec(any::<u8>(), 0..40)), 0..4),
    ) {
        let mut bytes = Vec::new();
        for (name, payload) in &frames {
            write_event(&mut bytes, name, payload);
        }
        let whole = read(&[&bytes]);
        prop_assert_eq!(&whole.1, &Ok(true));
        prop_assert_eq!(whole.0.len(), frames.len());
        for ((name, payload), (headers, seen, raw)) in frames.iter().zip(&whole.0) {
            prop_assert_eq!(&headers[0], &(":event-type".to_owned(), format!("{:?}", Value::Text(name))));
            prop_assert_eq!(seen, payload);
            prop_assert_eq!(read(&[&bytes[raw.start as usize..raw.end as usize]]).0.len(), 1);
        }
        for at in 0..=bytes.len() {
            prop_assert_eq!(&read(&[&bytes[..at], &bytes[at..]]), &whole);
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&read(&single), &whole);
        if let Some(last) = bytes.len().checked_sub(1) {
            prop_assert_eq!(read(&[&bytes[..last]]).1, Ok(false));
        }
    }

    #[test]
    fn arbitrary_bytes_read_alike_in_pieces(
        bytes in proptest::collection::vec(any::<u8>(), 0..80), headers in proptest::collection::vec(0u8..10, 0..12),
        piece in 1usize..30,
    ) {
        let all = [frame(&headers, &bytes), bytes].concat();
        let pieces: Vec<&[u8]> = all.chunks(piece).collect();
        prop_assert_eq!(read(&pieces), read(&[&all]));
    }
}
