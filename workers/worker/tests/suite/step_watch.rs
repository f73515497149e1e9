//! A watch of one step of the pipeline: counts the calls that pass it, and holds them there if a test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use toolfleet_worker::pipeline::steps::{Step, Watch};

/// Counts the calls that pass a step; once armed, it holds them there.
pub(crate) struct At {
    step: Step,
    pub(crate) holds: AtomicBool,
    count: AtomicUsize,
    changed: Notify,
}

impl At {
    pub(crate) fn new(step: Step) -> Arc<Self> {
        let (holds, count) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Self { step, holds, count, changed: Notify::new() })
    }

    pub(crate) async fn reached(&self, count: usize) {
        loop {
            let changed = self.changed.notified();
            if self.count.load(Ordering::SeqCst) >= count {
                return;
            }
            changed.await;
        }
    }
}

impl Watch for At {
    fn passed(&self, step: Step) -> BoxFuture<'_, ()> {
        async move {
            if step == self.step {
                self.count.fetch_add(1, Ordering::SeqCst);
                self.changed.notify_waiters();
                if self.holds.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
            }
        }
        .boxed()
    }
}
