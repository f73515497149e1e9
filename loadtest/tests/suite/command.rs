//! The command line: wrong arguments are refused with what is accepted, before anything is started.

use std::path::Path;
use std::process::Command;

fn refused(args: &[&str]) -> String {
    let ran = Command::new(env!("CARGO_BIN_EXE_toolfleet-loadtest")).args(args).output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(ran.stdout.is_empty(), "{args:?}");
    stderr
}

#[test]
fn wrong_arguments_are_answered_with_what_is_accepted() {
    let cases: [(&[&str], &str); 13] = [
        (&["run", "--calls", "0"], "1..=1000000"),
        (&["run", "--rate", "fast"], "invalid digit"),
        (&["run", "--slots", "10001"], "1..=10000"),
        (&["run", "--mix", "echo=1,sloww=2"], "echo, counter, slow, failing, large"),
        (&["run", "--give-up-after", "5h"], "300s or 5m"),
        (&["run", "--calls", "10", "--faults", "kill@10"], "a number from 1 to 9"),
        (&["run", "--faults", "kill,sleep"], "kill, term, stop, endpoints"),
        (&["run", "--slow", "p50=20,p10=5"], "lognormal:50:0.8"),
        (&["run", "--hold", "--rate", "10"], "without --rate"),
        (&["run", "--count-requests", "--faults", "endpoints"], "without --faults endpoints"),
        (&["run", "--calls", "1000", "--rate", "1"], "a longer --give-up-after"),
        (&["run", "--json", "/no/such/folder/x.json"], "a folder that exists"),
        (&["run", "--worker-bin", "/no/such/worker"], "cargo build -p toolfleet-worker"),
    ];
    for (args, accepted) in cases {
        let said = refused(args);
        assert!(said.contains(accepted), "{args:?}: {said}");
    }
}

#[test]
fn a_file_that_is_no_report_is_named() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-report.json");
    std::fs::write(&file, "{}").unwrap();
    let name = file.to_str().unwrap();
    assert!(refused(&["compare", name, name]).contains("no-report.json is not a report"));
    assert!(refused(&["compare", "/no/such/report", name]).contains("/no/such/report"));
}

#[test]
fn the_help_names_every_option_of_a_run() {
    let ran =
        Command::new(env!("CARGO_BIN_EXE_toolfleet-loadtest")).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(ran.stdout).unwrap();
    for option in [
        "--calls",
        "--rate",
        "--workers",
        "--slots",
        "--mix",
        "--seed",
        "--worker-bin",
        "--json",
        "--faults",
        "--lease-ms",
        "--count-requests",
        "--slow",
        "--argument-bytes",
        "--result-bytes",
        "--session-calls",
        "--hold",
        "--resend",
        "--plot",
        "--give-up-after",
    ] {
        assert!(help.contains(option), "{option} is not in the help");
    }
}
