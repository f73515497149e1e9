//! Listens and answers until the console is told to stop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

use crate::console::Console;
use crate::door::door;

/// How long open connections are waited for after the stop. A page takes less.
const DRAIN: Duration = Duration::from_secs(12);

/// Serves on `listener` until `stop` ends.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    console: Arc<Console>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (ended, draining) = tokio::sync::oneshot::channel();
    let stopped = async move {
        stop.await;
        // The other end is below.
        let _told = ended.send(());
    };
    let routes = Router::new().fallback(door).with_state(console);
    let serving = axum::serve(listener, routes).with_graceful_shutdown(stopped);
    let late = async move {
        let _told = draining.await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = late => Ok(()),
    }
}
