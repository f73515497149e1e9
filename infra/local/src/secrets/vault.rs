//! The secrets, their versions and the labels of the versions.
//!
//! **Invariant:** each label is on at most one version of a secret, and the value of a version never changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::SecretsError;

pub(crate) const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// The most a value may hold, in bytes (Secrets Manager quota).
const MAX_VALUE_BYTES: usize = 65_536;

/// A secret with its versions. Times are milliseconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Secret {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) kms_key_id: Option<String>,
    pub(crate) tags: Vec<serde_json::Value>,
    pub(crate) created_ms: u64,
    pub(crate) changed_ms: u64,
    /// When it was marked for deletion, and when it goes.
    pub(crate) deleted_ms: Option<u64>,
    pub(crate) gone_at_ms: Option<u64>,
    pub(crate) versions: BTreeMap<String, Version>,
}

/// One version of a secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) value: SecretValue,
    pub(crate) stages: BTreeSet<String>,
    pub(crate) created_ms: u64,
}

/// A value: text, or bytes in base64 as they come and go.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SecretValue {
    Text(String),
    Binary(String),
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretValue(..)")
    }
}

/// One change of the vault, as the journal keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum VaultChange {
    Set(Box<Secret>),
    Removed { name: String },
}

/// All secrets, by name.
#[derive(Debug, Default)]
pub(crate) struct Vault {
    secrets: BTreeMap<String, Secret>,
}

impl Vault {
    pub(crate) fn apply(&mut self, change: VaultChange) {
        match change {
            VaultChange::Set(secret) => {
                self.secrets.insert(secret.name.clone(), *secret);
            }
            VaultChange::Removed { name } => {
                self.secrets.remove(&name);
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Vec<VaultChange> {
        self.secrets.values().map(|secret| VaultChange::Set(Box::new(secret.clone()))).collect()
    }

    /// Forgets what was marked for deletion long enough ago.
    pub(crate) fn settle(&mut self, now_ms: u64) {
        self.secrets.retain(|_, secret| secret.gone_at_ms.is_none_or(|gone_at_ms| gone_at_ms > now_ms));
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.values()
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }

    /// By name, by ARN, or by ARN without its random end.
    pub(crate) fn find(&self, id: &str) -> Result<&Secret, SecretsError> {
        let fits = |secret: &&Secret| {
            secret.arn == id || secret.arn.rsplit_once('-').is_some_and(|(arn, _)| arn == id)
        };
        let found = self.secrets.get(id).or_else(|| self.secrets.values().find(fits));
        found.ok_or_else(|| SecretsError::NotFound("the specified secret".to_owned()))
    }

    /// As [`Vault::find`], but not one that is marked for deletion.
    pub(crate) fn find_usable(&self, id: &str) -> Result<&Secret, SecretsError> {
        let secret = self.find(id)?;
        match secret.deleted_ms {
            None => Ok(secret),
            Some(_) => {
                let problem =
                    "You can't perform this operation on the secret because it was marked for deletion."
                        .to_owned();
                Err(SecretsError::InvalidRequest(problem))
            }
        }
    }
}

impl SecretValue {
    /// The one value a request gives.
    pub(crate) fn of(text: Option<String>, binary: Option<String>) -> Result<Option<Self>, SecretsError> {
        let value = match (text, binary) {
            (Some(_), Some(_)) => {
                let problem =
                    "You can't specify both a binary secret value and a string secret value.".to_owned();
                return Err(SecretsError::InvalidParameter(problem));
            }
            (Some(text), None) => Some(Self::Text(text)),
            (None, Some(binary)) => Some(Self::Binary(binary)),
            (None, None) => None,
        };
        let bytes = match &value {
            Some(Self::Text(text)) => text.len(),
            Some(Self::Binary(base64)) => base64.len() / 4 * 3,
            None => 0,
        };
        if bytes > MAX_VALUE_BYTES {
            let problem = format!("The secret value can't be larger than {MAX_VALUE_BYTES} bytes.");
            return Err(SecretsError::InvalidParameter(problem));
        }
        Ok(value)
    }
}

impl Secret {
    /// Adds a version and puts labels on it. The same token with the same value changes nothing.
    pub(crate) fn add_version(
        &mut self,
        token: &str,
        value: SecretValue,
        stages: &BTreeSet<String>,
        now_ms: u64,
    ) -> Result<(), SecretsError> {
        match self.versions.get(token) {
            Some(existing) if existing.value == value => return Ok(()),
            Some(_) => {
                return Err(SecretsError::Exists(format!("the version {token} with another value")));
            }
            None => {}
        }
        let version = Version { value, stages: BTreeSet::new(), created_ms: now_ms };
        self.versions.insert(token.to_owned(), version);
        for stage in stages {
            self.label(token, stage);
        }
        self.changed_ms = now_ms;
        // A version without a label is deprecated, and Secrets Manager forgets it.
        self.versions.retain(|_, version| !version.stages.is_empty());
        Ok(())
    }

    fn label(&mut self, token: &str, stage: &str) {
        let before = self.version_labelled(stage).map(|(id, _)| id.to_owned());
        if stage == CURRENT
            && let Some(before) = &before
        {
            self.move_label(before, PREVIOUS);
        }
        self.move_label(token, stage);
    }

    fn move_label(&mut self, token: &str, stage: &str) {
        for (id, version) in &mut self.versions {
            if id == token {
                version.stages.insert(stage.to_owned());
            } else {
                version.stages.remove(stage);
            }
        }
    }

    pub(crate) fn version_labelled(&self, stage: &str) -> Option<(&str, &Version)> {
        let labelled = self.versions.iter().find(|(_, version)| version.stages.contains(stage));
        labelled.map(|(id, version)| (id.as_str(), version))
    }
}
