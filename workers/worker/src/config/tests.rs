//! Tests of the settings.

use super::command_line::{Invocation, reference};
use super::*;
use toolfleet_config::settings::SettingsError;

fn read(pairs: &[(&str, &str)]) -> Result<WorkerConfig, ConfigError> {
    let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    WorkerConfig::read(&find)
}

const NEEDED: [(&str, &str); 2] =
    [("TOOLFLEET_QUEUE_URL", "http://127.0.0.1:1/0/q"), ("TOOLFLEET_CATALOG", "catalog.json")];

#[test]
fn a_missing_variable_is_named_with_its_remedy() {
    let error = read(&[]).unwrap_err().to_string();
    assert!(error.starts_with("TOOLFLEET_QUEUE_URL: is not set") && error.contains("data.yaml"), "{error}");
}

#[test]
fn what_is_needed_is_enough() {
    let config = read(&NEEDED).unwrap();
    assert_eq!(config.limits.slots, 64);
    assert_eq!(config.limits.visibility_s(), 30);
    assert_eq!(config.limits.heartbeat(), Duration::from_secs(10));
}

#[test]
fn the_calls_queue_is_not_taken_for_its_own_dead_letter_queue() {
    let pairs = |url| [NEEDED[0], NEEDED[1], ("TOOLFLEET_DEAD_LETTER_QUEUE_URL", url)];
    let error = read(&pairs("http://127.0.0.1:1/0/q")).unwrap_err().to_string();
    assert!(error.contains("CallsDeadLetterQueueUrl"), "{error}");
    let config = read(&pairs("http://127.0.0.1:1/0/q-dlq")).unwrap();
    assert_eq!(config.dead_letter_queue_url.as_deref(), Some("http://127.0.0.1:1/0/q-dlq"));
    assert_eq!(config.reap_after, Duration::from_secs(900));
}

#[test]
fn each_priority_has_a_queue_of_its_own() {
    let pairs = |url| {
        [
            NEEDED[0],
            NEEDED[1],
            ("TOOLFLEET_QUEUE_URL_HIGH", "http://127.0.0.1:1/0/h"),
            ("TOOLFLEET_QUEUE_URL_LOW", url),
        ]
    };
    let config = read(&pairs("http://127.0.0.1:1/0/l")).unwrap();
    assert_eq!(config.queue_urls.high.as_deref(), Some("http://127.0.0.1:1/0/h"));
    assert_eq!(config.queue_urls.low.as_deref(), Some("http://127.0.0.1:1/0/l"));
    let error = read(&pairs("http://127.0.0.1:1/0/h")).unwrap_err().to_string();
    assert!(
        error.contains("TOOLFLEET_QUEUE_URL_LOW: is the queue of TOOLFLEET_QUEUE_URL_HIGH too"),
        "{error}"
    );
    let error = read(&pairs("low")).unwrap_err().to_string();
    assert!(error.contains("TOOLFLEET_QUEUE_URL_LOW") && error.contains("whole URL"), "{error}");
    assert_eq!(read(&NEEDED).unwrap().queue_urls, QueueUrls::only(NEEDED[0].1.into()));
}

#[test]
fn a_number_out_of_range_names_what_is_accepted() {
    let error = read(&[NEEDED[0], NEEDED[1], ("TOOLFLEET_SLOTS", "many")]).unwrap_err().to_string();
    assert!(error.contains("TOOLFLEET_SLOTS: is `many`") && error.contains("1 to 10000"), "{error}");
}

#[test]
fn whether_programs_may_be_started_is_true_or_false_or_not_said() {
    for (text, said) in [("true", Some(true)), ("0", Some(false)), ("", None)] {
        let config = read(&[NEEDED[0], NEEDED[1], ("TOOLFLEET_ALLOW_STDIO", text)]).unwrap();
        assert_eq!(config.catalog.stdio, said, "{text}");
    }
    let error = read(&[NEEDED[0], NEEDED[1], ("TOOLFLEET_ALLOW_STDIO", "yes")]).unwrap_err().to_string();
    assert!(error.contains("TOOLFLEET_ALLOW_STDIO: is `yes`"), "{error}");
}

#[test]
fn a_lease_that_sqs_cannot_hide_a_message_for_refuses_to_start() {
    let lease = |ms| read(&[NEEDED[0], NEEDED[1], ("TOOLFLEET_LEASE_MS", ms)]);
    assert!(lease("32400000").is_ok());
    for ms in ["32400001", "43200000", "999999999999"] {
        let error = lease(ms).unwrap_err().to_string();
        assert!(error.contains("TOOLFLEET_LEASE_MS") && error.contains("32400000"), "{error}");
    }
}

#[test]
fn an_allowance_for_skew_as_long_as_the_lease_refuses_to_start() {
    let pairs = [NEEDED[0], NEEDED[1], ("TOOLFLEET_LEASE_MS", "5000"), ("TOOLFLEET_CLOCK_SKEW_MS", "5000")];
    assert!(read(&pairs).unwrap_err().to_string().contains("TOOLFLEET_LEASE_MS"));
}

#[test]
fn the_declared_defaults_are_those_of_the_types() {
    assert_eq!(Limits::read(&|_| None).unwrap(), Limits::default());
}

#[test]
fn the_reference_of_settings_is_the_generated_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/settings.md");
    let stored = std::fs::read_to_string(path).expect("docs/reference/settings.md");
    assert!(
        stored == reference(),
        "stale: run `cargo run -p toolfleet-worker -- settings > docs/reference/settings.md`"
    );
}

#[test]
fn the_command_line_is_read_before_the_variables() {
    let variables = |name: &str| {
        NEEDED
            .iter()
            .chain(&[("TOOLFLEET_SLOTS", "7")])
            .find(|(n, _)| *n == name)
            .map(|(_, v)| (*v).to_owned())
    };
    let Ok(Invocation::Work(matches)) = Invocation::read(&["--slots=9".into()], &variables) else {
        panic!("the arguments are those of a worker");
    };
    assert_eq!(WorkerConfig::of_matches(&matches).unwrap().limits.slots, 9);
    let wrong = |name: &str| (name == "TOOLFLEET_SLOTS").then(|| "many".to_owned());
    assert!(matches!(Invocation::read(&["health".into()], &wrong), Ok(Invocation::Health)));
    for arguments in ["--help", "--version"] {
        let read = Invocation::read(&[arguments.into()], &wrong);
        assert!(matches!(read, Err(SettingsError::CommandLine(_))), "{arguments}");
    }
}
