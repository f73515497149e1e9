//! What a verb is about: `TENANT ID`, the same as options, or the id alone where TOOLFLEET_TENANT names the tenant.

use std::fmt::Display;
use std::str::FromStr;

use clap::Args;
use toolfleet_core::ids::{CallId, CallKey, Tenant};

use crate::exit::CommandError;
use crate::network::variable;

/// The tenant where none is given.
const DEFAULT_TENANT: &str = "TOOLFLEET_TENANT";

/// Which call.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhichCall {
    /// Who the call is for; unless given, TOOLFLEET_TENANT.
    #[arg(value_name = "TENANT")]
    first: Option<String>,
    /// The call's id.
    #[arg(value_name = "CALL_ID")]
    second: Option<String>,
    /// Who the call is for.
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant, conflicts_with = "second")]
    tenant: Option<Tenant>,
    /// The call's id.
    #[arg(long, value_name = "ID", conflicts_with = "second")]
    call_id: Option<CallId>,
}

impl WhichCall {
    /// Whether a call is meant, not only a tenant.
    pub(crate) const fn is_call(&self) -> bool {
        self.first.is_some() || self.call_id.is_some()
    }

    /// The tenant of `--tenant`.
    pub(crate) const fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// Its key.
    ///
    /// # Errors
    /// A part is missing or wrong.
    pub(crate) fn key(&self) -> Result<CallKey, CommandError> {
        let (tenant, call_id) = Words { kind: "CALL_ID", first: &self.first, second: &self.second }
            .tenant_and(self.tenant.as_ref(), self.call_id.as_ref())?;
        Ok(CallKey { tenant, call_id })
    }
}

/// The words of a command line that say what it is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'a> {
    /// What the second word is.
    pub(crate) kind: &'static str,
    /// The tenant, or what it is about where the tenant is known.
    pub(crate) first: &'a Option<String>,
    /// What it is about.
    pub(crate) second: &'a Option<String>,
}

impl Words<'_> {
    /// The tenant, and what the command is about.
    ///
    /// # Errors
    /// A part is missing, wrong, or given twice.
    pub(crate) fn tenant_and<T>(
        &self,
        tenant: Option<&Tenant>,
        id: Option<&T>,
    ) -> Result<(Tenant, T), CommandError>
    where
        T: FromStr + Clone,
        T::Err: Display,
    {
        let kind = self.kind;
        let of_words = |text: &String| {
            text.parse::<T>().map_err(|error| CommandError::usage(format!("{kind}: {error}")))
        };
        match (self.first, self.second, id) {
            (Some(first), Some(second), None) => Ok((word_of_tenant(first)?, of_words(second)?)),
            (Some(first), None, None) => Ok((given_or_default(tenant)?, of_words(first)?)),
            (Some(first), None, Some(id)) if tenant.is_none() => Ok((word_of_tenant(first)?, id.clone())),
            (None, _, Some(id)) => Ok((given_or_default(tenant)?, id.clone())),
            (None, _, None) => {
                Err(CommandError::usage(format!("which? Give TENANT and {kind}, for example `acme 0199c3`")))
            }
            (Some(_), _, Some(_)) => {
                Err(CommandError::usage(format!("TENANT and {kind} are given twice; give each once")))
            }
        }
    }
}

/// The tenant of a word or an option, or TOOLFLEET_TENANT.
///
/// # Errors
/// There is none, or it is no tenant.
pub(crate) fn tenant_of(word: Option<&String>, option: Option<&Tenant>) -> Result<Tenant, CommandError> {
    word.map_or_else(|| given_or_default(option), |word| word_of_tenant(word))
}

/// That tenant, or TOOLFLEET_TENANT.
///
/// # Errors
/// There is none, or it is no tenant.
pub(crate) fn given_or_default(tenant: Option<&Tenant>) -> Result<Tenant, CommandError> {
    if let Some(tenant) = tenant {
        return Ok(tenant.clone());
    }
    let set = variable(DEFAULT_TENANT).filter(|text| !text.is_empty());
    let text = set.ok_or_else(|| {
        CommandError::usage(format!("whose? Give the tenant, as TENANT or --tenant, or set {DEFAULT_TENANT}"))
    })?;
    parse_tenant(&text).map_err(|problem| CommandError::usage(format!("{DEFAULT_TENANT}: {problem}")))
}

fn word_of_tenant(text: &str) -> Result<Tenant, CommandError> {
    parse_tenant(text).map_err(|problem| CommandError::usage(format!("TENANT: {problem}")))
}

/// A tenant, or one of the fleet's own.
pub(crate) fn parse_tenant(text: &str) -> Result<Tenant, String> {
    Tenant::from_stored(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(
        first: Option<&str>,
        second: Option<&str>,
        option: Option<&str>,
        id: Option<&str>,
    ) -> Result<String, String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let (first, second) = (own(first), own(second));
        let words = Words { kind: "CALL_ID", first: &first, second: &second };
        let tenant = option.map(|text| Tenant::parse(text).unwrap());
        let id = id.map(|text| CallId::parse(text).unwrap());
        let found = words.tenant_and(tenant.as_ref(), id.as_ref()).map_err(|error| error.message())?;
        Ok(format!("{}#{}", found.0, found.1))
    }

    #[test]
    fn a_call_is_named_by_words_or_options() {
        for given in [
            (Some("acme"), Some("c1"), None, None),
            (Some("c1"), None, Some("acme"), None),
            (Some("acme"), None, None, Some("c1")),
            (None, None, Some("acme"), Some("c1")),
        ] {
            assert_eq!(about(given.0, given.1, given.2, given.3), Ok("acme#c1".to_owned()), "{given:?}");
        }
    }

    #[test]
    fn what_is_missing_or_given_twice_is_named() {
        let error = |given: Result<String, String>| given.unwrap_err();
        assert!(error(about(None, None, None, None)).contains("Give TENANT and CALL_ID"));
        assert!(error(about(Some("a"), None, Some("b"), Some("c"))).contains("twice"));
        assert!(error(about(Some("a#b"), Some("c"), None, None)).starts_with("TENANT: "));
    }
}
