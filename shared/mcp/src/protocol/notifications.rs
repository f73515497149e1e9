//! Reads the notifications that a server sends during a call: progress and log messages.
//!
//! **Invariant:** each text is scrubbed of our credentials first and shortened after that.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use toolfleet_core::progress::{Amount, LEVEL_CHARS, LogLine, Progress, ProgressNote, TEXT_CHARS};
use toolfleet_core::surrogate::replace_lone_surrogates;
use toolfleet_egress::sanitize_text_to;

use crate::endpoint::Endpoint;
use crate::protocol::frame::number_in;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProgressParams<'a> {
    #[serde(borrow)]
    progress_token: &'a RawValue,
    progress: f64,
    #[serde(default)]
    total: Option<f64>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct LogParams<'a> {
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow, default)]
    logger: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What a notification tells of the request `id`, if it is one of the two that do, and can be read.
pub(crate) fn note(method: &str, params: &RawValue, id: u64, endpoint: &Endpoint) -> Option<ProgressNote> {
    // A derived struct would also be read from an array.
    if !params.get().starts_with('{') {
        return None;
    }
    match method {
        "notifications/progress" => progress(params, id, endpoint),
        "notifications/message" => log(params, endpoint),
        _ => None,
    }
}

fn progress(params: &RawValue, id: u64, endpoint: &Endpoint) -> Option<ProgressNote> {
    let params = replace_lone_surrogates(params.get());
    let told: ProgressParams<'_> = serde_json::from_str(&params).ok()?;
    if number_in(told.progress_token) != Some(id) {
        return None;
    }
    let message = told.message.map(|text| line(text.into_owned(), endpoint)).filter(|text| !text.is_empty());
    let total = told.total.and_then(Amount::new);
    Some(ProgressNote::Progress(Progress { progress: Amount::new(told.progress)?, total, message }))
}

fn log(params: &RawValue, endpoint: &Endpoint) -> Option<ProgressNote> {
    let params = replace_lone_surrogates(params.get());
    let told: LogParams<'_> = serde_json::from_str(&params).ok()?;
    let data = serde_json::from_str(told.data.get()).unwrap_or_else(|_| told.data.get().to_owned());
    let text = match told.logger.filter(|logger| !logger.is_empty()) {
        Some(logger) => format!("{logger}: {data}"),
        None => data,
    };
    let level = told.level.chars().filter(char::is_ascii_alphabetic).take(LEVEL_CHARS).collect();
    Some(ProgressNote::Log(LogLine { level, text: line(text, endpoint) }))
}

/// One short line without our credentials: a credential that was cut in half would no longer be recognised.
pub(crate) fn line(text: String, endpoint: &Endpoint) -> String {
    sanitize_text_to(&endpoint.text_without_echo(text), TEXT_CHARS)
}

#[cfg(test)]
mod tests {
    use toolfleet_core::ids::ServerId;

    use super::*;

    fn endpoint() -> Endpoint {
        let mut headers = http::HeaderMap::new();
        let mut secret = http::HeaderValue::from_static("Bearer sk-live-12345");
        secret.set_sensitive(true);
        headers.insert("authorization", secret);
        let (server, url) = (ServerId::parse("s").unwrap(), "https://example.com/mcp".parse().unwrap());
        Endpoint {
            server,
            url,
            headers,
            auth: None,
            tenant: None,
            transport: crate::endpoint::EndpointTransport::Http,
        }
    }

    fn told(method: &str, params: &str) -> Option<ProgressNote> {
        note(method, &RawValue::from_string(params.to_owned()).unwrap(), 7, &endpoint())
    }

    fn logged(params: &str) -> String {
        match told("notifications/message", params) {
            Some(ProgressNote::Log(line)) => format!("{} {}", line.level, line.text),
            other => panic!("a log line, not {other:?}"),
        }
    }

    #[test]
    fn progress_of_this_very_request_is_read_and_no_other() {
        let amount = |number| Amount::new(number).unwrap();
        let expected = Progress {
            progress: amount(0.5),
            total: Some(amount(2.0)),
            message: Some("half way".to_owned()),
        };
        let text = r#"{"progressToken":7,"progress":0.5,"total":2,"message":"half\n way","x":1}"#;
        assert_eq!(told("notifications/progress", text), Some(ProgressNote::Progress(expected.clone())));
        let as_text = text.replace("7", "\"7\"").replace("half", "half\\ud800");
        let message = Some("half\u{fffd} way".to_owned());
        let mended = Progress { message, ..expected };
        assert_eq!(told("notifications/progress", &as_text), Some(ProgressNote::Progress(mended)));
        for other in [
            r#"{"progressToken":8,"progress":1}"#,
            r#"{"progressToken":"7x","progress":1}"#,
            r#"{"progress":1}"#,
            r#"{"progressToken":7,"progress":"much"}"#,
            r#"{"progressToken":7,"progress":1e300}"#,
            "[7,1]",
        ] {
            assert_eq!(told("notifications/progress", other), None, "{other}");
        }
        assert_eq!(told("notifications/tools/list_changed", "{}"), None);
    }

    #[test]
    fn a_log_line_is_text_or_json_with_its_logger_and_short() {
        assert_eq!(logged(r#"{"level":"info","data":"two\nlines"}"#), "info two lines");
        assert_eq!(
            logged(r#"{"level":"warning","logger":"db","data":{"a":[1, 2]}}"#),
            r#"warning db: {"a":[1, 2]}"#
        );
        assert_eq!(logged(r#"{"level":"in: fo\n","data":null}"#), "info null");
        let long = format!(r#"{{"level":"info","data":"{}"}}"#, "x".repeat(100_000));
        assert!(logged(&long).chars().count() < 200);
    }

    #[test]
    fn a_credential_is_in_no_note_even_where_a_note_is_cut() {
        let params = format!(r#"{{"level":"info","data":"{}sk-live-12345"}}"#, "x".repeat(TEXT_CHARS - 8));
        assert!(!logged(&params).contains("sk-"), "{}", logged(&params));
        let text = r#"{"progressToken":7,"progress":1,"message":"as Bearer sk-live-12345"}"#;
        let Some(ProgressNote::Progress(progress)) = told("notifications/progress", text) else {
            panic!("progress")
        };
        assert_eq!(progress.message.unwrap(), "as [redacted]");
    }
}
