//! Catalogs and configurations that other products write.

pub(crate) mod idp;
pub(crate) mod mcp_servers;
pub(crate) mod pika;
pub(crate) mod unsupported;
