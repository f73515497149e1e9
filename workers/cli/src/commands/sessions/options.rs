//! The options that the verbs about sessions share.

use std::time::Duration;

use clap::Args;
use toolfleet_client::system_clock;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::commands::request::parse_instant;
use crate::exit::CommandError;
use crate::span_of_time::parse_span;

/// The session.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The tenant.
    #[arg(long, value_name = "TENANT")]
    pub(super) tenant: Tenant,
    /// The session's id.
    #[arg(long, value_name = "ID")]
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
    /// How long from now it ends: a number and s, m, h or d.
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
