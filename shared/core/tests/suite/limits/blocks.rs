//! Blocks: workers that give out permits of a large limit themselves never open more requests than the limit, whatever write is late or lost,
//! whoever dies, and whenever the limit changes.

use proptest::prelude::*;
use toolfleet_core::limits::block::{BlockWish, LocalBlock};
use toolfleet_core::limits::holders::{Change, Granted, HolderRow, HolderTable, Take};
use toolfleet_core::state_table::{Decision, StateTable as _};
use toolfleet_core::time::Timestamp;

const SKEW_MS: u64 = 2_000;
const WORKERS: usize = 3;
/// The longest request, the spare time of a lease, the clock that is ahead, and the skew that the row allows for.
const LONGEST_LEASE_MS: u64 = 8_000 + 10_000 + 2 * SKEW_MS;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_795_000_000_000).plus_ms(ms)
}

#[derive(Debug, Clone)]
enum Act {
    /// The worker sends a write for its block, which lasts for a request of that time.
    Ask {
        worker: usize,
        hold_ms: u64,
        alive: u32,
        waiting: usize,
    },
    /// The worker asks for an entry, as of a limit that is too small for blocks, and gives back what it does not use of its block.
    Enter {
        worker: usize,
        hold_ms: u64,
    },
    /// That write ends. Its effect, and its answer, may be lost.
    Land {
        worker: usize,
        effect: bool,
        answer: bool,
    },
    /// The worker opens a request.
    Start {
        worker: usize,
        hold_ms: u64,
    },
    /// The oldest request of the worker is answered.
    Answer {
        worker: usize,
    },
    /// The worker dies. Its requests go on until their time-outs; another worker takes its place.
    Die {
        worker: usize,
    },
    /// An operator changes the limit, which all workers know at once.
    Limit(u32),
    Pass {
        ms: u64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let worker = || 0..WORKERS;
    prop_oneof![
        5 => (worker(), 1..8_000_u64, 1..5_u32, 0..6_usize)
            .prop_map(|(worker, hold_ms, alive, waiting)| Act::Ask { worker, hold_ms, alive, waiting }),
        3 => (worker(), 1..8_000_u64).prop_map(|(worker, hold_ms)| Act::Enter { worker, hold_ms }),
        6 => (worker(), prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(worker, effect, answer)| Act::Land { worker, effect, answer }),
        12 => (worker(), 1..8_000_u64).prop_map(|(worker, hold_ms)| Act::Start { worker, hold_ms }),
        6 => worker().prop_map(|worker| Act::Answer { worker }),
        1 => worker().prop_map(|worker| Act::Die { worker }),
        1 => (2..16_u32).prop_map(Act::Limit),
        4 => (0..6_000_u64).prop_map(|ms| Act::Pass { ms }),
    ]
}

struct Worker {
    name: String,
    /// How far its clock is ahead.
    ahead_ms: u64,
    block: LocalBlock,
    /// The write under way.
    asked: Option<Change>,
    /// The requests of the block, by their ends in true time.
    open: Vec<u64>,
    /// The requests with entries, by their ends in true time.
    entries: Vec<(String, u64)>,
}

struct Fleet {
    row: Option<HolderRow>,
    limit: u32,
    now_ms: u64,
    workers: Vec<Worker>,
    /// Requests of workers that have died.
    orphans: Vec<u64>,
    born: usize,
    entered: usize,
}

impl Fleet {
    fn new(limit: u32, ahead_ms: [u64; WORKERS]) -> Self {
        let mut fleet = Self {
            row: None,
            limit,
            now_ms: 0,
            workers: Vec::new(),
            orphans: Vec::new(),
            born: 0,
            entered: 0,
        };
        for ahead_ms in ahead_ms {
            let worker = fleet.new_worker(ahead_ms);
            fleet.workers.push(worker);
        }
        fleet
    }

    fn new_worker(&mut self, ahead_ms: u64) -> Worker {
        self.born += 1;
        let name = format!("w{}", self.born);
        Worker {
            name,
            ahead_ms,
            block: LocalBlock::default(),
            asked: None,
            open: Vec::new(),
            entries: Vec::new(),
        }
    }

    fn open(&self) -> usize {
        let of_worker = |worker: &Worker| worker.open.len() + worker.entries.len();
        self.orphans.len() + self.workers.iter().map(of_worker).sum::<usize>()
    }

    /// Does what happens; whether a request was opened.
    fn act(&mut self, act: Act) -> bool {
        let (now_ms, limit) = (self.now_ms, self.limit);
        match act {
            Act::Ask { worker, hold_ms, alive, waiting } => {
                let worker = &mut self.workers[worker];
                if worker.asked.is_none() {
                    let now = at(now_ms + worker.ahead_ms);
                    let wish = BlockWish { workers: alive, until: now.plus_ms(hold_ms) };
                    let block = Some((worker.name.clone(), worker.block.ask(limit, wish, waiting)));
                    let (release, take) = (Vec::new(), Vec::new());
                    let skew_ms = SKEW_MS;
                    worker.asked = Some(Change { now, limit, skew_ms, release, held_ms: None, take, block });
                }
            }
            Act::Enter { worker, hold_ms } => self.enter(worker, hold_ms),
            Act::Land { worker, effect, answer } => {
                let Some(change) = self.workers[worker].asked.take() else { return false };
                return effect && self.land(worker, &change, answer);
            }
            Act::Start { worker, hold_ms } => {
                let worker = &mut self.workers[worker];
                let until = at(now_ms + worker.ahead_ms + hold_ms);
                if worker.block.take(limit, until) {
                    worker.open.push(now_ms + hold_ms);
                    return true;
                }
            }
            Act::Answer { worker } => {
                self.workers[worker].end_oldest();
                let entry = self.workers[worker].entries.pop();
                self.release(entry.into_iter().map(|(name, _)| name).collect());
            }
            Act::Die { worker } => {
                let new = self.new_worker(self.workers[worker].ahead_ms);
                let dead = std::mem::replace(&mut self.workers[worker], new);
                self.orphans.extend(dead.open);
                self.orphans.extend(dead.entries.into_iter().map(|(_, end_ms)| end_ms));
                // A write that was under way takes effect now.
                if let Some(change) = dead.asked {
                    self.write(&change);
                }
            }
            Act::Limit(limit) => self.limit = limit,
            Act::Pass { ms } => {
                self.now_ms += ms;
                self.orphans.retain(|end_ms| *end_ms > self.now_ms);
                for worker in &mut self.workers {
                    while worker.open.iter().any(|end_ms| *end_ms <= self.now_ms) {
                        worker.end_oldest();
                    }
                    worker.entries.retain(|(_, end_ms)| *end_ms > self.now_ms);
                }
            }
        }
        false
    }

    fn enter(&mut self, worker: usize, hold_ms: u64) {
        let (now_ms, limit) = (self.now_ms, self.limit);
        self.entered += 1;
        let name = format!("e{}", self.entered);
        let worker = &mut self.workers[worker];
        if worker.asked.is_none() {
            let now = at(now_ms + worker.ahead_ms);
            let take = vec![Take { name, until: now.plus_ms(hold_ms), replaces: None }];
            let block = worker.block.give_back().map(|block| (worker.name.clone(), block));
            let (release, skew_ms) = (Vec::new(), SKEW_MS);
            worker.asked = Some(Change { now, limit, skew_ms, release, held_ms: None, take, block });
        }
    }

    /// The write takes effect; whether its answer opened a request of an entry. An entry without an answer is released.
    fn land(&mut self, worker: usize, change: &Change, answer: bool) -> bool {
        let granted = self.write(change);
        let worker = &mut self.workers[worker];
        if let Some((_, block)) = change.block.as_ref().filter(|_| answer) {
            worker.block.leased(&granted, change.limit, block.until);
        }
        let Some(take) = change.take.first() else { return false };
        let counts = take.until > at(self.now_ms + worker.ahead_ms);
        // A limit that was lowered since the write is known to the worker.
        let is_open = answer && granted.taken == [true] && counts && change.limit <= self.limit;
        if is_open {
            let end_ms = self.now_ms + take.until.ms_since(at(self.now_ms + worker.ahead_ms));
            worker.entries.push((take.name.clone(), end_ms));
        } else {
            self.release(vec![take.name.clone()]);
        }
        is_open
    }

    fn release(&mut self, release: Vec<String>) {
        let (now, limit, skew_ms) = (at(self.now_ms), self.limit, SKEW_MS);
        self.write(&Change { now, limit, skew_ms, release, held_ms: None, take: Vec::new(), block: None });
    }

    fn write(&mut self, change: &Change) -> Granted {
        match HolderTable::decide(self.row.as_ref(), change) {
            Decision::Write { row, then } => {
                self.row = Some(*row);
                then
            }
            Decision::Leave(granted) => granted,
        }
    }
}

impl Worker {
    fn end_oldest(&mut self) {
        let oldest = self.open.iter().enumerate().min_by_key(|(_, end_ms)| **end_ms).map(|(index, _)| index);
        if let Some(oldest) = oldest {
            self.open.remove(oldest);
            self.block.leave();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn blocks_never_open_more_requests_than_the_limit(
        limit in 2..16_u32,
        ahead_ms in [0..SKEW_MS, 0..SKEW_MS, 0..SKEW_MS],
        acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut fleet = Fleet::new(limit, ahead_ms);
        for act in acts {
            let told = format!("{act:?}");
            if fleet.act(act) {
                let (open, limit) = (fleet.open(), fleet.limit as usize);
                prop_assert!(open <= limit, "{told} opens request {open} of {limit} at {} ms", fleet.now_ms);
            }
        }
        if fleet.born > WORKERS || fleet.now_ms > 0 {
            // What nobody gives back ends by itself: that of a dead worker, and of a request whose time is over.
            fleet.act(Act::Pass { ms: LONGEST_LEASE_MS });
        }
        // Once all requests are answered, and each worker has told so, an entry is free, however long the leases are.
        for worker in (0..WORKERS).chain(0..WORKERS) {
            fleet.act(Act::Land { worker, effect: false, answer: false });
            while fleet.workers[worker].open.len() + fleet.workers[worker].entries.len() > 0 {
                fleet.act(Act::Answer { worker });
            }
            fleet.act(Act::Enter { worker, hold_ms: 8_000 });
            let opened = fleet.act(Act::Land { worker, effect: true, answer: true });
            prop_assert!(opened || fleet.open() == fleet.limit as usize || worker + 1 < WORKERS);
        }
    }
}

#[test]
fn permits_of_a_block_are_used_within_its_lease_only() {
    let mut block = LocalBlock::default();
    assert!(!block.take(100, at(1_000)), "nothing is leased");
    block.leased(&Granted { block: 2, held: 2, ..Granted::default() }, 100, at(5_000));
    assert!(block.take(100, at(5_000)) && !block.take(100, at(5_001)) && block.take(100, at(1_000)));
    assert!(!block.take(100, at(1_000)), "both are used");
    block.leave();
    assert!(block.take(100, at(1_000)));
}

#[test]
fn a_block_grows_with_its_calls_and_loses_none_in_use() {
    let mut block = LocalBlock::default();
    let wish = |workers, ms| BlockWish { workers, until: at(ms) };
    let first = block.ask(100, wish(10, 1_000), 1);
    assert_eq!((first.permits, first.until), (3, at(11_000)));
    block.leased(&Granted { block: 10, held: 10, ..Granted::default() }, 100, at(11_000));
    (0..9).for_each(|_| assert!(block.take(100, at(1_000))));
    assert_eq!(block.ask(100, wish(50, 1_000), 0).permits, 9, "the share of 50 workers is 2");
}

#[test]
fn a_lease_lasts_no_longer_for_being_asked_for_often() {
    let mut block = LocalBlock::default();
    let mut lease = |until_ms| {
        let asked = block.ask(100, BlockWish { workers: 1, until: at(until_ms) }, 1);
        block.leased(
            &Granted { block: asked.permits, held: asked.permits, ..Granted::default() },
            100,
            asked.until,
        );
        asked.until
    };
    for _ in 0..20 {
        assert_eq!(lease(1_000), at(11_000));
    }
    assert_eq!(lease(500), at(11_000), "no lease is shortened");
    assert_eq!(lease(2_000), at(12_000));
}

#[test]
fn a_lowered_limit_holds_for_blocks_at_once() {
    let mut fleet = Fleet::new(15, [0; WORKERS]);
    let ask = |worker| Act::Ask { worker, hold_ms: 5_000, alive: 3, waiting: 5 };
    let land = |worker| Act::Land { worker, effect: true, answer: true };
    for worker in 0..WORKERS {
        fleet.act(ask(worker));
        fleet.act(land(worker));
        while fleet.act(Act::Start { worker, hold_ms: 4_000 }) {}
    }
    assert_eq!(fleet.open(), 15);
    fleet.act(Act::Limit(6));
    for _ in 0..12 {
        fleet.act(Act::Answer { worker: 0 });
        fleet.act(Act::Answer { worker: 1 });
        let started = (0..WORKERS).any(|worker| {
            fleet.act(ask(worker));
            fleet.act(land(worker));
            fleet.act(Act::Start { worker, hold_ms: 1_000 })
        });
        assert!(!started || fleet.open() <= 6, "{} open", fleet.open());
    }
    fleet.act(Act::Pass { ms: 4_000 });
    fleet.act(ask(2));
    fleet.act(land(2));
    assert!(fleet.act(Act::Start { worker: 2, hold_ms: 1_000 }), "calls start again when enough have ended");
}
