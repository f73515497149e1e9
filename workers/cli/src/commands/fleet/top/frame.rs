//! A frame of `toolfleet top`: a pure function of the fleet, the size of the terminal, the time and what the user has chosen.

use toolfleet_client::FleetView;
use toolfleet_core::time::Timestamp;

use super::super::lines::{Line, Tone};
use super::super::overview;
use super::panes;
use super::ui::{Pane, Ui};

const KEYS: &str = "q quit  tab, arrows: panes, scroll  p freeze";

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

/// The lines of the frame: as many as the terminal has, none wider than it.
pub(super) fn frame(view: &FleetView, size: Size, ui: &Ui, now: Timestamp) -> Vec<Line> {
    let Size { width, height } = size;
    let mut lines = vec![title(view, ui, now, width), tabs(ui).within(width)];
    if let Some(failure) = &ui.failure {
        lines.push(Line::new(Tone::Alarm, format!("cannot read the fleet: {failure}")).within(width));
    }
    lines.extend(overview::head(view, now, width));
    let keys = Line::new(Tone::Faint, KEYS).within(width);
    let room = height.saturating_sub(lines.len()).saturating_sub(1);
    lines.extend(pane(view, ui, now, Size { width, height: room }));
    lines.truncate(height.saturating_sub(1));
    lines.resize(height.saturating_sub(1), Line::default());
    lines.push(keys);
    // A terminal without lines has no room for the keys either.
    lines.truncate(height);
    lines
}

/// The name, how old the data are, and whether the screen is frozen.
fn title(view: &FleetView, ui: &Ui, now: Timestamp, width: usize) -> Line {
    let age = panes::data_age(view.summary.as_ref(), now);
    let stale = view.summary.as_ref().is_none_or(|summary| summary.is_stale(now));
    let frozen = if ui.frozen { "  FROZEN (p goes on)" } else { "" };
    let tone = if stale || ui.frozen { Tone::Notice } else { Tone::Heading };
    Line::new(tone, format!("toolfleet top  {age}{frozen}")).within(width)
}

fn tabs(ui: &Ui) -> Line {
    let shown = Pane::ALL.map(|pane| {
        if pane == ui.pane { format!("[{}]", pane.name()) } else { format!(" {} ", pane.name()) }
    });
    Line::new(Tone::Heading, shown.join(""))
}

/// The pane that the user has chosen.
fn pane(view: &FleetView, ui: &Ui, now: Timestamp, size: Size) -> Vec<Line> {
    let Size { width, height } = size;
    let lines = match ui.pane {
        Pane::Overview => return overview_pane(view, now, size),
        Pane::Servers => panes::servers(view, now, width),
        Pane::Limits => panes::limits(view, width),
        Pane::Tenants => panes::tenants(view, now, width),
        Pane::Tools => panes::of_tools(view, width),
        Pane::Switches => panes::switches(view, now),
    };
    // The last line can be scrolled to the bottom of the pane, not further.
    let skipped = ui.scroll.min(lines.len().saturating_sub(height));
    lines.into_iter().skip(skipped).take(height).map(|line| line.within(width)).collect()
}

/// The queues, and below them what an operator looks for; with empty lines between where there is room.
fn overview_pane(view: &FleetView, now: Timestamp, Size { width, height }: Size) -> Vec<Line> {
    const ROOMY: usize = 17;
    let queues = overview::queues(view, width);
    let gap = usize::from(height >= ROOMY);
    let room = height.saturating_sub(queues.len()).saturating_sub(2 * gap);
    let gap = || std::iter::repeat_n(Line::default(), gap);
    gap().chain(queues).chain(gap()).chain(overview::groups(view, now, width, room)).collect()
}
