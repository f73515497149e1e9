//! PartiQL statements: one conditional write of one row. Values are parameters, never part of the text.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use super::attributes::{Item, bytes_of};
use crate::batch::BatchItem;

/// One write.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) table: String,
    /// The table and the row; two statements for the same row are never in one request.
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) parameters: Vec<AttributeValue>,
    pub(crate) bytes: usize,
    /// How long it may wait for a request that is sent anyway.
    pub(crate) may_wait: Option<Duration>,
}

impl Statement {
    /// A statement about the row `key` of `table`.
    pub(crate) fn new(table: &str, key: &str, text: String, parameters: Vec<AttributeValue>) -> Self {
        let bytes = text.len() + parameters.iter().map(bytes_of).sum::<usize>();
        let (table, key) = (table.to_owned(), format!("{table}|{key}"));
        Self { table, key, text, parameters, bytes, may_wait: None }
    }

    /// An INSERT of a whole item: unlike PutItem it cannot overwrite.
    pub(crate) fn insert<N: AsRef<str> + Ord>(
        table: &str,
        key: &str,
        item: impl IntoIterator<Item = (N, AttributeValue)>,
    ) -> Self {
        let mut attributes: Vec<_> = item.into_iter().collect();
        attributes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut text = format!("INSERT INTO \"{table}\" VALUE {{");
        for (n, (name, _)) in attributes.iter().enumerate() {
            let separator = if n == 0 { "'" } else { ", '" };
            text.extend([separator, name.as_ref(), "': ?"]);
        }
        text.push('}');
        Self::new(table, key, text, attributes.into_iter().map(|(_, value)| value).collect())
    }
}

impl BatchItem for Statement {
    fn key(&self) -> Option<&str> {
        Some(&self.key)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn may_wait(&self) -> Option<Duration> {
        self.may_wait
    }
}

/// The result of a write.
#[derive(Debug)]
pub(crate) enum Written {
    Done,
    /// An INSERT found a row of that key.
    Exists,
    /// The condition is false; the row that is stored, if any.
    ConditionFailed(Option<Item>),
}
