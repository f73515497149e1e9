//! `toolfleet gateway` as a process, and the gateway of `toolfleet dev`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::run::{Dev, directory, toolfleet, toolfleet_within};

/// 32 bytes of `k`.
const KEY: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

/// A running `toolfleet gateway`, killed when it is dropped.
struct GatewayProcess {
    child: Child,
    url: String,
}

impl GatewayProcess {
    fn start(dev: &Dev) -> Self {
        let args = ["gateway", "--json", "--listen", "127.0.0.1:0", "--tenant", "demo", "--key", KEY];
        let mut child = dev.command(&args).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("it does not start: {line}"));
        Self { child, url: ready["url"].as_str().unwrap().to_owned() }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The answer to a request of 2026-07-28; none if the connection breaks.
async fn post(url: String, method: &'static str, mut params: Value) -> Option<Value> {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    let name = params["name"].as_str().unwrap_or_default().to_owned();
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method)
        .header("mcp-name", name)
        .body(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string());
    let text = request.send().await.ok()?.text().await.ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

/// The answer to a request of 2025-11-25.
async fn post_older(url: &str, method: &str, params: Value) -> Value {
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2025-11-25")
        .body(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string());
    let text = request.send().await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A fleet with two gateways that publish all its tools.
fn two_gateways(name: &str) -> (Dev, GatewayProcess, GatewayProcess) {
    let directory = directory(name);
    let dev = Dev::start(&["--data-dir", &directory.display().to_string()]);
    // The file is the fleet's own; only the gateways read `publish`.
    let path = directory.join("catalog.json");
    let mut catalog: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    catalog["publish"] = json!("*");
    std::fs::write(&path, catalog.to_string()).unwrap();
    let (first, second) = (GatewayProcess::start(&dev), GatewayProcess::start(&dev));
    (dev, first, second)
}

/// How many records there are of calls of `slow`.
fn slow_calls(dev: &Dev) -> usize {
    dev.wait_until_empty();
    let records = dev.toolfleet(&["history", "demo", "--json"]).exits(0).json();
    let is_slow = |record: &&Value| record["tool"] == "slow" && record["kind"] == "call";
    records["records"].as_array().unwrap().iter().filter(is_slow).count()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

#[test]
fn dev_has_a_gateway_with_all_tools() {
    let dev = Dev::start(&[]);
    let url = dev.ready["gateway_url"].as_str().unwrap().to_owned();
    let list = runtime().block_on(post(url, "tools/list", json!({}))).unwrap();
    let names: Vec<_> = list["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["get_result", "add", "counter", "echo", "fail", "flaky", "slow"]);
}

#[test]
fn a_killed_gateway_loses_no_call_and_repeats_none() {
    let (dev, mut first, second) = two_gateways("gateway-killed");
    let call = || json!({"name": "slow", "arguments": {"ms": 3000}, "_meta": {"toolfleet/requestKey": "k1"}});
    let runtime = runtime();
    let waiting = runtime.spawn(post(first.url.clone(), "tools/call", call()));
    loop {
        let status = dev.toolfleet(&["queue", "status", "--json"]).exits(0).json();
        if status["queues"][0]["in_flight"] == 1 {
            break;
        }
    }
    first.kill();
    assert!(runtime.block_on(waiting).unwrap().is_none(), "the connection is cut");
    let retried = runtime.block_on(post(second.url.clone(), "tools/call", call())).unwrap();
    assert!(retried["result"]["content"][0]["text"].is_string(), "{retried}");
    let again = runtime.block_on(post(second.url.clone(), "tools/call", call())).unwrap();
    assert_eq!(retried["result"]["content"], again["result"]["content"]);
    assert_eq!(slow_calls(&dev), 1);
}

#[test]
fn a_task_of_a_killed_gateway_is_found_at_another() {
    let (dev, mut first, second) = two_gateways("gateway-task");
    let runtime = runtime();
    let ask = |url: &str, method, params| runtime.block_on(post_older(url, method, params));
    let call = json!({"name": "slow", "arguments": {"ms": 3000}, "task": {"ttl": 60_000}});
    let made = ask(&first.url, "tools/call", call);
    let id = json!({"taskId": made["result"]["task"]["taskId"]});
    first.kill();
    assert_eq!(ask(&second.url, "tasks/get", id.clone())["result"]["status"], "working", "{made}");
    let result = ask(&second.url, "tasks/result", id.clone());
    assert!(result["result"]["content"][0]["text"].is_string(), "{result}");
    assert_eq!(ask(&second.url, "tasks/get", id)["result"]["status"], "completed");
    assert_eq!(slow_calls(&dev), 1);
}

#[test]
fn what_is_missing_is_named_with_the_remedy() {
    toolfleet(&["gateway"]).exits(2).complains(&["TOOLFLEET_GATEWAY_TENANT"]);
    let open = ["gateway", "--listen", "0.0.0.0:0", "--tenant", "acme"];
    toolfleet(&open).exits(2).complains(&["0.0.0.0:0", "TOOLFLEET_GATEWAY_OAUTH_ISSUER"]);
    let queue = [("TOOLFLEET_QUEUE_URL", "http://127.0.0.1:1/0/calls"), ("AWS_REGION", "eu-west-1")];
    let key = ["gateway", "--tenant", "acme", "--key", "short"];
    toolfleet_within(&queue, &key).exits(2).complains(&["TOOLFLEET_GATEWAY_KEY", "openssl rand -base64 32"]);
    toolfleet_within(&queue, &["gateway", "--tenant", "acme"]).exits(2).complains(&["--catalog"]);
}
