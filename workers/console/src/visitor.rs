//! Who looks, and the tenants that they see.

use std::collections::BTreeSet;
use std::fmt;

use toolfleet_core::ids::Tenant;

/// The tenants that a visitor sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them, and what is the fleet's own.
    All,
    /// These alone.
    Tenants(BTreeSet<Tenant>),
}

impl Scope {
    /// Whether what is of that tenant is shown.
    pub fn sees(&self, tenant: &Tenant) -> bool {
        match self {
            Self::All => true,
            Self::Tenants(tenants) => tenants.contains(tenant),
        }
    }

    /// Its tenants, unless it is all of them.
    pub(crate) const fn tenants(&self) -> Option<&BTreeSet<Tenant>> {
        match self {
            Self::All => None,
            Self::Tenants(tenants) => Some(tenants),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all tenants"),
            Self::Tenants(tenants) => {
                let names: Vec<_> = tenants.iter().map(Tenant::as_str).collect();
                write!(f, "{} {}", if names.len() == 1 { "tenant" } else { "tenants" }, names.join(", "))
            }
        }
    }
}

/// Who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// Their name, for people.
    pub(crate) name: String,
    pub(crate) scope: Scope,
}
