//! What programs write on stdout beside their answers.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_mcp::{AnswerKind, Fault};
use toolfleet_testkit::ScriptedProgram;

use crate::programs::{call, call_until, client, endpoint};
use crate::support::later;

#[tokio::test]
async fn a_line_that_answers_nobody_costs_no_call_and_no_program() {
    for noise in [
        "garbage",
        "giant",
        "giant-word",
        "log-json",
        "log-brace",
        "string-id",
        "pretty",
        "latin1",
        "batch",
        "twice",
    ] {
        let (client, script) = (client(), ScriptedProgram::new(&["works", noise]));
        let endpoint = endpoint(&script);
        for _ in 0..2 {
            let (first, second) = tokio::join!(call(&client, &endpoint), call(&client, &endpoint));
            for answer in [first, second] {
                assert!(answer.is_ok(), "{noise}: {answer:?}");
            }
        }
        assert_eq!(script.count("start"), 1, "{noise}");
        client.close().await;
    }
}

#[tokio::test]
async fn an_answer_too_long_for_its_call_fails_that_call_alone() {
    for long in ["giant-answer", "giant-answer-id-last"] {
        let (client, script) = (client(), ScriptedProgram::new(&["hang-once", long]));
        let endpoint = endpoint(&script);
        let second = async {
            script.wrote("call", 1).await;
            call_until(&client, &endpoint, None, later()).await
        };
        let first = call_until(&client, &endpoint, None, Instant::now() + Duration::from_secs(3));
        let (first, second) = tokio::join!(first, second);
        assert!(matches!(first, Err(Fault::AttemptTimeout { .. })), "{long}: {first:?}");
        assert!(matches!(second, Err(Fault::AnswerTooLarge { .. })), "{long}: {second:?}");
        assert_eq!(script.count("start"), 1, "{long}");
        client.close().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_no_json_ends_its_call_at_once() {
    let (client, script) = (client(), ScriptedProgram::new(&["nan"]));
    let endpoint = endpoint(&script);
    for _ in 0..2 {
        let fault = call(&client, &endpoint).await.unwrap_err();
        assert!(matches!(fault, Fault::InvalidAnswer { .. }), "{fault:?}");
        assert!(fault.to_string().contains("cannot be read"), "{fault}");
    }
    assert_eq!(script.count("start"), 1);
    client.close().await;
}

#[tokio::test]
async fn an_answer_to_nobody_leaves_the_call_waiting_for_its_own() {
    for foreign in ["wrong-id", "no-id"] {
        let (client, script) = (client(), ScriptedProgram::new(&[foreign]));
        let fault = call_until(&client, &endpoint(&script), None, Instant::now() + Duration::from_secs(3))
            .await
            .unwrap_err();
        assert!(matches!(fault, Fault::AttemptTimeout { .. }), "{foreign}: {fault}");
        assert_eq!(script.count("start"), 1);
        client.close().await;
    }
}

#[tokio::test]
async fn half_a_surrogate_pair_of_a_program_loses_no_text() {
    let (client, script) = (client(), ScriptedProgram::new(&["surrogate"]));
    let answer = call(&client, &endpoint(&script)).await.unwrap();
    assert_eq!(answer.kind, AnswerKind::ToolError { text: "no \u{fffd}".to_owned() });
    assert!(answer.result.get().contains("\\ud83d"), "the result stays as it came");
    client.close().await;
}
