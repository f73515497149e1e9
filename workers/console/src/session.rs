//! Sessions of visitors: a cookie that says which token was shown, or who has logged in at the provider, and until when it counts, signed with
//! HMAC-SHA256. The console stores nothing.
//!
//! A session ends with its time, when its token is taken from the list, and when the rules change by which its visitor was let in.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use toolfleet_core::ids::Tenant;
use toolfleet_core::time::Timestamp;

use crate::tokens::{Token, TokenDigest, Tokens};
use crate::visitor::{Scope, Visitor};

/// The size of a key in bytes.
const KEY_BYTES: usize = 32;
/// A longer text is no session: browsers keep no longer cookies.
const MAX_BYTES: usize = 3_800;

/// Why a key is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a key of {KEY_BYTES} bytes in base64; make one with `openssl rand -base64 {KEY_BYTES}`")]
pub struct KeyError;

/// The key that signs sessions.
#[derive(Clone)]
pub struct SessionKey([u8; KEY_BYTES]);

/// A visitor as a session holds them.
#[derive(Serialize, Deserialize)]
struct Held<T> {
    #[serde(rename = "n")]
    name: String,
    /// None of them means all tenants.
    #[serde(rename = "t")]
    tenants: Option<Vec<T>>,
}

impl SessionKey {
    /// The key of a text.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).map_err(|_| KeyError)?;
        bytes.try_into().map(Self).map_err(|_| KeyError)
    }

    /// A key of this process alone.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn random() -> Result<Self, KeyError> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| KeyError)?;
        Ok(Self(bytes))
    }

    /// The session of a token until an instant.
    pub(crate) fn seal(&self, token: &Token, until: Timestamp) -> Option<String> {
        self.signed("session", format!("{}.{}", until.as_ms(), self.tag(&token.digest)?))
    }

    /// The session of a visitor who has no token, until an instant. It counts as long as `rules` are those that let the visitor in. None where
    /// it is too long for a cookie.
    pub(crate) fn seal_visitor(&self, visitor: &Visitor, rules: &str, until: Timestamp) -> Option<String> {
        let tenants = visitor.scope.tenants().map(|tenants| tenants.iter().map(Tenant::as_str).collect());
        let held = Held { name: visitor.name.clone(), tenants };
        let held = URL_SAFE_NO_PAD.encode(serde_json::to_string(&held).ok()?);
        let sealed = self.signed("visitor", format!("{}.{rules}.{held}", until.as_ms()))?;
        (sealed.len() <= MAX_BYTES).then_some(sealed)
    }

    /// The visitor of a session that counts now; anything else is none. `rules` let visitors without a token in.
    pub(crate) fn open(
        &self,
        text: &str,
        tokens: &Tokens,
        rules: Option<&str>,
        now: Timestamp,
    ) -> Option<Visitor> {
        if let Some(said) = self.said("session", text) {
            let tag = counting(said, now)?;
            let token = tokens.iter().find(|token| self.tag(&token.digest).is_some_and(|own| own == tag))?;
            return Some(token.visitor.clone());
        }
        let (of_rules, held) = counting(self.said("visitor", text)?, now)?.split_once('.')?;
        if Some(of_rules) != rules {
            return None;
        }
        let held: Held<String> = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(held).ok()?).ok()?;
        let tenants = held.tenants.map(|tenants| tenants.into_iter().map(Tenant::parse).collect());
        let scope = tenants.transpose().ok()?.map_or(Scope::All, Scope::Tenants);
        Some(Visitor { name: held.name, scope })
    }

    /// A login that has begun and that counts until an instant: what the provider has to send back, and where the visitor goes then.
    pub(crate) fn seal_login(&self, state: &str, next: &str, until: Timestamp) -> Option<String> {
        let next = URL_SAFE_NO_PAD.encode(next);
        self.signed("login", format!("{}.{state}.{next}", until.as_ms()))
    }

    /// The state and the address of a login that counts now.
    pub(crate) fn open_login(&self, text: &str, now: Timestamp) -> Option<(String, String)> {
        let (state, next) = counting(self.said("login", text)?, now)?.split_once('.')?;
        let next = String::from_utf8(URL_SAFE_NO_PAD.decode(next).ok()?).ok()?;
        Some((state.to_owned(), next))
    }

    /// A secret that belongs to a text: whoever has not this key cannot know it.
    pub(crate) fn derived(&self, purpose: &str, of: &str) -> Option<String> {
        Some(URL_SAFE_NO_PAD.encode(self.mac(&["derived", purpose, of])?.finalize().into_bytes()))
    }

    fn signed(&self, purpose: &str, said: String) -> Option<String> {
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&[purpose, &said])?.finalize().into_bytes());
        Some(format!("{said}.{signature}"))
    }

    /// What a text says, if it is signed for that purpose.
    fn said<'a>(&self, purpose: &str, text: &'a str) -> Option<&'a str> {
        let (said, signature) = Some(text).filter(|text| text.len() <= MAX_BYTES)?.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.mac(&[purpose, said])?.verify_slice(&signature).ok()?;
        Some(said)
    }

    /// What a session says of its token: nothing that leads back to it.
    fn tag(&self, digest: &TokenDigest) -> Option<String> {
        let mut mac = self.mac(&["token"])?;
        mac.update(digest.bytes());
        Some(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes().get(..16)?))
    }

    fn mac(&self, parts: &[&str]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        for part in parts {
            mac.update(part.as_bytes());
            mac.update(b"\n");
        }
        Some(mac)
    }
}

/// What follows the end of what was said, unless that end has come.
fn counting(said: &str, now: Timestamp) -> Option<&str> {
    let (until_ms, rest) = said.split_once('.')?;
    (Timestamp::from_ms(until_ms.parse().ok()?) > now).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_000_000_000);
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn sealed(key: &SessionKey, tokens: &Tokens) -> String {
        key.seal(tokens.find(TOKEN).unwrap(), NOW.plus_ms(1_000)).unwrap()
    }

    #[test]
    fn a_session_counts_until_its_end_and_as_long_as_its_token() {
        let (key, tokens) = (SessionKey::random().unwrap(), Tokens::only("ann", TOKEN));
        let text = sealed(&key, &tokens);
        assert_eq!(key.open(&text, &tokens, None, NOW).unwrap().name, "ann");
        assert!(key.open(&text, &tokens, None, NOW.plus_ms(1_000)).is_none(), "it is over");
        assert!(key.open(&text, &Tokens::only("ann", "another token than before"), None, NOW).is_none());
        assert!(SessionKey::random().unwrap().open(&text, &tokens, None, NOW).is_none(), "another key");
        assert!(!text.contains(TOKEN));
    }

    #[test]
    fn a_forged_session_is_none() {
        let (key, tokens) = (SessionKey::random().unwrap(), Tokens::only("ann", TOKEN));
        let text = sealed(&key, &tokens);
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'1' { b'2' } else { b'1' };
            let forged = String::from_utf8(forged).unwrap();
            // The last character may hold bits that mean nothing.
            assert!(key.open(&forged, &tokens, None, NOW).is_none() || at + 1 == text.len(), "{at}");
        }
        let (_, signature) = text.rsplit_once('.').unwrap();
        for forged in ["", ".", "..", &format!("9.x.{signature}"), &"1".repeat(10_000)] {
            assert!(key.open(forged, &tokens, None, NOW).is_none(), "{forged}");
        }
    }

    #[test]
    fn a_visitor_is_held_as_long_as_the_rules_that_let_them_in() {
        let (key, none) = (SessionKey::random().unwrap(), Tokens::none());
        let of = |scope: Scope| Visitor { name: "ann \u{e9}.".to_owned(), scope };
        let acme = ["acme", "globex"].map(|tenant| Tenant::parse(tenant).unwrap());
        for visitor in [of(Scope::All), of(Scope::Tenants(acme.into()))] {
            let text = key.seal_visitor(&visitor, "r1", NOW.plus_ms(1_000)).unwrap();
            assert_eq!(key.open(&text, &none, Some("r1"), NOW), Some(visitor));
            for (rules, now) in [(Some("r2"), NOW), (None, NOW), (Some("r1"), NOW.plus_ms(1_000))] {
                assert_eq!(key.open(&text, &none, rules, now), None);
            }
            assert_eq!(key.open_login(&text, NOW), None, "it is no login");
        }
        let many = (0..500).map(|n| Tenant::parse(format!("tenant-{n}")).unwrap()).collect();
        assert_eq!(key.seal_visitor(&of(Scope::Tenants(many)), "r1", NOW.plus_ms(1_000)), None);
    }

    #[test]
    fn a_login_is_held_by_its_browser_and_is_no_session() {
        let key = SessionKey::random().unwrap();
        let text = key.seal_login("state", "/a?b=.c", NOW.plus_ms(1_000)).unwrap();
        assert_eq!(key.open_login(&text, NOW), Some(("state".to_owned(), "/a?b=.c".to_owned())));
        assert_eq!(key.open_login(&text, NOW.plus_ms(1_000)), None);
        assert_eq!(key.open_login(&format!("{text}A"), NOW), None);
        assert_eq!(key.open(&text, &Tokens::none(), Some("state"), NOW), None);
        let (nonce, verifier) =
            (key.derived("nonce", "state").unwrap(), key.derived("verifier", "state").unwrap());
        assert!(nonce != verifier && verifier.len() == 43 && !text.contains(&nonce));
    }

    #[test]
    fn a_key_has_32_bytes() {
        assert!(SessionKey::parse(&format!(" {} ", STANDARD.encode([7; 32]))).is_ok());
        for wrong in ["", "x", &STANDARD.encode([7; 16])] {
            assert_eq!(SessionKey::parse(wrong).err(), Some(KeyError));
        }
    }
}
