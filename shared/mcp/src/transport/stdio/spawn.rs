//! Starts a program: process, pipes, supervisor.
//!
//! **Invariant:** a failed start leaves no process.

use std::io::ErrorKind;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::{Fault, NotSentCause};
use crate::transport::channels::channel::{Channel, Opened, Wanted};
use crate::transport::stdio::pipes;
use crate::transport::stdio::program::Program;
use crate::transport::stdio::supervise;

/// Starts the program.
pub(crate) fn spawn(
    program: &Program,
    wanted: &Wanted,
    serial: u64,
    (idle, max_bytes): (Duration, u64),
) -> Result<Opened, Fault> {
    if let Some(why) = program.unstartable(&wanted.ready) {
        return Err(unstartable(program, &why));
    }
    let cannot = |error: std::io::Error| {
        if lasts(error.kind()) {
            return unstartable(program, &error.to_string());
        }
        let detail = format!("the program `{}` cannot be started: {error}", program.command());
        Fault::NotSent { detail, cause: NotSentCause::Answer }
    };
    let mut command = program.to_command(&wanted.ready);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that whatever it starts ends with it.
    command.process_group(0).kill_on_drop(true);
    let mut process = command.spawn().map_err(cannot)?;
    let group = supervise::Group::of(&process).map_err(cannot)?;
    let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(cannot(std::io::Error::other("it has no pipes")));
    };
    let (channel, lines) = Channel::queued(wanted.key.clone(), serial, wanted.endpoint.clone());
    tokio::spawn(pipes::write(Arc::clone(&channel), stdin, lines));
    let hearing = tokio::spawn(pipes::hear(Arc::clone(&channel), stdout, max_bytes));
    let logging = tokio::spawn(pipes::log(Arc::clone(&channel), stderr));
    let running = supervise::Running { process, group, hearing, logging };
    let watched = Arc::clone(&channel);
    Ok(Opened { channel, watch: Box::pin(async move { supervise::watch(&watched, running, idle).await }) })
}

/// A command that cannot be started here as it is registered: no time mends that.
fn unstartable(program: &Program, why: &str) -> Fault {
    let detail = format!(
        "the program `{}` cannot be started: {why}; correct the server in the catalog, or install what is missing on the workers",
        program.command()
    );
    Fault::NotSent { detail, cause: NotSentCause::Command }
}

/// Whether such an error comes back at each start. Others mean that the machine is out of something for the moment.
const fn lasts(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
            | ErrorKind::NotADirectory
            | ErrorKind::ArgumentListTooLong
    )
}
