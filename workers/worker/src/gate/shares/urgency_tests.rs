//! Tests of the shares with calls of several priorities.

use std::collections::{BTreeMap, VecDeque};

use super::*;

fn names() -> (ServerId, Tenant) {
    (ServerId::parse("crm").unwrap(), Tenant::parse("acme").unwrap())
}

async fn enter(shares: &Shares, priority: Priority) -> Option<Seat> {
    let (server, tenant) = names();
    shares.enter(&server, &tenant, 1, priority).await.ok()
}

#[tokio::test(start_paused = true)]
async fn the_next_seat_of_a_tenant_goes_to_its_urgent_call() {
    let shares = Shares::new(2, 1);
    let first = enter(&shares, Priority::Low).await.unwrap();
    let _second = enter(&shares, Priority::Low).await.unwrap();
    let mut low = Box::pin(enter(&shares, Priority::Low));
    assert!(futures::poll!(&mut low).is_pending());
    let mut high = Box::pin(enter(&shares, Priority::High));
    assert!(futures::poll!(&mut high).is_pending());
    drop(first);
    assert!(futures::poll!(&mut low).is_pending(), "the low call came first and is less urgent");
    assert!(high.await.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_urgent_call_waits_for_a_seat_of_less_urgent_ones() {
    let shares = Shares::new(2, 1);
    let first = enter(&shares, Priority::Low).await.unwrap();
    let _second = enter(&shares, Priority::Low).await.unwrap();
    let free_it = async {
        tokio::time::sleep(Duration::from_millis(1_900)).await;
        drop(first);
    };
    let (seat, ()) = tokio::join!(enter(&shares, Priority::High), free_it);
    assert!(seat.is_some(), "it does not go back to the queue, where it would wait for seconds");
}

#[tokio::test(start_paused = true)]
async fn less_urgent_calls_leave_seats_free_while_urgent_ones_come() {
    let shares = Shares::new(8, 1);
    drop(enter(&shares, Priority::High).await.unwrap());
    let mut low = Vec::new();
    for _ in 0..8 {
        low.extend(enter(&shares, Priority::Low).await);
    }
    assert_eq!(low.len(), 7, "one seat of eight stays free");
    assert!(enter(&shares, Priority::High).await.is_some());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(enter(&shares, Priority::Low).await.is_some(), "no urgent call came for a minute");
}

#[tokio::test(start_paused = true)]
async fn a_single_seat_is_for_calls_of_every_priority() {
    let shares = Shares::new(1, 1);
    drop(enter(&shares, Priority::High).await.unwrap());
    assert!(enter(&shares, Priority::Low).await.is_some());
}

#[test]
fn all_priorities_of_a_tenant_share_its_seats_by_weight() {
    let (server, tenant) = names();
    let mut table = Table::new(16, 2);
    let mut held: VecDeque<Priority> = VecDeque::new();
    let mut waiting: BTreeMap<&str, (Priority, oneshot::Receiver<()>)> = BTreeMap::new();
    let mut started: BTreeMap<&str, u32> = BTreeMap::new();
    for step in 0..4_000_u64 {
        let now_ms = step * 30;
        for priority in Priority::ALL {
            let caller = Caller { server: &server, tenant: &tenant, priority };
            if waiting.contains_key(priority.as_str()) {
                continue;
            }
            if table.arrive(caller, 1, now_ms).is_ok() {
                held.push_back(priority);
            } else {
                let (sender, granted) = oneshot::channel();
                table.wait(caller, sender);
                waiting.insert(priority.as_str(), (priority, granted));
            }
        }
        if let Some(priority) = held.pop_front() {
            table.release(Caller { server: &server, tenant: &tenant, priority }, now_ms);
        }
        waiting.retain(|name, (priority, granted)| {
            let waits = granted.try_recv().is_err();
            if !waits {
                held.push_back(*priority);
                *started.entry(*name).or_default() += 1;
            }
            waits
        });
    }
    let all: u32 = started.values().sum();
    let share = |priority: Priority| f64::from(started[priority.as_str()]) / f64::from(all);
    assert!((0.66..0.76).contains(&share(Priority::High)), "{started:?}");
    assert!((0.19..0.28).contains(&share(Priority::Normal)), "{started:?}");
    assert!((0.05..0.08).contains(&share(Priority::Low)), "{started:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_low_priority_does_not_delay_receives_of_high() {
    let shares = Shares::new(8, 1);
    let (server, _) = names();
    let globex = Tenant::parse("globex").unwrap();
    drop(shares.enter(&server, &globex, 1, Priority::Low).await.unwrap());
    let mut low = Vec::new();
    for _ in 0..9 {
        low.extend(enter(&shares, Priority::Low).await);
    }
    assert_eq!(shares.pace(10, Priority::Low).await, 1, "the tenant fills the worker");
    assert!(shares.paces(Priority::Low) && !shares.paces(Priority::High), "it needs no second receiver");
    let begun = Instant::now();
    assert_eq!(shares.pace(10, Priority::High).await, 10);
    assert!(begun.elapsed().is_zero());
    shares.received(10, Some(0), Priority::High);
    assert!(shares.is_full(), "that no urgent call waits says nothing about the flood");
    shares.received(1, Some(0), Priority::Low);
    assert!(!shares.is_full());
}
