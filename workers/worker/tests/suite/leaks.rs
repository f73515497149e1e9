//! Redaction of secrets: every kind of credential through success and every failure that could repeat it. Logs of all crates at TRACE,
//! spans, rows, records, notices and error texts are searched for every secret in every encoding.
//!
//! A new kind is a row in `kinds`, a new way to leak one a row in `betrayals`.

use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use serde_json::{Value, json};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_egress::Proxies;
use toolfleet_testkit::{
    Authority, ForwardProxy, H2Mcp, Hearing, Issued, MockFault, MockMcp, ProtocolRevision, Recorded, TlsSide,
    ToolAnswer,
};
use toolfleet_worker::telemetry;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::credentials::store;
use crate::query_key_leaks;
use crate::rig::{Rig, limits};

/// Texts that every secret here begins with, so that a fragment of one is found, too.
const MARK: &str = "Zq7-";

/// One kind of credential.
struct Kind {
    name: &'static str,
    /// What it adds to the server's registration.
    server: Value,
    /// What must never be seen again.
    secrets: Vec<String>,
    /// The same for what is sent to no server, so that none can leak it.
    untold: Vec<String>,
    /// What shows that the server got the credential.
    arrived: fn(&Recorded) -> bool,
    /// What who gives tokens answers, where the credential is a token.
    grant: Option<Value>,
}

impl Kind {
    fn all(&self) -> Vec<String> {
        self.secrets.iter().chain(&self.untold).cloned().collect()
    }
}

/// A secret that every encoding has to escape, within what a header allows.
pub(crate) fn secret(name: &str) -> String {
    format!("{MARK}{name}/\"+&=% tail9")
}

fn kinds(tls: &Issued, issuer: &MockMcp) -> Vec<Kind> {
    let kind = |name, server, secrets: &[&str], arrived| Kind {
        name,
        server,
        secrets: secrets.iter().map(|name| secret(name)).collect(),
        untold: Vec::new(),
        arrived,
        grant: None,
    };
    let token_url = issuer.url().replace("/mcp", "/token");
    let bearer: fn(&Recorded) -> bool =
        |request| request.header("authorization").is_some_and(|value| value.starts_with("Bearer Zq7-"));
    let oauth = |name, auth: Value, untold, token| {
        let mut server = json!({"auth": {"type": "oauth2_client_credentials", "client_id": "fleet", "token_url": token_url}});
        server["auth"].as_object_mut().unwrap().extend(auth.as_object().unwrap().clone());
        let grant = json!({"access_token": secret(token), "token_type": "Bearer", "expires_in": 3600});
        Kind {
            name,
            server,
            secrets: vec![secret(token)],
            untold: vec![untold],
            arrived: bearer,
            grant: Some(grant),
        }
    };
    let key: String = tls.key.lines().nth(1).expect("the key's first line").to_owned();
    vec![
        kind(
            "bearer",
            json!({"auth": {"type": "bearer", "token": "secret://vault#bearer"}}),
            &["bearer"],
            |request| request.header("authorization").is_some_and(|value| value.starts_with("Bearer Zq7-")),
        ),
        kind(
            "api_key",
            json!({"auth": {"type": "api_key", "key": "secret://vault#api"}}),
            &["api"],
            |request| request.header("x-api-key").is_some_and(|value| value.starts_with(MARK)),
        ),
        kind(
            "basic",
            json!({"auth": {"type": "basic", "username": "u", "password": "secret://vault#basic"}}),
            &["basic"],
            |request| request.header("authorization").is_some_and(|value| value.starts_with("Basic ")),
        ),
        kind(
            "headers",
            json!({"auth": {"type": "headers", "headers": {"X-One": "Token secret://vault#one"}},
                "headers": {"X-Two": "secret://vault#two"}}),
            &["one", "two"],
            |request| request.header("x-one").is_some() && request.header("x-two").is_some(),
        ),
        kind(
            "aws_sigv4",
            json!({"auth": {"type": "aws_sigv4", "service": "lambda", "access_key_id": "AKIA1",
                "secret_access_key": "secret://vault#aws", "session_token": "secret://vault#session"}}),
            &["aws", "session"],
            |request| request.header("x-amz-security-token").is_some_and(|value| value.starts_with(MARK)),
        ),
        oauth(
            "oauth2 by secret",
            json!({"client_auth": "post", "client_secret": "secret://vault#oauth"}),
            secret("oauth"),
            "token1",
        ),
        oauth(
            "oauth2 by basic",
            json!({"client_auth": "basic", "client_secret": "secret://vault#oauth"}),
            secret("oauth"),
            "token2",
        ),
        oauth(
            "oauth2 by key",
            json!({"client_auth": "private_key_jwt", "private_key": "secret://tls#key"}),
            key.clone(),
            "token3",
        ),
        Kind {
            name: "cognito",
            server: json!({"auth": {"type": "cognito", "user_pool_id": "us-east-1_Abc", "client_id": "app", "username": "u",
                "password": "secret://vault#cognito", "endpoint": issuer.url()}}),
            secrets: vec![secret("token4")],
            untold: vec![secret("cognito"), secret("refresh")],
            arrived: bearer,
            grant: Some(json!({"AuthenticationResult": {"AccessToken": secret("token4"),
                "RefreshToken": secret("refresh"), "ExpiresIn": 3600, "TokenType": "Bearer"}})),
        },
        Kind {
            name: "aws_sigv4 of the worker",
            server: json!({"auth": {"type": "aws_sigv4", "service": "lambda"}}),
            secrets: vec!["not-a-secret".to_owned()],
            untold: Vec::new(),
            arrived: |request| request.header("x-amz-date").is_some(),
            grant: None,
        },
        Kind {
            name: "client_certificate",
            server: json!({"auth": {"type": "bearer", "token": "secret://vault#mtls"},
                "client_certificate": {"certificate": "secret://tls#certificate", "key": "secret://tls#key"}}),
            secrets: vec![secret("mtls")],
            untold: vec![key],
            arrived: |request| request.client_certificate.is_some(),
            grant: None,
        },
    ]
}

/// A way in which a server leaks what it received.
type Betrayal = (&'static str, Box<dyn Fn(&MockMcp)>);

fn next(name: &'static str, fault: MockFault) -> Betrayal {
    (name, Box::new(move |mcp| _ = mcp.next(fault.clone())))
}

fn says(name: &'static str, answer: ToolAnswer) -> Betrayal {
    (
        name,
        Box::new(move |mcp| {
            drop(mcp.tool("unsafe", {
                let answer = answer.clone();
                move |_| answer.clone()
            }))
        }),
    )
}

fn status(name: &'static str, status: u16, header: (&str, String), body: &str) -> Betrayal {
    let headers = vec![(header.0.to_owned(), header.1)];
    next(name, MockFault::Status { status, headers, body: body.to_owned() })
}

fn betrayals(secrets: &[String]) -> Vec<Betrayal> {
    let all = secrets.iter().flat_map(|secret| forms(secret)).collect::<Vec<_>>().join(" | ");
    let first = secrets.first().expect("a secret").clone();
    // Wherever our own shortening cuts, it cuts a secret in two.
    let cut = |most: usize| format!("{}{first}", "x".repeat(most - 8));
    let echo =
        || json!({"content": [{"type": "text", "text": all}], "structuredContent": {all.clone(): [all]}});
    let escaped: String = all.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    let note = |method: &str, params: Value| {
        format!("data: {}\n\n", json!({"jsonrpc": "2.0", "method": method, "params": params}))
    };
    let notes = [
        note("notifications/message", json!({"level": "info", "logger": "l", "data": all})),
        note("notifications/message", json!({"level": "info", "data": {"sent": all}})),
        note("notifications/message", json!({"level": "info", "data": cut(500)})),
        "data: {\"jsonrpc\":\"2.0\",\"id\":{id},{result}}\n\n".to_owned(),
    ];
    let notes: Vec<&str> = notes.iter().map(String::as_str).collect();
    let failed = |text: String| {
        ToolAnswer::Result(json!({"isError": true, "content": [{"type": "text", "text": text}]}))
    };
    let broken = json!({"name": {"broken": all}, "inputSchema": {}});
    vec![
        says("result", ToolAnswer::Result(echo())),
        says(
            "escaped result",
            ToolAnswer::Raw(format!(r#"{{"content":[{{"text":"{escaped}"}}],"{escaped}":1}}"#)),
        ),
        says("tool error", failed(all.clone())),
        says("cut tool error", failed(cut(2_000))),
        says("result type", ToolAnswer::Result(json!({"resultType": first, "x": all}))),
        says("JSON-RPC error", ToolAnswer::Error { code: -32000, message: all.clone() }),
        says("cut JSON-RPC error", ToolAnswer::Error { code: -32602, message: cut(300) }),
        says("internal error", ToolAnswer::Error { code: -32603, message: cut(299) }),
        status("401", 401, ("www-authenticate", format!("Bearer error_description=\"{first}\"")), &all),
        status("403", 403, ("www-authenticate", format!("Bearer scope=\"{}\"", percent(&first))), &all),
        status("400", 400, ("x-echo", first.clone()), &cut(300)),
        status("500", 500, ("x-echo", first.clone()), &all),
        status("429", 429, ("retry-after", first.clone()), &all),
        next(
            "version",
            MockFault::Rpc {
                status: 400,
                code: -32022,
                message: all.clone(),
                data: json!({"supported": [first, cut(32)]}),
                with_id: true,
            },
        ),
        next("garbage", MockFault::Garbage(all.clone())),
        next("cut garbage", MockFault::Garbage(format!("{{{}", cut(299)))),
        next(
            "content type",
            MockFault::Answer { content_type: format!("text/{first}"), chunks: vec![all.clone()] },
        ),
        next("id", MockFault::Garbage(json!({"jsonrpc": "2.0", "id": all, "result": {}}).to_string())),
        next(
            "redirect",
            MockFault::Redirect(format!("https://elsewhere.example/{}?{}", percent(&first), percent(&first))),
        ),
        next("notes", MockFault::events(&notes)),
        (
            "discover",
            Box::new({
                let all = all.clone();
                move |mcp| _ = mcp.next_for("server/discover", MockFault::rpc(-32022, &all))
            }),
        ),
        (
            "list",
            Box::new(move |mcp| {
                mcp.tool(&all, |_| json!({})).listing("name", broken.clone());
                mcp.tool("named", |_| json!({})).listing("name", json!(all));
            }),
        ),
    ]
}

fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// How a secret may be written.
pub(crate) fn forms(secret: &str) -> Vec<String> {
    let json = json!(secret).to_string();
    vec![
        secret.to_owned(),
        json[1..json.len() - 1].to_owned(),
        percent(secret),
        STANDARD.encode(secret),
        STANDARD.encode(format!("u:{secret}")),
    ]
}

/// The first place where a secret stands, or the beginning of one.
pub(crate) fn found(place: &str, text: &str, secrets: &[String]) -> Option<String> {
    let marks = [MARK.to_owned(), STANDARD.encode("Zq7")];
    let looked_for = secrets.iter().flat_map(|secret| forms(secret)).chain(marks);
    for form in looked_for {
        if let Some(at) = text.find(&form) {
            let (from, to) = (at.saturating_sub(300), (at + 300).min(text.len()));
            let near = String::from_utf8_lossy(&text.as_bytes()[from..to]);
            return Some(format!("`{form}` stands in {place}: ..{near}.."));
        }
    }
    None
}

/// All that is logged.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(crate) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

/// Calls the betrayed server and gives all that is kept of the call.
pub(crate) async fn kept_of(rig: &Rig, catalog: Value, id: &str, tool: Value) -> (OutcomeKind, String) {
    let context = rig.fleet_of(catalog, limits(), None).await;
    let mut body = json!({"v": 1, "call_id": id, "tenant": "acme", "arguments": {"call": id},
        "reply": {"sqs_queue_url": rig.local.queue_url("toolfleet-replies")}});
    body.as_object_mut().unwrap().extend(tool.as_object().unwrap().clone());
    rig.send(body.to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome(id).await;
    let records = rig.audit_of(id, AuditKind::Call).await;
    assert!(!records.is_empty(), "{id}");
    let notices =
        rig.direct.queue(rig.local.queue_url("toolfleet-replies")).receive(10, 0, 30).await.unwrap();
    let notices: Vec<_> = notices.into_iter().map(|notice| notice.body).collect();
    (seen.kind, format!("{seen:?} {} {records:?} {notices:?}", seen.content.as_deref().unwrap_or_default()))
}

async fn hunt(rig: &mut Rig, lines: &Lines, kind: &Kind, mcp: &MockMcp) {
    let searched = kind.all();
    for (name, betray) in betrayals(&kind.secrets) {
        mcp.behave();
        mcp.tool("unsafe", |_| json!({"content": []}));
        betray(mcp);
        let mut catalog = rig.catalog();
        let server = catalog["servers"][0].as_object_mut().unwrap();
        server.insert("url".into(), json!(mcp.url()));
        server.insert("progress".into(), json!(true));
        server.extend(kind.server.as_object().unwrap().clone());
        let tool = if name == "list" {
            json!({"server": "mock", "name": "nobody"})
        } else {
            json!({"tool": "unsafe"})
        };
        let id = uuid::Uuid::new_v4().to_string();
        let before = mcp.requests().len();
        let (_, kept) = kept_of(rig, catalog, &id, tool).await;
        let place = format!("{}, {name}", kind.name);
        let requests = mcp.requests();
        assert!(requests.len() > before && requests[before..].iter().all(kind.arrived), "{place}: {kept}");
        for (what, text) in [("what is kept", kept), ("the log", lines.take())] {
            assert_eq!(found(&format!("{what} ({place})"), &text, &searched), None);
        }
    }
}

/// Which lines are written at all is decided for a whole process, by its subscribers: this test has a process of its own.
#[test]
fn secrets_are_in_no_log_span_row_record_notice_or_error() {
    let hunt = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["leaks::the_hunt", "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&hunt.stdout), String::from_utf8_lossy(&hunt.stderr));
    assert!(hunt.status.success() && said.contains("1 passed"), "{said}");
}

/// From now on every request gets the kind's token.
fn grant(issuer: &MockMcp, kind: &Kind) {
    issuer.behave();
    if let Some(grant) = &kind.grant {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        issuer.always_for("POST", MockFault::Status { status: 200, headers, body: grant.to_string() });
    }
}

/// The authorization server leaks what it received.
async fn hunt_issuer(rig: &Rig, lines: &Lines, kind: &Kind, mcp: &MockMcp, issuer: &MockMcp) {
    // No token was issued: only the secrets that were sent can leak.
    let told = &kind.untold[..1];
    let all = forms(&told[0]).join(" | ");
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let refusal = json!({"error": "invalid_client", "error_description": all, "__type": "NotAuthorizedException", "message": all});
    let elsewhere = format!("https://elsewhere.example/?{}", percent(&told[0]));
    let status = |status, headers, body: &str| MockFault::Status { status, headers, body: body.to_owned() };
    let betrayals = [
        status(400, header("content-type", "application/json"), &refusal.to_string()),
        status(401, header("www-authenticate", "Basic realm=\"x\""), &refusal.to_string()),
        status(500, header("x-echo", "y"), &all),
        status(200, header("content-type", "application/json"), &json!({"access_token": [all]}).to_string()),
        status(200, header("content-type", "text/plain"), &all),
        MockFault::Redirect(elsewhere),
    ];
    for (n, betrayal) in betrayals.into_iter().enumerate() {
        issuer.behave();
        for _ in 0..2 {
            issuer.next_for("POST", betrayal.clone());
        }
        mcp.behave();
        let mut catalog = rig.catalog();
        let server = catalog["servers"][0].as_object_mut().unwrap();
        server.insert("url".into(), json!(mcp.url()));
        server.extend(kind.server.as_object().unwrap().clone());
        let (asked, id) = (issuer.requests().len(), uuid::Uuid::new_v4().to_string());
        let (_, kept) = kept_of(rig, catalog, &id, json!({"tool": "unsafe"})).await;
        assert!(issuer.requests().len() > asked, "{}, {n}", kind.name);
        for (what, text) in [("what is kept", kept), ("the log", lines.take())] {
            assert_eq!(found(&format!("{what} ({}, issuer {n})", kind.name), &text, told), None);
        }
    }
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn the_hunt() {
    let lines = Lines::default();
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let written = {
        let lines = lines.clone();
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_span_events(FmtSpan::NEW)
            .with_writer(move || lines.clone())
    };
    tracing_log::LogTracer::init().expect("no other logger");
    let subscriber = tracing_subscriber::registry().with(telemetry::spans(&provider)).with(written);
    // One thread runs all, so that one subscriber hears all.
    let _listening = Hearing::new(subscriber);

    let mut rig = Rig::new().await;
    let authority = Authority::new("ours");
    let ours = authority.issue("worker");
    rig.egress_config.extra_roots = Some(authority.pem().into_bytes());
    let guarded = TlsSide::for_clients_of(&authority.issue("localhost"), &authority);
    let guarded = MockMcp::start_tls(ProtocolRevision::Modern, &guarded).await;
    let issuer = MockMcp::start(ProtocolRevision::Modern).await;
    let kinds = kinds(&ours, &issuer);
    let names = [
        "bearer", "api", "basic", "one", "two", "aws", "session", "mtls", "proxy", "oauth", "cognito",
        "query",
    ];
    let vault: serde_json::Map<_, _> =
        names.iter().map(|name| ((*name).to_owned(), json!(secret(name)))).collect();
    store(&rig, "vault", &Value::from(vault).to_string()).await;
    store(&rig, "tls", &json!({"certificate": ours.certificate, "key": ours.key}).to_string()).await;

    let mut heard = String::new();
    for kind in &kinds {
        let plain = MockMcp::start(ProtocolRevision::Modern).await;
        let mcp = if kind.name == "client_certificate" { &guarded } else { &plain };
        grant(&issuer, kind);
        hunt(&mut rig, &lines, kind, mcp).await;
        // A signing key is sent to no server.
        if kind.grant.is_some() && kind.name != "oauth2 by key" {
            hunt_issuer(&rig, &lines, kind, mcp, &issuer).await;
        }
        // What cannot be had is named, and nothing of its neighbours.
        let broken = kind
            .server
            .to_string()
            .replace("#", "#no-such-")
            .replace("\"lambda\"", "\"lambda\",\"region\":\"r\"");
        let mut catalog = rig.catalog();
        let server = catalog["servers"][0].as_object_mut().unwrap();
        server.insert("url".into(), json!(mcp.url()));
        server.extend(serde_json::from_str::<serde_json::Map<_, _>>(&broken).unwrap());
        let (_, kept) = kept_of(
            &rig,
            catalog,
            &format!("broken-{}", kind.name.replace(' ', "-")),
            json!({"tool": "unsafe"}),
        )
        .await;
        assert_eq!(found(kind.name, &kept, &kind.all()), None);
        let more = lines.take();
        assert_eq!(found(kind.name, &more, &kind.all()), None);
        heard.push_str(&more);
    }

    heard.push_str(&query_key_leaks::hunt(&rig, &lines).await);

    // HTTP/2 logs its frames, and a proxy has a password of its own.
    let h2 = H2Mcp::start(&TlsSide::new(&authority.issue("localhost"))).await;
    let secrets = [secret("bearer"), "proxy-pass-123456".to_owned()];
    let mut catalog = rig.catalog();
    catalog["servers"][0]["url"] = json!(h2.url());
    catalog["servers"][0]["auth"] = json!({"type": "bearer", "token": "secret://vault#bearer"});
    let (outcome, kept) = kept_of(&rig, catalog.clone(), "h2", json!({"tool": "unsafe"})).await;
    assert_eq!((outcome, h2.executions()), (OutcomeKind::Succeeded, 1), "{kept}");
    let plain = MockMcp::start(ProtocolRevision::Modern).await;
    plain.tool("unsafe", |_| json!({"content": []}));
    let proxy = ForwardProxy::start(&[("mcp.example", &format!("127.0.0.1:{}", plain.port()))]).await;
    rig.egress_config.proxies =
        Proxies { http: Some(proxy.url("u:proxy-pass-123456@").parse().unwrap()), ..Proxies::default() };
    for (id, url) in [("proxied", "http://mcp.example/mcp"), ("lost", "http://nowhere.example/mcp")] {
        catalog["servers"][0]["url"] = json!(url);
        let (_, kept) = kept_of(&rig, catalog.clone(), id, json!({"tool": "unsafe"})).await;
        assert_eq!(found(id, &kept, &secrets), None);
    }
    assert!(proxy.asked().iter().all(|(_, user)| user.is_some()) && !proxy.asked().is_empty());
    let more = lines.take();
    assert_eq!(found("the log", &more, &secrets), None);
    heard.push_str(&more);

    let spans = format!("{:?}", exporter.get_finished_spans().unwrap());
    let records = format!("{:?}", rig.audit(&Tenant::parse("acme").unwrap()).await);
    let every: Vec<String> = kinds.into_iter().flat_map(|kind| kind.all()).chain(secrets).collect();
    assert_eq!(found("the spans", &spans, &every), None);
    assert_eq!(found("the records", &records, &every), None);

    // The hunt hears all crates, and finds what is there.
    for crate_name in ["hyper", "reqwest", "rustls", "h2::", "aws_smithy", "aws_sdk", "toolfleet_worker"] {
        assert!(heard.contains(crate_name), "nothing of {crate_name} was heard");
    }
    assert!(spans.contains("tools/call unsafe"));
    tracing::trace!(canary = secret("bearer"), "planted");
    log_canary();
    let planted = lines.take();
    for form in forms(&secret("api")).iter().chain([&secret("bearer")]) {
        assert!(found("planted", &format!("{planted}{form}"), &every).is_some(), "{form}");
    }
    assert!(found("planted", &planted, &every).is_some());
}

/// A line as rustls and reqwest write them.
fn log_canary() {
    tracing_log::log::trace!("{}", secret("api"));
}
