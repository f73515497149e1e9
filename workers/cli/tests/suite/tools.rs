//! Listing the tools of a catalog and of its servers.

use serde_json::Value;

use crate::run::{Dev, directory, file, toolfleet};

#[test]
fn the_tools_of_a_catalog_and_of_its_servers_are_listed() {
    let dev = Dev::start(&["--no-worker"]);
    let catalog = dev.ready["env"]["TOOLFLEET_CATALOG"].as_str().unwrap();
    let list = dev.toolfleet(&["tools", "list", "--catalog", catalog]).exits(0);
    list.prints(&["SAFE TO REPEAT", "counter", "flaky", "30.0 s"]);
    let live = dev.toolfleet(&["tools", "list", "--live", "--json"]).exits(0).json();
    assert_eq!(live["tools"].as_array().unwrap().len(), 6);
    assert_eq!(live["servers"][0]["server"], "demo");
    let names = |tools: &Value| {
        let tools = tools.as_array().unwrap().iter();
        tools.map(|t| t["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let listed = names(&live["servers"][0]["tools"]);
    assert!(listed.contains(&"counter".to_owned()), "{listed:?}");
    let url = dev.ready["mcp_url"].as_str().unwrap();
    let of_url = dev.toolfleet(&["tools", "list", "--url", url, "--json"]).exits(0).json();
    assert_eq!(names(&of_url["tools"]), listed);
    dev.toolfleet(&["tools", "list", "--live"])
        .exits(0)
        .prints(&["server demo at http://127.0.0.1", "READ ONLY"]);
}

#[test]
fn an_unreachable_server_is_reported_beside_the_tools() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        r#"{{"servers": [{{"id": "gone", "url": "http://{free}/mcp"}},
            {{"id": "closed", "url": "http://{free}/mcp", "headers": {{"authorization": "Bearer secret://key"}}}}],
            "tools": [{{"id": "x", "server": "gone"}}], "tenants": {{"queue": ["*"]}}}}"#
    );
    let path = file(&directory("gone-server"), "catalog.json", &text);
    let ran = toolfleet(&["tools", "list", "--live", "--catalog", &path]).exits(1);
    ran.prints(&[
        "server gone at",
        "cannot connect to the server",
        "secret `key`: no AWS credentials were found",
    ]);
    toolfleet(&["tools", "list", "--url", &format!("http://{free}/mcp")])
        .exits(4)
        .complains(&["cannot connect"]);
}
