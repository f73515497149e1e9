//! `toolfleet tools`: the verbs about tools. They call no tool, and change nothing but a catalog file: an existing one only with `--apply`.

pub(crate) mod approve;
pub(crate) mod diff;
pub(crate) mod import;
mod import_openapi;
mod json_diff;
pub(crate) mod list;
pub(in crate::commands) mod live_list;
mod pin_status;
pub(crate) mod source;

use clap::Subcommand;

/// The verbs of `tools`.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolsCommand {
    /// List the registered tools of a catalog, or the tools of an MCP server.
    List(list::ListArgs),
    /// Compare what servers list with the approved pins; exits with 1 if anything differs.
    Diff(diff::DiffArgs),
    /// Pin tools to what their servers list now: shows the plan, and writes the catalog file with --apply.
    Approve(approve::ApproveArgs),
    /// Print another program's configuration, or a registry's description, as a catalog; with `openapi SPEC` show the tools of an OpenAPI
    /// document. Exits with 1 if an entry or operation is left out.
    Import(import::ImportArgs),
}
