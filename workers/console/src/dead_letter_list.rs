//! Reads the dead-letter queue for its page, as `toolfleet dlq list` does: each message is hidden while it is read, and visible again afterwards.
//!
//! A reading serves all visitors for a while, and two never run at once: a page that is loaded again and again hides nothing again and again.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;
use toolfleet_client::{AwsError, Client, DeadLetter, DeadLetters, Depth, RedriveRules};
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

/// How long a reading is shown.
const SHOWN_FOR: Duration = Duration::from_secs(15);
/// How many messages are read at most.
pub(crate) const MOST: usize = 200;
/// How long is read at most.
const LONGEST: Duration = Duration::from_secs(4);

/// The last reading. Whoever holds the lock reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cache(Arc<Mutex<Last>>);

/// The last reading, and when it began to be shown.
type Last = Option<(Instant, Arc<Letters>)>;

/// What a reading found.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    /// When; none where the calls queue has no dead-letter queue.
    pub(crate) at: Option<Timestamp>,
    /// The letters, the oldest call first.
    pub(crate) all: Vec<Letter>,
    /// Whether all of the queue was read.
    pub(crate) is_complete: bool,
    /// How many messages stay hidden for half a minute, because the queue did not take them back.
    pub(crate) still_hidden: usize,
}

/// One dead letter, as far as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) key: Option<CallKey>,
    pub(crate) tool: Option<String>,
    pub(crate) reason: String,
    pub(crate) problem: Option<String>,
    pub(crate) may_have_run: bool,
    pub(crate) class: &'static str,
    pub(crate) first_sent: Timestamp,
    pub(crate) received: u32,
    pub(crate) message_id: String,
}

/// The console has no catalog: a call is safe to repeat where its caller says so, and may have been sent without a claim if it has no row.
struct NoCatalog;

impl RedriveRules for NoCatalog {
    fn is_fleet(&self, _sender: &str) -> Option<bool> {
        None
    }

    fn may_speak_for(&self, _sender: &str, _tenant: &Tenant) -> Option<bool> {
        None
    }

    fn is_repeatable(&self, request: &CallRequest) -> bool {
        request.idempotent
    }
}

impl Cache {
    /// The letters, read now or a moment ago.
    pub(crate) async fn letters(&self, client: &Client, now: Timestamp) -> Result<Arc<Letters>, AwsError> {
        let (own, client) = (Self(Arc::clone(&self.0)), client.clone());
        // A visitor who goes away must not leave messages hidden.
        let reading = tokio::spawn(async move { own.read(&client, now).await });
        reading.await.map_err(|_| AwsError::passing("the reading was interrupted"))?
    }

    /// While it is held, nobody else of this console reads the queue.
    pub(crate) async fn alone(&self) -> impl Drop + use<> {
        Arc::clone(&self.0).lock_owned().await
    }

    async fn read(&self, client: &Client, now: Timestamp) -> Result<Arc<Letters>, AwsError> {
        let mut last = self.0.lock().await;
        if let Some((_, letters)) = last.as_ref().filter(|(at, _)| at.elapsed() < SHOWN_FOR) {
            return Ok(Arc::clone(letters));
        }
        let letters = Arc::new(match client.dead_letters().await? {
            Some(dead) => read(&dead, now).await?,
            None => Letters::default(),
        });
        *last = Some((Instant::now(), Arc::clone(&letters)));
        Ok(letters)
    }
}

async fn read(dead: &DeadLetters, now: Timestamp) -> Result<Letters, AwsError> {
    let Depth { visible, in_flight, .. } = dead.depth().await?;
    let expected = usize::try_from(visible).unwrap_or(usize::MAX);
    let (mut look, until) = (dead.look(), Instant::now() + LONGEST);
    let mut found: Vec<DeadLetter> = Vec::new();
    // The queue counts approximately; an empty receive would wait a second to be sure.
    let read = async {
        while look.read() < expected.min(MOST) && Instant::now() < until {
            let letters = look.next().await?;
            if letters.is_empty() {
                break;
            }
            found.extend(letters);
        }
        Ok(())
    };
    let read: Result<(), AwsError> = read.await;
    let (is_complete, still_hidden) = (look.read() >= expected && in_flight == 0, look.release().await);
    read?;
    let chunks = found.chunks(100).map(|letters| dead.judge(letters, &NoCatalog));
    let judged = join_all(chunks).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut all: Vec<_> = found
        .iter()
        .zip(judged.into_iter().flatten())
        .map(|(letter, judged)| Letter {
            key: letter.key().cloned(),
            tool: letter.tool(),
            reason: letter.reason().to_owned(),
            problem: letter.problem(),
            may_have_run: judged.may_have_run(),
            class: judged.class.as_str(),
            first_sent: letter.first_sent(),
            received: letter.received(),
            message_id: letter.message_id().to_owned(),
        })
        .collect();
    all.sort_by_key(|letter| letter.first_sent);
    Ok(Letters { at: Some(now), all, is_complete, still_hidden })
}
