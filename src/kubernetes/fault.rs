//! Why the API server did not do what it was asked for.

use std::time::Duration;

use kube::Error;

use crate::runtime::Chain;

/// A call of the API server has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubernetesFault {
    /// No answer.
    #[error("failed to {action}: the API server did not answer within {} s", .deadline.as_secs())]
    Late {
        /// What was asked.
        action: &'static str,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The service account lacks a right.
    #[error("failed to {action}: {why}; the chart grants this right with the value that needs it")]
    Forbidden {
        /// What was asked.
        action: &'static str,
        /// The server's words.
        why: String,
    },
    /// It refuses for another reason.
    #[error("failed to {action}: {why} (HTTP {code})")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// Of HTTP.
        code: u16,
        /// The server's words.
        why: String,
    },
    /// There was no conversation.
    #[error("failed to {action}: {why}")]
    Unreached {
        /// What was asked.
        action: &'static str,
        /// In the words of the library.
        why: String,
    },
}

impl KubernetesFault {
    pub(super) fn of(action: &'static str, error: &Error) -> Self {
        match error {
            Error::Api(status) if matches!(status.code, 401 | 403) => {
                Self::Forbidden { action, why: status.message.clone() }
            }
            Error::Api(status) => {
                Self::Refused { action, code: status.code, why: status.message.clone() }
            }
            error => Self::Unreached { action, why: Chain(error).to_string() },
        }
    }

    /// The object exists already, or was changed meanwhile.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, .. })
    }

    /// There is no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// Whether the same may succeed a little later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Late { .. } | Self::Unreached { .. } => true,
            Self::Refused { code, .. } => *code == 429 || *code >= 500,
            Self::Forbidden { .. } => false,
        }
    }
}
