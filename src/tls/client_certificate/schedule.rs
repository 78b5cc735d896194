//! When a client certificate is made, as a pure function.
//!
//! ```text
//! Unasked --needed, made--> InForce --15 minutes, or the clock was set--> (made) InForce
//!                              |  (failed)
//!                              v
//!                           Overdue --a minute later, made--> InForce
//!                              |  (its own end)
//!                              v
//!                           Missing --needed, made--> InForce
//! ```
//!
//! A certificate is made a long time before the one in force ends: there are hours to mend a credentials file,
//! and a server's clock may be wrong by as much.

use std::time::Duration;
use std::time::Instant;

use crate::runtime::Moment;
use crate::tls::client_certificate::x509::AFTER;
use crate::tls::client_certificate::x509::BEFORE;

/// Between two certificates.
const RENEW_AFTER: Duration = Duration::from_secs(15 * 60);
/// After an attempt that failed while there still is a certificate.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// By how much the two clocks may drift apart before one counts as set. A time server slews them by 500 ppm at
/// most, which is half a second in 15 minutes.
const DRIFT: Duration = Duration::from_secs(10);

const _: () = assert!(
    RENEW_AFTER.as_secs() + AGAIN_AFTER.as_secs() < AFTER.as_secs(),
    "it would end before the first attempt to renew it"
);

/// The life of one subject's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No server has asked for one yet.
    Unasked,
    /// There is one that is new enough.
    InForce {
        /// When it was made.
        since: Moment,
    },
    /// There is one, and to renew it has failed.
    Overdue {
        /// When it was made.
        since: Moment,
        /// The last attempt.
        tried: Instant,
    },
    /// One is needed, and there is none that holds.
    Missing,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing but time.
    TimePasses,
    /// A handshake is about to begin.
    Needed,
    /// One has been made, at a moment.
    Made(Moment),
    /// The attempt has failed.
    Failed,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    Rest,
    /// A certificate is to be made; the answer is [`Event::Made`] or [`Event::Failed`].
    Make,
    /// Somebody is to be told that renewing has begun to fail.
    Warn,
    /// Somebody is to be told that it works again.
    Reassure,
}

/// The next state, and what is to be done.
pub(super) fn step(state: State, event: Event, now: Moment) -> (State, Action) {
    use Action::{Make, Reassure, Rest, Warn};
    use Event::{Failed, Made, Needed, TimePasses};
    use State::{InForce, Missing, Overdue, Unasked};
    match (state, event) {
        (Unasked | Missing, TimePasses) => (state, Rest),
        (Unasked | Missing, Needed) => (state, Make),
        (InForce { since }, TimePasses | Needed) if is_due(since, now) => (state, Make),
        (InForce { .. }, TimePasses | Needed) => (state, Rest),
        (Overdue { since, .. }, Needed) if !holds(since, now) => (Missing, Make),
        (Overdue { tried, .. }, TimePasses | Needed) => {
            let again = now.steady.saturating_duration_since(tried) >= AGAIN_AFTER;
            (state, if again { Make } else { Rest })
        }
        (Overdue { .. }, Made(since)) => (InForce { since }, Reassure),
        (_, Made(since)) => (InForce { since }, Rest),
        (InForce { since }, Failed) => (outlasting(since, now), Warn),
        (Overdue { since, .. }, Failed) => (outlasting(since, now), Rest),
        (Unasked | Missing, Failed) => (Missing, Rest),
    }
}

fn outlasting(since: Moment, now: Moment) -> State {
    if holds(since, now) { State::Overdue { since, tried: now.steady } } else { State::Missing }
}

fn is_due(since: Moment, now: Moment) -> bool {
    let age = now.steady.saturating_duration_since(since.steady);
    age >= RENEW_AFTER || (since.wall + age).abs_diff(now.wall) > DRIFT
}

/// As a server sees it whose clock shows what ours does.
fn holds(since: Moment, now: Moment) -> bool {
    since.wall.saturating_sub(BEFORE) <= now.wall && now.wall < since.wall + AFTER
}

#[cfg(test)]
mod tests {
    use proptest::prelude::Just;
    use proptest::prop_oneof;
    use proptest::proptest;

    use super::Action::{Make, Reassure, Rest, Warn};
    use super::Event::{Failed, Made, Needed, TimePasses};
    use super::State::{InForce, Missing, Overdue, Unasked};
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn start() -> Moment {
        Moment { steady: Instant::now(), wall: Duration::from_secs(1_800_000_000) }
    }

    fn after(moment: Moment, minutes: u32) -> Moment {
        let passed = MINUTE * minutes;
        Moment { steady: moment.steady + passed, wall: moment.wall + passed }
    }

    fn set(moment: Moment, wall: impl Fn(Duration) -> Duration) -> Moment {
        Moment { wall: wall(moment.wall), ..moment }
    }

    #[test]
    fn nothing_is_made_before_a_server_asks() {
        let now = start();
        assert_eq!(step(Unasked, TimePasses, now), (Unasked, Rest));
        assert_eq!(step(Unasked, Needed, now), (Unasked, Make));
        assert_eq!(step(Unasked, Made(now), now), (InForce { since: now }, Rest));
    }

    #[test]
    fn it_is_renewed_after_15_minutes_whether_or_not_it_is_needed() {
        let since = start();
        let state = InForce { since };
        for event in [TimePasses, Needed] {
            assert_eq!(step(state, event, after(since, 14)), (state, Rest));
            assert_eq!(step(state, event, after(since, 15)), (state, Make));
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_renews_at_once_and_a_slewed_one_does_not() {
        let since = start();
        let (state, soon) = (InForce { since }, after(since, 1));
        for forwards_or_back in [set(soon, |wall| wall + MINUTE), set(soon, |wall| wall - MINUTE)] {
            assert_eq!(step(state, TimePasses, forwards_or_back), (state, Make));
        }
        let slewed = set(soon, |wall| wall + Duration::from_secs(1));
        assert_eq!(step(state, Needed, slewed), (state, Rest));
    }

    #[test]
    fn while_renewing_fails_the_old_one_serves_and_there_is_one_warning_until_it_works_again() {
        let since = start();
        let late = after(since, 15);
        let (overdue, action) = step(InForce { since }, Failed, late);
        assert_eq!((overdue, action), (Overdue { since, tried: late.steady }, Warn));
        assert_eq!(step(overdue, Needed, late), (overdue, Rest), "the old one still holds");
        let later = after(since, 16);
        assert_eq!(step(overdue, TimePasses, later), (overdue, Make));
        let (still, action) = step(overdue, Failed, later);
        assert_eq!((still, action), (Overdue { since, tried: later.steady }, Rest));
        assert_eq!(step(still, Made(later), later), (InForce { since: later }, Reassure));
    }

    #[test]
    fn one_that_has_ended_is_not_presented() {
        let since = start();
        let overdue = Overdue { since, tried: after(since, 179).steady };
        assert_eq!(step(overdue, Needed, after(since, 179)), (overdue, Rest));
        assert_eq!(step(overdue, Needed, after(since, 180)), (Missing, Make));
        assert_eq!(step(overdue, Failed, after(since, 180)), (Missing, Rest));
        let before_it_holds = set(after(since, 1), |wall| wall - 30 * MINUTE);
        assert_eq!(step(InForce { since }, Failed, before_it_holds), (Missing, Warn));
        assert_eq!(step(Missing, Needed, after(since, 181)), (Missing, Make));
    }

    proptest! {
        /// Whatever happens, a handshake that is not told to wait has a certificate that holds.
        #[test]
        fn no_handshake_begins_with_a_certificate_that_does_not_hold(
            happenings in proptest::collection::vec(
                (0u64..400, prop_oneof![Just(TimePasses), Just(Needed), Just(Failed)], proptest::bool::ANY),
                1..40,
            )
        ) {
            let (mut now, mut state) = (start(), Unasked);
            for (minutes, event, made) in happenings {
                now = after(now, u32::try_from(minutes).unwrap());
                let (next, action) = step(state, event, now);
                state = next;
                if action == Make {
                    let answer = if made { Made(now) } else { Failed };
                    state = step(state, answer, now).0;
                }
                if event == Needed {
                    match state {
                        InForce { since } | Overdue { since, .. } => assert!(holds(since, now)),
                        Unasked | Missing => assert!(!made),
                    }
                }
            }
        }
    }
}
