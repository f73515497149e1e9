//! The options that the verbs about sessions share.

use std::time::Duration;

use clap::Args;
use toolfleet_client::system_clock;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::commands::request::parse_instant;
use crate::commands::which::Words;
use crate::exit::CommandError;
use crate::span_of_time::parse_span;

/// Which session.
#[derive(Debug, Args)]
pub(super) struct WhichSession {
    /// Whose session it is; unless given, TOOLFLEET_TENANT.
    #[arg(value_name = "TENANT")]
    first: Option<String>,
    /// The session's id.
    #[arg(value_name = "SESSION")]
    second: Option<String>,
    /// Whose session it is.
    #[arg(long, value_name = "TENANT", conflicts_with = "second")]
    tenant: Option<Tenant>,
    /// The session's id.
    #[arg(long, value_name = "ID", conflicts_with = "second")]
    session: Option<SessionId>,
}

impl WhichSession {
    /// The session.
    ///
    /// # Errors
    /// A part is missing or wrong.
    pub(super) fn which(&self) -> Result<Which, CommandError> {
        let words = Words { kind: "SESSION", first: &self.first, second: &self.second };
        let (tenant, session) = words.tenant_and(self.tenant.as_ref(), self.session.as_ref())?;
        Ok(Which { tenant, session })
    }
}

/// A session.
#[derive(Debug)]
pub(super) struct Which {
    /// The tenant.
    pub(super) tenant: Tenant,
    /// The session's id.
    pub(super) session: SessionId,
}

impl Which {
    pub(super) fn name(&self) -> String {
        format!("session {} of tenant {}", self.session, self.tenant)
    }
}

/// The end of a session.
#[derive(Debug, Args)]
pub(super) struct End {
    /// The instant at which it ends, for example 2026-11-21T09:30:00Z.
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant, conflicts_with = "ends_in")]
    ends_at: Option<Timestamp>,
    /// How long from now it ends: a number and ms, s, m, h or d.
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = parse_span)]
    ends_in: Duration,
}

impl End {
    pub(super) fn at(&self) -> Result<Timestamp, CommandError> {
        let now = system_clock()();
        let at = self.ends_at.unwrap_or_else(|| {
            now.plus_ms(u64::try_from(self.ends_in.as_millis()).unwrap_or(u64::MAX)).whole_s()
        });
        if at <= now {
            return Err(CommandError::usage(format!(
                "--ends-at: {at} has passed; give an instant in the future, or end the session now with `toolfleet sessions revoke`"
            )));
        }
        Ok(at)
    }
}

pub(super) fn parse_grant(text: &str) -> Result<String, String> {
    toolfleet_core::grants::check(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}
