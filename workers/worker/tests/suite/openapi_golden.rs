//! The golden table of OpenAPI at a server: a document is made of all cases of a version, each is called through SQS, and the request that
//! arrives is compared byte for byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Map, Value, json};
use toolfleet_testkit::{EchoHttp, OpenApiCase, openapi_cases};
use toolfleet_worker::{Limits, pipeline};

use crate::rig::{Rig, SENDER, limits};

/// The document whose operations are the cases, by their numbers.
fn document(version: &str, cases: &[(usize, OpenApiCase)]) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for (number, case) in cases {
        let mut operation = case.operation.clone();
        operation["operationId"] = json!(format!("case{number}"));
        operation["responses"] = json!({"200": {"description": "It is as it is."}});
        paths.insert(format!("/c{number}{}", case.path), json!({ "post": operation }));
        schemas.extend(case.schemas.as_object().cloned().unwrap_or_default());
    }
    let info = json!({"title": "Golden", "version": "1"});
    match version {
        "2.0" => {
            json!({"swagger": version, "info": info, "host": "h.example", "schemes": ["https"], "paths": paths})
        }
        _ => {
            json!({"openapi": version, "info": info, "servers": [{"url": "https://h.example"}], "paths": paths,
            "components": {"schemas": schemas}})
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_case_of_the_golden_table_arrives_byte_for_byte() {
    let mut by_version: BTreeMap<&str, Vec<(usize, OpenApiCase)>> = BTreeMap::new();
    for (number, case) in openapi_cases().into_iter().enumerate() {
        by_version.entry(case.version).or_default().push((number, case));
    }
    assert_eq!(by_version.keys().copied().collect::<Vec<_>>(), ["2.0", "3.0.4", "3.1.1", "3.2.0"]);
    for (version, cases) in by_version {
        let (rig, echo) = (Rig::new().await, EchoHttp::start().await);
        let catalog = json!({
            "servers": [{"id": "golden", "openapi": document(version, &cases), "url": echo.url()}],
            "tools": [], "tenants": {"senders": {SENDER: ["acme"]}, "fleet": [SENDER]},
        });
        // A slot for each call: one that found none would go back to the queue, and be run alone.
        let slots = u32::try_from(cases.len()).unwrap();
        let context = rig.fleet_of(catalog, Limits { slots, ..limits() }, None).await;
        // The arguments keep their text: numbers their digits, members their order.
        let body = |number: &usize, case: &OpenApiCase| {
            format!(
                r#"{{"v": 1, "call_id": "c{number}", "tenant": "acme", "server": "golden", "name": "case{number}", "arguments": {}}}"#,
                case.arguments
            )
        };
        join_all(cases.iter().map(|(number, case)| rig.send(body(number, case)))).await;
        let mut running = Vec::new();
        while let Some(delivery) = rig.receive(&context).await {
            running.push(pipeline::run(Arc::clone(&context), delivery, ()));
        }
        join_all(running).await;
        rig.settle_with(&context).await;
        let requests = echo.requests();
        for (number, case) in &cases {
            let start = format!("/c{number}/");
            let Some(request) = requests.iter().find(|request| request.target.starts_with(&start)) else {
                let seen = rig.outcome(&format!("c{number}")).await;
                panic!("{} {}: {}", case.name, case.arguments, seen.message);
            };
            let target = &request.target[start.len() - 1..];
            let compared = case.compare(target, |name| request.header(name), &request.body);
            compared.unwrap_or_else(|why| panic!("{why}"));
        }
        assert_eq!(requests.len(), cases.len(), "{version}");
    }
}
