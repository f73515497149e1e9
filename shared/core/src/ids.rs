//! The names of tenants, calls, tools, servers and sessions. A value of these types is valid.
//!
//! Names become parts of table keys (`tenant#call_id`), so `#` can never stand in one. A tenant is the `MessageGroupId` of its
//! messages, which takes no space, and a part of IAM conditions, in which `*`, `?` and `$` have a meaning. A tenant that starts with
//! `_` is reserved for the fleet itself (undecodable messages are audited under `_undecodable`). No name becomes a file name, a part
//! of a URL or a label of a metric.
//!
//! **Invariant:** no value of these types can hold a string that its `parse` would refuse.

use std::borrow::Borrow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;

/// Why a name was refused: what is wrong with it and what is accepted. It does not repeat the text, which may be a secret that stands
/// in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a valid {what}: it {found}; accepted are 1 to {max} characters of A-Z a-z 0-9 {extra}{rule}{remedy}"
)]
pub struct NameError {
    what: &'static str,
    found: String,
    max: usize,
    extra: &'static str,
    rule: &'static str,
    remedy: &'static str,
}

/// The characters of a tenant beside letters and digits: those of AWS tag values but the space, and what identity providers write.
const OF_TENANTS: &str = "_ - . : / @ | + = ~ %";
/// The same of the names that a caller makes: printable ASCII without the key separator, space and quotes.
const OF_CALLERS: &str = "_ - . : / @ | + = ~ % , ; ! $ & * ? ( ) [ ] { } < >";

struct Rule {
    what: &'static str,
    max: usize,
    extra: &'static str,
    reserved_prefix: bool,
}

impl Rule {
    fn check(&self, text: &str) -> Result<(), NameError> {
        let fits = !text.is_empty() && text.len() <= self.max;
        let allowed = text.chars().all(|c| c.is_ascii_alphanumeric() || self.extra.contains(c) && c != ' ');
        let reserved = self.reserved_prefix && text.starts_with('_');
        if fits && allowed && !reserved {
            return Ok(());
        }
        Err(NameError {
            what: self.what,
            found: self.wrong_in(text),
            max: self.max,
            extra: self.extra,
            rule: if self.reserved_prefix { ", not starting with _" } else { "" },
            remedy: if self.extra.contains('%') { "; write others as in a URL (# is %23)" } else { "" },
        })
    }
}

impl Rule {
    fn wrong_in(&self, text: &str) -> String {
        let strange =
            |(_, c): &(usize, char)| !(c.is_ascii_alphanumeric() || self.extra.contains(*c) && *c != ' ');
        match text.chars().enumerate().find(strange) {
            Some((at, c)) => format!("has {c:?} at character {}", at + 1),
            None if text.is_empty() => "is empty".to_owned(),
            None if text.len() > self.max => format!("has {} characters", text.len()),
            None => "starts with _".to_owned(),
        }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $extra:expr, $reserved:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            const RULE: Rule = Rule { what: $what, max: $max, extra: $extra, reserved_prefix: $reserved };

            /// The name, if it keeps the rule of its kind.
            pub fn parse(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                Self::RULE.check(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let first = if $reserved { "(?!_)" } else { "" };
                json_schema!({
                    "type": "string",
                    "pattern": format!("^{first}[A-Za-z0-9{}]{{1,{}}}$", in_a_class($extra), $max),
                })
            }
        }
    };
}

/// The characters as a regular expression has them between brackets; the dash comes last.
fn in_a_class(extra: &str) -> String {
    let mut class = String::new();
    for c in extra.chars().filter(|c| !matches!(c, ' ' | '-')) {
        if "^$\\.*+?()[]{}|/".contains(c) {
            class.push('\\');
        }
        class.push(c);
    }
    class + "\\-"
}

name!(
    /// Who a call is for. The first part of every table key.
    Tenant, "tenant", 128, OF_TENANTS, true
);
name!(
    /// One request to run one tool; unique within its tenant.
    CallId, "call id", 128, OF_CALLERS, false
);
name!(
    /// A registered operation.
    ToolId, "tool id", 128, "_ - . : / @", false
);
name!(
    /// A registered server.
    ServerId, "server id", 64, "_ - .", false
);
name!(
    /// One conversation of one orchestrator.
    SessionId, "session id", 256, OF_CALLERS, false
);
name!(
    /// The calls of one agent turn that finish together.
    GroupId, "group id", 128, OF_CALLERS, false
);
name!(
    /// One worker process, for the audit record and the operator's eye.
    WorkerId, "worker id", 128, "_ - . :", false
);
name!(
    /// The mark of one delivery of one message: a write that carries it is that delivery's own.
    Nonce, "nonce", 64, "-", false
);

impl Tenant {
    /// Where messages that could not be decoded are audited.
    pub fn undecodable() -> Self {
        Self("_undecodable".into())
    }

    /// Where messages whose sender may not speak for the tenant they name are audited.
    pub fn tenant_not_allowed() -> Self {
        Self("_tenant_not_allowed".into())
    }

    /// Where the answers to messages stand that could not be answered under a call's id, by MessageId.
    pub fn of_messages() -> Self {
        Self("_message".into())
    }

    /// Where changes that operators make to the fleet are audited.
    pub fn of_fleet() -> Self {
        Self("_fleet".into())
    }

    /// Whether it is one of the fleet's own.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('_')
    }

    /// A tenant as it is read back from a table key, where the reserved ones stand too.
    pub fn from_stored(text: &str) -> Result<Self, NameError> {
        [Self::undecodable(), Self::tenant_not_allowed(), Self::of_messages(), Self::of_fleet()]
            .into_iter()
            .find(|reserved| reserved.0 == text)
            .map_or_else(|| Self::parse(text), Ok)
    }
}

impl CallId {
    /// The id under which a message without a call of its own is accounted for: its message id, where that is a valid one.
    pub fn of_message(message_id: &str) -> Self {
        Self::parse(message_id)
            .unwrap_or_else(|_| Self(format!("message-{}", Digest::of_text(message_id).short(40))))
    }
}

impl Nonce {
    /// The nonce of these random bits.
    pub fn from_random(random: u128) -> Self {
        Self(format!("{random:032x}"))
    }
}

/// The key of a call: its tenant and its id, which is unique within that tenant only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey {
    /// Who the call is for.
    pub tenant: Tenant,
    /// Its id within the tenant.
    pub call_id: CallId,
}

impl CallKey {
    /// Where the answer to a message stands that could not be answered under a call's id.
    pub fn of_message(message_id: &str) -> Self {
        Self { tenant: Tenant::of_messages(), call_id: CallId::of_message(message_id) }
    }
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.tenant, self.call_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_key_separator_or_a_space_is_refused() {
        for bad in ["", "a#b", "a b", "ü", "_reserved", "*", "a?", "${aws}", "a\tb", "a\u{0}"] {
            assert!(Tenant::parse(bad).is_err(), "{bad}");
        }
        assert!(Tenant::parse("a".repeat(129)).is_err());
        assert_eq!(Tenant::parse("acme-1.eu").unwrap().as_str(), "acme-1.eu");
    }

    #[test]
    fn names_as_identity_providers_and_aws_write_them_are_taken() {
        for tenant in
            ["ann@example.com", "auth0|abc", "arn:aws:iam::123456789012:role/agents/r", "a+b=c~d%20"]
        {
            assert!(Tenant::parse(tenant).is_ok(), "{tenant}");
        }
        for id in [
            "a/b",
            "auth0|abc",
            "<m-1@mail.example>",
            "{0f8f-11}",
            "https://h/p?x=1&y=[2]",
            "dGVzdA==",
            "a,b;c!d$e*(f)",
        ] {
            assert!(CallId::parse(id).is_ok() && GroupId::parse(id).is_ok(), "{id}");
            assert!(SessionId::parse(id).is_ok(), "{id}");
        }
        let error = CallId::parse("a#b").unwrap_err().to_string();
        assert!(error.contains("'#' at character 2") && error.contains("# is %23"), "{error}");
    }

    #[test]
    fn a_refused_name_is_explained_and_not_repeated() {
        for (text, wrong) in [
            ("hunter2#b", "has '#' at character 8"),
            ("hunter2 b", "has ' ' at character 8"),
            ("", "is empty"),
            ("_hunter2", "starts with _"),
            (&"hunter2".repeat(20), "has 140 characters"),
        ] {
            let error = Tenant::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(wrong) && error.contains("tenant") && error.contains("1 to 128"),
                "{error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_reserved_tenant_is_read_back_but_not_accepted() {
        assert_eq!(Tenant::from_stored("_undecodable").unwrap(), Tenant::undecodable());
        assert!(Tenant::parse("_undecodable").is_err());
    }
}
