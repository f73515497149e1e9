//! How long calls wait for a slot: the formula of Whitt for a queue with many servers ("Approximations for the GI/G/m Queue", 1993, equations 2.24
//! to 2.26), with arrivals at random (Poisson).
//!
//! It is checked against a simulation of the same queue (`simulation`).

/// How long calls hold a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Service {
    /// On average, in seconds.
    pub(super) mean_s: f64,
    /// The squared coefficient of variation: 0 where all calls take the same time, 1 for an exponential distribution.
    pub(super) scv: f64,
}

/// How long calls wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wait {
    /// On average, in seconds.
    pub(super) mean_s: f64,
    /// Which part of the calls waits at all.
    pub(super) probability: f64,
    /// By which factor the waits of those that wait are longer at their end than an exponential distribution has them.
    pub(super) tail: f64,
}

impl Wait {
    /// The wait that so many calls of a hundred do not exceed, in seconds: among calls that wait, waits are about exponential.
    pub(super) fn quantile_s(&self, percent: f64) -> f64 {
        let beyond = 1.0 - percent / 100.0;
        if self.probability <= beyond {
            return 0.0;
        }
        self.scale_s() * (self.probability / beyond).ln()
    }

    /// Which part of the calls waits longer than that, in seconds.
    pub(super) fn beyond(&self, s: f64) -> f64 {
        if self.probability == 0.0 { 0.0 } else { self.probability * (-s / self.scale_s()).exp() }
    }

    fn scale_s(&self) -> f64 {
        self.mean_s / self.probability * self.tail
    }
}

impl Service {
    /// Which part of the time a slot is taken.
    pub(super) fn utilisation(&self, rate: f64, slots: f64) -> f64 {
        rate * self.mean_s / slots
    }

    /// How long calls wait that come at that rate a second; none where they come faster than the slots take them.
    pub(super) fn wait(&self, rate: f64, slots: u32) -> Option<Wait> {
        let many = f64::from(slots);
        let rho = self.utilisation(rate, many);
        if !(rho > 0.0 && rho < 1.0) {
            return (rho == 0.0).then_some(Wait { mean_s: 0.0, probability: 0.0, tail: 1.0 });
        }
        let probability = erlang_c(rate * self.mean_s, slots);
        let exponential_s = probability * self.mean_s / (many * (1.0 - rho));
        let mean_s = correction(rho, self.scv, many) * f64::midpoint(1.0, self.scv) * exponential_s;
        Some(Wait { mean_s, probability, tail: tail(rho, self.scv, many) })
    }
}

/// The probability that a call waits where service times are exponential (Erlang's C formula).
fn erlang_c(offered: f64, slots: u32) -> f64 {
    let blocked = (1..=slots).fold(1.0, |blocked, n| offered * blocked / (f64::from(n) + offered * blocked));
    let rho = offered / f64::from(slots);
    blocked / (1.0 - rho * (1.0 - blocked))
}

/// What long waits differ by from those of an exponential distribution with that mean, where calls vary much. It is fitted to the simulation, for
/// 1 to 64 slots of which 70 to 90 % are taken: with few slots a few long calls make waits longer, and with many the formula's mean is a little high.
fn tail(rho: f64, scv: f64, slots: f64) -> f64 {
    let (varies, free) = ((scv - 1.0).clamp(0.0, 1.0), 1.0 - rho);
    varies * (0.13 - 0.23 * free * slots.sqrt() + 0.3 * free / slots) + 1.0
}

/// What the mean wait differs by from that of exponential service times, beside the variation itself.
fn correction(rho: f64, scv: f64, slots: f64) -> f64 {
    let gamma = ((1.0 - rho) * (slots - 1.0) * ((4.0_f64.mul_add(1.0, 5.0 * slots)).sqrt() - 2.0))
        / (16.0 * slots * rho);
    let gamma = gamma.min(0.24);
    let (less, more) = (1.0 - 4.0 * gamma, 1.0 + gamma);
    let third = less * (-2.0 * (1.0 - rho) / (3.0 * rho)).exp();
    let fourth = f64::midpoint(more, third).min(1.0);
    let variation = f64::midpoint(1.0, scv);
    let psi = if variation >= 1.0 { 1.0 } else { fourth.powf(2.0 * (1.0 - variation)) };
    if scv <= 1.0 {
        let below = 4.0 - 3.0 * scv;
        4.0 * (1.0 - scv) / below * more + scv / below * psi
    } else {
        let below = 2.0 + 2.0 * scv;
        (scv - 1.0) / below * third + (scv + 3.0) / below * psi
    }
}
