//! Which senders may send for which tenant and as which user, whether its calls need a session, and where its notices may go.
//! A sender that is not named may send for no tenant.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::Value;

use crate::error::CatalogError;
use crate::error::invalid;
use crate::json;
use crate::unusable::Remark;
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::{ConcurrencyLimit, LimitKey, LimitRules, RateLimit};
use toolfleet_core::request::User;

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
        tenants.map(Self::These).map_err(|e| invalid(entry, e.to_string()))
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
pub(crate) struct WireTenants {
    /// Tenants that everyone who may write to the queue may speak for.
    #[serde(default)]
    queue: Vec<String>,
    /// Tenants by the SQS SenderId of the producing role, or an object with the user that the role is bound to.
    #[serde(default)]
    senders: BTreeMap<String, Value>,
    /// The SQS SenderIds of the workers themselves: what their delayed messages say about the first sender is trusted.
    #[serde(default)]
    fleet: Vec<String>,
    /// The rule for conversations that are not registered, by tenant; `*` for all that are not named.
    #[serde(default)]
    sessions: BTreeMap<String, SessionRule>,
    /// What limits the calls of a tenant, by tenant; `*` for each that is not named.
    #[serde(default)]
    limits: BTreeMap<String, WireTenantLimits>,
}

/// The limits of one tenant as they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTenantLimits {
    #[serde(default)]
    rate: Option<RateLimit>,
    #[serde(default)]
    concurrency: Option<ConcurrencyLimit>,
    /// The limits of its calls to one tool, by the tool's id, `id.function` or `server/name`.
    #[serde(default)]
    tools: BTreeMap<String, WireToolLimits>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireToolLimits {
    #[serde(default)]
    rate: Option<RateLimit>,
    #[serde(default)]
    concurrency: Option<ConcurrencyLimit>,
}

/// A sender that is bound to a user.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSender {
    tenants: Vec<String>,
    user: User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SessionRule {
    /// A call needs no conversation; one that is met first opens by itself, and grants all.
    Open,
    /// A call needs a conversation, which may open by itself.
    Required,
    /// A call needs a conversation that was registered.
    Registered,
}

/// Who may speak for whom.
#[derive(Debug, Clone)]
pub(crate) struct TenantPolicy {
    queue: Tenants,
    senders: HashMap<String, Sender>,
    fleet: Vec<String>,
}

#[derive(Debug, Clone)]
struct Sender {
    tenants: Tenants,
    user: Option<User>,
}

/// Whose calls need a conversation, and of what kind.
#[derive(Debug, Clone)]
pub(crate) struct SessionRules {
    by_tenant: HashMap<Tenant, SessionRule>,
    others: SessionRule,
}

/// What limits the calls of which tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct TenantLimits {
    by_tenant: HashMap<Tenant, OfTenant>,
    /// Of each tenant that is not named.
    others: OfTenant,
}

#[derive(Debug, Clone, Default)]
struct OfTenant {
    all: LimitRules,
    by_tool: HashMap<String, LimitRules>,
}

/// Where the notices of which tenant may go.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplyQueues {
    by_tenant: HashMap<Tenant, Vec<String>>,
    /// Open to every tenant.
    all: Vec<String>,
}

impl WireTenants {
    /// Tenants for whom the queue itself speaks, and no others.
    pub(crate) fn of_queue(tenants: &[String]) -> Self {
        Self { queue: tenants.to_vec(), ..Self::default() }
    }

    pub(crate) fn check(self) -> Result<(TenantPolicy, SessionRules, TenantLimits), CatalogError> {
        let mut senders = HashMap::new();
        for (sender, value) in self.senders {
            let parsed = Sender::parse(&format!("tenants.senders.{sender}"), value)?;
            senders.insert(sender, parsed);
        }
        let queue = Tenants::parse("tenants.queue", &self.queue)?;
        if !senders.is_empty() && self.fleet.is_empty() {
            let text = "is empty beside `tenants.senders`; name the SenderId of the workers' role, whose parked messages \
                        would else be refused";
            return Err(invalid("tenants.fleet", text));
        }
        let sessions = SessionRules::parse(&self.sessions)?;
        let limits = TenantLimits::parse(self.limits)?;
        Ok((TenantPolicy { queue, senders, fleet: self.fleet }, sessions, limits))
    }
}

impl Sender {
    fn parse(entry: &str, value: Value) -> Result<Self, CatalogError> {
        if value.is_object() {
            // serde reads a struct from an array, too.
            if let Some(user) = value.get("user").filter(|user| !user.is_object()) {
                let text =
                    format!("is {}; accepted is an object {{\"id\", \"type\", \"roles\"}}", json::kind(user));
                return Err(invalid(&json::below(entry, "user"), text));
            }
            let WireSender { tenants, user } = json::typed(entry, value)?;
            return Ok(Self { tenants: Tenants::parse(entry, &tenants)?, user: Some(user) });
        }
        let tenants: Vec<String> = json::typed(entry, value)?;
        Ok(Self { tenants: Tenants::parse(entry, &tenants)?, user: None })
    }
}

impl TenantPolicy {
    pub(crate) fn is_empty(&self) -> bool {
        self.senders.is_empty() && self.queue == Tenants::These(Vec::new())
    }

    pub(crate) fn may_speak_for(&self, sender: Option<&str>, tenant: &Tenant) -> bool {
        let by_sender = sender.and_then(|s| self.senders.get(role_of(s)));
        self.queue.include(tenant) || by_sender.is_some_and(|s| s.tenants.include(tenant))
    }

    /// The user that the sender is bound to, whichever tenant it speaks for.
    pub(crate) fn bound_user(&self, sender: Option<&str>) -> Option<&User> {
        self.senders.get(role_of(sender?))?.user.as_ref()
    }

    pub(crate) fn is_fleet(&self, sender: Option<&str>) -> bool {
        // Where the queue itself speaks for its tenants, a sender that may write to it could send the first message too.
        self.fleet.is_empty() || sender.is_some_and(|s| self.fleet.iter().any(|f| f == role_of(s)))
    }
}

impl SessionRules {
    fn parse(rules: &BTreeMap<String, SessionRule>) -> Result<Self, CatalogError> {
        let mut parsed = Self { by_tenant: HashMap::new(), others: SessionRule::Open };
        for (tenant, rule) in rules {
            if tenant == "*" {
                parsed.others = *rule;
                continue;
            }
            let tenant = Tenant::parse(tenant).map_err(|e| invalid("tenants.sessions", e.to_string()))?;
            parsed.by_tenant.insert(tenant, *rule);
        }
        Ok(parsed)
    }

    fn of(&self, tenant: &Tenant) -> SessionRule {
        self.by_tenant.get(tenant).copied().unwrap_or(self.others)
    }

    /// Whether a conversation opens by itself.
    pub(crate) fn open(&self, tenant: &Tenant) -> bool {
        match self.of(tenant) {
            SessionRule::Open | SessionRule::Required => true,
            SessionRule::Registered => false,
        }
    }

    /// Whether a call needs a conversation.
    pub(crate) fn require(&self, tenant: &Tenant) -> bool {
        match self.of(tenant) {
            SessionRule::Open => false,
            SessionRule::Required | SessionRule::Registered => true,
        }
    }
}

impl TenantLimits {
    fn parse(written: BTreeMap<String, WireTenantLimits>) -> Result<Self, CatalogError> {
        let mut parsed = Self::default();
        for (tenant, WireTenantLimits { rate, concurrency, tools }) in written {
            let entry = format!("tenants.limits.{tenant}");
            let mut by_tool = HashMap::new();
            for (tool, WireToolLimits { rate, concurrency }) in tools {
                if let Err(error) = format!("tool:{tool}").parse::<LimitKey>() {
                    return Err(invalid(&format!("{entry}.tools"), error.to_string()));
                }
                by_tool.insert(tool, LimitRules { rate, concurrency, adaptive: false });
            }
            let of_tenant = OfTenant { all: LimitRules { rate, concurrency, adaptive: false }, by_tool };
            if tenant == "*" {
                parsed.others = of_tenant;
                continue;
            }
            let tenant = Tenant::parse(tenant).map_err(|e| invalid("tenants.limits", e.to_string()))?;
            parsed.by_tenant.insert(tenant, of_tenant);
        }
        Ok(parsed)
    }

    fn of(&self, tenant: &Tenant) -> &OfTenant {
        self.by_tenant.get(tenant).unwrap_or(&self.others)
    }

    /// What limits all calls of that tenant.
    pub(crate) fn of_tenant(&self, tenant: &Tenant) -> LimitRules {
        self.of(tenant).all
    }

    /// Whether calls of that tenant are limited by their tool.
    pub(crate) fn limits_tools_of(&self, tenant: &Tenant) -> bool {
        !self.of(tenant).by_tool.is_empty()
    }

    /// Which limits hold for no call, because no tool has their names.
    pub(crate) fn remarks(&self, is_tool: impl Fn(&str) -> bool) -> Vec<Remark> {
        let named = self.by_tenant.iter().map(|(tenant, of)| (tenant.as_str(), of));
        let mut remarks = Vec::new();
        for (tenant, of) in named.chain(std::iter::once(("*", &self.others))) {
            for tool in of.by_tool.keys().filter(|tool| !is_tool(tool)) {
                let entry = format!("tenants.limits.{tenant}.tools.{tool}");
                let text = "limits nothing: it is neither the id of a tool of this catalog, nor `id.function`, nor `server/name` of a server of it";
                remarks.push(Remark { entry, text: text.to_owned() });
            }
        }
        remarks.sort_by(|a, b| a.entry.cmp(&b.entry));
        remarks
    }

    /// All rules with the texts of their limits; those of each tenant that is not named are those of the tenant `*`.
    pub(crate) fn all(&self) -> Vec<(String, LimitRules)> {
        let mut all = Vec::new();
        let mut add = |tenant: &str, of: &OfTenant, pair: &dyn Fn(&str) -> String| {
            all.push((tenant.to_owned(), of.all));
            all.extend(of.by_tool.iter().map(|(tool, rules)| (pair(tool), *rules)));
        };
        for (tenant, of) in &self.by_tenant {
            let pair = |tool: &str| LimitKey::TenantTool(tenant.clone(), tool.to_owned()).to_string();
            add(&LimitKey::Tenant(tenant.clone()).to_string(), of, &pair);
        }
        add("tenant:*", &self.others, &|tool| format!("tenant:*/tool:{tool}"));
        all
    }

    /// What limits its calls to that tool.
    pub(crate) fn of_tool(&self, tenant: &Tenant, tool: &str) -> LimitRules {
        self.of(tenant).by_tool.get(tool).copied().unwrap_or_default()
    }
}

impl ReplyQueues {
    /// A list for all tenants, or lists by tenant, `*` for all.
    pub(crate) fn parse(value: Option<Value>) -> Result<Self, CatalogError> {
        const ENTRY: &str = "reply_queues";
        let Some(value) = value else {
            return Ok(Self::default());
        };
        if !value.is_object() {
            return Ok(Self { all: json::typed(ENTRY, value)?, ..Self::default() });
        }
        let mut parsed = Self::default();
        for (tenant, urls) in json::typed::<BTreeMap<String, Value>>(ENTRY, value)? {
            let urls: Vec<String> = json::typed(&format!("{ENTRY}.{tenant}"), urls)?;
            if tenant == "*" {
                parsed.all = urls;
                continue;
            }
            let tenant = Tenant::parse(tenant).map_err(|e| invalid(ENTRY, e.to_string()))?;
            parsed.by_tenant.insert(tenant, urls);
        }
        Ok(parsed)
    }

    /// All of them, each once.
    pub(crate) fn urls(&self) -> BTreeSet<&str> {
        self.all.iter().chain(self.by_tenant.values().flatten()).map(String::as_str).collect()
    }

    pub(crate) fn allow(&self, tenant: &Tenant, url: &str) -> bool {
        let own = self.by_tenant.get(tenant).into_iter().flatten();
        self.all.iter().chain(own).any(|allowed| allowed == url)
    }
}

/// The role in a SenderId: SQS gives `ROLEID:session-name` for an assumed role.
fn role_of(sender: &str) -> &str {
    sender.split(':').next().unwrap_or(sender)
}
