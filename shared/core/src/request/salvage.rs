//! Reads whose call a message is that cannot be decoded, so that its caller gets an answer.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::call_id::derive_call_id;
use super::group::Group;
use super::not_json;
use super::reply::Reply;
use crate::ids::{CallId, CallKey, Tenant};

/// What can be read of a message that cannot be decoded.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// The call.
    pub(super) addressed: Option<CallKey>,
    /// Where its notice goes.
    pub(super) reply: Option<Reply>,
    /// Its place in a group.
    pub(super) group: Option<Box<Group>>,
}

pub(super) fn salvage(body: &str) -> Salvaged {
    // serde reads a struct from an array, too.
    if !body.trim_start().starts_with('{') {
        return Salvaged::default();
    }
    let repaired;
    let members = match serde_json::from_str::<Members<'_>>(body) {
        Ok(members) => members,
        Err(_) => {
            repaired = not_json::nan_to_null(body).unwrap_or_default();
            let Ok(members) = serde_json::from_str::<Members<'_>>(&repaired) else {
                return Salvaged::default();
            };
            members
        }
    };
    let tenant = members.text("tenant", &["tenantId", "tenant_id"]).and_then(|text| Tenant::parse(text).ok());
    let key = tenant.and_then(|tenant| {
        let call_id = members.text("call_id", &["callId", "callID"]);
        let call_id = match (call_id, members.text("idempotency_key", &["idempotencyKey"])) {
            (Some(id), _) => CallId::parse(id).ok()?,
            (None, Some(key)) => derive_call_id(&tenant, &key).ok()?,
            (None, None) => return None,
        };
        Some(CallKey { tenant, call_id })
    });
    let group = members.value("group").and_then(|value| serde_json::from_str::<Box<Group>>(value.get()).ok());
    Salvaged {
        addressed: key,
        reply: members.value("reply").and_then(|value| serde_json::from_str(value.get()).ok()),
        group: group.filter(|group| group.check().is_ok()),
    }
}

/// The members of an object as they are written. Each is read for itself: what is wrong with one, such as half a surrogate pair, a number that no
/// double holds or too many brackets, keeps no other from being read.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            // A name that is no text is none of those that are looked for.
            if let Ok(name) = serde_json::from_str(name.get()) {
                members.push((name, value));
            }
        }
        Ok(Members(members))
    }
}

impl<'a> Members<'a> {
    /// The member of that name. One that is there twice, and says different things, says nothing.
    fn value(&self, name: &str) -> Option<&'a RawValue> {
        let mut found = self.0.iter().filter(|(of, _)| of == name).map(|(_, value)| *value);
        let first = found.next()?;
        found.all(|other| other.get() == first.get()).then_some(first)
    }

    /// The text of that member, or a number as it is written: whoever wrote it looks for the answer under that very id. The right name counts
    /// before another.
    fn text(&self, name: &str, misspelt: &[&str]) -> Option<String> {
        let names = std::iter::once(name).chain(misspelt.iter().copied());
        names.filter_map(|name| self.value(name)).find_map(text_of)
    }
}

fn text_of(value: &RawValue) -> Option<String> {
    let written = value.get();
    match written.as_bytes().first()? {
        b'"' => serde_json::from_str(written).ok(),
        b'-' | b'0'..=b'9' => Some(written.to_owned()),
        _ => None,
    }
}
