//! A search that reads a bounded number of records, and says how far it came: of one call, or with `--read-at-most`.

use serde_json::json;
use toolfleet_client::{
    AwsErrorKind, Client, Reads, RecordCursor, RecordPage, RecordSearch, RecordsOfCall, shell_command,
};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::ids::{CallId, CallKey};

use super::args::HistoryArgs;
use super::rows::{SHAPE, row};
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// What is found, and how far that was.
struct Found {
    records: Vec<AuditRecord>,
    page: RecordPage,
    /// What the row of the call led to, where it was asked for.
    by_row: ByRow,
    /// Whether `--limit` left some out that were read.
    is_cut: bool,
}

/// What the row of a call leads to: the record of its end, and what lies near.
enum ByRow {
    NotAsked,
    NotAllowed,
    NoRow,
    Near(RecordsOfCall),
}

/// Shows the records that fit among the newest `most`, at most `limit`.
pub(super) async fn run(
    args: &HistoryArgs,
    client: &Client,
    search: &RecordSearch,
    (limit, most): (usize, u64),
    output: &Output,
) -> Result<Exit, CommandError> {
    let found = find(args, client, search, (limit, most)).await?;
    let next = found.page.next.as_ref().map(RecordCursor::as_str);
    if args.json_lines {
        found.records.iter().try_for_each(|record| output.document(record))?;
    } else if output.is_json() {
        output.document(&json!({
            "records": found.records, "more": next.is_some() || found.is_cut, "next": next, "read": found.page.reads.records,
            "searched_from": found.page.searched_from, "searched_to": found.page.searched_to,
        }))?;
    } else if !found.records.is_empty() {
        output.shaped(&SHAPE, &found.records.iter().map(row).collect::<Vec<_>>())?;
    }
    for text in remarks(search, &found) {
        output.note(&text);
    }
    if found.is_cut {
        output.note(&format!("there are more than {limit}; leave --limit out to see all"));
    }
    // A tenant without records is an answer; a call without any is not known.
    let is_unknown = search.call.is_some() && found.records.is_empty();
    Ok(if is_unknown { Exit::NoResult } else { Exit::Done })
}

async fn find(
    args: &HistoryArgs,
    client: &Client,
    search: &RecordSearch,
    (limit, most): (usize, u64),
) -> Result<Found, CommandError> {
    // Hours without a record cost a query each, but nobody waits for a page: the period bounds them.
    let most = Reads { queries: usize::MAX, records: usize::try_from(most).unwrap_or(usize::MAX) };
    let is_whenever = args.since.is_none() && args.until.is_none() && args.after.is_none();
    let by_row = match search.call.as_ref().filter(|_| is_whenever) {
        Some(call) => by_row(client, search, call).await?,
        None => ByRow::NotAsked,
    };
    let mut page = client.search_records(search, args.after.as_ref(), limit, most).await?;
    let mut records = std::mem::take(&mut page.records);
    if let ByRow::Near(near) = &by_row {
        for record in near.records.iter().filter(|record| search.fits(record)) {
            if !records.contains(record) {
                records.push(record.clone());
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.at));
    }
    let is_cut = records.len() > limit;
    records.truncate(limit);
    Ok(Found { records, page, by_row, is_cut })
}

/// The records to which the row of the call leads. Auditors may read the history alone.
async fn by_row(client: &Client, search: &RecordSearch, call: &CallId) -> Result<ByRow, CommandError> {
    let key = CallKey { tenant: search.tenant.clone(), call_id: call.clone() };
    match client.records_by_row(&key).await {
        Ok(Some(near)) => Ok(ByRow::Near(near)),
        Ok(None) => Ok(ByRow::NoRow),
        Err(error) if matches!(error.kind(), AwsErrorKind::Permission) => Ok(ByRow::NotAllowed),
        Err(error) => Err(error.into()),
    }
}

/// How far the search came, and how to go on.
fn remarks(search: &RecordSearch, found: &Found) -> Vec<String> {
    let Found { records, page, by_row, .. } = found;
    let (from, to, next) = (page.searched_from, page.searched_to, page.next.as_ref());
    let mut remarks = Vec::new();
    let (number, read) = (records.len(), page.reads.records);
    match (&search.call, by_row) {
        (None, _) | (Some(_), ByRow::NotAsked) => {}
        (Some(call), ByRow::NoRow) => {
            remarks.push(format!("call {call} has no row, so nothing says when it ended"));
        }
        (Some(_), ByRow::NotAllowed) => remarks.push(
            "the row of the call, which says when it ended, may not be read: these are those of the time that is searched"
                .to_owned(),
        ),
        (Some(_), ByRow::Near(near)) if !near.is_complete => remarks.push(
            "the tenant has many records near the start and the end of the call; the newest were read".to_owned(),
        ),
        (Some(_), ByRow::Near(_)) => {}
    }
    let is_to_come = matches!(by_row, ByRow::Near(near) if near.records.is_empty());
    remarks.push(match (&search.call, number, next) {
        (Some(call), 0, None) if is_to_come => format!(
            "no record of call {call} of tenant {} yet: it is written when the call has ended, a moment after its result",
            search.tenant
        ),
        (Some(call), 0, None) => format!(
            "no records of call {call} of tenant {} between {to} and {from}; look further back with --since",
            search.tenant
        ),
        (Some(call), 0, Some(_)) => format!(
            "no records of call {call} of tenant {} were found yet among {read} records, from {from} back to {to}",
            search.tenant
        ),
        (_, _, _) => {
            let near = match by_row {
                ByRow::Near(_) => ", and near its start and its end; others may lie elsewhere (--since)",
                ByRow::NotAsked | ByRow::NotAllowed | ByRow::NoRow => "",
            };
            format!("{number} found among {read} records, from {from} back to {to}{near}")
        }
    });
    if let Some(next) = next {
        remarks.push(format!(
            "what is older was not looked at; go on with --since {} --after {}",
            search.span.from,
            shell_command::quoted(next.as_str())
        ));
        if search.call.is_some() && search.session.is_none() && !search.failed {
            remarks.push(
                "where the session of the call is known, --session reads the records of that session alone"
                    .to_owned(),
            );
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use toolfleet_client::Span;
    use toolfleet_core::ids::Tenant;
    use toolfleet_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_call_with_a_row_and_no_record_yet_is_not_looked_for_further_back() {
        let (from, to) = (Timestamp::from_ms(0), Timestamp::from_ms(1));
        let search = RecordSearch {
            tenant: Tenant::parse("acme").unwrap(),
            session: None,
            call: Some(CallId::parse("c1").unwrap()),
            failed: false,
            tool: None,
            span: Span { from, to },
        };
        let said = |by_row| {
            let page = RecordPage {
                records: Vec::new(),
                next: None,
                reads: Reads::default(),
                searched_from: to,
                searched_to: from,
            };
            remarks(&search, &Found { records: Vec::new(), page, by_row, is_cut: false }).join("; ")
        };
        let ended_now = said(ByRow::Near(RecordsOfCall { records: Vec::new(), is_complete: true }));
        assert!(ended_now.starts_with("no record of call c1 of tenant acme yet"), "{ended_now}");
        assert!(said(ByRow::NoRow).ends_with("look further back with --since"));
    }
}
