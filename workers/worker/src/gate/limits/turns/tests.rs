//! Many workers that ask for turns at one row: a model of the table with its delays, and the books of the workers as they are.

use std::sync::atomic::Ordering;

use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::turn_book::Wish;

use super::super::row_model::{self, REPEATED_AFTER, change_each_ms, clock};
use super::*;

type Model = row_model::Model<TurnTable>;
type Table = row_model::Table<TurnRow>;

fn book(table: &Arc<Table>, clock: &Clock) -> Arc<Book<Model>> {
    Arc::new(Book::new(Model::of(table), "server:crm".parse().unwrap(), clock.clone()))
}

fn ask() -> Ask {
    Ask { tenant: Tenant::parse("acme").unwrap(), weight: 1, wish: Wish::Next }
}

/// The figures are in `docs/reference/performance.md`: `cargo test -p toolfleet-worker --lib many_workers -- --nocapture`.
#[tokio::test(start_paused = true)]
async fn many_workers_at_one_rate_limit_get_its_turns() {
    fastrand::seed(13);
    for (workers, rate) in [(10, 20), (128, 100), (256, 100)] {
        let (table, clock) = (Arc::new(Table::default()), clock());
        let rate = RateLimit::new(rate, 1).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let tasks: Vec<_> = (0..workers)
            .flat_map(|_| {
                let book = book(&table, &clock);
                (0..4).map(move |_| Arc::clone(&book))
            })
            .map(|book| tokio::spawn(asks_until(book, rate, end)))
            .collect();
        let (mut turns, mut contended) = (Vec::new(), 0);
        for task in tasks {
            let (its, lost) = task.await.unwrap();
            turns.extend(its);
            contended += lost;
        }
        turns.sort_unstable();
        let (stored, reads) = (table.stored.load(Ordering::Relaxed), table.reads.load(Ordering::Relaxed));
        let lost = table.lost_percent();
        println!(
            "{workers} workers, {rate}: {} turns, {contended} parked; {stored} writes, {lost} % lost, {reads} reads",
            turns.len()
        );
        let spacing_us = rate.spacing_us();
        assert!(turns.windows(2).all(|pair| pair[1] - pair[0] >= spacing_us), "{workers} workers");
        assert!(turns.len() as i64 * spacing_us >= 18_000_000, "{workers} workers use nine tenths");
    }
}

/// A call that asks, waits for its turn, is sent, and is followed by the next.
async fn asks_until(book: Arc<Book<Model>>, rate: RateLimit, end: Instant) -> (Vec<i64>, u64) {
    let (mut turns, mut contended) = (Vec::new(), 0);
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..500))).await;
    while Instant::now() < end {
        let now_us = || book.clock.now().as_ms() * 1_000;
        let wake_us = match book.ask(rate, 0, ask()).await {
            TurnAnswer::Turn(held) => {
                turns.push(held.turn.at_us);
                held.keep().at_us
            }
            TurnAnswer::Later(at_us) | TurnAnswer::Taken(at_us) => at_us - 1_000_000,
            TurnAnswer::Contended => {
                contended += 1;
                now_us() + 2_000_000
            }
            TurnAnswer::Unknown => panic!("the table answers"),
        };
        let wait_us = u64::try_from(wake_us - now_us()).unwrap_or(0).max(1_000);
        tokio::time::sleep(Duration::from_micros(wait_us)).await;
    }
    (turns, contended)
}

#[tokio::test(start_paused = true)]
async fn a_call_for_which_others_are_always_faster_stops_asking() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let book = book(&table, &clock);
    let rate = RateLimit::new(20, 1).unwrap();
    assert!(matches!(book.ask(rate, 0, ask()).await, TurnAnswer::Turn(_)));
    let rivals = change_each_ms(&table, 100_000);
    let begun = Instant::now();
    assert!(matches!(book.ask(rate, 0, ask()).await, TurnAnswer::Contended));
    assert!((LOST_FOR..LOST_FOR + SLOWEST_PACE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    rivals.abort();
    assert!(matches!(book.ask(rate, 0, ask()).await, TurnAnswer::Turn(_)));
}

#[tokio::test(start_paused = true)]
async fn a_turn_no_longer_counts_once_another_worker_has_changed_its_limit() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let (own, other) = (book(&table, &clock), book(&table, &clock));
    let (before, after) = (RateLimit::new(20, 1).unwrap(), RateLimit::new(5, 1).unwrap());
    let TurnAnswer::Turn(held) = own.ask(before, 0, ask()).await else { panic!("a turn is free") };
    assert!(own.honours(before, 0, held.turn).await);
    assert!(matches!(other.ask(after, 3, ask()).await, TurnAnswer::Turn(_)));
    tokio::time::sleep(SETTING_KNOWN).await;
    assert!(!own.honours(before, 0, held.turn).await, "by the row, although this worker does not know yet");
    let TurnAnswer::Turn(held) = own.ask(after, 3, ask()).await else { panic!("a turn is free") };
    assert!(own.honours(after, 3, held.turn).await);
    assert!(!own.honours(before, 4, held.turn).await, "this worker knows a newer limit");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_was_given_back_and_taken_by_another_worker_is_not_given_back_again() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let (own, other) = (book(&table, &clock), book(&table, &clock));
    let rate = RateLimit::new(1, 10).unwrap();
    let TurnAnswer::Turn(first) = own.ask(rate, 0, ask()).await else { panic!("a turn is free") };
    let first = first.keep();
    let TurnAnswer::Turn(unused) = own.ask(rate, 0, ask()).await else { panic!("a turn is free") };
    drop(unused);
    // The write that gives it back is stored without an answer, and another worker takes it before that write is repeated.
    table.repeated.store(1, Ordering::Relaxed);
    let (asked, taken) =
        tokio::join!(own.ask(rate, 0, Ask { wish: Wish::At(first.at_us), ..ask() }), async {
            tokio::time::sleep(REPEATED_AFTER / 2).await;
            other.ask(rate, 0, ask()).await
        });
    assert!(matches!(asked, TurnAnswer::Taken(_)));
    let TurnAnswer::Turn(taken) = taken else { panic!("the turn is free again") };
    assert!(
        table.row().as_ref().unwrap().ahead.contains(&taken.keep().at_us),
        "it is that of the other worker"
    );
}

/// Its worker may never ask again.
#[tokio::test(start_paused = true)]
async fn a_turn_that_is_given_back_is_free_for_another_worker_without_a_further_ask() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let (own, other) = (book(&table, &clock), book(&table, &clock));
    let rate = RateLimit::new(1, 10).unwrap();
    let TurnAnswer::Turn(first) = own.ask(rate, 0, ask()).await else { panic!("a turn is free") };
    let first = first.keep();
    let TurnAnswer::Turn(unused) = own.ask(rate, 0, ask()).await else { panic!("a turn is free") };
    let at_us = unused.turn.at_us;
    // Another worker has written since: the row is not as the one that gives back has seen it.
    let later = Ask { wish: Wish::At(at_us + rate.spacing_us()), ..ask() };
    let TurnAnswer::Turn(later) = other.ask(rate, 0, later).await else { panic!("a turn is free") };
    assert!(first.at_us < at_us && at_us < later.keep().at_us);
    drop(unused);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let again = other.ask(rate, 0, Ask { wish: Wish::At(at_us), ..ask() }).await;
    assert!(
        matches!(again, TurnAnswer::Turn(HeldTurn { turn: Turn { at_us: given_us, .. }, .. }) if given_us == at_us)
    );
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_given_back_costs_one_write_and_none_beside_an_ask() {
    let (table, clock) = (Arc::new(Table::default()), clock());
    let own = book(&table, &clock);
    let rate = RateLimit::new(20, 1).unwrap();
    let stored = || table.stored.load(Ordering::Relaxed);
    let TurnAnswer::Turn(used) = own.ask(rate, 0, ask()).await else { panic!("a turn is free") };
    used.keep();
    tokio::time::sleep(SLOWEST_PACE).await;
    assert_eq!(stored(), 1, "nothing is given back");
    let TurnAnswer::Turn(unused) = own.ask(rate, 0, ask()).await else { panic!("a turn is free") };
    drop(unused);
    assert!(matches!(own.ask(rate, 0, ask()).await, TurnAnswer::Turn(_)));
    assert_eq!(stored(), 3, "one write gives back and takes");
    tokio::time::sleep(SLOWEST_PACE).await;
    assert_eq!(stored(), 4, "the last was given back too");
    assert!(table.row().as_ref().unwrap().ahead.is_empty());
    assert!(!own.is_writing());
}
