//! Reads many rows by their keys: BatchGetItem of 100 keys, a few requests at once. Unprocessed keys are requested again.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::attributes::Item;
use crate::error::AwsError;
use crate::retry_pause::retry_pause;

/// The service's limit of keys in one BatchGetItem.
const MAX_KEYS: usize = 100;
/// Requests in flight at once.
const MAX_IN_FLIGHT: usize = 8;
/// How many replies in a row may hold no row before the read fails.
const MAX_TRIES: u32 = 6;

/// The rows of those keys that exist, in no particular order. `keys` must be distinct.
pub(crate) async fn by_keys(
    client: &Client,
    table: &str,
    keys: Vec<Item>,
    consistent: bool,
) -> Result<Vec<Item>, AwsError> {
    let parts: Vec<Vec<Item>> = keys.chunks(MAX_KEYS).map(<[Item]>::to_vec).collect();
    let parts: Vec<Vec<Item>> =
        stream::iter(parts.into_iter().map(|part| all_of(client, table, part, consistent)))
            .buffered(MAX_IN_FLIGHT)
            .try_collect()
            .await?;
    Ok(parts.into_iter().flatten().collect())
}

async fn all_of(
    client: &Client,
    table: &str,
    mut keys: Vec<Item>,
    consistent: bool,
) -> Result<Vec<Item>, AwsError> {
    let mut rows = Vec::new();
    let mut tries = 0;
    while !keys.is_empty() {
        let request = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(consistent)
            .build()
            .map_err(|e| AwsError::configuration(e.to_string()))?;
        let got = client
            .batch_get_item()
            .request_items(table, request)
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("BatchGetItem", table, &e))?;
        let found = got.responses.and_then(|mut r| r.remove(table)).unwrap_or_default();
        keys = got.unprocessed_keys.and_then(|mut k| k.remove(table)).map(|k| k.keys).unwrap_or_default();
        if keys.is_empty() || !found.is_empty() {
            tries = 0;
        } else {
            tries += 1;
            if tries >= MAX_TRIES {
                let what = format!("BatchGetItem on {table}: throttled, {tries} times");
                return Err(AwsError::passing(what));
            }
            tokio::time::sleep(retry_pause(tries)).await;
        }
        rows.extend(found);
    }
    Ok(rows)
}
