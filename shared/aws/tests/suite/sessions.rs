//! Sessions and their MCP sessions: grants change only from what was seen, and of two workers one registers.

use futures::future::join_all;
use toolfleet_aws::Tables;
use toolfleet_aws::mcp_sessions::McpSession;
use toolfleet_aws::sessions::{SessionRow, Sessions};
use toolfleet_core::ids::{ServerId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::{START_MS, World, world};

fn now() -> Timestamp {
    Timestamp::from_ms(i64::try_from(START_MS).unwrap())
}

fn table(world: &World) -> Sessions {
    world.aws.sessions(&Tables::with_prefix("toolfleet"))
}

fn acme() -> Tenant {
    Tenant::parse("acme").unwrap()
}

fn id(text: &str) -> SessionId {
    SessionId::parse(text).unwrap()
}

fn opened(server: &str, id: &str) -> McpSession {
    McpSession {
        server: ServerId::parse(server).unwrap(),
        id: id.into(),
        version: "2025-11-25".into(),
        address: "here".into(),
        cookies: "AWSALB=x; b=y".into(),
        opened_at: now(),
    }
}

#[tokio::test]
async fn grants_are_replaced_only_where_those_seen_still_stand() {
    let world = world().await;
    let sessions = table(&world);
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let row = SessionRow { expires_at: now().plus_ms(1_000), grants: words(&["a"]), user: None };
    assert!(
        !sessions.regrant(&acme(), &id("s"), &words(&["a"]), &words(&["b"])).await.unwrap(),
        "none there"
    );
    sessions.create(&acme(), &id("s"), &row).await.unwrap();
    assert!(sessions.regrant(&acme(), &id("s"), &words(&["a"]), &words(&["a", "b"])).await.unwrap());
    assert!(
        !sessions.regrant(&acme(), &id("s"), &words(&["a"]), &words(&["c"])).await.unwrap(),
        "a late one"
    );
    let stands = sessions.read(&acme(), &id("s")).await.unwrap().unwrap();
    assert_eq!(stands, SessionRow { grants: words(&["a", "b"]), ..row });
}

#[tokio::test]
async fn an_end_is_set_only_for_a_session_that_is_there_and_the_ended_ones_are_told_apart() {
    let world = world().await;
    let sessions = table(&world);
    assert!(!sessions.end(&acme(), &id("none"), now()).await.unwrap());
    for name in ["early", "late"] {
        let row = SessionRow { expires_at: now().plus_ms(60_000), grants: vec!["*".into()], user: None };
        sessions.create(&acme(), &id(name), &row).await.unwrap();
    }
    assert!(sessions.end(&acme(), &id("early"), now().plus_ms(5)).await.unwrap());
    let keys: Vec<_> = ["early", "late", "none"].map(|name| (acme(), id(name))).into();
    let ended = sessions.ended_of(&keys, now().plus_ms(5)).await.unwrap();
    assert_eq!(ended, [(acme(), id("early")), (acme(), id("none"))]);
}

#[tokio::test]
async fn of_many_who_open_an_mcp_session_at_once_one_registers_and_all_learn_of_it() {
    let world = world().await;
    let sessions = table(&world);
    let rivals: Vec<_> = (0..12).map(|n| opened("crm", &format!("mcp-{n}"))).collect();
    let (acme, talk) = (acme(), id("talk"));
    let stand =
        join_all(rivals.iter().map(|rival| sessions.register_mcp_session(&acme, &talk, rival, None))).await;
    let first = stand[0].as_ref().unwrap();
    assert!(stand.iter().all(|s| s.as_ref().unwrap() == first), "{stand:?}");
    assert_eq!(sessions.mcp_sessions(&acme, &talk).await.unwrap().iter().collect::<Vec<_>>(), [first]);
    // A session's own row is none of them.
    assert!(sessions.read(&acme, &talk).await.unwrap().is_none());
}

#[tokio::test]
async fn a_lost_mcp_session_is_replaced_once_and_an_ended_one_is_forgotten_only_while_it_stands() {
    let world = world().await;
    let sessions = table(&world);
    let (acme, talk) = (acme(), id("talk"));
    let register = async |opened: &McpSession, lost: Option<&str>| {
        sessions.register_mcp_session(&acme, &talk, opened, lost).await.unwrap().id
    };
    assert_eq!(register(&opened("crm", "one"), None).await, "one");
    assert_eq!(register(&opened("crm", "two"), Some("one")).await, "two");
    assert_eq!(register(&opened("crm", "three"), Some("one")).await, "two", "the successor stands");
    assert_eq!(register(&opened("erp", "other"), None).await, "other", "each server has its own");
    let moved = McpSession { address: "there".into(), ..opened("crm", "four") };
    assert_eq!(register(&moved, None).await, "four", "an id never goes to another address");

    sessions.forget_mcp_session(&acme, &talk, &opened("crm", "two")).await.unwrap();
    assert_eq!(sessions.mcp_sessions(&acme, &talk).await.unwrap().len(), 2, "another one stands by now");
    sessions.forget_mcp_session(&acme, &talk, &moved).await.unwrap();
    assert_eq!(sessions.mcp_sessions(&acme, &talk).await.unwrap(), [opened("erp", "other")]);
}
