//! Each page against a real fleet: what it shows, the command it names, and what it says when a part cannot be read.

use std::time::Duration;

use serde_json::json;
use toolfleet_core::control::{ControlEntry, Switch, SwitchTarget};
use toolfleet_core::ids::ServerId;
use toolfleet_core::request::CallRequest;

use crate::rig::{ALL, Browser, Rig, ago, client, connect};

#[tokio::test(flavor = "multi_thread")]
async fn now_shows_queues_workers_failures_and_pauses() {
    let rig = Rig::start().await;
    rig.call("acme", "c-1", "echo", json!({"text": "x"})).await;
    rig.call("acme", "c-2", "fail", json!({})).await;
    let pause = ControlEntry::Pause(Switch {
        target: SwitchTarget::Server(ServerId::parse("main").unwrap()),
        tenant: None,
        by: "ann".to_owned(),
        why: "it drops orders".to_owned(),
        since: ago(Duration::from_secs(60)),
        until: None,
    });
    rig.client().controls().set(&pause).await.unwrap();
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    let page = browser.page_with("/", "href=\"/tool?name=fail\"").await;
    page.shows(&[
        "toolfleet-calls",
        "running",
        "server:main paused by ann: it drops orders",
        "100.0 %",
        "All closed.",
    ]);
    assert_eq!(page.commands(), ["toolfleet status", "toolfleet workers", "toolfleet switches"]);
    page.shows(&["href=\"/?refresh=10\""]).hides(&["http-equiv"]);
    browser
        .page("/?refresh=10")
        .await
        .shows(&["http-equiv=\"refresh\" content=\"10\"", "href=\"/\">Stop that"]);
    browser.page("/?refresh=1").await.hides(&["http-equiv"]);

    let server = browser.page("/server?id=main").await;
    server.shows(&["Paused by ann", "closed", "last 5 min"]);
    assert_eq!(server.commands(), ["toolfleet servers", "toolfleet stats --server main --last 1h"]);
    let servers = browser.page("/servers").await;
    servers.shows(&["href=\"/server?id=main\"", "by ann", "1 to 1 of 1"]);
    browser.page("/servers?q=MAI").await.shows(&["1 to 1 of 1"]);
    browser.page("/servers?q=zzz").await.shows(&["No such server"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_show_counts_and_plots() {
    let rig = Rig::without_worker().await;
    crate::budget::roll_up(&rig, 1, 3).await;
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    let tools = browser.page("/tools?last=6h").await;
    tools.shows(&[
        "href=\"/tool?name=t-0000\"",
        "class=\"plot-good\" d=\"M",
        "class=\"plot-bad\" d=\"M",
        "3 calls: 1 succeeded, 1 tool errors, 1 failed otherwise",
    ]);
    assert_eq!(tools.commands(), ["toolfleet stats --last 6h"]);
    browser.page("/tools?q=S-0000").await.shows(&["t-0000"]);
    browser.page("/tools?q=none").await.shows(&["No call is counted"]);
    for last in ["1h", "6h", "1d", "7d"] {
        let tool = browser.page(&format!("/tool?name=t-0000&last={last}")).await;
        tool.shows(&[
            "href=\"/server?id=s-0000\"",
            "33.3 %",
            "timed_out",
            "class=\"line p95\" d=\"M",
            "<title>20",
            "aria-current=\"true\"",
        ]);
        assert_eq!(tool.commands(), [format!("toolfleet stats --tool t-0000 --last {last}")]);
    }
    browser.page("/server?id=s-0000&last=1d").await.shows(&["href=\"/tool?name=t-0000\""]);
    browser.page("/tool?name=none").await.shows(&["No call is counted in the last 1h"]);
    assert_eq!(browser.get("/tool?name=a%23b").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_searched_a_page_at_a_time() {
    let rig = Rig::start().await;
    for number in 0..53 {
        let tool = if number % 10 == 0 { "fail" } else { "echo" };
        let body = json!({"v": 1, "call_id": format!("c-{number:02}"), "tenant": "acme", "tool": tool, "arguments": {"text": "x"},
            "session": if number < 3 { "s-1" } else { "s-2" }});
        let request = toolfleet_core::request::CallRequest::decode(&body.to_string()).unwrap();
        let client = rig.client();
        let message = client.send(&request, None).await.unwrap();
        client.wait_for_sent(&request, &message, Duration::from_secs(30)).await.unwrap();
    }
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    let calls = |page: &str| -> Vec<String> {
        let parts = page.split("/call?tenant=acme&#38;call=").skip(1);
        parts.map(|part| part.split('"').next().unwrap().to_owned()).collect()
    };
    // The last record is stored a moment after its result.
    let newest = browser.page_with("/history?tenant=acme", "c-52").await;
    let older = newest
        .page
        .split("rel=\"next\" href=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&#38;", "&");
    let rest = browser.page(&older).await;
    rest.shows(&["These are all.", "rel=\"first\""]);
    let all: Vec<_> = calls(&newest.page).into_iter().chain(calls(&rest.page)).collect();
    let expected: std::collections::BTreeSet<_> = (0..53).map(|number| format!("c-{number:02}")).collect();
    assert_eq!((all.len(), all.iter().cloned().collect()), (53, expected), "each once");
    assert_eq!(newest.commands(), ["toolfleet history --since 1h acme"]);

    let failed = browser.page("/history?tenant=acme&failed=1&since=1d").await;
    assert_eq!(calls(&failed.page).len(), 6);
    assert_eq!(failed.commands(), ["toolfleet history --failed --since 1d acme"]);
    let session = browser.page("/history?tenant=acme&session=s-1").await;
    assert_eq!(calls(&session.page).len(), 3);
    assert_eq!(session.commands(), ["toolfleet history --session s-1 --since 1h acme"]);
    let both = browser.page("/history?tenant=acme&session=s-1&failed=1").await;
    assert_eq!(calls(&both.page), ["c-00"]);
    let tool = browser.page("/history?tenant=acme&tool=fail&since=7d").await;
    assert_eq!(calls(&tool.page).len(), 6);
    assert_eq!(tool.commands(), ["toolfleet history --tool fail --since 7d acme"]);
    let before = browser.page("/history?tenant=acme&since=60d&until=30d").await;
    assert_eq!(before.status, 200);
    before.shows(&["No such record"]);
    for wrong in ["since=x", "until=x", "after=x", "session=%23", "since=1h&until=1d"] {
        let refused = browser.get(&format!("/history?tenant=acme&{wrong}")).await;
        assert_eq!(refused.status, 400, "{wrong}");
        refused.shows(&["The parameter", "What to do:"]);
    }
    browser.page("/history").await.shows(&["Name a tenant."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_its_life_its_records_and_its_result() {
    let rig = Rig::start().await;
    rig.call("acme", "c-1", "echo", json!({"text": "hello of the tool"})).await;
    rig.call("acme", "c-2", "fail", json!({"pin": "argument 4711"})).await;
    rig.call("acme", "long", "echo", json!({"text": "x".repeat(50_000)})).await;
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    let ended = browser.page_with("/call?tenant=acme&call=c-1", "Attempts</th>").await;
    ended.shows(&[
        "hello of the tool",
        "succeeded",
        "First claimed",
        "before the first claim",
        "Ended",
        "href=\"/tool?name=echo\"",
    ]);
    assert_eq!(ended.commands(), ["toolfleet result acme c-1", "toolfleet history acme c-1"]);
    let failed = browser.page("/call?tenant=acme&call=c-2").await;
    failed.shows(&["tool_reported_error", "May have run</dt><dd>yes"]).hides(&["4711"]);
    browser.page("/call?tenant=acme&call=long").await.shows(&["Cut: the first 20000 of 50000 characters."]);

    // One whose server cannot be reached goes on waiting, and says for what.
    let request = rig.request("acme", "held", "away", json!({}));
    rig.client().send(&request, None).await.unwrap();
    let held = browser.page_with("/call?tenant=acme&call=held", "server_unreachable").await;
    held.shows(&["Waits for", "Next", "look=1", "Deadline"]);
    assert_eq!(held.commands(), ["toolfleet why acme held", "toolfleet history acme held"]);
    browser.page("/call?tenant=acme&call=none").await.shows(&["not_received", "look=1"].map(|_| "Not known"));
    browser.page("/call?tenant=acme&call=none&look=1").await.hides(&["look=1"]);
    assert_eq!(browser.get("/call?tenant=acme").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_shows_its_members() {
    let rig = Rig::start().await;
    for index in 0..2 {
        let body = json!({"v": 1, "call_id": format!("m-{index}"), "tenant": "acme", "tool": if index == 0 { "echo" } else { "fail" },
            "arguments": {"text": "x"}, "group": {"id": "turn-1", "index": index, "size": 2}});
        let request = toolfleet_core::request::CallRequest::decode(&body.to_string()).unwrap();
        rig.client().send(&request, None).await.unwrap();
    }
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    let page = browser.page_with("/group?tenant=acme&group=turn-1", "1 succeeded, 1 failed, 0 open").await;
    page.shows(&["/call?tenant=acme&#38;call=m-0", "tool_reported_error", "failed"]);
    assert_eq!(page.commands(), ["toolfleet group show acme turn-1"]);
    let second = browser.page("/group?tenant=acme&group=turn-1&round=2").await;
    second.shows(&["Nothing is known of it"]);
    assert_eq!(second.commands(), ["toolfleet group show --round 2 acme turn-1"]);
    browser.page("/group").await.shows(&["name=\"group\""]).hides(&["Nothing is known"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_and_stay_visible() {
    let rig = Rig::without_worker().await;
    let queue = rig.aws.queue(rig.local.queue_url("toolfleet-calls-dlq"));
    for number in 0..12 {
        let request = rig.request("acme", &format!("d-{number}"), "echo", json!({"pin": "argument 4711"}));
        let body = request.encode();
        queue.send(toolfleet_aws::queue::Outgoing { body, ..Default::default() }).await.unwrap();
    }
    // Only this one is claimed whatever the catalog says, which the console does not know.
    let claimed = rig.request("acme", "claimed", "echo", json!({}));
    let body = CallRequest { supersede: Some("k".to_owned()), ..claimed }.encode();
    queue.send(toolfleet_aws::queue::Outgoing { body, ..Default::default() }).await.unwrap();
    let body = "no request".to_owned();
    queue.send(toolfleet_aws::queue::Outgoing { body, ..Default::default() }).await.unwrap();
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    let page = browser.page("/dead-letters").await;
    page.shows(&["d-0<", "d-11<", "received_too_often", "1 to 14 of 14", "unreadable"])
        .hides(&["4711", "There may be more"]);
    assert_eq!(page.commands(), ["toolfleet dlq list"]);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (14, 0), "all are visible again");
    let classed = |class: &str| page.page.matches(&format!("<td class=\"tight\">{class}</td>")).count();
    assert_eq!((classed("safe"), classed("not_run")), (12, 1));
    assert_eq!(page.page.matches("<span class=\"warn\">yes</span>").count(), 12, "they may have run");
    // A second look within a moment reads the queue no second time.
    let received = |page: &str| page.matches("<td class=\"number\">1</td>").count();
    let again = browser.page("/dead-letters?tenant=acme&reason=received_too_often&tool=echo").await;
    assert_eq!((received(&page.page), received(&again.page)), (14, 13));
    assert_eq!(
        again.commands(),
        ["toolfleet dlq list --tenant acme --tool echo --reason received_too_often"]
    );
}

/// What pages say of a fleet that was read and has nothing. It is false of one that was not.
const EMPTY: [&str; 17] = [
    "No such record",
    "These are all",
    "has ever reported",
    "worker has reported",
    "All closed",
    "is closed",
    ">closed<",
    "No limit",
    ">None.<",
    "No call",
    "No message",
    "Nothing is paused",
    "No such server",
    "None yet",
    "nothing that the workers report",
    "No fresh report",
    "Start one",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_and_the_rest_is_shown() {
    let rig = Rig::without_worker().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let tables_away = client(&connect(&rig.local, &closed).await, &rig.local);
    let console = rig.console_of(tables_away, false).await;
    let browser = Browser::logged_in(&console, ALL).await;
    let now = browser.page("/").await;
    now.shows(&[
        "The summary of the workers could not be read",
        "What to do:",
        "toolfleet-calls-dlq",
        "toolfleet status",
    ]);
    for path in ["/", "/servers", "/server?id=main", "/tools", "/tool?name=echo", "/history?tenant=acme"] {
        let page = browser.page(path).await;
        page.shows(&["ot read.", "could not be read"]).hides(&EMPTY);
        if path != "/" {
            // The first page has the queues, which can be read.
            page.hides(&[">0<"]);
        }
    }
    let own = Browser::logged_in(&console, crate::rig::ACME).await;
    own.page("/").await.shows(&["<dd>not read</dd>", "last day: not read"]).hides(&EMPTY);
    let call = browser.get("/call?tenant=acme&call=c-1").await;
    assert_eq!(call.status, 502);
    call.shows(&["The call could not be read", "toolfleet doctor"]);
    browser.page("/history?tenant=acme").await.shows(&["The records could not be read"]);
    let unknown = browser.get("/none").await;
    assert_eq!(unknown.status, 404);
    unknown.shows(&["There is no such page."]);
}
