//! Turns a CloudFormation resource into the request that creates it.
//!
//! **Invariant:** an unknown property is an error. Nothing in a template is silently ignored, except what has no effect on one machine.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::TemplateError;
use super::resolve::{Resolver, plain_text, problem_of};
use super::spec::{BucketSpec, QueueSpec, TableSpec};

/// Queue properties that are attributes of the same name.
const QUEUE_ATTRIBUTES: [&str; 12] = [
    "DelaySeconds",
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "ReceiveMessageWaitTimeSeconds",
    "SqsManagedSseEnabled",
    "VisibilityTimeout",
    "FifoQueue",
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "FifoThroughputLimit",
];

pub(super) fn queue(resolver: &Resolver<'_>, logical: &str) -> Result<QueueSpec, TemplateError> {
    let name = resolver.physical_name(logical)?;
    let mut attributes = BTreeMap::new();
    for (property, value) in resolver.properties(logical)? {
        match property.as_str() {
            "QueueName" | "Tags" => {}
            "RedrivePolicy" | "RedriveAllowPolicy" => {
                let policy = with_count(value, logical, &property)?;
                attributes.insert(property, policy.to_string());
            }
            known if QUEUE_ATTRIBUTES.contains(&known) => {
                attributes.insert(property, plain_text(&value));
            }
            _ => {
                return Err(problem_of(logical, &property, "is not known to the local endpoints".to_owned()));
            }
        }
    }
    Ok(QueueSpec { name, attributes })
}

/// Converts `maxReceiveCount` to a number: a parameter arrives as text.
fn with_count(mut policy: Value, logical: &str, property: &str) -> Result<Value, TemplateError> {
    if let Some(count) = policy.get_mut("maxReceiveCount") {
        let number: u32 = plain_text(count).parse().map_err(|_not_a_number| {
            problem_of(logical, property, "maxReceiveCount is no number".to_owned())
        })?;
        *count = number.into();
    }
    Ok(policy)
}

/// Encryption and access have no effect on one machine. The life cycle is shown, and no object ends by it.
pub(super) fn bucket(resolver: &Resolver<'_>, logical: &str) -> Result<BucketSpec, TemplateError> {
    const KNOWN: [&str; 7] = [
        "BucketName",
        "BucketEncryption",
        "LifecycleConfiguration",
        "OwnershipControls",
        "PublicAccessBlockConfiguration",
        "Tags",
        "VersioningConfiguration",
    ];
    let name = resolver.physical_name(logical)?;
    let properties = resolver.properties(logical)?;
    match properties.keys().find(|property| !KNOWN.contains(&property.as_str())) {
        Some(property) => {
            Err(problem_of(logical, property, "is not known to the local endpoints".to_owned()))
        }
        None => Ok(BucketSpec { name, expires_after_days: expires_after_days(&properties) }),
    }
}

fn expires_after_days(properties: &Map<String, Value>) -> Option<u64> {
    let rules = properties.get("LifecycleConfiguration")?.get("Rules")?.as_array()?;
    rules.iter().filter_map(|rule| rule.get("ExpirationInDays")?.as_u64()).min()
}

pub(super) fn table(resolver: &Resolver<'_>, logical: &str) -> Result<TableSpec, TemplateError> {
    let name = resolver.physical_name(logical)?;
    let mut create = Map::new();
    create.insert("TableName".to_owned(), Value::String(name.clone()));
    let mut ttl_attribute = None;
    for (property, value) in resolver.properties(logical)? {
        match property.as_str() {
            // Recovery, throughput and tags have no effect on one machine.
            "TableName"
            | "PointInTimeRecoverySpecification"
            | "OnDemandThroughput"
            | "WarmThroughput"
            | "Tags" => {}
            "TimeToLiveSpecification" => ttl_attribute = time_to_live(&value, logical)?,
            "DeletionProtectionEnabled" => {
                create.insert(property, Value::Bool(plain_text(&value) == "true"));
            }
            "SSESpecification" => {
                let enabled = value.get("SSEEnabled").and_then(Value::as_bool).unwrap_or(false);
                create.insert(property, json!({ "Enabled": enabled }));
            }
            "AttributeDefinitions"
            | "KeySchema"
            | "BillingMode"
            | "GlobalSecondaryIndexes"
            | "LocalSecondaryIndexes"
            | "ProvisionedThroughput"
            | "TableClass" => {
                create.insert(property, value);
            }
            _ => {
                return Err(problem_of(logical, &property, "is not known to the local endpoints".to_owned()));
            }
        }
    }
    Ok(TableSpec { name, create: Value::Object(create), ttl_attribute })
}

fn time_to_live(value: &Value, logical: &str) -> Result<Option<String>, TemplateError> {
    let enabled = value.get("Enabled").and_then(Value::as_bool).unwrap_or(false);
    match value.get("AttributeName").and_then(Value::as_str) {
        Some(attribute) => Ok(enabled.then(|| attribute.to_owned())),
        None => Err(problem_of(logical, "TimeToLiveSpecification", "names no attribute".to_owned())),
    }
}
