//! Listings as operations: one page as the server sent it, or all pages merged into one result.
//!
//! **Invariant:** entries keep their bytes and their order; `nextCursor` says where a bounded listing goes on.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use toolfleet_core::request::Operation;

use crate::answer::{Answer, AnswerKind, kind_of};
use crate::client::call::{answer, out_of_time, timed_out};
use crate::client::remedy::{Refused, Taken};
use crate::client::state::{McpClient, Shared};
use crate::fault::Fault;
use crate::fault::invalid;
use crate::tool_call::ToolCall;
use crate::tools::{MAX_PAGES, MAX_TOOLS, Next};
use crate::transport::connection::Connection;
use crate::transport::exchange::AskedPage;
use crate::transport::request_error::RequestError;

pub(crate) const NEXT_CURSOR: &str = "nextCursor";

/// The members of a result, in their order and as they came.
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl<'a> Members<'a> {
    pub(crate) fn of(result: &'a RawValue) -> Result<Self, Fault> {
        serde_json::from_str(result.get()).map_err(|error| invalid("a listing", &error.to_string()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    pub(crate) fn entries(&self, member: &str) -> Result<Vec<&'a RawValue>, Fault> {
        let list = self.get(member).ok_or_else(|| invalid("a listing without its list", member))?;
        serde_json::from_str(list.get()).map_err(|error| invalid("a listing", &error.to_string()))
    }

    /// Where the list goes on; what is no cursor leads nowhere.
    fn next_cursor(&self, connection: Connection<'_>) -> Option<String> {
        match Next::of(self.get(NEXT_CURSOR)).in_speech(connection) {
            Next::Cursor(cursor) => Some(cursor),
            Next::None | Next::Unusable => None,
        }
    }
}

/// The pages so far.
struct Merged {
    first: Box<RawValue>,
    /// The pages after it.
    further: Vec<Box<RawValue>>,
    entries: usize,
    bytes: usize,
}

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
        let member = member_of(call.operation);
        let page = |cursor: Option<String>| async move {
            let asked = AskedPage {
                operation: call.operation,
                cursor: cursor.as_deref(),
                traceparent: call.traceparent,
                tracestate: call.tracestate,
            };
            self.exchange.list(call.endpoint, connection, asked).await
        };
        let first = page(cursor.map(str::to_owned)).await?;
        if cursor.is_some() || kind_of(&first)? != AnswerKind::Complete {
            return Ok(first);
        }
        let members = Members::of(&first)?;
        let Some(mut next) = members.next_cursor(connection) else {
            return Ok(first);
        };
        let (entries, bytes) = (members.entries(member)?.len(), first.get().len());
        let mut merged = Merged { first: first.clone(), further: Vec::new(), entries, bytes };
        let mut seen = Vec::new();
        let further_until = Instant::now() + call.deadline.saturating_duration_since(Instant::now()) / 2;
        loop {
            if seen.len() + 1 >= MAX_PAGES || merged.entries >= MAX_TOOLS {
                return Ok(merged.written(member, Some(&next))?);
            }
            let Ok(further) = timeout_at(further_until, page(Some(next.clone()))).await else {
                return Ok(merged.written(member, Some(&next))?);
            };
            let further = further?;
            merged.bytes = merged.bytes.saturating_add(further.get().len());
            if merged.bytes as u64 > self.exchange.transport.max_body_bytes {
                return Ok(merged.written(member, Some(&next))?);
            }
            seen.push(next);
            let members = Members::of(&further)?;
            merged.entries = merged.entries.saturating_add(members.entries(member)?.len());
            let after = members.next_cursor(connection);
            merged.further.push(further);
            match after {
                None => return Ok(merged.written(member, None)?),
                // A list that does not end: its server gives the same pages again.
                Some(after) if seen.contains(&after) => return Ok(merged.written(member, Some(&after))?),
                Some(after) => next = after,
            }
        }
    }
}

impl Merged {
    /// The first page's result with the entries of all pages.
    fn written(&self, member: &str, next: Option<&str>) -> Result<Box<RawValue>, Fault> {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut entries: Vec<&str> = Vec::with_capacity(self.entries);
        let first = Members::of(&self.first)?;
        entries.extend(first.entries(member)?.into_iter().map(RawValue::get));
        for page in &self.further {
            entries.extend(Members::of(page)?.entries(member)?.into_iter().map(RawValue::get));
        }
        let list = format!("[{}]", entries.join(","));
        let mut written: Vec<String> = Vec::new();
        for (name, value) in &first.0 {
            match name.as_str() {
                NEXT_CURSOR => {}
                name if name == member => written.push(format!("{}:{list}", quoted(name))),
                name => written.push(format!("{}:{}", quoted(name), value.get())),
            }
        }
        written.extend(next.map(|next| format!("\"{NEXT_CURSOR}\":{}", quoted(next))));
        RawValue::from_string(format!("{{{}}}", written.join(",")))
            .map_err(|error| invalid("a listing", &error.to_string()))
    }
}

/// The list of a server that has no such list (JSON-RPC error -32601), with a note that says so.
fn empty(operation: Operation) -> Result<Box<RawValue>, Fault> {
    let method = operation.as_str();
    let note = format!("the server has no `{method}` (JSON-RPC error -32601), so the list is empty");
    let result = serde_json::json!({member_of(operation): [], "_meta": {"toolfleet/note": note}});
    RawValue::from_string(result.to_string()).map_err(|error| invalid("a listing", &error.to_string()))
}

/// The member of a listing's result that holds the list.
pub(crate) const fn member_of(operation: Operation) -> &'static str {
    match operation {
        Operation::ResourcesList => "resources",
        Operation::ResourceTemplatesList => "resourceTemplates",
        Operation::PromptsList => "prompts",
        Operation::ToolsList
        | Operation::ToolsCall
        | Operation::ResourcesRead
        | Operation::ResourcesSubscribe
        | Operation::PromptsGet
        | Operation::CompletionComplete => "tools",
    }
}
