//! Listens and answers until the console is told to stop.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use toolfleet_web::serve::{self, Bounds};

use crate::console::Console;
use crate::door::door;

/// Serves on `listener` until `stop` ends.
pub async fn serve(
    console: Arc<Console>,
    listener: TcpListener,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) {
    serve::serve(listener, Router::new().fallback(door).with_state(console), bounds, stop).await;
}
