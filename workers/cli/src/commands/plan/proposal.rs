//! How many workers a load needs.

use super::args::PlanArgs;
use super::deadline::late_part;
use super::demand::{Part, service};
use super::prices::Prices;
use super::usage::{MOST_WORKERS, Usage};
use super::waiting::{Service, Wait};

/// The most of its CPU that a worker should use, so that a rush does not delay its heartbeats.
const CPU_USED: f64 = 0.6;
/// The most of all slots that calls should take: above it waits grow fast, and without end if the rate is a little higher than planned.
const SLOTS_USED: f64 = 0.85;
/// vCPU that a worker uses at a rate of calls, from the slowest runs of a release build (`docs/reference/performance.md`): batches make a call
/// cheaper at higher rates.
const CPU_AT_RATE: [(f64, f64); 5] =
    [(0.0, 0.0), (30.0, 0.07), (100.0, 0.19), (400.0, 0.44), (4_000.0, 0.88)];
/// A number of workers, and what it comes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proposal {
    pub(super) workers: u32,
    /// Which part of the slots, and of the CPU, is used at the highest rate.
    pub(super) slots_used: f64,
    pub(super) cpu_used: f64,
    pub(super) wait: Wait,
    /// What a deadline comes to, if one is asked for.
    pub(super) late: Option<Late>,
}

/// Which part of the calls ends after the deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    pub(super) part: f64,
    /// By the tools alone, with as many workers as one likes.
    pub(super) by_tools: f64,
}

/// What waits may add to what is late by the tools alone, where that is more than may be late.
const LATE_BY_WAITS: f64 = 0.001;

/// The fewest workers that keep what is asked for.
pub(super) fn needed(args: &PlanArgs, parts: &[Part], peak: f64) -> Option<Proposal> {
    let service = service(parts);
    let first = fewest(args, &service, peak).max(args.at_least);
    (first..=MOST_WORKERS).find_map(|workers| {
        let mut found = fits(args, &service, peak, workers)?;
        let Some(deadline) = args.deadline else { return Some(found) };
        let late = |wait| late_part(parts, wait, deadline.as_secs_f64());
        let (part, by_tools) = (late(Some(&found.wait)), late(None));
        found.late = Some(Late { part, by_tools });
        (part <= args.late.max(by_tools + LATE_BY_WAITS)).then_some(found)
    })
}

/// The fewest workers whose slots and whose CPU may be enough, so that waits are computed for few numbers of workers.
fn fewest(args: &PlanArgs, service: &Service, peak: f64) -> u32 {
    let slots = service.utilisation(peak, f64::from(args.slots)) / SLOTS_USED;
    let cpu = peak / CPU_AT_RATE.last().map_or(f64::MAX, |(rate, vcpu)| rate / vcpu * args.vcpu * CPU_USED);
    slots.max(cpu).floor().clamp(1.0, f64::from(MOST_WORKERS) + 1.0) as u32
}

/// What that many workers come to, if they keep the wait and have the CPU.
fn fits(args: &PlanArgs, service: &Service, peak: f64, workers: u32) -> Option<Proposal> {
    let slots = workers.checked_mul(args.slots)?;
    let cpu_used = cpu_used(peak / f64::from(workers)) / args.vcpu;
    let wait = service.wait(peak, slots)?;
    let in_time = wait.quantile_s(95.0) <= args.wait.as_secs_f64();
    let slots_used = service.utilisation(peak, f64::from(slots));
    (in_time && cpu_used <= CPU_USED && slots_used <= SLOTS_USED).then_some(Proposal {
        workers,
        slots_used,
        cpu_used,
        wait,
        late: None,
    })
}

/// vCPU that a worker uses at that rate of calls; above what was measured, each call costs as much as there.
fn cpu_used(rate: f64) -> f64 {
    let mut steps = CPU_AT_RATE.iter().zip(CPU_AT_RATE.iter().skip(1));
    let within = steps.clone().find(|(_, (high, _))| rate < *high).or_else(|| steps.next_back());
    within.map_or(0.0, |((low, at_low), (high, at_high))| {
        let part = (rate - low) / (high - low);
        part.mul_add(at_high - at_low, *at_low)
    })
}

pub(super) fn usage(args: &PlanArgs, prices: Prices, rate: f64, mean_s: f64, workers: u32) -> Usage {
    Usage {
        rate,
        mean_s,
        workers,
        vcpu: args.vcpu,
        memory_gb: args.memory,
        queues: args.queues,
        request_bytes: f64::from(args.request_bytes),
        result_bytes: f64::from(args.result_bytes),
        polls: f64::from(args.polls),
        sessions: args.sessions,
        claimless: args.claimless,
        prices,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_never_uses_less_cpu_at_a_higher_rate() {
        let used: Vec<_> = (1..6_000).map(|rate| cpu_used(f64::from(rate))).collect();
        assert!(used.windows(2).all(|pair| pair[1] >= pair[0] * 0.999), "more calls cost more");
    }
}
