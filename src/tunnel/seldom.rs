//! Lines of the log that a hostile or broken peer could cause without end.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines about the same thing.
const PERIOD: Duration = Duration::from_secs(10);

/// Lets one line through per period, and counts those that it holds back.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// Whether a line may be written now, for who has to find out first what it is to say.
    pub(super) fn is_due(&self) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last.is_none_or(|last| last.elapsed() >= PERIOD)
    }

    /// How many lines were held back since the last one, if another one may be written now.
    pub(super) fn now(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| last.elapsed() < PERIOD) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_line_is_written_at_once_and_the_next_tells_of_those_between() {
        let seldom = Seldom::default();
        assert!(seldom.is_due());
        assert_eq!(seldom.now(), Some(0));
        assert_eq!((seldom.now(), seldom.now()), (None, None));
        assert!(!seldom.is_due());
        tokio::time::advance(PERIOD).await;
        assert!(seldom.is_due());
        assert_eq!((seldom.now(), seldom.now()), (Some(2), None));
    }
}
