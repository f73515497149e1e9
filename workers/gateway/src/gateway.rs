//! The gateway: what all requests share, and which method answers a request.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use toolfleet_catalog::Catalog;
use toolfleet_client::{Client, Now};
use toolfleet_core::time::Timestamp;
use toolfleet_mcp_protocol::{
    ProtocolRevision, ProtocolVersion, cache_scope, error_code, meta_key, method, result_type,
};

use crate::auth::{Authenticator, Refusal};
use crate::caller::Caller;
use crate::client_lists::ClientList;
use crate::definitions::DefinitionReader;
use crate::handle::Sealer;
use crate::in_flight::{InFlight, RequestName};
use crate::known_definitions::{Known, KnownDefinitions};
use crate::message::{Answer, Members, Notifications, Request, RpcError, finish_result, raw, server_info};
use crate::per_caller::{MOST_LASTING, MOST_SUBSCRIPTIONS, PerCaller};
use crate::sent_answers::SentAnswers;
use crate::server_lists::{ListKind, ServerLists};
use crate::session_streams::SessionStreams;

/// The versions with sessions that clients may use. 2024-11-05 has another transport.
const LEGACY: [ProtocolVersion; 3] =
    [ProtocolVersion::V2025_11_25, ProtocolVersion::V2025_06_18, ProtocolVersion::V2025_03_26];

/// How long a client may use what `server/discover` says, in milliseconds.
const DISCOVER_TTL_MS: u64 = 300_000;

const INSTRUCTIONS: &str = "Tools of a toolfleet. A call that takes long goes on as a task, or its answer names a handle: pass that to the \
                            tool get_result instead of calling the tool again.";

/// The bounds of a gateway.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a call is waited for.
    pub wait: Duration,
    /// The same for a client that takes tasks.
    pub task_after: Duration,
    /// How long a client is waited for that was asked for input within a response.
    pub answered_within: Duration,
    /// How many entries a page of a list has.
    pub page: usize,
    /// Above how many tools `search_tools` is offered.
    pub search_above: usize,
    /// How long a list of a server is used.
    pub tools_ttl: Duration,
    /// The largest request in bytes.
    pub max_body_bytes: usize,
    /// How many requests are answered at once, and how many event streams that last.
    pub max_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(55),
            task_after: Duration::from_secs(55),
            answered_within: Duration::from_secs(3_600),
            page: 100,
            search_above: 30,
            tools_ttl: Duration::from_secs(300),
            max_body_bytes: 4 * 1_048_576,
            max_requests: 1_024,
        }
    }
}

/// What a gateway is made of.
pub struct Parts {
    /// The fleet.
    pub client: Client,
    /// The catalog; whoever exchanges it changes what is published.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Who may send requests.
    pub authenticator: Authenticator,
    /// The keys of handles.
    pub sealer: Sealer,
    /// The bounds.
    pub limits: Limits,
    /// The clock.
    pub now: Now,
}

/// A gateway.
pub struct Gateway {
    pub(crate) client: Client,
    catalog: Arc<ArcSwap<Catalog>>,
    pub(crate) authenticator: Authenticator,
    pub(crate) sealer: Sealer,
    pub(crate) limits: Limits,
    pub(crate) in_flight: InFlight,
    /// Cancelled when the gateway stops: waiting requests are answered at once.
    pub(crate) draining: CancellationToken,
    pub(crate) lists: Arc<ServerLists>,
    known: KnownDefinitions,
    pub(crate) streams: SessionStreams,
    pub(crate) subscribers: PerCaller,
    /// The requests that last.
    pub(crate) lasting: PerCaller,
    pub(crate) sent_answers: SentAnswers,
    now: Now,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialize {
    #[serde(default)]
    protocol_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancelled {
    request_id: Box<RawValue>,
}

impl Gateway {
    /// A gateway of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { client, catalog, authenticator, sealer, limits, now } = parts;
        let draining = CancellationToken::new();
        Self {
            in_flight: InFlight::new(client.clone(), draining.clone()),
            lists: Arc::new(ServerLists::new(client.clone(), limits.tools_ttl)),
            known: KnownDefinitions::default(),
            streams: SessionStreams::default(),
            subscribers: PerCaller::new(MOST_SUBSCRIPTIONS),
            lasting: PerCaller::new(MOST_LASTING),
            sent_answers: SentAnswers::default(),
            client,
            catalog,
            authenticator,
            sealer,
            limits,
            draining,
            now,
        }
    }

    /// The catalog now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// Who sends a request with these headers, and the session of its calls.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let caller = self.authenticator.caller(headers).await?;
        let opens_sessions = self.catalog().opens_sessions(&caller.tenant);
        Ok(caller.in_conversation(self.authenticator.session_source(), opens_sessions, self.now()))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// Reads definitions for a caller; a server's list is waited for until then.
    pub(crate) fn reader<'a>(
        &'a self,
        catalog: &'a Catalog,
        caller: &'a Caller,
        until: Instant,
    ) -> DefinitionReader<'a> {
        DefinitionReader { catalog, lists: &self.lists, caller, until }
    }

    /// All that the caller may use, and until when the lists are used that it is made of. Lists of servers are waited for until then.
    pub(crate) async fn definitions(
        &self,
        catalog: &Arc<Catalog>,
        caller: &Caller,
        until: Instant,
    ) -> (Arc<Known>, Option<Instant>) {
        self.known.of(catalog, &self.reader(catalog, caller, until), self.limits.search_above).await
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: &Request, notifications: &Notifications) -> Answer {
        let name = request.inbound.method.as_str();
        let offered = Offered::of(&self.catalog());
        if let Some(asked) = offered.takes(name) {
            return match asked {
                Reading::List(kind) => self.list_readable(request, kind).await,
                Reading::Resource => Box::pin(self.read_resource(request, notifications)).await,
                Reading::Prompt => Box::pin(self.get_prompt(request, notifications)).await,
                Reading::Completion => Box::pin(self.complete(request)).await,
            };
        }
        match (request.version.revision(), name) {
            (_, method::TOOLS_LIST) => self.list_tools(request).await,
            (_, method::TOOLS_CALL) => Box::pin(self.call_tool(request, notifications)).await,
            (ProtocolRevision::Modern, method::DISCOVER) => Ok(self.discover(request)),
            (ProtocolRevision::Modern, method::TASKS_GET) => self.get_task(request).await,
            (ProtocolRevision::Modern, method::TASKS_UPDATE) => Box::pin(self.update_task(request)).await,
            (ProtocolRevision::Modern, method::TASKS_CANCEL) => self.cancel_task(request).await,
            (ProtocolRevision::Modern, method::SUBSCRIPTIONS_LISTEN) => match notifications {
                Some(out) => Box::pin(self.listen(request, out)).await,
                None => Err(RpcError::invalid_params(
                    "`Accept` lacks text/event-stream, which notifications need",
                )),
            },
            (ProtocolRevision::Legacy, method::TASKS_GET) if request.has_task_requests() => {
                self.get_requested_task(request).await
            }
            (ProtocolRevision::Legacy, method::TASKS_RESULT) if request.has_task_requests() => {
                Box::pin(self.requested_result(request, notifications)).await
            }
            (ProtocolRevision::Legacy, method::TASKS_CANCEL) if request.has_task_requests() => {
                self.cancel_requested_task(request).await
            }
            (ProtocolRevision::Legacy, method::RESOURCES_SUBSCRIBE) if offered.subscriptions => {
                self.subscribe(request, true).await
            }
            (ProtocolRevision::Legacy, method::RESOURCES_UNSUBSCRIBE) if offered.subscriptions => {
                self.subscribe(request, false).await
            }
            (ProtocolRevision::Legacy, method::INITIALIZE) => self.initialize(request),
            (ProtocolRevision::Legacy, method::PING) => Ok(raw(&json!({}))),
            (revision, _) => {
                let status = match revision {
                    ProtocolRevision::Modern => StatusCode::NOT_FOUND,
                    ProtocolRevision::Legacy => StatusCode::OK,
                };
                let text = format!("Method not found: {}{}", crate::message::shown(name), without(name));
                Err(RpcError::new(status, error_code::METHOD_NOT_FOUND, text))
            }
        }
    }

    /// Takes a notification. A cancellation of a request that this gateway answers cancels its call.
    pub(crate) async fn take_notification(&self, request: &Request) {
        if request.inbound.method != method::CANCELLED {
            return;
        }
        let Ok(Cancelled { request_id }) = request.inbound.params() else { return };
        let name = RequestName::of(&request.caller, request.session.as_deref(), request_id.get());
        let Some(key) = name.and_then(|name| self.in_flight.find(&name)) else { return };
        if let Err(error) = self.client.cancel(&key).await {
            tracing::warn!(%error, call_id = %key.call_id, code = "gateway_cancel_failed", "a cancellation is not stored");
        }
    }
}

/// What is offered beside tools: what the catalog publishes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offered {
    prompts: bool,
    resources: bool,
    subscriptions: bool,
}

/// A method that is offered so.
enum Reading {
    List(ListKind),
    Resource,
    Prompt,
    Completion,
}

impl Offered {
    fn of(catalog: &Catalog) -> Self {
        let published = catalog.published();
        Self {
            prompts: !published.prompts().is_empty(),
            resources: !published.resources().is_empty(),
            subscriptions: published.resources().has_subscriptions(),
        }
    }

    fn takes(self, name: &str) -> Option<Reading> {
        let Self { prompts, resources, .. } = self;
        match name {
            method::PROMPTS_LIST if prompts => Some(Reading::List(ListKind::Prompts)),
            method::PROMPTS_GET if prompts => Some(Reading::Prompt),
            method::RESOURCES_LIST if resources => Some(Reading::List(ListKind::Resources)),
            method::RESOURCE_TEMPLATES_LIST if resources => Some(Reading::List(ListKind::ResourceTemplates)),
            method::RESOURCES_READ if resources => Some(Reading::Resource),
            method::COMPLETION_COMPLETE if prompts || resources => Some(Reading::Completion),
            _ => None,
        }
    }

    /// Whether clients of that version can be told that a list has changed: they have streams for it.
    fn tells_of_lists(self, version: ProtocolVersion) -> bool {
        match version.revision() {
            ProtocolRevision::Modern => true,
            ProtocolRevision::Legacy => self.subscriptions,
        }
    }

    /// The lists that clients are told of.
    pub(crate) fn lists(self) -> Vec<ClientList> {
        let prompts = self.prompts.then_some(ClientList::Prompts);
        let resources = self.resources.then_some(ClientList::Resources);
        [Some(ClientList::Tools), prompts, resources].into_iter().flatten().collect()
    }

    fn capabilities(self, version: ProtocolVersion) -> Value {
        let mut members = serde_json::Map::new();
        let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
        let list = match self.tells_of_lists(version) {
            true => json!({"listChanged": true}),
            false => json!({}),
        };
        add("tools", list.clone());
        if self.prompts {
            add("prompts", list.clone());
        }
        if self.resources {
            let mut resources = list;
            if let Some(members) = resources.as_object_mut().filter(|_| self.subscriptions) {
                members.insert("subscribe".to_owned(), json!(true));
            }
            add("resources", resources);
        }
        if self.prompts || self.resources {
            add("completions", json!({}));
        }
        if version == ProtocolVersion::V2025_11_25 {
            add("tasks", json!({"cancel": {}, "requests": {"tools": {"call": {}}}}));
        }
        if version.revision() == ProtocolRevision::Modern {
            add("extensions", json!({meta_key::TASKS_EXTENSION: {}}));
        }
        Value::Object(members)
    }
}

/// What a client that asks for notifications can do instead.
fn without(name: &str) -> &'static str {
    match name {
        method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE | method::SUBSCRIPTIONS_LISTEN => {
            ". This server sends no notifications of changes; list and read again."
        }
        method::TASKS_LIST => ". Tasks are not listed: keep their ids.",
        _ => "",
    }
}

impl Gateway {
    /// Whether sessions have event streams: where clients are told of updates of resources.
    pub(crate) fn has_session_streams(&self) -> bool {
        self.offered().subscriptions
    }

    pub(crate) fn offered(&self) -> Offered {
        Offered::of(&self.catalog())
    }

    fn discover(&self, request: &Request) -> Box<RawValue> {
        let mut members = Members::new();
        members.insert("supportedVersions".to_owned(), raw(&supported()));
        members.insert("capabilities".to_owned(), raw(&self.offered().capabilities(request.version)));
        members.insert("instructions".to_owned(), raw(&INSTRUCTIONS));
        members.insert("ttlMs".to_owned(), raw(&DISCOVER_TTL_MS));
        members.insert("cacheScope".to_owned(), raw(&cache_scope::PUBLIC));
        finish_result(members, result_type::COMPLETE, request, &[])
    }

    fn initialize(&self, request: &Request) -> Answer {
        let version = negotiated(request)?;
        Ok(raw(&json!({
            "protocolVersion": version.as_str(),
            "capabilities": self.offered().capabilities(version),
            "serverInfo": server_info(),
            "instructions": INSTRUCTIONS,
        })))
    }
}

/// The version of the session that the request opens.
pub(crate) fn negotiated(request: &Request) -> Result<ProtocolVersion, RpcError> {
    let wanted: Initialize = request.inbound.params()?;
    Ok(legacy(&wanted.protocol_version).unwrap_or(ProtocolVersion::LATEST_LEGACY))
}

/// The versions, newest first.
pub(crate) fn supported() -> Vec<&'static str> {
    std::iter::once(ProtocolVersion::MODERN).chain(LEGACY).map(ProtocolVersion::as_str).collect()
}

/// The version with sessions of that text, if the gateway speaks it.
pub(crate) fn legacy(text: &str) -> Option<ProtocolVersion> {
    ProtocolVersion::parse(text).filter(|version| LEGACY.contains(version))
}
