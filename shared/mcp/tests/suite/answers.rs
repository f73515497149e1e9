//! Answers: what each means, and that its bytes are kept.

use serde_json::json;
use toolfleet_core::progress::ProgressNote;
use toolfleet_mcp::{AnswerKind, Resume, ToolCall};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision, ToolAnswer};

use crate::support::*;

const ODD: &str = r#"{ "content" : [ {"type":"hologram","n":1.0E+2,"s":"\u00e9"} ],  "x":[1 ,2], "resultType":"complete" }"#;

#[tokio::test]
async fn a_result_arrives_byte_for_byte_in_both_eras() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
        let server = MockMcp::start(era).await;
        server.tool("echo", |_| ToolAnswer::Raw(ODD.to_owned()));
        let answer = echo(&client(), &server).await.unwrap();
        assert_eq!((answer.result.get(), &answer.kind), (ODD, &AnswerKind::Complete));
        server.tool("echo", |_| ToolAnswer::Raw(ODD.to_owned())).streams();
        assert_eq!(echo(&client(), &server).await.unwrap().result.get(), ODD);
    }
}

#[tokio::test]
async fn arguments_are_sent_byte_for_byte_with_the_names_of_2026_07_28() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.echo();
    let (mut endpoint, arguments) = (endpoint(&server.url()), raw(r#"{ "a" : 1.50 }"#));
    endpoint.headers.insert("authorization", "Bearer t".parse().unwrap());
    let mut call = ToolCall::new(&endpoint, "echo", &arguments, later());
    call.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let answer = client().call_tool(call).await.unwrap();
    assert_eq!((answer.protocol_version.as_str(), answer.mcp_session), ("2026-07-28", None));
    let request = server.requests_of("tools/call").remove(0);
    assert!(request.text.contains(r#""arguments":{ "a" : 1.50 }"#), "{}", request.text);
    for (name, value) in [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "echo"),
        ("authorization", "Bearer t"),
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    let meta = &request.body["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "toolfleet");
    let offered = json!({
        "elicitation": { "form": {}, "url": {} }, "sampling": {},
        "extensions": { "io.modelcontextprotocol/tasks": {} },
    });
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], offered);
    assert_eq!(meta["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(request.header("transfer-encoding"), None);
}

#[tokio::test]
async fn a_tool_name_that_fits_no_header_is_sent_as_base64() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.tool("füge hinzu", |_| json!({ "content": [] }));
    let (endpoint, arguments) = (endpoint(&server.url()), raw("{}"));
    client().call_tool(ToolCall::new(&endpoint, "füge hinzu", &arguments, later())).await.unwrap();
    let request = server.requests_of("tools/call").remove(0);
    assert_eq!(request.header("mcp-name"), Some("=?base64?ZsO8Z2UgaGluenU=?="));
}

#[tokio::test]
async fn a_tool_error_is_an_answer_and_not_a_fault() {
    let server = MockMcp::start(ProtocolRevision::Legacy).await;
    server.tool(
        "echo",
        |_| json!({ "isError": true, "content": [{ "type": "text", "text": "no such file" }] }),
    );
    let answer = echo(&client(), &server).await.unwrap();
    assert_eq!(answer.kind, AnswerKind::ToolError { text: "no such file".to_owned() });
}

#[tokio::test]
async fn result_types_that_end_otherwise_are_told_apart() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    let client = client();
    for (text, kind) in [
        (r#"{"resultType":"input_required","inputRequests":{"q":{}}}"#, AnswerKind::InputRequired),
        (r#"{"resultType":"prophecy"}"#, AnswerKind::Unknown("prophecy".to_owned())),
    ] {
        server.tool("echo", move |_| ToolAnswer::Raw(text.to_owned()));
        let answer = echo(&client, &server).await.unwrap();
        assert_eq!((answer.kind, answer.result.get()), (kind, text));
    }
}

#[tokio::test]
async fn a_server_that_wants_the_same_request_again_gets_it_with_its_state() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    let mut runs = 0;
    server.tool("echo", move |_| {
        runs += 1;
        match runs {
            1 => json!({ "resultType": "input_required", "requestState": "state-1" }),
            _ => json!({ "resultType": "complete", "content": [] }),
        }
    });
    assert_eq!(echo(&client(), &server).await.unwrap().kind, AnswerKind::Complete);
    let sent = server.requests_of("tools/call");
    assert_eq!((sent.len(), &sent[1].body["params"]["requestState"]), (2, &json!("state-1")));
}

#[tokio::test]
async fn a_connection_lost_in_a_later_round_never_says_that_nothing_ran() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.tool("echo", |_| json!({ "resultType": "input_required", "requestState": "s" }));
    server.next(MockFault::Answer {
        content_type: "application/json".to_owned(),
        chunks: vec![r#"{"jsonrpc":"2.0","id":{id},{result}}"#.to_owned()],
    });
    server.next(MockFault::CloseBeforeExecuting);
    let fault = echo(&client(), &server).await.unwrap_err();
    assert_ne!(fault.may_have_run(), toolfleet_core::outcome::MayHaveRun::No, "{fault:?}");
}

#[tokio::test]
async fn answers_to_a_servers_questions_are_sent_along() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.echo();
    let (endpoint, arguments, responses) =
        (endpoint(&server.url()), raw("{}"), raw(r#"{"q":{"action":"accept"}}"#));
    let mut call = ToolCall::new(&endpoint, "echo", &arguments, later());
    call.resume = Resume { request_state: Some("s"), input_responses: Some(&responses) };
    client().call_tool(call).await.unwrap();
    let params = server.requests_of("tools/call").remove(0).body["params"].clone();
    assert_eq!(
        (&params["requestState"], &params["inputResponses"]["q"]["action"]),
        (&json!("s"), &json!("accept"))
    );
}

#[tokio::test]
async fn all_pages_of_the_tools_are_listed_with_their_annotations() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
        let server = MockMcp::start(era).await;
        for n in 0..25 {
            server
                .tool(&format!("tool-{n:02}"), |_| json!({}))
                .annotations(json!({ "readOnlyHint": n == 7 }));
        }
        server
            .tool("zz", |_| json!({}))
            .description("the last")
            .schema(json!({ "type": "object", "required": ["a"] }))
            .annotations(json!({ "idempotentHint": true }));
        let tools = client().list_tools(&endpoint(&server.url()), Some("talk"), later()).await.unwrap();
        assert_eq!(tools.len(), 26);
        assert!(tools.iter().all(|tool| tool.read_only == (tool.name == "tool-07")));
        let last = tools.last().unwrap();
        assert_eq!((last.description.as_deref(), last.idempotent), (Some("the last"), true));
        assert_eq!(last.input_schema["required"][0], "a");
        assert!(last.raw.get().contains("idempotentHint"));
    }
}

#[tokio::test]
async fn a_listing_whose_cursor_comes_back_is_used_as_far_as_it_was_read() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.always_for(
        "tools/list",
        MockFault::Answer {
            content_type: "application/json".to_owned(),
            chunks: vec![
                r#"{"jsonrpc":"2.0","id":{id},"result":{"tools":[{"name":"a"}],"nextCursor":"again"}}"#
                    .to_owned(),
            ],
        },
    );
    let list = client().tool_list(&endpoint(&server.url()), None, later()).await.unwrap();
    assert!(!list.whole && list.tools.iter().all(|tool| tool.name == "a"), "{list:?}");
    assert_eq!(server.requests_of("tools/list").len(), 2);
}

#[tokio::test]
async fn arguments_that_a_schema_wants_as_headers_are_mirrored_after_one_refusal() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    let schema =
        json!({ "type": "object", "properties": { "call": { "type": "string", "x-mcp-header": "Call" } } });
    server.echo().schema(schema);
    let client = client();
    echo(&client, &server).await.unwrap();
    assert_eq!((server.executions("echo"), server.requests_of("tools/call").len()), (1, 2));
    echo(&client, &server).await.unwrap();
    let calls = server.requests_of("tools/call");
    assert_eq!((calls.len(), calls[2].header("mcp-param-call")), (3, Some("c1")));
}

#[tokio::test]
async fn progress_is_heard_only_by_those_who_ask() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
        let server = MockMcp::start(era).await;
        server.echo().progress(3);
        let (endpoint, arguments) = (endpoint(&server.url()), raw("{}"));
        let heard = std::sync::Mutex::new(Vec::new());
        let listen = |note: ProgressNote| heard.lock().unwrap().push(note);
        let mut call = ToolCall::new(&endpoint, "echo", &arguments, later());
        call.on_note = Some(&listen);
        let client = client();
        client.call_tool(call).await.unwrap();
        let progress = |note: &ProgressNote| match note {
            ProgressNote::Progress(progress) => progress.progress.get(),
            ProgressNote::Log(line) => panic!("unexpected {line:?}"),
        };
        assert_eq!(heard.lock().unwrap().iter().map(progress).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
        let asked = server.requests_of("tools/call").remove(0).body["params"]["_meta"].clone();
        assert!(asked["progressToken"].is_u64());
        let level = asked["io.modelcontextprotocol/logLevel"].as_str();
        assert_eq!(level, (era == ProtocolRevision::Modern).then_some("info"), "{era:?}");

        client.call_tool(ToolCall::new(&endpoint, "echo", &arguments, later())).await.unwrap();
        let plain = server.requests_of("tools/call").remove(1).text;
        assert!(!plain.contains("progressToken") && !plain.contains("logLevel"), "{plain}");
    }
}
