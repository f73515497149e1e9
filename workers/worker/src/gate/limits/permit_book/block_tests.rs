//! A limit that changes between blocks and entries: what is left of the blocks stops nobody for long.

use toolfleet_aws::ServerTime;
use toolfleet_core::limits::holders::HolderTable;

use super::super::row_model::{self, clock};
use super::*;

const MS: Duration = Duration::from_millis(1);

type Model = row_model::Model<HolderTable>;
type Table = row_model::Table<HolderRow>;
type Book = Arc<PermitBook<Model>>;

fn books(table: &Arc<Table>, count: usize) -> Vec<Book> {
    let clock = clock();
    let book = |worker| {
        let (key, name) = ("server:crm".parse().unwrap(), format!("w{worker}"));
        let check = ClockCheck::new(ServerTime::default(), 2_000);
        Arc::new(PermitBook::new(Model::of(table), key, clock.clone(), name, check))
    };
    (0..count).map(book).collect()
}

fn wish(name: String, limit: u32, workers: u32) -> PermitWish {
    PermitWish { name, limit, hold_ms: 32_000, workers: Some(workers), in_turn: false }
}

fn patience(most: Duration) -> Patience {
    Patience { most, most_calls: 64, is_back: false, workers: 4 }
}

/// All permits of the blocks of these workers, for requests under way.
async fn fill(books: &[Book], limit: u32, workers: u32) -> Vec<Permit<Model>> {
    let mut permits = Vec::new();
    for book in books {
        while let Ok(mut permit) =
            book.take(wish(String::new(), limit, workers), patience(Duration::ZERO)).await
        {
            permit.sent();
            permits.push(permit);
        }
    }
    permits
}

/// The requests are answered.
fn answer(permits: Vec<Permit<Model>>) {
    for mut permit in permits {
        permit.answered();
    }
}

/// As many calls as the limit at the first of these workers, and how long they wait for their permits.
async fn entries_of(books: &[Book], limit: u32, workers: u32) -> (Vec<Permit<Model>>, Duration) {
    let begun = Instant::now();
    let each = (0..limit).map(|call| {
        let book = &books[call as usize % books.len()];
        book.take(wish(format!("call-{call}"), limit, workers), patience(20_000 * MS))
    });
    let permits = futures::future::join_all(each).await.into_iter().map(Result::unwrap).collect();
    (permits, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_limit_lowered_out_of_blocks_is_used_at_once() {
    let table = Arc::new(Table::default());
    let books = books(&table, 4);
    let permits = fill(&books, 200, 4).await;
    assert!(permits.len() > 150 && table.row().as_ref().unwrap().blocks.len() == 4, "{}", permits.len());
    answer(permits);
    let (permits, waited) = entries_of(&books, 5, 4).await;
    assert!(waited < 1_000 * MS, "{waited:?}");
    assert_eq!((permits.len(), table.row().as_ref().unwrap().held()), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn entries_follow_the_requests_of_a_block_as_they_end() {
    let table = Arc::new(Table::default());
    let books = books(&table, 1);
    let mut permits = fill(&books, 40, 1).await;
    assert_eq!(permits.len(), 40);
    let book = Arc::clone(&books[0]);
    let next = tokio::spawn(async move { book.take(wish("a".into(), 5, 1), patience(20_000 * MS)).await });
    tokio::time::sleep(1_000 * MS).await;
    assert!(!next.is_finished(), "40 are open");
    answer(permits.split_off(5));
    tokio::time::sleep(1_000 * MS).await;
    assert_eq!(table.row().as_ref().unwrap().held(), 5, "the worker keeps those that are open");
    assert!(!next.is_finished(), "5 are open");
    answer(permits.split_off(4));
    tokio::time::sleep(1_000 * MS).await;
    assert!(next.is_finished(), "4 are open");
    assert_eq!(table.row().as_ref().unwrap().held(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_outgrows_blocks_goes_on_at_once() {
    let table = Arc::new(Table::default());
    let books = books(&table, 24);
    answer(fill(&books, 100, 24).await);
    let (permits, waited) = entries_of(&books, 100, 25).await;
    assert!(waited < 3_000 * MS, "{waited:?}");
    assert_eq!(permits.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_gives_its_block_back() {
    let table = Arc::new(Table::default());
    let books = books(&table, 4);
    answer(fill(&books, 200, 4).await);
    let (permits, waited) = entries_of(&books[..1], 5, 4).await;
    assert!(waited < 7_000 * MS, "the others get no call that tells them: {waited:?}");
    assert_eq!(permits.len(), 5);
    assert!(books.iter().all(|book| !book.is_writing()));
}

#[tokio::test(start_paused = true)]
async fn a_block_whose_lease_had_no_answer_is_given_back() {
    let table = Arc::new(Table::default());
    let books = books(&table, 1);
    table.unanswered.store(1, std::sync::atomic::Ordering::Relaxed);
    let none = books[0].take(wish(String::new(), 200, 4), patience(Duration::ZERO)).await;
    assert!(none.is_err() && table.row().as_ref().unwrap().held() > 0);
    tokio::time::sleep(7_000 * MS).await;
    assert_eq!(table.row().as_ref().unwrap().held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_turn_has_come_gets_the_next_permit_of_the_block() {
    let table = Arc::new(Table::default());
    let books = books(&table, 1);
    let mut permits = fill(&books, 40, 1).await;
    let call = |in_turn: bool| {
        let (book, wish) = (Arc::clone(&books[0]), PermitWish { in_turn, ..wish("a".into(), 40, 1) });
        let most = if in_turn { 200 } else { 3_000 };
        tokio::spawn(async move { book.take(wish, patience(most * MS)).await })
    };
    let waits = call(false);
    tokio::time::sleep(50 * MS).await;
    let in_turn = call(true);
    tokio::time::sleep(50 * MS).await;
    answer(permits.split_off(39));
    assert!(in_turn.await.unwrap().is_ok());
    assert!(waits.await.unwrap().is_ok(), "the other gets the permit after it");
}
