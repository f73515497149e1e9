//! Who sends a request to the gateway, as its token says it.

use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::request::User;
use toolfleet_core::time::Timestamp;

use crate::session_source::SessionSource;

/// The caller of a request. Nothing of it comes from a tool's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant that the calls are for.
    pub tenant: Tenant,
    /// The user, where the token names one.
    pub user: Option<User>,
    /// What the request itself says of its conversation, where the configuration says where that stands. It is a part of what a request key names.
    pub session: Option<SessionId>,
    /// The session of its calls: no other user's calls are in it.
    pub conversation: Option<SessionId>,
    /// When the token is no longer accepted: a stream that lasts ends then.
    pub expires: Option<Timestamp>,
}

/// How much of a digest tells a user's sessions from others'.
const MARK_CHARS: usize = 16;

impl Caller {
    /// The same caller with the session of its calls. What a header says is its client's own choice, so the user is a part of the session; without a
    /// header the user's calls of a month are in one. A tenant that opens no sessions by itself has given the client the one that it names.
    pub(crate) fn in_conversation(
        self,
        source: &SessionSource,
        opens_sessions: bool,
        now: Timestamp,
    ) -> Self {
        let mark = Digest::of_text(&self.binding());
        let mark = self.user.as_ref().filter(|_| opens_sessions).map(|_| mark.short(MARK_CHARS));
        let own = match (source, &self.session, mark) {
            (SessionSource::User, _, Some(mark)) => {
                // The end of a session is final, and one that opens by itself lasts 60 days.
                let month: String = now.to_string().chars().take(7).collect();
                Some(format!("user-{mark}-{month}"))
            }
            (SessionSource::Header(_), Some(said), Some(mark)) => Some(format!("{said}.{mark}")),
            (
                SessionSource::None
                | SessionSource::User
                | SessionSource::Claim(_)
                | SessionSource::Header(_),
                _,
                _,
            ) => None,
        };
        let marked = own.map(|text| {
            SessionId::parse(&text).or_else(|_| SessionId::parse(Digest::of_text(&text).as_str()))
        });
        let conversation = marked.and_then(Result::ok).or_else(|| self.session.clone());
        Self { conversation, ..self }
    }

    /// What a handle is bound to: the tenant and the user, without roles, which may change between two requests.
    pub(crate) fn binding(&self) -> String {
        let user = self.user.as_ref().map_or("", |user| user.id.as_str());
        format!("{}\n{}\n{user}", self.tenant.as_str().len(), self.tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(user: Option<&str>, session: Option<&str>) -> Caller {
        Caller {
            tenant: Tenant::parse("acme").unwrap(),
            user: user.map(|id| User { id: id.to_owned(), ..User::default() }),
            session: session.map(|id| SessionId::parse(id).unwrap()),
            conversation: None,
            expires: None,
        }
    }

    fn conversation(caller: Caller, source: &str, opens: bool, at: &str) -> Option<String> {
        let at = Timestamp::parse(at).unwrap();
        caller.in_conversation(&source.parse().unwrap(), opens, at).conversation.map(|one| one.to_string())
    }

    #[test]
    fn users_share_no_session() {
        for (source, said) in [("user", None), ("header:x-session", Some("s-1"))] {
            let of = |user, at| conversation(caller(Some(user), said), source, true, at).unwrap();
            let ann = of("ann", "2026-11-30T00:00:00Z");
            assert_eq!(ann, of("ann", "2026-11-01T00:00:00Z"));
            assert_ne!(ann, of("bob", "2026-11-30T00:00:00Z"), "{source}");
        }
        let of = |at| conversation(caller(Some("ann"), None), "user", true, at).unwrap();
        assert_ne!(of("2026-11-30T00:00:00Z"), of("2026-12-01T00:00:00Z"), "a session lasts 60 days");
        let long = "x".repeat(256);
        let of =
            |user| conversation(caller(Some(user), Some(&long)), "header:x", true, "2026-11-30T00:00:00Z");
        assert!(of("ann").is_some() && of("ann") != of("bob") && of("ann").as_deref() != Some(long.as_str()));
    }

    #[test]
    fn a_session_that_was_given_stays_as_it_is() {
        let at = "2026-11-30T00:00:00Z";
        let of = |user, source, opens| conversation(caller(user, Some("s-1")), source, opens, at);
        assert_eq!(of(Some("ann"), "header:x-session", false).unwrap(), "s-1");
        assert_eq!(of(Some("ann"), "claim:sid", true).unwrap(), "s-1");
        assert_eq!(of(None, "header:x-session", true).unwrap(), "s-1");
        assert_eq!(conversation(caller(None, None), "user", true, at), None);
        assert_eq!(conversation(caller(Some("ann"), None), "none", true, at), None);
    }
}
