//! Starting and stopping the fleet of `toolfleet dev`.

use std::process::Command;

use crate::run::{Dev, directory};

#[test]
fn a_signal_stops_it_and_a_data_directory_keeps_messages() {
    let directory = directory("kept");
    let kept = directory.display().to_string();
    let dev = Dev::start(&["--no-worker", "--data-dir", &kept]);
    let catalog = dev.ready["env"]["TOOLFLEET_CATALOG"].as_str().unwrap().to_owned();
    assert!(catalog.starts_with(&kept), "{catalog}");
    dev.toolfleet(&[
        "send",
        "--tenant",
        "acme",
        "--tool",
        "echo",
        "--arguments",
        r#"{"text": "kept"}"#,
        "--call-id",
        "k",
    ])
    .exits(0);
    let (code, said) = dev.terminate();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("SIGTERM"), "{said}");

    let dev = Dev::start(&["--data-dir", &kept]);
    let wait = [
        "call",
        "--tenant",
        "acme",
        "--tool",
        "echo",
        "--arguments",
        r#"{"text": "kept"}"#,
        "--call-id",
        "k",
    ];
    assert_eq!(dev.toolfleet(&wait).exits(0).stdout, "kept\n");
    let (code, said) = dev.terminate();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_changed_catalog_is_reloaded_while_the_fleet_runs() {
    let directory = directory("changed-catalog");
    let dev = Dev::start(&["--data-dir", &directory.display().to_string()]);
    let path = directory.join("catalog.json");
    let mut catalog: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut tool = catalog["tools"].as_array().unwrap().iter().find(|t| t["id"] == "echo").unwrap().clone();
    tool["id"] = "again".into();
    tool["name"] = "echo".into();
    catalog["tools"].as_array_mut().unwrap().push(tool);
    std::fs::write(directory.join("next.json"), catalog.to_string()).unwrap();
    std::fs::rename(directory.join("next.json"), &path).unwrap();
    // The fleet looks once a second; until then the tool is refused as unknown.
    let call = |n: u32| {
        let id = format!("call-{n}");
        let arguments = r#"{"text": "hello"}"#;
        dev.toolfleet(&[
            "call",
            "--tenant",
            "acme",
            "--tool",
            "again",
            "--arguments",
            arguments,
            "--call-id",
            &id,
        ])
    };
    assert!((0..60).any(|n| call(n).stdout == "hello\n"));
}

#[test]
fn a_temporary_catalog_is_removed_with_its_fleet() {
    let dev = Dev::start(&["--no-worker"]);
    let catalog = dev.ready["env"]["TOOLFLEET_CATALOG"].as_str().unwrap().to_owned();
    assert!(std::fs::exists(&catalog).unwrap());
    assert_eq!(dev.terminate().0, 0);
    assert!(!std::fs::exists(&catalog).unwrap(), "{catalog}");
}

#[test]
fn the_text_of_dev_is_a_script_that_sets_variables() {
    let mut child = Command::new(crate::run::BINARY)
        .args(["dev", "--port-base", "0", "--no-worker"])
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    // The line that says that it runs is the last one of its start.
    while !said.ends_with("ready; Ctrl-C stops it\n") {
        assert!(std::io::BufRead::read_line(&mut stderr, &mut said).unwrap() > 0, "{said}");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let script = String::from_utf8(output.stdout).unwrap();
    assert!(script.lines().all(|line| line.starts_with('#') || line.starts_with("export ")), "{script}");
    assert!(
        script.contains("export TOOLFLEET_CATALOG=") && script.contains("#   toolfleet call"),
        "{script}"
    );
    let check = Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
    assert!(check.success());
}
