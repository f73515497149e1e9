//! Runs work on large or costly foreign texts on threads of its own: compiling schemas, judging by them, hashing, compressing.
//!
//! **Invariant:** no more of it runs at once than there are places, and nobody waits for it longer than he said.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// A smaller text is worked on where it is met: to hand it over would cost more.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

static PLACES: Semaphore = Semaphore::const_new(2);

/// What `work` gives, or nothing where it takes longer than `within` or panics. What takes too long goes on and keeps its place: a
/// thread cannot be stopped.
pub(crate) async fn beside<T: Send + 'static>(
    within: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let done = async {
        let place = PLACES.acquire().await.ok()?;
        let placed = move || {
            let _place = place;
            work()
        };
        tokio::task::spawn_blocking(placed).await.ok()
    };
    timeout(within, done).await.ok().flatten()
}
