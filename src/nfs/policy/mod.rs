//! What to do next for a mount: a pure machine without any I/O.
//!
//! The shell that drives it does each [`Step`] and hands the [`Answer`] back with the time.
//!
//! ```text
//!            ┌──────────────────────── round ─────────────────────────────┐
//! Begin ───> target, daemons, addresses ─> attempt: version and address ──┼─> mounted ─────────> Finish
//!            ^                              ports, NULL calls, own address│
//!            │                              statd, kernel                 ├─> all failed
//!            │                                ^            │ failed       │     │ permanent, or time is over
//!            │                                └── next one ┘              │     ├──────────────> GiveUp
//!            └────────────────────────────────────────────────────────────┘     │ temporary
//!            ^                                                                  v
//!            └───────────────── Wait <───────── GoToBackground (bg, once) <─────┘
//! ```
//!
//! Within a round, the machine asks for the first thing that it needs and does not know. Through a tunnel there
//! is only one version and one address, and nothing is asked but the kernel. [`Answer::Cancelled`] leads to
//! [`Step::GiveUp`] from everywhere.
//!
//! Read [`Policy::next`] first, then `Policy::proceed`.

pub(in crate::nfs) mod job;
mod learn;
mod patience;
mod proceed;
mod round;
mod search;
mod step;
mod there;
mod told;
mod verdict;

#[cfg(test)]
pub(in crate::nfs) mod tests;

use std::time::Duration;

use tokio::time::Instant;

use self::job::Endpoint;
use self::patience::Clock;
use self::round::Round;
use crate::model::NfsVersion;
use crate::nfs::cause::Cause;
use crate::nfs::class::Class;
use crate::nfs::diagnose::Diagnosis;
use crate::nfs::fault::MountFault;
use crate::nfs::request::MountRequest;

pub use crate::host::daemon::Daemon;
pub use crate::host::daemon::Presence;
pub use crate::host::resolve::ResolveFault;
pub use crate::host::resolve::ServerAddress;
pub use crate::nfs::history::History;
pub use crate::nfs::history::Trial;
pub use crate::nfs::probe::Export;
pub use crate::nfs::probe::Flavour;
pub use crate::nfs::probe::RpcFault;
pub use crate::nfs::probe::Service;
pub use step::Answer;
pub use step::KernelFacts;
pub use step::Mounted;
pub use step::Note;
pub use step::Step;

/// For the resolver.
const RESOLVE: Duration = Duration::from_secs(10);
/// For opening a directory.
const TARGET: Duration = Duration::from_secs(10);
/// For a call over TCP, connecting included.
const CALL_OVER_TCP: Duration = Duration::from_secs(10);
/// For a call over UDP, sent again every second.
const CALL_OVER_UDP: Duration = Duration::from_secs(3);
/// For the kernel. The server answered just before; where it also has to ask its own mountd, that takes a minute
/// at worst. By itself the kernel would try for three.
const KERNEL: Duration = Duration::from_secs(90);

/// One mount on its way.
#[derive(Debug)]
pub struct Policy {
    request: MountRequest,
    facts: KernelFacts,
    versions: Vec<NfsVersion>,
    clock: Clock,
    round: Option<Round>,
    asked: Asked,
    in_background: bool,
    /// Failures in a row that may pass.
    doubts: u32,
    /// A mount that was killed may still come to be, half.
    was_killed: bool,
    /// What the last round that is over ended with.
    last_fault: Option<MountFault>,
    notes: Vec<Note>,
    history: History,
}

/// What the next answer is to.
#[derive(Debug)]
struct Asked {
    question: Question,
    /// As in the history; empty for what is no question.
    text: String,
    since: Instant,
}

#[derive(Debug)]
enum Question {
    Begin,
    Target,
    Daemon(Daemon),
    Servers,
    MountHosts,
    Source(ServerAddress),
    NfsPort,
    NfsPing,
    MountPort,
    MountPing,
    /// Whether NFSv4 is up by now.
    PingAgain,
    Kernel(Box<Mounted>),
    /// Whether the flavour was what failed.
    Export(Box<Diagnosis>),
    /// Whether what the kernel found at the target is what we want there.
    TargetTable(Box<Mounted>, Box<Diagnosis>),
    Background,
    Wait,
    /// The last step.
    Nothing(Step),
}

/// What an answer leads to.
enum Learned {
    /// Something is known now.
    Fact,
    /// The attempt at hand is in vain.
    AttemptFailed(Diagnosis),
    /// The round is in vain, whatever the version and the address.
    RoundFailed(Diagnosis),
    /// The kernel's refusal may be about the flavour, which this mountd knows.
    FlavourInDoubt(Box<Diagnosis>, Endpoint),
    /// Something else has to be known first.
    Step(Question, Step),
    /// The caller knows that the round is over.
    RoundOver,
    /// It is time for the next round.
    NextRound,
    /// It is mounted.
    Mounted(Box<Mounted>),
}

impl Policy {
    /// A mount of which nothing was tried yet.
    #[must_use]
    pub fn new(request: MountRequest, facts: KernelFacts, now: Instant) -> Self {
        let versions = round::versions(&request.options, request.start);
        let clock = Clock::new(request.patience, &request.options, now);
        Self {
            request,
            facts,
            versions,
            clock,
            round: None,
            asked: Asked { question: Question::Begin, text: String::new(), since: now },
            in_background: false,
            doubts: 0,
            was_killed: false,
            last_fault: None,
            notes: Vec::new(),
            history: History::default(),
        }
    }

    /// What is to be done next, now that the last step was answered. The first answer is [`Answer::Begin`].
    ///
    /// After [`Step::Finish`] or [`Step::GiveUp`], every answer gets the same step again.
    pub fn next(&mut self, answer: Answer, now: Instant) -> Step {
        if let Question::Nothing(step) = &self.asked.question {
            return step.clone();
        }
        self.remember(&answer, now);
        if matches!(answer, Answer::Cancelled) {
            return self.give_up(Diagnosis::new(Cause::Cancelled, Class::PERMANENT, ""));
        }
        let took = now.saturating_duration_since(self.asked.since);
        let asked = std::mem::take(&mut self.asked.text);
        let question = std::mem::replace(&mut self.asked.question, Question::Begin);
        match self.learn(question, answer, &asked, took) {
            Learned::Fact => self.proceed(now),
            Learned::AttemptFailed(diagnosis) => self.fail_attempt(diagnosis, now),
            Learned::RoundFailed(diagnosis) => self.fail_round(diagnosis, now),
            Learned::FlavourInDoubt(diagnosis, mountd) => {
                let step = self.ask_export(mountd, now);
                self.ask(Question::Export(diagnosis), step, now)
            }
            Learned::Step(question, step) => self.ask(question, step, now),
            Learned::RoundOver => self.wait(now),
            Learned::NextRound => self.start_round(now),
            Learned::Mounted(mounted) => self.finish(mounted),
        }
    }

    /// Everything that was tried so far.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    fn ask(&mut self, question: Question, step: Step, now: Instant) -> Step {
        let text = step.question().unwrap_or_default();
        self.asked = Asked { question, text, since: now };
        step
    }

    fn remember(&mut self, answer: &Answer, now: Instant) {
        if self.asked.text.is_empty() {
            return;
        }
        let round = self.round.as_ref();
        self.history.add(Trial {
            round: round.map_or(0, |round| round.number),
            version: round.and_then(|round| Some(round.attempt.as_ref()?.version)),
            question: self.asked.text.clone(),
            answer: answer.told(),
            took: now.saturating_duration_since(self.asked.since),
        });
    }
}
