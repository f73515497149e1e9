//! Runs work on large or expensive texts on blocking threads: compiling schemas, checking against them, hashing, compressing.
//!
//! The number of such threads is bounded, and a caller waits at most as long as it asked for.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Work on a smaller text is done in place: a change of thread would cost more.
pub const LARGE_BYTES: usize = 64 * 1024;

static PLACES: Semaphore = Semaphore::const_new(2);

/// What `work` gives, or nothing where it takes longer than `within` or panics. What takes too long goes on and keeps its place: a
/// thread cannot be stopped.
pub async fn run_blocking<T: Send + 'static>(
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
