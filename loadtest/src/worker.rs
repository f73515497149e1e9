//! Owns the worker processes: starting them, ending and freezing them, and what the kernel says of their CPU time and memory.
//!
//! **Invariant:** no worker outlives the value that started it.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, bail};

use crate::usage::Usage;

/// How a worker is started.
pub(crate) struct Start {
    pub(crate) binary: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) log: PathBuf,
}

/// The running workers, and what those took that are gone.
pub(crate) struct Workers {
    start: Start,
    running: Vec<Worker>,
    /// Told to leave, and still there.
    leaving: Vec<Worker>,
    frozen: Vec<Worker>,
    gone: Usage,
    started: u32,
}

struct Worker {
    name: String,
    child: Child,
    usage: Usage,
}

impl Worker {
    fn look(&mut self) {
        // Of a process that has ended nothing can be read any more: what was last seen stands.
        self.usage = self.usage.seen_later(Usage::of(self.child.id()));
    }

    /// `kill(2)` by its command, which needs no unsafe code; only ever a process of ours, by its id.
    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        anyhow::ensure!(
            sent.context("cannot run `kill`")?.success(),
            "cannot send {signal} to {}",
            self.name
        );
        Ok(())
    }
}

/// A worker that was told to leave, and left.
pub(crate) struct Left {
    pub(crate) name: String,
    pub(crate) status: ExitStatus,
}

impl Workers {
    pub(crate) const fn new(start: Start) -> Self {
        Self {
            start,
            running: Vec::new(),
            leaving: Vec::new(),
            frozen: Vec::new(),
            gone: Usage::NONE,
            started: 0,
        }
    }

    pub(crate) fn start_one(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(&self.start.log)?;
        self.started += 1;
        let name = format!("load-{}", self.started);
        let child = Command::new(&self.start.binary)
            .envs(self.start.environment.iter().map(|(name, value)| (name, value)))
            .env("TOOLFLEET_WORKER_ID", &name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.start.binary.display()))?;
        self.running.push(Worker { name, child, usage: Usage::NONE });
        Ok(())
    }

    /// How many run, neither frozen nor told to leave.
    pub(crate) const fn count(&self) -> usize {
        self.running.len()
    }

    /// Kills the oldest one with SIGKILL and says which.
    pub(crate) fn kill_one(&mut self) -> anyhow::Result<String> {
        let mut worker = self.oldest()?;
        worker.look();
        worker.child.kill()?;
        worker.child.wait()?;
        self.gone = self.gone.and(worker.usage);
        Ok(worker.name)
    }

    /// Tells the oldest one to leave and says which.
    pub(crate) fn tell_one_to_leave(&mut self) -> anyhow::Result<String> {
        let worker = self.oldest()?;
        worker.signal("-TERM")?;
        let name = worker.name.clone();
        self.leaving.push(worker);
        Ok(name)
    }

    /// Freezes the oldest one and says which.
    pub(crate) fn freeze_one(&mut self) -> anyhow::Result<String> {
        let worker = self.oldest()?;
        worker.signal("-STOP")?;
        let name = worker.name.clone();
        self.frozen.push(worker);
        Ok(name)
    }

    /// Lets a frozen one go on.
    pub(crate) fn thaw(&mut self, name: &str) -> anyhow::Result<()> {
        if let Some(at) = self.frozen.iter().position(|worker| worker.name == name) {
            let worker = self.frozen.remove(at);
            worker.signal("-CONT")?;
            self.running.push(worker);
        }
        Ok(())
    }

    /// Those that were told to leave and have left since the last look.
    pub(crate) fn left(&mut self) -> anyhow::Result<Vec<Left>> {
        let mut left = Vec::new();
        let mut staying = Vec::new();
        for mut worker in self.leaving.drain(..) {
            worker.look();
            match worker.child.try_wait()? {
                Some(status) => {
                    self.gone = self.gone.and(worker.usage);
                    left.push(Left { name: worker.name.clone(), status });
                }
                None => staying.push(worker),
            }
        }
        self.leaving = staying;
        Ok(left)
    }

    /// Tells all that run to leave.
    pub(crate) fn tell_all_to_leave(&mut self) -> anyhow::Result<()> {
        while !self.running.is_empty() {
            self.tell_one_to_leave()?;
        }
        Ok(())
    }

    /// Whether any was told to leave and is still there.
    pub(crate) const fn are_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// An error if a worker has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        for worker in self.running.iter_mut().chain(&mut self.frozen) {
            if let Some(status) = worker.child.try_wait()? {
                bail!("worker {} ended by itself with {status}", worker.name);
            }
        }
        Ok(())
    }

    /// What the workers have taken so far, those that are gone included.
    pub(crate) fn usage(&mut self) -> Usage {
        let all = self.running.iter_mut().chain(&mut self.leaving).chain(&mut self.frozen);
        all.fold(self.gone, |sum, worker| {
            worker.look();
            sum.and(worker.usage)
        })
    }

    /// Kills them all; what they have taken is forgotten.
    pub(crate) fn stop(&mut self) {
        for mut worker in self.running.drain(..).chain(self.leaving.drain(..)).chain(self.frozen.drain(..)) {
            // One that has ended already needs no kill.
            let _ended = worker.child.kill();
            let _ended = worker.child.wait();
        }
    }

    fn oldest(&mut self) -> anyhow::Result<Worker> {
        anyhow::ensure!(!self.running.is_empty(), "no worker runs that could die; give more --workers");
        Ok(self.running.remove(0))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}
