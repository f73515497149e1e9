//! Owns `toolfleet send`: one message to the calls queue, and its call id on stdout.
//!
//! **Invariant:** what is printed was accepted by the queue.

use clap::Args;
use serde_json::json;

use super::request::RequestArgs;
use crate::connect::Connect;
use crate::ending::{Ending, Failure};
use crate::output::Output;

/// Options of `send`.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    request: RequestArgs,
}

/// Sends.
pub(crate) async fn run(args: &SendArgs, connect: &Connect, output: &Output) -> Result<Ending, Failure> {
    let ready = args.request.request()?;
    let fleet = connect.fleet().await?;
    fleet.send(&ready).await?;
    let key = &ready.request.key;
    if output.is_json() {
        output.document(&json!({"tenant": key.tenant, "call_id": key.call_id, "sent": true}))?;
    }
    output.line(key.call_id.as_str())?;
    output.note(&format!("sent; read its result with: toolfleet result {} {}", key.tenant, key.call_id));
    Ok(Ending::Done)
}
