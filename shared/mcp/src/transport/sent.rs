//! Records whether the body of a request has begun to be sent.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};

/// Whether a request's body has begun to leave. One compare-and-swap decides between the connection that takes it and the caller
/// who gives it up: what was given up first never leaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    now: Arc<AtomicU8>,
    before: Arc<AtomicBool>,
}

const WAITING: u8 = 0;
const LEFT: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Sent {
    /// The request at hand has begun to leave.
    pub(crate) fn is_set(&self) -> bool {
        self.now.load(Ordering::Acquire) == LEFT
    }

    /// Gives up: the request at hand leaves no more. False where it has begun to leave, or an earlier round has.
    pub(crate) fn give_up(&self) -> bool {
        let given_up = self.swap(WAITING, GIVEN_UP) || self.now.load(Ordering::Acquire) == GIVEN_UP;
        given_up && !self.before.load(Ordering::Acquire)
    }

    /// The requests so far may have run the tool, whatever becomes of the next.
    pub(crate) fn keep(&self) {
        self.before.store(true, Ordering::Release);
    }

    /// Whether an earlier request of the same call may have run the tool.
    pub(crate) fn was_kept(&self) -> bool {
        self.before.load(Ordering::Acquire)
    }

    /// For the next request of the same call, once the one before was refused for certain or is a fault already.
    pub(crate) fn clear(&self) {
        self.swap(LEFT, WAITING);
    }

    /// The request begins to leave. False where its caller has given it up: then no byte of it may leave.
    #[must_use]
    pub(crate) fn set(&self) -> bool {
        self.swap(WAITING, LEFT) || self.now.load(Ordering::Acquire) == LEFT
    }

    fn swap(&self, from: u8, to: u8) -> bool {
        self.now.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The caller gave the request up before its body was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the request was given up before it was sent")]
pub(crate) struct GivenUp;

/// A body that notices when it is first asked for: hyper does so only on a connection that stands.
pub(crate) struct NotedBody {
    pub(crate) bytes: Option<Bytes>,
    pub(crate) sent: Sent,
}

impl Body for NotedBody {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        if !self.sent.set() {
            return Poll::Ready(Some(Err(GivenUp)));
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_request_is_sent_or_given_up_and_never_both() {
        for _ in 0..2_000 {
            let (sent, start) = (Sent::default(), Barrier::new(2));
            let (left, given_up) = std::thread::scope(|scope| {
                let connection = scope.spawn(|| {
                    start.wait();
                    sent.set()
                });
                start.wait();
                let given_up = sent.give_up();
                (connection.join().unwrap(), given_up)
            });
            assert_ne!(left, given_up);
            assert_eq!(sent.is_set(), left);
        }
    }

    #[test]
    fn what_an_earlier_round_has_sent_cannot_be_given_up() {
        let sent = Sent::default();
        assert!(sent.set());
        sent.keep();
        sent.clear();
        assert!(!sent.give_up() && !sent.set());
    }

    #[tokio::test]
    async fn a_body_that_was_given_up_never_leaves() {
        let sent = Sent::default();
        let mut body = NotedBody { bytes: Some(Bytes::from_static(b"{}")), sent: sent.clone() };
        assert!(sent.give_up());
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        assert!(matches!(frame, Some(Err(GivenUp))));
    }
}
