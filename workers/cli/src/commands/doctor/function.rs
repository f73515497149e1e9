//! Workers as a Lambda function: do the queues hide a message for as long as an invocation may take? Asked by the `aws` command.

use serde_json::Value;
use toolfleet_client::Client;
use toolfleet_client::shell_command::quoted;
use toolfleet_core::request::Priority;

use super::finding::{Check, DEPLOY, Finding};
use crate::commands::program::Call;

/// How many invocations long a message should be hidden: what AWS recommends for event sources, so that a batch which Lambda could not run at
/// once is not received twice.
const INVOCATIONS: u64 = 6;

/// The visibility time-outs of the queues of calls, and the time-out of that function.
pub(super) async fn time_out(client: &Client, function: &str) -> Vec<Finding> {
    let call = question(function);
    let time_out_s = match call.json().await {
        Ok(answer) => answer.get("Timeout").and_then(Value::as_u64),
        Err(error) => {
            let text = format!("not known: {}", error.message());
            return vec![Finding::warning(Check::InvocationsHidden, function, text, call.line())];
        }
    };
    let Some(time_out_s) = time_out_s else {
        let text = "not known: Lambda said nothing of its time-out";
        return vec![Finding::warning(Check::InvocationsHidden, function, text, call.line())];
    };
    let mut findings = Vec::new();
    let queues = [Priority::Normal, Priority::High, Priority::Low];
    for queue in queues.into_iter().filter_map(|priority| client.queue_of(priority)) {
        // A queue that does not answer was named before.
        if let Ok(settings) = queue.settings().await
            && let Some(visibility_s) = settings.visibility_s
        {
            findings.push(of_queue(queue.name(), visibility_s, (function, time_out_s)));
        }
    }
    findings
}

fn question(function: &str) -> Call {
    Call::new(
        "aws",
        &["lambda", "get-function-configuration", "--function-name", function, "--output", "json"],
    )
}

fn of_queue(name: &str, visibility_s: u64, (function, time_out_s): (&str, u64)) -> Finding {
    let wanted_s = time_out_s.saturating_mul(INVOCATIONS);
    let remedy = format!("{DEPLOY} --parameter-overrides VisibilityTimeoutSeconds={wanted_s}");
    let both = format!(
        "hides a message for {visibility_s} s, and an invocation of {} may take {time_out_s} s",
        quoted(function)
    );
    if visibility_s < time_out_s {
        let text = format!("{both}: Lambda refuses the queue, or a call is received again while it runs");
        return Finding::failed(Check::InvocationsHidden, name, text, remedy);
    }
    if visibility_s < wanted_s {
        let text = format!(
            "{both}: calls that Lambda cannot run at once are received again; {INVOCATIONS} times as long is recommended"
        );
        return Finding::warning(Check::InvocationsHidden, name, text, remedy);
    }
    Finding::ok(Check::InvocationsHidden, name, both)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(visibility_s: u64) -> String {
        of_queue("toolfleet-calls", visibility_s, ("toolfleet-worker", 60)).lines().join("\n")
    }

    #[test]
    fn a_queue_hides_a_message_for_six_invocations() {
        for (visibility_s, verdict) in
            [(30, "FAILED"), (59, "FAILED"), (60, "look"), (359, "look"), (360, "ok"), (900, "ok")]
        {
            let told = told(visibility_s);
            let line = format!(
                "  {verdict:<7} toolfleet-calls: hides a message for {visibility_s} s, and an invocation of toolfleet-worker may take 60 s"
            );
            assert!(told.starts_with(&line), "{told}");
        }
        for part in ["VisibilityTimeoutSeconds=360", "docs/reference/doctor.md#invocations-hidden"] {
            assert!(
                told(30).contains(part) && told(60).contains(part) && !told(360).contains(part),
                "{part}"
            );
        }
    }

    #[test]
    fn lambda_is_asked_as_a_person_would() {
        let line = "aws lambda get-function-configuration --function-name toolfleet-worker --output json";
        assert_eq!(question("toolfleet-worker").line(), line);
    }
}
