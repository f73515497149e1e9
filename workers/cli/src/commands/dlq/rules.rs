//! What the workers' catalog says of a dead letter: whether its call is safe to repeat, and whose messages workers believe.

use toolfleet_catalog::{Catalog, Function};
use toolfleet_client::RedriveRules;
use toolfleet_core::ids::Tenant;
use toolfleet_core::request::{CallRequest, Operation, Target};

use super::options::CatalogArgs;
use crate::commands::tools::source;
use crate::connect::Connect;
use crate::exit::CommandError;

/// The rules of a catalog, or what is known without one.
pub(super) struct Rules(Option<Catalog>);

impl Rules {
    /// Reads the catalog, if one is named.
    pub(super) async fn read(args: &CatalogArgs, connect: &Connect) -> Result<Self, CommandError> {
        match args.catalog.as_deref().filter(|place| !place.is_empty()) {
            Some(place) => Ok(Self(Some(source::read(place, connect).await?.1))),
            None => Ok(Self(None)),
        }
    }

    /// Whether there is a catalog.
    pub(super) const fn has_catalog(&self) -> bool {
        self.0.is_some()
    }

    fn registered_as_idempotent(&self, target: &Target) -> bool {
        let function = |function: Option<&Function>| function.is_some_and(|function| function.idempotent);
        self.0.as_ref().is_some_and(|catalog| match target {
            Target::Tool { id, function: name } => {
                catalog.tool(id).is_some_and(|tool| function(tool.function(name.as_deref())))
            }
            Target::OnServer { server, name } => {
                catalog.tool_on(server, name).is_some_and(|tool| function(tool.function(Some(name))))
            }
            Target::Server { .. } => false,
        })
    }
}

impl RedriveRules for Rules {
    fn is_fleet(&self, sender: &str) -> Option<bool> {
        self.0.as_ref().map(|catalog| catalog.is_fleet_sender(Some(sender)))
    }

    fn may_speak_for(&self, sender: &str, tenant: &Tenant) -> Option<bool> {
        self.0.as_ref().map(|catalog| catalog.may_speak_for(Some(sender), tenant))
    }

    /// As a worker decides it, less what a trusted server says of its own tools.
    fn is_repeatable(&self, request: &CallRequest) -> bool {
        let reads = request.operation != Operation::ToolsCall;
        request.idempotent
            || (request.resume.is_none() && (reads || self.registered_as_idempotent(&request.target)))
    }

    /// As a worker decides it; without a catalog any tool may be registered so.
    fn may_be_claimless(&self, request: &CallRequest) -> bool {
        self.0.as_ref().map_or(!request.is_always_claimed(), |catalog| catalog.may_be_claimless(request))
    }
}
