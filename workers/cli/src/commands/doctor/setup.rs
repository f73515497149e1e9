//! How the tables and the bucket are set up: do rows and objects end, and are the indexes there?

use futures::future::join_all;
use toolfleet_aws::queue::QueueSettings;
use toolfleet_aws::{TableEncryption, TableSetup};
use toolfleet_client::{AwsError, AwsErrorKind, Client, Tables};

use toolfleet_core::retention::RETENTION_DAYS;

use super::finding::{Check, DEPLOY, Finding};
use toolfleet_client::shell_command::quoted;

/// The attribute by which rows end.
const EXPIRES_AT: &str = "expires_at";
/// A row may refer to an object that was stored so many days before it.
const OLDER_OBJECTS_DAYS: u64 = 30;

/// The tables whose rows end, with their indexes. On one machine nothing protects them.
pub(super) async fn tables(client: &Client) -> Vec<Finding> {
    let (setup, Tables { calls, sessions, history, fleet, .. }) = (client.setup(), client.tables());
    let (none, asks_protection): (&[&str], _) = (&[], !is_on_this_machine(client.queue().url()));
    let tables =
        [(calls, none), (sessions, none), (history, &["by_session", "by_failure"] as &[_]), (fleet, none)];
    let found = join_all(tables.map(async |(table, indexes)| {
        let known = setup.table(table).await;
        let mut findings = vec![of_table(table, indexes, known.as_ref())];
        if let (Ok(known), true) = (known, asks_protection) {
            findings.extend(protection(table, &known, setup.can_be_recovered(table).await));
        }
        findings
    }));
    let mut found = found.await.into_iter().flatten().collect::<Vec<_>>();
    found.sort_by_key(|finding| finding.check == Check::TableProtected);
    found
}

/// Whether the fleet is that of `toolfleet dev`.
pub(super) fn is_on_this_machine(url: &str) -> bool {
    let url = url::Url::parse(url).ok();
    let host = url.as_ref().and_then(url::Url::host_str).unwrap_or_default();
    host == "localhost" || host.starts_with("127.") || host == "[::1]"
}

fn of_table(table: &str, indexes: &[&str], setup: Result<&TableSetup, &AwsError>) -> Finding {
    let setup = match setup {
        Ok(setup) => setup,
        Err(error) => return unknown(Check::TableSetUp, table, error),
    };
    if let Some(missing) = indexes.iter().find(|name| !setup.indexes.contains_key(**name)) {
        let text = format!("has no index `{missing}`: what is searched by it is not found");
        return Finding::failed(Check::TableSetUp, table, text, DEPLOY);
    }
    if let Some(building) = indexes.iter().find(|name| setup.indexes.get(**name) == Some(&false)) {
        let text = format!("its index `{building}` is being built: what is searched by it is not complete");
        let remedy = format!("aws dynamodb describe-table --table-name {}", quoted(table));
        return Finding::warning(Check::TableSetUp, table, text, remedy);
    }
    if setup.expires_by.as_deref() != Some(EXPIRES_AT) {
        let text = format!("its rows do not end by `{EXPIRES_AT}`: it grows for ever");
        let remedy = format!(
            "aws dynamodb update-time-to-live --table-name {} --time-to-live-specification Enabled=true,AttributeName={EXPIRES_AT}",
            quoted(table)
        );
        return Finding::warning(Check::TableSetUp, table, text, remedy);
    }
    Finding::ok(Check::TableSetUp, table, format!("rows end by `{EXPIRES_AT}`{}", shown(indexes)))
}

/// What keeps a table from being lost or read by others.
fn protection(table: &str, setup: &TableSetup, recovers: Result<bool, AwsError>) -> Vec<Finding> {
    let look = |text: &str, remedy: String| Finding::warning(Check::TableProtected, table, text, remedy);
    let name = quoted(table);
    let mut findings = Vec::new();
    match setup.encryption {
        TableEncryption::Kms => {}
        TableEncryption::Unusable => {
            let text = "its KMS key cannot be used: DynamoDB closes the table within days";
            let remedy =
                format!("aws dynamodb describe-table --table-name {name} --query Table.SSEDescription");
            findings.push(Finding::failed(Check::TableProtected, table, text, remedy));
        }
        TableEncryption::OwnedKey => findings.push(look(
            "is encrypted with a key of DynamoDB's own: nobody can withdraw it, and no log shows its use",
            format!(
                "aws dynamodb update-table --table-name {name} --sse-specification Enabled=true,SSEType=KMS"
            ),
        )),
    }
    match recovers {
        Ok(true) => {}
        Ok(false) => findings.push(look(
            "cannot be recovered: what is written or deleted by mistake is lost",
            format!(
                "aws dynamodb update-continuous-backups --table-name {name} --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
            ),
        )),
        Err(error) => findings.push(unknown(Check::TableProtected, table, &error)),
    }
    if !setup.is_protected {
        findings.push(look(
            "can be deleted with one request",
            "aws cloudformation deploy --stack-name toolfleet --template-file infra/cloudformation/data.yaml --capabilities CAPABILITY_IAM --parameter-overrides DeletionProtection=true".to_owned(),
        ));
    }
    if findings.is_empty() {
        let text = "can be recovered, is encrypted with a KMS key, and is protected from deletion";
        findings.push(Finding::ok(Check::TableProtected, table, text));
    }
    findings
}

/// Whether the messages of a queue are encrypted.
pub(super) fn of_queue(name: &str, url: &str, settings: &QueueSettings) -> Finding {
    if settings.is_encrypted {
        return Finding::ok(Check::QueueEncrypted, name, "its messages are encrypted");
    }
    let remedy = format!(
        "aws sqs set-queue-attributes --queue-url {} --attributes SqsManagedSseEnabled=true",
        quoted(url)
    );
    let text = "its messages are stored without encryption, with the arguments of calls";
    Finding::warning(Check::QueueEncrypted, name, text, remedy)
}

fn shown(indexes: &[&str]) -> String {
    if indexes.is_empty() { String::new() } else { format!("; indexes {}", indexes.join(", ")) }
}

/// The life cycle of the bucket of payloads, where one is configured.
pub(super) async fn bucket(client: &Client) -> Option<Finding> {
    let bucket = client.payload_bucket()?;
    Some(of_bucket(bucket, client.setup().objects_end_after_days(bucket).await))
}

fn of_bucket(bucket: &str, days: Result<Option<i32>, AwsError>) -> Finding {
    let fewest = RETENTION_DAYS + OLDER_OBJECTS_DAYS;
    match days.map(|days| days.map(|days| u64::try_from(days).unwrap_or(0))) {
        Ok(Some(days)) if days < fewest => {
            let text = format!(
                "its objects end after {days} days, and rows that refer to them may be {fewest} days younger: results are lost"
            );
            Finding::failed(Check::ObjectsEnd, bucket, text, DEPLOY)
        }
        Ok(Some(days)) => Finding::ok(Check::ObjectsEnd, bucket, format!("objects end after {days} days")),
        Ok(None) => {
            Finding::warning(Check::ObjectsEnd, bucket, "its objects never end: it grows for ever", DEPLOY)
        }
        Err(error) => unknown(Check::ObjectsEnd, bucket, &error),
    }
}

/// A request that was refused or not answered. That the resource answers at all is a check of its own.
fn unknown(check: Check, subject: &str, error: &AwsError) -> Finding {
    let remedy = if error.kind() == AwsErrorKind::Permission {
        "aws sts get-caller-identity   # OperatorRole of data.yaml has the right"
    } else {
        "toolfleet context show"
    };
    Finding::warning(check, subject, format!("not known: {error}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(finding: &Finding) -> String {
        finding.lines().join("\n")
    }

    fn protected() -> TableSetup {
        TableSetup {
            indexes: std::collections::BTreeMap::new(),
            expires_by: None,
            encryption: TableEncryption::Kms,
            is_protected: true,
        }
    }

    fn history(indexes: &[(&str, bool)], expires_by: Option<&str>) -> String {
        let indexes = indexes.iter().map(|(name, active)| ((*name).to_owned(), *active)).collect();
        let setup = TableSetup { indexes, expires_by: expires_by.map(str::to_owned), ..protected() };
        told(&of_table("toolfleet-history", &["by_session", "by_failure"], Ok(&setup)))
    }

    #[test]
    fn a_table_needs_its_indexes_and_an_end_of_its_rows() {
        let both = [("by_session", true), ("by_failure", true)];
        assert!(history(&both, Some("expires_at")).contains("ok      toolfleet-history: rows end"));
        assert!(
            history(&both[..1], Some("expires_at"))
                .contains("FAILED  toolfleet-history: has no index `by_failure`")
        );
        let building = [("by_session", true), ("by_failure", false)];
        assert!(
            history(&building, Some("expires_at"))
                .contains("look    toolfleet-history: its index `by_failure` is being built")
        );
        for expires_by in [None, Some("ttl")] {
            let told = history(&both, expires_by);
            assert!(told.contains("grows for ever") && told.contains("update-time-to-live"), "{told}");
        }
    }

    #[test]
    fn what_does_not_protect_a_table_is_named_with_its_remedy() {
        let all = |setup: &TableSetup, recovers| {
            protection("toolfleet-calls", setup, recovers).iter().map(told).collect::<Vec<_>>().join("\n")
        };
        assert!(all(&protected(), Ok(true)).contains("ok      toolfleet-calls: can be recovered"));
        let open = TableSetup { encryption: TableEncryption::OwnedKey, is_protected: false, ..protected() };
        let found = all(&open, Ok(false));
        for part in [
            "update-table --table-name toolfleet-calls --sse-specification",
            "update-continuous-backups --table-name toolfleet-calls",
            "DeletionProtection=true",
            "doctor.md#table-protected",
        ] {
            assert!(found.contains(part), "{found}");
        }
        assert!(!found.contains("FAILED") && !found.contains("  ok "), "{found}");
        let closed = TableSetup { encryption: TableEncryption::Unusable, ..protected() };
        assert!(all(&closed, Ok(true)).contains("FAILED  toolfleet-calls: its KMS key"));
        let refused = AwsError::passing("DescribeContinuousBackups on toolfleet-calls: not now");
        assert!(all(&protected(), Err(refused)).contains("look    toolfleet-calls: not known: "));
    }

    #[test]
    fn a_queue_without_encryption_is_named() {
        let of = |is_encrypted| {
            let settings =
                QueueSettings { is_encrypted, max_receives: None, max_body_bytes: 1, visibility_s: None };
            told(&of_queue("q", "https://sqs.example.com/1/q", &settings))
        };
        assert!(of(true).contains("ok      q: "));
        assert!(
            of(false).contains("look    q: ") && of(false).contains("set-queue-attributes"),
            "{}",
            of(false)
        );
    }

    #[test]
    fn only_a_fleet_of_this_machine_is_not_asked_for_its_protection() {
        for local in ["http://127.0.0.1:4100/000000000000/q", "http://localhost:1/q", "http://[::1]:1/q"] {
            assert!(is_on_this_machine(local), "{local}");
        }
        for other in ["https://sqs.eu-west-1.amazonaws.com/1/q", "http://localhost.example.com/q", "q"] {
            assert!(!is_on_this_machine(other), "{other}");
        }
    }

    #[test]
    fn objects_end_and_not_before_their_rows() {
        assert!(told(&of_bucket("b", Ok(Some(100)))).contains("ok      b: objects end after 100 days"));
        assert!(told(&of_bucket("b", Ok(Some(89)))).contains("FAILED  b: its objects end after 89 days"));
        assert!(told(&of_bucket("b", Ok(None))).contains("look    b: its objects never end"));
    }
}
