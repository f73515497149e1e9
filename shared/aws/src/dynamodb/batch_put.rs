//! Puts many rows: BatchWriteItem of 25 rows, a few requests at once. Unprocessed rows are sent again. A row replaces the one of its key.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::attributes::Item;
use crate::error::AwsError;
use crate::retry_pause::retry_pause;

/// The service's limit of rows in one BatchWriteItem.
const MAX_ROWS: usize = 25;
/// Requests in flight at once.
const MAX_IN_FLIGHT: usize = 4;
/// How often unprocessed rows are sent before the write fails.
const MAX_TRIES: u32 = 6;

/// Puts the rows, whose keys must be distinct. After an error any part of them may be stored.
pub(crate) async fn put_all(client: &Client, table: &str, rows: Vec<Item>) -> Result<(), AwsError> {
    let parts: Vec<Vec<Item>> = rows.chunks(MAX_ROWS).map(<[Item]>::to_vec).collect();
    let puts = parts.into_iter().map(|part| put(client, table, part));
    stream::iter(puts).buffer_unordered(MAX_IN_FLIGHT).try_collect().await
}

async fn put(client: &Client, table: &str, rows: Vec<Item>) -> Result<(), AwsError> {
    let request = |row: Item| {
        let put = PutRequest::builder().set_item(Some(row)).build();
        put.map(|put| WriteRequest::builder().put_request(put).build())
    };
    let mut left = rows
        .into_iter()
        .map(request)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| AwsError::configuration(e.to_string()))?;
    let mut tries = 0;
    while !left.is_empty() {
        if tries > 0 {
            tokio::time::sleep(retry_pause(tries)).await;
        }
        tries += 1;
        if tries > MAX_TRIES {
            return Err(AwsError::passing(format!(
                "BatchWriteItem on {table}: throttled, {MAX_TRIES} times"
            )));
        }
        let sent = client.batch_write_item().request_items(table, left).send().await;
        let sent = sent.map_err(|e| AwsError::of_sdk("BatchWriteItem", table, &e))?;
        left = sent.unprocessed_items.and_then(|mut items| items.remove(table)).unwrap_or_default();
    }
    Ok(())
}
