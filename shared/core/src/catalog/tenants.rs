//! Owns who may speak for which tenant, and whether its conversations open by themselves.
//!
//! **Invariant:** who is not named speaks for nobody.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::{CatalogError, problem};
use crate::ids::Tenant;

/// Which tenants a queue or sender may speak for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tenants {
    All,
    These(Vec<Tenant>),
}

impl Tenants {
    fn parse(entry: &str, words: &[String]) -> Result<Self, CatalogError> {
        if words.iter().any(|w| w == "*") {
            return Ok(Self::All);
        }
        let tenants: Result<Vec<_>, _> = words.iter().map(Tenant::parse).collect();
        tenants.map(Self::These).map_err(|e| problem(entry, e.to_string()))
    }

    fn include(&self, tenant: &Tenant) -> bool {
        match self {
            Self::All => true,
            Self::These(tenants) => tenants.contains(tenant),
        }
    }
}

/// The section `tenants` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireTenants {
    /// Tenants that everyone who may write to the queue may speak for.
    #[serde(default)]
    queue: Vec<String>,
    /// Tenants by the SQS SenderId of the producing role.
    #[serde(default)]
    senders: BTreeMap<String, Vec<String>>,
    /// The SQS SenderIds of the workers themselves: what their parked messages say of the first sender is believed.
    #[serde(default)]
    fleet: Vec<String>,
    /// What becomes of a conversation that nobody registered, by tenant; `*` for all that are not named.
    #[serde(default)]
    sessions: BTreeMap<String, SessionRule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SessionRule {
    /// It opens when a worker first meets it, and grants all.
    Open,
    /// Its calls are refused.
    Registered,
}

/// Who may speak for whom.
#[derive(Debug, Clone)]
pub(super) struct Speakers {
    queue: Tenants,
    senders: HashMap<String, Tenants>,
    fleet: Vec<String>,
}

/// Whose conversations have to be registered.
#[derive(Debug, Clone)]
pub(super) struct SessionRules {
    registered: Tenants,
    /// Those that need not, whatever holds for all.
    open: Vec<Tenant>,
}

impl WireTenants {
    /// Tenants for whom the queue itself speaks, and no others.
    pub(super) fn of_queue(tenants: &[String]) -> Self {
        Self { queue: tenants.to_vec(), ..Self::default() }
    }

    pub(super) fn check(self) -> Result<(Speakers, SessionRules), CatalogError> {
        let mut senders = HashMap::new();
        for (sender, words) in &self.senders {
            senders.insert(sender.clone(), Tenants::parse(&format!("tenants.senders.{sender}"), words)?);
        }
        let queue = Tenants::parse("tenants.queue", &self.queue)?;
        if !senders.is_empty() && self.fleet.is_empty() {
            let text = "is empty beside `tenants.senders`; name the SenderId of the workers' role, whose parked messages \
                        would else be refused";
            return Err(problem("tenants.fleet", text));
        }
        let sessions = SessionRules::parse(&self.sessions)?;
        Ok((Speakers { queue, senders, fleet: self.fleet }, sessions))
    }
}

impl Speakers {
    pub(super) fn are_nobody(&self) -> bool {
        self.senders.is_empty() && self.queue == Tenants::These(Vec::new())
    }

    pub(super) fn may_speak_for(&self, sender: Option<&str>, tenant: &Tenant) -> bool {
        let by_sender = sender.and_then(|s| self.senders.get(role_of(s)));
        self.queue.include(tenant) || by_sender.is_some_and(|t| t.include(tenant))
    }

    pub(super) fn is_fleet(&self, sender: Option<&str>) -> bool {
        // Where the queue itself speaks for its tenants, whoever may write to it could send the first message as well.
        self.fleet.is_empty() || sender.is_some_and(|s| self.fleet.iter().any(|f| f == role_of(s)))
    }
}

impl SessionRules {
    fn parse(rules: &BTreeMap<String, SessionRule>) -> Result<Self, CatalogError> {
        let of = |rule: SessionRule| {
            rules
                .iter()
                .filter(move |(_, r)| **r == rule)
                .map(|(tenant, _)| tenant.clone())
                .collect::<Vec<_>>()
        };
        let registered = Tenants::parse("tenants.sessions", &of(SessionRule::Registered))?;
        let open = of(SessionRule::Open).into_iter().filter(|tenant| tenant != "*").map(Tenant::parse);
        let open = open.collect::<Result<_, _>>().map_err(|e| problem("tenants.sessions", e.to_string()))?;
        Ok(Self { registered, open })
    }

    pub(super) fn open(&self, tenant: &Tenant) -> bool {
        self.open.contains(tenant) || !self.registered.include(tenant)
    }
}

/// The role in a SenderId: SQS gives `ROLEID:session-name` for an assumed role.
fn role_of(sender: &str) -> &str {
    sender.split(':').next().unwrap_or(sender)
}
