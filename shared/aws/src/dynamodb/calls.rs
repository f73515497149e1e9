//! The calls table: one row per call, replaced by compare-and-swap on its revision.

use std::collections::{BTreeSet, HashMap};
use std::iter::from_fn;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::call::{CallRow, CallTable};
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::Outcome;

use super::attributes::{Attribute, Item};
use super::batch_get::by_keys;
use super::batch_write::BatchWriter;
use super::call_item::{attributes_of, check_fits, from_item};
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
        let item = written(new).await?;
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
    fn update(&self, seen: &CallRow, new: Vec<Attribute>) -> Statement {
        let key = keys::call(&seen.key);
        let mut old = attributes_of(seen);
        // The revision is written whatever it was.
        old.retain(|(name, _)| *name != REV);
        let Changes { set, gone } = Changes::between(old, new);
        let mut text = format!("UPDATE \"{}\"", self.table);
        let mut parameters = Vec::with_capacity(set.len() + 2);
        for (name, value) in set {
            text.extend([" SET \"", name, "\"=?"]);
            parameters.push(value);
        }
        for name in gone {
            text.extend([" REMOVE \"", name, "\""]);
        }
        text.push_str(&format!(" WHERE \"{PK}\"=? AND \"{REV}\"=?"));
        parameters.extend([AttributeValue::S(key.clone()), AttributeValue::N(seen.rev.to_string())]);
        Statement::new(&self.table, &key, text, parameters)
    }
}

/// What makes one row of another: both are in the order of their names, and so are these.
struct Changes {
    set: Vec<Attribute>,
    gone: Vec<&'static str>,
}

impl Changes {
    fn between(old: Vec<Attribute>, new: Vec<Attribute>) -> Self {
        let mut changes = Self { set: Vec::with_capacity(new.len()), gone: Vec::new() };
        let mut old = old.into_iter().peekable();
        for (name, value) in new {
            changes.gone.extend(from_fn(|| old.next_if(|(before, _)| *before < name)).map(|(name, _)| name));
            let before = old.next_if(|(before, _)| *before == name);
            if before.is_none_or(|(_, before)| before != value) {
                changes.set.push((name, value));
            }
        }
        changes.gone.extend(old.map(|(name, _)| name));
        changes
    }
}

/// The row as the table holds it; a large result is compressed on a blocking thread.
async fn written(row: &CallRow) -> Result<Vec<Attribute>, AwsError> {
    let content = row.finished.as_ref().and_then(|finished| finished.outcome.content());
    if content.is_none_or(|content| content.get().len() < LARGE_BYTES) {
        return Ok(attributes_of(row));
    }
    let row = row.clone();
    blocking::run(&blocking::ROWS, move || attributes_of(&row))
        .await
        .ok_or_else(|| AwsError::passing("a row could not be compressed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(value: u8) -> AttributeValue {
        AttributeValue::N(value.to_string())
    }

    #[test]
    fn an_update_sets_what_differs_and_removes_what_is_gone() {
        let old = vec![("a", n(1)), ("b", n(2)), ("d", n(4)), ("e", n(5)), ("g", n(7))];
        let new = vec![("b", n(2)), ("c", n(3)), ("d", n(0)), ("f", n(6))];
        let Changes { set, gone } = Changes::between(old, new);
        assert_eq!(set, [("c", n(3)), ("d", n(0)), ("f", n(6))]);
        assert_eq!(gone, ["a", "e", "g"]);
        let Changes { set, gone } = Changes::between(vec![("a", n(1))], Vec::new());
        assert_eq!((set, gone), (Vec::new(), vec!["a"]));
    }
}
