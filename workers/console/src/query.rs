//! What an address asks for: the parameters behind its question mark. They hold the whole state of a page.

use std::fmt::Display;
use std::str::FromStr;

use toolfleet_core::ids::Tenant;
use url::form_urlencoded;

use crate::failure::Failure;

/// The parameters of an address, or the fields of a form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The value of a parameter; what a form sends for an empty field is none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(one, _)| one == name).map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// Whether a box is ticked.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "0")
    }

    /// The value of a parameter, read.
    pub(crate) fn read<T: FromStr<Err: Display>>(&self, name: &'static str) -> Result<Option<T>, Failure> {
        let read = |text: &str| text.parse().map_err(|problem: T::Err| Failure::wrong(name, problem));
        self.get(name).map(read).transpose()
    }

    /// The tenant, or one of the fleet's own.
    pub(crate) fn tenant(&self) -> Result<Option<Tenant>, Failure> {
        let read = |text| Tenant::from_stored(text).map_err(|problem| Failure::wrong("tenant", problem));
        self.get("tenant").map(read).transpose()
    }

    /// The parameters without these.
    pub(crate) fn without(&self, names: &[&str]) -> String {
        let rest = self.0.iter().filter(|(one, _)| !names.contains(&one.as_str()));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(rest).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_parameter_is_named() {
        let query = Query::parse("tenant=a%23b&page=x&empty=+&q=%3Cb%3E&token=t");
        assert_eq!((query.get("q"), query.get("empty"), query.get("none")), (Some("<b>"), None, None));
        assert!(query.tenant().unwrap_err().to_string().contains("tenant"));
        assert!(query.read::<u32>("page").is_err());
        assert_eq!(Query::parse("a=1&token=t&b=x+y").without(&["token"]), "a=1&b=x+y");
        assert_eq!(Query::parse("tenant=_fleet").tenant().unwrap(), Some(Tenant::of_fleet()));
    }
}
