//! Recognises common causes of invalid JSON: `NaN` and `True` from Python, single quotes, a truncated text.

/// Words that other languages write, and what to do.
const WORDS: [(&str, &str); 7] = [
    (
        "NaN",
        "JSON has no such number; send null or a text instead (Python: json.dumps(.., allow_nan=False) finds it)",
    ),
    (
        "Infinity",
        "JSON has no such number; send null or a text instead (Python: json.dumps(.., allow_nan=False) finds it)",
    ),
    (
        "-Infinity",
        "JSON has no such number; send null or a text instead (Python: json.dumps(.., allow_nan=False) finds it)",
    ),
    ("True", "JSON writes true (Python: json.dumps, not str)"),
    ("False", "JSON writes false (Python: json.dumps, not str)"),
    ("None", "JSON writes null (Python: json.dumps, not str)"),
    ("undefined", "JSON has no such value; send null, or leave the field out"),
];

/// The likely cause of an error in that text and its fix. It repeats nothing of the text but a known word.
pub(super) fn likely_cause(text: &str, error: &serde_json::Error) -> Option<String> {
    if error.is_eof() {
        return Some("the text ends in the middle; it was cut before it was sent".to_owned());
    }
    let line = text.lines().nth(error.line().saturating_sub(1))?;
    // The column is that of the byte at which the reader stopped: the word begins there, or a little before.
    let at = error.column().saturating_sub(1);
    let near = (at.saturating_sub(2)..=at).filter_map(|start| line.get(start..));
    for rest in near {
        if let Some((word, remedy)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            return Some(format!("`{word}` was found, but {remedy}"));
        }
    }
    let rest = line.get(at..)?;
    rest.starts_with('\'').then(|| {
        "a single quote was found, but JSON has double quotes (Python: json.dumps, not str)".to_owned()
    })
}

/// The text with `null` for each number that JSON has not, if there is one: enough to read whose call it is.
pub(super) fn nan_to_null(text: &str) -> Option<String> {
    let mut replaced = String::new();
    let mut from = 0;
    let mut in_text = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if in_text {
            in_text = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        in_text = c == '"';
        if at < from || !matches!(c, 'N' | 'I' | '-') {
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        if let Some(word) = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| rest.starts_with(word)) {
            replaced.push_str(text.get(from..at).unwrap_or_default());
            replaced.push_str("null");
            from = at.saturating_add(word.len());
        }
    }
    if from == 0 {
        return None;
    }
    replaced.push_str(text.get(from..).unwrap_or_default());
    Some(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_writers_write_is_named_with_a_remedy() {
        for (text, expected) in [
            (r#"{"a": NaN}"#, "`NaN` was found"),
            (r#"{"a": [1, -Infinity]}"#, "`-Infinity` was found"),
            (r#"{"a": Infinity}"#, "allow_nan=False"),
            (r#"{"a": True}"#, "JSON writes true"),
            (r#"{"a": None}"#, "JSON writes null"),
            (r#"{"a": undefined}"#, "leave the field out"),
            ("{'a': 1}", "single quote"),
            (r#"{"a": "#, "was cut"),
            (r#"{"a": "x"#, "was cut"),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            let told = likely_cause(text, &error).unwrap_or_default();
            assert!(told.contains(expected), "{text}: {told} ({error})");
        }
        let error = serde_json::from_str::<serde_json::Value>(r#"{"a": hunter2}"#).unwrap_err();
        assert_eq!(likely_cause(r#"{"a": hunter2}"#, &error), None);
    }

    #[test]
    fn numbers_that_json_has_not_become_null_outside_of_texts() {
        let replaced = |text: &str| nan_to_null(text);
        assert_eq!(
            replaced(r#"{"a":NaN,"b":[-Infinity,Infinity],"c":"NaN \" NaN"}"#).unwrap(),
            r#"{"a":null,"b":[null,null],"c":"NaN \" NaN"}"#
        );
        assert_eq!(replaced(r#"{"a":-1,"NaN":"Infinity"}"#), None);
    }
}
