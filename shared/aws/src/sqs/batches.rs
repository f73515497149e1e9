//! Requests of ten entries: deletions, visibility time-outs and messages. Each entry has its own result.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::BuildError;

use super::messages::{Deletion, Outgoing, Visibility};
use super::wire::{BatchAnswer, OfDelivery, Sending, batch};
use crate::batch::{BatchItem, Rules, SendPart};
use crate::direct::{Clients, NoAnswer};
use crate::error::AwsError;

/// The service's limits of one batch: ten entries, 1 MiB. While the runtime lags, a request waits two milliseconds at most.
pub(crate) const RULES: Rules = Rules {
    max_items: 10,
    max_bytes: 1_048_576,
    linger: Duration::from_millis(2),
    max_in_flight: 32,
    idle_items: 10,
};
/// No call waits for the deletion of a message in a standard queue, so it may wait for nine others; not so long that many messages are
/// received again after a crash.
const DELETE_WAIT: Duration = Duration::from_millis(150);

impl BatchItem for Deletion {
    fn key(&self) -> Option<&str> {
        Some(&self.receipt.0)
    }
    fn bytes(&self) -> usize {
        self.receipt.0.len()
    }
    fn may_wait(&self) -> Option<Duration> {
        (!self.frees_group).then_some(DELETE_WAIT)
    }
}

impl BatchItem for Visibility {
    fn key(&self) -> Option<&str> {
        Some(&self.receipt.0)
    }
    fn bytes(&self) -> usize {
        self.receipt.0.len()
    }
}

impl BatchItem for Outgoing {
    fn key(&self) -> Option<&str> {
        None
    }
    fn bytes(&self) -> usize {
        self.body.len()
            + self.attributes.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>()
    }
}

/// One result per entry, or the error of the whole request.
type Results<A> = Result<Vec<Result<A, AwsError>>, AwsError>;

/// The requests of one queue.
pub(crate) struct Requests {
    pub(crate) clients: Clients<Client>,
    pub(crate) url: String,
}

impl SendPart<Deletion, ()> for Requests {
    async fn send(&self, part: &[Deletion]) -> Results<()> {
        const OPERATION: &str = "DeleteMessageBatch";
        let entries = OfDelivery::deletions(part);
        let direct = self.clients.direct.post(OPERATION, || batch(&self.url, &entries));
        let answer = match direct.await {
            Ok(answer) => answer,
            Err(why) => {
                let entries = built(entries.iter().map(OfDelivery::sdk_deletion))?;
                let request = self.clients.sdk.delete_message_batch().queue_url(&self.url);
                let request = request.set_entries(Some(entries)).customize().config_override(repeating(why));
                let output = request.send().await;
                let output = output.map_err(|e| AwsError::of_sdk(OPERATION, &self.url, &e))?;
                BatchAnswer::of_ids(output.successful.into_iter().map(|done| done.id), output.failed)
            }
        };
        Ok(self.acknowledged(OPERATION, part.len(), answer))
    }
}

impl SendPart<Visibility, ()> for Requests {
    async fn send(&self, part: &[Visibility]) -> Results<()> {
        const OPERATION: &str = "ChangeMessageVisibilityBatch";
        let entries = OfDelivery::visibilities(part);
        let direct = self.clients.direct.post(OPERATION, || batch(&self.url, &entries));
        let answer = match direct.await {
            Ok(answer) => answer,
            Err(why) => {
                let entries = built(entries.iter().map(OfDelivery::sdk_visibility))?;
                let request = self.clients.sdk.change_message_visibility_batch().queue_url(&self.url);
                let request = request.set_entries(Some(entries)).customize().config_override(repeating(why));
                let output = request.send().await;
                let output = output.map_err(|e| AwsError::of_sdk(OPERATION, &self.url, &e))?;
                BatchAnswer::of_ids(output.successful.into_iter().map(|done| done.id), output.failed)
            }
        };
        Ok(self.acknowledged(OPERATION, part.len(), answer))
    }
}

impl SendPart<Outgoing, String> for Requests {
    async fn send(&self, part: &[Outgoing]) -> Results<String> {
        const OPERATION: &str = "SendMessageBatch";
        let entries = Sending::messages(part, self.url.ends_with(".fifo"));
        let direct = self.clients.direct.post(OPERATION, || batch(&self.url, &entries));
        let answer = match direct.await {
            Ok(answer) => answer,
            Err(why) => {
                let entries = built(entries.iter().map(Sending::sdk))?;
                let request = self.clients.sdk.send_message_batch().queue_url(&self.url);
                let request = request.set_entries(Some(entries)).customize().config_override(repeating(why));
                let output = request.send().await;
                let output = output.map_err(|e| AwsError::of_sdk(OPERATION, &self.url, &e))?;
                BatchAnswer::of_sdk(output.successful, output.failed)
            }
        };
        Ok(self.results(OPERATION, part.len(), answer, |sent| sent))
    }
}

/// How the SDK repeats what has no answer.
pub(super) fn repeating(why: NoAnswer) -> aws_sdk_sqs::config::Builder {
    aws_sdk_sqs::Config::builder().retry_config(why.retry_config())
}

fn built<E>(entries: impl Iterator<Item = Result<E, BuildError>>) -> Result<Vec<E>, AwsError> {
    entries.collect::<Result<_, _>>().map_err(|e| AwsError::configuration(e.to_string()))
}

impl Requests {
    /// One result per entry of a request that brings nothing back. What is in neither list was not done: a message whose time did not grow is
    /// received again. An emulator that answers with no list at all has done everything.
    fn acknowledged(&self, operation: &str, count: usize, answer: BatchAnswer) -> Vec<Result<(), AwsError>> {
        let says_nothing = answer.is_empty();
        self.results(operation, count, answer, |done| (says_nothing || done.is_some()).then_some(()))
    }

    /// One result per entry: its own error, or what `done` makes of the message id of its success.
    fn results<A>(
        &self,
        operation: &str,
        count: usize,
        answer: BatchAnswer,
        done: impl Fn(Option<String>) -> Option<A>,
    ) -> Vec<Result<A, AwsError>> {
        let failed = answer.failed.unwrap_or_default();
        let mut successful = answer.successful.unwrap_or_default();
        let mut result = |n: usize| {
            let id = n.to_string();
            if let Some(entry) = failed.iter().find(|entry| entry.id == id) {
                let message = entry.message.as_deref().unwrap_or_default();
                return Err(AwsError::of_code(operation, &self.url, &entry.code, message));
            }
            let success = successful.iter_mut().find(|entry| entry.id == id);
            done(success.map(|entry| std::mem::take(&mut entry.message_id))).ok_or_else(|| {
                AwsError::passing(format!("{operation} on {}: no result for an entry", self.url))
            })
        };
        (0..count).map(&mut result).collect()
    }
}
