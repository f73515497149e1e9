//! The worker's HTTP endpoint: liveness, readiness, the state of its services, Prometheus metrics, and what the fleet is scaled by.
//!
//! `/health/live` fails when no receive begins though slots are free, unless the worker drains: restart the worker. `/health/ready` fails while the worker starts, until
//! the first answered receive, while the queue does not answer, while the intake is started again, and while the worker drains: send no
//! traffic, restart nothing.
//!
//! **Invariant:** an answer costs no request to AWS or to a server, and contains nothing of any call.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Registry, TextEncoder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use toolfleet_web::serve::{Bounds, serve};

use super::Service;
use super::intake::INTAKE;
use crate::context::WorkerContext;
use crate::service_health::ServiceHealth;
use crate::shutdown::Shutdown;

/// How long [`ask`] waits for an answer.
const TIME_OUT: Duration = Duration::from_secs(3);

/// Who asks is a platform or a collector: few connections. Each answers one request, so that clients that keep theirs leave room for the question
/// whether the worker lives: a platform ends one that does not answer.
const BOUNDS: Bounds =
    Bounds { connections: 64, idle: Duration::from_secs(10), keep_alive: false, drain: Duration::ZERO };

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
        serve(listener, self.routes.clone(), BOUNDS, shutdown.over()).await;
    }
}

/// The answer of `/scaling`: figures of the whole fleet.
#[derive(Debug, serde::Serialize)]
struct Scaling {
    runnable_seconds: u64,
    waiting_seconds: u64,
    wanted_slots: u64,
    slots: u64,
    workers: u32,
}

/// The worker that the endpoint answers for, once it has started. Clones share it.
#[derive(Clone, Default)]
pub struct Started(Arc<OnceLock<Arc<WorkerContext>>>);

impl Started {
    /// The worker has started.
    pub(crate) fn set(&self, context: &Arc<WorkerContext>) {
        self.0.get_or_init(|| Arc::clone(context));
    }

    fn is_live(&self) -> bool {
        self.0.get().is_none_or(|context| context.shutdown.is_draining() || context.intake_health.is_live())
    }

    /// What the fleet is scaled by, the same whichever worker is asked; none while nobody makes the summary.
    fn scaling(&self) -> Option<Scaling> {
        let context = self.0.get()?;
        let summary = context.fleet_view.current(context.now())?;
        let runnable = summary.runnable?;
        Some(Scaling {
            runnable_seconds: runnable.seconds(),
            waiting_seconds: runnable.waiting_seconds(),
            wanted_slots: runnable.wanted_slots,
            slots: summary.workers.slots,
            workers: summary.workers.alive,
        })
    }

    /// Why it is not ready.
    fn not_ready(&self, services: &ServiceHealth) -> Option<&'static str> {
        let Some(context) = self.0.get() else { return Some("the worker starts\n") };
        if context.shutdown.is_draining() {
            Some("the worker drains\n")
        } else if services.is_restarting(INTAKE) {
            Some("the intake is started again\n")
        } else if context.clock_is_off() {
            Some("this machine's clock is not that of DynamoDB\n")
        } else {
            (!context.intake_health.is_ready()).then_some("the queue has not answered lately\n")
        }
    }
}

impl From<Arc<WorkerContext>> for Started {
    fn from(context: Arc<WorkerContext>) -> Self {
        Self(Arc::new(OnceLock::from(context)))
    }
}

/// The routes of the endpoint.
pub fn routes(worker: impl Into<Started>, services: ServiceHealth, registry: Option<Registry>) -> Router {
    let verdict = |fault: Option<&'static str>| match fault {
        None => (StatusCode::OK, "ok\n"),
        Some(word) => (StatusCode::SERVICE_UNAVAILABLE, word),
    };
    let live = move |State(worker): State<Started>| async move {
        verdict((!worker.is_live()).then_some("the intake stands still\n"))
    };
    let of_ready = services.clone();
    let ready = move |State(worker): State<Started>| async move { verdict(worker.not_ready(&of_ready)) };
    let metrics = move || async move {
        let Some(registry) = registry else { return (StatusCode::NOT_FOUND, String::new()) };
        match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    };
    let scaling = move |State(worker): State<Started>| async move {
        match worker.scaling() {
            Some(scaling) => Ok(Json(scaling)),
            None => {
                Err((StatusCode::SERVICE_UNAVAILABLE, "no worker has made a summary of the fleet lately\n"))
            }
        }
    };
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/services", get(move || async move { services.lines() }))
        .route("/metrics", get(metrics))
        .route("/scaling", get(scaling))
        .with_state(worker.into())
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
