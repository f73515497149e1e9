//! Cancels a legacy request whose caller stops waiting, with `notifications/cancelled`. In 2026-07-28 dropping the response stream is the
//! cancellation.
//!
//! **Invariant:** a request that was not sent, or that has been answered, is not cancelled.

use crate::endpoint::Endpoint;
use crate::protocol::wire::cancelled;
use crate::transport::connection::Connection;
use crate::transport::http::requests::Transport;
use crate::transport::http::session::Session;
use crate::transport::sent::Sent;

/// Sends `notifications/cancelled` when dropped before the answer is there.
pub(crate) struct Withdrawal<'a> {
    transport: &'a Transport,
    endpoint: &'a Endpoint,
    session: Option<&'a Session>,
    id: u64,
    sent: Sent,
}

impl<'a> Withdrawal<'a> {
    pub(crate) fn new(
        transport: &'a Transport,
        endpoint: &'a Endpoint,
        connection: Connection<'a>,
        id: u64,
        sent: &Sent,
    ) -> Self {
        let session = match connection {
            Connection::Legacy(session) => Some(session),
            // What a channel was asked, it withdraws itself.
            Connection::Modern | Connection::Opening | Connection::Posting(_) | Connection::Channel(_) => {
                None
            }
        };
        Self { transport, endpoint, session, id, sent: sent.clone() }
    }

    /// The call is over; there is nothing to withdraw.
    pub(crate) fn disarm(mut self) {
        self.session = None;
    }
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        let (Some(session), true) = (self.session, self.sent.is_set()) else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (side, endpoint, session) = (self.transport.aside(), self.endpoint.clone(), session.clone());
        let body = cancelled(self.id);
        runtime.spawn(async move { side.post_aside(&endpoint, &session, body).await });
    }
}
