//! Stored answers: which calls may be answered from the answer of an equal call, how long an answer is kept, and the store.
//!
//! A request asks with `cache: true`, and its tool or server allows it: the catalog by `cache`, or the server by `ttlMs` in the answer
//! of a read operation. Only a success is stored.
//!
//! **Invariant:** an answer is given only to a call of the same owner, server, target, definition and question; an owner is a tenant, or a user
//! of it, unless catalog and server both say that the answer is public.

mod freshness;
mod key;
mod rule;
mod store;

pub use freshness::{DEFAULT_TTL_MS, Freshness};
pub use key::{CacheKey, CacheKeys, CallFacts, Owner};
pub use rule::{CacheRule, CacheRuleError, CacheScope, MAX_TTL_MS};
pub use store::{AnswerStore, Bounds, StoredAnswer};
