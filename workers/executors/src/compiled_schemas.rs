//! The compiled schemas of a worker: each is compiled when a call first needs it, once for all calls that wait, on a blocking thread.
//!
//! **Invariant:** what is kept never takes more than its bound of bytes, by the estimate of [`Judge::bytes`]. The schema that was not
//! used for the longest time is dropped first.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use toolfleet_catalog::{InputSchema, Judge, NotCompiled};
use toolfleet_core::digest::Digest;

use crate::blocking::run_blocking;
use crate::single_flight::SingleFlight;

/// How long a call waits for a schema. After it, the call's server judges the arguments alone.
const WAIT: Duration = Duration::from_secs(10);
/// How long one schema may take. Its budget ends it far earlier; most of this is the wait for a thread.
const WITHIN: Duration = Duration::from_secs(60);
/// What an entry takes besides the compiled schema.
const ENTRY_BYTES: usize = 1024;
/// How many schemas are remembered as left to their servers.
const MOST_LEFT: usize = 10_000;

/// A compiled schema, or why there is none.
pub(crate) type Compiled = Result<Arc<Judge>, NotCompiled>;

/// The compiled schemas of a worker. Clones share them.
#[derive(Debug, Clone)]
pub struct CompiledSchemas(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most_bytes: usize,
    /// How long a call waits for a schema.
    wait: Duration,
    kept: Mutex<Kept>,
    flights: SingleFlight<Digest, Option<Compiled>>,
    /// The schemas of which it was logged that their servers judge alone.
    left: Mutex<HashSet<Digest>>,
    compiled: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Digest, Entry>,
    bytes: usize,
    /// Counts the uses.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    compiled: Compiled,
    bytes: usize,
    last_use: u64,
}

/// What a worker has compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompiledFigures {
    /// Schemas compiled since the start.
    pub compiled: u64,
    /// Compiled schemas dropped to stay within the bound.
    pub dropped: u64,
    /// About how many bytes those that are kept take.
    pub bytes: u64,
}

impl CompiledSchemas {
    /// None yet, and never more than about `most_bytes`.
    pub fn new(most_bytes: usize) -> Self {
        Self::with_wait(most_bytes, WAIT)
    }

    fn with_wait(most_bytes: usize, wait: Duration) -> Self {
        Self(Arc::new(Shared {
            most_bytes,
            wait,
            kept: Mutex::default(),
            flights: SingleFlight::default(),
            left: Mutex::default(),
            compiled: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }))
    }

    /// What was compiled, and what is kept.
    pub fn figures(&self) -> CompiledFigures {
        let bytes = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).bytes;
        CompiledFigures {
            compiled: self.0.compiled.load(Ordering::Relaxed),
            dropped: self.0.dropped.load(Ordering::Relaxed),
            bytes: bytes as u64,
        }
    }

    /// The compiled form of a schema, if it is kept.
    pub(crate) fn ready(&self, schema: &InputSchema) -> Option<Compiled> {
        self.0.ready(schema.digest())
    }

    /// The compiled form of a schema, which is compiled if it is not kept; nothing where that takes too long.
    pub(crate) async fn get(&self, schema: &InputSchema) -> Option<Compiled> {
        if let Some(compiled) = self.ready(schema) {
            return Some(compiled);
        }
        let compile = || {
            let (shared, schema) = (Arc::clone(&self.0), schema.clone());
            async move { shared.compile(schema).await }
        };
        timeout(self.0.wait, self.0.flights.join(schema.digest().clone(), compile)).await.ok()??
    }

    /// Whether it was not said before that this schema is left to its server.
    pub(crate) fn says_first(&self, schema: &InputSchema) -> bool {
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.len() < MOST_LEFT && left.insert(schema.digest().clone())
    }
}

impl Shared {
    fn ready(&self, digest: &Digest) -> Option<Compiled> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses = kept.uses.wrapping_add(1);
        let now = kept.uses;
        let entry = kept.entries.get_mut(digest)?;
        entry.last_use = now;
        Some(entry.compiled.clone())
    }

    async fn compile(&self, schema: InputSchema) -> Option<Compiled> {
        // A flight may have ended between the look at what is kept and the start of this one.
        if let Some(compiled) = self.ready(schema.digest()) {
            return Some(compiled);
        }
        let digest = schema.digest().clone();
        let compiled = run_blocking(WITHIN, move || schema.compile().map(Arc::new)).await?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        self.keep(digest, compiled.clone());
        Some(compiled)
    }

    /// Keeps a schema. Those that were not used for the longest time make room for it.
    fn keep(&self, digest: Digest, compiled: Compiled) {
        let bytes = compiled.as_ref().map_or(0, |judge| judge.bytes()).saturating_add(ENTRY_BYTES);
        if bytes > self.most_bytes {
            return;
        }
        let mut gone = Vec::new();
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            while kept.bytes.saturating_add(bytes) > self.most_bytes {
                let oldest = kept.entries.iter().min_by_key(|(_, entry)| entry.last_use);
                let Some(oldest) = oldest.map(|(digest, _)| digest.clone()) else { break };
                if let Some(entry) = kept.entries.remove(&oldest) {
                    kept.bytes = kept.bytes.saturating_sub(entry.bytes);
                    gone.push(entry);
                }
            }
            kept.bytes = kept.bytes.saturating_add(bytes);
            let last_use = kept.uses;
            kept.entries.insert(digest, Entry { compiled, bytes, last_use });
        }
        self.dropped.fetch_add(gone.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use serde_json::{Value, json};

    use super::*;

    fn schema(n: usize) -> InputSchema {
        InputSchema::unchecked(
            &json!({ "properties": { "a": { "pattern": format!("^[a-z]{{1,9}}-{n:04}$") } } }),
        )
    }

    /// However busy the machine is.
    fn schemas(most_bytes: usize) -> CompiledSchemas {
        CompiledSchemas::with_wait(most_bytes, WITHIN)
    }

    #[tokio::test]
    async fn a_schema_is_compiled_once_for_a_hundred_calls_at_once() {
        let schemas = schemas(1 << 20);
        assert_eq!(schemas.figures(), CompiledFigures { compiled: 0, dropped: 0, bytes: 0 });
        let found = join_all((0..100).map(|_| {
            let schema = schema(1);
            let schemas = schemas.clone();
            async move { schemas.get(&schema).await }
        }));
        let found: Vec<_> = found.await.into_iter().map(|found| found.unwrap().unwrap()).collect();
        assert!(found.iter().all(|judge| Arc::ptr_eq(judge, &found[0])));
        assert_eq!(schemas.figures().compiled, 1);
        assert!(schemas.ready(&schema(1)).is_some() && schemas.ready(&schema(2)).is_none());
    }

    #[tokio::test]
    async fn the_schema_unused_for_the_longest_time_is_dropped_at_the_bound() {
        let each = schema(0).compile().unwrap().bytes() + ENTRY_BYTES;
        let schemas = schemas(each * 3);
        for n in [0, 1, 2, 0, 3] {
            assert!(schemas.get(&schema(n)).await.unwrap().is_ok());
        }
        let kept = (0..4).filter(|n| schemas.ready(&schema(*n)).is_some()).collect::<Vec<_>>();
        assert_eq!(kept, [0, 2, 3], "0 was used again after 1");
        let figures = schemas.figures();
        assert_eq!((figures.compiled, figures.dropped), (4, 1));
        assert_eq!(figures.bytes, each as u64 * 3);
        assert!(schemas.get(&schema(1)).await.unwrap().is_ok(), "it is compiled again");
        assert_eq!(schemas.figures().compiled, 5);
    }

    #[tokio::test]
    async fn a_schema_larger_than_the_bound_is_used_and_not_kept() {
        let schemas = schemas(ENTRY_BYTES);
        assert!(schemas.get(&schema(1)).await.unwrap().is_ok());
        assert_eq!(schemas.figures(), CompiledFigures { compiled: 1, dropped: 0, bytes: 0 });
    }

    #[tokio::test]
    async fn what_does_not_compile_is_not_tried_again() {
        let schemas = schemas(1 << 20);
        let many: serde_json::Map<String, Value> = (0..30_000).map(|n| (n.to_string(), json!({}))).collect();
        let large = InputSchema::unchecked(&json!({ "properties": many }));
        let invalid = InputSchema::unchecked(&json!({ "type": "objekt" }));
        for _ in 0..2 {
            assert!(matches!(schemas.get(&large).await, Some(Err(NotCompiled::TooLarge))));
            assert!(matches!(schemas.get(&invalid).await, Some(Err(NotCompiled::Invalid(_)))));
        }
        assert_eq!(schemas.figures().compiled, 2);
    }

    #[tokio::test]
    async fn a_call_that_gives_up_does_not_end_the_compiling_of_others() {
        let schemas = schemas(1 << 20);
        let wanted = schema(1);
        let mut first = Box::pin(schemas.get(&wanted));
        assert!(futures::poll!(first.as_mut()).is_pending());
        drop(first);
        assert!(schemas.get(&wanted).await.unwrap().is_ok());
        assert_eq!(schemas.figures().compiled, 1);
    }

    #[test]
    fn that_a_schema_is_left_to_its_server_is_said_once() {
        let schemas = schemas(1 << 20);
        assert!(schemas.says_first(&schema(1)) && !schemas.says_first(&schema(1)));
        assert!(schemas.says_first(&schema(2)));
    }
}
