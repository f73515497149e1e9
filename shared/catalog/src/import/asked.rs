//! Writes what a server's description asks its user for as placeholders `${NAME}`, with a remark that names the variable to set.

use std::collections::BTreeSet;

use crate::placeholders::variable_name;

/// The placeholders of one server, and the remarks about its fields.
#[derive(Debug, Default)]
pub(super) struct Asked {
    prefix: String,
    names: BTreeSet<String>,
    /// The field, and what becomes of it.
    pub(super) remarks: Vec<(String, String)>,
}

impl Asked {
    /// Nothing yet, for the server of that name.
    pub(super) fn of(server: &str) -> Self {
        Self { prefix: variable_name(server), ..Self::default() }
    }

    /// The placeholder of a variable whose name begins with the server's, so that no two servers of a file get each other's secrets.
    pub(super) fn scoped(&mut self, field: &str, name: &str) -> String {
        let name = variable_name(name);
        let prefix = &self.prefix;
        let scoped = if name.starts_with(prefix.as_str()) { name } else { format!("{prefix}_{name}") };
        self.exact(field, &scoped)
    }

    /// The placeholder of the variable of that name.
    pub(super) fn exact(&mut self, field: &str, name: &str) -> String {
        if self.names.insert(name.to_owned()) {
            let text = format!(
                "is filled in from the variable `{name}`; set it, or write the value in its place, a secret as `secret://name`"
            );
            self.remark(field, text);
        }
        format!("${{{name}}}")
    }

    pub(super) fn remark(&mut self, field: &str, text: impl Into<String>) {
        self.remarks.push((field.to_owned(), text.into()));
    }
}
