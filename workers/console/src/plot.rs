//! Plots as SVG paths: how calls ended over a period, and how long they took. Colours come from the stylesheet.

use std::fmt::Write as _;

use toolfleet_client::Parts;
use toolfleet_core::fleet::Rollup;
use toolfleet_core::outcome::OutcomeKind;

use crate::numbers::{count, quantile, short_ms};

/// The units of the drawing; it is stretched to its place.
const WIDTH: usize = 1_000;
const HEIGHT: u64 = 1_000;
/// What a single call of very many is drawn with.
const LEAST: u64 = 12;

/// Stacked bars: what succeeded, tool errors, what failed otherwise.
#[derive(Debug, Clone)]
pub(crate) struct OutcomePlot {
    pub(crate) good: String,
    pub(crate) tool_errors: String,
    pub(crate) failed: String,
    /// The same in words.
    pub(crate) label: String,
    /// The calls of the highest bar.
    pub(crate) most: String,
    /// The whole height of each part, with what it says when it is pointed at.
    pub(crate) parts: Vec<PartOf>,
}

/// One part of a plot.
#[derive(Debug, Clone)]
pub(crate) struct PartOf {
    pub(crate) x: usize,
    pub(crate) width: usize,
    pub(crate) text: String,
}

/// The counts of one part, from the bottom to the top of its bar.
fn stack(rollup: &Rollup) -> [u64; 3] {
    let calls = &rollup.calls;
    let (all, failures, of_tool) = (calls.total(), calls.failures(), calls.of(OutcomeKind::ToolError));
    [all.saturating_sub(failures), of_tool, failures.saturating_sub(of_tool)]
}

/// `part` of `whole` in units of the height.
fn scaled(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * u128::from(HEIGHT) / u128::from(whole.max(1))).unwrap_or(HEIGHT)
}

impl OutcomePlot {
    pub(crate) fn new(series: &[Rollup], parts: Parts, with_parts: bool) -> Self {
        let most = series.iter().map(|rollup| rollup.calls.total()).max().unwrap_or(0);
        let step = WIDTH / series.len().max(1);
        let mut paths = [String::new(), String::new(), String::new()];
        for (at, rollup) in series.iter().enumerate() {
            let mut below = 0;
            for (path, number) in paths.iter_mut().zip(stack(rollup)) {
                if number == 0 {
                    continue;
                }
                // From the sum below to the sum with it, so that rounding leaves no gap; a single call is seen.
                let (low, high) = (scaled(below, most), scaled(below + number, most));
                let high = high.max(low + LEAST).min(HEIGHT);
                let low = low.min(HEIGHT - LEAST);
                let (x, width) = (at * step, step - step / 6);
                let _written = write!(path, "M{x} {}h{width}V{}h-{width}z", HEIGHT - low, HEIGHT - high);
                below += number;
            }
        }
        let [good, tool_errors, failed] = paths;
        let mut all = Rollup::default();
        series.iter().for_each(|rollup| all.merge(rollup));
        let parts = if with_parts { parts_of(series, parts, step) } else { Vec::new() };
        Self { good, tool_errors, failed, label: sentence(&all), most: count(most), parts }
    }
}

/// How calls ended, as a sentence.
fn sentence(rollup: &Rollup) -> String {
    let [good, of_tool, failed] = stack(rollup);
    let all = rollup.calls.total();
    let plural = if all == 1 { "call" } else { "calls" };
    format!(
        "{} {plural}: {} succeeded, {} tool errors, {} failed otherwise",
        count(all),
        count(good),
        count(of_tool),
        count(failed)
    )
}

fn parts_of(series: &[Rollup], parts: Parts, step: usize) -> Vec<PartOf> {
    let minutes = (0_i64..).map(|at| parts.from.plus(at.saturating_mul(parts.minutes)));
    let text = |(minute, rollup): (toolfleet_core::fleet::Minute, &Rollup)| {
        let p95 = quantile(&rollup.duration, 95);
        format!(
            "{} {} UTC, {} min: {}; p95 {p95}",
            minute.day(),
            minute.time(),
            parts.minutes,
            sentence(rollup)
        )
    };
    let texts = minutes.zip(series).map(text).enumerate();
    texts.map(|(at, text)| PartOf { x: at * step, width: step, text }).collect()
}

/// Lines of two quantiles.
#[derive(Debug, Clone)]
pub(crate) struct LatencyPlot {
    pub(crate) p50: String,
    pub(crate) p95: String,
    /// The duration at the top.
    pub(crate) most: String,
}

impl LatencyPlot {
    pub(crate) fn new(series: &[Rollup]) -> Self {
        let of = |percent: u8| -> Vec<Option<u64>> {
            series.iter().map(|rollup| rollup.duration.quantile_us(percent)).collect()
        };
        let (p50, p95) = (of(50), of(95));
        let most = p95.iter().chain(&p50).flatten().copied().max().unwrap_or(0);
        let step = WIDTH / series.len().max(1);
        Self {
            p50: line(&p50, most, step),
            p95: line(&p95, most, step),
            most: short_ms(most.div_ceil(1_000)),
        }
    }
}

/// A line through the middles of the parts; where there is no value it is broken, and a value alone is a short stroke.
fn line(values: &[Option<u64>], most: u64, step: usize) -> String {
    let mut path = String::new();
    let mut before = false;
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else {
            before = false;
            continue;
        };
        let (x, y) = (at * step + step / 2, HEIGHT - scaled(*value, most));
        let after = values.get(at + 1).is_some_and(Option::is_some);
        let _written = match (before, after) {
            (true, _) => write!(path, "L{x} {y}"),
            (false, true) => write!(path, "M{x} {y}"),
            (false, false) => write!(path, "M{} {y}h{}", at * step, step),
        };
        before = true;
    }
    path
}

/// The times below a plot: the start, the end, and what is between.
pub(crate) fn times(parts: Parts) -> Vec<String> {
    let long = parts.minutes >= 120;
    let whole = i64::try_from(parts.count).unwrap_or(0).saturating_mul(parts.minutes);
    let at = |quarter: i64| {
        let minute = parts.from.plus(whole * quarter / 4);
        let day: String = minute.day().chars().skip(5).collect();
        if long { format!("{day} {}", minute.time()) } else { minute.time() }
    };
    (0..=4).map(at).collect()
}

#[cfg(test)]
mod tests {
    use toolfleet_core::fleet::Minute;
    use toolfleet_core::time::Timestamp;

    use super::*;

    fn rollup(good: u64, of_tool: u64, failed: u64) -> Rollup {
        let mut rollup = Rollup::default();
        (0..good).for_each(|_| rollup.add(OutcomeKind::Succeeded, 1, Some(1_000)));
        (0..of_tool).for_each(|_| rollup.add(OutcomeKind::ToolError, 1, Some(2_000)));
        (0..failed).for_each(|_| rollup.add(OutcomeKind::TimedOut, 1, None));
        rollup
    }

    fn parts(count: usize) -> Parts {
        Parts::until(Minute::of(Timestamp::parse("2026-11-29T10:07:00Z").unwrap()), count, 1)
    }

    #[test]
    fn a_bar_stands_on_the_one_below_it() {
        let series = [rollup(2, 1, 1), rollup(0, 0, 0), rollup(1, 0, 0), rollup(0, 0, 2)];
        let plot = OutcomePlot::new(&series, parts(4), true);
        assert_eq!(plot.good, "M0 1000h209V500h-209zM500 1000h209V750h-209z");
        assert_eq!(plot.tool_errors, "M0 500h209V250h-209z");
        assert_eq!(plot.failed, "M0 250h209V0h-209zM750 1000h209V500h-209z");
        assert_eq!((plot.most.as_str(), plot.parts.len()), ("4", 4));
        assert_eq!(plot.label, "7 calls: 3 succeeded, 1 tool errors, 3 failed otherwise");
        assert!(
            plot.parts[0].text.starts_with("2026-11-29 10:04 UTC, 1 min: 4 calls"),
            "{:?}",
            plot.parts[0]
        );
    }

    #[test]
    fn one_failure_of_many_calls_is_seen() {
        let plot = OutcomePlot::new(&[rollup(5_000, 0, 1)], parts(1), false);
        assert_eq!(plot.failed, "M0 12h834V0h-834z");
        let plot = OutcomePlot::new(&[rollup(5_000, 0, 0), rollup(0, 0, 1)], parts(2), false);
        assert_eq!(plot.failed, "M500 1000h417V988h-417z");
        assert_eq!(OutcomePlot::new(&[], parts(1), true).good, "");
    }

    #[test]
    fn a_line_breaks_where_nothing_was_called() {
        assert_eq!(line(&[Some(10), Some(20), None, Some(5), None], 20, 200), "M100 500L300 0M600 750h200");
        let plot = LatencyPlot::new(&[rollup(0, 0, 0)]);
        assert_eq!((plot.p50.as_str(), plot.most.as_str()), ("", "0 ms"));
        assert_eq!(times(parts(60)), ["09:08", "09:23", "09:38", "09:53", "10:08"]);
    }
}
