//! Runs work on large texts on blocking threads, so that parsing 16 MiB delays no heartbeat.
//!
//! **Invariant:** at most two of them run at once, however many calls want it.

use tokio::sync::Semaphore;

/// A shorter text is worked on where it is met: to hand it over would cost more.
pub(crate) const LARGE_BYTES: usize = 256 * 1024;

static PLACES: Semaphore = Semaphore::const_new(2);

/// What `work` gives, or nothing where it has panicked.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let place = PLACES.acquire().await.ok()?;
    let placed = move || {
        // Kept to the end of the work, also if nobody waits for it any more.
        let _place = place;
        work()
    };
    tokio::task::spawn_blocking(placed).await.ok()
}
