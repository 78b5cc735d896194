//! What a process has used: read from `/proc`, the same for all.

use std::fs;

use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;

/// Processor time of a process, of each thread.
#[derive(Clone, Debug, Default)]
pub struct Used(Vec<(String, f64)>);

impl Used {
    /// Reads it. The clock of the scheduler has nanoseconds; `/proc/PID/stat` only has hundredths of a second.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn by(process: u32) -> Result<Self> {
        let folder = format!("/proc/{process}/task");
        let mut threads = Vec::new();
        for thread in fs::read_dir(&folder).during("failed to look at the proxy")?.flatten() {
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let nanos: f64 = text.split(' ').next().unwrap_or_default().parse()?;
            threads.push((thread.file_name().to_string_lossy().into_owned(), nanos / 1e9));
        }
        Ok(Self(threads))
    }

    /// Seconds between an earlier reading and this one. A thread that has ended meanwhile is missed.
    #[must_use]
    pub fn since(&self, before: &Self) -> f64 {
        self.per_thread(before).iter().sum()
    }

    /// The same for each thread, the busiest first.
    #[must_use]
    pub fn per_thread(&self, before: &Self) -> Vec<f64> {
        let mut seconds: Vec<f64> = self
            .0
            .iter()
            .map(|(thread, now)| {
                let then = before.0.iter().find(|(other, _)| other == thread);
                now - then.map_or(0.0, |(_, then)| *then)
            })
            .collect();
        seconds.sort_by(|one, other| other.total_cmp(one));
        seconds
    }
}

/// Resident memory in MiB: now, and at its highest.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// VmRSS.
    pub now: f64,
    /// VmHWM.
    pub peak: f64,
}

impl Resident {
    /// Reads it.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))
            .during("failed to look at the proxy")?;
        let mebibytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kibibytes / 1024.0)
        };
        let both = mebibytes("VmRSS:").zip(mebibytes("VmHWM:"));
        let (now, peak) = both.ok_or_else(|| Failure::new("the proxy is gone"))?;
        Ok(Self { now, peak })
    }
}
