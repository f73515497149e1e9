//! Servers that are programs: whatever a child does, every caller hears of it, and nothing of it is left.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::credential::Template;
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_core::progress::{Amount, LogLine, Progress, ProgressNote};
use toolfleet_mcp::{
    Answer, ClientOptions, Endpoint, EndpointTransport, Fault, McpClient, Program, ToolCall,
};
use toolfleet_testkit::{Hearing, ScriptedProgram, is_there};

use crate::support::{later, raw, soon};

pub(crate) fn client() -> McpClient {
    client_with(|_| {})
}

pub(crate) fn client_with(change: impl FnOnce(&mut ClientOptions)) -> McpClient {
    let mut options = ClientOptions { max_body_bytes: 1_000_000, ..ClientOptions::default() };
    change(&mut options);
    McpClient::new(options).unwrap()
}

pub(crate) fn endpoint(script: &ScriptedProgram) -> Endpoint {
    endpoint_of(program_of(script))
}

pub(crate) fn program_of(script: &ScriptedProgram) -> Program {
    Program::new(script.command(), script.args(), None, [], None)
}

pub(crate) fn endpoint_of(program: Program) -> Endpoint {
    Endpoint {
        server: ServerId::parse("files").unwrap(),
        url: "stdio:files".parse().unwrap(),
        headers: http::HeaderMap::new(),
        auth: None,
        tenant: Some(Tenant::parse("acme").unwrap()),
        transport: EndpointTransport::Program(Arc::new(program)),
    }
}

pub(crate) async fn call_until(
    client: &McpClient,
    endpoint: &Endpoint,
    conversation: Option<&str>,
    deadline: Instant,
) -> Result<Answer, Fault> {
    let arguments = raw("{\"a\":\n1}");
    let call = ToolCall { conversation, ..ToolCall::new(endpoint, "echo", &arguments, deadline) };
    client.call_tool(call).await
}

pub(crate) async fn call(client: &McpClient, endpoint: &Endpoint) -> Result<Answer, Fault> {
    call_until(client, endpoint, None, later()).await
}

fn text(answer: Answer) -> String {
    let result: serde_json::Value = serde_json::from_str(answer.result.get()).unwrap();
    result.pointer("/content/0/text").unwrap().as_str().unwrap().to_owned()
}

async fn all_gone(script: &ScriptedProgram) {
    script.seen("the end of all its processes", || script.pids().iter().all(|pid| !is_there(*pid))).await;
}

#[tokio::test]
async fn a_program_is_called_like_any_server_in_the_generation_it_speaks_and_leaves_nothing_behind() {
    for (traits, version) in [(&[][..], "2025-06-18"), (&["modern"][..], "2026-07-28")] {
        let (client, script) = (client(), ScriptedProgram::new(traits));
        let endpoint = endpoint(&script);
        let tools = client.list_tools(&endpoint, None, later()).await.unwrap();
        assert_eq!(tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["echo", "pay"]);
        let answer = call(&client, &endpoint).await.unwrap();
        assert_eq!(answer.protocol_version, version);
        let pid = script.pids()[0];
        assert_eq!(text(answer), format!("{pid} 1"));
        assert_eq!((client.programs(), script.count("start")), (1, 1));
        client.close().await;
        assert!(!is_there(pid) && client.programs() == 0);
        assert_eq!(script.count("end"), 1, "its stdin was closed first: {:?}", script.log());
        let fault = call(&client, &endpoint).await.unwrap_err();
        assert_eq!(fault.may_have_run(), MayHaveRun::No, "none is started after the end: {fault}");
    }
}

#[tokio::test]
async fn what_a_program_speaks_is_found_out_however_it_meets_the_question() {
    for traits in [&["dies-at-discover"][..], &["mute-at-discover"], &["banner"]] {
        let (client, script) = (client(), ScriptedProgram::new(traits));
        let endpoint = endpoint(&script);
        let answer = call(&client, &endpoint).await.unwrap();
        assert_eq!(answer.protocol_version, "2025-06-18", "{traits:?}");
        let starts = script.count("start");
        // Another conversation's child is greeted with what was learned.
        call_until(&client, &endpoint, Some("talk"), later()).await.unwrap();
        assert_eq!(script.count("start"), starts + 1, "{traits:?}");
        client.close().await;
    }
}

#[tokio::test]
async fn a_slow_start_is_not_begun_again_by_each_who_waits() {
    let (client, script) = (client(), ScriptedProgram::new(&["slow"]));
    let endpoint = endpoint(&script);
    let fault = call_until(&client, &endpoint, None, soon()).await.unwrap_err();
    assert_eq!(fault.may_have_run(), MayHaveRun::No, "{fault}");
    script.go();
    call(&client, &endpoint).await.unwrap();
    assert_eq!(script.count("start"), 1);
    client.close().await;
}

#[tokio::test]
async fn a_program_that_is_silent_for_long_is_not_misread() {
    let (client, script) = (client(), ScriptedProgram::new(&["late-at-discover", "modern"]));
    let answer = call(&client, &endpoint(&script)).await.unwrap();
    assert_eq!((answer.protocol_version.as_str(), script.count("start")), ("2026-07-28", 1));
    client.close().await;
}

#[tokio::test]
async fn each_misbehaviour_ends_a_call_with_the_fault_that_says_whether_it_ran() {
    for (name, ran, words) in [
        ("crash-at-start", MayHaveRun::No, "no licence found"),
        ("crash", MayHaveRun::Unknown, "exit code 7; the last line of its stderr is `about to crash`"),
        ("giant-answer", MayHaveRun::Unknown, "larger than 1000000 bytes"),
        ("giant-answer-id-last", MayHaveRun::Unknown, "larger than 1000000 bytes"),
        ("error-no-id", MayHaveRun::Unknown, "no such thing"),
        ("close-stdout", MayHaveRun::Unknown, "closed its output"),
    ] {
        let (client, script) = (client(), ScriptedProgram::new(&[name]));
        let fault = call(&client, &endpoint(&script)).await.unwrap_err();
        assert_eq!(fault.may_have_run(), ran, "{name}: {fault}");
        assert!(fault.to_string().contains(words), "{name}: {fault}");
        client.close().await;
        all_gone(&script).await;
    }
}

#[tokio::test]
async fn a_program_that_never_reads_holds_nobody_past_the_deadline_and_ran_nothing() {
    let (client, script) = (client(), ScriptedProgram::new(&["never-reads", "ignores-term"]));
    let (begun, endpoint) = (Instant::now(), endpoint(&script));
    let fault = call_until(&client, &endpoint, None, soon()).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(fault.may_have_run(), MayHaveRun::No, "{fault}");
    client.close().await;
    all_gone(&script).await;
}

#[tokio::test]
async fn a_program_that_stops_reading_holds_up_its_own_callers_alone() {
    let (client, script) = (client(), ScriptedProgram::new(&["stops-reading"]));
    let (endpoint, other) = (endpoint(&script), ScriptedProgram::new(&[]));
    let fault = call_until(&client, &endpoint, None, soon()).await.unwrap_err();
    assert_eq!(fault.may_have_run(), MayHaveRun::Unknown, "{fault}");
    // More than a pipe holds: it begins to leave, and stands before all that comes after it.
    let arguments = raw(&format!("{{\"a\":\"{}\"}}", "x".repeat(900_000)));
    let large = client.call_tool(ToolCall::new(&endpoint, "echo", &arguments, soon()));
    let behind = call_until(&client, &endpoint, None, soon());
    let elsewhere = Endpoint { server: ServerId::parse("other").unwrap(), ..endpoint_of(program_of(&other)) };
    let (large, behind, elsewhere) = tokio::join!(large, behind, call(&client, &elsewhere));
    assert_eq!(large.unwrap_err().may_have_run(), MayHaveRun::Unknown);
    assert_eq!(behind.unwrap_err().may_have_run(), MayHaveRun::No);
    elsewhere.unwrap();
    client.close().await;
    all_gone(&script).await;
    assert_eq!(script.count("call"), 1);
}

#[tokio::test]
async fn answers_find_their_callers_in_whatever_order_they_come() {
    let (client, script) = (client(), ScriptedProgram::new(&["reorder"]));
    let endpoint = endpoint(&script);
    let (a, b) = tokio::join!(call(&client, &endpoint), call(&client, &endpoint));
    let mut heard = [text(a.unwrap()), text(b.unwrap())];
    heard.sort();
    assert_eq!(heard, ["first", "second"]);
    assert_eq!(script.count("start"), 1);
    client.close().await;
}

#[tokio::test]
async fn a_call_that_is_given_up_is_withdrawn_and_its_late_answer_harms_nobody() {
    let (client, script) = (client(), ScriptedProgram::new(&["reorder"]));
    let endpoint = endpoint(&script);
    client.list_tools(&endpoint, None, later()).await.unwrap();
    let fault = call_until(&client, &endpoint, None, soon()).await.unwrap_err();
    assert!(matches!(fault, Fault::AttemptTimeout { .. }), "{fault}");
    script.wrote("cancelled", 1).await;
    // The script answers the first call only after the second one.
    assert_eq!(text(call(&client, &endpoint).await.unwrap()), "second");
    assert_eq!(text(call_both(&client, &endpoint).await), "first");
    assert_eq!(script.count("start"), 1);
    client.close().await;
}

/// The answer of the first of two calls that a reordering script answers together.
async fn call_both(client: &McpClient, endpoint: &Endpoint) -> Answer {
    let (first, second) = tokio::join!(call(client, endpoint), call(client, endpoint));
    second.unwrap();
    first.unwrap()
}

#[tokio::test]
async fn progress_reaches_its_hearer_and_the_servers_own_requests_are_answered() {
    let (client, script) = (client(), ScriptedProgram::new(&["progress", "asks"]));
    let (endpoint, arguments) = (endpoint(&script), raw("{}"));
    let heard = Mutex::new(Vec::new());
    let hear = |note: ProgressNote| heard.lock().unwrap().push(note);
    let call = ToolCall { on_note: Some(&hear), ..ToolCall::new(&endpoint, "echo", &arguments, later()) };
    client.call_tool(call).await.unwrap();
    let heard = heard.lock().unwrap().clone();
    let told = |number| {
        ProgressNote::Progress(Progress {
            progress: Amount::new(number).unwrap(),
            total: None,
            message: None,
        })
    };
    let line = LogLine { level: "info".to_owned(), text: "working".to_owned() };
    assert_eq!(heard, [told(1.0), ProgressNote::Log(line), told(2.0)]);
    let replies: Vec<_> = script.log().into_iter().filter(|line| line.starts_with("reply")).collect();
    assert!(replies[0].contains("\"id\":\"p\",\"result\":{}"), "{replies:?}");
    assert!(replies[1].contains("\"id\":\"s\"") && replies[1].contains("-32601"), "{replies:?}");
    client.close().await;
}

#[tokio::test]
async fn conversations_and_tenants_never_share_a_program_and_calls_without_one_share_theirs() {
    let (client, script) = (client(), ScriptedProgram::new(&[]));
    let acme = endpoint(&script);
    let globex = Endpoint { tenant: Some(Tenant::parse("globex").unwrap()), ..acme.clone() };
    let mut seen = Vec::new();
    for (endpoint, conversation) in [
        (&acme, None),
        (&acme, None),
        (&acme, Some("x")),
        (&acme, Some("y")),
        (&globex, Some("x")),
        (&globex, None),
    ] {
        seen.push(text(call_until(&client, endpoint, conversation, later()).await.unwrap()));
    }
    assert_eq!(script.count("start"), 5, "{seen:?}");
    assert!(seen[1].ends_with(" 2"), "{seen:?}");
    assert_eq!(client.conversations().len(), 3);
    client.end_conversation(&acme, "x").await;
    script.wrote("end", 1).await;
    client.forget_conversation(&Tenant::parse("globex").unwrap(), "x");
    script.wrote("end", 2).await;
    assert_eq!(client.conversations().len(), 1);
    client.close().await;
    all_gone(&script).await;
}

#[tokio::test]
async fn a_server_has_no_more_programs_than_it_may_and_the_longest_unused_makes_room() {
    let (client, script) = (client_with(|options| options.max_children = 2), ScriptedProgram::new(&[]));
    let endpoint = endpoint(&script);
    for conversation in ["a", "b", "b", "c"] {
        call_until(&client, &endpoint, Some(conversation), later()).await.unwrap();
    }
    assert_eq!((script.count("start"), script.count("end"), client.programs()), (3, 1, 2));
    let first = script.pids()[0];
    assert!(!is_there(first), "the one of `a` made room");
    // With all in use a call waits for one of them, and not past its deadline.
    let hanging = ScriptedProgram::new(&["hang"]);
    let busy = Endpoint { server: ServerId::parse("busy").unwrap(), ..endpoint_of(program_of(&hanging)) };
    let (a, b, c) = tokio::join!(
        call_until(&client, &busy, Some("a"), soon()),
        call_until(&client, &busy, Some("b"), soon()),
        call_until(&client, &busy, Some("c"), soon()),
    );
    let ran = |answer: Result<Answer, Fault>| answer.unwrap_err().may_have_run();
    let ran = [ran(a), ran(b), ran(c)];
    assert!(hanging.count("start") <= 3 && ran.contains(&MayHaveRun::No), "{ran:?}");
    client.close().await;
    all_gone(&script).await;
    all_gone(&hanging).await;
}

#[tokio::test]
async fn a_program_that_nobody_uses_is_ended_and_started_again_when_it_is_needed() {
    let client = client_with(|options| options.child_idle = Duration::from_millis(200));
    let script = ScriptedProgram::new(&[]);
    let endpoint = endpoint(&script);
    call(&client, &endpoint).await.unwrap();
    script.wrote("end", 1).await;
    all_gone(&script).await;
    call(&client, &endpoint).await.unwrap();
    assert_eq!(script.count("start"), 2);
    client.close().await;
}

#[tokio::test]
async fn a_program_that_was_killed_is_started_again_and_one_that_keeps_ending_is_left_alone_for_a_while() {
    let (client, script) = (client(), ScriptedProgram::new(&[]));
    let acme = endpoint(&script);
    call(&client, &acme).await.unwrap();
    kill(script.pids()[0]);
    all_gone(&script).await;
    call(&client, &acme).await.unwrap();
    assert_eq!(script.count("start"), 2);

    let broken = ScriptedProgram::new(&["crash-at-start"]);
    let other = Endpoint { server: ServerId::parse("broken").unwrap(), ..endpoint(&broken) };
    let mut last = String::new();
    for _ in 0..8 {
        last = call(&client, &other).await.unwrap_err().to_string();
    }
    assert!(last.contains("times in a row"), "{last}");
    assert!(broken.count("start") < 16, "{}", broken.count("start"));
    client.close().await;
}

#[tokio::test]
async fn a_program_that_cannot_be_started_for_one_tenant_is_started_for_another_at_once() {
    let (client, script) = (client(), ScriptedProgram::new(&["crash-at-start-while-broken"]));
    let acme = endpoint(&script);
    std::fs::write(script.folder().join("broken"), "").unwrap();
    let mut last = String::new();
    for _ in 0..8 {
        last = call(&client, &acme).await.unwrap_err().to_string();
    }
    assert!(last.contains("times in a row"), "{last}");
    std::fs::remove_file(script.folder().join("broken")).unwrap();
    let globex = Endpoint { tenant: Some(Tenant::parse("globex").unwrap()), ..acme.clone() };
    call(&client, &globex).await.unwrap();
    assert!(call(&client, &acme).await.is_err(), "the pause of the first is not over");
    client.close().await;
}

fn kill(pid: u32) {
    rustix::process::kill_process(process(pid), rustix::process::Signal::KILL).unwrap();
}

fn process(pid: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

#[tokio::test]
async fn the_whole_group_of_a_program_ends_with_it_even_where_it_ignores_what_it_is_asked() {
    let (client, script) = (client(), ScriptedProgram::new(&["ignores-term", "grandchild"]));
    call(&client, &endpoint(&script)).await.unwrap();
    let grandchild = script.grandchild().unwrap();
    assert!(is_there(grandchild));
    client.close().await;
    all_gone(&script).await;
    // It is not our child: whoever inherits it takes it away.
    script.seen("the end of the grandchild", || !is_running(grandchild)).await;
}

#[tokio::test]
async fn what_a_killed_program_leaves_behind_neither_keeps_its_callers_nor_itself() {
    let (client, script) = (client(), ScriptedProgram::new(&["hang-once", "grandchild"]));
    let endpoint = endpoint(&script);
    let killed = async {
        script.wrote("call", 1).await;
        // The one that is left holds the pipes open.
        kill(script.pids()[0]);
        script.grandchild().unwrap()
    };
    let (fault, grandchild) = tokio::join!(call(&client, &endpoint), killed);
    let fault = fault.unwrap_err().to_string();
    assert!(fault.contains("was ended by signal 9"), "{fault}");
    script.seen("the end of the grandchild", || !is_running(grandchild)).await;
    call(&client, &endpoint).await.unwrap();
    client.close().await;
}

/// All that is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_a_program_says_of_its_secrets_reaches_neither_fault_nor_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _for_this_thread = Hearing::new(subscriber.finish());
    let (client, script) = (client(), ScriptedProgram::new(&["crash"]));
    let env = [("API_KEY".to_owned(), Template::parse("sk-live-12345").unwrap())];
    let endpoint = endpoint_of(Program::new(script.command(), script.args(), None, env, None));
    let fault = call(&client, &endpoint).await.unwrap_err().to_string();
    assert!(fault.contains("about to crash with [redacted]") && !fault.contains("sk-live"), "{fault}");
    client.close().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("stderr: about to crash with [redacted]"), "{log}");
    assert!(log.contains("stdio_ended") && !log.contains("sk-live"), "{log}");
}

/// A process that ended and that nobody has taken away yet does not run.
fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[tokio::test]
async fn a_child_has_the_variables_of_its_registration_and_none_of_ours_beside_a_harmless_few() {
    let script = ScriptedProgram::new(&["echo-env"]);
    let env = [("API_KEY".to_owned(), Template::parse("k-12345").unwrap())];
    let endpoint = endpoint_of(Program::new(script.command(), script.args(), None, env, None));
    let client = client();
    let seen = text(call(&client, &endpoint).await.unwrap());
    let names: Vec<_> = seen.split(' ').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
    assert!(names.contains(&"API_KEY") && names.contains(&"PATH"), "{names:?}");
    // Cargo gives every test these; a child must not have them.
    assert!(!names.iter().any(|name| name.starts_with("CARGO") || name.starts_with("AWS")), "{names:?}");
    client.close().await;
}

#[tokio::test]
async fn a_program_that_is_ended_as_unused_never_takes_a_call_with_it() {
    let client = client_with(|options| options.child_idle = Duration::from_millis(1));
    let script = ScriptedProgram::new(&[]);
    let endpoint = endpoint(&script);
    for n in 0..12 {
        call(&client, &endpoint).await.unwrap();
        // The calls between come while it may be about to end.
        if n % 4 == 3 {
            script.seen("its end as unused", || client.programs() == 0).await;
        }
    }
    assert!(script.count("start") >= 3, "{:?}", script.log());
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_many_calls_and_kills_every_caller_hears_its_own_answer_or_a_fault_that_is_true() {
    let (client, script) =
        (client_with(|options| options.max_children = 3), ScriptedProgram::new(&["works"]));
    let endpoint = endpoint(&script);
    let calls = (0..60).map(|n| {
        let (client, endpoint) = (client.clone(), endpoint.clone());
        tokio::spawn(async move {
            let (arguments, conversation) = (raw(&format!("{{\"n\":{n}}}")), format!("talk-{}", n % 6));
            let conversation = Some(conversation.as_str());
            let call = ToolCall { conversation, ..ToolCall::new(&endpoint, "echo", &arguments, later()) };
            (n, client.call_tool(call).await)
        })
    });
    let calls: Vec<_> = calls.collect();
    for killed in 1..=4 {
        script.wrote("call", killed * 4).await;
        let last = script.pids().pop().unwrap();
        // It may have made room for another one a moment ago.
        let _there = rustix::process::kill_process(process(last), rustix::process::Signal::KILL);
    }
    let (mut texts, mut lost) = (Vec::new(), 0);
    for ended in calls {
        let (n, answer) = ended.await.unwrap();
        let executed = script.log().iter().any(|line| line.ends_with(&format!(" {{\"n\":{n}}}")));
        match answer {
            Ok(answer) => {
                assert!(executed, "{n}");
                texts.push(text(answer));
            }
            Err(fault) => {
                lost += 1;
                assert!(!executed || fault.may_have_run() == MayHaveRun::Unknown, "{n}: {fault}");
            }
        }
    }
    assert!(!texts.is_empty() && lost > 0, "{} answered, {lost} lost", texts.len());
    let distinct: std::collections::BTreeSet<_> = texts.iter().collect();
    assert_eq!(distinct.len(), texts.len(), "an answer was heard twice");
    client.close().await;
    all_gone(&script).await;
}
