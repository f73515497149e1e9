//! Owns how a command ends: the exit codes, and the sentences that go with the bad ones.
//!
//! **Invariant:** an exit code of 0 is given only for what was asked for and done.

use std::io;
use std::process::ExitCode;

use serde_json::json;

use crate::output::Output;

/// A command that did its work and can say what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All is as it should be.
    Done,
    /// The call ended otherwise than succeeded, or a step of the demo ended otherwise than expected.
    NotSucceeded,
    /// There is no such call, or no result yet.
    NoResult,
}

impl Ending {
    /// The exit code.
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::NotSucceeded => ExitCode::from(1),
            Self::NoResult => ExitCode::from(3),
        }
    }
}

/// A command that could not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command or the configuration is wrong: what, and the remedy.
    Usage(String),
    /// Trouble of our own.
    Ours(anyhow::Error),
    /// stdout is gone or full.
    Output(io::Error),
}

impl Failure {
    /// The command or the configuration is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// Says what is wrong, and gives the exit code.
    pub(crate) fn report(self, output: &Output) -> ExitCode {
        let (kind, message, code) = match self {
            Self::Usage(message) => ("usage", message, 2),
            Self::Ours(error) => ("trouble", format!("{error:#}"), 4),
            // Whoever read stdout has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Output(error) => ("output", format!("cannot write to stdout: {error}"), 4),
        };
        output.note(&format!("error: {message}"));
        if output.is_json() {
            // What cannot be written was said on stderr already.
            let _said = output.document(&json!({"error": {"kind": kind, "message": message}}));
        }
        ExitCode::from(code)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<toolfleet_aws::Trouble> for Failure {
    fn from(trouble: toolfleet_aws::Trouble) -> Self {
        let text = trouble.to_string();
        match remedy(&text) {
            Some((Blame::Configuration, remedy)) => Self::Usage(format!("{text}\n{remedy}")),
            Some((Blame::Network, remedy)) => Self::Ours(anyhow::anyhow!("{text}\n{remedy}")),
            None if trouble.is_permanent() => Self::Usage(text),
            None => Self::Ours(trouble.into()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    Configuration,
    Network,
}

/// What to do about trouble that the SDK names in its words alone.
fn remedy(text: &str) -> Option<(Blame, &'static str)> {
    let says = |part: &str| text.to_ascii_lowercase().contains(part);
    if says("loading credentials") || says("no providers in chain") {
        let remedy = "no AWS credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; \
                      `toolfleet dev` prints those of a fleet on this machine";
        return Some((Blame::Configuration, remedy));
    }
    if says("region must be set") || says("missing region") || says("invalid configuration: missing region") {
        return Some((
            Blame::Configuration,
            "no AWS region is set: set AWS_REGION, or name one in the profile",
        ));
    }
    if says("connection refused") {
        return Some((
            Blame::Network,
            "nothing listens there; if it is a fleet on this machine, start it with `toolfleet dev`",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_credentials_are_a_matter_of_configuration_and_a_refused_connection_is_not() {
        let of = |text: &str| remedy(text).map(|(blame, _)| blame);
        assert_eq!(of("an error occurred while loading credentials: .."), Some(Blame::Configuration));
        assert_eq!(of("tcp connect error: Connection refused (os error 111)"), Some(Blame::Network));
        assert_eq!(of("ThrottlingException slow down"), None);
    }
}
