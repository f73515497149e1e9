//! Which limits hold for a call: those of the catalog, with what operators have changed live.

use toolfleet_catalog::{Catalog, Server, Tool};
use toolfleet_core::control::{Control, LimitChange, ToolNames};
use toolfleet_core::fleet::LimitPart;
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::{ConcurrencyLimit, LimitKey, LimitRules, RateLimit};

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
    /// The registered tool's id, else `server/name`; none for an operation that calls no tool.
    pub(crate) tool_name: Option<&'a str>,
    /// All names of the tool.
    pub(crate) names: Option<ToolNames<'a>>,
    pub(crate) tenant: &'a Tenant,
}

/// The limits of a call, from narrow to wide. Without limits it allocates nothing. `version` is that of the control table, also where it
/// changes nothing: after the end of a live limit it is newer than the limit.
pub(crate) fn limits_of(
    catalog: &Catalog,
    control: Option<&Control>,
    version: u64,
    call: Limited<'_>,
) -> Vec<ActiveLimit> {
    let control = control.filter(|control| !control.limits.is_empty());
    let tool_rules = call.tool.map_or_else(LimitRules::none, |tool| tool.limits);
    let tenant_rules = catalog.tenant_limits(call.tenant);
    let pair_rules =
        call.tool_name.map_or_else(LimitRules::none, |tool| catalog.tenant_tool_limits(call.tenant, tool));
    let mut limits = Vec::new();
    let mut add = |rules: LimitRules, key: &dyn Fn() -> LimitKey| {
        let has_rules = rules.rate.is_some() || rules.concurrency.is_some();
        if has_rules || control.is_some() {
            limits.extend(active(rules, key(), control, version));
        }
    };
    if let Some(tool) = call.tool_name {
        add(pair_rules, &|| LimitKey::TenantTool(call.tenant.clone(), tool.to_owned()));
        add(tool_rules, &|| LimitKey::Tool(tool.to_owned()));
    }
    add(tenant_rules, &|| LimitKey::Tenant(call.tenant.clone()));
    add(call.server.limits, &|| LimitKey::Server(call.server.id.clone()));
    if let Some((control, tool)) = control.zip(call.tool_name) {
        // Narrower than all others: they come first.
        limits.splice(..0, by_other_names(control, version, call, tool));
    }
    limits
}

/// The limits that operators have set for another name of the tool: its function, or its name on its server. They hold beside those of its id.
fn by_other_names(control: &Control, version: u64, call: Limited<'_>, tool: &str) -> Vec<ActiveLimit> {
    let Some(names) = call.names else { return Vec::new() };
    let set = control.limits.iter().filter_map(|(key, change)| match key.parse() {
        Ok(LimitKey::Tool(name)) if name != tool && names.include(&name) => Some((name, *change)),
        Ok(_) | Err(_) => None,
    });
    let limit = |(name, change)| {
        let (rate, concurrency) = changed_rules(LimitRules::none(), change);
        ActiveLimit { key: LimitKey::Tool(name), rate, concurrency, version }
    };
    set.map(limit).collect()
}

/// The limit with what operators have changed; none where nothing is limited.
fn active(rules: LimitRules, key: LimitKey, control: Option<&Control>, version: u64) -> Option<ActiveLimit> {
    let changed = control.and_then(|control| control.limits.get(&key.to_string()));
    let (rate, concurrency) = changed_rules(rules, changed.copied().unwrap_or_default());
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
pub(crate) fn configured_limits(catalog: &Catalog, control: Option<&Control>) -> Vec<(String, String)> {
    let mut limits = catalog.limits();
    let live = control.into_iter().flat_map(|control| &control.limits);
    for (key, _) in live.clone() {
        limits.entry(key.clone()).or_default();
    }
    let mut configured = Vec::new();
    for (key, rules) in limits {
        let change = control.and_then(|control| control.limits.get(&key)).copied().unwrap_or_default();
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
    use std::collections::BTreeMap;

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
        let call =
            Limited { server, tool: Some(tool), tool_name: Some(id), names: Some(names), tenant: &tenant };
        let text = |limit: ActiveLimit| {
            let rate = limit.rate.map_or_else(String::new, |rate| format!(" {rate}"));
            let most = limit
                .concurrency
                .map_or_else(String::new, |most| format!(" {:?} {}", most.on_loss, most.limit.get()));
            format!("{}{rate}{most} v{}", limit.key, limit.version)
        };
        limits_of(catalog, control, control.map_or(0, |control| control.version), call)
            .into_iter()
            .map(text)
            .collect()
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
            let live = BTreeMap::from([(name.to_owned(), change), ("tool:free/other".to_owned(), change)]);
            let control = Control { version: 7, limits: live, ..Control::default() };
            assert_eq!(limits(&catalog, Some(&control), "open", "acme"), [format!("{name} 1/s v7")]);
        }
    }

    #[test]
    fn all_limits_are_listed_with_what_was_changed_live() {
        let change = LimitChange { rate: RateLimit::new(5, 1).ok(), concurrency: None };
        let mine = LimitChange { rate: None, concurrency: Positive::new(3) };
        let live = BTreeMap::from([("server:crm".to_owned(), change), ("tenant:globex".to_owned(), mine)]);
        let control = Control { version: 7, limits: live, ..Control::default() };
        let listed = |control| {
            let all = configured_limits(&catalog(), control);
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
        let limits_now = BTreeMap::from([
            ("server:crm".to_owned(), change(RateLimit::new(5, 1).ok(), None)),
            ("tool:find".to_owned(), change(None, Positive::new(9))),
            ("tenant:globex".to_owned(), change(None, Positive::new(3))),
        ]);
        let control = Control { version: 7, limits: limits_now, ..Control::default() };
        assert_eq!(
            limits(&catalog, Some(&control), "find", "globex"),
            ["tool:find Free 9 v7", "tenant:globex Hold 3 v7", "server:crm 5/s v7"]
        );
    }
}
