//! Login and logout: a form takes a token and gives a session. The two requests that are no reading. The page also leads to the provider, where
//! there is one.

use std::time::Duration;

use askama::Template;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use toolfleet_core::time::Timestamp;

use crate::console::Console;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::Link;
use crate::query::Query;
use crate::response::{html, see_other};
use crate::tokens::Token;

/// The largest form.
const MAX_FORM_BYTES: usize = 8_192;
/// How long a form may take to arrive: whoever sends it is not known yet.
const LONGEST_FORM: Duration = Duration::from_secs(2);
/// A longer address is not gone back to.
const MAX_NEXT_CHARS: usize = 4_096;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: Frame,
    next: &'a str,
    is_wrong: bool,
    by_link: bool,
    /// Whether a token logs in.
    takes_token: bool,
    /// The provider's name, and the address that leads there.
    provider: Option<(String, String)>,
}

/// The form.
pub(crate) fn form(console: &Console, next: &str) -> Result<Response, Failure> {
    page(console, next, false)
}

fn page(console: &Console, next: &str, is_wrong: bool) -> Result<Response, Failure> {
    let frame = Frame::bare("Log in", (console.now)());
    let (access, next) = (&console.access, own_address(next));
    let start = || Link::to("/login/start").with("next", next).text();
    let page = LoginPage {
        frame,
        next,
        is_wrong,
        by_link: access.by_link,
        takes_token: !access.tokens.is_empty(),
        provider: access.oidc.as_ref().map(|oidc| (oidc.host().to_owned(), start())),
    };
    let status = if is_wrong { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    Ok(html(status, page.render().map_err(Failure::defect)?))
}

/// Takes the form.
pub(crate) async fn log_in(console: &Console, headers: &HeaderMap, body: Body) -> Result<Response, Failure> {
    is_of_own_page(headers)?;
    if console.access.tokens.is_empty() {
        return Err(Failure::not_found("There is no such page."));
    }
    let slot = console.forms.try_acquire().map_err(|_| Failure::busy())?;
    let body = tokio::time::timeout(LONGEST_FORM, to_bytes(body, MAX_FORM_BYTES)).await;
    drop(slot);
    let body = body.map_err(|_| Failure::slow_form())?.map_err(|_| Failure::wrong("token", "is too long"))?;
    let form = Query::parse(&String::from_utf8_lossy(&body));
    let next = form.get("next").unwrap_or("/");
    match form.get("token").and_then(|token| console.access.tokens.find(token)) {
        Some(token) => with_session(console, token, see_other(own_address(next))),
        None => {
            tracing::warn!(
                code = "console_login_refused",
                "a visitor gave no token, or one that is not known"
            );
            page(console, next, true)
        }
    }
}

/// Ends the session of this browser.
pub(crate) fn log_out(console: &Console, headers: &HeaderMap) -> Result<Response, Failure> {
    is_of_own_page(headers)?;
    Ok(with_cookie(console, console.cookie(), "", 0, see_other("/login")))
}

/// The response with a session of that token.
pub(crate) fn with_session(
    console: &Console,
    token: &Token,
    response: Response,
) -> Result<Response, Failure> {
    with_visitor(console, &token.visitor.name, |until| console.access.key.seal(token, until), response)
}

/// The response with the session of a visitor, which `seal` makes until an instant.
pub(crate) fn with_visitor(
    console: &Console,
    name: &str,
    seal: impl FnOnce(Timestamp) -> Option<String>,
    response: Response,
) -> Result<Response, Failure> {
    let lasts = console.access.session;
    let until = (console.now)().plus_ms(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
    let session = seal(until).ok_or_else(Failure::session_too_long)?;
    tracing::info!(visitor = name, code = "console_login", "a visitor has logged in");
    Ok(with_cookie(console, console.cookie(), &session, lasts.as_secs(), response))
}

/// The response with a cookie.
pub(crate) fn with_cookie(
    console: &Console,
    name: &str,
    value: &str,
    seconds: u64,
    mut response: Response,
) -> Response {
    let secure = if console.access.secure { "; Secure" } else { "" };
    // `Lax`, so that a link from elsewhere opens its page: reading changes nothing, and forms of other sites are refused.
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// A form of another site must not log anybody in or out. Browsers say where a request is from; the host of an `Origin` is checked at the door.
fn is_of_own_page(headers: &HeaderMap) -> Result<(), Failure> {
    let site = headers.get("sec-fetch-site").map(|site| site.to_str().unwrap_or_default());
    match site {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(Failure::foreign("the form is of another site".to_owned())),
    }
}

/// The address, if it is one of the console; else the first page.
pub(crate) fn own_address(next: &str) -> &str {
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_own = next.starts_with('/') && !next.starts_with("//") && plain && next.len() <= MAX_NEXT_CHARS;
    if is_own && !next.starts_with("/login") && !next.starts_with("/logout") { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_console_are_gone_back_to() {
        for own in ["/", "/history?tenant=acme&q=%2F"] {
            assert_eq!(own_address(own), own);
        }
        for other in [
            "",
            "//evil.example.com",
            "/\\evil.example.com",
            "https://evil.example.com",
            "/a\r\nx: y",
            "/login",
            "/é",
        ] {
            assert_eq!(own_address(other), "/", "{other}");
        }
    }
}
