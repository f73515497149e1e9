//! The Secrets Manager endpoint: the JSON 1.1 protocol, for the operations that store and read secrets.
//!
//! **Invariant:** a change is in the journal before it is answered; values are never logged.

pub(crate) mod error;
mod operations;
mod vault;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;

use crate::clock::Clock;
use crate::journal::{Journal, JournalError};
use error::SecretsError;
use vault::{Vault, VaultChange};

/// The secrets, shared by all requests.
#[derive(Debug)]
pub(crate) struct SecretsService {
    state: Mutex<State>,
    clock: Clock,
}

#[derive(Debug)]
struct State {
    vault: Vault,
    journal: Option<Journal<VaultChange>>,
}

impl SecretsService {
    /// Opens the secrets kept in `journal`, or none that are kept nowhere.
    pub(crate) fn open(journal: Option<&Path>, clock: Clock) -> Result<Self, JournalError> {
        let mut vault = Vault::default();
        let journal = match journal {
            Some(path) => {
                Journal::read(path)?.into_iter().for_each(|change| vault.apply(change));
                Some(Journal::rewrite(path, &vault.snapshot())?)
            }
            None => None,
        };
        Ok(Self { state: Mutex::new(State { vault, journal }), clock })
    }

    /// The answer to one request.
    pub(crate) fn answer(&self, operation: &str, body: &Bytes) -> Result<Value, SecretsError> {
        let now_ms = self.clock.now_ms();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.vault.settle(now_ms);
        let done = operations::dispatch(&state.vault, operation, body, now_ms)?;
        if let Some(change) = done.change {
            state.keep(change)?;
        }
        Ok(done.answer)
    }
}

impl State {
    fn keep(&mut self, change: VaultChange) -> Result<(), SecretsError> {
        let changes = [change];
        if let Some(journal) = &mut self.journal {
            let not_written = |problem: String| SecretsError::NotWritten(problem);
            journal.append(&changes).map_err(|error| not_written(error.to_string()))?;
            let vault = &self.vault;
            // Rewritten from the state before this change, which therefore is added once more below the snapshot.
            let rewritten = journal.rewrite_if_worthwhile(|| [vault.snapshot(), changes.to_vec()].concat());
            rewritten.map_err(|error| not_written(error.to_string()))?;
        }
        changes.into_iter().for_each(|change| self.vault.apply(change));
        Ok(())
    }
}
