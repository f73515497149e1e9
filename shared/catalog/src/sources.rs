//! What a catalog needs beside its own text, and whether it may hold secrets.

use std::collections::BTreeMap;

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

/// Whether Pika's and the IDP accelerator's forms may hold secrets themselves. Our own form never may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Literals {
    /// They may not: everyone who can read the file could read them.
    #[default]
    Refused,
    /// They may: the text comes from Secrets Manager or the catalog table.
    Accepted,
}

impl Literals {
    /// What holds for a text that a section names.
    pub(crate) fn of_reference(name: &str) -> Self {
        let stored = ["secret://", "table://"].iter().any(|scheme| name.starts_with(scheme));
        if stored { Self::Accepted } else { Self::Refused }
    }
}

/// Whether a catalog may name programs, which the workers then start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Programs {
    /// It may not: a writer of the catalog could run any program on the workers.
    #[default]
    Refused,
    /// It may.
    Allowed,
}
