//! Batches, which clients of 2025-03-26 may send: several messages in one body, answered by a list in their order.
//!
//! **Invariant:** a batch has no more calls under way at once than its messages would have by themselves: each of them needs a slot.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use futures::future::join_all;
use serde_json::value::RawValue;
use tokio::time::Instant;
use toolfleet_mcp_protocol::{error_code, method};

use crate::accept::{accept, inbound_of};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::message::{RpcError, response};
use crate::slots::Slots;

/// The most messages of a batch.
const MAX_MESSAGES: usize = 50;

/// The messages of a batch.
pub(crate) fn messages_of(body: &[u8]) -> Result<Vec<&RawValue>, RpcError> {
    let invalid = |text: String| RpcError::new(StatusCode::BAD_REQUEST, error_code::INVALID_REQUEST, text);
    let messages: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| {
        RpcError::new(StatusCode::BAD_REQUEST, error_code::PARSE_ERROR, "the body is no JSON")
    })?;
    match messages.len() {
        1..=MAX_MESSAGES => Ok(messages),
        count => Err(invalid(format!("a batch of {count} messages; accepted are 1 to {MAX_MESSAGES}"))),
    }
}

/// Answers the messages, all at once; nothing where none of them is a request. The first one has the slot of the request.
pub(crate) async fn answer_batch(
    gateway: &Arc<Gateway>,
    slots: &Slots,
    headers: &HeaderMap,
    (messages, caller): (Vec<&RawValue>, &Caller),
    at: Instant,
) -> Option<String> {
    let answering = messages.iter().enumerate().map(|(place, message)| async move {
        let inbound = match inbound_of(message.get().as_bytes()) {
            Ok(inbound) => inbound,
            Err(error) => return Some(error.text(None)),
        };
        // The answer to a request of the gateway is answered by nothing.
        let id = inbound.id.clone().filter(|_| !inbound.is_answer());
        let answer = async {
            if inbound.method == method::INITIALIZE {
                return Err(RpcError::invalid_params("`initialize` belongs to no batch; send it by itself"));
            }
            let _slot = match place {
                0 => None,
                _ => Some(slots.take(&caller.tenant).map_err(|why| RpcError::internal(why.text()))?),
            };
            let mut request = accept(headers, inbound, caller.clone(), at)?;
            // There is no stream on which its client could be asked.
            request.meta.capabilities = None;
            if request.inbound.is_answer() {
                gateway.take_answer(&request).await?;
                return Ok(None);
            }
            if request.inbound.id.is_none() {
                gateway.take_notification(&request).await;
                return Ok(None);
            }
            Box::pin(gateway.answer(&request, &None)).await.map(Some)
        };
        match (answer.await, id) {
            (Ok(Some(result)), id) => Some(response(id.as_deref(), &result)),
            (Err(error), Some(id)) => Some(error.text(Some(&id))),
            (Ok(None) | Err(_), _) => None,
        }
    });
    let answers: Vec<String> = join_all(answering).await.into_iter().flatten().collect();
    (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")))
}
