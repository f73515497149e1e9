//! Addresses within the console.

use std::fmt;

use toolfleet_core::fleet::OTHER_TOOLS;
use url::form_urlencoded;

/// An address with its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    path: &'static str,
    query: Vec<(String, String)>,
}

impl Link {
    pub(crate) fn to(path: &'static str) -> Self {
        Self { path, query: Vec::new() }
    }

    /// The same with a parameter.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.query.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The same with a parameter, if it has a value.
    #[must_use]
    pub(crate) fn with_some(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(crate) fn text(self) -> String {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish();
        if query.is_empty() { self.path.to_owned() } else { format!("{}?{query}", self.path) }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.clone().text())
    }
}

/// The page of a call.
pub(crate) fn call(tenant: &str, call: &str) -> String {
    Link::to("/call").with("tenant", tenant).with("call", call).text()
}

/// The page of a server.
pub(crate) fn server(id: &str) -> String {
    Link::to("/server").with("id", id).text()
}

/// The page of a tool.
pub(crate) fn tool(name: &str) -> String {
    Link::to("/tool").with("name", name).text()
}

/// The name of a tool for people: what is beyond the busiest of a worker is counted under a sign.
pub(crate) fn tool_name(name: &str) -> &str {
    if name == OTHER_TOOLS { "other tools" } else { name }
}

/// The history of a tenant.
pub(crate) fn history(tenant: &str) -> Link {
    Link::to("/history").with("tenant", tenant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded() {
        assert_eq!(call("a b&", "c/1?x=<>"), "/call?tenant=a+b%26&call=c%2F1%3Fx%3D%3C%3E");
        assert_eq!(Link::to("/").text(), "/");
        assert_eq!(Link::to("/").with_some("q", None::<&str>).with("p", "1").text(), "/?p=1");
    }
}
