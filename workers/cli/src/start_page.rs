//! What `toolfleet` alone prints: where to begin, by what one wants to do.

use std::process::ExitCode;

use crate::context::chosen::{Chosen, choose};
use crate::context::wish::Wish;
use crate::output::Output;

const PAGE: &str = r#"toolfleet sends tool calls to a fleet of workers, and reads their results.

Try it on this machine:
  toolfleet dev                       a whole fleet; leave it running
  toolfleet call --tenant demo --tool echo --arguments '{"text": "hello"}'
  toolfleet dev --demo                or a demo of half a minute

Call tools:
  toolfleet send --tenant T --tool X  send a call, do not wait
  toolfleet result T CALL             its result
  toolfleet why T CALL                why it has none yet
  toolfleet cancel T CALL             stop it

Run a fleet:
  toolfleet doctor                    what is wrong, and what to do
  toolfleet status, toolfleet top     the fleet on one screen, once or live
  toolfleet console                   the same in a browser, with plots
  toolfleet pause tool X --why TEXT   hold a tool, a server or a tenant
  toolfleet dlq list                  dead letters, and what to do with them

Look back:
  toolfleet history T --since 1d      what ended for a tenant; or --failed
  toolfleet stats --last 1d           failures and latencies by tool
"#;

/// Prints it.
pub(crate) fn show() -> ExitCode {
    let output = Output::new(false);
    let fleet = match choose(&Wish::default()) {
        Ok(Chosen::Context { name, by, .. }) => {
            format!("Commands use the fleet of context {name}, chosen by {by}.")
        }
        Ok(Chosen::Dev(_)) => {
            "Commands use the fleet of `toolfleet dev`, which runs on this machine.".to_owned()
        }
        Ok(Chosen::Environment) => "Commands use the fleet of TOOLFLEET_QUEUE_URL.".to_owned(),
        Ok(Chosen::Nothing) => {
            "No fleet is configured: `toolfleet dev` starts one, `toolfleet context` names others.".to_owned()
        }
        Err(error) => format!("No fleet can be used: {}", error.message()),
    };
    match output.line(&format!(
        "{PAGE}\n{fleet}\n`toolfleet --help` lists all verbs; `toolfleet VERB --help` has examples."
    )) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::exit::CommandError::from(error).report(&output),
    }
}

#[cfg(test)]
mod tests {
    use super::PAGE;

    #[test]
    fn the_page_fits_a_terminal_of_80_columns() {
        for line in PAGE.lines() {
            assert!(line.len() <= 78, "{} columns: {line}", line.len());
        }
    }
}
