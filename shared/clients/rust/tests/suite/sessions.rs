//! Sessions: create, show, grant, expire, revoke.

use futures::future::join_all;
use toolfleet_client::{ServerSession, SessionError};
use toolfleet_core::ids::{ServerId, SessionId, Tenant};
use toolfleet_core::request::User;

use crate::world::{World, acme};

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn id(text: &str) -> SessionId {
    SessionId::parse(text).unwrap()
}

#[tokio::test]
async fn a_session_is_created_once_and_shown_with_its_mcp_sessions() {
    let world = World::start().await;
    let sessions = world.client.sessions();
    let ends_at = world.now().plus_ms(60_000);
    let user = User { id: "ann".into(), kind: Some("staff".into()), roles: words("ops") };
    assert_eq!(sessions.show(&acme(), &id("s")).await.unwrap(), None);
    let grants = words("echo echo server/*");
    sessions.create_for(&acme(), &id("s"), &grants, ends_at, Some(user.clone())).await.unwrap();
    let again = sessions.create(&acme(), &id("s"), &words("*"), ends_at).await.unwrap_err();
    assert!(matches!(&again, SessionError::Exists(session) if *session == id("s")), "{again}");
    let opened = ServerSession {
        server: ServerId::parse("crm").unwrap(),
        id: "0123456789".into(),
        version: "2025-11-25".into(),
        address: "here".into(),
        cookies: String::new(),
        opened_at: world.now(),
    };
    let table = world.aws.sessions(&toolfleet_client::Tables::with_prefix("toolfleet"));
    table.register_mcp_session(&acme(), &id("s"), &opened, None).await.unwrap();

    let shown = sessions.show(&acme(), &id("s")).await.unwrap().unwrap();
    assert_eq!((shown.grants, shown.user, shown.ends_at), (words("echo server/*"), Some(user), ends_at));
    assert_eq!((shown.ended, shown.mcp), (false, vec![opened]));
    assert_eq!(sessions.show(&Tenant::parse("globex").unwrap(), &id("s")).await.unwrap(), None);
    world.clock.advance_ms(60_000);
    assert!(sessions.show(&acme(), &id("s")).await.unwrap().unwrap().ended);
}

#[tokio::test]
async fn grants_that_match_nothing_and_past_ends_are_refused_by_name() {
    let world = World::start().await;
    let sessions = world.client.sessions();
    let later = world.now().plus_ms(60_000);
    let create = async |grants: &[String], at| sessions.create(&acme(), &id("s"), grants, at).await;
    assert!(create(&[], later).await.unwrap_err().to_string().starts_with("grants: there is none"));
    let unusable = create(&["a b".into()], later).await.unwrap_err();
    assert!(unusable.to_string().starts_with("grant: `a b` is not"), "{unusable}");
    assert!(matches!(create(&words("*"), world.now()).await, Err(SessionError::EndPassed(_))));
    create(&words("a"), later).await.unwrap();
    let expired = sessions.expire(&acme(), &id("s"), world.now()).await;
    assert!(matches!(expired, Err(SessionError::EndPassed(_))));
    let emptied = sessions.grant(&acme(), &id("s"), &[], &words("a")).await;
    assert!(matches!(emptied, Err(SessionError::NoGrant)), "{emptied:?}");
    let unusable = sessions.grant(&acme(), &id("s"), &["a b".into()], &[]).await;
    assert!(matches!(unusable, Err(SessionError::Grant(_))), "{unusable:?}");
}

#[tokio::test]
async fn concurrent_grants_are_all_kept() {
    let world = World::start().await;
    let sessions = world.client.sessions();
    sessions.create(&acme(), &id("s"), &words("a b"), world.now().plus_ms(60_000)).await.unwrap();
    let granted = sessions.grant(&acme(), &id("s"), &words("c a"), &words("b")).await.unwrap();
    assert_eq!(granted, words("a c"));
    assert_eq!(sessions.grant(&acme(), &id("s"), &words("a"), &[]).await.unwrap(), words("a c"));
    let names: Vec<_> = (0..5).map(|n| vec![format!("t{n}")]).collect();
    let (tenant, session) = (acme(), id("s"));
    for granted in join_all(names.iter().map(|more| sessions.grant(&tenant, &session, more, &[]))).await {
        granted.unwrap();
    }
    let mut grants = sessions.show(&acme(), &id("s")).await.unwrap().unwrap().grants;
    grants.sort();
    assert_eq!(grants, words("a c t0 t1 t2 t3 t4"));
}

#[tokio::test]
async fn an_end_can_be_moved_until_it_is_reached_and_is_final_then() {
    let world = World::start().await;
    let sessions = world.client.sessions();
    let (soon, later) = (world.now().plus_ms(1_000), world.now().plus_ms(60_000));
    let unknown = sessions.expire(&acme(), &id("s"), later).await;
    assert!(matches!(unknown, Err(SessionError::Unknown(_))), "{unknown:?}");
    sessions.create(&acme(), &id("s"), &words("a"), soon).await.unwrap();
    sessions.expire(&acme(), &id("s"), later).await.unwrap();
    assert_eq!(sessions.show(&acme(), &id("s")).await.unwrap().unwrap().ends_at, later);
    sessions.revoke(&acme(), &id("s")).await.unwrap();
    assert!(sessions.show(&acme(), &id("s")).await.unwrap().unwrap().ended);
    for changed in [
        sessions.expire(&acme(), &id("s"), later).await,
        sessions.grant(&acme(), &id("s"), &words("b"), &[]).await.map(|_| ()),
    ] {
        assert!(matches!(&changed, Err(SessionError::Ended(_, at)) if *at == world.now()), "{changed:?}");
    }
}

#[tokio::test]
async fn a_session_can_be_revoked_before_it_exists() {
    let world = World::start().await;
    let sessions = world.client.sessions();
    sessions.revoke(&acme(), &id("s")).await.unwrap();
    let created = sessions.create(&acme(), &id("s"), &words("a"), world.now().plus_ms(60_000)).await;
    assert!(matches!(created, Err(SessionError::Exists(_))), "{created:?}");
    assert!(sessions.show(&acme(), &id("s")).await.unwrap().unwrap().ended);
}
