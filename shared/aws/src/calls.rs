//! Owns the calls table: one row per call, replaced by compare-and-swap on its revision.
//!
//! **Invariant:** executes conditions, decides nothing.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use tokio::sync::Semaphore;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::Outcome;

use crate::error::AwsError;
use crate::item::{self, KEY, REV, bytes_of};
use crate::read::by_keys;
use crate::statements::{Item, Statement, Statements, Written};

/// A smaller result is compressed where it is met: to hand it over would cost more.
pub(crate) const LARGE_BYTES: usize = 256 * 1024;

/// Where results are tried, and where they are compressed to be stored: who has waited for the first does not wait behind others for the
/// second.
pub(crate) static TRYING: Semaphore = Semaphore::const_new(2);
static STORING: Semaphore = Semaphore::const_new(2);

/// The calls table.
#[derive(Debug, Clone)]
pub struct Calls {
    pub(crate) client: Client,
    pub(crate) statements: Statements,
    pub(crate) table: String,
}

/// What became of a swap.
#[derive(Debug)]
pub enum Swap {
    /// The new row stands.
    Stored,
    /// Another row stands, or none.
    Found(Option<Box<CallRow>>),
}

impl Calls {
    /// Gives the outcome back if it fits into a row, its content compressed if need be; else its size in bytes. A large one is
    /// compressed beside the runtime.
    pub async fn fitting(outcome: Outcome) -> Result<Outcome, usize> {
        let bytes = outcome.content.as_ref().map_or(0, |content| content.get().len());
        let fit = move || item::fits(&outcome).map(|()| outcome);
        if bytes < LARGE_BYTES { fit() } else { beside(&TRYING, fit).await.unwrap_or(Err(bytes)) }
    }

    /// Stores `new` if what was `seen` still stands: nothing, or a row of the same revision.
    pub async fn swap(&self, seen: Option<&CallRow>, new: &CallRow) -> Result<Swap, AwsError> {
        let item = row_beside(new).await?;
        let statement = match seen {
            None => insert(&self.table, new.key.partition(), item),
            Some(seen) => self.update(seen, item),
        };
        match self.statements.write(statement).await? {
            Written::Done => Ok(Swap::Stored),
            // INSERT does not say what it met.
            Written::Exists => Ok(Swap::Found(self.read(&new.key).await?.map(Box::new))),
            Written::Refused(Some(item)) => Ok(Swap::Found(Some(Box::new(item::from_item(&item)?)))),
            Written::Refused(None) => Ok(Swap::Found(None)),
        }
    }

    /// The row of a call, as it stands now.
    pub async fn read(&self, key: &CallKey) -> Result<Option<CallRow>, AwsError> {
        let key = AttributeValue::S(key.partition());
        let request = self.client.get_item().table_name(&self.table).key(KEY, key).consistent_read(true);
        // Kilobytes of state that every call in flight would carry for a read that few of them make.
        let got = Box::pin(request.send()).await.map_err(|e| AwsError::of_sdk("GetItem", &self.table, &e))?;
        got.item.as_ref().map(item::from_item).transpose()
    }

    /// The rows of many calls, as they stand now, in the order of `keys`; a hundred in a request.
    pub async fn read_many(&self, keys: &[CallKey]) -> Result<Vec<Option<CallRow>>, AwsError> {
        let distinct: BTreeSet<String> = keys.iter().map(CallKey::partition).collect();
        let wanted = distinct.into_iter().map(|pk| Item::from([(KEY.to_owned(), AttributeValue::S(pk))]));
        let found = by_keys(&self.client, &self.table, wanted.collect(), true).await?;
        let rows = found.iter().map(item::from_item).collect::<Result<Vec<_>, _>>()?;
        let rows: HashMap<CallKey, CallRow> = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        Ok(keys.iter().map(|key| rows.get(key).cloned()).collect())
    }

    /// Sets what differs and removes what is gone.
    fn update(&self, seen: &CallRow, mut new: Item) -> Statement {
        let mut old = item::to_item(seen);
        let mut text = format!("UPDATE \"{}\"", self.table);
        let mut parameters = Vec::new();
        let key = new.remove(KEY);
        let rev = old.remove(REV);
        let mut names: Vec<_> =
            new.iter().filter(|(name, value)| old.get(*name) != Some(value)).map(|(n, _)| n).collect();
        names.sort();
        for name in names {
            text.push_str(&format!(" SET \"{name}\"=?"));
            parameters.extend(new.get(name).cloned());
        }
        let mut gone: Vec<_> =
            old.keys().filter(|name| name.as_str() != KEY && !new.contains_key(*name)).collect();
        gone.sort();
        for name in gone {
            text.push_str(&format!(" REMOVE \"{name}\""));
        }
        text.push_str(&format!(" WHERE \"{KEY}\"=? AND \"{REV}\"=?"));
        parameters.extend(key);
        parameters.extend(rev);
        statement(&self.table, seen.key.partition(), text, parameters)
    }
}

/// The row as an item; one with a large result is compressed beside the runtime.
async fn row_beside(row: &CallRow) -> Result<Item, AwsError> {
    let content = row.finished.as_ref().and_then(|finished| finished.outcome.content.as_ref());
    if content.is_none_or(|content| content.get().len() < LARGE_BYTES) {
        return Ok(item::to_item(row));
    }
    let row = row.clone();
    beside(&STORING, move || item::to_item(&row))
        .await
        .ok_or_else(|| AwsError::passing("a row could not be compressed"))
}

/// What `work` gives, on a thread of its own, or nothing where it panics. No more of it runs at once than there are places.
pub(crate) async fn beside<T: Send + 'static>(
    places: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let place = places.acquire().await.ok()?;
    let placed = move || {
        let _place = place;
        work()
    };
    tokio::task::spawn_blocking(placed).await.ok()
}

/// An INSERT of a whole item: unlike PutItem it cannot overwrite.
pub(crate) fn insert(table: &str, key: String, item: Item) -> Statement {
    let mut attributes: Vec<_> = item.into_iter().collect();
    attributes.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<_> = attributes.iter().map(|(name, _)| format!("'{name}': ?")).collect();
    let text = format!("INSERT INTO \"{table}\" VALUE {{{}}}", names.join(", "));
    statement(table, key, text, attributes.into_iter().map(|(_, value)| value).collect())
}

pub(crate) fn statement(
    table: &str,
    key: String,
    text: String,
    parameters: Vec<AttributeValue>,
) -> Statement {
    let bytes = text.len() + parameters.iter().map(bytes_of).sum::<usize>();
    Statement { table: table.to_owned(), key: format!("{table}|{key}"), text, parameters, bytes }
}
