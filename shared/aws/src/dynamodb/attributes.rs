//! DynamoDB attribute values: how they are made, and how large they are.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::time::Timestamp;

/// A row as the table holds it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// A name and its value, as they are written.
pub(crate) type Attribute = (&'static str, AttributeValue);

pub(crate) fn text(value: impl ToString) -> Option<AttributeValue> {
    Some(AttributeValue::S(value.to_string()))
}

pub(crate) fn number(value: impl ToString) -> Option<AttributeValue> {
    Some(AttributeValue::N(value.to_string()))
}

pub(crate) fn ms(at: Timestamp) -> Option<AttributeValue> {
    number(at.as_ms())
}

pub(crate) fn list(texts: &[String]) -> AttributeValue {
    AttributeValue::L(texts.iter().cloned().map(AttributeValue::S).collect())
}

/// The item of those attributes that have a value.
pub(crate) fn item<'a>(attributes: impl IntoIterator<Item = (&'a str, Option<AttributeValue>)>) -> Item {
    attributes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// About how many bytes an attribute takes in a request.
pub(crate) fn bytes_of(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(blob) => blob.as_ref().len().saturating_mul(4) / 3,
        AttributeValue::L(items) => items.iter().map(bytes_of).sum::<usize>() + 8,
        AttributeValue::M(map) => {
            map.iter().map(|(name, value)| name.len() + bytes_of(value)).sum::<usize>() + 8
        }
        AttributeValue::Bool(_)
        | AttributeValue::Bs(_)
        | AttributeValue::Ns(_)
        | AttributeValue::Null(_)
        | AttributeValue::Ss(_)
        | _ => 64,
    }
}
