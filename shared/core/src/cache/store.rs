//! The store of answers: bounded in entries and bytes; the answer that was used least recently leaves first.
//!
//! **Invariant:** it holds no more than its bounds, gives no answer whose time is over, and keeps the answers of one definition of a target.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::key::{CacheKey, Owner};
use crate::definition::ShortDefinitionDigest;
use crate::digest::Digest;
use crate::ids::CallKey;
use crate::time::Timestamp;

/// What an entry takes besides its answer, in bytes, about.
const ENTRY_BYTES: u64 = 512;

/// The most that a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Answers; with 0 nothing is stored.
    pub entries: usize,
    /// Bytes, with what each entry takes besides its answer.
    pub bytes: u64,
}

/// A stored answer.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    /// The call that the server answered.
    pub from: CallKey,
    /// The result, byte for byte.
    pub content: Arc<RawValue>,
}

/// Answers by their keys.
#[derive(Debug)]
pub struct AnswerStore {
    bounds: Bounds,
    targets: HashMap<Shelf, Answers>,
    /// The least recently used first.
    order: BTreeMap<u64, (Shelf, Digest)>,
    uses: u64,
    bytes: u64,
}

type Shelf = Arc<(Owner, String)>;

/// The answers of one target.
#[derive(Debug, Default)]
struct Answers {
    definition: Option<ShortDefinitionDigest>,
    entries: HashMap<Digest, Entry>,
}

#[derive(Debug)]
struct Entry {
    answer: StoredAnswer,
    until: Timestamp,
    bytes: u64,
    used: u64,
}

impl AnswerStore {
    /// An empty store.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, targets: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0 }
    }

    /// The answer of that key. If the target's answers are of another definition, they are forgotten.
    pub fn get(&mut self, key: &CacheKey, now: Timestamp) -> Option<StoredAnswer> {
        let shelf = self.shelf(key);
        self.keep_definition(&shelf, key);
        let is_over = self.targets.get(&shelf)?.entries.get(&key.question)?.until <= now;
        if is_over {
            self.remove(&shelf, &key.question);
            return None;
        }
        self.uses = self.uses.saturating_add(1);
        let entry = self.targets.get_mut(&shelf)?.entries.get_mut(&key.question)?;
        let place = self.order.remove(&entry.used);
        entry.used = self.uses;
        self.order.extend(place.map(|place| (self.uses, place)));
        Some(entry.answer.clone())
    }

    /// Stores an answer until then, and forgets others where there is no place. Says whether it was stored.
    pub fn put(&mut self, key: &CacheKey, answer: StoredAnswer, until: Timestamp) -> bool {
        let length = answer.content.get().len().saturating_add(key.target.len());
        let bytes = u64::try_from(length).unwrap_or(u64::MAX).saturating_add(ENTRY_BYTES);
        if bytes > self.bounds.bytes || self.bounds.entries == 0 {
            return false;
        }
        let shelf = self.shelf(key);
        self.keep_definition(&shelf, key);
        self.remove(&shelf, &key.question);
        while self.len() >= self.bounds.entries || self.bytes.saturating_add(bytes) > self.bounds.bytes {
            let Some((_, (shelf, question))) = self.order.first_key_value() else {
                break;
            };
            let (shelf, question) = (Arc::clone(shelf), question.clone());
            self.remove(&shelf, &question);
        }
        self.uses = self.uses.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.order.insert(self.uses, (Arc::clone(&shelf), key.question.clone()));
        let answers = self.targets.entry(shelf).or_default();
        answers.definition.clone_from(&key.definition);
        answers.entries.insert(key.question.clone(), Entry { answer, until, bytes, used: self.uses });
        true
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.targets.clear();
        self.order.clear();
        self.bytes = 0;
    }

    /// How many answers it holds.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many bytes its answers take.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The place of a key's target.
    fn shelf(&self, key: &CacheKey) -> Shelf {
        let wanted = (key.owner.clone(), key.target.clone());
        match self.targets.get_key_value(&wanted) {
            Some((shelf, _)) => Arc::clone(shelf),
            None => Arc::new(wanted),
        }
    }

    /// Forgets the target's answers of other definitions.
    fn keep_definition(&mut self, shelf: &Shelf, key: &CacheKey) {
        let Some(answers) = self.targets.get(shelf).filter(|answers| answers.definition != key.definition)
        else {
            return;
        };
        let questions: Vec<_> = answers.entries.keys().cloned().collect();
        for question in questions {
            self.remove(shelf, &question);
        }
    }

    fn remove(&mut self, shelf: &Shelf, question: &Digest) {
        let Some(answers) = self.targets.get_mut(shelf) else {
            return;
        };
        if let Some(entry) = answers.entries.remove(question) {
            self.order.remove(&entry.used);
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
        if answers.entries.is_empty() {
            self.targets.remove(shelf);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{CallId, Tenant};

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn key(tenant: u8, target: u8, definition: u8, question: u8) -> CacheKey {
        let tenant = Tenant::parse(["acme", "globex"][usize::from(tenant)]).unwrap();
        CacheKey {
            owner: Owner::Tenant(tenant),
            target: format!("t{target}"),
            definition: Some(ShortDefinitionDigest::from_stored(format!("d{definition}"))),
            question: Digest::of_text(&question.to_string()),
        }
    }

    fn answer(text: &str) -> StoredAnswer {
        let from = CallKey { tenant: Tenant::parse("acme").unwrap(), call_id: CallId::parse("c1").unwrap() };
        StoredAnswer { from, content: Arc::from(RawValue::from_string(format!("\"{text}\"")).unwrap()) }
    }

    fn store(entries: usize, bytes: u64) -> AnswerStore {
        AnswerStore::new(Bounds { entries, bytes })
    }

    #[test]
    fn an_answer_is_given_until_its_time_is_over() {
        let mut store = store(10, 100_000);
        assert!(store.put(&key(0, 0, 0, 0), answer("a"), at(1_000)));
        assert_eq!(store.get(&key(0, 0, 0, 0), at(999)).unwrap().content.get(), "\"a\"");
        assert!(store.get(&key(0, 0, 0, 0), at(1_000)).is_none());
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn the_least_recently_used_answer_leaves_first() {
        let mut store = store(2, 100_000);
        for n in [0, 1] {
            store.put(&key(0, 0, 0, n), answer("a"), at(10));
        }
        assert!(store.get(&key(0, 0, 0, 0), at(0)).is_some());
        store.put(&key(0, 0, 0, 2), answer("a"), at(10));
        let held = [0, 1, 2].map(|n| store.get(&key(0, 0, 0, n), at(0)).is_some());
        assert_eq!(held, [true, false, true]);
    }

    #[test]
    fn a_changed_definition_empties_the_target_and_no_other() {
        let mut store = store(10, 100_000);
        for (target, question) in [(0, 0), (0, 1), (1, 0)] {
            store.put(&key(0, target, 0, question), answer("a"), at(10));
        }
        assert!(store.get(&key(0, 0, 1, 0), at(0)).is_none());
        assert_eq!(store.len(), 1);
        assert!(store.get(&key(0, 1, 0, 0), at(0)).is_some());
    }

    #[test]
    fn an_answer_over_the_bound_is_not_stored_and_removes_nothing() {
        let mut store = store(10, 2_000);
        assert!(store.put(&key(0, 0, 0, 0), answer("a"), at(10)));
        assert!(!store.put(&key(0, 0, 0, 1), answer(&"x".repeat(2_000)), at(10)));
        assert_eq!(store.len(), 1);
        let mut off = super::AnswerStore::new(Bounds { entries: 0, bytes: 2_000 });
        assert!(!off.put(&key(0, 0, 0, 0), answer("a"), at(10)));
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_no_answer_reaches_another_key(
            steps in prop::collection::vec((0..2_u8, 0..2_u8, 0..2_u8, 0..4_u8, 0..800_usize, prop::bool::ANY), 1..80)
        ) {
            let mut store = store(5, 4_000);
            for (tenant, target, definition, question, length, puts) in steps {
                let key = key(tenant, target, definition, question);
                let name = format!("{tenant} {target} {definition} {question} ");
                if puts {
                    store.put(&key, answer(&(name + &"x".repeat(length))), at(10));
                } else if let Some(found) = store.get(&key, at(0)) {
                    let own = found.content.get().trim_start_matches('"').starts_with(&name);
                    prop_assert!(own, "another key's answer");
                }
                prop_assert!(store.len() <= 5 && store.bytes() <= 4_000);
                let held: usize = store.targets.values().map(|answers| answers.entries.len()).sum();
                prop_assert_eq!(held, store.len());
                prop_assert_eq!(store.is_empty(), store.bytes() == 0);
            }
        }
    }
}
