//! Worker processes: starts, drains, stops and kills them, and measures their CPU time and memory.
//!
//! **Invariant:** dropping [`Workers`] kills every worker that it started.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, bail};

use crate::usage::Usage;

/// Stands for the worker's name in the value of a variable.
pub(crate) const NAME: &str = "{worker}";

/// The command that starts a worker.
pub(crate) struct WorkerCommand {
    pub(crate) binary: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    /// The folder of the files that workers log into, one of each.
    pub(crate) logs: PathBuf,
}

/// The workers, and the usage of those that have ended.
pub(crate) struct Workers {
    command: WorkerCommand,
    running: Vec<Worker>,
    /// They got SIGTERM and have not exited yet.
    draining: Vec<Worker>,
    stopped: Vec<Worker>,
    ended: Usage,
    started: u32,
}

struct Worker {
    name: String,
    child: Child,
    usage: Usage,
}

impl Worker {
    fn measure(&mut self) {
        // Nothing can be read of a process that has ended: the last measurement counts.
        self.usage = self.usage.measured_later(Usage::of(self.child.id()));
    }

    /// Sends a signal with the command `kill`, which needs no unsafe code, to this process by its id.
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

/// A drained worker that has exited.
pub(crate) struct Exited {
    pub(crate) name: String,
    pub(crate) status: ExitStatus,
}

impl Workers {
    pub(crate) const fn new(command: WorkerCommand) -> Self {
        Self {
            command,
            running: Vec::new(),
            draining: Vec::new(),
            stopped: Vec::new(),
            ended: Usage::NONE,
            started: 0,
        }
    }

    pub(crate) fn start_one(&mut self) -> anyhow::Result<()> {
        let name = self.next_name();
        let log = self.command.logs.join(format!("{name}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        self.started += 1;
        let environment = self.command.environment.iter();
        let child = Command::new(&self.command.binary)
            .envs(environment.map(|(variable, value)| (variable, value.replace(NAME, &name))))
            .env("TOOLFLEET_WORKER_ID", &name)
            // The SDK's user agent names it, so that the counting proxy can tell the workers apart.
            .env("AWS_SDK_UA_APP_ID", &name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.command.binary.display()))?;
        self.running.push(Worker { name, child, usage: Usage::NONE });
        Ok(())
    }

    /// The name of the worker that is started next.
    pub(crate) fn next_name(&self) -> String {
        format!("load-{}", self.started + 1)
    }

    /// How many workers run, without stopped and draining ones.
    pub(crate) const fn count(&self) -> usize {
        self.running.len()
    }

    /// Kills that worker with SIGKILL, if it is running; false if not.
    pub(crate) fn kill_named(&mut self, name: &str) -> anyhow::Result<bool> {
        match self.running.iter().position(|worker| worker.name == name) {
            Some(position) => self.kill_at(position).map(|_name| true),
            None => Ok(false),
        }
    }

    /// Kills the oldest worker with SIGKILL and returns its name.
    pub(crate) fn kill_one(&mut self) -> anyhow::Result<String> {
        self.kill_at(0)
    }

    /// Kills the worker at that position, the oldest being 0, with SIGKILL and returns its name.
    pub(crate) fn kill_at(&mut self, position: usize) -> anyhow::Result<String> {
        let mut worker = self.take(position)?;
        worker.measure();
        worker.child.kill()?;
        worker.child.wait()?;
        self.ended = self.ended.and(worker.usage);
        Ok(worker.name)
    }

    /// Sends SIGTERM to the oldest worker and returns its name.
    pub(crate) fn drain_one(&mut self) -> anyhow::Result<String> {
        let worker = self.take(0)?;
        worker.signal("-TERM")?;
        let name = worker.name.clone();
        self.draining.push(worker);
        Ok(name)
    }

    /// Counts the oldest worker as draining, and returns its name: it is told to in another way than by a signal.
    pub(crate) fn let_go_one(&mut self) -> anyhow::Result<String> {
        let worker = self.take(0)?;
        let name = worker.name.clone();
        self.draining.push(worker);
        Ok(name)
    }

    /// Sends SIGHUP to all running workers, which reload their catalog.
    pub(crate) fn hang_up(&self) -> anyhow::Result<()> {
        self.running.iter().try_for_each(|worker| worker.signal("-HUP"))
    }

    /// Sends SIGSTOP to the oldest worker and returns its name.
    pub(crate) fn stop_one(&mut self) -> anyhow::Result<String> {
        let worker = self.take(0)?;
        worker.signal("-STOP")?;
        let name = worker.name.clone();
        self.stopped.push(worker);
        Ok(name)
    }

    /// Sends SIGCONT to a stopped worker.
    pub(crate) fn continue_one(&mut self, name: &str) -> anyhow::Result<()> {
        if let Some(at) = self.stopped.iter().position(|worker| worker.name == name) {
            let worker = self.stopped.remove(at);
            worker.signal("-CONT")?;
            self.running.push(worker);
        }
        Ok(())
    }

    /// The drained workers that have exited since the last call.
    pub(crate) fn exited(&mut self) -> anyhow::Result<Vec<Exited>> {
        let mut exited = Vec::new();
        let mut running = Vec::new();
        for mut worker in self.draining.drain(..) {
            worker.measure();
            match worker.child.try_wait()? {
                Some(status) => {
                    self.ended = self.ended.and(worker.usage);
                    exited.push(Exited { name: worker.name.clone(), status });
                }
                None => running.push(worker),
            }
        }
        self.draining = running;
        Ok(exited)
    }

    /// The running workers that have ended without a signal since the last call.
    pub(crate) fn ended_by_themselves(&mut self) -> anyhow::Result<Vec<Exited>> {
        let (mut ended, mut running) = (Vec::new(), Vec::new());
        for mut worker in self.running.drain(..) {
            match worker.child.try_wait()? {
                Some(status) => {
                    self.ended = self.ended.and(worker.usage);
                    ended.push(Exited { name: worker.name, status });
                }
                None => running.push(worker),
            }
        }
        self.running = running;
        Ok(ended)
    }

    /// Sends SIGTERM to all running workers.
    pub(crate) fn drain_all(&mut self) -> anyhow::Result<()> {
        while !self.running.is_empty() {
            self.drain_one()?;
        }
        Ok(())
    }

    /// Whether a draining worker has not exited yet.
    pub(crate) const fn is_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// Fails if a worker has ended without a signal.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        for worker in self.running.iter_mut().chain(&mut self.stopped) {
            if let Some(status) = worker.child.try_wait()? {
                bail!("worker {} ended by itself with {status}", worker.name);
            }
        }
        Ok(())
    }

    /// The usage of all workers so far, including those that have ended.
    pub(crate) fn usage(&mut self) -> Usage {
        let all = self.running.iter_mut().chain(&mut self.draining).chain(&mut self.stopped);
        all.fold(self.ended, |sum, worker| {
            worker.measure();
            sum.and(worker.usage)
        })
    }

    /// Kills all workers.
    pub(crate) fn kill_all(&mut self) {
        for mut worker in self.running.drain(..).chain(self.draining.drain(..)).chain(self.stopped.drain(..))
        {
            // Killing fails if it has ended already.
            let _ignored = worker.child.kill();
            let _ignored = worker.child.wait();
        }
    }

    fn take(&mut self, position: usize) -> anyhow::Result<Worker> {
        anyhow::ensure!(
            position < self.running.len(),
            "no worker is running for this fault; give more --workers"
        );
        Ok(self.running.remove(position))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.kill_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_ends_by_itself_is_an_error() {
        let command = WorkerCommand {
            binary: "/bin/false".into(),
            environment: Vec::new(),
            logs: std::env::temp_dir().join(format!("toolfleet-loadtest-{}-test", std::process::id())),
        };
        let logs = command.logs.clone();
        std::fs::create_dir_all(&logs).unwrap();
        let mut workers = Workers::new(command);
        workers.start_one().unwrap();
        workers.running[0].child.wait().unwrap();
        let error = workers.check().unwrap_err().to_string();
        std::fs::remove_dir_all(logs).unwrap();
        assert!(error.contains("worker load-1 ended by itself with exit status: 1"), "{error}");
    }
}
