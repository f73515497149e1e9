//! Where a request says to which conversation it belongs: nowhere, in its token, or in a header.

use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName};
use serde_json::{Map, Value};
use toolfleet_core::ids::SessionId;
use toolfleet_web::tokens::ClaimName;

/// Where the conversation of a request stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SessionSource {
    /// Calls have no session: those of a tenant share the state of its servers.
    #[default]
    None,
    /// The user is the session; none where no user is known.
    User,
    /// In a claim of the token.
    Claim(ClaimName),
    /// In a header of the request.
    Header(HeaderName),
}

impl FromStr for SessionSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let accepted =
            "accepted are user, none, claim:NAME and header:NAME, for example header:mcp-session-id";
        match text.trim().split_once(':') {
            None if text.trim() == "none" => Ok(Self::None),
            None if text.trim() == "user" => Ok(Self::User),
            Some(("claim", name)) => Ok(Self::Claim(name.parse()?)),
            Some(("header", name)) => {
                let name =
                    HeaderName::from_str(name.trim()).map_err(|_| format!("names no header; {accepted}"))?;
                Ok(Self::Header(name))
            }
            None | Some(_) => Err(format!("is `{}`; {accepted}", text.trim())),
        }
    }
}

impl SessionSource {
    /// The conversation of a request; none where it names none.
    pub(crate) fn read(
        &self,
        headers: &HeaderMap,
        claims: &Map<String, Value>,
    ) -> Result<Option<SessionId>, String> {
        let text = match self {
            Self::None | Self::User => return Ok(None),
            Self::Claim(name) => name.of(claims).and_then(Value::as_str),
            Self::Header(name) => headers.get(name).and_then(|value| value.to_str().ok()),
        };
        let parse = |text: &str| SessionId::parse(text).map_err(|error| format!("the session {error}"));
        text.map(parse).transpose()
    }
}
