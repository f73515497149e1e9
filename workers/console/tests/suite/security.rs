//! What every response says to browsers, which requests are answered at all, and that nothing of others becomes markup.

use serde_json::json;

use crate::rig::{ALL, Browser, HOSTILE, Rig, answered};

const PATHS: [&str; 9] = [
    "/",
    "/servers",
    "/server?id=main",
    "/tools",
    "/tool?name=echo",
    "/history?tenant=acme",
    "/call?tenant=acme&call=none",
    "/group?tenant=acme&group=none",
    "/dead-letters",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_response_forbids_what_the_pages_do_not_need() {
    let rig = Rig::without_worker().await;
    let console = rig.console().await;
    let (browser, stranger) = (Browser::logged_in(&console, ALL).await, Browser::new(&console));
    let mut all = Vec::new();
    for path in PATHS {
        all.push(browser.page(path).await);
        all.push(stranger.get(path).await);
    }
    for path in ["/none", "/login", "/health", "/history?tenant=%23", "/logout"] {
        all.push(browser.get(path).await);
    }
    all.push(answered(browser.request("PUT", "/")).await);
    for answered in &all {
        let policy = answered.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"));
        assert_eq!(answered.header("x-content-type-options"), "nosniff");
        assert_eq!(answered.header("referrer-policy"), "no-referrer");
        assert_eq!(answered.header("cache-control"), "no-store");
        // What the policy forbids is not tried.
        answered.hides(&["<script", " style=", " onclick", "http://", "https://"]);
    }
    let page = &all[0].page;
    let style = page.split("rel=\"stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let style = stranger.get(style).await;
    assert_eq!((style.status, style.header("content-type")), (200, "text/css; charset=utf-8"));
    assert!(
        style.header("cache-control").contains("immutable")
            && style.page.contains("prefers-color-scheme: dark")
    );
    assert!(!style.page.contains("url(") && !style.page.contains("@import"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_host_is_not_answered() {
    let rig = Rig::without_worker().await;
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    for (host, origin) in [
        ("evil.example.com", None),
        ("127.0.0.1.evil.example.com", None),
        ("127.0.0.1", Some("https://evil.example.com")),
    ] {
        let mut request = browser.request("GET", "/").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let refused = answered(request).await;
        assert_eq!(refused.status, 403, "{host}");
        refused.shows(&["TOOLFLEET_CONSOLE_ALLOWED_", "What to do:"]).hides(&["Queues"]);
    }
    assert_eq!(answered(browser.request("GET", "/health").header("host", "10.0.0.7")).await.page, "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_read_and_nothing_else() {
    let rig = Rig::without_worker().await;
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "POST"] {
        let refused = answered(browser.request(method, "/dead-letters")).await;
        assert_eq!(refused.status, 405, "{method}");
        refused.shows(&["What to do:"]);
    }
    assert_eq!(browser.get("/logout").await.status, 405);
    let head = answered(browser.request("HEAD", "/")).await;
    assert_eq!((head.status, head.page.as_str()), (200, ""));
    assert!(head.header("content-length").parse::<u64>().unwrap() > 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_of_others_stays_text() {
    let rig = Rig::start().await;
    let client = rig.client();
    rig.call("acme", "c-1", "fail", json!({})).await;
    // A tool that nobody registered: its name is in the record, and its message in the dead-letter queue of nobody.
    let unknown = "<b>&'\"";
    let body = json!({"v": 1, "call_id": "c-2", "tenant": "acme", "server": "main", "name": unknown, "arguments": {}});
    let request = toolfleet_core::request::CallRequest::decode(&body.to_string()).unwrap();
    let message = client.send(&request, None).await.unwrap();
    client.wait_for_sent(&request, &message, std::time::Duration::from_secs(30)).await.unwrap();
    let console = rig.console().await;
    let browser = Browser::logged_in(&console, ALL).await;
    let shown =
        HOSTILE.replace('&', "&#38;").replace('<', "&#60;").replace('>', "&#62;").replace('"', "&#34;");
    let shown = shown.replace('\'', "&#39;").replace(['\u{202e}', '\u{7}'], "\u{fffd}");
    let call = browser.page("/call?tenant=acme&call=c-1").await;
    call.shows(&[&shown, "tool_error"]);
    // A record comes a moment after its result.
    let history = browser.page_with("/history?tenant=acme", "&#60;b&#62;&#38;&#39;&#34;").await;
    for path in [
        "/history?tenant=acme&tool=%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE&session=x&until=2026-01-01T00:00:00Z&since=2025-01-01T00:00:00Z",
        "/tools?q=%22%3E%3Cscript%3E",
        "/servers?q=%22%3E%3Cscript%3E",
        "/tool?name=%3Cscript%3E%E2%80%AE",
        "/call?tenant=acme&call=%3Cscript%3E",
        "/group?tenant=acme&group=%3Cscript%3E",
        "/dead-letters?reason=%3Cscript%3E",
        "/history?tenant=%3Cscript%3E",
        "/history?tenant=acme&since=%3Cscript%3E",
        "/login?next=/%3Cscript%3E",
    ] {
        browser.get(path).await.hides(&["<script", "\u{202e}"]);
    }
    for page in [&call, &history] {
        page.hides(&["<script", "\u{202e}", "\u{7}", "<b>&"]);
    }
}
