//! What credentials an operation asks for, and whether the catalog gives them.

use serde_json::{Map, Value};

use super::document::{Raw, Version, text};
use super::given::Given;
use super::reason::{Reason, shown};

/// The security schemes of a document and what holds for operations that say nothing.
pub(super) struct Security<'a> {
    raw: Raw<'a>,
    schemes: Option<&'a Value>,
    general: Option<&'a Value>,
}

impl<'a> Security<'a> {
    pub(super) fn of(raw: Raw<'a>) -> Self {
        let schemes = match raw.version {
            Version::Two => raw.root.get("securityDefinitions"),
            Version::Three | Version::ThreeOne => raw.root.pointer("/components/securitySchemes"),
        };
        Self { raw, schemes, general: raw.root.get("security") }
    }

    /// Why the catalog's credentials are not enough for an operation.
    ///
    /// # Errors
    /// No alternative of the document is given.
    pub(super) fn check(&self, operation: &'a Map<String, Value>, given: &Given) -> Result<(), Reason> {
        let asked = operation.get("security").or(self.general).and_then(Value::as_array);
        let Some(alternatives) = asked.filter(|all| !all.is_empty()) else {
            return Ok(());
        };
        self.raw.work.count(alternatives.len())?;
        let mut first = None;
        for alternative in alternatives {
            match self.alternative(alternative, given) {
                Ok(()) => return Ok(()),
                Err(missing) => first = first.or(Some(missing)),
            }
        }
        // Where the bound was reached meanwhile, that is the reason.
        self.raw.work.count(1)?;
        Err(Reason::new("credential", first.unwrap_or_default()))
    }

    fn alternative(&self, alternative: &Value, given: &Given) -> Result<(), String> {
        let names = alternative.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        for name in names {
            let scheme = self.schemes.and_then(|schemes| schemes.get(name));
            let Some(scheme) = scheme.and_then(|scheme| self.raw.resolved(scheme).ok()) else {
                return Err(format!(
                    "asks for the security scheme {}, which the document does not describe",
                    shown(name)
                ));
            };
            let texts = [name, text(scheme, "name").unwrap_or_default()];
            self.raw.work.count_with(&texts).map_err(|reason| reason.text)?;
            missing(name, scheme, given).map_or(Ok(()), Err)?;
        }
        Ok(())
    }
}

/// What is missing for a scheme, with the field that gives it.
fn missing(name: &str, scheme: &Map<String, Value>, given: &Given) -> Option<String> {
    let authorization = given.auth || given.headers.contains("authorization");
    let asks = |what: &str, remedy: &str| {
        Some(format!(
            "asks for the security scheme {} ({what}), and the catalog does not give it; {remedy}",
            shown(name)
        ))
    };
    match text(scheme, "type").unwrap_or_default() {
        "apiKey" => {
            let key = text(scheme, "name").unwrap_or_default();
            let lower = key.to_ascii_lowercase();
            match text(scheme, "in").unwrap_or_default() {
                "header" if given.headers.contains(&lower) || (lower == "authorization" && authorization) => {
                    None
                }
                "header" => {
                    let remedy = format!("set `headers`: {{\"{key}\": \"secret://NAME\"}}");
                    asks(&format!("a key in the header {}", shown(key)), &remedy)
                }
                "cookie" if given.headers.contains("cookie") => None,
                "cookie" => {
                    let remedy = format!("set `headers`: {{\"cookie\": \"{key}=secret://NAME\"}}");
                    asks(&format!("a key in the cookie {}", shown(key)), &remedy)
                }
                _ if given.query.contains(key) => None,
                _ => {
                    let remedy = format!("set `query`: {{\"{key}\": \"secret://NAME\"}}");
                    asks(&format!("a key in the query, {}", shown(key)), &remedy)
                }
            }
        }
        "http" | "basic" => {
            let scheme = text(scheme, "scheme").unwrap_or("basic").to_ascii_lowercase();
            let remedy =
                format!("set `headers`: {{\"Authorization\": \"{scheme} secret://NAME\"}}, or `auth`");
            if authorization { None } else { asks(&format!("HTTP authentication, {scheme}"), &remedy) }
        }
        "oauth2" | "openIdConnect" => {
            let remedy =
                "set `auth` (for example `oauth2_client_credentials`), or `headers` with `Authorization`";
            if authorization { None } else { asks("an OAuth token", remedy) }
        }
        "mutualTLS" => {
            if given.certificate {
                None
            } else {
                asks("a client certificate", "set `client_certificate`")
            }
        }
        other => asks(&format!("of the type {}", shown(other)), "which is not known here"),
    }
}
