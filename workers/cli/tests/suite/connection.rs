//! Errors of the connection to a fleet.

use std::process::Command;

use serde_json::Value;

use crate::run::Dev;

#[test]
fn a_stopped_fleet_is_unavailable() {
    let dev = Dev::start(&["--no-worker"]);
    let environment = dev.ready["env"].clone();
    let url = dev.ready["queue_url"].as_str().unwrap().to_owned();
    assert_eq!(dev.terminate().0, 0);
    let mut command = Command::new(crate::run::BINARY);
    command.args(["queue", "status", "--json", "--queue-url", &url]).env_clear();
    for (name, value) in environment.as_object().unwrap() {
        command.env(name, value.as_str().unwrap());
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["kind"], "unavailable");
}

#[test]
fn a_queue_that_does_not_exist_is_a_wrong_configuration() {
    let dev = Dev::start(&["--no-worker"]);
    let wrong = dev.ready["queue_url"].as_str().unwrap().replace("toolfleet-calls", "toolfleet-cals");
    let ran = dev.toolfleet(&["queue", "status", "--queue-url", &wrong]).exits(2);
    ran.complains(&["no such queue; check TOOLFLEET_QUEUE_URL"]);
    let ran = dev.toolfleet(&["result", "acme", "c1", "--table-prefix", "other"]).exits(2);
    ran.complains(&["other-calls", "no such resource"]);
}

#[test]
fn a_missing_setting_is_named_with_its_remedy_and_no_secret() {
    let dev = Dev::start(&["--no-worker"]);
    let status = ["queue", "status"];
    let no_region = [("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "")];
    dev.toolfleet_but(&no_region, &status).exits(2).complains(&["no AWS region is set", "AWS_REGION"]);
    let no_credentials =
        [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_EC2_METADATA_DISABLED", "true")];
    let ran = dev.toolfleet_but(&no_credentials, &status).exits(2);
    assert_eq!(ran.stderr.lines().count(), 2, "the chain of providers is left out: {}", ran.stderr);
    ran.complains(&["no AWS credentials were found", "AWS_PROFILE", "`toolfleet dev`"]);
    let away = [("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1"), ("AWS_SECRET_ACCESS_KEY", "hush-hush")];
    let ran = dev.toolfleet_but(&away, &["--log", "trace", "queue", "status"]).exits(4);
    assert!(!ran.stderr.contains("hush-hush"), "a secret is printed");
    ran.complains(&["nothing answers there", "AWS_ENDPOINT_URL_", "`toolfleet dev`"]);
    let nowhere = [("TOOLFLEET_TABLE_PREFIX", "nowhere")];
    dev.toolfleet_but(&nowhere, &["result", "acme", "c1"]).exits(2).complains(&[
        "nowhere-calls",
        "no such resource",
        "TOOLFLEET_TABLE_PREFIX",
    ]);
    let queue = dev.ready["queue_url"].as_str().unwrap().replace("toolfleet-calls", "elsewhere");
    dev.toolfleet(&["queue", "status", "--queue-url", &queue]).exits(2).complains(&[
        "elsewhere",
        "no such queue",
        "TOOLFLEET_QUEUE_URL",
    ]);
}

#[test]
fn every_error_of_a_call_has_its_id() {
    let dev = Dev::start(&[]);
    let call = ["call", "--tenant", "acme", "--tool", "echo", "--call-id", "c1", "--json"];
    let gone = [("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1"), ("AWS_MAX_ATTEMPTS", "1")];
    let ran = dev.toolfleet_but(&gone, &call);
    ran.complains(&["call c1 of tenant acme", "the error concerns call c1 of tenant acme"]);
    let error = &ran.json()["error"];
    assert_eq!((&error["tenant"], &error["call_id"]), (&"acme".into(), &"c1".into()), "{error}");
    let made_up = dev.toolfleet_but(&gone, &["call", "--tenant", "acme", "--tool", "echo", "--json"]);
    assert!(made_up.json()["error"]["call_id"].as_str().is_some_and(|id| id.len() == 36));
}
