//! `toolfleet strike`: holds the calls of one digest (one tool with the same arguments), such as a request that breaks a server each time.

use clap::Args;
use serde_json::json;
use toolfleet_core::control::{ControlEntry, Strike};
use toolfleet_core::ids::{CallId, CallKey, Tenant};

use super::reason::{Lasting, Reason, now};
use crate::connect::{ClientHandle, Connect};
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `strike`.
#[derive(Debug, Args)]
pub(crate) struct StrikeArgs {
    /// The digest of the request as audit records have it, or a beginning of it of at least 8 characters.
    #[arg(long, value_name = "DIGEST", conflicts_with = "like", required_unless_present = "like")]
    digest: Option<String>,
    /// A call that asks for the same: its tenant and its id.
    #[arg(long, num_args = 2, value_names = ["TENANT", "CALL_ID"])]
    like: Option<Vec<String>>,
    /// End the strike.
    #[arg(long)]
    lift: bool,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    lasting: Lasting,
}

/// Strikes, or ends a strike.
pub(crate) async fn run(args: &StrikeArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (by, why) = args.reason.read()?;
    let client = connect.client().await?;
    let digest = digest(args, &client).await?;
    let strike = Strike { digest, by, why, since: now(), until: args.lasting.until() };
    if args.lift {
        return lift(strike, &client, output).await;
    }
    let entry = ControlEntry::Strike(strike.clone());
    client.controls().set(&entry).await?;
    if output.is_json() {
        output.document(&entry)?;
    }
    output.line(&strike.detail())?;
    output.note("no worker starts such a call later than five seconds from now; it waits until its deadline");
    Ok(Exit::Done)
}

async fn lift(strike: Strike, client: &ClientHandle, output: &Output) -> Result<Exit, CommandError> {
    let key = ControlEntry::Strike(strike.clone()).key();
    let lifted = client.controls().clear(&key, &strike.by, &strike.why).await?;
    if output.is_json() {
        output.document(&json!({"digest": strike.digest, "lifted": lifted.is_some()}))?;
    }
    if lifted.is_none() {
        output.note("there is no such strike; `toolfleet switches` lists what is set");
        return Ok(Exit::NoResult);
    }
    output.line(&format!("calls with digest {} run again", strike.digest))?;
    Ok(Exit::Done)
}

/// The digest that is given, or that of the call that is named.
async fn digest(args: &StrikeArgs, client: &ClientHandle) -> Result<String, CommandError> {
    if let Some(digest) = &args.digest {
        if digest.len() < Strike::SHORTEST_DIGEST
            || !digest.chars().all(|c| c.is_ascii_hexdigit() || c == '.')
        {
            return Err(CommandError::usage(format!(
                "--digest: is not the beginning of a digest; accepted are at least {} hexadecimal digits, as `toolfleet history \
                 --json` shows them",
                Strike::SHORTEST_DIGEST
            )));
        }
        return Ok(digest.to_ascii_lowercase());
    }
    let [tenant, call_id] = args.like.as_deref().unwrap_or_default() else {
        return Err(CommandError::usage("--like: takes the tenant and the id of a call"));
    };
    let wrong = |e: toolfleet_core::ids::NameError| CommandError::usage(format!("--like: {e}"));
    let key = CallKey {
        tenant: Tenant::parse(tenant.as_str()).map_err(wrong)?,
        call_id: CallId::parse(call_id.as_str()).map_err(wrong)?,
    };
    let digest = client.read(&key).await?.and_then(|row| row.digest);
    digest.map(|digest| digest.to_string()).ok_or_else(|| {
        CommandError::usage(format!(
            "--like: nothing is stored of call {call_id} of tenant {tenant}; give --digest"
        ))
    })
}
