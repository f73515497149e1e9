//! Owns the bundled demo MCP server: a handful of honest tools to try the fleet with, in both protocol generations.
//!
//! It listens on 127.0.0.1 alone, keeps its state in memory and its annotations to the truth: what says that it may be
//! repeated may be, and `counter`, which says nothing, must not be.
//!
//! **Invariant:** an execution is counted exactly when a tool has its effect; a refused request is never counted.

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

/// The bound on a request, in bytes.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// The demo server cannot start.
#[derive(Debug, thiserror::Error)]
#[error("the demo MCP server cannot listen on 127.0.0.1:{port}; choose another port, or 0 for any free one")]
pub struct DemoError {
    port: u16,
    #[source]
    source: std::io::Error,
}

/// A running demo server. It ends when dropped.
#[derive(Debug)]
pub struct DemoServer {
    demo: Arc<Demo>,
    port: u16,
    serving: JoinHandle<()>,
}

impl DemoServer {
    /// Starts it on that port of 127.0.0.1, or on any free one for 0.
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
            // Without TCP_NODELAY a call on a kept connection costs 40 ms.
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

    /// Where it listens: `http://127.0.0.1:port/mcp`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// How often that tool had its effect.
    pub fn executions(&self, tool: &str) -> u64 {
        self.demo.tools().executions(tool)
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
