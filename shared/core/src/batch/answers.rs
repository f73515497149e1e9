//! Divides the answer to a batch: one outcome for each call, in the order of the calls.
//!
//! The list is the answer's `structuredContent`, or the only list among its members; without `structuredContent` it is the list of content
//! blocks. An element that has the form of a tool result with `isError` is that call's result, so that a tool can report an error of one call.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::cache::Freshness;
use crate::outcome::Outcome;

/// The answer to a batch.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow, default, rename = "structuredContent")]
    structured: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ttlMs")]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "cacheScope")]
    cache_scope: Option<&'a RawValue>,
}

/// The result of one call.
#[derive(Serialize)]
struct Part<'a> {
    content: [&'a RawValue; 1],
    #[serde(rename = "structuredContent", skip_serializing_if = "Option::is_none")]
    structured: Option<&'a RawValue>,
    #[serde(rename = "ttlMs", skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<&'a RawValue>,
    #[serde(rename = "cacheScope", skip_serializing_if = "Option::is_none")]
    cache_scope: Option<&'a RawValue>,
}

/// An element that is a result itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnResult {
    content: Vec<Block>,
    is_error: bool,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Serialize)]
struct TextBlock<'a> {
    r#type: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct Wrapped<'a> {
    result: &'a RawValue,
}

/// The outcome of each of `calls` calls, by the answer to all of them.
///
/// # Errors
/// What the answer has instead of a list of that length; it quotes nothing of the answer.
pub fn parts_of(answer: &RawValue, calls: usize) -> Result<Vec<Outcome>, String> {
    let whole: Whole<'_> =
        serde_json::from_str(answer.get()).map_err(|_| "it is no tool result".to_owned())?;
    let part: fn(&Whole<'_>, &RawValue) -> Option<Outcome> =
        if whole.structured.is_some() { of_element } else { of_block };
    let list = match whole.structured {
        Some(structured) => list_in(structured)?,
        None => whole.content.and_then(list).ok_or("it has neither `structuredContent` nor `content`")?,
    };
    if list.len() != calls {
        let place = if whole.structured.is_some() { "`structuredContent`" } else { "`content`" };
        return Err(format!("its list in {place} has the length {}", list.len()));
    }
    let outcomes: Option<Vec<_>> = list.into_iter().map(|element| part(&whole, element)).collect();
    outcomes.ok_or_else(|| "an element of its list cannot be stored".to_owned())
}

/// The list that `structuredContent` is, or its only member that is one.
fn list_in(structured: &RawValue) -> Result<Vec<&RawValue>, String> {
    if let Some(list) = list(structured) {
        return Ok(list);
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(structured.get()).unwrap_or_default();
    let mut lists = members.values().copied().filter_map(list);
    match (lists.next(), lists.next()) {
        (Some(list), None) => Ok(list),
        (None, _) => Err("its `structuredContent` has no list".to_owned()),
        (Some(_), Some(_)) => Err("its `structuredContent` has several lists".to_owned()),
    }
}

fn list(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

fn of_element(whole: &Whole<'_>, element: &RawValue) -> Option<Outcome> {
    if let Ok(own) = serde_json::from_str::<OwnResult>(element.get()) {
        return own.outcome(whole, element);
    }
    let text: Option<String> = serde_json::from_str(element.get()).ok();
    let block = TextBlock { r#type: "text", text: text.as_deref().unwrap_or(element.get()) };
    let (block, wrapped) = (to_raw_value(&block).ok()?, to_raw_value(&Wrapped { result: element }).ok()?);
    let is_object = element.get().starts_with('{');
    let structured = if is_object { element } else { &*wrapped };
    part(whole, &block, Some(structured))
}

fn of_block(whole: &Whole<'_>, block: &RawValue) -> Option<Outcome> {
    part(whole, block, None)
}

/// A success. What the server says about storing the answer holds for each part of it.
fn part(whole: &Whole<'_>, block: &RawValue, structured: Option<&RawValue>) -> Option<Outcome> {
    let part = Part { content: [block], structured, ttl_ms: whole.ttl_ms, cache_scope: whole.cache_scope };
    to_raw_value(&part).ok().map(Outcome::succeeded)
}

impl OwnResult {
    fn outcome(&self, whole: &Whole<'_>, element: &RawValue) -> Option<Outcome> {
        if !self.is_error {
            return with_freshness(whole, element).map(Outcome::succeeded);
        }
        let mut sentence = String::new();
        for text in
            self.content.iter().filter(|block| block.kind == "text").filter_map(|block| block.text.as_ref())
        {
            let gap = if sentence.is_empty() { "" } else { "\n" };
            let _never_fails = write!(sentence, "{gap}{text}");
        }
        if sentence.is_empty() {
            "The tool reported an error without a text.".clone_into(&mut sentence);
        }
        Some(Outcome::tool_error(element.to_owned(), sentence))
    }
}

/// An element that is a result itself, with what the server says about storing the whole where the element does not say it.
fn with_freshness(whole: &Whole<'_>, element: &RawValue) -> Option<Box<RawValue>> {
    if whole.ttl_ms.is_none() && whole.cache_scope.is_none() {
        return Some(element.to_owned());
    }
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(element.get()).ok()?;
    if let Some(ttl_ms) = whole.ttl_ms.filter(|_| Freshness::of(element).ttl_ms.is_none()) {
        members.insert("ttlMs".to_owned(), ttl_ms);
    }
    if let Some(scope) = whole.cache_scope {
        members.entry("cacheScope".to_owned()).or_insert(scope);
    }
    to_raw_value(&members).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::outcome::OutcomeKind;

    fn parts(answer: &Value, calls: usize) -> Result<Vec<Outcome>, String> {
        parts_of(&RawValue::from_string(answer.to_string()).unwrap(), calls)
    }

    fn contents(answer: &Value, calls: usize) -> Vec<Value> {
        let parts = parts(answer, calls).unwrap();
        parts.iter().map(|part| serde_json::from_str(part.content().unwrap().get()).unwrap()).collect()
    }

    fn text(text: &str) -> Value {
        json!({"type": "text", "text": text})
    }

    #[test]
    fn structured_content_gives_each_call_its_element() {
        let expected = [
            json!({"content": [text("a")], "structuredContent": {"result": "a"}}),
            json!({"content": [text("7")], "structuredContent": {"result": 7}}),
            json!({"content": [text(r#"{"x":1}"#)], "structuredContent": {"x": 1}}),
        ];
        for structured in [
            json!(["a", 7, {"x": 1}]),
            json!({"result": ["a", 7, {"x": 1}]}),
            json!({"count": 3, "forecasts": ["a", 7, {"x": 1}]}),
        ] {
            let whole = json!({"content": [text("all")], "structuredContent": structured});
            assert_eq!(contents(&whole, 3), expected);
        }
    }

    #[test]
    fn without_structured_content_each_call_has_its_block() {
        let image = json!({"type": "image", "data": "AA==", "mimeType": "image/png"});
        let whole = json!({"content": [text("a"), image]});
        assert_eq!(contents(&whole, 2), [json!({"content": [text("a")]}), json!({"content": [image]})]);
    }

    #[test]
    fn an_element_may_report_an_error_of_its_call() {
        let failed = json!({"isError": true, "content": [text("no such city"), text("try Paris")]});
        let good = json!({"isError": false, "content": [text("sun")]});
        let whole = json!({"content": [], "structuredContent": {"result": [failed, good]}});
        let parts = parts(&whole, 2).unwrap();
        assert_eq!(parts[0].kind, OutcomeKind::ToolError);
        assert_eq!(parts[0].error.as_ref().unwrap().message, "no such city\ntry Paris");
        assert_eq!(parts[1].kind, OutcomeKind::Succeeded);
        assert_eq!(contents(&whole, 2), [failed, good]);
    }

    #[test]
    fn what_the_server_says_about_storing_holds_for_each_part() {
        let whole = json!({"content": [text("a"), text("b")], "ttlMs": 0, "cacheScope": "public"});
        for part in parts(&whole, 2).unwrap() {
            let fresh = Freshness::of(part.content().unwrap());
            assert_eq!((fresh.ttl_ms, fresh.public), (Some(0), true));
        }
    }

    #[test]
    fn an_element_that_is_a_result_says_itself_how_long_it_holds_or_as_the_whole() {
        let own = |more: Value| {
            let mut element = json!({"isError": false, "content": [text("sun")]});
            element.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            element
        };
        let list =
            [own(json!({})), own(json!({"ttlMs": 5, "cacheScope": "private"})), own(json!({"ttlMs": null}))];
        let whole = json!({"structuredContent": list, "ttlMs": 0, "cacheScope": "public"});
        let parts = parts(&whole, 3).unwrap();
        let fresh: Vec<_> = parts.iter().map(|part| Freshness::of(part.content().unwrap())).collect();
        let seen: Vec<_> = fresh.iter().map(|fresh| (fresh.ttl_ms, fresh.public)).collect();
        assert_eq!(seen, [(Some(0), true), (Some(5), false), (Some(0), true)]);
    }

    #[test]
    fn an_answer_of_another_length_or_form_is_no_answer_for_anyone() {
        for (whole, says) in [
            (json!({"content": [text("a")]}), "`content` has the length 1"),
            (json!({"content": [], "structuredContent": {"result": [1, 2, 3]}}), "has the length 3"),
            (json!({"content": [text("a"), text("b")], "structuredContent": {"sum": 2}}), "has no list"),
            (json!({"content": [], "structuredContent": {"a": [1, 2], "b": [1, 2]}}), "several lists"),
            (json!({"structuredContent": "secret"}), "has no list"),
            (json!({}), "neither `structuredContent` nor `content`"),
            (json!("secret"), "no tool result"),
        ] {
            let problem = parts(&whole, 2).unwrap_err();
            assert!(problem.contains(says) && !problem.contains("secret"), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn no_call_is_given_the_element_of_another(values in prop::collection::vec(".{0,8}", 1..20)) {
            let whole = json!({"content": [], "structuredContent": {"result": values}});
            for (part, value) in contents(&whole, values.len()).iter().zip(&values) {
                prop_assert_eq!(&part["structuredContent"]["result"], value);
                prop_assert_eq!(&part["content"][0]["text"], value);
            }
        }
    }
}
