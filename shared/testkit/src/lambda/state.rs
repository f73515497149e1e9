//! What the scripted Lambda endpoint knows: its functions, the queued faults, and what arrived.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use super::script::{LambdaFault, LambdaInvocation};

/// What a function does with an invocation.
pub(crate) type Handler = Arc<dyn Fn(&LambdaInvocation) -> Value + Send + Sync>;

#[derive(Default)]
pub(crate) struct State {
    inner: Mutex<Inner>,
    pub(crate) arrival: Notify,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) functions: BTreeMap<String, Handler>,
    pub(crate) faults: VecDeque<LambdaFault>,
    pub(crate) always: Option<LambdaFault>,
    pub(crate) invocations: Vec<LambdaInvocation>,
    pub(crate) executions: BTreeMap<String, u64>,
    pub(crate) assumed: Vec<(String, Option<String>)>,
    /// Whether STS refuses every role.
    pub(crate) refuses_roles: bool,
    /// The durable executions: event and answer by name.
    pub(crate) durable: BTreeMap<String, (Value, Value)>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl State {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
