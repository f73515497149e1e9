//! One row for each tenant and `supersede` key, replaced by compare-and-swap on its revision.

use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::ids::{CallId, Tenant};
use toolfleet_core::supersede::{Contender, Offer, Standing, SupersedeRow, SupersedeTable};
use toolfleet_core::time::Timestamp;

use super::Fleet;
use crate::compare_and_swap::{Applied, Store, Swap, apply};
use crate::dynamodb::attributes::{Item, item, list, ms, number, text};
use crate::dynamodb::statement::{Statement, Written};
use crate::error::AwsError;
use crate::keys::{self, EXPIRES_AT, PK, REV, SK, SUPERSEDE_SORT};

impl Fleet {
    /// Whether a call that was not started yet is the newest of its tenant's `supersede` key.
    pub async fn offer(&self, tenant: &Tenant, key: &str, offer: &Offer) -> Result<Standing, AwsError> {
        let store = SupersedeStore { fleet: self, partition: keys::supersede(tenant, key) };
        let seen = store.read().await?;
        Ok(match apply(&store, seen.as_ref(), offer).await? {
            Applied::Stored { then, .. } => then,
            Applied::Rejected { rejection, .. } => rejection,
        })
    }
}

struct SupersedeStore<'a> {
    fleet: &'a Fleet,
    partition: String,
}

impl SupersedeStore<'_> {
    async fn read(&self) -> Result<Option<SupersedeRow>, AwsError> {
        let Fleet { client, table, .. } = self.fleet;
        let got = client
            .get_item()
            .table_name(table)
            .key(PK, AttributeValue::S(self.partition.clone()))
            .key(SK, AttributeValue::S(SUPERSEDE_SORT.into()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("GetItem", table, &e))?;
        got.item.as_ref().map(|item| self.parsed(item)).transpose()
    }

    /// A row that cannot be read is an error, which names it: taken for a missing one, each write would find it again.
    fn parsed(&self, item: &Item) -> Result<SupersedeRow, AwsError> {
        parse(item).ok_or_else(|| {
            let Self { partition, fleet } = self;
            let table = &fleet.table;
            AwsError::configuration(format!(
                "the row {partition} ({SUPERSEDE_SORT}) of {table} cannot be read"
            ))
        })
    }
}

impl Store for SupersedeStore<'_> {
    type Table = SupersedeTable;

    async fn swap(
        &self,
        seen: Option<&SupersedeRow>,
        new: &SupersedeRow,
    ) -> Result<Swap<SupersedeRow>, AwsError> {
        let Fleet { writer, table, .. } = self.fleet;
        let write = match seen {
            None => {
                let mut all = item([(PK, text(&self.partition)), (SK, text(SUPERSEDE_SORT))]);
                all.extend(item(attributes(new)));
                Statement::insert(table, &self.partition, all)
            }
            Some(seen) => self.replacing(seen, new),
        };
        Ok(match writer.write(write).await? {
            Written::Done => Swap::Stored,
            Written::Exists => Swap::Found(self.read().await?.map(Box::new)),
            Written::ConditionFailed(found) => {
                Swap::Found(found.as_ref().map(|item| self.parsed(item)).transpose()?.map(Box::new))
            }
        })
    }
}

impl SupersedeStore<'_> {
    fn replacing(&self, seen: &SupersedeRow, new: &SupersedeRow) -> Statement {
        let mut update = format!(r#"UPDATE "{}""#, self.fleet.table);
        let mut parameters = Vec::new();
        for (name, value) in attributes(new) {
            update.push_str(&format!(r#" SET "{name}"=?"#));
            parameters.extend(value);
        }
        update.push_str(&format!(r#" WHERE "{PK}"=? AND "{SK}"=? AND "{REV}"=?"#));
        parameters
            .extend([text(&self.partition), text(SUPERSEDE_SORT), number(seen.rev)].into_iter().flatten());
        Statement::new(&self.fleet.table, &self.partition, update, parameters)
    }
}

fn attributes(row: &SupersedeRow) -> [(&'static str, Option<AttributeValue>); 5] {
    let losers: Vec<String> = row.losers.iter().map(ToString::to_string).collect();
    [
        (REV, number(row.rev)),
        ("newest", text(&row.newest.call_id)),
        ("newest_enqueued_at_ms", ms(row.newest.enqueued_at)),
        ("losers", Some(list(&losers))),
        (EXPIRES_AT, number(row.expires_at.as_s())),
    ]
}

/// The row of an item.
fn parse(item: &Item) -> Option<SupersedeRow> {
    let whole = |name: &str| item.get(name)?.as_n().ok()?.parse::<i64>().ok();
    let losers = item.get("losers")?.as_l().ok()?;
    Some(SupersedeRow {
        newest: Contender {
            enqueued_at: Timestamp::from_ms(whole("newest_enqueued_at_ms")?),
            call_id: CallId::parse(item.get("newest")?.as_s().ok()?.as_str()).ok()?,
        },
        losers: losers.iter().filter_map(|id| CallId::parse(id.as_s().ok()?.as_str()).ok()).collect(),
        rev: u64::try_from(whole(REV)?).ok()?,
        expires_at: Timestamp::from_ms(whole(EXPIRES_AT)?.saturating_mul(1_000)),
    })
}
