//! What of the fleet concerns the tenants of a visitor. What could tell of other tenants is left out.

use std::collections::BTreeSet;

use toolfleet_core::control::{ControlEntry, SwitchTarget};
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::LimitKey;

/// Whether a setting of an operator names one of these tenants, or stops a whole queue.
pub(super) fn entry(entry: &ControlEntry, tenants: &BTreeSet<Tenant>) -> bool {
    match entry {
        ControlEntry::Pause(switch) => match (&switch.tenant, &switch.target) {
            (Some(tenant), _) | (None, SwitchTarget::Tenant(tenant)) => tenants.contains(tenant),
            (None, SwitchTarget::Queue(_)) => true,
            // Whether these tenants use it is not known here; `why` of a call says it.
            (None, SwitchTarget::Server(_) | SwitchTarget::Tool(_)) => false,
        },
        ControlEntry::Weight { tenant, .. } => tenants.contains(tenant),
        ControlEntry::Limit { limit, .. } => match LimitKey::stored(limit) {
            Ok(LimitKey::Tenant(tenant) | LimitKey::TenantTool(tenant, _)) => tenants.contains(&tenant),
            Ok(LimitKey::Tool(_) | LimitKey::Server(_)) | Err(_) => false,
        },
        ControlEntry::Strike(_) | ControlEntry::Drain { .. } | ControlEntry::Cancel(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn concerns(value: serde_json::Value) -> bool {
        let mut value = value;
        for (name, text) in [("by", "ann"), ("why", "x"), ("since", "2026-11-29T10:00:00Z")] {
            value[name] = json!(text);
        }
        let tenants = BTreeSet::from(["acme", "org/team"].map(|name| Tenant::parse(name).unwrap()));
        entry(&serde_json::from_value(value).unwrap(), &tenants)
    }

    #[test]
    fn what_names_another_tenant_is_not_shown() {
        assert!(concerns(json!({"kind": "pause", "target": "server:crm", "tenant": "acme"})));
        assert!(concerns(json!({"kind": "pause", "target": "tenant:acme"})));
        assert!(concerns(json!({"kind": "pause", "target": "queue:high"})));
        assert!(concerns(json!({"kind": "weight", "tenant": "acme", "weight": 2})));
        for limit in ["tenant:acme", "tenant:acme/tool:crm.find", "tenant:org%2Fteam", "tenant:org/team"] {
            assert!(concerns(json!({"kind": "limit", "limit": limit, "change": {}})), "{limit}");
        }
        for other in [
            json!({"kind": "pause", "target": "server:crm", "tenant": "globex"}),
            json!({"kind": "pause", "target": "tenant:globex"}),
            json!({"kind": "pause", "target": "tool:crm.find"}),
            json!({"kind": "weight", "tenant": "globex", "weight": 2}),
            json!({"kind": "limit", "limit": "tenant:acme2", "change": {}}),
            json!({"kind": "strike", "digest": "0123456789"}),
        ] {
            assert!(!concerns(other.clone()), "{other}");
        }
    }
}
