//! The checked catalog: the registered servers and tools, which senders may send for which tenant, and what may be called.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use toolfleet_core::argument_shape::ShownArguments;
use toolfleet_core::definition::ShortDefinitionDigest;
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{ServerId, Tenant, ToolId};
use toolfleet_core::limits::{LimitKey, LimitRules};
use toolfleet_core::request::{CallRequest, Operation, Target, User};

use crate::error::CatalogError;
use crate::pins::{Approved, Pins};
use crate::publish::{Published, Registered};
use crate::schema::KnownSchemas;
use crate::server::{KnownInterfaces, Server};
use crate::tenants::{ReplyQueues, SessionRules, TenantLimits, TenantPolicy};
use crate::tool::Tool;
use crate::unusable::{NotExecutable, Remark, Unusable, WrittenSecret};

/// What is shown of calls of a tool that is not registered.
static NOTHING: ShownArguments = ShownArguments::none();

/// The fleet's catalog, checked.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(crate) servers: HashMap<ServerId, Arc<Server>>,
    pub(crate) tools: BTreeMap<ToolId, Arc<Tool>>,
    pub(crate) offered: HashMap<ServerId, Offered>,
    pub(crate) unusable: Unusable,
    pub(crate) remarks: Vec<Remark>,
    pub(crate) written: Vec<WrittenSecret>,
    pub(crate) left_out: BTreeMap<String, String>,
    pub(crate) tenant_policy: TenantPolicy,
    pub(crate) sessions: SessionRules,
    pub(crate) tenant_limits: TenantLimits,
    pub(crate) reply_queues: ReplyQueues,
    pub(crate) pins: Pins,
    pub(crate) published: Published,
    pub(crate) digest: Digest,
}

/// The registered tools of one server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Offered {
    pub(crate) by_name: HashMap<String, Arc<Tool>>,
    /// The tool whose functions are all that the server lists.
    pub(crate) open: Option<Arc<Tool>>,
}

/// Whether a registered tool stands for all that a server lists.
pub(crate) fn stands_for_all(offered: &HashMap<ServerId, Offered>) -> impl Fn(&ServerId) -> bool {
    |server| offered.get(server).is_some_and(|offered| offered.open.is_some())
}

impl Catalog {
    /// Why the tool of that id, which the catalog names, cannot be called.
    pub fn not_executable_tool(&self, id: &ToolId) -> Option<&NotExecutable> {
        self.unusable.tools.get(id).map(Arc::as_ref)
    }

    /// Why no tool of the server of that id, which the catalog names, can be called.
    pub fn not_executable_server(&self, id: &ServerId) -> Option<&NotExecutable> {
        self.unusable.servers.get(id).map(Arc::as_ref)
    }

    /// Every tool that the catalog names and that cannot be called, by id.
    pub fn not_executable_tools(&self) -> impl Iterator<Item = (&ToolId, &NotExecutable)> {
        self.unusable.tools.iter().map(|(id, found)| (id, found.as_ref()))
    }

    /// Every server that the catalog names and that cannot be called, by id.
    pub fn not_executable_servers(&self) -> impl Iterator<Item = (&ServerId, &NotExecutable)> {
        self.unusable.servers.iter().map(|(id, found)| (id, found.as_ref()))
    }

    /// What it says that has no effect, or another one than its author may expect.
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }

    /// What of a server's credentials was left out because it could not be filled in, and why.
    pub fn left_out(&self, server: &ServerId) -> Option<&str> {
        self.left_out.get(server.as_str()).map(String::as_str)
    }

    /// The secrets that it wrote out, of which it holds references now.
    pub fn written_secrets(&self) -> &[WrittenSecret] {
        &self.written
    }

    /// The same, to be stored. They have to be stored before it is gone by.
    pub fn take_written_secrets(&mut self) -> Vec<WrittenSecret> {
        std::mem::take(&mut self.written)
    }

    /// The digest of all it was made of. Two catalogs with one digest are the same, save for what stays in use of documents that cannot be
    /// used any more.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether no sender may send for any tenant: a catalog that is an array of tools names no senders.
    pub fn names_nobody(&self) -> bool {
        self.tenant_policy.is_empty()
    }

    /// Whether a message from `sender` may speak for `tenant`.
    pub fn may_speak_for(&self, sender: Option<&str>, tenant: &Tenant) -> bool {
        self.tenant_policy.may_speak_for(sender, tenant)
    }

    /// Whether this sender is a worker of the fleet.
    pub fn is_fleet_sender(&self, sender: Option<&str>) -> bool {
        self.tenant_policy.is_fleet(sender)
    }

    /// Whether a conversation of that tenant opens by itself when a worker first meets it.
    pub fn opens_sessions(&self, tenant: &Tenant) -> bool {
        self.sessions.open(tenant)
    }

    /// Whether a call of that tenant needs a conversation.
    pub fn requires_session(&self, tenant: &Tenant) -> bool {
        self.sessions.require(tenant)
    }

    /// What limits all calls of that tenant.
    pub fn tenant_limits(&self, tenant: &Tenant) -> LimitRules {
        self.tenant_limits.of_tenant(tenant)
    }

    /// What limits the calls of that tenant to that tool, by one of its names: a registered tool's id, `id.function`, or `server/name`.
    pub fn tenant_tool_limits(&self, tenant: &Tenant, tool: &str) -> LimitRules {
        self.tenant_limits.of_tool(tenant, tool)
    }

    /// Whether some of that tenant's calls are limited by their tool.
    pub fn limits_tools_of(&self, tenant: &Tenant) -> bool {
        self.tenant_limits.limits_tools_of(tenant)
    }

    /// All limits by their texts, such as `server:crm`, in their order. What is limited for each tenant that is not named has the text
    /// `tenant:*`.
    pub fn limits(&self) -> BTreeMap<String, LimitRules> {
        let servers =
            self.servers.values().map(|one| (LimitKey::Server(one.id.clone()).to_string(), one.limits));
        let tools =
            self.tools.values().map(|one| (LimitKey::Tool(one.id.to_string()).to_string(), one.limits));
        let all = servers.chain(tools).chain(self.tenant_limits.all());
        all.filter(|(_, rules)| !rules.is_empty()).collect()
    }

    /// The user that a sender is bound to.
    pub fn bound_user(&self, sender: Option<&str>) -> Option<&User> {
        self.tenant_policy.bound_user(sender)
    }

    /// Whether that tenant's notices may go to this queue.
    pub fn allows_reply_queue(&self, tenant: &Tenant, url: &str) -> bool {
        self.reply_queues.allow(tenant, url)
    }

    /// The queues to which notices may go.
    pub fn reply_queues(&self) -> BTreeSet<&str> {
        self.reply_queues.urls()
    }

    /// The registered tool of that id.
    pub fn tool(&self, id: &ToolId) -> Option<&Arc<Tool>> {
        self.tools.get(id)
    }

    /// Whether workers may execute the call without a claim, which saves the write of the claim: only calls that are safe to repeat. What limits it
    /// is not asked: limits change while it runs.
    ///
    /// Such a call has no row until it ends, becomes a task, goes back to the queue, or its first heartbeat is due. If its worker stops before,
    /// the next delivery executes it again, and a second delivery at the same time executes it too. So no end of such a call says that it did
    /// not run: the state table sees to that (`DeliveryContext::may_be_claimless`).
    pub fn may_be_claimless(&self, request: &CallRequest) -> bool {
        let is_registered = || match &request.target {
            Target::Tool { id, .. } => self.tool(id).is_some_and(|tool| tool.claimless),
            Target::OnServer { .. } | Target::Server { .. } => false,
        };
        let safe = request.idempotent || request.operation != Operation::ToolsCall || is_registered();
        safe && !request.is_always_claimed()
    }

    /// The registered server of that id.
    pub fn server(&self, id: &ServerId) -> Option<&Arc<Server>> {
        self.servers.get(id)
    }

    /// The registered tool that offers `name` on `server`; its rules hold also when it is called by that name.
    pub fn tool_on(&self, server: &ServerId, name: &str) -> Option<&Arc<Tool>> {
        let offered = self.offered.get(server)?;
        offered.by_name.get(name).or(offered.open.as_ref())
    }

    /// The registered tool that stands for all that `server` lists; its rules hold for whatever is asked of the server itself.
    pub fn tool_of_all(&self, server: &ServerId) -> Option<&Arc<Tool>> {
        self.offered.get(server)?.open.as_ref()
    }

    /// The digest of the definition of the registered tool that is meant, as audit records write it.
    pub fn definition(&self, target: &Target) -> Option<ShortDefinitionDigest> {
        self.registered(target).map(|tool| tool.definition.short())
    }

    /// The arguments whose values may stand in audit records of calls of `target`.
    pub fn shown_arguments(&self, target: &Target) -> &ShownArguments {
        self.registered(target).map_or(&NOTHING, |tool| &tool.shown)
    }

    fn registered(&self, target: &Target) -> Option<&Arc<Tool>> {
        match target {
            Target::Tool { id, .. } => self.tool(id),
            Target::OnServer { server, name } => self.tool_on(server, name),
            Target::Server { .. } => None,
        }
    }

    /// What was approved of the tool `name` of `server`, where it is pinned.
    pub fn approved(&self, server: &ServerId, name: &str) -> Option<&Approved> {
        self.pins.get(server, name)
    }

    /// Every pinned tool: its server, its name there, and what was approved.
    pub fn pinned(&self) -> Vec<(&ServerId, &str, &Approved)> {
        self.pins.all()
    }

    /// What the gateway offers to MCP clients.
    pub const fn published(&self) -> &Published {
        &self.published
    }

    /// Publishes all that is registered, if the catalog does not say what is published.
    ///
    /// # Errors
    /// Two names clash.
    pub fn publish_all_unless_chosen(&mut self) -> Result<(), CatalogError> {
        if self.published.is_empty() {
            self.published = {
                let Self { tools, servers, offered, .. } = &*self;
                let stands_for_all = stands_for_all(offered);
                let registered =
                    Registered { tools, servers, stands_for_all: &stands_for_all, is_unusable: &|_| true };
                registered.published(Some("*".into()))?
            };
        }
        Ok(())
    }

    /// The schemas of its tools.
    pub fn known_schemas(&self) -> KnownSchemas {
        let functions = self.tools.values().flat_map(|tool| &tool.functions);
        KnownSchemas::of(functions.filter_map(|function| function.schema.as_ref()))
    }

    /// The interfaces of its servers.
    pub fn known_interfaces(&self) -> KnownInterfaces {
        KnownInterfaces::of(self.servers.values())
    }

    /// Every tool, by id.
    pub fn tools(&self) -> Vec<&Arc<Tool>> {
        self.tools.values().collect()
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
            Target::OnServer { .. } | Target::Server { .. } => {
                self.servers().iter().map(|s| s.id.to_string()).take(20).collect()
            }
        };
        if names.is_empty() {
            "none is registered".to_owned()
        } else {
            format!("registered are {}", names.join(", "))
        }
    }
}
