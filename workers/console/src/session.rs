//! Sessions of visitors: a cookie that says which token was shown and until when it counts, signed with HMAC-SHA256. The console stores nothing.
//!
//! A session ends with its time, and when its token is taken from the list.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use toolfleet_core::time::Timestamp;

use crate::tokens::{Token, TokenDigest, Tokens};

/// The size of a key in bytes.
const KEY_BYTES: usize = 32;
/// A longer text is no session.
const MAX_BYTES: usize = 512;

/// Why a key is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a key of {KEY_BYTES} bytes in base64; make one with `openssl rand -base64 {KEY_BYTES}`")]
pub struct KeyError;

/// The key that signs sessions.
#[derive(Clone)]
pub struct SessionKey([u8; KEY_BYTES]);

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
        let said = format!("{}.{}", until.as_ms(), self.tag(&token.digest)?);
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&["session", &said])?.finalize().into_bytes());
        Some(format!("{said}.{signature}"))
    }

    /// The token of a session that counts now; anything else is none.
    pub(crate) fn open<'a>(&self, text: &str, tokens: &'a Tokens, now: Timestamp) -> Option<&'a Token> {
        let (said, signature) = Some(text).filter(|text| text.len() <= MAX_BYTES)?.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.mac(&["session", said])?.verify_slice(&signature).ok()?;
        let (until_ms, tag) = said.split_once('.')?;
        if Timestamp::from_ms(until_ms.parse().ok()?) <= now {
            return None;
        }
        tokens.iter().find(|token| self.tag(&token.digest).is_some_and(|own| own == tag))
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
        assert_eq!(key.open(&text, &tokens, NOW).unwrap().name, "ann");
        assert!(key.open(&text, &tokens, NOW.plus_ms(1_000)).is_none(), "it is over");
        assert!(key.open(&text, &Tokens::only("ann", "another token than before"), NOW).is_none());
        assert!(SessionKey::random().unwrap().open(&text, &tokens, NOW).is_none(), "another key");
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
            assert!(key.open(&forged, &tokens, NOW).is_none() || at + 1 == text.len(), "{at}");
        }
        let (_, signature) = text.rsplit_once('.').unwrap();
        for forged in ["", ".", "..", &format!("9.x.{signature}"), &"1".repeat(10_000)] {
            assert!(key.open(forged, &tokens, NOW).is_none(), "{forged}");
        }
    }

    #[test]
    fn a_key_has_32_bytes() {
        assert!(SessionKey::parse(&format!(" {} ", STANDARD.encode([7; 32]))).is_ok());
        for wrong in ["", "x", &STANDARD.encode([7; 16])] {
            assert_eq!(SessionKey::parse(wrong).err(), Some(KeyError));
        }
    }
}
