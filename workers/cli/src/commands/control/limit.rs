//! `toolfleet limit`: changes limits of the running fleet, ends changes, lists them.

use clap::{Args, Subcommand};
use serde_json::json;
use toolfleet_client::Controls;
use toolfleet_core::control::{ControlEntry, LimitChange};
use toolfleet_core::limits::{LimitKey, Positive, RateLimit};

use super::known::known_limit;
use super::reason::{Lasting, Reason, now};
use super::shown;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// The verbs of `limit`.
#[derive(Debug, Subcommand)]
pub(crate) enum LimitCommand {
    /// Set the rate or the concurrency of a limit, in the place of the catalog's; a part that is not named stays as it is.
    Set(SetArgs),
    /// End a change, or one part of it, so that the catalog's limit holds again.
    Clear(ClearArgs),
    /// List the limits that were changed.
    List,
}

/// Which limit.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The limit: server:ID, tool:ID, tenant:ID or tenant:ID/tool:ID; or its kind, before its name.
    #[arg(value_name = "LIMIT")]
    limit: String,
    /// Its name, where LIMIT is its kind: server, tool or tenant.
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Named {
    /// The limit, if it is one.
    fn checked(&self) -> Result<LimitKey, CommandError> {
        let limit =
            self.name.as_ref().map_or_else(|| self.limit.clone(), |name| format!("{}:{name}", self.limit));
        LimitKey::named(&limit).map_err(|error| CommandError::usage(format!("limit `{limit}` {error}")))
    }
}

/// Options of `limit set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    limit: Named,
    /// The rate, for example 20/s, 100/m or 5/30s.
    #[arg(long, value_name = "RATE", required_unless_present = "concurrency")]
    rate: Option<RateLimit>,
    /// The most calls at once.
    #[arg(long, value_name = "N")]
    concurrency: Option<Positive>,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    lasting: Lasting,
}

/// Options of `limit clear`.
#[derive(Debug, Args)]
pub(crate) struct ClearArgs {
    #[command(flatten)]
    limit: Named,
    /// End the change of the rate only.
    #[arg(long)]
    rate: bool,
    /// End the change of the concurrency only.
    #[arg(long)]
    concurrency: bool,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the verb.
pub(crate) async fn run(
    command: &LimitCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    match command {
        LimitCommand::Set(args) => set(args, connect, output).await,
        LimitCommand::Clear(args) => clear(args, connect, output).await,
        LimitCommand::List => list(connect, output).await,
    }
}

async fn set(args: &SetArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (by, why) = args.reason.read()?;
    let key = args.limit.checked()?;
    let client = connect.client().await?;
    let controls = client.controls();
    let (since, until) = (now(), args.lasting.until());
    let (mut set, mut replaced) = (Vec::new(), Vec::new());
    // Each part is an entry of its own, with its own end: setting one neither drops nor prolongs the other.
    for change in (LimitChange { rate: args.rate, concurrency: args.concurrency }).parts() {
        let (limit, by, why) = (key.to_string(), by.clone(), why.clone());
        let entry = ControlEntry::Limit { limit, change, by, why, since, until };
        replaced.extend(controls.set(&entry).await?);
        set.push(entry);
    }
    let known = known_limit(&key, &client, connect).await;
    if output.is_json() {
        let set = set.iter().map(|entry| known.document(entry)).collect::<Result<Vec<_>, _>>()?;
        output.document(&set)?;
    }
    let live = controls.current().await?.limit(&key, now());
    output.line(&format!("{}: {}", key.name(), shown::change(&live)))?;
    for entry in &replaced {
        output.note(&format!("it replaces {}", shown::set_by(entry)));
    }
    output
        .note("workers take it within five seconds; calls that wait for the limit follow as their waits end");
    known.note(output);
    Ok(Exit::Done)
}

async fn clear(args: &ClearArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (by, why) = args.reason.read()?;
    let key = args.limit.checked()?;
    let controls = connect.client().await?.controls();
    let all = args.rate == args.concurrency;
    let mut cleared = false;
    let entries = controls.entries().await?;
    for entry in &entries {
        let ControlEntry::Limit { limit: other, change, .. } = entry else { continue };
        let named =
            (args.rate && change.rate.is_some()) || (args.concurrency && change.concurrency.is_some());
        if LimitKey::stored(other).as_ref() != Ok(&key) || !(all || named) {
            continue;
        }
        if !all {
            keep_rest(args, entry, &entries, &controls).await?;
        }
        cleared |= controls.clear(&entry.key(), &by, &why).await?.is_some();
    }
    let left = controls.current().await?.limit(&key, now());
    let left = (left != LimitChange::default()).then_some(left);
    let limit = key.name();
    if output.is_json() {
        output.document(&json!({"limit": limit, "cleared": cleared, "left": left}))?;
    }
    let left = left.map(|left| format!("; still changed: {}", shown::change(&left))).unwrap_or_default();
    if !cleared {
        output.note(&format!("{limit} was not changed so; the catalog's limit holds{left}"));
        return Ok(Exit::NoResult);
    }
    output.line(&format!("{limit}: the catalog's limit holds again{left}"))?;
    Ok(Exit::Done)
}

/// An entry of an earlier version may have both parts. The one that is not ended is set as an entry of its own first, unless there is one: where the
/// command ends in between, both entries say the same of it.
async fn keep_rest(
    args: &ClearArgs,
    entry: &ControlEntry,
    entries: &[ControlEntry],
    controls: &Controls,
) -> Result<(), CommandError> {
    let Some(rest) = rest_of(entry, args.rate, args.concurrency) else { return Ok(()) };
    if entries.iter().all(|other| other.key() != rest.key()) {
        controls.set(&rest).await?;
    }
    Ok(())
}

/// The entry without the parts that are ended; none where nothing is left of it.
fn rest_of(entry: &ControlEntry, ends_rate: bool, ends_concurrency: bool) -> Option<ControlEntry> {
    let ControlEntry::Limit { limit, change, by, why, since, until } = entry.clone() else { return None };
    let change = LimitChange {
        rate: change.rate.filter(|_| !ends_rate),
        concurrency: change.concurrency.filter(|_| !ends_concurrency),
    };
    let rest = ControlEntry::Limit { limit, change, by, why, since, until };
    (change != LimitChange::default()).then_some(rest)
}

async fn list(connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let mut entries = connect.client().await?.controls().entries().await?;
    entries.retain(|entry| matches!(entry, ControlEntry::Limit { .. }));
    if output.is_json() {
        output.document(&entries.iter().map(shown::document).collect::<Result<Vec<_>, _>>()?)?;
        return Ok(Exit::Done);
    }
    if entries.is_empty() {
        output.line("no limit is changed; those of the catalog hold")?;
        return Ok(Exit::Done);
    }
    output.shaped(&shown::SHAPE, &entries.iter().map(shown::row).collect::<Vec<_>>())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use toolfleet_core::time::Timestamp;

    use super::*;

    #[test]
    fn ending_one_part_of_an_entry_with_both_leaves_the_other() {
        let change = LimitChange { rate: RateLimit::new(20, 1).ok(), concurrency: Positive::new(5) };
        let entry = |change| ControlEntry::Limit {
            limit: "server:crm".to_owned(),
            change,
            by: "ann".to_owned(),
            why: "load".to_owned(),
            since: Timestamp::from_ms(1),
            until: Some(Timestamp::from_ms(9)),
        };
        let both = entry(change);
        let rest = rest_of(&both, true, false).unwrap();
        assert_eq!(rest, entry(LimitChange { rate: None, ..change }));
        assert_eq!(rest.key(), "limit#server:crm#concurrency");
        assert_eq!(rest_of(&both, true, true), None);
        assert_eq!(rest_of(&rest, false, true), None, "it has no other part");
    }
}
