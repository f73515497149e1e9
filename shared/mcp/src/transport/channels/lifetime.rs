//! How long a connection is kept: until it ends, is ended, or nobody has used it for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use crate::fault::{Fault, NotSentCause};
use crate::transport::channels::channel::Channel;

/// How long it takes at most to end a connection.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long the farewell of a connection may take.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

/// Ends when the connection is to be ended, because nobody holds it.
pub(crate) async fn due(channel: &Channel, idle: Duration) {
    loop {
        let turned = channel.turned.notified();
        if channel.is_due(idle) {
            return;
        }
        match channel.idle_since().and_then(|since| since.checked_add(idle)) {
            Some(until) => {
                let _turned = tokio::select! {
                    () = turned => true,
                    () = sleep_until(until) => false,
                };
            }
            None => turned.await,
        }
    }
}

/// Watches a connection to a server. `hearing` ends with the reason why nothing more comes, `writing` when the farewell is said. `true` if
/// the connection ended by itself.
pub(crate) async fn watch(
    channel: Arc<Channel>,
    idle: Duration,
    mut hearing: JoinHandle<String>,
    writing: Option<JoinHandle<()>>,
) -> bool {
    let by_itself = tokio::select! {
        biased;
        () = channel.quit.cancelled() => false,
        () = due(&channel, idle) => {
            let detail = "the connection was closed, because nobody used it".to_owned();
            channel.end(Fault::NotSent { detail, cause: NotSentCause::Answer });
            false
        }
        how = &mut hearing => {
            let how = how.unwrap_or_else(|_| "the connection broke".to_owned());
            tracing::debug!(server = %channel.server, channel = channel.serial, "{how}");
            channel.end(Fault::AnswerLost { detail: how });
            true
        }
    };
    if let Some(writing) = writing {
        let _said = timeout(FAREWELL_WITHIN, writing).await;
    }
    hearing.abort();
    by_itself
}
