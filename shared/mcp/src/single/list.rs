//! A list of tools over single messages: all tools of a server, or the listing as an operation.
//!
//! **Invariant:** no tool runs here, so no fault says that one may have.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use toolfleet_core::ids::ServerId;
use toolfleet_core::request::Operation;
use toolfleet_mcp_protocol::method;

use super::form::{SingleForm, answer_of};
use super::message::{ID, Message, this_client};
use crate::answer::Answer;
use crate::client::listing::empty;
use crate::client::pages::{ListBounds, merged_pages, tool_pages};
use crate::fault::Fault;
use crate::protocol::wire::{Meta, PageParams, request};
use crate::tools::{Freshness, ToolList};
use crate::transport::request_error::{RequestError, before_call};

/// What stands for the id of a call in the events of a list.
const EVENT_ID: &str = "tools-list";

/// A server whose tools are listed, and how.
#[derive(Debug, Clone, Copy)]
pub struct SingleList<'a> {
    /// How messages are carried.
    pub form: SingleForm,
    /// The server.
    pub server: &'a ServerId,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The vendor's part of the trace context.
    pub tracestate: Option<&'a str>,
}

/// Why there is no list.
#[derive(Debug)]
pub enum SingleError<E> {
    /// A message was not carried, or not answered.
    NotCarried(E),
    /// What the answer says.
    Fault(Fault),
}

/// The same of one page, with what the answer refuses.
enum Unread<E> {
    NotCarried(E),
    Answer(RequestError),
}

impl<E> From<Fault> for Unread<E> {
    fn from(fault: Fault) -> Self {
        Self::Answer(fault.into())
    }
}

impl<E> Unread<E> {
    /// The error, or nothing where the server has no list of tools.
    fn known(self) -> Option<SingleError<E>> {
        match self {
            Self::NotCarried(error) => Some(SingleError::NotCarried(error)),
            Self::Answer(error) if error.is_no_such_method() => None,
            Self::Answer(error) => {
                Some(SingleError::Fault(before_call(error.fault, "listing the server's tools")))
            }
        }
    }
}

impl SingleList<'_> {
    /// The server's tools, all pages within the bounds of other transports. `send` carries an event and gives the answer.
    ///
    /// # Errors
    /// See [`SingleError`].
    pub async fn tools<F, Fut, E>(&self, most_bytes: u64, send: &F) -> Result<ToolList, SingleError<E>>
    where
        F: Fn(Vec<u8>) -> Fut,
        Fut: Future<Output = Result<Vec<u8>, E>>,
    {
        let ask = |cursor: Option<String>| async move { self.page(cursor.as_deref(), send).await };
        match tool_pages(self.server, most_bytes, is_modern, ask).await {
            Ok(list) => Ok(list),
            Err(unread) => match unread.known() {
                Some(error) => Err(error),
                None => {
                    let freshness = Freshness { for_ms: None, public: false };
                    Ok(ToolList { tools: Vec::new(), freshness, whole: true })
                }
            },
        }
    }

    /// The page at `cursor` as it came, or all pages in one result.
    ///
    /// # Errors
    /// See [`SingleError`].
    pub async fn listing<F, Fut, E>(
        &self,
        bounds: ListBounds,
        cursor: Option<&str>,
        send: &F,
    ) -> Result<Answer, SingleError<E>>
    where
        F: Fn(Vec<u8>) -> Fut,
        Fut: Future<Output = Result<Vec<u8>, E>>,
    {
        let ask = |cursor: Option<String>| async move { self.page(cursor.as_deref(), send).await };
        let result = match merged_pages(bounds, cursor, is_modern, ask).await {
            Ok(result) => result,
            Err(unread) => match unread.known() {
                Some(error) => return Err(error),
                None => empty(bounds.operation).map_err(SingleError::Fault)?,
            },
        };
        answer_of(result).await.map_err(SingleError::Fault)
    }

    async fn page<F, Fut, E>(&self, cursor: Option<&str>, send: &F) -> Result<Box<RawValue>, Unread<E>>
    where
        F: Fn(Vec<u8>) -> Fut,
        Fut: Future<Output = Result<Vec<u8>, E>>,
    {
        let client = this_client();
        let meta = Meta::modern_of_program(&client).with(None, self.traceparent, self.tracestate);
        let body = request(ID, method::TOOLS_LIST, PageParams { cursor, meta });
        let message = Message { method: method::TOOLS_LIST, name: None, id: EVENT_ID, body };
        let payload = send(self.form.event(&message)).await.map_err(Unread::NotCarried)?;
        self.form.result(payload).await.map_err(Unread::Answer)
    }
}

impl ListBounds {
    /// Those of a list of tools.
    pub const fn of_tools(deadline: tokio::time::Instant, most_bytes: u64) -> Self {
        Self { operation: Operation::ToolsList, deadline, most_bytes }
    }
}

/// Servers of 2026-07-28 say of each result what it is. In older revisions an empty cursor ends a list.
fn is_modern(result: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "resultType", default)]
        kind: Option<IgnoredAny>,
    }
    serde_json::from_str::<Typed>(result.get()).is_ok_and(|typed| typed.kind.is_some())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;

    /// Lists the tools of a server that answers as `result` says to a cursor; with the cursors that it was asked for.
    async fn listed(
        result: impl Fn(Option<&str>) -> Value,
    ) -> (Result<ToolList, SingleError<()>>, Vec<Option<String>>) {
        let (server, asked) = (ServerId::parse("s").unwrap(), Mutex::new(Vec::new()));
        let list =
            SingleList { form: SingleForm::Message, server: &server, traceparent: None, tracestate: None };
        let send = |event: Vec<u8>| {
            let event: Value = serde_json::from_slice(&event).unwrap();
            assert_eq!(event["method"], "tools/list");
            let cursor = event["params"]["cursor"].as_str().map(str::to_owned);
            asked.lock().unwrap().push(cursor.clone());
            let answer = json!({"jsonrpc": "2.0", "id": 1, "result": result(cursor.as_deref())});
            async move { Ok::<_, ()>(answer.to_string().into_bytes()) }
        };
        let listed = list.tools(100_000, &send).await;
        (listed, asked.into_inner().unwrap())
    }

    fn names(list: &ToolList) -> Vec<&str> {
        list.tools.iter().map(|tool| tool.name.as_str()).collect()
    }

    #[tokio::test]
    async fn all_pages_are_read_and_an_empty_cursor_ends_an_old_list() {
        let (list, asked) = listed(|cursor| match cursor {
            None => json!({"tools": [{"name": "a"}], "nextCursor": "2"}),
            Some(_) => json!({"tools": [{"name": "b"}], "nextCursor": ""}),
        })
        .await;
        let list = list.unwrap();
        assert_eq!((names(&list), list.whole), (vec!["a", "b"], true));
        assert_eq!(asked, [None, Some("2".to_owned())]);
        let (list, asked) = listed(|cursor| match cursor {
            None => json!({"resultType": "complete", "tools": [{"name": "a"}], "nextCursor": ""}),
            Some(_) => json!({"resultType": "complete", "tools": [{"name": "b"}]}),
        })
        .await;
        assert_eq!((names(&list.unwrap()), asked), (vec!["a", "b"], vec![None, Some(String::new())]));
    }

    #[tokio::test]
    async fn a_list_that_does_not_end_is_used_as_far_as_it_was_read() {
        let number = |cursor: Option<&str>| cursor.map_or(0, |text| text.parse::<u32>().unwrap());
        let endless = |cursor: Option<&str>| {
            let n = number(cursor);
            json!({"tools": [{"name": format!("t{n}")}], "nextCursor": (n + 1).to_string()})
        };
        let (list, asked) = listed(endless).await;
        let list = list.unwrap();
        assert_eq!((list.tools.len(), list.whole, asked.len()), (100, false, 100));
        let (list, asked) = listed(|_| json!({"tools": [{"name": "a"}], "nextCursor": "same"})).await;
        assert_eq!((list.unwrap().whole, asked.len()), (false, 2));
        let heavy = |cursor: Option<&str>| {
            let n = number(cursor);
            json!({"tools": [{"name": format!("t{n}"), "description": "x".repeat(40_000)}], "nextCursor": (n + 1).to_string()})
        };
        let (list, asked) = listed(heavy).await;
        assert_eq!((list.unwrap().whole, asked.len()), (false, 3), "100,000 bytes");
        let (list, _) = listed(|_| json!({"tools": [{"name": "a"}], "nextCursor": 7})).await;
        assert!(!list.unwrap().whole);
    }

    #[tokio::test(start_paused = true)]
    async fn further_pages_have_five_seconds() {
        let server = ServerId::parse("s").unwrap();
        let form = SingleForm::Message;
        let list = SingleList { form, server: &server, traceparent: None, tracestate: None };
        let begun = Instant::now();
        let send = |event: Vec<u8>| async move {
            let event: Value = serde_json::from_slice(&event).unwrap();
            if event["params"]["cursor"].is_string() {
                std::future::pending::<()>().await;
            }
            let result = json!({"tools": [{"name": "a"}], "nextCursor": "2"});
            Ok::<_, ()>(json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string().into_bytes())
        };
        let list = list.tools(100_000, &send).await.unwrap();
        assert_eq!((names(&list), list.whole), (vec!["a"], false));
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_server_without_a_list_has_no_tools_and_its_other_errors_are_told() {
        let server = ServerId::parse("s").unwrap();
        let form = SingleForm::ApiGateway;
        let list = SingleList { form, server: &server, traceparent: None, tracestate: None };
        let error = |code: i64| {
            let error = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no"}});
            let answer = json!({"statusCode": 200, "body": error.to_string()}).to_string().into_bytes();
            move |_| std::future::ready(Ok::<_, ()>(answer.clone()))
        };
        let none = list.tools(100_000, &error(-32_601)).await.unwrap();
        assert!(none.tools.is_empty() && none.whole);
        let bounds = ListBounds::of_tools(Instant::now() + Duration::from_secs(5), 100_000);
        let none = list.listing(bounds, None, &error(-32_601)).await.unwrap();
        assert!(none.result.get().contains(r#""tools":[]"#), "{}", none.result);
        let fault = list.tools(100_000, &error(-32_602)).await.unwrap_err();
        assert!(matches!(fault, SingleError::Fault(Fault::Rpc { code: -32_602, .. })), "{fault:?}");
        let lost = |_| std::future::ready(Err::<Vec<u8>, _>("away"));
        assert!(matches!(list.tools(9, &lost).await, Err(SingleError::NotCarried("away"))));
    }
}
