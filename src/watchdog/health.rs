//! Whether a tunnel leads to its server, as a pure state machine for each tunnel.
//!
//! ```text
//!                     Carried
//!                    ┌───────┐
//!                    │       v    Due               Failed                   ServerSilent
//!     (new) ───────> └─ Resting ──────> Asking ───────────────> AskingServer ──────────────> Resting, server down,
//!                        ^  ^  ^           │ Answered                │                       longer each time
//!                        │  │  └───────────┤ healthy                 │ ServerAnswered
//!                        │  └──────────────┘ Unasked                 │
//!                        └───────────────────────────────────────────┘
//!                          once: asked again soon; twice in a row: broken, and refreshed; from the fourth time on:
//!                          the process is replaced
//! ```
//!
//! Bytes that came back from the server since the last look are proof enough, and no call is made then. Where the
//! tunnel process fails to reach the server, the watchdog asks the server itself: only where the server answers that is
//! the tunnel broken. A server that is down is never repaired.
//!
//! All tunnels of a node share a [`Budget`] of calls, so that a thousand of them do not shake hands a thousand times
//! a second: each is asked less often then.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks at a tunnel that is healthy. With jitter, up to a quarter longer.
const EVERY: Duration = Duration::from_secs(5);
/// Before a tunnel is asked again that is in doubt, or that could not be asked.
const SOON: Duration = Duration::from_secs(1);
/// The longest between two calls to a server that is down. Its clients find it sooner, and their bytes are seen.
const LONGEST_WHILE_DOWN: Duration = Duration::from_secs(60);
/// The times in a row that the server has answered us and not the process, from which the tunnel counts as broken.
const BROKEN_FROM: u32 = 2;
/// The same, from which its process is replaced.
const REPLACED_FROM: u32 = 4;
/// After the process was replaced for this tunnel; it doubles each time.
const AFTER_REPLACEMENT: Duration = Duration::from_secs(30);
const LONGEST_AFTER_REPLACEMENT: Duration = Duration::from_secs(600);
const _: () = assert!(BROKEN_FROM < REPLACED_FROM, "the gentle repair would not come first");

/// How a tunnel fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has looked yet.
    Unknown,
    /// The server has answered through it.
    Healthy,
    /// The server answers nobody.
    ServerDown,
    /// The server answers the watchdog and not the tunnel process.
    Broken,
}

impl Verdict {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Healthy, Self::ServerDown, Self::Broken];

    /// Its word on the wire and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::ServerDown => "server-down",
            Self::Broken => "broken",
        }
    }
}

/// What is known about one tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    verdict: Verdict,
    since: Instant,
    phase: Phase,
    /// Calls in a row that the server has answered nobody.
    silences: u32,
    /// Calls in a row that the server has answered to the watchdog alone.
    disagreements: u32,
    /// What the jitter is made from.
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Resting { until: Instant },
    Asking,
    AskingServer,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes came back from the server since the last look.
    Carried,
    /// The rest is over, and the budget has a call left.
    Due,
    /// The server has answered the tunnel process.
    Answered,
    /// The tunnel process could not be asked; its driver sees to that.
    Unasked,
    /// The tunnel process has failed to get an answer.
    Failed,
    /// The server has answered the watchdog.
    ServerAnswered,
    /// It has not.
    ServerSilent,
}

/// What to do before the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Rest,
    /// Have the tunnel process ask the server.
    Ask,
    /// Ask the server without the tunnel process.
    AskServer,
    /// Have the tunnel process forget what it has found out about the server.
    Refresh,
    /// Have another process take the place of the tunnel process.
    Replace,
}

impl Health {
    /// Of a tunnel that nobody has looked at. Different seeds spread the first looks.
    #[must_use]
    pub fn new(seed: u64, now: Instant) -> Self {
        let phase = Phase::Resting { until: now };
        let new = Self {
            verdict: Verdict::Unknown,
            since: now,
            phase,
            silences: 0,
            disagreements: 0,
            // Never 0, which xorshift would stay at.
            seed: seed | (1 << 63),
        };
        new.rest(SOON, now)
    }

    /// How it fares.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Since when.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// When it is to be looked at, where nobody looks right now.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Resting { until } => Some(until),
            Phase::Asking | Phase::AskingServer => None,
        }
    }

    /// What follows. An event that cannot happen in a phase changes nothing.
    #[must_use]
    pub fn step(self, event: Event, now: Instant) -> (Self, Action) {
        match (self.phase, event) {
            (Phase::Resting { .. }, Event::Carried | Event::Answered)
            | (Phase::Asking, Event::Answered) => (self.healthy(now), Action::Rest),
            (Phase::Resting { until }, Event::Due) if now >= until => {
                (Self { phase: Phase::Asking, ..self }, Action::Ask)
            }
            (Phase::Asking, Event::Unasked) => (self.rest(SOON, now), Action::Rest),
            (Phase::Asking, Event::Failed) => {
                (Self { phase: Phase::AskingServer, ..self }, Action::AskServer)
            }
            (Phase::AskingServer, Event::ServerSilent) => (self.server_down(now), Action::Rest),
            (Phase::AskingServer, Event::ServerAnswered) => self.disagreed(now),
            _ => (self, Action::Rest),
        }
    }

    fn healthy(self, now: Instant) -> Self {
        Self { silences: 0, disagreements: 0, ..self.found(Verdict::Healthy, now) }.rest(EVERY, now)
    }

    fn server_down(self, now: Instant) -> Self {
        let wait = doubled(EVERY, self.silences).min(LONGEST_WHILE_DOWN);
        let silences = self.silences.saturating_add(1);
        Self { silences, disagreements: 0, ..self.found(Verdict::ServerDown, now) }.rest(wait, now)
    }

    fn disagreed(self, now: Instant) -> (Self, Action) {
        let disagreements = self.disagreements.saturating_add(1);
        let next = Self { silences: 0, disagreements, ..self };
        if disagreements < BROKEN_FROM {
            return (next.rest(SOON, now), Action::Rest);
        }
        let next = next.found(Verdict::Broken, now);
        if disagreements < REPLACED_FROM {
            return (next.rest(SOON, now), Action::Refresh);
        }
        let replaced_before = disagreements - REPLACED_FROM;
        let wait = doubled(AFTER_REPLACEMENT, replaced_before).min(LONGEST_AFTER_REPLACEMENT);
        (next.rest(wait, now), Action::Replace)
    }

    fn found(self, verdict: Verdict, now: Instant) -> Self {
        let since = if verdict == self.verdict { self.since } else { now };
        Self { verdict, since, ..self }
    }

    /// Rests for `wait` and up to a quarter more.
    fn rest(self, wait: Duration, now: Instant) -> Self {
        let mut seed = self.seed;
        // Marsaglia's xorshift: chance enough to keep tunnels apart.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let quarters = u32::try_from(seed % 256).unwrap_or_default();
        let until = now + wait + wait / 4 * quarters / 256;
        Self { phase: Phase::Resting { until }, seed, ..self }
    }
}

fn doubled(wait: Duration, times: u32) -> Duration {
    wait.saturating_mul(2_u32.saturating_pow(times))
}

/// How many calls the tunnels of a node may make.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    /// A handshake and an answer cost a millisecond of processor time on either side.
    const PER_SECOND: u32 = 4;
    /// After a while in which none was made.
    const MOST: u32 = 8;

    /// Full.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { left: Self::MOST, since: now }
    }

    /// Whether another call may be made now; then it is counted.
    pub fn take(&mut self, now: Instant) -> bool {
        let earned =
            now.duration_since(self.since).as_millis() * u128::from(Self::PER_SECOND) / 1000;
        if let Ok(earned @ 1..) = u32::try_from(earned) {
            self.since += Duration::from_secs(1) / Self::PER_SECOND * earned;
            self.left = self.left.saturating_add(earned).min(Self::MOST);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// Takes what follows one look, each time once its rest is over. Answers the actions but `Ask` and `Rest`.
    fn looks(health: &mut Health, now: &mut Instant, outcomes: &[Event]) -> Vec<Action> {
        let mut actions = Vec::new();
        for outcome in outcomes {
            if health.due().is_some() {
                *now += LONG;
                let (asking, action) = health.step(Event::Due, *now);
                assert_eq!(action, Action::Ask);
                *health = asking;
            }
            let action;
            (*health, action) = health.step(*outcome, *now);
            actions.extend((action != Action::Rest).then_some(action));
        }
        actions
    }

    fn rest(health: &Health, now: Instant) -> Duration {
        health.due().unwrap() - now
    }

    #[test]
    fn a_server_that_is_down_is_never_repaired_and_asked_less_and_less_often() {
        let mut now = Instant::now();
        let mut health = Health::new(7, now);
        let mut rests = Vec::new();
        for _ in 0..7 {
            let actions = looks(&mut health, &mut now, &[Event::Failed, Event::ServerSilent]);
            assert_eq!(actions, [Action::AskServer]);
            assert_eq!(health.verdict(), Verdict::ServerDown);
            rests.push(rest(&health, now));
        }
        for (rest, seconds) in rests.iter().zip([5, 10, 20, 40, 60, 60, 60]) {
            let least = Duration::from_secs(seconds);
            assert!((least..least * 5 / 4).contains(rest), "{rests:?}");
        }
        looks(&mut health, &mut now, &[Event::Answered]);
        assert_eq!(health.verdict(), Verdict::Healthy);
        assert!(rest(&health, now) < 2 * EVERY);
    }

    #[test]
    fn a_tunnel_whose_server_answers_the_watchdog_is_refreshed_and_then_its_process_replaced() {
        let mut now = Instant::now();
        let mut health = Health::new(7, now);
        let disagree = [Event::Failed, Event::ServerAnswered];
        let mut repairs = Vec::new();
        for _ in 0..6 {
            let actions = looks(&mut health, &mut now, &disagree);
            repairs.push((actions.get(1).copied(), health.verdict(), rest(&health, now)));
        }
        let shown: Vec<_> =
            repairs.iter().map(|(action, verdict, _)| (*action, *verdict)).collect();
        let (refresh, replace) = (Some(Action::Refresh), Some(Action::Replace));
        assert_eq!(
            shown,
            [
                (None, Verdict::Unknown),
                (refresh, Verdict::Broken),
                (refresh, Verdict::Broken),
                (replace, Verdict::Broken),
                (replace, Verdict::Broken),
                (replace, Verdict::Broken)
            ]
        );
        assert!(repairs[1].2 < 2 * SOON, "{repairs:?}");
        assert!(repairs[4].2 >= 2 * AFTER_REPLACEMENT, "{repairs:?}");
        looks(&mut health, &mut now, &[Event::Answered]);
        assert_eq!(health.verdict(), Verdict::Healthy);
        assert_eq!(looks(&mut health, &mut now, &disagree), [Action::AskServer], "it counts anew");
    }

    #[test]
    fn one_answer_to_the_watchdog_alone_is_chance() {
        let mut now = Instant::now();
        let mut health = Health::new(7, now);
        for _ in 0..10 {
            let actions = looks(
                &mut health,
                &mut now,
                &[Event::Failed, Event::ServerAnswered, Event::Failed, Event::ServerSilent],
            );
            assert_eq!(actions, [Action::AskServer; 2]);
        }
    }

    #[test]
    fn bytes_from_the_server_are_proof_and_put_the_next_call_off() {
        let now = Instant::now();
        let health = Health::new(7, now);
        let later = now + LONG;
        let (health, action) = health.step(Event::Carried, later);
        assert_eq!(
            (health.verdict(), health.since(), action),
            (Verdict::Healthy, later, Action::Rest)
        );
        assert_eq!(health.step(Event::Due, later), (health, Action::Rest), "it is not due yet");
        let (again, _) = health.step(Event::Carried, later + LONG);
        assert_eq!(again.since(), later, "nothing has changed");
    }

    #[test]
    fn a_process_that_cannot_be_asked_says_nothing_about_the_tunnel() {
        let mut now = Instant::now();
        let mut health = Health::new(7, now);
        looks(&mut health, &mut now, &[Event::Answered, Event::Unasked]);
        assert_eq!(health.verdict(), Verdict::Healthy);
        assert_eq!(health.step(Event::Failed, now), (health, Action::Rest), "nobody has asked");
    }

    #[test]
    fn tunnels_that_begin_together_do_not_stay_together() {
        let now = Instant::now();
        let due = |seed| Health::new(seed, now).healthy(now).due();
        let dues: std::collections::BTreeSet<_> = (0..64).map(due).collect();
        assert!(dues.len() > 32, "{dues:?}");
    }

    #[test]
    fn a_thousand_tunnels_share_a_few_calls_a_second() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let taken_in = |budget: &mut Budget, tenths: std::ops::Range<u32>| {
            let times = tenths.flat_map(|tenth| [start + Duration::from_millis(100) * tenth; 1000]);
            times.filter(|now| budget.take(*now)).count()
        };
        assert_eq!(taken_in(&mut budget, 0..100), 8 + 39);
        assert_eq!(taken_in(&mut budget, 10_000..10_010), 8 + 3, "no more is saved up");
    }
}
