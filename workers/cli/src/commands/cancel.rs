//! Owns `toolfleet cancel`: the caller's wish, noted where every worker sees it.
//!
//! **Invariant:** a wish is not an outcome; what became of the call is said by `result`.

use clap::Args;
use serde_json::json;
use toolfleet_client::Cancelled;
use toolfleet_core::ids::{CallId, CallKey, Tenant};

use crate::connect::Connect;
use crate::ending::{Ending, Failure};
use crate::output::Output;
use crate::shell;
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

/// CallProgress the wish.
pub(crate) async fn run(args: &CancelArgs, connect: &Connect, output: &Output) -> Result<Ending, Failure> {
    let key = CallKey { tenant: args.tenant.clone(), call_id: args.call_id.clone() };
    let client = connect.client().await?;
    let document = |cancel: &str| {
        let told = json!({"tenant": key.tenant, "call_id": key.call_id, "cancel": cancel});
        if output.is_json() { output.document(&told) } else { Ok(()) }
    };
    match client.cancel(&key).await.map_err(|failure| failure.of_call(&key))? {
        Cancelled::Noted => {
            document("noted")?;
            output
                .line(&format!("noted: whoever holds call {} stops, and it will not start", key.call_id))?;
            output.note(&format!("see how it ends with: {}", shell::result(&key)));
            Ok(Ending::Done)
        }
        Cancelled::Ahead => {
            document("noted_ahead")?;
            output.line(&format!(
                "nothing is known of call {} of tenant {}: no worker has met it. The cancellation is noted: if its message still \
                 waits in the queue, the call ends as cancelled when a worker meets it",
                key.call_id, key.tenant
            ))?;
            output
                .note("if the call was sent long ago, look whether tenant and id are those it was sent with");
            Ok(Ending::NoResult)
        }
        Cancelled::TooLate => {
            let row = client.read(&key).await?;
            output.note(&format!("call {} had ended before; nothing is withdrawn", key.call_id));
            show::call(output, &key, row.as_ref())?;
            Ok(Ending::NotSucceeded)
        }
    }
}
