//! What is known about the way through a tunnel, for people: its health, the last round trip, what is wrong.
//!
//! The decisions are [`health`](super::health)'s. Here a change of the verdict is logged, once.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::TunnelSpec;
use crate::runtime::Histogram;
use crate::runtime::histogram;
use crate::watchdog::health::Action;
use crate::watchdog::health::Event;
use crate::watchdog::health::Health;
use crate::watchdog::health::Verdict;

/// The condition of one tunnel.
#[derive(Debug)]
pub(super) struct Condition {
    health: Health,
    round_trip: Option<Duration>,
    round_trips: Histogram,
    why: String,
    /// What its process had handed to the kernel at the last look.
    carried: Option<u64>,
}

/// The same, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// How it fares.
    pub verdict: Verdict,
    /// For how long.
    pub lasting: Duration,
    /// Of the last NFS NULL call that was answered.
    pub round_trip: Option<Duration>,
    /// Of all of them.
    pub round_trips: Histogram,
    /// What went wrong at the last call; empty where nothing did.
    pub why: String,
}

impl Condition {
    /// Of a tunnel that nobody has looked at. Different seeds spread the first looks.
    pub(super) fn new(seed: u32) -> Self {
        let health = Health::new(seed.into(), Instant::now());
        let round_trips = Histogram::new(&histogram::NETWORK);
        Self { health, round_trip: None, round_trips, why: String::new(), carried: None }
    }

    /// When it is to be looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        self.health.due()
    }

    /// Whether bytes came from the server since the last look. `total` is what the process has counted by now; a
    /// process that has just begun counts from 0.
    pub(super) fn has_carried(&mut self, total: u64) -> bool {
        self.carried.replace(total).is_some_and(|before| total > before)
    }

    /// Takes note of an answer through the tunnel.
    pub(super) fn answered(&mut self, target: &TunnelSpec, round_trip: Duration) -> Action {
        self.round_trip = Some(round_trip);
        self.round_trips.observe(round_trip);
        self.note(target, Event::Answered, "")
    }

    /// Takes note of what happened, and why; says what to do.
    pub(super) fn note(&mut self, target: &TunnelSpec, event: Event, why: &str) -> Action {
        let before = self.health.verdict();
        let action;
        (self.health, action) = self.health.step(event, Instant::now());
        match event {
            Event::Carried | Event::Answered => self.why.clear(),
            Event::Failed | Event::ServerSilent => why.clone_into(&mut self.why),
            Event::Due | Event::Unasked | Event::ServerAnswered => {}
        }
        if self.health.verdict() != before {
            self.say(target, before);
        }
        action
    }

    pub(super) fn shown(&self) -> Shown {
        Shown {
            verdict: self.health.verdict(),
            lasting: self.health.since().elapsed(),
            round_trip: self.round_trip,
            round_trips: self.round_trips.clone(),
            why: self.why.clone(),
        }
    }

    fn say(&self, target: &TunnelSpec, before: Verdict) {
        let why = self.why.as_str();
        match self.health.verdict() {
            Verdict::Unknown => {}
            Verdict::Healthy => {
                tracing::info!(tunnel.target = %target, before = before.word(), "the tunnel is healthy");
            }
            Verdict::ServerDown => tracing::warn!(
                tunnel.target = %target, why,
                "the server answers neither the tunnel nor the watchdog; its mounts wait until it does"
            ),
            Verdict::Broken => tracing::error!(
                tunnel.target = %target, why,
                "the tunnel is broken: its server answers the watchdog and not the tunnel process; it is repaired"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::fake::spec;

    #[tokio::test(start_paused = true)]
    async fn the_reason_is_shown_until_it_is_over_and_the_round_trip_stays() {
        let mut condition = Condition::new(1);
        let target = spec("nas");
        condition.answered(&target, Duration::from_millis(3));
        tokio::time::advance(Duration::from_secs(60)).await;
        for (event, why) in
            [(Event::Due, ""), (Event::Failed, "refused"), (Event::ServerSilent, "refused, too")]
        {
            condition.note(&target, event, why);
        }
        let shown = condition.shown();
        assert_eq!((shown.verdict, shown.why.as_str()), (Verdict::ServerDown, "refused, too"));
        assert_eq!(shown.round_trips.count(), 1);
        assert_eq!(
            (shown.lasting, shown.round_trip),
            (Duration::ZERO, Some(Duration::from_millis(3)))
        );
        condition.note(&target, Event::Carried, "");
        assert_eq!(
            (condition.shown().verdict, condition.shown().why.as_str()),
            (Verdict::Healthy, "")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_begins_anew_has_carried_nothing_yet() {
        let mut condition = Condition::new(1);
        let looks = [5, 5, 9, 0, 2].map(|total| condition.has_carried(total));
        assert_eq!(looks, [false, false, true, false, true]);
    }
}
