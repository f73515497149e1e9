//! Event streams that last: `subscriptions/listen` of 2026-07-28, and the stream that a GET opens for a session of older versions.
//!
//! The stream of a session is where `resources/subscribe` of that session has its effect, so both have to reach the same gateway. The id of
//! each event holds what the session has subscribed to, encrypted and bound to caller and session: a client whose gateway is gone names the
//! id to another one, which goes on with it.
//!
//! **Invariant:** what a stream has subscribed to ends with the stream.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::future::{AbortHandle, Abortable};
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use toolfleet_mcp_protocol::{Request as Notification, meta_key, result_type};

use crate::caller::Caller;
use crate::client_lists::{ClientList, SeenLists};
use crate::gateway::Gateway;
use crate::handle::Purpose;
use crate::list_changes::ListNews;
use crate::message::{Answer, Members, Request, RpcError, finish_result, raw};
use crate::per_caller::too_many_lasting;
use crate::session_streams::Command;
use crate::subscription::{Said, Subscription, Tell};

/// How many resources one stream tells of.
const MOST_RESOURCES: usize = 20;
/// How many bytes their addresses have together in the stream of a session: they are in the id of each event, which clients send in a header.
const MOST_BYTES: usize = 3_000;
/// How long a server may take to accept.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(15);
/// How long `resources/subscribe` waits for the stream of its session.
const STREAM_WITHIN: Duration = Duration::from_secs(3);

/// The key of the resources that are not subscribed to, and why, in `_meta` of what is acknowledged.
const REFUSED: &str = "toolfleet/refused";

#[derive(Deserialize)]
struct ListenParams {
    notifications: Filter,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    tools_list_changed: bool,
    #[serde(default)]
    prompts_list_changed: bool,
    #[serde(default)]
    resources_list_changed: bool,
    #[serde(default)]
    resource_subscriptions: Vec<String>,
}

impl Filter {
    /// The lists that it asks for, of those that are offered.
    fn lists(&self, offered: Vec<ClientList>) -> Vec<ClientList> {
        let is_wanted = |list: &ClientList| match list {
            ClientList::Tools => self.tools_list_changed,
            ClientList::Prompts => self.prompts_list_changed,
            ClientList::Resources => self.resources_list_changed,
        };
        offered.into_iter().filter(is_wanted).collect()
    }
}

#[derive(Deserialize)]
struct UriParams {
    uri: String,
}

/// An event of the stream of a session.
pub(crate) struct StreamEvent {
    /// What the session has subscribed to.
    pub(crate) id: Option<String>,
    /// The message; empty where only the id is told.
    pub(crate) data: String,
}

/// What the id of an event holds.
#[derive(Serialize, Deserialize)]
struct Held {
    #[serde(rename = "s")]
    session: String,
    #[serde(rename = "u")]
    uris: Vec<String>,
    /// The lists as the session was told of them.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    lists: Option<SeenLists>,
}

fn updated(uri: &str, subscription: Option<&Value>) -> String {
    let mut params = json!({ "uri": uri });
    if let (Some(params), Some(id)) = (params.as_object_mut(), subscription) {
        params.insert("_meta".to_owned(), json!({ meta_key::SUBSCRIPTION_ID: id }));
    }
    let notification = Notification::notification("notifications/resources/updated", Some(params));
    serde_json::to_string(&notification).unwrap_or_default()
}

impl Gateway {
    /// Answers `subscriptions/listen`: the answer comes when the token expires or the gateway stops, the notifications before it.
    pub(crate) async fn listen(&self, request: &Request, out: &UnboundedSender<String>) -> Answer {
        let filter = request.inbound.params::<ListenParams>()?.notifications;
        let _counted = self.lasting.count(&request.caller).ok_or_else(too_many_lasting)?;
        let lists = filter.lists(self.offered().lists());
        let mut uris = filter.resource_subscriptions;
        uris.sort_unstable();
        uris.dedup();
        if uris.len() > MOST_RESOURCES {
            let text = format!(
                "`notifications.resourceSubscriptions` has {} resources; accepted are at most {MOST_RESOURCES} in a stream",
                uris.len()
            );
            return Err(RpcError::invalid_params(text));
        }
        let id = request.inbound.id.as_deref().and_then(|id| serde_json::from_str::<Value>(id.get()).ok());
        let (tell, mut said) = mpsc::unbounded();
        let mut following: BTreeMap<String, AbortHandle> = BTreeMap::new();
        let mut running = FuturesUnordered::new();
        for uri in uris {
            let (handle, abortable) = AbortHandle::new_pair();
            following.insert(uri.clone(), handle);
            let of = Subscription { caller: request.caller.clone(), uri, is_resumed: false };
            let tell = tell.clone();
            running.push(Abortable::new(async move { self.follow(&of, &tell).await }, abortable));
        }
        let (tell_lists, mut list_news) = mpsc::unbounded();
        let mut watching = pin!(self.follow_lists(&request.caller, &lists, None, &tell_lists));
        let mut is_list_known = lists.is_empty();
        let mut undecided: BTreeSet<String> = following.keys().cloned().collect();
        let mut accepted: BTreeSet<String> = BTreeSet::new();
        let mut refused: BTreeMap<String, String> = BTreeMap::new();
        let expires = self.ends_for(&request.caller);
        let until = Instant::now() + ACCEPTED_WITHIN;
        while !undecided.is_empty() || !is_list_known {
            tokio::select! {
                Some(_ended) = running.next() => {}
                never = &mut watching => match never {},
                Some(_first) = list_news.next() => is_list_known = true,
                Some((uri, what)) = said.next() => match what {
                    Said::Accepted => { undecided.remove(&uri); accepted.insert(uri); }
                    Said::Updated => {}
                    Said::Refused(why) => {
                        undecided.remove(&uri);
                        accepted.remove(&uri);
                        refused.insert(uri, why);
                    }
                },
                () = sleep_until(until) => break,
                () = at(expires) => break,
                () = self.draining.cancelled() => break,
            }
        }
        for (uri, handle) in &following {
            if !accepted.contains(uri) {
                handle.abort();
            }
        }
        let mut meta = json!({ meta_key::SUBSCRIPTION_ID: id });
        if let (Some(members), false) = (meta.as_object_mut(), refused.is_empty()) {
            members.insert(REFUSED.to_owned(), json!(refused));
        }
        let mut notifications = serde_json::Map::new();
        notifications.insert("resourceSubscriptions".to_owned(), json!(accepted));
        notifications.extend(lists.iter().map(|list| (list.filter().to_owned(), json!(true))));
        let params = json!({"notifications": notifications, "_meta": meta});
        let acknowledged =
            Notification::notification("notifications/subscriptions/acknowledged", Some(params));
        let _gone = out.unbounded_send(serde_json::to_string(&acknowledged).unwrap_or_default());
        loop {
            tokio::select! {
                Some(_ended) = running.next() => {}
                never = &mut watching => match never {},
                Some(news) = list_news.next() => {
                    for list in news.changed {
                        let _gone = out.unbounded_send(list.changed(id.as_ref()));
                    }
                }
                Some((uri, what)) = said.next() => {
                    // Whoever reads one again that is refused now learns why.
                    let is_told = match what {
                        Said::Updated => accepted.contains(&uri),
                        Said::Refused(_) => accepted.remove(&uri),
                        Said::Accepted => false,
                    };
                    if is_told {
                        let _gone = out.unbounded_send(updated(&uri, id.as_ref()));
                    }
                }
                () = at(expires) => break,
                () = self.draining.cancelled() => break,
            }
        }
        let more = [(meta_key::SUBSCRIPTION_ID, id.unwrap_or_default())];
        Ok(finish_result(Members::new(), result_type::COMPLETE, request, &more))
    }

    /// Answers `resources/subscribe` and `resources/unsubscribe` of a session.
    pub(crate) async fn subscribe(&self, request: &Request, subscribes: bool) -> Answer {
        let uri = request.inbound.params::<UriParams>()?.uri;
        let name = (request.caller.binding(), request.session.clone().unwrap_or_default());
        let until = Instant::now() + STREAM_WITHIN;
        let commands = loop {
            match self.streams.find(&name) {
                Some(commands) => break commands,
                None if Instant::now() >= until || request.session.is_none() => {
                    let text = "The session's event stream is not open at this gateway. Open it with a GET of this address; where there are \
                                several gateways, the load balancer has to route by Mcp-Session-Id.";
                    return Err(RpcError::internal(text));
                }
                None => sleep(Duration::from_millis(50)).await,
            }
        };
        let (done, ended) = oneshot::channel();
        let command = match subscribes {
            true => Command::Subscribe { uri: uri.clone(), done },
            false => Command::Unsubscribe { uri: uri.clone(), done },
        };
        let _gone = commands.unbounded_send(command);
        match timeout(ACCEPTED_WITHIN, ended).await {
            Ok(Ok(Ok(()))) => Ok(raw(&json!({}))),
            Ok(Ok(Err(why))) => {
                Err(RpcError { data: Some(json!({ "uri": uri })), ..RpcError::invalid_params(why) })
            }
            Ok(Err(_)) => Err(RpcError::internal("The session's event stream has ended. Open it again.")),
            Err(_) => Err(RpcError::internal(
                "The server has not accepted the subscription in time. Send the request again.",
            )),
        }
    }

    /// The stream of a session: tells of what it subscribes to, until it is dropped, a newer one has its place, the token expires or the gateway
    /// stops.
    pub(crate) async fn session_stream(
        self: &Arc<Self>,
        caller: &Caller,
        session: &str,
        last_event: Option<&str>,
        out: &UnboundedSender<StreamEvent>,
    ) {
        let (commands, asked) = mpsc::unbounded();
        let name = (caller.binding(), session.to_owned());
        let open = self.streams.open(name, commands);
        let held = last_event.and_then(|id| self.sealer.open_as::<Held>(Purpose::Stream, caller, id));
        let held = held.filter(|held| held.session == session);
        let (uris, lists) = held.map(|held| (held.uris, held.lists)).unwrap_or_default();
        let stream = SessionStream { gateway: self, caller, session, out };
        tokio::select! {
            () = stream.run(asked, uris, lists) => {}
            () = open.replaced.cancelled() => {}
            () = at(self.ends_for(caller)) => {}
            () = self.draining.cancelled() => {}
        }
    }
}

impl Gateway {
    /// When a stream of the caller ends, because its token is no longer accepted.
    pub(crate) fn ends_for(&self, caller: &Caller) -> Option<Instant> {
        let left = caller.expires?.ms_since(self.now());
        Instant::now().checked_add(Duration::from_millis(left))
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

struct SessionStream<'a> {
    gateway: &'a Arc<Gateway>,
    caller: &'a Caller,
    session: &'a str,
    out: &'a UnboundedSender<StreamEvent>,
}

/// What a session is told of.
struct Told {
    following: BTreeMap<String, Following>,
    /// The lists as it was told of them; none until they were read first.
    lists: Option<SeenLists>,
}

/// A resource that a session has subscribed to.
struct Following {
    handle: AbortHandle,
    /// Who waits for the server to accept.
    done: Vec<oneshot::Sender<Result<(), String>>>,
    is_accepted: bool,
}

impl Following {
    fn wait(&mut self, done: oneshot::Sender<Result<(), String>>) {
        if self.is_accepted {
            drop(done.send(Ok(())));
        } else {
            self.done.push(done);
        }
    }
}

fn is_full(following: &BTreeMap<String, Following>, more: &str) -> bool {
    let bytes = following.keys().map(String::len).fold(more.len(), usize::saturating_add);
    following.len() >= MOST_RESOURCES || bytes > MOST_BYTES
}

impl SessionStream<'_> {
    async fn run(&self, mut asked: UnboundedReceiver<Command>, uris: Vec<String>, lists: Option<SeenLists>) {
        let (tell, mut said) = mpsc::unbounded();
        let mut running = FuturesUnordered::new();
        let mut told = Told { following: BTreeMap::new(), lists: lists.clone() };
        for uri in uris.into_iter().take(MOST_RESOURCES) {
            let (future, handle) = self.start(&uri, true, &tell);
            running.push(future);
            told.following.insert(uri, Following { handle, done: Vec::new(), is_accepted: true });
        }
        let (tell_lists, mut list_news) = mpsc::unbounded();
        let offered = self.gateway.offered().lists();
        let mut watching = pin!(self.gateway.follow_lists(self.caller, &offered, lists, &tell_lists));
        self.say(&told, String::new());
        loop {
            tokio::select! {
                Some(_ended) = running.next() => {}
                never = &mut watching => match never {},
                Some(ListNews { seen, changed }) = list_news.next() => {
                    // The id of each event holds what was told so far.
                    for list in changed {
                        told.lists.get_or_insert_default().take(list, &seen);
                        self.say(&told, list.changed(None));
                    }
                    if told.lists.replace(seen).is_none() {
                        self.say(&told, String::new());
                    }
                }
                Some(command) = asked.next() => match command {
                    Command::Subscribe { uri, done } => {
                        if let Some(known) = told.following.get_mut(&uri) {
                            known.wait(done);
                        } else if is_full(&told.following, &uri) {
                            let text = format!(
                                "A session subscribes to at most {MOST_RESOURCES} resources, with addresses of {MOST_BYTES} bytes together; end \
                                 another subscription first."
                            );
                            drop(done.send(Err(text)));
                        } else {
                            let (future, handle) = self.start(&uri, false, &tell);
                            running.push(future);
                            told.following.insert(uri, Following { handle, done: vec![done], is_accepted: false });
                        }
                    }
                    Command::Unsubscribe { uri, done } => {
                        if let Some(ended) = told.following.remove(&uri) {
                            ended.handle.abort();
                            self.say(&told, String::new());
                        }
                        drop(done.send(Ok(())));
                    }
                },
                Some((uri, what)) = said.next() => self.take(&mut told, &uri, what),
            }
        }
    }

    fn take(&self, told: &mut Told, uri: &str, what: Said) {
        match what {
            Said::Accepted => {
                let Some(one) = told.following.get_mut(uri) else { return };
                one.is_accepted = true;
                let done = std::mem::take(&mut one.done);
                // The id of this event holds the subscription before its request is answered.
                self.say(told, String::new());
                done.into_iter().for_each(|done| drop(done.send(Ok(()))));
            }
            Said::Updated if told.following.contains_key(uri) => self.say(told, updated(uri, None)),
            Said::Updated => {}
            Said::Refused(why) => {
                let Some(one) = told.following.remove(uri) else { return };
                if one.is_accepted {
                    // Whoever reads it again learns why.
                    self.say(told, updated(uri, None));
                }
                one.done.into_iter().for_each(|done| drop(done.send(Err(why.clone()))));
            }
        }
    }

    fn start(
        &self,
        uri: &str,
        is_resumed: bool,
        tell: &Tell,
    ) -> (Abortable<futures::future::BoxFuture<'static, ()>>, AbortHandle) {
        let (handle, registration) = AbortHandle::new_pair();
        let of = Subscription { caller: self.caller.clone(), uri: uri.to_owned(), is_resumed };
        let (gateway, tell) = (Arc::clone(self.gateway), tell.clone());
        let following = async move { gateway.follow(&of, &tell).await };
        (Abortable::new(Box::pin(following), registration), handle)
    }

    /// Sends an event, whose id holds what is subscribed to, and how the lists are.
    fn say(&self, told: &Told, data: String) {
        let accepted = told.following.iter().filter(|(_, one)| one.is_accepted);
        let uris = accepted.map(|(uri, _)| uri.clone()).collect();
        let held = Held { session: self.session.to_owned(), uris, lists: told.lists.clone() };
        let id = self.gateway.sealer.seal_as(Purpose::Stream, self.caller, &held);
        let _gone = self.out.unbounded_send(StreamEvent { id, data });
    }
}
