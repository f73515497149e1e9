//! The sessions that functions behind an API Gateway's event have opened, in memory: by function, tenant, and session of the call. A worker
//! that does not know one opens another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use toolfleet_catalog::LambdaTransport;
use toolfleet_core::ids::Tenant;
use toolfleet_mcp::{SingleForm, SingleSession};

/// The most sessions that are kept; beyond it all are opened again.
const MAX: usize = 10_000;

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
pub(super) struct Sessions(Mutex<HashMap<Owner, SingleSession>>);

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
        let known = self.known().get(&owner).cloned();
        let (answer, opened) = form.in_session(event, known.as_ref(), send).await?;
        if let Some(session) = opened {
            let mut all = self.known();
            if all.len() >= MAX {
                all.clear();
            }
            all.insert(owner, session);
        }
        Ok(answer)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Owner, SingleSession>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
