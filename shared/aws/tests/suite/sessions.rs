//! Sessions and their MCP sessions: a row changes only as it was seen, and of two workers one registers.

use futures::future::join_all;
use toolfleet_aws::sessions::Sessions;
use toolfleet_aws::{Applied, Store as _, Swap, Tables, apply};
use toolfleet_core::ids::{ServerId, SessionId, Tenant};
use toolfleet_core::server_session::ServerSession;
use toolfleet_core::session::{SessionEvent, SessionRejection, SessionRow};
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

fn opened(server: &str, id: &str) -> ServerSession {
    ServerSession {
        server: ServerId::parse(server).unwrap(),
        id: id.into(),
        version: "2025-11-25".into(),
        address: "here".into(),
        cookies: "AWSALB=x; b=y".into(),
        opened_at: now(),
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn open(grants: &[&str]) -> SessionRow {
    SessionRow { expires_at: now().plus_ms(60_000), grants: words(grants), user: None }
}

fn grant(add: &[&str]) -> SessionEvent {
    SessionEvent::Grant { add: words(add), remove: Vec::new(), now: now() }
}

fn expire(at: Timestamp) -> SessionEvent {
    SessionEvent::Expire { at, now: now() }
}

#[tokio::test]
async fn a_session_is_replaced_only_where_the_row_seen_is_stored() {
    let world = world().await;
    let sessions = table(&world);
    let (acme, s) = (acme(), id("s"));
    let row = sessions.row(&acme, &s);
    let found = async |seen: &SessionRow, new: &SessionRow| match row.swap(Some(seen), new).await.unwrap() {
        Swap::Found(found) => found.map(|row| *row),
        Swap::Stored => panic!("{new:?} was stored"),
    };
    assert_eq!(found(&open(&["a"]), &open(&["b"])).await, None, "none there");
    sessions.create(&acme, &s, &open(&["a"])).await.unwrap();
    assert!(matches!(row.swap(Some(&open(&["a"])), &open(&["a", "b"])).await.unwrap(), Swap::Stored));
    assert_eq!(found(&open(&["a"]), &open(&["c"])).await, Some(open(&["a", "b"])), "a late one");
    let other_end = SessionRow { expires_at: now(), ..open(&["a", "b"]) };
    assert_eq!(found(&other_end, &open(&["c"])).await, Some(open(&["a", "b"])), "another end was seen");
    assert!(matches!(row.swap(None, &open(&["c"])).await.unwrap(), Swap::Found(Some(_))), "it exists");
    assert_eq!(sessions.read(&acme, &s).await.unwrap(), Some(open(&["a", "b"])));
}

#[tokio::test]
async fn concurrent_grants_are_all_kept() {
    let world = world().await;
    let sessions = table(&world);
    let (acme, s) = (acme(), id("s"));
    sessions.create(&acme, &s, &open(&["a"])).await.unwrap();
    let names: Vec<_> = (0..6).map(|n| format!("t{n}")).collect();
    let events: Vec<_> = names.iter().map(|name| grant(&[name.as_str()])).collect();
    for applied in join_all(events.iter().map(|event| sessions.apply(&acme, &s, event))).await {
        assert!(matches!(applied.unwrap(), Applied::Stored { .. }));
    }
    let mut grants = sessions.read(&acme, &s).await.unwrap().unwrap().grants;
    grants.sort();
    assert_eq!(grants, [words(&["a"]), names].concat());
}

#[tokio::test]
async fn a_revocation_is_final_for_whoever_saw_the_session_open() {
    let world = world().await;
    let sessions = table(&world);
    let (acme, s) = (acme(), id("s"));
    sessions.create(&acme, &s, &open(&["a"])).await.unwrap();
    let seen = sessions.read(&acme, &s).await.unwrap();
    sessions.revoke(&acme, &s, now()).await.unwrap();
    for event in [expire(now().plus_ms(90_000)), grant(&["b"])] {
        let applied = apply(&sessions.row(&acme, &s), seen.as_ref(), &event).await.unwrap();
        let Applied::Rejected { rejection, .. } = applied else { panic!("{event:?} was stored") };
        assert_eq!(rejection, SessionRejection::Ended(now()), "{event:?}");
    }
    assert_eq!(sessions.read(&acme, &s).await.unwrap().unwrap().expires_at, now());
}

#[tokio::test]
async fn only_a_session_that_exists_gets_an_end() {
    let world = world().await;
    let sessions = table(&world);
    let unknown = sessions.apply(&acme(), &id("none"), &expire(now().plus_ms(5))).await.unwrap();
    assert!(matches!(unknown, Applied::Rejected { row: None, rejection: SessionRejection::Unknown }));
    for name in ["early", "late"] {
        sessions.create(&acme(), &id(name), &open(&["*"])).await.unwrap();
    }
    let ended = sessions.apply(&acme(), &id("early"), &expire(now().plus_ms(5))).await.unwrap();
    assert!(matches!(ended, Applied::Stored { .. }));
    let keys: Vec<_> = ["early", "late", "none"].map(|name| (acme(), id(name))).into();
    let ended = sessions.ended_of(&keys, now().plus_ms(5)).await.unwrap();
    assert_eq!(ended, [(acme(), id("early")), (acme(), id("none"))]);
}

#[tokio::test]
async fn of_many_who_open_an_mcp_session_at_once_one_registers() {
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
async fn a_lost_mcp_session_is_replaced_once_and_an_ended_one_removed() {
    let world = world().await;
    let sessions = table(&world);
    let (acme, talk) = (acme(), id("talk"));
    let register = async |opened: &ServerSession, lost: Option<&str>| {
        sessions.register_mcp_session(&acme, &talk, opened, lost).await.unwrap().id
    };
    assert_eq!(register(&opened("crm", "one"), None).await, "one");
    assert_eq!(register(&opened("crm", "two"), Some("one")).await, "two");
    assert_eq!(register(&opened("crm", "three"), Some("one")).await, "two", "the successor is registered");
    assert_eq!(register(&opened("erp", "other"), None).await, "other", "each server has its own");
    let moved = ServerSession { address: "there".into(), ..opened("crm", "four") };
    assert_eq!(register(&moved, None).await, "four", "an id never goes to another address");

    sessions.forget_mcp_session(&acme, &talk, &opened("crm", "two")).await.unwrap();
    assert_eq!(sessions.mcp_sessions(&acme, &talk).await.unwrap().len(), 2, "another one is registered");
    sessions.forget_mcp_session(&acme, &talk, &moved).await.unwrap();
    assert_eq!(sessions.mcp_sessions(&acme, &talk).await.unwrap(), [opened("erp", "other")]);
}
