//! Registered servers: their entries in a catalog, the checks, and what is left after them.

mod entry;
mod program;
mod registered;

pub(crate) use entry::ServerEntry;
pub use registered::{HttpTransport, Server, StdioTransport, Transport};
