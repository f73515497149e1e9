//! The sessions table: one row per session with its grants and its end. It is read often, written when it changes, never per call.
//!
//! **Invariant:** creating a session never overwrites one.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::request::User;
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::session::{SessionEvent, SessionRow, SessionTable};
use toolfleet_core::time::Timestamp;

use super::attributes::{Item, item, list, number, text};
use super::batch_get::by_keys;
use super::batch_write::BatchWriter;
use super::statement::{Statement, Written};
use crate::compare_and_swap::{Applied, Store, Swap, apply};
use crate::error::AwsError;
use crate::keys::{self, EXPIRES_AT, PK, SESSION_SORT, SK};

/// The sessions table.
#[derive(Debug, Clone)]
pub struct Sessions {
    pub(crate) client: Client,
    pub(crate) writer: BatchWriter,
    pub(crate) table: String,
}

/// One row of the sessions table.
#[derive(Debug, Clone, Copy)]
pub struct SessionStore<'a> {
    sessions: &'a Sessions,
    tenant: &'a Tenant,
    session: &'a SessionId,
}

impl Sessions {
    /// The row of one session.
    pub const fn row<'a>(&'a self, tenant: &'a Tenant, session: &'a SessionId) -> SessionStore<'a> {
        SessionStore { sessions: self, tenant, session }
    }

    /// The session, by a consistent read.
    pub async fn read(&self, tenant: &Tenant, session: &SessionId) -> Result<Option<SessionRow>, AwsError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(keys::session(tenant, session)))
            .key(SK, AttributeValue::S(SESSION_SORT.into()))
            .consistent_read(true);
        // Kilobytes of state that every call in flight would carry for a read that few of them make.
        let got = Box::pin(request.send()).await.map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        got.item.as_ref().map(|item| self.row_of(session, item)).transpose()
    }

    /// Creates the session; false if it exists already.
    pub async fn create(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        row: &SessionRow,
    ) -> Result<bool, AwsError> {
        let partition = keys::session(tenant, session);
        let all = item([
            (PK, text(&partition)),
            (SK, text(SESSION_SORT)),
            ("grants", Some(list(&row.grants))),
            ("ends_at_ms", number(row.expires_at.as_ms())),
            ("user_id", row.user.as_ref().and_then(|user| text(&user.id))),
            ("user_type", row.user.as_ref().and_then(|user| text(user.kind.as_ref()?))),
            ("user_roles", row.user.as_ref().map(|user| list(&user.roles))),
            // The row outlives the session, so that an ended one is never taken for an unknown one.
            (EXPIRES_AT, number(row.expires_at.plus_ms(RETENTION_MS).as_s())),
        ]);
        let written = self.writer.write(Statement::insert(&self.table, &partition, all)).await?;
        Ok(matches!(written, Written::Done))
    }

    /// Applies an event to a session.
    pub async fn apply(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        event: &SessionEvent,
    ) -> Result<Applied<SessionTable>, AwsError> {
        let seen = self.read(tenant, session).await?;
        apply(&self.row(tenant, session), seen.as_ref(), event).await
    }

    /// Ends a session at `now`, also one that has no row yet: the row it gets is kept as long as any call that could name it, so
    /// that no worker registers the session. Workers that cache the session act on it when their cached row has expired.
    pub async fn revoke(&self, tenant: &Tenant, session: &SessionId, now: Timestamp) -> Result<(), AwsError> {
        // The end of an existing row is set without reading it, so that an unreadable row can be revoked too.
        let end = self.end(keys::session(tenant, session), now);
        if matches!(self.writer.write(end).await?, Written::Done) {
            return Ok(());
        }
        apply(&self.row(tenant, session), None, &SessionEvent::Revoke { now }).await.map(|_revoked| ())
    }

    /// Those of these sessions that have ended by `now` or have no row any more; 100 in a request.
    pub async fn ended_of(
        &self,
        keys: &[(Tenant, SessionId)],
        now: Timestamp,
    ) -> Result<Vec<(Tenant, SessionId)>, AwsError> {
        let partitions: BTreeSet<String> = keys.iter().map(|(t, s)| keys::session(t, s)).collect();
        let wanted = partitions.into_iter().map(|pk| item([(PK, text(pk)), (SK, text(SESSION_SORT))]));
        // The caller closes the MCP sessions of an ended session. A stale row would show a prolonged session as ended.
        let rows = by_keys(&self.client, &self.table, wanted.collect(), true).await?;
        let open = rows.iter().filter(|row| parse(row).is_none_or(|row| row.expires_at > now));
        let open: BTreeSet<String> = open.filter_map(|row| row.get(PK)?.as_s().ok().cloned()).collect();
        Ok(keys.iter().filter(|(t, s)| !open.contains(&keys::session(t, s))).cloned().collect())
    }

    /// Whether the session has ended by `now`, or has no row any more; by a consistent read.
    pub async fn has_ended(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<bool, AwsError> {
        Ok(self.read(tenant, session).await?.is_none_or(|row| row.expires_at <= now))
    }

    fn end(&self, partition: String, at: Timestamp) -> Statement {
        let update = format!(
            r#"UPDATE "{}" SET "ends_at_ms"=? SET "{EXPIRES_AT}"=? WHERE "{PK}"=? AND "{SK}"=?"#,
            self.table
        );
        let parameters = [
            number(at.as_ms()),
            number(at.plus_ms(RETENTION_MS).as_s()),
            text(&partition),
            text(SESSION_SORT),
        ];
        Statement::new(&self.table, &partition, update, parameters.into_iter().flatten().collect())
    }

    /// A row that cannot be read is an error: taken for a missing one it would open every tool.
    fn row_of(&self, session: &SessionId, item: &Item) -> Result<SessionRow, AwsError> {
        parse(item).ok_or_else(|| {
            AwsError::configuration(format!(
                "session `{session}` of {} has no usable grants or end",
                self.table
            ))
        })
    }
}

impl Store for SessionStore<'_> {
    type Table = SessionTable;

    /// The condition is on the grants and the end that were seen.
    async fn swap(&self, seen: Option<&SessionRow>, new: &SessionRow) -> Result<Swap<SessionRow>, AwsError> {
        let Self { sessions, tenant, session } = *self;
        let Some(seen) = seen else {
            return Ok(match sessions.create(tenant, session, new).await? {
                true => Swap::Stored,
                false => Swap::Found(sessions.read(tenant, session).await?.map(Box::new)),
            });
        };
        let partition = keys::session(tenant, session);
        let update = format!(
            r#"UPDATE "{}" SET "grants"=? SET "ends_at_ms"=? SET "{EXPIRES_AT}"=? WHERE "{PK}"=? AND "{SK}"=? AND "grants"=? AND "ends_at_ms"=?"#,
            sessions.table
        );
        let parameters = [
            Some(list(&new.grants)),
            number(new.expires_at.as_ms()),
            number(new.expires_at.plus_ms(RETENTION_MS).as_s()),
            text(&partition),
            text(SESSION_SORT),
            Some(list(&seen.grants)),
            number(seen.expires_at.as_ms()),
        ];
        let parameters = parameters.into_iter().flatten().collect();
        let update = Statement::new(&sessions.table, &partition, update, parameters);
        Ok(match sessions.writer.write(update).await? {
            Written::Done => Swap::Stored,
            Written::ConditionFailed(Some(item)) => {
                Swap::Found(Some(Box::new(sessions.row_of(session, &item)?)))
            }
            Written::ConditionFailed(None) | Written::Exists => Swap::Found(None),
        })
    }
}

/// The user that a session is bound to; `None` if it cannot be read, which must not be taken for no user.
fn bound_user(item: &Item) -> Option<Option<User>> {
    let Some(id) = item.get("user_id") else {
        return Some(None);
    };
    let kind = match item.get("user_type") {
        Some(kind) => Some(kind.as_s().ok()?.clone()),
        None => None,
    };
    let roles = item.get("user_roles")?.as_l().ok()?;
    let roles = roles.iter().map(|role| role.as_s().ok().cloned()).collect::<Option<_>>()?;
    Some(Some(User { id: id.as_s().ok()?.clone(), kind, roles }))
}

fn parse(item: &Item) -> Option<SessionRow> {
    let ends_at_ms = item.get("ends_at_ms")?.as_n().ok()?.parse().ok()?;
    let grants = item.get("grants")?.as_l().ok()?;
    let grants = grants.iter().map(|g| g.as_s().ok().cloned()).collect::<Option<_>>()?;
    Some(SessionRow { expires_at: Timestamp::from_ms(ends_at_ms), grants, user: bound_user(item)? })
}
