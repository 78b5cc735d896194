//! Says things in the background: never waited for, at a bounded rate, and dropped where nobody takes them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Event;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::kubernetes::book::Book;
use crate::kubernetes::book::Next;
use crate::kubernetes::event::Report;
use crate::kubernetes::event::Source;
use crate::kubernetes::fault::KubernetesFault;
use crate::runtime::Clock;
use crate::runtime::Moment;

/// Things that wait to be said. A mount target with more claims than that is said on some of them.
const QUEUE: usize = 1024;
/// Between two events: five a second, as client-go has it.
const PACE: Duration = Duration::from_millis(200);
/// Before each further attempt.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Takes events.
#[async_trait]
pub trait EventSink: Send + Sync + fmt::Debug {
    /// Takes a new one.
    ///
    /// # Errors
    /// Also where one of that name is there already.
    async fn create(&self, event: &Event) -> Result<(), KubernetesFault>;

    /// Takes note that what an event says has happened again.
    ///
    /// # Errors
    /// Also where it is there no longer.
    async fn repeat(&self, event: &Event) -> Result<(), KubernetesFault>;
}

/// What became of everything that was to be said.
#[derive(Debug, Default)]
pub struct Counts {
    said: AtomicU64,
    repeated: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Each outcome with its word.
    #[must_use]
    pub fn by_outcome(&self) -> [(&'static str, u64); 3] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("said", read(&self.said)),
            ("repeated", read(&self.repeated)),
            ("dropped", read(&self.dropped)),
        ]
    }
}

/// Where things are said. A clone says them in the same place.
#[derive(Clone, Debug, Default)]
pub struct Reporter {
    queue: Option<mpsc::Sender<Report>>,
    counts: Arc<Counts>,
}

impl Reporter {
    /// Says nothing: outside of a cluster, or where nobody wants to hear it.
    #[must_use]
    pub fn silent() -> Self {
        Self::default()
    }

    /// Says things to `sink` until the last clone is dropped, by the future that is returned.
    pub fn to(
        sink: Arc<dyn EventSink>,
        source: Source,
        clock: Arc<dyn Clock>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, said) = mpsc::channel(QUEUE);
        let counts = Arc::<Counts>::default();
        let voice =
            Voice { sink, source, clock, book: Book::default(), counts: Arc::clone(&counts) };
        (Self { queue: Some(queue), counts }, voice.speak(said))
    }

    /// Has something said. Never waits: where too much waits already, it is dropped.
    pub fn report(&self, report: Report) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(report).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of what was to be said.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

struct Voice {
    sink: Arc<dyn EventSink>,
    source: Source,
    clock: Arc<dyn Clock>,
    book: Book,
    counts: Arc<Counts>,
}

impl Voice {
    async fn speak(mut self, mut queue: mpsc::Receiver<Report>) {
        while let Some(report) = queue.recv().await {
            let now = self.clock.now();
            let outcome = match self.book.next(&report, now.steady) {
                Next::Quiet => {
                    self.counts.repeated.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Next::Say => self.say(&report, now).await,
                Next::Again { count } => self.say_again(&report, count, now).await,
            };
            self.note(&report, outcome);
            sleep(PACE).await;
        }
    }

    fn note(&mut self, report: &Report, outcome: Result<(), KubernetesFault>) {
        let Report { about, reason, message } = report;
        let count = match outcome {
            Ok(()) => &self.counts.said,
            Err(fault) => {
                // The log has it, whoever else does not take it.
                tracing::warn!(%about, ?reason, message, error = %fault, "an event was dropped");
                self.book.forget(report);
                &self.counts.dropped
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    async fn say(&self, report: &Report, now: Moment) -> Result<(), KubernetesFault> {
        let event = self.source.event(report, now);
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.sink.create(&event).await {
                // This process in an earlier life, or the other replica, has said it.
                Err(fault) if fault.is_conflict() => return Ok(()),
                Err(fault) if fault.may_pass() => match pauses.next() {
                    Some(pause) => sleep(pause).await,
                    None => return Err(fault),
                },
                outcome => return outcome,
            }
        }
    }

    async fn say_again(
        &self,
        report: &Report,
        count: i32,
        now: Moment,
    ) -> Result<(), KubernetesFault> {
        let event = Event { count: Some(count), ..self.source.event(report, now) };
        match self.sink.repeat(&event).await {
            Err(fault) if fault.is_not_found() => self.say(report, now).await,
            outcome => outcome,
        }
    }
}

/// Keeps what was said, and fails as a test wants it.
#[cfg(test)]
pub(crate) mod fake {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::runtime::SystemClock;

    #[derive(Debug, Default)]
    pub(crate) struct FakeSink {
        pub(crate) faults: Mutex<VecDeque<KubernetesFault>>,
        pub(crate) events: Mutex<Vec<Event>>,
    }

    impl FakeSink {
        /// A reporter that tells this sink.
        pub(crate) fn reporter(self: &Arc<Self>) -> Reporter {
            let sink: Arc<dyn EventSink> = Arc::<Self>::clone(self);
            let source = Source { component: "d".to_owned(), instance: "n".to_owned() };
            let (reporter, speaking) = Reporter::to(sink, source, Arc::new(SystemClock));
            tokio::spawn(speaking);
            reporter
        }

        /// Every event as `kind name reason count: message`.
        pub(crate) fn said(&self) -> Vec<String> {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let line = |event: &Event| {
                let Event { involved_object: about, reason, count, message, .. } = event;
                format!(
                    "{} {} {} {}: {}",
                    text(&about.kind),
                    text(&about.name),
                    text(reason),
                    count.unwrap_or_default(),
                    text(message)
                )
            };
            self.events.lock().unwrap().iter().map(line).collect()
        }
    }

    #[async_trait]
    impl EventSink for FakeSink {
        async fn create(&self, event: &Event) -> Result<(), KubernetesFault> {
            if let Some(fault) = self.faults.lock().unwrap().pop_front() {
                return Err(fault);
            }
            self.events.lock().unwrap().push(event.clone());
            Ok(())
        }

        async fn repeat(&self, event: &Event) -> Result<(), KubernetesFault> {
            self.create(event).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeSink;
    use super::*;
    use crate::kubernetes::event::About;
    use crate::kubernetes::reason::Reason;

    fn report(name: &str) -> Report {
        let message = "the sentence".to_owned();
        Report { about: About::claim("shop", name, "u"), reason: Reason::AccessDenied, message }
    }

    fn refused(code: u16) -> KubernetesFault {
        KubernetesFault::Refused { action: "create an event", code, why: String::new() }
    }

    /// Time is paused: everything that can be said has been.
    async fn settle() {
        sleep(Duration::from_secs(60)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn something_is_said_once_however_often_it_happens() {
        let sink = Arc::<FakeSink>::default();
        let reporter = sink.reporter();
        for _ in 0..10 {
            reporter.report(report("data"));
        }
        settle().await;
        assert_eq!(sink.said(), ["PersistentVolumeClaim data AccessDenied 1: the sentence"]);
        assert_eq!(reporter.counts().by_outcome(), [("said", 1), ("repeated", 9), ("dropped", 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_away_for_a_moment_is_told_and_one_that_stays_away_is_not() {
        let sink = Arc::<FakeSink>::default();
        let reporter = sink.reporter();
        sink.faults.lock().unwrap().extend([refused(503), refused(429)]);
        reporter.report(report("a"));
        settle().await;
        assert_eq!(sink.said().len(), 1);
        sink.faults.lock().unwrap().extend([refused(503), refused(503), refused(503)]);
        reporter.report(report("b"));
        settle().await;
        assert_eq!(reporter.counts().by_outcome(), [("said", 1), ("repeated", 0), ("dropped", 1)]);
        reporter.report(report("b"));
        settle().await;
        assert_eq!(sink.said().len(), 2, "what was dropped is said when it happens again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_other_replica_has_said_is_said() {
        let sink = Arc::<FakeSink>::default();
        let reporter = sink.reporter();
        sink.faults.lock().unwrap().push_back(refused(409));
        reporter.report(report("a"));
        settle().await;
        assert_eq!(reporter.counts().by_outcome()[0], ("said", 1));
        assert!(sink.said().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_ever_waits_and_a_flood_is_dropped() {
        let sink = Arc::<FakeSink>::default();
        let reporter = sink.reporter();
        for number in 0..QUEUE + 100 {
            reporter.report(report(&number.to_string()));
        }
        let [_, _, (_, dropped)] = reporter.counts().by_outcome();
        assert_eq!(dropped, 100);
        sleep(Duration::from_secs(2)).await;
        assert!(sink.said().len() <= 11, "{} in two seconds", sink.said().len());
        Reporter::silent().report(report("nobody hears it"));
    }
}
