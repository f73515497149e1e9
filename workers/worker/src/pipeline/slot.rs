//! A slot of the worker, which a call sets down while it waits for its turn.

use std::future::Future;

/// A slot of the worker.
pub trait Slot: Send {
    /// Leaves the slot to other calls.
    fn set_down(&mut self);

    /// Takes a slot again; waits for one where none is free.
    fn take_up(&mut self) -> impl Future<Output = ()> + Send;
}

/// No slot: a delivery that a test takes through the pipeline.
impl Slot for () {
    fn set_down(&mut self) {}

    async fn take_up(&mut self) {}
}
