//! `toolfleet stats`: calls, success rate, error rate and latency by tool or by server over any period, from the counts that workers write each
//! minute.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use toolfleet_client::fleet_words::{percent, quantile};
use toolfleet_client::{StatsOf, ToolStats};
use toolfleet_core::fleet::Rollup;
use toolfleet_core::ids::ServerId;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::time::Timestamp;

use crate::commands::control::reason::now;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::span_of_time::parse_span;
use crate::table::Shape;

/// Options of `stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// One tool: its registered id, else SERVER/NAME.
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// The tools of this server.
    #[arg(long, value_name = "SERVER")]
    server: Option<ServerId>,
    /// What each line counts.
    #[arg(long, value_enum, default_value_t = By::Tool)]
    by: By,
    /// The period up to now: a number and ms, s, m, h or d.
    #[arg(long, visible_alias = "since", value_name = "SPAN", default_value = "1h", value_parser = parse_span)]
    last: Duration,
}

/// What the calls are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// A line for each tool.
    Tool,
    /// A line for each server.
    Server,
}

/// Shows them.
pub(crate) async fn run(args: &StatsArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let client = connect.client().await?;
    let to = now();
    let ms = i64::try_from(args.last.as_millis()).unwrap_or(i64::MAX);
    let from = Timestamp::from_ms(to.as_ms().saturating_sub(ms));
    let which = StatsOf { tool: args.tool.clone(), server: args.server.clone() };
    let mut stats = client.stats(from, to, &which).await?;
    if args.by == By::Server {
        stats.tools = by_server(stats.tools);
    }
    if output.is_json() {
        let tools: Vec<_> = stats.tools.iter().map(tool_json).collect();
        let (from, to) = (stats.from.start(), stats.to.end());
        output.document(&json!({"from": from, "to": to, "tools": tools, "lost_minutes": stats.lost}))?;
    }
    for lost in &stats.lost {
        output.note(&format!(
            "worker {} died or could not write: its counts of {} to {} are missing, {} calls at least (`toolfleet history` has them)",
            lost.worker, lost.from, lost.to, lost.calls
        ));
    }
    if stats.tools.is_empty() {
        output.note(
            "no call is counted in that period; workers write a minute's counts within two minutes after it",
        );
        return Ok(Exit::NoResult);
    }
    let header = [
        "tool",
        "server",
        "calls",
        "succeeded",
        "tool errors",
        "failed",
        "attempts",
        "cached",
        "saved",
        "p50",
        "p95",
    ];
    let mut rows: Vec<_> = stats.tools.iter().map(row).collect();
    if stats.tools.len() > 1 {
        let mut all = Rollup::default();
        stats.tools.iter().for_each(|tool| all.merge(&tool.rollup));
        rows.push(row(&ToolStats { tool: "all".to_owned(), server: None, rollup: all }));
    }
    let shape = Shape::of(&header).left_out(&["saved", "cached", "attempts", "server", "p50"]);
    output.shaped(&shape, &rows)?;
    output.note(&format!(
        "from {} to {}; p50 and p95 are from a call's first claim to its end",
        stats.from, stats.to
    ));
    Ok(Exit::Done)
}

/// The calls of all tools of each server together.
fn by_server(tools: Vec<ToolStats>) -> Vec<ToolStats> {
    let mut servers = BTreeMap::<Option<ServerId>, Rollup>::new();
    for tool in tools {
        servers.entry(tool.server).or_default().merge(&tool.rollup);
    }
    let of_server = |(server, rollup): (Option<ServerId>, _)| {
        let tool = if server.is_some() { "all" } else { "other" };
        ToolStats { tool: tool.to_owned(), server, rollup }
    };
    servers.into_iter().map(of_server).collect()
}

fn row(stats: &ToolStats) -> Vec<String> {
    let calls = &stats.rollup.calls;
    let (all, of_tool) = (calls.total(), calls.of(OutcomeKind::ToolError));
    let failed = calls.failures().saturating_sub(of_tool);
    vec![
        stats.tool.clone(),
        stats.server.as_ref().map(ToString::to_string).unwrap_or_default(),
        all.to_string(),
        percent(calls.of(OutcomeKind::Succeeded), all),
        percent(of_tool, all),
        percent(failed, all),
        stats.rollup.attempts.to_string(),
        percent(stats.rollup.cached, all),
        percent(stats.rollup.saved(), all),
        quantile(&stats.rollup.duration, 50),
        quantile(&stats.rollup.duration, 95),
    ]
}

fn tool_json(stats: &ToolStats) -> serde_json::Value {
    let outcomes: serde_json::Map<_, _> =
        stats.rollup.calls.iter().map(|(kind, count)| (kind.as_str().to_owned(), count.into())).collect();
    json!({
        "tool": stats.tool, "server": stats.server, "calls": stats.rollup.calls.total(), "outcomes": outcomes,
        "attempts": stats.rollup.attempts, "cached": stats.rollup.cached,
        "cache_misses": stats.rollup.cache_misses, "batched": stats.rollup.batched, "batches": stats.rollup.batches,
        "saved": stats.rollup.saved(), "p50_us": stats.rollup.duration.quantile_us(50),
        "p95_us": stats.rollup.duration.quantile_us(95),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_a_servers_tools_are_counted_together() {
        let one = |tool: &str, server: Option<&str>, succeeded: u64, us: u64| {
            let mut rollup = Rollup::default();
            (0..succeeded).for_each(|_| rollup.add(OutcomeKind::Succeeded, 1, Some(us)));
            let server = server.map(|server| ServerId::parse(server).unwrap());
            ToolStats { tool: tool.to_owned(), server, rollup }
        };
        let tools = vec![
            one("crm.find", Some("crm"), 3, 1_000),
            one("erp.list", Some("erp"), 5, 1_000),
            one("crm.send", Some("crm"), 1, 64_000),
            one("other", None, 2, 1_000),
        ];
        let counted: Vec<_> = by_server(tools)
            .iter()
            .map(|stats| (row(stats)[1].clone(), stats.rollup.calls.total()))
            .collect();
        let expected = [("", 2), ("crm", 4), ("erp", 5)].map(|(server, calls)| (server.to_owned(), calls));
        assert_eq!(counted, expected);
    }
}
