//! Many workers at one row: a model of the table with its delays, and the books of the workers as they are.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::task::JoinSet;
use toolfleet_aws::ServerTime;
use toolfleet_core::limits::holders::{Block, HolderTable};

use super::super::row_model::{self, change_each_ms, clock};
use super::*;

const MS: Duration = Duration::from_millis(1);
/// A deadline that no test reaches.
const FAR: Timestamp = Timestamp::from_ms(i64::MAX / 2);

type Model = row_model::Model<HolderTable>;
type Table = row_model::Table<HolderRow>;

fn book(table: &Arc<Table>, clock: &Clock, worker: usize) -> Arc<PermitBook<Model>> {
    book_by(table, clock, worker, ServerTime::default())
}

fn book_by(table: &Arc<Table>, clock: &Clock, worker: usize, time: ServerTime) -> Arc<PermitBook<Model>> {
    let (key, name) = ("server:crm".parse().unwrap(), format!("w{worker}"));
    let check = ClockCheck::new(time, 2_000);
    // As the worker makes it: its clock is that of the table where its machine's is known to be wrong.
    let clock = check.clock(clock.clone());
    Arc::new(PermitBook::new(Model::of(table), key, clock, name, check))
}

fn wish(name: String, limit: u32) -> PermitWish {
    PermitWish { name, limit, hold_ms: 60_000, workers: None, in_turn: false }
}

fn patience(most: Duration, is_back: bool, workers: u32) -> Patience {
    Patience { most, most_calls: 16, is_back, workers }
}

/// A load on one limit.
#[derive(Debug, Clone, Copy)]
struct Load {
    workers: u32,
    limit: u32,
    /// Calls that each worker has at a time.
    calls: u32,
    hold_ms: u64,
    seconds: u64,
}

/// What came of it.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "the figures are printed")]
struct Came {
    stored: u64,
    lost: u64,
    reads: u64,
    done: u64,
    parked: u64,
    unknown: u64,
    most_open: u32,
    used_percent: u64,
    lost_percent: u64,
}

/// What all calls count together.
#[derive(Debug, Default)]
struct Counts {
    open: AtomicU32,
    most_open: AtomicU32,
    done: AtomicU64,
    parked: AtomicU64,
    unknown: AtomicU64,
    held_ms: AtomicU64,
}

/// Calls of many workers that are received, wait for a permit, hold it, and go back to the queue where they find none, as in the pipeline.
async fn run(load: Load) -> Came {
    let (table, clock, counts) = (Arc::new(Table::default()), clock(), Arc::new(Counts::default()));
    let begun = Instant::now();
    let end = begun + Duration::from_secs(load.seconds);
    let mut tasks = JoinSet::new();
    for worker in 0..load.workers {
        let book = book(&table, &clock, worker as usize);
        for call in 0..load.calls {
            let (book, counts) = (Arc::clone(&book), Arc::clone(&counts));
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..500))).await;
                let (mut number, mut is_back) = (0_u64, false);
                while Instant::now() < end {
                    let wish = wish(format!("{worker}-{call}-{number}"), load.limit);
                    number += 1;
                    let mut permit = match book.take(wish, patience(3_000 * MS, is_back, load.workers)).await
                    {
                        Ok(permit) => permit,
                        Err(no_permit) => {
                            if no_permit == NoPermit::Unknown {
                                counts.unknown.fetch_add(1, Ordering::Relaxed);
                            }
                            counts.parked.fetch_add(1, Ordering::Relaxed);
                            let patience = patience(Duration::ZERO, is_back, load.workers);
                            let away_ms = book.park(load.limit, patience, FAR);
                            is_back = true;
                            tokio::time::sleep(Duration::from_millis(away_ms)).await;
                            continue;
                        }
                    };
                    is_back = false;
                    permit.sent();
                    let open = counts.open.fetch_add(1, Ordering::Relaxed) + 1;
                    counts.most_open.fetch_max(open, Ordering::Relaxed);
                    let hold_ms = fastrand::u64(load.hold_ms / 2..load.hold_ms * 3 / 2);
                    tokio::time::sleep(Duration::from_millis(hold_ms)).await;
                    counts.open.fetch_sub(1, Ordering::Relaxed);
                    counts.held_ms.fetch_add(hold_ms, Ordering::Relaxed);
                    counts.done.fetch_add(1, Ordering::Relaxed);
                    permit.answered();
                }
            });
        }
    }
    tokio::time::sleep_until(end).await;
    let used_ms = load.seconds * 1_000;
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Came {
        stored: of(&table.stored),
        lost: of(&table.lost),
        reads: of(&table.reads),
        done: of(&counts.done),
        parked: of(&counts.parked),
        unknown: of(&counts.unknown),
        most_open: counts.most_open.load(Ordering::Relaxed),
        used_percent: of(&counts.held_ms) * 100 / (u64::from(load.limit) * used_ms),
        lost_percent: table.lost_percent(),
    }
}

/// A row that hundreds of workers write is a wait for its limit, no error. The figures are of such runs, in `docs/reference/performance.md`:
/// `cargo test -p toolfleet-worker --lib many_workers -- --nocapture`.
#[tokio::test(start_paused = true)]
async fn many_workers_at_one_row_wait_for_the_limit() {
    let loads = [
        Load { workers: 10, limit: 5, calls: 4, hold_ms: 200, seconds: 10 },
        Load { workers: 10, limit: 20, calls: 8, hold_ms: 200, seconds: 10 },
        Load { workers: 128, limit: 100, calls: 4, hold_ms: 1_000, seconds: 10 },
        Load { workers: 256, limit: 100, calls: 4, hold_ms: 1_000, seconds: 10 },
    ];
    fastrand::seed(13);
    for load in loads {
        let came = run(load).await;
        println!("{load:?}\n  {came:?}");
        assert_eq!(came.unknown, 0, "{load:?}");
        assert!(came.most_open <= load.limit, "{load:?}: {came:?}");
        assert!(came.used_percent >= 90, "{load:?}: {came:?}");
        // With writes of whole rows it was 27 to 75 %.
        assert!(came.lost_percent <= 35, "{load:?}: {came:?}");
    }
}

/// A model whose row another worker changes before each write.
#[tokio::test(start_paused = true)]
async fn a_write_that_others_always_win_ends_as_a_full_limit() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    // A row with a block is replaced as a whole.
    let block = Block { permits: 1, until: clock.now().plus_ms(600_000) };
    *table.row() = Some(HolderRow { blocks: [("w9".to_owned(), block)].into(), ..HolderRow::default() });
    let rivals = change_each_ms(&table, 100_000);
    let begun = Instant::now();
    let none = book.take(wish("a".into(), 5), patience(3_000 * MS, false, 1)).await;
    assert_eq!(none.unwrap_err(), NoPermit::Full);
    assert!((3_000 * MS..3_100 * MS).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let tried = table.lost.load(Ordering::Relaxed);
    assert!(tried < 60, "it tries less and less often: {tried}");
    rivals.abort();
    let permit = book.take(wish("b".into(), 5), patience(3_000 * MS, false, 1)).await;
    assert!(permit.is_ok(), "it goes on once the others stop");
}

#[tokio::test(start_paused = true)]
async fn releases_and_new_permits_do_not_lose_to_the_writes_of_others() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 2), patience(Duration::ZERO, false, 1)).await.unwrap();
    let rivals = change_each_ms(&table, 100_000);
    let other = book.take(wish("b".into(), 2), patience(Duration::ZERO, false, 1)).await;
    assert!(other.is_ok());
    drop(permit);
    tokio::time::sleep(20 * MS).await;
    let names: Vec<_> = table.row().as_ref().unwrap().entries.keys().cloned().collect();
    assert_eq!((names, table.lost.load(Ordering::Relaxed)), (vec!["b".to_owned()], 0));
    rivals.abort();
}

/// What is released is a permit's and a block's, so that it replaces the row.
#[tokio::test(start_paused = true)]
async fn what_a_lost_write_was_to_release_is_released_by_a_later_one() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 1), patience(Duration::ZERO, false, 1)).await.unwrap();
    let block = Block { permits: 1, until: clock.now().plus_ms(600_000) };
    table.row().as_mut().unwrap().blocks.insert("w9".to_owned(), block);
    book.state().seen = table.row().clone();
    let rivals = change_each_ms(&table, 200);
    drop(permit);
    rivals.await.unwrap();
    assert_eq!(table.row().as_ref().unwrap().entries.len(), 1, "each write was lost");
    tokio::time::sleep(2_000 * MS).await;
    assert!(table.row().as_ref().unwrap().entries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_a_lost_write_was_to_keep_is_kept_by_a_later_one() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let take = |until| Take { name: "task".into(), until, replaces: None };
    let before = clock.now().plus_ms(1_000);
    assert_eq!(book.keep(take(before), Some(1)).await, Ok(true));
    // A row with a block is replaced as a whole.
    let block = Block { permits: 1, until: clock.now().plus_ms(600_000) };
    table.row().as_mut().unwrap().blocks.insert("w9".to_owned(), block);
    book.state().seen = table.row().clone();
    let rivals = change_each_ms(&table, 200);
    let later = clock.now().plus_ms(60_000);
    assert_eq!(book.keep(take(later), Some(1)).await, Ok(true));
    rivals.await.unwrap();
    assert_eq!(table.row().as_ref().unwrap().entries["task"], later);
    assert!(table.lost.load(Ordering::Relaxed) >= 4, "its first writes were lost");
}

#[tokio::test(start_paused = true)]
async fn renewals_do_not_lose_to_the_writes_of_others() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 1), patience(Duration::ZERO, false, 1)).await.unwrap();
    let rivals = change_each_ms(&table, 100_000);
    for _ in 0..20 {
        tokio::time::sleep(100 * MS).await;
        let until = clock.now().plus_ms(60_000);
        permit.renew().await;
        assert!(table.row().as_ref().unwrap().entries["a"] >= until);
    }
    assert_eq!(table.lost.load(Ordering::Relaxed), 0);
    rivals.abort();
}

fn names(table: &Table) -> Vec<String> {
    table.row().as_ref().unwrap().entries.keys().cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn a_permit_passes_to_its_task_whatever_others_write() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 1), patience(Duration::ZERO, false, 1)).await.unwrap();
    let rivals = change_each_ms(&table, 100_000);
    permit.becomes("task".into(), 600_000).await.unwrap();
    assert_eq!((names(&table), table.lost.load(Ordering::Relaxed)), (vec!["task".to_owned()], 0));
    rivals.abort();
}

/// A block makes each write replace the row.
#[tokio::test(start_paused = true)]
async fn a_permit_has_passed_to_its_task_when_its_call_goes_on() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 1), patience(Duration::ZERO, false, 1)).await.unwrap();
    let block = Block { permits: 1, until: clock.now().plus_ms(600_000) };
    table.row().as_mut().unwrap().blocks.insert("w9".to_owned(), block);
    book.state().seen = table.row().clone();
    let rivals = change_each_ms(&table, 200);
    permit.becomes("task".into(), 600_000).await.unwrap();
    assert_eq!(names(&table), ["task"]);
    assert!(table.lost.load(Ordering::Relaxed) >= 4, "its first writes were lost");
    rivals.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_another_worker_has_released_gets_no_second_permit() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let (book, other) = (book(&table, &clock, 0), book(&table, &clock, 1));
    let permit = book.take(wish("a".into(), 5), patience(Duration::ZERO, false, 1)).await.unwrap();
    table.unanswered.store(1, Ordering::Relaxed);
    let passed = permit.becomes("task".into(), 600_000);
    tokio::time::sleep(100 * MS).await;
    assert_eq!(names(&table), ["task"], "it is stored, and its worker does not know it");
    other.release("task".into(), None);
    passed.await.unwrap();
    assert!(names(&table).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_permit_of_a_task_counts_until_it_is_asked_to_count_for_longer() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 1), patience(Duration::ZERO, false, 1)).await.unwrap();
    let until = table.row().as_ref().unwrap().entries["a"];
    let later = clock.now().plus_ms(600_000);
    permit.becomes("task".into(), 1_000).await.unwrap();
    assert_eq!(table.row().as_ref().unwrap().entries["task"], until, "no shorter than that of its request");
    book.prolong("task".into(), later).await.unwrap();
    assert_eq!(table.row().as_ref().unwrap().entries["task"], later);
    book.release("task".into(), None).await.unwrap();
    assert!(names(&table).is_empty(), "who waits for a release finds it stored");
    book.prolong("task".into(), later).await.unwrap();
    assert!(names(&table).is_empty(), "what is over gets no permit again");
}

/// One write does both then.
#[tokio::test(start_paused = true)]
async fn a_task_whose_permit_could_not_be_written_keeps_it_with_the_first_write_that_is_stored() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 1), patience(Duration::ZERO, false, 1)).await.unwrap();
    let later = clock.now().plus_ms(600_000);
    table.failing.store(1, Ordering::Relaxed);
    let _passed = permit.becomes("task".into(), 70_000);
    tokio::task::yield_now().await;
    book.prolong("task".into(), later).await.unwrap();
    let entries = table.row().as_ref().unwrap().entries.clone();
    assert_eq!(entries, [("task".to_owned(), later)].into());
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_write_was_to_release_is_released_by_a_later_one() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 1), patience(Duration::ZERO, false, 1)).await.unwrap();
    table.failing.store(1, Ordering::Relaxed);
    drop(permit);
    tokio::time::sleep(100 * MS).await;
    assert_eq!(names(&table), ["a"], "it is not stored");
    tokio::time::sleep(2_000 * MS).await;
    assert!(names(&table).is_empty());
}

/// Others would take its permit for lost at once.
#[tokio::test(start_paused = true)]
async fn a_worker_whose_clock_is_behind_writes_times_that_count_for_others() {
    let (table, right) = (Arc::new(Table::default()), clock());
    let behind = {
        let right = right.clone();
        Clock::Of(Arc::new(move || Timestamp::from_ms(right.now().as_ms() - 3_600_000)))
    };
    let time = ServerTime::default();
    for _ in 0..2 {
        time.learn(behind.now(), behind.now(), "Wed, 18 Nov 2026 11:06:40 GMT");
    }
    let (late, other) = (book_by(&table, &behind, 0, time), book(&table, &right, 1));
    let permit = late.take(wish("a".into(), 1), patience(Duration::ZERO, false, 1)).await.unwrap();
    let ask = async || other.take(wish("b".into(), 1), patience(Duration::ZERO, false, 1)).await;
    assert_eq!(ask().await.unwrap_err(), NoPermit::Full);
    tokio::time::sleep(50_000 * MS).await;
    permit.renew().await;
    tokio::time::sleep(50_000 * MS).await;
    assert_eq!(ask().await.unwrap_err(), NoPermit::Full);
    let _task = permit.becomes("task".into(), 60_000).await;
    tokio::time::sleep(50_000 * MS).await;
    assert_eq!(ask().await.unwrap_err(), NoPermit::Full);
    tokio::time::sleep(15_000 * MS).await;
    assert!(ask().await.is_ok(), "it ends by its own time");
}

/// A block makes each write replace the row, so that others win.
#[tokio::test(start_paused = true)]
async fn an_entry_that_is_released_during_lost_writes_is_not_renewed_by_them() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 3), patience(Duration::ZERO, false, 1)).await.unwrap();
    let block = Block { permits: 1, until: clock.now().plus_ms(600_000) };
    table.row().as_mut().unwrap().blocks.insert("w9".to_owned(), block);
    book.state().seen = table.row().clone();
    let rivals = change_each_ms(&table, 200);
    let renewed = tokio::time::timeout(10 * MS, permit.renew()).await;
    assert!(renewed.is_err(), "its writes are lost");
    drop(permit);
    rivals.await.unwrap();
    tokio::time::sleep(3_000 * MS).await;
    assert!(names(&table).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_passes_to_its_task_is_not_renewed() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 3), patience(Duration::ZERO, false, 1)).await.unwrap();
    {
        // The request is answered while its renewal waits to be written.
        let mut renews = std::pin::pin!(permit.renew());
        assert!(futures::poll!(renews.as_mut()).is_pending());
    }
    permit.becomes("task".into(), 600_000).await.unwrap();
    tokio::time::sleep(1_000 * MS).await;
    assert_eq!(names(&table), ["task"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_entry_whose_write_has_no_answer_is_released() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    table.unanswered.store(1, Ordering::Relaxed);
    let none = book.take(wish("a".into(), 1), patience(Duration::ZERO, false, 1)).await;
    assert_eq!((none.unwrap_err(), names(&table)), (NoPermit::Unknown, vec!["a".to_owned()]));
    tokio::time::sleep(2_000 * MS).await;
    assert!(names(&table).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_does_not_raise_a_lowered_limit_again() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let permit = book.take(wish("a".into(), 10), patience(Duration::ZERO, false, 1)).await.unwrap();
    let older = book.take(wish("b".into(), 10), patience(Duration::ZERO, false, 1)).await.unwrap();
    let waits = {
        let book = Arc::clone(&book);
        tokio::spawn(async move { book.take(wish("c".into(), 1), patience(3_000 * MS, true, 1)).await })
    };
    tokio::time::sleep(300 * MS).await;
    assert_eq!(book.waiting(), 1);
    permit.renew().await;
    older.becomes("task".into(), 600_000).await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap_err(), NoPermit::Full, "two are open, and one may be");
    assert_eq!(names(&table), ["a", "task"]);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_released_is_not_renewed() {
    let mut state: BookState<Model> = BookState::new();
    let take = |name: &str| Take { name: name.to_owned(), until: Timestamp::from_ms(1), replaces: None };
    for name in ["request", "other"] {
        let (sender, _receiver) = oneshot::channel();
        state.asks.push(Ask { take: take(name), reply: Reply::Kept(sender), lost: 0, in_line: false });
    }
    state.release("request".to_owned());
    let left: Vec<_> = state.asks.iter().map(|ask| ask.take.name.as_str()).collect();
    assert_eq!((left, state.releases), (vec!["other"], vec!["request".to_owned()]));
}

/// It would find no permit at its turn, again and again, beside calls that can wait for seconds.
#[tokio::test(start_paused = true)]
async fn a_call_whose_turn_has_come_gets_the_next_permit_before_the_line() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let held = book.take(wish("held".into(), 1), patience(Duration::ZERO, false, 1)).await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let call = |name: &'static str, in_turn: bool| {
        let (book, served) = (Arc::clone(&book), Arc::clone(&served));
        let (wish, most) =
            (PermitWish { in_turn, ..wish(name.into(), 1) }, if in_turn { 200 } else { 3_000 });
        tokio::spawn(async move {
            let permit = book.take(wish, patience(most * MS, false, 1)).await.unwrap();
            served.lock().unwrap().push(name);
            drop(permit);
        })
    };
    let mut calls = vec![call("line", false)];
    while book.waiting() < 1 {
        tokio::time::sleep(MS).await;
    }
    calls.extend([call("turn", true), call("later turn", true)]);
    while book.waiting() < 3 {
        tokio::time::sleep(MS).await;
    }
    drop(held);
    for call in calls {
        call.await.unwrap();
    }
    // Else a rate that is faster than permits are free would keep the line waiting for ever.
    assert_eq!(*served.lock().unwrap(), ["turn", "line", "later turn"]);
}

/// Its worker would take all open requests for lost, and the limit would let through as many again.
#[tokio::test(start_paused = true)]
async fn a_worker_whose_clock_is_ahead_frees_nobodys_permit() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let right = book(&table, &clock, 0);
    let _open = right.take(wish("open".into(), 1), patience(Duration::ZERO, false, 1)).await.unwrap();
    let ahead = {
        let clock = clock.clone();
        Clock::Of(Arc::new(move || clock.now().plus_ms(3_600_000)))
    };
    let server_time = ServerTime::default();
    for _ in 0..2 {
        // An hour after the date that an answer of the table has.
        let now = Timestamp::from_ms(1_795_176_000_000 + 3_600_000);
        server_time.learn(now, now, "Fri, 20 Nov 2026 12:00:00 GMT");
    }
    let wrong = book_by(&table, &ahead, 1, server_time);
    let none = wrong.take(wish("next".into(), 1), patience(Duration::ZERO, false, 1)).await;
    assert_eq!((none.unwrap_err(), names(&table)), (NoPermit::Full, vec!["open".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_call_stays_in_the_queue_until_its_deadline_at_most() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock, 0);
    let go = |_| book.park(1, patience(Duration::ZERO, false, 10), clock.now().plus_ms(20_000));
    let away: Vec<_> = (0..1_000).map(go).collect();
    assert_eq!(away.iter().max(), Some(&20_000), "however many are before it");
    tokio::time::sleep(20_000 * MS).await;
    assert!(go(0) < 20_000, "and those that have ended are before no other");
}
