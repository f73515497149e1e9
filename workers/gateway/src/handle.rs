//! Handles of calls that go on: task ids, handles of `get_result`, and the request states and questions of calls that ask for input.
//!
//! A handle holds what a gateway needs to find the call again, encrypted and authenticated (AES-256-GCM) with a key that all gateways of a
//! fleet have. So a gateway stores nothing, and any of them can open a handle that another one gave.
//!
//! **Invariant:** only the tenant and the user that a handle was given to can open it, and only for the purpose it was given for.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::{CallId, CallKey, SessionId};
use toolfleet_core::payload::ArgumentsRef;
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use crate::caller::Caller;

/// The size of a key in bytes.
const KEY_BYTES: usize = 32;
/// Within that time a worker receives a call: the deadline that workers give to a call without one, unless they are configured otherwise.
const RECEIVED_WITHIN_MS: u64 = 60 * 60 * 1_000;
/// A longer text is no handle of ours.
const MAX_HANDLE_BYTES: usize = 16_384;

/// What a handle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The id of a task.
    Task,
    /// The handle that the tool `get_result` takes.
    Result,
    /// The state of a call that asks for input.
    Input,
    /// What a session has subscribed to: the id of events.
    Stream,
    /// The id of a request that asks a client for input.
    Question,
    /// An answer that waits in the bucket for others.
    Answer,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Result => "result",
            Self::Input => "input",
            Self::Stream => "stream",
            Self::Question => "question",
            Self::Answer => "answer",
        }
    }
}

/// A call that a handle leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handle {
    /// The call's id.
    #[serde(rename = "c")]
    pub(crate) call_id: CallId,
    /// The digest of the question, to tell the call from an earlier one with its id; empty where the id is derived from another call's.
    #[serde(rename = "d")]
    digest: String,
    /// The message that was sent for it, whose own row holds the answer if the message was refused.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    /// When it was given, in milliseconds.
    #[serde(rename = "t")]
    given_ms: i64,
    /// The published name of the tool.
    #[serde(rename = "n")]
    pub(crate) tool: String,
    /// The arguments, where the call may need them to go on and they are short.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<String>,
    /// Where they are, if they are long.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub(crate) arguments_ref: Option<ArgumentsRef>,
    /// The token under which the client of a task of 2025-11-25 wants its progress, as JSON.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) progress_token: Option<String>,
    /// The session of the call. What goes on with answers is in it too, whenever and wherever these are given.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    conversation: Option<SessionId>,
}

impl Handle {
    pub(crate) fn new(request: &CallRequest, message_id: Option<&str>, tool: &str, now: Timestamp) -> Self {
        Self {
            call_id: request.key.call_id.clone(),
            digest: request.digest.as_str().to_owned(),
            message_id: message_id.map(str::to_owned),
            given_ms: now.as_ms(),
            tool: tool.to_owned(),
            arguments: None,
            arguments_ref: None,
            progress_token: None,
            conversation: request.session.clone(),
        }
    }

    /// The session of the call by which this one goes on. A handle of an earlier version does not say it.
    pub(crate) fn conversation(&self, caller: &Caller) -> Option<SessionId> {
        self.conversation.clone().or_else(|| caller.conversation.clone())
    }

    pub(crate) const fn given_at(&self) -> Timestamp {
        Timestamp::from_ms(self.given_ms)
    }

    pub(crate) fn key(&self, caller: &Caller) -> CallKey {
        CallKey { tenant: caller.tenant.clone(), call_id: self.call_id.clone() }
    }

    /// Whether the row is that of the call, and not of an earlier one with its id.
    pub(crate) fn is_of(&self, row: &CallRow) -> bool {
        self.digest.is_empty() || row.digest.as_ref().is_none_or(|digest| digest.as_str() == self.digest)
    }

    /// The same handle, of the call by which a task goes on.
    pub(crate) fn of_call(self, call_id: CallId) -> Self {
        Self { call_id, ..self }
    }

    /// The handle of the call by which this one goes on: its id says that it is that call.
    pub(crate) fn next(self, call_id: CallId, now: Timestamp) -> Self {
        Self { call_id, digest: String::new(), message_id: None, given_ms: now.as_ms(), ..self }
    }

    /// Whether it is of a call by which another one goes on.
    pub(crate) const fn is_next(&self) -> bool {
        self.digest.is_empty()
    }

    /// The handle without what only a call that goes on needs.
    pub(crate) fn bare(&self) -> Self {
        Self { arguments: None, arguments_ref: None, progress_token: None, ..self.clone() }
    }

    /// Whether it is known that the call was sent.
    pub(crate) const fn is_sent(&self) -> bool {
        self.message_id.is_some()
    }

    /// Whether a worker would have received the call long ago.
    pub(crate) const fn is_overdue(&self, now: Timestamp) -> bool {
        now.ms_since(self.given_at()) > RECEIVED_WITHIN_MS
    }

    /// Where the answer stands if the message was refused.
    pub(crate) fn message_key(&self) -> Option<CallKey> {
        self.message_id.as_deref().map(CallKey::of_message)
    }
}

/// Why a key is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a list of keys in base64, of {KEY_BYTES} bytes each; make one with `openssl rand -base64 {KEY_BYTES}`"
)]
pub struct KeyError;

/// Seals and opens handles. The first key seals, all of them open.
pub struct Sealer(Vec<RandomizedNonceKey>);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sealer").field(&self.0.len()).finish()
    }
}

impl Sealer {
    /// The keys of a text: base64, separated by commas; the first one seals.
    ///
    /// # Errors
    /// One of them is no key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let key = |text: &str| {
            let bytes = STANDARD.decode(text.trim()).or_else(|_| URL_SAFE_NO_PAD.decode(text.trim()));
            let bytes = bytes.ok().filter(|bytes| bytes.len() == KEY_BYTES).ok_or(KeyError)?;
            RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| KeyError)
        };
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }

    /// A key of this process alone, for one gateway on a developer's machine.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn random() -> Result<Self, KeyError> {
        let mut bytes = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError)?;
        Ok(Self(vec![RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| KeyError)?]))
    }

    /// The handle as a text. `None` if it cannot be encrypted, which is a defect.
    pub(crate) fn seal(&self, purpose: Purpose, caller: &Caller, handle: &Handle) -> Option<String> {
        self.seal_as(purpose, caller, handle)
    }

    /// Any value as a text that this caller alone can open, for that purpose.
    pub(crate) fn seal_as<T: Serialize>(
        &self,
        purpose: Purpose,
        caller: &Caller,
        value: &T,
    ) -> Option<String> {
        let mut bytes = serde_json::to_vec(value).ok()?;
        let bound = bound(purpose, caller);
        let nonce = self.0.first()?.seal_in_place_append_tag(Aad::from(bound), &mut bytes).ok()?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut bytes);
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The handle of a text that this caller was given for that purpose; anything else is none.
    pub(crate) fn open(&self, purpose: Purpose, caller: &Caller, text: &str) -> Option<Handle> {
        self.open_as(purpose, caller, text)
    }

    /// The value of such a text.
    pub(crate) fn open_as<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        caller: &Caller,
        text: &str,
    ) -> Option<T> {
        self.open_long(purpose, caller, Some(text).filter(|text| text.len() <= MAX_HANDLE_BYTES)?)
    }

    /// The value of such a text of any length, which is not from a client.
    pub(crate) fn open_long<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        caller: &Caller,
        text: &str,
    ) -> Option<T> {
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        self.0.iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut bytes = sealed.to_vec();
            let opened = key.open_in_place(nonce, Aad::from(bound(purpose, caller)), &mut bytes).ok()?;
            serde_json::from_slice(opened).ok()
        })
    }
}

fn bound(purpose: Purpose, caller: &Caller) -> String {
    format!("{}\n{}", purpose.as_str(), caller.binding())
}

#[cfg(test)]
mod tests {
    use toolfleet_core::ids::Tenant;
    use toolfleet_core::request::User;

    use super::*;

    fn caller(tenant: &str, user: &str) -> Caller {
        let user = (!user.is_empty()).then(|| User { id: user.to_owned(), ..User::default() });
        Caller {
            tenant: Tenant::parse(tenant).unwrap(),
            user,
            session: None,
            conversation: None,
            expires: None,
        }
    }

    fn handle() -> Handle {
        let request = r#"{"v":1,"call_id":"c1","tenant":"acme","tool":"t","arguments":{}}"#;
        let request = CallRequest::decode(request).unwrap();
        Handle::new(&request, Some("m1"), "t", Timestamp::from_ms(5))
    }

    #[test]
    fn a_handle_is_opened_by_whom_it_was_given_to() {
        let sealer = Sealer::random().unwrap();
        let ann = caller("acme", "ann");
        let text = sealer.seal(Purpose::Task, &ann, &handle()).unwrap();
        assert!(!text.contains("c1"));
        assert_eq!(sealer.open(Purpose::Task, &ann, &text), Some(handle()));
        let with_roles = User { id: "ann".to_owned(), roles: vec!["admin".to_owned()], ..User::default() };
        let later = Caller { user: Some(with_roles), ..ann.clone() };
        assert_eq!(sealer.open(Purpose::Task, &later, &text), Some(handle()));
        for other in [caller("globex", "ann"), caller("acme", "bob"), caller("acme", "")] {
            assert_eq!(sealer.open(Purpose::Task, &other, &text), None, "{other:?}");
        }
        assert_eq!(sealer.open(Purpose::Input, &ann, &text), None);
        assert_ne!(sealer.seal(Purpose::Task, &ann, &handle()).unwrap(), text, "a nonce is used once");
    }

    #[test]
    fn a_call_is_overdue_after_the_default_deadline() {
        let at = |ms| handle().is_overdue(Timestamp::from_ms(ms));
        assert!(!at(5) && !at(0) && !at(3_600_005) && at(3_600_006));
    }

    #[test]
    fn a_tenant_and_a_user_cannot_be_put_together_otherwise() {
        let user = caller("acme", "x").binding();
        assert_ne!(user, caller("acme:x", "").binding());
        assert_ne!(caller("a", "b").binding(), caller("ab", "").binding());
    }

    #[test]
    fn a_forged_handle_is_none() {
        let sealer = Sealer::random().unwrap();
        let ann = caller("acme", "ann");
        let text = sealer.seal(Purpose::Result, &ann, &handle()).unwrap();
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            let opened = sealer.open(Purpose::Result, &ann, &forged);
            // The last character may hold bits that mean nothing.
            assert!(opened.is_none() || at + 1 == text.len(), "{at}");
        }
        let of_another_key = Sealer::random().unwrap().seal(Purpose::Result, &ann, &handle()).unwrap();
        for forged in ["", "x", "AAAA", &text[..text.len() - 1], &of_another_key, &"A".repeat(100_000)] {
            assert_eq!(sealer.open(Purpose::Result, &ann, forged), None);
        }
    }

    #[test]
    fn a_key_is_exchanged_without_losing_handles() {
        let (old, new) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
        let ann = caller("acme", "ann");
        let text = Sealer::parse(&old).unwrap().seal(Purpose::Task, &ann, &handle()).unwrap();
        let both = Sealer::parse(&format!("{new}, {old}")).unwrap();
        assert!(both.open(Purpose::Task, &ann, &text).is_some());
        assert!(Sealer::parse(&new).unwrap().open(Purpose::Task, &ann, &text).is_none());
        for wrong in ["", "x", &STANDARD.encode([1; 16]), &format!("{new},")] {
            assert_eq!(Sealer::parse(wrong).unwrap_err(), KeyError);
        }
    }
}
