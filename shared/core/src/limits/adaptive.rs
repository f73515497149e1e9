//! Open requests of one worker at one tool that adapt to the server's answers: fewer after time-outs and refusals, and about as many as the
//! tool answers without becoming slower.
//!
//! Two rules work together. A refusal for load (429, 503) or a time-out multiplies the limit by `DECREASE`, once for the requests that were
//! open together. Otherwise the limit moves towards the number of requests that the tool answers at its usual speed, plus a headroom: the
//! usual speed is the median of its own answers over a longer time, not a measured idle server. So no requests are held back to measure,
//! and the floor of one request is not a probe.

use std::collections::VecDeque;

use crate::time::Timestamp;

/// What a refusal for load leaves of the limit.
const DECREASE: f64 = 0.7;
/// The part of the limit that is added to it as headroom: at its usual speed, and at half of it.
const MOST_HEADROOM: f64 = 0.5;
const LEAST_HEADROOM: f64 = 0.25;
/// The slowest that the median of the latest answers is taken for: twice the usual.
const SLOWEST: f64 = 2.0;
/// How many of the latest answers give the current median at most.
const LATEST: usize = 20;
/// How many medians give the usual one, and how far apart they are taken, in milliseconds: about a minute.
const MEDIANS: usize = 60;
const MEDIAN_EVERY_MS: u64 = 1_000;
/// After how many answers the limit moves. Only requests that were sent since the last move count.
const ROUND: usize = 5;
/// How long the limit needs to grow from its floor to where it was, in milliseconds.
const RECOVERY_MS: f64 = 8_000.0;

/// What an answer says about the load of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It answered, in so many milliseconds.
    In(u64),
    /// It refused the request for load, or did not answer in time.
    Overloaded,
    /// It says nothing about load.
    Other,
}

/// The adaptive limit of one worker at one tool.
#[derive(Debug, Clone)]
pub struct AdaptiveLimit {
    limit: f64,
    most: f64,
    open: u32,
    /// The times of the answers since the limit moved.
    latest_ms: VecDeque<u64>,
    medians_ms: VecDeque<u64>,
    /// When the latest of them was taken.
    median_at: Option<Timestamp>,
    /// When the limit moved.
    moved_at: Option<Timestamp>,
    /// The limit before the last decrease: it is regained by time.
    regain: Option<Regain>,
    /// When the limit was last decreased. What was sent earlier does not decrease it again.
    decreased_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Regain {
    from: f64,
    to: f64,
    since: Timestamp,
}

impl AdaptiveLimit {
    /// A limit that begins at `most` open requests, which is also the highest.
    pub fn new(most: u32) -> Self {
        let most = f64::from(most.max(1));
        Self {
            limit: most,
            most,
            open: 0,
            latest_ms: VecDeque::new(),
            medians_ms: VecDeque::new(),
            median_at: None,
            moved_at: None,
            regain: None,
            decreased_at: None,
        }
    }

    /// How many requests may be open now.
    pub fn limit(&self, now: Timestamp) -> u32 {
        let regained = self.regain.map_or(0.0, |regain| {
            let part = (now.ms_since(regain.since) as f64 / RECOVERY_MS).min(1.0);
            part.mul_add(regain.to - regain.from, regain.from)
        });
        self.limit.max(regained).clamp(1.0, self.most) as u32
    }

    /// How many requests are open.
    pub const fn open(&self) -> u32 {
        self.open
    }

    /// Opens a request, unless the limit is reached.
    pub fn enter(&mut self, now: Timestamp) -> bool {
        let free = self.open < self.limit(now);
        if free {
            self.open = self.open.saturating_add(1);
        }
        free
    }

    /// A request that was sent at `sent` has ended.
    pub fn leave(&mut self, answered: Answered, sent: Timestamp, now: Timestamp) {
        let busy = f64::from(self.open) >= f64::from(self.limit(now)) / 2.0;
        self.open = self.open.saturating_sub(1);
        match answered {
            Answered::Overloaded => self.decrease(sent, now),
            Answered::In(_) if self.moved_at.is_some_and(|at| sent < at) => {}
            Answered::In(took_ms) => self.learn(took_ms, busy, now),
            Answered::Other => {}
        }
    }

    fn decrease(&mut self, sent: Timestamp, now: Timestamp) {
        if self.decreased_at.is_some_and(|at| sent < at) {
            return;
        }
        let before = f64::from(self.limit(now));
        let goal = self.regain.map_or(before, |regain| regain.to.max(before));
        self.limit = (before * DECREASE).floor().max(1.0);
        self.regain = Some(Regain { from: self.limit, to: goal, since: now });
        self.decreased_at = Some(now);
    }

    fn learn(&mut self, took_ms: u64, busy: bool, now: Timestamp) {
        push(&mut self.latest_ms, took_ms, LATEST);
        if self.latest_ms.len() < ROUND {
            return;
        }
        let current_ms = median(&self.latest_ms);
        if self.median_at.is_none_or(|at| now.ms_since(at) >= MEDIAN_EVERY_MS) {
            push(&mut self.medians_ms, current_ms, MEDIANS);
            self.median_at = Some(now);
        }
        let usual_ms = median(&self.medians_ms);
        let limit = f64::from(self.limit(now));
        let slower = (current_ms.max(1) as f64 / usual_ms.max(1) as f64).clamp(1.0, SLOWEST);
        let headroom = (SLOWEST - slower).mul_add(MOST_HEADROOM - LEAST_HEADROOM, LEAST_HEADROOM);
        let goal = limit.mul_add(1.0 / slower, limit.sqrt().max(limit * headroom)).min(self.most);
        // A limit that nobody reaches says nothing about a higher one.
        if goal >= limit && !busy {
            return;
        }
        if goal < limit {
            self.regain = None;
        }
        self.limit = goal.max(limit * DECREASE).max(1.0);
        self.moved_at = Some(now);
        self.latest_ms.clear();
        if self.regain.is_some_and(|regain| self.limit >= regain.to) {
            self.regain = None;
        }
    }
}

fn push(values: &mut VecDeque<u64>, value: u64, most: usize) {
    if values.len() >= most {
        values.pop_front();
    }
    values.push_back(value);
}

fn median(values: &VecDeque<u64>) -> u64 {
    let mut sorted: Vec<_> = values.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
