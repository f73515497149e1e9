//! Why there is no page: what failed, and what to do.

use std::fmt::Display;

use axum::http::StatusCode;

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    /// What failed.
    pub(crate) what: String,
    /// What to do.
    pub(crate) remedy: String,
}

impl Failure {
    fn new(status: StatusCode, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status, what: what.into(), remedy: remedy.into() }
    }

    /// A parameter of the address is wrong.
    pub(crate) fn wrong(parameter: &str, problem: impl Display) -> Self {
        let what = format!("The parameter “{parameter}” of the address: {problem}.");
        Self::new(StatusCode::BAD_REQUEST, what, "Correct it, or go back and use the form.")
    }

    /// There is no such page, or nothing of that name that the visitor may see.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        let remedy = "Check the address. A token shows the tenants that it was made for, and nothing else.";
        Self::new(StatusCode::NOT_FOUND, what, remedy)
    }

    /// The page is about all tenants.
    pub(crate) fn whole_fleet() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "This page is about the whole fleet, and your token opens some tenants.",
            "Look at “Now”, which has what concerns your tenants, or ask an operator for a token with \"tenants\": [\"*\"].",
        )
    }

    /// The request names another host or origin.
    pub(crate) fn foreign(why: String) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            format!("Not answered: {why}."),
            "Use the address that the console prints.",
        )
    }

    /// What it needs could not be read.
    pub(crate) fn unread(problem: String) -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            problem,
            "Load the page again; if that does not help, run: toolfleet doctor",
        )
    }

    /// It took too long.
    pub(crate) fn too_slow() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "The queues or tables did not answer in time.",
            "Load the page again, or ask for a shorter period; if that does not help, run: toolfleet doctor",
        )
    }

    /// Too many pages are made at once.
    pub(crate) fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The console makes as many pages at once as it may.",
            "Load the page again in a second.",
        )
    }

    /// A form did not arrive in time.
    pub(crate) fn slow_form() -> Self {
        let what = "The login form did not arrive in time.";
        Self::new(StatusCode::REQUEST_TIMEOUT, what, "Go back and send it again.")
    }

    /// A browser came back from the provider to a login that it has not begun, or whose time is over.
    pub(crate) fn stale_login() -> Self {
        let what =
            "This login was not begun in this browser, was finished before, or took longer than ten minutes.";
        Self::new(StatusCode::BAD_REQUEST, what, "Go to the first page, and log in again.")
    }

    /// The provider has refused a login.
    pub(crate) fn login_refused(error: impl Display) -> Self {
        let what = format!("Nobody is logged in: {error}.");
        Self::new(
            StatusCode::UNAUTHORIZED,
            what,
            "Log in again. If that does not help, ask an operator: the console's log has more.",
        )
    }

    /// The provider cannot be asked, or its answer is not accepted.
    pub(crate) fn provider_failed(error: impl Display) -> Self {
        let what = format!("Nobody is logged in: {error}.");
        let remedy = "Log in again in a minute. If that does not help, an operator checks TOOLFLEET_CONSOLE_OIDC_ISSUER and the client at the provider.";
        Self::new(StatusCode::BAD_GATEWAY, what, remedy)
    }

    /// Whoever has logged in may see nothing.
    pub(crate) fn not_allowed(why: &str) -> Self {
        let remedy =
            "Ask whoever administers your logins for the claim, or an operator of the fleet for a token.";
        Self::new(StatusCode::FORBIDDEN, format!("{why}."), remedy)
    }

    /// The tenants of a visitor are too many for a cookie.
    pub(crate) fn session_too_long() -> Self {
        let what = "Your login has more tenants than a cookie holds.";
        Self::new(StatusCode::FORBIDDEN, what, "Ask an operator of the fleet to let you see all tenants.")
    }

    /// The method is none of this page.
    pub(crate) fn method() -> Self {
        let what = "This address does not take this method: the console changes nothing.";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            what,
            "Pages are read with GET. To change something, use toolfleet.",
        )
    }

    /// A defect.
    pub(crate) fn defect(error: impl Display) -> Self {
        tracing::error!(%error, code = "console_page_failed", "a page cannot be made");
        let remedy = "This is a defect of the console; its log has more.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The page cannot be made.", remedy)
    }
}
