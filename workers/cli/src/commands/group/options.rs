//! Which group, and how a group is shown.

use clap::Args;
use serde_json::{Value, json};
use toolfleet_client::{GroupError, GroupMember, GroupStatus};
use toolfleet_core::group::GroupResult;
use toolfleet_core::ids::{GroupId, Tenant};
use toolfleet_core::outcome::Outcome;
use toolfleet_core::request::GroupKey;

use crate::commands::which::Words;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Which group.
#[derive(Debug, Args)]
pub(crate) struct WhichGroup {
    /// Whose group it is; unless given, TOOLFLEET_TENANT.
    #[arg(value_name = "TENANT")]
    first: Option<String>,
    /// The group's id.
    #[arg(value_name = "GROUP")]
    second: Option<String>,
    /// Whose group it is.
    #[arg(long, value_name = "TENANT", conflicts_with = "second")]
    tenant: Option<Tenant>,
    /// The group's id.
    #[arg(long, value_name = "ID", conflicts_with = "second")]
    group: Option<GroupId>,
    /// The round: 1, or that of a redrive.
    #[arg(long, value_name = "N", default_value_t = 1)]
    round: u32,
}

impl WhichGroup {
    /// Its key.
    ///
    /// # Errors
    /// A part is missing or wrong.
    pub(crate) fn key(&self) -> Result<GroupKey, CommandError> {
        let words = Words { kind: "GROUP", first: &self.first, second: &self.second };
        let (tenant, id) = words.tenant_and(self.tenant.as_ref(), self.group.as_ref())?;
        Ok(GroupKey { tenant, id, round: self.round })
    }
}

/// The error of a group as the command's.
pub(crate) fn failed(error: GroupError) -> CommandError {
    match error {
        GroupError::Aws(error) => error.into(),
        GroupError::Redrive(_) | GroupError::Unknown(_) | GroupError::TimeOut { .. } => {
            CommandError::usage(error.to_string())
        }
    }
}

/// Says that nothing is known of it.
pub(crate) fn unknown(key: &GroupKey, output: &Output) -> Result<Exit, CommandError> {
    if output.is_json() {
        let GroupKey { tenant, id, round } = key;
        output.document(&json!({"tenant": tenant, "group": id, "round": round, "state": "unknown"}))?;
    }
    output.note(&GroupError::Unknown(key.clone()).to_string());
    output.note("check tenant, id and --round");
    Ok(Exit::NoResult)
}

/// Shows a group.
pub(crate) fn show(status: &GroupStatus, output: &Output) -> Result<Exit, CommandError> {
    let GroupStatus { row, members } = status;
    if output.is_json() {
        output.document(&document(status))?;
    }
    let told = match &row.decision {
        Some(decision) => format!("{} at {} by {}", decision.result, decision.at, decision.by),
        None => format!("open; decided at {} at the latest", row.terms.deadline),
    };
    output.line(&format!("group {}: {told}", row.key))?;
    let (size, policy) = (row.terms.size, row.terms.policy);
    let (ok, failed, open) = (row.ok.len(), row.failed.len(), row.open());
    output.line(&format!("policy {policy}, {size} members: {ok} succeeded, {failed} failed, {open} open"))?;
    let decided = row.decision.is_some();
    let lines = members.iter().map(|member| {
        let call = member.call_id.as_ref().map_or("-", |id| id.as_str());
        vec![member.index.to_string(), call.to_owned(), state(member, decided), message(member)]
    });
    output.table(&["INDEX", "CALL", "STATE", "WHY"], lines.collect())?;
    Ok(match row.decision.map(|decision| decision.result) {
        Some(GroupResult::Succeeded) => Exit::Done,
        Some(GroupResult::Failed | GroupResult::Incomplete | GroupResult::Cancelled) => Exit::NotSucceeded,
        None => Exit::NoResult,
    })
}

fn document(status: &GroupStatus) -> Value {
    let GroupStatus { row, members } = status;
    let decision = row.decision.map(|decision| {
        json!({"result": decision.result, "by": decision.by.to_string(), "at": decision.at,
            "succeeded": decision.succeeded, "failed": decision.failed})
    });
    let decided = row.decision.is_some();
    let members: Vec<_> = members
        .iter()
        .map(|member| {
            let error = outcome(member).and_then(|outcome| outcome.error.as_ref());
            json!({"index": member.index, "call_id": member.call_id, "state": state(member, decided),
                "code": error.map(|error| error.code), "may_have_run": error.map(|error| error.may_have_run),
                "message": error.map(|error| &error.message)})
        })
        .collect();
    json!({"tenant": row.key.tenant, "group": row.key.id, "round": row.key.round, "size": row.terms.size,
        "policy": row.terms.policy, "deadline": row.terms.deadline, "decision": decision, "notified": row.notified,
        "succeeded": row.ok.len(), "failed": row.failed.len(), "open": row.open(), "members": members})
}

fn outcome(member: &GroupMember) -> Option<&Outcome> {
    Some(&member.call.as_ref()?.finished.as_ref()?.outcome)
}

/// The outcome of a member, or its state.
fn state(member: &GroupMember, decided: bool) -> String {
    match (outcome(member), &member.call) {
        (Some(outcome), _) => outcome.kind.as_str().to_owned(),
        (None, Some(row)) => row.state.as_str().to_owned(),
        (None, None) if member.call_id.is_some() => "received".to_owned(),
        // After the decision no call takes its index any more; what came late is found by its id.
        (None, None) if decided => "not started".to_owned(),
        (None, None) => "not received".to_owned(),
    }
}

fn message(member: &GroupMember) -> String {
    outcome(member)
        .and_then(|outcome| outcome.error.as_ref())
        .map_or_else(String::new, |e| e.code.as_str().to_owned())
}
