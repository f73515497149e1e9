use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::*;

struct Letter {
    to: String,
    bytes: usize,
    may_wait: bool,
}

impl BatchItem for Letter {
    fn key(&self) -> Option<&str> {
        Some(&self.to)
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn may_wait(&self) -> Option<Duration> {
        self.may_wait.then_some(WAIT)
    }
}

/// How long a letter waits that may.
const WAIT: Duration = Duration::from_millis(100);

fn letter(to: usize) -> Letter {
    Letter { to: to.to_string(), bytes: 1, may_wait: false }
}

fn patient(to: usize) -> Letter {
    Letter { may_wait: true, ..letter(to) }
}

type Sent = Arc<Mutex<Vec<Vec<String>>>>;

fn post(rules: Rules) -> (Batcher<Letter, String>, Sent) {
    let sent: Sent = Arc::default();
    let seen = sent.clone();
    let batcher = Batcher::new(rules, RunQueue::default(), move |letters: Vec<Letter>| {
        let names: Vec<_> = letters.into_iter().map(|l| l.to).collect();
        seen.lock().unwrap().push(names.clone());
        async move { names }
    });
    (batcher, sent)
}

const RULES: Rules = Rules {
    max_items: 25,
    max_bytes: 1_000,
    linger: Duration::from_millis(2),
    max_in_flight: 32,
    idle_items: 25,
};

#[tokio::test(start_paused = true)]
async fn concurrent_items_share_a_request_and_each_gets_its_own_reply() {
    let (batcher, sent) = post(RULES);
    let answers = join_all((0..60).map(|n| batcher.send(letter(n)))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), n.to_string());
    }
    let sizes: Vec<_> = sent.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [25, 25, 10]);
}

#[tokio::test(start_paused = true)]
async fn an_item_alone_is_sent_at_once() {
    let (batcher, _) = post(RULES);
    let started = Instant::now();
    batcher.send(letter(1)).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

/// A batcher whose requests return one by one, each with a permit of the semaphore.
fn held_post(run_queue: RunQueue) -> (Batcher<Letter, String>, Sent, Arc<Semaphore>) {
    held_post_by(RULES, run_queue)
}

fn held_post_by(rules: Rules, run_queue: RunQueue) -> (Batcher<Letter, String>, Sent, Arc<Semaphore>) {
    let (sent, returns) = (Sent::default(), Arc::new(Semaphore::new(0)));
    let (seen, open) = (sent.clone(), returns.clone());
    let batcher = Batcher::new(rules, run_queue, move |letters: Vec<Letter>| {
        let names: Vec<_> = letters.into_iter().map(|l| l.to).collect();
        seen.lock().unwrap().push(names.clone());
        let open = open.clone();
        async move {
            open.acquire().await.unwrap().forget();
            names
        }
    });
    (batcher, sent, returns)
}

/// Sends letters in tasks of their own, and lets everything run that is ready.
async fn send_letters(batcher: &Batcher<Letter, String>, letters: std::ops::Range<usize>) {
    for n in letters {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.send(letter(n)).await });
    }
    settle().await;
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn sizes(sent: &Sent) -> Vec<usize> {
    sent.lock().unwrap().iter().map(Vec::len).collect()
}

#[tokio::test(start_paused = true)]
async fn with_two_requests_in_flight_items_go_when_one_returns() {
    let (batcher, sent, returns) = held_post(RunQueue::default());
    for n in 0..2 {
        send_letters(&batcher, n..n + 1).await;
    }
    assert_eq!(sizes(&sent), [1, 1]);
    send_letters(&batcher, 2..9).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    settle().await;
    assert_eq!(sizes(&sent), [1, 1], "they wait for a reply, not for a time");
    returns.add_permits(1);
    settle().await;
    assert_eq!(sizes(&sent), [1, 1, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_is_sent_whatever_is_in_flight() {
    let (batcher, sent, _returns) = held_post(RunQueue::default());
    for n in 0..2 {
        send_letters(&batcher, n..n + 1).await;
    }
    send_letters(&batcher, 2..30).await;
    assert_eq!(sizes(&sent), [1, 1, 25]);
}

#[tokio::test(start_paused = true)]
async fn while_the_runtime_lags_items_wait_for_others() {
    let run_queue = RunQueue::default();
    let (batcher, sent, _returns) = held_post(run_queue.clone());
    send_letters(&batcher, 0..1).await;
    for _ in 0..10 {
        run_queue.measured(Duration::from_millis(20), Instant::now());
    }
    assert!(run_queue.is_behind());
    send_letters(&batcher, 1..2).await;
    tokio::time::advance(Duration::from_millis(1)).await;
    send_letters(&batcher, 2..4).await;
    assert_eq!(sizes(&sent), [1]);
    tokio::time::advance(Duration::from_millis(2)).await;
    settle().await;
    assert_eq!(sizes(&sent), [1, 3]);
}

/// Sends a letter in a task of its own after so many milliseconds. Returns when its reply came, in milliseconds since now.
async fn reply_ms(batcher: &Batcher<Letter, String>, after_ms: u64, letter: Letter) -> u128 {
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    batcher.send(letter).await.unwrap();
    begun.elapsed().as_millis()
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_no_item_along_that_may_wait() {
    let (batcher, sent) = post(RULES);
    let (patient_ms, urgent_ms) =
        tokio::join!(reply_ms(&batcher, 0, patient(1)), reply_ms(&batcher, 60, letter(2)));
    assert_eq!((patient_ms, urgent_ms), (100, 60));
    assert_eq!(sizes(&sent), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_full_request_takes_first_what_may_not_wait() {
    let (batcher, sent) = post(RULES);
    let patient_ms = join_all((0..24).map(|n| reply_ms(&batcher, 0, patient(n))));
    let (patient_ms, urgent_ms, late_ms) =
        tokio::join!(patient_ms, reply_ms(&batcher, 60, letter(30)), reply_ms(&batcher, 61, letter(31)));
    assert_eq!((urgent_ms, late_ms), (60, 61));
    assert!(patient_ms.iter().all(|ms| *ms == 60), "{patient_ms:?}");
    assert_eq!(sizes(&sent), [25, 1]);
    assert_eq!(sent.lock().unwrap()[0][0], "30");
}

#[tokio::test(start_paused = true)]
async fn items_that_may_wait_go_together_when_the_first_has_waited() {
    let (batcher, sent) = post(RULES);
    let (first, second, later) = tokio::join!(
        reply_ms(&batcher, 0, patient(1)),
        reply_ms(&batcher, 60, patient(2)),
        reply_ms(&batcher, 130, patient(3))
    );
    // What has come before the time of the first goes with it: the rest waits for its own time.
    assert_eq!((first, second, later), (100, 100, 230));
    assert_eq!(sizes(&sent), [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_full_request_of_items_that_may_wait_is_sent_at_once() {
    let (batcher, sent) = post(RULES);
    let begun = Instant::now();
    join_all((0..25).map(|n| batcher.send(patient(n)))).await;
    assert_eq!((begun.elapsed(), sizes(&sent)), (Duration::ZERO, vec![25]));
}

#[tokio::test(start_paused = true)]
async fn some_items_that_may_wait_go_while_nothing_is_in_flight() {
    let (batcher, sent, returns) = held_post_by(Rules { idle_items: 3, ..RULES }, RunQueue::default());
    send_letters(&batcher, 0..1).await;
    let waiting: Vec<_> = (1..5)
        .map(|n| {
            tokio::spawn({
                let batcher = batcher.clone();
                async move { batcher.send(patient(n)).await }
            })
        })
        .collect();
    settle().await;
    assert_eq!(sizes(&sent), [1], "somebody waits for the request in flight");
    returns.add_permits(2);
    settle().await;
    assert_eq!(sizes(&sent), [1, 4]);
    assert!(join_all(waiting).await.into_iter().all(|reply| reply.unwrap().is_some()));
    tokio::spawn(async move { batcher.send(patient(9)).await });
    settle().await;
    assert_eq!(sizes(&sent), [1, 4], "one alone waits for its time");
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_any_more_once_it_is_to_go_at_once() {
    let (batcher, sent) = post(RULES);
    let hurry = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        batcher.send_at_once();
    };
    let (waited, ()) = tokio::join!(reply_ms(&batcher, 0, patient(1)), hurry);
    assert_eq!(waited, 30);
    assert_eq!(reply_ms(&batcher, 0, patient(2)).await, 0);
    assert_eq!(sizes(&sent), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn one_key_is_never_twice_in_one_request() {
    let (batcher, sent) = post(RULES);
    join_all((0..30).map(|n| batcher.send(letter(n % 3)))).await;
    for batch in sent.lock().unwrap().iter() {
        let distinct: HashSet<_> = batch.iter().collect();
        assert_eq!(distinct.len(), batch.len(), "{batch:?}");
    }
    assert_eq!(sent.lock().unwrap().iter().map(Vec::len).sum::<usize>(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_request_keeps_the_byte_limit_unless_one_item_exceeds_it() {
    let (batcher, sent) = post(Rules { max_bytes: 10, ..RULES });
    let send = |to: usize, bytes| batcher.send(Letter { bytes, ..letter(to) });
    join_all([send(1, 6), send(2, 6), send(3, 20), send(4, 4)]).await;
    let mut all: Vec<_> = sent.lock().unwrap().concat();
    all.sort();
    assert_eq!(all, ["1", "2", "3", "4"]);
    assert!(sent.lock().unwrap().iter().all(|b| b.len() == 1 || !b.contains(&"3".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_caller_affects_no_other_caller() {
    let open = Arc::new(Notify::new());
    let gate = open.clone();
    let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
    let seen = sizes.clone();
    let batcher = Batcher::new(RULES, RunQueue::default(), move |letters: Vec<Letter>| {
        let (gate, seen) = (gate.clone(), seen.clone());
        async move {
            seen.lock().unwrap().push(letters.len());
            gate.notified().await;
            letters.into_iter().map(|l| l.to).collect()
        }
    });
    let first = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.send(letter(1)).await }
    });
    while sizes.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let gone = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.send(letter(2)).await }
    });
    let stays = tokio::spawn(async move { batcher.send(letter(3)).await });
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
async fn requests_in_flight_are_bounded_and_all_items_get_a_reply() {
    let now: Arc<Mutex<(usize, usize)>> = Arc::default();
    let seen = now.clone();
    let batcher = Batcher::new(
        Rules { max_in_flight: 3, ..RULES },
        RunQueue::default(),
        move |letters: Vec<Letter>| {
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
        },
    );
    let answers = join_all((0..1_000).map(|n| batcher.send(letter(n)))).await;
    assert!(answers.iter().all(Option::is_some));
    assert_eq!(now.lock().unwrap().1, 3);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_request_frees_its_slot_and_its_callers_get_none() {
    let batcher = Batcher::new(
        Rules { max_in_flight: 1, ..RULES },
        RunQueue::default(),
        |letters: Vec<Letter>| async {
            assert!(letters.iter().all(|l| l.to != "7"), "scripted");
            letters
        },
    );
    assert!(batcher.send(letter(7)).await.is_none());
    assert!(batcher.send(letter(8)).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_caller_was_dropped_before_is_not_sent() {
    let (batcher, sent) = post(RULES);
    let mut gone = Box::pin(batcher.send(letter(1)));
    assert!(futures::poll!(gone.as_mut()).is_pending());
    drop(gone);
    batcher.send(letter(2)).await.unwrap();
    assert_eq!(sent.lock().unwrap().concat(), ["2"]);
}

/// Refuses a request with a 2, or fails every one.
struct Scripted {
    is_down: bool,
    requests: Mutex<u32>,
}

impl SendPart<u32, u32> for Scripted {
    async fn send(&self, part: &[u32]) -> Result<Vec<Result<u32, AwsError>>, AwsError> {
        *self.requests.lock().unwrap() += 1;
        if self.is_down {
            Err(AwsError::passing("down"))
        } else if part.contains(&2) {
            Err(AwsError::of_code("Op", "t", "ValidationException", "no"))
        } else {
            Ok(part.iter().map(|n| Ok(n * 10)).collect())
        }
    }
}

#[tokio::test]
async fn an_item_that_the_service_rejects_fails_alone() {
    let service = Scripted { is_down: false, requests: Mutex::new(0) };
    let answers = send_or_split(&[1, 2, 3], &service).await;
    assert_eq!(answers[0], Ok(10));
    assert!(answers[1].as_ref().is_err_and(AwsError::is_permanent));
    assert_eq!(answers[2], Ok(30));
}

#[tokio::test]
async fn a_passing_error_does_not_send_each_item_alone() {
    let service = Scripted { is_down: true, requests: Mutex::new(0) };
    let answers = send_or_split(&[1, 2, 3], &service).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!((answers.len(), *service.requests.lock().unwrap()), (3, 1));
}
