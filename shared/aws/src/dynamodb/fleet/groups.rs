//! Groups: one item with a partition of its own for a group, and one item for each member beside it.
//!
//! The group's item is inserted once, its sets only grow, and its decision is written once, under the condition that there is none.

use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::group::{Binding, Decision, GroupRow, Round};
use toolfleet_core::ids::CallId;
use toolfleet_core::request::GroupKey;
use toolfleet_core::time::Timestamp;

pub use crate::dynamodb::member_counter::{Count, Counted};

use super::Fleet;
use crate::dynamodb::attributes::{Item, item, number, text};
use crate::dynamodb::batch_get::by_keys;
use crate::dynamodb::group_item::{decision_value, parsed, round_item, round_of, to_item};
use crate::dynamodb::statement::{Statement, Written};
use crate::error::AwsError;
use crate::keys::{self, CANCELLED_SORT, EXPIRES_AT, GROUP_SORT, MEMBER_PREFIX, PK, REDRIVE_SORT, SK};

/// The attribute of a member's item that names its call.
const CALL_ID: &str = "call_id";

impl Fleet {
    /// The group, by a consistent read.
    pub async fn group(&self, key: &GroupKey) -> Result<Option<GroupRow>, AwsError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(self.group_key(key, GROUP_SORT)))
            .consistent_read(true);
        // Kilobytes of state that every call in flight would carry for a read that few of them make.
        let got = Box::pin(request.send()).await;
        let got = got.map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        got.item.as_ref().map(|item| parsed(key, item)).transpose()
    }

    /// The group and who has that index, by one consistent read of both items.
    pub async fn group_at(
        &self,
        key: &GroupKey,
        index: u32,
    ) -> Result<(Option<GroupRow>, Binding), AwsError> {
        let wanted = vec![self.group_key(key, GROUP_SORT), self.group_key(key, &keys::member(index))];
        let found = Box::pin(by_keys(&self.client, &self.table, wanted, true)).await?;
        let (mut row, mut binding) = (None, Binding::Free);
        for item in &found {
            match item.get(CALL_ID) {
                None => row = Some(parsed(key, item)?),
                Some(_) => binding = Binding::Of(self.member_of(key, item)?.1),
            }
        }
        Ok((row, binding))
    }

    /// Inserts a group. False if it exists.
    pub async fn make_group(&self, row: &GroupRow) -> Result<bool, AwsError> {
        self.insert(&row.key, GROUP_SORT, to_item(row)).await
    }

    /// Gives an index to a call. False if it is taken, perhaps by the same call.
    pub async fn bind_member(
        &self,
        key: &GroupKey,
        index: u32,
        call: &CallId,
        expires_at: Timestamp,
    ) -> Result<bool, AwsError> {
        let attributes = item([(CALL_ID, text(call)), (EXPIRES_AT, number(expires_at.as_s()))]);
        self.insert(key, &keys::member(index), attributes).await
    }

    /// Keeps the cancellation of a group that has no row yet. Whoever makes the row looks for it, and whoever keeps it looks for the row
    /// afterwards: one of the two finds the other.
    pub async fn cancel_ahead(&self, key: &GroupKey, expires_at: Timestamp) -> Result<(), AwsError> {
        let attributes = item([(EXPIRES_AT, number(expires_at.as_s()))]);
        self.insert(key, CANCELLED_SORT, attributes).await.map(drop)
    }

    /// Whether the group was cancelled before it had a row, by a consistent read.
    pub async fn is_cancelled_ahead(&self, key: &GroupKey) -> Result<bool, AwsError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(self.group_key(key, CANCELLED_SORT)))
            .consistent_read(true);
        let got = Box::pin(request.send()).await;
        Ok(got.map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?.item.is_some())
    }

    /// Notes that the timer was sent.
    pub async fn note_timer(&self, key: &GroupKey) -> Result<(), AwsError> {
        self.note(key, "timer_sent").await
    }

    /// Notes that the notice was sent.
    pub async fn note_notice(&self, key: &GroupKey) -> Result<(), AwsError> {
        self.note(key, "notified").await
    }

    async fn note(&self, key: &GroupKey, what: &str) -> Result<(), AwsError> {
        let partition = keys::group(key);
        let update = format!(r#"UPDATE "{}" SET "{what}"=? WHERE "{PK}"=? AND "{SK}"=?"#, self.table);
        let parameters = [Some(AttributeValue::Bool(true)), text(&partition), text(GROUP_SORT)];
        let statement = Statement::new(
            &self.table,
            &row_key(key, GROUP_SORT),
            update,
            parameters.into_iter().flatten().collect(),
        );
        match self.writer.write(statement).await? {
            // A group that has expired in between needs neither.
            Written::Done | Written::Exists | Written::ConditionFailed(_) => Ok(()),
        }
    }

    /// Adds an ended member to its group's set, together with others that this process adds at the same time. The row as it is then;
    /// `None` if the group has no row.
    pub async fn count_member(&self, count: Count) -> Result<Option<Counted>, AwsError> {
        self.counter.count(&self.table, count).await
    }

    /// Writes the decision, unless there is one: the only write that decides. The row as it is then; `None` if the group has no row.
    pub async fn decide_group(
        &self,
        key: &GroupKey,
        decision: &Decision,
    ) -> Result<Option<GroupRow>, AwsError> {
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(self.group_key(key, GROUP_SORT)))
            .update_expression("SET decision = :decision")
            .condition_expression("attribute_exists(pk) AND attribute_not_exists(decision)")
            .expression_attribute_values(":decision", decision_value(decision));
        match Box::pin(request.send()).await {
            Ok(_) => {}
            Err(error)
                if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {}
            Err(error) => return Err(AwsError::of_sdk("UpdateItem", &self.table, &error)),
        }
        self.group(key).await
    }

    /// The calls of a group that have taken their index, in order.
    pub async fn group_members(&self, key: &GroupKey) -> Result<Vec<(u32, CallId)>, AwsError> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :member)")
            .expression_attribute_values(":pk", AttributeValue::S(keys::group(key)))
            .expression_attribute_values(":member", AttributeValue::S(MEMBER_PREFIX.to_owned()))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut members = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|e| AwsError::of_sdk("Query", &self.table, &e))?;
            members.push(self.member_of(key, &item)?);
        }
        Ok(members)
    }

    /// What the first redrive of a group has stored of the group's next round.
    pub async fn group_redrive(&self, key: &GroupKey) -> Result<Option<Round>, AwsError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(self.group_key(key, REDRIVE_SORT)))
            .consistent_read(true);
        let got = Box::pin(request.send()).await;
        let got = got.map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        let parsed = |item| {
            round_of(item).ok_or_else(|| {
                AwsError::configuration(format!(
                    "the redrive of group {key} in {} cannot be read",
                    self.table
                ))
            })
        };
        got.item.as_ref().map(parsed).transpose()
    }

    /// Stores the group's next round. False if a redrive has stored it, perhaps this one.
    pub async fn store_redrive(
        &self,
        key: &GroupKey,
        round: &Round,
        expires_at: Timestamp,
    ) -> Result<bool, AwsError> {
        let mut attributes = round_item(round);
        attributes.extend(item([(EXPIRES_AT, number(expires_at.as_s()))]));
        self.insert(key, REDRIVE_SORT, attributes).await
    }

    fn group_key(&self, key: &GroupKey, sort: &str) -> Item {
        item([(PK, text(keys::group(key))), (SK, text(sort))])
    }

    async fn insert(&self, key: &GroupKey, sort: &str, attributes: Item) -> Result<bool, AwsError> {
        let mut whole = self.group_key(key, sort);
        whole.extend(attributes);
        let statement = Statement::insert(&self.table, &row_key(key, sort), whole);
        Ok(match self.writer.write(statement).await? {
            Written::Done => true,
            Written::Exists | Written::ConditionFailed(_) => false,
        })
    }

    fn member_of(&self, key: &GroupKey, item: &Item) -> Result<(u32, CallId), AwsError> {
        let string = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
        let index = string(SK).and_then(|sort| sort.strip_prefix(MEMBER_PREFIX)?.parse().ok());
        let call = string(CALL_ID).and_then(|id| CallId::parse(id.as_str()).ok());
        index.zip(call).ok_or_else(|| {
            AwsError::configuration(format!("a member of group {key} in {} cannot be read", self.table))
        })
    }
}

/// The row of a statement: no two statements for one row share a request.
fn row_key(key: &GroupKey, sort: &str) -> String {
    format!("{}|{sort}", keys::group(key))
}
