//! Creates, lists, describes, changes and deletes queues.
//!
//! **Invariant:** a name that exists is never created a second time with other attributes.

use std::collections::BTreeMap;

use super::Queues;
use super::attributes::{Attributes, is_readable};
use super::change::Change;
use crate::names::queue_arn;
use crate::sqs::error::SqsError;

impl Queues {
    /// Creates a queue, unless the same one exists.
    pub(crate) fn create(
        &mut self,
        name: &str,
        attributes: BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
        now_ms: u64,
    ) -> Result<(), SqsError> {
        let checked = Attributes::check(attributes.clone())?;
        check_name(name, checked.fifo.is_some())?;
        if let Some(existing) = self.queues.get(name) {
            let difference = existing.attributes.first_difference(&attributes);
            return difference.map_or(Ok(()), |attribute| Err(SqsError::QueueNameExists(attribute)));
        }
        self.check_dead_letter_target(name, &checked)?;
        let (queue, attributes) = (name.to_owned(), checked.given().clone());
        self.change(Change::Created { queue, attributes, tags, at_ms: now_ms, next_seq: 0 });
        Ok(())
    }

    /// Replaces some attributes; an empty value takes one away.
    pub(crate) fn set_attributes(
        &mut self,
        name: &str,
        changed: BTreeMap<String, String>,
        now_ms: u64,
    ) -> Result<(), SqsError> {
        let attributes = self.settled(name, now_ms)?.attributes.with(changed)?;
        self.check_dead_letter_target(name, &attributes)?;
        let (queue, attributes) = (name.to_owned(), attributes.given().clone());
        self.change(Change::AttributesSet { queue, attributes, at_ms: now_ms });
        Ok(())
    }

    fn check_dead_letter_target(&self, name: &str, attributes: &Attributes) -> Result<(), SqsError> {
        let Some(redrive) = &attributes.redrive else { return Ok(()) };
        let target = self.queues.get(&redrive.dead_letter_queue).map(|target| &target.attributes);
        let reason = match target {
            None => "Dead letter target does not exist.",
            Some(target) if target.fifo.is_some() != attributes.fifo.is_some() => {
                "Dead-letter queue must be same type of queue as the source."
            }
            Some(target) if !target.allows_dead_letters_of(name) => {
                "Source queue is not allowed by the RedriveAllowPolicy of the dead-letter queue."
            }
            Some(_) => return Ok(()),
        };
        let arn = queue_arn(&redrive.dead_letter_queue);
        let problem = format!("Value {arn} for parameter RedrivePolicy is invalid. Reason: {reason}");
        Err(SqsError::InvalidParameterValue(problem))
    }

    /// The attributes asked for, `All` meaning every one.
    pub(crate) fn attributes(
        &mut self,
        name: &str,
        asked: &[String],
        now_ms: u64,
    ) -> Result<BTreeMap<String, String>, SqsError> {
        let queue = self.settled(name, now_ms)?;
        if let Some(unknown) = asked.iter().find(|attribute| !is_readable(attribute)) {
            return Err(SqsError::InvalidAttributeName(unknown.clone()));
        }
        let mut shown = queue.attributes.shown();
        let facts = [
            ("QueueArn", queue_arn(name)),
            ("CreatedTimestamp", (queue.created_ms / 1000).to_string()),
            ("LastModifiedTimestamp", (queue.modified_ms / 1000).to_string()),
            ("ApproximateNumberOfMessages", queue.visible_count().to_string()),
            ("ApproximateNumberOfMessagesNotVisible", queue.in_flight_count().to_string()),
            ("ApproximateNumberOfMessagesDelayed", queue.delayed_count().to_string()),
        ];
        shown.extend(facts.map(|(attribute, text)| (attribute.to_owned(), text)));
        if !asked.iter().any(|attribute| attribute == "All") {
            shown.retain(|attribute, _| asked.contains(attribute));
        }
        Ok(shown)
    }

    /// Names that start with `prefix`, in order.
    pub(crate) fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.queues.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }

    /// The queues whose dead letters go to `name`.
    pub(crate) fn dead_letter_sources(&self, name: &str) -> Result<Vec<String>, SqsError> {
        self.queue(name)?;
        let points_here = |attributes: &Attributes| {
            attributes.redrive.as_ref().is_some_and(|redrive| redrive.dead_letter_queue == name)
        };
        let sources = self.queues.iter().filter(|(_, queue)| points_here(&queue.attributes));
        Ok(sources.map(|(source, _)| source.clone()).collect())
    }

    /// Forgets all messages of a queue.
    pub(crate) fn purge(&mut self, name: &str) -> Result<(), SqsError> {
        self.queue(name)?;
        self.change(Change::Purged { queue: name.to_owned() });
        Ok(())
    }

    /// Forgets a queue with its messages.
    pub(crate) fn drop_queue(&mut self, name: &str) -> Result<(), SqsError> {
        self.queue(name)?;
        self.change(Change::Dropped { queue: name.to_owned() });
        Ok(())
    }

    /// Adds tags to a queue and takes others away.
    pub(crate) fn retag(
        &mut self,
        name: &str,
        added: BTreeMap<String, String>,
        removed: &[String],
    ) -> Result<(), SqsError> {
        let mut tags = self.queue(name)?.tags.clone();
        tags.extend(added);
        tags.retain(|key, _| !removed.contains(key));
        self.change(Change::TagsSet { queue: name.to_owned(), tags });
        Ok(())
    }
}

/// The suffix counts as part of the 80 letters.
fn check_name(name: &str, is_fifo: bool) -> Result<(), SqsError> {
    let stem = name.strip_suffix(".fifo");
    let refused = |problem: &str| Err(SqsError::InvalidParameterValue(problem.to_owned()));
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let is_right = |stem: &str| !stem.is_empty() && name.len() <= 80 && stem.chars().all(allowed);
    match (is_fifo, stem) {
        (true, Some(stem)) if is_right(stem) => Ok(()),
        (true, _) => refused(
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo \
             suffix and be 1 to 80 in length.",
        ),
        (false, None) if is_right(name) => Ok(()),
        (false, _) => {
            refused("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
        }
    }
}
