//! Owns conversations as an orchestrator or an operator registers them: what they may call, and until when.
//!
//! **Invariant:** creating never overwrites, granting never loses what somebody else granted meanwhile, and an end is never taken back.

use toolfleet_aws::AwsError;
use toolfleet_aws::mcp_sessions::McpSession;
use toolfleet_aws::sessions::{SessionRow, Sessions as Table};
use toolfleet_core::grants::{self, GrantError};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::message::User;
use toolfleet_core::time::Timestamp;

use crate::Now;

/// For how long a worker may still believe what it last read of a session, in seconds.
pub const BELIEVED_FOR_S: u64 = 60;

/// How often a change is tried against others.
const MOST_ROUNDS: u32 = 8;

/// The sessions of a fleet.
#[derive(Clone)]
pub struct Sessions {
    pub(crate) table: Table,
    pub(crate) now: Now,
}

/// A conversation: what it may call, until when, and its MCP sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What it may call: `*` for all, tool ids, `tool.function`, `server/name`, `server/*`.
    pub grants: Vec<String>,
    /// The user whose calls it makes, where it is bound to one.
    pub user: Option<User>,
    /// When it ends or ended.
    pub ends_at: Timestamp,
    /// Whether it has ended.
    pub ended: bool,
    /// The MCP sessions that workers keep for it.
    pub mcp: Vec<McpSession>,
}

/// Why a session was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// One of the grants can open nothing.
    #[error("grant: {0}")]
    Grant(#[from] GrantError),
    /// No grant at all.
    #[error(
        "grants: there is none; a session that opens nothing refuses every call. Name tools, or `*` for all"
    )]
    NoGrant,
    /// The end lies in the past.
    #[error("ends_at: {0} has passed; give an instant to come, or revoke the session to end it now")]
    EndPassed(Timestamp),
    /// It exists already.
    #[error("session `{0}` exists already; change it with grant, expire or revoke, or use another id")]
    Exists(SessionId),
    /// Nobody registered it and no worker has met it.
    #[error("there is no session `{0}`; create it first")]
    Unknown(SessionId),
    /// It has ended, and an end is never taken back.
    #[error("session `{0}` ended at {1}, and an end is never taken back; create a new session")]
    Ended(SessionId, Timestamp),
    /// The table did not answer.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl Sessions {
    /// Registers a conversation.
    pub async fn create(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        grants: &[String],
        ends_at: Timestamp,
    ) -> Result<(), SessionError> {
        self.create_for(tenant, session, grants, ends_at, None).await
    }

    /// Registers a conversation, bound to a user: its calls act as that user, and those that name another one are refused.
    pub async fn create_for(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        grants: &[String],
        ends_at: Timestamp,
        user: Option<User>,
    ) -> Result<(), SessionError> {
        self.check_end(ends_at)?;
        check_grants(grants)?;
        let row = SessionRow { expires_at: ends_at, grants: merged(&[], grants), user };
        match self.table.create(tenant, session, &row).await? {
            true => Ok(()),
            false => Err(SessionError::Exists(session.clone())),
        }
    }

    /// The conversation, as it stands now.
    pub async fn show(&self, tenant: &Tenant, session: &SessionId) -> Result<Option<Session>, AwsError> {
        let (row, mcp) =
            futures::try_join!(self.table.read(tenant, session), self.table.mcp_sessions(tenant, session))?;
        Ok(row.map(|row| Session {
            ended: row.expires_at <= (self.now)(),
            grants: row.grants,
            user: row.user,
            ends_at: row.expires_at,
            mcp,
        }))
    }

    /// Grants more, and withdraws others; gives all that are granted then.
    pub async fn grant(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        more: &[String],
        fewer: &[String],
    ) -> Result<Vec<String>, SessionError> {
        more.iter().chain(fewer).try_for_each(|grant| grants::check(grant))?;
        for _ in 0..MOST_ROUNDS {
            let row = self.open(tenant, session).await?;
            let kept: Vec<_> = row.grants.iter().filter(|g| !fewer.contains(g)).cloned().collect();
            let wanted = merged(&kept, more);
            check_grants(&wanted)?;
            if wanted == row.grants || self.table.regrant(tenant, session, &row.grants, &wanted).await? {
                return Ok(wanted);
            }
        }
        let text = format!("session `{session}` changed under every attempt to change its grants; try again");
        Err(AwsError::passing(text).into())
    }

    /// Lets a conversation end at an instant to come.
    pub async fn expire(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        at: Timestamp,
    ) -> Result<(), SessionError> {
        self.check_end(at)?;
        self.open(tenant, session).await?;
        match self.table.end(tenant, session, at).await? {
            true => Ok(()),
            false => Err(SessionError::Unknown(session.clone())),
        }
    }

    /// Ends a conversation now, also one that nobody has registered yet. Workers that remember it act on it within
    /// [`BELIEVED_FOR_S`].
    pub async fn revoke(&self, tenant: &Tenant, session: &SessionId) -> Result<(), AwsError> {
        self.table.revoke(tenant, session, (self.now)()).await
    }

    /// The row of a conversation that goes on.
    async fn open(&self, tenant: &Tenant, session: &SessionId) -> Result<SessionRow, SessionError> {
        let row = self.table.read(tenant, session).await?;
        let row = row.ok_or_else(|| SessionError::Unknown(session.clone()))?;
        if row.expires_at <= (self.now)() {
            return Err(SessionError::Ended(session.clone(), row.expires_at));
        }
        Ok(row)
    }

    fn check_end(&self, ends_at: Timestamp) -> Result<(), SessionError> {
        if ends_at <= (self.now)() { Err(SessionError::EndPassed(ends_at)) } else { Ok(()) }
    }
}

fn check_grants(grants: &[String]) -> Result<(), SessionError> {
    if grants.is_empty() {
        return Err(SessionError::NoGrant);
    }
    Ok(grants.iter().try_for_each(|grant| grants::check(grant))?)
}

/// Those that stand and the new ones, each once, in order.
fn merged(stand: &[String], more: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for grant in stand.iter().chain(more) {
        if !all.contains(grant) {
            all.push(grant.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_stands_once_and_keeps_its_place() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(merged(&words("a b"), &words("b c b")), words("a b c"));
    }

    #[test]
    fn no_grant_at_all_and_one_that_opens_nothing_are_refused_by_name() {
        assert!(check_grants(&[]).unwrap_err().to_string().starts_with("grants: there is none"));
        assert!(check_grants(&["a b".into()]).unwrap_err().to_string().starts_with("grant: `a b` is not"));
    }
}
