//! The reports: read back as written, and compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toolfleet_loadtest::bill::{Bills, Line};
use toolfleet_loadtest::faults::{FaultCost, FaultKind};
use toolfleet_loadtest::prices::Bill;
use toolfleet_loadtest::report::{Latency, Report, compare};
use toolfleet_loadtest::traffic::{Count, Traffic};

fn report() -> Report {
    Report {
        calls: 1_000,
        mode: "drain".into(),
        mix: "echo=1".into(),
        payload: "as the tools".into(),
        seed: 1,
        workers: 1,
        slots: 64,
        lease_ms: 3_000,
        faults: vec![],
        late_answers: 0,
        wall_s: 2.0,
        calls_per_s: 500.0,
        worker_cpu_us_per_call: 200.0,
        worker_start_cpu_us: 30_000,
        idle_kib: 20_480,
        peak_kib: 40_960,
        held: None,
        latency: Latency { p50_ms: 10, p95_ms: 20, p99_ms: 0, max_ms: 40 },
        added: Latency { p50_ms: 5, p95_ms: 10, p99_ms: 15, max_ms: 20 },
        outcomes: BTreeMap::from([("succeeded".to_owned(), 1_000)]),
        executions: 1_000,
        traffic: None,
        bill: None,
        series: vec![],
        violations: 0,
        first_violations: vec![],
        debug_build: false,
    }
}

fn file(name: &str, report: &Report) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    report.write(&file).unwrap();
    file
}

fn row<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.starts_with(name));
    line.map(|line| line[name.len()..].split_whitespace().collect()).unwrap_or_default()
}

#[test]
fn two_reports_are_compared_with_ratios() {
    let first = file("compare-a.json", &report());
    let better = Report { calls_per_s: 1_000.0, worker_cpu_us_per_call: 100.0, ..report() };
    let table = compare(&first, &file("compare-b.json", &better)).unwrap();
    assert_eq!(row(&table, "calls per second"), ["500", "1000", "2.00"]);
    assert_eq!(row(&table, "worker CPU us per call"), ["200", "100", "0.50"]);
    assert_eq!(row(&table, "p99 ms"), ["0", "0", "-"]);
    assert_eq!(row(&table, "added p99 ms"), ["15", "15", "1.00"]);
}

#[test]
fn requests_and_the_bill_are_compared_if_both_runs_counted_them() {
    let counted = |requests, write_units| {
        let count = Count { requests, entries: 1_000, write_units, ..Count::default() };
        let operations = BTreeMap::from([("BatchExecuteStatement".to_owned(), count)]);
        let traffic = Traffic { operations, ..Traffic::default() };
        Report { bill: Some(Bill::of(&traffic, 1_000)), traffic: Some(traffic), ..report() }
    };
    let (without, one) =
        (file("counts-none.json", &report()), file("counts-one.json", &counted(1_000, 4_000.0)));
    let table = compare(&one, &file("counts-two.json", &counted(250, 3_000.0))).unwrap();
    assert_eq!(row(&table, "BatchExecuteStatement per call"), ["1.000", "0.250", "0.25"]);
    assert_eq!(row(&table, "BatchExecuteStatement entries per request"), ["1.000", "4.000", "4.00"]);
    assert_eq!(row(&table, "USD per million calls"), ["2.500", "1.875", "0.75"]);
    assert!(!compare(&one, &without).unwrap().contains("BatchExecuteStatement"));
    assert!(counted(250, 4_000.0).to_string().contains("2.50 USD for a million calls"));
}

#[test]
fn the_cost_of_a_fault_is_shown_with_the_lease_and_compared() {
    let cost = |recovery_s| FaultCost {
        kind: FaultKind::Kill,
        at_s: 1.0,
        lasted_s: 0.0,
        interrupted: 7,
        recovery_s: Some(recovery_s),
        hidden: None,
        hidden_s: None,
    };
    let with_fault = |recovery_s| Report { faults: vec![cost(recovery_s)], ..report() };
    let text = with_fault(4.0).to_string();
    assert!(text.contains("7 interrupted, the last ended 4.0 s after it (lease + 5 s: 8.0 s)"), "{text}");
    let table =
        compare(&file("died-a.json", &with_fault(4.0)), &file("died-b.json", &with_fault(2.0))).unwrap();
    assert_eq!(row(&table, "fault 1 (kill) recovery s"), ["4.000", "2.000", "0.50"]);
}

#[test]
fn violations_are_shown_in_a_report_and_in_every_comparison() {
    let wrong = Report { violations: 3, ..report() };
    assert!(wrong.to_string().contains("3 VIOLATIONS"));
    assert!(report().to_string().contains("all 1000 calls, exactly once"));
    let table = compare(&file("right.json", &report()), &file("wrong.json", &wrong)).unwrap();
    assert!(table.contains("The second run had 3 violations"), "{table}");
}

#[test]
fn a_violation_in_one_load_of_a_bill_is_found_and_shown() {
    let line = |kind: &str, violations| Line {
        kind: kind.into(),
        bill: Bill::default(),
        usd_per_million: 0.0,
        batches: BTreeMap::new(),
        write_units: BTreeMap::new(),
        violations,
    };
    let bills = |second| Bills { load: "10 calls each".into(), lines: vec![line("a", 0), line("b", second)] };
    assert!(bills(0).is_verified() && !bills(0).to_string().contains("VIOLATIONS"));
    assert!(!bills(2).is_verified());
    let text = bills(2).to_string();
    assert!(text.lines().any(|row| row.starts_with('b') && row.ends_with("2 VIOLATIONS")), "{text}");
}
