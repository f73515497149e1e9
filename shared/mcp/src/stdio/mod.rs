//! Owns MCP servers that are programs: children of this process, spoken to over their stdin and stdout.
//!
//! A child is a session, so each conversation of a tenant has a child of its own with each server, unless the catalog says that the
//! program keeps nothing of it; calls without a conversation share one for each tenant. Where to look: [`pool`] and [`shared`] which child a call gets, [`places`] how many there are, [`command`] whether a command can be started at all,
//! [`launch`] who ends it when the worker is killed, [`start`] from a command to a greeted child, [`stderr`] its last lines,
//! [`child`] one child's table of waiters, [`pipes`] its three pipes, [`supervise`] its end.
//!
//! **Invariant:** no waiter outlives its child, and no child its client: whatever ends one ends the other.

mod child;
mod command;
mod greet;
mod hear;
mod launch;
mod lines;
mod pipes;
mod places;
mod pool;
mod program;
mod restarts;
mod shared;
mod start;
mod stderr;
mod supervise;

use serde_json::value::RawValue;

pub(crate) use child::{Child, Lease};
pub(crate) use greet::Greeter;
pub use launch::launched;
pub(crate) use pool::{Limits, Pool};
pub use program::Program;

use child::Notice;

use crate::classify::RequestError;
use crate::notes::note;
use crate::stream::Waiting;
use crate::transport::{Connection, Post, Sent, Transport};

impl Transport {
    /// One request and its answer, over HTTP or with a child.
    pub(crate) async fn ask(
        &self,
        post: &Post<'_>,
        waiting: &Waiting<'_>,
        sent: &Sent,
    ) -> Result<Box<RawValue>, RequestError> {
        if let Connection::Child(child) = post.connection {
            let tell = |notice: Notice| {
                let Some(hear) = waiting.on_note else { return };
                if let Some(note) = note(&notice.method, &notice.params, waiting.id, waiting.endpoint) {
                    hear(note);
                }
            };
            return child.ask(waiting.id, post.body.clone(), sent, &tell).await;
        }
        let response = self.post(post, sent).await?;
        self.answer(response, waiting).await
    }
}
