//! `toolfleet top`: the screen of `status`, live.
//!
//! Every two seconds the summary of the fleet, the depths of the queues and what operators have set are read. The loop reads, draws and takes
//! keys; [`frame::frame`] decides what is shown.

mod frame;
mod panes;
mod terminal;
mod ui;

#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use toolfleet_client::FleetView;

use self::frame::{Size, frame};
use self::terminal::{Screen, keys};
use self::ui::{Ui, Wish};
use super::view;
use crate::commands::control::reason::now;
use crate::connect::{ClientHandle, Connect};
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// How often the fleet is read.
const REFRESH: Duration = Duration::from_secs(2);
/// How often the age of the data is drawn.
const REDRAW: Duration = Duration::from_millis(500);
/// The size of a frame that goes to no terminal.
const PLAIN: Size = Size { width: 80, height: 24 };

/// The options of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Print one frame and exit; with --json the document of `status --json`.
    #[arg(long)]
    once: bool,
}

/// Shows it.
pub(crate) async fn run(args: &TopArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    if !args.once {
        live_is_possible(
            output.is_json(),
            std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        )?;
    }
    let client = Arc::new(connect.client().await?);
    let view = FleetView::read(client.library()).await?;
    if !args.once {
        return live(&client, view).await;
    }
    if output.is_json() {
        output.document(&view::document(&view))?;
        return Ok(Exit::Done);
    }
    let size = if std::io::stdout().is_terminal() { terminal::size().unwrap_or(PLAIN) } else { PLAIN };
    for line in frame(&view, size, &Ui::default(), now()) {
        output.line(&line.text)?;
    }
    Ok(Exit::Done)
}

/// # Errors
/// There is nothing to draw on.
fn live_is_possible(json: bool, terminal: bool) -> Result<(), CommandError> {
    if json {
        return Err(CommandError::usage(
            "--json prints one document; give --once too: toolfleet top --once --json",
        ));
    }
    if !terminal {
        return Err(CommandError::usage(
            "stdin or stdout is not a terminal; print one frame with --once, or use `toolfleet status`",
        ));
    }
    Ok(())
}

/// Draws until the user or a signal ends it.
async fn live(client: &Arc<ClientHandle>, view: FleetView) -> Result<Exit, CommandError> {
    let failed = |error| {
        CommandError::Unavailable(anyhow::Error::new(error).context("the signals cannot be received"))
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    let mut screen = Screen::open()?;
    let mut pressed = keys();
    let (views, mut read) = mpsc::channel(1);
    let (mut view, mut ui) = (view, Ui::default());
    let mut refresh = tokio::time::interval(REFRESH);
    let mut redraw = tokio::time::interval(REDRAW);
    for ticks in [&mut refresh, &mut redraw] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            key = pressed.recv() => match key {
                None => return Ok(Exit::Done),
                Some(None) => {}
                Some(Some(key)) => match ui.key(key) {
                    Wish::Quit => return Ok(Exit::Done),
                    Wish::Draw | Wish::Nothing => {}
                },
            },
            // A slow answer must not delay keys, and two are not read at once.
            _ = refresh.tick(), if !ui.frozen => if let Ok(place) = views.clone().try_reserve_owned() {
                let client = Arc::clone(client);
                tokio::spawn(async move { place.send(FleetView::read(client.library()).await.map_err(CommandError::from)) });
            },
            Some(answer) = read.recv() => take(&mut view, &mut ui, answer),
            _ = redraw.tick() => {}
            _ = terminate.recv() => return Ok(Exit::Done),
            _ = interrupt.recv() => return Ok(Exit::Done),
            _ = hang_up.recv() => return Ok(Exit::Done),
        }
        screen.draw(|size| frame(&view, size, &ui, now()))?;
    }
}

/// Takes what was read. After a failure the last data stay, and the screen says so.
fn take(view: &mut FleetView, ui: &mut Ui, answer: Result<FleetView, CommandError>) {
    match answer {
        Ok(_) if ui.frozen => {}
        Ok(new) => (*view, ui.failure) = (new, None),
        Err(error) => ui.failure = Some(error.message()),
    }
}
