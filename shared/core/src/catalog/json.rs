//! Owns how the text of a catalog, of arguments that a schema judges, or of a person's answers becomes values: no key stands twice
//! in an object, and an error names its place.
//!
//! **Invariant:** of two values under one key none is chosen; the text is refused.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::text::plain;
use super::{CatalogError, problem};
use crate::complaint::{place, without_values};
use crate::redact::quoted;

/// The value of `text`, which may have comments and trailing commas. An error names line and column.
pub(super) fn value(entry: &str, text: &str) -> Result<Value, CatalogError> {
    single(&plain(text)).map_err(|e| problem(entry, format!("is not usable JSON: {e}")))
}

/// The value of `text`, in whose objects each key stands once. An error names line and column.
pub(crate) fn single(text: &str) -> Result<Value, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    Single.deserialize(&mut json).and_then(|value| json.end().map(|()| value))
}

/// The value as a `T`. An error names the field below `entry`.
pub(super) fn typed<T: DeserializeOwned>(entry: &str, value: Value) -> Result<T, CatalogError> {
    serde_path_to_error::deserialize(value)
        .map_err(|e| problem(&place(entry, e.path()), without_values(&e.inner().to_string())))
}

/// The place of `field` below `entry`.
pub(super) fn below(entry: &str, field: &str) -> String {
    match (entry.is_empty(), field.starts_with('[')) {
        (true, _) => field.to_owned(),
        (false, true) => format!("{entry}{field}"),
        (false, false) => format!("{entry}.{field}"),
    }
}

/// What a value is, for an error that must not repeat it.
pub(crate) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Reads a value in whose objects each key stands once.
#[derive(Clone, Copy)]
struct Single;

impl<'de> DeserializeSeed<'de> for Single {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Single {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("{} stands twice in one object", quoted(&key))));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
