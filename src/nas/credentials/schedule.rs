//! When credentials are renewed, as a pure function.
//!
//! ```text
//! Missing --needed, obtained--> InForce --ten minutes before their end--> (obtained) InForce
//!    |  (failed: refused for some seconds)   |  (failed)
//!    v                                       v
//! Missing                                 Overdue --30 s later, obtained--> InForce
//!                                            |  (their end)
//!                                            v
//!                                         Missing
//! ```
//!
//! What is left of credentials is what both clocks say: one that was set can make it less, never more.

use std::time::Duration;
use std::time::Instant;

use crate::runtime::Moment;

/// How long before their end they are renewed; short-lived ones at half of their life.
const AHEAD: Duration = Duration::from_secs(10 * 60);
/// With less than this a request might be under way when they end.
const LEAST_LEFT: Duration = Duration::from_secs(30);
/// After an attempt that failed while there still are some.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Credentials, as far as time is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// When they came.
    pub(super) since: Moment,
    /// When they end, since the epoch.
    pub(super) ends: Option<Duration>,
    /// After how long to look whether there are others.
    pub(super) look_again: Option<Duration>,
}

/// The life of what we sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is nothing, and none is asked for before a time.
    Missing {
        /// None: at once.
        not_before: Option<Instant>,
    },
    /// There are some.
    InForce(Lease),
    /// There are some, and to renew them has failed.
    Overdue {
        /// What there is.
        lease: Lease,
        /// The last attempt.
        tried: Instant,
    },
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing but time.
    TimePasses,
    /// A call is to be signed.
    Needed,
    /// New ones have come.
    Obtained(Lease),
    /// None have come. Where there is nothing, the next attempt is worth while after this.
    Failed {
        /// From now.
        again_after: Duration,
    },
    /// The service does not take them.
    Refused,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// What there is serves.
    Use,
    /// The sources are to be asked; the answer is [`Event::Obtained`] or [`Event::Failed`].
    Renew,
    /// There is nothing; why is known.
    Refuse,
    /// As [`Action::Use`], and somebody is to be told that renewing has begun to fail.
    Warn,
    /// As [`Action::Use`], and somebody is to be told that it works again.
    Reassure,
}

/// The next state, and what is to be done.
pub(super) fn step(state: State, event: Event, now: Moment) -> (State, Action) {
    use Action::{Reassure, Refuse, Renew, Use, Warn};
    use Event::{Failed, Needed, Obtained, Refused, TimePasses};
    use State::{InForce, Missing, Overdue};
    match (state, event) {
        (Missing { .. }, TimePasses) => (state, Refuse),
        (Missing { not_before }, Needed) => {
            let too_early = not_before.is_some_and(|time| now.steady < time);
            (state, if too_early { Refuse } else { Renew })
        }
        (InForce(lease) | Overdue { lease, .. }, TimePasses | Needed) if !lease.holds(now) => {
            (Missing { not_before: None }, Renew)
        }
        (InForce(lease), TimePasses | Needed) => {
            (state, if lease.is_due(now) { Renew } else { Use })
        }
        (Overdue { tried, .. }, TimePasses | Needed) => {
            let again = now.steady.saturating_duration_since(tried) >= AGAIN_AFTER;
            (state, if again { Renew } else { Use })
        }
        (Overdue { .. }, Obtained(lease)) => (InForce(lease), Reassure),
        (_, Obtained(lease)) => (InForce(lease), Use),
        (InForce(lease), Failed { .. }) if lease.holds(now) => {
            (Overdue { lease, tried: now.steady }, Warn)
        }
        (Overdue { lease, .. }, Failed { .. }) if lease.holds(now) => {
            (Overdue { lease, tried: now.steady }, Use)
        }
        (_, Failed { again_after }) => {
            (Missing { not_before: Some(now.steady + again_after) }, Refuse)
        }
        (_, Refused) => (Missing { not_before: None }, Refuse),
    }
}

impl Lease {
    /// Long enough for a call that begins now?
    pub(super) fn holds(&self, now: Moment) -> bool {
        self.left(now).is_none_or(|left| left > LEAST_LEFT)
    }

    fn is_due(&self, now: Moment) -> bool {
        let ends_soon = self.left(now).is_some_and(|left| left <= AHEAD.min(self.life() / 2));
        let age = now.steady.saturating_duration_since(self.since.steady);
        ends_soon || self.look_again.is_some_and(|after| age >= after)
    }

    fn left(&self, now: Moment) -> Option<Duration> {
        let by_wall = self.ends?.saturating_sub(now.wall);
        let age = now.steady.saturating_duration_since(self.since.steady);
        Some(by_wall.min(self.life().saturating_sub(age)))
    }

    fn life(&self) -> Duration {
        self.ends.unwrap_or(Duration::MAX).saturating_sub(self.since.wall)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::Just;
    use proptest::prop_oneof;
    use proptest::proptest;

    use super::Action::{Reassure, Refuse, Renew, Use, Warn};
    use super::Event::{Failed, Needed, Obtained, Refused, TimePasses};
    use super::State::{InForce, Missing, Overdue};
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const SOON: Event = Failed { again_after: Duration::from_secs(5) };
    const NOTHING: State = Missing { not_before: None };

    fn start() -> Moment {
        Moment { steady: Instant::now(), wall: Duration::from_secs(1_800_000_000) }
    }

    fn after(moment: Moment, seconds: u64) -> Moment {
        let passed = Duration::from_secs(seconds);
        Moment { steady: moment.steady + passed, wall: moment.wall + passed }
    }

    fn lease(since: Moment, minutes: u32) -> Lease {
        Lease { since, ends: Some(since.wall + MINUTE * minutes), look_again: None }
    }

    #[test]
    fn they_are_renewed_ten_minutes_ahead_and_short_lived_ones_at_half_of_their_life() {
        let since = start();
        for (minutes, due) in [(60, 50 * 60), (15, 450)] {
            let state = InForce(lease(since, minutes));
            for event in [TimePasses, Needed] {
                assert_eq!(step(state, event, after(since, due - 1)), (state, Use));
                assert_eq!(step(state, event, after(since, due)), (state, Renew));
            }
        }
        let forever = InForce(Lease { since, ends: None, look_again: None });
        assert_eq!(step(forever, Needed, after(since, 1 << 30)), (forever, Use));
        let file = InForce(Lease { since, ends: None, look_again: Some(MINUTE) });
        assert_eq!(step(file, Needed, after(since, 59)), (file, Use));
        assert_eq!(step(file, Needed, after(since, 60)), (file, Renew));
    }

    #[test]
    fn while_renewing_fails_the_old_ones_serve_and_there_is_one_warning_until_it_works_again() {
        let since = start();
        let (held, late) = (lease(since, 60), after(since, 50 * 60));
        let (overdue, action) = step(InForce(held), SOON, late);
        assert_eq!((overdue, action), (Overdue { lease: held, tried: late.steady }, Warn));
        assert_eq!(step(overdue, Needed, after(late, 29)), (overdue, Use));
        assert_eq!(step(overdue, Needed, after(late, 30)), (overdue, Renew));
        assert_eq!(step(overdue, SOON, after(late, 30)).1, Use, "no second warning");
        let fresh = lease(after(late, 30), 60);
        assert_eq!(step(overdue, Obtained(fresh), after(late, 30)), (InForce(fresh), Reassure));
        assert_eq!(step(overdue, Needed, after(since, 3571)), (NOTHING, Renew));
    }

    #[test]
    fn where_there_is_nothing_the_sources_are_not_asked_by_each_call() {
        let now = start();
        assert_eq!(step(NOTHING, Needed, now), (NOTHING, Renew));
        let (failed, action) = step(NOTHING, SOON, now);
        assert_eq!(action, Refuse);
        assert_eq!(step(failed, Needed, after(now, 4)), (failed, Refuse));
        assert_eq!(step(failed, Needed, after(now, 5)), (failed, Renew));
        assert_eq!(step(failed, TimePasses, after(now, 5)), (failed, Refuse), "nobody needs them");
    }

    #[test]
    fn what_the_service_refuses_is_not_used_again() {
        let since = start();
        assert_eq!(step(InForce(lease(since, 60)), Refused, since), (NOTHING, Refuse));
    }

    #[test]
    fn a_clock_that_is_set_makes_less_of_them_and_never_more() {
        let since = start();
        let held = lease(since, 60);
        let forward = Moment { wall: since.wall + 59 * MINUTE, ..since };
        assert_eq!(step(InForce(held), Needed, forward), (InForce(held), Renew));
        let back = Moment { wall: since.wall - 59 * MINUTE, ..after(since, 3599) };
        assert_eq!(step(InForce(held), Needed, back), (NOTHING, Renew));
    }

    proptest! {
        /// Whatever happens, a call that is not told to wait has credentials that hold.
        #[test]
        fn no_call_is_signed_with_credentials_that_have_ended(
            happenings in proptest::collection::vec(
                (0u64..2000, prop_oneof![Just(TimePasses), Just(Needed), Just(SOON), Just(Refused)], proptest::bool::ANY),
                1..40,
            )
        ) {
            let (mut now, mut state) = (start(), NOTHING);
            for (seconds, event, comes) in happenings {
                now = after(now, seconds);
                let (next, mut action) = step(state, event, now);
                state = next;
                if action == Renew {
                    let answer = if comes { Obtained(lease(now, 20)) } else { SOON };
                    (state, action) = step(state, answer, now);
                }
                match (action, state) {
                    (Use | Warn | Reassure, InForce(lease) | Overdue { lease, .. }) => assert!(lease.holds(now)),
                    (Refuse, _) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
