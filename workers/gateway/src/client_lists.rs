//! The lists of which clients are told that they have changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use toolfleet_mcp_protocol::{Request as Notification, meta_key, method};

/// A list of which clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum ClientList {
    #[serde(rename = "t")]
    Tools,
    #[serde(rename = "p")]
    Prompts,
    /// Resources and their templates.
    #[serde(rename = "r")]
    Resources,
}

impl ClientList {
    /// Its member in the filter of `subscriptions/listen`.
    pub(crate) const fn filter(self) -> &'static str {
        match self {
            Self::Tools => "toolsListChanged",
            Self::Prompts => "promptsListChanged",
            Self::Resources => "resourcesListChanged",
        }
    }

    /// The notification that it has changed.
    pub(crate) fn changed(self, subscription: Option<&Value>) -> String {
        let method = match self {
            Self::Tools => method::TOOLS_LIST_CHANGED,
            Self::Prompts => method::PROMPTS_LIST_CHANGED,
            Self::Resources => method::RESOURCES_LIST_CHANGED,
        };
        let params = subscription.map(|id| json!({"_meta": { meta_key::SUBSCRIPTION_ID: id }}));
        serde_json::to_string(&Notification::notification(method, params)).unwrap_or_default()
    }
}

/// The lists as a caller has seen them: a hash of each. Another version of the program may hash otherwise, and tell once too often.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenLists(BTreeMap<ClientList, u64>);

impl SeenLists {
    pub(crate) fn set(&mut self, list: ClientList, hash: u64) {
        self.0.insert(list, hash);
    }

    /// Takes over how that list is.
    pub(crate) fn take(&mut self, list: ClientList, newer: &Self) {
        if let Some(hash) = newer.0.get(&list) {
            self.0.insert(list, *hash);
        }
    }

    /// The lists that `newer` shows otherwise.
    pub(crate) fn changed_in(&self, newer: &Self) -> Vec<ClientList> {
        newer.0.iter().filter(|(list, hash)| self.0.get(list) != Some(hash)).map(|(list, _)| *list).collect()
    }
}
