//! A registered server: how it is reached, and what workers may assume of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use toolfleet_core::cache::CacheRule;
use toolfleet_core::credential::Template;
use toolfleet_core::ids::ServerId;
use toolfleet_core::limits::LimitRules;

use super::http::{HttpTransport, StreamTransport};
use super::lambda::LambdaTransport;
use super::openapi::OpenApiTransport;

/// A registered server. It is serialised as the entry of a catalog.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// How it is reached.
    #[serde(flatten)]
    pub transport: Transport,
    /// Whether its own annotations (`readOnlyHint`, `idempotentHint`) are trusted.
    pub trusted: bool,
    /// Whether all it lists is open: tools by name without being registered one by one, resources, prompts, and the lists.
    pub discover: bool,
    /// What people call it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether workers ask it how far its calls are; a tool's own registration may say otherwise.
    pub progress: bool,
    /// What limits its calls.
    #[serde(skip_serializing_if = "LimitRules::is_empty")]
    pub limits: LimitRules,
    /// Whether its answers may be stored; a tool's own registration counts before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheRule>,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Transport {
    /// By streamable HTTP.
    Http(Box<HttpTransport>),
    /// By messages over a connection that is kept: WebSocket, or the HTTP+SSE transport of MCP 2024-11-05.
    Stream(Box<StreamTransport>),
    /// As a program, on its stdin and stdout.
    Stdio(StdioTransport),
    /// As a Lambda function, which is invoked.
    Lambda(LambdaTransport),
    /// By the HTTP requests that an OpenAPI document describes.
    OpenApi(Box<OpenApiTransport>),
}

/// A server that is a program on the worker's machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StdioTransport {
    /// The program. It is looked for in the worker's PATH.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its variables. A value may be, or end in, `secret://name` or `secret://name#key`.
    pub env: BTreeMap<String, Template>,
    /// Where it is started; without it where the worker is.
    pub cwd: Option<PathBuf>,
    /// Whether it keeps nothing of a conversation: then the conversations of one tenant share a few of it.
    pub stateless: bool,
    /// How long it may take from its start to its first answer, in milliseconds.
    pub start_timeout_ms: Option<u64>,
}

impl Server {
    /// Its endpoint, if it has an address.
    pub fn http(&self) -> Option<&HttpTransport> {
        match &self.transport {
            Transport::Http(http) => Some(http),
            Transport::OpenApi(openapi) => Some(&openapi.http),
            Transport::Stream(stream) => Some(&stream.http),
            Transport::Stdio(_) | Transport::Lambda(_) => None,
        }
    }

    /// Its program, if it is one.
    pub const fn stdio(&self) -> Option<&StdioTransport> {
        match &self.transport {
            Transport::Http(_) | Transport::Stream(_) | Transport::Lambda(_) | Transport::OpenApi(_) => None,
            Transport::Stdio(program) => Some(program),
        }
    }

    /// Its function, if it is one.
    pub const fn lambda(&self) -> Option<&LambdaTransport> {
        match &self.transport {
            Transport::Http(_) | Transport::Stream(_) | Transport::Stdio(_) | Transport::OpenApi(_) => None,
            Transport::Lambda(lambda) => Some(lambda),
        }
    }

    /// Whether a call tells it whose call it is: then its answers are a user's own.
    pub const fn learns_user(&self) -> bool {
        match self.lambda() {
            Some(lambda) => lambda.tell_user,
            // Credentials, headers and MCP sessions are a tenant's.
            None => false,
        }
    }

    /// Its HTTP interface, if an OpenAPI document describes it.
    pub fn openapi(&self) -> Option<&OpenApiTransport> {
        match &self.transport {
            Transport::Http(_) | Transport::Stream(_) | Transport::Stdio(_) | Transport::Lambda(_) => None,
            Transport::OpenApi(openapi) => Some(openapi),
        }
    }

    /// Whether it is an MCP server that the MCP client reaches itself.
    pub const fn is_mcp_endpoint(&self) -> bool {
        match &self.transport {
            Transport::Http(_) | Transport::Stream(_) | Transport::Stdio(_) => true,
            Transport::Lambda(_) | Transport::OpenApi(_) => false,
        }
    }

    /// Whether it can be asked which tools it has.
    pub const fn lists_tools(&self) -> bool {
        match &self.transport {
            Transport::Http(_) | Transport::Stream(_) | Transport::Stdio(_) | Transport::OpenApi(_) => true,
            Transport::Lambda(lambda) => lambda.payload.speaks_mcp(),
        }
    }

    /// Its description with the tools it lists appended, for a language model.
    pub fn description_with<'a>(&self, tools: impl IntoIterator<Item = &'a str>) -> String {
        let tools: Vec<_> = tools.into_iter().collect();
        let description = self.description.as_deref().unwrap_or_default();
        let listed = if tools.is_empty() {
            String::new()
        } else {
            format!(" The tools available are: {}.", tools.join(", "))
        };
        format!("{description}{listed}").trim_start().to_owned()
    }

    /// What identifies it: its address, the command that starts it, or its function and the form of its events.
    pub fn address(&self) -> String {
        match &self.transport {
            Transport::Http(http) => http.url.to_string(),
            Transport::Stream(stream) => format!("{} {}", stream.kind.as_str(), stream.http.url),
            Transport::OpenApi(openapi) => format!("{} {}", openapi.http.url, openapi.interface.place),
            Transport::Stdio(StdioTransport { command, args, cwd, .. }) => {
                serde_json::json!([command, args, cwd]).to_string()
            }
            Transport::Lambda(LambdaTransport { function, payload, .. }) => {
                format!("{} {}", function.as_str(), payload.as_str())
            }
        }
    }
}
