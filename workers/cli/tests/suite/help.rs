//! The help texts of all verbs.

use crate::run::{is_golden, toolfleet};

#[test]
fn the_help_lists_every_verb_and_the_exit_codes() {
    let ran = toolfleet(&["--help"]).exits(0);
    ran.prints(&["dev", "send", "call", "result", "cancel", "history", "tools", "queue", "completions"]);
    ran.prints(&["Exit codes: 0 done", "AWS_ENDPOINT_URL_SQS", "TOOLFLEET_QUEUE_URL", "--json"]);
}

#[test]
fn every_verb_has_a_help_text() {
    let verbs: [&[&str]; 27] = [
        &["why"],
        &["group", "show"],
        &["group", "wait"],
        &["group", "cancel"],
        &["group", "redrive"],
        &["dlq", "list"],
        &["dlq", "show"],
        &["dlq", "redrive"],
        &["sessions", "create"],
        &["sessions", "show"],
        &["dev"],
        &["send"],
        &["call"],
        &["result"],
        &["cancel"],
        &["history"],
        &["tools", "list"],
        &["tools", "diff"],
        &["tools", "approve"],
        &["tools", "import"],
        &["resources", "list"],
        &["resources", "templates"],
        &["resources", "read"],
        &["prompts", "list"],
        &["prompts", "get"],
        &["queue", "status"],
        &["completions"],
    ];
    for verb in verbs {
        let args: Vec<_> = verb.iter().copied().chain(["--help"]).collect();
        let ran = toolfleet(&args).exits(0);
        ran.prints(&["Usage: toolfleet", "--json", "--queue-url <URL>"]);
        for line in ran.stdout.lines() {
            assert!(line.chars().count() <= 110, "too wide: {line}");
        }
    }
}

#[test]
fn the_help_texts_are_golden() {
    for (name, args) in [
        ("help.txt", vec!["--help"]),
        ("help-call.txt", vec!["call", "--help"]),
        ("help-dev.txt", vec!["dev", "--help"]),
    ] {
        is_golden(name, &toolfleet(&args).exits(0).stdout);
    }
}

#[test]
fn the_help_of_dev_names_the_ports() {
    toolfleet(&["dev", "--help"]).exits(0).prints(&[
        "9324",
        "8000",
        "8931",
        "--demo",
        "--no-worker",
        "--data-dir",
    ]);
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        toolfleet(&["completions", shell]).exits(0).prints(&["history", "table-prefix"]);
    }
}

#[test]
fn the_version_is_printed() {
    assert_eq!(
        toolfleet(&["--version"]).exits(0).stdout,
        format!("toolfleet {}\n", env!("CARGO_PKG_VERSION"))
    );
}
