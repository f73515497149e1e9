//! A server that is a program: its command, and its environment, whose values may be secrets.
//!
//! **Invariant:** a child's environment holds a short list of harmless variables and those of its registration, no other of ours; no
//! value prints.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toolfleet_core::credential::Template;
use toolfleet_credentials::{Keyring, SecretScrubber, Secrets};

use crate::fault::Fault;
use crate::transport::stdio::command::why_not;
use crate::transport::stdio::launch::command_of;

/// What a child inherits. Programs need them to find themselves, their caches and their language; none is a credential.
const INHERITED: [&str; 12] = [
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "PATH",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
];

/// A server that is a program. Keep it: what its secrets were is remembered here, so that no echo of them leaves the client.
pub struct Program {
    command: String,
    args: Vec<String>,
    cwd: Option<PathBuf>,
    env: Vec<(String, Template)>,
    keyring: Option<Arc<dyn Keyring>>,
    scrubber: SecretScrubber,
    start_within: Option<Duration>,
    keeps_nothing: bool,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Program")
            .field("command", &self.command)
            .field("args", &self.args)
            .field("cwd", &self.cwd)
            .field("env", &names)
            .finish_non_exhaustive()
    }
}

/// A program with its secrets read.
#[derive(Clone)]
pub(crate) struct Ready {
    /// Its variables and their values.
    pub(crate) env: Vec<(String, String)>,
    /// Differs where anything that a child is started with differs.
    pub(crate) mark: u64,
}

impl Program {
    /// A program that is started as `command` with `args`, in `cwd` or where we are. Nothing is started yet.
    ///
    /// Without a keyring a variable that names a secret keeps it from being started.
    pub fn new(
        command: impl Into<String>,
        args: impl IntoIterator<Item = String>,
        cwd: Option<PathBuf>,
        env: impl IntoIterator<Item = (String, Template)>,
        keyring: Option<Arc<dyn Keyring>>,
    ) -> Self {
        Self {
            command: command.into(),
            args: args.into_iter().collect(),
            cwd,
            env: env.into_iter().collect(),
            keyring,
            scrubber: SecretScrubber::default(),
            start_within: None,
            keeps_nothing: false,
        }
    }

    /// The same, which may take that long from its start to its first answer; unless told as long as the client's options say.
    #[must_use]
    pub const fn starting_within(mut self, start_within: Duration) -> Self {
        self.start_within = Some(start_within);
        self
    }

    /// How long it may take from its start to its first answer.
    pub(crate) fn start_within(&self, unless_told: Duration) -> Duration {
        self.start_within.unwrap_or(unless_told)
    }

    /// The same, which keeps nothing of a conversation, so that those of one tenant may share it.
    #[must_use]
    pub const fn keeping_nothing(mut self) -> Self {
        self.keeps_nothing = true;
        self
    }

    /// Whether conversations of one tenant may share it.
    pub(crate) const fn keeps_nothing(&self) -> bool {
        self.keeps_nothing
    }

    /// Why it cannot be started as it is registered, if that can be seen.
    pub(crate) fn unstartable(&self, ready: &Ready) -> Option<String> {
        let own =
            ready.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, path)| OsString::from(path));
        let path = own.or_else(|| inherited().find(|(name, _)| *name == "PATH").map(|(_, path)| path));
        why_not(&self.command, self.cwd.as_deref(), path.as_deref())
    }

    /// The command's name, for people.
    pub(crate) fn command(&self) -> &str {
        &self.command
    }

    /// Reads the secrets that its variables name.
    pub(crate) async fn ready(&self) -> Result<Ready, Fault> {
        let mut mark = DefaultHasher::new();
        (&self.command, &self.args, &self.cwd).hash(&mut mark);
        let mut env = Vec::with_capacity(self.env.len());
        for (name, template) in &self.env {
            let value = match (&template.secret, &self.keyring) {
                (None, _) => {
                    if may_be_secret(name) {
                        self.scrubber.add_suspected(&template.before);
                    }
                    template.before.clone()
                }
                (Some(reference), Some(keyring)) => {
                    let text = Secrets { keyring: keyring.as_ref(), scrubber: &self.scrubber }
                        .reference(reference, false)
                        .await?;
                    format!("{}{}", template.before, text.expose())
                }
                (Some(reference), None) => {
                    let detail =
                        format!("variable `{name}` is {reference}, and nobody is at hand to read it");
                    return Err(Fault::Credential { detail });
                }
            };
            if value.contains('\0') {
                let detail =
                    format!("variable `{name}` has a value with a NUL in it, which no program can be given");
                return Err(Fault::Credential { detail });
            }
            (name, &value).hash(&mut mark);
            env.push((name.clone(), value));
        }
        Ok(Ready { env, mark: mark.finish() })
    }

    /// The command that starts it.
    pub(crate) fn to_command(&self, ready: &Ready) -> tokio::process::Command {
        let mut command = command_of(&self.command);
        command.args(&self.args).env_clear().envs(inherited());
        command.envs(ready.env.iter().map(|(name, value)| (name, value)));
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command
    }

    /// The fault without any secret that the program's words may have echoed.
    pub(crate) fn scrub(&self, fault: Fault) -> Fault {
        fault.map_text(|text| self.scrub_words(text))
    }

    /// The program's words without any secret that they may have echoed.
    pub(crate) fn scrub_words(&self, text: String) -> String {
        self.scrubber.scrub(text)
    }

    /// A JSON text without any secret, or `None` where none stands in it.
    pub(crate) fn scrub_json(&self, text: &str) -> Option<String> {
        self.scrubber.scrub_json(text)
    }

    /// Whether a secret stands in the text.
    pub(crate) fn leaks_into(&self, text: &str) -> bool {
        self.scrubber.is_in(text)
    }
}

/// Whether a value in the catalog itself is a secret all the same, as its variable's name has it.
fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"].iter().any(|word| name.contains(word))
}

/// Of this very process: what a program needs to run here is no matter of configuration.
fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_without_a_keyring_is_refused_by_name_and_values_do_not_print() {
        let env = [("KEY", "secret://crm#key"), ("PLAIN", "hush-hush")]
            .map(|(name, text)| (name.to_owned(), Template::parse(text).unwrap()));
        let program = Program::new("serve", [], None, env, None);
        assert!(!format!("{program:?}").contains("hush"));
        let fault = program.ready().await.map(drop).unwrap_err().to_string();
        assert!(fault.contains("`KEY`") && fault.contains("secret://crm#key"), "{fault}");
    }
}
