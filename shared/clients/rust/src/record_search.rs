//! Searches the audit records of a tenant a page at a time, newest first. A page reads a bounded number of partitions, whatever the period.

use futures::TryStreamExt as _;
use toolfleet_aws::{AwsError, Listing, PageOf, RecordCursor, RecordPage};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::ids::{CallKey, SessionId, Tenant};

use crate::client::Client;
use crate::records::Span;

/// Hours, or days of failures, that are read for a page at most.
const MOST_PERIODS: i64 = 48;
/// Records that are read at once where not all of them fit.
const READ_AT_ONCE: usize = 250;
/// How often that is done for a page.
const ROUNDS: usize = 4;

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
    /// Whether that record fits, beyond what the listing is of.
    fn matches(&self, record: &AuditRecord) -> bool {
        let of_tool = self.tool.as_ref().is_none_or(|tool| record.tool.as_ref() == Some(tool));
        of_tool && (!self.failed || record.outcome.is_failure())
    }

    const fn listing(&self) -> Listing<'_> {
        match &self.session {
            Some(session) => Listing::Session(session),
            None if self.failed => Listing::Failures,
            None => Listing::Everything,
        }
    }

    /// Whether records may be read that do not fit.
    const fn is_filtered(&self) -> bool {
        self.tool.is_some() || (self.session.is_some() && self.failed)
    }
}

impl Client {
    /// A page of the records that fit, at most `limit`. It may have fewer although there are more: `next` goes on, `searched_to` says how far
    /// it came.
    ///
    /// # Errors
    /// The history table failed.
    pub async fn search_records(
        &self,
        search: &RecordSearch,
        after: Option<&RecordCursor>,
        limit: usize,
    ) -> Result<RecordPage, AwsError> {
        let read = if search.is_filtered() { READ_AT_ONCE } else { limit };
        let rounds = if search.is_filtered() { ROUNDS } else { 1 };
        let (mut records, mut cursor, mut searched_to) = (Vec::new(), after.cloned(), search.span.to);
        for _ in 0..rounds {
            let page = self.history.page(PageOf {
                tenant: &search.tenant,
                listing: search.listing(),
                from: search.span.from,
                to: search.span.to,
                after: cursor.as_ref(),
                limit: read,
                most_periods: MOST_PERIODS,
            });
            let page = page.await?;
            for record in page.records {
                if records.len() == limit {
                    let next = records.last().map(RecordCursor::behind);
                    return Ok(RecordPage { records, next, searched_to });
                }
                searched_to = record.at;
                if search.matches(&record) {
                    records.push(record);
                }
            }
            (cursor, searched_to) = (page.next, page.searched_to);
            if cursor.is_none() || records.len() >= limit {
                break;
            }
        }
        Ok(RecordPage { records, next: cursor, searched_to })
    }

    /// The records of one call within a short time around some instants, newest first. To find them anywhere costs a reading of whole hours.
    ///
    /// # Errors
    /// The history table failed.
    pub async fn records_within(&self, key: &CallKey, spans: &[Span]) -> Result<Vec<AuditRecord>, AwsError> {
        let mut found: Vec<AuditRecord> = Vec::new();
        for Span { from, to } in spans {
            let hours = self.history.hours_of_call(&key.tenant, &key.call_id, *from, *to);
            for record in hours.try_concat().await? {
                if !found.contains(&record) {
                    found.push(record);
                }
            }
        }
        found.sort_by_key(|record| std::cmp::Reverse(record.at));
        Ok(found)
    }
}
