//! What servers write beside their answers, and in which other ways they write the answers themselves.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use toolfleet_mcp::{Answer, AnswerKind, Fault};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision};

use crate::support::*;

const ANSWER: &str = r#"{"jsonrpc":"2.0","id":{id},{result}}"#;
const EVENT: &str = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":{id},{result}}\n\n";

async fn answered(era: ProtocolRevision, fault: MockFault) -> Result<Answer, Fault> {
    let server = MockMcp::start(era).await;
    server.echo();
    server.next(fault);
    let answer = echo(&small_client(20_000), &server).await;
    assert_eq!(server.executions("echo"), 1, "{answer:?}");
    answer
}

fn plain(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &str) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

#[tokio::test]
async fn events_that_are_not_for_the_request_are_skipped() {
    let long =
        format!("data: {{\"method\":\"notifications/message\",\"params\":\"{}\"}}\n\n", "x".repeat(30_000));
    for before in [
        ": ping - 2026-11-28\n\n:\n\n",
        "event: ping\ndata: 2026-11-28T10:00:00Z\n\n",
        "event: heartbeat\ndata: {}\n\n",
        "event: endpoint\ndata: /messages?session_id=1\n\n",
        "event: partial\ndata: {\"id\":{id},\"result\":{}}\n\n",
        "data: keepalive\n\n",
        "data: {}\n\n",
        "data: [DONE\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"id\":987654,\"result\":{}}\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"id\":987654,\"error\":{\"code\":-1,\"message\":\"no\"}}\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"result\":{}}\n\n",
        "id:1\r\nretry:5\r\ndata:\r\n\r\n",
        "data: {\"method\":\"\\ud800\",\"params\":{\"\\udc00\":1}}\n\n",
        &long,
    ] {
        for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
            let answer = answered(era, MockFault::events(&[before, EVENT])).await;
            assert!(answer.is_ok(), "{before:.60} {era:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_small_result_after_notifications_beyond_the_bound_arrives() {
    let data = "x".repeat(2_000);
    let note =
        format!("data: {{\"method\":\"notifications/message\",\"params\":{{\"data\":\"{data}\"}}}}\n\n");
    let events: Vec<&str> = std::iter::repeat_n(note.as_str(), 50).chain([EVENT]).collect();
    answered(ProtocolRevision::Modern, MockFault::events(&events)).await.unwrap();
}

#[tokio::test]
async fn one_answer_beyond_the_bound_is_too_large() {
    let event = format!("data: {{\"id\":{{id}},\"result\":{{\"x\":\"{}\"}}}}\n\n", "x".repeat(30_000));
    let fault = answered(ProtocolRevision::Modern, MockFault::events(&[&event, EVENT])).await.unwrap_err();
    assert_eq!(fault, Fault::AnswerTooLarge { limit_bytes: 20_000 });
}

#[tokio::test]
async fn a_stream_of_nothing_but_foreign_messages_says_what_it_skipped() {
    let foreign = "data: {\"id\":987654,\"result\":{}}\n\n";
    let fault = answered(ProtocolRevision::Modern, MockFault::events(&[foreign, foreign])).await.unwrap_err();
    assert!(matches!(fault, Fault::AnswerLost { .. }), "{fault:?}");
    let text = fault.to_string();
    assert!(text.contains("2 other events were skipped") && text.contains("987654"), "{text}");
}

#[tokio::test]
async fn our_id_is_known_as_a_text_on_a_stream_in_a_body_and_in_a_batch() {
    let body = r#"{"jsonrpc":"2.0","id":"{id}",{result}}"#;
    let event = format!("data: {body}\n\n");
    let batch = format!("[{{\"id\":1,\"method\":\"ping\"}},{body}]");
    let batch_event = format!("data: {batch}\n\n");
    for fault in [
        MockFault::encoded(&[("content-type", "application/json")], body, plain),
        MockFault::encoded(&[("content-type", "application/json")], &batch, plain),
        MockFault::events(&[&event]),
        MockFault::events(&[&batch_event]),
    ] {
        answered(ProtocolRevision::Legacy, fault).await.unwrap();
    }
}

#[tokio::test]
async fn a_body_is_read_whatever_its_headers_say_of_it() {
    let typed = |kind: &str| MockFault::encoded(&[("content-type", kind)], ANSWER, plain);
    let headers = |pairs: &[(&str, &str)]| MockFault::encoded(pairs, ANSWER, plain);
    for fault in [
        typed("application/json, application/json"),
        typed("Application/JSON;charset=UTF-8"),
        typed("text/json"),
        typed("application/vnd.api+json"),
        typed("text/plain"),
        typed("application/octet-stream"),
        typed("text/html; charset=utf-8"),
        headers(&[]),
        headers(&[("content-type", "application/json"), ("content-type", "application/json")]),
        headers(&[("content-type", "application/json"), ("content-encoding", "identity")]),
        MockFault::encoded(&[], &format!("\u{feff} \n{ANSWER}\n"), plain),
        MockFault::encoded(&[("content-type", "application/json")], &format!("\u{feff}{ANSWER}"), plain),
        MockFault::encoded(&[], EVENT, plain),
        MockFault::encoded(&[("content-type", "application/json")], EVENT, plain),
        MockFault::encoded(&[("content-type", "text/event-stream, text/event-stream")], EVENT, plain),
        MockFault::encoded(&[("content-type", "text/event-stream")], &EVENT.replace('\n', "\r"), plain),
    ] {
        let shown = format!("{fault:?}");
        let answer = answered(ProtocolRevision::Modern, fault).await;
        assert!(answer.is_ok(), "{shown}: {answer:?}");
    }
}

#[tokio::test]
async fn a_compressed_body_that_nobody_asked_for_is_read() {
    let encoded = |name: &'static str, encode: fn(&str) -> Vec<u8>| (name, encode);
    let encodings = [
        encoded("gzip", gzip),
        encoded("x-gzip", gzip),
        encoded("deflate", zlib),
        encoded("deflate", deflate),
    ];
    for (name, encode) in encodings {
        for (kind, text) in
            [("application/json", ANSWER), ("text/event-stream", EVENT), ("text/plain", ANSWER)]
        {
            let headers = [("content-type", kind), ("content-encoding", name)];
            let answer = answered(ProtocolRevision::Legacy, MockFault::encoded(&headers, text, encode)).await;
            assert!(answer.is_ok(), "{name} {kind}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_small_compressed_body_is_bounded_by_what_it_inflates_to() {
    let bomb = |kind: &str, text: &str| {
        let headers = [("content-type", kind), ("content-encoding", "gzip")];
        MockFault::encoded(&headers, text, gzip)
    };
    let body = format!("{{\"id\":{{id}},\"result\":{{\"x\":\"{}\"}}}}", "x".repeat(20_000_000));
    let event = format!("data: {body}\n\n");
    for fault in [bomb("application/json", &body), bomb("text/event-stream", &event)] {
        let fault = answered(ProtocolRevision::Modern, fault).await.unwrap_err();
        assert_eq!(fault, Fault::AnswerTooLarge { limit_bytes: 20_000 });
    }
}

#[tokio::test]
async fn an_encoding_that_is_not_understood_is_named() {
    let headers = [("content-type", "application/json"), ("content-encoding", "br")];
    let fault =
        answered(ProtocolRevision::Modern, MockFault::encoded(&headers, ANSWER, plain)).await.unwrap_err();
    assert!(matches!(fault, Fault::InvalidAnswer { .. }) && fault.to_string().contains("`br`"), "{fault}");
}

#[tokio::test]
async fn a_result_that_is_no_utf_8_arrives_with_u_fffd_in_its_place() {
    let text = "{\"id\":{id},\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"caf\u{e9}\"}]}}";
    let fault = MockFault::encoded(&[("content-type", "application/json")], text, latin1);
    let answer = answered(ProtocolRevision::Modern, fault).await.unwrap();
    assert!(answer.result.get().contains("caf\u{fffd}"), "{}", answer.result);
}

#[tokio::test]
async fn half_a_surrogate_pair_in_a_tool_error_loses_no_text_and_the_result_stays() {
    let result = r#"{"isError":true,"content":[{"type":"text","text":"no \ud83d way"}]}"#;
    let text = format!(r#"{{"id":{{id}},"result":{result}}}"#);
    let answer = answered(ProtocolRevision::Legacy, MockFault::encoded(&[], &text, plain)).await.unwrap();
    assert_eq!(answer.kind, AnswerKind::ToolError { text: "no \u{fffd} way".to_owned() });
    assert_eq!(answer.result.get(), result);
}

#[tokio::test]
async fn an_answer_of_many_megabytes_arrives_in_every_shape() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.echo();
    let long = "é\\n".repeat(1_000_000);
    let result = format!("{{\"content\":[{{\"type\":\"text\",\"text\":\"{long}\"}}]}}");
    let body = format!("{{\"id\":{{id}},\"result\":{result}}}");
    for fault in [
        MockFault::encoded(&[("content-type", "application/json")], &body, plain),
        MockFault::encoded(
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
            &body,
            gzip,
        ),
        MockFault::events(&["data: {\"method\":\"notifications/x\"}\n\n", &format!("data: {body}\n\n")]),
    ] {
        server.next(fault);
        let answer = echo(&client(), &server).await.unwrap();
        assert_eq!((answer.kind, answer.result.get().len()), (AnswerKind::Complete, result.len()));
    }
}
