//! Owns what is told of an error of serde: the place and what is accepted, never the value that stood there.

use serde_path_to_error::{Path, Segment};

use crate::redact::{REDACTED, key};

/// serde's sentence without what it found. Names of fields stay, unless they may be values themselves.
pub(crate) fn without_values(sentence: &str) -> String {
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

/// The place of an error below `above`, in which keys that may be values do not stand.
pub(crate) fn place(above: &str, path: &Path) -> String {
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
