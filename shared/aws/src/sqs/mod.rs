//! SQS: a queue, its messages, and the batches in which concurrent callers delete, hide and send them.

mod batches;
mod messages;
pub mod queue;
mod wire;
