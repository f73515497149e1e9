//! The console: what all pages need, and one look at a page.

use axum::http::{HeaderMap, header};
use tokio::sync::Semaphore;
use toolfleet_client::{Client, Now};
use toolfleet_core::ids::Tenant;
use toolfleet_core::time::Timestamp;
use toolfleet_web::hosts::Hosts;

use crate::access::Access;
use crate::dead_letter_list::Cache;
use crate::failure::Failure;
use crate::oidc::Oidc;
use crate::query::Query;
use crate::visitor::{Scope, Visitor};

/// How many pages are made at once.
const MOST_PAGES: usize = 32;

/// How many logins of each kind are answered at once.
const MOST_LOGINS: usize = 16;

/// What a console is made of.
pub struct Parts {
    /// The fleet.
    pub client: Client,
    /// How a visitor is known.
    pub access: Access,
    /// Which hosts and origins requests may name.
    pub hosts: Hosts,
    /// The port, so that consoles of several fleets on one machine have cookies of their own.
    pub port: u16,
    /// The clock.
    pub now: Now,
}

/// A console.
pub struct Console {
    pub(crate) client: Client,
    pub(crate) access: Access,
    pub(crate) now: Now,
    pub(crate) dead_letters: Cache,
    pub(crate) hosts: Hosts,
    cookie: String,
    /// Pages of known visitors.
    pub(crate) slots: Semaphore,
    /// Login forms, which anybody may send.
    pub(crate) forms: Semaphore,
    /// Logins that begin at the provider, which anybody may cause: where it hangs, they stop no other login.
    pub(crate) starts: Semaphore,
    /// Browsers that come back from the provider to a login that they have begun.
    pub(crate) returns: Semaphore,
}

impl Console {
    /// A console of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { client, access, hosts, port, now } = parts;
        let cookie = if access.secure {
            "__Host-toolfleet-console".to_owned()
        } else {
            format!("toolfleet-console-{port}")
        };
        let slots = Semaphore::new(MOST_PAGES);
        let [forms, starts, returns] = [(); 3].map(|()| Semaphore::new(MOST_LOGINS));
        let dead_letters = Cache::default();
        Self { client, access, now, dead_letters, hosts, cookie, slots, forms, starts, returns }
    }

    /// The name of the session's cookie.
    pub(crate) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// The visitor of the session that these headers show.
    pub(crate) fn visitor(&self, headers: &HeaderMap) -> Option<Visitor> {
        let session = cookie_of(headers, &self.cookie)?;
        let rules = self.access.oidc.as_ref().map(Oidc::rules);
        self.access.key.open(session, &self.access.tokens, rules, (self.now)())
    }

    /// The name of the cookie of a login that has begun.
    pub(crate) fn login_cookie(&self) -> String {
        format!("{}-login", self.cookie)
    }

    /// The state and the address of the login that has begun in this browser.
    pub(crate) fn login(&self, headers: &HeaderMap) -> Option<(String, String)> {
        let login = cookie_of(headers, &self.login_cookie())?;
        self.access.key.open_login(login, (self.now)())
    }
}

/// One look at a page.
pub(crate) struct Visit<'a> {
    pub(crate) console: &'a Console,
    pub(crate) visitor: Visitor,
    pub(crate) query: Query,
    pub(crate) path: &'static str,
    pub(crate) now: Timestamp,
}

impl Visit<'_> {
    /// What the visitor sees.
    pub(crate) const fn scope(&self) -> &Scope {
        &self.visitor.scope
    }

    /// A page about the whole fleet is for those who see all tenants.
    pub(crate) fn sees_whole_fleet(&self) -> Result<(), Failure> {
        match self.scope() {
            Scope::All => Ok(()),
            Scope::Tenants(_) => Err(Failure::whole_fleet()),
        }
    }

    /// What is of another tenant does not exist for this visitor.
    pub(crate) fn sees(&self, tenant: &Tenant, what: &str) -> Result<(), Failure> {
        if self.scope().sees(tenant) {
            Ok(())
        } else {
            Err(Failure::not_found(format!("There is no such {what}.")))
        }
    }
}

/// The cookie of that name.
fn cookie_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|cookies| cookies.split(';')).find_map(|one| {
        let (one, value) = one.trim().split_once('=')?;
        (one == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; session=x.y=; b"));
        assert_eq!(cookie_of(&headers, "session"), Some("x.y="));
        assert_eq!(cookie_of(&headers, "sess"), None);
    }
}
