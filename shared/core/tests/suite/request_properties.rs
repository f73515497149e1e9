//! Properties of the request's decoder over generated messages.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use toolfleet_core::request::{CallRequest, MAX_BODY_BYTES};

/// Any JSON value of a few levels.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("\\PC{0,6}", inner), 0..4).prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    vec(("\\PC{0,6}", value()), 0..4).prop_map(|members| members.into_iter().collect())
}

/// A request that keeps every rule, with any choice of its fields.
fn request() -> impl Strategy<Value = Map<String, Value>> {
    let call = prop_oneof![
        "[A-Za-z0-9:@-]{1,40}".prop_map(|id| ("call_id", id)),
        "\\PC{1,40}".prop_map(|key| ("idempotency_key", key))
    ];
    let target = prop_oneof![
        "[a-z0-9.@/-]{1,20}".prop_map(|tool| json!({"tool": tool})),
        ("[a-z]{1,8}", "[a-z]{1,8}").prop_map(|(tool, function)| json!({"tool": tool, "function": function})),
        ("[a-z0-9-]{1,20}", "\\PC{1,20}").prop_map(|(server, name)| json!({"server": server, "name": name})),
    ];
    let user =
        ("\\PC{0,12}", vec("\\PC{0,8}", 0..3)).prop_map(|(id, roles)| json!({"id": id, "roles": roles}));
    let optional = [
        ("session", "[a-z0-9-]{1,20}".prop_map(Value::from).boxed()),
        ("user", user.boxed()),
        ("agent", "\\PC{0,20}".prop_map(Value::from).boxed()),
        (
            "group",
            (1..=1000_u32)
                .prop_map(
                    |size| json!({"id": "g", "index": size / 2, "size": size, "policy": {"tolerate": "5%"}}),
                )
                .boxed(),
        ),
        ("timeout_ms", (1..=u64::from(u32::MAX)).prop_map(Value::from).boxed()),
        ("priority", prop_oneof![Just("high"), Just("normal"), Just("low")].prop_map(Value::from).boxed()),
        ("retry", (1..=100_u32).prop_map(|most| json!({"max_attempts": most})).boxed()),
        ("idempotent", any::<bool>().prop_map(Value::from).boxed()),
        ("cache", any::<bool>().prop_map(Value::from).boxed()),
        ("reply", "\\PC{1,20}".prop_map(|url| json!({"sqs_queue_url": url})).boxed()),
    ];
    let optional: Vec<_> = optional
        .into_iter()
        .map(|(name, value)| proptest::option::of(value).prop_map(move |value| (name, value)))
        .collect();
    (call, target, object(), optional).prop_map(|((field, text), target, arguments, optional)| {
        let mut request = Map::from_iter([("v".to_owned(), json!(1)), ("tenant".to_owned(), json!("acme"))]);
        request.insert(field.to_owned(), json!(text));
        request.extend(target.as_object().cloned().unwrap_or_default());
        request.insert("arguments".to_owned(), arguments);
        let given = optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        request.extend(given);
        request
    })
}

fn text(request: &Map<String, Value>) -> String {
    Value::Object(request.clone()).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_survives_encoding(request in request()) {
        let first = CallRequest::decode(&text(&request)).expect("a request that keeps every rule");
        let again = CallRequest::decode(&first.encode()).expect("an encoded request");
        prop_assert_eq!(format!("{first:?}"), format!("{again:?}"));
        prop_assert_eq!(first.arguments.get(), request["arguments"].to_string());
    }

    #[test]
    fn the_digest_is_of_the_question_and_not_of_its_spelling(request in request()) {
        let first = CallRequest::decode(&text(&request)).expect("a request");
        let pretty = serde_json::to_string_pretty(&Value::Object(request.clone())).expect("JSON");
        let turned = Value::Object(request["arguments"].as_object().cloned().unwrap_or_default().into_iter().rev().collect());
        let turned = text(&Map::from_iter(request.clone().into_iter().map(|(name, value)| {
            let value = if name == "arguments" { turned.clone() } else { value };
            (name, value)
        })));
        for same in [pretty, turned] {
            prop_assert_eq!(&CallRequest::decode(&same).expect("the same request").digest, &first.digest);
        }
        let mut other = request;
        other.insert("arguments".to_owned(), json!({"another question": true}));
        prop_assert_ne!(&CallRequest::decode(&text(&other)).expect("a request").digest, &first.digest);
    }

    #[test]
    fn an_unknown_field_is_refused_by_its_name(request in request(), name in "x[a-z]{9,12}", value in value()) {
        let mut wrong = request;
        wrong.insert(name.clone(), value);
        let error = CallRequest::decode(&text(&wrong)).expect_err("an unknown field").error;
        let expected = format!("unknown field `{name}`");
        prop_assert!(error.to_string().contains(&expected), "{}", error);
    }

    #[test]
    fn another_spelling_of_a_field_suggests_the_right_one(request in request(), upper in any::<bool>()) {
        for name in ["tenant", "arguments"] {
            let mut wrong = request.clone();
            let value = wrong.remove(name).unwrap_or_default();
            wrong.insert(if upper { name.to_ascii_uppercase() } else { name.replacen('e', "ee", 1) }, value);
            let error = CallRequest::decode(&text(&wrong)).expect_err("a misspelt field").error.to_string();
            let expected = format!("did you mean `{name}`?");
            prop_assert!(error.contains(&expected), "{}", error);
        }
    }

    #[test]
    fn a_wrong_value_in_any_field_never_panics(request in request(), at in any::<prop::sample::Index>(), value in value()) {
        let mut changed = request;
        let name = at.get(&changed.keys().cloned().collect::<Vec<_>>()).clone();
        changed.insert(name, value);
        let body = text(&changed);
        if let Ok(request) = CallRequest::decode(&body) {
            prop_assert!(CallRequest::decode(&request.encode()).is_ok());
        }
    }

    #[test]
    fn a_damaged_message_never_panics(request in request(), at in any::<prop::sample::Index>(), piece in "\\PC{0,3}|[{}\\[\\]\",:\\\\]{1,3}", cut in 0..9_usize) {
        let body: Vec<char> = text(&request).chars().collect();
        let at = at.index(body.len());
        let rest = body.iter().skip(at.saturating_add(cut));
        let damaged: String = body.iter().take(at).copied().chain(piece.chars()).chain(rest.copied()).collect();
        for text in [&damaged, &damaged[..damaged.floor_char_boundary(at)]] {
            if let Err(malformed) = CallRequest::decode(text) {
                prop_assert!(!malformed.error.problem.is_empty());
            }
        }
    }

    #[test]
    fn any_text_is_decoded_or_refused_without_a_panic(body in "\\PC{0,200}|[{}\\[\\]\",:0-9a-z ]{0,80}", wrapped in value()) {
        let _any_result = CallRequest::decode(&body);
        let _any_result = CallRequest::decode(&wrapped.to_string());
        let wrapped = json!({"Type": "Notification", "Message": body, "Records": wrapped});
        prop_assert!(CallRequest::decode(&wrapped.to_string()).is_err());
    }
}

proptest! {
    // A megabyte is decoded each time.
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_body_beyond_the_bound_is_refused_with_its_size(request in request(), over in 1..100_usize) {
        let mut large = request;
        let rest = text(&large).len();
        large.insert("arguments".to_owned(), json!({"a": "x".repeat(MAX_BODY_BYTES.saturating_add(over).saturating_sub(rest))}));
        let mut body = text(&large);
        body.extend(std::iter::repeat_n(' ', MAX_BODY_BYTES.saturating_sub(body.len())));
        if body.len() > MAX_BODY_BYTES {
            let error = CallRequest::decode(&body).expect_err("a body beyond the bound").error.to_string();
            let expected = format!("body: has {} bytes; accepted are at most {MAX_BODY_BYTES}", body.len());
            prop_assert_eq!(error, expected);
        } else {
            prop_assert!(CallRequest::decode(&body).is_ok());
        }
    }
}
