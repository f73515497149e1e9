//! Owns the worker processes: starting, killing, and what the kernel says of their CPU time and memory.
//!
//! **Invariant:** no worker outlives the value that started it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

/// Linux reports CPU time in these units to every process (USER_HZ, `getconf CLK_TCK`), whatever the kernel's own tick; it is
/// 100 on every architecture this runs on.
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
            .with_context(|| format!("cannot start {}", self.start.binary.display()))?;
        self.running.push(child);
        Ok(())
    }

    /// Kills one worker with SIGKILL and starts another.
    pub(crate) fn replace_one(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.running.pop() {
            let usage = Usage::of(child.id());
            self.killed_cpu_us += usage.cpu_us;
            self.peak_kib = self.peak_kib.max(usage.peak_kib);
            child.kill()?;
            child.wait()?;
        }
        self.start_one()
    }

    /// An error if a worker has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        for child in &mut self.running {
            if let Some(status) = child.try_wait()? {
                bail!("a worker ended by itself with {status}");
            }
        }
        Ok(())
    }

    /// What the workers have taken so far, those that were killed included.
    pub(crate) fn usage(&self) -> Usage {
        let gone = Usage { cpu_us: self.killed_cpu_us, resident_kib: 0, peak_kib: self.peak_kib };
        self.running.iter().map(|child| Usage::of(child.id())).fold(gone, |all, one| Usage {
            cpu_us: all.cpu_us + one.cpu_us,
            resident_kib: all.resident_kib.max(one.resident_kib),
            peak_kib: all.peak_kib.max(one.peak_kib),
        })
    }
}

impl Workers {
    /// Kills them all; what they have taken is forgotten.
    pub(crate) fn stop(&mut self) {
        for mut child in self.running.drain(..) {
            // One that has ended already needs no kill.
            let _ended = child.kill();
            let _ended = child.wait();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the kernel says of processes: CPU time of all in steps of 10 ms, memory of the largest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_us: u64,
    pub(crate) resident_kib: u64,
    pub(crate) peak_kib: u64,
}

impl Usage {
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
        let figures = Usage::parse(stat, status);
        assert_eq!(figures, Usage { cpu_us: 3_000_000, resident_kib: 2_048, peak_kib: 4_096 });
    }
}
