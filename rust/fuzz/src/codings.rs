//! Content codings and gRPC-Web: decoding what a peer sends, and what is encoded here.
//!
//! Promises: no split changes what is decoded; a bomb is stopped at its limit; what was encoded decodes to itself.

use super::split::SPLITS;
use pygate_core::coding::{Coding, Decoder, Encoder};
use pygate_core::grpc::web::Web;
use pygate_core::message::Fields;

const LIMIT: u64 = 64 << 10;
const CODINGS: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Br, Coding::Zstd];

/// The first byte chooses: a coding to decode with (or two of them), the rest is the body.
pub fn coding_decode(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let one = CODINGS[usize::from(choice % 4)];
    let two = CODINGS[usize::from(choice / 4 % 4)];
    let stack: &[Coding] = if choice & 0x80 == 0 { &[one] } else { &[one, two] };
    let decode = |pieces: &[&[u8]]| {
        let (mut decoder, mut out) = (Decoder::new(stack).ok()?, Vec::new());
        for piece in pieces {
            let written = decoder.write(piece, &mut out, LIMIT);
            assert!(out.len() as u64 <= LIMIT, "more than the limit was put out");
            written.ok()?;
        }
        decoder.finish().ok()?;
        Some(out)
    };
    let whole = decode(&[body]);
    for split in SPLITS {
        assert_eq!(decode(&split.pieces(body)), whole, "{split:?}");
    }
    // The same bytes as text to be encoded.
    for coding in [Coding::Gzip, Coding::Br, Coding::Zstd] {
        let Ok(mut encoder) = Encoder::new(coding, 1) else { panic!("{coding:?} cannot be encoded") };
        let (mut coded, mut out) = (Vec::new(), Vec::new());
        for (n, piece) in SPLITS[2].pieces(body).into_iter().enumerate() {
            encoder.write(piece, &mut coded).expect("room");
            if n % 3 == 0 {
                encoder.flush(&mut coded).expect("room");
            }
        }
        encoder.finish(&mut coded).expect("room");
        let mut decoder = Decoder::new(&[coding]).expect("a decoder");
        decoder.write(&coded, &mut out, LIMIT).expect("what was encoded decodes");
        decoder.finish().expect("to its end");
        assert_eq!(out, body, "{coding:?}");
    }
}

/// The first byte chooses text or binary; the rest is read as a browser's body, and sent as a server's.
pub fn grpc_web(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let name: &[u8] = if choice & 1 == 0 { b"application/grpc-web-text" } else { b"application/grpc-web+proto" };
    let web = Web::of(name).expect("a known type");
    let read = |pieces: &[&[u8]]| {
        let (mut reader, mut out) = (web.reader(), Vec::new());
        for piece in pieces {
            reader.write(piece, &mut out).ok()?;
        }
        reader.finish().ok()?;
        Some(out)
    };
    let whole = read(&[body]);
    for split in SPLITS {
        assert_eq!(read(&split.pieces(body)), whole, "{split:?}");
    }
    let mut trailers = Fields::default();
    trailers.append(b"grpc-status", b"0");
    for split in SPLITS {
        let (mut writer, mut sent) = (web.writer(), Vec::new());
        for (n, piece) in split.pieces(body).into_iter().enumerate() {
            writer.write(piece, &mut sent);
            if n % 2 == 0 {
                writer.flush(&mut sent);
            }
        }
        if writer.finish(&trailers, &mut sent) {
            let got = read(&[&sent]).expect("what was written is read");
            assert!(got.starts_with(body) && got[body.len()..].first() == Some(&0x80), "{split:?}");
        }
    }
}
