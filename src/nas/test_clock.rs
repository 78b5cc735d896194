//! A clock for tests: both hands follow the runtime's time, which a test can pause.

use std::sync::LazyLock;
use std::time::Duration;

use crate::runtime::Clock;
use crate::runtime::Moment;

static BEGAN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
/// In January 2027.
const BEGINNING: Duration = Duration::from_secs(1_800_000_000);

/// What it shows.
pub(super) fn wall_now() -> Duration {
    BEGINNING + tokio::time::Instant::now().into_std().saturating_duration_since(*BEGAN)
}

#[derive(Debug, Default)]
pub(super) struct TestClock;

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment { steady: tokio::time::Instant::now().into_std(), wall: wall_now() }
    }
}
