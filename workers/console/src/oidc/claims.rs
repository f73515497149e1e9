//! What the claims of an ID token mean: the visitor's name, and the tenants that they see.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde_json::{Map, Value};
use toolfleet_core::ids::Tenant;
use toolfleet_web::tokens::{ClaimName, values};

use crate::visitor::{Scope, Visitor};

/// The longest name that is shown.
const MAX_NAME_CHARS: usize = 100;

/// A value of a claim that lets a visitor see all tenants, written `CLAIM=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorClaim {
    claim: ClaimName,
    value: String,
}

impl FromStr for OperatorClaim {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || "is not CLAIM=VALUE, for example groups=fleet-operators".to_owned();
        let (claim, value) = text.split_once('=').ok_or_else(problem)?;
        let value = value.trim();
        if value.is_empty() {
            return Err(problem());
        }
        Ok(Self { claim: claim.parse().map_err(|_| problem())?, value: value.to_owned() })
    }
}

impl OperatorClaim {
    fn is_in(&self, claims: &Map<String, Value>) -> bool {
        let Some(found) = self.claim.of(claims) else { return false };
        values(found).contains(&self.value.as_str()) && may_be_believed(&self.claim, claims)
    }
}

/// Many providers let a user write any address that is not verified.
fn may_be_believed(claim: &ClaimName, claims: &Map<String, Value>) -> bool {
    !claim.is("email") || claims.get("email_verified") == Some(&Value::Bool(true))
}

/// What the claims mean.
#[derive(Debug, Clone)]
pub struct VisitorClaims {
    /// The visitor's name, for people; where it is missing, the subject is.
    pub name: ClaimName,
    /// The tenants that the visitor sees: one, or a list.
    pub tenants: Option<ClaimName>,
    /// Who sees all tenants.
    pub operators: Option<OperatorClaim>,
}

impl VisitorClaims {
    /// The rules as a text.
    pub(super) fn text(&self) -> String {
        let tenants = self.tenants.as_ref().map(ToString::to_string);
        let operators = self.operators.as_ref().map(|one| (one.claim.to_string(), one.value.clone()));
        serde_json::json!([tenants, operators]).to_string()
    }

    /// The visitor with these claims; else why there is nothing for them to see.
    pub(super) fn visitor(&self, claims: &Map<String, Value>) -> Result<Visitor, String> {
        let scope = match self.operators.as_ref().is_some_and(|operators| operators.is_in(claims)) {
            true => Scope::All,
            false => Scope::Tenants(self.tenants_of(claims)?),
        };
        Ok(Visitor { name: self.name_of(claims), scope })
    }

    fn tenants_of(&self, claims: &Map<String, Value>) -> Result<BTreeSet<Tenant>, String> {
        let Some(name) = &self.tenants else {
            return Err("You are not among the operators of this fleet".to_owned());
        };
        let parse = |text: &str| {
            Tenant::parse(text).map_err(|error| format!("The tenant in the claim “{name}” {error}"))
        };
        if !may_be_believed(name, claims) {
            return Err("Your provider has not verified your e-mail address".to_owned());
        }
        let found = name.of(claims).map(values).unwrap_or_default();
        let tenants = found.into_iter().map(parse).collect::<Result<BTreeSet<_>, _>>()?;
        if tenants.is_empty() {
            return Err(format!("Your login has no tenant in its claim “{name}”"));
        }
        Ok(tenants)
    }

    fn name_of(&self, claims: &Map<String, Value>) -> String {
        let named = self.name.of(claims).and_then(Value::as_str).filter(|name| !name.trim().is_empty());
        let name = named.or_else(|| claims.get("sub").and_then(Value::as_str)).unwrap_or("a visitor");
        name.trim().chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(tenants: Option<&str>, operators: Option<&str>) -> VisitorClaims {
        VisitorClaims {
            name: "email".parse().unwrap(),
            tenants: tenants.map(|name| name.parse().unwrap()),
            operators: operators.map(|claim| claim.parse().unwrap()),
        }
    }

    fn visitor(rules: &VisitorClaims, claims: Value) -> Result<String, String> {
        let visitor = rules.visitor(claims.as_object().unwrap())?;
        Ok(format!("{} sees {}", visitor.name, visitor.scope))
    }

    #[test]
    fn tenants_come_from_their_claim_alone() {
        let rules = rules(Some("/org/tenants"), Some("groups=fleet operators"));
        let ann = |more: Value| {
            let mut claims = json!({"sub": "17", "email": "ann@example.com"});
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            visitor(&rules, claims)
        };
        assert_eq!(ann(json!({"org": {"tenants": ["acme"]}})).unwrap(), "ann@example.com sees tenant acme");
        assert_eq!(
            ann(json!({"org": {"tenants": ["b", "a"]}})).unwrap(),
            "ann@example.com sees tenants a, b"
        );
        assert_eq!(
            ann(json!({"groups": ["x", "fleet operators"]})).unwrap(),
            "ann@example.com sees all tenants"
        );
        for refused in [
            json!({}),
            json!({"org": {"tenants": []}}),
            json!({"org": {"tenants": 7}}),
            json!({"org": {"tenants": ["_fleet"]}}),
            json!({"org": {"tenants": ["*"]}}),
            json!({"org": {"tenants": "b a"}}),
            json!({"tenants": ["acme"]}),
            json!({"groups": ["fleet", "operators"]}),
            json!({"groups": "my fleet operators"}),
        ] {
            assert!(ann(refused.clone()).unwrap_err().contains("“/org/tenants”"), "{refused}");
        }
    }

    #[test]
    fn an_address_that_is_not_verified_makes_no_operator() {
        for claim in ["email=ann@example.com", "/email=ann@example.com"] {
            let rules = rules(None, Some(claim));
            let with = |verified: Value| {
                visitor(&rules, json!({"sub": "1", "email": "ann@example.com", "email_verified": verified}))
            };
            assert_eq!(with(json!(true)).unwrap(), "ann@example.com sees all tenants");
            for not in [json!(false), json!("true"), json!(null)] {
                assert!(with(not).unwrap_err().contains("not among the operators"));
            }
        }
    }

    #[test]
    fn an_address_that_is_not_verified_is_no_tenant() {
        let rules = rules(Some("email"), None);
        let of = |verified: bool| {
            visitor(&rules, json!({"sub": "1", "email": "ann@example.com", "email_verified": verified}))
        };
        assert_eq!(of(true).unwrap(), "ann@example.com sees tenant ann@example.com");
        assert!(of(false).unwrap_err().contains("not verified"));
    }

    #[test]
    fn a_visitor_has_a_name() {
        let rules = rules(Some("t"), None);
        assert_eq!(visitor(&rules, json!({"sub": "17", "t": "acme"})).unwrap(), "17 sees tenant acme");
        let long = "x\n".repeat(1_000);
        let shown = visitor(&rules, json!({"email": long, "t": "acme"})).unwrap();
        assert_eq!(shown, format!("{} sees tenant acme", "x".repeat(MAX_NAME_CHARS)));
    }

    #[test]
    fn an_operator_claim_has_a_name_and_a_value() {
        for wrong in ["", "groups", "groups=", "=x", " = "] {
            assert!(wrong.parse::<OperatorClaim>().unwrap_err().contains("CLAIM=VALUE"), "{wrong}");
        }
        let dn = "groups=cn=ops,dc=example".parse::<OperatorClaim>().unwrap();
        assert_eq!((dn.claim.to_string().as_str(), dn.value.as_str()), ("groups", "cn=ops,dc=example"));
    }
}
