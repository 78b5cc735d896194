//! Two clocks: one that only goes forward, and the one on the wall, which somebody may set.

use std::fmt;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// What both clocks show at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Never set, and still while the machine sleeps.
    pub steady: Instant,
    /// Since the epoch, in UTC.
    pub wall: Duration,
}

impl Moment {
    /// The time on the wall, whole seconds since the epoch.
    #[must_use]
    pub fn epoch_seconds(self) -> i64 {
        i64::try_from(self.wall.as_secs()).unwrap_or(i64::MAX)
    }
}

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Moment;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { steady: Instant::now(), wall }
    }
}
