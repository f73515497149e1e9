//! Verifies tokens: signature, issuer, audience, times.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::issuer::IssuerError;
use super::keys::Keys;

/// The signatures that are accepted. None of them has a secret that the issuer and the reader share.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// How far the clocks of issuer and reader may differ, in seconds.
pub const LEEWAY_S: u64 = 30;
/// A longer token is not read.
const MAX_TOKEN_BYTES: usize = 16_384;

/// What a token has to be.
pub struct Verifier {
    /// Who signs it.
    pub issuer: String,
    /// Whom it is for.
    pub audiences: Vec<String>,
    /// Whose access tokens are accepted that name no audience: the clients in `client_id` or `azp`. Cognito's access tokens are such.
    pub clients: Vec<String>,
    /// The issuer's keys.
    pub keys: Keys,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is none of this issuer for this audience now.
    #[error("{0}")]
    Invalid(&'static str),
    /// It cannot be checked now.
    #[error("the issuer's keys cannot be read now")]
    Unavailable(#[source] IssuerError),
}

impl Verifier {
    /// The claims of a token, if its signature, issuer, audience and times are right.
    ///
    /// # Errors
    /// They are not, or it cannot be told.
    pub async fn claims(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
        let invalid = |why| Err(TokenError::Invalid(why));
        if token.len() > MAX_TOKEN_BYTES {
            return invalid("the token is too long");
        }
        let Ok(header) = decode_header(token) else { return invalid("the token is no signed JWT") };
        if !ALGORITHMS.contains(&header.alg) {
            return invalid("the token's algorithm is not accepted");
        }
        let key = match self.keys.find(header.kid.as_deref(), header.alg).await {
            Ok(Some(key)) => key,
            Ok(None) => return invalid("the token is signed with a key that its issuer does not publish"),
            Err(error) => {
                tracing::error!(%error, code = "issuer_keys_failed", "the issuer's keys cannot be read");
                return Err(TokenError::Unavailable(error));
            }
        };
        let Ok(key) = DecodingKey::from_jwk(&key) else { return invalid("the issuer's key cannot be used") };
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&self.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        match decode::<Map<String, Value>>(token, &key, &validation) {
            Ok(data) => return Ok(data.claims),
            Err(error) if self.clients.is_empty() || !lacks_a_claim(error.kind()) => {
                return invalid(reason(error.kind()));
            }
            Err(_) => {}
        }
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "iss"]);
        match decode::<Map<String, Value>>(token, &key, &validation) {
            Ok(data) if data.claims.contains_key("aud") => invalid("the token is for another audience"),
            Ok(data) if self.is_of_client(&data.claims) => Ok(data.claims),
            Ok(_) => invalid("the token names no audience, and is no access token of an accepted client"),
            Err(error) => invalid(reason(error.kind())),
        }
    }

    /// Whether it is an access token that was given to one of the clients. An ID token says who has logged in, and is for the client alone.
    fn is_of_client(&self, claims: &Map<String, Value>) -> bool {
        let named = |claim: &str| claims.get(claim).and_then(Value::as_str);
        let client = named("client_id").or_else(|| named("azp"));
        named("token_use") != Some("id")
            && client.is_some_and(|client| self.clients.iter().any(|one| one == client))
    }
}

/// Whether the token lacks a claim.
const fn lacks_a_claim(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::MissingRequiredClaim(_))
}

/// What is wrong with a token.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are all of a token that is malformed")]
fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of the claims exp, iss and aud",
        _ => "the token is not valid",
    }
}
