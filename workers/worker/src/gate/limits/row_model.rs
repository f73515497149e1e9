//! A model of a limit's row in the table, for tests: with the time that requests take, and with counts of what is stored and lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use toolfleet_aws::fleet::limits::Exchanged;
use toolfleet_aws::{AwsError, Clock, Read, RowOf, Store, Swap};
use toolfleet_core::limits::exchange::Exchange;
use toolfleet_core::limits::holders::{HolderRow, HolderTable};
use toolfleet_core::limits::turn_book::TurnRow;
use toolfleet_core::state_table::StateTable;
use toolfleet_core::time::Timestamp;

use super::permit_book::PermitRows;

/// How long a request to the table takes, there and back, in microseconds.
const TRIP_US: std::ops::Range<u64> = 3_000..7_000;

/// When a write whose answer was lost is repeated.
pub(super) const REPEATED_AFTER: Duration = Duration::from_millis(100);

/// A row with the number that each write raises.
pub(super) trait Revised: Clone + std::fmt::Debug + Send + Sync + 'static {
    fn rev(&mut self) -> &mut u64;
}

impl Revised for HolderRow {
    fn rev(&mut self) -> &mut u64 {
        &mut self.rev
    }
}

impl Revised for TurnRow {
    fn rev(&mut self) -> &mut u64 {
        &mut self.rev
    }
}

/// The row, and what the workers did to it.
#[derive(Debug)]
pub(super) struct Table<Row> {
    row: Mutex<Option<Row>>,
    pub(super) stored: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) reads: AtomicU64,
    /// How many writes from now on are stored without an answer.
    pub(super) unanswered: AtomicU64,
    /// How many writes from now on are stored, lose their answer, and are repeated after [`REPEATED_AFTER`].
    pub(super) repeated: AtomicU64,
    /// How many exchanges from now on are not stored, and end with an error.
    pub(super) failing: AtomicU64,
}

impl<Row> Default for Table<Row> {
    fn default() -> Self {
        Self {
            row: Mutex::new(None),
            stored: 0.into(),
            lost: 0.into(),
            reads: 0.into(),
            unanswered: 0.into(),
            repeated: 0.into(),
            failing: 0.into(),
        }
    }
}

impl<Row> Table<Row> {
    pub(super) fn row(&self) -> MutexGuard<'_, Option<Row>> {
        self.row.lock().unwrap()
    }

    /// The answer to a write, unless it is lost.
    fn answer<T>(&self, answer: T) -> Result<T, AwsError> {
        if is_next(&self.unanswered) {
            Err(AwsError::configuration("no answer".to_owned()))
        } else {
            Ok(answer)
        }
    }

    /// How many writes of a hundred were lost.
    pub(super) fn lost_percent(&self) -> u64 {
        let (stored, lost) = (self.stored.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed));
        lost * 100 / (lost + stored).max(1)
    }
}

/// How one worker reaches the row.
#[derive(Debug)]
pub(super) struct Model<T: StateTable>(Arc<Table<T::Row>>);

impl<T: StateTable> Model<T> {
    pub(super) fn of(table: &Arc<Table<T::Row>>) -> Self {
        Self(Arc::clone(table))
    }
}

impl<T: StateTable + Send + Sync> Store for Model<T>
where
    T::Row: Revised,
{
    type Table = T;

    async fn swap(&self, seen: Option<&T::Row>, new: &T::Row) -> Result<Swap<RowOf<Self>>, AwsError> {
        let rev = |row: Option<T::Row>| row.map(|mut row| *row.rev());
        half_a_trip().await;
        let swapped = {
            let mut row = self.0.row();
            if rev(row.clone()) == rev(seen.cloned()) {
                *row = Some(new.clone());
                self.0.stored.fetch_add(1, Ordering::Relaxed);
                Swap::Stored
            } else {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
                Swap::Found(row.clone().map(Box::new))
            }
        };
        let swapped = if matches!(swapped, Swap::Stored) && is_next(&self.0.repeated) {
            tokio::time::sleep(REPEATED_AFTER).await;
            Swap::Found(self.0.row().clone().map(Box::new))
        } else {
            swapped
        };
        half_a_trip().await;
        self.0.answer(swapped)
    }
}

impl PermitRows for Model<HolderTable> {
    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged, AwsError> {
        half_a_trip().await;
        if is_next(&self.0.failing) {
            return Err(AwsError::configuration("not stored".to_owned()));
        }
        let exchanged = {
            let mut row = self.0.row();
            match row.as_ref().and_then(|row| exchange.apply(row)) {
                Some(new) => {
                    self.0.stored.fetch_add(1, Ordering::Relaxed);
                    *row = Some(new.clone());
                    Exchanged::Stored(Box::new(new))
                }
                None => {
                    self.0.lost.fetch_add(1, Ordering::Relaxed);
                    Exchanged::Found(row.clone().map(Box::new))
                }
            }
        };
        half_a_trip().await;
        self.0.answer(exchanged)
    }
}

impl<T: StateTable + Send + Sync> Read for Model<T>
where
    T::Row: Revised,
{
    async fn read(&self) -> Result<Option<T::Row>, AwsError> {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        half_a_trip().await;
        let row = self.0.row().clone();
        half_a_trip().await;
        Ok(row)
    }
}

/// Whether one more is to come; it counts it.
fn is_next(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

async fn half_a_trip() {
    tokio::time::sleep(Duration::from_micros(fastrand::u64(TRIP_US) / 2)).await;
}

/// Another worker that changes the row each millisecond, once there is one.
pub(super) fn change_each_ms<Row: Revised>(table: &Arc<Table<Row>>, times: u32) -> JoinHandle<()> {
    let table = Arc::clone(table);
    tokio::spawn(async move {
        for _ in 0..times {
            if let Some(row) = table.row().as_mut() {
                *row.rev() += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

/// A clock that goes with the paused time.
pub(super) fn clock() -> Clock {
    let begun = Instant::now();
    let passed_ms = move || u64::try_from(begun.elapsed().as_millis()).unwrap();
    Clock::Of(Arc::new(move || Timestamp::from_ms(1_795_000_000_000).plus_ms(passed_ms())))
}
