//! The request: the JSON body of an SQS message, its rules, and the errors that name what is wrong with it.
//!
//! The wire type is private; a [`CallRequest`] exists only if every rule holds. The JSON Schema that is published as
//! `docs/reference/call-request.schema.json` is generated from the same type.
//!
//! A body that a service on its way has wrapped is unwrapped where that is unambiguous (`envelope`). No field is ignored: an unknown one
//! refuses the message.

mod arguments;
mod base64_text;
mod call_id;
mod call_request;
mod decode;
mod encode;
mod envelope;
mod error;
mod group;
mod input_kind;
mod lenient;
mod not_json;
mod params;
mod policy;
mod reply;
mod resume;
mod salvage;
mod suggest;
mod target;
mod wire;

pub use call_id::derive_call_id;
pub use call_request::{
    CallRequest, MAX_BODY_BYTES, Malformed, Operation, Priority, REQUEST_VERSION, RetryWish, Target,
    TimeLimit, User,
};
pub use envelope::sns_attribute;
pub use error::RequestError;
pub use group::{Group, GroupKey, MAX_MEMBERS, MAX_ROUNDS, Membership};
pub use input_kind::InputKind;
pub use params::OperationParams;
pub use policy::{Policy, Tolerance};
pub use reply::Reply;
pub use resume::Resume;
pub use wire::request_schema;
