//! The cookies of one MCP session. Load balancers set them so that all requests of a session reach the replica that opened it.
//!
//! **Invariant:** a cookie is sent only to the origin that set it, and `Path` and `Secure` are respected (RFC 6265, section 5.4). No
//! cookie is printed.

use cookie::Cookie;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use url::Url;

/// Cookies kept; more are passed over.
const MAX_COOKIES: usize = 16;
/// Bytes of all names and values.
const MAX_BYTES: usize = 4096;

/// The cookies of a session, by name, in the order in which they came.
#[derive(Default)]
pub(crate) struct Cookies(Mutex<Vec<(String, String)>>);

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookies")
    }
}

impl Cookies {
    /// Those that a `Cookie` header carries.
    pub(crate) fn of_header(text: &str) -> Self {
        let pairs = text.split("; ").filter_map(|pair| pair.split_once('='));
        Self(Mutex::new(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    /// Takes what a response of this address sets; a cookie that has ended is dropped.
    pub(crate) fn take(&self, url: &Url, headers: &HeaderMap) {
        if !headers.contains_key(SET_COOKIE) {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for text in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let Ok(cookie) = Cookie::parse(text) else { continue };
            let name = cookie.name();
            if !is_for(&cookie, url) || name.is_empty() {
                continue;
            }
            kept.retain(|(known, _)| known != name);
            let ended = cookie.max_age().is_some_and(|age| !age.is_positive()) || cookie.value().is_empty();
            let bytes: usize = kept.iter().map(|(name, value)| name.len() + value.len()).sum();
            let fits = kept.len() < MAX_COOKIES && bytes + name.len() + cookie.value().len() <= MAX_BYTES;
            if !ended && fits {
                kept.push((name.to_owned(), cookie.value().to_owned()));
            }
        }
    }

    /// All of them as a `Cookie` header carries them.
    pub(crate) fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<_> = kept.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    /// The header to send, together with the cookies that the server's configuration names; nothing where there are none.
    pub(crate) fn header(&self, configured: Option<&HeaderValue>) -> Option<HeaderValue> {
        let text = self.text();
        if text.is_empty() {
            return None;
        }
        let text = match configured.map(HeaderValue::to_str) {
            Some(Ok(configured)) => format!("{configured}; {text}"),
            Some(Err(_)) => return None,
            None => text,
        };
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// Whether the cookie may go back to this address: its `Path` leads to it, and a `Secure` one only over https.
fn is_for(cookie: &Cookie<'_>, url: &Url) -> bool {
    let path = cookie.path().filter(|path| path.starts_with('/')).unwrap_or("/");
    let below = url.path().strip_prefix(path.trim_end_matches('/'));
    let path_matches = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path_matches && (cookie.secure() != Some(true) || url.scheme() == "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(url: &str, lines: &[&str]) -> String {
        let cookies = Cookies::default();
        let url: Url = url.parse().unwrap();
        for line in lines {
            let mut headers = HeaderMap::new();
            headers.append(SET_COOKIE, line.parse().unwrap());
            cookies.take(&url, &headers);
        }
        cookies.text()
    }

    #[test]
    fn a_cookie_is_kept_replaced_and_dropped_by_its_name() {
        let at = "https://example.com/mcp";
        assert_eq!(
            kept(at, &["AWSALB=a; Path=/", "x=1", "AWSALB=b; Path=/; Expires=never"]),
            "x=1; AWSALB=b"
        );
        assert_eq!(kept(at, &["a=1", "b=2", "a=; Max-Age=0"]), "b=2");
        assert_eq!(kept(at, &["a=1; Secure; HttpOnly; SameSite=None; Partitioned"]), "a=1");
        assert_eq!(kept(at, &["no pair", "=nameless", "a=\"q\""]), "a=\"q\"");
    }

    #[test]
    fn a_cookie_for_another_path_or_scheme_is_left_out() {
        assert_eq!(kept("http://example.com/mcp", &["a=1; Secure", "b=2"]), "b=2");
        let paths = ["a=1; Path=/mcp", "b=2; Path=/m", "c=3; Path=/other", "d=4; Path=/mcp/x", "e=5; Path=x"];
        assert_eq!(kept("https://example.com/mcp", &paths), "a=1; e=5");
    }

    #[test]
    fn cookies_are_bounded_and_never_printed() {
        let long = format!("big={}", "x".repeat(MAX_BYTES));
        let many: Vec<String> = (0..40).map(|n| format!("c{n}=v")).chain([long]).collect();
        let text = kept("https://example.com/mcp", &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(text.split("; ").count(), MAX_COOKIES);
        assert_eq!(format!("{:?}", Cookies::of_header("a=secret")), "Cookies");
    }

    #[test]
    fn cookies_join_those_of_the_configuration() {
        let cookies = Cookies::of_header("a=1; b=2");
        let configured = HeaderValue::from_static("team=x");
        assert_eq!(cookies.header(Some(&configured)).unwrap(), "team=x; a=1; b=2");
        assert_eq!(cookies.header(None).unwrap(), "a=1; b=2");
        assert!(Cookies::default().header(Some(&configured)).is_none());
    }
}
