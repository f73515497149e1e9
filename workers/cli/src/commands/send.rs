//! `toolfleet send`: sends a call and prints its id once the queue has accepted the message.

use clap::Args;
use serde_json::json;
use toolfleet_client::shell_command;

use super::request::RequestArgs;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `send`.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    request: RequestArgs,
}

/// Sends.
pub(crate) async fn run(args: &SendArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let ready = args.request.request()?;
    let client = connect.client().await?;
    let key = &ready.request.key;
    let message_id = client.send(&ready).await.map_err(|error| error.of_call(key))?;
    if output.is_json() {
        let sent =
            json!({"tenant": key.tenant, "call_id": key.call_id, "message_id": message_id, "sent": true});
        output.document(&sent)?;
    }
    output.line(key.call_id.as_str())?;
    output
        .note(&format!("sent as message {message_id}; read its result with: {}", shell_command::result(key)));
    Ok(Exit::Done)
}
