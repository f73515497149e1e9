//! The bundled demo MCP server: six tools to try the fleet with, in both revisions of the protocol.
//!
//! It listens on 127.0.0.1 only and keeps its state in memory. The annotations of its tools are correct: a tool with `readOnlyHint` or
//! `idempotentHint` is safe to repeat, `counter` is not.

mod progress;
mod protocol;
mod state;
mod tools;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::any;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use state::Demo;

/// The maximum size of a request, in bytes.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// The demo server cannot start.
#[derive(Debug, thiserror::Error)]
#[error("the demo MCP server cannot listen on 127.0.0.1:{port}; choose another port, or 0 for any free one")]
pub struct DemoError {
    port: u16,
    #[source]
    source: std::io::Error,
}

/// A running demo server. Dropping it stops it.
#[derive(Debug)]
pub struct DemoServer {
    demo: Arc<Demo>,
    port: u16,
    serving: JoinHandle<()>,
}

impl DemoServer {
    /// Starts the server on that port of 127.0.0.1; port 0 takes a free one.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub async fn start(port: u16) -> Result<Self, DemoError> {
        let failed = |source| DemoError { port, source };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let demo = Arc::new(Demo::default());
        let app = Router::new()
            .route("/mcp", any(protocol::handle))
            .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
            .with_state(Arc::clone(&demo));
        let serving = tokio::spawn(async move {
            // Without TCP_NODELAY a call on a kept-alive connection takes 40 ms.
            let listener = listener.tap_io(|stream| {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY cannot be set");
                }
            });
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the demo MCP server has ended");
            }
        });
        Ok(Self { demo, port, serving })
    }

    /// The address: `http://127.0.0.1:port/mcp`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// How often that tool was executed. A refused call is not an execution.
    pub fn executions(&self, tool: &str) -> u64 {
        self.demo.tools().executions(tool)
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
