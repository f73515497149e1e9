use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    let mut out = String::new();
    Node::parse(text).unwrap().write(Spelling::Exact, &mut out);
    out
}

#[test]
fn numbers_are_written_as_rfc_8785_writes_them() {
    // The samples of RFC 8785, appendix B, that are exact or shortest decimals.
    for (written, expected) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e999999999999999999", "0"),
        ("5e-324", "5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("9007199254740992", "9007199254740992"),
        ("295147905179352830000", "295147905179352830000"),
        ("999999999999999700000", "999999999999999700000"),
        ("1e21", "1e+21"),
        ("1e+20", "100000000000000000000"),
        ("9.999999999999997e22", "9.999999999999997e+22"),
        ("333333333.33333329", "333333333.33333329"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("-0.0000033333333333333333", "-0.0000033333333333333333"),
        ("1424953923781206.2", "1424953923781206.2"),
        ("1", "1"),
        ("1.0", "1"),
        ("1e0", "1"),
        ("10e-1", "1"),
        ("-1.50E+1", "-15"),
        ("100", "100"),
        ("1E400", "1e+400"),
    ] {
        assert_eq!(number(written), expected, "{written}");
    }
}

#[test]
fn numbers_that_one_double_stands_for_stay_two() {
    assert_ne!(canonical("123456789012345678901"), canonical("123456789012345678999"));
    assert_ne!(canonical("[0.1]"), canonical("[0.1000000000000000055511151231257827]"));
    assert_ne!(canonical("9007199254740993"), canonical("9007199254740992.0"));
    assert_ne!(canonical("1e400"), canonical("1e401"));
    assert_ne!(canonical("1e-400"), canonical("0"));
}

#[test]
fn an_exponent_without_bound_is_refused_and_costs_nothing() {
    assert_eq!(canonical("1e999999999999999999").len(), 21);
    let problem = Node::parse(r#"{"n": 1e9999999999999999999}"#).unwrap_err();
    assert!(problem.contains("exponent") && problem.contains("byte 27"), "{problem}");
}

#[test]
fn keys_are_sorted_and_texts_keep_what_they_mean() {
    assert_eq!(canonical(r#"{ "b" : [1 , 2], "a": {"é":null}}"#), r#"{"a":{"é":null},"b":[1,2]}"#);
    assert_eq!(canonical(r#""\u0041\/\u000a\u00e9\ud83d\ude00\u001f""#), "\"A/\\né😀\\u001f\"");
    assert_eq!(canonical(r#"{"\u0062":1,"a":2}"#), r#"{"a":2,"b":1}"#);
    assert_eq!(canonical(r#"["\uD800x","\uDC00\uD800"]"#), r#"["\ud800x","\udc00\ud800"]"#);
    assert_ne!(canonical(r#""\ud800""#), canonical(r#""\ufffd""#));
}

#[test]
fn a_key_that_stands_twice_is_no_key_that_stands_once() {
    assert_ne!(canonical(r#"{"a":1,"a":2}"#), canonical(r#"{"a":2}"#));
    assert_ne!(canonical(r#"{"a":1,"a":2}"#), canonical(r#"{"a":2,"a":1}"#));
}

#[test]
fn what_is_no_json_or_too_deep_is_refused_by_place() {
    for text in ["", "{", "[1", "{\"a\"}", "{\"a\":1", "\"a", "nul", "1 2", "[1,]", "{\"a\":1,}", "\"\\"] {
        assert!(Node::parse(text).is_err(), "{text}");
    }
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    assert!(Node::parse(&deep).unwrap_err().contains("128 levels"));
}

#[test]
fn the_earlier_spelling_of_numbers_is_told_from_this_one() {
    let had = |text: &str| Node::parse(text).unwrap().differs_by_double();
    assert!(had("[1.0]") && had("{\"a\":1e2}") && had("-0") && had("1e16"));
    assert!(had("123456789012345678901") && had("0.1000000000000000055"), "a double cut them");
    assert!(!had("[1, 0.5, 1e-7, \"1.0\"]"), "the same in both");
}

/// A number by its parts, so that what it is can be said without a double.
fn spelled() -> impl Strategy<Value = (String, (bool, String, i64))> {
    ("-?", "0|[1-9][0-9]{0,24}", "(\\.[0-9]{1,24})?", "([eE][+-]?[0-9]{1,4})?").prop_map(
        |(sign, whole, fraction, exponent)| {
            let text = format!("{sign}{whole}{fraction}{exponent}");
            let fraction = fraction.trim_start_matches('.');
            let exponent: i64 = exponent.trim_start_matches(['e', 'E']).parse().unwrap_or(0);
            let all = format!("{whole}{fraction}");
            let digits = all.trim_start_matches('0').trim_end_matches('0').to_owned();
            let trailing = all.trim_start_matches('0').len() - digits.len();
            let lowest = exponent - fraction.len() as i64 + trailing as i64;
            let value = if digits.is_empty() { (false, digits, 0) } else { (sign == "-", digits, lowest) };
            (text, value)
        },
    )
}

proptest! {
    #[test]
    fn two_numbers_are_written_alike_if_and_only_if_they_are_equal((a, of_a) in spelled(), (b, of_b) in spelled()) {
        prop_assert_eq!(number(&a) == number(&b), of_a == of_b, "{} {}", a, b);
        // Another spelling of the same.
        let (negative, digits, lowest) = of_a;
        let sign = if negative { "-" } else { "" };
        let again = if digits.is_empty() { "0.00e7".to_owned() } else { format!("{sign}{digits}00E{}", lowest - 2) };
        let (canonical, again) = (number(&a).into_owned(), number(&again).into_owned());
        prop_assert_eq!(&canonical, &again);
        prop_assert_eq!(number(&canonical).into_owned(), canonical);
    }

    #[test]
    fn a_number_that_a_double_keeps_is_written_as_the_double_is(double in any::<f64>().prop_filter("finite", |d| d.is_finite())) {
        let canonical = number(&format!("{double:?}")).into_owned();
        prop_assert_eq!(canonical.parse::<f64>().unwrap(), double);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}\",:0-9eE+\\-.\\\\untralsef é]{0,40}") {
        if let Ok(node) = Node::parse(&text) {
            let _either = node.differs_by_double();
            node.write(Spelling::Exact, &mut String::new());
        }
    }
}
