//! `toolfleet pause` and `toolfleet resume`: stop and continue new starts of a server, a tool, a tenant or a queue.

use clap::Args;
use serde_json::json;
use toolfleet_core::control::{ControlEntry, Switch, SwitchTarget};
use toolfleet_core::ids::Tenant;

use super::known::known;
use super::reason::{Lasting, Reason, now};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// What is paused.
#[derive(Debug, Args)]
pub(crate) struct What {
    /// Its kind: server, tool, tenant or queue; or its kind and its name, as in tool:weather.
    #[arg(value_name = "KIND")]
    kind: String,
    /// Its name: of a tool the registered id, ID.FUNCTION or SERVER/NAME, of a queue high, default or low.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Only for this tenant.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<Tenant>,
}

/// Options of `pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    lasting: Lasting,
    /// Replace another operator's pause of the same thing, also if this one ends earlier.
    #[arg(long)]
    replace: bool,
}

/// Options of `resume`.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    reason: Reason,
}

impl What {
    fn target(&self) -> Result<SwitchTarget, CommandError> {
        let text =
            self.name.as_ref().map_or_else(|| self.kind.clone(), |name| format!("{}:{name}", self.kind));
        let target = SwitchTarget::parse(&text).map_err(|e| CommandError::usage(format!("`{text}` {e}")))?;
        if self.tenant.is_some() && matches!(target, SwitchTarget::Tenant(_) | SwitchTarget::Queue(_)) {
            return Err(CommandError::usage("--tenant: narrows the pause of a server or a tool only"));
        }
        Ok(target)
    }

    fn switch(&self, (by, why): (String, String)) -> Result<Switch, CommandError> {
        let (target, tenant) = (self.target()?, self.tenant.clone());
        Ok(Switch { target, tenant, by, why, since: now(), until: None })
    }
}

/// Pauses.
pub(crate) async fn pause(
    args: &PauseArgs,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let switch = Switch { until: args.lasting.until(), ..args.what.switch(args.reason.read()?)? };
    let client = connect.client().await?;
    let entry = ControlEntry::Pause(switch.clone());
    let controls = client.controls();
    if let Some(ControlEntry::Pause(earlier)) = controls.entry(&entry.key()).await? {
        if !args.replace && earlier.by != switch.by && ends_before(&switch, &earlier) {
            return Err(CommandError::usage(format!(
                "{}: your pause would end before that one; add --replace if it may",
                earlier.detail()
            )));
        }
        output.note(&format!("replaces: {}", earlier.detail()));
    }
    controls.set(&entry).await?;
    let known = known(&switch.target.to_string(), &client, connect).await;
    if output.is_json() {
        output.document(&known.document(&entry)?)?;
    }
    output.line(&switch.detail())?;
    output.note("no worker starts such a call later than five seconds from now; calls under way end, the others wait until their deadlines");
    known.note(output);
    Ok(Exit::Done)
}

/// Whether a pause ends before another one.
fn ends_before(pause: &Switch, other: &Switch) -> bool {
    match (pause.until, other.until) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(until), Some(other)) => until < other,
    }
}

/// Resumes.
pub(crate) async fn resume(
    args: &ResumeArgs,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let switch = args.what.switch(args.reason.read()?)?;
    let client = connect.client().await?;
    let key = ControlEntry::Pause(switch.clone()).key();
    let ended = client.controls().clear(&key, &switch.by, &switch.why).await?;
    let tenant = switch.tenant.as_ref().map_or_else(String::new, |tenant| format!(" for tenant {tenant}"));
    if output.is_json() {
        output.document(
            &json!({"target": switch.target, "tenant": switch.tenant, "resumed": ended.is_some()}),
        )?;
    }
    if ended.is_none() {
        output.note(&format!(
            "{}{tenant} was not paused; `toolfleet switches` lists what is set, each with the tenant it is narrowed to",
            switch.target
        ));
        return Ok(Exit::NoResult);
    }
    output.line(&format!("{}{tenant} is resumed", switch.target))?;
    output.note("calls that wait for it are tried within a minute");
    Ok(Exit::Done)
}
