//! Owns the sessions table: one row per conversation with its grants and its end. Read often, written when it changes, never
//! per call.
//!
//! **Invariant:** creating a session never overwrites one.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::audit::session_partition;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::message::User;
use toolfleet_core::time::Timestamp;

use crate::calls::{insert, statement};
use crate::error::AwsError;
use crate::item::{number, text};
use crate::read::by_keys;
use crate::statements::{Item, Statement, Statements, Written};

const META: &str = "meta";
/// How long the row of an ended session is kept, in milliseconds: as long as any call that could name it.
pub(crate) const KEPT_MS: u64 = 60 * 24 * 60 * 60 * 1000;

/// The sessions table.
#[derive(Debug, Clone)]
pub struct Sessions {
    pub(crate) client: Client,
    pub(crate) statements: Statements,
    pub(crate) table: String,
}

/// What a conversation may do, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// When it ends.
    pub expires_at: Timestamp,
    /// The tools it may call; `*` for all.
    pub grants: Vec<String>,
    /// The user whose calls it makes, where it is bound to one.
    pub user: Option<User>,
}

impl Sessions {
    /// The session, as it stands now.
    pub async fn read(&self, tenant: &Tenant, session: &SessionId) -> Result<Option<SessionRow>, AwsError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(session_partition(tenant, session)))
            .key("sk", AttributeValue::S(META.into()))
            .consistent_read(true);
        // Kilobytes of state that every call in flight would carry for a read that few of them make.
        let got = Box::pin(request.send()).await.map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        // A row that cannot be read must never pass for one that is not there: that would open every tool.
        let unreadable = || {
            AwsError::configuration(format!(
                "session `{session}` of {} has no usable grants or end",
                self.table
            ))
        };
        got.item.as_ref().map(|item| parse(item).ok_or_else(unreadable)).transpose()
    }

    /// Creates the session; false if it exists already.
    pub async fn create(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        row: &SessionRow,
    ) -> Result<bool, AwsError> {
        let partition = session_partition(tenant, session);
        let attributes = [
            ("pk", text(&partition)),
            ("sk", text(META)),
            ("grants", Some(list(&row.grants))),
            ("ends_at_ms", number(row.expires_at.as_ms())),
            ("user_id", row.user.as_ref().and_then(|user| text(&user.id))),
            ("user_type", row.user.as_ref().and_then(|user| text(user.kind.as_ref()?))),
            ("user_roles", row.user.as_ref().map(|user| list(&user.roles))),
            // The row outlives the session, so that an ended one is never taken for an unknown one.
            ("expires_at", number(row.expires_at.plus_ms(KEPT_MS).as_s())),
        ];
        let item: Item =
            attributes.into_iter().filter_map(|(name, value)| value.map(|v| (name.to_owned(), v))).collect();
        let written = self.statements.write(insert(&self.table, partition, item)).await?;
        Ok(matches!(written, Written::Done))
    }

    /// Ends a session at `now`, also one that nobody has registered yet: its row stays as long as any call that could name it, so
    /// that no worker registers it anew. Workers that remember the session act on it once their memory of it has passed.
    pub async fn revoke(&self, tenant: &Tenant, session: &SessionId, now: Timestamp) -> Result<(), AwsError> {
        let ended = SessionRow { expires_at: now, grants: Vec::new(), user: None };
        // A row that comes or goes between the two writes is met by the next round.
        for _ in 0..4 {
            let update = self.ending(session_partition(tenant, session), now);
            if matches!(self.statements.write(update).await?, Written::Done)
                || self.create(tenant, session, &ended).await?
            {
                return Ok(());
            }
        }
        Err(AwsError::passing(format!(
            "a session in {} changed under every attempt to revoke it",
            self.table
        )))
    }

    /// Lets a session that is registered end at `at`; false if there is none.
    pub async fn end(&self, tenant: &Tenant, session: &SessionId, at: Timestamp) -> Result<bool, AwsError> {
        let update = self.ending(session_partition(tenant, session), at);
        Ok(matches!(self.statements.write(update).await?, Written::Done))
    }

    /// Replaces the grants that were seen; false if others stand, or there is no such session.
    pub async fn regrant(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        seen: &[String],
        grants: &[String],
    ) -> Result<bool, AwsError> {
        let partition = session_partition(tenant, session);
        let text_of =
            format!(r#"UPDATE "{}" SET "grants"=? WHERE "pk"=? AND "sk"=? AND "grants"=?"#, self.table);
        let parameters = [Some(list(grants)), text(&partition), text(META), Some(list(seen))];
        let write = statement(&self.table, partition, text_of, parameters.into_iter().flatten().collect());
        Ok(matches!(self.statements.write(write).await?, Written::Done))
    }

    /// Which of these sessions have ended by `now`, also those that are not there any more; a hundred in a request.
    pub async fn ended_of(
        &self,
        keys: &[(Tenant, SessionId)],
        now: Timestamp,
    ) -> Result<Vec<(Tenant, SessionId)>, AwsError> {
        let partitions: BTreeSet<String> = keys.iter().map(|(t, s)| session_partition(t, s)).collect();
        let wanted = partitions.into_iter().map(|pk| {
            Item::from([
                ("pk".to_owned(), AttributeValue::S(pk)),
                ("sk".to_owned(), AttributeValue::S(META.into())),
            ])
        });
        // Whoever asks closes what has ended. An old copy of a row would show a prolonged session as ended.
        let rows = by_keys(&self.client, &self.table, wanted.collect(), true).await?;
        let open = rows.iter().filter(|row| parse(row).is_none_or(|row| row.expires_at > now));
        let open: BTreeSet<String> = open.filter_map(|row| row.get("pk")?.as_s().ok().cloned()).collect();
        Ok(keys.iter().filter(|(t, s)| !open.contains(&session_partition(t, s))).cloned().collect())
    }

    /// Whether the session has ended by `now`, or its row is not there any more; by a consistent read.
    pub async fn has_ended(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<bool, AwsError> {
        Ok(self.read(tenant, session).await?.is_none_or(|row| row.expires_at <= now))
    }

    fn ending(&self, partition: String, at: Timestamp) -> Statement {
        let text_of = format!(
            r#"UPDATE "{}" SET "ends_at_ms"=? SET "expires_at"=? WHERE "pk"=? AND "sk"=?"#,
            self.table
        );
        let ends = [number(at.as_ms()), number(at.plus_ms(KEPT_MS).as_s())];
        let key = [text(&partition), text(META)];
        statement(&self.table, partition, text_of, ends.into_iter().chain(key).flatten().collect())
    }
}

/// The user that a session is bound to. One that cannot be read must not pass for none.
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

fn list(grants: &[String]) -> AttributeValue {
    AttributeValue::L(grants.iter().cloned().map(AttributeValue::S).collect())
}

fn parse(item: &Item) -> Option<SessionRow> {
    let ends_at_ms = item.get("ends_at_ms")?.as_n().ok()?.parse().ok()?;
    let grants = item.get("grants")?.as_l().ok()?;
    let grants = grants.iter().map(|g| g.as_s().ok().cloned()).collect::<Option<_>>()?;
    Some(SessionRow { expires_at: Timestamp::from_ms(ends_at_ms), grants, user: bound_user(item)? })
}
