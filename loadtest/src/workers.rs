//! Owns the worker processes: starting, killing, and what the kernel says of their CPU time and memory.
//!
//! **Invariant:** no worker outlives this program.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

/// Linux reports CPU time in these units to every process (USER_HZ), whatever the kernel's own tick.
const TICKS_PER_S: u64 = 100;

/// How a worker is started.
pub(crate) struct Start {
    pub(crate) binary: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) log: PathBuf,
}

/// The running workers, and the CPU time of those that are gone.
pub(crate) struct Workers {
    start: Start,
    running: Vec<Child>,
    killed_cpu_us: u64,
    peak_kib: u64,
}

impl Workers {
    pub(crate) const fn new(start: Start) -> Self {
        Self { start, running: Vec::new(), killed_cpu_us: 0, peak_kib: 0 }
    }

    pub(crate) fn start_one(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(&self.start.log)?;
        let child = Command::new(&self.start.binary)
            .envs(self.start.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| {
                let shown = self.start.binary.display();
                format!("cannot start {shown}; build it (cargo build -p toolfleet-worker) or name it with --worker-bin")
            })?;
        self.running.push(child);
        Ok(())
    }

    /// Kills one worker with SIGKILL and starts another.
    pub(crate) fn replace_one(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.running.pop() {
            let figures = Figures::of(child.id());
            self.killed_cpu_us += figures.cpu_us;
            self.peak_kib = self.peak_kib.max(figures.peak_kib);
            child.kill()?;
            child.wait()?;
        }
        self.start_one()
    }

    /// An error with the end of the log if a worker has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        for child in &mut self.running {
            if let Some(status) = child.try_wait()? {
                let log = std::fs::read_to_string(&self.start.log).unwrap_or_default();
                let end: Vec<_> = log.lines().rev().take(5).collect();
                bail!(
                    "a worker ended with {status}:\n{}",
                    end.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
        }
        Ok(())
    }

    /// CPU time of all workers so far, in microseconds, in steps of 10 ms.
    pub(crate) fn cpu_us(&self) -> u64 {
        self.killed_cpu_us + self.running.iter().map(|c| Figures::of(c.id()).cpu_us).sum::<u64>()
    }

    /// The largest resident memory of any worker now, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.running.iter().map(|c| Figures::of(c.id()).resident_kib).max().unwrap_or(0)
    }

    /// The largest resident memory any worker ever had, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.running.iter().map(|c| Figures::of(c.id()).peak_kib).max().unwrap_or(0).max(self.peak_kib)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.running {
            // One that has ended already needs no kill.
            let _ended = child.kill();
            let _ended = child.wait();
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    cpu_us: u64,
    resident_kib: u64,
    peak_kib: u64,
}

impl Figures {
    fn of(pid: u32) -> Self {
        let proc = Path::new("/proc").join(pid.to_string());
        let read = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
        Self::parse(&read("stat"), &read("status"))
    }

    /// proc(5): utime and stime are the 14th and 15th field of `stat`, the 12th and 13th after the command's closing bracket.
    fn parse(stat: &str, status: &str) -> Self {
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 =
            after.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        let kib = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name));
            line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        Self { cpu_us: ticks * 1_000_000 / TICKS_PER_S, resident_kib: kib("VmRSS:"), peak_kib: kib("VmHWM:") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read_whatever_the_command_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 200";
        let status = "Name:\tx\nVmHWM:\t   4096 kB\nVmRSS:\t   2048 kB\n";
        let figures = Figures::parse(stat, status);
        assert_eq!(figures, Figures { cpu_us: 3_000_000, resident_kib: 2_048, peak_kib: 4_096 });
    }
}
