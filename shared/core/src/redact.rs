//! Redacts secrets in texts that others wrote, before they go into a log, a row or an audit record.
//!
//! Two things never come from here: the value of a key that names a secret, and a text in the form of a credential.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The replacement of a secret.
pub const REDACTED: &str = "[redacted]";

/// Parts of names whose values are secrets, without what is no letter or digit.
const SECRET_WORDS: [&str; 15] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "authorization",
    "credential",
    "privatekey",
    "accesskey",
    "cookie",
    "sessionkey",
    "signature",
    "ssn",
];
/// Names that are secrets as a whole, and parts of many that are not.
const SECRET_NAMES: [&str; 8] = ["pwd", "auth", "pin", "otp", "cvv", "cvc", "jwt", "bearer"];

/// A longer key is not shown: whatever it is, it is no name that somebody gave to a parameter.
const KEY_CHARS: usize = 40;

/// Whether a parameter, member, header or variable of that name holds a secret.
pub fn names_a_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_NAMES.contains(&plain.as_str()) || SECRET_WORDS.iter().any(|word| plain.contains(word))
}

/// The key itself, unless it may be a value: a map can be keyed by a token or an address.
pub fn key(text: &str) -> Option<&str> {
    let fits = |c: char| c.is_alphanumeric() || " _-.$".contains(c);
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let kinds: Vec<bool> = text.chars().filter(|c| c.is_alphanumeric()).map(|c| c.is_ascii_digit()).collect();
    let turns = kinds.windows(2).filter(|two| matches!(two, [a, b] if a != b)).count();
    let starts = text.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '$');
    let name =
        starts && text.chars().count() <= KEY_CHARS && text.chars().all(fits) && digits <= 3 && turns <= 2;
    (name && !is_a_credential(text)).then_some(text)
}

/// A word for an error: the text itself where it is a plain name, else how long it is.
pub fn quoted(text: &str) -> String {
    match key(text) {
        Some(text) => format!("`{text}`"),
        None => format!("a text of {} characters", text.chars().count()),
    }
}

/// Whether a text as a whole has the form of a credential.
pub fn is_a_credential(value: &str) -> bool {
    let start = value.trim_start().to_ascii_lowercase();
    start.starts_with("bearer ")
        || start.starts_with("basic ")
        || value.contains("-----BEGIN ")
        || [&FORMS.jwt, &FORMS.known].into_iter().any(|form| form.is_match(value))
}

/// The text without what has the form of a credential: name and value pairs, `Authorization`, `Bearer` and `Basic`, cookies, what
/// stands before `@` and after `?` in an address, JWTs, PEM blocks, and keys that their givers mark (`sk-..`, `ghp_..`).
pub fn text(text: &str) -> Cow<'_, str> {
    if !FORMS.any.is_match(text) {
        return Cow::Borrowed(text);
    }
    let mut seen = Cow::Borrowed(text);
    for (form, replacement) in [
        (&FORMS.pem, REDACTED),
        (&FORMS.header, "${1}[redacted]"),
        (&FORMS.cookie, "${1}[redacted]"),
        (&FORMS.user_info, "${1}[redacted]@"),
        (&FORMS.query, "${1}?[redacted]"),
        (&FORMS.jwt, REDACTED),
        (&FORMS.known, REDACTED),
    ] {
        seen = replaced(seen, |text| form.replace_all(text, replacement));
    }
    seen = replaced(seen, |text| FORMS.scheme.replace_all(text, without_scheme_value));
    seen = replaced(seen, |text| FORMS.pair.replace_all(text, without_pair_value));
    replaced(seen, |text| FORMS.option.replace_all(text, "${1}[redacted]"))
}

fn replaced<'a>(text: Cow<'a, str>, replace: impl Fn(&str) -> Cow<'_, str>) -> Cow<'a, str> {
    match replace(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(new) => Cow::Owned(new),
    }
}

/// Words that follow `Bearer` or the name of a secret in a sentence about it.
const SENTENCE: [&str; 45] = [
    "a",
    "an",
    "and",
    "are",
    "auth",
    "authentication",
    "authorization",
    "bad",
    "belongs",
    "cannot",
    "credential",
    "credentials",
    "error",
    "expected",
    "expired",
    "false",
    "for",
    "has",
    "header",
    "in",
    "invalid",
    "is",
    "missing",
    "must",
    "no",
    "none",
    "not",
    "null",
    "of",
    "realm",
    "rejected",
    "required",
    "revoked",
    "scheme",
    "scope",
    "stands",
    "the",
    "to",
    "token",
    "tokens",
    "true",
    "unknown",
    "was",
    "with",
    "wrong",
];

fn is_of_a_sentence(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_lowercase();
    word.is_empty() || SENTENCE.contains(&word.as_str())
}

fn without_scheme_value(found: &Captures<'_>) -> String {
    let part = |name: &str| found.name(name).map_or("", |part| part.as_str());
    let (scheme, value) = (part("scheme"), part("value"));
    let english =
        scheme.eq_ignore_ascii_case("basic") && value.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    if is_of_a_sentence(value) || english {
        return part("all").to_owned();
    }
    format!("{scheme} {REDACTED}")
}

fn without_pair_value(found: &Captures<'_>) -> String {
    let part = |name: &str| found.name(name).map_or("", |part| part.as_str());
    let (name, value) = (part("name"), part("value"));
    let bare = !value.starts_with(['"', '\'', '\\']);
    // `secret://name` is a place, and `max_tokens: 100` a count.
    let place = value.starts_with("//");
    let count = name.to_ascii_lowercase().ends_with("tokens") && value.chars().all(|c| c.is_ascii_digit());
    if bare && (place || count || value.starts_with("[redacted") || is_of_a_sentence(value)) {
        return part("all").to_owned();
    }
    let quote =
        if value.starts_with("\\\"") { "\\\"" } else { value.get(..1).filter(|_| !bare).unwrap_or("") };
    format!("{}{quote}{REDACTED}{quote}", part("before"))
}

struct Forms {
    any: Regex,
    pem: Regex,
    header: Regex,
    cookie: Regex,
    user_info: Regex,
    query: Regex,
    jwt: Regex,
    known: Regex,
    scheme: Regex,
    pair: Regex,
    option: Regex,
}

static FORMS: LazyLock<Forms> = LazyLock::new(|| {
    let jwt = r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)*";
    // A class of Unicode in a repetition of thirty takes megabytes.
    let known = r"(?-u:\b)(?:(?:sk|pk|rk)[-_](?:live|test|proj|ant)[-_][A-Za-z0-9_-]+|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{16,}|xox[abeprs]-[A-Za-z0-9_-]{8,}|A(?:KIA|SIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{8,}|hf_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,})";
    let words = r"pass-?_?word|passwd|passphrase|passcode|secret|token|api[-_ ]?key|authorization|credential|private[-_ ]?key|access[-_ ]?key|session[-_ ]?key|signature|cookie|\bssn|\bpwd|\bpin|\botp|\bcvv|\bjwt|\bauth|subscription[-_ ]?key|account[-_ ]?key";
    Forms {
        any: form(&format!(r"(?i)[:=@?]|-----BEGIN |\bbearer|\bbasic|--?[a-z]|{jwt}|{known}")),
        pem: form(r"-----BEGIN [A-Z0-9 ]+-----[\s\S]*?(?:-----END [A-Z0-9 ]+-----|$)"),
        header: form(
            r#"(?i)\b((?:proxy-)?authorization\\?["']?\s*[:=]\s*\\?["']?)(?:(?:bearer|basic|digest|negotiate|token|apikey|aws4-hmac-sha256)\s+)?[^\s"'\\,}]+"#,
        ),
        cookie: form(r#"(?i)\b((?:set-)?cookie\\?["']?\s*[:=]\s*\\?["']?)[^\r\n"'\\}=]*=[^\r\n"'\\}]*"#),
        user_info: form(r#"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@"'<>]+@"#),
        query: form(r#"(?i)\b(https?://[^\s?#"'<>]*|wss?://[^\s?#"'<>]*)\?[^\s"'<>]+"#),
        jwt: form(jwt),
        known: form(known),
        scheme: form(r"(?i)(?P<all>\b(?P<scheme>bearer|basic)\s+(?P<value>[A-Za-z0-9._~+/=-]+))"),
        pair: form(&format!(
            r#"(?i)(?P<all>(?P<before>(?P<name>[A-Za-z0-9_.-]*(?:{words})s?)\\?["'`]?\s*(?:=>|[:=])\s*)(?P<value>\\"(?:[^"\\]|\\[^"])*(?:\\")?|"(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,;&"'`}}\])]+))"#
        )),
        option: form(r#"(?i)(\s--?[a-z-]*(?:token|password|passwd|secret|api-?key)[ =])[^\s"']+"#),
    }
});

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test uses each")]
fn form(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_in_any_form_does_not_stay_in_a_text() {
        for (given, expected) in [
            ("login failed: password=hunter2", "login failed: password=[redacted]"),
            ("password: hunter2, user: bo", "password: [redacted], user: bo"),
            (r#"{"token": "hunter2", "n": 1}"#, r#"{"token": "[redacted]", "n": 1}"#),
            (r#"got {\"client_secret\":\"hunter2\"}"#, r#"got {\"client_secret\":\"[redacted]\"}"#),
            ("api_key: 'hunter2' is wrong", "api_key: '[redacted]' is wrong"),
            ("X-Api-Key => hunter2", "X-Api-Key => [redacted]"),
            ("Authorization: Bearer hunter2", "Authorization: [redacted]"),
            (r#""authorization":"Token hunter2""#, r#""authorization":"[redacted]""#),
            ("sent Bearer hunter2 to it", "sent Bearer [redacted] to it"),
            ("tried Basic aHVudGVyMg== twice", "tried Basic [redacted] twice"),
            ("Cookie: sid=hunter2; theme=hunter2", "Cookie: [redacted]"),
            ("GET https://u:hunter2@h/x failed", "GET https://[redacted]@h/x failed"),
            ("postgres://app:hunter2@db/x", "postgres://[redacted]@db/x"),
            ("https://h/mcp?key=hunter2&x=1 is away", "https://h/mcp?[redacted] is away"),
            ("a eyJhbGciOi.eyJzdWIiOiI.hunter2 b", "a [redacted] b"),
            ("sk-live-hunter2 is not known", "[redacted] is not known"),
            ("ran git clone --token hunter2", "ran git clone --token [redacted]"),
            ("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY----- x", "[redacted] x"),
        ] {
            assert_eq!(text(given), expected);
        }
    }

    #[test]
    fn a_sentence_about_a_secret_stays_as_it_is() {
        for given in [
            "arguments/token: is not of type \"string\"",
            "servers.crm.auth.token: is not a reference; write `secret://name`",
            "secret://crm/token: no such secret",
            "The Bearer token is missing or expired: a basic plan is not enough",
            "Bearer realm=\"x\", error=\"invalid_token\", scope=\"a b\"",
            "token: expired",
            "max_tokens: 4096 is too many",
            "HTTP 500: oops at 10:15, see http://h/status",
            "author: somebody, tokenizer: bpe",
        ] {
            assert_eq!(text(given), given);
        }
    }

    #[test]
    fn a_key_that_may_be_a_value_is_not_shown() {
        for name in [
            "city",
            "address_line_1",
            "Access-Token",
            "$filter",
            "First Name",
            "sha256",
            "straße",
            "order.id",
        ] {
            assert_eq!(key(name), Some(name));
        }
        for value in [
            "bo@example.com",
            "4111111111111111",
            "9f86d081884c7d65",
            "sk-live-abc",
            "a b\n",
            "",
            "ghp_0123456789abcdefghij",
            "x".repeat(41).as_str(),
            "eyJhbGciOi.eyJzdWIiOiI",
        ] {
            assert_eq!(key(value), None, "{value}");
        }
    }
}
