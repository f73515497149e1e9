//! Which rollups are due: those of minutes that have ended, and of minutes that have changed since they were written.
//!
//! The busiest tools of a minute have rollups of their own, the others one together. A tool keeps its place for the whole minute, so that a
//! rollup that is written again counts nothing twice.

use std::collections::BTreeMap;

use toolfleet_core::fleet::{Minute, OTHER_TOOLS, Rollup, busiest};
use toolfleet_core::ids::ServerId;
use toolfleet_core::time::Timestamp;

use super::lock::lock;
use super::tools::{KEPT_MINUTES, Tools};

/// The most tools with rollups of their own in one minute.
pub(crate) const BUSIEST: usize = 200;

/// A rollup to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DueRollup {
    /// The tool, or the others together.
    pub(crate) tool: String,
    pub(crate) server: Option<ServerId>,
    pub(crate) minute: Minute,
    pub(crate) rollup: Rollup,
}

/// In which minutes which tools have rollups of their own; the others of that minute are counted together.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<Minute, BTreeMap<String, bool>>);

/// The rollups to be written, and what they hold of each tool.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) rollups: Vec<DueRollup>,
    calls: Vec<(String, Minute, u64)>,
}

/// The minutes whose rollups are given up, and how many calls they lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GivenUp {
    pub(crate) from: Minute,
    pub(crate) to: Minute,
    pub(crate) calls: u64,
}

/// The tools of a minute: their server, their calls, and whether these have changed since they were written.
type ToolsOfMinute = BTreeMap<String, (Option<ServerId>, Rollup, bool)>;

impl Tools {
    /// The rollups of the minutes before `until` that are due.
    pub(crate) fn due(&self, places: &mut Places, until: Minute) -> Due {
        let mut changed: BTreeMap<Minute, bool> = BTreeMap::new();
        let mut minutes: BTreeMap<Minute, ToolsOfMinute> = BTreeMap::new();
        for tool in self.all() {
            for one in lock(&tool.minutes).iter().filter(|one| one.minute < until) {
                *changed.entry(one.minute).or_default() |= one.pending() > 0;
                let entry = (tool.server.clone(), one.rollup.clone(), one.pending() > 0);
                minutes.entry(one.minute).or_default().insert(tool.name.clone(), entry);
            }
        }
        let mut due = Due::default();
        for (minute, tools) in minutes {
            if changed.get(&minute).copied().unwrap_or(false) {
                due.add_minute(places.of(minute, &tools), minute, tools);
            }
        }
        let oldest = until.plus(-KEPT_MINUTES - 1);
        // As long as any minute that may be written again, which is kept whole.
        places.forget(self.pending().map_or(oldest, |(first, _)| oldest.min(first)));
        due
    }

    /// The rollups were written.
    pub(crate) fn written(&self, due: &Due) {
        for tool in self.all() {
            let mut minutes = lock(&tool.minutes);
            for (_, minute, calls) in due.calls.iter().filter(|(name, ..)| *name == tool.name) {
                if let Some(one) = minutes.iter_mut().find(|one| one.minute == *minute) {
                    one.written = one.written.max(*calls);
                }
            }
        }
    }

    /// The first minute with calls that are in no written rollup, and how many these are.
    pub(crate) fn pending(&self) -> Option<(Minute, u64)> {
        let mut pending: Option<(Minute, u64)> = None;
        for tool in self.all() {
            for one in lock(&tool.minutes).iter().filter(|one| one.pending() > 0) {
                let (first, calls) = pending.unwrap_or((one.minute, 0));
                pending = Some((first.min(one.minute), calls.saturating_add(one.pending())));
            }
        }
        pending
    }

    /// Forgets what can no longer be written: minutes older than `minutes` ago. Returns what that loses.
    pub(crate) fn give_up(&self, now: Timestamp, minutes: i64) -> Option<GivenUp> {
        let oldest = Minute::of(now).plus(-minutes);
        let mut given_up: Option<GivenUp> = None;
        for tool in self.all() {
            lock(&tool.minutes).retain(|one| {
                let keep = one.minute >= oldest;
                if !keep && one.pending() > 0 {
                    let lost = given_up.get_or_insert(GivenUp { from: one.minute, to: one.minute, calls: 0 });
                    lost.from = lost.from.min(one.minute);
                    lost.to = lost.to.max(one.minute);
                    lost.calls = lost.calls.saturating_add(one.pending());
                }
                keep
            });
        }
        given_up
    }
}

impl Places {
    /// The places of the tools of a minute; new tools get one.
    fn of(&mut self, minute: Minute, tools: &ToolsOfMinute) -> &BTreeMap<String, bool> {
        let places = self.0.entry(minute).or_default();
        let mut new: BTreeMap<_, _> = tools
            .iter()
            .filter(|(name, _)| *name != OTHER_TOOLS && !places.contains_key(*name))
            .map(|(name, (_, rollup, _))| (name.clone(), rollup.calls.total()))
            .collect();
        let free = BUSIEST.saturating_sub(places.values().filter(|own| **own).count());
        for (name, _) in busiest(&mut new, free, |calls| *calls) {
            places.insert(name, false);
        }
        places.extend(new.into_keys().map(|name| (name, true)));
        places
    }

    fn forget(&mut self, before: Minute) {
        self.0.retain(|minute, _| *minute >= before);
    }
}

impl Due {
    fn add_minute(&mut self, places: &BTreeMap<String, bool>, minute: Minute, tools: ToolsOfMinute) {
        let (mut others, mut others_changed) = (Rollup::default(), false);
        for (tool, (server, rollup, changed)) in tools {
            if changed {
                self.calls.push((tool.clone(), minute, rollup.calls.total()));
            }
            if places.get(&tool).copied().unwrap_or(false) {
                if changed {
                    self.rollups.push(DueRollup { tool, server, minute, rollup });
                }
            } else {
                others.merge(&rollup);
                others_changed |= changed;
            }
        }
        if others_changed {
            let tool = OTHER_TOOLS.to_owned();
            self.rollups.push(DueRollup { tool, server: None, minute, rollup: others });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use toolfleet_catalog::Catalog;
    use toolfleet_core::ids::ToolId;
    use toolfleet_core::outcome::OutcomeKind;
    use toolfleet_core::request::Target;

    use super::super::tools::Ended;
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_ms(minute * 60_000)
    }

    fn catalog(tools: usize) -> Catalog {
        let tools: Vec<_> = (0..tools).map(|n| json!({"id": format!("t{n}"), "server": "s"})).collect();
        let catalog = json!({
            "servers": [{"id": "s", "url": "https://mcp.example", "discover": true}], "tools": tools,
            "tenants": {"senders": {"AKIATEST": ["acme"]}, "fleet": ["AKIATEST"]},
        });
        Catalog::parse(&catalog.to_string()).unwrap()
    }

    fn end(tools: &Tools, catalog: &Catalog, tool: &str, minute: i64, now: i64) {
        let target = Target::Tool { id: ToolId::parse(tool).unwrap(), function: None };
        let (outcome, duration_us) = (OutcomeKind::Succeeded, Some(1_000));
        tools.ended(
            catalog,
            &target,
            Ended {
                outcome,
                attempts: 1,
                duration_us,
                cached: None,
                batched: None,
                at: at(minute),
                now: at(now),
            },
        );
    }

    fn shown(due: &Due) -> Vec<String> {
        let mut lines: Vec<_> =
            due.rollups.iter().map(|one| format!("{} {}", one.tool, one.rollup.calls.total())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_minute_is_due_when_it_has_ended_and_again_when_it_has_changed() {
        let (tools, catalog, mut places) = (Tools::default(), catalog(2), Places::default());
        end(&tools, &catalog, "t0", 7, 7);
        assert!(shown(&tools.due(&mut places, Minute::of(at(7)))).is_empty());
        let first = tools.due(&mut places, Minute::of(at(8)));
        assert_eq!(shown(&first), ["t0 1"]);
        assert_eq!(tools.pending(), Some((Minute::of(at(7)), 1)));
        end(&tools, &catalog, "t0", 7, 8);
        tools.written(&first);
        assert_eq!(tools.pending(), Some((Minute::of(at(7)), 1)), "what ended in between is not in it");
        let second = tools.due(&mut places, Minute::of(at(8)));
        assert_eq!(shown(&second), ["t0 2"], "the whole minute, so that nothing counts twice");
        tools.written(&second);
        assert_eq!(tools.pending(), None);
        assert!(shown(&tools.due(&mut places, Minute::of(at(8)))).is_empty());
    }

    #[test]
    fn the_busiest_tools_have_rollups_of_their_own_and_keep_them() {
        let (tools, catalog, mut places) = (Tools::default(), catalog(BUSIEST + 2), Places::default());
        for n in 0..BUSIEST + 1 {
            end(&tools, &catalog, &format!("t{n}"), 7, 7);
        }
        (0..3).for_each(|_| end(&tools, &catalog, "unknown", 7, 7));
        end(&tools, &catalog, "t200", 7, 7);
        let first = tools.due(&mut places, Minute::of(at(8)));
        assert_eq!(first.rollups.len(), BUSIEST + 1);
        let of = |due: &Due, tool: &str| {
            due.rollups.iter().find(|one| one.tool == tool).map(|one| one.rollup.calls.total())
        };
        assert_eq!((of(&first, "t200"), of(&first, OTHER_TOOLS)), (Some(2), Some(4)));
        tools.written(&first);
        // One of the others becomes the busiest, a new tool comes: both stay with the others.
        let other = (0..BUSIEST).map(|n| format!("t{n}")).find(|tool| of(&first, tool).is_none()).unwrap();
        (0..9).for_each(|_| end(&tools, &catalog, &other, 7, 8));
        end(&tools, &catalog, "t201", 7, 8);
        let second = tools.due(&mut places, Minute::of(at(8)));
        assert_eq!(shown(&second), [format!("{OTHER_TOOLS} 14")]);
        let total: u64 = first
            .rollups
            .iter()
            .filter(|one| one.tool != OTHER_TOOLS)
            .map(|one| one.rollup.calls.total())
            .sum();
        assert_eq!(total + 14, 201 + 3 + 1 + 9 + 1);
        // The table cannot be written for a while: whoever has a place has it when the minute is written in the end.
        tools.forget(at(30));
        assert!(!tools.due(&mut places, Minute::of(at(30))).rollups.is_empty());
        let late = tools.due(&mut places, Minute::of(at(31)));
        assert_eq!(shown(&late), [format!("{OTHER_TOOLS} 14")]);
    }

    #[test]
    fn a_call_that_is_stored_very_late_counts_in_the_current_minute() {
        let (tools, catalog, mut places) = (Tools::default(), catalog(1), Places::default());
        end(&tools, &catalog, "t0", 7, 7);
        let first = tools.due(&mut places, Minute::of(at(8)));
        tools.written(&first);
        tools.forget(at(30));
        end(&tools, &catalog, "t0", 7, 30);
        let late = tools.due(&mut places, Minute::of(at(31)));
        assert_eq!(late.rollups[0].minute, Minute::of(at(30)), "the rollup of minute 7 is not replaced");
    }

    #[test]
    fn what_cannot_be_written_is_kept_for_a_while() {
        let (tools, catalog, mut places) = (Tools::default(), catalog(2), Places::default());
        end(&tools, &catalog, "t0", 7, 7);
        tools.written(&tools.due(&mut places, Minute::of(at(8))));
        end(&tools, &catalog, "t1", 7, 8);
        tools.forget(at(40));
        assert_eq!(tools.pending(), Some((Minute::of(at(7)), 1)));
        let seven = Minute::of(at(7));
        assert_eq!(tools.give_up(at(68), 60), Some(GivenUp { from: seven, to: seven, calls: 1 }));
        assert_eq!(tools.pending(), None);
        tools.forget(at(90));
        assert_eq!(tools.all().len(), 1, "only the others together are left");
    }
}
