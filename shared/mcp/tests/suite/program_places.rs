//! How the programs of one server are shared and how its places are divided among tenants.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use toolfleet_core::ids::Tenant;
use toolfleet_mcp::{Endpoint, Fault, NotSentCause};
use toolfleet_testkit::ScriptedProgram;

use crate::programs::{call_until, client, client_with, endpoint, endpoint_of, program_of};
use crate::support::later;

fn of_tenant(endpoint: &Endpoint, tenant: &str) -> Endpoint {
    Endpoint { tenant: Some(Tenant::parse(tenant).unwrap()), ..endpoint.clone() }
}

#[tokio::test]
async fn conversations_of_a_tenant_share_a_program_that_keeps_nothing() {
    let (client, script) = (client(), ScriptedProgram::new(&[]));
    let acme = endpoint_of(program_of(&script).keeping_nothing());
    for n in 0..20 {
        call_until(&client, &acme, Some(&format!("talk-{n}")), later()).await.unwrap();
    }
    assert_eq!(script.count("start"), 1);
    call_until(&client, &of_tenant(&acme, "globex"), Some("talk-1"), later()).await.unwrap();
    assert_eq!(script.count("start"), 2, "tenants share none");
    client.close().await;
}

#[tokio::test]
async fn a_busy_shared_program_gets_others_beside_it_up_to_a_quarter_of_the_places() {
    let (client, script) = (client(), ScriptedProgram::new(&["works"]));
    let acme = endpoint_of(program_of(&script).keeping_nothing());
    for round in 0..4 {
        let names: Vec<_> = (0..40).map(|n| format!("talk-{round}-{n}")).collect();
        let calls = names.iter().map(|name| call_until(&client, &acme, Some(name), later()));
        assert!(join_all(calls).await.iter().all(Result::is_ok));
    }
    let starts = script.count("start");
    assert!((2..=4).contains(&starts), "{starts} of 16 places");
    client.close().await;
}

#[tokio::test]
async fn the_next_place_goes_to_the_waiting_tenant_that_has_the_fewest() {
    let (client, script) = (client_with(|options| options.max_children = 2), ScriptedProgram::new(&["hang"]));
    let (acme, globex) = (endpoint(&script), of_tenant(&endpoint(&script), "globex"));
    let begun = Instant::now();
    let until = |s| begun + Duration::from_secs(s);
    let late = async {
        script.wrote("call", 2).await;
        let acmes = call_until(&client, &acme, Some("third"), until(8));
        let globexs = call_until(&client, &globex, Some("first"), until(8));
        tokio::join!(acmes, globexs)
    };
    let (_, _, (acmes, globexs)) = tokio::join!(
        call_until(&client, &acme, Some("first"), until(3)),
        call_until(&client, &acme, Some("second"), until(20)),
        async {
            let late = late.await;
            // The second holds its place for all that time.
            client.close().await;
            late
        }
    );
    assert!(matches!(globexs, Err(Fault::AttemptTimeout { .. })), "it was sent: {globexs:?}");
    assert!(
        matches!(acmes, Err(Fault::NotSent { cause: NotSentCause::Time, .. })),
        "the tenant that has one waits: {acmes:?}"
    );
}
