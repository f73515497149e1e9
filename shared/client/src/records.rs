//! Owns reading the audit records: of a tenant, a conversation, a call, or of what failed; newest first.
//!
//! **Invariant:** reads, and changes nothing.

use std::collections::BTreeMap;

use toolfleet_aws::Trouble;
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::ids::{CallId, CallKey, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::Client;

const HOUR_MS: u64 = 3_600_000;

/// Which audit records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordsOf {
    /// All of the tenant.
    Everything,
    /// Those of one conversation.
    Session(SessionId),
    /// Those that ended otherwise than succeeded.
    Failures,
    /// Those of one call, whenever it ended.
    Call(CallId),
}

impl Client {
    /// Audit records of a tenant since `from`, newest first, `limit` at most.
    pub async fn records(
        &self,
        tenant: &Tenant,
        which: &RecordsOf,
        from: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, Trouble> {
        let to = (self.now)();
        let mut records = match which {
            RecordsOf::Everything => self.history.by_hours(tenant, from, to, limit).await?,
            RecordsOf::Failures => self.history.failures(tenant, from, to, limit).await?,
            RecordsOf::Session(session) => self.history.by_session(tenant, session, limit).await?,
            RecordsOf::Call(call_id) => return self.of_call(tenant, call_id, from, to, limit).await,
        };
        records.retain(|record| record.at >= from);
        Ok(records)
    }

    /// The account of one call, and what else happened under its id within the span.
    async fn of_call(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, Trouble> {
        let key = CallKey { tenant: tenant.clone(), call_id: call_id.clone() };
        let ended = self.calls.read(&key).await?.and_then(|row| row.finished).map(|finished| finished.at);
        let mut hours: BTreeMap<String, Timestamp> = ended.into_iter().map(|at| (at.hour(), at)).collect();
        let mut at = from;
        while at < to {
            hours.insert(at.hour(), at);
            at = at.plus_ms(HOUR_MS);
        }
        hours.insert(to.hour(), to);
        let mut records = Vec::new();
        for at in hours.into_values().rev() {
            records.extend(self.history.of_call(tenant, call_id, at).await?);
            if records.len() >= limit {
                break;
            }
        }
        records.truncate(limit);
        Ok(records)
    }
}
