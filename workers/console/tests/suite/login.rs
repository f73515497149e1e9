//! Who gets in: tokens, links, sessions, their end, and forgeries of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use toolfleet_console::{Access, SessionKey, Tokens};
use toolfleet_core::time::Timestamp;

use crate::rig::{ALL, Browser, Rig, answered, served};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn access(token: &str, secure: bool) -> Access {
    Access {
        tokens: Tokens::only("ann", token),
        oidc: None,
        key: SessionKey::parse("a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=").unwrap(),
        session: Duration::from_secs(3_600),
        by_link: false,
        secure,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_without_a_session_is_led_to_the_login_and_back() {
    let rig = Rig::without_worker().await;
    let console = rig.console().await;
    let mut browser = Browser::new(&console);
    for path in [
        "/",
        "/servers",
        "/tool?name=x",
        "/history?tenant=acme&failed=1",
        "/call?tenant=a&call=b",
        "/group",
        "/dead-letters",
    ] {
        let answered = browser.get(path).await;
        assert_eq!(answered.status, 303, "{path}");
        assert!(answered.header("location").starts_with("/login?next=%2F") && answered.page.is_empty());
    }
    let form = browser.get("/login?next=%2Fhistory%3Ftenant%3Dacme").await;
    form.shows(&["type=\"password\"", "value=\"/history?tenant=acme\""]);
    let answered = browser.post("/login", &[("token", ALL), ("next", "/history?tenant=acme")]).await;
    assert_eq!((answered.status, answered.header("location")), (303, "/history?tenant=acme"));
    let cookie = answered.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=3600"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains(ALL));
    browser.take_cookie(&answered);
    browser.page("/history?tenant=acme").await.shows(&["<strong>ann</strong> sees all tenants"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_opens_nothing_and_is_not_repeated() {
    let rig = Rig::without_worker().await;
    let console = rig.console().await;
    let browser = Browser::new(&console);
    for token in ["", "wrong-token-wrong-token-wrong", &ALL[1..]] {
        let answered = browser.post("/login", &[("token", token), ("next", "//evil.example.com")]).await;
        assert_eq!((answered.status, answered.header("set-cookie")), (401, ""));
        answered.shows(&["Not logged in", "value=\"/\""]).hides(&["evil.example.com", "wrong-token"]);
    }
    let long = "x".repeat(100_000);
    assert_eq!(browser.post("/login", &[("token", &long)]).await.status, 400);
    // A token in the address logs in where the console is told to take it, and nowhere else; it leaves the address anyhow.
    let unknown = browser.get(&format!("/history?token={ALL}&since=1d")).await;
    assert_eq!(unknown.header("set-cookie"), "");
    assert_eq!(unknown.header("location"), "/login?next=%2Fhistory%3Fsince%3D1d");
    let known = Browser::logged_in(&console, ALL).await;
    known.page(&format!("/?token={ALL}")).await.shows(&["href=\"/?refresh=10\""]).hides(&[ALL]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_logs_in_and_leaves_the_address_at_once() {
    let rig = Rig::without_worker().await;
    let console = rig.console_of(rig.client(), true).await;
    let mut browser = Browser::new(&console);
    let answered = browser.get(&format!("/history?tenant=acme&token={ALL}&since=1d")).await;
    assert_eq!((answered.status, answered.header("location")), (303, "/history?tenant=acme&since=1d"));
    browser.take_cookie(&answered);
    browser.page("/").await;
    assert_eq!(Browser::new(&console).get("/?token=wrong").await.status, 303);
    let login = Browser::new(&console).get("/login").await;
    login.shows(&["an address that logs in by itself"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_time_its_token_and_its_logout() {
    let rig = Rig::without_worker().await;
    let clock = Arc::new(AtomicI64::new(1_795_000_000_000));
    let now = |clock: &Arc<AtomicI64>| {
        let clock = Arc::clone(clock);
        Arc::new(move || Timestamp::from_ms(clock.load(Ordering::SeqCst)))
    };
    let console = served(rig.client(), access(TOKEN, false), now(&clock)).await;
    let browser = Browser::logged_in(&console, TOKEN).await;
    browser.page("/").await;

    // The same key, and another token: what the old one opened is closed.
    let renewed = served(rig.client(), access("another-token-another-token", false), now(&clock)).await;
    let mut elsewhere = Browser::new(&renewed);
    let value = browser.cookie.split_once('=').unwrap().1;
    elsewhere.cookie = format!("toolfleet-console-{}={value}", renewed.url.rsplit_once(':').unwrap().1);
    assert_eq!(elsewhere.get("/").await.status, 303);

    clock.fetch_add(3_599_999, Ordering::SeqCst);
    browser.page("/").await;
    clock.fetch_add(1, Ordering::SeqCst);
    assert_eq!(browser.get("/").await.status, 303, "it is over");

    let browser = Browser::logged_in(&console, TOKEN).await;
    let out = browser.post("/logout", &[]).await;
    assert_eq!((out.status, out.header("location")), (303, "/login"));
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{out:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_session_opens_nothing() {
    let rig = Rig::without_worker().await;
    let console = rig.console().await;
    let mut browser = Browser::logged_in(&console, ALL).await;
    let (name, value) = browser.cookie.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let (said, signature) = value.rsplit_once('.').unwrap();
    let (_, tag) = said.split_once('.').unwrap();
    let longer = format!("99999999999999.{tag}.{signature}");
    for forged in [longer.as_str(), said, "", "x.y.z", &format!("{said}.")] {
        browser.cookie = format!("{name}={forged}");
        assert_eq!(browser.get("/").await.status, 303, "{forged}");
    }
    browser.cookie = format!("other=1; {name}={value}; more=2");
    assert_eq!(browser.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_that_others_reach_has_a_cookie_for_tls_alone() {
    let rig = Rig::without_worker().await;
    let console = served(rig.client(), access(TOKEN, true), toolfleet_client::system_clock()).await;
    let answered = Browser::new(&console).post("/login", &[("token", TOKEN)]).await;
    let cookie = answered.header("set-cookie");
    assert!(cookie.starts_with("__Host-toolfleet-console=") && cookie.ends_with("; Secure"), "{cookie}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_logs_nobody_in_or_out() {
    let rig = Rig::without_worker().await;
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    for path in ["/login", "/logout"] {
        let form = || browser.request("POST", path).body(format!("token={ALL}"));
        let site = answered(form().header("sec-fetch-site", "cross-site")).await;
        let origin = answered(form().header("origin", "https://evil.example.com")).await;
        let null = answered(form().header("origin", "null")).await;
        for refused in [site, origin, null] {
            assert_eq!((refused.status, refused.header("set-cookie")), (403, ""), "{path}");
        }
        // A browser sends this with a form of our own, because pages are `no-referrer`.
        let own = answered(form().header("origin", "null").header("sec-fetch-site", "same-origin")).await;
        assert_eq!(own.status, 303, "{path}");
        let sandboxed =
            answered(form().header("origin", "null").header("sec-fetch-site", "cross-site")).await;
        assert_eq!(sandboxed.status, 403, "{path}");
    }
}
