//! AI bodies: requests that are looked into, and answers that are measured and translated.

use super::split::SPLITS;
use pygate_core::llm::request::{Changes, Peek};
use pygate_core::llm::translate::{self, Context, Options, Stream};
use pygate_core::llm::usage::Meter;
use pygate_core::llm::{json, sse, Dialect};

/// A request's body: what is read of it is JSON, a rewrite is JSON again, and every translation is.
pub fn llm_request(data: &[u8]) {
    let valid = serde_json::from_slice::<serde_json::Value>(data).is_ok();
    if json::check(data).is_ok() {
        assert!(valid, "taken for JSON");
    }
    for from in Dialect::ALL {
        if let Ok(peek) = Peek::read(from, data) {
            let mut out = Vec::new();
            let changes = Changes { model: Some("m\"\\"), stream: Some(true), include_usage: true };
            peek.rewrite(data, changes, &mut out);
            assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok(), "a rewrite is no JSON");
        }
        for to in Dialect::ALL.into_iter().filter(|to| *to != from) {
            let (mut request, mut answer) = (Vec::new(), Vec::new());
            if translate::request(from, to, data, &Options::default(), &mut request).is_ok() {
                assert!(serde_json::from_slice::<serde_json::Value>(&request).is_ok(), "a request is no JSON");
            }
            if translate::answer(from, to, data, &Context::default(), &mut answer).is_ok() {
                assert!(serde_json::from_slice::<serde_json::Value>(&answer).is_ok(), "an answer is no JSON");
            }
        }
    }
}

/// A stream of events: the same however it is cut, measured and translated.
pub fn llm_stream(data: &[u8]) {
    let whole = events(&[data]);
    for split in SPLITS {
        assert_eq!(events(&split.pieces(data)), whole, "a cut changes what is read");
    }
    for from in Dialect::ALL.into_iter().filter(|from| *from != Dialect::Bedrock) {
        let (mut once, mut cut) = (Meter::stream(from), Meter::stream(from));
        once.feed(data, 1);
        for piece in SPLITS[1].pieces(data) {
            cut.feed(piece, 1);
        }
        once.end(2);
        cut.end(2);
        assert_eq!((once.ending(), once.usage(), once.spoken()), (cut.ending(), cut.usage(), cut.spoken()));
        for to in Dialect::ALL.into_iter().filter(|to| *to != from) {
            let mut stream = Stream::new(from, to, Context::default());
            let mut out = Vec::new();
            for (name, data) in &whole {
                stream.event(name.as_deref(), data, &mut out);
            }
            stream.end(true, &mut out);
        }
    }
}

type Events = Vec<(Option<String>, Vec<u8>)>;

fn events(pieces: &[&[u8]]) -> Events {
    let mut reader = sse::Reader::new(1 << 16);
    let mut found = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match reader.next(&mut rest) {
                Ok(Some(event)) => found.push((event.name.map(str::to_owned), event.data.to_vec())),
                Ok(None) => break,
                Err(_) => return found,
            }
        }
    }
    found
}
