//! The sessions that functions behind an API Gateway's event have opened, in memory: by function, tenant, and session of the call. A worker
//! that does not know one opens another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use toolfleet_catalog::LambdaTransport;
use toolfleet_core::ids::Tenant;
use toolfleet_mcp::{SingleForm, SingleSession};

/// The most sessions that are kept. Beyond it, the tenant that has the most loses the one that it used least recently.
const MOST: usize = 10_000;

/// Whose session it is. No two tenants share one, and no two sessions of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    function: String,
    role: Option<String>,
    tenant: Tenant,
    session: Option<String>,
}

impl Owner {
    pub(super) fn of(lambda: &LambdaTransport, tenant: &Tenant, session: Option<&str>) -> Self {
        Self {
            function: lambda.function.as_str().to_owned(),
            role: lambda.role_arn.clone(),
            tenant: tenant.clone(),
            session: session.map(str::to_owned),
        }
    }
}

/// The sessions that are known.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Known<SingleSession>>);

impl Sessions {
    /// Carries an event, within a session where the function asks for one.
    pub(super) async fn carry<F, Fut, E>(
        &self,
        owner: Owner,
        form: SingleForm,
        event: Vec<u8>,
        send: &F,
    ) -> Result<Vec<u8>, E>
    where
        F: Fn(Vec<u8>) -> Fut,
        Fut: Future<Output = Result<Vec<u8>, E>>,
    {
        let known = self.known().get(&owner);
        let (answer, opened) = form.in_session(event, known.as_ref(), send).await?;
        if let Some(session) = opened {
            self.known().keep(owner, session, MOST);
        }
        Ok(answer)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known<SingleSession>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions by their owners, each with when it was used last.
#[derive(Debug)]
struct Known<S> {
    sessions: HashMap<Owner, (S, u64)>,
    /// How often one was used.
    uses: u64,
}

impl<S> Default for Known<S> {
    fn default() -> Self {
        Self { sessions: HashMap::new(), uses: 0 }
    }
}

impl<S: Clone> Known<S> {
    fn get(&mut self, owner: &Owner) -> Option<S> {
        let now = self.used();
        let (session, used) = self.sessions.get_mut(owner)?;
        *used = now;
        Some(session.clone())
    }

    /// Keeps a session, and at most so many with it.
    fn keep(&mut self, owner: Owner, session: S, most: usize) {
        let now = self.used();
        if self.sessions.len() >= most && !self.sessions.contains_key(&owner) {
            let least = self.least_used_of_most().cloned();
            least.and_then(|least| self.sessions.remove(&least));
        }
        self.sessions.insert(owner, (session, now));
    }

    /// The session that was used least recently of the tenant that has the most.
    fn least_used_of_most(&self) -> Option<&Owner> {
        let mut tenants: HashMap<&Tenant, (usize, u64, &Owner)> = HashMap::new();
        for (owner, (_, used)) in &self.sessions {
            let (count, least, of) = tenants.entry(&owner.tenant).or_insert((0, *used, owner));
            *count += 1;
            if used < least {
                (*least, *of) = (*used, owner);
            }
        }
        let most = tenants.into_values().max_by_key(|(count, least, _)| (*count, std::cmp::Reverse(*least)));
        most.map(|(_, _, owner)| owner)
    }

    const fn used(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(tenant: &str, session: usize) -> Owner {
        let tenant = Tenant::parse(tenant).unwrap();
        Owner { function: "f".to_owned(), role: None, tenant, session: Some(session.to_string()) }
    }

    #[test]
    fn a_tenant_with_many_sessions_takes_none_of_others() {
        let mut known = Known::default();
        for n in 0..3 {
            known.keep(owner("acme", n), n, 10);
        }
        for n in 0..1_000 {
            known.keep(owner("flood", n), n, 10);
        }
        assert!((0..3).all(|n| known.get(&owner("acme", n)) == Some(n)));
        let left: Vec<_> = (0..1_000).filter(|n| known.get(&owner("flood", *n)).is_some()).collect();
        assert_eq!(left, (993..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn the_session_that_was_used_least_recently_goes_first() {
        let mut known = Known::default();
        for n in 0..3 {
            known.keep(owner("acme", n), n, 3);
        }
        assert_eq!(known.get(&owner("acme", 0)), Some(0));
        // One that is opened again takes its own place.
        known.keep(owner("acme", 2), 12, 3);
        known.keep(owner("acme", 3), 3, 3);
        let left = [0, 1, 2, 3].map(|n| known.get(&owner("acme", n)));
        assert_eq!(left, [Some(0), None, Some(12), Some(3)]);
    }
}
