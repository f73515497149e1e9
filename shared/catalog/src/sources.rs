//! What a catalog needs beside its own text.

use std::collections::BTreeMap;

use crate::permissions::{Literals, Programs};
use crate::placeholders::LocalEnvironment;
use crate::schema::KnownSchemas;
use crate::server::KnownInterfaces;

/// What a catalog needs beside its own text. A text may be a secret as a whole, so it does not print.
#[derive(Clone, Default)]
pub struct CatalogSources {
    /// The texts it names, by the words it names them with.
    pub included: BTreeMap<String, String>,
    /// Why documents that it names cannot be read. Their servers cannot be called.
    pub unread: BTreeMap<String, String>,
    /// Tenants for whom the queue speaks where the catalog itself has no `tenants`; `*` means all.
    pub tenants: Option<Vec<String>>,
    /// Whether it may name programs to be started.
    pub programs: Programs,
    /// Whether the text itself may write out the secrets of Pika's and the IDP accelerator's forms.
    pub literals: Literals,
    /// The machine of somebody who tries it out; without it placeholders and secrets that are written out are refused.
    pub local_environment: Option<LocalEnvironment>,
    /// The schemas of the version before, which are not checked again.
    pub known: KnownSchemas,
    /// The interfaces of the version before.
    pub interfaces: KnownInterfaces,
}
