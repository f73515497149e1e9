//! Watches a child process and stops it, with its whole process group.
//!
//! stdin is closed first, as the specification demands, then SIGTERM is sent, then SIGKILL. The leader is reaped only after the last
//! signal, so that no other process can have its pid, which is the group's id.
//!
//! **Invariant:** once a child has exited, no process of its group is left, and none is a zombie.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid};
use tokio::process::Child as Process;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fault::{Fault, NotSentCause};
use crate::transport::channels::channel::Channel;
use crate::transport::channels::lifetime::due;

/// How long a program may take to end by itself once its stdin is closed, and again once it has SIGTERM.
const EOF_GRACE: Duration = Duration::from_secs(1);
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long what a program said last may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A started program and the tasks on its pipes.
pub(crate) struct Running {
    // Before the process, so that the group is ended while its leader still holds its number.
    pub(crate) group: Group,
    pub(crate) process: Process,
    pub(crate) hearing: JoinHandle<()>,
    pub(crate) logging: JoinHandle<()>,
}

/// Which processes to end.
pub(crate) struct Group {
    leader: Pid,
    exits: Signals,
    over: bool,
}

impl Group {
    /// The group of a process that was started as its leader.
    pub(crate) fn of(process: &Process) -> std::io::Result<Self> {
        let leader = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let leader = leader.ok_or_else(|| std::io::Error::other("the process has no number"))?;
        Ok(Self { leader, exits: signal(SignalKind::child())?, over: false })
    }

    fn send(&self, signal: Signal) {
        // There is nobody left to hear it: as good.
        let _heard = kill_process_group(self.leader, signal);
    }

    /// Ends when the leader has ended, which stays a zombie.
    async fn leader_ended(&mut self) -> String {
        loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            match waitid(WaitId::Pid(self.leader), options) {
                Ok(Some(status)) => return how(&status),
                Ok(None) => {}
                Err(error) => return format!("ended ({error})"),
            }
            if self.exits.recv().await.is_none() {
                return "ended".to_owned();
            }
        }
    }
}

impl Drop for Group {
    /// A runtime that is torn down leaves no process behind.
    fn drop(&mut self) {
        if !self.over {
            self.send(Signal::KILL);
        }
    }
}

fn how(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code @ 129..=192), _) => format!("ended with exit code {code} (signal {})", code - 128),
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Watches over a child to its end. `true` if it ended by itself.
pub(crate) async fn watch(channel: &Arc<Channel>, mut running: Running, idle: Duration) -> bool {
    let by_itself = tokio::select! {
        biased;
        () = channel.quit.cancelled() => false,
        () = due(channel, idle) => {
            channel.end(Fault::NotSent { detail: "the program was stopped, because nobody used it".to_owned(), cause: NotSentCause::Answer });
            false
        }
        how = running.group.leader_ended() => {
            // Its last answer may still be in the pipe, which a process that it left behind may keep open.
            let _rest = timeout(LAST_WORDS, &mut running.hearing).await;
            say_end(channel, &mut running.logging, &how).await;
            true
        }
        _ = &mut running.hearing => {
            let how = timeout(LAST_WORDS, running.group.leader_ended()).await;
            let how = how.unwrap_or_else(|_| "closed its output".to_owned());
            say_end(channel, &mut running.logging, &how).await;
            true
        }
    };
    stop(running).await;
    by_itself
}

async fn say_end(channel: &Channel, logging: &mut JoinHandle<()>, how: &str) {
    let peer = channel.endpoint.peer();
    let _all = timeout(LAST_WORDS, logging).await;
    let detail = format!("{peer} {how}");
    tracing::warn!(
        server = %channel.server, channel = channel.serial, code = "stdio_ended",
        "{peer} {how}; at the level debug its stderr is shown"
    );
    channel.end(Fault::AnswerLost { detail });
}

async fn stop(running: Running) {
    let Running { mut process, mut group, hearing, logging } = running;
    if timeout(EOF_GRACE, group.leader_ended()).await.is_err() {
        group.send(Signal::TERM);
        let _ended = timeout(TERM_GRACE, group.leader_ended()).await;
    }
    group.send(Signal::KILL);
    let _status = process.wait().await;
    group.over = true;
    // What has left the group may keep the pipes open; nobody listens any more.
    hearing.abort();
    logging.abort();
}
