//! What has been said already: a pure function of what is to be said and when.
//!
//! ```text
//! never, or forgotten by the API server      -> said
//! said within five minutes                   -> counted
//! said longer ago                            -> said that it goes on, with the count
//! ```

use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use crate::kubernetes::event::About;
use crate::kubernetes::event::Report;
use crate::kubernetes::reason::Reason;

/// Within this the same is not said again.
pub const QUIET: Duration = Duration::from_secs(5 * 60);
/// The API server keeps an event for an hour (kube-apiserver, `--event-ttl`): after that it is a new one.
const FORGOTTEN: Duration = Duration::from_secs(55 * 60);
/// Things that are remembered: a node with as many different troubles has others.
const MOST: usize = 4096;

/// What to do with something that is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Say it.
    Say,
    /// Say that it has happened so often by now.
    Again {
        /// How often.
        count: i32,
    },
    /// It has just been said.
    Quiet,
}

/// Remembers what was said.
#[derive(Debug, Default)]
pub struct Book(HashMap<(About, Reason), Said>);

#[derive(Clone, Copy, Debug)]
struct Said {
    at: Instant,
    count: i32,
}

impl Book {
    /// What is to be done with a report at `now`; taken note of as done.
    pub fn next(&mut self, report: &Report, now: Instant) -> Next {
        let age = |said: &Said| now.saturating_duration_since(said.at);
        if self.0.len() >= MOST {
            self.0.retain(|_, said| age(said) < QUIET);
        }
        let key = (report.about.clone(), report.reason);
        match self.0.get_mut(&key) {
            Some(said) if age(said) < QUIET => {
                said.count = said.count.saturating_add(1);
                Next::Quiet
            }
            Some(said) if age(said) < FORGOTTEN => {
                *said = Said { at: now, count: said.count.saturating_add(1) };
                Next::Again { count: said.count }
            }
            _ => {
                if self.0.len() < MOST {
                    self.0.insert(key, Said { at: now, count: 1 });
                }
                Next::Say
            }
        }
    }

    /// It could not be said: the next time it is said anew.
    pub fn forget(&mut self, report: &Report) {
        self.0.remove(&(report.about.clone(), report.reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str, reason: Reason) -> Report {
        Report { about: About::node(name), reason, message: String::new() }
    }

    #[test]
    fn the_same_is_said_once_then_counted_then_said_to_go_on() {
        let mut book = Book::default();
        let start = Instant::now();
        let trouble = report("n", Reason::AccessDenied);
        let seconds = |seconds| start + Duration::from_secs(seconds);
        for (at, next) in [
            (0, Next::Say),
            (1, Next::Quiet),
            (299, Next::Quiet),
            (300, Next::Again { count: 4 }),
            (301, Next::Quiet),
            (300 + 3300, Next::Say),
        ] {
            assert_eq!(book.next(&trouble, seconds(at)), next, "after {at} s");
        }
    }

    #[test]
    fn another_reason_or_object_is_another_thing_to_say() {
        let mut book = Book::default();
        let now = Instant::now();
        for trouble in [
            report("n", Reason::AccessDenied),
            report("n", Reason::MountFailed),
            report("m", Reason::AccessDenied),
        ] {
            assert_eq!(book.next(&trouble, now), Next::Say);
        }
        book.forget(&report("n", Reason::MountFailed));
        assert_eq!(book.next(&report("n", Reason::MountFailed), now), Next::Say);
    }

    #[test]
    fn memory_is_bounded_whatever_is_said() {
        let mut book = Book::default();
        let now = Instant::now();
        for number in 0..2 * MOST {
            book.next(&report(&number.to_string(), Reason::MountFailed), now);
        }
        assert_eq!(book.0.len(), MOST);
        let later = now + QUIET;
        book.next(&report("later", Reason::MountFailed), later);
        assert_eq!(book.0.len(), 1, "what is old makes room");
    }
}
