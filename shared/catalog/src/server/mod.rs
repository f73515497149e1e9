//! Registered servers: their entries in a catalog, the checks, and what is left after them.

mod document;
mod entry;
mod function;
mod http;
mod known_interfaces;
mod lambda;
mod one_transport;
mod openapi;
mod program;
mod registered;
mod secrets;

pub(crate) use entry::ServerEntry;
pub use http::{HttpTransport, StreamKind, StreamTransport};
pub use known_interfaces::KnownInterfaces;
pub(crate) use lambda::NO_FUNCTION;
pub use lambda::{AttributeScope, LambdaArn, LambdaPayload, LambdaTransport};
pub use openapi::{Interface, OpenApiTransport};
pub use registered::{Server, StdioTransport, Transport};
