//! The executor of Lambda functions: the forms of their events and answers, and what their errors mean.

mod arguments_form;
mod bedrock;
mod content;
mod context;
pub(crate) mod executor;
mod failure;
mod function_error;
mod listing;
mod mcp_form;
pub(crate) mod ports;
mod sessions;
