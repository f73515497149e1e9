//! The differences of two JSON values, as lines of text.

use serde_json::Value;

/// `- place: value` for a removed value, `+ place: value` for an added one; a changed value gives both. No line if they are equal.
pub(super) fn lines(before: &Value, after: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    walk("", before, after, &mut lines);
    lines
}

fn walk(place: &str, before: &Value, after: &Value, lines: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                step(&place, before.get(key), after.get(key), lines);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for i in 0..before.len().max(after.len()) {
                step(&format!("{place}[{i}]"), before.get(i), after.get(i), lines);
            }
        }
        (before, after) if before == after => {}
        (before, after) => {
            lines.push(format!("- {place}: {before}"));
            lines.push(format!("+ {place}: {after}"));
        }
    }
}

fn step(place: &str, before: Option<&Value>, after: Option<&Value>, lines: &mut Vec<String>) {
    match (before, after) {
        (Some(before), Some(after)) => walk(place, before, after, lines),
        (Some(before), None) => lines.push(format!("- {place}: {before}")),
        (None, Some(after)) => lines.push(format!("+ {place}: {after}")),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_place_that_differs_is_one_line_or_two() {
        let before = json!({"name": "f", "inputSchema": {"type": "object", "required": ["a"]}, "old": 1});
        let after =
            json!({"name": "f", "inputSchema": {"type": "object", "required": ["a", "b"]}, "name2": {}});
        let expected = [r#"+ inputSchema.required[1]: "b""#, "+ name2: {}", "- old: 1"];
        assert_eq!(lines(&before, &after), expected);
        assert_eq!(lines(&json!({"a": 1}), &json!({"a": "1"})), ["- a: 1", r#"+ a: "1""#]);
        assert!(lines(&before, &before.clone()).is_empty());
    }
}
