//! How the tables and the bucket are set up: do rows and objects end, and are the indexes there?

use futures::future::join_all;
use toolfleet_aws::TableSetup;
use toolfleet_client::{AwsError, AwsErrorKind, Client, Tables};

use toolfleet_core::retention::RETENTION_DAYS;

use super::data::DEPLOY;
use super::finding::{Check, Finding};
use toolfleet_client::shell_command::quoted;

/// The attribute by which rows end.
const EXPIRES_AT: &str = "expires_at";
/// A row may refer to an object that was stored so many days before it.
const OLDER_OBJECTS_DAYS: u64 = 30;

/// The tables whose rows end, with their indexes.
pub(super) async fn tables(client: &Client) -> Vec<Finding> {
    let (setup, Tables { calls, sessions, history, fleet, .. }) = (client.setup(), client.tables());
    let none: &[&str] = &[];
    let tables =
        [(calls, none), (sessions, none), (history, &["by_session", "by_failure"] as &[_]), (fleet, none)];
    join_all(tables.map(async |(table, indexes)| of_table(table, indexes, setup.table(table).await))).await
}

fn of_table(table: &str, indexes: &[&str], setup: Result<TableSetup, AwsError>) -> Finding {
    let setup = match setup {
        Ok(setup) => setup,
        Err(error) => return unknown(Check::TableSetUp, table, &error),
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

    fn history(indexes: &[(&str, bool)], expires_by: Option<&str>) -> String {
        let indexes = indexes.iter().map(|(name, active)| ((*name).to_owned(), *active)).collect();
        let setup = TableSetup { indexes, expires_by: expires_by.map(str::to_owned) };
        told(&of_table("toolfleet-history", &["by_session", "by_failure"], Ok(setup)))
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
    fn objects_end_and_not_before_their_rows() {
        assert!(told(&of_bucket("b", Ok(Some(100)))).contains("ok      b: objects end after 100 days"));
        assert!(told(&of_bucket("b", Ok(Some(89)))).contains("FAILED  b: its objects end after 89 days"));
        assert!(told(&of_bucket("b", Ok(None))).contains("look    b: its objects never end"));
    }
}
