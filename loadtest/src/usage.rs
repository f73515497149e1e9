//! CPU time and memory of a process, from `/proc`.

use std::path::Path;

/// Linux reports CPU time in these units to every process (USER_HZ, `getconf CLK_TCK`), whatever the kernel's own tick; it is
/// 100 on every architecture this runs on.
const TICKS_PER_S: u64 = 100;

/// CPU time of one or several processes, in steps of 10 ms, and memory of the largest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_us: u64,
    pub(crate) resident_kib: u64,
    pub(crate) peak_kib: u64,
}

impl Usage {
    pub(crate) const NONE: Self = Self { cpu_us: 0, resident_kib: 0, peak_kib: 0 };

    pub(crate) fn of(pid: u32) -> Self {
        let proc = Path::new("/proc").join(pid.to_string());
        let read = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
        Self::parse(&read("stat"), &read("status"))
    }

    /// The usage of several processes.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            cpu_us: self.cpu_us + other.cpu_us,
            resident_kib: self.resident_kib.max(other.resident_kib),
            peak_kib: self.peak_kib.max(other.peak_kib),
        }
    }

    /// The same process at a later measurement. A process that has ended has no memory figures, a reaped one none at all.
    pub(crate) fn measured_later(self, later: Self) -> Self {
        Self {
            cpu_us: self.cpu_us.max(later.cpu_us),
            resident_kib: later.resident_kib,
            peak_kib: self.peak_kib.max(later.peak_kib),
        }
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
    fn figures_are_read_whatever_the_command_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 200";
        let status = "Name:\tx\nVmHWM:\t   4096 kB\nVmRSS:\t   2048 kB\n";
        let figures = Usage::parse(stat, status);
        assert_eq!(figures, Usage { cpu_us: 3_000_000, resident_kib: 2_048, peak_kib: 4_096 });
    }

    #[test]
    fn figures_of_an_ended_process_are_kept() {
        let earlier = Usage { cpu_us: 5, resident_kib: 2, peak_kib: 3 };
        assert_eq!(earlier.measured_later(Usage::NONE), Usage { cpu_us: 5, resident_kib: 0, peak_kib: 3 });
    }
}
