//! Reads audit records, newest first: of a tenant, a session, or the failures. Those of one call are searched a page at a time (`record_search`).

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use toolfleet_aws::{AwsError, Listing, PageOf, Reads, RecordCursor};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::client::Client;

/// So many records of a session are read at once.
const SESSION_PART: usize = 250;

/// Which audit records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordsOf {
    /// All of the tenant.
    Everything,
    /// Those of one session.
    Session(SessionId),
    /// Those of calls that did not succeed.
    Failures,
}

/// The time between two instants, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first instant.
    pub from: Timestamp,
    /// The last instant.
    pub to: Timestamp,
}

impl Span {
    /// The time before `to`.
    pub fn before(to: Timestamp, length: Duration) -> Self {
        let length_ms = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        Self { from: Timestamp::from_ms(to.as_ms().saturating_sub(length_ms)), to }
    }

    /// The time around an instant.
    pub fn around(at: Timestamp, before: Duration, after: Duration) -> Self {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self { from: Self::before(at, before).from, to: at.plus_ms(after_ms) }
    }
}

impl Client {
    /// The time until now.
    pub fn last(&self, length: Duration) -> Span {
        Span::before((self.now)(), length)
    }

    /// Audit records of a tenant within a span, newest first, at most `limit`.
    pub async fn records(
        &self,
        tenant: &Tenant,
        which: &RecordsOf,
        span: Span,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, AwsError> {
        let Span { from, to } = span;
        let mut records = match which {
            RecordsOf::Everything => self.history.by_hours(tenant, from, to, limit).await?,
            RecordsOf::Failures => self.history.failures(tenant, from, to, limit).await?,
            RecordsOf::Session(session) => {
                return self.history.by_session(tenant, session, (from, to), limit).await;
            }
        };
        records.retain(|record| record.at >= from);
        Ok(records)
    }

    /// All audit records of a tenant within a span, newest first, in parts: those of an hour, of a day of failures, or some hundred of a
    /// session. The newest `max` of each part are read, and of a session in all; a few parts are in memory at once.
    pub fn record_parts<'a>(
        &'a self,
        tenant: &'a Tenant,
        which: &'a RecordsOf,
        span: Span,
        max: usize,
    ) -> BoxStream<'a, Result<Vec<AuditRecord>, AwsError>> {
        let Span { from, to } = span;
        match which {
            RecordsOf::Everything => self.history.hours(tenant, from, to, max),
            RecordsOf::Failures => self.history.failed_days(tenant, from, to, max),
            RecordsOf::Session(session) => self.session_parts(tenant, session, span, max),
        }
    }

    fn session_parts<'a>(
        &'a self,
        tenant: &'a Tenant,
        session: &'a SessionId,
        Span { from, to }: Span,
        max: usize,
    ) -> BoxStream<'a, Result<Vec<AuditRecord>, AwsError>> {
        let first = Some((None::<RecordCursor>, max));
        let next = move |place: Option<(Option<RecordCursor>, usize)>| async move {
            let Some((after, left)) = place.filter(|(_, left)| *left > 0) else { return Ok(None) };
            let page = self.history.page(PageOf {
                tenant,
                listing: Listing::Session(session),
                call: None,
                tool: None,
                failed: false,
                from,
                to,
                after: after.as_ref(),
                limit: left.min(SESSION_PART),
                most: Reads { queries: usize::MAX, records: usize::MAX },
            });
            let page = page.await?;
            let left = left.saturating_sub(page.records.len());
            Ok::<_, AwsError>(Some((page.records, page.next.map(|next| (Some(next), left)))))
        };
        stream::try_unfold(first, next).boxed()
    }
}
