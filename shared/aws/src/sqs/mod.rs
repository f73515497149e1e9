//! SQS: a queue, its messages, and the batches in which concurrent callers delete, hide and send them.

mod batches;
pub mod event;
mod messages;
pub mod queue;
mod wire;
