//! Sends one request and reads its answer, over HTTP or over a connection that is kept.

use serde_json::value::RawValue;

use crate::protocol::notifications::note;
use crate::transport::channels::channel::Notice;
use crate::transport::connection::Connection;
use crate::transport::http::requests::{Post, Transport};
use crate::transport::http::stream::Waiting;
use crate::transport::request_error::RequestError;
use crate::transport::sent::Sent;

impl Transport {
    /// One request and its answer, over HTTP or over a connection that is kept.
    pub(crate) async fn ask(
        &self,
        post: &Post<'_>,
        waiting: &Waiting<'_>,
        sent: &Sent,
    ) -> Result<Box<RawValue>, RequestError> {
        if let Connection::Channel(channel) = post.connection {
            let tell = |notice: Notice| {
                let Some(hear) = waiting.on_note else { return };
                if let Some(note) = note(&notice.method, &notice.params, waiting.id, waiting.endpoint) {
                    hear(note);
                }
            };
            return channel.ask(waiting.id, post.body.clone(), sent, &tell).await;
        }
        let response = self.post(post, sent).await?;
        self.answer(response, waiting).await
    }
}
