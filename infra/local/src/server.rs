//! The threads of the endpoints. Each has its own runtime, so a caller's paused time or load does not affect them.
//!
//! **Invariant:** when a `ServerThread` is dropped, its sockets, files and tasks are closed.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::LocalError;

/// How long requests that run at shutdown may take.
const GRACE: Duration = Duration::from_secs(2);

/// A server on a thread of its own.
#[derive(Debug)]
pub(crate) struct ServerThread {
    thread: Option<JoinHandle<()>>,
    stopping: CancellationToken,
    aborting: CancellationToken,
}

impl ServerThread {
    /// Runs `serve` until it ends by itself after `stopping`, or until it is dropped.
    pub(crate) fn spawn<F, S>(name: &str, stopping: CancellationToken, serve: S) -> io::Result<Self>
    where
        S: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let aborting = CancellationToken::new();
        let (stopped, aborted) = (stopping.clone(), aborting.clone());
        let run = move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = serve() => {}
                    () = aborted.cancelled() => {}
                    () = grace_is_over(&stopped) => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { thread: Some(thread), stopping, aborting })
    }

    /// Lets running requests finish, waits for the thread.
    pub(crate) async fn shutdown(mut self) {
        self.stopping.cancel();
        if let Some(thread) = self.thread.take() {
            // Joining blocks; a thread that panicked has nothing left to stop.
            let _joined = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.aborting.cancel();
        if let Some(thread) = self.thread.take() {
            let _joined = thread.join();
        }
    }
}

async fn grace_is_over(stopping: &CancellationToken) {
    stopping.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Binds a port of 127.0.0.1; 0 takes a free one.
pub(crate) fn bind(service: &'static str, port: u16) -> Result<TcpListener, LocalError> {
    let taken = |source| LocalError::Port { service, port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(taken)?;
    listener.set_nonblocking(true).map_err(taken)?;
    Ok(listener)
}

/// The URL of a bound port.
pub(crate) fn url_of(service: &'static str, port: u16, listener: &TcpListener) -> Result<String, LocalError> {
    let address = listener.local_addr().map_err(|source| LocalError::Port { service, port, source })?;
    Ok(format!("http://{address}"))
}
