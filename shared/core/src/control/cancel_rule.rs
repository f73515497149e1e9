//! A rule that cancels calls by a filter. Queued calls have no rows that could be listed, so the rule meets each call when it is received.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::subject::ToolNames;
use crate::ids::{SessionId, Tenant};
use crate::time::Timestamp;

/// Which calls a rule cancels. All parts that are given must fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFilter {
    /// Calls of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Calls of this tool, by one of its names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Calls of this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Calls whose first message was sent before this instant.
    pub sent_before: Timestamp,
}

/// What a filter sees of a call.
#[derive(Debug, Clone, Copy)]
pub struct CallFacts<'a> {
    /// Whose it is.
    pub tenant: &'a Tenant,
    /// Its tool; none for other operations.
    pub tool: Option<ToolNames<'a>>,
    /// Its session.
    pub session: Option<&'a SessionId>,
    /// When its first message was sent.
    pub enqueued_at: Timestamp,
}

impl CallFilter {
    /// Whether that call fits. Without tenant, tool and session it fits none: a rule never cancels everything.
    pub fn matches(&self, call: &CallFacts<'_>) -> bool {
        let narrow = self.tenant.is_some() || self.tool.is_some() || self.session.is_some();
        narrow
            && self.tenant.as_ref().is_none_or(|tenant| tenant == call.tenant)
            && self.tool.as_ref().is_none_or(|tool| call.tool.is_some_and(|names| names.include(tool)))
            && self.session.as_ref().is_none_or(|session| Some(session) == call.session)
            && call.enqueued_at < self.sent_before
    }
}

impl fmt::Display for CallFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tenant) = &self.tenant {
            write!(f, "tenant:{tenant} ")?;
        }
        if let Some(tool) = &self.tool {
            write!(f, "tool:{tool} ")?;
        }
        if let Some(session) = &self.session {
            write!(f, "session:{session} ")?;
        }
        write!(f, "sent before {}", self.sent_before)
    }
}

/// A rule that cancels calls until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRule {
    /// Its id.
    pub id: String,
    /// Which calls.
    pub filter: CallFilter,
    /// Who set it.
    pub by: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

impl CancelRule {
    /// Which rule of whom, and why, as a part of a sentence for people.
    pub fn detail(&self) -> String {
        format!("rule {} of {}: {}", self.id, self.by, self.why)
    }

    /// Whether it has an effect now.
    pub fn is_on(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_of_a_filter_must_fit_and_one_must_be_given() {
        let (acme, globex) = (Tenant::parse("acme").unwrap(), Tenant::parse("globex").unwrap());
        let session = SessionId::parse("s-1").unwrap();
        let call = |tenant, tool, session, ms| CallFacts {
            tenant,
            tool: Some(ToolNames { registered: Some(tool), server: "srv", name: "f" }),
            session,
            enqueued_at: Timestamp::from_ms(ms),
        };
        let sent_before = Timestamp::from_ms(100);
        let all = CallFilter { tenant: None, tool: None, session: None, sent_before };
        assert!(!all.matches(&call(&acme, "t", None, 0)), "a rule never cancels everything");
        let of = CallFilter { tenant: Some(acme.clone()), tool: Some("t".into()), ..all.clone() };
        assert!(of.matches(&call(&acme, "t", None, 99)));
        assert!(!of.matches(&call(&acme, "t", None, 100)), "a later call is not meant");
        assert!(!of.matches(&call(&globex, "t", None, 99)));
        assert!(!of.matches(&call(&acme, "u", None, 99)));
        let of = CallFilter { session: Some(session.clone()), ..all };
        assert!(of.matches(&call(&acme, "t", Some(&session), 0)));
        assert!(!of.matches(&call(&acme, "t", None, 0)));
    }
}
