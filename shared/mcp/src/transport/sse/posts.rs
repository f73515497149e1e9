//! Sends messages of the HTTP+SSE transport: each is a POST to the address that the stream named.
//!
//! A POST that is accepted says nothing of the answer. One that is refused with a status proves what that status proves of any request.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::transport::channels::channel::Poster;
use crate::transport::connection::Connection;
use crate::transport::http::cookies::Cookies;
use crate::transport::http::requests::{Post, Transport};
use crate::transport::http::stream::{SIDE_REQUEST_TIMEOUT, finish_quietly};
use crate::transport::request_error::RequestError;
use crate::transport::sent::Sent;

/// Where the messages of one stream go.
pub(crate) struct Posts(pub(crate) Arc<Address>);

/// The address that takes messages.
pub(crate) struct Address {
    pub(crate) transport: Transport,
    /// The server, with the address that its stream named.
    pub(crate) endpoint: Endpoint,
    /// What sticky load balancers in front of the server set for the stream.
    pub(crate) cookies: Cookies,
    /// For replies to the server and notifications that nobody waits for.
    pub(crate) aside: Arc<Semaphore>,
}

/// So many of them are under way at once; a server that asks faster gets no more replies.
pub(crate) const MOST_ASIDE: usize = 64;

impl Address {
    async fn post(&self, id: Option<u64>, body: Bytes, sent: &Sent) -> Result<(), RequestError> {
        let connection = Connection::Posting(&self.cookies);
        let post = Post { id, ..Post::plain(&self.endpoint, connection, "", body) };
        let response = self.transport.post(&post, sent).await?;
        if response.status().is_success() {
            finish_quietly(response);
            return Ok(());
        }
        // No id of ours is 0.
        Err(RequestError::of_response(response, id.unwrap_or_default()).await)
    }
}

impl Poster for Posts {
    fn post(
        &self,
        id: Option<u64>,
        body: Bytes,
        sent: Sent,
    ) -> Pin<Box<dyn Future<Output = Result<(), RequestError>> + Send + '_>> {
        Box::pin(async move { self.0.post(id, body, &sent).await })
    }

    fn post_aside(&self, body: Bytes) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let address = Arc::clone(&self.0);
        let Ok(place) = Arc::clone(&address.aside).try_acquire_owned() else {
            tracing::debug!(server = %address.endpoint.server, "a notification or reply is left out: the server does not read");
            return;
        };
        runtime.spawn(async move {
            let _place = place;
            let sent = Sent::default();
            let _arrived = timeout(SIDE_REQUEST_TIMEOUT, address.post(None, body, &sent)).await;
        });
    }
}
