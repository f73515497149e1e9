//! Starts, paces, cancels and lists the tasks that move dead letters back.
//!
//! A moved message is a new message: new id, new time, no receives. It is stored before it is removed, so a crash between the two
//! duplicates it instead of losing it.
//!
//! **Invariant:** a queue has at most one running task, and a task moves only messages that are visible when they are moved.

use std::sync::Arc;

use super::Queues;
use super::change::Change;
use super::message::{Content, Message};
use super::move_task::{MoveOrder, MoveStatus, MoveTask};
use crate::names::queue_name_of_arn;
use crate::sqs::error::SqsError;

/// The most tasks that are remembered for a queue (SQS quota of `ListMessageMoveTasks`).
const MAX_TASKS: usize = 10;
/// How many messages a task without a rate moves before other requests are served.
const SLICE: u64 = 500;

impl Queues {
    /// Starts a task. Its first messages move with the next [`Queues::advance_moves`].
    pub(crate) fn start_move(&mut self, order: MoveOrder, now_ms: u64) -> Result<(), SqsError> {
        let refused = |problem: &str| Err(SqsError::InvalidParameterValue(problem.to_owned()));
        let source = self.existing("SourceArn", &order.source_arn)?;
        let destination = match &order.destination_arn {
            Some(arn) => Some(self.existing("DestinationArn", arn)?),
            None => None,
        };
        if self.dead_letter_sources(&source)?.is_empty() {
            return refused("Source queue must be configured as a Dead Letter Queue.");
        }
        if destination.as_ref() == Some(&source) {
            return refused("Source queue arn and destination queue arn cannot be the same.");
        }
        let kind = |name: &str| self.queue(name).map(|queue| queue.attributes.fifo.is_some());
        if let Some(destination) = &destination
            && kind(destination)? != kind(&source)?
        {
            return refused("The source queue and destination queue must be of the same queue type.");
        }
        if self.moves.iter().any(|task| task.source == source && task.status == MoveStatus::Running) {
            return refused(
                "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
            );
        }
        let waiting = self.settled(&source, now_ms)?.visible_count();
        let task = MoveTask {
            id: order.id,
            source,
            destination,
            per_second: order.per_second,
            started_ms: now_ms,
            status: MoveStatus::Running,
            moved: 0,
            to_move: u64::try_from(waiting).unwrap_or(u64::MAX),
            failure: None,
            next_ms: now_ms,
        };
        self.change(Change::MoveSet { task });
        Ok(())
    }

    fn existing(&self, parameter: &str, arn: &str) -> Result<String, SqsError> {
        let name = queue_name_of_arn(arn);
        if arn.starts_with("arn:") && self.queues.contains_key(name) {
            return Ok(name.to_owned());
        }
        let problem = format!("The resource that you specified for the {parameter} parameter doesn't exist.");
        Err(SqsError::ResourceNotFound(problem))
    }

    /// Stops a running task and tells how many messages it has moved; those stay where they are.
    pub(crate) fn cancel_move(&mut self, source_arn: &str, id: &str) -> Result<u64, SqsError> {
        let source = self.existing("SourceArn", source_arn)?;
        let task = self.moves.iter().find(|task| task.id == id && task.source == source);
        match task.cloned() {
            None => Err(SqsError::ResourceNotFound("Task does not exist.".to_owned())),
            Some(mut task) if task.status == MoveStatus::Running => {
                task.status = MoveStatus::Cancelled;
                let moved = task.moved;
                self.change(Change::MoveSet { task });
                Ok(moved)
            }
            Some(_) => Err(SqsError::Unsupported("Only a running task can be cancelled.".to_owned())),
        }
    }

    /// The tasks of a queue, the latest first.
    pub(crate) fn moves_of(&self, source_arn: &str) -> Result<Vec<MoveTask>, SqsError> {
        let source = self.existing("SourceArn", source_arn)?;
        Ok(self.moves.iter().rev().filter(|task| task.source == source).cloned().collect())
    }

    /// Moves what is due.
    pub(crate) fn advance_moves(&mut self, now_ms: u64) {
        let due = |task: &&MoveTask| task.status == MoveStatus::Running && task.next_ms <= now_ms;
        let tasks: Vec<_> = self.moves.iter().filter(due).cloned().collect();
        for mut task in tasks {
            self.advance(&mut task, now_ms);
            self.change(Change::MoveSet { task });
        }
    }

    fn advance(&mut self, task: &mut MoveTask, now_ms: u64) {
        // After a pause a task catches up on one second at most.
        task.next_ms = task.next_ms.max(now_ms.saturating_sub(1000));
        let pause_ms = task.per_second.map_or(0, |per_second| 1000_u64.div_ceil(per_second.max(1)));
        for _ in 0..SLICE {
            if task.next_ms > now_ms {
                return;
            }
            // Only the messages that were there at the start, so that a message that comes back is not moved in a loop.
            let next = if task.moved < task.to_move { self.next_to_move(task, now_ms) } else { Ok(None) };
            match next {
                Ok(Some((seq, target))) => self.move_one(&task.source, seq, &target, now_ms),
                Ok(None) => {
                    task.status = MoveStatus::Completed;
                    return;
                }
                Err(failure) => {
                    task.status = MoveStatus::Failed;
                    task.failure = Some(failure.to_owned());
                    return;
                }
            }
            task.moved = task.moved.saturating_add(1);
            task.next_ms = task.next_ms.saturating_add(pause_ms);
        }
    }

    /// The next message and where it goes; none if nothing is visible.
    fn next_to_move(&mut self, task: &MoveTask, now_ms: u64) -> Result<Option<(u64, String)>, &'static str> {
        const NO_QUEUE: &str = "AWS.SimpleQueueService.NonExistentQueue";
        let queue = self.settled(&task.source, now_ms).map_err(|_gone| NO_QUEUE)?;
        let Some(seq) = queue.next_receivable(None, now_ms) else { return Ok(None) };
        let source_arn = queue.get(seq).and_then(|message| message.dead_letter_of.as_deref());
        let target = match (&task.destination, source_arn) {
            (Some(destination), _) => destination.clone(),
            (None, Some(arn)) => queue_name_of_arn(arn).to_owned(),
            (None, None) => return Err("CouldNotDetermineMessageSource"),
        };
        if self.queues.contains_key(&target) { Ok(Some((seq, target))) } else { Err(NO_QUEUE) }
    }

    fn move_one(&mut self, source: &str, seq: u64, target: &str, now_ms: u64) {
        let message = self.queues.get(source).and_then(|queue| queue.get(seq));
        if let Some(Message { content, .. }) = message {
            let message_id = uuid::Uuid::new_v4().to_string();
            let copy = Content { message_id, ..content.as_ref().clone() };
            self.store(target, Arc::new(copy), None, now_ms);
        }
        self.change(Change::Removed { queue: source.to_owned(), seq });
    }

    /// When the next message of any task may move.
    pub(super) fn next_move_ms(&self) -> Option<u64> {
        let running = self.moves.iter().filter(|task| task.status == MoveStatus::Running);
        running.map(|task| task.next_ms).min()
    }

    /// Replaces the state of a task, and removes the oldest tasks beyond the quota.
    pub(super) fn set_move(&mut self, task: &MoveTask) {
        match self.moves.iter_mut().find(|known| known.id == task.id) {
            Some(known) => known.clone_from(task),
            None => self.moves.push(task.clone()),
        }
        let of_source = |known: &MoveTask| known.source == task.source;
        while self.moves.iter().filter(|known| of_source(known)).count() > MAX_TASKS {
            let Some(oldest) = self.moves.iter().position(of_source) else { return };
            self.moves.remove(oldest);
        }
    }
}
