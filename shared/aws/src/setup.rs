//! How tables and the bucket are set up, for the checks of an operator. Workers ask none of it.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{IndexStatus, PointInTimeRecoveryStatus, SseDescription};

use crate::error::AwsError;
use crate::s3::Objects;

/// Reads how tables and buckets are set up.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(crate) dynamodb: Client,
    pub(crate) objects: Objects,
}

/// How a table is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSetup {
    /// Its indexes, and whether each can be read.
    pub indexes: BTreeMap<String, bool>,
    /// The attribute by which its rows end; none where they never do.
    pub expires_by: Option<String>,
    /// What encrypts it.
    pub encryption: TableEncryption,
    /// Whether a request to delete it is refused.
    pub is_protected: bool,
}

/// What encrypts a table. DynamoDB encrypts every table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableEncryption {
    /// A key of DynamoDB's own, which nobody sees or withdraws.
    OwnedKey,
    /// A key in KMS: AWS's for the account, or the account's own.
    Kms,
    /// A key in KMS that cannot be used.
    Unusable,
}

impl Setup {
    /// How the table of that name is set up.
    ///
    /// # Errors
    /// DynamoDB does not answer, or refuses: the table does not exist, or `DescribeTable` or `DescribeTimeToLive` is not allowed.
    pub async fn table(&self, table: &str) -> Result<TableSetup, AwsError> {
        let described = self.dynamodb.describe_table().table_name(table).send().await;
        let described = described.map_err(|e| AwsError::of_sdk("DescribeTable", table, &e))?;
        let expiry = self.dynamodb.describe_time_to_live().table_name(table).send().await;
        let expiry = expiry.map_err(|e| AwsError::of_sdk("DescribeTimeToLive", table, &e))?;
        let Some(table) = described.table else {
            return Err(AwsError::passing(format!("DescribeTable on {table}: the reply has no table")));
        };
        let encryption = table.sse_description.as_ref().map_or(TableEncryption::OwnedKey, encryption_of);
        let is_protected = table.deletion_protection_enabled == Some(true);
        let indexes = table.global_secondary_indexes.unwrap_or_default();
        let index = |index: aws_sdk_dynamodb::types::GlobalSecondaryIndexDescription| {
            Some((
                index.index_name?,
                matches!(index.index_status, Some(IndexStatus::Active | IndexStatus::Updating)),
            ))
        };
        let expiry = expiry.time_to_live_description.filter(|expiry| {
            expiry.time_to_live_status.as_ref().is_some_and(|status| status.as_str().starts_with("ENABL"))
        });
        Ok(TableSetup {
            indexes: indexes.into_iter().filter_map(index).collect(),
            expires_by: expiry.and_then(|expiry| expiry.attribute_name),
            encryption,
            is_protected,
        })
    }

    /// Whether the table of that name can be brought back as it was at any second of the last weeks.
    ///
    /// # Errors
    /// DynamoDB does not answer, or refuses: the table does not exist, or `DescribeContinuousBackups` is not allowed.
    pub async fn can_be_recovered(&self, table: &str) -> Result<bool, AwsError> {
        let described = self.dynamodb.describe_continuous_backups().table_name(table).send().await;
        let described = described.map_err(|e| AwsError::of_sdk("DescribeContinuousBackups", table, &e))?;
        let described = described.continuous_backups_description;
        let recovery = described.and_then(|described| described.point_in_time_recovery_description);
        let status = recovery.and_then(|recovery| recovery.point_in_time_recovery_status);
        Ok(status == Some(PointInTimeRecoveryStatus::Enabled))
    }

    /// After how many days objects of that bucket end; none where they never do.
    ///
    /// # Errors
    /// S3 does not answer, or refuses: the bucket does not exist, or `GetLifecycleConfiguration` is not allowed.
    pub async fn objects_end_after_days(&self, bucket: &str) -> Result<Option<i32>, AwsError> {
        self.objects.end_after_days(bucket).await
    }
}

fn encryption_of(described: &SseDescription) -> TableEncryption {
    if described.inaccessible_encryption_date_time.is_some() {
        TableEncryption::Unusable
    } else if described
        .status
        .as_ref()
        .is_some_and(|status| matches!(status.as_str(), "ENABLED" | "UPDATING"))
    {
        TableEncryption::Kms
    } else {
        TableEncryption::OwnedKey
    }
}
