//! The event streams of sessions that are open at this gateway.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::channel::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// By caller and session.
type Streams = HashMap<(String, String), OpenStream>;

struct OpenStream {
    /// What tells it from its successor.
    serial: Uuid,
    /// Where it is asked.
    commands: UnboundedSender<Command>,
    /// Cancelled when its successor opens.
    replaced: CancellationToken,
}

/// What the stream of a session is asked to do.
pub(crate) enum Command {
    Subscribe { uri: String, done: oneshot::Sender<Result<(), String>> },
    Unsubscribe { uri: String, done: oneshot::Sender<Result<(), String>> },
}

/// The open streams, by caller and session.
#[derive(Default)]
pub(crate) struct SessionStreams(Mutex<Streams>);

impl SessionStreams {
    fn lock(&self) -> std::sync::MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of that name is open until the value is dropped. A newer stream of a session takes the place of an older one, which ends: what
    /// the session unsubscribes from would go on there.
    pub(crate) fn open(&self, name: (String, String), commands: UnboundedSender<Command>) -> Open<'_> {
        let (serial, replaced) = (Uuid::new_v4(), CancellationToken::new());
        let opened = OpenStream { serial, commands, replaced: replaced.clone() };
        if let Some(older) = self.lock().insert(name.clone(), opened) {
            older.replaced.cancel();
        }
        Open { streams: self, name, serial, replaced }
    }

    pub(crate) fn find(&self, name: &(String, String)) -> Option<UnboundedSender<Command>> {
        self.lock().get(name).map(|open| open.commands.clone())
    }
}

/// A stream that is open.
pub(crate) struct Open<'a> {
    streams: &'a SessionStreams,
    name: (String, String),
    serial: Uuid,
    /// Cancelled when a newer stream has its place.
    pub(crate) replaced: CancellationToken,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut streams = self.streams.lock();
        if streams.get(&self.name).is_some_and(|open| open.serial == self.serial) {
            streams.remove(&self.name);
        }
    }
}
