//! Listens and answers until the gateway is told to stop. Requests that wait then are answered at once, with a task or a handle.

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use toolfleet_web::hosts::Hosts;
use toolfleet_web::serve::{self, Bounds};

use crate::cors::with_cors;
use crate::gateway::Gateway;
use crate::http::routes;

/// Serves on `listener` until `stop` ends.
pub async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    (hosts, bounds): (Hosts, Bounds),
    stop: impl Future<Output = ()>,
) {
    let draining = gateway.draining.clone();
    let stopped = async move {
        stop.await;
        draining.cancel();
    };
    let session = gateway.authenticator.session_header().cloned();
    let routes = with_cors(routes(gateway, hosts.clone()), hosts, session);
    serve::serve(listener, routes, bounds, stopped).await;
}
