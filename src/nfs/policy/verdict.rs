//! How an attempt, a round and a mount end.

use std::time::Duration;

use tokio::time::Instant;

use super::Mounted;
use super::Policy;
use super::Question;
use super::Step;
use super::patience::back_off;
use super::round::Round;
use crate::host::resolve::ServerAddress;
use crate::nfs::cause::Cause;
use crate::nfs::class::Class;
use crate::nfs::class::Finally;
use crate::nfs::class::IN_A_ROW;
use crate::nfs::diagnose::Diagnosis;
use crate::nfs::fault::GaveUp;
use crate::nfs::fault::MountFault;
use crate::nfs::fault::Subject;
use crate::nfs::probe::Peer;
use crate::nfs::request::Way;

impl Policy {
    /// Tries every version and address once more, or for the first time.
    pub(super) fn start_round(&mut self, now: Instant) -> Step {
        let number = self.round.as_ref().map_or(1, |round| round.number + 1);
        let mut round = Round::new(number, &self.versions, now);
        if let Way::Tunnel { endpoint, .. } = self.request.way {
            round.servers = Some(vec![ServerAddress::from(endpoint)]);
        }
        self.round = Some(round);
        self.proceed(now)
    }

    /// The attempt at hand is in vain: the next address or version, or the end of the round.
    pub(super) fn fail_attempt(&mut self, mut diagnosis: Diagnosis, now: Instant) -> Step {
        let Some(round) = self.round.as_mut() else { return self.fail_round(diagnosis, now) };
        diagnosis.event.version = round.attempt.as_ref().map(|attempt| attempt.version);
        if round.fail(diagnosis) { self.proceed(now) } else { self.end_round(now) }
    }

    /// No version and no address can help.
    pub(super) fn fail_round(&mut self, diagnosis: Diagnosis, now: Instant) -> Step {
        let Some(round) = self.round.as_mut() else { return self.give_up(diagnosis) };
        round.faults.push(diagnosis);
        self.end_round(now)
    }

    fn end_round(&mut self, now: Instant) -> Step {
        let Some((deciding, others)) = self.round.as_mut().and_then(Round::faults) else {
            return self.run_out(now);
        };
        let finally = deciding.class.finally;
        self.doubts = if finally == Finally::Doubtful { self.doubts + 1 } else { 0 };
        let permanent = finally == Finally::Permanent || self.doubts >= IN_A_ROW;
        let fault = self.fault(deciding, others);
        self.last_fault = Some(MountFault { permanent, ..fault.clone() });
        if permanent || self.wait_before_next_round(now).is_none() {
            return self.run_out(now);
        }
        if self.request.options.background() && !self.in_background {
            let fault = MountFault { permanent, history: self.history.clone(), ..fault };
            return self.ask(Question::Background, Step::GoToBackground(Box::new(fault)), now);
        }
        self.wait(now)
    }

    /// Waits for the next round.
    pub(super) fn wait(&mut self, now: Instant) -> Step {
        match self.wait_before_next_round(now) {
            None => self.run_out(now),
            Some(wait) if wait.is_zero() => self.start_round(now),
            Some(wait) => self.ask(Question::Wait, Step::Wait(wait), now),
        }
    }

    /// Where the last round ended for want of an answer, it was a wait already; nobody waits twice while the
    /// caller does. None where there is no time for another round.
    fn wait_before_next_round(&self, now: Instant) -> Option<Duration> {
        let round = self.round.as_ref()?;
        let wish = back_off(round.number, self.in_background);
        let timed_out = self
            .last_fault
            .as_ref()
            .is_some_and(|fault| matches!(fault.cause, Cause::NoAnswer(..)));
        let wish = if timed_out && !self.in_background {
            wish.saturating_sub(now.saturating_duration_since(round.began))
        } else {
            wish
        };
        self.clock.wait(wish, now)
    }

    /// Nothing is tried any more. Reported is what came of the round at hand, or else of the last one.
    pub(super) fn run_out(&mut self, now: Instant) -> Step {
        let version = self.round.as_ref().and_then(|round| Some(round.attempt.as_ref()?.version));
        let after = self.clock.elapsed(now);
        let of_this_round = self.round.as_mut().and_then(Round::faults);
        let fault = match (of_this_round, self.last_fault.take()) {
            (Some((deciding, others)), _) => {
                MountFault { permanent: false, ..self.fault(deciding, others) }
            }
            (None, Some(fault)) => fault,
            (None, None) => {
                let cause = Cause::NoAnswer(Peer::Nfs, Some(after));
                let mut diagnosis = Diagnosis::new(cause, Class::TEMPORARY, "");
                diagnosis.event.version = version;
                MountFault { permanent: false, ..self.fault(diagnosis, Vec::new()) }
            }
        };
        let rounds = self.round.as_ref().map_or(0, |round| round.number);
        let gave_up = (rounds > 1).then_some(GaveUp { rounds, after });
        self.end_with(MountFault { gave_up, ..fault })
    }

    /// Nothing is tried any more, for this reason alone.
    pub(super) fn give_up(&mut self, diagnosis: Diagnosis) -> Step {
        let fault = self.fault(diagnosis, Vec::new());
        self.end_with(fault)
    }

    fn end_with(&mut self, fault: MountFault) -> Step {
        let history = std::mem::take(&mut self.history);
        self.over(Step::GiveUp(Box::new(MountFault { history, ..fault })))
    }

    /// It is mounted.
    pub(super) fn finish(&mut self, mut mounted: Box<Mounted>) -> Step {
        mounted.notes = std::mem::take(&mut self.notes);
        mounted.history = std::mem::take(&mut self.history);
        self.over(Step::Finish(mounted))
    }

    fn over(&mut self, step: Step) -> Step {
        self.asked.question = Question::Nothing(step.clone());
        step
    }

    fn fault(&self, mut deciding: Diagnosis, mut others: Vec<Diagnosis>) -> MountFault {
        if deciding.cause == Cause::VersionNotServed && self.versions.len() > 1 {
            deciding.cause = Cause::NoCommonVersion(self.versions.clone());
            deciding.event.version = None;
            others.retain(|other| other.cause != Cause::VersionNotServed);
        }
        let mut told = vec![kind(&deciding)];
        let mut elsewhere = Vec::new();
        for other in others {
            if !told.contains(&kind(&other)) {
                told.push(kind(&other));
                elsewhere.push((other.cause, other.event));
            }
        }
        let subject = Subject::of(&self.request);
        MountFault { elsewhere, ..MountFault::new(deciding.cause, subject, deciding.event) }
    }
}

/// The same is not told again of every minor version.
fn kind(diagnosis: &Diagnosis) -> (&'static str, Option<bool>) {
    (diagnosis.cause.id(), diagnosis.event.version.map(|version| version.is_4()))
}
