//! What operators set in the fleet table beside limits: pauses, strikes, rules that cancel calls, weights, drains.
//!
//! **Invariant:** a stop is noted after it was stored, and its end before an operator begins to end it.

use std::time::Duration;

use serde_json::json;
use toolfleet_client::RequestBuilder;
use toolfleet_core::control::{CallFilter, CancelRule, ControlEntry, Strike, Switch, SwitchTarget};
use toolfleet_core::ids::{ServerId, Tenant, WorkerId};
use toolfleet_core::time::Timestamp;

use super::changes::{Unread, known};
use super::evidence::{Stop, Stopped};
use super::plan::{Event, Fault, Repeats, Server, TENANTS, question, tool};
use super::rig::Rig;
use crate::evidence::millis;

/// Who sets something, and why.
pub(super) const BY: &str = "chaos";
pub(super) const WHY: &str = "as the plan says";
/// Servers that are paused, by turns.
const PAUSED: [Server; 5] =
    [Server::Steady, Server::Narrow, Server::Tasking, Server::Lying, Server::Batching];
/// How long a rule cancels calls, and how long a drain is kept.
const RULE_MS: u64 = 30_000;
const DRAIN_MS: u64 = 60 * 60 * 1_000;
/// Two clocks of one machine, read in milliseconds, differ by so much.
const CLOCKS_US: u64 = 2_000;

/// A stop that was stored.
#[derive(Debug)]
struct Stored {
    which: Stopped,
    key: String,
    stored_us: u64,
    /// When it ends by itself, or an operator began to end it.
    until_us: Option<u64>,
}

/// The operators of a run.
#[derive(Debug, Default)]
pub(super) struct Operators {
    stored: Vec<Stored>,
}

/// What an operator has set.
pub(super) enum SetEntry {
    /// The tables cannot be reached.
    Not,
    /// It ends by itself, or stays.
    Alone,
    /// It is to be ended under that key.
    UntilEnded(String),
}

impl Operators {
    /// Sets what the event says.
    pub(super) async fn set(&mut self, event: Event, rig: &Rig) -> anyhow::Result<SetEntry> {
        let now = (rig.bed.clock)();
        let (entry, which) = entry(event, now)?;
        if rig.client.controls().set(&entry).await.is_err() {
            return Ok(SetEntry::Not);
        }
        let (key, until) = (entry.key(), entry.until());
        if let Some(which) = which {
            let stored_us = rig.servers.ledger().now_us();
            let left_us = |until: Timestamp| until.ms_since((rig.bed.clock)()) * 1_000;
            let until_us = until.map(|until| (stored_us + left_us(until)).saturating_sub(CLOCKS_US));
            self.stored.push(Stored { which, key: key.clone(), stored_us, until_us });
        }
        let stays = until.is_some() || matches!(entry, ControlEntry::Weight { .. });
        Ok(if stays { SetEntry::Alone } else { SetEntry::UntilEnded(key) })
    }

    /// Ends what is set under that key; false if the tables cannot be reached.
    pub(super) async fn end(&mut self, key: &str, rig: &Rig) -> bool {
        let now_us = rig.servers.ledger().now_us();
        self.stored.iter_mut().filter(|stored| stored.key == key).for_each(|stored| {
            stored.until_us.get_or_insert(now_us);
        });
        rig.client.controls().clear(key, BY, WHY).await.is_ok()
    }

    /// What was stopped when, with the periods in which workers may not be able to read.
    pub(super) fn stops(&self, unread: &[Unread]) -> Vec<Stop> {
        let stop = |stored: &Stored| Stop {
            which: stored.which.clone(),
            from_us: known(stored.stored_us, unread),
            until_us: stored.until_us.unwrap_or(u64::MAX),
        };
        self.stored.iter().map(stop).collect()
    }
}

/// Tells a worker to drain; false if the tables cannot be reached.
pub(super) async fn drain(worker: &str, rig: &Rig) -> anyhow::Result<bool> {
    let since = (rig.bed.clock)();
    let (worker, by, why) = (WorkerId::parse(worker)?, BY.to_owned(), WHY.to_owned());
    let entry = ControlEntry::Drain { worker, by, why, since, until: since.plus_ms(DRAIN_MS) };
    Ok(rig.client.controls().set(&entry).await.is_ok())
}

/// The entry of an event, and the calls that it stops. Every second pause and strike ends by itself.
fn entry(event: Event, now: Timestamp) -> anyhow::Result<(ControlEntry, Option<Stopped>)> {
    let Event { fault, length, pick, .. } = event;
    let (by, why) = (BY.to_owned(), WHY.to_owned());
    let until = event.ends_by_itself().then(|| now.plus_ms(millis(length)));
    let tenant_name = TENANTS.get(pick % TENANTS.len()).copied().unwrap_or_default();
    let tenant = Tenant::parse(tenant_name)?;
    let pause = |target, by, why| Switch { target, tenant: None, by, why, since: now, until };
    Ok(match fault {
        Fault::PauseTenant => {
            let pause = pause(SwitchTarget::Tenant(tenant), by, why);
            (ControlEntry::Pause(pause), Some(Stopped::Tenant(tenant_name)))
        }
        Fault::PauseServer => {
            let server = PAUSED.get(pick % PAUSED.len()).copied().unwrap_or(Server::Steady).name();
            let pause = pause(SwitchTarget::Server(ServerId::parse(server)?), by, why);
            (ControlEntry::Pause(pause), Some(Stopped::Server(server)))
        }
        Fault::Strike => {
            let (question, tool) = (question(pick), tool(Server::Caching, Repeats::Safe));
            let request = RequestBuilder::tool(tenant_name, &tool)
                .call_id("any")
                .arguments(json!({"question": question}));
            let digest = request.build().map_err(|error| anyhow::anyhow!("{error}"))?.digest.to_string();
            let strike = Strike { digest, by, why, since: now, until };
            (ControlEntry::Strike(strike), Some(Stopped::Question(asked(&question, &tool))))
        }
        Fault::CancelRule => {
            let filter = CallFilter { tenant: Some(tenant), tool: None, session: None, sent_before: now };
            let (id, until) = (format!("rule-{}", now.as_ms()), now.plus_ms(RULE_MS));
            let rule = CancelRule { id, filter, by, why, since: now, until };
            (ControlEntry::Cancel(rule), Some(Stopped::SentBefore(tenant_name, now.as_ms())))
        }
        Fault::WeightChanged => {
            let weight = u32::try_from(1 + pick % 4)?;
            (ControlEntry::Weight { tenant, weight, by, why, since: now }, None)
        }
        Fault::Kill
        | Fault::Term
        | Fault::Drain
        | Fault::Freeze
        | Fault::Endpoints
        | Fault::Throttled
        | Fault::Failing
        | Fault::AnswersLost
        | Fault::QueueFailing
        | Fault::BucketAway
        | Fault::SessionsLost
        | Fault::RateChanged
        | Fault::ConcurrencyChanged
        | Fault::CatalogChanged => anyhow::bail!("{} is no entry of an operator", fault.name()),
    })
}

/// What a call asks its server, as evidence has it: equal calls have one digest.
pub(super) fn asked(question: &str, tool: &str) -> String {
    format!("{question} to {tool}")
}

/// How much later than it is stored an operator tries again where the tables cannot be reached.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use toolfleet_core::control::{Control, Subject};

    use super::*;

    fn event(fault: Fault, pick: usize) -> Event {
        Event { at: Duration::ZERO, fault, length: Duration::from_secs(9), pick }
    }

    #[test]
    fn a_stop_holds_the_calls_that_its_evidence_names() {
        let now = Timestamp::from_ms(5);
        let (server, tenant) = (ServerId::parse("caching").unwrap(), Tenant::parse(TENANTS[1]).unwrap());
        let tool_id = tool(Server::Caching, Repeats::Safe);
        let request = RequestBuilder::tool(TENANTS[2], &tool_id)
            .call_id("any")
            .arguments(json!({"question": question(1)}));
        let digest = request.build().unwrap().digest;
        let subject = Subject { server: &server, tenant: &tenant, tool: None, digest: Some(&digest) };
        let holds = |fault, pick| {
            let (entry, which) = entry(event(fault, pick), now).unwrap();
            (Control::new(1, [entry], now).stop_of(subject, now).is_some(), which.unwrap())
        };
        let asks = asked(&question(1), &tool_id);
        assert_eq!(holds(Fault::Strike, 1), (true, Stopped::Question(asks)));
        assert!(!holds(Fault::Strike, 2).0);
        assert_eq!(holds(Fault::PauseTenant, 1), (true, Stopped::Tenant(TENANTS[1])));
        assert!(!holds(Fault::PauseTenant, 2).0);
        assert_eq!(holds(Fault::PauseServer, 4), (false, Stopped::Server("batching")));
    }

    #[test]
    fn every_second_stop_ends_by_itself() {
        let ends = |pick| entry(event(Fault::PauseTenant, pick), Timestamp::from_ms(0)).unwrap().0.until();
        let all: Vec<_> = (0..60).map(ends).collect();
        assert_eq!(all.iter().filter(|until| **until == Some(Timestamp::from_ms(9_000))).count(), 30);
        assert_eq!(all.iter().filter(|until| until.is_none()).count(), 30);
    }

    #[test]
    fn a_stop_holds_from_when_every_worker_knows_of_it() {
        let which = Stopped::Tenant("acme");
        let stored = Stored { which, key: "k".into(), stored_us: 1_000_000, until_us: None };
        let operators = Operators { stored: vec![stored] };
        let from = |unread: &[Unread]| operators.stops(unread)[0].from_us;
        assert_eq!((from(&[]), from(&[(2_000_000, 5_000_000)])), (6_000_000, 9_000_000));
    }
}
