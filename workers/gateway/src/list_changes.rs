//! `list_changed`: whether a list is another one for a caller than it was told of.
//!
//! A stream reads the lists as its caller would: after the catalog was exchanged, after a server's list was read that differs from before,
//! and whenever such a list is no longer used (`ttlMs` of the server, TOOLFLEET_GATEWAY_TOOLS_TTL_MS). It compares what it has read with what
//! it has told.
//!
//! **Invariant:** a caller is told of a list only if something in it has changed that this caller may see, and once for changes that follow each
//! other closely.

use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;
use futures::future::{join, join_all};
use tokio::time::{Instant, sleep};
use toolfleet_catalog::Catalog;

use crate::caller::Caller;
use crate::client_lists::{ClientList, SeenLists};
use crate::gateway::Gateway;
use crate::read_lists::Readable;
use crate::server_lists::{LISTS_WITHIN, ListKind};

/// How often it is looked whether something has changed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long nothing else may change before clients are told.
const QUIET: Duration = Duration::from_secs(1);
/// How long changes may follow each other before clients are told.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// How long the first reading waits for the lists of servers. What is missing then is news when it comes.
const FIRST_WITHIN: Duration = Duration::from_secs(10);

/// What a stream learns of its lists.
#[derive(Debug)]
pub(crate) struct ListNews {
    pub(crate) seen: SeenLists,
    /// Those that are others than before; none at first.
    pub(crate) changed: Vec<ClientList>,
}

/// What lists depend on. A catalog is held, so that another one cannot have its place in memory.
struct Mark {
    catalog: Arc<Catalog>,
    changes: u64,
}

impl Mark {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.catalog, &other.catalog) && self.changes == other.changes
    }
}

impl Gateway {
    fn mark(&self, caller: &Caller) -> Mark {
        Mark { catalog: self.catalog(), changes: self.lists.changes(&caller.tenant) }
    }

    /// Tells of these lists for ever: first how they are, unless the caller has seen them earlier, then each change.
    pub(crate) async fn follow_lists(
        &self,
        caller: &Caller,
        lists: &[ClientList],
        earlier: Option<SeenLists>,
        tell: &UnboundedSender<ListNews>,
    ) -> Infallible {
        if lists.is_empty() {
            return std::future::pending().await;
        }
        let mut mark = self.mark(caller);
        let first = self.seen(caller, lists, Instant::now() + FIRST_WITHIN).await;
        // After the reading: a list that it has read is used as long from then on.
        let mut read_at = Instant::now();
        let changed = earlier.map_or_else(Vec::new, |earlier| earlier.changed_in(&first));
        let mut seen = first;
        let mut each = self.lists.looked_at_each(&caller.tenant).await;
        // Where nobody listens, this is dropped soon.
        let tell = |seen: &SeenLists, changed| {
            drop(tell.unbounded_send(ListNews { seen: seen.clone(), changed }));
        };
        tell(&seen, changed);
        loop {
            sleep(LOOK_EVERY).await;
            let is_changed = !self.mark(caller).is_same(&mark);
            if !is_changed && read_at.elapsed() < each {
                continue;
            }
            mark = if is_changed { self.settled(caller).await } else { self.mark(caller) };
            let read = self.seen(caller, lists, Instant::now() + LISTS_WITHIN).await;
            read_at = Instant::now();
            each = self.lists.looked_at_each(&caller.tenant).await;
            let changed = seen.changed_in(&read);
            if !changed.is_empty() {
                seen = read;
                tell(&seen, changed);
            }
        }
    }

    /// Waits until nothing has changed for a moment.
    async fn settled(&self, caller: &Caller) -> Mark {
        let (since, mut mark) = (Instant::now(), self.mark(caller));
        loop {
            sleep(QUIET).await;
            let now = self.mark(caller);
            if now.is_same(&mark) || since.elapsed() >= TOLD_WITHIN {
                return now;
            }
            mark = now;
        }
    }

    /// The lists as the caller sees them now. They are read together: one that is late makes no other one late.
    async fn seen(&self, caller: &Caller, lists: &[ClientList], until: Instant) -> SeenLists {
        let catalog = &self.catalog();
        let reading = lists.iter().map(|list| async move {
            let mut hasher = DefaultHasher::new();
            match list {
                ClientList::Tools => {
                    let (known, _) = self.definitions(catalog, caller, until).await;
                    known.hash().hash(&mut hasher);
                }
                ClientList::Prompts => {
                    let prompts = self.readable(catalog, caller, ListKind::Prompts, until).await;
                    hash(&mut hasher, ListKind::Prompts, &prompts);
                }
                ClientList::Resources => {
                    let (resources, templates) = join(
                        self.readable(catalog, caller, ListKind::Resources, until),
                        self.readable(catalog, caller, ListKind::ResourceTemplates, until),
                    )
                    .await;
                    hash(&mut hasher, ListKind::Resources, &resources);
                    hash(&mut hasher, ListKind::ResourceTemplates, &templates);
                }
            }
            (*list, hasher.finish())
        });
        let mut seen = SeenLists::default();
        for (list, hash) in join_all(reading).await {
            seen.set(list, hash);
        }
        seen
    }
}

fn hash(hasher: &mut DefaultHasher, kind: ListKind, read: &Readable) {
    for (name, entry) in &read.entries {
        (kind.member(), name, entry.get()).hash(hasher);
    }
}
