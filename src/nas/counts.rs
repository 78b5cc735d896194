//! Calls of the API, counted by what came of each attempt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::nas::action::Action;
use crate::nas::fault::NasCause;
use crate::nas::refusal::Kind;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The service has done it.
    Ok,
    /// The service says: too often.
    Throttled,
    /// The service refuses it for another reason.
    Refused,
    /// It was not sent, because its turn would have come too late.
    Crowded,
    /// No answer that can be understood, or nothing to sign with.
    Failed,
}

impl Outcome {
    /// In every place the same.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Crowded => "crowded",
            Self::Failed => "failed",
        }
    }

    pub(super) fn of(cause: &NasCause) -> Self {
        match cause {
            NasCause::Refused(refusal) if refusal.kind == Kind::Throttled => Self::Throttled,
            NasCause::Refused(_) => Self::Refused,
            NasCause::Crowded { .. } => Self::Crowded,
            NasCause::Credentials(_)
            | NasCause::Unreached(_)
            | NasCause::Unanswered(_)
            | NasCause::Strange { .. }
            | NasCause::Unsendable(_) => Self::Failed,
        }
    }
}

/// Attempts by call and outcome. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct NasCounts(Arc<Mutex<BTreeMap<(&'static str, Outcome), u64>>>);

impl NasCounts {
    /// Those that there were.
    #[must_use]
    pub fn all(&self) -> Vec<((&'static str, Outcome), u64)> {
        self.lock().iter().map(|(key, count)| (*key, *count)).collect()
    }

    pub(super) fn note(&self, action: Action, outcome: Outcome) {
        *self.lock().entry((action.name(), outcome)).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(&'static str, Outcome), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
