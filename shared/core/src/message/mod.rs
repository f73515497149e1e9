//! The request: the JSON body of an SQS message, its rules, and the errors that name what is wrong with it.
//!
//! The wire type is private; a [`CallRequest`] exists only if every rule holds. The JSON Schema that is published as
//! `docs/reference/call-request.schema.json` is generated from the same type.
//!
//! A body that a service on its way has wrapped is unwrapped where that is unambiguous (`envelope`). No field is ignored: an unknown one
//! refuses the message.

mod envelope;
mod error;
mod lenient;
mod params;
mod request;
mod resume;
mod suggest;
mod syntax;
mod target;
mod wire;

pub use envelope::sns_attribute;
pub use error::RequestError;
pub use params::OperationParams;
pub use request::{
    CallRequest, Group, MAX_BODY_BYTES, Malformed, Operation, Priority, REQUEST_VERSION, Reply, RetryWish,
    Target, TimeLimit, User,
};
pub use resume::Resume;
pub use wire::{derive_call_id, request_schema};
