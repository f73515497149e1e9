//! `toolfleet cancel`: stores the cancellation of a call. `result` shows how the call ends.

use clap::Args;
use serde_json::json;
use toolfleet_client::Cancelled;
use toolfleet_core::ids::{CallId, CallKey, Tenant};

use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::shell_command;
use crate::show;

/// Which call.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Who the call is for.
    #[arg(long, value_name = "TENANT")]
    tenant: Tenant,
    /// The call's id.
    #[arg(long, value_name = "ID")]
    call_id: CallId,
}

/// Stores the cancellation.
pub(crate) async fn run(args: &CancelArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let key = CallKey { tenant: args.tenant.clone(), call_id: args.call_id.clone() };
    let client = connect.client().await?;
    let document = |cancel: &str| {
        let shown = json!({"tenant": key.tenant, "call_id": key.call_id, "cancel": cancel});
        if output.is_json() { output.document(&shown) } else { Ok(()) }
    };
    match client.cancel(&key).await.map_err(|error| error.of_call(&key))? {
        Cancelled::Noted => {
            document("noted")?;
            output.line(&format!(
                "noted: a worker that runs call {} stops, and no worker starts it",
                key.call_id
            ))?;
            output.note(&format!("see how it ends with: {}", shell_command::result(&key)));
            Ok(Exit::Done)
        }
        Cancelled::Ahead => {
            document("noted_ahead")?;
            output.line(&format!(
                "nothing is known of call {} of tenant {}: no worker has received it. The cancellation is noted: if its message is \
                 still in the queue, the call ends as cancelled when a worker receives it",
                key.call_id, key.tenant
            ))?;
            output.note("if the call was sent long ago, check that tenant and id are those it was sent with");
            Ok(Exit::NoResult)
        }
        Cancelled::TooLate => {
            let row = client.read(&key).await?;
            output.note(&format!("call {} had ended before; nothing is cancelled", key.call_id));
            show::call(output, &key, row.as_ref())?;
            Ok(Exit::NotSucceeded)
        }
    }
}
