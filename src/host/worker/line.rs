//! Who gets the next free process: a pure value, so that it is tested without one.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::oneshot;

/// Those who wait for a process of kind `P`, and the processes that wait for work.
///
/// At most one process is being started, and only while somebody waits: a job that ends soon frees its process for
/// the next in line before that, so that many short jobs share a few processes. Jobs that do not end have a process
/// each, and those behind them get new ones; there is no limit that a silent server could use up.
#[derive(Debug)]
pub(super) struct Line<P> {
    waiting: VecDeque<oneshot::Sender<io::Result<P>>>,
    /// The one that was busy last is at the end, and is taken first: the others grow old.
    idle: Vec<(P, Instant)>,
    starting: bool,
}

/// What somebody who wants a process gets.
#[derive(Debug)]
pub(super) enum Taken<P> {
    /// One.
    Now(P),
    /// A place in the line.
    Later(oneshot::Receiver<io::Result<P>>),
}

impl<P> Default for Line<P> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), idle: Vec::new(), starting: false }
    }
}

impl<P> Line<P> {
    /// Takes a process, or a place in the line.
    pub(super) fn take(&mut self) -> Taken<P> {
        if let Some((process, _)) = self.idle.pop() {
            return Taken::Now(process);
        }
        let (turn, come) = oneshot::channel();
        self.waiting.push_back(turn);
        Taken::Later(come)
    }

    /// Whether a process is to be started now. Who is told so starts one and calls [`Self::started`].
    pub(super) fn wants_start(&mut self) -> bool {
        self.waiting.retain(|turn| !turn.is_closed());
        let wants = !self.starting && !self.waiting.is_empty();
        self.starting |= wants;
        wants
    }

    /// A start has ended. Where it failed, the first in line is told why.
    pub(super) fn started(&mut self, outcome: io::Result<P>, now: Instant) {
        self.starting = false;
        match outcome {
            Ok(process) => self.free(process, now),
            Err(error) => {
                if let Some(turn) = self.waiting.pop_front() {
                    // Whoever does not wait any more need not know.
                    let _ = turn.send(Err(error));
                }
            }
        }
    }

    /// A process can do the next job.
    pub(super) fn free(&mut self, mut process: P, now: Instant) {
        while let Some(turn) = self.waiting.pop_front() {
            match turn.send(Ok(process)) {
                Ok(()) => return,
                Err(Ok(unwanted)) => process = unwanted,
                Err(Err(_)) => return,
            }
        }
        self.idle.push((process, now));
    }

    /// Takes those out that had nothing to do for so long.
    pub(super) fn dismiss(&mut self, idle: Duration, now: Instant) -> Vec<P> {
        let is_young = |(_, since): &(P, Instant)| now.saturating_duration_since(*since) < idle;
        let (young, old) = std::mem::take(&mut self.idle).into_iter().partition(is_young);
        self.idle = young;
        old.into_iter().map(|(process, _): (P, Instant)| process).collect()
    }

    /// Whether any process has nothing to do.
    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(5);

    type Turn = oneshot::Receiver<io::Result<u32>>;

    fn wait(line: &mut Line<u32>) -> Turn {
        match line.take() {
            Taken::Later(turn) => turn,
            Taken::Now(process) => panic!("{process} was free"),
        }
    }

    fn come(turn: &mut Turn) -> Option<u32> {
        turn.try_recv().ok().map(Result::unwrap)
    }

    #[test]
    fn jobs_that_end_share_the_one_process_that_was_started_for_the_first() {
        let (mut line, now) = (Line::default(), Instant::now());
        let mut turns: Vec<_> = (0..200).map(|_| wait(&mut line)).collect();
        assert!(line.wants_start() && !line.wants_start(), "one at a time");
        line.started(Ok(1), now);
        for turn in &mut turns {
            assert_eq!(come(turn), Some(1));
            line.free(1, now);
        }
        assert!(!line.wants_start());
        assert!(matches!(line.take(), Taken::Now(1)));
    }

    #[test]
    fn behind_a_job_that_does_not_end_another_process_is_started() {
        let (mut line, now) = (Line::default(), Instant::now());
        let (mut first, mut second) = (wait(&mut line), wait(&mut line));
        assert!(line.wants_start());
        line.started(Ok(1), now);
        assert!(line.wants_start());
        line.started(Ok(2), now);
        assert_eq!((come(&mut first), come(&mut second)), (Some(1), Some(2)));
    }

    #[test]
    fn who_does_not_wait_any_more_is_passed_over_and_nothing_is_started_for_him() {
        let (mut line, now) = (Line::default(), Instant::now());
        drop(wait(&mut line));
        assert!(!line.wants_start());
        let gone = wait(&mut line);
        let mut patient = wait(&mut line);
        assert!(line.wants_start());
        drop(gone);
        line.started(Ok(1), now);
        assert_eq!(come(&mut patient), Some(1));
    }

    #[test]
    fn a_start_that_fails_is_told_to_the_first_and_tried_again_for_the_next() {
        let (mut line, now) = (Line::default(), Instant::now());
        let (mut first, mut second) = (wait(&mut line), wait(&mut line));
        assert!(line.wants_start());
        line.started(Err(io::ErrorKind::OutOfMemory.into()), now);
        assert!(first.try_recv().unwrap().is_err());
        assert!(line.wants_start());
        line.started(Ok(1), now);
        assert_eq!(come(&mut second), Some(1));
    }

    #[test]
    fn the_one_that_was_busy_last_is_taken_first_and_the_others_are_dismissed_in_time() {
        let (mut line, now) = (Line::default(), Instant::now());
        line.free(1, now);
        line.free(2, now + IDLE / 2);
        assert!(line.dismiss(IDLE, now + IDLE / 2).is_empty());
        assert_eq!(line.dismiss(IDLE, now + IDLE), [1]);
        assert!(line.has_idle());
        assert!(matches!(line.take(), Taken::Now(2)));
        assert!(!line.has_idle());
    }
}
