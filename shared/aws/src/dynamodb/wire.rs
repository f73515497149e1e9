//! The statements of a BatchExecuteStatement and their replies, as DynamoDB's JSON protocol writes them, and as types of the SDK.

use std::collections::HashMap;
use std::fmt;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementRequest, BatchStatementResponse, ConsumedCapacity,
    ReturnValuesOnConditionCheckFailure,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::{self, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::attributes::Item;
use super::statement::Statement;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    statements: Vec<OneStatement<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_consumed_capacity: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OneStatement<'a> {
    statement: &'a str,
    parameters: Vec<Written<'a>>,
    return_values_on_condition_check_failure: &'static str,
}

impl<'a> OneStatement<'a> {
    fn of(statement: &'a Statement) -> Self {
        Self {
            statement: &statement.text,
            parameters: statement.parameters.iter().map(Written).collect(),
            return_values_on_condition_check_failure: "ALL_OLD",
        }
    }
}

/// About how many bytes a statement takes beside its text and its values, and a value beside itself.
const STATEMENT_BYTES: usize = 96;
const VALUE_BYTES: usize = 10;

/// The body of a request of those statements.
pub(super) fn request(batch: &[Statement], ask_for_units: bool) -> serde_json::Result<Vec<u8>> {
    let bytes = |one: &Statement| one.bytes + one.parameters.len() * VALUE_BYTES + STATEMENT_BYTES;
    let mut body = Vec::with_capacity(STATEMENT_BYTES + batch.iter().map(bytes).sum::<usize>());
    let request = Request {
        statements: batch.iter().map(OneStatement::of).collect(),
        return_consumed_capacity: ask_for_units.then_some("TOTAL"),
    };
    serde_json::to_writer(&mut body, &request)?;
    Ok(body)
}

/// The same as a type of the SDK.
pub(super) fn sdk_statement(statement: &Statement) -> Result<BatchStatementRequest, BuildError> {
    BatchStatementRequest::builder()
        .statement(&statement.text)
        .set_parameters(Some(statement.parameters.clone()))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
}

/// The answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Answer {
    pub(super) responses: Option<Vec<Response>>,
    pub(super) consumed_capacity: Option<Vec<Capacity>>,
}

/// The reply to one statement.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Response {
    pub(super) error: Option<StatementError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct StatementError {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    #[serde(deserialize_with = "item")]
    pub(super) item: Option<Item>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Capacity {
    table_name: Option<String>,
    capacity_units: Option<f64>,
}

impl Capacity {
    pub(super) fn sdk(self) -> ConsumedCapacity {
        let capacity = ConsumedCapacity::builder().set_table_name(self.table_name);
        capacity.set_capacity_units(self.capacity_units).build()
    }
}

impl Response {
    pub(super) fn of_sdk(response: BatchStatementResponse) -> Self {
        let error = response.error.map(|error| StatementError {
            code: error.code.map(|code| code.as_str().to_owned()),
            message: error.message,
            item: error.item,
        });
        Self { error }
    }
}

fn item<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Item>, D::Error> {
    let item = Option::<HashMap<String, Read>>::deserialize(reader)?;
    Ok(item.map(|all| all.into_iter().map(|(name, value)| (name, value.0)).collect()))
}

/// A value that is written.
struct Written<'a>(&'a AttributeValue);

impl Serialize for Written<'_> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the SDK may get to know more types")]
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        let mut map = writer.serialize_map(Some(1))?;
        match self.0 {
            AttributeValue::S(text) => map.serialize_entry("S", text),
            AttributeValue::N(number) => map.serialize_entry("N", number),
            AttributeValue::B(bytes) => map.serialize_entry("B", &BASE64.encode(bytes)),
            AttributeValue::Bool(value) => map.serialize_entry("BOOL", value),
            AttributeValue::Null(value) => map.serialize_entry("NULL", value),
            AttributeValue::Ss(texts) => map.serialize_entry("SS", texts),
            AttributeValue::Ns(numbers) => map.serialize_entry("NS", numbers),
            AttributeValue::Bs(all) => {
                map.serialize_entry("BS", &all.iter().map(|one| BASE64.encode(one)).collect::<Vec<_>>())
            }
            AttributeValue::L(values) => {
                map.serialize_entry("L", &values.iter().map(Written).collect::<Vec<_>>())
            }
            AttributeValue::M(values) => map.serialize_entry("M", &Members(values)),
            _ => Err(ser::Error::custom("an attribute of an unknown type")),
        }?;
        map.end()
    }
}

struct Members<'a>(&'a Item);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        writer.collect_map(self.0.iter().map(|(name, value)| (name, Written(value))))
    }
}

/// A value that was read.
struct Read(AttributeValue);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_map(OneValue).map(Self)
    }
}

struct OneValue;

impl<'de> Visitor<'de> for OneValue {
    type Value = AttributeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AttributeValue, A::Error> {
        let blob = |text: String| BASE64.decode(text).map(Blob::new).map_err(de::Error::custom);
        let missing = || de::Error::custom("an attribute value without a type");
        let name: String = map.next_key()?.ok_or_else(missing)?;
        let value = match name.as_str() {
            "S" => AttributeValue::S(map.next_value()?),
            "N" => AttributeValue::N(map.next_value()?),
            "B" => AttributeValue::B(blob(map.next_value()?)?),
            "BOOL" => AttributeValue::Bool(map.next_value()?),
            "NULL" => AttributeValue::Null(map.next_value()?),
            "SS" => AttributeValue::Ss(map.next_value()?),
            "NS" => AttributeValue::Ns(map.next_value()?),
            "BS" => {
                let all: Vec<String> = map.next_value()?;
                AttributeValue::Bs(all.into_iter().map(blob).collect::<Result<_, _>>()?)
            }
            "L" => {
                let values: Vec<Read> = map.next_value()?;
                AttributeValue::L(values.into_iter().map(|value| value.0).collect())
            }
            "M" => {
                let values: HashMap<String, Read> = map.next_value()?;
                AttributeValue::M(values.into_iter().map(|(name, value)| (name, value.0)).collect())
            }
            other => return Err(de::Error::custom(format_args!("an attribute value of type {other}"))),
        };
        match map.next_key::<String>()? {
            None => Ok(value),
            Some(_) => Err(de::Error::custom("an attribute value of two types")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_type_are_read_as_they_were_written() {
        let text = |text: &str| AttributeValue::S(text.into());
        let bytes = || Blob::new([0, 255, 7]);
        let all = vec![
            text("a\"\u{1f600}\n"),
            AttributeValue::N("-1.5e3".into()),
            AttributeValue::B(bytes()),
            AttributeValue::Bool(false),
            AttributeValue::Null(true),
            AttributeValue::Ss(vec!["a".into()]),
            AttributeValue::Ns(vec!["1".into(), "2".into()]),
            AttributeValue::Bs(vec![bytes()]),
            AttributeValue::M(HashMap::from([("deep".into(), AttributeValue::L(vec![text("x")]))])),
        ];
        let value = AttributeValue::L(all);
        let written = serde_json::to_string(&Written(&value)).unwrap();
        assert!(written.contains(r#"{"B":"AP8H"}"#) && written.contains(r#"{"N":"-1.5e3"}"#), "{written}");
        assert_eq!(serde_json::from_str::<Read>(&written).unwrap().0, value);
    }

    #[test]
    fn what_is_no_attribute_value_is_refused() {
        for text in ["{}", r#"{"X":1}"#, r#"{"S":"a","N":"1"}"#, r#"{"B":"*"}"#, r#"{"N":1}"#, "1"] {
            assert!(serde_json::from_str::<Read>(text).is_err(), "{text}");
        }
    }
}
