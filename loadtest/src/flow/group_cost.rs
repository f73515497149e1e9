//! What a group costs: the write units of the members of a large group, beside those of the same calls without a group.
//!
//! The group's row grows with the members that have ended, and members that end in one worker at the same time share an update. So two groups
//! are counted: one whose members are all sent at once, and one whose members end one after another.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_client::RequestBuilder;
use toolfleet_core::ids::{GroupId, Tenant};
use toolfleet_core::request::{CallRequest, GroupKey, Policy, Priority};

use super::args::CommonArgs;
use super::calls::FlowCall;
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup};
use super::server::FlowServer;
use crate::traffic::{Count, Traffic};

const SERVER: &str = "shared";
const TENANT: &str = "load";
/// A member costs at most this many write units more than a call without a group, on average and at the most.
const MEAN: f64 = 3.0;
const PEAK: f64 = 5.0;
/// Requests that follow the last result: the decision, the notice, the deletes.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// How long the calls of one part may take.
const GIVE_UP: Duration = Duration::from_secs(180);

/// Arguments of `flow group-cost`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GroupCostArgs {
    /// How many calls each worker runs at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// How many members the group has.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    size: u32,
    /// How many members are sent in a second where they end one after another.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) async fn run(args: &GroupCostArgs) -> anyhow::Result<bool> {
    let setup = Setup {
        binary: args.common.worker_bin.as_deref(),
        workers: 1,
        slots: args.slots,
        lease_ms: args.common.lease_ms.max(30_000),
        reply_queue: true,
        counted: true,
        ..Setup::default()
    };
    let mut rig = Rig::start(&setup, catalog).await?;
    let load = format!(
        "a group of {}, at once and {}/s, one worker with {} slots",
        args.size, args.rate, args.slots
    );
    let mut report = FlowReport::new("group-cost", load, args.common.strict);
    let alone = part(args, &mut rig, "alone", None, false).await?;
    let at_once = part(args, &mut rig, "at-once", Some("at-once"), false).await?;
    let apart = part(args, &mut rig, "apart", Some("apart"), true).await?;
    let members = f64::from(args.size);
    let without = alone.total().write_units / members;
    report.figure("write units of a call without a group", without, "");
    for (how, traffic) in [("all at once", &at_once), ("one after another", &apart)] {
        count(&mut report, how, traffic, without, members);
    }
    report.publish(args.common.json.as_deref())
}

/// The figures of one group.
fn count(report: &mut FlowReport, how: &str, traffic: &Traffic, without: f64, members: f64) {
    let more = traffic.total().write_units / members - without;
    report.rule(format!("write units of a member beyond that, {how}"), more, "", Goal::AtMost(MEAN));
    // One of the updates is the decision.
    let updates = traffic.operations.get("UpdateItem").copied().unwrap_or_default();
    let Count { requests, most_write_units, .. } = updates;
    report.figure(
        format!("members in one count, {how}"),
        members / requests.saturating_sub(1).max(1) as f64,
        "",
    );
    // With the unit of its own item.
    let name = format!("most write units of one member, {how}");
    report.rule(name, most_write_units + 1.0, "", Goal::AtMost(PEAK));
}

/// Sends the calls, as members of `group` where one is given, and counts the worker's requests until all have ended.
async fn part(
    args: &GroupCostArgs,
    rig: &mut Rig,
    name: &str,
    group: Option<&str>,
    apart: bool,
) -> anyhow::Result<Traffic> {
    let calls: Vec<_> = (0..args.size).map(|index| call(args, name, index, apart)).collect();
    let reply = rig.bed.addresses.idle_queue.clone();
    let requests = calls.iter().zip(0..).map(|(call, index)| request(args, call, index, group, &reply));
    let requests = requests.collect::<anyhow::Result<Vec<_>>>()?;
    rig.bed.start_counting();
    let start = Instant::now();
    if apart {
        for (call, request) in calls.iter().zip(&requests) {
            tokio::time::sleep_until(start + call.at).await;
            rig.bed.client.send(request, None).await?;
        }
    } else {
        rig.bed.client.send_many(&requests).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    while rig.outcomes(&calls).await?.len() < calls.len() {
        anyhow::ensure!(start.elapsed() < GIVE_UP, "the calls of part `{name}` have not ended");
        rig.workers.check()?;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    if let Some(group) = group {
        let key = GroupKey { tenant: Tenant::parse(TENANT)?, id: GroupId::parse(group)?, round: 1 };
        let status = rig.bed.client.wait_for_group(&key, GIVE_UP).await?;
        anyhow::ensure!(
            status.row.ok.len() == calls.len(),
            "not every member of `{group}` is counted as succeeded"
        );
    }
    tokio::time::sleep(AFTERWARDS).await;
    rig.bed.counted().ok_or_else(|| anyhow::anyhow!("nothing was counted"))
}

fn call(args: &GroupCostArgs, name: &str, index: u32, apart: bool) -> FlowCall {
    let at = if apart { Duration::from_secs(1) * index / args.rate } else { Duration::ZERO };
    let id = format!("{name}-{index}");
    let (tenant, tool) = (TENANT.to_owned(), SERVER.to_owned());
    FlowCall { id, tenant, tool, ms: 1, at, priority: Priority::Normal }
}

fn request(
    args: &GroupCostArgs,
    call: &FlowCall,
    index: u32,
    group: Option<&str>,
    reply: &str,
) -> anyhow::Result<CallRequest> {
    let mut request = RequestBuilder::tool(TENANT, SERVER)
        .call_id(&call.id)
        .arguments(json!({"call": call.id, "ms": call.ms}));
    if let Some(id) = group {
        let reply = json!({"sqs_queue_url": reply});
        let group =
            json!({"id": id, "index": index, "size": args.size, "policy": Policy::All, "reply": reply});
        request = request.set("group", group);
    }
    request.build().map_err(|error| anyhow::anyhow!("{error}"))
}

/// The tool is not safe to repeat, so that calls without a group are claimed too.
fn catalog(server: &FlowServer) -> Value {
    json!({
        "servers": [{"id": SERVER, "url": server.url(SERVER)}],
        "tools": [{"id": SERVER, "server": SERVER}],
        "tenants": {"queue": ["*"]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(members: f64, write_units: f64, most_write_units: f64) -> Vec<String> {
        let mut traffic = Traffic::default();
        let updates = Count { requests: 11, write_units, most_write_units, ..Count::default() };
        traffic.operations.insert("UpdateItem".to_owned(), updates);
        let mut report = FlowReport::new("group-cost", String::new(), false);
        count(&mut report, "at once", &traffic, 3.0, members);
        report.violations
    }

    #[test]
    fn a_member_that_costs_too_much_is_found() {
        assert_eq!(report(10.0, 60.0, 4.0), Vec::<String>::new());
        let found = report(10.0, 61.0, 4.0);
        assert!(found.len() == 1 && found[0].starts_with("write units of a member beyond that"), "{found:?}");
        let found = report(10.0, 50.0, 5.0);
        assert!(found.len() == 1 && found[0].starts_with("most write units of one member"), "{found:?}");
    }
}
