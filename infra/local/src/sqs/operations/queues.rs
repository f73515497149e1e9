//! The operations on queues, and their paging.
//!
//! **Invariant:** a queue's URL is built here from its name, whatever host the caller used.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::{queue_name, within};
use crate::sqs::error::SqsError;
use crate::sqs::service::SqsService;

/// The most queues of one answer (SQS quota).
const MAX_PAGE: u64 = 1000;

#[derive(Deserialize)]
pub(super) struct CreateRequest {
    #[serde(rename = "QueueName", default)]
    queue_name: String,
    #[serde(rename = "Attributes", default)]
    attributes: BTreeMap<String, String>,
    // The one member that SQS spells in lower case here.
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NameRequest {
    #[serde(default)]
    queue_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListRequest {
    #[serde(default)]
    queue_url: String,
    #[serde(default)]
    queue_name_prefix: String,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UrlRequest {
    #[serde(default)]
    queue_url: String,
    #[serde(default)]
    attribute_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SettingsRequest {
    #[serde(default)]
    queue_url: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

pub(super) fn create(service: &SqsService, request: CreateRequest) -> Result<Value, SqsError> {
    let name = request.queue_name;
    service.run(|queues, now_ms| queues.create(&name, request.attributes, request.tags, now_ms))?;
    Ok(json!({ "QueueUrl": service.queue_url(&name) }))
}

pub(super) fn url(service: &SqsService, request: &NameRequest) -> Result<Value, SqsError> {
    service.run(|queues, _| queues.queue(&request.queue_name).map(drop))?;
    Ok(json!({ "QueueUrl": service.queue_url(&request.queue_name) }))
}

pub(super) fn list(service: &SqsService, request: &ListRequest) -> Result<Value, SqsError> {
    let prefix = &request.queue_name_prefix;
    let names = service.run(|queues, _| Ok(queues.names(prefix).map(str::to_owned).collect::<Vec<_>>()))?;
    page(service, request, names, "QueueUrls")
}

pub(super) fn dead_letter_sources(service: &SqsService, request: &ListRequest) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    let names = service.run(|queues, _| queues.dead_letter_sources(name))?;
    page(service, request, names, "queueUrls")
}

/// One page of sorted names; the token is the last name of the page before.
fn page(
    service: &SqsService,
    request: &ListRequest,
    names: Vec<String>,
    member: &str,
) -> Result<Value, SqsError> {
    let most = within("MaxResults", request.max_results, 1, MAX_PAGE)?.unwrap_or(MAX_PAGE);
    let after =
        match &request.next_token {
            Some(token) => Some(last_name(token).ok_or_else(|| {
                SqsError::InvalidParameterValue("Invalid or expired next token.".to_owned())
            })?),
            None => None,
        };
    let mut rest = names.into_iter().filter(|name| after.as_ref().is_none_or(|after| name > after));
    let shown: Vec<_> = rest.by_ref().take(usize::try_from(most).unwrap_or(1000)).collect();
    let urls: Vec<_> = shown.iter().map(|name| service.queue_url(name)).collect();
    let mut answer = json!({ member: urls });
    // SQS gives a token only to those who asked for pages.
    if request.max_results.is_some()
        && let (Some(last), Some(_more), Some(answer)) = (shown.last(), rest.next(), answer.as_object_mut())
    {
        answer.insert("NextToken".to_owned(), URL_SAFE_NO_PAD.encode(last).into());
    }
    Ok(answer)
}

fn last_name(token: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

pub(super) fn attributes(service: &SqsService, request: &UrlRequest) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    let shown = service.run(|queues, now_ms| queues.attributes(name, &request.attribute_names, now_ms))?;
    if shown.is_empty() { Ok(json!({})) } else { Ok(json!({ "Attributes": shown })) }
}

pub(super) fn set_attributes(service: &SqsService, request: SettingsRequest) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    service.run(|queues, now_ms| queues.set_attributes(name, request.attributes, now_ms))?;
    Ok(json!({}))
}

pub(super) fn purge(service: &SqsService, request: &UrlRequest) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    service.run(|queues, _| queues.purge(name))?;
    Ok(json!({}))
}

pub(super) fn delete(service: &SqsService, request: &UrlRequest) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    service.run(|queues, _| queues.drop_queue(name))?;
    Ok(json!({}))
}

pub(super) fn tag(service: &SqsService, request: SettingsRequest) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    service.run(|queues, _| queues.retag(name, request.tags, &[]))?;
    Ok(json!({}))
}

pub(super) fn untag(service: &SqsService, request: SettingsRequest) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    service.run(|queues, _| queues.retag(name, BTreeMap::new(), &request.tag_keys))?;
    Ok(json!({}))
}

pub(super) fn tags(service: &SqsService, request: &UrlRequest) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    let tags = service.run(|queues, _| Ok(queues.queue(name)?.tags.clone()))?;
    if tags.is_empty() { Ok(json!({})) } else { Ok(json!({ "Tags": tags })) }
}
