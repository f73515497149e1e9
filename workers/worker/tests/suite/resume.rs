//! Resuming a call that ended as `input_required`: the same question, the server's state unchanged, and the answers sent once unless the
//! caller promised that repeating is safe.

use serde_json::{Value, json};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{MockFault, ProtocolRevision, ToolAnswer};
use toolfleet_worker::pipeline::steps::Step;

use crate::rig::{Rig, SENDER, Seen, limits, request};

const STATE: &str = "state é \"1\"";

fn question() -> Value {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    json!({"method": "elicitation/create", "params": {"mode": "form", "message": "Who?", "requestedSchema": schema}})
}

/// A rig whose tools `safe` and `unsafe` ask for `who`.
pub(crate) async fn asking() -> Rig {
    let rig = Rig::new().await;
    for tool in ["safe", "unsafe"] {
        let run = |_: &Value| json!({"content": [{"type": "text", "text": "done"}]});
        rig.mcp.tool(tool, run).asks(json!({"who": question()}), STATE);
    }
    rig
}

/// The same question as `earlier`'s under an id of its own, with an answer.
pub(crate) fn resuming(id: &str, earlier: &Value, answers: Value) -> Value {
    let mut body = earlier.clone();
    body["resume"] = json!({"call_id": earlier["call_id"], "input_responses": answers});
    body["call_id"] = json!(id);
    body
}

pub(crate) fn octocat() -> Value {
    json!({"who": {"action": "accept", "content": {"name": "octocat"}}})
}

async fn ended(rig: &Rig, body: &Value) -> Seen {
    rig.send(body.to_string()).await;
    rig.settle().await;
    rig.outcome(body["call_id"].as_str().unwrap()).await
}

async fn asked(rig: &Rig, body: &Value) {
    let seen = ended(rig, body).await;
    assert_eq!(seen.kind, OutcomeKind::InputRequired, "{body}: {}", seen.message);
}

fn refused(seen: &Seen, sentence: &str) {
    let found = (seen.kind, seen.code, seen.may_have_run);
    assert_eq!(
        found,
        (OutcomeKind::Refused, Some("not_resumable"), Some(MayHaveRun::No)),
        "{}",
        seen.message
    );
    assert!(seen.message.contains(sentence), "`{sentence}` in: {}", seen.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_asked_is_gone_on_with_by_a_later_one() {
    let rig = asking().await;
    let first = request("c1", "unsafe");
    let seen = ended(&rig, &first).await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::InputRequired, Some("input_required")));
    assert!(seen.message.contains("`resume`"), "{}", seen.message);
    let content: Value = serde_json::from_str(seen.content.as_deref().unwrap()).unwrap();
    assert_eq!((&content["requestState"], &content["inputRequests"]["who"]), (&json!(STATE), &question()));

    let answers = r#"{"who": {"action" : "accept","content":{"name":"octocat"}}}"#;
    let body = resuming("c2", &first, json!("ANSWERS")).to_string().replace(r#""ANSWERS""#, answers);
    rig.send(body).await;
    rig.settle().await;
    let done = rig.outcome("c2").await;
    assert_eq!(done.kind, OutcomeKind::Succeeded, "{}", done.message);
    let sent = rig.mcp.requests_of("tools/call");
    let [before, after] = sent.as_slice() else { panic!("{} sends", sent.len()) };
    assert_eq!(after.body["params"]["requestState"], STATE);
    assert!(after.text.contains(&format!(r#""inputResponses":{answers}"#)), "{}", after.text);
    assert_eq!(after.body["params"]["arguments"], before.body["params"]["arguments"]);
    assert!(before.body["params"].get("requestState").is_none());
    assert_ne!(after.body["id"], before.body["id"]);
    assert_eq!(rig.mcp.executions("unsafe"), 1);
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::InputRequired, "its outcome stands");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_names_the_resumed_call_and_holds_no_answer() {
    let rig = asking().await;
    let first = request("c1", "unsafe");
    asked(&rig, &first).await;
    ended(&rig, &resuming("c2", &first, octocat())).await;
    let asking = rig.audit_of("c1", AuditKind::Call).await.remove(0);
    let resumed = rig.audit_of("c2", AuditKind::Call).await.remove(0);
    assert_eq!((asking.outcome, asking.resumes), (OutcomeKind::InputRequired, None));
    assert_eq!(resumed.resumes.as_ref().map(|id| id.as_str()), Some("c1"));
    assert!(resumed.digest.starts_with(&format!("{}.", asking.digest)), "{}", resumed.digest);
    let row = rig.row("c2").await;
    for text in [serde_json::to_string(&resumed).unwrap(), format!("{row:?}")] {
        assert!(!text.contains("octocat"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_ask_again_and_each_round_resumes_the_last_one() {
    let rig = Rig::new().await;
    rig.mcp.tool("unsafe", |_| json!({"content": []})).asks(json!({"who": question()}), "one").asks(
        json!({"where": question(), "when": {"method": "sampling/createMessage", "params": {}}}),
        "two",
    );
    let first = request("c1", "unsafe");
    asked(&rig, &first).await;
    asked(&rig, &resuming("c2", &first, octocat())).await;
    let answers = json!({"where": {"action": "decline"}, "when": {"role": "assistant", "content": {}}});
    let mut third = resuming("c3", &first, answers);
    third["resume"]["call_id"] = json!("c2");
    let seen = ended(&rig, &third).await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    let states: Vec<_> =
        rig.mcp.requests_of("tools/call").iter().map(|r| r.body["params"]["requestState"].clone()).collect();
    assert_eq!(states, [json!(null), json!("one"), json!("two")]);
    assert_eq!(rig.mcp.executions("unsafe"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumption_of_anything_else_is_refused_with_what_to_do() {
    let rig = asking().await;
    let mut catalog = rig.catalog();
    catalog["tenants"]["senders"][SENDER] = json!(["acme", "globex"]);
    let context = rig.fleet_of(catalog, limits(), None).await;
    let first = request("c1", "unsafe");
    asked(&rig, &first).await;
    rig.mcp.tool("hinted", |_| json!({"content": []}));
    let plain = request("plain", "hinted");
    let plain = {
        let mut plain = plain;
        plain["server"] = json!("mock");
        plain["name"] = json!("hinted");
        plain.as_object_mut().unwrap().remove("tool");
        plain
    };
    assert_eq!(ended(&rig, &plain).await.kind, OutcomeKind::Succeeded);
    let sends = rig.mcp.requests_of("tools/call").len();

    let with = |id: &str, change: &dyn Fn(&mut Value)| {
        let mut body = resuming(id, &first, octocat());
        change(&mut body);
        body
    };
    let cases = [
        (with("unknown", &|b| b["resume"]["call_id"] = json!("nobody")), "has no call `nobody`"),
        (with("other-arguments", &|b| b["arguments"] = json!({"call": "c9"})), "asked something else"),
        (with("other-tool", &|b| b["tool"] = json!("safe")), "asked something else"),
        (resuming("ended", &plain, json!({})), "ended as `succeeded`"),
        (
            with("input_pending", &|b| b["resume"]["input_responses"] = json!({})),
            "asks for `who`; `resume.input_responses` lacks `who`",
        ),
        (
            with("left-out", &|b| drop(b["resume"].as_object_mut().unwrap().remove("input_responses"))),
            "lacks `who`",
        ),
        (with("strange", &|b| b["resume"]["input_responses"]["why"] = json!({})), "answers also `why`"),
    ];
    for (body, sentence) in &cases {
        refused(&ended(&rig, body).await, sentence);
    }
    rig.send(with("elsewhere", &|b| b["tenant"] = json!("globex")).to_string()).await;
    rig.settle_with(&context).await;
    let calls = rig.direct.calls(&toolfleet_aws::Tables::with_prefix("toolfleet"));
    let row = calls.read(&crate::rig::key("globex", "elsewhere")).await.unwrap().unwrap();
    let error = row.finished.unwrap().outcome.error.unwrap();
    assert_eq!(error.code.as_str(), "not_resumable");
    assert!(error.message.contains("Tenant `globex` has no call `c1`"), "{}", error.message);
    assert_eq!(rig.mcp.requests_of("tools/call").len(), sends, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_has_not_ended_cannot_be_resumed_yet() {
    let rig = asking().await;
    let first = request("c1", "unsafe");
    rig.send(first.to_string()).await;
    rig.crash_after(Step::Claimed).await;
    rig.send(resuming("c2", &first, octocat()).to_string()).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    refused(&rig.outcome("c2").await, "has not ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_became_another_since_it_asked_is_not_told() {
    let rig = asking().await;
    let first = request("c1", "unsafe");
    asked(&rig, &first).await;
    let mut catalog = rig.catalog();
    catalog["tools"][1]["input_schema"] = json!({"type": "object", "required": ["call"]});
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(resuming("c2", &first, octocat()).to_string()).await;
    rig.settle_with(&context).await;
    refused(&rig.outcome("c2").await, "definition has changed since call `c1` asked");
    assert_eq!(rig.mcp.executions("unsafe"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_resume_runs_once_and_a_different_one_mismatches() {
    let rig = asking().await;
    let first = request("c1", "unsafe");
    asked(&rig, &first).await;
    let again = resuming("c2", &first, octocat());
    rig.send(again.to_string()).await;
    rig.send(again.to_string()).await;
    rig.settle().await;
    let declined = resuming("c2", &first, json!({"who": {"action": "decline"}}));
    assert_eq!(ended(&rig, &declined).await.kind, OutcomeKind::Succeeded, "the first one stands");
    assert_eq!(rig.audit_of("c2", AuditKind::IdempotencyMismatch).await.len(), 1);
    assert_eq!(rig.mcp.executions("unsafe"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_resuming_repeats_nothing_unless_idempotent() {
    for step in Step::ALL {
        for promised in [false, true] {
            let context = format!("crash after {step:?}, promised: {promised}");
            let rig = asking().await;
            // Registered as safe to repeat, which says nothing of a state that was given once.
            let first = request("c1", "safe");
            asked(&rig, &first).await;
            let mut again = resuming("c2", &first, octocat());
            again["idempotent"] = json!(promised);
            rig.send(again.to_string()).await;
            rig.crash_after(step).await;
            rig.settle().await;
            let seen = rig.outcome("c2").await;
            let expected = match (step, promised) {
                (Step::Claimed, false) => (OutcomeKind::OutcomeUnknown, 0),
                (Step::Executed, false) => (OutcomeKind::OutcomeUnknown, 1),
                (Step::Executed, true) => (OutcomeKind::Succeeded, 2),
                _ => (OutcomeKind::Succeeded, 1),
            };
            assert_eq!((seen.kind, rig.mcp.executions("safe")), expected, "{context}: {}", seen.message);
            assert_eq!(rig.audit_of("c2", AuditKind::Call).await.len(), 1, "{context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_the_question_and_its_account_loses_neither() {
    let rig = asking().await;
    let first = request("c1", "unsafe");
    rig.send(first.to_string()).await;
    rig.crash_after(Step::ResultStored).await;
    assert!(rig.audit_of("c1", AuditKind::Call).await.is_empty());
    rig.send(resuming("c2", &first, octocat()).to_string()).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Succeeded, "what stands in the row is enough");
    rig.settle().await;
    assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1);
    assert_eq!((rig.mcp.requests_of("tools/call").len(), rig.mcp.executions("unsafe")), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_resumption_is_not_asked_for_again() {
    for (tool, body) in [
        ("safe", request("c1", "safe")),
        ("hinted", {
            // Safe to repeat by the word of a server that is trusted.
            json!({"v": 1, "call_id": "c1", "tenant": "acme", "server": "mock", "name": "hinted", "arguments": {}})
        }),
    ] {
        let rig = asking().await;
        rig.mcp
            .tool("hinted", |_| json!({"content": []}))
            .annotations(json!({"readOnlyHint": true}))
            .asks(json!({"who": question()}), STATE);
        asked(&rig, &body).await;
        rig.mcp.next(MockFault::CloseBeforeAnswer);
        let seen = ended(&rig, &resuming("c2", &body, octocat())).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::OutcomeUnknown, Some("answer_lost")), "{tool}");
        assert_eq!(rig.mcp.executions(tool), 1, "{tool}");

        rig.mcp.next(MockFault::CloseBeforeAnswer);
        let mut promised = resuming("c3", &body, octocat());
        promised["idempotent"] = json!(true);
        assert_eq!(ended(&rig, &promised).await.kind, OutcomeKind::Succeeded, "{tool}");
        assert_eq!(rig.mcp.executions(tool), 3, "{tool}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_and_a_prompt_may_ask_as_well() {
    let rig = Rig::new().await;
    for (method, result) in [("resources/read", r#"{"contents":[]}"#), ("prompts/get", r#"{"messages":[]}"#)]
    {
        rig.mcp.method(method, move |params| {
            let answered = params["requestState"] == STATE && params["inputResponses"] == octocat();
            let asks = json!({"resultType": "input_required", "inputRequests": {"who": question()}, "requestState": STATE});
            if answered { ToolAnswer::Raw(result.into()) } else { ToolAnswer::Result(asks) }
        });
        let id = method.replace('/', "-");
        let arguments = if method == "prompts/get" { json!({"name": "p"}) } else { json!({"uri": "note:1"}) };
        let first = json!({"v": 1, "call_id": id, "tenant": "acme", "server": "mock", "operation": method, "arguments": arguments});
        asked(&rig, &first).await;
        let seen = ended(&rig, &resuming(&format!("{id}-2"), &first, octocat())).await;
        assert_eq!(
            (seen.kind, seen.content.as_deref()),
            (OutcomeKind::Succeeded, Some(result)),
            "{}",
            seen.message
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_turned_to_sessions_is_not_told_the_answers() {
    let rig = asking().await;
    let first = request("c1", "unsafe");
    asked(&rig, &first).await;
    rig.mcp.become_era(ProtocolRevision::Legacy);
    let seen = ended(&rig, &resuming("c2", &first, octocat())).await;
    let found = (seen.kind, seen.code, seen.may_have_run);
    assert_eq!(found, (OutcomeKind::Failed, Some("not_resumable"), Some(MayHaveRun::No)), "{}", seen.message);
    assert!(seen.message.contains("2025-11-25"), "{}", seen.message);
    assert_eq!(rig.mcp.executions("unsafe"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_during_an_older_revisions_call_is_declined() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    let asks = json!({"jsonrpc": "2.0", "id": "ask-1", "method": "elicitation/create", "params": question()["params"]});
    let asks = format!("event: message\ndata: {asks}\n\n");
    let answer = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":{id},{result}}\n\n";
    rig.mcp.next(MockFault::events(&[&asks, answer]));
    let seen = ended(&rig, &request("c1", "unsafe")).await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    // Our word to the server has no method of its own.
    rig.mcp.arrived("POST", 1).await;
    let reply = rig.mcp.requests_of("POST").remove(0).body;
    assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!("ask-1"), &json!(-32601)), "{reply}");
}
