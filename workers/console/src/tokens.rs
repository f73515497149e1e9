//! Who may look: tokens, and the tenants that each of them opens.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use toolfleet_core::ids::Tenant;

use crate::visitor::{Scope, Visitor};

/// A shorter token could be guessed.
const FEWEST_CHARS: usize = 24;
/// The tenants of a token that opens all.
const ALL: &str = "*";

/// The SHA-256 of a token. The token itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenDigest([u8; 32]);

impl TokenDigest {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares without a hint, by the time it takes, of where they differ.
    fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// A token that may look.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) digest: TokenDigest,
    /// Whose it is.
    pub(crate) visitor: Visitor,
}

/// The tokens.
#[derive(Clone)]
pub struct Tokens(Vec<Token>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|token| (&token.visitor.name, &token.visitor.scope)))
            .finish()
    }
}

/// Why a text is no list of tokens. It repeats nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokensError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tokens: Vec<WrittenToken>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    name: String,
    token: Option<String>,
    sha256: Option<String>,
    tenants: Vec<String>,
}

impl Tokens {
    /// No token: visitors log in another way.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The only token, which opens all tenants.
    pub fn only(name: &str, token: &str) -> Self {
        let visitor = Visitor { name: name.to_owned(), scope: Scope::All };
        Self(vec![Token { digest: TokenDigest::of(token), visitor }])
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// A part is missing or wrong; the error names its place.
    pub fn parse(text: &str) -> Result<Self, TokensError> {
        let form = r#"accepted is {"tokens": [{"name": "ann", "sha256": "..", "tenants": ["*"]}]}"#;
        // The reader's own text may repeat a token.
        let written: Written = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            TokensError(format!("is not a list of tokens (line {line}, column {column}): {form}"))
        })?;
        if written.tokens.is_empty() {
            return Err(TokensError(format!("has no token, so nobody could look: {form}")));
        }
        let tokens = written.tokens.into_iter().enumerate();
        tokens.map(|(at, token)| token.read(at)).collect::<Result<_, _>>().map(Self)
    }

    /// The token that was given, if it is one of these.
    pub(crate) fn find(&self, given: &str) -> Option<&Token> {
        let digest = TokenDigest::of(given);
        // All are compared, so that the time says nothing of the place.
        self.0.iter().fold(None, |found, token| if token.digest.is(&digest) { Some(token) } else { found })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Token> {
        self.0.iter()
    }
}

impl WrittenToken {
    fn read(self, at: usize) -> Result<Token, TokensError> {
        let wrong = |field: &str, problem: &str| Err(TokensError(format!("tokens[{at}].{field}: {problem}")));
        if self.name.trim().is_empty() {
            return wrong("name", "is empty; say whose token it is");
        }
        let digest = match (&self.token, &self.sha256) {
            (Some(token), None) if token.chars().count() >= FEWEST_CHARS => TokenDigest::of(token),
            (Some(_), None) => {
                return wrong("token", "has fewer than 24 characters; make one with `openssl rand -hex 32`");
            }
            (None, Some(sha256)) => match hex::decode(sha256).ok().and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => TokenDigest(bytes),
                None => {
                    return wrong(
                        "sha256",
                        "is not a SHA-256 of 64 hex digits; make it with `printf %s TOKEN | sha256sum`",
                    );
                }
            },
            (Some(_), Some(_)) => return wrong("token", "stands beside `sha256`; give one of them"),
            (None, None) => return wrong("sha256", "is missing; give it, or `token`"),
        };
        if self.tenants.is_empty() {
            return wrong("tenants", "is empty; name tenants, or \"*\" for all");
        }
        if self.tenants.iter().any(|tenant| tenant == ALL) {
            return Ok(Token { digest, visitor: Visitor { name: self.name, scope: Scope::All } });
        }
        let tenants =
            self.tenants.iter().map(|tenant| Tenant::parse(tenant.as_str())).collect::<Result<_, _>>();
        match tenants {
            Ok(tenants) => {
                Ok(Token { digest, visitor: Visitor { name: self.name, scope: Scope::Tenants(tenants) } })
            }
            Err(error) => wrong("tenants", &error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_token_is_found_by_itself_or_its_digest() {
        let sha256 = hex::encode(Sha256::digest(LONG));
        let text = format!(
            r#"{{"tokens": [{{"name": "ann", "token": "{LONG}!", "tenants": ["*"]}}, {{"name": "bob", "sha256": "{sha256}", "tenants": ["acme", "globex"]}}]}}"#
        );
        let tokens = Tokens::parse(&text).unwrap();
        let bob = &tokens.find(LONG).unwrap().visitor;
        assert_eq!((bob.name.as_str(), bob.scope.to_string().as_str()), ("bob", "tenants acme, globex"));
        assert_eq!(tokens.find(&format!("{LONG}!")).unwrap().visitor.scope, Scope::All);
        assert!(tokens.find("").is_none() && tokens.find(&LONG[1..]).is_none());
        let (acme, other) = (Tenant::parse("acme").unwrap(), Tenant::parse("initech").unwrap());
        assert!(bob.scope.sees(&acme) && !bob.scope.sees(&other) && !bob.scope.sees(&Tenant::of_fleet()));
        assert!(!format!("{tokens:?}").contains(LONG));
    }

    #[test]
    fn what_is_wrong_is_named_and_no_token_is_repeated() {
        for (text, named) in [
            ("x", "line 1"),
            (r#"{"tokens": []}"#, "no token"),
            (r#"{"tokens": [{"name": "a", "token": "short-secret", "tenants": ["*"]}]}"#, "tokens[0].token"),
            (r#"{"tokens": [{"name": "a", "tenants": ["*"]}]}"#, "tokens[0].sha256: is missing"),
            (r#"{"tokens": [{"name": "a", "sha256": "short-secret", "tenants": ["*"]}]}"#, "64 hex digits"),
            (r#"{"tokens": [{"name": " ", "token": "short-secret", "tenants": ["*"]}]}"#, "tokens[0].name"),
            (r#"{"tokens": ["short-secret"]}"#, "is not a list of tokens"),
        ] {
            let error = Tokens::parse(text).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("short-secret"), "{error}");
        }
        let token = |tenants: &str| {
            format!(r#"{{"tokens": [{{"name": "a", "token": "{LONG}", "tenants": {tenants}}}]}}"#)
        };
        for (tenants, named) in [("[]", "is empty"), (r#"["a#b"]"#, "tokens[0].tenants")] {
            assert!(Tokens::parse(&token(tenants)).unwrap_err().to_string().contains(named));
        }
    }
}
