//! Tasks of the scripted server: their states in order, and the answers that they wait for.

use std::collections::VecDeque;

use serde_json::{Value, json};
use toolfleet_mcp_protocol::{error_code, header, meta_key, method, result_type};

use super::recorded::Recorded;
use super::reply::Reply;
use super::state::Inner;

/// Answers `tasks/get`, `tasks/update` and `tasks/cancel`.
pub(super) fn answer(inner: &mut Inner, request: &Recorded, id: &Value, meta: &Value) -> Reply {
    let capabilities = meta.get(meta_key::CLIENT_CAPABILITIES);
    let extensions = capabilities.and_then(|capabilities| capabilities.get("extensions"));
    if extensions.and_then(|extensions| extensions.get(meta_key::TASKS_EXTENSION)).is_none() {
        let text = "Missing required client capability";
        return Reply::error(400, id, error_code::MISSING_CAPABILITY, text, &Value::Null);
    }
    let task = request.body.pointer("/params/taskId").and_then(Value::as_str).unwrap_or_default();
    if request.header(header::NAME) != Some(task) {
        return Reply::error(
            400,
            id,
            error_code::HEADER_MISMATCH,
            "mcp-name does not match the body",
            &Value::Null,
        );
    }
    let Some(states) = inner.tasks.get_mut(task) else {
        let text = "Failed to retrieve task: Task not found";
        return Reply::error(200, id, error_code::INVALID_PARAMS, text, &Value::Null);
    };
    if request.method() == method::TASKS_CANCEL {
        *states = [json!({ "status": "cancelled" })].into();
        return Reply::result(id, &json!({ "resultType": result_type::COMPLETE }));
    }
    if request.method() == method::TASKS_UPDATE {
        take_answers(states, request.body.pointer("/params/inputResponses"));
        return Reply::result(id, &json!({ "resultType": result_type::COMPLETE }));
    }
    let waits =
        states.front().is_some_and(|state| state["inputRequests"].is_object() && state["answered"].is_null());
    let next = if states.len() > 1 && !waits { states.pop_front() } else { states.front().cloned() };
    let mut state = json!({ "resultType": result_type::COMPLETE, "taskId": task, "ttlMs": null });
    if let (Some(state), Some(Value::Object(next))) = (state.as_object_mut(), next) {
        state.extend(next);
    }
    Reply::result(id, &state)
}

/// Marks a task whose questions are all answered. It repeats its questions once more, as an eventually consistent server may.
fn take_answers(states: &mut VecDeque<Value>, answers: Option<&Value>) {
    let Some(Value::Object(state)) = states.front_mut() else { return };
    let asked = state.get("inputRequests").and_then(Value::as_object);
    let answered = |key: &String| answers.and_then(|answers| answers.get(key)).is_some();
    if asked.is_some_and(|asked| asked.keys().all(answered)) {
        state.insert("answered".to_owned(), json!(true));
    }
}
