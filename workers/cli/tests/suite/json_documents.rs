//! With `--json`, stdout holds one JSON document whatever the exit code, for each verb.

use std::collections::BTreeSet;

use crate::run::{Dev, directory, file};

/// A verb, and arguments with which it looks for something that is not there, or changes nothing.
const VERBS: &[(&str, &[&str])] = &[
    ("send", &["--tenant", "acme", "--tool", "echo"]),
    ("call", &["--tenant", "acme", "--tool", "echo", "--wait", "1ms"]),
    ("result", &["acme", "none"]),
    ("why", &["acme", "none"]),
    ("cancel", &["acme", "none"]),
    ("status", &[]),
    ("top", &["--once"]),
    ("plan", &["--from-history", "1h"]),
    ("plan", &["--rate", "1/s", "--calls", "1:1s"]),
    ("doctor", &["--pre"]),
    ("workers", &[]),
    ("servers", &[]),
    ("scale show", &[]),
    ("scale set", &["1", "--dry-run"]),
    ("scale limits", &["--min", "1"]),
    ("stats", &[]),
    ("pause", &["tool", "none", "--why", "x", "--by", "ann"]),
    ("resume", &["tool", "other", "--why", "x", "--by", "ann"]),
    ("limit set", &["tool:none", "--rate", "1/s", "--why", "x", "--by", "ann"]),
    ("limit clear", &["tool:other", "--why", "x", "--by", "ann"]),
    ("limit list", &[]),
    ("drain", &["none", "--why", "x", "--by", "ann"]),
    ("strike", &["--digest", "0123456789abcdef", "--lift", "--why", "x", "--by", "ann"]),
    ("weight", &["none", "2", "--why", "x", "--by", "ann"]),
    ("switches", &[]),
    ("history", &["acme"]),
    ("history", &["acme", "none"]),
    ("sessions create", &["acme", "s1", "--grant", "echo"]),
    ("sessions show", &["acme", "none"]),
    ("sessions grant", &["acme", "none", "--grant", "echo"]),
    ("sessions expire", &["acme", "none", "--ends-in", "5m"]),
    ("sessions revoke", &["acme", "none"]),
    ("tools list", &[]),
    ("tools diff", &[]),
    ("tools approve", &["none"]),
    ("tools import", &["/no/such/file"]),
    ("tools import openapi", &["/no/such/file"]),
    ("resources list", &["none", "--tenant", "acme", "--wait", "1ms"]),
    ("resources templates", &["none", "--tenant", "acme", "--wait", "1ms"]),
    ("resources read", &["none", "file:///x", "--tenant", "acme", "--wait", "1ms"]),
    ("prompts list", &["none", "--tenant", "acme", "--wait", "1ms"]),
    ("prompts get", &["none", "x", "--tenant", "acme", "--wait", "1ms"]),
    ("catalog check", &["/no/such/file"]),
    ("queue status", &[]),
    ("group show", &["acme", "none"]),
    ("group wait", &["acme", "none", "--wait", "1ms"]),
    ("group cancel", &["acme", "none"]),
    ("group redrive", &["acme", "none", "--requests"]),
    ("dlq list", &[]),
    ("dlq show", &["acme", "none"]),
    ("dlq redrive", &[]),
    ("context list", &[]),
    ("context show", &[]),
    ("context use", &["none"]),
    ("context set", &["none", "AWS_REGION=eu-west-1"]),
    ("context save", &["none"]),
    ("context remove", &["none"]),
    ("completions", &["bash"]),
];

/// Verbs that run until they are stopped; their own tests read their first document.
const SERVERS: [&str; 3] = ["dev", "gateway", "console"];

/// The verbs of a help page: the first words of the lines below `Commands:`.
fn verbs(dev: &Dev, path: &str) -> BTreeSet<String> {
    let args: Vec<_> = path.split_whitespace().chain(["--help"]).collect();
    let help = dev.toolfleet(&args).exits(0).stdout;
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    let names: Vec<_> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    let mut found = BTreeSet::new();
    for name in names.into_iter().filter(|name| *name != "help") {
        let path = format!("{path} {name}").trim().to_owned();
        let below = verbs(dev, &path);
        if below.is_empty() {
            found.insert(path);
        } else {
            found.extend(below);
        }
    }
    found
}

#[test]
fn each_verb_prints_one_document_whatever_its_exit_code() {
    let dev = Dev::start(&["--no-worker"]);
    let named: BTreeSet<_> = VERBS.iter().map(|(verb, _)| (*verb).to_owned()).collect();
    let all: BTreeSet<_> =
        verbs(&dev, "").into_iter().filter(|verb| !SERVERS.contains(&verb.as_str())).collect();
    assert_eq!(all.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new(), "verbs without a case");
    let requests = file(&directory("json-documents"), "requests.jsonl", "");
    let mut wrong = Vec::new();
    for (verb, more) in VERBS {
        let mut args: Vec<_> = verb.split(' ').chain(more.iter().copied()).collect();
        if *verb == "group redrive" {
            args.push(&requests);
        }
        args.push("--json");
        let ran = dev.toolfleet(&args);
        let is_document = serde_json::from_str::<serde_json::Value>(&ran.stdout).is_ok();
        if !is_document || ran.stdout.lines().count() != 1 {
            wrong.push(format!("{}: exit {}: {:?} {}", args.join(" "), ran.code, ran.stdout, ran.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
