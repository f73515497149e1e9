//! `toolfleet console` as a process, the console of `toolfleet dev`, and the commands that its pages print.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use toolfleet_testkit::MockOidc;

use crate::run::{BINARY, Dev, directory, toolfleet, toolfleet_within};

/// A browser that keeps its cookies by hand.
struct Visitor {
    client: reqwest::Client,
    origin: String,
    cookie: String,
    runtime: tokio::runtime::Runtime,
}

impl Visitor {
    /// Whoever opens the address that the console printed.
    fn open(url: &str) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let origin = url.split("/?").next().unwrap().to_owned();
        let answer = runtime.block_on(client.get(url).send()).unwrap();
        assert_eq!(answer.status(), 303, "{url}");
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        Self { client, origin, cookie, runtime }
    }

    fn page(&self, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", self.origin)).header("cookie", &self.cookie);
        let answer = self.runtime.block_on(request.send()).unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        self.runtime.block_on(answer.text()).unwrap()
    }
}

/// The commands that a page prints, as its reader copies them.
fn commands(page: &str) -> Vec<String> {
    let list =
        page.split("<ul class=\"commands\">").nth(1).and_then(|rest| rest.split("</ul>").next()).unwrap();
    let texts = list.split("<code>").skip(1).map(|rest| rest.split("</code>").next().unwrap());
    let text = |text: &str| {
        let pairs = [("&#39;", "'"), ("&#34;", "\""), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")];
        pairs.into_iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
    };
    texts.map(text).collect()
}

#[test]
fn every_command_that_a_page_prints_runs_in_a_shell() {
    let dev = Dev::start(&[]);
    dev.toolfleet(&[
        "call",
        "--tenant",
        "acme",
        "--tool",
        "echo",
        "--arguments",
        r#"{"message": "x"}"#,
        "--call-id",
        "-c",
    ]);
    let visitor = Visitor::open(dev.ready["console_url"].as_str().unwrap());
    let paths = [
        "/",
        "/servers",
        "/server?id=demo&last=6h",
        "/tools?last=7d",
        "/tool?name=-odd%20%27tool%27%20%24(x)&last=1d",
        "/history?tenant=acme",
        "/history?tenant=acme&failed=1&since=7d&until=1h",
        "/history?tenant=acme&session=s%7C1&failed=1&tool=a%2Fb%20c&since=2026-11-01T00:00:00Z",
        "/history?tenant=-x",
        "/call?tenant=acme&call=-c",
        "/call?tenant=acme&call=%24(rm)%7Cx",
        "/group?tenant=acme&group=-g&round=3",
        "/dead-letters?tenant=acme&tool=-t&reason=it%27s",
    ];
    let all: BTreeSet<String> = paths.iter().flat_map(|path| commands(&visitor.page(path))).collect();
    assert!(all.len() >= paths.len(), "{all:?}");
    let folder = Path::new(BINARY).parent().unwrap();
    for command in all {
        let mut shell = dev.command(&["--version"]);
        let environment: Vec<_> =
            shell.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        shell = Command::new("sh");
        shell.args(["-c", &command]).env_clear().env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
        shell.envs(environment.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let ran = shell.output().unwrap();
        let code = ran.status.code().unwrap();
        // 1 and 3 say that a call failed, or that there is none: the command itself was understood.
        assert!(matches!(code, 0 | 1 | 3), "{command}: {code}\n{}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn a_console_serves_those_whose_token_it_knows() {
    let dev = Dev::start(&["--no-worker"]);
    let folder = directory("console-tokens");
    std::fs::create_dir_all(&folder).unwrap();
    let tokens = folder.join("tokens.json");
    let text =
        r#"{"tokens": [{"name": "ann", "token": "0123456789abcdef0123456789abcdef", "tenants": ["acme"]}]}"#;
    std::fs::write(&tokens, text).unwrap();
    let tokens = tokens.display().to_string();
    let args = ["console", "--json", "--listen", "127.0.0.1:0", "--tokens", &tokens];
    let mut child = dev.command(&args).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it does not start: {line}"));
    let url = ready["url"].as_str().unwrap();
    assert!(!url.contains("token"), "a configured token is not printed");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let form = "token=0123456789abcdef0123456789abcdef&next=%2Fhistory";
    let login = runtime.block_on(client.post(format!("{url}login")).body(form).send()).unwrap();
    assert_eq!(login.status(), 303);
    assert_eq!(login.headers()["location"], "/history");
    let health = runtime.block_on(client.get(format!("{url}health")).send()).unwrap();
    assert_eq!(health.status(), 200);
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success(), "SIGTERM ends it");
}

#[test]
fn a_console_lets_in_whom_its_issuer_knows() {
    let dev = Dev::start(&["--no-worker"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let issuer = runtime.block_on(MockOidc::start());
    issuer.claims(&serde_json::json!({"email": "ann@example.com", "groups": ["ops"]}));
    let (id, secret) = MockOidc::client();
    let args = ["console", "--json", "--listen", "127.0.0.1:0"];
    let mut command = dev.command(&args);
    command.envs([
        ("TOOLFLEET_CONSOLE_OIDC_ISSUER", issuer.issuer()),
        ("TOOLFLEET_CONSOLE_OIDC_CLIENT_ID", id),
        ("TOOLFLEET_CONSOLE_OIDC_CLIENT_SECRET", secret),
        ("TOOLFLEET_CONSOLE_OIDC_OPERATORS", "groups=ops"),
        ("TOOLFLEET_ALLOW_HTTP", "true"),
        ("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "127.0.0.0/8"),
    ]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it does not start: {line}"));
    let url = ready["url"].as_str().unwrap();
    assert!(!url.contains("token"), "whoever has an issuer needs no token");
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let get = |url: &str, cookie: &str| {
        let answer = runtime.block_on(client.get(url).header("cookie", cookie).send()).unwrap();
        let header =
            |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let cookie = header("set-cookie").split(';').next().unwrap().to_owned();
        (answer.status().as_u16(), header("location"), cookie)
    };
    let (status, address, login) = get(&format!("{url}login/start?next=%2Fservers"), "");
    assert_eq!(status, 303);
    let back = issuer.log_in(&address);
    assert!(back.as_str().starts_with(url), "{back}");
    let (status, location, session) = get(back.as_str(), &login);
    assert_eq!((status, location.as_str()), (303, "/servers"));
    assert_eq!(get(&format!("{url}servers"), &session).0, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_a_console_lacks_is_named_with_the_remedy() {
    let queue = [("TOOLFLEET_QUEUE_URL", "http://127.0.0.1:1/0/calls"), ("AWS_REGION", "eu-west-1")];
    toolfleet(&["console"]).exits(2).complains(&["TOOLFLEET_QUEUE_URL"]);
    let open = ["console", "--listen", "0.0.0.0:0"];
    toolfleet_within(&queue, &open).exits(2).complains(&["TOOLFLEET_CONSOLE_TOKENS", "127.0.0.1"]);
    let named = ["console", "--listen", "0.0.0.0:0", "--tokens", "/nonexistent"];
    toolfleet_within(&queue, &named).exits(2).complains(&["TOOLFLEET_CONSOLE_PUBLIC_URL", "https://"]);
    let tokens = ["console", "--tokens", "/nonexistent"];
    toolfleet_within(&queue, &tokens).exits(2).complains(&["TOOLFLEET_CONSOLE_TOKENS", "/nonexistent"]);
    let key = ["console", "--key", "short"];
    toolfleet_within(&queue, &key).exits(2).complains(&["TOOLFLEET_CONSOLE_KEY", "openssl rand -base64 32"]);
}
