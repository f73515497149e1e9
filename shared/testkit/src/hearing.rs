//! What a test hears of the traces of its own thread.

use tracing::Subscriber;
use tracing::dispatcher::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber, set_default};

/// Sends the traces of this thread to a subscriber, as long as it lives.
///
/// While a process has one subscriber, a place of the code that another thread reaches first is judged by that thread, which has no
/// subscriber, and is silent for all threads from then on. Where there are two, each place asks both.
#[must_use = "what is dropped hears nothing"]
pub struct Hearing {
    _of_this_thread: DefaultGuard,
    _second: Dispatch,
}

impl Hearing {
    /// Hears this thread from now on.
    pub fn new(subscriber: impl Subscriber + Send + Sync) -> Self {
        let second = Dispatch::new(NoSubscriber::default());
        Self { _of_this_thread: set_default(subscriber), _second: second }
    }
}
