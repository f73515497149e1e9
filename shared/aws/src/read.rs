//! Owns reading many rows by their keys: BatchGetItem in hundreds, a few requests at once.
//!
//! **Invariant:** what the service left out is asked for again, with pauses and not for ever.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::error::AwsError;
use crate::statements::{Item, pause};

/// The service's bound for one BatchGetItem.
const MOST: usize = 100;
/// So many requests are under way at once.
const AT_ONCE: usize = 8;
/// How often the service may leave out all that is asked for before we give up.
const MOST_TRIES: u32 = 6;

/// The rows of those keys that stand, in no particular order. No key may stand twice in `keys`.
pub(crate) async fn by_keys(
    client: &Client,
    table: &str,
    keys: Vec<Item>,
    consistent: bool,
) -> Result<Vec<Item>, AwsError> {
    let parts: Vec<Vec<Item>> = keys.chunks(MOST).map(<[Item]>::to_vec).collect();
    let parts: Vec<Vec<Item>> =
        stream::iter(parts.into_iter().map(|part| all_of(client, table, part, consistent)))
            .buffered(AT_ONCE)
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
    let mut in_vain = 0;
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
            in_vain = 0;
        } else {
            in_vain += 1;
            if in_vain >= MOST_TRIES {
                let what = format!("BatchGetItem on {table}: throttled, {in_vain} times");
                return Err(AwsError::passing(what));
            }
            tokio::time::sleep(pause(in_vain)).await;
        }
        rows.extend(found);
    }
    Ok(rows)
}
