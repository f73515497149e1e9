//! The plan of a change of a session: shown, and applied with `--apply`.

use serde_json::{Value, json};
use toolfleet_client::{SESSION_CACHE_TTL_S, SessionError};
use toolfleet_core::request::User;

use super::options::Which;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// The changes of a verb.
pub(super) struct Plan<'a> {
    pub(super) which: &'a Which,
    pub(super) verb: &'static str,
    pub(super) changes: Vec<(&'static str, Option<String>, String)>,
}

impl Plan<'_> {
    /// Shows the plan; true if it is to be applied.
    pub(super) fn show(&self, output: &Output, apply: bool) -> Result<bool, CommandError> {
        if !apply {
            if output.is_json() {
                output.document(&self.document(false))?;
            }
            output.line(&format!("{} {}:\n{}", self.verb, self.which.name(), self.lines()))?;
            output.note("nothing is changed yet; add --apply to do it");
        }
        Ok(apply)
    }

    /// Prints what was changed.
    pub(super) fn done(&self, output: &Output) -> Result<Exit, CommandError> {
        if output.is_json() {
            output.document(&self.document(true))?;
        }
        output.line(&format!("done: {} {}:\n{}", self.verb, self.which.name(), self.lines()))?;
        output.note(&format!("workers cache a session for up to {SESSION_CACHE_TTL_S} s"));
        Ok(Exit::Done)
    }

    fn lines(&self) -> String {
        let line = |(what, from, to): &(&str, Option<String>, String)| match from {
            Some(from) if from == to => format!("  {what}: {to} (unchanged)"),
            Some(from) => format!("  {what}: {from} -> {to}"),
            None => format!("  {what}: {to}"),
        };
        self.changes.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn document(&self, applied: bool) -> Value {
        let change =
            |(what, from, to): &(&str, Option<String>, String)| json!({"what": what, "from": from, "to": to});
        json!({
            "tenant": self.which.tenant, "session": self.which.session, "verb": self.verb, "applied": applied,
            "changes": self.changes.iter().map(change).collect::<Vec<_>>(),
        })
    }
}

impl From<SessionError> for CommandError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Aws(error) => error.into(),
            SessionError::Grant(error) => Self::usage(format!("--grant: {error}")),
            SessionError::NoGrant
            | SessionError::EndPassed(_)
            | SessionError::Exists(_)
            | SessionError::Unknown(_)
            | SessionError::Ended(..) => Self::usage(error.to_string()),
        }
    }
}

/// A bound user as text.
pub(super) fn named(user: &User) -> String {
    let kind = user.kind.as_ref().map_or_else(String::new, |kind| format!(", type {kind}"));
    let roles = if user.roles.is_empty() { "no role".to_owned() } else { user.roles.join(", ") };
    format!("{}{kind}, roles: {roles}", user.id)
}
