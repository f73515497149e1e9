//! What a page costs at most, in requests to the tables and in bytes, with 1,000 servers and much history. Counts, not clocks: they are the same
//! on every machine.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use toolfleet_aws::fleet::rollups::{RolledUpTool, ToolRollup};
use toolfleet_client::{Tables, system_clock};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::fleet::{BreakerState, FleetSummary, Minute, Rollup, ServerSummary, WorkerRow};
use toolfleet_core::ids::{Nonce, ServerId, WorkerId};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::time::Timestamp;

use crate::rig::{ALL, Browser, Rig, client, connect, counting};

/// Rollups of so many tools, each of a server of its own, with so many calls that end differently within an hour.
pub(crate) async fn roll_up(rig: &Rig, tools: usize, calls: usize) {
    let fleet = rig.aws.fleet(&Tables::with_prefix("toolfleet"));
    let now = Minute::of(system_clock()());
    let kinds = [OutcomeKind::Succeeded, OutcomeKind::ToolError, OutcomeKind::TimedOut];
    let (mut names, mut rollups) = (Vec::new(), Vec::new());
    for number in 0..tools {
        let (tool, server) =
            (format!("t-{number:04}"), Some(ServerId::parse(format!("s-{number:04}")).unwrap()));
        names.push(RolledUpTool { tool: tool.clone(), server: server.clone() });
        let mut rollup = Rollup::default();
        for (call, kind) in (0..calls).zip(kinds.into_iter().cycle()) {
            rollup.add(kind, 1, Some(10_000 + u64::try_from(call).unwrap() * 1_000));
        }
        rollups.push(ToolRollup { tool, server, minute: now, rollup });
    }
    fleet.put_rolled_up_tools(now, &names).await.unwrap();
    fleet.put_rollups(&Nonce::parse("boot").unwrap(), &rollups).await.unwrap();
}

/// A summary with the servers that it holds at most, half of them in trouble.
fn summary(servers: usize, now: Timestamp) -> FleetSummary {
    let row: WorkerRow = serde_json::from_value(json!({
        "id": "w-1", "boot": "b", "version": "0.1.0", "started_at": now, "reported_at": now, "beat_ms": 5000, "slots": 64, "busy": 7,
    }))
    .unwrap();
    let mut summary = FleetSummary::of(&[row], now, WorkerId::parse("w-1").unwrap());
    for number in 0..servers {
        let mut server = ServerSummary::default();
        server.seen.attempts = 100;
        server.seen.latency.add(20_000);
        if number % 2 == 0 {
            server.seen.breaker = BreakerState::Open;
            server.seen.failures = 50;
            server.seen.last_failure = Some("connection refused (os error 111)".to_owned());
        }
        summary.servers.insert(ServerId::parse(format!("s-{number:04}")).unwrap(), server);
    }
    summary
}

/// Records of a tenant, so many in each of so many hours.
async fn remember(rig: &Rig, hours: usize, in_hour: usize) {
    let history = rig.aws.history(&Tables::with_prefix("toolfleet"));
    let now = system_clock()();
    let record = |hour: usize, number: usize| -> AuditRecord {
        let back = i64::try_from(hour * 3_600_000 + number * 1_000).unwrap();
        let at = Timestamp::from_ms(now.as_ms() - back);
        let failed = number.is_multiple_of(5);
        serde_json::from_value(json!({
            "kind": "call", "tenant": "acme", "call_id": format!("h{hour}-{number}"), "at": at, "digest": "d", "attempts": 1, "fence": 1,
            "outcome": if failed { "failed" } else { "succeeded" }, "tool": format!("t-{:04}", number % 7), "session": "s-1",
            "enqueued_at": at, "started_at": at,
        }))
        .unwrap()
    };
    for hour in 0..hours {
        let all: Vec<_> = (0..in_hour).map(|number| record(hour, number)).collect();
        for some in all.chunks(200) {
            let stored = some.iter().map(|record| history.insert(record, now.plus_ms(3_600_000)));
            join_all(stored).await.into_iter().for_each(|new| assert!(new.unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_costs_the_same_however_large_the_fleet_is() {
    let rig = Rig::without_worker().await;
    let now = system_clock()();
    roll_up(&rig, 1_000, 30).await;
    remember(&rig, 30, 200).await;
    let fleet = rig.aws.fleet(&Tables::with_prefix("toolfleet"));
    // As a worker adds them up: all hours but this one and the one before.
    let hour = Minute::of(now).hour();
    join_all((2..200).map(|back| fleet.put_compacted(hour.plus(-60 * back))))
        .await
        .into_iter()
        .for_each(Result::unwrap);
    let (boot, until) = (Nonce::parse("boot").unwrap(), now.plus_ms(60_000));
    assert!(fleet.lease_summary(&boot, now, until).await.unwrap());
    assert!(fleet.put_summary(&summary(300, now), &boot, until).await.unwrap());
    let (proxy, counts) = counting(&rig.local).await;
    let console = rig.console_of(client(&connect(&rig.local, &proxy).await, &rig.local), false).await;
    let browser = Browser::logged_in(&console, ALL).await;
    // The most requests to the tables, and the most bytes of the page.
    let pages = [
        ("/", 18, 30_000),
        ("/servers", 8, 60_000),
        ("/servers?page=20", 8, 60_000),
        ("/servers?q=s-09", 8, 60_000),
        ("/server?id=s-0001&last=7d", 30, 30_000),
        ("/tools", 100, 80_000),
        ("/tools?last=7d&page=50", 340, 80_000),
        ("/tool?name=t-0001&last=1h", 14, 40_000),
        ("/tool?name=t-0001&last=7d", 26, 50_000),
        ("/history?tenant=acme&since=60d", 8, 60_000),
        ("/history?tenant=acme&since=60d&failed=1", 8, 60_000),
        ("/history?tenant=acme&since=60d&session=s-1", 4, 60_000),
        ("/history?tenant=acme&since=60d&tool=t-0001", 8, 60_000),
        ("/history?tenant=acme&since=60d&tool=none", 12, 60_000),
        ("/history?tenant=acme&since=60d&failed=1&tool=none", 60, 60_000),
        ("/history?tenant=acme&since=60d&session=s-1&tool=none", 30, 60_000),
        ("/history?tenant=acme&since=60d&session=s-1&failed=1&tool=none", 30, 60_000),
        ("/history?tenant=nobody&since=60d", 96, 20_000),
        ("/history?tenant=nobody&since=60d&failed=1", 64, 20_000),
        ("/history?tenant=nobody&since=60d&session=s-1&tool=none", 2, 20_000),
        ("/call?tenant=acme&call=h0-0", 30, 20_000),
        ("/call?tenant=acme&call=none", 30, 20_000),
        ("/call?tenant=nobody&call=none", 100, 20_000),
        ("/dead-letters", 2, 20_000),
        ("/group?tenant=acme&group=none", 2, 20_000),
    ];
    let mut cost = BTreeMap::new();
    for (path, most_requests, most_bytes) in pages {
        counts.take();
        let page = browser.page(path).await;
        let by_operation = counts.by_operation();
        let requests = counts.take();
        assert!(requests <= most_requests, "{path}: {requests} requests, {by_operation:?}");
        assert!(page.page.len() <= most_bytes, "{path}: {} bytes", page.page.len());
        assert!(!by_operation.keys().any(|operation| operation.ends_with("Scan")), "{by_operation:?}");
        cost.insert(path, (requests, page.page.len()));
    }
    println!("{cost:#?}");
    // What fits nowhere ends with a part of the period, what was looked at, and the way on.
    let part = browser.page("/history?tenant=acme&since=60d&tool=none").await;
    part.shows(&["No such record was found yet", "Looked at 1,0", "Go on from here", "rel=\"next\""]);
    // A call without a row may have ended at any time: a page that stops says so, and going on finds it.
    let mut path = "/call?tenant=acme&call=h29-150".to_owned();
    let mut pages = 0;
    let found = loop {
        let page = browser.page(&path).await;
        page.shows(&["of a call without a row", "Looked at ", "toolfleet history --since 60d acme h29-150"]);
        pages += 1;
        if page.page.contains("aria-label=\"Records\"") {
            break page;
        }
        page.shows(&["None found yet.", "a page reads no more"]);
        let next = page.page.split("rel=\"next\" href=\"").nth(1).unwrap();
        path = next.split('"').next().unwrap().replace("&#38;", "&");
    };
    // Hours that are read at once, and of which one is too large, are read again: at most as many records as there are.
    assert!(pages > 1 && pages <= 12, "6,000 records, a thousand a page: {pages}");
    found.shows(&["h29-150"]);
    // Every record is reached by going on, in a number of pages.
    let mut path = "/history?tenant=acme&since=60d&tool=t-0001".to_owned();
    let mut found = 0;
    for _ in 0..200 {
        let page = browser.page(&path).await;
        found += page.page.matches("/call?tenant=acme&#38;call=").count();
        let Some(next) = page.page.split("rel=\"next\" href=\"").nth(1) else { break };
        path = next.split('"').next().unwrap().replace("&#38;", "&");
    }
    let expected = 30 * (0..200).filter(|number| number % 7 == 1).count();
    assert_eq!(found, expected);
}

/// The times of pages over 1,000 servers and as many records as can be written in two minutes. By hand, because times are those of a machine:
/// `suite budget::times --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints times, and takes minutes"]
async fn times_of_a_large_fleet() {
    let rig = Rig::without_worker().await;
    let now = system_clock()();
    roll_up(&rig, 1_000, 30).await;
    let fleet = rig.aws.fleet(&Tables::with_prefix("toolfleet"));
    let (boot, until) = (Nonce::parse("boot").unwrap(), now.plus_ms(600_000));
    assert!(fleet.lease_summary(&boot, now, until).await.unwrap());
    assert!(fleet.put_summary(&summary(300, now), &boot, until).await.unwrap());
    let hour = Minute::of(now).hour();
    join_all((2..200).map(|back| fleet.put_compacted(hour.plus(-60 * back))))
        .await
        .into_iter()
        .for_each(Result::unwrap);
    let (end, mut records) = (tokio::time::Instant::now() + Duration::from_secs(120), 0);
    while tokio::time::Instant::now() < end {
        remember(&rig, 10, 1_000).await;
        // The next round has other instants, so its records are others.
        records += 10_000;
    }
    println!("1,000 servers and tools, {records} records of one tenant");
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    for path in [
        "/",
        "/servers",
        "/servers?q=s-09",
        "/server?id=s-0001&last=7d",
        "/tools",
        "/tools?last=7d&page=50",
        "/tool?name=t-0001&last=7d",
        "/history?tenant=acme&since=60d",
        "/history?tenant=acme&since=60d&failed=1",
        "/history?tenant=acme&since=60d&session=s-1",
        "/history?tenant=acme&since=60d&tool=t-0001",
        "/call?tenant=acme&call=h0-0",
        "/dead-letters",
    ] {
        let mut times = Vec::new();
        for _ in 0..7 {
            let begun = tokio::time::Instant::now();
            browser.page(path).await;
            times.push(begun.elapsed().as_millis());
        }
        times.sort_unstable();
        println!("{:>5} ms median, {:>5} ms most   {path}", times[3], times[6]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_keep_no_visitor_out() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let rig = Rig::without_worker().await;
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    let host = console.url.trim_start_matches("http://");
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
        // The answer to `Expect` says that the form is waited for.
        let head = format!(
            "POST /login HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.unwrap();
        slow.push((String::from_utf8(begin.to_vec()).unwrap(), stream));
    }
    assert!(slow[..16].iter().all(|(begin, _)| begin == "HTTP/1.1 100"), "{slow:?}");
    assert!(slow[16..].iter().any(|(begin, _)| begin == "HTTP/1.1 503"), "{slow:?}");
    browser.page("/").await;
    assert_eq!(Browser::new(&console).get("/login").await.status, 200);
    let mut rest = Vec::new();
    slow[0].1.read_to_end(&mut rest).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).contains(" 408 "), "a form that does not come is not waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_pages_at_once_are_refused_and_not_queued() {
    let rig = Rig::without_worker().await;
    // A table that answers nothing: pages wait until their time is over.
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let console = rig.console_of(client(&connect(&rig.local, &url).await, &rig.local), false).await;
    let browser = Browser::logged_in(&console, ALL).await;
    let waiting: Vec<_> = (0..32)
        .map(|_| {
            let browser = browser.clone();
            tokio::spawn(async move { browser.get("/history?tenant=acme").await.status })
        })
        .collect();
    let refused = loop {
        let answered =
            tokio::time::timeout(Duration::from_millis(200), browser.get("/history?tenant=acme")).await;
        if let Ok(answered) = answered {
            break answered;
        }
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!(browser.get("/health").await.status, 200);
    waiting.into_iter().for_each(|one| one.abort());
}
