//! The help texts: complete, the same everywhere, and independent of the environment.

use crate::run::toolfleet;

#[test]
fn the_help_lists_every_verb_and_the_exit_codes() {
    let ran = toolfleet(&["--help"]).exits(0);
    ran.prints(&["dev", "send", "call", "result", "cancel", "history", "tools", "queue", "completions"]);
    ran.prints(&["Exit codes: 0 done", "AWS_ENDPOINT_URL_SQS", "TOOLFLEET_QUEUE_URL", "--json"]);
}

#[test]
fn every_verb_has_a_help_that_says_what_its_options_are_for() {
    let verbs: [&[&str]; 9] = [
        &["dev"],
        &["send"],
        &["call"],
        &["result"],
        &["cancel"],
        &["history"],
        &["tools", "list"],
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
fn the_help_of_call_is_as_agreed() {
    let ran = toolfleet(&["call", "--help"]).exits(0);
    let options: Vec<_> = ran
        .stdout
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("-a, ").or(Some(line.trim_start())))
        .filter(|line| line.starts_with("--"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        options,
        [
            "--tenant",
            "--tool",
            "--function",
            "--server",
            "--name",
            "--arguments",
            "--call-id",
            "--idempotency-key",
            "--session",
            "--user",
            "--agent",
            "--group",
            "--timeout-ms",
            "--deadline",
            "--max-attempts",
            "--idempotent",
            "--reply-queue",
            "--body",
            "--wait-ms",
            "--json",
            "--log",
            "--queue-url",
            "--table-prefix",
            "--history-shards",
        ]
    );
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
