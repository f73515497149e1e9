//! Owns the noun `tools`.
//!
//! **Invariant:** no tool is called, and nothing but a catalog file is changed, that only with `--apply`.

pub(crate) mod approve;
mod asking;
pub(crate) mod diff;
mod difference;
pub(crate) mod list;
mod pinning;
mod source;

use clap::Subcommand;

/// The verbs of `tools`.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolsCommand {
    /// List the registered tools of a catalog, or what an MCP server offers.
    List(list::ListArgs),
    /// Compare what servers list with what was approved; exits with 1 if anything differs.
    Diff(diff::DiffArgs),
    /// Pin tools to what their servers list now: shows the plan, and writes the catalog file with --apply.
    Approve(approve::ApproveArgs),
}
