//! A group: its policy, its decision, and what became of each member.

use askama::Template;
use toolfleet_client::{GroupMember, GroupStatus};
use toolfleet_core::group::GroupResult;
use toolfleet_core::ids::GroupId;
use toolfleet_core::request::GroupKey;
use toolfleet_core::time::Timestamp;

use crate::command::Command;
use crate::console::Visit;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::{self, Link};
use crate::numbers::When;
use crate::page_of::{self, PageOf};
use crate::reading::Problems;

/// Members of a page.
const SIZE: usize = 100;

#[derive(Template)]
#[template(path = "group.html")]
struct GroupPage {
    frame: Frame,
    tenants: Vec<String>,
    tenant: String,
    id: String,
    round: u32,
    /// That one was asked for, and nothing is known of it.
    is_unknown: bool,
    group: Option<Shown>,
}

struct Shown {
    policy: String,
    size: u32,
    deadline: When,
    result: &'static str,
    is_bad: bool,
    decided: Option<When>,
    decided_by: String,
    counts: String,
    members: PageOf<MemberLine>,
}

struct MemberLine {
    index: u32,
    call: String,
    href: String,
    state: String,
    is_failure: bool,
    code: String,
    message: String,
    ended: Option<When>,
}

pub(super) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    let (mut problems, now) = (Problems::of(visit.scope()), visit.now);
    let only =
        visit.scope().tenants().filter(|tenants| tenants.len() == 1).and_then(|tenants| tenants.first());
    let (tenant, id) =
        (visit.query.tenant()?.or_else(|| only.cloned()), visit.query.read::<GroupId>("group")?);
    let round = visit.query.read::<u32>("round")?.unwrap_or(1);
    let key = match (&tenant, &id) {
        (Some(tenant), Some(id)) => {
            visit.sees(tenant, "group")?;
            Some(GroupKey { tenant: tenant.clone(), id: id.clone(), round })
        }
        (Some(_) | None, _) => None,
    };
    let mut found = None;
    if let Some(key) = &key {
        let read =
            visit.console.client.group_part(key, |size| page_of::indexes(size, &visit.query, SIZE)).await;
        found = problems.take("The group", read);
    }
    let (was_read, status) = (found.is_some(), found.flatten());
    let commands = key.as_ref().map(command).into_iter().collect();
    let title = key.as_ref().map_or_else(|| "Groups".to_owned(), |key| format!("Group {}", key.id));
    let page = GroupPage {
        frame: Frame::of(visit, &title, problems, commands),
        tenants: visit.scope().tenants().into_iter().flatten().map(ToString::to_string).collect(),
        tenant: tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        id: id.map(|id| id.to_string()).unwrap_or_default(),
        round,
        is_unknown: key.is_some() && was_read && status.is_none(),
        group: status.map(|status| shown(status, visit, now)),
    };
    page.render().map_err(Failure::defect)
}

fn command(key: &GroupKey) -> Command {
    let round = (key.round != 1).then(|| key.round.to_string());
    Command::new("group show").option_if_some("round", round).word(key.tenant.as_str()).word(key.id.as_str())
}

fn shown(status: GroupStatus, visit: &Visit<'_>, now: Timestamp) -> Shown {
    let GroupStatus { row, members } = status;
    let key = &row.key;
    let address = Link::to("/group")
        .with("tenant", key.tenant.as_str())
        .with("group", key.id.as_str())
        .with("round", key.round.to_string());
    let decision = row.decision;
    let line = |member: GroupMember| member_line(member, key.tenant.as_str(), decision.is_some(), now);
    Shown {
        policy: row.terms.policy.to_string(),
        size: row.terms.size,
        deadline: When::ago(row.terms.deadline, now),
        result: decision.map_or("not decided", |decision| decision.result.as_str()),
        is_bad: decision.is_some_and(|decision| decision.result != GroupResult::Succeeded),
        decided: decision.map(|decision| When::clock(decision.at, now)),
        decided_by: decision.map(|decision| decision.by.to_string().replace(':', " ")).unwrap_or_default(),
        counts: format!("{} succeeded, {} failed, {} open", row.ok.len(), row.failed.len(), row.open()),
        members: PageOf::of(members, &visit.query, SIZE, &address).map(line),
    }
}

fn member_line(member: GroupMember, tenant: &str, decided: bool, now: Timestamp) -> MemberLine {
    let finished = member.call.as_ref().and_then(|row| row.finished.as_ref());
    let outcome = finished.map(|finished| &finished.outcome);
    let state = match (outcome, &member.call) {
        (Some(outcome), _) => outcome.kind.as_str(),
        (None, Some(row)) => row.state.as_str(),
        (None, None) if member.call_id.is_some() => "received",
        (None, None) if decided => "not started",
        (None, None) => "not received",
    };
    let call = member.call_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let error = outcome.and_then(|outcome| outcome.error.as_ref());
    MemberLine {
        index: member.index,
        href: if call.is_empty() { String::new() } else { link::call(tenant, &call) },
        call,
        state: state.to_owned(),
        is_failure: outcome.is_some_and(|outcome| outcome.kind.is_failure()),
        code: error.map(|error| error.code.as_str().to_owned()).unwrap_or_default(),
        message: error.map(|error| error.message.clone()).unwrap_or_default(),
        ended: finished.map(|finished| When::clock(finished.at, now)),
    }
}
