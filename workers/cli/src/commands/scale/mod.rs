//! `toolfleet scale`: how many workers run, and between which limits: on ECS and EC2 by the `aws` command, on Kubernetes by `kubectl`, and the
//! processes of a `toolfleet dev`.
//!
//! A change is made first as the list of programs to run, which `--dry-run` prints. A worker that has to go drains; calls that may take longer protect it.

mod aws;
mod dev;
mod figures;
mod kubernetes;
mod place;

use clap::{Args, Subcommand};
use serde_json::json;
use toolfleet_config::settings::number;
use toolfleet_core::fleet::FleetSummary;

use crate::commands::control::reason::now;
use crate::commands::program::Call;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show::count;
use figures::{Bounds, Figures};
use kubernetes::Deployment;
pub(crate) use place::Place;

/// The verbs of `scale`.
#[derive(Debug, Subcommand)]
pub(crate) enum ScaleCommand {
    /// Show how many workers run, between which limits they are scaled, and what work there is.
    Show(At),
    /// Run so many workers. Where they are scaled, that goes on from there.
    Set(SetArgs),
    /// Set the least and the most workers between which they are scaled.
    Limits(LimitsArgs),
}

/// Where the workers run.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// Where the workers run: ecs:CLUSTER/SERVICE, ec2:GROUP or kubernetes:NAMESPACE/DEPLOYMENT@CONTEXT (of kubectl; without it, the current one).
    #[arg(long, value_name = "PLACE", env = "TOOLFLEET_SCALE", hide_env_values = true)]
    at: Option<Place>,
}

/// Options of `scale set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// How many workers.
    #[arg(value_name = "COUNT", value_parser = number(0_u64, 10_000))]
    count: u64,
    #[command(flatten)]
    how: How,
}

/// Options of `scale limits`.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// The least workers.
    #[arg(long, value_name = "COUNT", value_parser = number(0_u64, 10_000), required_unless_present = "max")]
    min: Option<u64>,
    /// The most workers.
    #[arg(long, value_name = "COUNT", value_parser = number(0_u64, 10_000))]
    max: Option<u64>,
    #[command(flatten)]
    how: How,
}

/// Where, and whether really.
#[derive(Debug, Args)]
pub(crate) struct How {
    #[command(flatten)]
    at: At,
    /// Print what would be run, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What a change does.
enum Change {
    /// Runs a program.
    Run(Call),
    /// Asks a `toolfleet dev`.
    Dev(u64),
}

impl Change {
    fn line(&self) -> String {
        match self {
            Self::Run(call) => call.line(),
            Self::Dev(count) => format!("toolfleet dev: run {count} workers"),
        }
    }
}

/// Runs the verb.
pub(crate) async fn run(
    command: &ScaleCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    match command {
        ScaleCommand::Show(at) => show(&at.place().await?, connect, output).await,
        ScaleCommand::Set(args) => set(args, output).await,
        ScaleCommand::Limits(args) => limits(args, output).await,
    }
}

impl At {
    /// The place, with the cluster that kubectl is set to where it names none: what is printed names it, and all steps use the same one.
    async fn place(&self) -> Result<Place, CommandError> {
        let place = self.at.clone().ok_or_else(|| CommandError::usage(Place::missing()))?;
        Ok(match place {
            Place::Kubernetes { context: None, namespace, deployment } => {
                Place::Kubernetes { context: kubernetes::current_context().await, namespace, deployment }
            }
            Place::Kubernetes { context: Some(_), .. }
            | Place::Ecs { .. }
            | Place::Ec2 { .. }
            | Place::Dev { .. } => place,
        })
    }
}

const fn pods<'a>(context: Option<&'a str>, namespace: &'a str, name: &'a str) -> Deployment<'a> {
    Deployment { context, namespace, name }
}

async fn read(place: &Place) -> Result<Figures, CommandError> {
    match place {
        Place::Ecs { cluster, service } => aws::ecs(cluster, service).await,
        Place::Ec2 { group } => aws::ec2(group).await,
        Place::Kubernetes { context, namespace, deployment } => {
            kubernetes::read(pods(context.as_deref(), namespace, deployment)).await
        }
        Place::Dev { socket } => dev::read(socket).await,
    }
}

async fn show(place: &Place, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let figures = read(place).await?;
    let summary = match work(connect).await {
        Ok(summary) => summary,
        Err(error) => {
            output.note(&format!("what work there is cannot be read: {}", error.message()));
            None
        }
    };
    let runnable = summary.as_ref().and_then(|summary| summary.runnable);
    if output.is_json() {
        output.document(&json!({
            "place": place.to_string(), "workers": figures, "work": runnable,
            "slots": summary.as_ref().map(|summary| summary.workers.slots),
        }))?;
        return Ok(Exit::Done);
    }
    output.line(&format!("place    {place}"))?;
    output.line(&format!("workers  {}", sentence(&figures)))?;
    if let (Some(runnable), Some(summary)) = (runnable, &summary) {
        output.line(&format!(
            "work     {} s run or wait, {} s of them wait: {} wanted, {} there",
            runnable.seconds(),
            runnable.waiting_seconds(),
            count(runnable.wanted_slots, "slot"),
            summary.workers.slots
        ))?;
    }
    Ok(Exit::Done)
}

/// The summary of the fleet, unless nobody renews it.
async fn work(connect: &Connect) -> Result<Option<FleetSummary>, CommandError> {
    let summary = connect.client().await?.summary().await?;
    Ok(summary.filter(|summary| !summary.is_stale(now())))
}

fn sentence(figures: &Figures) -> String {
    let draining = figures.draining.filter(|count| *count > 0);
    let draining = draining.map_or_else(String::new, |count| format!(", {count} draining"));
    let limits = match (figures.limits, figures.scaled_by) {
        (Some(Bounds { min, max }), Some(by)) => format!("; {by} scales from {min} to {max}"),
        (Some(_) | None, _) => "; nothing scales them".to_owned(),
    };
    format!("{} wanted, {} running{draining}{limits}", figures.desired, figures.running)
}

async fn set(args: &SetArgs, output: &Output) -> Result<Exit, CommandError> {
    let (place, count) = (args.how.at.place().await?, args.count);
    let before = read(&place).await?;
    let change = match &place {
        Place::Ecs { cluster, service } => Change::Run(aws::set_ecs(cluster, service, count)),
        Place::Ec2 { group } => Change::Run(aws::set_ec2(group, count)),
        Place::Kubernetes { context, namespace, deployment } => {
            Change::Run(kubernetes::set(pods(context.as_deref(), namespace, deployment), count, &before)?)
        }
        Place::Dev { .. } => Change::Dev(dev::check(count)?),
    };
    before.limits.map_or(Ok(()), |limits| limits.check(count))?;
    let after = Figures { desired: count, ..before.clone() };
    carry_out(&place, &change, (&before, &after), &args.how, output).await?;
    if before.limits.is_some() && !args.how.dry_run {
        output.note("scaling goes on from there; `toolfleet scale limits` sets between how many");
    }
    Ok(Exit::Done)
}

async fn limits(args: &LimitsArgs, output: &Output) -> Result<Exit, CommandError> {
    let place = args.how.at.place().await?;
    let before = read(&place).await?;
    let current = before.limits.ok_or_else(|| match &place {
        Place::Kubernetes { context, namespace, deployment } => {
            kubernetes::unscaled(pods(context.as_deref(), namespace, deployment))
        }
        Place::Dev { .. } => CommandError::usage(
            "`toolfleet dev` scales nothing by itself; set the number of workers: toolfleet scale set COUNT",
        ),
        Place::Ecs { .. } | Place::Ec2 { .. } => CommandError::usage(format!(
            "nothing scales {place}, so it has no limits; deploy compute.yaml, or set the number of workers: toolfleet scale set COUNT"
        )),
    })?;
    let limits = current.changed(args.min, args.max)?;
    let change = match &place {
        Place::Ecs { cluster, service } => aws::limit_ecs(cluster, service, limits),
        Place::Ec2 { group } => aws::limit_ec2(group, limits),
        Place::Kubernetes { context, namespace, deployment } => {
            kubernetes::limit(pods(context.as_deref(), namespace, deployment), limits, &before)?
        }
        Place::Dev { .. } => return Err(CommandError::usage("`toolfleet dev` has no limits")),
    };
    let after = Figures { limits: Some(limits), ..before.clone() };
    carry_out(&place, &Change::Run(change), (&before, &after), &args.how, output).await?;
    if !args.how.dry_run {
        output.note(
            "the next deployment sets them to what its parameters or manifests say, if these have changed",
        );
    }
    Ok(Exit::Done)
}

/// Makes the change, or says what it would be.
async fn carry_out(
    place: &Place,
    change: &Change,
    (before, after): (&Figures, &Figures),
    how: &How,
    output: &Output,
) -> Result<(), CommandError> {
    if !how.dry_run {
        match (change, place) {
            (Change::Run(call), _) => drop(call.output().await?),
            (Change::Dev(count), Place::Dev { socket }) => drop(dev::set(socket, *count).await?),
            (Change::Dev(_), Place::Ecs { .. } | Place::Ec2 { .. } | Place::Kubernetes { .. }) => {}
        }
    }
    if output.is_json() {
        output.document(&json!({
            "place": place.to_string(), "dry_run": how.dry_run, "runs": change.line(), "before": before, "after": after,
        }))?;
        return Ok(());
    }
    let would = if how.dry_run { "would run" } else { "ran" };
    output.line(&format!("{would}: {}", change.line()))?;
    output.line(&format!("was:  {}", sentence(before)))?;
    Ok(output.line(&format!("{}: {}", if how.dry_run { "then" } else { "now " }, sentence(after)))?)
}
