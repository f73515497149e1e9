//! What operators have set for the whole fleet: pauses, strikes, drains, live limits, weights, and rules that cancel calls.
//!
//! A [`Control`] is one immutable snapshot of the control table. Workers read it and ask it before they send anything. `now` is an argument
//! everywhere: what has expired has no effect, whether or not its row is still stored.

mod cancel_rule;
mod change;
mod entry;
mod subject;
mod target;

use std::collections::BTreeMap;

use crate::ids::{Tenant, WorkerId};
use crate::limits::LimitKey;
use crate::time::Timestamp;

pub use cancel_rule::{CallFacts, CallFilter, CancelRule};
pub use change::change_record;
pub use entry::{ControlEntry, LimitChange, LiveLimit, Strike, Switch};
pub use subject::{Subject, ToolNames};
pub use target::{SwitchTarget, TargetError, is_tool};

/// The weight of a tenant for which none is set.
pub const DEFAULT_WEIGHT: u32 = 1;

/// All that operators have set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control {
    /// Grows with every change.
    pub version: u64,
    /// Rows that this version cannot read, and that have no effect here.
    pub unreadable: usize,
    /// The pauses.
    pub switches: Vec<Switch>,
    /// Requests that are struck, by their digest.
    pub strikes: Vec<Strike>,
    /// Workers that drain, each with the time since when: a later worker of the same id does not.
    pub drains: BTreeMap<WorkerId, Timestamp>,
    /// Limits that were changed live.
    pub limits: BTreeMap<LimitKey, LiveLimit>,
    /// Weights of tenants; [`DEFAULT_WEIGHT`] for the others.
    pub weights: BTreeMap<Tenant, u32>,
    /// Rules that cancel calls.
    pub cancel_rules: Vec<CancelRule>,
    /// Entries that had ended when they were read, and have no effect.
    pub ended: Vec<ControlEntry>,
}

impl Control {
    /// The snapshot of these entries. An entry that has expired by `now` has no effect. Of two that change the same part of a limit, the one
    /// that was set later holds.
    pub fn new(version: u64, entries: impl IntoIterator<Item = ControlEntry>, now: Timestamp) -> Self {
        let mut control = Self { version, ..Self::default() };
        let (ended, mut live): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.is_over(now));
        control.ended = ended;
        live.sort_by_key(ControlEntry::since);
        for entry in live {
            match entry {
                ControlEntry::Pause(switch) => control.switches.push(switch),
                ControlEntry::Strike(strike) => control.strikes.push(strike),
                ControlEntry::Drain { worker, since, .. } => {
                    control.drains.insert(worker, since);
                }
                ControlEntry::Limit { limit, change, until, .. } => match LimitKey::stored(&limit) {
                    Ok(key) => control.limits.entry(key).or_default().set(change, until),
                    Err(_) => control.unreadable = control.unreadable.saturating_add(1),
                },
                ControlEntry::Weight { tenant, weight, .. } => {
                    control.weights.insert(tenant, weight);
                }
                ControlEntry::Cancel(rule) => control.cancel_rules.push(rule),
            }
        }
        control
    }

    /// Whether it stops or changes nothing.
    pub fn is_empty(&self) -> bool {
        self.switches.is_empty()
            && self.strikes.is_empty()
            && self.drains.is_empty()
            && self.limits.is_empty()
            && self.weights.is_empty()
            && self.cancel_rules.is_empty()
    }

    /// The pause that stops such a call now; of several the one that lasts longest.
    pub fn pause_of(&self, subject: Subject<'_>, now: Timestamp) -> Option<&Switch> {
        let open_end = Timestamp::from_ms(i64::MAX);
        let matching = self.switches.iter().filter(|switch| switch.is_on(now) && switch.matches(subject));
        matching.max_by_key(|switch| switch.until.unwrap_or(open_end))
    }

    /// The pause of a whole queue (`high`, `default`, `low`) now.
    pub fn pause_of_queue(&self, queue: &str, now: Timestamp) -> Option<&Switch> {
        let of_queue =
            |switch: &&Switch| matches!(&switch.target, SwitchTarget::Queue(name) if name == queue);
        self.switches.iter().filter(of_queue).find(|switch| switch.is_on(now))
    }

    /// The strike that stops such a call now.
    pub fn strike_of(&self, subject: Subject<'_>, now: Timestamp) -> Option<&Strike> {
        let digest = subject.digest?;
        self.strikes.iter().find(|strike| strike.is_on(now) && strike.matches(digest))
    }

    /// Until when a pause or a strike stops such a call, and the sentence for people.
    pub fn stop_of(&self, subject: Subject<'_>, now: Timestamp) -> Option<(Option<Timestamp>, String)> {
        let paused = self.pause_of(subject, now).map(|switch| (switch.until, switch.detail()));
        paused.or_else(|| self.strike_of(subject, now).map(|strike| (strike.until, strike.detail())))
    }

    /// The rule that cancels such a call now.
    pub fn cancelled_by(&self, call: &CallFacts<'_>, now: Timestamp) -> Option<&CancelRule> {
        self.cancel_rules.iter().find(|rule| rule.is_on(now) && rule.filter.matches(call))
    }

    /// Whether a worker that started then is to drain.
    pub fn drains(&self, worker: &WorkerId, started_at: Timestamp) -> bool {
        self.drains.get(worker).is_some_and(|since| started_at < *since)
    }

    /// How operators have changed that limit; nothing where they have not.
    pub fn limit(&self, key: &LimitKey, now: Timestamp) -> LimitChange {
        self.limits.get(key).map_or_else(LimitChange::default, |limit| limit.at(now))
    }

    /// The weight of a tenant.
    pub fn weight_of(&self, tenant: &Tenant) -> u32 {
        self.weights.get(tenant).copied().unwrap_or(DEFAULT_WEIGHT).max(1)
    }

    /// When the next of its entries expires, the limits included.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        let switches = self.switches.iter().filter_map(|switch| switch.until);
        let rules = self.cancel_rules.iter().map(|rule| rule.until);
        let strikes = self.strikes.iter().filter_map(|strike| strike.until);
        let limits = self.limits.values().flat_map(|limit| limit.ends());
        switches.chain(rules).chain(strikes).chain(limits).filter(|end| *end > now).min()
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::ServerId;
    use crate::limits::{Positive, RateLimit};

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn pause(target: &str, tenant: Option<&str>, until: Option<i64>) -> ControlEntry {
        ControlEntry::Pause(Switch {
            target: SwitchTarget::parse(target).unwrap(),
            tenant: tenant.map(|tenant| Tenant::parse(tenant).unwrap()),
            by: "ann".into(),
            why: "it drops orders".into(),
            since: at(0),
            until: until.map(at),
        })
    }

    #[test]
    fn a_pause_matches_its_server_tool_or_tenant_and_no_other() {
        let entries = [
            pause("server:crm", Some("acme"), None),
            pause("tool:erp.delete", None, None),
            pause("tenant:globex", None, None),
        ];
        let control = Control::new(1, entries, at(0));
        let (crm, erp) = (ServerId::parse("crm").unwrap(), ServerId::parse("erp").unwrap());
        let tenant = |name: &str| Tenant::parse(name).unwrap();
        let paused = |server: &ServerId, tenant: &Tenant, tool: Option<&str>| {
            let names = |tool| ToolNames { registered: Some(tool), server: server.as_str(), name: "f" };
            let tool = tool.map(names);
            control.pause_of(Subject { server, tenant, tool, digest: None }, at(1)).is_some()
        };
        assert!(paused(&crm, &tenant("acme"), Some("crm.find")));
        assert!(paused(&crm, &tenant("acme"), None), "the worker's own requests for that tenant too");
        assert!(!paused(&crm, &tenant("initech"), Some("crm.find")));
        assert!(paused(&erp, &tenant("initech"), Some("erp.delete")));
        assert!(!paused(&erp, &tenant("initech"), Some("erp.read")));
        assert!(!paused(&erp, &tenant("initech"), None));
        assert!(paused(&erp, &tenant("globex"), Some("erp.read")));
    }

    #[test]
    fn what_has_expired_has_no_effect() {
        let (server, tenant) = (ServerId::parse("crm").unwrap(), Tenant::parse("acme").unwrap());
        let subject = Subject { server: &server, tenant: &tenant, tool: None, digest: None };
        let control = Control::new(1, [pause("server:crm", None, Some(5_000))], at(0));
        assert!(control.pause_of(subject, at(4_999)).is_some());
        assert!(control.pause_of(subject, at(5_000)).is_none());
        assert_eq!(control.next_end(at(0)), Some(at(5_000)));
        assert!(Control::new(1, [pause("server:crm", None, Some(5_000))], at(5_000)).is_empty());
    }

    #[test]
    fn of_several_pauses_the_longest_is_named() {
        let (server, tenant) = (ServerId::parse("crm").unwrap(), Tenant::parse("acme").unwrap());
        let subject = Subject { server: &server, tenant: &tenant, tool: None, digest: None };
        let entries = [pause("server:crm", None, Some(5_000)), pause("tenant:acme", None, None)];
        let control = Control::new(1, entries, at(0));
        assert_eq!(control.pause_of(subject, at(0)).unwrap().until, None);
    }

    #[test]
    fn a_drain_is_for_the_worker_that_runs_and_not_for_its_successor() {
        let worker = WorkerId::parse("w1").unwrap();
        let (by, why) = ("ann".to_owned(), "deploy".to_owned());
        let drain = ControlEntry::Drain { worker: worker.clone(), by, why, since: at(100), until: at(900) };
        let control = Control::new(1, [drain], at(100));
        assert!(control.drains(&worker, at(99)));
        assert!(!control.drains(&worker, at(100)));
        assert!(!control.drains(&WorkerId::parse("w2").unwrap(), at(0)));
    }

    fn limit(rate: Option<u32>, concurrency: Option<u32>, since: i64, until: Option<i64>) -> ControlEntry {
        let rate = rate.and_then(|rate| RateLimit::new(rate, 1).ok());
        let change = LimitChange { rate, concurrency: concurrency.and_then(Positive::new) };
        let (limit, by, why) = ("server:crm".to_owned(), "ann".to_owned(), "load".to_owned());
        ControlEntry::Limit { limit, change, by, why, since: at(since), until: until.map(at) }
    }

    #[test]
    fn the_parts_of_a_limit_are_set_and_end_each_for_itself() {
        let entries = [limit(Some(20), None, 0, Some(5_000)), limit(None, Some(5), 1, None)];
        let keys: Vec<_> = entries.iter().map(ControlEntry::key).collect();
        assert_eq!(keys, ["limit#server:crm#rate", "limit#server:crm#concurrency"]);
        let crm = LimitKey::named("server:crm").unwrap();
        let of = |now| Control::new(1, entries.clone(), at(now)).limit(&crm, at(now));
        assert_eq!(
            of(4_999),
            LimitChange { rate: RateLimit::new(20, 1).ok(), concurrency: Positive::new(5) }
        );
        assert_eq!(of(5_000), LimitChange { rate: None, concurrency: Positive::new(5) });
        let read_before = Control::new(1, entries.clone(), at(0));
        assert_eq!(read_before.next_end(at(0)), Some(at(5_000)));
        assert_eq!(read_before.limit(&crm, at(5_000)), of(5_000), "it ends also where it is not read again");
    }

    #[test]
    fn a_limit_is_found_whichever_way_its_entry_names_the_tenant() {
        let entry = |limit: &str, rate| {
            let ControlEntry::Limit { change, by, why, since, until, .. } =
                self::limit(Some(rate), None, 0, None)
            else {
                panic!("it is a limit");
            };
            ControlEntry::Limit { limit: limit.to_owned(), change, by, why, since, until }
        };
        let entries = [
            entry("tenant:org/team", 1),
            entry("tenant:a%252Fb", 2),
            entry("tenant:org/team/tool:crm/find", 3),
            entry("none:x", 4),
        ];
        let control = Control::new(1, entries, at(0));
        let rate =
            |name: &str| control.limit(&LimitKey::named(name).unwrap(), at(0)).rate.map(RateLimit::count);
        assert_eq!(rate("tenant:org/team"), Some(1));
        assert_eq!(rate("tenant:a%2Fb"), Some(2));
        assert_eq!(rate("tenant:org/team/tool:crm/find"), Some(3));
        assert_eq!((control.limits.len(), control.unreadable), (3, 1));
    }

    #[test]
    fn of_two_changes_of_one_part_the_later_holds_in_any_order() {
        let entries = [limit(Some(20), Some(9), 0, None), limit(None, Some(5), 1, None)];
        for entries in [entries.clone().to_vec(), entries.into_iter().rev().collect()] {
            let crm = LimitKey::named("server:crm").unwrap();
            let change = Control::new(1, entries, at(2)).limit(&crm, at(2));
            assert_eq!((change.rate, change.concurrency), (RateLimit::new(20, 1).ok(), Positive::new(5)));
        }
    }

    #[test]
    fn a_paused_queue_is_named_by_its_priority() {
        let control = Control::new(1, [pause("queue:low", None, None)], at(0));
        assert!(control.pause_of_queue("low", at(0)).is_some());
        assert!(control.pause_of_queue("high", at(0)).is_none());
    }
}
