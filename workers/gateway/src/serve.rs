//! Listens and answers until the gateway is told to stop. Requests that wait then are answered at once, with a task or a handle.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use toolfleet_config::hosts::Hosts;

use crate::gateway::Gateway;
use crate::http::routes;

/// How long open connections are waited for after the stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves on `listener` until `stop` ends.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    hosts: Hosts,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    // A small answer must not wait for more to send.
    let listener = listener.tap_io(|connection| {
        let _unset = connection.set_nodelay(true);
    });
    let draining = gateway.draining.clone();
    let drain = draining.clone();
    let stopped = async move {
        stop.await;
        drain.cancel();
    };
    let serving = axum::serve(listener, routes(gateway, hosts)).with_graceful_shutdown(stopped);
    let late = async move {
        draining.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = late => Ok(()),
    }
}
