//! Messages as other senders write them, and wrong ones: each is a request, or an error that names what it is and what to do.
//!
//! The table is `tests/data/messages.json`; the worker's suite sends the same through SQS.

use serde_json::{Value, json};
use toolfleet_core::request::{CallRequest, MAX_BODY_BYTES, request_schema, sns_attribute};

const MESSAGES: &str = include_str!("../data/messages.json");

fn messages() -> Vec<Value> {
    serde_json::from_str(MESSAGES).unwrap()
}

#[test]
fn foreign_messages_are_decoded_or_named() {
    let mut counts = [0, 0];
    for row in messages() {
        let [from, id, ends, body] =
            ["from", "call_id", "ends", "body"].map(|key| row[key].as_str().unwrap());
        match (ends, CallRequest::decode(body)) {
            ("taken", Ok(request)) => {
                counts[0] += 1;
                assert_eq!(request.key.to_string(), format!("acme#{id}"), "{from}");
                let arguments: Value = serde_json::from_str(request.arguments.get()).unwrap();
                assert!(arguments == json!({}) || arguments["call"] == id, "{from}: {arguments}");
                let again = CallRequest::decode(&request.encode()).unwrap();
                assert_eq!(format!("{again:?}"), format!("{request:?}"), "{from}");
            }
            ("refused" | "kept", Err(malformed)) => {
                counts[1] += 1;
                let told = malformed.error.to_string();
                assert!(told.contains(row["says"].as_str().unwrap()), "{from}: {told}");
                let addressed = malformed.addressed.map(|key| key.to_string());
                let expected = (ends == "refused").then(|| format!("acme#{id}"));
                assert_eq!(addressed, expected, "{from}: {told}");
            }
            (_, decoded) => panic!("{from}: {:?}", decoded.map(|request| request.key)),
        }
    }
    assert!(counts.iter().all(|n| *n >= 30), "{counts:?}");
}

#[test]
fn the_schema_takes_the_plain_requests_that_the_decoder_takes() {
    let validator = jsonschema::validator_for(&request_schema()).unwrap();
    for row in messages() {
        let Ok(body) = serde_json::from_str::<Value>(row["body"].as_str().unwrap().trim()) else { continue };
        if body.get("tenant").is_some() {
            let told: Vec<_> = validator.iter_errors(&body).map(|e| e.to_string()).collect();
            // Instants are a format, which a validator need not check.
            let checked = !row["from"].as_str().unwrap().contains("offset");
            assert!(!checked || told.is_empty() == (row["ends"] == "taken"), "{}: {told:?}", row["from"]);
        }
    }
}

#[test]
fn what_is_wrapped_is_refused_without_its_values() {
    let inner = json!({"v": 1, "call_id": "c", "tenant": "acme", "tool": "t", "colour": "hunter2"});
    let wrapped = json!({"Type": "Notification", "Message": inner.to_string(), "TopicArn": "hunter2"});
    for body in [
        wrapped.to_string(),
        json!({"detail-type": "hunter2", "detail": "hunter2"}).to_string(),
        json!({"Records": [{"eventSource": "aws:hunter2"}]}).to_string(),
        json!({"Records": ["hunter2"]}).to_string(),
        json!({"specversion": "1.0", "data": ["hunter2"]}).to_string(),
        json!({"body": "hunter2", "isBase64Encoded": true}).to_string(),
        json!(["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "hunter2"}])
            .to_string(),
    ] {
        let told = CallRequest::decode(&body).unwrap_err().error.to_string();
        assert!(!told.contains("hunter2"), "{body}: {told}");
    }
}

#[test]
fn the_trace_that_sns_wrapped_is_found_in_the_body() {
    let attributes =
        json!({"traceparent": {"Type": "String", "Value": "00-1-2-01"}, "long": {"Value": "x".repeat(513)}});
    let body = format!(
        r#"{{"Type":"Notification","MessageId":"0b7c2c1a-93cf-5a1e-8a6b","MessageAttributes":{attributes}}}"#
    );
    assert_eq!(sns_attribute(&body, "traceparent").as_deref(), Some("00-1-2-01"));
    for (body, name) in
        [(body.as_str(), "tracestate"), (&body, "long"), (&body[1..], "traceparent"), ("{}", "traceparent")]
    {
        assert_eq!(sns_attribute(body, name), None);
    }
}

#[test]
fn a_body_that_is_too_large_is_not_opened() {
    let body = format!("\"{}\"", "x".repeat(MAX_BODY_BYTES));
    assert!(CallRequest::decode(&body).unwrap_err().error.problem.contains("at most"));
}

#[test]
fn arguments_as_a_text_have_the_same_digest() {
    let of = |arguments: &str| {
        let body = format!(r#"{{"v":1,"call_id":"c","tenant":"acme","tool":"t"{arguments}}}"#);
        CallRequest::decode(&body).unwrap().digest
    };
    assert_eq!(of(r#","arguments":{"a":1}"#), of(r#","arguments":" {\"a\": 1} ""#));
    for nothing in ["", r#","arguments":null"#, r#","arguments":"""#, r#","arguments":"null""#] {
        assert_eq!(of(nothing), of(r#","arguments":{}"#), "{nothing}");
    }
}
