//! The session id of clients before 2026-07-28. No gateway stores a session, so the id itself says what its client can be asked for: a random
//! part, a hyphen, and a letter for each capability that `initialize` declared.
//!
//! A client that alters its id changes only what it says of itself, so the id is not encrypted.

use serde::Deserialize;
use serde_json::{Value, json};
use toolfleet_mcp_protocol::ProtocolVersion;
use uuid::Uuid;

/// The hexadecimal digits of the random part.
const RANDOM_CHARS: usize = 32;

/// The letter of a capability, where it is declared, what declares it in a request, and the version that has it first.
struct Ability {
    letter: char,
    pointer: &'static str,
    since: ProtocolVersion,
}

const FORMS: Ability =
    Ability { letter: 'f', pointer: "/elicitation/form", since: ProtocolVersion::V2025_06_18 };
const ABILITIES: [Ability; 5] = [
    FORMS,
    Ability { letter: 'u', pointer: "/elicitation/url", since: ProtocolVersion::V2025_11_25 },
    Ability { letter: 's', pointer: "/sampling", since: ProtocolVersion::V2025_03_26 },
    Ability { letter: 't', pointer: "/sampling/tools", since: ProtocolVersion::V2025_11_25 },
    Ability { letter: 'r', pointer: "/roots", since: ProtocolVersion::V2025_03_26 },
];

/// What the parameters of `initialize` say of the client.
#[derive(Default, Deserialize)]
struct Initialize {
    #[serde(default)]
    capabilities: Value,
}

/// Whether the capabilities have what is at that pointer. `elicitation` without modes means forms.
pub(crate) fn declares(capabilities: &Value, pointer: &str) -> bool {
    let elicitation = || capabilities.get("elicitation").and_then(Value::as_object);
    capabilities.pointer(pointer).is_some()
        || (pointer == FORMS.pointer && elicitation().is_some_and(|modes| !modes.contains_key("url")))
}

/// A new session id for a client of that version.
pub(crate) fn new(params: &str, version: ProtocolVersion) -> String {
    let Initialize { capabilities } = serde_json::from_str(params).unwrap_or_default();
    let declared =
        ABILITIES.iter().filter(|one| version >= one.since && declares(&capabilities, one.pointer));
    let letters: String = declared.map(|one| one.letter).collect();
    format!("{}-{letters}", Uuid::new_v4().simple())
}

/// What the client of that session can be asked for, as capabilities.
pub(crate) fn capabilities(session: &str) -> Value {
    let mut capabilities = json!({});
    let Some((random, letters)) = session.split_once('-') else { return capabilities };
    // An id of another's making says nothing by its letters.
    if random.len() != RANDOM_CHARS || !random.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return capabilities;
    }
    for ability in ABILITIES.iter().filter(|one| letters.contains(one.letter)) {
        let mut place = &mut capabilities;
        for name in ability.pointer.split('/').skip(1) {
            let Some(members) = place.as_object_mut() else { break };
            place = members.entry(name).or_insert_with(|| json!({}));
        }
    }
    capabilities
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(capabilities: &Value, version: ProtocolVersion) -> Value {
        let id = new(&json!({ "capabilities": capabilities }).to_string(), version);
        assert!(toolfleet_core::ids::SessionId::parse(&id).is_ok(), "{id}");
        super::capabilities(&id)
    }

    #[test]
    fn a_session_id_says_what_its_client_can_be_asked_for() {
        let all = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}});
        assert_eq!(of(&all, ProtocolVersion::V2025_11_25), all);
        let plain = json!({"elicitation": {"form": {}}, "sampling": {}, "roots": {}});
        assert_eq!(of(&all, ProtocolVersion::V2025_06_18), plain);
        let first = json!({"sampling": {}, "roots": {}});
        assert_eq!(of(&all, ProtocolVersion::V2025_03_26), first);
        assert_eq!(of(&json!({}), ProtocolVersion::V2025_11_25), json!({}));
    }

    #[test]
    fn elicitation_without_modes_means_forms() {
        let forms = json!({"elicitation": {"form": {}}});
        assert_eq!(of(&json!({"elicitation": {}}), ProtocolVersion::V2025_11_25), forms);
        let links = json!({"elicitation": {"url": {}}});
        assert_eq!(of(&links, ProtocolVersion::V2025_11_25), links);
    }

    #[test]
    fn any_other_session_id_says_nothing() {
        for id in ["", "x", "0f8fad5b-d9cb-469f-a165-70867728950e", "a-b-c", "abc-rust"] {
            assert_eq!(capabilities(id), json!({}), "{id}");
        }
        assert_eq!(new("[]", ProtocolVersion::V2025_11_25).len(), 33);
    }
}
