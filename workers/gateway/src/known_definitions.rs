//! Keeps the definitions that callers were shown, and what is searched of them. A large catalog has ten megabytes of them: they are made once for a
//! caller's rights and the lists as they are, on a thread that answers no request, and not for each page and each search.
//!
//! **Invariant:** definitions are kept for one catalog, one set of lists, and one user with all that access depends on.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use toolfleet_catalog::Catalog;
use toolfleet_core::ids::Tenant;

use crate::definitions::{Definition, DefinitionReader, Definitions, Lists};
use crate::search::{Searched, search};
use crate::server_lists::{Listed, name_of};

/// How many sets of definitions are kept, and how many bytes of entries they have together.
const MOST_KEPT: usize = 32;
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// How many are made at once.
const MADE_AT_ONCE: usize = 2;

/// The definitions that are kept, those that were used last at the end.
pub(crate) struct KnownDefinitions {
    kept: Mutex<VecDeque<Arc<Known>>>,
    making: Semaphore,
}

impl Default for KnownDefinitions {
    fn default() -> Self {
        Self { kept: Mutex::default(), making: Semaphore::new(MADE_AT_ONCE) }
    }
}

/// What definitions depend on.
struct Source {
    catalog: Arc<Catalog>,
    tenant: Tenant,
    user: String,
    lists: Lists,
}

impl Source {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.catalog, &other.catalog)
            && (&self.tenant, &self.user) == (&other.tenant, &other.user)
            && self.lists.len() == other.lists.len()
            && self
                .lists
                .iter()
                .zip(&other.lists)
                .all(|(one, other)| one.0 == other.0 && is_same(one.1, other.1))
    }
}

fn is_same(one: &Listed, other: &Listed) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(&one.by_name, &other.by_name) && one.is_cut == other.is_cut,
        (Err(one), Err(other)) => one == other,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// Definitions, and what is made of them.
pub(crate) struct Known {
    source: Source,
    pub(crate) definitions: Definitions,
    bytes: usize,
    searched: OnceLock<Vec<Searched>>,
    hash: OnceLock<u64>,
}

impl Known {
    fn of(source: Source, definitions: Definitions) -> Self {
        let bytes = definitions.tools.values().map(|one| one.entry.get().len()).sum();
        Self { source, definitions, bytes, searched: OnceLock::new(), hash: OnceLock::new() }
    }

    fn searched(&self) -> &[Searched] {
        self.searched.get_or_init(|| self.definitions.tools.values().map(Definition::searched).collect())
    }

    /// The tools that fit the words, the best first.
    pub(crate) fn found(&self, query: &str, most: usize) -> Vec<&Definition> {
        let tools: Vec<&Definition> = self.definitions.tools.values().collect();
        search(query, self.searched(), most)
            .into_iter()
            .filter_map(|place| tools.get(place).copied())
            .collect()
    }

    /// A number that is another one for other definitions.
    pub(crate) fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            for (name, one) in &self.definitions.tools {
                (name, one.entry.get()).hash(&mut hasher);
            }
            hasher.finish()
        })
    }
}

impl KnownDefinitions {
    fn find(&self, source: &Source) -> Option<Arc<Known>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|known| known.source.is_same(source))?;
        let known = kept.remove(place)?;
        kept.push_back(Arc::clone(&known));
        Some(known)
    }

    fn keep(&self, known: &Arc<Known>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Arc::clone(known));
        let mut bytes: usize = kept.iter().map(|known| known.bytes).sum();
        while kept.len() > MOST_KEPT || (bytes > MOST_BYTES && kept.len() > 1) {
            let Some(oldest) = kept.pop_front() else { break };
            bytes = bytes.saturating_sub(oldest.bytes);
        }
    }

    /// All that the reader's caller may use, and until when the lists are used that it is made of. Where there are more tools than so many,
    /// they are made ready to be searched.
    pub(crate) async fn of(
        &self,
        catalog: &Arc<Catalog>,
        reader: &DefinitionReader<'_>,
        search_above: usize,
    ) -> (Arc<Known>, Option<Instant>) {
        let lists = reader.all_lists().await;
        let used_until = lists.values().filter_map(|listed| listed.as_ref().ok()?.until).min();
        let (tenant, user) = (reader.caller.tenant.clone(), name_of(reader.caller));
        let source = Source { catalog: Arc::clone(catalog), tenant, user, lists };
        if let Some(known) = self.find(&source) {
            return (known, used_until);
        }
        let _making = self.making.acquire().await;
        if let Some(known) = self.find(&source) {
            return (known, used_until);
        }
        let (lists, caller, until) = (Arc::clone(reader.lists), reader.caller.clone(), reader.until);
        let making = tokio::task::spawn_blocking(move || {
            let reader = DefinitionReader { catalog: &source.catalog, lists: &lists, caller: &caller, until };
            let definitions = reader.of_lists(&source.lists);
            let known = Known::of(source, definitions);
            if known.definitions.tools.len() > search_above {
                known.searched();
            }
            Arc::new(known)
        });
        match making.await {
            Ok(known) => {
                self.keep(&known);
                (known, used_until)
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process ends.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
