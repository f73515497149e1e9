//! A client on rmcp: one connection, with its HTTP connections kept alive.
//!
//! A call does nothing beyond what rmcp does.

use anyhow::Context as _;
use rmcp::model::{CallToolRequestParams, ContentBlock, JsonObject, ProtocolVersion};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _};

use crate::Generation;

/// A client of rmcp that is connected.
pub struct RmcpClient(RunningService<RoleClient, ()>);

impl RmcpClient {
    /// Connects. rmcp's own HTTP client keeps no connection; this one does, and sends at once.
    ///
    /// # Errors
    /// What keeps it from it.
    pub async fn connect(url: &str, generation: Generation) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().tcp_nodelay(true).build()?;
        let transport = StreamableHttpClientTransport::with_client(
            http,
            StreamableHttpClientTransportConfig::with_uri(url.to_owned()),
        );
        let lifecycle = match generation {
            Generation::Newest => {
                ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
            }
            Generation::Sessions => ClientLifecycleMode::Initialize,
        };
        Ok(Self(().serve_with_lifecycle(transport, lifecycle).await.context("rmcp cannot connect")?))
    }

    /// Calls `echo` and gives the text that came back.
    ///
    /// # Errors
    /// What rmcp says.
    pub async fn echo(&self, arguments: JsonObject) -> anyhow::Result<Option<String>> {
        let result = self.0.call_tool(CallToolRequestParams::new("echo").with_arguments(arguments)).await?;
        Ok(result.content.first().and_then(ContentBlock::as_text).map(|block| block.text.clone()))
    }

    /// Calls a tool and gives its whole result as JSON.
    ///
    /// # Errors
    /// What rmcp says.
    pub async fn call(&self, tool: &str, arguments: JsonObject) -> anyhow::Result<String> {
        let call = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        Ok(serde_json::to_string(&self.0.call_tool(call).await?)?)
    }
}
