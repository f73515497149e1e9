//! The interfaces of the version of a catalog before.

use std::collections::HashMap;
use std::sync::Arc;

use toolfleet_core::digest::Digest;
use toolfleet_core::ids::ServerId;

use super::openapi::Interface;
use super::registered::Server;

/// The interfaces of the version of a catalog before, which stay in use where their documents cannot be used any more.
#[derive(Debug, Clone, Default)]
pub struct KnownInterfaces(HashMap<ServerId, Arc<Interface>>);

impl KnownInterfaces {
    /// The interfaces of these servers.
    pub(crate) fn of<'a>(servers: impl Iterator<Item = &'a Arc<Server>>) -> Self {
        let interface =
            |server: &Arc<Server>| Some((server.id.clone(), Arc::clone(&server.openapi()?.interface)));
        Self(servers.filter_map(interface).collect())
    }

    /// That of a server of which the catalog says the same now.
    pub(super) fn get(&self, server: &ServerId, entry: &Digest) -> Option<&Arc<Interface>> {
        self.0.get(server).filter(|interface| interface.is_of(entry))
    }
}
