//! The operations of Secrets Manager: each reads its request and returns an answer and at most one change.
//!
//! **Invariant:** an operation changes nothing itself. Its change is written to the journal first and applied then.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::SecretsError;
use super::vault::{CURRENT, Secret, SecretValue, Vault, VaultChange};
use crate::names::secret_arn;

const DAY_MS: u64 = 86_400_000;

/// What an operation says and what it wants changed.
pub(super) struct Done {
    pub(super) answer: Value,
    pub(super) change: Option<VaultChange>,
}

/// The members of all requests: each operation looks at its own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    name: Option<String>,
    secret_id: Option<String>,
    client_request_token: Option<String>,
    description: Option<String>,
    kms_key_id: Option<String>,
    secret_string: Option<String>,
    secret_binary: Option<String>,
    tags: Option<Vec<Value>>,
    version_id: Option<String>,
    version_stage: Option<String>,
    version_stages: Option<Vec<String>>,
    force_delete_without_recovery: Option<bool>,
    recovery_window_in_days: Option<u64>,
    include_planned_deletion: Option<bool>,
    filters: Vec<Filter>,
    max_results: Option<u64>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    key: String,
    values: Vec<String>,
}

pub(super) fn dispatch(
    vault: &Vault,
    operation: &str,
    body: &Bytes,
    now_ms: u64,
) -> Result<Done, SecretsError> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    // The text of a parse error may quote the request, so it is not passed on.
    let request: Request = serde_json::from_slice(text).map_err(|_may_quote_a_value| {
        SecretsError::InvalidParameter("The request body is not what the operation takes.".to_owned())
    })?;
    match operation {
        "CreateSecret" => create(vault, request, now_ms),
        "GetSecretValue" => get_value(vault, &request),
        "PutSecretValue" => put_value(vault, request, now_ms),
        "UpdateSecret" => update(vault, request, now_ms),
        "DescribeSecret" => {
            let described = describe(vault.find(id(&request)?)?, "VersionIdsToStages");
            Ok(Done { answer: described, change: None })
        }
        "ListSecrets" => list(vault, &request),
        "DeleteSecret" => delete(vault, &request, now_ms),
        "RestoreSecret" => restore(vault, &request, now_ms),
        _ => Err(SecretsError::UnknownOperation(operation.to_owned())),
    }
}

fn id(request: &Request) -> Result<&str, SecretsError> {
    let missing = || SecretsError::InvalidParameter("You must provide SecretId.".to_owned());
    request.secret_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(missing)
}

fn token(request: &Request) -> String {
    request.client_request_token.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
}

fn create(vault: &Vault, request: Request, now_ms: u64) -> Result<Done, SecretsError> {
    let name = request.name.clone().unwrap_or_default();
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "/_+=.@-".contains(letter);
    if name.is_empty() || name.len() > 512 || !name.chars().all(allowed) {
        let problem =
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of: -/_+=.@!";
        return Err(SecretsError::InvalidParameter(problem.to_owned()));
    }
    let version_id = token(&request);
    let value = SecretValue::of(request.secret_string, request.secret_binary)?;
    if let Some(existing) = vault.named(&name) {
        let same = value.as_ref().is_some_and(|value| {
            existing.versions.get(&version_id).is_some_and(|version| version.value == *value)
        });
        return match existing.deleted_ms {
            Some(_) => {
                let problem = "You can't create this secret because a secret with this name is already scheduled for \
                               deletion.";
                Err(SecretsError::InvalidRequest(problem.to_owned()))
            }
            // The SDK repeats a request whose answer was lost.
            None if same => Ok(Done { answer: named(existing, Some(&version_id)), change: None }),
            None => Err(SecretsError::Exists(format!("the secret {name}"))),
        };
    }
    let mut secret = Secret {
        arn: secret_arn(&name, &random_end()),
        name,
        description: request.description,
        kms_key_id: request.kms_key_id,
        tags: request.tags.unwrap_or_default(),
        created_ms: now_ms,
        changed_ms: now_ms,
        deleted_ms: None,
        gone_at_ms: None,
        versions: BTreeMap::new(),
    };
    let has_value = value.is_some();
    if let Some(value) = value {
        secret.add_version(&version_id, value, &BTreeSet::from([CURRENT.to_owned()]), now_ms)?;
    }
    let answer = named(&secret, has_value.then_some(version_id.as_str()));
    Ok(Done { answer, change: Some(VaultChange::Set(Box::new(secret))) })
}

/// Six letters, as in a real ARN: a secret made anew under an old name has another ARN.
fn random_end() -> String {
    let letters = uuid::Uuid::new_v4().simple().to_string();
    letters.chars().take(6).collect()
}

fn get_value(vault: &Vault, request: &Request) -> Result<Done, SecretsError> {
    let secret = vault.find_usable(id(request)?)?;
    let stage = request.version_stage.as_deref();
    let missing = |what: String| SecretsError::NotFound(format!("the specified secret value for {what}"));
    let (version_id, version) = match &request.version_id {
        Some(version_id) => secret
            .versions
            .get_key_value(version_id)
            .filter(|(_, version)| stage.is_none_or(|stage| version.stages.contains(stage)))
            .map(|(version_id, version)| (version_id.as_str(), version))
            .ok_or_else(|| missing(format!("VersionId: {version_id}")))?,
        None => {
            let stage = stage.unwrap_or(CURRENT);
            let labelled = secret.version_labelled(stage);
            labelled.ok_or_else(|| missing(format!("staging label: {stage}")))?
        }
    };
    let (member, value) = match &version.value {
        SecretValue::Text(text) => ("SecretString", text),
        SecretValue::Binary(base64) => ("SecretBinary", base64),
    };
    let answer = json!({
        "ARN": secret.arn,
        "Name": secret.name,
        "VersionId": version_id,
        member: value,
        "VersionStages": version.stages,
        "CreatedDate": seconds(version.created_ms),
    });
    Ok(Done { answer, change: None })
}

fn put_value(vault: &Vault, request: Request, now_ms: u64) -> Result<Done, SecretsError> {
    let mut secret = vault.find_usable(id(&request)?)?.clone();
    let version_id = token(&request);
    let stages: BTreeSet<_> = match request.version_stages {
        Some(stages) if !stages.is_empty() => stages.into_iter().collect(),
        Some(_) | None => BTreeSet::from([CURRENT.to_owned()]),
    };
    let Some(value) = SecretValue::of(request.secret_string, request.secret_binary)? else {
        let problem = "You must provide either SecretString or SecretBinary.".to_owned();
        return Err(SecretsError::InvalidParameter(problem));
    };
    secret.add_version(&version_id, value, &stages, now_ms)?;
    let mut answer = named(&secret, Some(&version_id));
    if let (Some(answer), Some(version)) = (answer.as_object_mut(), secret.versions.get(&version_id)) {
        answer.insert("VersionStages".to_owned(), json!(version.stages));
    }
    Ok(Done { answer, change: Some(VaultChange::Set(Box::new(secret))) })
}

fn update(vault: &Vault, request: Request, now_ms: u64) -> Result<Done, SecretsError> {
    let mut secret = vault.find_usable(id(&request)?)?.clone();
    let version_id = token(&request);
    secret.description = request.description.or(secret.description);
    secret.kms_key_id = request.kms_key_id.or(secret.kms_key_id);
    secret.changed_ms = now_ms;
    let value = SecretValue::of(request.secret_string, request.secret_binary)?;
    let has_value = value.is_some();
    if let Some(value) = value {
        secret.add_version(&version_id, value, &BTreeSet::from([CURRENT.to_owned()]), now_ms)?;
    }
    let answer = named(&secret, has_value.then_some(version_id.as_str()));
    Ok(Done { answer, change: Some(VaultChange::Set(Box::new(secret))) })
}

fn delete(vault: &Vault, request: &Request, now_ms: u64) -> Result<Done, SecretsError> {
    let force = request.force_delete_without_recovery.unwrap_or(false);
    let days = request.recovery_window_in_days;
    if force && days.is_some() {
        let problem =
            "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.".to_owned();
        return Err(SecretsError::InvalidParameter(problem));
    }
    if days.is_some_and(|days| !(7..=30).contains(&days)) {
        let problem = "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).".to_owned();
        return Err(SecretsError::InvalidParameter(problem));
    }
    let mut secret = match (vault.find(id(request)?), force) {
        (Ok(secret), true) => secret.clone(),
        (_, _) => vault.find_usable(id(request)?)?.clone(),
    };
    let window_ms = if force { 0 } else { days.unwrap_or(30).saturating_mul(DAY_MS) };
    let gone_at_ms = now_ms.saturating_add(window_ms);
    let mut answer = named(&secret, None);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("DeletionDate".to_owned(), seconds(gone_at_ms));
    }
    let change = if force {
        VaultChange::Removed { name: secret.name }
    } else {
        secret.deleted_ms = Some(now_ms);
        secret.gone_at_ms = Some(gone_at_ms);
        VaultChange::Set(Box::new(secret))
    };
    Ok(Done { answer, change: Some(change) })
}

fn restore(vault: &Vault, request: &Request, now_ms: u64) -> Result<Done, SecretsError> {
    let mut secret = vault.find(id(request)?)?.clone();
    secret.deleted_ms = None;
    secret.gone_at_ms = None;
    secret.changed_ms = now_ms;
    let answer = named(&secret, None);
    Ok(Done { answer, change: Some(VaultChange::Set(Box::new(secret))) })
}

fn list(vault: &Vault, request: &Request) -> Result<Done, SecretsError> {
    let refused = |filter: &&Filter| !matches!(filter.key.as_str(), "name" | "description" | "all");
    if let Some(filter) = request.filters.iter().find(refused) {
        let problem = format!("The local endpoints do not filter by {}.", filter.key);
        return Err(SecretsError::InvalidParameter(problem));
    }
    let deleted_too = request.include_planned_deletion.unwrap_or(false);
    let after = request.next_token.as_deref().unwrap_or_default();
    let mut rest = vault.all().filter(|secret| {
        (deleted_too || secret.deleted_ms.is_none())
            && secret.name.as_str() > after
            && request.filters.iter().all(|filter| fits(secret, filter))
    });
    let most = usize::try_from(request.max_results.unwrap_or(100).clamp(1, 100)).unwrap_or(100);
    let shown: Vec<_> = rest.by_ref().take(most).collect();
    let described: Vec<_> = shown.iter().map(|secret| describe(secret, "SecretVersionsToStages")).collect();
    let mut answer = json!({ "SecretList": described });
    if let (Some(last), Some(_more), Some(answer)) = (shown.last(), rest.next(), answer.as_object_mut()) {
        answer.insert("NextToken".to_owned(), last.name.as_str().into());
    }
    Ok(Done { answer, change: None })
}

/// As Secrets Manager: a value is a prefix, and one that starts with `!` must not fit.
fn fits(secret: &Secret, filter: &Filter) -> bool {
    let description = secret.description.as_deref().unwrap_or_default();
    let starts = |value: &str| match filter.key.as_str() {
        "name" => secret.name.starts_with(value),
        "description" => description.starts_with(value),
        _ => secret.name.starts_with(value) || description.starts_with(value),
    };
    filter
        .values
        .iter()
        .any(|value| value.strip_prefix('!').map_or_else(|| starts(value), |rest| !starts(rest)))
}

fn named(secret: &Secret, version_id: Option<&str>) -> Value {
    let mut answer = json!({ "ARN": secret.arn, "Name": secret.name });
    if let (Some(answer), Some(version_id)) = (answer.as_object_mut(), version_id) {
        answer.insert("VersionId".to_owned(), version_id.into());
    }
    answer
}

fn describe(secret: &Secret, versions_member: &str) -> Value {
    let stages: BTreeMap<_, _> = secret.versions.iter().map(|(id, version)| (id, &version.stages)).collect();
    let optional = [
        ("Description", secret.description.clone().map(Value::String)),
        ("KmsKeyId", secret.kms_key_id.clone().map(Value::String)),
        ("DeletedDate", secret.deleted_ms.map(seconds)),
    ];
    let mut described = Map::new();
    described.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let facts = [
        ("ARN", secret.arn.as_str().into()),
        ("Name", secret.name.as_str().into()),
        ("Tags", json!(secret.tags)),
        ("CreatedDate", seconds(secret.created_ms)),
        ("LastChangedDate", seconds(secret.changed_ms)),
        (versions_member, json!(stages)),
    ];
    described.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(described)
}

/// A time as the JSON protocol writes it: seconds with a fraction.
fn seconds(at_ms: u64) -> Value {
    let whole = at_ms / 1000;
    let fraction = at_ms % 1000;
    serde_json::from_str(&format!("{whole}.{fraction:03}")).unwrap_or_else(|_never| whole.into())
}
