//! `toolfleet cancel`: cancels a call by its id, or stores a rule that cancels the calls that fit a filter.
//!
//! Calls that are still in the queue have no rows that could be listed. So a rule meets each call when a worker receives it, and calls under
//! way at their next heartbeat, until the rule expires. How many calls fit is not known before: the command says what it counted instead.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use toolfleet_client::{Cancelled, Client, PAGE_READS, RecordSearch, Span, shell_command};
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::control::{CallFilter, CancelRule, ControlEntry, is_tool};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallKey, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::commands::control::reason::{Reason, now};
use crate::commands::which::WhichCall;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show;
use crate::span_of_time::parse_span;

/// Calls that ended within that time are counted, for comparison.
const LATELY: Duration = Duration::from_hours(1);

/// Which call, or which calls.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    which: WhichCall,
    #[command(flatten)]
    matching: Matching,
}

/// A filter of calls.
#[derive(Debug, Args)]
#[command(next_help_heading = "By a filter (without CALL_ID)")]
pub(crate) struct Matching {
    /// Calls of this tool: its registered id, ID.FUNCTION, or SERVER/NAME.
    #[arg(long, value_name = "TOOL", value_parser = parse_tool, conflicts_with_all = ["call_id", "first"])]
    tool: Option<String>,
    /// Calls of this session.
    #[arg(long, value_name = "ID", conflicts_with_all = ["call_id", "first"])]
    session: Option<SessionId>,
    /// Calls that were sent longer ago than this; later ones are never meant.
    #[arg(long, value_name = "SPAN", value_parser = parse_span, conflicts_with_all = ["call_id", "first"])]
    older_than: Option<Duration>,
    /// How long the rule stays: as long as such calls may still be in the queue.
    #[arg(long = "for", value_name = "SPAN", default_value = "1d", value_parser = parse_span, conflicts_with_all = ["call_id", "first"])]
    lasting: Duration,
    /// Why; it stands in the calls' outcomes and in the audit record.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["call_id", "first"])]
    why: Option<String>,
    /// Who you are; without it TOOLFLEET_OPERATOR, then the user of this machine.
    #[arg(long, value_name = "NAME", env = "TOOLFLEET_OPERATOR", hide_env_values = true)]
    by: Option<String>,
    /// End the rule of that id, as `toolfleet switches` shows it.
    #[arg(long, value_name = "RULE", conflicts_with_all = ["call_id", "first", "tenant", "tool", "session", "older_than", "apply"])]
    lift: Option<String>,
    /// Store the rule; without this, it is only shown.
    #[arg(long, conflicts_with_all = ["call_id", "first"])]
    apply: bool,
}

/// Cancels.
pub(crate) async fn run(args: &CancelArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    match args.which.is_call() {
        true => one(args.which.key()?, connect, output).await,
        false => by_filter(args.which.tenant().cloned(), &args.matching, connect, output).await,
    }
}

/// Shows the rule and what is known of the calls that it would meet; stores it with `--apply`.
async fn by_filter(
    tenant: Option<Tenant>,
    matching: &Matching,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    if tenant.is_none() && matching.tool.is_none() && matching.session.is_none() && matching.lift.is_none() {
        return Err(CommandError::usage(
            "--older-than, --for and --why only narrow a filter: give --tenant, --tool or --session, several of them where all have to \
             fit; or TENANT and CALL_ID for one call, or --lift to end a rule",
        ));
    }
    let why = matching
        .why
        .clone()
        .ok_or_else(|| CommandError::usage("--why: say why; callers and auditors read it"))?;
    let (by, why) = Reason::new(why, matching.by.clone()).read()?;
    if let Some(rule) = &matching.lift {
        return lift(rule, (&by, &why), connect, output).await;
    }
    let since = now();
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let age_ms = i64::try_from(matching.older_than.map_or(0, ms)).unwrap_or(i64::MAX);
    let filter = CallFilter {
        tenant,
        tool: matching.tool.clone(),
        session: matching.session.clone(),
        sent_before: Timestamp::from_ms(since.as_ms().saturating_sub(age_ms)),
    };
    let digest = Digest::of_text(&format!("{filter} {since} {by}"));
    let until = since.plus_ms(ms(matching.lasting)).whole_s();
    let rule = CancelRule { id: digest.short(12).to_string(), filter, by, why, since, until };
    let client = connect.client().await?;
    let depths = client.depths().await?;
    let waiting: u64 =
        depths.iter().filter(|d| !d.dead_letter).map(|d| d.depth.visible + d.depth.delayed).sum();
    if matching.apply {
        client.controls().set(&ControlEntry::Cancel(rule.clone())).await?;
    }
    let lately = ended_lately(client.library(), &rule.filter, since).await;
    if output.is_json() {
        let ended = lately.as_ref().map(|ended| {
            json!({"fit": ended.fit, "is_least": ended.is_least, "records_read": ended.read, "within_s": LATELY.as_secs()})
        });
        let shown = json!({"rule": rule, "applied": matching.apply, "messages_in_queues": waiting, "ended_lately": ended});
        output.document(&shown)?;
    }
    let verb = if matching.apply { "cancels" } else { "would cancel" };
    output.line(&format!("rule {} {verb} calls of {} until {until}", rule.id, rule.filter))?;
    output.note(&format!(
        "how many calls fit is not known: nothing lists calls that wait by tenant, tool or session. About {waiting} messages are in the queues, of all calls \
         and not only of those that fit; each is compared when a worker receives it, calls under way at their next heartbeat"
    ));
    if let Some(Ended { fit, is_least, read }) = lately {
        let least = if is_least { "at least " } else { "" };
        output.note(&format!(
            "for comparison: of that tenant, tool and session {least}{} ended within the last hour (records read: {read})",
            show::count(fit, "call")
        ));
    }
    if !matching.apply {
        output.note("nothing is changed; add --apply to store the rule");
    }
    Ok(Exit::Done)
}

/// Calls that fit and ended lately, whenever they were sent.
struct Ended {
    fit: usize,
    /// Whether more records would have had to be read.
    is_least: bool,
    read: usize,
}

/// What the history tells of a filter with a tenant, whose records alone it can list: whether it names what exists, and how many such calls there
/// are. None where it names no tenant, or the history cannot be read: the rule does not need it.
async fn ended_lately(client: &Client, filter: &CallFilter, now: Timestamp) -> Option<Ended> {
    let search = RecordSearch {
        tenant: filter.tenant.clone()?,
        session: filter.session.clone(),
        call: None,
        failed: false,
        // A filter of a tool also means its functions, which records name.
        tool: None,
        span: Span::before(now, LATELY),
    };
    let page = client.search_records(&search, None, usize::MAX, PAGE_READS).await.ok()?;
    let fits = |record: &&AuditRecord| {
        let of_tool = |tool: &String| record.tool.as_ref().is_some_and(|named| is_of(named, tool));
        record.kind == AuditKind::Call && filter.tool.as_ref().is_none_or(of_tool)
    };
    let fit = page.records.iter().filter(fits).count();
    Some(Ended { fit, is_least: page.next.is_some(), read: page.reads.records })
}

/// Whether a record's tool is that one, or a function of it.
fn is_of(named: &str, tool: &str) -> bool {
    named.strip_prefix(tool).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Ends a rule. Calls that it has cancelled stay cancelled.
async fn lift(
    rule: &str,
    (by, why): (&str, &str),
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let ended = connect.client().await?.controls().clear(&format!("cancel#{rule}"), by, why).await?;
    if output.is_json() {
        output.document(&json!({"rule": rule, "lifted": ended.is_some()}))?;
    }
    if ended.is_none() {
        output.note(&format!("there is no rule {rule}; `toolfleet switches` lists them"));
        return Ok(Exit::NoResult);
    }
    output.line(&format!("rule {rule} has ended; the calls that it has cancelled stay cancelled"))?;
    Ok(Exit::Done)
}

fn parse_tool(text: &str) -> Result<String, String> {
    if is_tool(text) {
        return Ok(text.to_owned());
    }
    Err("is no name of a tool: accepted are 1 to 256 characters without control characters and #".to_owned())
}

/// Stores the cancellation of one call.
async fn one(key: CallKey, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let client = connect.client().await?;
    let document = |cancel: &str| {
        let shown = json!({"tenant": key.tenant, "call_id": key.call_id, "cancel": cancel});
        if output.is_json() { output.document(&shown) } else { Ok(()) }
    };
    match client.cancel(&key).await.map_err(|error| error.of_call(&key))? {
        Cancelled::Ended => {
            document("ended")?;
            output.line(&format!("cancelled: call {} has ended, and no worker starts it", key.call_id))?;
            Ok(Exit::Done)
        }
        Cancelled::Noted => {
            document("noted")?;
            output.line(&format!(
                "noted: a worker that runs call {} stops, and no worker starts it",
                key.call_id
            ))?;
            output.note(&format!("see how it ends with: {}", shell_command::result(&key)));
            Ok(Exit::Done)
        }
        Cancelled::Ahead => {
            document("noted_ahead")?;
            output.line(&format!(
                "nothing is known of call {} of tenant {}: no worker has received it, or one runs it without a claim. The cancellation is noted: if its message is \
                 still in the queue, the call ends as cancelled when a worker receives it",
                key.call_id, key.tenant
            ))?;
            output.note("if the call was sent long ago, check that tenant and id are those it was sent with");
            Ok(Exit::NoResult)
        }
        Cancelled::TooLate => {
            let row = client.read(&key).await?;
            output.note(&format!("call {} had ended before; nothing is cancelled", key.call_id));
            show::call(output, &key, row.as_ref())?;
            Ok(Exit::NotSucceeded)
        }
    }
}
