//! The parameters of each operation, read from `arguments`: a resource's address, a prompt's name, a cursor; a tool has its own.
//!
//! The operations and their parameters are the protocol's (2026-07-28: `ReadResourceRequest`, `GetPromptRequest`, `CompleteRequest`, the paginated
//! requests).
//! A member that an operation does not know is refused.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::call_request::{CallRequest, Operation};
use super::error::RequestError;
use crate::error_text::without_values;

/// What is asked of the target, with what the operation needs.
#[derive(Debug, Clone)]
pub enum OperationParams {
    /// Run the tool with the request's arguments.
    Tool,
    /// Read a resource.
    Resource {
        /// Its address.
        uri: String,
    },
    /// Get a prompt.
    Prompt {
        /// Its name on the server.
        name: String,
        /// A JSON object of texts.
        arguments: Box<RawValue>,
    },
    /// Be told of updates of a resource until the call's deadline.
    Subscription {
        /// Its address.
        uri: String,
    },
    /// Complete an argument of a prompt or of a resource template.
    Completion {
        /// The prompt's name, or the template.
        of: String,
    },
    /// List what the server has.
    List {
        /// From this page of an earlier listing, and no further; without it all pages.
        cursor: Option<String>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceWire {
    uri: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptWire {
    name: String,
    #[serde(default)]
    arguments: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompletionWire {
    #[serde(rename = "ref")]
    reference: ReferenceWire,
    argument: ArgumentWire,
    #[serde(default, rename = "context")]
    _context: Option<ContextWire>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, tag = "type")]
enum ReferenceWire {
    #[serde(rename = "ref/prompt")]
    Prompt {
        name: String,
        #[serde(default, rename = "title")]
        _title: Option<String>,
    },
    #[serde(rename = "ref/resource")]
    Resource { uri: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArgumentWire {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextWire {
    #[serde(default, rename = "arguments")]
    _arguments: Option<Texts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageWire {
    #[serde(default)]
    cursor: Option<String>,
}

/// What `completion/complete` accepts.
const COMPLETION: &str = "{\"ref\": {\"type\": \"ref/prompt\", \"name\": \"...\"} or {\"type\": \"ref/resource\", \"uri\": \"...\"}, \"argument\": \
                          {\"name\": \"...\", \"value\": \"...\"}} and, where others are known, {\"context\": {\"arguments\": {...}}}";

type Texts = std::collections::BTreeMap<String, String>;

impl OperationParams {
    /// Whether it may be sent again after an answer was lost: the protocol defines all but a tool call as reading.
    pub const fn is_reading(&self) -> bool {
        match self {
            Self::Tool => false,
            Self::Resource { .. }
            | Self::Subscription { .. }
            | Self::Prompt { .. }
            | Self::Completion { .. }
            | Self::List { .. } => true,
        }
    }
}

impl CallRequest {
    /// What is asked. The decoder has held the rules, so a decoded request always has an answer.
    pub fn ask(&self) -> Result<OperationParams, RequestError> {
        Ok(match self.operation {
            Operation::ToolsCall => OperationParams::Tool,
            Operation::ResourcesRead => {
                let ResourceWire { uri } = self.needs("{\"uri\": \"...\"}")?;
                OperationParams::Resource { uri: bounded("uri", uri, 2_048)? }
            }
            Operation::ResourcesSubscribe => {
                let ResourceWire { uri } = self.needs("{\"uri\": \"...\"}")?;
                OperationParams::Subscription { uri: bounded("uri", uri, 2_048)? }
            }
            Operation::PromptsGet => {
                let PromptWire { name, arguments } = self
                    .needs("{\"name\": \"...\"} and, where the prompt takes any, {\"arguments\": {...}}")?;
                let arguments = arguments.unwrap_or_else(|| RawValue::NULL.to_owned());
                OperationParams::Prompt { name: bounded("name", name, 256)?, arguments: texts(arguments)? }
            }
            Operation::CompletionComplete => {
                let CompletionWire { reference, argument, .. } = self.needs(COMPLETION)?;
                bounded("argument.name", argument.name, 256)?;
                at_most("argument.value", &argument.value, 4_096)?;
                let of = match reference {
                    ReferenceWire::Prompt { name, .. } => bounded("ref.name", name, 256)?,
                    ReferenceWire::Resource { uri } => bounded("ref.uri", uri, 2_048)?,
                };
                OperationParams::Completion { of }
            }
            Operation::ToolsList
            | Operation::ResourcesList
            | Operation::ResourceTemplatesList
            | Operation::PromptsList => {
                let PageWire { cursor } = self.needs("{} or {\"cursor\": \"...\"}")?;
                OperationParams::List {
                    cursor: cursor.map(|cursor| bounded("cursor", cursor, 4_096)).transpose()?,
                }
            }
        })
    }

    fn needs<'a, T: Deserialize<'a>>(&'a self, accepted: &str) -> Result<T, RequestError> {
        serde_json::from_str(self.arguments.get()).map_err(|found| RequestError {
            field: "arguments".to_owned(),
            problem: format!(
                "{}; `{}` accepts {accepted}",
                without_values(&found.to_string()),
                self.operation.as_str()
            ),
        })
    }
}

fn bounded(member: &str, text: String, max_bytes: usize) -> Result<String, RequestError> {
    if (1..=max_bytes).contains(&text.len()) {
        return Ok(text);
    }
    let problem = format!("has {} bytes; accepted are 1 to {max_bytes}", text.len());
    Err(RequestError { field: format!("arguments.{member}"), problem })
}

fn at_most(member: &str, text: &str, max_bytes: usize) -> Result<(), RequestError> {
    if text.len() <= max_bytes {
        return Ok(());
    }
    let problem = format!("has {} bytes; accepted are at most {max_bytes}", text.len());
    Err(RequestError { field: format!("arguments.{member}"), problem })
}

/// A prompt's arguments, `{}` where there are none. The protocol allows texts only.
fn texts(arguments: Box<RawValue>) -> Result<Box<RawValue>, RequestError> {
    let problem = |problem: String| RequestError { field: "arguments.arguments".to_owned(), problem };
    match serde_json::from_str::<Option<Texts>>(arguments.get()) {
        Ok(Some(_)) => Ok(arguments),
        Ok(None) => serde_json::value::to_raw_value(&Texts::new()).map_err(|e| problem(e.to_string())),
        Err(found) => {
            let found = without_values(&found.to_string());
            Err(problem(format!("{found}; accepted is a JSON object whose values are texts")))
        }
    }
}
