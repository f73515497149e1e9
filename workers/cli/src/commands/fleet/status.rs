//! `toolfleet status`: the fleet on one screen of at most 80 columns: queues, rates, workers, breakers, limits that bind, pauses, the tenants and tools
//! that matter.

use toolfleet_client::FleetView;
use toolfleet_client::fleet_words::age;
use toolfleet_core::fleet::FleetSummary;
use toolfleet_core::time::Timestamp;

use super::lines::Line;
use super::{overview, view};
use crate::connect::{ClientHandle, Connect};
use crate::exit::{CommandError, Exit};
use crate::output::{Output, terminal_columns};

/// The most columns of the screen.
const COLUMNS: usize = 80;

/// Shows it.
pub(crate) async fn run(connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let view = FleetView::read(connect.client().await?.library()).await?;
    if output.is_json() {
        output.document(&view::document(&view))?;
        return Ok(Exit::Done);
    }
    let columns = terminal_columns(&std::io::stdout()).map_or(COLUMNS, |columns| columns.min(COLUMNS));
    for line in screen(&view, columns) {
        output.line(&line.text)?;
    }
    Ok(Exit::Done)
}

/// The lines of the screen.
fn screen(view: &FleetView, columns: usize) -> Vec<Line> {
    let now = view.read_at;
    let mut lines = overview::head(view, now, columns);
    lines.push(Line::default());
    lines.extend(overview::queues(view, columns));
    lines.push(Line::default());
    lines.extend(overview::groups(view, now, columns, usize::MAX));
    lines
}

/// The summary; a note where there is none.
pub(super) async fn summary(
    client: &ClientHandle,
    output: &Output,
) -> Result<Option<FleetSummary>, CommandError> {
    let summary = client.summary().await?;
    if summary.is_none() {
        output.note("no worker has ever reported; one reports within five seconds of its start");
        if output.is_json() {
            output.document(&serde_json::json!({}))?;
        }
    }
    Ok(summary)
}

/// Says that nobody keeps the summary any more.
pub(super) fn note_stale(summary: &FleetSummary, now: Timestamp, output: &Output) {
    if summary.is_stale(now) {
        output.note(&format!(
            "no worker has reported for {}; this is what was seen before",
            age(summary.at, now)
        ));
    }
}
