//! Login at the provider: the browser is sent there, and comes back with a code that becomes a session.
//!
//! **Invariant:** a code is taken only from the browser in which its login began: the cookie of the login is signed, names the state, and is
//! taken back with the session. Nonce and PKCE secret are derived from the state by the console's key, so no browser has them.

use std::future::Future;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::console::Console;
use crate::failure::Failure;
use crate::login::{own_address, with_cookie, with_visitor};
use crate::oidc::{Attempt, Oidc, OidcError, is_code};
use crate::query::Query;
use crate::response::see_other;

/// How long a visitor may take at the provider.
const LOGIN_LASTS: Duration = Duration::from_secs(600);
/// How long the provider may take with one request of a browser.
const PROVIDER_TIME_OUT: Duration = Duration::from_secs(8);
/// A longer address is not gone back to: a cookie holds it.
const MAX_NEXT_BYTES: usize = 2_048;
/// A longer code is none.
const MAX_CODE_BYTES: usize = 4_096;

/// Sends the browser to the provider.
pub(crate) async fn start(console: &Console, next: &str) -> Result<Response, Failure> {
    let oidc = provider(console)?;
    let _slot = console.starts.try_acquire().map_err(|_| Failure::busy())?;
    let mut state = [0; 32];
    getrandom::fill(&mut state).map_err(Failure::defect)?;
    let attempt = attempt(console, URL_SAFE_NO_PAD.encode(state))?;
    let place = within_time(oidc.authorization(&attempt)).await?;
    let next = Some(own_address(next)).filter(|next| next.len() <= MAX_NEXT_BYTES).unwrap_or("/");
    let lasts_ms = u64::try_from(LOGIN_LASTS.as_millis()).unwrap_or(u64::MAX);
    let login = console.access.key.seal_login(&attempt.state, next, (console.now)().plus_ms(lasts_ms));
    let login = login.ok_or_else(|| Failure::defect("the login cannot be signed"))?;
    Ok(with_cookie(
        console,
        &console.login_cookie(),
        &login,
        LOGIN_LASTS.as_secs(),
        see_other(place.as_str()),
    ))
}

/// Takes the browser back: a code becomes a session.
pub(crate) async fn finish(
    console: &Console,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Response, Failure> {
    let response = answer(console, headers, query).await?;
    Ok(with_cookie(console, &console.login_cookie(), "", 0, response))
}

async fn answer(console: &Console, headers: &HeaderMap, query: &Query) -> Result<Response, Failure> {
    let oidc = provider(console)?;
    let begun = console.login(headers).filter(|(state, _)| query.get("state") == Some(state));
    let Some((state, next)) = begun else {
        tracing::warn!(
            code = "console_login_refused",
            "a browser came back from the provider to a login that it has not begun"
        );
        return Err(Failure::stale_login());
    };
    if let Some(error) = query.get("error") {
        let error = if is_code(error) { error } else { "an error" };
        return Err(refused(&OidcError::Refused(error.to_owned())));
    }
    let code = query.get("code").filter(|code| code.len() <= MAX_CODE_BYTES);
    let code = code.ok_or_else(|| refused(&OidcError::Invalid("the browser brings no code".to_owned())))?;
    let _slot = console.returns.try_acquire().map_err(|_| Failure::busy())?;
    let attempt = attempt(console, state)?;
    let visitor = within_time(oidc.visitor(code, query.get("iss"), &attempt)).await?;
    let seal = |until| console.access.key.seal_visitor(&visitor, oidc.rules(), until);
    with_visitor(console, &visitor.name, seal, see_other(own_address(&next)))
}

fn provider(console: &Console) -> Result<&Oidc, Failure> {
    console.access.oidc.as_ref().ok_or_else(|| Failure::not_found("There is no such page."))
}

fn attempt(console: &Console, state: String) -> Result<Attempt, Failure> {
    let derived = |purpose: &str| {
        let derived = console.access.key.derived(purpose, &state);
        derived.ok_or_else(|| Failure::defect("no secret can be derived"))
    };
    Ok(Attempt { nonce: derived("nonce")?, verifier: derived("pkce")?, state })
}

async fn within_time<T>(asked: impl Future<Output = Result<T, OidcError>>) -> Result<T, Failure> {
    let asked = tokio::time::timeout(PROVIDER_TIME_OUT, asked).await;
    let late = || OidcError::Unavailable(format!("it has not answered within {PROVIDER_TIME_OUT:?}"));
    asked.unwrap_or_else(|_| Err(late())).map_err(|error| refused(&error))
}

/// The failure that the visitor sees; the log has why.
fn refused(error: &OidcError) -> Failure {
    match error {
        OidcError::NotAllowed(why) => {
            tracing::warn!(
                why,
                code = "console_login_refused",
                "a visitor has logged in at the provider and may see nothing"
            );
            Failure::not_allowed(why)
        }
        OidcError::Refused(why) => {
            tracing::warn!(why, code = "console_login_refused", "the provider has refused a login");
            Failure::login_refused(error)
        }
        OidcError::Unavailable(_) | OidcError::Invalid(_) => {
            tracing::error!(%error, code = "console_oidc_failed", "nobody is logged in by the provider");
            Failure::provider_failed(error.for_visitor())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_never_answers_is_not_waited_for() {
        let since = tokio::time::Instant::now();
        let failure = within_time(std::future::pending::<Result<(), OidcError>>()).await.unwrap_err();
        assert_eq!((failure.status.as_u16(), since.elapsed()), (502, PROVIDER_TIME_OUT));
        assert!(failure.what.contains("cannot be asked"), "{failure}");
    }
}
