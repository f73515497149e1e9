//! A worker that is killed, and the programs that it had started.

use serde_json::json;
use toolfleet_testkit::ScriptedProgram;

use crate::run::{Dev, directory, file};

/// Whether a process runs. One that has ended may wait for an init that takes it away.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn no_program_outlives_a_worker_that_was_killed() {
    // Each leaves a process behind that ignores everything but SIGKILL, as it does itself.
    let scripts: Vec<_> = (0..32).map(|_| ScriptedProgram::new(&["grandchild", "ignores-term"])).collect();
    let servers: Vec<_> = scripts
        .iter()
        .enumerate()
        .map(|(n, script)| json!({"id": format!("s{n}"), "command": script.command(), "args": script.args(), "discover": true}))
        .collect();
    let directory = directory("killed");
    let catalog = json!({"servers": servers, "tenants": {"queue": ["*"]}});
    let path = file(&directory, "catalog.json", &catalog.to_string());
    let mut dev = Dev::start(&["--catalog", &path]);
    for n in 0..scripts.len() {
        let server = format!("s{n}");
        dev.toolfleet(&["call", "--tenant", "acme", "--server", &server, "--name", "echo"]).exits(0);
    }
    let started =
        |script: &ScriptedProgram| script.pids().into_iter().chain(script.grandchild()).collect::<Vec<_>>();
    let all: Vec<u32> = scripts.iter().flat_map(started).collect();
    assert!(all.len() >= 64 && all.iter().all(|pid| runs(*pid)), "{all:?}");
    dev.kill();
    let gone = || all.iter().all(|pid| !runs(*pid));
    scripts[0].seen("the end of all its programs", gone).await;
}
