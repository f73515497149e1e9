//! Runs CPU-bound work on a blocking thread, a bounded number at once, so that the async runtime is not delayed.

use tokio::sync::Semaphore;

/// A smaller result is compressed on the caller's thread: to hand it over would cost more.
pub(crate) const LARGE_BYTES: usize = 256 * 1024;

/// Permits to compress or check a payload before it is stored, and to compress a row. They are apart so that a row whose result was
/// already checked does not wait behind results that are still to be checked.
pub(crate) static PAYLOADS: Semaphore = Semaphore::const_new(2);
pub(crate) static ROWS: Semaphore = Semaphore::const_new(2);

/// The result of `work`, run on a blocking thread as soon as there is a permit; `None` if it panicked.
pub(crate) async fn run<T: Send + 'static>(
    permits: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let permit = permits.acquire().await.ok()?;
    let work = move || {
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(work).await.ok()
}
