//! Reading JSON objects member by member, so that what was not understood can be told.
//!
//! Owns [`Fields`], the members of one object with a note of which were read, and [`Object`], which writes one. Rules: a
//! member of the wrong type counts as not read; null counts as absent. Never fails: what is missing is `None`.

use serde_json::{Map, Number, Value};
use smallvec::SmallVec;

use super::Losses;

/// Nothing at all, where a list is expected.
const NONE: &[Value] = &[];

pub(super) struct Fields<'a> {
    map: Option<&'a Map<String, Value>>,
    read: SmallVec<[&'a str; 16]>,
    /// `snake_case` stands for `camelCase`, as protocol buffers' JSON has it.
    lenient: bool,
}

impl<'a> Fields<'a> {
    /// The members of `value`; none if it is no object.
    pub(super) fn of(value: &'a Value) -> Fields<'a> {
        Fields { map: value.as_object(), read: SmallVec::new(), lenient: false }
    }

    /// As [`Fields::of`], where every `camelCase` member may be spelt in `snake_case`.
    pub(super) fn proto(value: &'a Value) -> Fields<'a> {
        Fields { lenient: true, ..Fields::of(value) }
    }

    fn take<T>(&mut self, key: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let (key, value) = self.entry(key)?;
        let found = read(value)?;
        self.read.push(key);
        Some(found)
    }

    fn entry(&self, key: &str) -> Option<(&'a String, &'a Value)> {
        let map = self.map?;
        match map.get_key_value(key) {
            None if self.lenient && key.bytes().any(|byte| byte.is_ascii_uppercase()) => map.get_key_value(&snake(key)),
            found => found,
        }
    }

    pub(super) fn any(&mut self, key: &str) -> Option<&'a Value> {
        self.take(key, |value| (!value.is_null()).then_some(value))
    }

    pub(super) fn text(&mut self, key: &str) -> Option<&'a str> {
        self.take(key, Value::as_str)
    }

    pub(super) fn string(&mut self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.take(key, Value::as_bool)
    }

    pub(super) fn number(&mut self, key: &str) -> Option<Number> {
        self.take(key, |value| value.as_number().cloned())
    }

    pub(super) fn count(&mut self, key: &str) -> Option<u64> {
        self.take(key, Value::as_u64)
    }

    pub(super) fn object(&mut self, key: &str) -> Option<&'a Value> {
        self.take(key, |value| value.is_object().then_some(value))
    }

    /// The members of the object `key`; none if there is no such object.
    pub(super) fn inner(&mut self, key: &str) -> Fields<'a> {
        Fields { map: self.take(key, Value::as_object), read: SmallVec::new(), lenient: self.lenient }
    }

    pub(super) fn list(&mut self, key: &str) -> &'a [Value] {
        self.take(key, |value| value.as_array().map(Vec::as_slice)).unwrap_or(NONE)
    }

    /// A list of strings; others in it are passed over.
    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        self.list(key).iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some_and(|(_, value)| !value.is_null())
    }

    /// Members whose values say nothing the target would need.
    pub(super) fn skip(&mut self, keys: &[&str]) {
        for key in keys {
            self.any(key);
        }
    }

    /// Reports every member that nobody read, at `path`.
    pub(super) fn finish(self, path: &str, losses: &mut Losses) {
        for (key, value) in self.map.into_iter().flatten() {
            if !value.is_null() && !self.read.iter().any(|read| read == key) {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                losses.add(at, "not understood here, not passed on");
            }
        }
    }
}

fn snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 2);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// An object being written; members that are `None` or empty are left out.
#[derive(Default)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn new() -> Object {
        Object::default()
    }

    pub(super) fn typed(kind: &str) -> Object {
        let mut object = Object::new();
        object.set("type", kind);
        object
    }

    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Object {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    pub(super) fn maybe<T: Into<Value>>(&mut self, key: &str, value: Option<T>) -> &mut Object {
        if let Some(value) = value {
            self.set(key, value);
        }
        self
    }

    pub(super) fn filled(&mut self, key: &str, object: Object) -> &mut Object {
        if !object.0.is_empty() {
            self.set(key, object);
        }
        self
    }

    pub(super) fn many(&mut self, key: &str, list: Vec<Value>) -> &mut Object {
        if !list.is_empty() {
            self.set(key, list);
        }
        self
    }

    /// The object as it is now.
    pub(super) fn take(&mut self) -> Value {
        Value::Object(std::mem::take(&mut self.0))
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Value {
        Value::Object(object.0)
    }
}

/// Appends `text` as a JSON string.
pub(super) fn quote(out: &mut Vec<u8>, text: &str) {
    // A string always serialises, and a vector takes all of it.
    let _ = serde_json::to_writer(out, text);
}

/// Appends `value` as JSON.
pub(super) fn render(out: &mut Vec<u8>, value: &Value) {
    let _ = serde_json::to_writer(out, value);
}

/// Arguments as an object; what is none stays readable under one key, so that nothing is invented.
pub(super) fn arguments(text: &str, path: &str, losses: &mut Losses) -> Value {
    if text.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value @ Value::Object(_)) => value,
        _ => {
            losses.add(path.to_owned(), "arguments are no JSON object: passed on as text");
            let mut object = Object::new();
            object.set("arguments", text);
            object.into()
        }
    }
}
