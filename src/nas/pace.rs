//! How often a call is made: a token bucket per call, and a pause for all when the service says "too often".
//!
//! Who asks is told when it is his turn (the generic cell rate algorithm: one time stamp is the whole bucket), so
//! one whose turn would come after his deadline is refused at once and takes no place. A throttled call voids
//! the turns given so far: nobody goes before the pause is over, then one after the other.
//!
//! The decisions are pure functions; [`Paces`] holds their state. Crates for this decide by their own clocks and
//! know neither deadlines nor pauses.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep_until;

use crate::nas::action::Action;

const MINUTE: Duration = Duration::from_secs(60);
/// After the first refusal; twice as long after each further one. The service counts by the minute.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MOST_DOUBLINGS: u32 = 3;

/// How often a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// In the long run.
    pub(super) per_minute: u32,
    /// At once, after a rest.
    pub(super) burst: u32,
}

/// One bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// When it is full again; none while it is.
    full_at: Option<Instant>,
    /// Turns of an earlier round are void.
    round: u64,
    /// Pauses since a call was last answered.
    pauses: u32,
}

/// A place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    at: Instant,
    round: u64,
}

/// The next turn comes after the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crowded {
    /// How long one would have to wait.
    pub(super) wait: Duration,
}

fn reserve(state: State, rate: Rate, by: Instant, now: Instant) -> Result<(State, Turn), Crowded> {
    let full_at = state.full_at.unwrap_or(now).max(now);
    let at = full_at.checked_sub(tolerance(rate)).unwrap_or(now).max(now);
    if at > by {
        return Err(Crowded { wait: at - now });
    }
    let state = State { full_at: Some(full_at + interval(rate)), ..state };
    Ok((state, Turn { at, round: state.round }))
}

/// Of several calls of one round that are refused together, the first one counts.
fn throttled(state: State, rate: Rate, turn: Turn, now: Instant) -> State {
    if turn.round != state.round {
        return state;
    }
    let pause = FIRST_PAUSE * 2_u32.pow(state.pauses.min(MOST_DOUBLINGS));
    State {
        full_at: Some(now + pause + tolerance(rate)),
        round: state.round + 1,
        pauses: state.pauses + 1,
    }
}

fn answered(state: State, turn: Turn) -> State {
    if turn.round == state.round { State { pauses: 0, ..state } } else { state }
}

fn interval(rate: Rate) -> Duration {
    MINUTE / rate.per_minute.max(1)
}

fn tolerance(rate: Rate) -> Duration {
    interval(rate) * rate.burst.saturating_sub(1)
}

/// The buckets of all calls. The lock inside is never held while somebody waits.
#[derive(Debug, Default)]
pub(super) struct Paces(Mutex<HashMap<Action, State>>);

impl Paces {
    /// Waits until `action` may be called.
    ///
    /// # Errors
    /// At once where that is after `by`.
    pub(super) async fn turn(&self, action: Action, by: Instant) -> Result<Turn, Crowded> {
        loop {
            let turn = self.reserve(action, by)?;
            sleep_until(turn.at).await;
            if self.states().get(&action).is_none_or(|state| state.round == turn.round) {
                return Ok(turn);
            }
        }
    }

    /// The service has refused a call for its number.
    pub(super) fn throttled(&self, action: Action, turn: Turn) {
        self.change(action, |state| throttled(state, action.rate(), turn, Instant::now()));
    }

    /// The service has done something else with it.
    pub(super) fn answered(&self, action: Action, turn: Turn) {
        self.change(action, |state| answered(state, turn));
    }

    fn reserve(&self, action: Action, by: Instant) -> Result<Turn, Crowded> {
        let mut states = self.states();
        let state = states.entry(action).or_default();
        let (next, turn) = reserve(*state, action.rate(), by, Instant::now())?;
        *state = next;
        Ok(turn)
    }

    fn change(&self, action: Action, change: impl FnOnce(State) -> State) {
        let mut states = self.states();
        let state = states.entry(action).or_default();
        *state = change(*state);
    }

    fn states(&self) -> MutexGuard<'_, HashMap<Action, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const RATE: Rate = Rate { per_minute: 60, burst: 3 };
    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds after `start` at which `number` calls may be made that are all asked for at `start`.
    fn turns(state: &mut State, number: usize, start: Instant) -> Vec<u64> {
        let by = start + 100 * SECOND;
        let mut seconds = Vec::new();
        for _ in 0..number {
            let (next, turn) = reserve(*state, RATE, by, start).unwrap();
            *state = next;
            seconds.push((turn.at - start).as_secs());
        }
        seconds
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_one_by_one() {
        let start = Instant::now();
        let mut state = State::default();
        assert_eq!(turns(&mut state, 6, start), [0, 0, 0, 1, 2, 3]);
        assert_eq!(turns(&mut state, 2, start + 4 * SECOND), [0, 1], "one token is back");
        assert_eq!(turns(&mut state, 4, start + 60 * SECOND), [0, 0, 0, 1], "it was full again");
    }

    #[test]
    fn who_would_come_too_late_is_told_at_once_and_takes_no_place() {
        let start = Instant::now();
        let mut state = State::default();
        turns(&mut state, 6, start);
        let refused = reserve(state, RATE, start + 2 * SECOND, start);
        assert_eq!(refused, Err(Crowded { wait: 4 * SECOND }));
        assert_eq!(turns(&mut state, 1, start), [4], "the place is still free");
    }

    #[test]
    fn after_a_refusal_nobody_goes_before_the_pause_is_over_and_then_one_by_one() {
        let start = Instant::now();
        let mut state = State::default();
        turns(&mut state, 6, start);
        let turn = Turn { at: start, round: 0 };
        state = throttled(state, RATE, turn, start);
        assert_eq!(throttled(state, RATE, turn, start), state, "another of the same round");
        assert_eq!(turns(&mut state, 3, start), [1, 2, 3]);
        for (round, seconds) in [(1, 2), (2, 4), (3, 8), (4, 8)] {
            state = throttled(state, RATE, Turn { at: start, round }, start);
            assert_eq!(turns(&mut state, 1, start), [seconds]);
        }
        state = answered(state, Turn { at: start, round: 5 });
        state = throttled(state, RATE, Turn { at: start, round: 5 }, start);
        assert_eq!(turns(&mut state, 1, start), [1], "an answer begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_back_those_who_wait_already() {
        let paces = Arc::new(Paces::default());
        let (start, action) = (Instant::now(), Action::SetDirQuota);
        let by = start + 50 * SECOND;
        let mut first = None;
        for _ in 0..action.rate().burst {
            first = Some(paces.turn(action, by).await.unwrap());
        }
        let waiting = tokio::spawn({
            let paces = Arc::clone(&paces);
            async move { paces.turn(action, by).await.map(|_| Instant::now()) }
        });
        tokio::task::yield_now().await;
        paces.throttled(action, first.unwrap());
        let went = waiting.await.unwrap().unwrap();
        assert!(went >= start + FIRST_PAUSE, "{:?}", went - start);
        assert_eq!(paces.turn(Action::CreateDir, by).await.unwrap().at, went, "others go on");
    }
}
