//! Finds out why a server refuses `initialize` with HTTP 400, 404 or 405: it speaks the old HTTP+SSE transport, or no MCP at this address.
//!
//! One GET tells: the transport of 2024-11-05 starts an event stream with an `endpoint` event. It runs no tool, and its result is cached.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use reqwest::Response;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::transport::http::requests::Transport;
use crate::transport::request_error::RequestError;

/// How long the server may take to begin its stream.
const LOOK_WITHIN: Duration = Duration::from_secs(3);
/// How much of a stream is read before its first event.
const MOST_BYTES: usize = 8 * 1024;
/// How long it is remembered what was found.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// Addresses remembered at once.
const MOST_ADDRESSES: usize = 1_000;

/// What is at an address that refuses a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The transport of 2024-11-05.
    OldTransport,
    /// Something else, that says so.
    NoMcp,
    /// No answer, or one that says nothing of it.
    Unknown,
}

type Slot = Arc<AsyncMutex<Option<(Found, Instant)>>>;

/// Why `initialize` was refused.
#[derive(Debug)]
pub(crate) enum ToldApart {
    /// The address speaks the transport of 2024-11-05.
    OldTransport,
    /// It does not; with what is wrong with the address where that can be found out.
    Fault(Fault),
}

/// What was found at which address.
#[derive(Debug, Default)]
pub(crate) struct WrongAddresses(Mutex<HashMap<String, Slot>>);

impl WrongAddresses {
    /// What is behind a refused `initialize`.
    pub(crate) async fn told_apart(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        error: RequestError,
    ) -> ToldApart {
        let is_refused = error
            .refusal
            .as_ref()
            .is_some_and(|refusal| matches!(refusal.status, 400 | 404 | 405) && refusal.code.is_none());
        let Fault::ClientStatus { status, detail } = &error.fault else {
            return ToldApart::Fault(error.fault);
        };
        if !is_refused {
            return ToldApart::Fault(error.fault);
        }
        ToldApart::Fault(match self.found(transport, endpoint).await {
            Found::OldTransport => return ToldApart::OldTransport,
            Found::NoMcp => match hint(&endpoint.url) {
                Some(hint) => {
                    let detail = if detail.is_empty() { hint } else { format!("{detail} ({hint})") };
                    Fault::ClientStatus { status: *status, detail }
                }
                None => error.fault,
            },
            Found::Unknown => error.fault,
        })
    }

    /// Whether it is remembered that the address speaks the transport of 2024-11-05.
    pub(crate) async fn is_old_transport(&self, endpoint: &Endpoint) -> bool {
        let key = key_of(endpoint);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        match known {
            Some(slot) => {
                let known = *slot.lock().await;
                matches!(known, Some((Found::OldTransport, until)) if until > Instant::now())
            }
            None => false,
        }
    }

    /// What is remembered of the address is not true any more.
    pub(crate) async fn forget(&self, endpoint: &Endpoint) {
        *self.slot(endpoint).lock().await = None;
    }

    /// What is remembered of the address, or what a GET finds there. One caller asks for all.
    async fn found(&self, transport: &Transport, endpoint: &Endpoint) -> Found {
        let slot = self.slot(endpoint);
        let mut known = slot.lock().await;
        if let Some((found, until)) = *known
            && until > Instant::now()
        {
            return found;
        }
        let found = timeout(LOOK_WITHIN, look(transport, endpoint)).await.unwrap_or(Found::Unknown);
        *known = Some((found, Instant::now() + REMEMBERED_FOR));
        found
    }

    fn slot(&self, endpoint: &Endpoint) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key_of(endpoint);
        if slots.len() >= MOST_ADDRESSES && !slots.contains_key(&key) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

/// The credential that a tenant has may decide what is at an address.
fn key_of(endpoint: &Endpoint) -> String {
    let tenant = endpoint.tenant.as_ref().map(|tenant| tenant.as_str()).unwrap_or_default();
    format!("{} {tenant} {}", endpoint.server, endpoint.url)
}

async fn look(transport: &Transport, endpoint: &Endpoint) -> Found {
    let response = match transport.look(endpoint).await {
        Ok(response) => response,
        Err(_) => return Found::Unknown,
    };
    let status = response.status().as_u16();
    let media =
        response.headers().get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    match (status, media.trim_start().to_ascii_lowercase().starts_with("text/event-stream")) {
        (200..=299, true) if begins_with_endpoint(response).await => Found::OldTransport,
        (401 | 403 | 407 | 408 | 429 | 500.., _) => Found::Unknown,
        (_, _) => Found::NoMcp,
    }
}

/// Whether the first event of a stream is the `endpoint` event. Comments and other fields may come before it.
async fn begins_with_endpoint(mut response: Response) -> bool {
    let mut text = Vec::new();
    while text.len() < MOST_BYTES {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        text.extend_from_slice(&chunk);
        // Only whole lines are judged.
        let whole = text.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or_default();
        let lines = String::from_utf8_lossy(text.get(..whole).unwrap_or_default()).into_owned();
        let mut events = lines.split(['\n', '\r']).filter_map(|line| line.strip_prefix("event:"));
        if let Some(event) = events.next() {
            return event.trim() == "endpoint";
        }
    }
    false
}

/// What to try in place of an address without the usual path.
fn hint(url: &Url) -> Option<String> {
    let path = url.path().trim_end_matches('/');
    if path.ends_with("/mcp") {
        return None;
    }
    let path = if path.is_empty() { "/" } else { path };
    Some(format!(
        "nothing at this address speaks MCP; its path is `{path}`, and that of a streamable HTTP server is often `/mcp`: check `url`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_without_the_usual_path_gets_a_hint() {
        for (url, path) in [
            ("http://h", Some("`/`")),
            ("http://h/sse/", Some("`/sse`")),
            ("http://h/api?x=1", Some("`/api`")),
        ] {
            let hint = hint(&url.parse().unwrap());
            assert!(hint.as_deref().unwrap_or_default().contains(path.unwrap_or("?")), "{url}: {hint:?}");
        }
        for url in ["http://h/mcp", "http://h/mcp/", "http://h/a/mcp"] {
            assert_eq!(hint(&url.parse().unwrap()), None, "{url}");
        }
    }
}
