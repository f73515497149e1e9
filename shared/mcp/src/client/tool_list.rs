//! Lists a server's tools.

use tokio::time::{Instant, timeout_at};
use toolfleet_core::request::Operation;

use crate::blocking::{LARGE_BYTES, beside};
use crate::client::call::out_of_time;
use crate::client::pages::tool_pages;
use crate::client::remedy::{Refused, Taken};
use crate::client::state::{McpClient, Shared};
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::tools::{Freshness, RemoteTool, ToolList, sifted};
use crate::transport::connection::Connection;
use crate::transport::exchange::AskedPage;
use crate::transport::request_error::{RequestError, before_call};

impl McpClient {
    /// The server's tools, all pages. Tools that cannot be read or used are left out.
    ///
    /// No tool runs here, so a fault never says that one may have.
    pub async fn list_tools(
        &self,
        endpoint: &Endpoint,
        conversation: Option<&str>,
        deadline: Instant,
    ) -> Result<Vec<RemoteTool>, Fault> {
        self.tool_list(endpoint, conversation, deadline).await.map(|list| list.tools)
    }

    /// The same, with what the server says of keeping the list, and whether it is the whole list.
    pub async fn tool_list(
        &self,
        endpoint: &Endpoint,
        conversation: Option<&str>,
        deadline: Instant,
    ) -> Result<ToolList, Fault> {
        let mut listing = Box::pin(self.0.list(endpoint, conversation));
        let listed = timeout_at(deadline, &mut listing).await;
        let listed = listed.unwrap_or_else(|_| Err(out_of_time(&self.0.standing(endpoint, conversation))));
        listed.map_err(|fault| endpoint.without_echo(fault))
    }
}

impl Shared {
    async fn list(&self, endpoint: &Endpoint, conversation: Option<&str>) -> Result<ToolList, Fault> {
        let (begun, mut taken) = (Instant::now(), Taken { headers: true, ..Taken::default() });
        loop {
            let tongue = self.tongue(endpoint, conversation).await?;
            let error = match self.pages(endpoint, tongue.connection()).await {
                Ok(list) => return self.usable(endpoint, list).await,
                // A server of resources or prompts alone.
                Err(error) if error.is_no_such_method() => {
                    let freshness = Freshness { for_ms: None, public: false };
                    return Ok(ToolList { tools: Vec::new(), freshness, whole: true });
                }
                Err(error) => error,
            };
            let refused = Refused { endpoint, conversation, tongue: &tongue, begun, repeatable: true };
            let remedied = self.remedy(refused, error, &mut taken).await;
            remedied.map_err(|fault| before_call(fault, "listing the server's tools"))?;
        }
    }

    /// The list without the tools that cannot be used; which arguments the others mirror into headers is kept.
    pub(crate) async fn usable(&self, endpoint: &Endpoint, list: ToolList) -> Result<ToolList, Fault> {
        let ToolList { tools, freshness, whole } = list;
        let bytes: usize = tools.iter().map(|tool| tool.raw.get().len()).sum();
        let (tools, mirrors) = if bytes < LARGE_BYTES {
            sifted(endpoint, tools)
        } else {
            let endpoint = endpoint.clone();
            let sifted = beside(move || sifted(&endpoint, tools)).await;
            sifted.ok_or_else(|| Fault::InvalidAnswer {
                detail: "the list of tools cannot be read".to_owned(),
            })?
        };
        self.mirrored.keep(endpoint, mirrors);
        Ok(ToolList { tools, freshness, whole })
    }

    pub(crate) async fn pages(
        &self,
        endpoint: &Endpoint,
        connection: Connection<'_>,
    ) -> Result<ToolList, RequestError> {
        let ask = |cursor: Option<String>| async move {
            let asked = AskedPage {
                operation: Operation::ToolsList,
                cursor: cursor.as_deref(),
                traceparent: None,
                tracestate: None,
            };
            self.exchange.list(endpoint, connection, asked).await
        };
        let most_bytes = self.exchange.transport.max_body_bytes;
        tool_pages(&endpoint.server, most_bytes, |_| connection.is_modern(), ask).await
    }
}
