//! A result as text for people.

use serde_json::Value;
use serde_json::value::RawValue;

/// A result as text: its text blocks, a resource's texts, or else its structure. Blocks that are not text are named.
pub fn readable(content: &RawValue) -> String {
    let Ok(result) = serde_json::from_str::<Value>(content.get()) else {
        return content.get().to_owned();
    };
    let blocks: Vec<String> = result
        .get("content")
        .and_then(Value::as_array)
        .map(|blocks| blocks.iter().map(block).collect())
        .unwrap_or_default();
    if !blocks.is_empty() {
        return blocks.join("\n");
    }
    let contents = result.get("contents").and_then(Value::as_array);
    let texts =
        contents.and_then(|all| all.iter().map(|one| one.get("text")?.as_str()).collect::<Option<Vec<_>>>());
    if let Some(texts) = texts.filter(|texts| !texts.is_empty()) {
        return texts.join("\n");
    }
    let rest = result.get("structuredContent").unwrap_or(&result);
    serde_json::to_string_pretty(rest).unwrap_or_else(|_| content.get().to_owned())
}

fn block(block: &Value) -> String {
    let text = |name: &str| block.get(name).and_then(Value::as_str);
    match text("type") {
        Some("text") => text("text").unwrap_or_default().to_owned(),
        Some(kind @ ("image" | "audio")) => {
            let size = text("data").map_or(0, |data| data.len() / 4 * 3);
            format!(
                "[{kind} {}, about {size} bytes; --json has it]",
                text("mimeType").unwrap_or("of unknown type")
            )
        }
        Some(kind) => {
            let uri = text("uri").or_else(|| block.pointer("/resource/uri").and_then(Value::as_str));
            format!("[{kind} {}; --json has it]", uri.unwrap_or("without an address"))
        }
        None => block.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn text_blocks_are_readable_and_others_are_named() {
        let result = raw(
            r#"{"content":[{"type":"text","text":"hi"},{"type":"image","mimeType":"image/png","data":"AAAA"},
            {"type":"resource_link","uri":"file:///x"}]}"#,
        );
        let shown = readable(&result);
        assert_eq!(shown.lines().next(), Some("hi"));
        assert!(
            shown.contains("image image/png, about 3 bytes") && shown.contains("resource_link file:///x"),
            "{shown}"
        );
    }

    #[test]
    fn a_result_without_blocks_shows_its_structure() {
        assert_eq!(readable(&raw(r#"{"content":[],"structuredContent":{"sum":3}}"#)), "{\n  \"sum\": 3\n}");
    }

    #[test]
    fn a_resource_is_readable_if_all_of_it_is_text() {
        assert_eq!(
            readable(&raw(r#"{"contents":[{"uri":"a","text":"one"},{"uri":"b","text":"two"}]}"#)),
            "one\ntwo"
        );
        assert!(readable(&raw(r#"{"contents":[{"uri":"a","blob":"AAAA"}]}"#)).contains("blob"));
    }
}
