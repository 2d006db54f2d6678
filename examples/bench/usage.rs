//! What processes have used, as the kernel accounts for it.

use std::ops::Sub;

/// The kernel shows times in this unit to every program, whatever its own.
const TICKS_PER_SECOND: f64 = 100.0;

/// A pool of Java's or of the runtime's gives a thread up now and then, not five times in a row.
const SCHEDULE_ATTEMPTS: usize = 5;

/// A process, with the children that it has and has had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

/// CPU seconds, user and system, of a process and of all its children.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CpuSecs(pub(crate) f64);

impl Process {
    /// CPU used so far; nothing if it has ended.
    pub(crate) fn cpu(self) -> CpuSecs {
        let folder = format!("/proc/{0}/task/{0}/children", self.0);
        let children = std::fs::read_to_string(folder).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        let living: f64 = children.map(|pid| Self(pid).cpu().0).sum();
        CpuSecs(self.own() + living)
    }

    /// Its own, and that of children that have ended.
    fn own(self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // The name stands in parentheses and may hold anything; the times are the 12th to the 15th
        // field after it.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(4);
        fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
    }

    /// Gets a core only when nobody else wants it, with all its threads.
    pub(crate) fn wait_for_others(self) {
        self.schedule("--idle");
    }

    /// As everybody else.
    pub(crate) fn be_like_others(self) {
        self.schedule("--other");
    }

    /// By `chrt`, of util-linux, which fails when one of the threads has ended meanwhile.
    fn schedule(self, policy: &str) {
        let pid = self.0.to_string();
        let arguments = [policy, "--all-tasks", "--pid", "0", &pid];
        let done = (0..SCHEDULE_ATTEMPTS).any(|_| {
            let status = std::process::Command::new("chrt").args(arguments).status();
            status.is_ok_and(|status| status.success())
        });
        assert!(done, "chrt {policy} of {pid}");
    }

    /// The most memory that was ever resident, MiB.
    pub(crate) fn peak_mib(self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.map(|line| line.trim().trim_end_matches(" kB"));
        kib.and_then(|kib| kib.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
    }
}

impl CpuSecs {
    /// CPU seconds for 100,000 rows.
    pub(crate) fn per_100k(self, rows: u64) -> f64 {
        self.0 * 1e5 / rows as f64
    }
}

impl Sub for CpuSecs {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self(self.0 - earlier.0)
    }
}
