//! Owns the noun `sessions`: conversations, what they may call, and until when.
//!
//! **Invariant:** a verb that changes something shows its plan, and does it only with `--apply`.

pub(crate) mod create;
pub(crate) mod expire;
pub(crate) mod grant;
pub(crate) mod revoke;
pub(crate) mod show;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use toolfleet_client::{SESSION_CACHE_TTL_S, SessionError, system_clock};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::message::User;
use toolfleet_core::time::Timestamp;

use super::history::parse_span;
use super::request::parse_instant;
use crate::connect::Connect;
use crate::ending::{Ending, Failure};
use crate::output::Output;

/// The verbs of `sessions`.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// Register a conversation: what it may call, and until when.
    Create(create::CreateArgs),
    /// Show what a conversation may call, until when, and its MCP sessions.
    Show(show::ShowArgs),
    /// Grant a conversation more, or withdraw grants.
    Grant(grant::GrantArgs),
    /// Let a conversation end at an instant to come.
    Expire(expire::ExpireArgs),
    /// End a conversation now, also one that nobody has registered yet.
    Revoke(revoke::RevokeArgs),
}

/// Does what was asked for.
pub(crate) async fn run(
    command: &SessionsCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Ending, Failure> {
    match command {
        SessionsCommand::Create(args) => create::run(args, connect, output).await,
        SessionsCommand::Show(args) => show::run(args, connect, output).await,
        SessionsCommand::Grant(args) => grant::run(args, connect, output).await,
        SessionsCommand::Expire(args) => expire::run(args, connect, output).await,
        SessionsCommand::Revoke(args) => revoke::run(args, connect, output).await,
    }
}

/// Which conversation.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Whose conversation.
    #[arg(long, value_name = "TENANT")]
    tenant: Tenant,
    /// The conversation.
    #[arg(long, value_name = "ID")]
    session: SessionId,
}

impl Which {
    fn name(&self) -> String {
        format!("session {} of tenant {}", self.session, self.tenant)
    }
}

/// When a conversation ends.
#[derive(Debug, Args)]
pub(super) struct End {
    /// The instant at which it ends, for example 2026-11-21T09:30:00Z.
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant, conflicts_with = "ends_in")]
    ends_at: Option<Timestamp>,
    /// How long from now it ends: a number and s, m, h or d.
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = parse_span)]
    ends_in: Duration,
}

impl End {
    fn at(&self) -> Result<Timestamp, Failure> {
        let now = system_clock()();
        let at = self.ends_at.unwrap_or_else(|| {
            now.plus_ms(u64::try_from(self.ends_in.as_millis()).unwrap_or(u64::MAX)).whole_s()
        });
        if at <= now {
            return Err(Failure::usage(format!(
                "--ends-at: {at} has passed; give an instant to come, or end the session now with `toolfleet sessions revoke`"
            )));
        }
        Ok(at)
    }
}

/// What a verb would do.
struct Plan<'a> {
    which: &'a Which,
    verb: &'static str,
    changes: Vec<(&'static str, Option<String>, String)>,
}

impl Plan<'_> {
    /// Shows the plan; true if it is to be done.
    fn show(&self, output: &Output, apply: bool) -> Result<bool, Failure> {
        if !apply {
            if output.is_json() {
                output.document(&self.document(false))?;
            }
            output.line(&format!("{} {}:\n{}", self.verb, self.which.name(), self.lines()))?;
            output.note("nothing is changed yet; add --apply to do it");
        }
        Ok(apply)
    }

    /// Says that it is done.
    fn done(&self, output: &Output) -> Result<Ending, Failure> {
        if output.is_json() {
            output.document(&self.document(true))?;
        }
        output.line(&format!("done: {} {}:\n{}", self.verb, self.which.name(), self.lines()))?;
        output.note(&format!("workers cache a session for up to {SESSION_CACHE_TTL_S} s"));
        Ok(Ending::Done)
    }

    fn lines(&self) -> String {
        let line = |(what, from, to): &(&str, Option<String>, String)| match from {
            Some(from) if from == to => format!("  {what}: {to} (as it is)"),
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

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Aws(trouble) => trouble.into(),
            SessionError::Grant(error) => Self::usage(format!("--grant: {error}")),
            SessionError::NoGrant
            | SessionError::EndPassed(_)
            | SessionError::Exists(_)
            | SessionError::Unknown(_)
            | SessionError::Ended(..) => Self::usage(error.to_string()),
        }
    }
}

/// A bound user, for people.
fn named(user: &User) -> String {
    let kind = user.kind.as_ref().map_or_else(String::new, |kind| format!(", type {kind}"));
    let roles = if user.roles.is_empty() { "no role".to_owned() } else { user.roles.join(", ") };
    format!("{}{kind}, roles: {roles}", user.id)
}

fn parse_grant(text: &str) -> Result<String, String> {
    toolfleet_core::grants::check(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}
