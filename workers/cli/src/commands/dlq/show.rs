//! `toolfleet dlq show`: shows one dead letter. The values of its arguments are not shown, only their keys and types.

use clap::Args;
use serde_json::json;
use toolfleet_client::{DeadLetter, Judged, system_clock};
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::time::{Timestamp, span};

use super::options::{CatalogArgs, document, note_hidden, note_missed, stop_at_signals};
use super::rules::Rules;
use crate::commands::which::parse_tenant;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show::count;

/// Which dead letter.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Whose call it is; ids of calls are unique within a tenant only.
    #[arg(value_name = "TENANT")]
    first: String,
    /// The call's id, or the message's, of which the tenant may be left out.
    #[arg(value_name = "CALL|MESSAGE")]
    second: Option<String>,
    /// Whose call it is.
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant, conflicts_with = "second")]
    tenant: Option<Tenant>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

impl ShowArgs {
    /// The tenant, if one is named, and the id of a call or a message.
    fn which(&self) -> Result<(Option<Tenant>, &str), CommandError> {
        let Some(id) = &self.second else { return Ok((self.tenant.clone(), &self.first)) };
        let tenant = parse_tenant(&self.first);
        Ok((Some(tenant.map_err(|problem| CommandError::usage(format!("TENANT: {problem}")))?), id))
    }
}

/// Reads and shows.
pub(crate) async fn run(args: &ShowArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let rules = Rules::read(&args.catalog, connect).await?;
    let dead = connect.client().await?.dead_letters().await?;
    let mut look = dead.look();
    let stop = look.stop();
    stop_at_signals(stop.clone())?;
    let (tenant, id) = args.which()?;
    let is_whose = |key: &CallKey| tenant.as_ref().is_none_or(|tenant| key.tenant == *tenant);
    let is_it = |letter: &DeadLetter| {
        letter.message_id() == id
            || letter.first_message_id() == id
            || letter.key().is_some_and(|key| key.call_id.as_str() == id && is_whose(key))
    };
    let read = async {
        loop {
            let letters = look.next().await?;
            if letters.is_empty() {
                return Ok::<_, CommandError>(Vec::new());
            }
            let letters: Vec<_> = letters.into_iter().filter(&is_it).collect();
            if !letters.is_empty() {
                let judged = dead.judge(&letters, &rules).await?;
                return Ok(letters.into_iter().zip(judged).collect());
            }
        }
    };
    let found = read.await;
    note_hidden(output, look.release().await);
    let found = found?;
    let Some((letter, judged)) = found.first() else {
        if output.is_json() {
            output.document(&json!({"tenant": tenant, "id": id, "state": "unknown", "read": look.read()}))?;
        }
        let read = count(look.read(), "message");
        output.note(&format!("{id} is not among the {read} that were read"));
        note_missed(output, look.missed());
        return Ok(Exit::NoResult);
    };
    if found.len() > 1 {
        output.note("several tenants have a call of that id: name one, `toolfleet dlq show TENANT CALL`");
    }
    if output.is_json() {
        let mut shown = document(letter, judged);
        if let Some(members) = shown.as_object_mut() {
            members.insert("arguments".into(), letter.arguments_shape().into());
            members.insert("problem".into(), letter.problem().into());
            members.insert("sender".into(), letter.sender().into());
            members.insert("deadline".into(), deadline(letter, judged).map(|at| at.to_string()).into());
        }
        output.document(&shown)?;
    }
    for (name, text) in lines(letter, judged, system_clock()()) {
        output.line(&format!("{name:<14} {text}"))?;
    }
    Ok(Exit::Done)
}

fn deadline(letter: &DeadLetter, judged: &Judged) -> Option<Timestamp> {
    judged.row.as_ref().and_then(|row| row.deadline).or_else(|| letter.named_deadline())
}

fn lines(letter: &DeadLetter, judged: &Judged, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut add = |name, text: Option<String>| lines.extend(text.map(|text| (name, text)));
    add("message", Some(letter.message_id().to_owned()));
    add("call", letter.key().map(|key| format!("{} of tenant {}", key.call_id, key.tenant)));
    add("tool", letter.tool());
    add("arguments", letter.arguments_shape());
    add("problem", letter.problem());
    add("reason", Some(letter.reason().to_owned()));
    add("received", Some(format!("{} times", letter.received())));
    let age = span(now.ms_since(letter.first_sent()));
    add("first sent", Some(format!("{} ({age} ago)", letter.first_sent())));
    add("deadline", deadline(letter, judged).map(|at| at.to_string()));
    add("sender", letter.sender().map(str::to_owned));
    add("queue", letter.queue().map(str::to_owned));
    add("state", Some(judged.row.as_ref().map_or("no row", |row| row.state.as_str()).to_owned()));
    add("may have run", Some(if judged.may_have_run() { "yes" } else { "no" }.to_owned()));
    add("redrive", Some(format!("{}: {}", judged.class.as_str(), judged.class.sentence())));
    lines
}
