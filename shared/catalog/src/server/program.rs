//! Checks the entry of a server that is a program: whether this catalog may start programs, and whether this one can be started.
//! No error repeats a variable's value.

use std::path::Path;

use super::entry::{ServerEntry, without_transport};
use crate::error::CatalogError;
use crate::error::invalid;
use crate::sources::Programs;
use toolfleet_core::credential::Credential;
use toolfleet_core::literal_secret::{wrong_argument, wrong_in};

/// The longest time that a program may be given to start, in milliseconds.
const LONGEST_START_MS: u64 = 3_600_000;

impl ServerEntry {
    /// The entry, if it names one transport and the fields of that one only; `entry` is the place to name in an error. With a `local`
    /// catalog arguments may hold secrets and names of variables, as they do for other programs on that machine.
    pub(crate) fn with_one_transport(
        self,
        entry: &str,
        programs: Programs,
        local: bool,
    ) -> Result<Self, CatalogError> {
        let at = |field: &str| format!("{entry}.{field}");
        let Some(command) = &self.command else {
            if self.url.is_none() {
                return Err(without_transport(entry));
            }
            return self.has_no_program_parts(entry).map(|()| self);
        };
        if self.url.is_some() {
            return Err(invalid(&at("command"), "is given beside `url`; a server has one of them"));
        }
        if programs == Programs::Refused {
            let text = "starts a program, which this catalog may not: only one in a file may, unless the operator sets \
                        TOOLFLEET_ALLOW_STDIO=true on the workers";
            return Err(invalid(&at("command"), text));
        }
        if command.trim().is_empty() || command.contains('\0') {
            return Err(invalid(&at("command"), "is no program; give a name in the PATH or a whole path"));
        }
        self.check_program_parts(entry, local)?;
        Ok(self)
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
        if !self.headers.is_empty() {
            let text = "belongs to a server with a `url`; give a program its secrets in `env`";
            return Err(invalid(&format!("{entry}.headers"), text));
        }
        if self.auth != Credential::None {
            let text = "belongs to a server with a `url`; give a program its secrets in `env`";
            return Err(invalid(&format!("{entry}.auth"), text));
        }
        Ok(())
    }

    fn has_no_program_parts(&self, entry: &str) -> Result<(), CatalogError> {
        let parts = [
            ("args", self.args.is_empty()),
            ("env", self.env.is_empty()),
            ("cwd", self.cwd.is_none()),
            ("stateless", !self.stateless),
            ("start_timeout_ms", self.start_timeout_ms.is_none()),
        ];
        match parts.into_iter().find(|(_, absent)| !absent) {
            None => Ok(()),
            Some((field, _)) => {
                let text = "belongs to a server with a `command`; this one has a `url`";
                Err(invalid(&format!("{entry}.{field}"), text))
            }
        }
    }
}
