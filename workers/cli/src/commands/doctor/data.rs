//! The queues, tables and the bucket: do they answer, and are they set up as workers need them?

use std::collections::BTreeSet;

use toolfleet_client::shell_command::quoted;
use toolfleet_client::{AwsError, AwsErrorKind, Client, RecordsOf, system_clock};
use toolfleet_core::ids::{CallId, CallKey, SessionId, Tenant};
use toolfleet_core::request::Priority;
use toolfleet_core::requeue::FEWEST_RECEIVES;

use super::finding::{Check, DEPLOY, Finding};
use super::setup;

/// What shows the stack that has the queues and tables.
const STACK: &str = "toolfleet context show   # which names are used; `aws cloudformation describe-stacks` has those that were made";
/// The queues of calls and their dead-letter queues.
pub(super) async fn queues(client: &Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut dead = Vec::new();
    for queue in
        [Priority::Normal, Priority::High, Priority::Low].into_iter().filter_map(|p| client.queue_of(p))
    {
        let name = queue.name().to_owned();
        match queue.depth().await {
            Err(error) => {
                findings.push(refused(Check::QueueAnswers, &name, &error));
                continue;
            }
            Ok(depth) => {
                let text = format!(
                    "{} visible, {} in flight, {} delayed",
                    depth.visible, depth.in_flight, depth.delayed
                );
                findings.push(Finding::ok(Check::QueueAnswers, &name, text));
            }
        }
        let settings = match queue.settings().await {
            Ok(settings) => settings,
            Err(error) => {
                findings.push(refused(Check::QueueRedrives, &name, &error));
                continue;
            }
        };
        findings.push(match settings.max_receives {
            Some(count) if count < FEWEST_RECEIVES => {
                let text = format!(
                    "gives a message up after {count} receives; workers need {FEWEST_RECEIVES} or more"
                );
                Finding::failed(Check::QueueRedrives, &name, text, DEPLOY)
            }
            Some(count) => {
                Finding::ok(Check::QueueRedrives, &name, format!("gives a message up after {count} receives"))
            }
            None => {
                let text =
                    "has no dead-letter queue: a message that no worker can read comes back until it expires";
                Finding::failed(Check::QueueRedrives, &name, text, DEPLOY)
            }
        });
        findings.push(setup::of_queue(&name, queue.url(), &settings));
        match queue.dead_letter_queue().await {
            Ok(Some(letters))
                if !dead.iter().any(|known: &toolfleet_aws::queue::Queue| known.url() == letters.url()) =>
            {
                dead.push(letters)
            }
            Ok(_) => {}
            Err(error) => findings.push(refused(Check::DeadLetters, &name, &error)),
        }
    }
    for letters in dead {
        let name = letters.name().to_owned();
        findings.push(match letters.depth().await {
            Err(error) => refused(Check::DeadLetters, &name, &error),
            Ok(depth) if depth.visible > 0 => {
                let text = format!("{} dead letters", depth.visible);
                Finding::warning(Check::DeadLetters, name, text, "toolfleet dlq list")
            }
            Ok(_) => Finding::ok(Check::DeadLetters, name, "empty"),
        });
        match letters.settings().await {
            Ok(settings) => findings.push(setup::of_queue(letters.name(), letters.url(), &settings)),
            Err(error) => findings.push(refused(Check::QueueEncrypted, letters.name(), &error)),
        }
    }
    findings
}

/// The tables that callers, operators and auditors read.
pub(super) async fn tables(client: &Client) -> Vec<Finding> {
    // Ids that no call and no session has.
    let tenant = Tenant::undecodable();
    let call_id = CallId::of_message("doctor");
    let key = CallKey { tenant: tenant.clone(), call_id };
    let call = async { client.status(&key).await.map(drop) };
    let session = async {
        match SessionId::parse("doctor") {
            Ok(session) => client.sessions().show(&tenant, &session).await.map(drop),
            Err(_) => Ok(()),
        }
    };
    let now = system_clock()();
    let span = toolfleet_client::Span { from: now, to: now };
    let history = async { client.records(&tenant, &RecordsOf::Everything, span, 1).await.map(drop) };
    let fleet = async { client.summary().await.map(drop) };
    let (call, session, history, fleet) = tokio::join!(call, session, history, fleet);
    [("calls", call), ("sessions", session), ("history", history), ("fleet", fleet)]
        .into_iter()
        .map(|(name, read)| match read {
            Ok(()) => Finding::ok(Check::TableAnswers, name, "answers"),
            Err(error) => refused(Check::TableAnswers, name, &error),
        })
        .collect()
}

/// The bucket of payloads, where one is configured.
pub(super) async fn bucket(client: &Client) -> Option<Finding> {
    let name = client.payload_bucket()?.to_owned();
    Some(match client.check_payload_bucket().await {
        Ok(()) => Finding::ok(Check::BucketAnswers, name, "answers"),
        // S3 answers so too where an object is missing and its caller may not list the bucket.
        Err(error) if error.kind() == AwsErrorKind::Permission => {
            Finding::warning(Check::BucketAnswers, name, format!("not known: {error}"), STACK)
        }
        Err(error) => refused(Check::BucketAnswers, &name, &error),
    })
}

/// The queues to which the catalog lets notices go.
pub(super) async fn replies(client: &Client, urls: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for url in urls {
        let queue = client.queue_at(url);
        let name = queue.name().to_owned();
        findings.push(match queue.settings().await {
            Ok(settings) if settings.is_encrypted => {
                Finding::ok(Check::RepliesAnswer, name, "answers; its messages are encrypted")
            }
            Ok(settings) => setup::of_queue(&name, url, &settings).under(Check::RepliesAnswer),
            // A tenant's own queue need not let operators read its settings: workers send to it, and that is all.
            Err(error) if error.kind() == AwsErrorKind::Permission => {
                let remedy = format!("aws sqs get-queue-attributes --queue-url {} --attribute-names All   # with its owner's rights", quoted(url));
                Finding::warning(Check::RepliesAnswer, name, format!("not known: {error}"), remedy)
            }
            Err(error) => refused(Check::RepliesAnswer, &name, &error),
        });
    }
    findings
}

/// A request that was not answered. The error names the resource and the remedy.
fn refused(check: Check, subject: &str, error: &AwsError) -> Finding {
    Finding::failed(check, subject, error.to_string(), STACK)
}
