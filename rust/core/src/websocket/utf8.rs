//! UTF-8 checked as it comes, whatever the splits.

/// Incremental check of one text. Fails at the first byte that cannot be part of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8 {
    /// Bytes of a code point under way.
    tail: [u8; 4],
    have: u8,
}

/// The text is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUtf8;

impl Utf8 {
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), NotUtf8> {
        let mut rest = bytes;
        while self.have > 0 {
            let Some((&first, after)) = rest.split_first() else {
                return Ok(());
            };
            let have = usize::from(self.have);
            self.tail[have] = first;
            rest = after;
            match std::str::from_utf8(&self.tail[..=have]) {
                Ok(_) => self.have = 0,
                // Four bytes always decide, so the index stays in bounds.
                Err(error) if error.error_len().is_none() => self.have += 1,
                Err(_) => return Err(NotUtf8),
            }
        }
        match std::str::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_none() => {
                let tail = &rest[error.valid_up_to()..];
                self.tail[..tail.len()].copy_from_slice(tail);
                self.have = tail.len() as u8;
                Ok(())
            }
            Err(_) => Err(NotUtf8),
        }
    }

    /// Whether the text may end here; ready for the next one.
    pub fn finish(&mut self) -> Result<(), NotUtf8> {
        match std::mem::take(&mut self.have) {
            0 => Ok(()),
            _ => Err(NotUtf8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pieces: &[&[u8]]) -> bool {
        let mut utf8 = Utf8::default();
        pieces.iter().all(|piece| utf8.push(piece).is_ok()) && utf8.finish().is_ok()
    }

    #[test]
    fn every_split_inside_code_points() {
        let text = "aß€😀".as_bytes();
        for i in 0..=text.len() {
            for j in i..=text.len() {
                assert!(check(&[&text[..i], &text[i..j], &text[j..]]));
            }
            let whole = std::str::from_utf8(&text[..i]).is_ok();
            assert_eq!(check(&[&text[..i]]), whole);
        }
    }

    #[test]
    fn fails_at_the_first_wrong_byte() {
        // A surrogate, an overlong form, beyond U+10FFFF, a lone continuation, a broken sequence.
        for bad in [&b"\xED\xA0"[..], b"\xC0", b"\xF4\x90", b"\x80", b"\xE2\x28", b"\xFF"] {
            let (last, before) = bad.split_last().unwrap();
            let mut utf8 = Utf8::default();
            assert_eq!(utf8.push(before), Ok(()));
            assert_eq!(utf8.push(&[*last]), Err(NotUtf8), "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), 0x80u8..0xC0, Just(b'a'), Just(0xE2), Just(0xF0)], 0..24),
            at: prop::sample::Index,
        ) {
            let (a, b) = bytes.split_at(at.index(bytes.len() + 1));
            prop_assert_eq!(check(&[a, b]), std::str::from_utf8(&bytes).is_ok());
        }

        #[test]
        fn any_text_passes(text: String, at: prop::sample::Index) {
            let (a, b) = text.as_bytes().split_at(at.index(text.len() + 1));
            prop_assert!(check(&[a, b]));
        }
    }
}
