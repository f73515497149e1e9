//! Texts for errors of serde and of JSON Schema: they name the place and what is accepted, and never repeat the value.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::LocationSegment;
use serde_path_to_error::{Path, Segment};

use crate::redact::{REDACTED, key, quoted};

/// serde's sentence without what it found. Names of fields stay, unless they may be values themselves.
pub fn without_values(sentence: &str) -> String {
    let unwanted = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    if unwanted.iter().any(|beginning| sentence.starts_with(beginning)) {
        return match sentence.rsplit_once("expected ") {
            Some((_, wanted)) => format!("is not what it should be; expected {wanted}"),
            None => "is not what it should be".to_owned(),
        };
    }
    let Some(rest) = sentence.strip_prefix("unknown field `") else {
        // `url` ends its sentence with the address.
        let without_address = sentence.split_once(": \"").filter(|_| sentence.ends_with('"'));
        return without_address.map_or(sentence, |(problem, _)| problem).to_owned();
    };
    let (name, accepted) =
        match (rest.rsplit_once("`, expected "), rest.rsplit_once("`, there are no fields")) {
            (Some((name, wanted)), _) => (name, format!("expected {wanted}")),
            (None, Some((name, _))) => (name, "there are no fields".to_owned()),
            (None, None) => ("", "accepted are the fields of the documentation".to_owned()),
        };
    format!("unknown field `{}`, {accepted}", key(name).unwrap_or(REDACTED))
}

/// The place of an error below `above`, without keys that may be values.
pub fn place(above: &str, path: &Path) -> String {
    let mut place = above.to_owned();
    for segment in path {
        let name = match segment {
            Segment::Seq { index } => {
                place.push_str(&format!("[{index}]"));
                continue;
            }
            Segment::Map { key } | Segment::Enum { variant: key } => key.as_str(),
            Segment::Unknown => continue,
        };
        if !place.is_empty() {
            place.push('.');
        }
        place.push_str(key(name).unwrap_or(REDACTED));
    }
    place
}

/// What a schema finds wrong with arguments: the place below `arguments`, and what is accepted there, without keys that may be values.
pub fn of_arguments(error: &ValidationError<'_>) -> String {
    let mut place = "arguments".to_owned();
    for segment in error.instance_path() {
        match segment {
            LocationSegment::Index(index) => place.push_str(&format!("/{index}")),
            LocationSegment::Property(name) => {
                place.push_str(&format!("/{}", key(&name).unwrap_or(REDACTED)))
            }
        }
    }
    if let ValidationErrorKind::AdditionalProperties { unexpected: unknown }
    | ValidationErrorKind::UnevaluatedProperties { unexpected: unknown } = error.kind()
    {
        let names: Vec<_> = unknown.iter().take(10).map(|name| quoted(name)).collect();
        return format!("{place}: has properties that the schema does not allow: {}", names.join(", "));
    }
    // The validator's own text would repeat the key.
    if matches!(error.kind(), ValidationErrorKind::PropertyNames { .. }) {
        return format!("{place}: has a property whose name the schema does not allow");
    }
    format!("{place}: {}", error.masked())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wire {
        #[serde(rename = "n")]
        _n: u32,
        #[serde(default, rename = "map")]
        _map: BTreeMap<String, Kind>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Good,
        Bad,
    }

    #[test]
    fn schema_errors_name_the_place_and_no_value() {
        let schema = serde_json::json!({
            "type": "object", "required": ["n"], "properties": {
                "n": {"type": "integer", "minimum": 10}, "mode": {"enum": ["a", "b"]}, "id": {"const": "x"},
                "mail": {"pattern": "^[a-z]+@"}, "by": {"additionalProperties": {"type": "integer"}},
                "narrow": {"additionalProperties": false}, "named": {"propertyNames": {"maxLength": 3}},
                "list": {"uniqueItems": true, "maxItems": 1}, "left": {"unevaluatedProperties": false},
                "need": {"dependentRequired": {"a": ["b"]}}, "any": {"anyOf": [{"type": "integer"}, {"minLength": 90}]},
                "not": {"not": {"type": "string"}}, "when": {"format": "date-time", "contentMediaType": "application/json"}
            }
        });
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let s = "hunter2-77123";
        for arguments in [
            serde_json::json!({"n": s}),
            serde_json::json!({"n": 3}),
            serde_json::json!({"n": 77, "mode": s}),
            serde_json::json!({"n": 77, "id": s}),
            serde_json::json!({"n": 77, "mail": s}),
            serde_json::json!({"n": 77, "by": {"hunter2-77123@example.com": s}}),
            serde_json::json!({"n": 77, "narrow": {"hunter2-77123@example.com": 1}}),
            serde_json::json!({"n": 77, "left": {"hunter2-77123@example.com": 1}}),
            serde_json::json!({"n": 77, "named": {"hunter2-77123": 1}}),
            serde_json::json!({"n": 77, "list": [s, s]}),
            serde_json::json!({"n": 77, "need": {"a": s}}),
            serde_json::json!({"n": 77, "any": s}),
            serde_json::json!({"n": 77, "not": s}),
            serde_json::json!({"n": 77, "when": s}),
            serde_json::json!({"hunter2": s}),
            serde_json::json!([s]),
        ] {
            let told: Vec<_> = validator.iter_errors(&arguments).map(|error| of_arguments(&error)).collect();
            assert!(!told.is_empty(), "{arguments}");
            for told in told {
                assert!(
                    told.starts_with("arguments") && !told.contains("hunter2") && !told.contains("77123"),
                    "{told}"
                );
            }
        }
    }

    #[test]
    fn an_error_names_the_place_and_what_is_accepted_and_no_value() {
        for (text, expected) in [
            (r#"{"n": "hunter2"}"#, "n: is not what it should be; expected u32"),
            (r#"{"n": -77123}"#, "n: is not what it should be; expected u32"),
            (
                r#"{"n": 1, "map": {"x": "hunter2"}}"#,
                "map.x: is not what it should be; expected `good` or `bad`",
            ),
            (r#"{"n": 1, "map": {"sk-live-hunter2": 1}}"#, "map.[redacted]: "),
            (r#"{"n": 1, "colour": 1}"#, "unknown field `colour`, expected `n` or `map`"),
            (r#"{"n": 1, "sk-live-hunter2": 1}"#, "unknown field `[redacted]`, expected `n` or `map`"),
            (r#"{"n": 1, "x`, expected hunter2": 1}"#, "unknown field `[redacted]`, expected `n` or `map`"),
            (r#"{"n": "x, expected hunter2"}"#, "expected u32"),
            ("{}", "missing field `n`"),
        ] {
            let mut json = serde_json::Deserializer::from_str(text);
            let error = serde_path_to_error::deserialize::<_, Wire>(&mut json).map(|_: Wire| ()).unwrap_err();
            let told = format!("{}: {}", place("", error.path()), without_values(&error.inner().to_string()));
            assert!(
                told.contains(expected) && !told.contains("hunter2") && !told.contains("77123"),
                "{told}"
            );
        }
        let _kinds = (Kind::Good, Kind::Bad);
    }
}
