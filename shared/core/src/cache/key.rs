//! The key of a stored answer: who may have it, what was asked, and under which definition.

use super::rule::{CacheRule, CacheScope};
use crate::definition::ShortDefinitionDigest;
use crate::digest::Digest;
use crate::ids::Tenant;
use crate::request::User;

/// Whose an answer is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Everybody's.
    Public,
    /// One tenant's.
    Tenant(Tenant),
    /// One user's: the user's id, type and roles; nothing for calls that name no user.
    User(Tenant, Option<(String, Option<String>, Vec<String>)>),
}

/// Under what an answer is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// Whose it is.
    pub owner: Owner,
    /// The server with its address, and the target there.
    pub target: String,
    /// The definition of the tool.
    pub definition: Option<ShortDefinitionDigest>,
    /// The digest of operation, target and arguments.
    pub question: Digest,
}

/// What of a call its keys are made from.
#[derive(Debug, Clone, Copy)]
pub struct CallFacts<'a> {
    /// Whose call it is.
    pub tenant: &'a Tenant,
    /// Who asks.
    pub user: Option<&'a User>,
    /// The server's id, and its address.
    pub server: (&'a str, &'a str),
    /// The target as a request names it.
    pub target: &'a str,
    /// The definition of the tool.
    pub definition: Option<&'a ShortDefinitionDigest>,
    /// The digest of operation, target and arguments.
    pub question: &'a Digest,
}

/// The keys of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKeys {
    /// The key of answers for its own tenant or user.
    pub own: CacheKey,
    /// The key of public answers, where the catalog agrees to these.
    pub public: Option<CacheKey>,
}

impl CacheKeys {
    /// The keys of a call. Where no rule of the catalog says whose calls may share an answer, only those of the same user may.
    pub fn of(call: CallFacts<'_>, rule: Option<&CacheRule>) -> Self {
        let scope = rule.map_or(CacheScope::User, |rule| rule.scope);
        let owner = match scope {
            CacheScope::User => Owner::User(call.tenant.clone(), call.user.map(identity)),
            CacheScope::Tenant | CacheScope::Public => Owner::Tenant(call.tenant.clone()),
        };
        let (id, address) = call.server;
        let own = CacheKey {
            owner,
            target: format!("{id} {address} {}", call.target),
            definition: call.definition.cloned(),
            question: call.question.clone(),
        };
        let public = (scope == CacheScope::Public).then(|| CacheKey { owner: Owner::Public, ..own.clone() });
        Self { own, public }
    }

    /// The key under which an answer is stored that its server calls public or not.
    pub fn for_answer(&self, public: bool) -> &CacheKey {
        self.public.as_ref().filter(|_| public).unwrap_or(&self.own)
    }
}

/// A user as the access rules see it.
fn identity(user: &User) -> (String, Option<String>, Vec<String>) {
    let mut roles = user.roles.clone();
    roles.sort_unstable();
    roles.dedup();
    (user.id.clone(), user.kind.clone(), roles)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A call by small numbers: tenant, user, server, target, definition, question.
    type Numbers = (u8, u8, u8, u8, u8, u8);

    fn keys(n: Numbers, scope: Option<CacheScope>) -> CacheKeys {
        let tenant = Tenant::parse(["acme", "globex"][usize::from(n.0)]).unwrap();
        let user = User { id: format!("u{}", n.1), kind: None, roles: vec!["b".into(), "a".into()] };
        let definition = ShortDefinitionDigest::from_stored(format!("d{}", n.4));
        let (address, target) = (format!("https://s{}", n.2), format!("t{}", n.3));
        let question = Digest::of_text(&n.5.to_string());
        let facts = CallFacts {
            tenant: &tenant,
            user: (n.1 > 0).then_some(&user),
            server: ("s", &address),
            target: &target,
            definition: Some(&definition),
            question: &question,
        };
        CacheKeys::of(facts, scope.map(|scope| CacheRule { scope, ttl_ms: None }).as_ref())
    }

    fn numbers() -> impl Strategy<Value = Numbers> {
        (0..2_u8, 0..3_u8, 0..2_u8, 0..2_u8, 0..2_u8, 0..2_u8)
    }

    proptest! {
        #[test]
        fn calls_of_other_users_or_tenants_never_share_a_key(a in numbers(), b in numbers()) {
            for scope in [None, Some(CacheScope::User)] {
                prop_assert_eq!(keys(a, scope) == keys(b, scope), a == b);
            }
            let same = (a.0, a.2, a.3, a.4, a.5) == (b.0, b.2, b.3, b.4, b.5);
            prop_assert_eq!(keys(a, Some(CacheScope::Tenant)) == keys(b, Some(CacheScope::Tenant)), same);
        }

        #[test]
        fn only_public_answers_of_a_public_rule_have_a_shared_key(a in numbers(), b in numbers()) {
            for scope in [None, Some(CacheScope::User), Some(CacheScope::Tenant), Some(CacheScope::Public)] {
                let (one, other) = (keys(a, scope), keys(b, scope));
                for public in [false, true] {
                    if one.for_answer(public) == other.for_answer(public) && a.0 != b.0 {
                        prop_assert!(public && scope == Some(CacheScope::Public));
                    }
                }
            }
        }
    }
}
