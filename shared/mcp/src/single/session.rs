//! A session of a server behind an API Gateway's event: one that keeps sessions refuses each other request until `initialize` has opened one.
//!
//! **Invariant:** a request is carried again only after the server has refused it for want of a session, and then opened one: nothing ran before.

use serde::Deserialize;
use toolfleet_mcp_protocol::{header, method};

use super::api_gateway::{event, response_of};
use super::form::SingleForm;
use super::message::{ID, Message, this_client};
use crate::protocol::frame::{InBody, error_in};
use crate::protocol::wire;
use crate::transport::whole_message::answer_in;

/// What stands for the id of a call in the events that open a session.
const EVENT_ID: &str = "initialize";
/// The codes with which servers refuse a request that names no session, or one that they do not know.
const REFUSALS: [i64; 3] = [-32_000, -32_001, -32_600];
/// What servers say then, in small letters and behind what HTTP calls the status. Other words may speak of a session of the tool itself
/// (of a browser, of a database), which may have run.
const WORDS: [&str; 12] = [
    "session required",
    "session not found",
    "session expired",
    "session terminated",
    "session has been terminated",
    "unknown session",
    "invalid session id",
    "invalid or expired session",
    "missing session id",
    "no valid session id",
    "mcp-session-id header is required",
    // The TypeScript SDK, of a request without a session.
    "server not initialized",
];
/// The longest id of a session, in bytes.
const MOST_BYTES: usize = 1_024;

/// A session that a server has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SingleSession {
    id: String,
    protocol_version: String,
}

impl SingleForm {
    /// Carries an event within a session where the server asks for one; `known` is one that it opened earlier. Gives the answer, and the
    /// session if another one was opened.
    ///
    /// # Errors
    /// The request itself was not carried.
    pub async fn in_session<F, Fut, E>(
        self,
        event: Vec<u8>,
        known: Option<&SingleSession>,
        send: &F,
    ) -> Result<(Vec<u8>, Option<SingleSession>), E>
    where
        F: Fn(Vec<u8>) -> Fut,
        Fut: Future<Output = Result<Vec<u8>, E>>,
    {
        if self != Self::ApiGateway {
            return Ok((send(event).await?, None));
        }
        let answer = match known {
            Some(session) => send(session.within(&event)).await?,
            None => send(event.clone()).await?,
        };
        if !asks_for_session(&answer) {
            return Ok((answer, None));
        }
        let Some(session) = opened(send).await else { return Ok((answer, None)) };
        Ok((send(session.within(&event)).await?, Some(session)))
    }
}

impl SingleSession {
    /// The event of an API Gateway with the session's headers.
    fn within(&self, event: &[u8]) -> Vec<u8> {
        let Ok(mut event) = serde_json::from_slice::<serde_json::Value>(event) else { return event.to_vec() };
        let named = [(header::SESSION_ID, &self.id), (header::PROTOCOL_VERSION, &self.protocol_version)];
        for (name, value) in named {
            if let Some(headers) = event.get_mut("headers").and_then(serde_json::Value::as_object_mut) {
                headers.insert(name.to_owned(), value.as_str().into());
            }
            if let Some(headers) =
                event.get_mut("multiValueHeaders").and_then(serde_json::Value::as_object_mut)
            {
                headers.insert(name.to_owned(), [value.as_str()].as_slice().into());
            }
        }
        event.to_string().into_bytes()
    }
}

/// Opens a session; nothing where the server gives none.
async fn opened<F, Fut, E>(send: &F) -> Option<SingleSession>
where
    F: Fn(Vec<u8>) -> Fut,
    Fut: Future<Output = Result<Vec<u8>, E>>,
{
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Initialized {
        protocol_version: String,
    }
    let body = wire::initialize(ID, &this_client());
    let answer =
        send(event(&Message { method: method::INITIALIZE, name: None, id: EVENT_ID, body })).await.ok()?;
    let response = response_of(&answer).ok()??;
    let id = response.headers.get(header::SESSION_ID)?.to_str().ok()?.to_owned();
    let is_visible =
        !id.is_empty() && id.len() <= MOST_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_visible || !(200..300).contains(&response.status) {
        return None;
    }
    let result = answer_in(response.body, ID).await.ok()?;
    let Initialized { protocol_version } = serde_json::from_str(result.get()).ok()?;
    let session = SingleSession { id, protocol_version };
    let message =
        Message { method: method::INITIALIZED, name: None, id: EVENT_ID, body: wire::initialized() };
    // Nothing is answered to it; a server that it did not reach says so of the next request.
    drop(send(session.within(&event(&message))).await);
    Some(session)
}

/// Whether an answer refuses its request for want of a session: by status and code, and in words.
fn asks_for_session(answer: &[u8]) -> bool {
    let Ok(Some(response)) = response_of(answer) else { return false };
    match error_in(&response.body, ID) {
        InBody::Error(error) if matches!(response.status, 400 | 404) => {
            REFUSALS.contains(&error.code) && speaks_of_mcp_session(&error.message)
        }
        InBody::Error(_) | InBody::Nothing | InBody::Result | InBody::Cut => false,
    }
}

fn speaks_of_mcp_session(message: &str) -> bool {
    let message = message.trim().to_ascii_lowercase();
    let prefix = ["bad request:", "not found:"].iter().find_map(|status| message.strip_prefix(status));
    let words = prefix.unwrap_or(&message).trim_start();
    let rest = WORDS.iter().find_map(|known| words.strip_prefix(known));
    rest.map(|rest| rest.strip_prefix(" id").or(rest.strip_prefix(" provided")).unwrap_or(rest)).is_some_and(
        |rest| rest.is_empty() || rest.starts_with([':', '.', ';', ',', '(']) || rest.starts_with(" ("),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::*;

    /// A function that keeps sessions as `awslabs.mcp-lambda-handler` does; `opens` is what `initialize` gives as the session's id.
    fn serve(known: &str, opens: Option<&str>, event: &Value) -> Value {
        let body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
        let response = |status: u16, headers: Value, body: Value| json!({"statusCode": status, "headers": headers, "body": body.to_string()});
        let refused = |status: u16, text: &str| {
            let error =
                json!({"jsonrpc": "2.0", "id": body["id"], "error": {"code": -32_000, "message": text}});
            response(status, json!({}), error)
        };
        match (body["method"].as_str().unwrap(), event["headers"]["mcp-session-id"].as_str()) {
            ("initialize", _) => {
                let result = json!({"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
                let headers = opens.map_or_else(|| json!({}), |id| json!({"MCP-Session-Id": id}));
                response(200, headers, json!({"jsonrpc": "2.0", "id": body["id"], "result": result}))
            }
            ("notifications/initialized", _) => json!({"statusCode": 202, "body": ""}),
            (_, None) => refused(400, "Session required"),
            (_, Some(id)) if id != known => refused(404, "Invalid or expired session"),
            (_, Some(_)) => response(
                200,
                json!({}),
                json!({"jsonrpc": "2.0", "id": body["id"], "result": {"content": []}}),
            ),
        }
    }

    /// Carries a call; gives the status of its answer, the session that was opened, and the methods that were asked.
    async fn carried(
        form: SingleForm,
        known: Option<&SingleSession>,
        opens: Option<&str>,
    ) -> (u64, Option<SingleSession>, Vec<String>) {
        let asked = Mutex::new(Vec::new());
        let send = |payload: Vec<u8>| {
            let event: Value = serde_json::from_slice(&payload).unwrap();
            let body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
            asked.lock().unwrap().push(body["method"].as_str().unwrap().to_owned());
            let answer = serve("s2", opens, &event);
            async move { Ok::<_, ()>(answer.to_string().into_bytes()) }
        };
        let body = wire::request(ID, "tools/call", json!({"name": "t"}));
        let call = event(&Message { method: "tools/call", name: Some("t"), id: "c1", body });
        let (answer, session) = form.in_session(call, known, &send).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        (answer["statusCode"].as_u64().unwrap(), session, asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn a_session_is_opened_where_it_is_asked_for_and_used_on() {
        let opening = ["tools/call", "initialize", "notifications/initialized", "tools/call"];
        let (status, session, asked) = carried(SingleForm::ApiGateway, None, Some("s2")).await;
        assert_eq!((status, &asked[..]), (200, &opening.map(str::to_owned)[..]));
        let session = session.unwrap();
        assert_eq!((session.id.as_str(), session.protocol_version.as_str()), ("s2", "2024-11-05"));
        let (status, other, asked) = carried(SingleForm::ApiGateway, Some(&session), Some("s2")).await;
        assert_eq!((status, other, asked.len()), (200, None, 1));
        let expired = SingleSession { id: "s1".to_owned(), ..session };
        let (status, session, asked) = carried(SingleForm::ApiGateway, Some(&expired), Some("s2")).await;
        assert_eq!((status, session.unwrap().id.as_str(), asked.len()), (200, "s2", 4));
    }

    #[tokio::test]
    async fn without_a_session_nothing_is_carried_again() {
        for opens in [None, Some(""), Some("a b")] {
            let (status, session, asked) = carried(SingleForm::ApiGateway, None, opens).await;
            assert_eq!((status, session, asked.len()), (400, None, 2), "{opens:?}");
        }
        let (status, session, asked) = carried(SingleForm::Message, None, Some("s2")).await;
        assert_eq!((status, session, asked.len()), (400, None, 1));
    }

    #[test]
    fn other_refusals_ask_for_no_session() {
        let answer = |status: u16, code: i64, message: &str| {
            let error = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}});
            json!({"statusCode": status, "body": error.to_string()}).to_string().into_bytes()
        };
        assert!(asks_for_session(&answer(400, -32_000, "Session required")));
        for words in [
            "Bad Request: Missing session ID",
            "Bad Request: Server not initialized",
            "Bad Request: Mcp-Session-Id header is required",
            "Bad Request: No valid session ID provided",
            "Not Found: Invalid or expired session ID",
            "Session not found: 4f1c",
        ] {
            assert!(asks_for_session(&answer(400, -32_600, words)), "{words}");
        }
        for other in [
            answer(400, -32_000, "disk full"),
            answer(400, -32_000, "browser session expired"),
            answer(404, -32_000, "Session expired on the database, and the change was made"),
            answer(400, -32_603, "no session of the database"),
            answer(200, -32_000, "Session required"),
            answer(500, -32_000, "Session required"),
            b"{}".to_vec(),
        ] {
            assert!(!asks_for_session(&other), "{}", String::from_utf8_lossy(&other));
        }
    }
}
