//! Groups: what was decided, what became of each member, wait for the decision, cancel, and send again what did not succeed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toolfleet_aws::AwsError;
use toolfleet_aws::queue::Outgoing;
use toolfleet_core::call::CallRow;
use toolfleet_core::digest::Digest;
use toolfleet_core::group::{self, Fate, GroupMessage, GroupRow, Occasion, Round, Skipped, decide};
use toolfleet_core::ids::{CallId, CallKey};
use toolfleet_core::message_attributes::GROUP;
use toolfleet_core::request::{CallRequest, GroupKey};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;

use crate::cancel::Cancelled;
use crate::client::Client;
use crate::wait::Polls;

/// So long before a group's row expires the rows of its members may be gone: a message can be received 14 days after another one that was sent
/// before it, and DynamoDB removes expired rows in any order.
const ROWS_MAY_BE_GONE_MS: u64 = 15 * 24 * 60 * 60 * 1_000;

/// A group as it is now.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    /// Its row: terms, members that have ended, decision.
    pub row: GroupRow,
    /// Its members, by index; one that no worker has received has no call.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub struct GroupMember {
    /// Its index.
    pub index: u32,
    /// Its call.
    pub call_id: Option<CallId>,
    /// The row of its call.
    pub call: Option<CallRow>,
}

/// A redrive of a group: what is or would be sent.
#[derive(Debug, Clone)]
pub struct GroupRedrive {
    /// The next round.
    pub key: GroupKey,
    /// Its requests.
    pub requests: Vec<CallRequest>,
    /// The members that are not sent again, and why.
    pub skipped: Vec<Skipped>,
}

/// A group whose cancellation was sent.
#[derive(Debug)]
pub struct GroupCancelled {
    /// The id of its message.
    pub message_id: String,
    /// Why it could not be stored before its message is received: until then, members that are received may start.
    pub not_stored: Option<AwsError>,
}

/// Why a group could not be read, waited for or sent again.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// No worker has received a member of it, or it has expired.
    #[error("nothing is known of group {0}: no worker has received a member of it, or it has expired")]
    Unknown(GroupKey),
    /// The time is over; the group goes on.
    #[error("the group was not decided within {waited_ms} ms; it goes on, look again later")]
    TimeOut {
        /// How long was waited.
        waited_ms: u128,
    },
    /// It cannot be sent again as asked; the text says what to change.
    #[error("{0}")]
    Redrive(String),
    /// A table or a queue failed.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl Client {
    /// A group and its members; `None` if no worker has received one.
    pub async fn group(&self, key: &GroupKey) -> Result<Option<GroupStatus>, AwsError> {
        self.group_part(key, |size| 0..size).await
    }

    /// The same, where only the calls of some indexes are read, as `part` gives them for the size of the group.
    ///
    /// # Errors
    /// A table failed.
    pub async fn group_part(
        &self,
        key: &GroupKey,
        part: impl FnOnce(u32) -> Range<u32>,
    ) -> Result<Option<GroupStatus>, AwsError> {
        let Some(row) = self.fleet.group(key).await? else { return Ok(None) };
        let part = part(row.terms.size);
        let mut calls: BTreeMap<u32, CallId> = self.fleet.group_members(key).await?.into_iter().collect();
        let keys: Vec<_> = calls
            .range(part)
            .map(|(_, call_id)| call_id)
            .map(|call_id| CallKey { tenant: key.tenant.clone(), call_id: call_id.clone() })
            .collect();
        let rows = self.calls.read_many(&keys).await?.into_iter().flatten();
        let mut rows: BTreeMap<CallId, CallRow> = rows.map(|row| (row.key.call_id.clone(), row)).collect();
        let member = |index| {
            let call_id = calls.remove(&index);
            let call = call_id.as_ref().and_then(|id| rows.remove(id));
            GroupMember { index, call_id, call }
        };
        Ok(Some(GroupStatus { members: (0..row.terms.size).map(member).collect(), row }))
    }

    /// Waits until the group is decided; polls every 20 ms at first and every second in the end.
    pub async fn wait_for_group(
        &self,
        key: &GroupKey,
        time_out: Duration,
    ) -> Result<GroupStatus, GroupError> {
        let mut polls = Polls::new(time_out);
        loop {
            match polls.within(self.fleet.group(key)).await {
                Some(Ok(Some(row))) if row.decision.is_some() => break,
                Some(Ok(_)) | None => {}
                Some(Err(error)) => polls.tolerate(error)?,
            }
            if !polls.next().await {
                return Err(GroupError::TimeOut { waited_ms: time_out.as_millis() });
            }
        }
        self.group(key).await?.ok_or_else(|| GroupError::Unknown(key.clone()))
    }

    /// Cancels a group: by a message, so that a worker sends the notice, and in the group's row, so that it holds before that message is
    /// received. Members that have not started end as cancelled, those that run at their next heartbeat. Before a member is received the
    /// cancellation is kept, and decides when the first one comes.
    ///
    /// # Errors
    /// The message could not be sent; nothing is cancelled.
    pub async fn cancel_group(&self, key: &GroupKey) -> Result<GroupCancelled, AwsError> {
        let body = GroupMessage::cancel(key.clone()).encode();
        // In a FIFO queue it must not wait behind the tenant's calls, and a second one is no copy of one that came too early.
        let of_its_own = format!("cancel-{}", Digest::of_text(&key.to_string()).short(32));
        let deduplication = format!("{of_its_own}-{}", (self.now)().as_ms());
        let queue = self.high.as_ref().unwrap_or(&self.queue);
        let group = if queue.is_fifo() { of_its_own } else { key.tenant.to_string() };
        let message = Outgoing {
            body,
            group: Some(group),
            attributes: BTreeMap::from([(GROUP.to_owned(), "cancel".to_owned())]),
            deduplication: Some(deduplication),
            ..Outgoing::default()
        };
        // The message goes first: after a crash in between, it still decides and sends the notice.
        let message_id = queue.send(message).await?;
        Ok(GroupCancelled { message_id, not_stored: self.store_cancellation(key).await.err() })
    }

    /// Decides the group as cancelled, or keeps that for its first member.
    async fn store_cancellation(&self, key: &GroupKey) -> Result<(), AwsError> {
        let mut row = self.fleet.group(key).await?;
        if row.is_none() {
            // Whoever makes the row at this moment may have looked too early, so the row is read again.
            self.fleet.cancel_ahead(key, (self.now)().plus_ms(RETENTION_MS)).await?;
            row = self.fleet.group(key).await?;
        }
        if let Some(row) = row
            && let Some(due) = decide(&row, Occasion::Cancel, (self.now)())
        {
            self.fleet.decide_group(key, &due).await?;
        }
        Ok(())
    }

    /// What a redrive of a decided group would send: its requests are those that its members were sent with, because the fleet stores no
    /// arguments. Requests of other groups are left out. Nothing is sent.
    pub async fn plan_group_redrive(
        &self,
        key: &GroupKey,
        requests: Vec<CallRequest>,
        deadline: Option<Timestamp>,
    ) -> Result<GroupRedrive, GroupError> {
        Ok(self.planned(key, requests, deadline).await?.redrive)
    }

    async fn planned(
        &self,
        key: &GroupKey,
        requests: Vec<CallRequest>,
        deadline: Option<Timestamp>,
    ) -> Result<Planned, GroupError> {
        let Some(GroupStatus { row, members }) = self.group(key).await? else {
            return Err(GroupError::Unknown(key.clone()));
        };
        if row.expires_at.ms_since((self.now)()) < ROWS_MAY_BE_GONE_MS {
            return Err(GroupError::Redrive(format!(
                "group {key} is too old: rows of its members may have expired, and a call whose row is gone looks as if it had not run; \
                 send what is needed as a new group"
            )));
        }
        let stored = self.fleet.group_redrive(key).await?;
        let mut fates = Vec::new();
        for request in requests {
            let own = request.group.as_deref().filter(|group| group.key(&request.key.tenant) == *key);
            let Some(index) = own.map(|group| group.index) else { continue };
            let member = members.iter().find(|member| member.index == index);
            let bound = member.and_then(|member| member.call_id.as_ref());
            if let Some(other) = bound.filter(|call| **call != request.key.call_id) {
                return Err(GroupError::Redrive(format!(
                    "call {} says index {index} of group {key}, which is call {other}; give the request that the member was sent with",
                    request.key.call_id
                )));
            }
            let call = match member.and_then(|member| member.call.clone()) {
                Some(call) => Some(call),
                None => self.calls.read(&request.key).await?,
            };
            fates.push((request, fate(call)));
        }
        if fates.is_empty() {
            return Err(GroupError::Redrive(format!(
                "none of the requests is of group {key}; give the requests that its members were sent with"
            )));
        }
        let planned = group::redrive(&row, fates, stored.as_ref(), deadline).map_err(GroupError::Redrive)?;
        let next = GroupKey { round: key.round.saturating_add(1), ..key.clone() };
        let redrive = GroupRedrive { key: next, requests: planned.requests, skipped: planned.skipped };
        Ok(Planned { row, round: planned.round, is_stored: stored.is_some(), redrive })
    }

    /// Sends what [`Client::plan_group_redrive`] plans. A member that no worker had received is cancelled first, so that it never runs; one
    /// that has started in between makes the redrive fail before anything is sent. To repeat it is safe: the first redrive of a round stores
    /// its members, every later one sends those, and ids follow from the old ones.
    pub async fn redrive_group(
        &self,
        key: &GroupKey,
        requests: Vec<CallRequest>,
        deadline: Option<Timestamp>,
    ) -> Result<GroupRedrive, GroupError> {
        // Whatever stands against it is said before a member is cancelled.
        let mut planned = self.planned(key, requests.clone(), deadline).await?;
        if !planned.is_stored && !planned.round.members.is_empty() {
            self.cancel_unseen(key, &requests).await?;
            planned = self.planned(key, requests.clone(), deadline).await?;
            let (Planned { row, round, .. }, fleet) = (&planned, &self.fleet);
            if !planned.is_stored && !fleet.store_redrive(key, round, row.expires_at).await? {
                // Another redrive was first, or the answer to an earlier try was lost.
                planned = self.planned(key, requests, deadline).await?;
            }
        }
        for sent in self.send_many(&planned.redrive.requests).await {
            sent?;
        }
        Ok(planned.redrive)
    }

    /// Cancels the members that no worker has received.
    async fn cancel_unseen(&self, key: &GroupKey, requests: &[CallRequest]) -> Result<(), GroupError> {
        for request in requests {
            let own = request.group.as_deref().is_some_and(|group| group.key(&request.key.tenant) == *key);
            if !own || self.calls.read(&request.key).await?.is_some_and(|row| row.digest.is_some()) {
                continue;
            }
            match self.cancel(&request.key).await? {
                Cancelled::Ended | Cancelled::Ahead => {}
                Cancelled::Noted | Cancelled::TooLate => {
                    let id = &request.key.call_id;
                    let text = format!("call {id} was received in between; plan the redrive again");
                    return Err(GroupError::Redrive(text));
                }
            }
        }
        Ok(())
    }
}

/// A redrive that was planned.
struct Planned {
    /// The group's row.
    row: GroupRow,
    /// The round that is sent.
    round: Round,
    /// Whether a redrive has stored that round.
    is_stored: bool,
    /// What the caller is told.
    redrive: GroupRedrive,
}

/// What became of a member, by the row of its call. A row without a digest was made by a cancellation of a call that was never received.
fn fate(call: Option<CallRow>) -> Fate {
    match call {
        None | Some(CallRow { digest: None, .. }) => Fate::Unseen,
        Some(CallRow { finished: Some(finished), .. }) => Fate::Ended(Box::new(finished.outcome)),
        Some(CallRow { finished: None, .. }) => Fate::Open,
    }
}
