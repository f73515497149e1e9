//! Counts the ended members of groups: the members of one group that end at the same time share one UpdateItem.
//!
//! Adding to a set is idempotent. PartiQL's `set_add` returns no item, so this is not a part of the batches of statements.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use futures::future::join_all;
use tokio::sync::Mutex;
use toolfleet_core::group::GroupRow;
use toolfleet_core::request::GroupKey;

use super::group_item::parsed;
use crate::batch::{BatchItem, Batcher, Rules, RunQueue};
use crate::dynamodb::attributes::{item, text};
use crate::error::AwsError;
use crate::keys::{self, GROUP_SORT, PK, SK};

/// While an update is in flight, the next one waits so long for more members.
const RULES: Rules = Rules {
    max_items: 1_000,
    max_bytes: usize::MAX,
    linger: Duration::from_millis(5),
    max_in_flight: 8,
    idle_items: 1_000,
};

/// A member that has ended.
#[derive(Debug, Clone)]
pub struct Count {
    /// Its group.
    pub key: GroupKey,
    /// Its index.
    pub index: u32,
    /// Whether it succeeded.
    pub succeeded: bool,
}

/// The row of a group after its member was counted.
#[derive(Debug, Clone)]
pub struct Counted {
    /// The row.
    pub row: Arc<GroupRow>,
    /// Whether one of the members that shared the update has written the decision that follows from it. They write it one at a time, until
    /// one has.
    pub is_decided: Arc<Mutex<bool>>,
}

type CountResult = Result<Option<Counted>, AwsError>;

/// A member of a group in that table.
struct Item {
    table: String,
    count: Count,
}

impl BatchItem for Item {
    fn key(&self) -> Option<&str> {
        None
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// Counts members; all counts of a process share its updates.
#[derive(Debug, Clone)]
pub(crate) struct MemberCounter(Batcher<Item, CountResult>);

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.count)
    }
}

impl MemberCounter {
    pub(crate) fn new(client: Client, run_queue: RunQueue) -> Self {
        Self(Batcher::new(RULES, run_queue, move |batch| add_all(client.clone(), batch)))
    }

    pub(crate) async fn count(&self, table: &str, count: Count) -> CountResult {
        let sent = self.0.send(Item { table: table.to_owned(), count }).await;
        sent.unwrap_or_else(|| Err(AwsError::passing("the task that counts members of groups panicked")))
    }
}

/// One update for each group; a result for each member, in order.
async fn add_all(client: Client, batch: Vec<Item>) -> Vec<CountResult> {
    let mut groups: BTreeMap<(String, GroupKey), Vec<(u32, bool)>> = BTreeMap::new();
    for Item { table, count } in &batch {
        let members = groups.entry((table.clone(), count.key.clone())).or_default();
        members.push((count.index, count.succeeded));
    }
    let added = groups.into_iter().map(|((table, key), members)| {
        let client = client.clone();
        async move {
            let row = add(&client, &table, &key, &members).await;
            ((table, key), row)
        }
    });
    let counted = |row| Counted { row, is_decided: Arc::default() };
    let rows: BTreeMap<_, _> =
        join_all(added).await.into_iter().map(|(at, row)| (at, row.map(|row| row.map(counted)))).collect();
    let result = |Item { table, count }: Item| {
        let missing = || Err(AwsError::passing("no reply to a count"));
        rows.get(&(table, count.key)).map_or_else(missing, Clone::clone)
    };
    batch.into_iter().map(result).collect()
}

async fn add(
    client: &Client,
    table: &str,
    key: &GroupKey,
    members: &[(u32, bool)],
) -> Result<Option<Arc<GroupRow>>, AwsError> {
    let set = |succeeded: bool| {
        let mut indexes: Vec<_> = members
            .iter()
            .filter(|member| member.1 == succeeded)
            .map(|member| member.0.to_string())
            .collect();
        indexes.sort();
        indexes.dedup();
        (!indexes.is_empty()).then_some(AttributeValue::Ns(indexes))
    };
    let (ok, failed) = (set(true), set(false));
    let parts = [ok.as_ref().map(|_| "ok :ok"), failed.as_ref().map(|_| "failed :failed")];
    let expression = format!("ADD {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "));
    let request = client
        .update_item()
        .table_name(table)
        .set_key(Some(item([(PK, text(keys::group(key))), (SK, text(GROUP_SORT))])))
        .update_expression(expression)
        .condition_expression("attribute_exists(pk)")
        .set_expression_attribute_values(Some(item([(":ok", ok), (":failed", failed)])))
        .return_values(ReturnValue::AllNew);
    match request.send().await {
        Ok(output) => output.attributes.as_ref().map(|item| parsed(key, item).map(Arc::new)).transpose(),
        Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
            Ok(None)
        }
        Err(error) => Err(AwsError::of_sdk("UpdateItem", table, &error)),
    }
}
