//! The client: what is known of a server, and the order of a call.

pub(crate) mod call;
pub(crate) mod entries;
pub(crate) mod idle_timer;
pub(crate) mod listing;
pub(crate) mod members;
pub(crate) mod negotiate;
pub(crate) mod options;
pub(crate) mod pages;
pub(crate) mod remedy;
pub(crate) mod revision_cache;
pub(crate) mod state;
pub(crate) mod subscribe;
pub(crate) mod tasks;
pub(crate) mod tool_list;
