//! The dead letters: which calls, why, whether they may have run, and how long ago they were sent.

use askama::Template;

use crate::command::Command;
use crate::console::Visit;
use crate::dead_letter_list::{Letter, MOST};
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::{self, Link};
use crate::numbers::When;
use crate::page_of::PageOf;
use crate::reading::Problems;

/// Letters of a page.
const SIZE: usize = 50;

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLettersPage {
    frame: Frame,
    tenant: String,
    tool: String,
    reason: String,
    read: Option<When>,
    letters: PageOf<LetterLine>,
    /// What is not in the list.
    notes: Vec<String>,
}

struct LetterLine {
    sent: When,
    tenant: String,
    call: String,
    href: String,
    tool: String,
    reason: String,
    may_have_run: bool,
    class: &'static str,
    received: u32,
    message_id: String,
    problem: String,
}

pub(super) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    let (mut problems, now) = (Problems::of(visit.scope()), visit.now);
    let tenant = visit.query.tenant()?;
    if let Some(tenant) = &tenant {
        visit.sees(tenant, "tenant")?;
    }
    let (tool, reason) = (visit.query.get("tool"), visit.query.get("reason"));
    let console = visit.console;
    let read =
        problems.take("The dead-letter queue", console.dead_letters.letters(&console.client, now).await);
    let mut notes = Vec::new();
    if let Some(letters) = &read {
        if letters.at.is_none() {
            notes.push(
                "The calls queue has no dead-letter queue. Deploy infra/cloudformation/data.yaml.".to_owned(),
            );
        } else if !letters.is_complete {
            notes.push(format!(
                "There may be more: at most {MOST} messages are read, and none that others have hidden. The command reads all."
            ));
        }
        if letters.still_hidden > 0 && visit.scope().tenants().is_none() {
            notes.push(format!("{} messages stay hidden for half a minute.", letters.still_hidden));
        }
    }
    let fits = |letter: &&Letter| {
        let key = letter.key.as_ref();
        let seen =
            key.map_or_else(|| visit.scope().tenants().is_none(), |key| visit.scope().sees(&key.tenant));
        let of_tool = |wanted: &str| {
            letter.tool.as_deref().is_some_and(|tool| {
                tool == wanted || tool.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
            })
        };
        seen && tenant.as_ref().is_none_or(|tenant| key.is_some_and(|key| key.tenant == *tenant))
            && tool.is_none_or(of_tool)
            && reason.is_none_or(|reason| letter.reason == reason)
    };
    let all: Vec<_> = read.iter().flat_map(|letters| &letters.all).filter(fits).cloned().collect();
    let address = Link::to("/dead-letters")
        .with_some("tenant", tenant.as_ref().map(|tenant| tenant.as_str()))
        .with_some("tool", tool)
        .with_some("reason", reason);
    let letters = PageOf::of(all, &visit.query, SIZE, &address).map(|letter| line(letter, now));
    let command = Command::new("dlq list")
        .option_if_some("tenant", tenant.as_ref().map(|tenant| tenant.as_str()))
        .option_if_some("tool", tool)
        .option_if_some("reason", reason);
    let page = DeadLettersPage {
        frame: Frame::of(visit, "Dead letters", problems, vec![command]),
        tenant: tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        tool: tool.unwrap_or_default().to_owned(),
        reason: reason.unwrap_or_default().to_owned(),
        read: read.and_then(|letters| letters.at).map(|at| When::ago(at, now)),
        letters,
        notes,
    };
    page.render().map_err(Failure::defect)
}

fn line(letter: Letter, now: toolfleet_core::time::Timestamp) -> LetterLine {
    let (tenant, call) =
        letter.key.map_or_else(Default::default, |key| (key.tenant.to_string(), key.call_id.to_string()));
    LetterLine {
        sent: When::ago(letter.first_sent, now),
        href: if call.is_empty() { String::new() } else { link::call(&tenant, &call) },
        tenant,
        call,
        tool: letter.tool.unwrap_or_default(),
        reason: letter.reason,
        may_have_run: letter.may_have_run,
        class: letter.class,
        received: letter.received,
        message_id: letter.message_id,
        problem: letter.problem.unwrap_or_default(),
    }
}
