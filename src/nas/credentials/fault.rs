//! Why there are no credentials: what was looked for, where, and what was wrong with it. Never a value.

use std::path::PathBuf;

use crate::nas::credentials::Origin;
use crate::nas::http::HttpFault;

/// There is nothing to sign with.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialsFault {
    /// No source is set up.
    #[error("no credentials were found ({}); what needs none goes on", looked(.0))]
    Nowhere(Vec<(Origin, String)>),
    /// A source is set up, and does not give any.
    #[error("credentials from {origin} cannot be had: {source}")]
    Unusable {
        /// Which source.
        origin: Origin,
        /// What is wrong with it. Its text is part of ours.
        source: SourceFault,
    },
    /// A source takes longer than the call may.
    #[error("no credentials came before the call's deadline")]
    Late,
}

/// Why one source gives none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceFault {
    /// It is not set up, for this reason.
    #[error("{0}")]
    Absent(String),
    /// It is set up by half.
    #[error("{set} is set, but {missing} is not")]
    Half {
        /// What there is.
        set: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// A file cannot be read.
    #[error("failed to read {path:?}: {why}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// In words of the system.
        why: String,
    },
    /// There is nothing in a file, or more than a line.
    #[error("file {0:?} must hold one line, and nothing else")]
    NotOneLine(PathBuf),
    /// A service that gives them out does not answer.
    #[error("{service} does not answer: {fault}")]
    Network {
        /// Its name.
        service: String,
        /// What happened.
        fault: HttpFault,
    },
    /// A service that gives them out refuses.
    #[error("{service} refuses: {said}{advice} (HTTP {status}, request id {request_id})")]
    Refused {
        /// Its name.
        service: String,
        /// Code and message.
        said: String,
        /// What to do.
        advice: &'static str,
        /// Of HTTP.
        status: u16,
        /// To ask the vendor with.
        request_id: String,
    },
    /// What it gave out has no time left.
    #[error("they have ended already: is this machine's clock right?")]
    Ended,
    /// Its answer makes no sense.
    #[error("the answer of {service} was not understood: {why}")]
    Strange {
        /// Its name.
        service: String,
        /// What is wrong with it.
        why: String,
    },
}

fn looked(places: &[(Origin, String)]) -> String {
    places.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("; ")
}
