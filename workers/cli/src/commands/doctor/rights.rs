//! The rights of the workers' role, as IAM decides them (SimulatePrincipalPolicy), asked by the `aws` command.
//!
//! The list of rights is `worker_rights.json`; infra/checks compares it with the requests that the code makes.

use std::collections::BTreeMap;

use serde_json::Value;
use toolfleet_client::Client;

use super::finding::{Check, Finding};
use super::resources::{Names, Place};
use super::setup::is_on_this_machine;
use crate::commands::program::Call;

/// The actions of a worker, by what they are done on.
const RIGHTS: &str = include_str!("worker_rights.json");
/// A partition key that workers write in the fleet table: their policy names the beginnings of keys.
const LEADING_KEY: &str =
    "ContextKeyName=dynamodb:LeadingKeys,ContextKeyValues=worker#doctor,ContextKeyType=stringList";
/// How many rights that are missing are named.
const MOST_NAMED: usize = 8;

/// The rights of the workers' role, whose catalog is there; a remark where it is not known which role that is.
pub(super) async fn workers(client: &Client, role: Option<&str>, catalog: Option<&str>) -> Vec<Finding> {
    let url = client.queue().url();
    let look =
        |text: String, remedy: &str| vec![Finding::warning(Check::WorkersAllowed, "rights", text, remedy)];
    let Some(role) = role.filter(|role| !role.trim().is_empty()) else {
        if is_on_this_machine(url) {
            return Vec::new();
        }
        return look(
            "not checked: the role of workers is not given".to_owned(),
            "toolfleet doctor --worker-role ARN",
        );
    };
    let Some(place) = Place::of_queue(url) else {
        let text = format!("not known: the URL of the queue does not say account and region: {url}");
        return look(text, "toolfleet context show");
    };
    let names = Names::of(client, catalog).await;
    let mut missing = Vec::new();
    let mut asked = 0;
    for (resource, actions) in rights() {
        let arns = names.arns(&place, &resource);
        if arns.is_empty() {
            continue;
        }
        match simulation(role, &actions, &arns, resource == "FleetTable").json().await {
            Ok(answer) => {
                asked += actions.len();
                match denied(&answer) {
                    Some(denied) => missing.extend(denied),
                    None => {
                        let text = format!("not known: IAM said nothing of the rights on {resource}");
                        return look(text, "toolfleet doctor --worker-role ARN");
                    }
                }
            }
            Err(error) => {
                return look(format!("not known: {}", error.message()), "aws sts get-caller-identity");
            }
        }
    }
    vec![of_rights(role, asked, missing, &names.unknown)]
}

fn of_rights(role: &str, asked: usize, mut missing: Vec<String>, unknown: &[String]) -> Finding {
    if missing.is_empty() && !unknown.is_empty() {
        let text = format!(
            "{role} has the {asked} rights that were asked for; not known is that on {}",
            unknown.join(", ")
        );
        return Finding::warning(Check::WorkersAllowed, "rights", text, "aws sts get-caller-identity");
    }
    if missing.is_empty() {
        return Finding::ok(
            Check::WorkersAllowed,
            "rights",
            format!("{role} has the {asked} rights that workers need"),
        );
    }
    let more = missing.len().saturating_sub(MOST_NAMED);
    missing.truncate(MOST_NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let text = format!("{role} may not {}{more}", missing.join(", "));
    let remedy = "aws iam attach-role-policy --role-name ROLE --policy-arn WorkerPolicyArn   # the output of data.yaml";
    Finding::failed(Check::WorkersAllowed, "rights", text, remedy)
}

fn rights() -> BTreeMap<String, Vec<String>> {
    serde_json::from_str(RIGHTS).unwrap_or_default()
}

fn simulation(role: &str, actions: &[String], arns: &[String], is_by_key: bool) -> Call {
    let words = |words: &[String]| words.to_vec();
    let mut all: Vec<String> =
        ["iam", "simulate-principal-policy", "--policy-source-arn", role, "--action-names"]
            .map(str::to_owned)
            .into();
    all.extend(words(actions));
    all.push("--resource-arns".to_owned());
    all.extend(words(arns));
    if is_by_key {
        all.extend(["--context-entries", LEADING_KEY].map(str::to_owned));
    }
    all.extend(["--output", "json"].map(str::to_owned));
    Call::new("aws", &all.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What an answer does not allow; nothing where it decides nothing.
fn denied(answer: &Value) -> Option<Vec<String>> {
    let text =
        |result: &Value, name: &str| result.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let results = answer.get("EvaluationResults").and_then(Value::as_array)?;
    let denied = results.iter().filter(|result| text(result, "EvalDecision") != "allowed").map(|result| {
        let why = if text(result, "EvalDecision") == "explicitDeny" { " (a policy denies it)" } else { "" };
        format!("{} on {}{why}", text(result, "EvalActionName"), text(result, "EvalResourceName"))
    });
    (!results.is_empty()).then(|| denied.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_right_that_is_missing_is_named() {
        let answer = json!({"EvaluationResults": [
            {"EvalActionName": "sqs:SendMessage", "EvalResourceName": "arn:q", "EvalDecision": "allowed"},
            {"EvalActionName": "sqs:DeleteMessage", "EvalResourceName": "arn:q", "EvalDecision": "implicitDeny"},
            {"EvalActionName": "sqs:ReceiveMessage", "EvalResourceName": "arn:q", "EvalDecision": "explicitDeny"},
        ]});
        let missing = denied(&answer).unwrap();
        for nothing in [json!({}), json!({"EvaluationResults": []})] {
            assert_eq!(denied(&nothing), None, "{nothing}");
        }
        assert_eq!(
            missing,
            ["sqs:DeleteMessage on arn:q", "sqs:ReceiveMessage on arn:q (a policy denies it)"]
        );
        let told = of_rights("arn:role", 3, missing, &[]).lines().join("\n");
        assert!(
            told.contains("FAILED  rights: arn:role may not sqs:DeleteMessage")
                && told.contains("doctor.md#workers-allowed")
        );
        assert!(
            of_rights("arn:role", 3, Vec::new(), &[])
                .lines()
                .join("\n")
                .contains("ok      rights: arn:role has the 3 rights")
        );
        let many = (0..20).map(|n| format!("a{n}")).collect();
        let unknown =
            of_rights("arn:role", 3, Vec::new(), &["the secret `c` (denied)".to_owned()]).lines().join("\n");
        assert!(
            unknown.trim_start().starts_with("look ")
                && unknown.contains("not known is that on the secret `c` (denied)"),
            "{unknown}"
        );
        assert!(of_rights("arn:role", 20, many, &[]).lines().join("\n").contains("a7, and 12 more"));
    }

    #[test]
    fn what_is_asked_is_what_a_person_would_type() {
        let call = simulation("arn:role", &["dynamodb:PutItem".to_owned()], &["arn:t".to_owned()], true);
        assert_eq!(
            call.line(),
            format!(
                "aws iam simulate-principal-policy --policy-source-arn arn:role --action-names dynamodb:PutItem --resource-arns arn:t \
                 --context-entries '{LEADING_KEY}' --output json"
            )
        );
        let rights = rights();
        assert!(
            rights["queues"].contains(&"sqs:ReceiveMessage".to_owned()) && rights.len() == 10,
            "{rights:?}"
        );
    }
}
