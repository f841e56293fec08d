//! Money as integers: rates in USD per million tokens, costs in USD, both exact.

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

const PICO: u64 = 1_000_000_000_000;
const PER_MILLION: u64 = PICO / 1_000_000;

/// USD per million tokens with up to six decimals, kept as pico-dollars per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    pub fn from_pico(pico: u64) -> Rate {
        Rate(pico)
    }

    /// Pico-dollars per token.
    pub fn pico(self) -> u64 {
        self.0
    }

    /// Reads `"2.50"`: digits, and up to six after a point.
    pub fn parse(text: &str) -> Result<Rate, &'static str> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err("a decimal of USD per million tokens, such as \"2.50\"");
        }
        if fraction.len() > 6 {
            return Err("at most six decimals");
        }
        let too_much = "less than 18 million";
        let whole: u64 = whole.parse().map_err(|_| too_much)?;
        let fraction = format!("{fraction:0<6}").parse::<u64>().map_err(|_| too_much)?;
        whole.checked_mul(PER_MILLION).and_then(|pico| pico.checked_add(fraction)).map(Rate).ok_or(too_much)
    }

    /// What `count` tokens cost.
    pub fn times(self, count: u64) -> Option<Cost> {
        self.0.checked_mul(count).map(Cost)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal(f, self.0, PER_MILLION, 6)
    }
}

/// An amount of money, in pico-dollars; up to 18 million USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost(u64);

impl Cost {
    pub const ZERO: Cost = Cost(0);

    pub fn from_pico(pico: u64) -> Cost {
        Cost(pico)
    }

    pub fn pico(self) -> u64 {
        self.0
    }

    pub fn plus(self, other: Cost) -> Option<Cost> {
        self.0.checked_add(other.0).map(Cost)
    }
}

/// USD with as many of twelve decimals as there are: `0.0012345`.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal(f, self.0, PICO, 12)
    }
}

fn decimal(f: &mut fmt::Formatter<'_>, value: u64, unit: u64, digits: usize) -> fmt::Result {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return write!(f, "{whole}");
    }
    let fraction = format!("{fraction:0digits$}");
    write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Rate;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a price in USD per million tokens, in quotes: \"2.50\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Rate, E> {
                Rate::parse(text).map_err(|expected| E::custom(format!("expected {expected}, got `{text}`")))
            }
            fn visit_u64<E: Error>(self, whole: u64) -> Result<Rate, E> {
                self.visit_str(&whole.to_string())
            }
            fn visit_i64<E: Error>(self, whole: i64) -> Result<Rate, E> {
                self.visit_str(&whole.to_string())
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl schemars::JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        // `Rate` is that of limits, and schemas are told apart by name.
        "Price".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "USD per million tokens, a decimal in quotes: `\"2.50\"`",
            "anyOf": [
                {
                    "type": "string",
                    "pattern": r"^[0-9]+(\.[0-9]{1,6})?$",
                    "title": "a price",
                    "examples": ["2.50"],
                },
                {"type": "integer", "minimum": 0},
            ],
        })
    }
}
