//! The members of a listing's result.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use toolfleet_core::request::Operation;

use crate::fault::{Fault, invalid};
use crate::tools::Next;

pub(crate) const NEXT_CURSOR: &str = "nextCursor";

/// The members of a result, in their order and as they came.
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl<'a> Members<'a> {
    pub(crate) fn of(result: &'a RawValue) -> Result<Self, Fault> {
        serde_json::from_str(result.get()).map_err(|error| invalid("a listing", &error.to_string()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    pub(crate) fn entries(&self, member: &str) -> Result<Vec<&'a RawValue>, Fault> {
        let list = self.get(member).ok_or_else(|| invalid("a listing without its list", member))?;
        serde_json::from_str(list.get()).map_err(|error| invalid("a listing", &error.to_string()))
    }

    /// Where the list goes on; what is no cursor leads nowhere.
    pub(crate) fn next_cursor(&self, is_modern: bool) -> Option<String> {
        match Next::of(self.get(NEXT_CURSOR)).in_speech(is_modern) {
            Next::Cursor(cursor) => Some(cursor),
            Next::None | Next::Unusable => None,
        }
    }
}

/// The member of a listing's result that holds the list.
pub(crate) const fn member_of(operation: Operation) -> &'static str {
    match operation {
        Operation::ResourcesList => "resources",
        Operation::ResourceTemplatesList => "resourceTemplates",
        Operation::PromptsList => "prompts",
        Operation::ToolsList
        | Operation::ToolsCall
        | Operation::ResourcesRead
        | Operation::ResourcesSubscribe
        | Operation::PromptsGet
        | Operation::CompletionComplete => "tools",
    }
}
