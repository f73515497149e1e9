//! How messages are carried, and what their answers mean.

use serde_json::value::RawValue;

use super::api_gateway;
use super::message::{ID, Message};
use crate::answer::{Answer, kind_beside};
use crate::fault::Fault;
use crate::transport::request_error::RequestError;
use crate::transport::whole_message::answer_in;

/// How a message is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SingleForm {
    /// The event is the message.
    Message,
    /// The event is an HTTP request as an API Gateway writes it (payload format 2.0), and the message its body.
    ApiGateway,
}

impl SingleForm {
    /// The event that carries a message.
    pub(super) fn event(self, message: &Message<'_>) -> Vec<u8> {
        match self {
            Self::Message => message.body.to_vec(),
            Self::ApiGateway => api_gateway::event(message),
        }
    }

    /// The result in what was answered.
    pub(super) async fn result(self, payload: Vec<u8>) -> Result<Box<RawValue>, RequestError> {
        match self {
            Self::Message => answer_in(payload, ID).await,
            Self::ApiGateway => api_gateway::result(payload).await,
        }
    }

    /// The answer to a call.
    ///
    /// # Errors
    /// The server's error, or an answer that is not MCP.
    pub async fn answer(self, payload: Vec<u8>) -> Result<Answer, Fault> {
        let result = self.result(payload).await.map_err(|error| error.fault)?;
        answer_of(result).await
    }
}

pub(super) async fn answer_of(result: Box<RawValue>) -> Result<Answer, Fault> {
    let (kind, result) = kind_beside(result).await;
    Ok(Answer { kind: kind?, result, protocol_version: String::new(), mcp_session: None })
}
