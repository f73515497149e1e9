//! Audit records as items: the fields of their JSON, and the keys.

use aws_sdk_dynamodb::types::AttributeValue as Value;
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_core::request::{Membership, User};
use toolfleet_core::time::Timestamp;

use super::attributes::{Attribute, Item, item, list, number, text};
use super::statement::Statement;
use crate::keys::{self, EXPIRES_AT, FAILURE_PK, PK, SESSION_PK, SK};

/// How many attributes an item has at most.
const ATTRIBUTES: usize = 32;

/// Inserts the record, which the table holds until `expires_at`.
pub(crate) fn insertion(table: &str, record: &AuditRecord, shards: u32, expires_at: Timestamp) -> Statement {
    let (partition, sort) = (keys::record(record, shards), keys::record_sort(record));
    let row = format!("{partition}|{sort}");
    let mut attributes = fields(record);
    let keys = [
        (PK, text(partition)),
        (SK, text(sort)),
        (SESSION_PK, keys::record_session(record).and_then(text)),
        (FAILURE_PK, keys::record_failure(record, shards).and_then(text)),
        (EXPIRES_AT, number(expires_at.as_s())),
    ];
    attributes.extend(keys.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Statement::insert(table, &row, attributes)
}

/// What the record's JSON has, as attributes.
fn fields(record: &AuditRecord) -> Vec<Attribute> {
    // Named one by one, so that a new field is not forgotten.
    let AuditRecord {
        kind,
        tenant,
        call_id,
        at,
        outcome,
        code,
        message,
        may_have_run,
        tool,
        operation,
        resumes,
        definition,
        session,
        user,
        agent,
        group,
        sender,
        message_id,
        arguments,
        digest,
        attempts,
        fence,
        worker,
        cached_from,
        batch,
        trace_id,
        enqueued_at,
        started_at,
    } = record;
    let mut fields = Vec::with_capacity(ATTRIBUTES);
    let mut put = |name, value: Option<Value>| fields.extend(value.map(|value| (name, value)));
    put("kind", text(kind.as_str()));
    put("tenant", text(tenant));
    put("call_id", text(call_id));
    put("at", text(at));
    put("outcome", text(outcome.as_str()));
    put("code", code.as_ref().and_then(text));
    put("message", message.as_ref().and_then(text));
    put("may_have_run", may_have_run.map(MayHaveRun::as_str).and_then(text));
    put("tool", tool.as_ref().and_then(text));
    put("operation", operation.as_ref().and_then(text));
    put("resumes", resumes.as_ref().and_then(text));
    put("definition", definition.as_ref().and_then(text));
    put("session", session.as_ref().and_then(text));
    put("user", user.as_ref().map(user_of));
    put("agent", agent.as_ref().and_then(text));
    put("group", group.as_ref().map(group_of));
    put("sender", sender.as_ref().and_then(text));
    put("message_id", message_id.as_ref().and_then(text));
    put("arguments", arguments.as_ref().and_then(text));
    put("digest", text(digest));
    put("attempts", number(attempts));
    put("fence", number(fence));
    put("worker", worker.as_ref().and_then(text));
    put("cached_from", cached_from.as_ref().and_then(text));
    put("batch", batch.as_ref().and_then(text));
    put("trace_id", trace_id.as_ref().and_then(text));
    put("enqueued_at", text(enqueued_at));
    put("started_at", started_at.as_ref().and_then(text));
    fields
}

fn user_of(User { id, kind, roles }: &User) -> Value {
    let roles = Some(list(roles)).filter(|_| !roles.is_empty());
    Value::M(item([("id", text(id)), ("type", kind.as_ref().and_then(text)), ("roles", roles)]))
}

fn group_of(Membership { id, index, size, round }: &Membership) -> Value {
    let round = Some(round).filter(|round| **round != 1).and_then(number);
    Value::M(item([
        ("id", text(id)),
        ("index", index.and_then(number)),
        ("size", number(size)),
        ("round", round),
    ]))
}

/// The record of an item.
pub(crate) fn from_item(item: &Item) -> Result<AuditRecord, serde_json::Error> {
    let is_key = |name: &str| matches!(name, PK | SK | SESSION_PK | FAILURE_PK | EXPIRES_AT);
    let fields = item.iter().filter(|(name, _)| !is_key(name));
    let value: serde_json::Map<_, _> = fields.map(|(name, value)| (name.clone(), json(value))).collect();
    serde_json::from_value(value.into())
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::N(n) => serde_json::from_str(n).unwrap_or(serde_json::Value::Null),
        Value::S(s) => s.as_str().into(),
        Value::L(items) => items.iter().map(json).collect(),
        Value::M(map) => serde_json::Value::Object(map.iter().map(|(k, v)| (k.clone(), json(v))).collect()),
        // A record has no attribute of any other kind.
        Value::B(_) | Value::Bs(_) | Value::Ns(_) | Value::Null(_) | Value::Ss(_) | _ => {
            serde_json::Value::Null
        }
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::audit::AuditKind;
    use toolfleet_core::definition::ShortDefinitionDigest;
    use toolfleet_core::ids::{CallId, GroupId, SessionId, Tenant, WorkerId};
    use toolfleet_core::outcome::OutcomeKind;

    use super::*;

    fn bare(kind: AuditKind, outcome: OutcomeKind) -> AuditRecord {
        AuditRecord {
            kind,
            tenant: Tenant::parse("acme").unwrap(),
            call_id: CallId::parse("c:1").unwrap(),
            at: Timestamp::from_ms(1_795_000_000_123),
            outcome,
            code: None,
            message: None,
            may_have_run: None,
            tool: None,
            operation: None,
            resumes: None,
            definition: None,
            session: None,
            user: None,
            agent: None,
            group: None,
            sender: None,
            message_id: None,
            arguments: None,
            digest: "d".into(),
            attempts: 0,
            fence: 0,
            worker: None,
            cached_from: None,
            batch: None,
            trace_id: None,
            enqueued_at: Timestamp::from_ms(1_795_000_000_000),
            started_at: None,
        }
    }

    fn whole(may_have_run: MayHaveRun, user: User, group: Membership) -> AuditRecord {
        let some = |text: &str| Some(text.to_owned());
        AuditRecord {
            code: some("timed_out"),
            message: some("a \"sentence\""),
            may_have_run: Some(may_have_run),
            tool: some("add"),
            operation: some("prompts/get"),
            resumes: Some(CallId::parse("c0").unwrap()),
            definition: Some(ShortDefinitionDigest::from_stored("f")),
            session: Some(SessionId::parse("s").unwrap()),
            user: Some(user),
            agent: some("planner"),
            group: Some(group),
            sender: some("AROA:w"),
            message_id: some("m"),
            arguments: some(r#"{"a":"number"}"#),
            attempts: 3,
            fence: u64::MAX,
            worker: Some(WorkerId::parse("w").unwrap()),
            cached_from: some("c2"),
            batch: some("c1#2"),
            trace_id: some("t"),
            started_at: Some(Timestamp::from_ms(1_795_000_000_100)),
            ..bare(AuditKind::Duplicate, OutcomeKind::TimedOut)
        }
    }

    fn records() -> Vec<AuditRecord> {
        let user = |kind: Option<&str>, roles: &[&str]| User {
            id: "u".into(),
            kind: kind.map(str::to_owned),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        let group = |index, round| Membership { id: GroupId::parse("g").unwrap(), index, size: 3, round };
        let kinds = [
            AuditKind::Call,
            AuditKind::LateAnswer,
            AuditKind::IdempotencyMismatch,
            AuditKind::Duplicate,
            AuditKind::Undecodable,
            AuditKind::TenantNotAllowed,
            AuditKind::Switch,
        ];
        let outcomes = [
            OutcomeKind::Succeeded,
            OutcomeKind::ToolError,
            OutcomeKind::Failed,
            OutcomeKind::Refused,
            OutcomeKind::Expired,
            OutcomeKind::TimedOut,
            OutcomeKind::Cancelled,
            OutcomeKind::InputRequired,
            OutcomeKind::OutcomeUnknown,
        ];
        let mut records: Vec<_> = kinds.into_iter().map(|kind| bare(kind, OutcomeKind::Succeeded)).collect();
        records.extend(outcomes.into_iter().map(|outcome| bare(AuditKind::Call, outcome)));
        records.push(whole(MayHaveRun::No, user(None, &[]), group(None, 1)));
        records.push(whole(MayHaveRun::Unknown, user(Some("staff"), &["a", "b"]), group(Some(2), 2)));
        records.push(whole(MayHaveRun::Yes, user(Some(""), &[""]), group(Some(0), 0)));
        records
    }

    #[test]
    fn an_item_has_what_the_json_of_its_record_has() {
        for record in records() {
            let fields: Item =
                fields(&record).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            assert_eq!(json(&Value::M(fields)), serde_json::to_value(&record).unwrap());
        }
    }

    #[test]
    fn a_record_is_read_back_equal_from_what_is_inserted() {
        for record in records() {
            let Statement { text, parameters, key, .. } =
                insertion("history", &record, 4, Timestamp::from_ms(9_000));
            let names = text.split('\'').skip(1).step_by(2).map(str::to_owned);
            let item: Item = names.zip(parameters).collect();
            assert_eq!(from_item(&item).unwrap(), record);
            let of = |name: &str| item[name].as_s().unwrap().as_str();
            assert_eq!(key, format!("history|{}|{}", of(PK), of(SK)));
            assert_eq!(item.contains_key(FAILURE_PK), record.outcome.is_failure());
            assert_eq!(item.contains_key(SESSION_PK), record.session.is_some());
        }
    }
}
