//! How long a mount is tried, and how long is waited in between.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::MountOptions;
use crate::nfs::request::Patience;

/// nfs(5), `retry=`.
const FOREGROUND: Duration = Duration::from_secs(2 * 60);
/// nfs(5), `retry=`: about a week.
const BACKGROUND: Duration = Duration::from_secs(10_000 * 60);

/// With less time left than this, another round is not worth its while.
const SHORTEST_ROUND: Duration = Duration::from_secs(1);

/// When a mount is to be given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    /// No round begins after this.
    last_round: Instant,
    /// Whether the round that is under way then is cut too.
    cuts: bool,
}

impl Clock {
    pub(super) fn new(patience: Patience, options: &MountOptions, now: Instant) -> Self {
        let (time, cuts) = match patience {
            Patience::Deadline(time) => (time, true),
            Patience::AsOptionsSay => {
                let unsaid = if options.background() { BACKGROUND } else { FOREGROUND };
                (options.retry().unwrap_or(unsaid), false)
            }
        };
        Self { began: now, last_round: now + time, cuts }
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// What a step may take, of what it would like to.
    pub(super) fn cut(&self, wish: Duration, now: Instant) -> Duration {
        if self.cuts { wish.min(self.left(now)) } else { wish }
    }

    /// Whether not even the round under way may go on.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.cuts && self.left(now).is_zero()
    }

    /// The wait before the next round, of what it should be; none where there will be no next round.
    pub(super) fn wait(&self, wish: Duration, now: Instant) -> Option<Duration> {
        let left = self.left(now);
        if !self.cuts {
            return (!left.is_zero()).then(|| wish.min(left));
        }
        let longest = left.checked_sub(SHORTEST_ROUND).filter(|longest| !longest.is_zero())?;
        Some(wish.min(longest))
    }

    fn left(&self, now: Instant) -> Duration {
        self.last_round.saturating_duration_since(now)
    }
}

/// The wait after so many failed rounds, as nfs-utils does it (utils/mount/stropts.c: `nfsmount_fg`,
/// `nfsmount_child`): 1, 2, 4, … s, up to 10 s while somebody waits and to two minutes while nobody does.
pub(super) fn back_off(failed_rounds: u32, background: bool) -> Duration {
    let longest = if background { 120 } else { 10 };
    let doubled = 1_u64.checked_shl(failed_rounds.saturating_sub(1)).unwrap_or(longest);
    Duration::from_secs(doubled.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::nfs_option::Rules;

    fn clock(options: &str, patience: Patience, now: Instant) -> Clock {
        Clock::new(patience, &MountOptions::parse(Rules::Direct, [options]).unwrap(), now)
    }

    #[test]
    fn waits_double_to_ten_seconds_before_and_to_two_minutes_behind_the_callers_back() {
        let seconds = |background| (1..=9).map(move |round| back_off(round, background).as_secs());
        assert_eq!(seconds(false).collect::<Vec<_>>(), [1, 2, 4, 8, 10, 10, 10, 10, 10]);
        assert_eq!(seconds(true).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(back_off(u32::MAX, true).as_secs(), 120);
    }

    #[test]
    fn retry_says_how_long_and_its_defaults_are_two_minutes_and_a_week() {
        let now = Instant::now();
        for (options, minutes) in
            [("", 2), ("retry=5", 5), ("bg", 10_000), ("bg,retry=1", 1), ("retry=7,fg", 7)]
        {
            let clock = clock(options, Patience::AsOptionsSay, now);
            let end = now + Duration::from_secs(minutes * 60);
            let second = Duration::from_secs(1);
            assert_eq!(clock.wait(second, end - second), Some(second), "{options:?}");
            assert_eq!(clock.wait(second, end), None, "{options:?}");
        }
        assert_eq!(
            clock("retry=0", Patience::AsOptionsSay, now).wait(back_off(1, false), now),
            None
        );
    }

    #[test]
    fn a_deadline_cuts_every_step_and_leaves_the_last_round_a_second() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let clock = clock("bg,retry=9", Patience::Deadline(10 * second), now);
        assert_eq!(clock.cut(90 * second, now), 10 * second);
        assert_eq!(clock.cut(3 * second, now + 8 * second), 2 * second);
        assert_eq!(clock.wait(8 * second, now + 8 * second), Some(second));
        assert_eq!(clock.wait(second, now + 9 * second), None);
        assert!(clock.is_over(now + 10 * second) && !clock.is_over(now + 9 * second));
    }
}
