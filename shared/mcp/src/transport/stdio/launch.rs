//! Starts a program through a small process that stops it when the worker dies without having stopped it (SIGKILL, out of memory).
//!
//! The worker starts its own binary again with [`WORD`]. That process leads the program's process group, starts the program, hands its
//! pipes on, and watches both: it exits when the program does, with the same status, and stops the group when the worker has died. A pidfd
//! reports that; unlike a parent-death signal it belongs to a process and not to one of its threads.
//!
//! **Invariant:** a binary that does not begin with [`launched`] starts programs itself.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpgrp, getpid, getppid, kill_current_process_group, kill_process, pidfd_open,
};
use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// The argument by which a binary knows that it is to launch a program.
const WORD: &str = "launch-program";
/// What a shell's exit code is for a command that cannot be started.
const NOT_STARTED: u8 = 127;
/// How long a program may take to end by itself once the worker is gone, and with it the other end of its stdin; and after SIGTERM.
const EOF_GRACE: Duration = Duration::from_secs(1);
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How often it is looked for the worker where there are no pidfds.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the thread that watches the worker needs.
const WATCH_STACK_BYTES: usize = 128 * 1024;

static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// To be called first of all by a binary that starts programs. If this process was started to launch one, it does so, and the exit code is
/// what it is to end with.
pub fn launched() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(WORD)) {
        AVAILABLE.store(true, Ordering::Release);
        return None;
    }
    let worker = arguments.next().and_then(|pid| pid.to_str()?.parse().ok()).and_then(Pid::from_raw);
    let (Some(worker), Some(program)) = (worker, arguments.next()) else {
        eprintln!("toolfleet: `{WORD}` is for workers alone");
        return Some(ExitCode::from(2));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let launch = |runtime: tokio::runtime::Runtime| runtime.block_on(launch(worker, &program, arguments));
    Some(runtime.and_then(launch).unwrap_or_else(|error| {
        eprintln!("toolfleet: the program `{}` cannot be started: {error}", program.to_string_lossy());
        ExitCode::from(NOT_STARTED)
    }))
}

/// The command that starts `program`: by a launcher, where this binary can be one.
pub(crate) fn command_of(program: &str) -> Command {
    if !AVAILABLE.load(Ordering::Acquire) {
        return Command::new(program);
    }
    let mut command = match own_binary() {
        Some(own) => Command::new(own),
        None => return Command::new(program),
    };
    command.arg(WORD).arg(getpid().as_raw_nonzero().to_string()).arg(program);
    command
}

/// This binary, also where another one was put in its place meanwhile.
fn own_binary() -> Option<OsString> {
    if cfg!(target_os = "linux") {
        return Some("/proc/self/exe".into());
    }
    std::env::current_exe().ok().map(Into::into)
}

async fn launch(
    worker: Pid,
    program: &OsStr,
    arguments: impl Iterator<Item = OsString>,
) -> std::io::Result<ExitCode> {
    // They are the program's, which has the same group; a handler is not inherited, as an ignored signal would be.
    let _passed_over =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()]
            .map(signal);
    let mut child = Command::new(program).args(arguments).spawn()?;
    // Its pipes are its own: who reads them is to see that it closes them.
    let nowhere = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nowhere)?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    tokio::select! {
        biased;
        status = child.wait() => return Ok(as_it_ended(status?)),
        () = gone(worker) => {}
    }
    // It reads the end of its stdin now.
    let ended = timeout(EOF_GRACE, child.wait()).await.is_ok();
    if getpgrp() == getpid() {
        if !ended {
            let _told = kill_current_process_group(Signal::TERM);
            let _ended = timeout(TERM_GRACE, child.wait()).await;
        }
        // This process as well.
        let _ended = kill_current_process_group(Signal::KILL);
    }
    child.kill().await?;
    Ok(ExitCode::FAILURE)
}

/// Ends when the worker has ended.
async fn gone(worker: Pid) {
    let (tell, told) = oneshot::channel();
    if let Ok(watched) = pidfd_open(worker, PidfdFlags::empty()) {
        let watch = move || {
            // A signal that is handled here ends it early.
            while poll(&mut [PollFd::new(&watched, PollFlags::IN)], None) == Err(Errno::INTR) {}
            let _heard = tell.send(());
        };
        let small = std::thread::Builder::new().stack_size(WATCH_STACK_BYTES);
        // Before it was watched it may have ended, and its number may be another's.
        if small.spawn(watch).is_ok() && getppid() == Some(worker) {
            let _ended = told.await;
            return;
        }
    }
    while getppid() == Some(worker) {
        sleep(LOOK_EVERY).await;
    }
}

/// Ends this process as the program ended.
fn as_it_ended(status: ExitStatus) -> ExitCode {
    if let Some(code) = status.code() {
        return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX));
    }
    let signal = status.signal().unwrap_or_default();
    if signal == Signal::KILL.as_raw() {
        let _ended = kill_process(getpid(), Signal::KILL);
    }
    // Others are caught here, or would leave a second dump.
    ExitCode::from(u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX))
}
