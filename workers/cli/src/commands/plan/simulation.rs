//! The queue of the formula, simulated: calls come at random, wait for one of the slots in their order, and hold it for a random time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::waiting::Service;

/// How service times are distributed.
#[derive(Debug, Clone, Copy)]
enum Times {
    Constant,
    Exponential,
    LogNormal { mu: f64, sigma: f64 },
}

/// A random number below 1, and above 0.
fn uniform(random: &mut fastrand::Rng) -> f64 {
    random.f64().max(f64::MIN_POSITIVE)
}

fn normal(random: &mut fastrand::Rng) -> f64 {
    (-2.0 * uniform(random).ln()).sqrt() * (std::f64::consts::TAU * uniform(random)).cos()
}

impl Times {
    fn of(service: Service) -> Self {
        if service.scv == 0.0 {
            return Self::Constant;
        }
        if service.scv == 1.0 {
            return Self::Exponential;
        }
        let variance = (1.0 + service.scv).ln();
        Self::LogNormal { mu: service.mean_s.ln() - variance / 2.0, sigma: variance.sqrt() }
    }

    fn next_s(self, mean_s: f64, random: &mut fastrand::Rng) -> f64 {
        match self {
            Self::Constant => mean_s,
            Self::Exponential => -mean_s * uniform(random).ln(),
            Self::LogNormal { mu, sigma } => normal(random).mul_add(sigma, mu).exp(),
        }
    }
}

/// The mean wait of so many calls and the wait that 95 of 100 do not exceed, in seconds.
fn simulate(rate: f64, service: Service, slots: u32, calls: usize, seed: u64) -> (f64, f64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let times = Times::of(service);
    // When each slot is free again, in nanoseconds.
    let mut free: BinaryHeap<Reverse<u64>> = (0..slots).map(|_| Reverse(0)).collect();
    let ns = |s: f64| (s * 1e9) as u64;
    let mut now_s = 0.0;
    let mut waits = Vec::with_capacity(calls);
    // The queue fills first.
    for n in 0..calls + calls / 5 {
        now_s -= uniform(&mut random).ln() / rate;
        let Reverse(at) = free.pop().unwrap();
        let begin = at.max(ns(now_s));
        free.push(Reverse(begin + ns(times.next_s(service.mean_s, &mut random))));
        if n >= calls / 5 {
            waits.push((begin - ns(now_s)) as f64 / 1e9);
        }
    }
    waits.sort_by(f64::total_cmp);
    (waits.iter().sum::<f64>() / calls as f64, waits[calls * 95 / 100])
}

/// Within 10 % for the mean and for the 95th percentile, or within 1 % of a call's own time where waits are short. Where a few calls take a
/// hundred times longer than the others, simulated waits are up to half as long again; `plan` says so.
#[test]
fn the_formula_agrees_with_the_simulation() {
    for slots in [1, 8, 64] {
        for rho in [0.7, 0.8, 0.9] {
            for scv in [0.0, 0.5, 1.0, 2.0] {
                let service = Service { mean_s: 0.5, scv };
                let rate = rho * f64::from(slots) / service.mean_s;
                let found = service.wait(rate, slots).unwrap();
                // A full queue of many slots changes slowly, so that fewer calls say little.
                let seeds = if slots == 64 && rho > 0.85 { 16 } else { 2 };
                let runs: Vec<_> =
                    (0..seeds).map(|seed| simulate(rate, service, slots, 200_000, seed)).collect();
                let of =
                    |part: fn(&(f64, f64)) -> f64| runs.iter().map(part).sum::<f64>() / runs.len() as f64;
                let (mean_s, p95_s) = (of(|run| run.0), of(|run| run.1));
                let near =
                    |a: f64, b: f64, part: f64| (a - b).abs() <= (b * part).max(service.mean_s / 100.0);
                assert!(
                    near(found.mean_s, mean_s, 0.1),
                    "{slots} slots, {rho}, {scv}: mean {found:?}, simulated {mean_s}"
                );
                let quantile = found.quantile_s(95.0);
                assert!(
                    near(quantile, p95_s, 0.1),
                    "{slots} slots, {rho}, {scv}: p95 {quantile}, simulated {p95_s}"
                );
            }
        }
    }
}
