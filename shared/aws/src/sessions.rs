//! Owns the sessions table: one row per conversation with its grants and its end. Read often, written when it changes, never
//! per call.
//!
//! **Invariant:** creating a session never overwrites one.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::audit::session_partition;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::calls::insert;
use crate::item::{number, text};
use crate::statements::{Item, Statements, Written};
use crate::trouble::Trouble;

const META: &str = "meta";

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
    /// When it ends; kept to the second.
    pub expires_at: Timestamp,
    /// The tools it may call; `*` for all.
    pub grants: Vec<String>,
}

impl Sessions {
    /// The session, as it stands now.
    pub async fn read(&self, tenant: &Tenant, session: &SessionId) -> Result<Option<SessionRow>, Trouble> {
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(session_partition(tenant, session)))
            .key("sk", AttributeValue::S(META.into()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| Trouble::of_sdk("GetItem", &self.table, &e))?;
        Ok(got.item.as_ref().and_then(|item| {
            let expires_s: i64 = item.get("expires_at")?.as_n().ok()?.parse().ok()?;
            let grants = item.get("grants")?.as_l().ok()?;
            let grants = grants.iter().filter_map(|g| g.as_s().ok().cloned()).collect();
            Some(SessionRow { expires_at: Timestamp::from_ms(expires_s.saturating_mul(1000)), grants })
        }))
    }

    /// Creates the session; false if it exists already.
    pub async fn create(
        &self,
        tenant: &Tenant,
        session: &SessionId,
        row: &SessionRow,
    ) -> Result<bool, Trouble> {
        let partition = session_partition(tenant, session);
        let grants = row.grants.iter().cloned().map(AttributeValue::S).collect();
        let attributes = [
            ("pk", text(&partition)),
            ("sk", text(META)),
            ("grants", Some(AttributeValue::L(grants))),
            ("expires_at", number(row.expires_at.as_s())),
        ];
        let item: Item =
            attributes.into_iter().filter_map(|(name, value)| value.map(|v| (name.to_owned(), v))).collect();
        let written = self.statements.write(insert(&self.table, partition, item)).await?;
        Ok(matches!(written, Written::Done))
    }
}
