//! Searches the audit records of a tenant a page at a time, newest first. A page reads a bounded number of records, whatever the period, and
//! whether any fits.

use std::time::Duration;

use futures::future::try_join_all;
use toolfleet_aws::{AwsError, Listing, PageOf, Reads, RecordCursor, RecordPage};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::{CallId, CallKey, SessionId, Tenant};

use crate::client::Client;
use crate::records::Span;

/// What is read for a page of the console at most: queries, each of an hour or of a day of failures, and records.
pub const PAGE_READS: Reads = Reads { queries: 96, records: 1_000 };
/// Records that are read of each hour's shard at most to find those of one call near its start and its end.
const MOST_NEAR: usize = 1_000;
/// How near: late answers and second messages mostly lie there. Elsewhere whole hours would have to be read.
const NEAR: Duration = Duration::from_secs(30);
/// Clocks differ: a record may lie so much before what it comes after.
const BEFORE: Duration = Duration::from_secs(1);

/// Which audit records. All parts that are given must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSearch {
    /// Whose.
    pub tenant: Tenant,
    /// Those of one session.
    pub session: Option<SessionId>,
    /// Those of this call. All records of its shard of each hour are read for it, or the entries of the session's or the failures' index where
    /// one of both is given, too: no index has the ids of calls.
    pub call: Option<CallId>,
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

    /// Whether a record of the tenant, whenever it was, is one of those.
    pub fn fits(&self, record: &AuditRecord) -> bool {
        let of_session = self.session.is_none() || record.session == self.session;
        let of_call = self.call.as_ref().is_none_or(|call| record.call_id == *call);
        let of_tool = self.tool.is_none() || record.tool == self.tool;
        of_session && of_call && of_tool && (!self.failed || record.outcome.is_failure())
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
            call: search.call.as_ref(),
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

    /// The records of a call to which its row leads, as [`records_near`](Self::records_near); none where it has no row.
    ///
    /// # Errors
    /// The table of calls or the history failed.
    pub async fn records_by_row(&self, key: &CallKey) -> Result<Option<RecordsOfCall>, AwsError> {
        match self.calls.read(key).await? {
            Some(row) => self.records_near(&row).await.map(Some),
            None => Ok(None),
        }
    }

    /// The record of a call's end, and what else lies within half a minute after its start and its end, newest first. Others of its records may
    /// lie elsewhere: to find them costs a search of whole hours.
    ///
    /// # Errors
    /// The history table failed.
    pub async fn records_near(&self, row: &CallRow) -> Result<RecordsOfCall, AwsError> {
        let (tenant, call_id) = (&row.key.tenant, &row.key.call_id);
        let spans = near(row);
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

/// Where other records of a call mostly lie.
fn near(row: &CallRow) -> Vec<Span> {
    let start = Span::around(row.enqueued_at, BEFORE, NEAR);
    match row.finished.as_ref().map(|finished| finished.at) {
        Some(end) if end <= start.to => vec![Span { to: Span::around(end, BEFORE, NEAR).to, ..start }],
        Some(end) => vec![start, Span::around(end, BEFORE, NEAR)],
        None => vec![start],
    }
}
