//! The life of the tunnel process, as a pure state machine.
//!
//! ```text
//!              Wanted                Ready                    Upgrade, Replace
//!     Absent ─────────> Starting ────────────> Running ──┐ ─────────────> Replacing
//!       ^                ^  ^ │                │   ^ ^───┘ Answered,          │ │
//!       │            Due │  │ │ Exited, Late   │   │       Missed (1st, 2nd)  │ │
//!       │                │  │ v                │   └──────────────────────────┘ │
//!       │               Waiting <──────────────┘      Ready (of the next one,   │
//!       │                   │     Exited, Missed (3rd)  the former retires),    │
//!       │                   │                         Late (the former stays)   │
//!       │                   └───────────────────────────────────────────────────┘
//!       │ Gone                      Exited (the former; the next one is waited for)
//!       ├──────────── Stopping <──── Stop, in any state
//!       └──────────── Leave, in any state: what serves goes on for the next watchdog
//! ```
//!
//! A process that is late or does not answer is killed at once: while it hangs, so does every mount of the node. The
//! listening sockets are the watchdog's, so the next process finds whoever has connected in between. After a first
//! failure it is started without a wait.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How many heartbeats in a row may be missed before the process is killed.
const MISSES_TO_KILL: u32 = 3;
/// From one answer to the next question.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// For the answer.
pub const HEARTBEAT_DEADLINE: Duration = Duration::from_millis(1500);
const _: () = assert!(
    MISSES_TO_KILL as u128 * (HEARTBEAT_EVERY.as_millis() + HEARTBEAT_DEADLINE.as_millis()) <= 8000,
    "a process that is stuck must be found and replaced within 10 s"
);
/// The wait after the second failure in a row; it doubles with each further one. After the first there is none.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two starts. Mounts hang meanwhile, so it is short.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A process that ran this long has failed for a new reason.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Where the tunnel process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none, and none is wanted.
    Absent,
    /// It was started and binds its listeners.
    Starting {
        /// How often in a row it failed before.
        failures: u32,
    },
    /// It serves.
    Running {
        /// How often in a row it failed before.
        failures: u32,
        /// Since when.
        since: Instant,
        /// Heartbeats missed in a row.
        misses: u32,
    },
    /// It serves, and one that is to take its place was started beside it.
    Replacing {
        /// How often in a row the one that serves failed before.
        failures: u32,
        /// Since when it serves.
        since: Instant,
    },
    /// It failed, and the next one starts at `until`.
    Waiting {
        /// How often in a row it failed.
        failures: u32,
        /// When the next one starts.
        until: Instant,
    },
    /// It was asked to end.
    Stopping,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The watchdog begins.
    Wanted,
    /// The process that was started last said that it serves.
    Ready,
    /// It did not say so in time, or ended before.
    Late,
    /// The process that served ended, or none could be started.
    Exited,
    /// A process of the installed version is to take over from the one that serves.
    Upgrade,
    /// Another process of the same version is to.
    Replace,
    /// A heartbeat was answered.
    Answered,
    /// A heartbeat was not answered in time.
    Missed,
    /// The wait is over.
    Due,
    /// The watchdog ends.
    Stop,
    /// The watchdog ends, and the next one takes over from the process.
    Leave,
    /// The process that was asked to end is gone.
    Gone,
}

/// What to do before the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Carry,
    /// Start a process.
    Spawn,
    /// Start a process of the installed version beside the one that serves.
    SpawnNext,
    /// Start one of our own version beside it.
    SpawnAnother,
    /// The next process takes the place of the one that serves, which is asked to end.
    Retire,
    /// The next process takes the place of the one that has ended.
    Promote,
    /// Kill the next process, without asking it.
    KillNext,
    /// Kill the process, without asking it.
    Kill,
    /// Ask the process to end, and kill it if it does not.
    ShutDown,
    /// Let the process that serves go on without us, and kill any other.
    LetGo,
}

/// Why the tunnel process was started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestartReason {
    /// It ended by itself, or was killed by somebody else.
    Ended,
    /// It did not answer, and was killed.
    Unanswering,
    /// It did not come to serve, or could not be started.
    NotReady,
}

/// How often the tunnel process was started again, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts(BTreeMap<RestartReason, u64>);

impl RestartReason {
    const ALL: [Self; 3] = [Self::Ended, Self::Unanswering, Self::NotReady];

    /// Why `event` in `state` ends the process; `None` where it does not, or not for a new one to follow.
    #[must_use]
    pub fn of(state: State, event: Event) -> Option<Self> {
        match (state, event) {
            (State::Running { .. }, Event::Exited) => Some(Self::Ended),
            (State::Running { .. }, Event::Missed) => Some(Self::Unanswering),
            (State::Starting { .. }, Event::Late | Event::Exited) => Some(Self::NotReady),
            _ => None,
        }
    }

    /// Its word on the wire and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Unanswering => "unanswering",
            Self::NotReady => "not-ready",
        }
    }
}

impl Restarts {
    /// Counts one more.
    pub fn count(&mut self, reason: RestartReason) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// For every reason, how often.
    pub fn by_reason(&self) -> impl Iterator<Item = (RestartReason, u64)> {
        RestartReason::ALL
            .into_iter()
            .map(|reason| (reason, self.0.get(&reason).copied().unwrap_or_default()))
    }

    /// For all reasons together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// What follows. An event that cannot happen in a state changes nothing.
#[must_use]
pub fn step(state: State, event: Event, now: Instant) -> (State, Action) {
    use State::{Absent, Replacing, Running, Starting, Stopping, Waiting};
    match (state, event) {
        (Absent, Event::Wanted) => (Starting { failures: 0 }, Action::Spawn),
        (Starting { failures }, Event::Ready) => {
            (Running { failures, since: now, misses: 0 }, Action::Carry)
        }
        (Starting { failures }, Event::Late) => (wait(failures, now), Action::Kill),
        (Starting { failures }, Event::Exited) => (wait(failures, now), Action::Carry),
        (Running { failures, since, .. }, Event::Answered) => {
            (Running { failures, since, misses: 0 }, Action::Carry)
        }
        (Running { failures, since, misses }, Event::Missed) if misses + 1 < MISSES_TO_KILL => {
            (Running { failures, since, misses: misses + 1 }, Action::Carry)
        }
        (Running { failures, since, .. }, Event::Missed) => {
            (wait(recent(failures, since, now), now), Action::Kill)
        }
        (Running { failures, since, .. }, Event::Exited) => {
            (wait(recent(failures, since, now), now), Action::Carry)
        }
        (Running { failures, since, .. }, Event::Upgrade) => {
            (Replacing { failures, since }, Action::SpawnNext)
        }
        (Running { failures, since, .. }, Event::Replace) => {
            (Replacing { failures, since }, Action::SpawnAnother)
        }
        (Replacing { failures, since }, Event::Ready) => {
            let failures = recent(failures, since, now);
            (Running { failures, since: now, misses: 0 }, Action::Retire)
        }
        (Replacing { failures, since }, Event::Late) => {
            (Running { failures, since, misses: 0 }, Action::KillNext)
        }
        (Replacing { failures, since }, Event::Exited) => {
            (Starting { failures: recent(failures, since, now) }, Action::Promote)
        }
        (Waiting { failures, .. }, Event::Due) => (Starting { failures }, Action::Spawn),
        (Stopping, Event::Stop | Event::Leave) => (Stopping, Action::Carry),
        (_, Event::Leave) => (Absent, Action::LetGo),
        (_, Event::Stop) => (Stopping, Action::ShutDown),
        (Stopping, Event::Gone) => (Absent, Action::Carry),
        (state, _) => (state, Action::Carry),
    }
}

/// Waits after one more failure than `before`.
fn wait(before: u32, now: Instant) -> State {
    let wait = match before.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => {
            FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_WAIT)
        }
    };
    State::Waiting { failures: before.saturating_add(1), until: now + wait }
}

/// The failures that still count after a run since `since`.
fn recent(failures: u32, since: Instant, now: Instant) -> u32 {
    if now.duration_since(since) >= HEALTHY_AFTER { 0 } else { failures }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(state: State, events: &[Event], now: Instant) -> (State, Action) {
        events.iter().fold((state, Action::Carry), |(state, _), event| step(state, *event, now))
    }

    #[test]
    fn a_process_is_started_serves_and_is_shut_down() {
        let now = Instant::now();
        let (state, action) = step(State::Absent, Event::Wanted, now);
        assert_eq!((state, action), (State::Starting { failures: 0 }, Action::Spawn));
        let (state, _) = step(state, Event::Ready, now);
        assert_eq!(state, State::Running { failures: 0, since: now, misses: 0 });
        assert_eq!(step(state, Event::Stop, now), (State::Stopping, Action::ShutDown));
        assert_eq!(step(State::Stopping, Event::Gone, now), (State::Absent, Action::Carry));
    }

    #[test]
    fn only_three_misses_in_a_row_kill() {
        let now = Instant::now();
        let running = State::Running { failures: 0, since: now, misses: 0 };
        let (state, action) =
            after(running, &[Event::Missed, Event::Missed, Event::Answered, Event::Missed], now);
        assert_eq!(
            (state, action),
            (State::Running { failures: 0, since: now, misses: 1 }, Action::Carry)
        );
        let (state, action) = after(state, &[Event::Missed, Event::Missed], now);
        assert_eq!(action, Action::Kill);
        assert!(matches!(state, State::Waiting { failures: 1, .. }));
    }

    #[test]
    fn there_is_no_wait_at_first_and_then_it_doubles_from_100_ms_to_5_s() {
        let now = Instant::now();
        let mut state = State::Starting { failures: 0 };
        let mut waits = Vec::new();
        for _ in 0..9 {
            (state, _) = step(state, Event::Exited, now);
            let State::Waiting { until, .. } = state else { panic!("{state:?}") };
            waits.push((until - now).as_millis());
            (state, _) = step(state, Event::Due, now);
        }
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        let (state, _) = step(State::Starting { failures: u32::MAX }, Event::Late, now);
        assert_eq!(state, State::Waiting { failures: u32::MAX, until: now + LONGEST_WAIT });
    }

    #[test]
    fn after_a_run_of_30_s_there_is_no_wait_again() {
        let now = Instant::now();
        let running = State::Running { failures: 7, since: now, misses: 0 };
        for (ran, failures, waits) in [(29, 8, LONGEST_WAIT), (30, 1, Duration::ZERO)] {
            let end = now + Duration::from_secs(ran);
            let (state, _) = step(running, Event::Exited, end);
            assert_eq!(state, State::Waiting { failures, until: end + waits }, "after {ran} s");
        }
    }

    #[test]
    fn a_replacement_takes_over_only_once_it_serves() {
        let now = Instant::now();
        let running = State::Running { failures: 0, since: now, misses: 1 };
        let (replacing, action) = step(running, Event::Upgrade, now);
        assert_eq!(action, Action::SpawnNext);
        assert_eq!(step(running, Event::Replace, now), (replacing, Action::SpawnAnother));
        let later = now + HEALTHY_AFTER;
        for (event, state, action) in [
            (Event::Ready, State::Running { failures: 0, since: later, misses: 0 }, Action::Retire),
            (Event::Late, State::Running { failures: 0, since: now, misses: 0 }, Action::KillNext),
            (Event::Exited, State::Starting { failures: 0 }, Action::Promote),
            (Event::Upgrade, replacing, Action::Carry),
        ] {
            assert_eq!(step(replacing, event, later), (state, action), "{event:?}");
        }
        assert_eq!(step(State::Absent, Event::Upgrade, now), (State::Absent, Action::Carry));
    }

    #[test]
    fn stop_ends_every_state() {
        let now = Instant::now();
        for state in [
            State::Absent,
            State::Starting { failures: 1 },
            State::Running { failures: 0, since: now, misses: 2 },
            State::Replacing { failures: 0, since: now },
            State::Waiting { failures: 1, until: now },
        ] {
            assert_eq!(
                step(state, Event::Stop, now),
                (State::Stopping, Action::ShutDown),
                "{state:?}"
            );
            assert_eq!(step(state, Event::Leave, now), (State::Absent, Action::LetGo), "{state:?}");
        }
        assert_eq!(step(State::Stopping, Event::Leave, now), (State::Stopping, Action::Carry));
        assert_eq!(step(State::Stopping, Event::Exited, now), (State::Stopping, Action::Carry));
    }
}
