//! Serves HTTP/1.1 on connections within bounds: how many are open, how long a client may take to send a head, to read an answer, and to send
//! the next request.
//!
//! **Invariant:** a connection on which no request is answered ends by itself. One on which a request is answered ends with its request, its
//! client, or the stop.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use axum::serve::{Listener, ListenerExt as _};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::timed_stream::{Activity, TimedStream};

/// What is read ahead of a request, and the largest head.
const MAX_HEAD_BYTES: usize = 65_536;
/// Open files that are no connections of clients: connections to AWS, to an issuer, the log.
const OTHER_FILES: u64 = 256;

/// The bounds of an endpoint's connections.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many are open at once; more wait in the system until one ends.
    pub connections: usize,
    /// How long one is kept without a request.
    pub idle: Duration,
    /// Whether one takes further requests after its first.
    pub keep_alive: bool,
    /// How long requests are waited for after the stop.
    pub drain: Duration,
}

impl Bounds {
    /// Those of an endpoint that this machine alone reaches.
    pub const fn of_one_machine() -> Self {
        Self {
            connections: 512,
            idle: Duration::from_secs(180),
            keep_alive: true,
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves on `listener` until `stop` ends, and then until the open requests are answered, as long as `bounds` say. Whoever drops it closes all
/// connections.
pub async fn serve(listener: TcpListener, routes: Router, bounds: Bounds, stop: impl Future<Output = ()>) {
    // A small answer must not wait for more to send.
    let listener = listener.tap_io(|connection| {
        let _unset = connection.set_nodelay(true);
    });
    serve_on(listener, routes, bounds, stop).await;
}

async fn serve_on(
    mut listener: impl Listener,
    routes: Router,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) {
    let most = bounds.connections.min(files_for_connections());
    if most < bounds.connections {
        tracing::info!(
            most,
            wanted = bounds.connections,
            "fewer connections are accepted than the settings say: the process may open no more files (ulimit -n)"
        );
    }
    let closing = CancellationToken::new();
    let mut open = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_ended) = open.join_next() => {}
            (stream, _) = listener.accept(), if open.len() < most => {
                open.spawn(answer_on(stream, routes.clone(), bounds, closing.clone()));
            }
        }
    }
    drop(listener);
    closing.cancel();
    let ended = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(bounds.drain, ended).await.is_err() {
        tracing::info!(connections = open.len(), "connections are closed before their requests have ended");
    }
}

/// How many files the process may open for connections: at least half of all, where it may open few.
fn files_for_connections() -> usize {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most.saturating_sub(OTHER_FILES).max(most / 2)).unwrap_or(usize::MAX).max(1)
}

/// Answers the requests of one connection until it ends, or until the stop and the end of the request at hand.
async fn answer_on(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    routes: Router,
    bounds: Bounds,
    closing: CancellationToken,
) {
    let activity = Arc::new(Activity::new(bounds.idle));
    let stream = TokioIo::new(TimedStream::new(stream, Arc::clone(&activity)));
    let routes = Watched { routes: TowerToHyperService::new(routes), activity };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES).keep_alive(bounds.keep_alive);
    let mut connection = pin!(builder.serve_connection(stream, routes));
    tokio::select! {
        // How a connection ends is its client's affair.
        _ended = connection.as_mut() => return,
        () = closing.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}

/// The routes, and when one of them answers.
struct Watched {
    routes: TowerToHyperService<Router>,
    activity: Arc<Activity>,
}

impl Service<Request<Incoming>> for Watched {
    type Response = Response<HeldBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<HeldBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answering = Answering::begin(&self.activity);
        let response = self.routes.call(request);
        Box::pin(async move {
            let response = response.await?;
            Ok(response.map(|body| HeldBody { body, _answering: answering }))
        })
    }
}

/// A request is answered as long as this is there.
struct Answering(Arc<Activity>);

impl Answering {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.request_begins();
        Self(Arc::clone(activity))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.request_ends();
    }
}

/// A body whose request is answered until it is sent.
struct HeldBody {
    body: Body,
    _answering: Answering,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
