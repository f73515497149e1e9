//! Which part of the calls ends after its deadline: the wait for a slot and the tool's own time together.

use super::demand::{OVERHEAD_S, Part};
use super::waiting::Wait;

/// How finely service times are taken: steps of their normal distribution, within so many standard deviations.
const STEP: f64 = 0.01;
const WITHIN: f64 = 5.0;

/// The part of the calls that take longer than that, in seconds, with this wait for a slot; without one, what is late by its tool alone.
pub(super) fn late_part(parts: &[Part], wait: Option<&Wait>, deadline_s: f64) -> f64 {
    let all: f64 = parts.iter().map(|part| part.share).sum();
    parts.iter().map(|part| part.share / all * late_of(part, wait, deadline_s)).sum()
}

fn late_of(part: &Part, wait: Option<&Wait>, deadline_s: f64) -> f64 {
    let (mu, sigma) = part.log_normal();
    let steps = (2.0 * WITHIN / STEP) as u32;
    let (mut late, mut weights) = (0.0, 0.0);
    for step in 0..=steps {
        let z = f64::from(step).mul_add(STEP, -WITHIN);
        let weight = (-z * z / 2.0).exp();
        let left_s = deadline_s - OVERHEAD_S - sigma.mul_add(z, mu).exp();
        let beyond = if left_s < 0.0 { 1.0 } else { wait.map_or(0.0, |wait| wait.beyond(left_s)) };
        late += weight * beyond;
        weights += weight;
    }
    late / weights
}

#[cfg(test)]
mod tests {
    use super::super::waiting::Service;
    use super::*;

    fn part(text: &str) -> Part {
        text.parse().unwrap()
    }

    #[test]
    fn a_tool_is_late_by_itself_as_its_percentiles_say() {
        let late = |deadline_s| late_part(&[part("1:1s:3s")], None, deadline_s);
        assert!((late(1.0 + OVERHEAD_S) - 0.5).abs() < 0.01, "half is slower than the median");
        assert!(
            (late(3.0 + OVERHEAD_S) - 0.05).abs() < 0.005,
            "a twentieth is slower than the 95th percentile"
        );
        let two = [part("1:1s"), part("3:10s")];
        assert!((late_part(&two, None, 5.0) - 0.75).abs() < 1e-9, "by their shares");
    }

    #[test]
    fn waits_make_calls_late_and_fewer_with_more_slots() {
        let calls = [part("1:1s")];
        let service = Service { mean_s: 1.0, scv: 0.0 };
        let late = |slots| late_part(&calls, service.wait(8.0, slots).as_ref(), 2.0);
        let late = [9, 10, 12, 20].map(late);
        assert!(late.windows(2).all(|pair| pair[1] < pair[0]) && late[3] < 1e-6, "{late:?}");
        let wait = service.wait(8.0, 9).unwrap();
        assert!((late[0] - wait.beyond(2.0 - 1.0 - OVERHEAD_S)).abs() < 1e-9, "all take the same time");
    }
}
