//! Checks the entry of a server that is a program: whether this catalog may start programs, and whether this one can be started.
//! No error repeats a variable's value.

use std::path::Path;

use super::entry::ServerEntry;
use crate::error::CatalogError;
use crate::error::invalid;
use crate::permissions::Programs;
use toolfleet_core::literal_secret::{wrong_argument, wrong_in};

/// The longest time that a program may be given to start, in milliseconds.
const LONGEST_START_MS: u64 = 3_600_000;

impl ServerEntry {
    /// Checks a program and its parts; `entry` is the place to name in an error. With a `local` catalog arguments may hold secrets and
    /// names of variables.
    pub(super) fn check_program(
        &self,
        entry: &str,
        programs: Programs,
        local: bool,
    ) -> Result<(), CatalogError> {
        let at = |field: &str| format!("{entry}.{field}");
        let command = self.command.as_deref().unwrap_or_default();
        if programs == Programs::Refused {
            let text = "starts a program, which this catalog may not: only one in a file may, unless the operator sets \
                        TOOLFLEET_ALLOW_STDIO=true on the workers";
            return Err(invalid(&at("command"), text));
        }
        if command.trim().is_empty() || command.contains('\0') {
            return Err(invalid(&at("command"), "is no program; give a name in the PATH or a whole path"));
        }
        self.check_program_parts(entry, local)
    }

    fn check_program_parts(&self, entry: &str, local: bool) -> Result<(), CatalogError> {
        for (i, arg) in self.args.iter().enumerate() {
            let text = match (arg.contains('\0'), arg.contains("secret://")) {
                (true, _) => "has a NUL in it, which no argument can have",
                (_, true) => {
                    "names a secret, which every process of the machine could read there; put it into `env`"
                }
                (false, false) => continue,
            };
            return Err(invalid(&format!("{entry}.args[{i}]"), text));
        }
        if let Some((i, text)) = wrong_argument(&self.args).filter(|_| !local) {
            return Err(invalid(&format!("{entry}.args[{i}]"), text));
        }
        for (name, value) in &self.env {
            let place = format!("{entry}.env.{name}");
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(invalid(&place, "is not a name that a variable can have"));
            }
            if value.before.contains('\0') {
                return Err(invalid(&place, "has a NUL in it, which no variable can have"));
            }
            if let Some(text) = wrong_in(name, &value.before, value.secret.is_some()) {
                return Err(invalid(&place, text));
            }
        }
        if self.cwd.as_deref().is_some_and(|cwd| !Path::is_absolute(cwd)) {
            return Err(invalid(
                &format!("{entry}.cwd"),
                "is not a whole path; give one that begins with `/`",
            ));
        }
        if self.start_timeout_ms.is_some_and(|ms| !(1..=LONGEST_START_MS).contains(&ms)) {
            let text = "is not from 1 to 3600000, in milliseconds";
            return Err(invalid(&format!("{entry}.start_timeout_ms"), text));
        }
        Ok(())
    }
}
