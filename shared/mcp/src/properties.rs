//! Property tests of everything that reads a server's bytes: no panic, no dependence on how bytes are split, bounded memory, and no
//! claim that nothing ran without proof.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::value::RawValue;
use std::sync::{Arc, LazyLock};
use tokio::runtime::Runtime;
use toolfleet_core::ids::ServerId;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_core::progress::{ProgressNote, TEXT_CHARS};
use toolfleet_egress::HttpClients;

use crate::answer::{AnswerKind, kind_of, same_request_again};
use crate::client::options::ClientOptions;
use crate::endpoint::Endpoint;
use crate::protocol::frame::{Heard, hear, readable};
use crate::protocol::notifications::note;
use crate::protocol::param_headers::Mirrors;
use crate::protocol::wire::{CallParams, ClientInfo, Meta, request};
use crate::tools::page;
use crate::transport::connection::Connection;
use crate::transport::http::requests::Transport;
use crate::transport::http::sse::{Event, Parser};
use crate::transport::http::stream::Waiting;
use crate::transport::request_error::RequestError;

/// What servers write, and what comes near it.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\u{feff}",
        ":",
        "data:",
        "data: ",
        "data",
        "id: 4",
        "id:",
        "id: \0",
        "retry: 20",
        "retry: 99999999999999999999",
        "event: message",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        "null",
        "1e999",
        "\\ud800",
        "\"jsonrpc\":\"2.0\"",
        "\"id\":7",
        "\"id\":null",
        "\"result\":{}",
        "\"result\":[1]",
        "\"error\":{\"code\":-32603,\"message\":\"x\"}",
        "\"error\":{\"code\":-32602}",
        "\"method\":\"ping\"",
        "{\"id\":7,\"result\":{}}",
        "data: {\"id\":7,\"result\":{\"a\":1}}\n\n",
        "data: {\"id\":8,\"result\":{}}\n\n",
        "data: {\"method\":\"notifications/progress\",\"params\":{\"progressToken\":7,\"progress\":1}}\n\n",
    ]);
    prop_oneof![
        6 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
        1 => "[a-z é😀]{0,40}".prop_map(String::into_bytes),
    ]
}

fn sent() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
}

/// A whole event that is not the answer.
fn event() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        ": keep-alive",
        "event: ping\ndata: 2026-11-28",
        "event: endpoint\ndata: {\"id\":7,\"result\":{}}",
        "event:heartbeat\ndata:{}",
        "data: keepalive",
        "data: {}",
        "data: [1,2",
        "data: {\"id\":8,\"result\":{}}",
        "data: {\"id\":\"x\",\"error\":{\"code\":-1}}",
        "data: {\"result\":{}}",
        "data: {\"method\":\"notifications/message\",\"params\":{\"level\":\"\\ud800\"}}",
        "data: [{\"method\":\"x\"},{\"id\":9,\"result\":{}}]",
        "id: 3\nretry: 1",
        "data",
    ]);
    let long = (400..1_000_usize).prop_map(|n| {
        format!("data: {{\"method\":\"notifications/message\",\"params\":\"{}\"}}", "x".repeat(n))
    });
    let text = prop_oneof![8 => known.prop_map(str::to_owned), 1 => long, 1 => "data: [a-z é]{1,500}"];
    (text, prop::sample::select(vec!["\n", "\r\n", "\r"]))
        .prop_map(|(text, end)| format!("{text}{end}{end}").replace('\n', end).replace("\r\r\n", "\r\n"))
}

/// The bytes in pieces.
fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut places: Vec<usize> =
        cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

#[derive(Debug, PartialEq)]
struct Parsed {
    events: Vec<Event>,
    last_id: Option<String>,
    retry_ms: Option<u64>,
    rest: Option<Vec<u8>>,
}

/// All that a parser makes of these pieces, and that it never holds more than its bound.
fn parsed(pieces: &[Bytes], max: usize) -> Parsed {
    let mut parser = Parser::new(max);
    let mut events = Vec::new();
    for piece in pieces {
        parser.feed(piece);
        while let Some(event) = parser.next_event() {
            events.push(event);
        }
        assert!(parser.held() <= max + 3, "holds {} of {max}", parser.held());
    }
    let rest = parser.finish();
    let last_id = parser.last_id().map(str::to_owned);
    Parsed { events, last_id, retry_ms: parser.retry_ms(), rest }
}

static CLIENTS: LazyLock<Arc<HttpClients>> =
    LazyLock::new(|| Arc::new(HttpClients::new(ClientOptions::default().http()).unwrap()));
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());

fn endpoint() -> Endpoint {
    let (server, url) = (ServerId::parse("s").unwrap(), "https://example.com/mcp".parse().unwrap());
    Endpoint {
        server,
        url,
        headers: http::HeaderMap::new(),
        auth: None,
        tenant: None,
        transport: crate::endpoint::EndpointTransport::Http,
    }
}

fn transport(max_body_bytes: u64) -> Transport {
    let info = ClientInfo { name: "n".into(), version: "1".into() };
    Transport { clients: CLIENTS.clone(), info, max_body_bytes }
}

/// What is made of a response that arrives in these pieces, and what was heard before that.
fn answered(
    status: u16,
    kind: &str,
    pieces: &[Bytes],
    max: u64,
) -> (Result<String, RequestError>, Vec<ProgressNote>) {
    let stream =
        futures::stream::iter(pieces.iter().cloned().map(Ok::<_, std::io::Error>).collect::<Vec<_>>());
    let response = http::Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(reqwest::Body::wrap_stream(stream))
        .unwrap();
    let heard = std::sync::Mutex::new(Vec::new());
    let listen = |note| heard.lock().unwrap().push(note);
    let endpoint = endpoint();
    let waiting = Waiting {
        id: 7,
        endpoint: &endpoint,
        connection: Connection::Modern,
        on_note: Some(&listen),
        on_word: None,
    };
    let transport = transport(max);
    let answer = RUNTIME.block_on(transport.answer(response.into(), &waiting));
    (answer.map(|result| result.get().to_owned()), heard.into_inner().unwrap())
}

fn json() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "resultType",
        "isError",
        "content",
        "text",
        "requestState",
        "inputRequests",
        "tools",
        "name",
        "inputSchema",
        "properties",
        "x-mcp-header",
        "type",
        "annotations",
        "readOnlyHint",
        "nextCursor",
        "progressToken",
        "progress",
        "total",
        "message",
        "level",
        "logger",
        "data",
        "x",
    ]);
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "7",
            "-1.5e-7",
            "1e999",
            "\"\"",
            "\"complete\"",
            "\"task\"",
            "\"input_required\"",
            "\"string\"",
            "{}",
            "[]"
        ])
        .prop_map(str::to_owned),
        "[a-z \\u{e9}\\u{0}\\u{202e}]{0,300}".prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    leaf.prop_recursive(5, 48, 8, move |inner| {
        let member = (key.clone(), inner.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        prop_oneof![
            3 => prop::collection::vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(","))),
            1 => prop::collection::vec(inner, 0..6).prop_map(|items| format!("[{}]", items.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_any_bytes_are_cut_never_changes_what_a_parser_makes_of_them(bytes in sent(), cuts in cuts(), max in 1..400_usize) {
        let whole = parsed(&[Bytes::copy_from_slice(&bytes)], max);
        prop_assert_eq!(&parsed(&cut(&bytes, &cuts), max), &whole);
        let single: Vec<Bytes> = bytes.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect();
        if !bytes.is_empty() {
            prop_assert_eq!(&parsed(&single, max), &whole);
        }
    }

    #[test]
    fn how_a_response_is_cut_never_changes_its_answer(
        bytes in sent(),
        cuts in cuts(),
        max in 1..400_u64,
        kind in prop::sample::select(vec!["application/json", "text/event-stream; charset=utf-8", "text/html", ""]),
    ) {
        let shown = |pieces: &[Bytes]| format!("{:?}", answered(200, kind, pieces, max));
        prop_assert_eq!(shown(&cut(&bytes, &cuts)), shown(&[Bytes::copy_from_slice(&bytes)]));
    }

    #[test]
    fn no_answer_says_that_nothing_ran_unless_a_refusal_says_so(
        bytes in sent(),
        status in prop::sample::select(vec![200_u16, 201, 202, 204, 400, 401, 403, 404, 418, 429, 500, 501, 503, 599]),
        kind in prop::sample::select(vec!["application/json", "text/event-stream", ""]),
    ) {
        let (answer, _) = answered(status, kind, &[Bytes::copy_from_slice(&bytes)], 1 << 20);
        if let Err(error) = answer && error.fault.may_have_run() == MayHaveRun::No {
            let refused = (400..500).contains(&status) || bytes.windows(7).any(|word| word == b"\"error\"");
            prop_assert!(refused && status < 500, "{status} {:?}", error.fault);
        }
    }

    #[test]
    fn what_comes_before_the_answer_on_a_stream_never_loses_it(
        noise in prop::collection::vec(event(), 0..12),
        cuts in cuts(),
        id in prop::sample::select(vec!["7", "\"7\"", "7.0"]),
    ) {
        let answer = format!("data: {{\"id\":{id},\"result\":{{\"a\":1}}}}\n\n");
        let bytes = [noise.concat().as_bytes(), answer.as_bytes()].concat();
        let (found, _) = answered(200, "text/event-stream", &cut(&bytes, &cuts), 400);
        prop_assert_eq!(found.map_err(|error| error.fault).unwrap(), "{\"a\":1}");
    }

    #[test]
    fn a_result_is_part_of_the_message_it_came_in(bytes in sent()) {
        let text = readable(&bytes);
        if let Heard::Result(raw) = hear(&text, 7) {
            prop_assert!(text.contains(raw.get()));
        }
    }

    #[test]
    fn whatever_a_result_holds_it_means_something_and_stays_short(text in json()) {
        let raw = RawValue::from_string(text.clone()).unwrap();
        match kind_of(&raw) {
            Ok(AnswerKind::ToolError { text }) => prop_assert!(text.chars().count() <= 2001),
            Ok(AnswerKind::Unknown(kind)) => prop_assert!(kind.chars().count() <= 61),
            Ok(AnswerKind::Complete | AnswerKind::InputRequired | AnswerKind::Task(_)) => {
                let object = text.starts_with('{');
                prop_assert!(object, "{}", text);
            },
            Err(fault) => prop_assert_eq!(fault.may_have_run(), MayHaveRun::Unknown),
        }
        let _ = same_request_again(&raw);
    }

    #[test]
    fn whatever_a_list_holds_its_tools_can_be_used_or_are_left_out(text in json(), arguments in json()) {
        let arguments = RawValue::from_string(arguments).unwrap();
        for tool in page(&RawValue::from_string(text).unwrap()).map(|page| page.tools).unwrap_or_default() {
            if let Ok(mirrors) = Mirrors::of_schema(&tool.input_schema) {
                mirrors.headers(&arguments);
            }
        }
    }

    #[test]
    fn whatever_a_notification_holds_its_note_is_short(text in json()) {
        let params = RawValue::from_string(text).unwrap();
        for method in ["notifications/progress", "notifications/message"] {
            let text = match note(method, &params, 7, &endpoint()) {
                Some(ProgressNote::Progress(progress)) => progress.message.unwrap_or_default(),
                Some(ProgressNote::Log(line)) => {
                    prop_assert!(line.level.len() <= 16 && line.level.is_ascii());
                    line.text
                }
                None => continue,
            };
            let fit = text.chars().count() <= TEXT_CHARS + 1 && !text.contains(['\n', '\0', '\u{202e}']);
            prop_assert!(fit, "{}", text);
        }
    }

    #[test]
    fn a_written_request_reads_back_with_the_same_bytes(id in any::<u64>(), name in ".{0,40}", text in json()) {
        let arguments = RawValue::from_string(text).unwrap();
        let params = CallParams {
            name: Some(&name),
            uri: None,
            arguments: Some(&arguments),
            completion: None,
            request_state: None,
            input_responses: None,
            meta: Meta::legacy(),
        };
        let body = request(id, "tools/call", params);
        let text = readable(&body);
        let is_request = matches!(hear(&text, 7), Heard::Request { method, .. } if method == "tools/call");
        prop_assert!(is_request, "{}", text);
        let read: Written<'_> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!((read.id, read.params.name), (id, name));
        prop_assert_eq!(read.params.arguments.get(), arguments.get());
    }
}

/// A request as a server reads it.
#[derive(serde::Deserialize)]
struct Written<'a> {
    id: u64,
    #[serde(borrow)]
    params: WrittenParams<'a>,
}

#[derive(serde::Deserialize)]
struct WrittenParams<'a> {
    name: String,
    #[serde(borrow)]
    arguments: &'a RawValue,
}
