//! The request contract: what is accepted, and how what is not is named.

use proptest::prelude::*;
use toolfleet_core::request::{CallRequest, Malformed, Reply, Target, TimeLimit, request_schema};
use toolfleet_core::time::Timestamp;

const SMALLEST: &str = r#"{"v":1,"call_id":"c1","tenant":"acme","tool":"echo","arguments":{"text":"hi"}}"#;

fn refused(body: &str) -> Malformed {
    *CallRequest::decode(body).expect_err(body)
}

#[test]
fn the_smallest_request_keeps_its_arguments_byte_for_byte() {
    let body = SMALLEST.replace(r#"{"text":"hi"}"#, r#"{ "b" : 1.0,"a":1e2 }"#);
    let request = CallRequest::decode(&body).unwrap();
    assert_eq!(request.arguments.get(), r#"{ "b" : 1.0,"a":1e2 }"#);
    assert_eq!(request.key.to_string(), "acme#c1");
}

#[test]
fn every_field_is_read_and_written_back_the_same() {
    let body = r#"{"v":1,"idempotency_key":"order 7","tenant":"acme","server":"crm","name":"find","arguments":{},
        "operation":"tools/call","session":"s-1","user":{"id":"u","type":"internal","roles":["admin"]},"agent":"planner",
        "group":{"id":"g","index":2,"size":3},"deadline":"2026-11-21T09:30:00Z","priority":"high","retry":{"max_attempts":2},
        "idempotent":true,"cache":true,"reply":{"sqs_queue_url":"http://127.0.0.1/0/r"},"resume":{"call_id":"c0","input_responses":{"who":{"action":"accept"}}},
        "can_answer":["form","sampling_tools"]}"#;
    let request = CallRequest::decode(body).unwrap();
    assert_eq!(request.target.to_string(), "crm/find");
    assert_eq!(
        request.time_limit,
        Some(TimeLimit::Deadline(Timestamp::parse("2026-11-21T09:30:00Z").unwrap()))
    );
    assert!(matches!(request.reply, Some(Reply::SqsQueueUrl(_))));
    let again = CallRequest::decode(&request.encode()).unwrap();
    assert_eq!(format!("{again:?}"), format!("{request:?}"));
}

#[test]
fn a_refusal_names_field_finding_and_what_is_accepted() {
    let with = |extra: &str| SMALLEST.replace(r#""v":1,"#, &format!(r#""v":1,{extra},"#));
    let cases = [
        ("not json".to_owned(), "body", "not a JSON object"),
        ("[1]".to_owned(), "body", "is an array; accepted is a JSON object"),
        (SMALLEST.replace('}', ""), "body", "not valid JSON"),
        (SMALLEST.replace("\"v\":1,", ""), "v", "missing; this fleet accepts 1"),
        (SMALLEST.replace("\"v\":1", "\"v\":2"), "v", "is 2; this fleet accepts 1"),
        (SMALLEST.replace("\"tenant\":\"acme\",", ""), "body", "missing field `tenant`"),
        (SMALLEST.replace("\"call_id\":\"c1\",", ""), "call_id", "give `call_id` or `idempotency_key`"),
        (SMALLEST.replace("\"tool\":\"echo\",", ""), "tool", "give `tool`, or `server` and `name`"),
        (SMALLEST.replace("acme", "a#b"), "tenant", "is not a valid tenant: it has '#' at character 2"),
        (SMALLEST.replace("acme", "_undecodable"), "tenant", "not starting with _"),
        (SMALLEST.replace(r#"{"text":"hi"}"#, "[1]"), "arguments", "accepted is a JSON object"),
        (with(r#""colour":"red""#), "colour", "unknown field `colour`, expected one of `v`"),
        (
            with(r#""retry":{"max_attempts":"3"}"#),
            "retry.max_attempts",
            "expected a whole number without quotes",
        ),
        (with(r#""retry":{"max_attempts":0}"#), "retry.max_attempts", "accepted are 1 to 100"),
        (with(r#""user":{"id":"u","group":"x"}"#), "user.group", "unknown field `group`"),
        (with(r#""deadline":"tomorrow""#), "deadline", "RFC 3339"),
        (with(r#""timeout_ms":0"#), "timeout_ms", "from 1"),
        (with(r#""timeout_ms":5,"deadline":"2026-11-21T09:30:00Z""#), "timeout_ms", "give one of the two"),
        (with(r#""idempotency_key":"k""#), "idempotency_key", "give one of the two"),
        (with(r#""server":"crm""#), "server", "give one of the two"),
        (with(r#""name":"find""#), "name", "belongs to `server`"),
        (with(r#""reply":{"pigeon":"x"}"#), "reply", "expected one of `sqs_queue_url`"),
        (
            with(r#""reply":{"sqs_queue_url":"http://q","colour":1}"#),
            "reply",
            "exactly one of `sqs_queue_url`",
        ),
        (with(r#""reply":{}"#), "reply", "exactly one of"),
        (
            with(r#""group":{"id":"g","index":0,"size":2,"colour":1}"#),
            "group.colour",
            "unknown field `colour`",
        ),
        (with(r#""retry":{"max_attempts":2,"colour":1}"#), "retry.colour", "unknown field `colour`"),
        (with(r#""operation":"tools/run""#), "operation", "expected one of `tools/call`"),
        (with(r#""group":{"id":"g","index":0,"size":0}"#), "group.size", "accepted are 1 to 1000"),
        (with(r#""group":{"id":"g","size":2}"#), "group", "missing field `index`"),
        (
            with(r#""group":{"id":"g","index":2,"size":2}"#),
            "group.index",
            "accepted are 0 to 1 in a group of size 2",
        ),
        (with(r#""group":{"id":"g","index":0,"size":2,"round":0}"#), "group.round", "accepted are 1 to 100"),
        (
            with(r#""group":{"id":"g","index":0,"size":2,"policy":"most"}"#),
            "group.policy",
            "accepted are \"all\"",
        ),
        (
            with(r#""group":{"id":"g","index":0,"size":2,"policy":{"tolerate":"x%"}}"#),
            "group.policy",
            "\"N%\"",
        ),
        (with(r#""resume":{}"#), "resume", "missing field `call_id`"),
        (with(r#""resume":{"call_id":"c0","answer":1}"#), "resume.answer", "unknown field `answer`"),
        (with(r#""resume":{"call_id":"c1"}"#), "resume.call_id", "names this very call"),
        (
            with(r#""resume":{"call_id":"c0","input_responses":[]}"#),
            "resume.input_responses",
            "is no JSON object",
        ),
        (
            with(r#""resume":{"call_id":"c0","input_responses":{"who":{"action":"decline"},"who":{}}}"#),
            "resume.input_responses",
            "`who` is duplicated",
        ),
        (
            with(r#""resume":{"call_id":"c0","input_responses":{"who":"Ann"}}"#),
            "resume.input_responses",
            "`who` is no object",
        ),
        (format!("{SMALLEST} {{}}"), "body", "several JSON objects, one after the other"),
        (format!("{SMALLEST}{}", " ".repeat(1_048_577)), "body", "at most 1048576"),
    ];
    for (body, field, problem) in cases {
        let error = refused(&body).error;
        let shown: String = body.chars().take(120).collect();
        assert_eq!(error.field, field, "{shown}: {error}");
        assert!(error.problem.contains(problem), "{shown}: {error}");
    }
}

#[test]
fn each_operation_accepts_its_own_parameters_only() {
    let asked = |operation: &str, rest: &str| {
        CallRequest::decode(&format!(
            r#"{{"v":1,"call_id":"c","tenant":"acme","operation":"{operation}",{rest}}}"#
        ))
    };
    let accepted = [
        ("tools/list", r#""server":"s","arguments":{}"#),
        ("resources/list", r#""server":"s","arguments":{"cursor":"x"}"#),
        ("prompts/list", r#""server":"s","arguments":{"cursor":null}"#),
        ("resources/read", r#""server":"s","arguments":{"uri":"file:///a b"}"#),
        ("resources/templates/list", r#""server":"s","arguments":{}"#),
        ("resources/subscribe", r#""server":"s","arguments":{"uri":"note:1"}"#),
        ("prompts/get", r#""server":"s","arguments":{"name":"p"}"#),
        (
            "completion/complete",
            r#""server":"s","arguments":{"ref":{"type":"ref/prompt","name":"p","title":"P"},"argument":{"name":"a","value":""}}"#,
        ),
        (
            "completion/complete",
            r#""server":"s","arguments":{"ref":{"type":"ref/resource","uri":"a:{x}"},"argument":{"name":"x","value":"1"},"context":{"arguments":{"y":"2"}}}"#,
        ),
        ("prompts/get", r#""server":"s","arguments":{"name":"p","arguments":{"a":"b"}}"#),
    ];
    for (operation, rest) in accepted {
        let request = asked(operation, rest).expect(rest);
        assert_eq!(request.target.to_string(), "s/*");
        assert!(request.ask().unwrap().is_reading());
        assert_eq!(format!("{:?}", CallRequest::decode(&request.encode()).unwrap()), format!("{request:?}"));
    }
    let refused = [
        ("tools/list", r#""arguments":{}"#, "server", "is asked of a server"),
        ("tools/list", r#""tool":"t","arguments":{}"#, "tool", "belongs to `tools/call`"),
        ("tools/list", r#""server":"s","name":"n","arguments":{}"#, "name", "stands in `arguments`"),
        ("tools/list", r#""server":"s","arguments":{"page":1}"#, "arguments", "unknown field `page`"),
        (
            "tools/list",
            r#""server":"s","arguments":{},"resume":{"call_id":"c0"}"#,
            "resume",
            "asks nothing back",
        ),
        ("resources/list", r#""server":"s","arguments":{"cursor":""}"#, "arguments.cursor", "1 to 4096"),
        ("resources/read", r#""server":"s","arguments":{}"#, "arguments", "missing field `uri`"),
        ("resources/read", r#""server":"s","arguments":{"uri":""}"#, "arguments.uri", "1 to 2048"),
        ("resources/subscribe", r#""server":"s","arguments":{"uri":""}"#, "arguments.uri", "1 to 2048"),
        (
            "resources/subscribe",
            r#""server":"s","arguments":{"uri":"x"},"resume":{"call_id":"c0"}"#,
            "resume",
            "asks nothing back",
        ),
        ("prompts/get", r#""server":"s","arguments":{"arguments":{}}"#, "arguments", "missing field `name`"),
        ("completion/complete", r#""server":"s","arguments":{}"#, "arguments", "missing field `ref`"),
        (
            "completion/complete",
            r#""server":"s","arguments":{"ref":{"type":"ref/tool","name":"t"},"argument":{"name":"a","value":"b"}}"#,
            "arguments",
            "accepts {\"ref\"",
        ),
        (
            "completion/complete",
            r#""server":"s","arguments":{"ref":{"type":"ref/prompt","name":""},"argument":{"name":"a","value":"b"}}"#,
            "arguments.ref.name",
            "1 to 256",
        ),
        (
            "completion/complete",
            r#""server":"s","arguments":{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"b"}},"resume":{"call_id":"c0"}"#,
            "resume",
            "asks nothing back",
        ),
        (
            "prompts/get",
            r#""server":"s","arguments":{"name":"p","arguments":{"n":1}}"#,
            "arguments.arguments",
            "whose values are texts",
        ),
    ];
    for (operation, rest, field, problem) in refused {
        let error = asked(operation, rest).expect_err(rest).error;
        assert_eq!(error.field, field, "{rest}: {error}");
        assert!(error.problem.contains(problem), "{rest}: {error}");
    }
}

#[test]
fn a_broken_request_is_addressed_if_its_id_can_be_read() {
    let broken = refused(&SMALLEST.replace("\"v\":1", "\"v\":9,\"reply\":{\"sqs_queue_url\":\"http://r\"}"));
    assert_eq!(broken.addressed.unwrap().to_string(), "acme#c1");
    assert_eq!(broken.reply, Some(Reply::SqsQueueUrl("http://r".into())));
    assert!(refused("{\"v\":1}").addressed.is_none());
}

#[test]
fn an_idempotency_key_gives_each_tenant_an_id_of_its_own() {
    let of = |tenant: &str, key: &str| {
        let body =
            format!(r#"{{"v":1,"idempotency_key":"{key}","tenant":"{tenant}","tool":"t","arguments":{{}}}}"#);
        CallRequest::decode(&body).unwrap().key.call_id
    };
    assert_eq!(of("acme", "k"), of("acme", "k"));
    assert_ne!(of("acme", "k"), of("other", "k"));
    assert_ne!(of("a", "1#k"), of("a1", "k"));
}

#[test]
fn the_same_question_has_the_same_digest_and_another_has_not() {
    let digest = |body: &str| CallRequest::decode(body).unwrap().digest;
    let other_order = SMALLEST.replace(r#"{"text":"hi"}"#, r#"{ "text" : "hi" }"#);
    assert_eq!(digest(SMALLEST), digest(&other_order));
    assert_ne!(digest(SMALLEST), digest(&SMALLEST.replace("hi", "ho")));
    assert_ne!(digest(SMALLEST), digest(&SMALLEST.replace("echo", "echo2")));
}

#[test]
fn the_committed_schema_is_the_one_the_code_gives() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/call-request.schema.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&request_schema()).unwrap());
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    if committed != current {
        std::fs::write(path, &current).expect("the schema is written for you to commit");
        panic!(
            "docs/reference/call-request.schema.json was stale and has been written anew: look at it and commit it"
        );
    }
}

#[test]
fn the_published_schema_agrees_with_the_decoder() {
    let validator = jsonschema::validator_for(&request_schema()).unwrap();
    let accepts = |body: &str| validator.is_valid(&serde_json::from_str(body).unwrap());
    assert!(accepts(SMALLEST));
    assert!(accepts(r#"{"v":1,"idempotency_key":"k","tenant":"a","server":"s","name":"n","arguments":{}}"#));
    for wrong in [
        SMALLEST.replace("\"v\":1", "\"v\":2"),
        SMALLEST.replace("acme", "_x"),
        SMALLEST.replace("acme", "a#b"),
        SMALLEST.replace("\"call_id\":\"c1\",", ""),
        SMALLEST.replace("\"v\":1", "\"v\":1,\"colour\":1"),
        SMALLEST.replace(r#"{"text":"hi"}"#, "[]"),
        SMALLEST.replace("\"v\":1", "\"v\":1,\"server\":\"s\""),
    ] {
        assert!(!accepts(&wrong), "{wrong}");
        assert!(CallRequest::decode(&wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_decoder_panic(text in ".{0,200}") {
        let _ = CallRequest::decode(&text);
        let _ = CallRequest::decode(&format!("{{\"v\":1,{text}}}"));
    }

    #[test]
    fn any_tool_name_survives_writing_and_reading(name in "[^\"\\\\\\p{C}]{1,40}") {
        let body = serde_json::json!({"v":1,"call_id":"c","tenant":"t","server":"s","name":name,"arguments":{}}).to_string();
        let again = CallRequest::decode(&CallRequest::decode(&body).unwrap().encode()).unwrap();
        let Target::OnServer { name: read, .. } = again.target else { panic!("a server's tool") };
        prop_assert_eq!(read, name);
    }
}

#[test]
fn arguments_that_no_double_and_no_text_can_hold_are_a_request() {
    for arguments in [r#"{"m":"\ud83d"}"#, r#"{"n":1e999}"#] {
        let request = CallRequest::decode(&SMALLEST.replace(r#"{"text":"hi"}"#, arguments)).unwrap();
        assert_eq!(request.arguments.get(), arguments);
    }
}

/// What no value of JSON in memory can hold, and a text can.
fn unholdable() -> Vec<String> {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    vec![r#"{"x":"\ud800"}"#.to_owned(), r#"{"x":1e999}"#.to_owned(), deep]
}

#[test]
fn a_bad_member_leaves_a_broken_request_addressed() {
    let members = r#""reply":{"sqs_queue_url":"https://q"},"group":{"id":"g","index":0,"size":1}"#;
    for bad in unholdable() {
        for name in ["group", "reply", "user", "arguments", "colour", "idempotency_key"] {
            let good = members.split_once(r#","group""#).unwrap().0;
            let (reply, rest) = if name == "reply" { (false, "") } else { (true, good) };
            let comma = if rest.is_empty() { "" } else { "," };
            let body = format!(r#"{{"v":9,"call_id":"c1","tenant":"acme","{name}":{bad}{comma}{rest}}}"#);
            let broken = refused(&body);
            assert_eq!(
                broken.addressed.map(|key| key.to_string()).as_deref(),
                Some("acme#c1"),
                "{name}: {bad}"
            );
            assert_eq!((broken.reply.is_some(), broken.group.is_some()), (reply, false), "{name}: {bad}");
        }
        let body = format!(r#"{{"v":9,"call_id":"c1","tenant":"acme","user":{bad},{members}}}"#);
        assert!(refused(&body).group.is_some(), "{bad}");
    }
    let body = r#"{"v":9,"call_id":"c1","tenant":"acme","\ud800":1}"#;
    assert!(refused(body).addressed.is_some(), "a name that is no text");
}

#[test]
fn a_broken_request_is_addressed_by_the_number_that_its_sender_wrote() {
    let id = |written: &str| {
        let body = format!(r#"{{"v":1,"call_id":{written},"tenant":"acme"}}"#);
        refused(&body).addressed.map(|key| key.call_id.as_str().to_owned())
    };
    for written in ["7", "12345678901234567890123", "12345678901234567890124", "1.0", "-3"] {
        assert_eq!(id(written).as_deref(), Some(written));
    }
    assert_eq!(id(r#"7,"call_id":8"#), None, "nobody knows which");
    assert_eq!(id(r#"7,"call_id":7"#).as_deref(), Some("7"));
}

#[test]
fn one_question_has_one_digest_however_its_numbers_are_written() {
    let of = |arguments: &str| {
        CallRequest::decode(&SMALLEST.replace(r#"{"text":"hi"}"#, arguments)).unwrap().digest
    };
    assert_eq!(of(r#"{"n":1,"m":100}"#), of(r#"{"m":1e2,"n":1.0}"#));
    assert_ne!(of(r#"{"n":123456789012345678901}"#), of(r#"{"n":123456789012345678999}"#));
    assert_ne!(of(r#"{"n":1}"#), of(r#"{"n":"1"}"#));
    let answered = |n: &str| {
        let resume = format!(r#""v":1,"resume":{{"call_id":"c0","input_responses":{{"who":{{"n":{n}}}}}}},"#);
        CallRequest::decode(&SMALLEST.replace(r#""v":1,"#, &resume)).unwrap().digest
    };
    assert_ne!(answered("123456789012345678901"), answered("123456789012345678999"));
    assert_eq!(answered("1"), answered("1.0"));
}

#[test]
fn no_error_of_a_request_repeats_a_value() {
    let with = |extra: &str| SMALLEST.replace(r#""v":1,"#, &format!(r#""v":1,{extra},"#));
    let secret = "hunter2-77123";
    for body in [
        format!(r#""{secret}""#),
        secret.to_owned(),
        SMALLEST.replace("\"v\":1", &format!("\"v\":\"{secret}\"")),
        SMALLEST.replace("\"v\":1", "\"v\":77123"),
        SMALLEST.replace("acme", &format!("{secret} x")),
        SMALLEST.replace("c1", &format!("{secret} x")),
        SMALLEST.replace("echo", &format!("{secret} x")),
        SMALLEST.replace(r#"{"text":"hi"}"#, &format!(r#""{secret}""#)),
        SMALLEST.replace(r#"{"text":"hi"}"#, &format!(r#"{{"password":"{secret}" "x"}}"#)),
        with(&format!(r#""session":"{secret} x""#)),
        with(&format!(r#""session":["{secret}"]"#)),
        with(&format!(r#""user":"{secret}""#)),
        with(&format!(r#""user":{{"id":"u","{secret}-4111111111111111":1}}"#)),
        with(&format!(r#""user":{{"id":"u","roles":"{secret}"}}"#)),
        with(&format!(r#""group":{{"id":"g","index":0,"size":"{secret}"}}"#)),
        with(&format!(r#""group":{{"id":"g","index":0,"size":1,"policy":"{secret}"}}"#)),
        with(&format!(r#""group":{{"id":"g","index":0,"size":1,"policy":{{"{secret}":1}}}}"#)),
        with(&format!(r#""retry":{{"max_attempts":"{secret}"}}"#)),
        with(r#""retry":{"max_attempts":-77123}"#),
        with(&format!(r#""reply":{{"{secret}":"x"}}"#)),
        with(&format!(r#""reply":"{secret}""#)),
        with(&format!(r#""reply":{{"sqs_queue_url":["{secret}"]}}"#)),
        with(&format!(r#""operation":"{secret}""#)),
        with(&format!(r#""deadline":"{secret}""#)),
        with(&format!(r#""timeout_ms":"{secret}""#)),
        with(&format!(r#""idempotent":"{secret}""#)),
        with(&format!(r#""priority":"{secret}""#)),
        with(&format!(r#""resume":{{"call_id":"c0","input_responses":{{"{secret}@example.com":"x"}}}}"#)),
        with(&format!(
            r#""resume":{{"call_id":"c0","input_responses":{{"a":{{"password":"{secret}","password":1}}}}}}"#
        )),
        with(&format!(r#""sk-live-{secret}":1"#)),
        format!(
            r#"{{"v":1,"call_id":"c","tenant":"a","server":"s","operation":"resources/read","arguments":{{"uri":["{secret}"]}}}}"#
        ),
        format!(
            r#"{{"v":1,"call_id":"c","tenant":"a","server":"s","operation":"resources/read","arguments":{{"uri":"x","{secret}@h":1}}}}"#
        ),
        format!(
            r#"{{"v":1,"call_id":"c","tenant":"a","server":"s","operation":"prompts/get","arguments":{{"name":"p","arguments":{{"a":{{"{secret}":1}}}}}}}}"#
        ),
    ] {
        let error = refused(&body).error.to_string();
        assert!(!error.contains("hunter2") && !error.contains("77123"), "{body}: {error}");
    }
}

#[test]
fn arguments_that_nobody_could_compare_are_refused() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    for arguments in [deep.as_str(), r#"{"n":1e99999999999999999999}"#] {
        let body = SMALLEST.replace(r#"{"text":"hi"}"#, arguments);
        assert_eq!(refused(&body).error.field, "arguments");
    }
}

#[test]
fn a_user_too_large_for_a_record_is_refused() {
    let body = SMALLEST.replace("\"v\":1,", &format!("\"v\":1,\"user\":{{\"id\":\"{}\"}},", "u".repeat(257)));
    assert_eq!(refused(&body).error.field, "user.id");
}
