//! Reads a list page by page, whatever carries the pages: all tools of a server, or one result with the entries of all pages.
//!
//! **Invariant:** pages, entries, bytes and time are bounded, and a repeated cursor ends the list. What was read until then is used and
//! marked as incomplete.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use toolfleet_core::ids::ServerId;
use toolfleet_core::request::Operation;

use crate::answer::{AnswerKind, kind_of};
use crate::blocking::{LARGE_BYTES, beside};
use crate::client::members::{Members, NEXT_CURSOR, member_of};
use crate::fault::{Fault, invalid};
use crate::tools::{Freshness, MAX_PAGES, MAX_TOOLS, Next, Page, ToolList, page};

/// How long further pages are asked for.
const FURTHER_WITHIN: Duration = Duration::from_secs(5);

/// The tools of all pages. `ask` asks for the page at a cursor; `is_modern` says of a page whether its server speaks 2026-07-28.
pub(crate) async fn tool_pages<F, Fut, E>(
    server: &ServerId,
    most_bytes: u64,
    is_modern: impl Fn(&RawValue) -> bool,
    ask: F,
) -> Result<ToolList, E>
where
    F: Fn(Option<String>) -> Fut,
    Fut: Future<Output = Result<Box<RawValue>, E>>,
    E: From<Fault>,
{
    let mut tools = Vec::new();
    let mut freshness: Option<Freshness> = None;
    let mut cursors: Vec<String> = Vec::new();
    let further_until = Instant::now() + FURTHER_WITHIN;
    let mut bytes = 0_usize;
    let why = loop {
        let asked = ask(cursors.last().cloned());
        let result = if cursors.is_empty() {
            asked.await?
        } else {
            match timeout_at(further_until, asked).await {
                Ok(result) => result?,
                Err(_) => break "its further pages take too long",
            }
        };
        bytes = bytes.saturating_add(result.get().len());
        if !cursors.is_empty() && bytes as u64 > most_bytes {
            break "its pages are too large together";
        }
        let is_modern = is_modern(&result);
        let page = if result.get().len() < LARGE_BYTES {
            page(&result)
        } else {
            let unread = || Err(Fault::InvalidAnswer { detail: "a page cannot be read".to_owned() });
            beside(move || page(&result)).await.unwrap_or_else(unread)
        };
        let Page { tools: more, next, freshness: fresh } = page?;
        tools.extend(more);
        let fresh = freshness.map_or(fresh, |so_far: Freshness| so_far.and(fresh));
        freshness = Some(fresh);
        let cursor = match next.in_speech(is_modern) {
            Next::None => return Ok(ToolList { tools, freshness: fresh, whole: true }),
            Next::Unusable => break "its cursor is no text",
            Next::Cursor(cursor) => cursor,
        };
        if cursors.contains(&cursor) {
            break "its cursor comes back";
        }
        cursors.push(cursor);
        if tools.len() > MAX_TOOLS {
            break "it has too many tools";
        }
        if cursors.len() >= MAX_PAGES {
            break "it has too many pages";
        }
    };
    tracing::warn!(
        %server, pages = cursors.len().max(1), tools = tools.len(), code = "list_cut",
        "a server's list of tools is used as far as it was read: {why}"
    );
    let freshness = freshness.unwrap_or(Freshness { for_ms: None, public: false });
    Ok(ToolList { tools, freshness, whole: false })
}

/// What bounds a list that is merged into one result.
#[derive(Debug, Clone, Copy)]
pub struct ListBounds {
    /// Which list it is.
    pub operation: Operation,
    /// When the call ends; further pages may take half of the time until then.
    pub deadline: Instant,
    /// The most bytes of all pages together.
    pub most_bytes: u64,
}

/// The pages so far.
struct Merged {
    first: Box<RawValue>,
    /// The pages after it.
    further: Vec<Box<RawValue>>,
    entries: usize,
    bytes: usize,
}

/// The page at `cursor` as it came; without a cursor all pages merged into the first one's result. Where a bound ends the list early,
/// the result keeps a `nextCursor` to go on from.
pub(crate) async fn merged_pages<F, Fut, E>(
    bounds: ListBounds,
    cursor: Option<&str>,
    is_modern: impl Fn(&RawValue) -> bool,
    ask: F,
) -> Result<Box<RawValue>, E>
where
    F: Fn(Option<String>) -> Fut,
    Fut: Future<Output = Result<Box<RawValue>, E>>,
    E: From<Fault>,
{
    let member = member_of(bounds.operation);
    let first = ask(cursor.map(str::to_owned)).await?;
    if cursor.is_some() || kind_of(&first)? != AnswerKind::Complete {
        return Ok(first);
    }
    let members = Members::of(&first)?;
    let Some(mut next) = members.next_cursor(is_modern(&first)) else {
        return Ok(first);
    };
    let (entries, bytes) = (members.entries(member)?.len(), first.get().len());
    let mut merged = Merged { first: first.clone(), further: Vec::new(), entries, bytes };
    let mut seen = Vec::new();
    let further_until = Instant::now() + bounds.deadline.saturating_duration_since(Instant::now()) / 2;
    loop {
        if seen.len() + 1 >= MAX_PAGES || merged.entries >= MAX_TOOLS {
            return Ok(merged.written(member, Some(&next))?);
        }
        let Ok(further) = timeout_at(further_until, ask(Some(next.clone()))).await else {
            return Ok(merged.written(member, Some(&next))?);
        };
        let further = further?;
        merged.bytes = merged.bytes.saturating_add(further.get().len());
        if merged.bytes as u64 > bounds.most_bytes {
            return Ok(merged.written(member, Some(&next))?);
        }
        seen.push(next);
        let members = Members::of(&further)?;
        merged.entries = merged.entries.saturating_add(members.entries(member)?.len());
        let after = members.next_cursor(is_modern(&further));
        merged.further.push(further);
        match after {
            None => return Ok(merged.written(member, None)?),
            // A list that does not end: its server gives the same pages again.
            Some(after) if seen.contains(&after) => return Ok(merged.written(member, Some(&after))?),
            Some(after) => next = after,
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
