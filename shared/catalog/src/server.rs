//! Owns a registered MCP server: where it is, or which program it is, and how far it is believed.
//!
//! **Invariant:** a server has an address or a command, never both; an address carries no user or password.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::CatalogError;
use crate::error::invalid;
use crate::sources::Literals;
use toolfleet_core::credential::{ClientCertificate, Credential, Sensitive, Template};
use toolfleet_core::ids::ServerId;
use toolfleet_core::literal_secret::{is_placeholder, unfilled, wrong_in, wrong_in_address};

/// In the place of an address that is not given.
pub(crate) const NOWHERE: &str = "stdio:";

/// A registered MCP server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Its streamable HTTP endpoint; of a program a name, as in `stdio:files`.
    #[serde(default = "nowhere")]
    pub url: Url,
    /// The program that it is, in the place of an address. It is looked for in the worker's PATH.
    #[serde(default)]
    pub command: Option<String>,
    /// The program's arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// The program's variables. A value may be, or end in, `secret://name` or `secret://name#key`.
    #[serde(default)]
    pub env: BTreeMap<String, Template>,
    /// Where the program is started; without it where the worker is.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// Whether the program keeps nothing of a conversation: then the conversations of one tenant share a few of it.
    #[serde(default)]
    pub stateless: bool,
    /// How long the program may take from its start to its first answer, in milliseconds.
    #[serde(default)]
    pub start_timeout_ms: Option<u64>,
    /// Whether its own annotations (`readOnlyHint`, `idempotentHint`) are believed.
    #[serde(default)]
    pub trusted: bool,
    /// Whether all it lists is open: tools by name without being registered one by one, resources, prompts, and the lists.
    #[serde(default)]
    pub discover: bool,
    /// What people call it.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Headers sent with every request. A value may end in `secret://name` or `secret://name#key`.
    #[serde(default)]
    pub headers: BTreeMap<String, Sensitive>,
    /// How workers prove who they are.
    #[serde(default)]
    pub auth: Credential,
    /// The certificate that workers show.
    #[serde(default)]
    pub client_certificate: Option<ClientCertificate>,
    /// How long one attempt may take, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Whether workers ask it how far its calls are; a tool's own registration may say otherwise.
    #[serde(default)]
    pub progress: bool,
}

impl Server {
    /// A server of which no more than its address is known.
    pub(crate) const fn at(id: ServerId, url: Url) -> Self {
        Self {
            id,
            url,
            command: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            stateless: false,
            start_timeout_ms: None,
            trusted: false,
            discover: false,
            name: None,
            description: None,
            headers: BTreeMap::new(),
            auth: Credential::None,
            client_certificate: None,
            timeout_ms: None,
            progress: false,
        }
    }

    /// Its description with the tools it lists appended, as an agent is told of it.
    pub fn description_with<'a>(&self, tools: impl IntoIterator<Item = &'a str>) -> String {
        let tools: Vec<_> = tools.into_iter().collect();
        let description = self.description.as_deref().unwrap_or_default();
        let told = if tools.is_empty() {
            String::new()
        } else {
            format!(" The tools available are: {}.", tools.join(", "))
        };
        format!("{description}{told}").trim_start().to_owned()
    }

    /// What identifies it: its address, or the command that starts it.
    pub fn address(&self) -> String {
        match &self.command {
            None => self.url.to_string(),
            Some(command) => serde_json::json!([command, self.args, self.cwd]).to_string(),
        }
    }

    /// Refuses what could not be called, and secrets that are written out; `entry` is the place to name.
    pub(crate) fn check(&self, entry: &str, literals: Literals) -> Result<(), CatalogError> {
        if self.timeout_ms == Some(0) {
            return Err(invalid(&format!("{entry}.timeout_ms"), "is 0; accepted is a whole number from 1"));
        }
        if self.command.is_some() {
            return Ok(());
        }
        if !matches!(self.url.scheme(), "http" | "https") {
            let scheme = self.url.scheme();
            let text = format!("has the scheme `{scheme}`; accepted are http and https");
            return Err(invalid(&format!("{entry}.url"), text));
        }
        if let Some(text) = wrong_in_address(&self.url) {
            return Err(invalid(&format!("{entry}.url"), text));
        }
        if self.client_certificate.is_some() && self.url.scheme() != "https" {
            let text = "is shown over TLS alone; give the server a url with https";
            return Err(invalid(&format!("{entry}.client_certificate"), text));
        }
        self.check_headers(entry, literals)
    }

    fn check_headers(&self, entry: &str, literals: Literals) -> Result<(), CatalogError> {
        let mut seen = Vec::new();
        for (name, value) in &self.headers {
            let place = format!("{entry}.headers.{name}");
            let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(fits) {
                return Err(invalid(&place, "is not a name that HTTP allows for a header"));
            }
            let lower = name.to_ascii_lowercase();
            if seen.contains(&lower) {
                return Err(invalid(
                    &place,
                    "stands twice, in capitals and small letters; one header has one value",
                ));
            }
            seen.push(lower);
            let template = Template::parse(value.expose()).map_err(|text| invalid(&place, text))?;
            let wrong = match literals {
                Literals::Refused => wrong_in(name, &template.before, template.secret.is_some()),
                Literals::Accepted => is_placeholder(&template.before).then(unfilled),
            };
            if let Some(text) = wrong {
                return Err(invalid(&place, text));
            }
        }
        Ok(())
    }
}

/// In the place of an address that is not given.
#[expect(clippy::expect_used, reason = "the text is a constant")]
fn nowhere() -> Url {
    Url::parse(NOWHERE).expect("a scheme alone is an address")
}
