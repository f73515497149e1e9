//! Owns reading the audit records: of a tenant, a conversation, a call, or of what failed; newest first.
//!
//! **Invariant:** reads, and changes nothing.

use std::collections::BTreeMap;

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use toolfleet_aws::AwsError;
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
    ) -> Result<Vec<AuditRecord>, AwsError> {
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

    /// All audit records of a tenant between two instants, both included, newest first, in parts: those of an hour, of a day of failures,
    /// or of a whole conversation. Of each part the newest `most` are read; a few parts are held at once.
    pub fn record_parts<'a>(
        &'a self,
        tenant: &'a Tenant,
        which: &'a RecordsOf,
        from: Timestamp,
        to: Timestamp,
        most: usize,
    ) -> BoxStream<'a, Result<Vec<AuditRecord>, AwsError>> {
        match which {
            RecordsOf::Everything => self.history.hours(tenant, from, to, most),
            RecordsOf::Failures => self.history.failed_days(tenant, from, to, most),
            RecordsOf::Call(call_id) => self.history.hours_of_call(tenant, call_id, from, to),
            RecordsOf::Session(session) => {
                let all = self.history.by_session(tenant, session, usize::MAX);
                let within = move |mut records: Vec<AuditRecord>| {
                    records.retain(|record| (from..=to).contains(&record.at));
                    records
                };
                stream::once(all).map_ok(within).boxed()
            }
        }
    }

    /// The account of one call, and what else happened under its id within the span.
    async fn of_call(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, AwsError> {
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
