//! An argument as its text has it: numbers keep their digits, objects the order of their members. `encode` has refused what cannot be read as
//! text (half a surrogate pair), so that every value has a shape here.

use std::collections::HashMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What an argument is.
#[derive(Debug, Clone)]
pub(super) enum Shape<'a> {
    /// Null: as good as absent.
    Null,
    /// A string, or the text of a number or of true and false.
    Scalar(String),
    /// The items of an array.
    List(Vec<&'a RawValue>),
    /// The members of an object.
    Members(Vec<(String, &'a RawValue)>),
}

/// The members of an object in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Self::Value = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(last_of_each(members))
            }
        }
        deserializer.deserialize_map(Each).map(Members)
    }
}

/// Of members with one name the last counts, as in most readers of JSON.
fn last_of_each(mut members: Vec<(String, &RawValue)>) -> Vec<(String, &RawValue)> {
    let last: HashMap<&str, usize> =
        members.iter().enumerate().map(|(i, (name, _))| (name.as_str(), i)).collect();
    if last.len() < members.len() {
        let is_last = |(i, (name, _)): (usize, &(String, _))| last.get(name.as_str()) == Some(&i);
        let mut kept = members.iter().enumerate().map(is_last).collect::<Vec<_>>().into_iter();
        members.retain(|_| kept.next().unwrap_or(false));
    }
    members
}

/// Whether a value is null.
pub(super) fn is_null(raw: &RawValue) -> bool {
    raw.get().trim_start().starts_with('n')
}

/// What a value is.
pub(super) fn shape(raw: &RawValue) -> Shape<'_> {
    let text = raw.get().trim();
    match text.as_bytes().first() {
        Some(b'{') => {
            serde_json::from_str::<Members<'_>>(text).map_or(Shape::Null, |all| Shape::Members(all.0))
        }
        Some(b'[') => serde_json::from_str(text).map_or(Shape::Null, Shape::List),
        Some(b'"') => serde_json::from_str(text).map_or(Shape::Null, Shape::Scalar),
        Some(b'n') | None => Shape::Null,
        Some(_) => Shape::Scalar(text.to_owned()),
    }
}

/// The text of a value within another one: what is nested deeper is written as JSON. Null is absent.
pub(super) fn flat(raw: &RawValue) -> Option<String> {
    match shape(raw) {
        Shape::Null => None,
        Shape::Scalar(text) => Some(text),
        Shape::List(_) | Shape::Members(_) => Some(raw.get().trim().to_owned()),
    }
}

/// The members of the arguments; nothing where they are no object, or a name cannot be read as text.
pub(super) fn members(arguments: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    serde_json::from_str::<Members<'_>>(arguments.get()).ok().map(|members| members.0)
}
