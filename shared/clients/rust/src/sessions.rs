//! Creates, changes and shows sessions: what they may call, and until when.
//!
//! **Invariant:** creating never overwrites, a grant never loses a concurrent one, and an end is final.

use toolfleet_aws::sessions::Sessions as Table;
use toolfleet_aws::{Applied, AwsError};
use toolfleet_core::grants::{self, GrantError};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::request::User;
use toolfleet_core::server_session::ServerSession;
use toolfleet_core::session::{SessionEvent, SessionRejection, SessionRow, check_grants, merged};
use toolfleet_core::time::Timestamp;

use crate::clock::Now;

/// The sessions of a fleet.
#[derive(Clone)]
pub struct Sessions {
    pub(crate) table: Table,
    pub(crate) now: Now,
}

/// A session: what it may call, until when, and its MCP sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What it may call: `*` for all, tool ids, `tool.function`, `server/name`, `server/*`.
    pub grants: Vec<String>,
    /// The user that it is bound to, if any.
    pub user: Option<User>,
    /// When it ends or ended.
    pub ends_at: Timestamp,
    /// Whether it has ended.
    pub ended: bool,
    /// The MCP sessions that workers keep for it.
    pub mcp: Vec<ServerSession>,
}

/// Why a session was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A grant matches no tool.
    #[error("grant: {0}")]
    Grant(#[from] GrantError),
    /// No grant at all.
    #[error(
        "grants: there is none; a session that opens nothing refuses every call. Name tools, or `*` for all"
    )]
    NoGrant,
    /// The end is in the past.
    #[error("ends_at: {0} has passed; give an instant to come, or revoke the session to end it now")]
    EndPassed(Timestamp),
    /// It exists already.
    #[error("session `{0}` exists already; change it with grant, expire or revoke, or use another id")]
    Exists(SessionId),
    /// It was never created, and no worker has registered it.
    #[error("there is no session `{0}`; create it first")]
    Unknown(SessionId),
    /// It has ended, and an end is final.
    #[error("session `{0}` ended at {1}, and an end is final; create a new session")]
    Ended(SessionId, Timestamp),
    /// The table failed.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl SessionError {
    fn of(rejection: SessionRejection, session: &SessionId) -> Self {
        match rejection {
            SessionRejection::Unknown => Self::Unknown(session.clone()),
            SessionRejection::Ended(at) => Self::Ended(session.clone(), at),
            SessionRejection::NoGrant => Self::NoGrant,
            SessionRejection::Grant(error) => Self::Grant(error),
            SessionRejection::Unchanged => {
                Self::Aws(AwsError::passing(format!("session `{session}` was not changed; try again")))
            }
        }
    }
}

impl Sessions {
    /// Creates a session.
    pub async fn create(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        grants: &[String],
        ends_at: Timestamp,
    ) -> Result<(), SessionError> {
        self.create_for(tenant, session, grants, ends_at, None).await
    }

    /// Creates a session that is bound to a user: its calls act as that user, and calls that name another user are refused.
    pub async fn create_for(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        grants: &[String],
        ends_at: Timestamp,
        user: Option<User>,
    ) -> Result<(), SessionError> {
        self.check_end(ends_at)?;
        check_grants(grants).map_err(|rejection| SessionError::of(rejection, session))?;
        let row = SessionRow { expires_at: ends_at, grants: merged(&[], grants), user };
        match self.table.create(tenant, session, &row).await? {
            true => Ok(()),
            false => Err(SessionError::Exists(session.clone())),
        }
    }

    /// The session now.
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

    /// Adds grants and removes others; returns all grants of the session then.
    pub async fn grant(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        add: &[String],
        remove: &[String],
    ) -> Result<Vec<String>, SessionError> {
        add.iter().chain(remove).try_for_each(|grant| grants::check(grant))?;
        let event = SessionEvent::Grant { add: add.to_vec(), remove: remove.to_vec(), now: (self.now)() };
        match self.table.apply(tenant, session, &event).await? {
            Applied::Stored { row, .. }
            | Applied::Rejected { row: Some(row), rejection: SessionRejection::Unchanged } => Ok(row.grants),
            Applied::Rejected { rejection, .. } => Err(SessionError::of(rejection, session)),
        }
    }

    /// Sets the end of a session to an instant in the future.
    pub async fn expire(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        at: Timestamp,
    ) -> Result<(), SessionError> {
        self.check_end(at)?;
        let event = SessionEvent::Expire { at, now: (self.now)() };
        match self.table.apply(tenant, session, &event).await? {
            Applied::Stored { .. } => Ok(()),
            Applied::Rejected { rejection, .. } => Err(SessionError::of(rejection, session)),
        }
    }

    /// Ends a session now, also one that does not exist yet. Workers that cache it act on it within
    /// [`SESSION_CACHE_TTL_S`](crate::SESSION_CACHE_TTL_S).
    pub async fn revoke(&self, tenant: &Tenant, session: &SessionId) -> Result<(), AwsError> {
        self.table.revoke(tenant, session, (self.now)()).await
    }

    fn check_end(&self, ends_at: Timestamp) -> Result<(), SessionError> {
        if ends_at <= (self.now)() { Err(SessionError::EndPassed(ends_at)) } else { Ok(()) }
    }
}
