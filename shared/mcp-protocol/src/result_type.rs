//! Values of `resultType` in results (2026-07-28).

/// The result is the whole answer.
pub const COMPLETE: &str = "complete";
/// The server asks for input before it goes on.
pub const INPUT_REQUIRED: &str = "input_required";
/// The server continues the work as a task.
pub const TASK: &str = "task";
