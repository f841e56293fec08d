//! `grpc-timeout`: the time a caller gives a call, one to eight digits and a unit.

use std::time::Duration;

/// Units with their nanoseconds, the finest first.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];
const MOST: u64 = 99_999_999;

/// The value of `grpc-timeout`; `None` when it is anything but digits and a unit. Zero is a time that has run
/// out.
pub fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let scale = UNITS.iter().find(|(name, _)| name == unit)?.1;
    let count = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    // 99,999,999 hours are more nanoseconds than 64 bits hold.
    let nanos = u128::from(count) * u128::from(scale);
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// Appends what is left of a call's time in the finest unit that fits, rounded down: no server shall believe that it has
/// more than the caller waits.
pub fn write(left: Duration, out: &mut Vec<u8>) {
    let nanos = left.as_nanos();
    let fitting = UNITS.iter().map(|&(unit, scale)| (unit, nanos / u128::from(scale)));
    let (unit, count) =
        fitting.into_iter().find(|&(_, count)| count <= u128::from(MOST)).unwrap_or((b'H', u128::from(MOST)));
    out.extend_from_slice(itoa::Buffer::new().format(count as u64).as_bytes());
    out.push(unit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_strictly() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("30S", Some(Duration::from_secs(30))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("0S", Some(Duration::ZERO)),
            ("00000001S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000n", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("1h", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            (" 1S", None),
            ("1 S", None),
            ("1S ", None),
            ("1SS", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_left_is_written_finely_and_never_longer() {
        for (left, expected) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_secs(99), "99000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::from_secs(6_000_000_000), "1666666H"),
            (Duration::MAX, "99999999H"),
        ] {
            let mut out = Vec::new();
            write(left, &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
            let read = parse(&out).unwrap();
            assert!(read <= left && read >= left.min(Duration::from_secs(99_999_999 * 3600)) * 99 / 100);
        }
    }
}
