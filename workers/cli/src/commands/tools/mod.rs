//! Owns the noun `tools`.
//!
//! **Invariant:** looks, and changes nothing.

pub(crate) mod list;

use clap::Subcommand;

/// The verbs of `tools`.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolsCommand {
    /// List the registered tools of a catalog, or what an MCP server offers.
    List(list::ListArgs),
}
