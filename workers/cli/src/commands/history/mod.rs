//! `toolfleet history`: lists the audit records of a tenant, newest first.

mod args;
mod rows;
mod search;

use std::io::IsTerminal as _;
use std::time::Duration;

use futures::TryStreamExt as _;
use indicatif::ProgressBar;
use serde_json::json;
use toolfleet_client::{RecordSearch, RecordsOf, system_clock};

pub(crate) use self::args::HistoryArgs;
pub(crate) use self::rows::{SHAPE, row};
use super::which::tenant_of;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Records of a table that are shown at once: its columns fit them.
const ROWS_AT_ONCE: usize = 1_000;

/// Reads and shows.
pub(crate) async fn run(
    args: &HistoryArgs,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let (which, span) = (args.which(), args.span(system_clock()())?);
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let tenant = tenant_of(args.first.as_ref(), args.tenant.as_ref())?;
    let client = connect.client().await?;
    if let Some(most) = args.read_at_most() {
        let search = RecordSearch {
            tenant,
            session: args.session.clone(),
            call: args.call().cloned(),
            failed: args.failed,
            tool: args.tool.clone(),
            span,
        };
        return search::run(args, client.library(), &search, (limit, most), output).await;
    }
    let progress = progress();
    // One more than the limit is read to know whether the list is cut; of one tool, nobody knows how many must be read.
    let most = if args.tool.is_some() { usize::MAX } else { limit.saturating_add(1) };
    let mut parts = client.record_parts(&tenant, &which, span, most);
    let (mut shown, mut read, mut cut, mut held) = (0_usize, 0_u64, false, Vec::new());
    while let Some(mut records) = parts.try_next().await? {
        read += 1;
        records.retain(|record| args.tool.is_none() || record.tool == args.tool);
        cut = records.len() > limit - shown;
        records.truncate(limit - shown);
        shown += records.len();
        progress.set_message(format!("{shown} records in {read} {}", periods(&which)));
        if args.json_lines {
            progress.suspend(|| records.iter().try_for_each(|record| output.document(record)))?;
        } else {
            held.append(&mut records);
        }
        while !output.is_json() && held.len() >= ROWS_AT_ONCE {
            let rows = held.drain(..ROWS_AT_ONCE).collect::<Vec<_>>();
            progress.suspend(|| output.shaped(&SHAPE, &rows.iter().map(row).collect::<Vec<_>>()))?;
        }
        if cut {
            break;
        }
    }
    progress.finish_and_clear();
    if output.is_json() {
        output.document(&json!({"records": held, "more": cut}))?;
    } else if !held.is_empty() {
        output.shaped(&SHAPE, &held.iter().map(row).collect::<Vec<_>>())?;
    }
    if shown == 0 {
        let whose = match &which {
            RecordsOf::Session(session) => format!("session {session} of tenant {tenant}"),
            RecordsOf::Everything | RecordsOf::Failures => format!("tenant {tenant}"),
        };
        output.note(&format!(
            "no records of {whose} between {} and {}; look further back with --since",
            span.from, span.to
        ));
    }
    if cut {
        output.note(&format!("there are more than {limit}; leave --limit out to see all"));
    }
    Ok(Exit::Done)
}

/// What the parts are that are read one after the other.
const fn periods(which: &RecordsOf) -> &'static str {
    match which {
        RecordsOf::Everything => "hours",
        RecordsOf::Failures => "days",
        RecordsOf::Session(_) => "parts",
    }
}

/// The spinner of a terminal.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}
