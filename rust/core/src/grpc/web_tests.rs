use super::*;
use proptest::prelude::*;

const MESSAGE: &[u8] = &[0, 0, 0, 0, 5, 10, 3, b'b', b'o', b'b'];

fn web(content_type: &str) -> Web {
    Web::of(content_type.as_bytes()).unwrap()
}

fn request(content_type: &str, accept: Option<&str>) -> (Option<Web>, RequestHead) {
    let mut head = RequestHead { length: BodyLength::Exact(16), ..RequestHead::default() };
    head.fields.append(b"Content-Type", content_type.as_bytes());
    head.fields.append(b"content-length", b"16");
    head.fields.append(b"x-grpc-web", b"1");
    if let Some(accept) = accept {
        head.fields.append(b"accept", accept.as_bytes());
    }
    (Web::request(&mut head), head)
}

fn trailers(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    lines.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
    fields
}

#[test]
fn requests_become_plain_grpc() {
    for (content_type, accept, text, answer_text, plain) in [
        ("application/grpc-web", None, false, false, "application/grpc"),
        ("application/grpc-web+proto", Some("*/*"), false, false, "application/grpc+proto"),
        ("application/grpc-web-text", None, true, true, "application/grpc"),
        ("Application/GRPC-Web-Text+json; x=y", None, true, true, "application/grpc+json; x=y"),
        ("application/grpc-web", Some("application/grpc-web-text"), false, true, "application/grpc"),
        ("application/grpc-web-text", Some("a/b, application/grpc-web+proto"), true, false, "application/grpc"),
    ] {
        let (found, head) = request(content_type, accept);
        assert_eq!(found, Some(Web { text, answer_text }), "{content_type}");
        assert_eq!(head.fields.get(b"content-type"), Some(plain.as_bytes()));
        assert_eq!(head.length, if text { BodyLength::Streamed } else { BodyLength::Exact(16) });
        assert!(head.fields.get(b"content-length").is_none() && head.fields.get(b"accept").is_none());
        assert!(head.fields.get(b"x-grpc-web").is_some());
    }
    for other in ["application/grpc", "application/grpc-webby", "application/grpc-web-texts", "application/json", ""] {
        let (found, head) = request(other, Some("x/y"));
        assert_eq!(found, None, "{other}");
        assert_eq!(head.fields.len(), 4, "nothing is changed");
    }
}

#[test]
fn answers_take_the_clients_type_unless_they_are_not_grpc() {
    for (form, from, to) in [
        ("application/grpc-web", "application/grpc+proto", Some("application/grpc-web+proto")),
        ("application/grpc-web-text", "application/grpc", Some("application/grpc-web-text")),
        ("application/grpc-web-text", "text/html", None),
    ] {
        let mut head = ResponseHead { status: 200, length: BodyLength::Exact(10), ..ResponseHead::default() };
        head.fields.append(b"content-type", from.as_bytes());
        head.fields.append(b"content-length", b"10");
        head.fields.append(b"trailer", b"grpc-status");
        assert_eq!(web(form).answer(&mut head), to.is_some());
        assert_eq!(head.fields.get(b"content-type"), Some(to.unwrap_or(from).as_bytes()));
        assert_eq!(head.fields.len(), if to.is_some() { 1 } else { 3 });
        assert_eq!(head.length, if to.is_some() { BodyLength::Streamed } else { BodyLength::Exact(10) });
    }
    // Trailers only: the status stays where it is, and there is no body to end.
    let mut head = ResponseHead { status: 200, ..ResponseHead::default() };
    head.fields.append(b"content-type", b"application/grpc");
    head.fields.append(b"grpc-status", b"5");
    assert!(web("application/grpc-web").answer(&mut head));
    assert_eq!((head.length, head.fields.get(b"grpc-status")), (BodyLength::None, Some(&b"5"[..])));
}

#[test]
fn a_known_answer_in_both_forms() {
    let ends = trailers(&[("Grpc-Status", "0"), ("grpc-message", "fine%21")]);
    let mut plain = Vec::new();
    let mut writer = web("application/grpc-web+proto").writer();
    writer.write(MESSAGE, &mut plain);
    assert_eq!(plain, MESSAGE, "frames pass");
    assert!(writer.finish(&ends, &mut plain));
    let lines = b"grpc-status: 0\r\ngrpc-message: fine%21\r\n";
    assert_eq!(plain[MESSAGE.len()..], [&[0x80, 0, 0, 0, lines.len() as u8][..], lines].concat());

    let mut text = Vec::new();
    let mut writer = web("application/grpc-web-text").writer();
    writer.write(MESSAGE, &mut text);
    assert_eq!(text, b"AAAAAAUKA2Jv", "one byte waits");
    writer.flush(&mut text);
    assert_eq!(text, b"AAAAAAUKA2JvYg==");
    writer.flush(&mut text);
    assert!(writer.finish(&ends, &mut text));
    assert_eq!(read("application/grpc-web-text", &[&text]).unwrap(), plain);
    let (body, frame) = text.split_at(16);
    assert_eq!(STANDARD.decode(body).unwrap(), MESSAGE);
    assert_eq!(STANDARD.decode(frame).unwrap(), plain[MESSAGE.len()..]);

    // Without trailers the frame is empty, and a cut message gets none at all.
    let mut out = Vec::new();
    assert!(web("application/grpc-web").writer().finish(&Fields::default(), &mut out));
    assert_eq!(out, [0x80, 0, 0, 0, 0]);
    let mut writer = web("application/grpc-web").writer();
    writer.write(&MESSAGE[..9], &mut out);
    let before = out.clone();
    assert!(!writer.finish(&ends, &mut out));
    assert_eq!(out, before);
}

fn read(content_type: &str, pieces: &[&[u8]]) -> Result<Vec<u8>, NotBase64> {
    let mut reader = web(content_type).reader();
    let mut out = Vec::new();
    for piece in pieces {
        reader.write(piece, &mut out)?;
    }
    reader.finish()?;
    Ok(out)
}

#[test]
fn what_is_not_base64_is_refused() {
    for bad in ["A", "AAA", "AAAAA", "AA=A", "A===", "====", "AA-_", "AAAA\r\n", "AA==A", "AB==", "\0\0\0\0"] {
        assert_eq!(read("application/grpc-web-text", &[bad.as_bytes()]), Err(NotBase64), "{bad:?}");
    }
    assert_eq!(read("application/grpc-web-text", &[b"AA==", b"AAE=AAECAA=="]).unwrap(), [0, 0, 1, 0, 1, 2, 0]);
    assert_eq!(read("application/grpc-web", &[b"\0any\xff"]).unwrap(), b"\0any\xff");
}

proptest! {
    #[test]
    fn text_reads_the_same_over_every_split(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut encoded = Vec::new();
        let mut writer = web("application/grpc-web-text").writer();
        for (i, piece) in pieces.iter().enumerate() {
            writer.write(piece, &mut encoded);
            prop_assert_eq!(encoded.len() % 4, 0);
            if i % 2 == 0 {
                writer.flush(&mut encoded);
                // All that was written can be read now.
                let so_far = read("application/grpc-web-text", &[&encoded]).unwrap();
                prop_assert_eq!(so_far, pieces[..=i].concat());
            }
        }
        writer.flush(&mut encoded);
        let cut = cut.index(encoded.len() + 1);
        let (a, b) = encoded.split_at(cut);
        prop_assert_eq!(read("application/grpc-web-text", &[a, b]).unwrap(), pieces.concat());
        let bytes: Vec<&[u8]> = encoded.chunks(1).collect();
        prop_assert_eq!(read("application/grpc-web-text", &bytes).unwrap(), pieces.concat());
    }
}
