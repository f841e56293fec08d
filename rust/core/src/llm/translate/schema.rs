//! Gemini's own schema language (OpenAPI's subset with types in capitals) read as JSON Schema.
//!
//! Rules: what JSON Schema says alike is kept as it is, in its order; `nullable` becomes a type of two; depth is that of
//! the parsed body, which the parser bounds. The way back is not needed: Gemini takes JSON Schema in fields of its own.

use serde_json::{Map, Value};

pub(super) fn from_gemini(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => Value::Object(object(map)),
        other => other.clone(),
    }
}

fn object(map: &Map<String, Value>) -> Map<String, Value> {
    let nullable = map.get("nullable").and_then(Value::as_bool).unwrap_or(false);
    let mut out = Map::with_capacity(map.len());
    for (key, value) in map {
        let (key, value) = match (key.as_str(), value) {
            ("nullable", _) => continue,
            ("propertyOrdering" | "property_ordering", _) => continue,
            ("type", Value::String(name)) => {
                let name = Value::String(name.to_ascii_lowercase());
                ("type", if nullable { Value::Array(vec![name, "null".into()]) } else { name })
            }
            ("properties", Value::Object(properties)) => {
                let read = properties.iter().map(|(name, schema)| (name.clone(), from_gemini(schema))).collect();
                ("properties", Value::Object(read))
            }
            ("anyOf" | "any_of", Value::Array(list)) => ("anyOf", list.iter().map(from_gemini).collect()),
            ("items", value) => ("items", from_gemini(value)),
            ("enum", Value::Array(list)) if nullable && !list.contains(&Value::Null) => {
                ("enum", list.iter().cloned().chain([Value::Null]).collect())
            }
            // 64-bit bounds are strings on Gemini's wire.
            (
                "maxItems" | "minItems" | "maxLength" | "minLength" | "maxProperties" | "minProperties",
                Value::String(text),
            ) => (key.as_str(), text.parse::<u64>().map_or_else(|_| value.clone(), Value::from)),
            ("example", value) => ("examples", Value::Array(vec![value.clone()])),
            (key, value) => (key, value.clone()),
        };
        out.insert(key.to_owned(), value);
    }
    out
}
