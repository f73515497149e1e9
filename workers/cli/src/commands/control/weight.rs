//! `toolfleet weight`: the share of a tenant against the others where slots are scarce.

use clap::Args;
use toolfleet_config::settings::number;
use toolfleet_core::control::{ControlEntry, DEFAULT_WEIGHT};
use toolfleet_core::ids::Tenant;

use super::known::known;
use super::reason::{Reason, now};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `weight`.
#[derive(Debug, Args)]
pub(crate) struct WeightArgs {
    /// The tenant.
    #[arg(value_name = "TENANT")]
    tenant: Tenant,
    /// Its weight; a tenant of weight 2 gets twice the slots of one of weight 1, which all have that are not named.
    #[arg(value_name = "WEIGHT", value_parser = number(1_u32, 1_000))]
    weight: u32,
    #[command(flatten)]
    reason: Reason,
}

/// Sets it; the usual weight removes the entry.
pub(crate) async fn run(args: &WeightArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (by, why) = args.reason.read()?;
    let client = connect.client().await?;
    let controls = client.controls();
    let (tenant, weight) = (args.tenant.clone(), args.weight);
    let entry = ControlEntry::Weight { tenant, weight, by: by.clone(), why: why.clone(), since: now() };
    if weight == DEFAULT_WEIGHT {
        controls.clear(&entry.key(), &by, &why).await?;
    } else {
        controls.set(&entry).await?;
    }
    let known = known(&format!("tenant:{}", args.tenant), &client, connect).await;
    if output.is_json() {
        output.document(&known.document(&entry)?)?;
    }
    output.line(&format!("tenant {} has weight {weight}", args.tenant))?;
    known.note(output);
    Ok(Exit::Done)
}
