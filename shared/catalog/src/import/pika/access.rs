//! Imports Pika's access rules: `enabled`, `userTypes`, `userRoles`, `applyRulesAs`.
//!
//! A rule with anything else refuses the catalog.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::CatalogError;
use crate::error::invalid;
use crate::json::{below, typed};
use crate::tool::AccessRule;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    enabled: bool,
    user_types: Option<Vec<String>>,
    user_roles: Option<Vec<String>>,
    apply_rules_as: Option<Apply>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Apply {
    And,
    Or,
}

const FIELDS: [&str; 5] = ["enabled", "userTypes", "userRoles", "applyRulesAs", "description"];

pub(super) fn rules(entry: &str, rules: Vec<Map<String, Value>>) -> Result<Vec<AccessRule>, CatalogError> {
    let read = |(i, rule): (usize, Map<String, Value>)| {
        let place = format!("{entry}[{i}]");
        if let Some(key) = rule.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            let text = format!("is not evaluated here; accepted are {}", FIELDS.join(", "));
            return Err(invalid(&below(&place, key), text));
        }
        ours(&place, typed(&place, Value::Object(rule))?)
    };
    rules.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>().map(|rules| rules.concat())
}

fn ours(place: &str, rule: Rule) -> Result<Vec<AccessRule>, CatalogError> {
    for (field, list) in [("userTypes", &rule.user_types), ("userRoles", &rule.user_roles)] {
        // In Pika an empty list allows no one; here it would allow everyone.
        if list.as_ref().is_some_and(Vec::is_empty) {
            let text = "is empty; leave it out if it is to fit everybody, or disable the tool";
            return Err(invalid(&below(place, field), text));
        }
    }
    let of = |user_types: &Option<Vec<String>>, user_roles: &Option<Vec<String>>| AccessRule {
        enabled: rule.enabled,
        user_types: user_types.clone().unwrap_or_default(),
        user_roles: user_roles.clone().unwrap_or_default(),
    };
    if rule.apply_rules_as == Some(Apply::Or) && rule.user_types.is_some() && rule.user_roles.is_some() {
        return Ok(vec![of(&rule.user_types, &None), of(&None, &rule.user_roles)]);
    }
    Ok(vec![of(&rule.user_types, &rule.user_roles)])
}
