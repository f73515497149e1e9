//! The workers of a `toolfleet dev` beside the one in its own process: each is a process of this program.
//!
//! A worker that has to go is told so by the end of its stdin, and drains: it takes nothing new and finishes its calls. A process whose `dev` has
//! died sees the same. A worker that ends by itself is replaced.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::scaling::{DevWorker, STOP};
use crate::context::variables::Variables;

/// A worker that ended by itself is replaced after this pause, so that one that cannot start does not keep the machine busy.
const BEFORE_NEXT: Duration = Duration::from_secs(1);

/// What the processes have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) env: Variables,
    pub(super) catalog: PathBuf,
    pub(super) slots: u32,
}

/// The processes.
pub(super) struct Pool {
    shared: Shared,
    processes: Vec<Process>,
    /// How many were started.
    started: u64,
    ended: (mpsc::UnboundedSender<u32>, mpsc::UnboundedReceiver<u32>),
}

struct Process {
    id: String,
    pid: u32,
    /// None once it drains.
    stdin: Option<ChildStdin>,
    /// Waits for its end. Aborted, the process is killed.
    waiting: JoinHandle<()>,
}

impl Pool {
    /// No process yet.
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, processes: Vec::new(), started: 0, ended: mpsc::unbounded_channel() }
    }

    /// Runs so many processes from now on: starts what is missing, and drains those that were started last.
    pub(super) fn set(&mut self, count: u64) -> std::io::Result<()> {
        let running = self.processes.iter().filter(|one| one.stdin.is_some()).count();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let too_many = running.saturating_sub(count);
        let newest = self.processes.iter_mut().rev().filter(|one| one.stdin.is_some());
        newest.take(too_many).for_each(|one| one.stdin = None);
        (running..count).try_for_each(|_| self.start())
    }

    /// The processes, those that drain included.
    pub(super) fn workers(&self) -> impl Iterator<Item = DevWorker> {
        self.processes.iter().map(|one| DevWorker {
            id: one.id.clone(),
            pid: one.pid,
            draining: one.stdin.is_none(),
        })
    }

    /// Waits until a process has ended. Returns its worker if it ended by itself.
    pub(super) async fn ended(&mut self) -> Option<String> {
        let pid = match self.ended.1.recv().await {
            Some(pid) => pid,
            None => std::future::pending().await,
        };
        let at = self.processes.iter().position(|one| one.pid == pid)?;
        let mut process = self.processes.remove(at);
        process.stdin.take().map(|_| std::mem::take(&mut process.id))
    }

    /// Lets all processes end within `within`; kills those that have not.
    pub(super) async fn stop(mut self, within: Duration) {
        for one in &mut self.processes {
            if let Some(mut stdin) = one.stdin.take() {
                // A process that has ended reads nothing.
                let _gone = stdin.write_all(STOP).await;
            }
        }
        let all = async {
            while !self.processes.is_empty() {
                self.ended().await;
            }
        };
        let _late = tokio::time::timeout(within, all).await;
    }

    fn start(&mut self) -> std::io::Result<()> {
        self.started += 1;
        let id = format!("dev-{}-{}", std::process::id(), self.started + 1);
        let Shared { env, catalog, slots } = &self.shared;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("dev").arg("--catalog").arg(catalog).arg("--slots").arg(slots.to_string());
        command.arg("--serve-as").arg(&id).envs(env);
        // The terminal's Ctrl-C is for `dev`, which tells its workers.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, pid) = (child.stdin.take(), child.id().unwrap_or_default());
        let waiting = tokio::spawn(wait(child, pid, self.ended.0.clone()));
        self.processes.push(Process { id, pid, stdin, waiting });
        Ok(())
    }
}

async fn wait(mut child: Child, pid: u32, ended: mpsc::UnboundedSender<u32>) {
    let status = child.wait().await;
    if !status.is_ok_and(|status| status.success()) {
        tokio::time::sleep(BEFORE_NEXT).await;
    }
    // Without a receiver, `dev` is ending.
    let _gone = ended.send(pid);
}

impl Drop for Process {
    fn drop(&mut self) {
        self.waiting.abort();
    }
}
