//! `toolfleet result`: shows the result of a call, or its state.

use clap::Args;
use toolfleet_core::ids::{CallId, CallKey, Tenant};

use super::history::parse_tenant;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show;

/// Which call: `toolfleet result TENANT CALL_ID`, or the same as options.
#[derive(Debug, Args)]
#[command(
    override_usage = "toolfleet result <TENANT> <CALL_ID>\n       toolfleet result --tenant <TENANT> --call-id <ID>"
)]
pub(crate) struct ResultArgs {
    /// Who the call is for; `_message` for the result of a message that was refused, with its MessageId as CALL_ID.
    #[arg(value_name = "TENANT", requires = "call_id_at", value_parser = parse_tenant)]
    tenant_at: Option<Tenant>,
    /// The call's id.
    #[arg(value_name = "CALL_ID")]
    call_id_at: Option<CallId>,
    /// Who the call is for.
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant, conflicts_with = "tenant_at", requires = "call_id")]
    tenant: Option<Tenant>,
    /// The call's id.
    #[arg(long, value_name = "ID", conflicts_with = "call_id_at", requires = "tenant")]
    call_id: Option<CallId>,
}

/// Reads and shows.
pub(crate) async fn run(args: &ResultArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let tenant = args.tenant.clone().or_else(|| args.tenant_at.clone());
    let call_id = args.call_id.clone().or_else(|| args.call_id_at.clone());
    let (Some(tenant), Some(call_id)) = (tenant, call_id) else {
        return Err(CommandError::usage(
            "which call? Give its tenant and its id: toolfleet result TENANT CALL_ID",
        ));
    };
    let key = CallKey { tenant, call_id };
    let row = connect.client().await?.read(&key).await?;
    Ok(show::call(output, &key, row.as_ref())?)
}
