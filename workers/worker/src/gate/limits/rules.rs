//! Which limits hold for a call: those of the catalog, with what operators have changed live.

use std::collections::BTreeMap;

use toolfleet_catalog::{Catalog, Server, Tool};
use toolfleet_core::control::{Control, LimitChange, ToolNames};
use toolfleet_core::fleet::LimitPart;
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::{ConcurrencyLimit, LimitKey, LimitRules, RateLimit};
use toolfleet_core::time::Timestamp;

/// A limit that holds for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveLimit {
    pub(crate) key: LimitKey,
    pub(crate) rate: Option<RateLimit>,
    pub(crate) concurrency: Option<ConcurrencyLimit>,
    /// The version of the control table that this worker knows: of two settings, the one with the higher version holds.
    pub(crate) version: u64,
}

/// What of a call limits can match.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limited<'a> {
    pub(crate) server: &'a Server,
    pub(crate) tool: Option<&'a Tool>,
    /// All names of the tool; none for an operation that calls no tool.
    pub(crate) names: Option<ToolNames<'a>>,
    pub(crate) tenant: &'a Tenant,
}

/// What operators have set, as it holds now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Live<'a> {
    control: Option<&'a Control>,
    /// That of the control table, also where it changes nothing: after the end of a live limit it is newer than the limit.
    version: u64,
    now: Timestamp,
}

impl<'a> Live<'a> {
    pub(crate) fn new(control: Option<&'a Control>, version: u64, now: Timestamp) -> Self {
        Self { control: control.filter(|control| !control.limits.is_empty()), version, now }
    }
}

/// The limits of a call, from narrow to wide. Without limits it allocates nothing. A limit holds whichever of its names it has for the tool:
/// one of another name holds beside that of its id.
pub(crate) fn limits_of(catalog: &Catalog, live: Live<'_>, call: Limited<'_>) -> Vec<ActiveLimit> {
    let mut limits = Vec::new();
    let mut add = |rules: LimitRules, key: &dyn Fn() -> LimitKey| {
        let has_rules = rules.rate.is_some() || rules.concurrency.is_some();
        if has_rules || live.control.is_some() {
            limits.extend(active(rules, key(), live));
        }
    };
    let has_names = live.control.is_some() || catalog.limits_tools_of(call.tenant);
    let names = call.names.filter(|_| has_names).map_or_else(Vec::new, |names| names.all());
    for name in &names {
        let rules = catalog.tenant_tool_limits(call.tenant, name);
        add(rules, &|| LimitKey::TenantTool(call.tenant.clone(), name.clone()));
    }
    let tool = call.tool.filter(|_| call.names.is_some());
    for name in names.iter().filter(|name| tool.is_none_or(|tool| tool.id.as_str() != *name)) {
        add(LimitRules::none(), &|| LimitKey::Tool(name.clone()));
    }
    if let Some(tool) = tool {
        add(tool.limits, &|| LimitKey::Tool(tool.id.to_string()));
    }
    add(catalog.tenant_limits(call.tenant), &|| LimitKey::Tenant(call.tenant.clone()));
    add(call.server.limits, &|| LimitKey::Server(call.server.id.clone()));
    limits
}

/// The limit with what operators have changed; none where nothing is limited.
fn active(rules: LimitRules, key: LimitKey, live: Live<'_>) -> Option<ActiveLimit> {
    let changed = live.control.map(|control| control.limit(&key, live.now)).unwrap_or_default();
    let (rate, concurrency) = changed_rules(rules, changed);
    let version = live.version;
    (rate.is_some() || concurrency.is_some()).then_some(ActiveLimit { key, rate, concurrency, version })
}

/// The parts of a limit, after a live change.
fn changed_rules(rules: LimitRules, change: LimitChange) -> (Option<RateLimit>, Option<ConcurrencyLimit>) {
    let LimitChange { rate, concurrency } = change;
    let concurrency = match (concurrency, rules.concurrency) {
        (Some(limit), Some(of_catalog)) => Some(of_catalog.with_limit(limit)),
        (Some(limit), None) => Some(ConcurrencyLimit::of(limit)),
        (None, of_catalog) => of_catalog,
    };
    (rate.or(rules.rate), concurrency)
}

/// The names and values of all limits of the catalog and of those that operators have set.
pub(crate) fn configured_limits(catalog: &Catalog, live: Live<'_>) -> Vec<(String, String)> {
    let mut limits: BTreeMap<_, _> =
        catalog.limits().into_iter().map(|(key, rules)| (key, (rules, LimitChange::default()))).collect();
    for (key, limit) in live.control.into_iter().flat_map(|control| &control.limits) {
        limits.entry(key.to_string()).or_default().1 = limit.at(live.now);
    }
    let mut configured = Vec::new();
    for (key, (rules, change)) in limits {
        let (rate, concurrency) = changed_rules(rules, change);
        let rate = rate.map(|rate| (LimitPart::Rate.of(&key), rate.to_string()));
        let most = concurrency.map(|most| (LimitPart::Concurrency.of(&key), most.limit.get().to_string()));
        let adaptive = rules.adaptive.then(|| (LimitPart::Adaptive.of(&key), "adaptive".to_owned()));
        configured.extend(rate.into_iter().chain(most).chain(adaptive));
    }
    configured
}

#[cfg(test)]
mod tests {
    use toolfleet_core::control::ControlEntry;
    use toolfleet_core::ids::{ServerId, ToolId};
    use toolfleet_core::limits::Positive;

    use super::*;

    fn catalog() -> Catalog {
        Catalog::parse(
            r#"{"servers": [{"id": "crm", "url": "https://crm.example/mcp", "limits": {"rate": "20/s"}},
                            {"id": "free", "url": "https://free.example/mcp"}],
                "tools": [{"id": "find", "server": "crm", "limits": {"concurrency": {"limit": 5, "on_loss": "free"}}},
                          {"id": "open", "server": "free"}],
                "tenants": {"queue": ["*"], "limits": {"acme": {"tools": {"find": {"rate": "1/s"}}}}}}"#,
        )
        .unwrap()
    }

    fn limits(catalog: &Catalog, control: Option<&Control>, tool: &str, tenant: &str) -> Vec<String> {
        let tool = catalog.tool(&ToolId::parse(tool).unwrap()).unwrap();
        let tenant = Tenant::parse(tenant).unwrap();
        let server = catalog.server(&tool.server.id).unwrap();
        let id = tool.id.as_str();
        let names = ToolNames { registered: Some(id), server: server.id.as_str(), name: id };
        let call = Limited { server, tool: Some(tool), names: Some(names), tenant: &tenant };
        let text = |limit: ActiveLimit| {
            let rate = limit.rate.map_or_else(String::new, |rate| format!(" {rate}"));
            let most = limit
                .concurrency
                .map_or_else(String::new, |most| format!(" {:?} {}", most.on_loss, most.limit.get()));
            format!("{}{rate}{most} v{}", limit.key, limit.version)
        };
        limits_of(catalog, live(control, 0), call).into_iter().map(text).collect()
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn live(control: Option<&Control>, now_ms: i64) -> Live<'_> {
        Live::new(control, control.map_or(0, |control| control.version), at(now_ms))
    }

    /// What operators have set at these limits, as they name them.
    fn control<'a>(set: impl IntoIterator<Item = (&'a str, LimitChange)>) -> Control {
        let entry = |(name, change)| ControlEntry::Limit {
            limit: LimitKey::named(name).unwrap().to_string(),
            change,
            by: "ann".to_owned(),
            why: "load".to_owned(),
            since: at(0),
            until: None,
        };
        Control::new(7, set.into_iter().map(entry), at(0))
    }

    #[test]
    fn a_call_has_its_limits_from_narrow_to_wide() {
        let catalog = catalog();
        assert_eq!(
            limits(&catalog, None, "find", "acme"),
            ["tenant:acme/tool:find 1/s v0", "tool:find Free 5 v0", "server:crm 20/s v0"]
        );
        assert_eq!(limits(&catalog, None, "find", "globex").len(), 2);
        assert!(limits(&catalog, None, "open", "acme").is_empty());
        assert!(catalog.server(&ServerId::parse("free").unwrap()).unwrap().limits.is_empty());
    }

    #[test]
    fn a_live_limit_holds_whichever_way_it_names_the_tool() {
        let catalog = catalog();
        let change = LimitChange { rate: RateLimit::new(1, 1).ok(), concurrency: None };
        for name in ["tool:open", "tool:open.open", "tool:free/open"] {
            for tenant in ["", "tenant:acme/"] {
                let name = format!("{tenant}{name}");
                let control = control([(name.as_str(), change), ("tool:free/other", change)]);
                assert_eq!(limits(&catalog, Some(&control), "open", "acme"), [format!("{name} 1/s v7")]);
            }
        }
        let control = control([("tenant:acme/tool:free/open", change)]);
        assert!(limits(&catalog, Some(&control), "open", "globex").is_empty());
    }

    #[test]
    fn a_limit_of_the_catalog_holds_whichever_way_it_names_the_tool_of_a_tenant() {
        for name in ["open", "open.open", "free/open"] {
            let text = format!(
                r#"{{"servers": [{{"id": "free", "url": "https://free.example/mcp"}}], "tools": [{{"id": "open", "server": "free"}}],
                    "tenants": {{"queue": ["*"], "limits": {{"acme": {{"tools": {{"{name}": {{"rate": "1/s"}}}}}}}}}}}}"#
            );
            let catalog = Catalog::parse(&text).unwrap();
            assert_eq!(limits(&catalog, None, "open", "acme"), [format!("tenant:acme/tool:{name} 1/s v0")]);
        }
    }

    #[test]
    fn a_live_limit_holds_for_a_tenant_of_any_name() {
        let catalog = catalog();
        let change = LimitChange { rate: RateLimit::new(1, 1).ok(), concurrency: None };
        for tenant in ["org/team", "a%2Fb", "a%23b", "a/tool:b"] {
            let (own, pair) = (format!("tenant:{tenant}"), format!("tenant:{tenant}/tool:open"));
            let own = if tenant.contains("/tool:") { &pair } else { &own };
            let control = control([(own.as_str(), change), (pair.as_str(), change)]);
            let count = if *own == pair { 1 } else { 2 };
            assert_eq!(limits(&catalog, Some(&control), "open", tenant).len(), count, "{tenant}");
        }
    }

    #[test]
    fn a_live_limit_ends_though_the_control_table_cannot_be_read() {
        let change = LimitChange { rate: RateLimit::new(1, 1).ok(), concurrency: None };
        let (by, why, limit) = ("ann".to_owned(), "load".to_owned(), "server:free".to_owned());
        let entry = ControlEntry::Limit { limit, change, by, why, since: at(0), until: Some(at(5_000)) };
        let control = Control::new(7, [entry], at(0));
        let configured = |now_ms| configured_limits(&catalog(), live(Some(&control), now_ms));
        let is_listed = |now_ms| configured(now_ms).iter().any(|(name, _)| name == "server:free rate");
        assert!(is_listed(4_999) && !is_listed(5_000));
    }

    #[test]
    fn all_limits_are_listed_with_what_was_changed_live() {
        let change = LimitChange { rate: RateLimit::new(5, 1).ok(), concurrency: None };
        let mine = LimitChange { rate: None, concurrency: Positive::new(3) };
        let control = control([("server:crm", change), ("tenant:globex", mine)]);
        let listed = |control| {
            let all = configured_limits(&catalog(), live(control, 0));
            all.into_iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>()
        };
        assert_eq!(
            listed(None),
            ["server:crm rate 20/s", "tenant:acme/tool:find rate 1/s", "tool:find concurrency 5"]
        );
        assert_eq!(
            listed(Some(&control)),
            [
                "server:crm rate 5/s",
                "tenant:acme/tool:find rate 1/s",
                "tenant:globex concurrency 3",
                "tool:find concurrency 5"
            ]
        );
    }

    #[test]
    fn a_live_limit_replaces_the_part_that_it_names() {
        let catalog = catalog();
        let change = |rate, concurrency| LimitChange { rate, concurrency };
        let control = control([
            ("server:crm", change(RateLimit::new(5, 1).ok(), None)),
            ("tool:find", change(None, Positive::new(9))),
            ("tenant:globex", change(None, Positive::new(3))),
        ]);
        assert_eq!(
            limits(&catalog, Some(&control), "find", "globex"),
            ["tool:find Free 9 v7", "tenant:globex Hold 3 v7", "server:crm 5/s v7"]
        );
    }
}
