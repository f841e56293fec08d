//! Human units of the configuration: `"30s"`, `"1MiB"`, `"100/s"`.

use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// A span of time, written `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

/// A number of bytes, written `"512B"`, `"64KiB"`, `"1MiB"`, `"2GiB"` (powers of 1024) or `"10MB"` (powers of 1000).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Events per time, written `"100/s"`, `"60/m"`, `"1000/h"`, `"10000/d"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub count: u64,
    pub per: std::time::Duration,
}

const TIME_UNITS: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("us", 1_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
const SIZE_UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl Duration {
    pub const fn secs(s: u64) -> Self {
        Duration(std::time::Duration::from_secs(s))
    }
    pub const fn millis(ms: u64) -> Self {
        Duration(std::time::Duration::from_millis(ms))
    }
    pub fn parse(text: &str) -> Option<Duration> {
        Some(Duration(std::time::Duration::from_nanos(scaled(text, TIME_UNITS)?)))
    }
}

impl Size {
    pub fn parse(text: &str) -> Option<Size> {
        Some(Size(scaled(text, SIZE_UNITS)?))
    }
}

impl Rate {
    pub fn parse(text: &str) -> Option<Rate> {
        let (count, unit) = text.split_once('/')?;
        let per = TIME_UNITS.iter().find(|(u, _)| *u == unit.trim())?.1;
        let count = count.trim().parse().ok().filter(|&c| c > 0)?;
        Some(Rate { count, per: std::time::Duration::from_nanos(per) })
    }
}

/// `number unit`, with at most one decimal point; `None` on anything else or overflow.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = (text[..split].trim(), text[split..].trim());
    let scale = units.iter().find(|(u, _)| *u == unit)?.1;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let value = number.parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0)? * scale as f64;
    (value < u64::MAX as f64).then_some(value as u64)
}

macro_rules! text_unit {
    ($type:ident, $pattern:literal, $example:literal, $what:literal, $show:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <Cow<'de, str>>::deserialize(d)?;
                $type::parse(&text).ok_or_else(|| {
                    serde::de::Error::custom(format!(concat!("{:?} is not ", $what, " such as ", $example), text))
                })
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.to_string())
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let show: fn(&$type) -> String = $show;
                f.write_str(&show(self))
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "title": $what, "examples": [$example] })
            }
        }
    };
}

text_unit!(Duration, r"^\s*[0-9]+(\.[0-9]+)?\s*(us|ms|s|m|h|d)\s*$", "30s", "a duration", |d| show(
    d.0.as_nanos() as u64,
    TIME_UNITS
));
text_unit!(Size, r"^\s*[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|KB|MB|GB)\s*$", "1MiB", "a size", |s| show(s.0, SIZE_UNITS));
text_unit!(Rate, r"^\s*[0-9]+\s*/\s*(us|ms|s|m|h|d)\s*$", "100/s", "a rate", |r| format!(
    "{}/{}",
    r.count,
    TIME_UNITS.iter().find(|u| u.1 == r.per.as_nanos() as u64).map_or("s", |u| u.0)
));

/// The shortest exact spelling.
fn show(value: u64, units: &[(&str, u64)]) -> String {
    let best =
        units
            .iter()
            .filter(|u| value.is_multiple_of(u.1))
            .max_by_key(|u| if value == 0 { u64::MAX - u.1 } else { u.1 });
    match best {
        Some((unit, scale)) => format!("{}{}", value / scale, unit),
        None => format!("{}us", value / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_and_print() {
        for (text, nanos) in
            [("30s", 30_000_000_000), ("250ms", 250_000_000), ("1.5s", 1_500_000_000), ("2h", 7_200_000_000_000)]
        {
            assert_eq!(Duration::parse(text).unwrap().0.as_nanos() as u64, nanos);
        }
        assert_eq!(Duration::secs(90).to_string(), "90s");
        assert_eq!(Duration::secs(120).to_string(), "2m");
        assert_eq!(Size::parse("1MiB").unwrap().0, 1 << 20);
        assert_eq!(Size(1 << 20).to_string(), "1MiB");
        assert_eq!(Rate::parse("100/s").unwrap().to_string(), "100/s");
        for bad in ["", "5", "s", "-1s", "1 parsec", "99999999999999999999h"] {
            assert_eq!(Duration::parse(bad), None, "{bad}");
        }
        assert_eq!(Rate::parse("0/s"), None);
    }
}
