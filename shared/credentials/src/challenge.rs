//! Parses `WWW-Authenticate`: what a server that refuses a request asks for. Text within quotes is never taken for a parameter.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// The longest value that is read, in bytes.
const MAX_BYTES: usize = 2000;

/// What the challenges of a response ask for (RFC 6750, section 3; RFC 9728, section 5.1). The first of each kind counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The error code.
    pub error: Option<String>,
    /// Its explanation.
    pub error_description: Option<String>,
    /// The scopes that a token needs.
    pub scope: Option<String>,
    /// The URL of the protected resource metadata.
    pub resource_metadata: Option<String>,
}

impl Challenge {
    /// The challenges in these headers, merged.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut challenge = Self::default();
        for value in headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()) {
            for (name, value) in parameters(value) {
                let place = match name.to_ascii_lowercase().as_str() {
                    "error" => &mut challenge.error,
                    "error_description" => &mut challenge.error_description,
                    "scope" => &mut challenge.scope,
                    "resource_metadata" => &mut challenge.resource_metadata,
                    _ => continue,
                };
                if place.is_none() && !value.is_empty() && value.len() <= MAX_BYTES {
                    *place = Some(value);
                }
            }
        }
        challenge
    }
}

/// Names and values, quoted or not (RFC 9110, section 11.2); schemes and bare tokens are skipped.
fn parameters(header: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(value) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            if after.is_empty() {
                return found;
            }
            rest = after;
            continue;
        };
        let value = value.trim_start_matches([' ', '\t']);
        let text;
        (text, rest) = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let (text, rest) = value.split_at(value.find([' ', '\t', ',']).unwrap_or(value.len()));
                (text.to_owned(), rest)
            }
        };
        found.push((name, text));
    }
}

/// The text up to the closing quote, and what follows it.
fn unquoted(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (text, quoted.get(at.saturating_add(1)..).unwrap_or_default()),
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => text.push(c),
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Challenge {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    #[test]
    fn parameters_are_read_quoted_and_unquoted() {
        let text = r#"Bearer realm="x, scope=\"none", error_description="bad, scope=none", error="insufficient_scope", scope="a b", resource_metadata=https://s/m?x=1"#;
        let challenge = read(&[text]);
        assert_eq!(challenge.error.as_deref(), Some("insufficient_scope"));
        assert_eq!(challenge.scope.as_deref(), Some("a b"));
        assert_eq!(challenge.resource_metadata.as_deref(), Some("https://s/m?x=1"));
    }

    #[test]
    fn several_challenges_merge_and_a_malformed_one_is_empty() {
        let challenge = read(&["Basic realm=x, Bearer Scope = \"a\"", "Bearer scope=b, error=invalid_token"]);
        assert_eq!(
            (challenge.scope.as_deref(), challenge.error.as_deref()),
            (Some("a"), Some("invalid_token"))
        );
        for broken in
            ["", "Bearer", "Bearer scope", "Bearer scope=\"", "=\"x\" ,,", "Negotiate YWJj==", "scope"]
        {
            assert_eq!(read(&[broken]), Challenge::default(), "{broken}");
        }
    }
}
