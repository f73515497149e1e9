//! What the text of a catalog may do: write out secrets, and name programs to be started.

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
