//! The starts of programs: greeted afresh where a question spoilt them, told apart where they cannot start, with their last words.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_core::request::Operation;
use toolfleet_mcp::{Fault, NotSentCause, Program, ToolCall};
use toolfleet_testkit::ScriptedProgram;

use crate::programs::{call, call_until, client, endpoint, endpoint_of, program_of};
use crate::support::{later, raw, soon};

#[tokio::test]
async fn a_program_spoilt_by_discover_is_started_afresh_with_initialize() {
    for (traits, asked) in [
        (&["spoilt-by-discover"][..], 2),
        (&["muted-by-discover"], 2),
        (&["dies-at-discover", "spoilt-by-discover"], 1),
    ] {
        let (client, script) = (client(), ScriptedProgram::new(traits));
        let endpoint = endpoint(&script);
        let answer = call(&client, &endpoint).await.unwrap();
        assert_eq!(answer.protocol_version, "2025-06-18", "{traits:?}");
        assert_eq!((script.count("start"), script.count("initialize")), (2, asked), "{traits:?}");
        // What was learned holds for the server: the next one is greeted with `initialize` at once.
        call_until(&client, &endpoint, Some("talk"), later()).await.unwrap();
        assert_eq!((script.count("start"), script.count("initialize")), (3, asked + 1), "{traits:?}");
        client.close().await;
    }
}

#[tokio::test]
async fn a_modern_program_that_ended_once_is_not_taken_for_an_older_one() {
    let (client, script) = (client(), ScriptedProgram::new(&["dies-at-first-discover", "modern"]));
    let answer = call(&client, &endpoint(&script)).await.unwrap();
    assert_eq!((answer.protocol_version.as_str(), script.count("start")), ("2026-07-28", 2));
    client.close().await;
}

#[tokio::test]
async fn a_command_that_cannot_be_started_is_told_at_once_and_every_time() {
    let folder = Some("/no/such/folder".into());
    for (program, words) in [
        (Program::new("/no/such/program", [], None, [], None), "No such file"),
        (Program::new("no-such-program", [], None, [], None), "in the worker's PATH"),
        (Program::new("/etc/passwd", [], None, [], None), "is not executable"),
        (Program::new("sh", [], folder, [], None), "`cwd` `/no/such/folder`"),
    ] {
        let (client, endpoint) = (client(), endpoint_of(program));
        for _ in 0..5 {
            let fault = call(&client, &endpoint).await.unwrap_err();
            assert!(matches!(fault, Fault::NotSent { cause: NotSentCause::Command, .. }), "{fault:?}");
            assert!(fault.to_string().contains(words), "{fault}");
        }
    }
}

#[tokio::test]
async fn every_failure_of_a_program_has_its_last_five_lines_of_stderr() {
    let last = |what: &str| (3..=7).map(|n| format!("`{what} line {n}`")).collect::<Vec<_>>().join(", ");
    for (traits, lines, ran) in [
        (&["chatty", "slow"][..], last("start"), MayHaveRun::No),
        (&["chatty", "never-reads"], last("start"), MayHaveRun::No),
        (&["chatty-hang"], last("call"), MayHaveRun::Unknown),
    ] {
        let (client, script) = (client(), ScriptedProgram::new(traits));
        let until = Instant::now() + Duration::from_secs(2);
        let fault = call_until(&client, &endpoint(&script), None, until).await.unwrap_err();
        assert_eq!(fault.may_have_run(), ran, "{traits:?}: {fault}");
        assert!(
            fault.to_string().contains(&format!("the last 5 lines of its stderr are {lines}")),
            "{fault}"
        );
        assert!(!fault.summary().contains(" line "), "others are not told: {}", fault.summary());
        client.close().await;
    }
    let (client, script) =
        (client(), ScriptedProgram::new(&["chatty", "spoilt-by-discover", "crash-at-start"]));
    let fault = call(&client, &endpoint(&script)).await.unwrap_err().to_string();
    assert!(fault.contains("`start line 4`") && fault.contains("`no licence found`"), "{fault}");
}

#[tokio::test]
async fn a_shared_programs_words_of_one_call_are_not_told_to_another() {
    let (client, script) = (client(), ScriptedProgram::new(&["chatty-hang"]));
    let endpoint = endpoint(&script);
    let first = call_until(&client, &endpoint, None, Instant::now() + Duration::from_secs(2)).await;
    assert!(first.unwrap_err().to_string().contains("call line 7"));
    // Two at once: whose the lines are is not known.
    let until = Instant::now() + Duration::from_secs(2);
    let (one, other) = tokio::join!(
        call_until(&client, &endpoint, None, until),
        call_until(&client, &endpoint, None, until)
    );
    for fault in [one.unwrap_err(), other.unwrap_err()] {
        assert!(!fault.to_string().contains("call line"), "{fault}");
    }
    client.close().await;
}

#[tokio::test]
async fn a_start_has_the_time_that_its_registration_gives() {
    let (client, script) = (client(), ScriptedProgram::new(&["slow", "chatty"]));
    let quick = endpoint_of(program_of(&script).starting_within(Duration::from_millis(300)));
    let begun = Instant::now();
    let fault = call(&client, &quick).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(15), "{fault}");
    assert!(fault.to_string().contains("was not up within 300ms"), "{fault}");
    let fault = call_until(&client, &quick, None, soon()).await.unwrap_err();
    assert_eq!(fault.may_have_run(), MayHaveRun::No, "{fault}");
    client.close().await;
}

#[tokio::test]
async fn a_listing_whose_program_never_started_was_not_sent() {
    let (client, script) = (client(), ScriptedProgram::new(&["slow"]));
    let endpoint = endpoint(&script);
    let (arguments, until) = (raw("{}"), Instant::now() + Duration::from_secs(1));
    let call = ToolCall::new(&endpoint, "", &arguments, until);
    let call = ToolCall { operation: Operation::ToolsList, ..call };
    let fault = client.list(call, None).await.unwrap_err();
    assert!(matches!(fault, Fault::NotSent { cause: NotSentCause::Time, .. }), "{fault:?}");
    client.close().await;
}
