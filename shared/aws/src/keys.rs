//! All keys: the key attributes and indexes of the tables, the texts of partition and sort keys, and the object keys of the bucket.
//!
//! docs/reference/data.md explains them. Every key of a tenant's data begins with the tenant, so that IAM conditions can limit access by tenant.

use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::digest::Digest;
use toolfleet_core::fleet::Minute;
use toolfleet_core::ids::{CallId, CallKey, Nonce, ServerId, SessionId, Tenant, WorkerId};
use toolfleet_core::limits::LimitKey;
use toolfleet_core::payload::tenant_prefix;
use toolfleet_core::request::GroupKey;
use toolfleet_core::time::Timestamp;

/// The partition key of every table.
pub(crate) const PK: &str = "pk";
/// The sort key of the sessions and the history table.
pub(crate) const SK: &str = "sk";
/// The revision of a call's row, on which its compare-and-swap is conditioned.
pub(crate) const REV: &str = "rev";
/// The TTL attribute, in seconds since 1970.
pub(crate) const EXPIRES_AT: &str = "expires_at";
/// The history table's index by session, and its partition key.
pub(crate) const BY_SESSION: &str = "by_session";
pub(crate) const SESSION_PK: &str = "session_pk";
/// The history table's sparse index of failures, and its partition key.
pub(crate) const BY_FAILURE: &str = "by_failure";
pub(crate) const FAILURE_PK: &str = "failure_pk";
/// The sort key of a session's own row.
pub(crate) const SESSION_SORT: &str = "meta";
/// The beginning of the sort keys of a session's MCP sessions.
pub(crate) const MCP_SESSION_PREFIX: &str = "mcp#";

/// The fleet table: the partition of the control entries.
pub(crate) const CONTROL: &str = "control";
/// The fleet table: the partition of the version of the control entries, an item of its own, and its sort key.
pub(crate) const CONTROL_VERSION: &str = "control#version";
pub(crate) const VERSION_SORT: &str = "-";

/// The sort key of the row of a `supersede` key.
pub(crate) const SUPERSEDE_SORT: &str = "newest";

/// The partition key of the newest call of a `supersede` key: `supersede#tenant#key`.
pub(crate) fn supersede(tenant: &Tenant, key: &str) -> String {
    format!("supersede#{tenant}#{key}")
}

/// The fleet table: the sort keys of a group and of its redrive, and the beginning of those of its members.
pub(crate) const GROUP_SORT: &str = "group";
pub(crate) const REDRIVE_SORT: &str = "redrive";
/// Beside a group: it was cancelled before a member was received.
pub(crate) const CANCELLED_SORT: &str = "cancelled";
pub(crate) const MEMBER_PREFIX: &str = "member#";

/// The partition key of a group and its members: `group#tenant#group#round`.
pub(crate) fn group(key: &GroupKey) -> String {
    format!("group#{}#{}#{}", key.tenant, key.id, key.round)
}

/// The sort key of the member of that index: `member#0007`.
pub(crate) fn member(index: u32) -> String {
    format!("{MEMBER_PREFIX}{index:04}")
}

/// The fleet table: the sort keys of a limit's two items.
pub(crate) const TURNS_SORT: &str = "turns";
pub(crate) const PERMITS_SORT: &str = "permits";

/// The partition key of a limit, an item of its own for its turns and for its permits: `limit#server:crm`.
pub(crate) fn limit(limit: &LimitKey) -> String {
    format!("limit#{limit}")
}

/// The fleet table: over how many partitions the rows of workers are spread.
pub(crate) const WORKER_SHARDS: u32 = 16;
/// The fleet table: the summary of all worker rows, an item of its own with the lease of the worker that writes it.
pub(crate) const SUMMARY: &str = "summary";
pub(crate) const SUMMARY_SORT: &str = "-";
/// The fleet table: over how many partitions the rollups of one tool and day are spread.
pub(crate) const ROLLUP_SHARDS: u32 = 4;
/// The fleet table: the partition of the hours whose rollups are added up.
pub(crate) const COMPACTED: &str = "rollups#compacted";

/// The partition key of a worker's row: `worker#shard`. The shard is taken from the worker's id, so that no partition holds all rows.
pub(crate) fn worker(id: &WorkerId) -> String {
    worker_shard(Digest::of_text(id.as_str()).bucket(WORKER_SHARDS))
}

/// The partition key of one shard of the worker rows.
pub(crate) fn worker_shard(shard: u32) -> String {
    format!("worker#{shard:02}")
}

/// The sort key of a worker's row: `id#boot`, so that a restarted worker does not overwrite the row of the process before it.
pub(crate) fn worker_sort(id: &WorkerId, boot: &Nonce) -> String {
    format!("{id}#{boot}")
}

/// The sort key of minutes that a worker process gave up.
pub(crate) fn given_up_sort(id: &WorkerId, boot: &Nonce, from: Minute) -> String {
    format!("{}#{}", worker_sort(id, boot), from.time())
}

/// The shard of the rollups of one worker process.
pub(crate) fn rollup_shard(boot: &Nonce) -> u32 {
    Digest::of_text(boot.as_str()).bucket(ROLLUP_SHARDS)
}

/// The partition key of the minutes of one tool on the day of `minute`: `rollup#tool#day#shard`.
pub(crate) fn rollups(tool: &str, minute: Minute, shard: u32) -> String {
    format!("rollup#{tool}#{}#{shard}", minute.day())
}

/// The sort key of a rollup: `time#boot`.
pub(crate) fn rollup_sort(minute: Minute, boot: &Nonce) -> String {
    format!("{}#{boot}", minute.time())
}

/// The bounds of the sort keys of the rollups between two minutes of a day, both included.
pub(crate) fn rollup_sorts(from: Minute, to: Minute) -> (String, String) {
    // `$` is the character after `#`.
    (from.time(), format!("{}$", to.time()))
}

/// The partition key of the hours of one tool on the day of `hour`: `rollup#tool#day#hours`. The sort key is the hour's first minute.
pub(crate) fn rollup_hours(tool: &str, hour: Minute) -> String {
    format!("rollup#{tool}#{}#hours", hour.day())
}

/// The partition key of the tools that have rollups on the day of `minute`: `rollups#tools#day`. The sort key is the tool.
pub(crate) fn rolled_up_tools(minute: Minute) -> String {
    format!("rollups#tools#{}", minute.day())
}

/// The partition key of the minutes that dead workers lost on the day of `minute`: `rollups#lost#day`. The sort key is `id#boot`.
pub(crate) fn lost_minutes(minute: Minute) -> String {
    format!("rollups#lost#{}", minute.day())
}

/// The partition key of a call: `tenant#call_id`.
pub(crate) fn call(key: &CallKey) -> String {
    format!("{}#{}", key.tenant, key.call_id)
}

/// The call of a partition key.
pub(crate) fn call_of(partition: &str) -> Option<CallKey> {
    let (tenant, call_id) = partition.split_once('#')?;
    Some(CallKey { tenant: Tenant::from_stored(tenant).ok()?, call_id: CallId::parse(call_id).ok()? })
}

/// The partition key of a session, and of the index by session: `tenant#session`.
pub(crate) fn session(tenant: &Tenant, session: &SessionId) -> String {
    format!("{tenant}#{session}")
}

/// The sort key of what a session's functions on a server returned for its next call.
pub(crate) fn session_attributes(server: Option<&ServerId>) -> String {
    server.map_or_else(|| "attributes".to_owned(), |server| format!("attributes#{server}"))
}

/// The sort key of the MCP session with that server: `mcp#server`.
pub(crate) fn mcp_session(server: &ServerId) -> String {
    format!("{MCP_SESSION_PREFIX}{server}")
}

/// The server of an MCP session's sort key.
pub(crate) fn server_of(sort: &str) -> Option<ServerId> {
    ServerId::parse(sort.strip_prefix(MCP_SESSION_PREFIX)?).ok()
}

/// The shard of a call's records.
pub(crate) fn shard(call_id: &CallId, shards: u32) -> u32 {
    Digest::of_text(call_id.as_str()).bucket(shards)
}

/// The partition key of the records of one tenant in the hour of `at`: `tenant#hour#shard`.
pub(crate) fn history(tenant: &Tenant, at: Timestamp, shard: u32) -> String {
    format!("{tenant}#{}#{shard}", at.hour())
}

/// The partition key of the index of failures on the day of `at`: `tenant#day#shard`.
pub(crate) fn failures(tenant: &Tenant, at: Timestamp, shard: u32) -> String {
    format!("{tenant}#{}#{shard}", at.hour().chars().take(10).collect::<String>())
}

/// The partition key of a record.
pub(crate) fn record(record: &AuditRecord, shards: u32) -> String {
    history(&record.tenant, record.at, shard(&record.call_id, shards))
}

/// The sort key of a record: `time#call_id#kind`, and the message's id where several messages can have a record of that kind.
pub(crate) fn record_sort(record: &AuditRecord) -> String {
    let key = format!("{}#{}#{}", record.at, record.call_id, record.kind.as_str());
    match record.kind {
        AuditKind::IdempotencyMismatch | AuditKind::Duplicate => match &record.message_id {
            Some(message_id) => format!("{key}#{message_id}"),
            None => key,
        },
        AuditKind::Call
        | AuditKind::LateAnswer
        | AuditKind::Undecodable
        | AuditKind::TenantNotAllowed
        | AuditKind::Switch => key,
    }
}

/// The bounds of the sort keys of all records between two instants, both included.
pub(crate) fn record_sorts(from: Timestamp, to: Timestamp) -> (String, String) {
    // A sort key is `time#..`, and `$` is the character after `#`.
    (from.to_string(), format!("{to}$"))
}

/// The bounds of the sort keys of all records of one call at one instant.
pub(crate) fn record_sorts_of_call(at: Timestamp, call_id: &CallId) -> (String, String) {
    (format!("{at}#{call_id}#"), format!("{at}#{call_id}$"))
}

/// Whether a record's sort key is of one of that call.
pub(crate) fn is_of_call(sort: &str, call_id: &CallId) -> bool {
    // An instant has no `#`, and neither has an id.
    let rest = sort.split_once('#').and_then(|(_, rest)| rest.strip_prefix(call_id.as_str()));
    rest.is_some_and(|rest| rest.starts_with('#'))
}

/// A record's key in the index by session.
pub(crate) fn record_session(record: &AuditRecord) -> Option<String> {
    record.session.as_ref().map(|id| session(&record.tenant, id))
}

/// A record's key in the sparse index of failures: other records have none.
pub(crate) fn record_failure(record: &AuditRecord, shards: u32) -> Option<String> {
    let key = || failures(&record.tenant, record.at, shard(&record.call_id, shards));
    record.outcome.is_failure().then(key)
}

/// The object key of a result that is stored at `at`: `tenant/month/digest`. The month is a part of it so that a row never refers
/// to an object that was stored long before it, and expires before it.
pub fn result_object(tenant: &Tenant, at: Timestamp, sha256: &str) -> String {
    format!("{}{}/{sha256}", tenant_prefix(tenant), month(at))
}

/// The object key of arguments that a sender stores: `tenant/in/month/digest`, apart from the results, which no sender may write.
pub fn arguments_object(tenant: &Tenant, at: Timestamp, sha256: &str) -> String {
    format!("{}in/{}/{sha256}", tenant_prefix(tenant), month(at))
}

/// The object key of an answer to one of several questions, until all are given: `tenant/in/answers/name`.
pub fn answer_object(tenant: &Tenant, name: &str) -> String {
    format!("{}in/answers/{name}", tenant_prefix(tenant))
}

fn month(at: Timestamp) -> String {
    at.to_string().chars().take(7).collect()
}

#[cfg(test)]
mod tests {
    use toolfleet_core::payload::{ObjectAt, Sources};

    use super::*;

    const DATA_YAML: &str = include_str!("../../../infra/cloudformation/data.yaml");

    fn tenant() -> Tenant {
        Tenant::parse("acme").unwrap()
    }

    fn at() -> Timestamp {
        Timestamp::from_ms(1_795_253_400_123)
    }

    #[test]
    fn every_key_attribute_and_index_is_in_the_data_template() {
        for name in [PK, SK, EXPIRES_AT, BY_SESSION, SESSION_PK, BY_FAILURE, FAILURE_PK] {
            let found = DATA_YAML.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| w == name);
            assert!(found, "{name}");
        }
    }

    #[test]
    fn keys_begin_with_the_tenant_and_are_read_back() {
        let key = CallKey { tenant: tenant(), call_id: CallId::parse("c:1").unwrap() };
        assert_eq!(call(&key), "acme#c:1");
        assert_eq!(call_of("acme#c:1"), Some(key));
        let of_message = CallKey::of_message("m-1");
        assert_eq!(call(&of_message), "_message#m-1");
        assert_eq!(call_of("_message#m-1"), Some(of_message));
        assert_eq!(session(&tenant(), &SessionId::parse("s-1").unwrap()), "acme#s-1");
        assert_eq!(history(&tenant(), at(), 3), "acme#2026-11-21T09#3");
        assert_eq!(failures(&tenant(), at(), 3), "acme#2026-11-21#3");
        let server = ServerId::parse("crm").unwrap();
        assert_eq!(server_of(&mcp_session(&server)), Some(server));
    }

    /// One partition for the rows of all workers would be read by all of them (complaint: "one partition for all rows").
    #[test]
    fn one_partition_for_all_rows_is_avoided_by_16_shards() {
        let mut rows = std::collections::BTreeMap::<String, u32>::new();
        for n in 0..1_000 {
            *rows.entry(worker(&WorkerId::parse(format!("w-{n}")).unwrap())).or_default() += 1;
        }
        let shards: Vec<_> = (0..WORKER_SHARDS).map(worker_shard).collect();
        assert_eq!(rows.keys().cloned().collect::<Vec<_>>(), shards);
        assert!(rows.values().all(|count| (30..=100).contains(count)), "{rows:?}");
    }

    #[test]
    fn rollups_of_a_tool_are_kept_by_day_and_sorted_by_minute() {
        let (minute, boot) = (Minute::of(at()), Nonce::parse("b1").unwrap());
        assert_eq!(rollups("crm.find", minute, 3), "rollup#crm.find#2026-11-21#3");
        assert_eq!(rollup_sort(minute, &boot), "09:30#b1");
        let (from, to) = rollup_sorts(minute, minute);
        assert!(from < rollup_sort(minute, &boot) && rollup_sort(minute, &boot) < to);
        assert!(rollup_sort(minute.plus(1), &boot) > to && rollup_sort(minute.plus(-1), &boot) < from);
        assert!(rollup_shard(&boot) < ROLLUP_SHARDS);
    }

    #[test]
    fn a_tenant_may_name_its_own_objects_and_no_other_tenants() {
        let sources = Sources::parse(Some("fleet"), "").unwrap();
        let digest = "a".repeat(64);
        let key = result_object(&tenant(), at(), &digest);
        assert_eq!(key, format!("acme/2026-11/{digest}"));
        assert!(arguments_object(&tenant(), at(), "x").starts_with("acme/in/2026-11/"));
        let answer = answer_object(&tenant(), "x");
        assert_eq!(answer, "acme/in/answers/x");
        for key in [key, arguments_object(&tenant(), at(), &digest), answer] {
            let object = ObjectAt::parse("fleet", &key).unwrap();
            assert!(sources.open(&tenant(), &object));
            assert!(!sources.open(&Tenant::parse("acm").unwrap(), &object));
        }
    }
}
