//! Owns `toolfleet cancel`: the caller's wish, noted where every worker sees it.
//!
//! **Invariant:** a wish is not an outcome; what became of the call is said by `result`.

use clap::Args;
use serde_json::json;
use toolfleet_core::ids::{CallId, CallKey, Tenant};

use crate::connect::Connect;
use crate::ending::{Ending, Failure};
use crate::output::Output;
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

/// Notes the wish.
pub(crate) async fn run(args: &CancelArgs, connect: &Connect, output: &Output) -> Result<Ending, Failure> {
    let key = CallKey { tenant: args.tenant.clone(), call_id: args.call_id.clone() };
    match connect.fleet().await?.cancel(&key).await? {
        None => {
            if output.is_json() {
                output.document(&json!({"tenant": key.tenant, "call_id": key.call_id, "cancel": "noted"}))?;
            }
            output
                .line(&format!("noted: whoever holds call {} stops, and it will not start", key.call_id))?;
            output.note(&format!("see how it ends with: toolfleet result {} {}", key.tenant, key.call_id));
            Ok(Ending::Done)
        }
        Some(row) => {
            output.note(&format!("call {} had ended before; nothing is withdrawn", key.call_id));
            show::call(output, &key, Some(&row))?;
            Ok(Ending::NotSucceeded)
        }
    }
}
