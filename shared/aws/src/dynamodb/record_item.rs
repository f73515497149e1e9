//! Audit records as items: the fields of their JSON, and the keys.

use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::time::Timestamp;

use super::attributes::{Item, item, number, text};
use crate::error::AwsError;
use crate::keys::{self, EXPIRES_AT, FAILURE_PK, PK, SESSION_PK, SK};

/// How many keys an item has beside the fields of its record.
const KEYS: usize = 5;

/// The record as the table holds it until `expires_at`.
pub(crate) fn to_item(record: &AuditRecord, shards: u32, expires_at: Timestamp) -> Result<Item, AwsError> {
    let value = serde_json::to_value(record).map_err(|e| AwsError::configuration(e.to_string()))?;
    let serde_json::Value::Object(fields) = value else {
        return Err(AwsError::configuration("a record is no JSON object"));
    };
    let mut all = Item::with_capacity(fields.len() + KEYS);
    all.extend(fields.into_iter().filter_map(|(name, value)| Some((name, attribute(value)?))));
    all.extend(item([
        (PK, text(keys::record(record, shards))),
        (SK, text(keys::record_sort(record))),
        (SESSION_PK, keys::record_session(record).and_then(text)),
        (FAILURE_PK, keys::record_failure(record, shards).and_then(text)),
        (EXPIRES_AT, number(expires_at.as_s())),
    ]));
    Ok(all)
}

/// The record of an item.
pub(crate) fn from_item(item: &Item) -> Result<AuditRecord, serde_json::Error> {
    let is_key = |name: &str| matches!(name, PK | SK | SESSION_PK | FAILURE_PK | EXPIRES_AT);
    let fields = item.iter().filter(|(name, _)| !is_key(name));
    let value: serde_json::Map<_, _> = fields.map(|(name, value)| (name.clone(), json(value))).collect();
    serde_json::from_value(value.into())
}

fn attribute(value: serde_json::Value) -> Option<AttributeValue> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(flag) => AttributeValue::Bool(flag),
        serde_json::Value::Number(n) => AttributeValue::N(n.to_string()),
        serde_json::Value::String(s) => AttributeValue::S(s),
        serde_json::Value::Array(items) => {
            AttributeValue::L(items.into_iter().filter_map(attribute).collect())
        }
        serde_json::Value::Object(map) => {
            AttributeValue::M(map.into_iter().filter_map(|(k, v)| Some((k, attribute(v)?))).collect())
        }
    })
}

fn json(value: &AttributeValue) -> serde_json::Value {
    match value {
        AttributeValue::Bool(flag) => (*flag).into(),
        AttributeValue::N(n) => serde_json::from_str(n).unwrap_or(serde_json::Value::Null),
        AttributeValue::S(s) => s.as_str().into(),
        AttributeValue::L(items) => items.iter().map(json).collect(),
        AttributeValue::M(map) => {
            serde_json::Value::Object(map.iter().map(|(k, v)| (k.clone(), json(v))).collect())
        }
        // A record has no attribute of any other kind.
        AttributeValue::B(_)
        | AttributeValue::Bs(_)
        | AttributeValue::Ns(_)
        | AttributeValue::Null(_)
        | AttributeValue::Ss(_)
        | _ => serde_json::Value::Null,
    }
}
