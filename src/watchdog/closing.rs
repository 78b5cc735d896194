//! When a tunnel may be closed: the decision alone.
//!
//! A tunnel is closed only when nobody holds it and the kernel has not used it for the whole grace, in several
//! samples without a gap. A kernel that cannot be read is a gap: then nothing is known.
//!
//! A tunnel that somebody holds is never closed, used or not: whoever staged the volume will unstage it.

use std::time::Duration;

use tokio::time::Instant;

/// A grace of no length still needs to be seen this often.
const LEAST_SAMPLES: u32 = 3;
/// A tunnel with users that the kernel has not used for so long is worth a word.
const ORPHANED_AFTER: Duration = Duration::from_secs(300);

/// For how long a tunnel has been seen unused. Starts anew whenever a user comes or goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quiet {
    since: Option<Instant>,
    samples: u32,
    reported: bool,
}

/// What one sample of the kernel showed of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// The kernel holds a client for its address, or a mount names it.
    InUse,
    /// It does not.
    Unused,
    /// The kernel could not be read.
    Unknown,
}

/// What is to be done with a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// Close it.
    Close,
    /// Say, once, that it has users but no mount.
    ReportOrphan,
}

impl Quiet {
    /// Takes one more sample into account.
    #[must_use]
    pub fn observe(
        self,
        sample: Sample,
        users: usize,
        grace: Duration,
        now: Instant,
    ) -> (Self, Verdict) {
        if sample != Sample::Unused {
            return (Self::default(), Verdict::Keep);
        }
        let since = self.since.unwrap_or(now);
        let seen = Self { since: Some(since), samples: self.samples.saturating_add(1), ..self };
        let length = now.duration_since(since);
        if users == 0 {
            let over = length >= grace && seen.samples >= LEAST_SAMPLES;
            (seen, if over { Verdict::Close } else { Verdict::Keep })
        } else if length >= ORPHANED_AFTER && !self.reported {
            (Self { reported: true, ..seen }, Verdict::ReportOrphan)
        } else {
            (seen, Verdict::Keep)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sample::InUse;
    use super::Sample::Unknown;
    use super::Sample::Unused;
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    /// The seconds at which a tunnel that is sampled once a second would be closed.
    fn closed_at(
        samples: impl IntoIterator<Item = Sample>,
        users: usize,
        grace: Duration,
    ) -> Vec<u64> {
        verdicts(samples, users, grace, Verdict::Close)
    }

    fn verdicts(
        samples: impl IntoIterator<Item = Sample>,
        users: usize,
        grace: Duration,
        wanted: Verdict,
    ) -> Vec<u64> {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        let mut seconds = Vec::new();
        for (second, sample) in (0..).zip(samples) {
            let now = start + Duration::from_secs(second);
            let verdict;
            (quiet, verdict) = quiet.observe(sample, users, grace, now);
            if verdict == wanted {
                seconds.push(second);
            }
        }
        seconds
    }

    #[test]
    fn an_unused_tunnel_without_users_is_closed_after_the_grace() {
        assert_eq!(closed_at([Unused; 32], 0, GRACE), [30, 31]);
    }

    #[test]
    fn no_grace_still_takes_three_samples() {
        assert_eq!(closed_at([Unused; 4], 0, Duration::ZERO), [2, 3]);
    }

    #[test]
    fn a_gap_starts_the_grace_anew() {
        for gap in [InUse, Unknown] {
            let samples = [Unused; 29].into_iter().chain([gap]).chain([Unused; 31]);
            assert_eq!(closed_at(samples, 0, GRACE), [60], "{gap:?}");
        }
    }

    #[test]
    fn a_tunnel_with_users_is_never_closed_but_reported_once_after_five_minutes() {
        assert!(closed_at([Unused; 1000], 1, GRACE).is_empty());
        assert_eq!(verdicts([Unused; 1000], 1, GRACE, Verdict::ReportOrphan), [300]);
        assert!(verdicts([InUse; 1000], 1, GRACE, Verdict::ReportOrphan).is_empty());
    }
}
