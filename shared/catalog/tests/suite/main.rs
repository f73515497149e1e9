//! The tests of the catalog: its own form, the forms that it imports, and the guide that describes them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do: loudly, at the line"
)]

mod agentcore;
mod catalog;
mod catalog_clients;
mod catalog_forms;
mod catalog_lambda;
mod catalog_openapi;
mod catalog_programs;
mod catalog_properties;
mod catalog_secrets;
mod catalog_streams;
mod configurations;
mod openapi_hostile;
mod openapi_multiplied;
mod own_form;
mod registries;
