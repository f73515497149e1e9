//! The tests of the core: the state table and the request contract.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do: loudly, at the line"
)]

mod dead_letter;
mod groups;
mod guide;
mod limits;
mod request;
mod request_envelopes;
mod request_properties;
mod simulation;
mod state_diagram;
mod state_properties;
mod state_table;
mod why;

#[test]
fn the_runbook_explains_exactly_the_outcome_codes() {
    let runbook = include_str!("../../../../docs/reference/runbook.md");
    let explained: Vec<_> =
        runbook.lines().filter_map(|l| l.strip_prefix("### `")).filter_map(|l| l.strip_suffix('`')).collect();
    let codes: Vec<_> = toolfleet_core::outcome::Code::ALL.iter().map(|c| c.as_str()).collect();
    assert_eq!(explained, codes);
}
