//! What was tried, for the log: every question and every answer, each with its time.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::model::NfsVersion;

/// A mount in the background is tried for a week; so many of the first trials are kept, and as many of the last.
const KEPT: usize = 64;

/// Everything that was tried for one mount, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    first: Vec<Trial>,
    last: VecDeque<Trial>,
    left_out: usize,
}

/// One question and its answer. Its text is one line and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The round, from 1: the server is tried with every version and address once in each.
    pub round: u32,
    /// The NFS version that it was for, where it was for one.
    pub version: Option<NfsVersion>,
    /// What was tried, with its options.
    pub question: String,
    /// What came of it.
    pub answer: String,
    /// How long it took.
    pub took: Duration,
}

impl History {
    /// Every trial that was kept, oldest first.
    pub fn trials(&self) -> impl Iterator<Item = &Trial> {
        self.first.iter().chain(&self.last)
    }

    /// How many trials were not kept, between the first and the last ones.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub(super) fn add(&mut self, trial: Trial) {
        if self.first.len() < KEPT {
            self.first.push(trial);
            return;
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(trial);
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}", self.round)?;
        if let Some(version) = self.version {
            write!(f, ", NFS {version}")?;
        }
        write!(f, ", {}: {} ({:.3} s)", self.question, self.answer, self.took.as_secs_f64())
    }
}

/// One line for each trial.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, trial) in self.trials().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            if place == KEPT && self.left_out > 0 {
                writeln!(f, "{} trials left out", self.left_out)?;
            }
            write!(f, "{trial}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(round: u32) -> Trial {
        Trial {
            round,
            version: Some(NfsVersion::V42),
            question: "NULL call to 192.0.2.1:2049 over tcp".to_owned(),
            answer: "connection refused".to_owned(),
            took: Duration::from_millis(1500),
        }
    }

    #[test]
    fn a_trial_is_one_line() {
        assert_eq!(
            trial(2).to_string(),
            "round 2, NFS 4.2, NULL call to 192.0.2.1:2049 over tcp: connection refused (1.500 s)"
        );
    }

    #[test]
    fn a_week_of_trials_keeps_the_first_and_the_last() {
        let mut history = History::default();
        (0..1000).for_each(|round| history.add(trial(round)));
        let rounds: Vec<_> = history.trials().map(|trial| trial.round).collect();
        assert_eq!((rounds[0], rounds[KEPT - 1], rounds[KEPT]), (0, 63, 936));
        assert_eq!((rounds.len(), history.left_out()), (2 * KEPT, 1000 - 2 * KEPT));
        let text = history.to_string();
        assert_eq!(text.lines().count(), 2 * KEPT + 1);
        assert!(text.lines().nth(KEPT).unwrap().starts_with("872 trials left out"));
    }
}
