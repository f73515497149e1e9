//! Owns gathering: the wishes of concurrent callers travel in one request, each gets its own answer.
//!
//! A wish that finds nothing under way leaves at once; while requests are under way the next ones fill up, for a millisecond or
//! two at most. So a quiet fleet waits for nothing and a busy one sends full requests. Wishes that nobody waits for are patient: they
//! wait for others in any case. Only so many requests are under way at once:
//! a caller with ten thousand wishes opens no thousand connections, and what waits meanwhile fills the requests to come.
//!
//! **Invariant:** two wishes for the same key never travel in one request; a caller who goes away disturbs no other, and a wish
//! that the service refuses fails alone.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::error::AwsError;

/// What a request may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// At most so many wishes.
    pub(crate) most: usize,
    /// At most so many bytes.
    pub(crate) most_bytes: usize,
    /// How long the first wish waits for others.
    pub(crate) linger: Duration,
    /// Whether it waits even if nothing is under way.
    pub(crate) patient: bool,
    /// At most so many requests are under way at once.
    pub(crate) most_under_way: usize,
}

/// A wish that can travel with others.
pub(crate) trait BatchItem: Send + 'static {
    /// What it is about; wishes about the same travel apart.
    fn key(&self) -> Option<&str>;
    /// Its share of the request, in bytes.
    fn bytes(&self) -> usize;
}

struct Waiting<W, A> {
    wish: W,
    answer: oneshot::Sender<A>,
}

/// Gathers wishes and hands them out in batches.
#[derive(Debug)]
pub(crate) struct Batcher<W, A> {
    wishes: mpsc::UnboundedSender<Waiting<W, A>>,
}

impl<W, A> Clone for Batcher<W, A> {
    fn clone(&self) -> Self {
        Self { wishes: self.wishes.clone() }
    }
}

impl<W: BatchItem, A: Send + 'static> Batcher<W, A> {
    /// A gatherer whose batches go to `send`, which gives one answer per wish, in order. Ends with its last clone. Belongs to the
    /// tokio runtime in which it is made.
    pub(crate) fn new<F, S>(rules: Rules, send: S) -> Self
    where
        S: Fn(Vec<W>) -> F + Send + Sync + 'static,
        F: Future<Output = Vec<A>> + Send + 'static,
    {
        let (wishes, incoming) = mpsc::unbounded_channel();
        tokio::spawn(gather(rules, incoming, Arc::new(send)));
        Self { wishes }
    }

    /// The answer to `wish`; `None` if the batch it travelled in broke down.
    pub(crate) async fn ask(&self, wish: W) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.wishes.send(Waiting { wish, answer }).ok()?;
        answered.await.ok()
    }
}

async fn gather<W, A, F, S>(rules: Rules, mut incoming: mpsc::UnboundedReceiver<Waiting<W, A>>, send: Arc<S>)
where
    W: BatchItem,
    A: Send + 'static,
    S: Fn(Vec<W>) -> F + Send + Sync + 'static,
    F: Future<Output = Vec<A>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(rules.most_under_way));
    let mut held_over = VecDeque::new();
    loop {
        if held_over.is_empty() {
            match incoming.recv().await {
                Some(first) => held_over.push_back(first),
                None => return,
            }
        }
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let is_quiet =
            || !rules.patient && slots.available_permits().saturating_add(1) == rules.most_under_way;
        let mut batch = Batch::new(rules);
        batch.take_from(&mut held_over);
        let leave_at = Instant::now() + rules.linger;
        while !batch.is_full() {
            match incoming.try_recv() {
                Ok(next) => batch.take(next, &mut held_over),
                Err(mpsc::error::TryRecvError::Disconnected) => break,
                Err(mpsc::error::TryRecvError::Empty) if is_quiet() => {
                    // Callers that are ready at this very moment may still come along.
                    tokio::task::yield_now().await;
                    match incoming.try_recv() {
                        Ok(next) => batch.take(next, &mut held_over),
                        Err(_) => break,
                    }
                }
                Err(mpsc::error::TryRecvError::Empty) => {
                    match tokio::time::timeout_at(leave_at, incoming.recv()).await {
                        Ok(Some(next)) => batch.take(next, &mut held_over),
                        Ok(None) | Err(_) => break,
                    }
                }
            }
        }
        let (wishes, answers) = batch.split();
        if wishes.is_empty() {
            continue;
        }
        let send = send.clone();
        tokio::spawn(async move {
            let given = send(wishes).await;
            // Given back before the callers go on, and also if sending panics.
            drop(slot);
            for (answer, given) in answers.into_iter().zip(given) {
                // Whoever went away needs no answer.
                let _gone = answer.send(given);
            }
        });
    }
}

/// Sends a batch by `request`. If the service refuses it as a whole, each wish goes alone, so that the one it refuses takes no
/// other with it. The future of `request` borrows nothing of the wishes.
pub(crate) async fn sent<W, A, F>(batch: &[W], request: impl Fn(&[W]) -> F) -> Vec<Result<A, AwsError>>
where
    F: Future<Output = Result<Vec<Result<A, AwsError>>, AwsError>>,
{
    match request(batch).await {
        Ok(answers) => answers,
        Err(trouble) if trouble.is_rejection() && batch.len() > 1 => {
            let alone = join_all(batch.chunks(1).map(request)).await;
            alone.into_iter().flat_map(|answer| answer.unwrap_or_else(|own| vec![Err(own)])).collect()
        }
        Err(trouble) => batch.iter().map(|_| Err(trouble.clone())).collect(),
    }
}

struct Batch<W, A> {
    rules: Rules,
    keys: HashSet<String>,
    bytes: usize,
    waiting: Vec<Waiting<W, A>>,
    full: bool,
}

impl<W: BatchItem, A> Batch<W, A> {
    fn new(rules: Rules) -> Self {
        Self { rules, keys: HashSet::new(), bytes: 0, waiting: Vec::new(), full: false }
    }

    fn is_full(&self) -> bool {
        self.full || self.waiting.len() >= self.rules.most
    }

    /// Takes what fits of those held over, in order, and leaves the rest.
    fn take_from(&mut self, held_over: &mut VecDeque<Waiting<W, A>>) {
        for _ in 0..held_over.len() {
            if let Some(next) = held_over.pop_front() {
                self.take(next, held_over);
            }
        }
    }

    fn take(&mut self, next: Waiting<W, A>, held_over: &mut VecDeque<Waiting<W, A>>) {
        if next.answer.is_closed() {
            // Its caller went away before it left: nobody wants it any more.
            return;
        }
        let bytes = next.wish.bytes();
        let fits = self.waiting.is_empty() || self.bytes.saturating_add(bytes) <= self.rules.most_bytes;
        let stranger = next.wish.key().is_none_or(|key| !self.keys.contains(key));
        if self.is_full() || !fits || !stranger {
            self.full |= !fits;
            held_over.push_back(next);
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.keys.extend(next.wish.key().map(str::to_owned));
        self.waiting.push(next);
    }

    fn split(self) -> (Vec<W>, Vec<oneshot::Sender<A>>) {
        self.waiting.into_iter().map(|w| (w.wish, w.answer)).unzip()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Notify;

    use super::*;

    struct Letter {
        to: String,
        bytes: usize,
    }

    impl BatchItem for Letter {
        fn key(&self) -> Option<&str> {
            Some(&self.to)
        }
        fn bytes(&self) -> usize {
            self.bytes
        }
    }

    fn letter(to: usize) -> Letter {
        Letter { to: to.to_string(), bytes: 1 }
    }

    type Sent = Arc<Mutex<Vec<Vec<String>>>>;

    fn post(rules: Rules) -> (Batcher<Letter, String>, Sent) {
        let sent: Sent = Arc::default();
        let seen = sent.clone();
        let gatherer = Batcher::new(rules, move |letters: Vec<Letter>| {
            let names: Vec<_> = letters.into_iter().map(|l| l.to).collect();
            seen.lock().unwrap().push(names.clone());
            async move { names }
        });
        (gatherer, sent)
    }

    const RULES: Rules = Rules {
        most: 25,
        most_bytes: 1_000,
        linger: Duration::from_millis(2),
        patient: false,
        most_under_way: 32,
    };

    #[tokio::test(start_paused = true)]
    async fn concurrent_wishes_travel_together_and_each_gets_its_own_answer() {
        let (gatherer, sent) = post(RULES);
        let answers = join_all((0..60).map(|n| gatherer.ask(letter(n)))).await;
        for (n, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.unwrap(), n.to_string());
        }
        let sizes: Vec<_> = sent.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [25, 25, 10]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_wish_waits_for_nobody() {
        let (gatherer, _) = post(RULES);
        let begun = Instant::now();
        gatherer.ask(letter(1)).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_patient_wish_waits_for_others_until_the_request_is_full() {
        let (gatherer, sent) = post(Rules { patient: true, linger: Duration::from_millis(100), ..RULES });
        let begun = Instant::now();
        let late = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            gatherer.ask(letter(2)).await
        };
        let (first, second) = tokio::join!(gatherer.ask(letter(1)), late);
        assert!(first.is_some() && second.is_some());
        assert_eq!(begun.elapsed(), Duration::from_millis(100));
        join_all((0..25).map(|n| gatherer.ask(letter(n)))).await;
        assert_eq!(begun.elapsed(), Duration::from_millis(100), "a full request leaves at once");
        assert_eq!(sent.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [2, 25]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_key_never_travels_twice_in_one_request() {
        let (gatherer, sent) = post(RULES);
        join_all((0..30).map(|n| gatherer.ask(letter(n % 3)))).await;
        for batch in sent.lock().unwrap().iter() {
            let distinct: HashSet<_> = batch.iter().collect();
            assert_eq!(distinct.len(), batch.len(), "{batch:?}");
        }
        assert_eq!(sent.lock().unwrap().iter().map(Vec::len).sum::<usize>(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_holds_no_more_bytes_than_allowed_unless_one_wish_alone_is_larger() {
        let (gatherer, sent) = post(Rules { most_bytes: 10, ..RULES });
        let wish = |to: usize, bytes| gatherer.ask(Letter { to: to.to_string(), bytes });
        join_all([wish(1, 6), wish(2, 6), wish(3, 20), wish(4, 4)]).await;
        let mut all: Vec<_> = sent.lock().unwrap().concat();
        all.sort();
        assert_eq!(all, ["1", "2", "3", "4"]);
        assert!(sent.lock().unwrap().iter().all(|b| b.len() == 1 || !b.contains(&"3".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_goes_away_disturbs_no_other_and_those_who_wait_fill_the_next_request() {
        let open = Arc::new(Notify::new());
        let gate = open.clone();
        let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
        let seen = sizes.clone();
        let gatherer = Batcher::new(RULES, move |letters: Vec<Letter>| {
            let (gate, seen) = (gate.clone(), seen.clone());
            async move {
                seen.lock().unwrap().push(letters.len());
                gate.notified().await;
                letters.into_iter().map(|l| l.to).collect()
            }
        });
        let first = tokio::spawn({
            let gatherer = gatherer.clone();
            async move { gatherer.ask(letter(1)).await }
        });
        while sizes.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let gone = tokio::spawn({
            let gatherer = gatherer.clone();
            async move { gatherer.ask(letter(2)).await }
        });
        let stays = tokio::spawn(async move { gatherer.ask(letter(3)).await });
        while sizes.lock().unwrap().len() < 2 {
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        gone.abort();
        open.notify_waiters();
        open.notify_one();
        assert_eq!(first.await.unwrap().unwrap(), "1");
        assert_eq!(stays.await.unwrap().unwrap(), "3");
        assert_eq!(*sizes.lock().unwrap(), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_are_under_way_than_allowed_and_all_are_answered() {
        let now: Arc<Mutex<(usize, usize)>> = Arc::default();
        let seen = now.clone();
        let gatherer = Batcher::new(Rules { most_under_way: 3, ..RULES }, move |letters: Vec<Letter>| {
            let seen = seen.clone();
            async move {
                {
                    let mut seen = seen.lock().unwrap();
                    seen.0 += 1;
                    seen.1 = seen.1.max(seen.0);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                seen.lock().unwrap().0 -= 1;
                letters
            }
        });
        let answers = join_all((0..1_000).map(|n| gatherer.ask(letter(n)))).await;
        assert!(answers.iter().all(Option::is_some));
        assert_eq!(now.lock().unwrap().1, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_panics_frees_its_place_and_its_callers_are_told() {
        let gatherer = Batcher::new(Rules { most_under_way: 1, ..RULES }, |letters: Vec<Letter>| async {
            assert!(letters.iter().all(|l| l.to != "7"), "scripted");
            letters
        });
        assert!(gatherer.ask(letter(7)).await.is_none());
        assert!(gatherer.ask(letter(8)).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_whose_caller_went_away_before_it_left_is_not_sent() {
        let (gatherer, sent) = post(RULES);
        let mut gone = Box::pin(gatherer.ask(letter(1)));
        assert!(futures::poll!(gone.as_mut()).is_pending());
        drop(gone);
        gatherer.ask(letter(2)).await.unwrap();
        assert_eq!(sent.lock().unwrap().concat(), ["2"]);
    }

    #[tokio::test]
    async fn a_wish_that_the_service_refuses_takes_no_other_with_it() {
        let request = |batch: &[u32]| {
            let refused = batch.contains(&2);
            let answers: Vec<_> = batch.iter().map(|n| Ok(n * 10)).collect();
            async move {
                if refused {
                    Err(AwsError::of_code("Op", "t", "ValidationException", "no"))
                } else {
                    Ok(answers)
                }
            }
        };
        let answers = super::sent(&[1, 2, 3], request).await;
        assert_eq!(answers[0], Ok(10));
        assert!(answers[1].as_ref().is_err_and(AwsError::is_permanent));
        assert_eq!(answers[2], Ok(30));
    }

    #[tokio::test]
    async fn trouble_that_passes_is_not_multiplied_by_sending_each_wish_alone() {
        let requests = Mutex::new(0);
        let answers = super::sent(&[1, 2, 3], |_: &[u32]| {
            *requests.lock().unwrap() += 1;
            async { Err::<Vec<Result<u32, AwsError>>, _>(AwsError::passing("down")) }
        })
        .await;
        assert!(answers.iter().all(Result::is_err));
        assert_eq!((answers.len(), *requests.lock().unwrap()), (3, 1));
    }
}
