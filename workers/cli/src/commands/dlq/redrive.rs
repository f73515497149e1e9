//! `toolfleet dlq redrive`: moves dead letters back to the calls. Without `--apply` it says what it would do.

use clap::Args;
use serde_json::{Value, json};
use toolfleet_client::{
    DeadLetters, LetterFilter, Redrive, RedriveReport, Redriven, RedrivenAs, system_clock,
};
use toolfleet_core::dead_letter::RedriveClass;
use toolfleet_core::limits::RateLimit;

use super::options::{CatalogArgs, FilterArgs, note_hidden, note_missed, stop_at_signals};
use super::rules::Rules;
use crate::connect::{ClientHandle, Connect};
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show::count;
use crate::table::Shape;

/// What to move.
#[derive(Debug, Args)]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    catalog: CatalogArgs,
    /// Move the messages. Without it nothing is changed.
    #[arg(long, alias = "yes")]
    apply: bool,
    /// Also move calls that may have run and are not safe to repeat. They are not sent again: their claims end them as outcome_unknown.
    #[arg(long)]
    may_have_run: bool,
    /// The most messages to move: COUNT/PERIOD, for example 20/s or 100/m.
    #[arg(long, value_name = "N/s", default_value = "10/s")]
    rate: RateLimit,
    /// Let SQS move all messages by a message move task. They count as sent anew: their deadlines begin again.
    #[arg(long)]
    move_task: bool,
}

/// Plans, or moves.
pub(crate) async fn run(
    args: &RedriveArgs,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let rules = Rules::read(&args.catalog, connect).await?;
    let filter = args.filter.filter(system_clock()());
    if args.move_task && !filter.is_all() {
        return Err(CommandError::usage(
            "--move-task: SQS moves all messages of the queue; leave --tool, --tenant, --reason and --older-than out",
        ));
    }
    if args.apply && !args.move_task && !rules.has_catalog() {
        return Err(CommandError::usage(
            "--apply: give --catalog (or TOOLFLEET_CATALOG), the workers' catalog: it says which tools are safe to repeat, and whether \
             workers believe the age and the sender of what you move",
        ));
    }
    let client = connect.client().await?;
    let dead = client.dead_letters().await?;
    let own = own_sender(args, &rules, &client, output).await?;
    let redrive = Redrive {
        filter,
        may_have_run: args.may_have_run,
        act: args.apply && !args.move_task,
        rate: args.rate,
        rules: &rules,
        own_sender: own.as_deref().filter(|_| !args.move_task),
    };
    let (report, moves, stopped) = read_and_move(&dead, &redrive, output).await?;
    if args.move_task {
        return move_by_sqs(args, &dead, &report, &moves, stopped, output).await;
    }
    show(args, &redrive.filter, &report, &moves, stopped, output)
}

/// The id of whoever sends the copies. A plan can do without.
async fn own_sender(
    args: &RedriveArgs,
    rules: &Rules,
    client: &ClientHandle,
    output: &Output,
) -> Result<Option<String>, CommandError> {
    if args.move_task || !rules.has_catalog() {
        return Ok(None);
    }
    match client.sender_id().await {
        Ok(id) => Ok(Some(id)),
        Err(error) if args.apply => Err(error),
        Err(_) => {
            output.note("your own sender id could not be read, so it is not known whether workers would believe what you move");
            Ok(None)
        }
    }
}

async fn read_and_move(
    dead: &DeadLetters,
    redrive: &Redrive<'_>,
    output: &Output,
) -> Result<(RedriveReport, Vec<Redriven>, bool), CommandError> {
    let mut look = dead.look();
    let stop = look.stop();
    stop_at_signals(stop.clone())?;
    let mut moves = Vec::new();
    let see = |redriven: Redriven| {
        if let RedrivenAs::Failed(error) = &redriven.done {
            output.note(&format!("{}: not moved: {error}", name(&redriven)));
        }
        moves.push(redriven);
    };
    let report = dead.redrive(&mut look, redrive, see).await;
    note_hidden(output, look.release().await);
    let report = report?;
    note_missed(output, report.missed);
    Ok((report, moves, stop.is_stopped()))
}

/// Starts SQS's own task, if it would move nothing that has to stay.
async fn move_by_sqs(
    args: &RedriveArgs,
    dead: &DeadLetters,
    report: &RedriveReport,
    moves: &[Redriven],
    stopped: bool,
    output: &Output,
) -> Result<Exit, CommandError> {
    // SQS makes everything count as sent now.
    let again = |one: &Redriven| one.class == RedriveClass::Expired && one.letter.deadline_begins_again();
    let stays = |one: &&Redriven| one.done == RedrivenAs::Left || !one.letter.is_given_up() || again(one);
    let stay = moves.iter().filter(stays).count();
    if stay > 0 || report.missed > 0 || stopped {
        show(args, &LetterFilter::default(), report, moves, stopped, output)?;
        let text = format!(
            "--move-task: {stay} messages are to stay, were not moved here by SQS, or would get their passed deadline again, and {} were not read; leave --move-task out",
            report.missed
        );
        return Err(CommandError::usage(text));
    }
    if !args.apply || report.moved == 0 {
        return show(args, &LetterFilter::default(), report, moves, stopped, output);
    }
    let per_second = (args.rate.count() / args.rate.seconds()).max(1);
    let task = dead.queue().start_message_move(Some(per_second)).await?;
    if output.is_json() {
        output.document(&json!({"move_task": task, "messages": report.moved}))?;
    }
    output.line(&format!("SQS moves about {}, {per_second} a second", count(report.moved, "message")))?;
    output.note("they count as sent anew, by whom SQS says; stop it with: aws sqs cancel-message-move-task");
    Ok(Exit::Done)
}

fn show(
    args: &RedriveArgs,
    filter: &LetterFilter,
    report: &RedriveReport,
    moves: &[Redriven],
    stopped: bool,
    output: &Output,
) -> Result<Exit, CommandError> {
    if output.is_json() {
        output.document(&document(args, report, moves, stopped))?;
    }
    let rows = report.classes.iter().map(|(class, count)| {
        let moved = if class.is_moved(args.may_have_run) { "yes" } else { "no" };
        vec![class.as_str().to_owned(), count.to_string(), moved.to_owned(), class.sentence().to_owned()]
    });
    let shape = Shape::of(&["class", "messages", "moved", "what happens"]).below(&["what happens"]);
    output.shaped(&shape, &rows.collect::<Vec<_>>())?;
    let verb = if args.apply { "moved" } else { "would be moved" };
    output.line(&format!("{} {verb}, {} failed", count(report.moved, "message"), report.failed))?;
    let anew = |one: &&Redriven| matches!(one.done, RedrivenAs::Moved { keeps_origin: false, .. });
    let anew = moves.iter().filter(anew).count();
    if anew > 0 {
        output.note(&format!(
            "{anew} of them count as sent by you, now: your sender id is not in `tenants.fleet` of the catalog"
        ));
    }
    let may_have_run = report.classes.get(&RedriveClass::MayHaveRun).copied().unwrap_or(0);
    if may_have_run > 0 && !args.may_have_run {
        output.note(&format!(
            "{may_have_run} may have run and are not known to be safe to repeat; with --may-have-run their claims end them as outcome_unknown"
        ));
    }
    if stopped {
        output.note("interrupted: what was moved stays moved, the other messages are visible again");
    } else if !args.apply && report.moved > 0 {
        output.note("nothing was changed; add --apply to move them");
    }
    Ok(match (report.classes.is_empty(), report.failed > 0 || stopped) {
        (_, true) => Exit::NotSucceeded,
        (true, false) => {
            let which = if filter.is_all() { "" } else { " that fits" };
            output.note(&format!("there is no dead letter{which}"));
            Exit::NoResult
        }
        (false, false) => Exit::Done,
    })
}

fn document(args: &RedriveArgs, report: &RedriveReport, moves: &[Redriven], stopped: bool) -> Value {
    let one = |one: &Redriven| {
        let (done, message, error) = match &one.done {
            RedrivenAs::Planned => ("planned", None, None),
            RedrivenAs::Moved { message_id, .. } => ("moved", Some(message_id), None),
            RedrivenAs::Left => ("left", None, None),
            RedrivenAs::Failed(error) => ("failed", None, Some(error.to_string())),
        };
        let key = one.letter.key();
        json!({
            "message_id": one.letter.message_id(), "tenant": key.map(|key| key.tenant.to_string()),
            "call_id": key.map(|key| key.call_id.to_string()), "class": one.class.as_str(), "done": done,
            "new_message_id": message, "error": error,
        })
    };
    let classes: serde_json::Map<_, _> =
        report.classes.iter().map(|(class, count)| (class.as_str().to_owned(), (*count).into())).collect();
    json!({
        "dry_run": !args.apply, "moved": report.moved, "failed": report.failed, "missed": report.missed,
        "interrupted": stopped, "classes": classes, "messages": moves.iter().map(one).collect::<Vec<_>>(),
    })
}

fn name(one: &Redriven) -> String {
    match one.letter.key() {
        Some(key) => format!("call {} of tenant {}", key.call_id, key.tenant),
        None => format!("message {}", one.letter.message_id()),
    }
}
