//! `toolfleet dlq list`: lists dead letters, the oldest call first.

use clap::Args;
use serde_json::json;
use toolfleet_client::{DeadLetter, Judged, system_clock};
use toolfleet_config::settings::number;

use super::options::{
    CatalogArgs, FilterArgs, SHAPE, document, note_hidden, note_missed, row, stop_at_signals,
};
use super::rules::Rules;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show::count;

/// Which dead letters.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    catalog: CatalogArgs,
    /// Read at most this many messages.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = number(1_u32, 10_000_000))]
    limit: u32,
}

/// Reads and shows.
pub(crate) async fn run(args: &ListArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let rules = Rules::read(&args.catalog, connect).await?;
    let dead = connect.client().await?.dead_letters().await?;
    let (now, limit) = (system_clock()(), usize::try_from(args.limit).unwrap_or(usize::MAX));
    let filter = args.filter.filter(now);
    let mut look = dead.look();
    let stop = look.stop();
    stop_at_signals(stop.clone())?;
    let mut found: Vec<(DeadLetter, Judged)> = Vec::new();
    let mut all = true;
    let read = async {
        loop {
            let letters = look.next().await?;
            if letters.is_empty() {
                return Ok::<_, CommandError>(());
            }
            let letters: Vec<_> = letters.into_iter().filter(|letter| filter.matches(letter)).collect();
            let judged = dead.judge(&letters, &rules).await?;
            found.extend(letters.into_iter().zip(judged));
            if look.read() >= limit {
                all = false;
                return Ok(());
            }
        }
    };
    let read = read.await;
    note_hidden(output, look.release().await);
    read?;
    found.sort_by_key(|(letter, _)| letter.first_sent());
    if output.is_json() {
        let letters: Vec<_> = found.iter().map(|(letter, judged)| document(letter, judged)).collect();
        let complete = all && !stop.is_stopped() && look.missed() == 0;
        output.document(&json!({
            "dead_letters": letters, "read": look.read(), "missed": look.missed(), "complete": complete,
        }))?;
    }
    if found.is_empty() {
        let which = if filter.is_all() { "" } else { " that fits" };
        output.line(&format!("no dead letter{which}; {} were read", count(look.read(), "message")))?;
    } else {
        output.shaped(
            &SHAPE,
            &found.iter().map(|(letter, judged)| row(letter, judged, now)).collect::<Vec<_>>(),
        )?;
        output.note(&format!("{} of {} that were read fit", found.len(), count(look.read(), "message")));
    }
    if !all {
        output.note("there may be more; raise --limit to read them");
    }
    note_missed(output, look.missed());
    if stop.is_stopped() {
        output.note("interrupted: the list is not complete");
        return Ok(Exit::NotSucceeded);
    }
    Ok(Exit::Done)
}
