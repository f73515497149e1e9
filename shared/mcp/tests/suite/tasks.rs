//! Tasks of 2026-07-28: declared, handed over, asked after, cancelled.

use serde_json::{Value, json};
use toolfleet_mcp::{AnswerKind, Fault, TaskHandle, TaskQuestion, TaskState};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision};

use crate::support::{client, echo, endpoint, later, soon};

async fn ask(server: &MockMcp, task: &str) -> Result<TaskState, Fault> {
    let endpoint = endpoint(&server.url());
    let question = TaskQuestion {
        endpoint: &endpoint,
        conversation: None,
        task,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        tracestate: None,
        deadline: later(),
    };
    client().task(question).await
}

#[tokio::test]
async fn every_modern_request_says_that_tasks_are_followed_and_a_handle_is_read() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.tool("echo", |_| {
        json!({ "resultType": "task", "taskId": "t-1", "status": "working", "ttlMs": null, "pollIntervalMs": 250 })
    });
    let answer = echo(&client(), &server).await.unwrap();
    let handle = TaskHandle { id: "t-1".to_owned(), poll_interval_ms: Some(250) };
    assert_eq!(answer.kind, AnswerKind::Task(handle));
    for request in server.requests() {
        let declared = request.body.pointer(
            "/params/_meta/io.modelcontextprotocol~1clientCapabilities/extensions/io.modelcontextprotocol~1tasks",
        );
        assert_eq!(declared, Some(&json!({})), "{}", request.method());
    }
}

#[tokio::test]
async fn a_legacy_server_is_told_nothing_of_tasks() {
    let server = MockMcp::start(ProtocolRevision::Legacy).await;
    server.echo();
    echo(&client(), &server).await.unwrap();
    let offered = server.requests_of("initialize").remove(0).body["params"]["capabilities"].clone();
    assert_eq!(offered, json!({}));
}

#[tokio::test]
async fn a_question_names_its_task_in_the_header_and_gets_each_state() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.task(
        "t-1",
        &[
            json!({ "status": "working", "pollIntervalMs": 40 }),
            json!({ "status": "completed", "result": { "content": [], "structuredContent": { "n": 1.50 } } }),
        ],
    );
    let working = ask(&server, "t-1").await.unwrap();
    assert!(matches!(working, TaskState::Working { poll_interval_ms: Some(40), .. }));
    let TaskState::Completed(answer) = ask(&server, "t-1").await.unwrap() else { panic!("completed") };
    assert_eq!(answer.kind, AnswerKind::Complete);
    let asked = server.requests_of("tasks/get").remove(0);
    assert_eq!((asked.header("mcp-name"), asked.header("mcp-method")), (Some("t-1"), Some("tasks/get")));
    assert!(asked.header("traceparent").is_some());
}

#[tokio::test]
async fn a_task_that_the_server_does_not_know_is_no_fault() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    assert!(matches!(ask(&server, "gone").await, Ok(TaskState::Unknown { .. })));
    server.next_for(
        "tasks/get",
        MockFault::Rpc {
            status: 404,
            code: -32601,
            message: "Method not found".to_owned(),
            data: Value::Null,
            with_id: true,
        },
    );
    assert!(matches!(ask(&server, "gone").await, Ok(TaskState::Unknown { .. })));
}

#[tokio::test]
async fn what_befalls_a_question_is_a_fault_that_allows_another() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.task("t-1", &[json!({ "status": "working" })]);
    server.next_for("tasks/get", MockFault::status(503));
    assert!(matches!(ask(&server, "t-1").await, Err(Fault::ServerStatus { status: 503, .. })));
    server.next_for("tasks/get", MockFault::CloseBeforeAnswer);
    assert!(matches!(ask(&server, "t-1").await, Err(Fault::AnswerLost { .. })));
    let _held = server.hold_for("tasks/get");
    let endpoint = endpoint(&server.url());
    let question = TaskQuestion {
        endpoint: &endpoint,
        conversation: None,
        task: "t-1",
        traceparent: None,
        tracestate: None,
        deadline: soon(),
    };
    assert!(matches!(client().task(question).await, Err(Fault::AttemptTimeout { .. })));
}

#[tokio::test]
async fn a_task_is_cancelled_by_its_name() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.task("t-1", &[json!({ "status": "working" })]);
    let endpoint = endpoint(&server.url());
    let question = TaskQuestion {
        endpoint: &endpoint,
        conversation: None,
        task: "t-1",
        traceparent: None,
        tracestate: None,
        deadline: later(),
    };
    client().cancel_task(question).await.unwrap();
    assert_eq!(server.requests_of("tasks/cancel").remove(0).header("mcp-name"), Some("t-1"));
    assert!(matches!(ask(&server, "t-1").await, Ok(TaskState::Cancelled { .. })));
}
