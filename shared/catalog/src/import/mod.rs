//! Catalogs and configurations that other products write.

pub(crate) mod clients;
pub(crate) mod foreign;
pub(crate) mod idp;
pub(crate) mod mcp_servers;
pub(crate) mod pika;
