//! The stored answers of this worker, and which equal calls wait for one of them instead of asking the server too.
//!
//! One call of a key leads: it is sent. The others follow: each waits for the lead. If the leader's answer is stored, they are given it. If
//! its answer may not be stored, or the leader fails or runs out of time, all of them are sent: one after the other they would wait for the
//! same failure again and again. If the tool reports an error, or the leader is cancelled or goes back to the queue without an attempt, the
//! next follower leads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;
use toolfleet_core::cache::{AnswerStore, Bounds, CacheKey, CacheKeys, CacheRule, Freshness, StoredAnswer};
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::{Outcome, OutcomeKind};
use toolfleet_core::time::Timestamp;

/// Above so many keys the dead ones are removed.
const MOST_DEAD: usize = 1_024;

/// The lead of a key. It holds whether the last leader has no answer for the others: one that may not be stored, or a failure.
type Flight = tokio::sync::Mutex<bool>;

/// Under which catalog a call began, among those that the worker has had. An answer is stored only while that catalog is the current one:
/// another one may name other credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Generation(u64);

/// The stored answers.
#[derive(Debug)]
pub(crate) struct Answers {
    store: Mutex<Current>,
    flights: Mutex<HashMap<CacheKey, Weak<Flight>>>,
}

/// The answers that were stored under the current catalog.
#[derive(Debug)]
struct Current {
    generation: Generation,
    answers: AnswerStore,
}

/// The right and duty of one call to ask the server; dropping it passes it on.
#[derive(Debug)]
pub(crate) struct Lead {
    keys: Arc<CacheKeys>,
    flight: OwnedMutexGuard<bool>,
    /// Whether an attempt has failed.
    has_failed: bool,
}

/// A call that waits for the leader of its key.
#[derive(Debug)]
pub(crate) struct Follow {
    keys: Arc<CacheKeys>,
    flight: Arc<Flight>,
}

/// What a call has to do with the answers of its equals.
#[derive(Debug, Default)]
pub(crate) enum Reuse {
    /// Nothing: it is sent, and its answer is not stored.
    #[default]
    None,
    /// It is sent for its equals too.
    Leads(Lead),
    /// It waits for the answer of its leader.
    Follows(Follow),
}

/// What a wait came to.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The leader's answer.
    Answered(StoredAnswer),
    /// This call leads now.
    Leads(Lead),
    /// The leader has no answer for it: this call asks for itself.
    Alone,
}

impl Answers {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let current = Current { generation: Generation::default(), answers: AnswerStore::new(bounds) };
        Self { store: Mutex::new(current), flights: Mutex::default() }
    }

    /// The stored answer for a call, its own before a public one.
    pub(crate) fn get(&self, keys: &CacheKeys, now: Timestamp) -> Option<StoredAnswer> {
        let mut current = self.store();
        let own = current.answers.get(&keys.own, now);
        own.or_else(|| current.answers.get(keys.public.as_ref()?, now))
    }

    /// The leader to wait for, if a call of that key is under way.
    pub(crate) fn follow(&self, keys: &Arc<CacheKeys>) -> Option<Follow> {
        let flight = self.flights().get(&keys.own)?.upgrade()?;
        Some(Follow { keys: Arc::clone(keys), flight })
    }

    /// The lead of that key, or its leader to wait for.
    pub(crate) fn lead(&self, keys: &Arc<CacheKeys>) -> Result<Lead, Follow> {
        let mut flights = self.flights();
        if flights.len() >= MOST_DEAD && !flights.contains_key(&keys.own) {
            flights.retain(|_, flight| flight.strong_count() > 0);
        }
        let known = flights.get(&keys.own).and_then(Weak::upgrade);
        let flight = known.unwrap_or_else(|| {
            let flight = Arc::new(Flight::default());
            flights.insert(keys.own.clone(), Arc::downgrade(&flight));
            flight
        });
        drop(flights);
        match Arc::clone(&flight).try_lock_owned() {
            Ok(flight) => Ok(Lead::new(Arc::clone(keys), flight)),
            Err(_) => Err(Follow { keys: Arc::clone(keys), flight }),
        }
    }

    /// Under which catalog a call begins now.
    pub(crate) fn generation(&self) -> Generation {
        self.store().generation
    }

    /// Forgets all answers, and those of calls that have begun: the catalog is another one.
    pub(crate) fn clear(&self) {
        let mut current = self.store();
        current.generation.0 += 1;
        current.answers.clear();
    }

    /// How many answers are stored, and how many bytes they take.
    pub(crate) fn size(&self) -> (u64, u64) {
        let current = self.store();
        (u64::try_from(current.answers.len()).unwrap_or(u64::MAX), current.answers.bytes())
    }

    fn store(&self) -> MutexGuard<'_, Current> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<CacheKey, Weak<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reuse {
    /// Whether the call waits for another one.
    pub(crate) const fn follows(&self) -> bool {
        match self {
            Self::Follows(_) => true,
            Self::None | Self::Leads(_) => false,
        }
    }

    /// An attempt of the call has failed.
    pub(crate) const fn failed(&mut self) {
        match self {
            Self::Leads(lead) => lead.has_failed = true,
            Self::None | Self::Follows(_) => {}
        }
    }

    /// The row of a call that began under that catalog is stored: its answer may serve its equals.
    pub(crate) fn settle(
        self,
        (answers, began): (&Answers, Generation),
        rule: Option<&CacheRule>,
        row: &CallRow,
        now: Timestamp,
    ) {
        if let (Self::Leads(lead), Some(finished)) = (self, &row.finished) {
            lead.settle((answers, began), rule, (&row.key, &finished.outcome), now);
        }
    }
}

impl Lead {
    const fn new(keys: Arc<CacheKeys>, flight: OwnedMutexGuard<bool>) -> Self {
        Self { keys, flight, has_failed: false }
    }

    /// The leader's call has ended and its row is stored: a success is kept for the calls that follow.
    fn settle(
        mut self,
        (answers, began): (&Answers, Generation),
        rule: Option<&CacheRule>,
        (call, outcome): (&CallKey, &Outcome),
        now: Timestamp,
    ) {
        if outcome.source.cached_from().is_some() {
            return;
        }
        match outcome.kind {
            OutcomeKind::Succeeded => self.has_failed = false,
            // The others would wait as long for the same.
            OutcomeKind::Failed | OutcomeKind::TimedOut | OutcomeKind::OutcomeUnknown => {
                self.has_failed = true;
                return;
            }
            OutcomeKind::ToolError
            | OutcomeKind::InputRequired
            | OutcomeKind::Refused
            | OutcomeKind::Expired
            | OutcomeKind::Cancelled => return,
        }
        let mut current = answers.store();
        if current.generation != began {
            // The next call leads.
            return;
        }
        let stored = outcome.content().is_some_and(|content| {
            let fresh = Freshness::of(content);
            fresh.kept_ms(rule).is_some_and(|ms| {
                let answer = StoredAnswer { from: call.clone(), content: Arc::from(content.to_owned()) };
                current.answers.put(self.keys.for_answer(fresh.public), answer, now.plus_ms(ms))
            })
        });
        drop(current);
        *self.flight = !stored;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.has_failed {
            *self.flight = true;
        }
    }
}

impl Follow {
    /// Waits until the leader's call has ended.
    pub(crate) async fn wait(self, answers: &Answers, now: impl Fn() -> Timestamp) -> Followed {
        let flight = self.flight.lock_owned().await;
        if let Some(answer) = answers.get(&self.keys, now()) {
            return Followed::Answered(answer);
        }
        if *flight { Followed::Alone } else { Followed::Leads(Lead::new(self.keys, flight)) }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use serde_json::value::RawValue;
    use toolfleet_core::cache::CallFacts;
    use toolfleet_core::digest::Digest;
    use toolfleet_core::ids::{CallId, Tenant};

    use super::*;

    fn keys(question: &str) -> Arc<CacheKeys> {
        let (tenant, question) = (Tenant::parse("acme").unwrap(), Digest::of_text(question));
        let facts = CallFacts {
            tenant: &tenant,
            user: None,
            server: ("s", "https://s"),
            target: "t",
            definition: None,
            question: &question,
        };
        Arc::new(CacheKeys::of(facts, Some(&CacheRule::default())))
    }

    fn call() -> CallKey {
        CallKey { tenant: Tenant::parse("acme").unwrap(), call_id: CallId::parse("c1").unwrap() }
    }

    fn success(text: &str) -> Outcome {
        Outcome::succeeded(RawValue::from_string(text.to_owned()).unwrap())
    }

    fn now() -> Timestamp {
        Timestamp::from_ms(1_000)
    }

    fn answers() -> Answers {
        Answers::new(Bounds { entries: 10, bytes: 10_000 })
    }

    #[tokio::test]
    async fn followers_get_the_answer_of_their_leader() {
        let answers = answers();
        let lead = answers.lead(&keys("a")).unwrap();
        assert!(answers.lead(&keys("b")).is_ok(), "another question has a leader of its own");
        let followers: Vec<_> = (0..3).map(|_| answers.lead(&keys("a")).unwrap_err()).collect();
        let mut waits: Vec<_> = followers.into_iter().map(|one| Box::pin(one.wait(&answers, now))).collect();
        assert!(waits.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
        lead.settle(
            (&answers, answers.generation()),
            Some(&CacheRule::default()),
            (&call(), &success("{}")),
            now(),
        );
        for wait in waits {
            assert!(matches!(wait.await, Followed::Answered(answer) if answer.from == call()));
        }
        assert!(answers.get(&keys("a"), now()).is_some());
    }

    #[tokio::test]
    async fn after_a_tools_error_or_a_leader_that_is_gone_the_next_one_leads() {
        let answers = answers();
        let first = answers.lead(&keys("a")).unwrap();
        let (second, third) = (answers.lead(&keys("a")).unwrap_err(), answers.follow(&keys("a")).unwrap());
        let error = Outcome::tool_error(RawValue::from_string("{}".to_owned()).unwrap(), "no");
        first.settle((&answers, answers.generation()), Some(&CacheRule::default()), (&call(), &error), now());
        let Followed::Leads(second) = second.wait(&answers, now).await else { panic!("it leads") };
        let mut third = Box::pin(third.wait(&answers, now));
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(matches!(third.await, Followed::Leads(_)));
    }

    #[tokio::test]
    async fn after_a_leader_that_failed_all_followers_go_at_once() {
        let failed = || toolfleet_core::execution::worn_out(3, true);
        let late = || toolfleet_core::execution::out_of_time(true);
        for ended in [Some(failed()), Some(late()), None] {
            let answers = answers();
            let lead = answers.lead(&keys("a")).unwrap();
            let followers = [0, 1].map(|_| answers.lead(&keys("a")).unwrap_err());
            if let Some(outcome) = ended {
                let began = (&answers, answers.generation());
                lead.settle(began, Some(&CacheRule::default()), (&call(), &outcome), now());
            } else {
                // It goes back to its queue after an attempt.
                let mut reuse = Reuse::Leads(lead);
                reuse.failed();
                drop(reuse);
            }
            for follower in followers {
                assert!(matches!(follower.wait(&answers, now).await, Followed::Alone));
            }
        }
    }

    #[tokio::test]
    async fn a_leader_that_succeeds_after_a_failed_attempt_serves_its_followers() {
        let answers = answers();
        let mut lead = answers.lead(&keys("a")).unwrap();
        let follower = answers.lead(&keys("a")).unwrap_err();
        lead.has_failed = true;
        lead.settle(
            (&answers, answers.generation()),
            Some(&CacheRule::default()),
            (&call(), &success("{}")),
            now(),
        );
        assert!(matches!(follower.wait(&answers, now).await, Followed::Answered(_)));
    }

    #[tokio::test]
    async fn where_the_answer_may_not_be_stored_all_followers_go_at_once() {
        let answers = answers();
        let lead = answers.lead(&keys("a")).unwrap();
        let followers = [0, 1].map(|_| answers.lead(&keys("a")).unwrap_err());
        lead.settle(
            (&answers, answers.generation()),
            Some(&CacheRule::default()),
            (&call(), &success(r#"{"ttlMs":0}"#)),
            now(),
        );
        for follower in followers {
            assert!(matches!(follower.wait(&answers, now).await, Followed::Alone));
        }
        assert_eq!(answers.size(), (0, 0));
    }

    #[tokio::test]
    async fn an_answer_is_forgotten_with_its_time_and_with_the_catalog() {
        let answers = answers();
        let settle = || {
            let lead = answers.lead(&keys("a")).unwrap();
            lead.settle((&answers, answers.generation()), None, (&call(), &success(r#"{"ttlMs":5}"#)), now());
        };
        settle();
        assert!(answers.get(&keys("a"), now().plus_ms(4)).is_some());
        assert!(answers.get(&keys("a"), now().plus_ms(5)).is_none());
        settle();
        answers.clear();
        assert!(answers.get(&keys("a"), now()).is_none());
    }

    /// An answer of a call that began under an earlier catalog may be that of a credential that the current one has replaced.
    #[tokio::test]
    async fn an_answer_of_a_call_begun_under_an_earlier_catalog_is_not_kept() {
        let answers = answers();
        let began = answers.generation();
        let lead = answers.lead(&keys("a")).unwrap();
        let follower = answers.lead(&keys("a")).unwrap_err();
        answers.clear();
        lead.settle((&answers, began), Some(&CacheRule::default()), (&call(), &success("{}")), now());
        assert_eq!(answers.size(), (0, 0));
        let Followed::Leads(lead) = follower.wait(&answers, now).await else { panic!("it leads") };
        lead.settle(
            (&answers, answers.generation()),
            Some(&CacheRule::default()),
            (&call(), &success("{}")),
            now(),
        );
        assert!(answers.get(&keys("a"), now()).is_some());
    }
}
