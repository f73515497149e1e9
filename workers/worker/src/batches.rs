//! The batches that form in this worker: which calls are sent together, and who sends them.
//!
//! One member of a batch leads: it waits for others, obtains what the request needs of the calls' limits, closes the batch and sends it. If it
//! ends before that, the next member leads. A member leaves by dropping its place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{Notify, OwnedMutexGuard, oneshot};
use tokio::time::{Instant, sleep_until};
use toolfleet_core::batch::BatchRule;
use toolfleet_core::cache::CacheKey;
use toolfleet_core::call::Held;
use toolfleet_core::failure::Failure;
use toolfleet_core::ids::SessionId;
use toolfleet_core::outcome::Outcome;

/// Above so many keys those without a batch are removed.
const MOST_DEAD: usize = 1_024;
/// A call waits for others for at most this part of the time that it has left.
const PART_OF_TIME_LEFT: u32 = 4;
/// What the calls of a batch add to its list is no longer than this, in bytes, unless one call alone adds more.
const MOST_BYTES: usize = 256 * 1024;

/// What calls have in common that are sent together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct BatchKey {
    /// Tenant, user, server, tool and its definition, and the digest of the other arguments.
    pub(crate) same: CacheKey,
    pub(crate) session: Option<SessionId>,
    pub(crate) rule: BatchRule,
}

/// What a member is given.
#[derive(Debug)]
pub(crate) enum Given {
    /// Its part of the answer.
    Ended(Outcome),
    /// What the request met instead of an answer.
    Failed(Failure),
    /// The request of all calls, or its answer, was too large. The call is to be sent alone.
    Alone(Failure),
    /// What the batch waits for. It was not sent.
    Held { after_ms: u64, held: Box<Held> },
}

/// A call in a batch.
pub(crate) struct Member {
    /// What it adds to the list.
    pub(crate) element: Box<RawValue>,
    /// Its deadline.
    pub(crate) deadline: Instant,
    /// Whether its message carries a turn of a rate limit. Then it leads, and no other such call joins: each turn is used.
    pub(crate) carries_turn: bool,
    /// Counts its attempt in the batch of that id, unless the call has ended or its lease is over.
    pub(crate) begin: Box<dyn FnOnce(&str) -> bool + Send>,
    /// Takes what it is given; closed once it has left.
    pub(crate) given: oneshot::Sender<Given>,
}

/// The batches that calls may still join.
#[derive(Default)]
pub(crate) struct Batches {
    open: Mutex<HashMap<BatchKey, Weak<Batch>>>,
}

/// A batch until it is closed.
pub(crate) struct Batch {
    forming: Mutex<Forming>,
    lead: Arc<tokio::sync::Mutex<()>>,
    changed: Notify,
    max: usize,
}

#[derive(Default)]
struct Forming {
    members: Vec<Member>,
    /// How long the members wait for others; nothing without members.
    until: Option<Instant>,
    closed: bool,
}

impl Batches {
    /// Puts a call into the open batch of its key, or into a new one.
    pub(crate) fn join(&self, key: &BatchKey, member: Member) -> Arc<Batch> {
        let wait = Duration::from_millis(key.rule.wait_ms);
        let mut open = self.open();
        if open.len() >= MOST_DEAD && !open.contains_key(key) {
            open.retain(|_, batch| batch.strong_count() > 0);
        }
        let forming = open.get(key).and_then(Weak::upgrade);
        let member = match forming {
            Some(batch) => match batch.add(member, wait) {
                Ok(()) => return batch,
                Err(member) => member,
            },
            None => member,
        };
        let batch = Arc::new(Batch::of(member, key.rule.max, wait));
        open.insert(key.clone(), Arc::downgrade(&batch));
        batch
    }

    /// Closes a batch: nobody joins it any more. Gives the members that have not left.
    pub(crate) fn close(&self, key: &BatchKey, batch: &Arc<Batch>) -> Vec<Member> {
        let mut open = self.open();
        if open.get(key).is_some_and(|known| known.as_ptr() == Arc::as_ptr(batch)) {
            open.remove(key);
        }
        let mut forming = batch.forming();
        forming.closed = true;
        let mut members = std::mem::take(&mut forming.members);
        members.retain(|member| !member.given.is_closed());
        members
    }

    fn open(&self) -> MutexGuard<'_, HashMap<BatchKey, Weak<Batch>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forming {
    fn has_turn(&self) -> bool {
        self.members.iter().any(|member| member.carries_turn && !member.given.is_closed())
    }

    /// Whether it has room for what that member adds.
    fn has_room_for(&self, member: &Member) -> bool {
        let bytes = |member: &Member| member.element.get().len();
        self.members.is_empty() || self.members.iter().map(bytes).sum::<usize>() + bytes(member) <= MOST_BYTES
    }
}

impl Batch {
    /// A batch that no other call joins.
    pub(crate) fn alone(member: Member) -> Arc<Self> {
        Arc::new(Self::of(member, 1, Duration::ZERO))
    }

    /// A batch with its first member.
    fn of(member: Member, max: usize, wait: Duration) -> Self {
        let until = Some(waits_until(&member, wait));
        let forming = Forming { members: vec![member], until, closed: false };
        Self { forming: Mutex::new(forming), lead: Arc::default(), changed: Notify::new(), max }
    }

    /// The lead, once no other member has it.
    pub(crate) async fn lead(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.lead).lock_owned().await
    }

    /// Waits until the batch is full, or its members have waited long enough. Only the leader waits here.
    pub(crate) async fn filled(&self) {
        loop {
            let until = {
                let forming = self.forming();
                if forming.members.len() >= self.max { None } else { forming.until }
            };
            let Some(until) = until.filter(|until| *until > Instant::now()) else {
                return;
            };
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Whether the message of a member carries a turn.
    pub(crate) fn has_turn(&self) -> bool {
        self.forming().has_turn()
    }

    /// Adds a member, unless the batch is closed or full.
    fn add(&self, member: Member, wait: Duration) -> Result<(), Member> {
        let mut forming = self.forming();
        forming.members.retain(|member| !member.given.is_closed());
        let second_turn = member.carries_turn && forming.has_turn();
        if forming.closed || second_turn || forming.members.len() >= self.max {
            return Err(member);
        }
        if !forming.has_room_for(&member) {
            // The next batch takes its place: nobody else joins this one.
            forming.until = Some(Instant::now());
            drop(forming);
            self.changed.notify_one();
            return Err(member);
        }
        let until = waits_until(&member, wait);
        let others = forming.until.filter(|_| !forming.members.is_empty());
        forming.until = Some(others.map_or(until, |others| others.min(until)));
        forming.members.push(member);
        drop(forming);
        self.changed.notify_one();
        Ok(())
    }

    fn forming(&self) -> MutexGuard<'_, Forming> {
        self.forming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a call that joins now waits for others.
fn waits_until(member: &Member, wait: Duration) -> Instant {
    let now = Instant::now();
    now + wait.min(member.deadline.saturating_duration_since(now) / PART_OF_TIME_LEFT)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use toolfleet_core::cache::{CacheKeys, CallFacts};
    use toolfleet_core::digest::Digest;
    use toolfleet_core::ids::Tenant;

    use super::*;

    fn key(tenant: &str, max: usize) -> BatchKey {
        let (tenant, question) = (Tenant::parse(tenant).unwrap(), Digest::of_text("{}"));
        let facts = CallFacts {
            tenant: &tenant,
            user: None,
            server: ("s", "https://s"),
            target: "t",
            definition: None,
            question: &question,
        };
        let rule = BatchRule { argument: "city".into(), max, wait_ms: 100 };
        BatchKey { same: CacheKeys::of(facts, None).own, session: None, rule }
    }

    fn member(left_ms: u64) -> (Member, oneshot::Receiver<Given>) {
        let (given, receiver) = oneshot::channel();
        let member = Member {
            element: RawValue::from_string("1".to_owned()).unwrap(),
            deadline: Instant::now() + Duration::from_millis(left_ms),
            carries_turn: false,
            begin: Box::new(|_| true),
            given,
        };
        (member, receiver)
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_sent_when_it_is_full_or_its_members_have_waited() {
        let (batches, key) = (Batches::default(), key("acme", 2));
        let (first, _first) = member(60_000);
        let batch = batches.join(&key, first);
        let begun = Instant::now();
        batch.filled().await;
        assert_eq!(begun.elapsed(), Duration::from_millis(100));
        let (second, _second) = member(60_000);
        assert!(Arc::ptr_eq(&batch, &batches.join(&key, second)), "it is open until it is closed");
        assert!(batch.filled().now_or_never().is_some(), "full");
        let (third, _third) = member(60_000);
        let next = batches.join(&key, third);
        assert!(!Arc::ptr_eq(&batch, &next));
        assert_eq!(batches.close(&key, &batch).len(), 2);
        let (fourth, _fourth) = member(60_000);
        assert!(Arc::ptr_eq(&next, &batches.join(&key, fourth)), "the next one is still open");
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_with_little_time_shortens_the_wait() {
        let (batches, key) = (Batches::default(), key("acme", 10));
        let (first, _first) = member(60_000);
        let batch = batches.join(&key, first);
        let begun = Instant::now();
        let (_, (_second,)) = tokio::join!(batch.filled(), async {
            let (urgent, receiver) = member(80);
            batches.join(&key, urgent);
            (receiver,)
        });
        assert_eq!(begun.elapsed(), Duration::from_millis(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_leaves_is_not_sent_and_the_next_one_leads() {
        let (batches, key) = (Batches::default(), key("acme", 2));
        let (first, left) = member(60_000);
        let batch = batches.join(&key, first);
        let lead = batch.lead().await;
        let (second, _second) = member(60_000);
        batches.join(&key, second);
        assert!(batch.lead().now_or_never().is_none());
        drop((lead, left));
        let _lead = batch.lead().now_or_never().expect("the next one leads");
        let (third, _third) = member(60_000);
        assert!(Arc::ptr_eq(&batch, &batches.join(&key, third)), "the place is free again");
        assert_eq!(batches.close(&key, &batch).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_has_no_room_for_the_next_call_is_sent_at_once() {
        let (batches, key) = (Batches::default(), key("acme", 10));
        let large = |bytes: usize| {
            let (member, receiver) = member(60_000);
            let element = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
            (Member { element, ..member }, receiver)
        };
        let ((first, _first), (second, _second)) = (large(MOST_BYTES - 1), large(1_000));
        let batch = batches.join(&key, first);
        let begun = Instant::now();
        let next = tokio::join!(batch.filled(), async { batches.join(&key, second) }).1;
        assert_eq!((begun.elapsed(), Arc::ptr_eq(&batch, &next)), (Duration::ZERO, false));
        let (small, _small) = large(MOST_BYTES - 1_000);
        assert!(Arc::ptr_eq(&next, &batches.join(&key, small)), "just full");
        let (huge, _huge) = large(2 * MOST_BYTES);
        let alone = batches.join(&key, huge);
        assert_eq!(batches.close(&key, &alone).len(), 1, "one call alone is as large as it is");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_has_one_member_whose_message_carries_a_turn() {
        let (batches, key) = (Batches::default(), key("acme", 10));
        let carrier = || {
            let (member, receiver) = member(60_000);
            (Member { carries_turn: true, ..member }, receiver)
        };
        let ((first, left), (second, _second)) = (carrier(), carrier());
        let batch = batches.join(&key, first);
        let other = batches.join(&key, second);
        assert!(batch.has_turn() && other.has_turn() && !Arc::ptr_eq(&batch, &other));
        drop(left);
        assert!(!batch.has_turn(), "it has left");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_another_tenant_form_a_batch_of_their_own() {
        let batches = Batches::default();
        let ((one, _one), (other, _other)) = (member(60_000), member(60_000));
        let batch = batches.join(&key("acme", 10), one);
        assert!(!Arc::ptr_eq(&batch, &batches.join(&key("globex", 10), other)));
        assert_eq!(batches.close(&key("acme", 10), &batch).len(), 1);
    }
}
