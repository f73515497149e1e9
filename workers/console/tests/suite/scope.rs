//! A token of one tenant sees that tenant: in pages, in lists, and by addresses that somebody else wrote.

use serde_json::json;
use toolfleet_core::control::{ControlEntry, Switch, SwitchTarget};
use toolfleet_core::ids::Tenant;

use crate::rig::{ACME, ALL, Browser, Rig};

/// Calls, a group, dead letters and pauses of two tenants.
async fn of_two_tenants(rig: &Rig) {
    for tenant in ["acme", "globex"] {
        rig.call(tenant, &format!("ok-{tenant}"), "echo", json!({"text": format!("secret of {tenant}")}))
            .await;
        rig.call(tenant, &format!("bad-{tenant}"), "fail", json!({})).await;
        let body = json!({"v": 1, "call_id": format!("member-{tenant}"), "tenant": tenant, "tool": "echo", "arguments": {"text": "x"},
            "group": {"id": "turn-1", "index": 0, "size": 1}});
        let request = toolfleet_core::request::CallRequest::decode(&body.to_string()).unwrap();
        let client = rig.client();
        let message = client.send(&request, None).await.unwrap();
        client.wait_for_sent(&request, &message, std::time::Duration::from_secs(30)).await.unwrap();
        let letter = rig.request(tenant, &format!("dead-{tenant}"), "echo", json!({"text": "x"}));
        rig.aws
            .queue(rig.local.queue_url("toolfleet-calls-dlq"))
            .send(letter_of(&letter.encode()))
            .await
            .unwrap();
        let pause = ControlEntry::Pause(Switch {
            target: SwitchTarget::Tenant(Tenant::parse(tenant).unwrap()),
            tenant: None,
            by: "ann".to_owned(),
            why: format!("reason of {tenant}"),
            since: crate::rig::ago(std::time::Duration::from_secs(60)),
            until: None,
        });
        client.controls().set(&pause).await.unwrap();
    }
}

fn letter_of(body: &str) -> toolfleet_aws::queue::Outgoing {
    toolfleet_aws::queue::Outgoing { body: body.to_owned(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_another_tenant_does_not_exist() {
    let rig = Rig::start().await;
    of_two_tenants(&rig).await;
    let console = rig.console().await;
    let (bob, ann) = (Browser::logged_in(&console, ACME).await, Browser::logged_in(&console, ALL).await);
    for path in [
        "/call?tenant=globex&call=ok-globex",
        "/call?tenant=globex&call=none",
        "/history?tenant=globex",
        "/history?tenant=_fleet",
        "/history?tenant=_undecodable",
        "/group?tenant=globex&group=turn-1",
        "/dead-letters?tenant=globex",
    ] {
        let refused = bob.get(path).await;
        assert_eq!(refused.status, 404, "{path}");
        refused.hides(&["secret of", "turn-1<", "dead-globex"]);
        assert_eq!(ann.get(path).await.status, 200, "{path}");
    }
    // What a call waits for is told without the numbers of the fleet, which are those of all tenants.
    let fleet = ["toolfleet-calls", " slots", " visible"];
    for path in ["/call?tenant=acme&call=none", "/call?tenant=acme&call=none&look=1"] {
        bob.page(path).await.shows(&["a worker that receives it"]).hides(&fleet);
        ann.page(path).await.shows(&["toolfleet-calls"]);
    }
    for path in ["/servers", "/server?id=main", "/tools", "/tool?name=echo"] {
        assert_eq!(bob.get(path).await.status, 403, "{path}");
    }
    ann.page("/call?tenant=globex&call=ok-globex").await.shows(&["secret of globex"]);
    bob.page("/call?tenant=acme&call=ok-acme").await.shows(&["secret of acme", "succeeded"]);
    bob.page("/history").await.shows(&["ok-acme", "bad-acme"]).hides(&["globex"]);
    bob.page("/group?tenant=acme&group=turn-1").await.shows(&["member-acme", "succeeded"]).hides(&["globex"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_all_tenants_have_ones_own_alone() {
    let rig = Rig::start().await;
    of_two_tenants(&rig).await;
    let console = rig.console().await;
    let (bob, ann) = (Browser::logged_in(&console, ACME).await, Browser::logged_in(&console, ALL).await);
    ann.page("/dead-letters").await.shows(&["dead-acme", "dead-globex"]);
    bob.page("/dead-letters").await.shows(&["dead-acme"]).hides(&["globex"]);
    ann.page_with("/", "reason of globex").await.shows(&["reason of acme", "toolfleet-calls"]);
    let own = bob.page_with("/", "%</dd>").await;
    own.shows(&["reason of acme", "bad-acme", "toolfleet history --failed --since 1d --limit 10 acme"]);
    own.hides(&["globex", "toolfleet-calls", "href=\"/servers\"", "href=\"/tools\""]);
}
