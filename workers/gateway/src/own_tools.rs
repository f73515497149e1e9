//! The gateway's own tools: `get_result` waits for a call that went on, `search_tools` finds tools by words.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolfleet_client::WaitError;
use toolfleet_core::outcome::OutcomeKind;

use crate::answer::{
    NEVER_RECEIVED, error_result, fleet_failed, never_run, text_result, unknown_result, unreadable_result,
};
use crate::definitions::Definition;
use crate::gateway::Gateway;
use crate::handle::Purpose;
use crate::message::{Answer, Members, Notifications, Request, finish_result, raw};
use crate::progress::ProgressReporter;
use crate::server_lists::LISTS_WITHIN;
use crate::tasks::MAX_ROUNDS;
use crate::wait::Waited;

/// The most tools that a search gives.
const MOST_FOUND: usize = 20;
/// The longest query of a search, in bytes.
const MAX_QUERY_BYTES: usize = 1_000;

/// The definition of `get_result`.
pub(crate) fn get_result_tool() -> Definition {
    let entry = json!({
        "name": "get_result",
        "title": "Get the result of a call",
        "description": "Waits for the result of a tool call that had not ended in time. Takes the handle that the call's answer named.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "handle": {"type": "string", "description": "The handle of the call."},
                "wait_seconds": {"type": "integer", "minimum": 0, "description": "How long to wait. Without it as long as a call is waited for."}
            },
            "required": ["handle"],
            "additionalProperties": false
        },
        "annotations": {"readOnlyHint": true, "openWorldHint": false}
    });
    Definition { name: "get_result".to_owned(), entry: raw(&entry), takes_tasks: false }
}

/// The definition of `search_tools`.
pub(crate) fn search_tool() -> Definition {
    let entry = json!({
        "name": "search_tools",
        "title": "Search tools",
        "description": "Finds tools of this server by words of their names, descriptions and parameters. Gives their definitions, which can be called.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "maxLength": MAX_QUERY_BYTES, "description": "What the tool should do, in words."},
                "limit": {"type": "integer", "minimum": 1, "maximum": MOST_FOUND, "description": "The most tools to give; 5 without it."}
            },
            "required": ["query"],
            "additionalProperties": false
        },
        "annotations": {"readOnlyHint": true, "openWorldHint": false}
    });
    Definition { name: "search_tools".to_owned(), entry: raw(&entry), takes_tasks: false }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetResult {
    handle: String,
    #[serde(default)]
    wait_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    query: String,
    #[serde(default)]
    limit: Option<usize>,
}

impl Gateway {
    pub(crate) async fn get_result(
        &self,
        request: &Request,
        arguments: &RawValue,
        notifications: &Notifications,
    ) -> Answer {
        let Ok(GetResult { handle: sealed, wait_seconds }) = serde_json::from_str(arguments.get()) else {
            return Ok(error_result(
                "Give {\"handle\": \"...\"}, the handle that the call's answer named.",
                Value::Null,
                request,
            ));
        };
        let Some(handle) = self.sealer.open(Purpose::Result, &request.caller, &sealed) else {
            let text =
                "This handle is none that was given to you. Copy it exactly as the call's answer named it.";
            return Ok(error_result(text, Value::Null, request));
        };
        let within = wait_seconds.map_or(self.limits.wait, Duration::from_secs).min(self.limits.wait);
        let mut progress = ProgressReporter::new(request, notifications);
        let mut handle = handle;
        let mut waited = self.wait_for(request, &handle, within, &mut progress).await;
        for _ in 0..MAX_ROUNDS {
            let is_question = matches!(&waited, Ok(Waited::Ended(result)) if result.outcome.kind == OutcomeKind::InputRequired);
            let next = if is_question { self.gone_on(request, &handle).await? } else { None };
            let Some(next) = next else { break };
            handle = next;
            waited = self.wait_for(request, &handle, within, &mut progress).await;
        }
        match waited {
            // The answers belong to a call of that tool, with its arguments.
            Ok(Waited::Ended(result)) if result.outcome.kind == OutcomeKind::InputRequired => {
                let text = format!(
                    "The tool asks for input before it goes on. If that was just given, call `get_result` again in a moment; else call `{}` again with the same arguments: you are asked then.",
                    handle.tool
                );
                Ok(error_result(&text, json!({"outcome": "input_required"}), request))
            }
            Ok(Waited::Ended(result)) => self.ended(request, &result, &handle),
            Ok(Waited::NeverRuns) if handle.is_next() => {
                let text = "The tool asked for input, and the call was cancelled instead of answered. It does not go on.";
                Ok(error_result(text, json!({"outcome": OutcomeKind::Cancelled}), request))
            }
            Ok(Waited::NeverRuns) => Ok(never_run(request)),
            Ok(Waited::Open) => {
                let text =
                    format!("The call has not ended after another {} s. It goes on.", within.as_secs());
                Ok(self.with_handle(request, &handle, &text, false))
            }
            Ok(Waited::NotReceived) if handle.is_overdue(self.now()) => {
                Ok(unknown_result(NEVER_RECEIVED, request))
            }
            Ok(Waited::NotReceived) => {
                let text = match handle.is_sent() {
                    true => "The call has not ended: no worker has received it yet.",
                    false => "It is not known whether the call was sent, and no worker has received it yet.",
                };
                Ok(self.with_handle(request, &handle, text, false))
            }
            Err(WaitError::Unreadable(error)) => Ok(unreadable_result(&error, &handle, request)),
            Err(error @ (WaitError::Aws(_) | WaitError::TimeOut { .. })) => {
                let text =
                    format!("The result cannot be read now: {}.", fleet_failed(&error, &handle.call_id));
                Ok(self.with_handle(request, &handle, &text, true))
            }
        }
    }

    pub(crate) async fn search_tools(&self, request: &Request, arguments: &RawValue) -> Answer {
        let Ok(Search { query, limit }) = serde_json::from_str(arguments.get()) else {
            return Ok(error_result(
                "Give {\"query\": \"words\"}, and {\"limit\": 1 to 20} if you like.",
                Value::Null,
                request,
            ));
        };
        if query.len() > MAX_QUERY_BYTES {
            let text = format!(
                "`query` has {} bytes; accepted are at most {MAX_QUERY_BYTES}. Give a few words of what the tool should do.",
                query.len()
            );
            return Ok(error_result(&text, Value::Null, request));
        }
        let catalog = self.catalog();
        let until = request.at + LISTS_WITHIN;
        let (known, _) = self.definitions(&catalog, &request.caller, until).await;
        let found = known.found(&query, limit.unwrap_or(5).clamp(1, MOST_FOUND));
        if found.is_empty() {
            return Ok(text_result(
                "No tool fits these words. Try others, or call `tools/list`.",
                false,
                Value::Null,
                request,
            ));
        }
        let entries: Vec<_> = found.iter().map(|one| one.entry_for(request)).collect();
        let text = raw(&entries).get().to_owned();
        let mut members = Members::new();
        members.insert("content".to_owned(), raw(&json!([{"type": "text", "text": text}])));
        Ok(finish_result(members, toolfleet_mcp_protocol::result_type::COMPLETE, request, &[]))
    }
}
