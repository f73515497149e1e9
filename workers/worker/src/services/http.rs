//! The worker's HTTP endpoint: liveness, readiness, the state of its services, Prometheus metrics.
//!
//! `/health/live` fails when no receive begins though slots are free: restart the worker. `/health/ready` fails until the first answered
//! receive, while the queue does not answer, and while the worker drains: send no traffic, restart nothing.
//!
//! **Invariant:** an answer costs no request to AWS or to a server, and contains nothing of any call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use super::Service;
use crate::context::WorkerContext;
use crate::service_health::ServiceHealth;
use crate::shutdown::Shutdown;

/// How long [`ask`] waits for an answer.
const TIME_OUT: Duration = Duration::from_secs(3);

/// The endpoint as a service.
pub struct HttpEndpoint {
    address: SocketAddr,
    /// Bound before the worker starts, so that an address in use refuses the start.
    listener: Mutex<Option<TcpListener>>,
    routes: Router,
}

impl HttpEndpoint {
    /// An endpoint that answers on `listener`.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn new(listener: TcpListener, routes: Router) -> std::io::Result<Self> {
        Ok(Self { address: listener.local_addr()?, listener: Mutex::new(Some(listener)), routes })
    }
}

impl Service for HttpEndpoint {
    fn name(&self) -> &'static str {
        "HTTP endpoint"
    }

    async fn run(&self, shutdown: &Shutdown) {
        let listener = match self.listener.lock().await.take() {
            Some(listener) => Ok(listener),
            None => TcpListener::bind(self.address).await,
        };
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, address = %self.address, code = "health_failed", "the HTTP endpoint cannot listen again");
                return;
            }
        };
        // Requests end with the process, so that a worker that drains still answers.
        tokio::select! {
            ended = axum::serve(listener, self.routes.clone()) => {
                if let Err(error) = ended {
                    tracing::error!(%error, code = "health_failed", "the HTTP endpoint has ended");
                }
            }
            () = shutdown.over() => {}
        }
    }
}

/// The routes of the endpoint.
pub fn routes(context: Arc<WorkerContext>, services: ServiceHealth, registry: Option<Registry>) -> Router {
    let verdict = |well: bool, word: &'static str| {
        if well { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, word) }
    };
    let live = move |State(context): State<Arc<WorkerContext>>| async move {
        verdict(context.intake_health.is_live(), "the intake stands still\n")
    };
    let ready = move |State(context): State<Arc<WorkerContext>>| async move {
        match context.shutdown.is_draining() {
            true => (StatusCode::SERVICE_UNAVAILABLE, "the worker drains\n"),
            false => verdict(context.intake_health.is_ready(), "the queue has not answered lately\n"),
        }
    };
    let metrics = move || async move {
        let Some(registry) = registry else { return (StatusCode::NOT_FOUND, String::new()) };
        match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    };
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/services", get(move || async move { services.lines() }))
        .route("/metrics", get(metrics))
        .with_state(context)
}

/// Asks the worker at `address` whether it is ready, for container health checks in images without a shell.
///
/// # Errors
/// What it answered, or why it did not.
pub async fn ask(address: SocketAddr) -> Result<(), String> {
    let address = match address.ip().is_unspecified() {
        true => SocketAddr::from(([127, 0, 0, 1], address.port())),
        false => address,
    };
    let request = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /health/ready HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match tokio::time::timeout(TIME_OUT, request).await {
        Ok(answer) => answer.map_err(|error| format!("{address} does not answer: {error}"))?,
        Err(_) => return Err(format!("{address} does not answer within {TIME_OUT:?}")),
    };
    if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    Err(answer.lines().last().unwrap_or("no answer").to_owned())
}
