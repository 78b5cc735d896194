//! What to do next for a mount: a pure machine without any I/O.
//!
//! The shell that drives it does each [`Step`] and hands the [`Answer`] back with the time.
//!
//! Read [`Policy::next`] first.

mod history;
mod step;

use tokio::time::Instant;

use crate::model::NfsVersion;
use crate::nfs::Attempt;
use crate::nfs::MountFault;
use crate::nfs::MountRequest;

pub use crate::host::daemon::Daemon;
pub use crate::host::daemon::Presence;
pub use crate::host::resolve::ResolveFault;
pub use crate::host::resolve::ServerAddress;
pub use history::History;
pub use history::Trial;
pub use step::Answer;
pub use step::KernelFacts;
pub use step::Mounted;
pub use step::Note;
pub use step::RpcFault;
pub use step::Service;
pub use step::Step;

/// One mount on its way.
#[derive(Debug)]
pub struct Policy {
    request: MountRequest,
    facts: KernelFacts,
}

impl Policy {
    /// A mount of which nothing was tried yet.
    #[must_use]
    pub fn new(request: MountRequest, facts: KernelFacts) -> Self {
        Self { request, facts }
    }

    /// What is to be done next, now that the last step was answered. The first answer is [`Answer::Begin`].
    ///
    /// After [`Step::Finish`] or [`Step::GiveUp`], every answer gets the same step again.
    pub fn next(&mut self, answer: Answer, now: Instant) -> Step {
        let outcome = format!("{answer:?} at {now:?} with {:?}", self.facts);
        Step::GiveUp(Box::new(MountFault::Other(Attempt {
            source: self.request.device.to_string(),
            target: self.request.target.clone(),
            version: NfsVersion::default(),
            endpoint: ([0, 0, 0, 0], 0).into(),
            outcome,
            kernel: Vec::new(),
        })))
    }
}
