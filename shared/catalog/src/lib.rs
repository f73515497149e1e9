//! The catalog: which servers and tools are registered, which senders may send for which tenant, and who may call what.
//!
//! A catalog is parsed and cross-checked once; an error names the entry and the field. What cannot be called (no such server, a broken
//! schema, a form that no worker runs) is kept apart, with the reason.

mod defaults;
mod entry;
mod error;
mod import;
mod json;
mod names;
mod own_form;
mod parse;
mod parts;
mod permissions;
mod pins;
mod placeholders;
mod publish;
mod schema;
mod server;
mod snapshot;
mod sources;
mod tenants;
mod text;
mod tool;
mod unusable;
mod written;
mod yaml;

pub use defaults::{DEFAULT_ATTEMPT_MS, DEFAULT_MAX_ATTEMPTS};
pub use error::CatalogError;
pub use import::openapi;
pub use own_form::{MovedSecret, OwnForm};
pub use parse::References;
pub use permissions::{Literals, Programs};
pub use pins::{Approved, Pin};
pub use placeholders::LocalEnvironment;
pub use publish::{
    Published, PublishedName, PublishedPrompts, PublishedResources, PublishedTool, may_be_cut,
};
pub use schema::{Budget, InputSchema, Judge, KnownSchemas, NotCompiled, Verdict};
pub use server::{
    AttributeScope, HttpTransport, Interface, KnownInterfaces, LambdaArn, LambdaPayload, LambdaTransport,
    OpenApiTransport, Server, StdioTransport, StreamKind, StreamTransport, Transport,
};
pub use snapshot::Catalog;
pub use sources::CatalogSources;
pub use text::{decode, plain};
pub use tool::{AccessRule, Function, Tool};
pub use unusable::{NotExecutable, Remark, WrittenSecret};
