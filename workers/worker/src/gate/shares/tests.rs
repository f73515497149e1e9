//! Tests of the shares: what is left to others, who waits how long, and who is next.

use std::collections::BTreeMap;

use super::*;

fn server(id: &str) -> ServerId {
    ServerId::parse(id).unwrap()
}

fn tenant(id: &str) -> Tenant {
    Tenant::parse(id).unwrap()
}

async fn enter(shares: &Shares, server: &ServerId, tenant: &Tenant) -> Option<Seat> {
    shares.enter(server, tenant, 1, Priority::Normal).await.ok()
}

async fn enter_many(shares: &Shares, server: &ServerId, tenant: &Tenant, count: usize) -> Vec<Seat> {
    let mut seats = Vec::new();
    for _ in 0..count {
        seats.extend(enter(shares, server, tenant).await);
    }
    seats
}

#[tokio::test(start_paused = true)]
async fn who_has_its_share_leaves_room_to_others_of_its_server_and_its_tenant() {
    let shares = Shares::new(3, 1);
    let (crm, erp, acme, globex) = (server("crm"), server("erp"), tenant("acme"), tenant("globex"));
    let first = enter(&shares, &crm, &acme).await.unwrap();
    let _rest = enter_many(&shares, &crm, &acme, 2).await;
    assert!(enter(&shares, &crm, &acme).await.is_none(), "the tenant has its share of the server");
    let other_tenant = enter(&shares, &crm, &globex).await.unwrap();
    assert!(enter(&shares, &crm, &globex).await.is_none(), "the server has its share");
    assert!(enter(&shares, &erp, &acme).await.is_none(), "the last free slot is for who is below its share");
    let below = enter(&shares, &erp, &globex).await.unwrap();
    assert!(enter(&shares, &server("hr"), &acme).await.is_none(), "the tenant has its share");
    drop((first, other_tenant, below));
    let _again = enter(&shares, &crm, &acme).await.unwrap();
    assert!(enter(&shares, &crm, &acme).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_tenant_at_its_share_of_one_server_has_room_at_another() {
    let shares = Shares::new(8, 1);
    let (crm, erp, acme, globex) = (server("crm"), server("erp"), tenant("acme"), tenant("globex"));
    let other = enter(&shares, &erp, &globex).await.unwrap();
    let _own = enter_many(&shares, &crm, &acme, 8).await;
    assert!(enter(&shares, &crm, &acme).await.is_none());
    assert!(
        enter(&shares, &erp, &acme).await.is_none(),
        "one slot stays free beside the nine that are taken"
    );
    drop(other);
    let _last = enter(&shares, &erp, &acme).await.unwrap();
    assert!(enter(&shares, &server("hr"), &acme).await.is_none(), "the tenant has its share");
    assert!(enter(&shares, &server("hr"), &globex).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_reserve_is_used_by_a_tenant_alone_and_kept_for_a_minute_after_another() {
    let shares = Shares::new(8, 2);
    let (servers, acme) = ([server("crm"), server("erp")], tenant("acme"));
    let mut alone = enter_many(&shares, &servers[0], &acme, 8).await;
    alone.extend(enter_many(&shares, &servers[1], &acme, 4).await);
    assert_eq!(alone.len(), 12, "no other tenant was seen: all slots are for it");
    drop(alone);
    drop(enter(&shares, &servers[0], &tenant("globex")).await.unwrap());
    let mut held = enter_many(&shares, &servers[0], &acme, 8).await;
    held.extend(enter_many(&shares, &servers[1], &acme, 4).await);
    assert_eq!(held.len(), 10, "two stay free for globex");
    tokio::time::advance(Duration::from_secs(61)).await;
    held.extend(enter_many(&shares, &servers[1], &acme, 4).await);
    assert_eq!(held.len(), 12, "globex has not come for a minute");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_below_its_share_has_the_reserve_at_once() {
    let shares = Shares::new(16, 2);
    let (crm, erp) = (server("crm"), server("erp"));
    let mut others = enter_many(&shares, &erp, &tenant("globex"), 1).await;
    let _flood = enter_many(&shares, &crm, &tenant("acme"), 20).await;
    let begun = Instant::now();
    others.extend(enter_many(&shares, &erp, &tenant("globex"), 1).await);
    others.extend(enter_many(&shares, &erp, &tenant("initech"), 2).await);
    assert_eq!((others.len(), begun.elapsed()), (4, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_server_keeps_seats_for_tenants_below_their_share_of_it() {
    let shares = Arc::new(Shares::new(16, 2));
    let (crm, acme, globex) = (server("crm"), tenant("acme"), tenant("globex"));
    let _others = enter_many(&shares, &crm, &globex, 2).await;
    let mut flood = enter_many(&shares, &crm, &acme, 18).await;
    assert_eq!(flood.len(), 14, "of the server's 18, two stay free beside the 16 that are taken");
    let _others = enter_many(&shares, &crm, &globex, 2).await;
    // The server is full. globex holds less of it than acme, so it waits for the next seat, however short its patience would be.
    let waiting = enter(&shares, &crm, &globex);
    let ends = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        flood.pop();
    };
    assert!(tokio::join!(waiting, ends).0.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_weight_makes_a_share_larger() {
    let shares = Shares::new(8, 1);
    let (crm, erp, acme, globex) = (server("crm"), server("erp"), tenant("acme"), tenant("globex"));
    let mut held = Vec::new();
    for _ in 0..8 {
        held.extend(shares.enter(&crm, &acme, 3, Priority::Normal).await.ok());
    }
    held.extend(enter_many(&shares, &erp, &globex, 1).await);
    assert_eq!(held.len(), 9);
    // Nine of ten are taken. By weight acme has 6.75 of nine, so its next call is above its share, and two more of globex are not.
    assert!(shares.enter(&erp, &acme, 3, Priority::Normal).await.is_err());
    assert!(shares.enter(&erp, &globex, 1, Priority::Normal).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_fleets_figures_say_who_is_above_its_share_and_who_was_seen() {
    let shares = Shares::new(8, 1);
    let (crm, erp, acme, globex) = (server("crm"), server("erp"), tenant("acme"), tenant("globex"));
    let slot_ms = BTreeMap::from([(acme.clone(), 900_000), (globex.clone(), 80_000)]);
    shares.take_fleet_use(TenantUse { slot_ms, capacity_slot_ms: 900_000 });
    let _held = enter_many(&shares, &crm, &acme, 8).await;
    let _ninth = enter(&shares, &erp, &acme).await.unwrap();
    assert!(enter(&shares, &erp, &acme).await.is_none(), "globex was seen elsewhere in the fleet");
    assert!(enter(&shares, &erp, &globex).await.is_some());
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(
        enter(&shares, &erp, &acme).await.is_some(),
        "the figures are old, and globex has not come for a minute"
    );
}

#[tokio::test(start_paused = true)]
async fn of_calls_that_wait_the_tenant_with_the_least_slot_time_is_next() {
    let shares = Arc::new(Shares::new(2, 1));
    let (crm, acme, globex) = (server("crm"), tenant("acme"), tenant("globex"));
    let two = enter_many(&shares, &crm, &acme, 2).await;
    let one = enter(&shares, &crm, &globex).await.unwrap();
    tokio::time::advance(Duration::from_millis(10)).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    // acme has used twice as much as globex. initech has used nothing and joins at the floor, which is the virtual time of globex.
    let waiting: Vec<_> = ["acme", "globex", "initech"]
        .map(|name| {
            let (shares, order, crm) = (shares.clone(), order.clone(), crm.clone());
            tokio::spawn(async move {
                let seat = shares.enter(&crm, &tenant(name), 1, Priority::Normal).await;
                order.lock().unwrap().push((name, seat.is_ok()));
                tokio::time::sleep(Duration::from_millis(1)).await;
            })
        })
        .into();
    while shares.inner.lock().sizes().3 < 3 {
        tokio::task::yield_now().await;
    }
    drop((two, one));
    for task in waiting {
        task.await.unwrap();
    }
    let order = order.lock().unwrap().clone();
    assert_eq!(order, [("globex", true), ("initech", true), ("acme", true)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_gets_the_seat_that_comes_free_while_it_waits() {
    let shares = Arc::new(Shares::new(1, 1));
    let (crm, acme) = (server("crm"), tenant("acme"));
    let seat = enter(&shares, &crm, &acme).await.unwrap();
    let waiting = enter(&shares, &crm, &acme);
    let free = async {
        tokio::time::sleep(FIRST_WAIT / 2).await;
        drop(seat);
    };
    assert!(tokio::join!(waiting, free).0.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_seat_given_to_a_call_that_went_away_is_given_back() {
    let shares = Arc::new(Shares::new(1, 1));
    let (crm, acme) = (server("crm"), tenant("acme"));
    let seat = enter(&shares, &crm, &acme).await.unwrap();
    {
        let mut waiting = Box::pin(shares.enter(&crm, &acme, 1, Priority::Normal));
        assert!(futures::poll!(&mut waiting).is_pending());
        // It is given to the call that waits, which is dropped before it takes it.
        drop(seat);
    }
    assert_eq!(shares.inner.lock().sizes().2, 0);
    assert!(enter(&shares, &crm, &acme).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn looks_for_others_become_rarer_while_none_comes() {
    let shares = Arc::new(Shares::new(1, 1));
    let (crm, acme) = (server("crm"), tenant("acme"));
    let seat = enter(&shares, &crm, &acme).await.unwrap();
    // One call waits in the line, again and again.
    let first = tokio::spawn({
        let (shares, crm, acme) = (shares.clone(), crm.clone(), acme.clone());
        async move {
            loop {
                if let Some(seat) = enter(&shares, &crm, &acme).await {
                    return seat;
                }
            }
        }
    });
    tokio::task::yield_now().await;
    let mut waits = Vec::new();
    for _ in 0..(7 * PATIENCE) {
        let begun = Instant::now();
        assert!(enter(&shares, &crm, &acme).await.is_none());
        waits.push(begun.elapsed());
    }
    let short = waits.iter().filter(|wait| **wait == FIRST_WAIT).count();
    assert!(short >= 20, "a backlog is passed soon: {waits:?}");
    assert_eq!(waits.last(), Some(&LONGEST_WAIT));
    drop(seat);
    drop(first.await.unwrap());
    assert!(enter(&shares, &crm, &acme).await.is_some());
    assert_eq!(shares.refused.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_tenant_alone_wait_in_line_for_its_next_seats() {
    let shares = Arc::new(Shares::new(16, 2));
    let (crm, acme) = (server("crm"), tenant("acme"));
    let mut held = enter_many(&shares, &crm, &acme, 16).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (shares, crm, acme) = (shares.clone(), crm.clone(), acme.clone());
        waiting.spawn(async move { shares.enter(&crm, &acme, 1, Priority::Normal).await });
    }
    tokio::time::sleep(Duration::from_millis(1_900)).await;
    held.truncate(14);
    let seats = waiting.join_all().await;
    let back: Vec<_> = seats.iter().filter_map(|seat| seat.as_ref().err()).collect();
    assert_eq!(
        back.len(),
        2,
        "as many as the reserve wait; the others leave room for calls to other servers"
    );
    assert!(back.iter().all(|no_seat| no_seat.alone));
}

/// Complaint: invisible messages make a tenant noisy.
#[tokio::test(start_paused = true)]
async fn a_call_waits_hidden_for_two_seconds_at_most() {
    let shares = Arc::new(Shares::new(8, 1));
    let (crm, acme) = (server("crm"), tenant("acme"));
    drop(enter(&shares, &crm, &tenant("globex")).await);
    let _flood = enter_many(&shares, &crm, &acme, 8).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (shares, crm, acme) = (shares.clone(), crm.clone(), acme.clone());
        waiting.spawn(async move {
            let begun = Instant::now();
            let refused = shares.enter(&crm, &acme, 1, Priority::Normal).await.unwrap_err();
            (begun.elapsed(), refused)
        });
    }
    let waits = waiting.join_all().await;
    assert!(waits.iter().all(|(wait, _)| *wait <= LONGEST_WAIT), "{waits:?}");
    let at_once = waits.iter().filter(|(wait, _)| wait.is_zero()).count();
    assert_eq!(at_once, 9, "one waits for a seat, the others make room for calls of other tenants");
    assert!(
        waits[0].1.detail.contains("tenant acme holds 8 of this worker's 10 slots"),
        "{}",
        waits[0].1.detail
    );
}

#[tokio::test(start_paused = true)]
async fn receives_are_not_paced_unless_a_tenant_fills_the_worker() {
    let shares = Shares::new(8, 1);
    let (crm, acme) = (server("crm"), tenant("acme"));
    let _alone = enter_many(&shares, &crm, &acme, 9).await;
    let begun = Instant::now();
    assert_eq!(shares.pace(10, Priority::Normal).await, 10, "no other tenant was seen");
    drop(enter(&shares, &crm, &tenant("globex")).await);
    assert!(enter(&shares, &crm, &acme).await.is_none());
    let full_since = begun.elapsed();
    assert_eq!(
        (shares.pace(10, Priority::Normal).await, full_since),
        (1, LONGEST_WAIT),
        "one message, to look for others"
    );
    assert!(!begun.elapsed().is_zero());
}

#[tokio::test]
async fn names_that_nobody_uses_are_forgotten() {
    let shares = Shares::new(1, 1);
    for n in 0..3_000 {
        enter(&shares, &server("crm"), &tenant(&format!("t{n}"))).await.unwrap();
    }
    let (tenants, servers, held, line) = shares.inner.lock().sizes();
    assert!(tenants <= 1_000);
    assert_eq!((servers, held, line), (0, 0, 0));
}
