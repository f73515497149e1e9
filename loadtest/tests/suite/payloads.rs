//! The payloads: each answer belongs to one call.

use serde::Deserialize as _;
use serde_json::json;
use toolfleet_loadtest::payload::{Arguments, Shape, answer, is_answer};
use toolfleet_loadtest::plan::{Mix, plan};

#[test]
fn an_answer_belongs_to_one_call_only() {
    let mix: Mix = "echo=1,counter=1,slow=1,failing=1,large=1,payment=1,flaky=1,busy=1".parse().unwrap();
    let calls = plan(60, &mix, 3, &Shape::default());
    for call in &calls {
        let arguments = Arguments::deserialize(&call.arguments).unwrap();
        let text = answer(call.tool, &arguments);
        let result = json!({"content": [{"type": "text", "text": text}]}).to_string();
        for other in &calls {
            assert_eq!(is_answer(other.tool, &other.arguments, &result), other.id == call.id);
        }
    }
}

#[test]
fn a_cut_answer_and_no_answer_are_no_answers() {
    let call = &plan(1, &"large=1".parse::<Mix>().unwrap(), 1, &Shape::default())[0];
    let arguments = Arguments::deserialize(&call.arguments).unwrap();
    let whole = answer(call.tool, &arguments);
    let half = json!({"content": [{"type": "text", "text": &whole[..whole.len() / 2]}]}).to_string();
    for result in [half.as_str(), "{}", "", "{\"content\":[]}"] {
        assert!(!is_answer(call.tool, &call.arguments, result), "{result}");
    }
}

#[test]
fn payloads_have_the_requested_size() {
    let mix: Mix = "echo=1,slow=1,large=1".parse().unwrap();
    let shape = Shape { argument_bytes: 1_024, result_bytes: 2_048, ..Shape::default() };
    for call in plan(60, &mix, 3, &shape) {
        let arguments = Arguments::deserialize(&call.arguments).unwrap();
        let (asked, given) = (call.arguments.to_string().len(), answer(call.tool, &arguments).len());
        assert!((1_024..1_050).contains(&asked) && (2_048..2_100).contains(&given), "{asked} {given}");
    }
}
