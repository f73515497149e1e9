//! Login at a provider: who gets in, with which tenants, and that nobody does when an answer is not what it has to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::json;
use toolfleet_client::system_clock;
use toolfleet_console::{Access, Oidc, OidcConfig, SessionKey, Tokens, VisitorClaims};
use toolfleet_core::time::Timestamp;
use toolfleet_credentials::{SecretText, TokenHttpClient};
use toolfleet_egress::EgressPolicy;
use toolfleet_testkit::{MockOidc, OidcFault};

use crate::rig::{ALL, Answered, Browser, Rig, Served, served};

const KEY: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";
/// Where the provider sends browsers back; the test goes there by the console's own address.
const REDIRECT: &str = "http://console.example.com/login/callback";

fn oidc(provider: &MockOidc, secret: Option<&str>, tenant_claim: &str) -> Oidc {
    let policy = Arc::new(EgressPolicy::with_loopback());
    Oidc::new(OidcConfig {
        issuer: provider.issuer().to_owned(),
        issuer_url: provider.issuer().parse().unwrap(),
        client_id: MockOidc::client().0.to_owned(),
        client_secret: secret.map(SecretText::new),
        scopes: vec!["email".to_owned()],
        redirect: REDIRECT.parse().unwrap(),
        claims: VisitorClaims {
            name: "email".parse().unwrap(),
            tenants: Some(tenant_claim.parse().unwrap()),
            operators: Some("groups=fleet-operators".parse().unwrap()),
        },
        http: TokenHttpClient { http: reqwest::Client::new(), policy },
    })
}

fn access(oidc: Oidc, tokens: Tokens) -> Access {
    let key = SessionKey::parse(KEY).unwrap();
    Access {
        tokens,
        oidc: Some(oidc),
        key,
        session: Duration::from_secs(3_600),
        by_link: false,
        secure: false,
    }
}

async fn console(rig: &Rig, provider: &MockOidc) -> Served {
    let oidc = oidc(provider, Some(MockOidc::client().1), "tenants");
    served(rig.client(), access(oidc, Tokens::none()), system_clock()).await
}

/// A browser that was sent to the provider: the address there, and the cookie of its login.
async fn begin(browser: &mut Browser, next: &str) -> String {
    let sent = browser.get(&format!("/login/start?next={next}")).await;
    assert_eq!(sent.status, 303, "{sent:?}");
    let cookie = sent.header("set-cookie");
    assert!(
        cookie.contains("-login=") && cookie.contains("; HttpOnly; SameSite=Lax; Max-Age=600"),
        "{cookie}"
    );
    browser.take_cookie(&sent);
    sent.header("location").to_owned()
}

/// The path and query at which a browser comes back.
fn path_of(back: &url::Url) -> String {
    assert!(back.as_str().starts_with(REDIRECT), "{back}");
    format!("{}?{}", back.path(), back.query().unwrap())
}

/// A login from its start to the answer of the console.
async fn log_in(browser: &mut Browser, provider: &MockOidc) -> Answered {
    let address = begin(browser, "%2Fhistory%3Ftenant%3Dacme").await;
    browser.get(&path_of(&provider.log_in(&address))).await
}

/// The cookie that a response sets under a name with that end.
fn set_cookie(answered: &Answered, ends: &str) -> Option<String> {
    let all = answered.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    all.filter_map(|cookie| cookie.split_once('='))
        .find(|(name, _)| name.ends_with(ends))
        .map(|(name, rest)| format!("{name}={}", rest.split(';').next().unwrap()))
}

fn session_of(answered: &Answered) -> Option<String> {
    let port = |name: &str| name.rsplit('-').next().is_some_and(|end| end.parse::<u16>().is_ok());
    let all = answered.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    all.filter(|cookie| cookie.split_once('=').is_some_and(|(name, _)| port(name)))
        .map(|cookie| cookie.split(';').next().unwrap().to_owned())
        .next()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_at_the_provider_opens_its_tenants() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    let console = console(&rig, &provider).await;
    let mut browser = Browser::new(&console);
    let page = browser.page("/login?next=%2Fhistory").await;
    page.shows(&["href=\"/login/start?next=%2Fhistory\"", "Log in with 127.0.0.1"])
        .hides(&["type=\"password\""]);
    provider.claims(&json!({"email": "ann@example.com", "tenants": ["acme", "globex"]}));
    let answered = log_in(&mut browser, &provider).await;
    assert_eq!((answered.status, answered.header("location")), (303, "/history?tenant=acme"));
    assert_eq!(set_cookie(&answered, "-login").unwrap().split_once('=').unwrap().1, "", "the login is over");
    let session = session_of(&answered).unwrap();
    browser.cookie = session;
    browser
        .page("/history?tenant=acme")
        .await
        .shows(&["<strong>ann@example.com</strong> sees tenants acme, globex"]);
    assert_eq!(browser.get("/history?tenant=initech").await.status, 404);
    assert_eq!(browser.get("/servers").await.status, 403);
    let exchange = &provider.exchanges()[0];
    assert_eq!((exchange.client, exchange.form["grant_type"].as_str()), ("basic", "authorization_code"));

    provider.claims(&json!({"email": "eve@example.com", "groups": ["fleet-operators"]}));
    let answered = log_in(&mut browser, &provider).await;
    browser.cookie = session_of(&answered).unwrap();
    browser.page("/servers").await.shows(&["<strong>eve@example.com</strong> sees all tenants"]);
    let out = browser.post("/logout", &[]).await;
    assert_eq!((out.status, out.header("location")), (303, "/login"));
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{out:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_right_logs_nobody_in() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    let console = console(&rig, &provider).await;
    provider.claims(&json!({"tenants": "acme"}));
    for (fault, status, said) in [
        (OidcFault::OtherIssuer, 502, "another issuer"),
        (OidcFault::OtherAudience, 502, "another audience"),
        (OidcFault::OtherParty, 502, "another client"),
        (OidcFault::NoParty, 502, "for which client"),
        (OidcFault::OtherNonce, 502, "another login"),
        (OidcFault::NoNonce, 502, "another login"),
        (OidcFault::Expired, 502, "expired"),
        (OidcFault::AlgorithmNone, 502, "no signed JWT"),
        (OidcFault::SharedSecret, 502, "algorithm is not accepted"),
        (OidcFault::ForgedSignature, 502, "signature is wrong"),
        (OidcFault::UnknownKey, 502, "does not publish"),
        (OidcFault::NoIdToken, 502, "no id_token"),
        (OidcFault::NoJson, 502, "no id_token"),
        (OidcFault::Refuses, 401, "HTTP 400, invalid_grant"),
        (OidcFault::Breaks, 502, "the provider cannot be asked."),
    ] {
        let mut browser = Browser::new(&console);
        let address = begin(&mut browser, "%2F").await;
        provider.fault(Some(fault));
        let answered = browser.get(&path_of(&provider.log_in(&address))).await;
        provider.fault(None);
        assert_eq!((answered.status, session_of(&answered)), (status, None), "{fault:?}: {}", answered.page);
        answered.shows(&[said, "What to do:"]).hides(&[MockOidc::client().1, "s3cret"]);
    }
    let answered = log_in(&mut Browser::new(&console), &provider).await;
    assert!(session_of(&answered).is_some(), "and then it does: {answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_without_its_own_metadata_gets_no_browser() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    let console = console(&rig, &provider).await;
    for fault in [OidcFault::NoMetadata, OidcFault::OtherMetadata] {
        provider.fault(Some(fault));
        let refused = Browser::new(&console).get("/login/start").await;
        assert_eq!((refused.status, refused.header("set-cookie")), (502, ""), "{fault:?}");
        refused.shows(&["Nobody is logged in"]).hides(&[provider.issuer()]);
    }
    provider.fault(None);
    begin(&mut Browser::new(&console), "%2F").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_taken_from_the_browser_that_began_and_once() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    let console = console(&rig, &provider).await;
    provider.claims(&json!({"tenants": "acme"}));
    let mut ann = Browser::new(&console);
    let back = path_of(&provider.log_in(&begin(&mut ann, "%2F").await));

    // Another browser, with no login and with a login of its own: the code of somebody else must not log it in.
    let mut other = Browser::new(&console);
    let refused = other.get(&back).await;
    assert_eq!((refused.status, session_of(&refused)), (400, None));
    begin(&mut other, "%2F").await;
    assert_eq!(other.get(&back).await.status, 400);
    for changed in [back.replace("state=", "state=x"), back.split("&state=").next().unwrap().to_owned()] {
        assert_eq!(ann.get(&changed).await.status, 400, "{changed}");
    }
    assert!(provider.exchanges().is_empty(), "no code was shown to the provider");

    let answered = ann.get(&back).await;
    assert!(session_of(&answered).is_some(), "{answered:?}");
    // Its browser has no login any more; a copy of the cookie finds that the code is used up.
    let copy = ann.clone();
    ann.cookie = set_cookie(&answered, "-login").unwrap();
    assert_eq!(ann.get(&back).await.status, 400);
    let replayed = copy.get(&back).await;
    assert_eq!((replayed.status, session_of(&replayed)), (401, None));
    replayed.shows(&["invalid_grant"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_may_say_no() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    let console = console(&rig, &provider).await;
    let mut browser = Browser::new(&console);
    let back = provider.log_in(&begin(&mut browser, "%2F").await);
    let state = back.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let denied = browser
        .get(&format!("/login/callback?error=access_denied&error_description=%3Cb%3Ecall+555&state={state}"))
        .await;
    assert_eq!((denied.status, session_of(&denied)), (401, None));
    denied.shows(&["access_denied"]).hides(&["555"]);
    let odd = browser.get(&format!("/login/callback?error=%3Cscript%3E&state={state}")).await;
    assert_eq!(odd.status, 401);
    odd.hides(&["script"]);
    assert_eq!(browser.get(&format!("/login/callback?state={state}")).await.status, 502, "it brings no code");
    assert!(provider.exchanges().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_of_another_provider_is_not_taken() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    provider.name_itself();
    provider.claims(&json!({"tenants": "acme"}));
    let console = console(&rig, &provider).await;
    let mut browser = Browser::new(&console);
    let back = path_of(&provider.log_in(&begin(&mut browser, "%2F").await));
    let without = back.split("&iss=").next().unwrap().to_owned();
    let other = format!("{without}&iss=https%3A%2F%2Fother.example.com");
    for (changed, said) in [(without, "does not say which provider"), (other, "from another provider")] {
        let refused = browser.get(&changed).await;
        assert_eq!(refused.status, 502, "{changed}");
        refused.shows(&[said]);
    }
    assert!(provider.exchanges().is_empty());
    assert!(session_of(&browser.get(&back).await).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_its_secret_as_the_provider_takes_it() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    provider.claims(&json!({"tenants": "acme"}));
    provider.take_post_alone();
    let console = console(&rig, &provider).await;
    assert!(session_of(&log_in(&mut Browser::new(&console), &provider).await).is_some());
    let public =
        served(rig.client(), access(oidc(&provider, None, "tenants"), Tokens::none()), system_clock()).await;
    assert!(session_of(&log_in(&mut Browser::new(&public), &provider).await).is_some());
    let ways: Vec<_> = provider.exchanges().iter().map(|exchange| exchange.client).collect();
    assert_eq!(ways, ["post", "none"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_see_nothing_is_told_so() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    let console = console(&rig, &provider).await;
    for claims in
        [json!({}), json!({"tenants": ["a#b"]}), json!({"groups": ["others"]}), json!({"tenants": ["*"]})]
    {
        provider.claims(&claims);
        let refused = log_in(&mut Browser::new(&console), &provider).await;
        assert_eq!((refused.status, session_of(&refused)), (403, None), "{claims}");
        refused.shows(&["tenants"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_and_a_session_end_with_their_time_and_their_rules() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    let clock = Arc::new(AtomicI64::new(1_795_000_000_000));
    let now = || {
        let clock = Arc::clone(&clock);
        Arc::new(move || Timestamp::from_ms(clock.load(Ordering::SeqCst)))
    };
    provider.claims(&json!({"tenants": "acme", "org": "globex"}));
    let of = |claim| access(oidc(&provider, Some(MockOidc::client().1), claim), Tokens::none());
    let console = served(rig.client(), of("tenants"), now()).await;
    let mut browser = Browser::new(&console);
    let back = path_of(&provider.log_in(&begin(&mut browser, "%2F").await));
    clock.fetch_add(600_000, Ordering::SeqCst);
    assert_eq!(browser.get(&back).await.status, 400, "ten minutes are over");
    let answered = log_in(&mut browser, &provider).await;
    browser.cookie = session_of(&answered).unwrap();
    browser.page("/history?tenant=acme").await;

    // The same key, and another rule: whom the old one let in logs in again.
    let changed = served(rig.client(), of("org"), now()).await;
    let mut elsewhere = Browser::new(&changed);
    let value = browser.cookie.split_once('=').unwrap().1;
    elsewhere.cookie = format!("toolfleet-console-{}={value}", changed.url.rsplit_once(':').unwrap().1);
    assert_eq!(elsewhere.get("/").await.status, 303);

    clock.fetch_add(3_600_000, Ordering::SeqCst);
    assert_eq!(browser.get("/").await.status, 303, "it is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_work_beside_a_provider_and_without_one_there_is_no_way_to_it() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    let both = access(oidc(&provider, Some(MockOidc::client().1), "tenants"), Tokens::only("ann", ALL));
    let console = served(rig.client(), both, system_clock()).await;
    Browser::new(&console).page("/login").await.shows(&["type=\"password\"", "/login/start"]);
    Browser::logged_in(&console, ALL).await.page("/servers").await;
    let plain = rig.console().await;
    for path in ["/login/start", "/login/callback?code=1&state=2"] {
        assert_eq!(Browser::new(&plain).get(path).await.status, 404, "{path}");
    }
    Browser::new(&plain).page("/login").await.hides(&["/login/start"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_gets_no_more_than_it_needs() {
    let (rig, provider) = (Rig::without_worker().await, MockOidc::start().await);
    let console = console(&rig, &provider).await;
    let mut browser = Browser::new(&console);
    let one = begin(&mut browser, "%2Fhistory%3Ftenant%3Dsecret-tenant").await;
    let two = begin(&mut browser, "%2Fhistory%3Ftenant%3Dsecret-tenant").await;
    assert!(!one.contains("secret-tenant") && !one.contains("s3cret"), "{one}");
    let of = |address: &str, name: &str| {
        let url = url::Url::parse(address).unwrap();
        url.query_pairs().find(|(one, _)| one == name).unwrap().1.into_owned()
    };
    for name in ["state", "nonce", "code_challenge"] {
        assert!(of(&one, name) != of(&two, name) && of(&one, name).len() == 43, "{name}");
        assert!(!browser.cookie.contains(&of(&two, name)) || name == "state", "{name} is in the cookie");
    }
    let long = browser.get(&format!("/login/start?next=%2F{}", "x".repeat(3_000))).await;
    assert!(long.header("set-cookie").len() < 400, "a cookie holds no long address");
}
