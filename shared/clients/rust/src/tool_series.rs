//! Reads which tools were called in a period, and how the calls of one tool ended over it: the points of a plot.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use toolfleet_aws::AwsError;
pub use toolfleet_aws::fleet::rollups::RolledUpTool as CalledTool;
use toolfleet_core::fleet::{Minute, Rollup};

use crate::client::Client;
use crate::fleet::{Piece, pieces};

/// Runs of hours that are not added up, of which minutes are read.
const MOST_RUNS: usize = 3;

/// Equal parts of a period, each of whole minutes or of whole hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// The first minute of the first part.
    pub from: Minute,
    /// How many parts.
    pub count: usize,
    /// The length of a part in minutes. Parts of whole hours are read from the sums of hours.
    pub minutes: i64,
}

impl Parts {
    /// So many parts that end with the one of `now`; parts of an hour or more begin at whole hours.
    pub fn until(now: Minute, count: usize, minutes: i64) -> Self {
        let grid = if minutes % 60 == 0 { now.hour() } else { now };
        let last = if minutes % 60 == 0 { grid.plus(60 - minutes) } else { grid.plus(1 - minutes) };
        let back = i64::try_from(count.saturating_sub(1)).unwrap_or(0).saturating_mul(minutes);
        Self { from: last.plus(-back), count, minutes }
    }

    /// The last minute.
    pub fn to(self) -> Minute {
        let count = i64::try_from(self.count).unwrap_or(0);
        self.from.plus(count.saturating_mul(self.minutes) - 1)
    }

    /// The part that a minute lies in.
    fn index(self, minute: Minute) -> Option<usize> {
        let ms = minute.start().as_ms() - self.from.start().as_ms();
        usize::try_from(ms.div_euclid(60_000).div_euclid(self.minutes.max(1)))
            .ok()
            .filter(|at| *at < self.count)
    }

    /// Whether sums of hours are fine enough.
    const fn takes_hours(self) -> bool {
        self.minutes % 60 == 0
    }
}

impl Client {
    /// The tools that were called on the days of a period, by name. One query a day.
    ///
    /// # Errors
    /// The fleet table failed.
    pub async fn called_tools(&self, from: Minute, to: Minute) -> Result<Vec<CalledTool>, AwsError> {
        let mut days = vec![from];
        while let Some(next) = days.last().map(|day| day.next_day()).filter(|next| *next <= to) {
            days.push(next);
        }
        let found = try_join_all(days.into_iter().map(|day| self.fleet.rolled_up_tools(day))).await?;
        // A tool that moved to another server is named with the one of the last day.
        let tools: BTreeMap<_, _> = found.into_iter().flatten().map(|one| (one.tool, one.server)).collect();
        Ok(tools.into_iter().map(|(tool, server)| CalledTool { tool, server }).collect())
    }

    /// The hours of a period whose rollups are added up, for [`Client::tool_series`]; none where its parts need minutes.
    ///
    /// # Errors
    /// The fleet table failed.
    pub async fn summed_hours(&self, parts: Parts) -> Result<BTreeSet<Minute>, AwsError> {
        if !parts.takes_hours() {
            return Ok(BTreeSet::new());
        }
        Ok(self.fleet.compacted(parts.from.hour(), parts.to()).await?.into_iter().collect())
    }

    /// The calls of one tool in each part of a period.
    ///
    /// # Errors
    /// The fleet table failed.
    pub async fn tool_series(
        &self,
        tool: &str,
        parts: Parts,
        hours: &BTreeSet<Minute>,
    ) -> Result<Vec<Rollup>, AwsError> {
        let mut series = vec![Rollup::default(); parts.count];
        for (minute, rollup) in self.rollups_of(tool, read(parts, hours)).await? {
            if let Some(sum) = parts.index(minute).and_then(|at| series.get_mut(at)) {
                sum.merge(&rollup);
            }
        }
        Ok(series)
    }
}

/// What is read for a series. Where sums of hours are fine enough, all of them are read at once, and minutes for the newest hours that are not
/// added up yet: older such hours had no worker, and so no call.
fn read(parts: Parts, hours: &BTreeSet<Minute>) -> Vec<Piece> {
    let exact = pieces(parts.from, parts.to(), hours);
    if !parts.takes_hours() {
        return exact;
    }
    let minutes = exact.into_iter().rev().filter(|piece| matches!(piece, Piece::Minutes(..))).take(MOST_RUNS);
    minutes.chain([Piece::Hours(parts.from, parts.to())]).collect()
}

#[cfg(test)]
mod tests {
    use toolfleet_core::time::Timestamp;

    use super::*;

    fn minute(text: &str) -> Minute {
        Minute::of(Timestamp::parse(&format!("2026-11-29T{text}:00Z")).unwrap())
    }

    #[test]
    fn parts_end_with_the_one_of_now() {
        let by_minute = Parts::until(minute("10:07"), 60, 1);
        assert_eq!((by_minute.from, by_minute.to()), (minute("09:08"), minute("10:07")));
        let by_five = Parts::until(minute("10:07"), 12, 5);
        assert_eq!((by_five.from, by_five.to()), (minute("09:08"), minute("10:07")));
        let by_hour = Parts::until(minute("10:07"), 4, 60);
        assert_eq!((by_hour.from, by_hour.to()), (minute("07:00"), minute("10:59")));
        let by_two = Parts::until(minute("10:07"), 3, 120);
        assert_eq!((by_two.from, by_two.to()), (minute("05:00"), minute("10:59")));
        assert!(by_hour.takes_hours() && !by_five.takes_hours());
    }

    #[test]
    fn however_many_hours_are_missing_few_pieces_are_read() {
        let parts = Parts::until(minute("23:07"), 24, 60);
        let all = Piece::Hours(parts.from, parts.to());
        let every_second: BTreeSet<_> = (0..12).map(|at| parts.from.plus(at * 120)).collect();
        let last =
            |hour: i64| Piece::Minutes(parts.to().plus(1 - 60 * hour), parts.to().plus(60 - 60 * hour));
        assert_eq!(read(parts, &every_second), [last(1), last(3), last(5), all]);
        let but_now: BTreeSet<_> = (0..23).map(|at| parts.from.plus(at * 60)).collect();
        assert_eq!(read(parts, &but_now), [last(1), all]);
        let fine = Parts::until(minute("10:07"), 60, 1);
        assert_eq!(read(fine, &BTreeSet::new()), [Piece::Minutes(fine.from, fine.to())]);
    }

    #[test]
    fn each_minute_lies_in_one_part() {
        let parts = Parts::until(minute("10:07"), 12, 5);
        assert_eq!(parts.index(parts.from), Some(0));
        assert_eq!(parts.index(parts.from.plus(4)), Some(0));
        assert_eq!(parts.index(parts.from.plus(5)), Some(1));
        assert_eq!(parts.index(parts.to()), Some(11));
        assert_eq!((parts.index(parts.from.plus(-1)), parts.index(parts.to().plus(1))), (None, None));
    }
}
