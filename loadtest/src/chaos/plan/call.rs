//! The calls of a chaos run.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use toolfleet_core::request::Priority;

use super::fault::{CALM, Event, Fault, MOST_LONGER};
use super::server::{Repeats, Server};
use super::shape::Shape;

/// The first part of every call's id.
pub const ID_PREFIX: &str = "chaos-";
/// The tenants of the calls.
pub const TENANTS: [&str; 3] = ["acme", "blue", "crew"];
/// Bytes of a result that is stored in the bucket where there is one, and of one that fits into no row.
pub(super) const LARGE_BYTES: usize = 20_000;
pub(super) const HUGE_BYTES: usize = 700_000;
/// How many different questions a tenant asks the server whose answers are stored.
const QUESTIONS: usize = 2;
/// The calls to the server that takes several at once come together, of one tenant, so often.
const TOGETHER: Duration = Duration::from_secs(4);
/// Calls that are sent so long before there is no bucket may need it then.
const BEFORE_AWAY: Duration = Duration::from_secs(2);
/// So many questions are open at a time: the more there are, the longer it takes from a question to its answer.
const UNANSWERED: usize = 4;
/// So many calls at least come to a server after it has lost its sessions.
const AFTER_LOSS: usize = 3;
/// One call kills its workers in so much of the run, one at least; and for so long it may last until it is a dead letter.
const DEADLY_EVERY: Duration = Duration::from_secs(150);
const DEADLY_MS: u64 = 900_000;
/// So many calls of one `supersede` key follow each other at most.
const FAMILY: u32 = 4;

/// A call of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaosCall {
    /// Its id.
    pub id: String,
    /// Its number, which is also in its id.
    pub n: u32,
    /// Its tenant.
    pub tenant: &'static str,
    /// The server that it calls.
    pub server: Server,
    /// Whether it may be repeated.
    pub repeats: Repeats,
    /// When it is sent, after the start.
    pub at: Duration,
    /// How long after that it may start, if it says so.
    pub not_before: Option<Duration>,
    /// Its priority, which names its queue.
    pub priority: Priority,
    /// Its conversation.
    pub session: Option<String>,
    /// From its sending, or from the instant before which it may not start, to its deadline.
    pub timeout_ms: u64,
    /// How many bytes its result has beside its id.
    pub bytes: usize,
    /// What it asks the server whose answers are stored: equal calls ask the same.
    pub question: Option<String>,
    /// Whether it may be answered from a store.
    pub cache: bool,
    /// The newest call of this key replaces those that were not started.
    pub supersede: Option<String>,
    /// Its place in a group.
    pub group: Option<Place>,
    /// How often its message is sent.
    pub copies: u32,
    /// When its caller cancels it, after it was sent.
    pub cancelled_after: Option<Duration>,
    /// Whether its caller asks for a notice.
    pub notice: bool,
    /// Whether its request says that repeating it does no harm.
    pub promised: bool,
    /// The call whose question it answers.
    pub resumes: Option<String>,
    /// The call of the round before that it repeats.
    pub redrives: Option<String>,
    /// Whether its message kills the worker that receives it, and what ends that.
    pub deadly: Option<Deadly>,
}

/// A call whose message kills the worker that receives it, until it is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadly {
    /// An operator removes the cause, and sends the dead letter again.
    Cured,
    /// Nothing: a worker ends the dead letter.
    Left,
}

/// The place of a call in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The position of the group in the plan.
    pub group: usize,
    /// Which of its calls this one is, from 0.
    pub index: u32,
}

impl ChaosCall {
    /// What its tool answers beside random text: the id, or the question where equal calls share an answer.
    pub fn subject(&self) -> &str {
        self.question.as_deref().unwrap_or(&self.id)
    }

    /// Whether it may be executed more than once. An answer is given once, whatever the catalog says of the tool.
    pub fn is_safe(&self) -> bool {
        self.promised || (self.repeats != Repeats::Once && self.resumes.is_none())
    }

    /// When it may start, after the start of the run.
    pub fn due(&self) -> Duration {
        self.at + self.not_before.unwrap_or_default()
    }
}

/// The calls, in the order of sending.
pub(super) fn calls(seed: u64, shape: Shape, rng: &mut Rng) -> Vec<ChaosCall> {
    let length_s = shape.length.as_secs_f64();
    let mut times: Vec<_> = (0..shape.calls).map(|_| Duration::from_secs_f64(rng.f64() * length_s)).collect();
    times.sort_unstable();
    let mut calls: Vec<_> = (0..).zip(times).map(|(n, at)| call(seed, n, at, shape, rng)).collect();
    families(seed, &mut calls, rng);
    answers(&mut calls, rng);
    calls.sort_by_key(|call| call.at);
    deadly(&mut calls, shape);
    calls
}

fn call(seed: u64, n: u32, at: Duration, shape: Shape, rng: &mut Rng) -> ChaosCall {
    let server = Server::pick(rng);
    let repeats = match rng.u32(..100) {
        0..55 => Repeats::Once,
        55..85 => Repeats::Safe,
        _ => Repeats::Claimless,
    };
    let repeats = if server.repeats().contains(&repeats) { repeats } else { Repeats::Safe };
    let tenant = rng.choice(TENANTS).unwrap_or(TENANTS[0]);
    let priority = match rng.u32(..10) {
        0 => Priority::High,
        1 => Priority::Low,
        _ => Priority::Normal,
    };
    // The server with sessions keeps one for each conversation.
    let in_session = server == Server::Forgetful || rng.u32(..5) == 0;
    let session = in_session.then(|| format!("conversation-{seed}-{}", rng.u32(..20)));
    let hurries = rng.u32(..100) < 3;
    let bytes = match rng.u32(..1_000) {
        0..28 if server == Server::Steady => LARGE_BYTES,
        28..33 if server == Server::Steady => HUGE_BYTES,
        _ => 0,
    };
    let not_before = (rng.u32(..100) < 3).then(|| Duration::from_millis(rng.u64(1_000..4_000)));
    let cancelled = rng.u32(..200) == 0;
    let call = ChaosCall {
        id: format!("{ID_PREFIX}{seed}-{n}"),
        n,
        tenant,
        server,
        repeats,
        at,
        not_before,
        priority,
        session,
        timeout_ms: if hurries { rng.u64(500..3_000) } else { shape.timeout_ms },
        bytes,
        question: (server == Server::Caching).then(|| question(rng.usize(..QUESTIONS))),
        cache: server == Server::Caching && rng.u32(..5) > 0,
        supersede: None,
        group: None,
        copies: if rng.u32(..50) == 0 { 2 } else { 1 },
        cancelled_after: cancelled.then(|| Duration::from_millis(rng.u64(..2_000))),
        notice: rng.bool(),
        promised: false,
        resumes: None,
        redrives: None,
        deadly: None,
    };
    if server == Server::Batching { together(call) } else { call }
}

/// A question to the server whose answers are stored: one of a few.
pub fn question(n: usize) -> String {
    format!("question-{}", n % QUESTIONS)
}

/// The same call at the time, and of the tenant, of all that are sent in one request with it.
fn together(call: ChaosCall) -> ChaosCall {
    let window = call.at.as_secs() / TOGETHER.as_secs();
    let tenant = usize::try_from(window).ok().and_then(|window| TENANTS.get(window % TENANTS.len()));
    ChaosCall {
        at: TOGETHER.mul_f64(window as f64),
        tenant: tenant.copied().unwrap_or(call.tenant),
        session: None,
        not_before: None,
        priority: Priority::Normal,
        ..call
    }
}

/// Gives some calls that follow each other a `supersede` key, and instants before which they may not start: a newer one is at times due before
/// an older one, and replaces it.
fn families(seed: u64, calls: &mut [ChaosCall], rng: &mut Rng) {
    let mut left: Option<(String, &'static str, u32)> = None;
    for call in calls.iter_mut() {
        if call.server.is_limited() || call.server.is_alone() {
            continue;
        }
        if left.is_none() && rng.u32(..100) < 3 {
            left = Some((format!("place-{seed}-{}", call.n), call.tenant, rng.u32(2..=FAMILY)));
        }
        if let Some((key, tenant, more)) = left.take() {
            call.supersede = Some(key.clone());
            call.tenant = tenant;
            call.copies = 1;
            call.not_before = Some(Duration::from_millis(rng.u64(1_000..5_000)));
            left = (more > 1).then_some((key, tenant, more - 1));
        }
    }
}

/// Lets some early calls kill their workers, by turns of both kinds: the first is sent again.
fn deadly(calls: &mut [ChaosCall], shape: Shape) {
    let fits = |call: &&mut ChaosCall| {
        let is_alone = call.supersede.is_none() && call.copies == 1 && call.cancelled_after.is_none();
        call.server == Server::Steady && call.repeats == Repeats::Once && is_alone && call.at > CALM
    };
    let count = (shape.length.as_secs() / DEADLY_EVERY.as_secs()).max(1);
    let mut from = Duration::ZERO;
    let mut kinds = [Deadly::Cured, Deadly::Left].into_iter().cycle();
    for n in 0..count {
        let Some(call) = calls.iter_mut().filter(fits).find(|call| call.at >= from && call.deadly.is_none())
        else {
            return;
        };
        call.deadly = kinds.next();
        // They are a dead letter soon, or never: what has high priority is received alone more often.
        (call.priority, call.timeout_ms, call.not_before, call.notice) =
            (Priority::High, DEADLY_MS, None, true);
        call.bytes = 0;
        from = DEADLY_EVERY * u32::try_from(n + 1).unwrap_or(u32::MAX);
    }
}

/// Makes about every second call to the server that asks the answer to an earlier one. The last questions are never answered.
fn answers(calls: &mut [ChaosCall], rng: &mut Rng) {
    let mut asked = VecDeque::new();
    for call in calls.iter_mut().filter(|call| call.server == Server::Asking) {
        if asked.len() < UNANSWERED {
            asked.push_back(call.clone());
            continue;
        }
        let Some(first) = asked.pop_front() else { continue };
        call.tenant = first.tenant;
        call.repeats = first.repeats;
        call.session = first.session;
        call.promised = first.repeats != Repeats::Once && rng.bool();
        call.not_before = None;
        call.resumes = Some(first.id);
    }
}

/// Gives the calls to the steady server that are sent about when there is no bucket a result that is stored there. Some calls start late, and a
/// period without a bucket lasts until a worker has met it.
pub(super) fn enlarge(calls: &mut [ChaosCall], events: &[Event]) {
    let away = |at: Duration| {
        let of_bucket = events.iter().filter(|event| event.fault == Fault::BucketAway);
        of_bucket.into_iter().any(|event| {
            let (from, to) = (event.at.saturating_sub(BEFORE_AWAY), event.at + event.length + MOST_LONGER);
            (from..to).contains(&at)
        })
    };
    for call in calls
        .iter_mut()
        .filter(|call| call.server == Server::Steady && call.bytes == 0 && call.deadly.is_none())
    {
        call.bytes = if away(call.at) { LARGE_BYTES } else { 0 };
    }
}

/// Lets no server lose its sessions after the last calls that can meet it.
pub(super) fn meet_losses(calls: &[ChaosCall], events: &mut [Event]) {
    let in_sessions = calls.iter().rev().filter(|call| call.server == Server::Forgetful);
    let Some(latest) = in_sessions.map(|call| call.at).nth(AFTER_LOSS - 1) else { return };
    for event in events.iter_mut().filter(|event| event.fault == Fault::SessionsLost) {
        event.at = event.at.min(latest.max(CALM));
    }
}
