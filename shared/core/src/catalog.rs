//! Owns the catalog: which servers and tools are registered, who may speak for which tenant, who may call what.
//!
//! Parsed and cross-checked once; an error names the entry and the field.
//!
//! **Invariant:** a tool that cannot be called (no such server, broken schema) is never in a catalog.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::digest::Digest;
use crate::ids::{ServerId, Tenant, ToolId};
use crate::message::{Target, User};

/// How long one attempt may take unless the tool or its server says otherwise, in milliseconds.
pub const DEFAULT_ATTEMPT_MS: u64 = 30_000;

/// How many attempts a call has unless its tool says otherwise.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;

/// The fleet's catalog, checked.
#[derive(Debug, Clone)]
pub struct Catalog {
    servers: HashMap<ServerId, Arc<Server>>,
    tools: HashMap<ToolId, Arc<Tool>>,
    queue_tenants: Tenants,
    senders: HashMap<String, Tenants>,
    fleet_senders: Vec<String>,
    registered_sessions: Tenants,
    open_sessions: Vec<Tenant>,
    reply_queues: Vec<String>,
}

/// What is wrong with a catalog: the entry, its field, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("catalog: {entry}: {problem}")]
pub struct CatalogError {
    entry: String,
    problem: String,
}

/// A registered MCP server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Its streamable HTTP endpoint.
    pub url: Url,
    /// Whether its own annotations (`readOnlyHint`, `idempotentHint`) are believed.
    #[serde(default)]
    pub trusted: bool,
    /// Whether tools it lists may be called by name without being registered one by one.
    #[serde(default)]
    pub discover: bool,
    /// Headers sent with every request. A value may end in `secret://name` or `secret://name#key`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How long one attempt may take, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// A registered tool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTool {
    id: ToolId,
    server: ServerId,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    functions: Vec<WireFunction>,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    idempotent: bool,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    max_attempts: Option<u32>,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    access: Vec<AccessRule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFunction {
    name: String,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    idempotent: Option<bool>,
}

/// Whom a tool is open to. A tool without rules is open to all; else one enabled rule must fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// Whether the rule counts.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// User types it opens the tool to; empty: all.
    #[serde(default)]
    pub user_types: Vec<String>,
    /// Roles of which the user needs one; empty: none needed.
    #[serde(default)]
    pub user_roles: Vec<String>,
}

/// A registered tool, checked.
#[derive(Debug)]
pub struct Tool {
    /// Its id.
    pub id: ToolId,
    /// Its server.
    pub server: Arc<Server>,
    /// Its functions by name; the first is meant when a request names none and there is but one.
    pub functions: Vec<Function>,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// How many attempts a call has.
    pub max_attempts: u32,
    /// Whether an operator stopped it.
    pub paused: bool,
    /// Whom it is open to.
    pub access: Vec<AccessRule>,
    /// The digest of its definition.
    pub definition: Digest,
}

/// One function of a tool.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name on the server.
    pub name: String,
    /// What its arguments must fit.
    pub schema: Option<InputSchema>,
    /// Whether running it twice does no harm.
    pub idempotent: bool,
}

/// A compiled JSON Schema of a tool's arguments. Remote references are not fetched; a schema with one does not compile.
#[derive(Debug, Clone)]
pub struct InputSchema(Arc<jsonschema::Validator>);

impl InputSchema {
    /// Compiles a schema (JSON Schema 2020-12 unless it names another draft).
    pub fn compile(schema: &Value) -> Result<Self, String> {
        jsonschema::validator_for(schema).map(|v| Self(Arc::new(v))).map_err(|e| e.to_string())
    }

    /// What is wrong with `arguments`, as sentences that name the place; empty if they fit.
    pub fn problems(&self, arguments: &Value) -> Vec<String> {
        let describe = |error: jsonschema::ValidationError<'_>| {
            let path = error.instance_path().to_string();
            let place = if path.is_empty() { "arguments".to_owned() } else { format!("arguments{path}") };
            format!("{place}: {}", error.masked())
        };
        self.0.iter_errors(arguments).take(5).map(describe).collect()
    }
}

/// Which tenants a queue or sender may speak for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tenants {
    All,
    These(Vec<Tenant>),
}

impl Tenants {
    fn parse(entry: &str, words: &[String]) -> Result<Self, CatalogError> {
        if words.iter().any(|w| w == "*") {
            return Ok(Self::All);
        }
        let tenants: Result<Vec<_>, _> = words.iter().map(Tenant::parse).collect();
        tenants.map(Self::These).map_err(|e| problem(entry, e.to_string()))
    }

    fn include(&self, tenant: &Tenant) -> bool {
        match self {
            Self::All => true,
            Self::These(tenants) => tenants.contains(tenant),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCatalog {
    servers: Vec<Server>,
    #[serde(default)]
    tools: Vec<WireTool>,
    tenants: WireTenants,
    #[serde(default)]
    reply_queues: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTenants {
    /// Tenants that everyone who may write to the queue may speak for.
    #[serde(default)]
    queue: Vec<String>,
    /// Tenants by the SQS SenderId of the producing role.
    #[serde(default)]
    senders: BTreeMap<String, Vec<String>>,
    /// The SQS SenderIds of the workers themselves: what their parked messages say of the first sender is believed.
    #[serde(default)]
    fleet: Vec<String>,
    /// What becomes of a conversation that nobody registered, by tenant; `*` for all that are not named.
    #[serde(default)]
    sessions: BTreeMap<String, SessionRule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SessionRule {
    /// It opens when a worker first meets it, and grants all.
    Open,
    /// Its calls are refused.
    Registered,
}

impl Catalog {
    /// Reads and checks a catalog.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let wire: WireCatalog = serde_path_to_error::deserialize(&mut json)
            .map_err(|e| problem(&e.path().to_string(), e.into_inner().to_string()))?;
        let mut servers = HashMap::new();
        for server in wire.servers {
            check_server(&server)?;
            let id = server.id.clone();
            if servers.insert(id.clone(), Arc::new(server)).is_some() {
                return Err(problem(
                    &format!("servers.{id}"),
                    "stands twice; give each server an id of its own",
                ));
            }
        }
        let mut tools = HashMap::new();
        for tool in wire.tools {
            let id = tool.id.clone();
            if tools.insert(id.clone(), Arc::new(tool.check(&servers)?)).is_some() {
                return Err(problem(&format!("tools.{id}"), "stands twice; give each tool an id of its own"));
            }
        }
        let mut senders = HashMap::new();
        for (sender, words) in &wire.tenants.senders {
            senders.insert(sender.clone(), Tenants::parse(&format!("tenants.senders.{sender}"), words)?);
        }
        let queue_tenants = Tenants::parse("tenants.queue", &wire.tenants.queue)?;
        let (registered_sessions, open_sessions) = session_rules(&wire.tenants.sessions)?;
        let fleet_senders = wire.tenants.fleet;
        if !senders.is_empty() && fleet_senders.is_empty() {
            let text = "is empty beside `tenants.senders`; name the SenderId of the workers' role, whose parked messages \
                        would else be refused";
            return Err(problem("tenants.fleet", text));
        }
        if senders.is_empty() && queue_tenants == Tenants::These(Vec::new()) {
            return Err(problem(
                "tenants",
                "names nobody; list tenants under `queue` or `senders`, or `\"queue\": [\"*\"]`",
            ));
        }
        Ok(Self {
            servers,
            tools,
            queue_tenants,
            senders,
            fleet_senders,
            registered_sessions,
            open_sessions,
            reply_queues: wire.reply_queues,
        })
    }

    /// Whether a message from `sender` may speak for `tenant`.
    pub fn may_speak_for(&self, sender: Option<&str>, tenant: &Tenant) -> bool {
        let by_sender = sender.and_then(|s| self.senders.get(role_of(s)));
        self.queue_tenants.include(tenant) || by_sender.is_some_and(|t| t.include(tenant))
    }

    /// Whether this sender is a worker of the fleet.
    pub fn is_fleet_sender(&self, sender: Option<&str>) -> bool {
        // Where the queue itself speaks for its tenants, whoever may write to it could send the first message as well.
        self.fleet_senders.is_empty()
            || sender.is_some_and(|s| self.fleet_senders.iter().any(|f| f == role_of(s)))
    }

    /// Whether a conversation of that tenant opens by itself when a worker first meets it.
    pub fn opens_sessions(&self, tenant: &Tenant) -> bool {
        self.open_sessions.contains(tenant) || !self.registered_sessions.include(tenant)
    }

    /// Whether notices may go to this queue.
    pub fn allows_reply_queue(&self, url: &str) -> bool {
        self.reply_queues.iter().any(|allowed| allowed == url)
    }

    /// The registered tool of that id.
    pub fn tool(&self, id: &ToolId) -> Option<&Arc<Tool>> {
        self.tools.get(id)
    }

    /// The registered server of that id.
    pub fn server(&self, id: &ServerId) -> Option<&Arc<Server>> {
        self.servers.get(id)
    }

    /// The registered tool that offers `name` on `server`; its rules hold also when it is called by that name.
    pub fn tool_on(&self, server: &ServerId, name: &str) -> Option<&Arc<Tool>> {
        self.tools.values().find(|t| t.server.id == *server && t.functions.iter().any(|f| f.name == name))
    }

    /// Every tool, by id.
    pub fn tools(&self) -> Vec<&Arc<Tool>> {
        let mut tools: Vec<_> = self.tools.values().collect();
        tools.sort_by(|a, b| a.id.cmp(&b.id));
        tools
    }

    /// Every server, by id.
    pub fn servers(&self) -> Vec<&Arc<Server>> {
        let mut servers: Vec<_> = self.servers.values().collect();
        servers.sort_by(|a, b| a.id.cmp(&b.id));
        servers
    }

    /// The names closest to what was asked for, for an error a caller can act on.
    pub fn suggestions(&self, target: &Target) -> String {
        let names: Vec<String> = match target {
            Target::Tool { .. } => self.tools().iter().map(|t| t.id.to_string()).take(20).collect(),
            Target::OnServer { .. } => self.servers().iter().map(|s| s.id.to_string()).take(20).collect(),
        };
        if names.is_empty() {
            "none is registered".to_owned()
        } else {
            format!("registered are {}", names.join(", "))
        }
    }
}

impl Tool {
    /// Whether one of the rules opens this tool to `user`.
    pub fn is_open_to(&self, user: Option<&User>) -> bool {
        let mut rules = self.access.iter().filter(|r| r.enabled).peekable();
        if self.access.is_empty() {
            return true;
        }
        rules.any(|rule| {
            let kind = user.and_then(|u| u.kind.as_deref());
            let of_type =
                rule.user_types.is_empty() || kind.is_some_and(|k| rule.user_types.iter().any(|t| t == k));
            let roles = user.map(|u| u.roles.as_slice()).unwrap_or_default();
            let in_role = rule.user_roles.is_empty() || roles.iter().any(|r| rule.user_roles.contains(r));
            of_type && in_role
        })
    }

    /// The function a request means.
    pub fn function(&self, name: Option<&str>) -> Option<&Function> {
        match name {
            Some(name) => self.functions.iter().find(|f| f.name == name),
            None if self.functions.len() == 1 => self.functions.first(),
            None => None,
        }
    }
}

impl WireTool {
    fn check(self, servers: &HashMap<ServerId, Arc<Server>>) -> Result<Tool, CatalogError> {
        let entry = format!("tools.{}", self.id);
        let Some(server) = servers.get(&self.server) else {
            let known = servers.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(problem(
                &format!("{entry}.server"),
                format!("`{}` is not among the servers ({known})", self.server),
            ));
        };
        let max_attempts = self.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS);
        if max_attempts == 0 || max_attempts > 100 {
            return Err(problem(
                &format!("{entry}.max_attempts"),
                format!("is {max_attempts}; accepted are 1 to 100"),
            ));
        }
        let timeout_ms = self.timeout_ms.or(server.timeout_ms).unwrap_or(DEFAULT_ATTEMPT_MS);
        if timeout_ms == 0 {
            return Err(problem(&format!("{entry}.timeout_ms"), "is 0; accepted is a whole number from 1"));
        }
        let definition = Digest::of_json(&serde_json::json!([
            server.url.as_str(),
            self.name,
            self.input_schema,
            self.idempotent,
            self.functions.iter().map(|f| (&f.name, &f.input_schema, f.idempotent)).collect::<Vec<_>>(),
        ]));
        let functions = if self.functions.is_empty() {
            let name = self.name.unwrap_or_else(|| self.id.to_string());
            vec![Function {
                name,
                schema: compile(&entry, self.input_schema.as_ref())?,
                idempotent: self.idempotent,
            }]
        } else if self.name.is_some() || self.input_schema.is_some() {
            return Err(problem(
                &entry,
                "has `functions` beside `name` or `input_schema`; give one of the two",
            ));
        } else {
            let check = |f: WireFunction| {
                let schema = compile(&format!("{entry}.functions.{}", f.name), f.input_schema.as_ref())?;
                Ok(Function { name: f.name, schema, idempotent: f.idempotent.unwrap_or(self.idempotent) })
            };
            self.functions.into_iter().map(check).collect::<Result<_, CatalogError>>()?
        };
        Ok(Tool {
            id: self.id,
            server: server.clone(),
            functions,
            timeout_ms,
            max_attempts,
            paused: self.paused,
            access: self.access,
            definition,
        })
    }
}

fn compile(entry: &str, schema: Option<&Value>) -> Result<Option<InputSchema>, CatalogError> {
    let compiled = schema.map(InputSchema::compile).transpose();
    compiled
        .map_err(|e| problem(&format!("{entry}.input_schema"), format!("is not a usable JSON Schema: {e}")))
}

fn check_server(server: &Server) -> Result<(), CatalogError> {
    let entry = format!("servers.{}", server.id);
    if !matches!(server.url.scheme(), "http" | "https") {
        let scheme = server.url.scheme();
        return Err(problem(
            &format!("{entry}.url"),
            format!("has the scheme `{scheme}`; accepted are http and https"),
        ));
    }
    if !server.url.username().is_empty() || server.url.password().is_some() {
        return Err(problem(
            &format!("{entry}.url"),
            "carries a user or password; name a secret in `headers` instead",
        ));
    }
    if server.timeout_ms == Some(0) {
        return Err(problem(&format!("{entry}.timeout_ms"), "is 0; accepted is a whole number from 1"));
    }
    Ok(())
}

fn problem(entry: &str, text: impl Into<String>) -> CatalogError {
    CatalogError { entry: entry.to_owned(), problem: text.into() }
}

/// The tenants whose conversations must be registered, and those that are named as open.
fn session_rules(rules: &BTreeMap<String, SessionRule>) -> Result<(Tenants, Vec<Tenant>), CatalogError> {
    let of = |rule: SessionRule| {
        rules.iter().filter(move |(_, r)| **r == rule).map(|(tenant, _)| tenant.clone()).collect::<Vec<_>>()
    };
    let registered = Tenants::parse("tenants.sessions", &of(SessionRule::Registered))?;
    let open = of(SessionRule::Open).into_iter().filter(|tenant| tenant != "*").map(Tenant::parse);
    let open = open.collect::<Result<_, _>>().map_err(|e| problem("tenants.sessions", e.to_string()))?;
    Ok((registered, open))
}

/// The role in a SenderId: SQS gives `ROLEID:session-name` for an assumed role.
fn role_of(sender: &str) -> &str {
    sender.split(':').next().unwrap_or(sender)
}

const fn yes() -> bool {
    true
}
