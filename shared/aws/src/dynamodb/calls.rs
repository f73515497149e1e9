//! The calls table: one row per call, replaced by compare-and-swap on its revision.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::call::{CallRow, CallTable};
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::Outcome;

use super::attributes::Item;
use super::batch_get::by_keys;
use super::batch_write::BatchWriter;
use super::call_item::{check_fits, from_item, to_item};
use super::statement::{Statement, Written};
use crate::blocking::{self, LARGE_BYTES};
use crate::compare_and_swap::{Store, Swap};
use crate::error::AwsError;
use crate::keys::{self, PK, REV};

/// The calls table.
#[derive(Debug, Clone)]
pub struct Calls {
    pub(crate) client: Client,
    pub(crate) writer: BatchWriter,
    pub(crate) table: String,
}

impl Store for Calls {
    type Table = CallTable;

    async fn swap(&self, seen: Option<&CallRow>, new: &CallRow) -> Result<Swap<CallRow>, AwsError> {
        let item = item_of(new).await?;
        let statement = match seen {
            None => Statement::insert(&self.table, &keys::call(&new.key), item),
            Some(seen) => self.update(seen, item),
        };
        match self.writer.write(statement).await? {
            Written::Done => Ok(Swap::Stored),
            // INSERT does not return the row that it found.
            Written::Exists => Ok(Swap::Found(self.read(&new.key).await?.map(Box::new))),
            Written::ConditionFailed(Some(item)) => Ok(Swap::Found(Some(Box::new(from_item(&item)?)))),
            Written::ConditionFailed(None) => Ok(Swap::Found(None)),
        }
    }
}

impl Calls {
    /// The outcome itself, if it fits into a row, compressed if necessary. A large one is compressed on a blocking thread.
    ///
    /// # Errors
    /// It does not fit; its size in bytes.
    pub async fn fitting(outcome: Outcome) -> Result<Outcome, usize> {
        let bytes = outcome.content().map_or(0, |content| content.get().len());
        let fit = move || check_fits(&outcome).map(|()| outcome);
        if bytes < LARGE_BYTES {
            fit()
        } else {
            blocking::run(&blocking::PAYLOADS, fit).await.unwrap_or(Err(bytes))
        }
    }

    /// The row of a call, by a consistent read.
    pub async fn read(&self, key: &CallKey) -> Result<Option<CallRow>, AwsError> {
        let key = AttributeValue::S(keys::call(key));
        let request = self.client.get_item().table_name(&self.table).key(PK, key).consistent_read(true);
        // Kilobytes of state that every call in flight would carry for a read that few of them make.
        let got = Box::pin(request.send()).await.map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        got.item.as_ref().map(from_item).transpose()
    }

    /// The rows of many calls, by consistent reads, in the order of `keys`; 100 in a request.
    pub async fn read_many(&self, keys: &[CallKey]) -> Result<Vec<Option<CallRow>>, AwsError> {
        let distinct: BTreeSet<String> = keys.iter().map(keys::call).collect();
        let wanted = distinct.into_iter().map(|pk| Item::from([(PK.to_owned(), AttributeValue::S(pk))]));
        let found = by_keys(&self.client, &self.table, wanted.collect(), true).await?;
        let rows = found.iter().map(from_item).collect::<Result<Vec<_>, _>>()?;
        let rows: HashMap<CallKey, CallRow> = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        Ok(keys.iter().map(|key| rows.get(key).cloned()).collect())
    }

    /// Sets what differs and removes what is gone.
    fn update(&self, seen: &CallRow, mut new: Item) -> Statement {
        let mut old = to_item(seen);
        let mut text = format!("UPDATE \"{}\"", self.table);
        let mut parameters = Vec::new();
        let key = new.remove(PK);
        let rev = old.remove(REV);
        let mut names: Vec<_> =
            new.iter().filter(|(name, value)| old.get(*name) != Some(value)).map(|(n, _)| n).collect();
        names.sort();
        for name in names {
            text.push_str(&format!(" SET \"{name}\"=?"));
            parameters.extend(new.get(name).cloned());
        }
        let mut gone: Vec<_> =
            old.keys().filter(|name| name.as_str() != PK && !new.contains_key(*name)).collect();
        gone.sort();
        for name in gone {
            text.push_str(&format!(" REMOVE \"{name}\""));
        }
        text.push_str(&format!(" WHERE \"{PK}\"=? AND \"{REV}\"=?"));
        parameters.extend(key);
        parameters.extend(rev);
        Statement::new(&self.table, &keys::call(&seen.key), text, parameters)
    }
}

/// The row as an item; a large result is compressed on a blocking thread.
async fn item_of(row: &CallRow) -> Result<Item, AwsError> {
    let content = row.finished.as_ref().and_then(|finished| finished.outcome.content());
    if content.is_none_or(|content| content.get().len() < LARGE_BYTES) {
        return Ok(to_item(row));
    }
    let row = row.clone();
    blocking::run(&blocking::ROWS, move || to_item(&row))
        .await
        .ok_or_else(|| AwsError::passing("a row could not be compressed"))
}
