//! Log codes, metric names, labels and requeue reasons are an interface: a new or changed one must be written here and in the docs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The codes of log lines; docs/reference/runbook.md explains them.
const LOG_CODES: [&str; 61] = [
    "acknowledge_failed",
    "attributes_not_stored",
    "aws_error",
    "batch_not_divided",
    "breaker_opened",
    "bucket_error",
    "catalog_refused",
    "catalog_reload_failed",
    "catalog_remark",
    "catalog_taken",
    "clock_off",
    "connection_not_opened",
    "console_login",
    "console_login_refused",
    "console_oidc_failed",
    "console_page_failed",
    "console_read_failed",
    "control_taken",
    "control_unread",
    "dead_lettered",
    "document_unread",
    "gateway_cancel_failed",
    "gateway_list_failed",
    "gateway_send_failed",
    "gateway_wait_failed",
    "group_mismatch",
    "group_notice_failed",
    "health_failed",
    "heartbeat_failed",
    "held",
    "intake_stopped",
    "internal_error",
    "invocation_cut",
    "invocation_failed",
    "issuer_keys_failed",
    "late_answer",
    "lease_lost",
    "limit_unread",
    "list_cut",
    "not_executable",
    "notice_failed",
    "protection_failed",
    "receive_failed",
    "report_failed",
    "requeue_failed",
    "runtime_api_failed",
    "schema_over_budget",
    "service_failed",
    "service_restarted",
    "session_close_failed",
    "start_failed",
    "start_waits",
    "stdio_ended",
    "stdio_not_started",
    "stdio_stray_line",
    "stray_message",
    "summary_failed",
    "tenant_not_allowed",
    "time_limit_too_long",
    "undecodable",
    "worker_lost",
];

/// The metrics; docs/reference/metrics.md explains them.
const METRICS: [&str; 37] = [
    "mcp.client.operation.duration",
    "messaging.client.consumed.messages",
    "messaging.process.duration",
    "toolfleet.aws.capacity_units",
    "toolfleet.aws.requests",
    "toolfleet.batch.size",
    "toolfleet.breakers.open",
    "toolfleet.cache.bytes",
    "toolfleet.cache.calls",
    "toolfleet.cache.entries",
    "toolfleet.calls.ended",
    "toolfleet.calls.in_hand",
    "toolfleet.calls.requeued",
    "toolfleet.catalog.refused",
    "toolfleet.catalog.taken",
    "toolfleet.control.age_ms",
    "toolfleet.fleet.runnable_seconds",
    "toolfleet.fleet.slots",
    "toolfleet.fleet.waiting_seconds",
    "toolfleet.fleet.wanted_slots",
    "toolfleet.flooded",
    "toolfleet.groups.decided",
    "toolfleet.late_answers",
    "toolfleet.limits.met",
    "toolfleet.limits.missed_turns",
    "toolfleet.limits.sent_late",
    "toolfleet.queue.oldest_ms",
    "toolfleet.receives",
    "toolfleet.schemas.bytes",
    "toolfleet.schemas.compiled",
    "toolfleet.schemas.dropped",
    "toolfleet.server.breaker",
    "toolfleet.slots",
    "toolfleet.stdio.programs",
    "toolfleet.store.requests",
    "toolfleet.store.writes",
    "toolfleet.run_queue.lag_us",
];

/// The labels of metrics.
const LABELS: [&str; 16] = [
    "error.type",
    "mcp.method.name",
    "messaging.destination.name",
    "messaging.operation.name",
    "messaging.system",
    "rpc.method",
    "toolfleet.cache",
    "toolfleet.code",
    "toolfleet.limit",
    "toolfleet.outcome",
    "toolfleet.reason",
    "toolfleet.result",
    "toolfleet.server",
    "toolfleet.table",
    "toolfleet.units",
    "toolfleet.waits_in",
];

/// The values of the label `toolfleet.reason`.
const REASONS: [&str; 25] = [
    "aws_error",
    "aws_failed",
    "back_off",
    "claim_too_slow",
    "clock_off",
    "concurrency_limit",
    "credential",
    "draining",
    "group_timer",
    "held_elsewhere",
    "lease_lost",
    "no_time_left",
    "not_before",
    "paused",
    "rate_limit",
    "result_not_stored",
    "retry_budget",
    "server_failing",
    "server_pause",
    "server_silent",
    "server_unreachable",
    "share",
    "task_working",
    "unreadable",
    "waits_for_other",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).expect(file)
}

/// The Rust sources below `src` folders of the workspace, without test modules.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "tests" | "examples") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") && name != "tests.rs" {
            let text = std::fs::read_to_string(&path).expect("a source");
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            found.push(text.to_owned());
        }
    }
}

fn all_sources() -> String {
    let mut found = Vec::new();
    for folder in ["workers", "shared", "infra", "loadtest"] {
        sources(&root().join(folder), &mut found);
    }
    found.join("\n")
}

/// The string literals that follow `before` directly.
fn literals<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    let after = text.split(before).skip(1);
    after.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

fn set<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}

fn undocumented<'a>(names: &[&'a str], file: &str) -> Vec<&'a str> {
    let docs = read(file);
    names.iter().copied().filter(|name| !docs.contains(&format!("`{name}`"))).collect()
}

#[test]
fn every_log_code_is_listed_and_explained() {
    let sources = all_sources();
    let mut found = literals(&sources, " code = ");
    found.extend(literals(&sources, "(code = "));
    assert_eq!(found, set(&LOG_CODES));
    assert_eq!(undocumented(&LOG_CODES, "docs/reference/runbook.md"), [""; 0]);
}

#[test]
fn every_metric_and_label_is_listed_and_explained() {
    let sources = all_sources();
    let mut metrics = BTreeSet::new();
    for before in [
        "seconds(",
        "count(",
        ".u64_histogram(",
        ".watch(",
        ".watch_count(",
        ".watch_known(",
        ".watch_each(",
        ".watch_sums(",
    ] {
        metrics.extend(literals(&sources, before).into_iter().filter(|name| name.contains('.')));
    }
    assert_eq!(metrics, set(&METRICS));
    let labels: BTreeSet<_> = literals(&sources, "KeyValue::new(").into_iter().collect();
    let labels: BTreeSet<_> = labels.into_iter().filter(|label| *label != "service.version").collect();
    assert_eq!(labels, set(&LABELS));
    for names in [&METRICS[..], &LABELS[..]] {
        assert_eq!(undocumented(names, "docs/reference/metrics.md"), [""; 0]);
    }
}

#[test]
fn every_requeue_reason_is_listed_and_explained() {
    let (held, requeued) =
        (read("shared/core/src/call/held.rs"), read("workers/worker/src/pipeline/disposition.rs"));
    let body = |text: &str, head: &str| {
        let body = text.split(head).nth(1).expect("the function of labels");
        body.split("\n    }\n").next().unwrap_or_default().to_owned()
    };
    let bodies = [body(&held, "pub const fn as_str("), body(&requeued, "const fn label(")].concat();
    assert_eq!(literals(&bodies, "=> "), set(&REASONS));
    assert_eq!(undocumented(&REASONS, "docs/reference/metrics.md"), [""; 0]);
}
