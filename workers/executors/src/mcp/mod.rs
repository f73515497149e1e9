//! The executor of MCP servers, over streamable HTTP or as programs on stdio.

pub(crate) mod executor;
pub(crate) mod failure;
pub(crate) mod list_pages;
mod listing;
pub(crate) mod outcome;
pub(crate) mod questions;
pub(crate) mod readiness;
mod subscriptions;
mod task;
pub(crate) mod tool_list;
