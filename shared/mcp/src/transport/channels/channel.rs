//! One connection that is kept: its pending requests, its leases, and why it ended.
//!
//! **Invariant:** a pending request is in the table or has its result; once the channel has ended the table stays empty. Whether a request
//! was written and whether it is still pending is decided under one lock.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures::FutureExt as _;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use toolfleet_core::ids::ServerId;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::protocol::revision::ProtocolRevision;
use crate::protocol::wire::{MODERN, cancelled};
use crate::transport::channels::errors::{gone, not_sent, one_line, with_words};
use crate::transport::channels::key::Key;
use crate::transport::request_error::RequestError;
use crate::transport::sent::Sent;
use crate::transport::stdio::program::Ready;
use crate::transport::stdio::stderr::Tail;

/// Messages that may wait for a peer to read on.
const MAX_QUEUED: usize = 256;
/// Notifications that may wait for their hearer; more are dropped.
const MAX_NOTICES: usize = 64;
/// Ids of requests that were given up, whose answers may still come.
const MAX_GIVEN_UP: usize = 4096;

/// Which protocol a channel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    Modern,
    Legacy(&'static str),
}

/// What a server tells about a request before it answers.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    pub(crate) method: String,
    pub(crate) params: Box<RawValue>,
}

/// A message on its way to a peer that is written to.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) body: Bytes,
    /// Whose request it is; a reply or a notification is nobody's.
    pub(crate) of: Option<u64>,
}

/// What is to be opened, and for whom.
pub(crate) struct Wanted {
    pub(crate) key: Key,
    pub(crate) endpoint: Endpoint,
    pub(crate) ready: Ready,
    pub(crate) known: Option<ProtocolRevision>,
}

/// A connection that is open.
pub(crate) struct Opened {
    pub(crate) channel: Arc<Channel>,
    /// Ends when nothing is left of it. `true` if it ended by itself.
    pub(crate) watch: Pin<Box<dyn Future<Output = bool> + Send>>,
}

type Answered = Result<Box<RawValue>, RequestError>;

/// Sends messages by requests of their own.
pub(crate) trait Poster: Send + Sync {
    /// Ends when the message is accepted or refused; `id` is that of a request.
    fn post(
        &self,
        id: Option<u64>,
        body: Bytes,
        sent: Sent,
    ) -> Pin<Box<dyn Future<Output = Result<(), RequestError>> + Send + '_>>;

    /// Sends a message without waiting; whether it arrives is not asked.
    fn post_aside(&self, body: Bytes);
}

/// How messages leave.
pub(crate) enum Outlet {
    /// One after the other, by the task that writes.
    Queue(mpsc::Sender<Outgoing>),
    /// Each by itself.
    Posts(Box<dyn Poster>),
}

#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Answered>,
    notices: mpsc::Sender<Notice>,
    sent: Sent,
}

#[derive(Debug)]
struct Table {
    waiters: HashMap<u64, Waiter>,
    given_up: VecDeque<u64>,
    /// Who waits for what the server says of resources, and of which.
    watchers: HashMap<u64, (String, mpsc::Sender<Notice>)>,
    ended: Option<Fault>,
    /// Nothing new begins with it; it is stopped when nobody holds it.
    retiring: bool,
    holders: u32,
    used: Instant,
}

/// A connection.
pub(crate) struct Channel {
    pub(crate) server: ServerId,
    /// Whose it is.
    pub(crate) key: Key,
    pub(crate) serial: u64,
    /// Where it leads.
    pub(crate) endpoint: Endpoint,
    pub(crate) born: Instant,
    pub(crate) handshake: OnceLock<Handshake>,
    /// It has ended or is to end.
    pub(crate) quit: CancellationToken,
    /// Nothing of it is left.
    pub(crate) gone: CancellationToken,
    /// Something about its holders has changed.
    pub(crate) turned: tokio::sync::Notify,
    table: Mutex<Table>,
    /// An answer has come since the handshake.
    served: AtomicBool,
    strays: AtomicU64,
    stderr: Mutex<Tail>,
    outlet: Outlet,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("server", &self.server.as_str())
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

impl Channel {
    /// A connection to which messages are written, and the messages to write.
    pub(crate) fn queued(key: Key, serial: u64, endpoint: Endpoint) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        let (lines, queued) = mpsc::channel(MAX_QUEUED);
        (Self::new(key, serial, endpoint, Outlet::Queue(lines)), queued)
    }

    pub(crate) fn new(key: Key, serial: u64, endpoint: Endpoint, outlet: Outlet) -> Arc<Self> {
        let table = Table {
            waiters: HashMap::new(),
            given_up: VecDeque::new(),
            watchers: HashMap::new(),
            ended: None,
            retiring: false,
            holders: 0,
            used: Instant::now(),
        };
        let channel = Self {
            server: key.server.clone(),
            stderr: Mutex::new(Tail::of(key.is_one_conversation())),
            key,
            serial,
            endpoint,
            born: Instant::now(),
            handshake: OnceLock::new(),
            quit: CancellationToken::new(),
            gone: CancellationToken::new(),
            turned: tokio::sync::Notify::new(),
            table: Mutex::new(table),
            served: AtomicBool::new(false),
            strays: AtomicU64::new(0),
            outlet,
        };
        Arc::new(channel)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it speaks 2026-07-28.
    pub(crate) fn is_modern(&self) -> bool {
        self.handshake.get() == Some(&Handshake::Modern)
    }

    /// The protocol version it speaks.
    pub(crate) fn version(&self) -> &'static str {
        match self.handshake.get() {
            Some(Handshake::Legacy(version)) => version,
            Some(Handshake::Modern) | None => MODERN,
        }
    }

    /// Sends a request and waits for its answer; giving up withdraws it.
    pub(crate) async fn ask(
        &self,
        id: u64,
        body: Bytes,
        sent: &Sent,
        tell: &(dyn Fn(Notice) + Send + Sync),
    ) -> Answered {
        let (answer, mut answered) = oneshot::channel();
        let (notices, mut noticed) = mpsc::channel(MAX_NOTICES);
        let asking = self.enter(id, Waiter { answer, notices, sent: sent.clone() })?;
        // The answer may come before its request is known to have left, so that both are waited for.
        let mut leaving = std::pin::pin!(self.leave(id, body, sent).fuse());
        loop {
            tokio::select! {
                biased;
                Some(notice) = noticed.recv() => tell(notice),
                answer = &mut answered => {
                    drop(asking);
                    return answer.unwrap_or_else(|_| Err(gone()));
                }
                Err(refused) = &mut leaving => {
                    asking.was_refused();
                    return Err(refused);
                }
            }
        }
    }

    /// Ends when a request is on its way; an error where it was refused.
    async fn leave(&self, id: u64, body: Bytes, sent: &Sent) -> Result<(), RequestError> {
        match &self.outlet {
            Outlet::Queue(lines) => {
                // The line's end is the message's end, and arguments come as their caller wrote them. Where nobody writes any more, the
                // end of the connection is told to who waits.
                let _queued = lines.send(Outgoing { body: one_line(body), of: Some(id) }).await;
                Ok(())
            }
            Outlet::Posts(poster) => poster.post(Some(id), body, sent.clone()).await,
        }
    }

    fn enter(&self, id: u64, waiter: Waiter) -> Result<Asking<'_>, Fault> {
        let mut table = self.table();
        if let Some(fault) = &table.ended {
            return Err(not_sent(fault));
        }
        table.waiters.insert(id, waiter);
        Ok(Asking { channel: self, id, withdraws: true })
    }

    /// Sends what nobody waits for; where too much waits already, it is left out.
    pub(crate) fn tell(&self, body: Bytes) {
        match &self.outlet {
            Outlet::Queue(lines) => {
                if lines.try_send(Outgoing { body: one_line(body), of: None }).is_err() {
                    tracing::debug!(server = %self.server, "a notification or reply is left out: the server does not read");
                }
            }
            Outlet::Posts(poster) => poster.post_aside(body),
        }
    }

    /// Sends a notification that has to arrive before the next request.
    pub(crate) async fn tell_first(&self, body: Bytes) -> Result<(), RequestError> {
        match &self.outlet {
            Outlet::Queue(_) => {
                self.tell(body);
                Ok(())
            }
            Outlet::Posts(poster) => poster.post(None, body, Sent::default()).await,
        }
    }

    /// Whether the line is still wanted, which from now on counts as written.
    pub(crate) fn begins_to_leave(&self, of: Option<u64>) -> bool {
        let Some(id) = of else { return true };
        match self.table().waiters.get(&id) {
            Some(waiter) => waiter.sent.set(),
            None => false,
        }
    }

    /// Not a byte of the line has left after all.
    pub(crate) fn has_not_left(&self, of: Option<u64>) {
        if let Some(waiter) =
            of.and_then(|id| self.table().waiters.get(&id).map(|waiter| waiter.sent.clone()))
        {
            waiter.clear();
        }
    }

    /// Gives an answer to its waiter. `false` where nobody ever asked with that id, or the question has not left yet: then it answers the
    /// question of another client.
    pub(crate) fn answer(&self, id: u64, answer: Answered) -> bool {
        let mut table = self.table();
        if table.waiters.get(&id).is_some_and(|waiter| !waiter.sent.is_set()) {
            return false;
        }
        match table.waiters.remove(&id) {
            Some(waiter) => {
                if self.handshake.get().is_some() {
                    self.served.store(true, Ordering::Relaxed);
                }
                // Who gave up a moment ago does not hear it.
                let _heard = waiter.answer.send(answer);
                true
            }
            None => table.given_up.contains(&id),
        }
    }

    /// The id of the one request under way.
    pub(crate) fn only_waiter(&self) -> Option<u64> {
        let table = self.table();
        let mut ids = table.waiters.keys();
        ids.next().copied().filter(|_| ids.next().is_none())
    }

    pub(crate) fn notify(&self, id: u64, notice: Notice) {
        if let Some(waiter) = self.table().waiters.get(&id) {
            // What nobody can follow any more is left out.
            let _followed = waiter.notices.try_send(notice);
        }
    }

    /// Sends the notifications about that resource there until the value is dropped.
    pub(crate) fn watch(&self, id: u64, uri: &str, words: mpsc::Sender<Notice>) -> Watching<'_> {
        self.table().watchers.insert(id, (uri.to_owned(), words));
        Watching { channel: self, id }
    }

    /// Tells those who watch the resource, or what it is a part of. All are told where there is no address, or one that nobody watches: the
    /// server may write an address in another way than it was asked for, and to read once too often is cheap.
    pub(crate) fn tell_watchers(&self, uri: Option<&str>, notice: &Notice) {
        let table = self.table();
        let concerns = |watched: &str| uri.is_some_and(|uri| is_within(uri, watched));
        let goes_to_all = !table.watchers.values().any(|(watched, _)| concerns(watched));
        for (watched, words) in table.watchers.values() {
            if goes_to_all || concerns(watched) {
                // Who cannot follow has a notification of it that waits.
                let _followed = words.try_send(notice.clone());
            }
        }
    }

    /// Whether others watch the resource.
    pub(crate) fn is_watched(&self, uri: &str) -> bool {
        self.table().watchers.values().any(|(watched, _)| watched == uri)
    }

    /// Sends a request whose answer nobody waits for.
    pub(crate) fn ask_aside(&self, id: u64, body: Bytes) {
        self.table().given_up.push_back(id);
        self.tell(body);
    }

    /// How many lines of it were skipped, with this one.
    pub(crate) fn count_stray(&self) -> u64 {
        self.strays.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Ends every waiter: as a connection that was not there where its request was not written, else with `fault`.
    pub(crate) fn end(&self, fault: Fault) {
        let waiters = {
            let mut table = self.table();
            if table.ended.is_some() {
                return;
            }
            table.ended = Some(fault.clone());
            std::mem::take(&mut table.waiters)
        };
        self.quit.cancel();
        for (id, waiter) in waiters {
            let told = with_words(fault.clone(), &self.said_to(Some(id)));
            let met = if waiter.sent.give_up() { not_sent(&told) } else { told };
            let _heard = waiter.answer.send(Err(met.into()));
        }
    }

    /// Holds it, unless it has ended or is about to.
    pub(crate) fn hold(self: &Arc<Self>) -> Option<Lease> {
        let mut table = self.table();
        if table.ended.is_some() || table.retiring {
            return None;
        }
        table.holders = table.holders.saturating_add(1);
        Some(Lease(Arc::clone(self)))
    }

    /// How many hold it, unless nothing new begins with it.
    pub(crate) fn holders(&self) -> Option<u32> {
        let table = self.table();
        (table.ended.is_none() && !table.retiring).then_some(table.holders)
    }

    /// Lets nothing new begin; it ends when nobody holds it.
    pub(crate) fn retire(&self) {
        self.table().retiring = true;
        self.turned.notify_one();
    }

    /// Retires it if nobody holds it.
    pub(crate) fn retire_idle(&self) -> bool {
        let mut table = self.table();
        let idle = table.holders == 0 && table.ended.is_none() && !table.retiring;
        table.retiring |= idle;
        drop(table);
        self.turned.notify_one();
        idle
    }

    /// Since when nobody holds it.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let table = self.table();
        (table.holders == 0).then_some(table.used)
    }

    /// Whether it is to be stopped: nobody holds it, and it is retiring or has been unused for `idle`.
    pub(crate) fn is_due(&self, idle: std::time::Duration) -> bool {
        let mut table = self.table();
        let due = table.holders == 0 && (table.retiring || table.used.elapsed() >= idle);
        table.retiring |= due;
        due
    }

    /// Remembers a line of its stderr, and of whose request it may tell.
    pub(crate) fn remember_line(&self, line: String) {
        let of = if self.handshake.get().is_none() { None } else { Some(self.only_waiter()) };
        self.stderr().push(line, of);
    }

    /// The last lines of its stderr that the caller with that request may read, as a part of a sentence; empty where there is none.
    pub(crate) fn said_to(&self, request: Option<u64>) -> String {
        self.stderr().said_to(request)
    }

    fn stderr(&self) -> MutexGuard<'_, Tail> {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn scrubbed(&self, text: String) -> String {
        self.endpoint.text_without_echo(text)
    }

    /// Whether it answered anything after its handshake.
    pub(crate) fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }
}

/// A request under way. Dropped before its answer, it is withdrawn.
struct Asking<'a> {
    channel: &'a Channel,
    id: u64,
    withdraws: bool,
}

impl Asking<'_> {
    /// It was refused: there is nothing to withdraw.
    fn was_refused(mut self) {
        self.withdraws = false;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut table = self.channel.table();
        let Some(waiter) = table.waiters.remove(&self.id) else {
            return;
        };
        if !waiter.sent.is_set() {
            return;
        }
        table.given_up.push_back(self.id);
        if table.given_up.len() > MAX_GIVEN_UP {
            table.given_up.pop_front();
        }
        drop(table);
        // The specification forbids to withdraw what opens a session.
        if self.withdraws && self.channel.handshake.get().is_some() {
            self.channel.tell(cancelled(self.id));
        }
    }
}

/// Whether an address is that of the resource, or of a part of it.
fn is_within(uri: &str, resource: &str) -> bool {
    let part = uri.strip_prefix(resource.trim_end_matches('/'));
    part.is_some_and(|part| part.is_empty() || part.starts_with(['/', '?', '#']))
}

/// Somebody who watches a resource.
pub(crate) struct Watching<'a> {
    channel: &'a Channel,
    id: u64,
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.channel.table().watchers.remove(&self.id);
    }
}

/// The right to ask a channel, which keeps it from being stopped as unused.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Channel>);

impl std::ops::Deref for Lease {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut table = self.0.table();
        table.holders = table.holders.saturating_sub(1);
        table.used = Instant::now();
        drop(table);
        self.0.turned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::channels::key::{Kind, User};

    fn channel() -> (Arc<Channel>, mpsc::Receiver<Outgoing>) {
        let server = ServerId::parse("s").unwrap();
        let endpoint = Endpoint {
            server: server.clone(),
            url: "https://example.com/sse".parse().unwrap(),
            headers: http::HeaderMap::new(),
            auth: None,
            tenant: None,
            transport: crate::endpoint::EndpointTransport::Sse { stateless: false },
        };
        Channel::queued(Key { server, tenant: None, user: User::All(0), kind: Kind::Connection }, 1, endpoint)
    }

    #[tokio::test]
    async fn what_is_said_of_a_resource_goes_to_those_who_watch_it() {
        let (channel, mut lines) = channel();
        let say = |uri: &str| {
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}"#
            );
            channel.take_text(text.as_bytes());
        };
        let (first, mut of_first) = mpsc::channel(2);
        let (second, mut of_second) = mpsc::channel(2);
        let (other, mut of_other) = mpsc::channel(2);
        let watching = channel.watch(1, "note:1", first);
        let again = channel.watch(2, "note:1", second);
        let _other = channel.watch(3, "note:2", other);
        say("note:1");
        assert!(of_first.try_recv().is_ok() && of_second.try_recv().is_ok() && of_other.try_recv().is_err());
        drop(watching);
        assert!(channel.is_watched("note:1"), "another one watches it");
        say("note:1");
        assert!(of_first.try_recv().is_err() && of_second.try_recv().is_ok());
        drop(again);
        assert!(!channel.is_watched("note:1"));
        // Who does not read what was said loses what comes after, and is not waited for.
        (0..5).for_each(|_| say("note:2"));
        assert_eq!(std::iter::from_fn(|| of_other.try_recv().ok()).count(), 2);
        channel.ask_aside(9, Bytes::from_static(b"{}"));
        assert_eq!(lines.recv().await.unwrap().of, None);
        assert!(channel.answer(9, Ok(RawValue::NULL.to_owned())), "its answer is no stray message");
    }

    #[tokio::test]
    async fn what_is_said_of_a_part_or_in_another_spelling_reaches_those_who_watch() {
        let (channel, _lines) = channel();
        let say = |params: &str| {
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{params}}}"#
            );
            channel.take_text(text.as_bytes());
        };
        let (notes, mut of_notes) = mpsc::channel(9);
        let (other, mut of_other) = mpsc::channel(9);
        let _notes = channel.watch(1, "file:///notes/", notes);
        let _other = channel.watch(2, "file:///notes2", other);
        let mut told = move || (of_notes.try_recv().is_ok(), of_other.try_recv().is_ok());
        for (params, expected) in [
            (r#"{"uri":"file:///notes/"}"#, (true, false)),
            (r#"{"uri":"file:///notes"}"#, (true, false)),
            (r#"{"uri":"file:///notes/a"}"#, (true, false)),
            (r#"{"uri":"file:///notes2#a"}"#, (false, true)),
            // What matches no watch may be meant for any of them.
            (r#"{"uri":"file:///n%6Ftes/"}"#, (true, true)),
            (r#"{"uri":"file:///notes20"}"#, (true, true)),
            ("{}", (true, true)),
        ] {
            say(params);
            assert_eq!(told(), expected, "{params}");
        }
    }

    /// A bridge may send the answers of one client to all that are connected.
    #[tokio::test]
    async fn an_answer_before_its_question_has_left_is_of_another_client() {
        let (channel, mut lines) = channel();
        let result = || Ok(RawValue::from_string("{}".to_owned()).unwrap());
        let sent = Sent::default();
        let asking = channel.ask(7, Bytes::from_static(b"{}"), &sent, &|_| {});
        let mut asking = std::pin::pin!(asking);
        tokio::select! {
            biased;
            _ = &mut asking => panic!("nobody has answered"),
            line = lines.recv() => assert_eq!(line.unwrap().of, Some(7)),
        }
        assert!(!channel.answer(7, result()), "the question waits to be written");
        assert!(channel.begins_to_leave(Some(7)));
        assert!(channel.answer(7, result()));
        assert!(asking.await.is_ok());
    }
}
