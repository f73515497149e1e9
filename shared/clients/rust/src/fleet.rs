//! Reads what workers report: their rows, the summary that one of them makes, and the rollups of calls by tool.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use toolfleet_aws::AwsError;
use toolfleet_core::fleet::{FleetSummary, LostMinutes, Minute, Rollup, WorkerRow};
use toolfleet_core::ids::ServerId;
use toolfleet_core::time::Timestamp;

use crate::client::Client;

/// How many tools' counts are read at once.
const READ_AT_ONCE: usize = 16;

/// Which tools are counted. Without a part all fit.
#[derive(Debug, Clone, Default)]
pub struct StatsOf {
    /// This tool alone: its registered id, else `server/name`.
    pub tool: Option<String>,
    /// The tools of this server.
    pub server: Option<ServerId>,
}

/// The calls of one tool that ended within a period.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolStats {
    /// The tool; `other` for those beyond the busiest of a worker.
    pub tool: String,
    /// Its server, where it is known.
    pub server: Option<ServerId>,
    /// Its calls.
    pub rollup: Rollup,
}

/// The calls that ended within a period, by tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// The first minute that is counted.
    pub from: Minute,
    /// The last one.
    pub to: Minute,
    /// The tools, those with most calls first.
    pub tools: Vec<ToolStats>,
    /// How many calls ended in each hour.
    pub calls_by_hour: BTreeMap<Minute, u64>,
    /// Minutes of which a worker that died could not write its counts.
    pub lost: Vec<LostMinutes>,
}

impl Client {
    /// The rows of all workers, those that died or exited lately included.
    ///
    /// # Errors
    /// The fleet table failed.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, AwsError> {
        let mut rows = self.fleet.worker_rows().await?;
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(rows)
    }

    /// The summary that one worker makes of all; none where no worker has ever reported.
    ///
    /// # Errors
    /// The fleet table failed.
    pub async fn summary(&self) -> Result<Option<FleetSummary>, AwsError> {
        Ok(self.fleet.summary().await?.0)
    }

    /// The calls that ended between two instants, by tool, in whole minutes. Workers write a minute's counts within the two minutes after it.
    ///
    /// # Errors
    /// The fleet table failed.
    pub async fn stats(&self, from: Timestamp, to: Timestamp, which: &StatsOf) -> Result<Stats, AwsError> {
        let (from, to) = (Minute::of(from), Minute::of(to));
        let hours: BTreeSet<_> = self.fleet.compacted(from.hour(), to).await?.into_iter().collect();
        let mut tools = BTreeMap::new();
        let mut day = from;
        while day <= to {
            for one in self.fleet.rolled_up_tools(day).await? {
                let fits = which.tool.as_ref().is_none_or(|tool| *tool == one.tool)
                    && which.server.as_ref().is_none_or(|server| Some(server) == one.server.as_ref());
                if fits {
                    tools.insert(one.tool, one.server);
                }
            }
            day = day.next_day();
        }
        let hours = &hours;
        let read = tools.into_iter().map(|(tool, server)| async move {
            let parts = self.rollups(&tool, from, to, hours).await?;
            Ok::<_, AwsError>((tool, server, parts))
        });
        let mut read = stream::iter(read).buffer_unordered(READ_AT_ONCE);
        let (mut counted, mut calls_by_hour) = (Vec::new(), BTreeMap::<_, u64>::new());
        while let Some((tool, server, parts)) = read.try_next().await? {
            let mut rollup = Rollup::default();
            for (minute, part) in parts {
                let calls = calls_by_hour.entry(minute.hour()).or_default();
                *calls = calls.saturating_add(part.calls.total());
                rollup.merge(&part);
            }
            if !rollup.calls.is_empty() {
                counted.push(ToolStats { tool, server, rollup });
            }
        }
        counted.sort_by(|a, b| {
            b.rollup.calls.total().cmp(&a.rollup.calls.total()).then_with(|| a.tool.cmp(&b.tool))
        });
        let lost = self.fleet.lost_minutes(from, to).await?;
        Ok(Stats { from, to, tools: counted, calls_by_hour, lost })
    }

    /// The rollups of one tool in a period; those of an hour that is added up come as one, at its first minute.
    pub(crate) async fn rollups(
        &self,
        tool: &str,
        from: Minute,
        to: Minute,
        hours: &BTreeSet<Minute>,
    ) -> Result<Vec<(Minute, Rollup)>, AwsError> {
        self.rollups_of(tool, pieces(from, to, hours)).await
    }

    /// The same in these pieces.
    pub(crate) async fn rollups_of(
        &self,
        tool: &str,
        pieces: Vec<Piece>,
    ) -> Result<Vec<(Minute, Rollup)>, AwsError> {
        let parts = pieces.into_iter().map(|piece| async move {
            match piece {
                Piece::Minutes(first, last) => self.fleet.rollups(tool, first, last).await,
                Piece::Hours(first, last) => self.fleet.rollup_hours(tool, first, last).await,
            }
        });
        Ok(try_join_all(parts).await?.into_iter().flatten().collect())
    }
}

/// A part of a period that is read as minutes, or as hours that are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    Minutes(Minute, Minute),
    Hours(Minute, Minute),
}

/// The whole period in pieces that do not overlap: hours where they are added up and lie within it, minutes elsewhere.
pub(crate) fn pieces(from: Minute, to: Minute, hours: &BTreeSet<Minute>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = from;
    while at <= to {
        let hour_ends = at.hour().plus(59);
        let whole = at == at.hour() && hour_ends <= to && hours.contains(&at);
        let last = hour_ends.min(to);
        match (pieces.last_mut(), whole) {
            (Some(Piece::Hours(_, end)), true) => *end = at,
            (Some(Piece::Minutes(_, end)), false) => *end = last,
            (_, true) => pieces.push(Piece::Hours(at, at)),
            (_, false) => pieces.push(Piece::Minutes(at, last)),
        }
        at = last.plus(1);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(text: &str) -> Minute {
        Minute::of(Timestamp::parse(&format!("2026-11-29T{text}:00Z")).unwrap())
    }

    #[test]
    fn a_period_is_read_in_pieces_that_cover_each_minute_once() {
        let hours = BTreeSet::from([minute("10:00"), minute("11:00"), minute("13:00")]);
        assert_eq!(
            pieces(minute("09:40"), minute("14:05"), &hours),
            [
                Piece::Minutes(minute("09:40"), minute("09:59")),
                Piece::Hours(minute("10:00"), minute("11:00")),
                Piece::Minutes(minute("12:00"), minute("12:59")),
                Piece::Hours(minute("13:00"), minute("13:00")),
                Piece::Minutes(minute("14:00"), minute("14:05")),
            ]
        );
        // An hour that is cut by the period is read as minutes.
        assert_eq!(
            pieces(minute("10:01"), minute("11:30"), &hours),
            [Piece::Minutes(minute("10:01"), minute("11:30"))]
        );
        assert_eq!(
            pieces(minute("10:00"), minute("10:00"), &hours),
            [Piece::Minutes(minute("10:00"), minute("10:00"))]
        );
    }
}
