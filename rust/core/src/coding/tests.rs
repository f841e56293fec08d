//! Encoders and decoders against each other, and decoders against what is not well meant.

use super::decode::{codings, FREE, MAX_RATIO};
use super::Coding::{Br, Deflate, Gzip, Zstd};
use super::*;
use crate::message::{BodyLength, ResponseHead};
use proptest::prelude::*;

const ALL: [Coding; 4] = [Gzip, Br, Zstd, Deflate];
const LIMIT: u64 = 1 << 20;

fn encoded(coding: Coding, text: &[u8]) -> Vec<u8> {
    Choice { coding, level: 5, flush: false }.whole(text).unwrap()
}

fn decoded(codings: &[Coding], pieces: &[&[u8]], limit: u64) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder::new(codings)?;
    let mut out = Vec::new();
    for piece in pieces {
        decoder.write(piece, &mut out, limit)?;
    }
    decoder.finish()?;
    Ok(out)
}

/// Text that neither repeats nor is noise.
fn prose(length: usize) -> Vec<u8> {
    let mut seed = 7u32;
    let mut text = Vec::with_capacity(length + 16);
    while text.len() < length {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(format!("word{} ", seed >> 22).as_bytes());
    }
    text.truncate(length);
    text
}

#[test]
fn every_split_of_a_short_text_reads_the_same() {
    let text = prose(300);
    for coding in ALL {
        let bytes = encoded(coding, &text);
        for cut in 0..=bytes.len() {
            assert_eq!(decoded(&[coding], &[&bytes[..cut], &bytes[cut..]], LIMIT).unwrap(), text, "{coding:?} {cut}");
            let expected = if cut == bytes.len() { Ok(text.clone()) } else { Err(DecodeError::Truncated) };
            let expected = if cut == 0 { Ok(Vec::new()) } else { expected };
            assert_eq!(decoded(&[coding], &[&bytes[..cut]], LIMIT), expected, "{coding:?} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decoded(&[coding], &single, LIMIT).unwrap(), text);
        for behind in [&b"\0"[..], b"x", b"\x1f\x8b\x09"] {
            let garbage = [&bytes[..], behind].concat();
            assert!(decoded(&[coding], &[&garbage], LIMIT).is_err(), "{coding:?} with {behind:?} behind");
            assert!(decoded(&[coding], &[&bytes, behind], LIMIT).is_err());
        }
    }
}

#[test]
fn a_flush_hands_out_all_that_was_written() {
    for coding in [Gzip, Br, Zstd] {
        let mut encoder = Encoder::new(coding, 4).unwrap();
        let mut decoder = Decoder::new(&[coding]).unwrap();
        let (mut written, mut read) = (Vec::new(), Vec::new());
        for turn in 0..50 {
            let event = format!("data: {{\"turn\":{turn}}}\n\n");
            let mut wire = Vec::new();
            encoder.write(event.as_bytes(), &mut wire).unwrap();
            encoder.flush(&mut wire).unwrap();
            written.extend_from_slice(event.as_bytes());
            decoder.write(&wire, &mut read, LIMIT).unwrap();
            assert_eq!(read, written, "{coding:?}");
            let before = wire.len();
            encoder.flush(&mut wire).unwrap();
            assert_eq!(wire.len(), before, "nothing new costs nothing");
        }
        let mut wire = Vec::new();
        encoder.finish(&mut wire).unwrap();
        decoder.write(&wire, &mut read, LIMIT).unwrap();
        decoder.finish().unwrap();
        assert_eq!(read, written);
        assert_eq!(encoder.write(b"x", &mut wire), Err(EncodeError), "nothing may follow the end");
    }
}

#[test]
fn levels_and_sizes_of_all_kinds() {
    let text = prose(700_000);
    for coding in ALL {
        for level in [0, 1, 4, 9, 12, 255] {
            let mut encoder = Encoder::new(coding, level).unwrap();
            let mut out = Vec::new();
            text.chunks(16_000).for_each(|piece| encoder.write(piece, &mut out).unwrap());
            encoder.finish(&mut out).unwrap();
            assert!(out.len() < text.len() / 2, "{coding:?} {level}: {}", out.len());
            assert!(decoded(&[coding], &[&out], LIMIT).unwrap() == text, "{coding:?} {level}");
        }
        assert_eq!(decoded(&[coding], &[&encoded(coding, b"")], LIMIT).unwrap(), b"");
        assert_eq!(decoded(&[coding], &[], LIMIT).unwrap(), b"", "an empty body");
    }
}

#[test]
fn stacked_codings_come_off_in_turn() {
    let text = prose(100_000);
    for (first, second) in [(Gzip, Br), (Br, Zstd), (Zstd, Gzip), (Deflate, Deflate)] {
        let bytes = encoded(second, &encoded(first, &text));
        let pieces: Vec<&[u8]> = bytes.chunks(777).collect();
        assert!(decoded(&[first, second], &pieces, LIMIT).unwrap() == text);
        let cut = &bytes[..bytes.len() - 1];
        assert_eq!(decoded(&[first, second], &[cut], LIMIT), Err(DecodeError::Truncated));
        // The inner text is whole, the outer one goes on.
        let longer = encoded(second, &[&encoded(first, &text)[..], b"more"].concat());
        assert!(decoded(&[first, second], &[&longer], LIMIT).is_err());
    }
    assert_eq!(Decoder::new(&[Gzip; 3]).err(), Some(DecodeError::TooMany));
    assert_eq!(decoded(&[], &[b"as ", b"is"], 5).unwrap(), b"as is");
    assert_eq!(decoded(&[], &[b"as ", b"it is"], 5), Err(DecodeError::TooLong));
}

#[test]
fn codings_of_a_body() {
    let of = |lines: &[&str]| codings(lines.iter().map(|line| line.as_bytes()));
    assert_eq!(of(&["gzip"]), Ok(vec![Gzip]));
    assert_eq!(of(&["deflate, BR"]), Ok(vec![Deflate, Br]));
    assert_eq!(of(&["identity, x-gzip", ", zstd"]), Ok(vec![Gzip, Zstd]));
    assert_eq!(of(&[""]), Ok(vec![]));
    assert_eq!(of(&["compress"]), Err(DecodeError::Unsupported));
    assert_eq!(of(&["gzip;q=1"]), Err(DecodeError::Unsupported));
    assert_eq!(of(&["gzip", "gzip", "gzip"]), Err(DecodeError::TooMany));
}

#[test]
fn gzip_members_and_heads_of_all_kinds() {
    let plain = encoded(Gzip, b"first ");
    let body = &encoded(Gzip, b"second")[10..];
    let head = |flags: u8, rest: &[u8]| [&[0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 2, 3], rest, body].concat();
    for member in [
        head(0, b""),
        head(8, b"name\0"),
        head(16, b"a comment\0"),
        head(4, b"\x03\0abc"),
        head(4, b"\0\0"),
        head(2, b"zz"),
        head(1 | 2 | 4 | 8 | 16, b"\x01\0xname\0comment\0zz"),
    ] {
        let both = [&plain[..], &member].concat();
        for cut in 0..=both.len() {
            let pieces = [&both[..cut], &both[cut..]];
            assert_eq!(decoded(&[Gzip], &pieces, LIMIT).unwrap(), b"first second");
        }
    }
    for bad in [
        head(32, b""),
        head(128, b""),
        [&[0x1f, 0x8b, 7][..], &plain[3..]].concat(),
        [&[0x1f, 0x8c][..], &plain[2..]].concat(),
    ] {
        assert_eq!(decoded(&[Gzip], &[&bad], LIMIT), Err(DecodeError::Malformed));
    }
    // Checksum, then length.
    for from_end in [8, 4] {
        let mut bad = plain.clone();
        let at = bad.len() - from_end;
        bad[at] ^= 1;
        assert_eq!(decoded(&[Gzip], &[&bad], LIMIT), Err(DecodeError::Malformed));
    }
}

#[test]
fn deflate_is_read_with_and_without_its_wrapper() {
    let text = prose(5_000);
    let wrapped = encoded(Deflate, &text);
    let bare = &wrapped[2..wrapped.len() - 4];
    for bytes in [&wrapped[..], bare] {
        for cut in [0, 1, 2, 3, 100, bytes.len() - 1] {
            assert!(decoded(&[Deflate], &[&bytes[..cut], &bytes[cut..]], LIMIT).unwrap() == text, "{cut}");
        }
        let one: Vec<&[u8]> = bytes.chunks(1).collect();
        assert!(decoded(&[Deflate], &one, LIMIT).unwrap() == text);
    }
    // The shortest bare stream is as long as what tells the forms apart.
    assert_eq!(decoded(&[Deflate], &[&[3, 0]], LIMIT).unwrap(), b"");
    assert_eq!(decoded(&[Deflate], &[&[3]], LIMIT), Err(DecodeError::Truncated));
    let mut bad = wrapped.clone();
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(decoded(&[Deflate], &[&bad], LIMIT), Err(DecodeError::Malformed), "Adler-32");
}

#[test]
fn bombs_are_stopped_at_the_cap() {
    let zeros = vec![0; 10 << 20];
    for coding in ALL {
        let bomb = encoded(coding, &zeros);
        // The ratio gives it up long before an absolute cap does.
        let mut decoder = Decoder::new(&[coding]).unwrap();
        let mut out = Vec::new();
        assert_eq!(decoder.write(&bomb, &mut out, 1 << 30), Err(DecodeError::Bomb), "{coding:?}: {}", bomb.len());
        let most = (bomb.len() as u64 * MAX_RATIO).max(FREE);
        assert!((out.capacity() as u64) < 2 * most + (64 << 10), "{coding:?}: {} held", out.capacity());
        assert_eq!(decoder.write(b"", &mut out, 1 << 30), Err(DecodeError::Bomb), "and stays given up");
        assert_eq!(decoder.finish(), Err(DecodeError::Bomb));

        // The absolute cap, to the byte.
        for limit in [0, 1, 1000, 50_000] {
            let mut out = Vec::new();
            let mut decoder = Decoder::new(&[coding]).unwrap();
            assert_eq!(decoder.write(&bomb, &mut out, limit), Err(DecodeError::TooLong));
            assert_eq!(out.len() as u64, limit);
            assert!(out.capacity() as u64 <= limit.max(1) + 16, "{coding:?} {limit}: {}", out.capacity());
        }
        let exact = encoded(coding, &zeros[..50_000]);
        assert_eq!(decoded(&[coding], &[&exact], 50_000).unwrap().len(), 50_000);
        assert_eq!(decoded(&[coding], &[&exact], 49_999), Err(DecodeError::TooLong));

        // A bomb in a bomb: neither layer may swell.
        for outer in ALL {
            let nested = encoded(outer, &bomb);
            let mut out = Vec::new();
            let mut decoder = Decoder::new(&[coding, outer]).unwrap();
            let error = decoder.write(&nested, &mut out, LIMIT).unwrap_err();
            assert!(matches!(error, DecodeError::Bomb | DecodeError::TooLong));
            assert!(out.capacity() as u64 <= LIMIT + 1);
        }
    }
}

#[test]
fn windows_beyond_the_standards_are_refused() {
    // RFC 9659: a frame that asks for 16 MiB (window descriptor: exponent 14) and has one raw block.
    let frame = |descriptor: u8| [&[0x28, 0xb5, 0x2f, 0xfd, 0, descriptor, 0x09, 0, 0], &b"x"[..]].concat();
    assert_eq!(decoded(&[Zstd], &[&frame(13 << 3)], LIMIT).unwrap(), b"x");
    assert_eq!(decoded(&[Zstd], &[&frame(14 << 3)], LIMIT), Err(DecodeError::Malformed));
    // The large-window extension of brotli begins with this reserved pattern (RFC 7932 §9.1).
    assert_eq!(decoded(&[Br], &[&[0x11, 0x1e, 0, 0, 0, 0]], LIMIT), Err(DecodeError::Malformed));
    // Frames may follow each other, and skippable ones hold no text (RFC 8878 §3.1).
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let several = [&frame(0)[..], &skippable, &encoded(Zstd, b"yz")].concat();
    for cut in 0..several.len() {
        assert_eq!(decoded(&[Zstd], &[&several[..cut], &several[cut..]], LIMIT).unwrap(), b"xyz", "{cut}");
    }
}

#[test]
fn an_answer_without_a_body_keeps_none() {
    let mut head = ResponseHead::default();
    Choice { coding: Gzip, level: 5, flush: false }.apply(&mut head);
    assert_eq!(head.length, BodyLength::None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_written_is_read_over_every_split(
        pieces in prop::collection::vec((prop::collection::vec(0u8..6, 0..3000), any::<bool>()), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        level in 0u8..=9,
    ) {
        let text: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.iter().copied()).collect();
        for coding in ALL {
            let mut encoder = Encoder::new(coding, level).unwrap();
            let mut wire = Vec::new();
            for (piece, flush) in &pieces {
                encoder.write(piece, &mut wire).unwrap();
                if *flush {
                    encoder.flush(&mut wire).unwrap();
                }
            }
            encoder.finish(&mut wire).unwrap();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            places.extend([0, wire.len()]);
            places.sort_unstable();
            let split: Vec<&[u8]> = places.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&decoded(&[coding], &split, LIMIT).unwrap(), &text);
        }
    }

    #[test]
    fn noise_never_breaks_a_decoder(
        noise in prop::collection::vec(any::<u8>(), 0..400),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let text = prose(2000);
        for coding in ALL {
            let mut damaged = encoded(coding, &text);
            for (at, mask) in &flips {
                let at = at.index(damaged.len());
                damaged[at] ^= mask;
            }
            for bytes in [&noise, &damaged] {
                let mut out = Vec::new();
                let mut decoder = Decoder::new(&[coding]).unwrap();
                let result = decoder.write(bytes, &mut out, 4096).and_then(|()| decoder.finish());
                prop_assert!(out.len() <= 4096);
                if coding == Gzip && result.is_ok() && bytes == &damaged {
                    // Damage that is not in the head's unused bytes cannot pass the checksum.
                    prop_assert!(out == text);
                }
            }
        }
    }
}
