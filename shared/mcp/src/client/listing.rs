//! Listings as operations: one page as the server sent it, or all pages merged into one result.
//!
//! **Invariant:** entries keep their bytes and their order; `nextCursor` says where a bounded listing goes on.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use toolfleet_core::request::Operation;

use crate::answer::Answer;
use crate::client::call::{answer, out_of_time, timed_out};
use crate::client::members::member_of;
use crate::client::pages::{ListBounds, merged_pages};
use crate::client::remedy::{Refused, Taken};
use crate::client::state::{McpClient, Shared};
use crate::fault::Fault;
use crate::fault::invalid;
use crate::tool_call::{ToolCall, admitted};
use crate::transport::connection::Connection;
use crate::transport::exchange::AskedPage;
use crate::transport::request_error::RequestError;

impl McpClient {
    /// One attempt of a listing: the page at `cursor` as it came, or all pages merged into the first one's result.
    ///
    /// The bounds are those of one response in bytes, 100 pages and 10,000 entries. Where they end a listing early, the result
    /// keeps a `nextCursor` to go on from. So it does where further pages take more than half of the call's time, and where a cursor comes back.
    pub async fn list(&self, call: ToolCall<'_>, cursor: Option<&str>) -> Result<Answer, Fault> {
        let begun = Instant::now();
        // Before the server speaks, no page can have been asked for.
        let speaks = AtomicBool::new(false);
        let mut listed = Box::pin(self.0.listed(&call, cursor, &speaks));
        match timeout_at(call.deadline, &mut listed).await {
            Ok(Ok(answer)) => answer.without_echo(call.endpoint).await,
            Ok(Err(fault)) => Err(call.without_echo(fault)),
            Err(_) => {
                let standing = self.0.standing(call.endpoint, call.conversation);
                let sent = speaks.load(Ordering::Relaxed);
                Err(call.without_echo(if sent { timed_out(begun, standing) } else { out_of_time(&standing) }))
            }
        }
    }
}

impl Shared {
    async fn listed(
        &self,
        call: &ToolCall<'_>,
        cursor: Option<&str>,
        speaks: &AtomicBool,
    ) -> Result<Answer, Fault> {
        let (begun, mut taken) = (Instant::now(), Taken { headers: true, ..Taken::default() });
        loop {
            let tongue = self.tongue(call.endpoint, call.conversation).await?;
            speaks.store(true, Ordering::Relaxed);
            let trouble = match self.merged(call, tongue.connection(), cursor).await {
                Ok(result) => return answer(result, tongue).await,
                Err(trouble) if trouble.is_no_such_method() => {
                    return answer(empty(call.operation)?, tongue).await;
                }
                Err(trouble) => trouble,
            };
            let (endpoint, conversation) = (call.endpoint, call.conversation);
            let refused = Refused { endpoint, conversation, tongue: &tongue, begun, repeatable: true };
            Box::pin(self.remedy(refused, trouble, &mut taken)).await?;
        }
    }

    async fn merged(
        &self,
        call: &ToolCall<'_>,
        connection: Connection<'_>,
        cursor: Option<&str>,
    ) -> Result<Box<RawValue>, RequestError> {
        let ask = |cursor: Option<String>| async move {
            admitted(call.admit).await?;
            let asked = AskedPage {
                operation: call.operation,
                cursor: cursor.as_deref(),
                traceparent: call.traceparent,
                tracestate: call.tracestate,
            };
            self.exchange.list(call.endpoint, connection, asked).await
        };
        let most_bytes = self.exchange.transport.max_body_bytes;
        let bounds = ListBounds { operation: call.operation, deadline: call.deadline, most_bytes };
        merged_pages(bounds, cursor, |_| connection.is_modern(), ask).await
    }
}

/// The list of a server that has no such list (JSON-RPC error -32601), with a note that says so.
pub(crate) fn empty(operation: Operation) -> Result<Box<RawValue>, Fault> {
    let method = operation.as_str();
    let note = format!("the server has no `{method}` (JSON-RPC error -32601), so the list is empty");
    let result = serde_json::json!({member_of(operation): [], "_meta": {"toolfleet/note": note}});
    RawValue::from_string(result.to_string()).map_err(|error| invalid("a listing", &error.to_string()))
}
