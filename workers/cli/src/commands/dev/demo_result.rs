//! The result of a step of the demo.

use std::time::Duration;

use toolfleet_core::call::CallRow;

use super::demo_steps::Step;
use crate::commands::request::Ready;

/// A step that was run.
#[derive(Debug)]
pub(super) struct StepResult {
    pub(super) step: Step,
    pub(super) ready: Ready,
    pub(super) row: Option<CallRow>,
    /// How often the step's tool has run on the server, where the step counts it.
    pub(super) executions: Option<u64>,
    pub(super) took: Duration,
    /// What is not as expected.
    pub(super) problems: Vec<String>,
}
