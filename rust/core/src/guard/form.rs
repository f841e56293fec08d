//! `application/x-www-form-urlencoded` (WHATWG URL, section 5.1) taken apart into channels as it arrives.
//!
//! A field is one channel, `name: value`; `+` means a space, `%XX` a byte. A `%` that begins no escape
//! means itself.

use super::channel::{Batch, Kind};

#[derive(Debug, Default)]
pub(super) struct Form {
    open: bool,
    in_value: bool,
    /// An escape in progress: its raw position and the hex digit seen, if any.
    percent: Option<(u32, Option<u8>)>,
}

impl Form {
    /// Takes bytes that stand at raw position `base` until they are used up or the batch is full; returns
    /// how many were taken.
    pub fn feed(&mut self, bytes: &[u8], base: u32, batch: &mut Batch) -> usize {
        let mut at = 0;
        while at < bytes.len() && batch.room() > 0 {
            let (byte, raw) = (bytes[at], base + at as u32);
            if let Some((begin, first)) = self.percent {
                match ((byte as char).to_digit(16), first) {
                    (Some(_), None) => self.percent = Some((begin, Some(byte))),
                    (Some(low), Some(high)) => {
                        self.percent = None;
                        let high = (high as char).to_digit(16).unwrap_or(0);
                        batch.push_escaped(&[(high << 4 | low) as u8], begin, 3);
                    }
                    (None, _) => {
                        self.literal_percent(batch);
                        continue;
                    }
                }
                at += 1;
                continue;
            }
            if byte == b'&' {
                if self.open {
                    batch.close();
                    self.open = false;
                }
                at += 1;
                continue;
            }
            if !self.open {
                batch.open(Kind::Form, raw);
                self.open = true;
                self.in_value = false;
            }
            match byte {
                b'=' if !self.in_value => {
                    batch.begin_value(raw + 1, Kind::Form);
                    self.in_value = true;
                }
                b'%' => self.percent = Some((raw, None)),
                b'+' => batch.push(b" "),
                _ => batch.push(&[byte]),
            }
            at += 1;
        }
        at
    }

    pub fn finish(&mut self, batch: &mut Batch) {
        self.literal_percent(batch);
        if self.open {
            batch.close();
        }
    }

    fn literal_percent(&mut self, batch: &mut Batch) {
        if let Some((_, first)) = self.percent.take() {
            batch.push(b"%");
            if let Some(digit) = first {
                batch.push(&[digit]);
            }
        }
    }
}
