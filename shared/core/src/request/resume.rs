//! `resume`: the earlier call that a request continues, and the answers to what that call's server asked.
//!
//! Answers have the protocol's form (2026-07-28, `InputResponses`): a JSON object for each key of `inputRequests`. They are sent to the
//! server byte for byte, and are stored in no row and no record.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::RequestError;
use crate::ids::CallId;
use crate::json::single;
use crate::redact::{key, quoted};

/// What a request adds to an earlier one that ended as `input_required`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The earlier call, of the same tenant.
    pub call_id: CallId,
    /// An object for each key of the earlier result's `inputRequests`; left out where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, serde_json::Map<String, serde_json::Value>>>")]
    pub input_responses: Option<Box<RawValue>>,
}

impl Resume {
    /// The keys that it answers. A duplicate key is refused: which of the two values a server takes is not known.
    pub fn answered(&self) -> Result<Vec<String>, RequestError> {
        let wrong = |problem| RequestError { field: "resume.input_responses".to_owned(), problem };
        let Some(responses) = &self.input_responses else {
            return Ok(Vec::new());
        };
        let accepted = "accepted is an object with an object for each key that was asked";
        let value = single(responses.get()).map_err(|e| wrong(format!("{e}; {accepted}")))?;
        let Value::Object(answers) = value else {
            return Err(wrong(format!("is no JSON object; {accepted}")));
        };
        match answers.iter().find(|(_, answer)| !answer.is_object()) {
            None => Ok(answers.into_iter().map(|(key, _)| key).collect()),
            Some((name, _)) => {
                let (name, example) = (quoted(name), key(name).unwrap_or("key"));
                Err(wrong(format!(
                    "{name} is no object; accepted is for example {{\"{example}\": {{\"action\": \"accept\", \"content\": {{..}}}}}}"
                )))
            }
        }
    }
}
