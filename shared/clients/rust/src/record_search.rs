//! Searches the audit records of a tenant a page at a time, newest first. A page reads a bounded number of records, whatever the period, and
//! whether any fits.

use futures::future::try_join_all;
use toolfleet_aws::{AwsError, Listing, PageOf, Reads, RecordCursor, RecordPage};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::{SessionId, Tenant};

use crate::client::Client;
use crate::records::Span;

/// What is read for a page of the console at most: queries, each of an hour or of a day of failures, and records.
pub const PAGE_READS: Reads = Reads { queries: 96, records: 1_000 };
/// Records that are read of each hour's shard at most to find those of one call.
const MOST_NEAR: usize = 1_000;

/// Which audit records. All parts that are given must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSearch {
    /// Whose.
    pub tenant: Tenant,
    /// Those of one session.
    pub session: Option<SessionId>,
    /// Those of calls that did not succeed.
    pub failed: bool,
    /// Those of this tool, as records name it.
    pub tool: Option<String>,
    /// Those between two instants.
    pub span: Span,
}

impl RecordSearch {
    const fn listing(&self) -> Listing<'_> {
        match &self.session {
            Some(session) => Listing::Session(session),
            None if self.failed => Listing::Failures,
            None => Listing::Everything,
        }
    }
}

/// The records of one call that were found near its start and its end.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordsOfCall {
    /// The records, newest first. That of its end is among them, if it is stored.
    pub records: Vec<AuditRecord>,
    /// Whether all records were read that lie near.
    pub is_complete: bool,
}

impl Client {
    /// A page of the records that fit, at most `limit`, for which no more than `most` is read. It may have fewer although there are more: `next`
    /// goes on, `searched_to` says how far it came.
    ///
    /// # Errors
    /// The history table failed.
    pub async fn search_records(
        &self,
        search: &RecordSearch,
        after: Option<&RecordCursor>,
        limit: usize,
        most: Reads,
    ) -> Result<RecordPage, AwsError> {
        let page = self.history.page(PageOf {
            tenant: &search.tenant,
            listing: search.listing(),
            tool: search.tool.as_deref(),
            failed: search.failed,
            from: search.span.from,
            to: search.span.to,
            after,
            limit,
            most,
        });
        page.await
    }

    /// The record of a call's end, and what else lies within short times around some instants, newest first. Others of its records may lie
    /// elsewhere: to find them costs a reading of whole hours.
    ///
    /// # Errors
    /// The history table failed.
    pub async fn records_near(&self, row: &CallRow, spans: &[Span]) -> Result<RecordsOfCall, AwsError> {
        let (tenant, call_id) = (&row.key.tenant, &row.key.call_id);
        let near = spans
            .iter()
            .map(|Span { from, to }| self.history.of_call_between(tenant, call_id, (*from, *to), MOST_NEAR));
        let end = async {
            match row.finished.as_ref().map(|finished| finished.at) {
                Some(at) => self.history.of_call_at(tenant, call_id, at).await,
                None => Ok(Vec::new()),
            }
        };
        let (end, near) = futures::try_join!(end, try_join_all(near))?;
        let is_complete = near.iter().all(|(_, is_complete)| *is_complete);
        let mut records: Vec<AuditRecord> = Vec::new();
        for record in end.into_iter().chain(near.into_iter().flat_map(|(records, _)| records)) {
            if !records.contains(&record) {
                records.push(record);
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.at));
        Ok(RecordsOfCall { records, is_complete })
    }
}
