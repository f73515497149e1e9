//! The event streams of sessions that are open at this gateway.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::channel::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use uuid::Uuid;

/// By caller and session: what tells a stream from its successor, and where it is asked.
type Streams = HashMap<(String, String), (Uuid, UnboundedSender<Command>)>;

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

    /// The stream of that name is open until the value is dropped. A newer stream of a session takes the place of an older one.
    pub(crate) fn open(&self, name: (String, String), commands: UnboundedSender<Command>) -> Open<'_> {
        let serial = Uuid::new_v4();
        self.lock().insert(name.clone(), (serial, commands));
        Open { streams: self, name, serial }
    }

    pub(crate) fn find(&self, name: &(String, String)) -> Option<UnboundedSender<Command>> {
        self.lock().get(name).map(|(_, commands)| commands.clone())
    }
}

/// A stream that is open.
pub(crate) struct Open<'a> {
    streams: &'a SessionStreams,
    name: (String, String),
    serial: Uuid,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut streams = self.streams.lock();
        if streams.get(&self.name).is_some_and(|(serial, _)| *serial == self.serial) {
            streams.remove(&self.name);
        }
    }
}
