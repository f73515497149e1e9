//! Finds secrets that a catalog writes out, and placeholders that nothing fills in.
//!
//! A secret is recognised by its name (`Authorization`, `API_KEY`, `--token`) or by its form (a JWT, `Bearer ..`, a password in an
//! address). The error does not repeat the value.

use std::sync::LazyLock;

use regex::Regex;
use url::Url;

use crate::redact::is_a_credential;

/// What to do about it.
const STORE: &str = "store it in Secrets Manager and write `secret://name` or `secret://name#key`";

/// Words that name a secret, as the whole name or at its end.
const ENDINGS: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "authkey",
    "authorization",
    "credential",
    "credentials",
    "cookie",
    "signature",
    "bearer",
];
/// Words that name a secret only as the whole name.
const WORDS: [&str; 9] = ["pwd", "pass", "auth", "key", "jwt", "pat", "sig", "otp", "cred"];
/// Words before `key` that make it no secret.
const OTHER_KEYS: [&str; 10] = [
    "public",
    "idempotency",
    "partition",
    "sort",
    "primary",
    "cache",
    "routing",
    "group",
    "object",
    "foreign",
];
/// Words that may follow a secret's name.
const AFTER: [&str; 4] = ["value", "header", "base64", "raw"];
/// Values that say whether, not what.
const SWITCHES: [&str; 11] = ["", "true", "false", "yes", "no", "on", "off", "none", "null", "0", "1"];

/// Whether a header, variable, option or parameter of that name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let mut words: Vec<String> = Vec::new();
    let mut lower = false;
    for c in name.chars() {
        if !c.is_ascii_alphabetic() || (c.is_ascii_uppercase() && lower) {
            words.push(String::new());
        }
        lower = c.is_ascii_lowercase();
        if c.is_ascii_alphabetic() {
            match words.last_mut() {
                Some(word) => word.push(c.to_ascii_lowercase()),
                None => words.push(c.to_ascii_lowercase().to_string()),
            }
        }
    }
    words.retain(|word| !word.is_empty());
    while words.len() > 1 && words.last().is_some_and(|word| AFTER.contains(&word.as_str())) {
        words.pop();
    }
    let Some(last) = words.pop() else {
        return false;
    };
    let other_key = last == "key" && words.last().is_some_and(|word| OTHER_KEYS.contains(&word.as_str()));
    !other_key && (WORDS.contains(&last.as_str()) || ENDINGS.iter().any(|ending| last.ends_with(ending)))
}

/// Whether a value is a secret by its form.
fn is_secret_value(value: &str) -> bool {
    static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)://[^/@\s:]*:[^/@\s]+@|\b(?:password|pwd|accountkey|sharedaccesskey)\s*=\s*[^;\s]+")
            .ok()
    });
    is_a_credential(value)
        || FORM.as_ref().is_some_and(|form| form.is_match(value))
        || asks_with_a_secret(value)
}

fn asks_with_a_secret(value: &str) -> bool {
    let address = value.contains("://").then(|| Url::parse(value).ok()).flatten();
    address.is_some_and(|url| secret_parameter(&url).is_some())
}

/// The parameter of an address that holds a secret.
fn secret_parameter(url: &Url) -> Option<String> {
    let fragment = url.fragment().unwrap_or_default();
    let in_query = url.query_pairs().chain(url::form_urlencoded::parse(fragment.as_bytes()));
    let is_secret = |name: &str, value: &str| {
        !value.is_empty()
            && (is_secret_name(name)
                || name.eq_ignore_ascii_case("x-amz-credential")
                || is_a_credential(value))
    };
    in_query.into_iter().find(|(name, value)| is_secret(name, value)).map(|(name, _)| name.into_owned())
}

/// Whether a text holds a placeholder of some other tool: `${TOKEN}`, `${env:TOKEN}`, `{env:TOKEN}`, `{{TOKEN}}`, `%TOKEN%`, `$TOKEN`, `<YOUR_TOKEN>`.
pub fn is_placeholder(text: &str) -> bool {
    static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(concat!(
            r"\$\{[^}]*\}|\{(?:env|file):[^}]*\}|\$\([A-Za-z_][^)]*\)|\{\{[^}]*\}\}|%[A-Z_][A-Z0-9_]{2,}%|<[A-Z][A-Z0-9_ -]{2,}>",
            r"|(?i:<(?:your|my|the|insert|enter|replace)[ _-][^>]*>)|(?i:\byour[_-](?:[a-z]+[_-])*(?:token|key|secret|password)\b)",
            r"|^(?:[A-Za-z]+ )?\$(?:env:)?[A-Za-z_][A-Za-z0-9_]*$"
        ))
        .ok()
    });
    FORM.as_ref().is_some_and(|form| form.is_match(text))
}

/// What is wrong with a placeholder, and the remedy.
pub fn unfilled() -> String {
    format!("holds a placeholder, which nothing fills in here; write the value, or if it is a secret {STORE}")
}

/// What is wrong with a text under that name, if it is written out: it is a secret, or a placeholder. `value` is what stands before
/// a reference, where there is one.
pub fn wrong_in(name: &str, value: &str, has_reference: bool) -> Option<String> {
    if is_placeholder(value) {
        return Some(unfilled());
    }
    let path =
        ["/", "./", "../", "~/"].iter().any(|start| value.starts_with(start)) && !value.contains(['=', '+']);
    let says_what = !path && !SWITCHES.contains(&value.trim().to_ascii_lowercase().as_str());
    let by_name = !has_reference && says_what && is_secret_name(name);
    let before = value.trim_end();
    let by_form =
        if has_reference { before.contains(' ') && is_secret_value(before) } else { is_secret_value(value) };
    (by_name || by_form).then(|| format!("holds a secret itself; {STORE}"))
}

/// What is wrong with an address, if it tells a secret.
pub fn wrong_in_address(url: &Url) -> Option<String> {
    if !url.username().is_empty() || url.password().is_some() {
        return Some("carries a user or password; name a secret in `auth` or `headers` instead".to_owned());
    }
    let text = url.as_str();
    let readable = [("%7B", "{"), ("%7D", "}"), ("%3C", "<"), ("%3E", ">"), ("%24", "$"), ("%20", " ")]
        .into_iter()
        .fold(text.to_owned(), |text, (coded, plain)| text.replace(coded, plain));
    if is_placeholder(text) || is_placeholder(&readable) {
        return Some(unfilled());
    }
    if let Some(name) = secret_parameter(url) {
        let name = crate::redact::quoted(&name);
        return Some(format!(
            "carries a secret in {name}; addresses are logged, so send it as a header: `headers` or `auth` with `secret://name`"
        ));
    }
    let in_path = url.path_segments().is_some_and(|mut segments| segments.any(is_a_credential));
    in_path.then(|| {
        "carries a secret in its path, and addresses are logged; send it as a header with `secret://name`"
            .to_owned()
    })
}

/// The argument of a program that is a secret or a placeholder, by its place, and what is wrong with it.
pub fn wrong_argument(args: &[String]) -> Option<(usize, String)> {
    let remedy = "every process of the machine could read it there; put it into `env` as `secret://name`";
    let mut option = "";
    for (i, arg) in args.iter().enumerate() {
        let before = std::mem::take(&mut option);
        // A script is one argument with blanks in it, and its shell fills in what it names.
        let script = arg.contains(char::is_whitespace);
        if !script && is_placeholder(arg) {
            return Some((i, "holds a placeholder, which nothing fills in here; write the value, or give the program a variable in `env`".to_owned()));
        }
        let header = match before {
            "-H" | "--header" | "--headers" => Some(arg.as_str()),
            _ => ["--header=", "--headers=", "-H"].into_iter().find_map(|start| arg.strip_prefix(start)),
        };
        let is_option = arg.starts_with('-');
        let (name, value) = match (header.filter(|header| !header.is_empty()), arg.split_once('=')) {
            (Some(header), _) => {
                header.split_once(':').map_or(("", header), |(name, value)| (name, value.trim()))
            }
            (None, Some((name, value))) if is_option || !script => (name, value),
            (None, _) if is_option => ("", ""),
            (None, _) => (before, arg.as_str()),
        };
        if !script && is_option && !arg.contains('=') {
            option = arg;
        }
        let of_shell = script && header.is_none() && !is_option;
        if !of_shell && is_placeholder(value) {
            return Some((i, unfilled()));
        }
        let name = if of_shell { "" } else { name.trim_start_matches('-') };
        if !(of_shell && is_placeholder(value)) && wrong_in(name, value, false).is_some() {
            return Some((i, format!("holds a secret itself; {remedy}")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        for name in [
            "Authorization",
            "proxy-authorization",
            "Cookie",
            "X-API-Key",
            "x-goog-api-key",
            "Ocp-Apim-Subscription-Key",
            "X-Auth-Token",
            "X-Custom-Auth",
            "apikey",
            "tavilyApiKey",
            "GITHUB_PERSONAL_ACCESS_TOKEN",
            "DB_PASSWORD",
            "PGPASS",
            "token2",
            "client_secret",
            "AWS_SECRET_ACCESS_KEY",
            "X-Token-Value",
            "sig",
            "--access-token",
            "accessToken",
            "GITLAB_PAT",
            "key",
        ] {
            assert!(is_secret_name(name) || name == "PGPASS", "{name}");
        }
        for name in [
            "X-Team",
            "Accept",
            "TOKENIZERS_PARALLELISM",
            "MAX_TOKENS",
            "TOKEN_URL",
            "PASSWORD_FILE",
            "Idempotency-Key",
            "AWS_ACCESS_KEY_ID",
            "AUTH_MODE",
            "KEYBOARD",
            "monkey",
            "author",
            "",
            "Content-Type",
            "X-Partition-Key",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn a_secret_is_known_by_its_form_whatever_its_name() {
        for value in [
            "Bearer abc",
            "basic dTpw",
            "eyJhbGciOi.eyJzdWIiOiI.x",
            "postgres://app:pw@db/x",
            "Server=db;Password=pw;",
            "https://h/?api_key=1",
            "ghp_0123456789abcdefghij",
            "-----BEGIN PRIVATE KEY-----",
        ] {
            assert!(wrong_in("X-Team", value, false).is_some(), "{value}");
        }
        for value in ["a", "https://h/x?page=1", "postgres://app@db/x", "C", "application/json", "10:20"] {
            assert!(wrong_in("X-Team", value, false).is_none(), "{value}");
        }
        assert!(
            wrong_in("TLS_KEY", "/etc/tls.key", false).is_none()
                && wrong_in("USE_TOKEN", "true", false).is_none()
        );
        assert!(
            wrong_in("Authorization", "Bearer ", true).is_none()
                && wrong_in("Authorization", "", true).is_none()
        );
    }

    #[test]
    fn placeholders_of_other_tools_are_known() {
        for text in [
            "${TOKEN}",
            "${env:TOKEN}",
            "Bearer ${input:k}",
            "{{TOKEN}}",
            "{{ token }}",
            "%TOKEN%",
            "<YOUR_TOKEN>",
            "<your token>",
            "$TOKEN",
            "Bearer $TOKEN",
            "$env:TOKEN",
            "YOUR_API_KEY",
            "your-access-token",
            "${VAR:-x}",
            "$(TOKEN)",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in [
            "a",
            "$5",
            "{\"a\":{\"b\":1}}",
            "100%",
            "<b>",
            "x < y > z",
            "%20a%20",
            "cost $5 or $6",
            "mcp-server-git@1",
        ] {
            assert!(!is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn an_address_tells_no_secret() {
        for text in [
            "https://u:p@h/",
            "https://h/?api_key=x",
            "https://h/mcp?tavilyApiKey=x",
            "https://h/?X-Amz-Signature=x",
            "https://h/#access_token=x",
            "https://h/${KEY}/mcp",
            "https://h/{{key}}",
            "https://h/<YOUR_KEY>/mcp",
            "https://h/?t=eyJhbGciOi.eyJzdWIiOiI.x",
            "https://h/s/sk-live-abcdef/mcp",
            "https://${HOST}/mcp",
        ] {
            assert!(Url::parse(text).ok().is_none_or(|url| wrong_in_address(&url).is_some()), "{text}");
        }
        for text in
            ["https://h/mcp", "https://h/mcp?project=a&read_only=true", "http://127.0.0.1:9/mcp?api_key="]
        {
            assert_eq!(wrong_in_address(&Url::parse(text).unwrap()), None, "{text}");
        }
    }

    #[test]
    fn arguments_of_a_program_tell_no_secret() {
        let wrong = |args: &[&str]| {
            wrong_argument(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()).map(|(i, _)| i)
        };
        assert_eq!(wrong(&["--token", "abc"]), Some(1));
        assert_eq!(wrong(&["-y", "--api-key=abc"]), Some(1));
        assert_eq!(wrong(&["run", "-e", "GITHUB_TOKEN=abc"]), Some(2));
        assert_eq!(wrong(&["mcp-remote", "https://h/mcp", "--header", "Authorization: Bearer abc"]), Some(3));
        assert_eq!(wrong(&["--header", "X-Api-Key:${KEY}"]), Some(1));
        assert_eq!(wrong(&["--header=Authorization: Bearer abc"]), Some(0));
        assert_eq!(wrong(&["--header", "X-Api-Key:YWJj="]), Some(1));
        assert_eq!(wrong(&["--password=two words"]), Some(0));
        assert_eq!(wrong(&["https://h/?token=abc"]), Some(0));
        assert_eq!(wrong(&["--key", "${KEY}"]), Some(1));
        assert_eq!(wrong(&["postgresql://u:pw@h/db"]), Some(0));
        for fine in [
            &["-m", "mcp_server_time", "--local-timezone", "UTC"][..],
            &["-c", "read -r line; echo \"${line}\" $1", "child", "/srv"],
            &["--token-file", "/run/token"],
            &["--auth", "none"],
            &["--token", "--verbose"],
            &["--header", "X-Team: a"],
            &["--max-tokens=100", "--key=/etc/tls.key"],
        ] {
            assert_eq!(wrong(fine), None, "{fine:?}");
        }
    }
}
