//! The shell around the policy: does each [`Step`] and hands the answer back, until the mount is there or not.
//!
//! ```text
//! request ─> policy ── Step ──> network, worker, clock
//!              ^                        │
//!              └───────── Answer ───────┘
//! ```
//!
//! It decides nothing. It keeps two promises that the policy cannot: a mount that is cancelled is answered
//! within a second, and whenever the answer is an error, nothing that this mount made is left.

#[cfg(test)]
pub(crate) mod fake;
mod joined;
mod network;
mod story;
#[cfg(test)]
mod tests;
mod times;
mod underway;

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::host::kernel_options::KernelOptions;
use crate::host::mount_table::MountTable;
use crate::host::mount_table::ProcMountTable;
use crate::host::worker::ChildWorker;
use crate::host::worker::Worker;
use crate::nfs::MountFault;
use crate::nfs::MountRequest;
use crate::nfs::once;
use crate::nfs::policy::Mounted;
use crate::nfs::policy::Policy;
use crate::runtime::request::carried;

use joined::Joined;
pub use network::HostNetwork;
pub use network::Network;
pub use times::MountTimes;
use underway::Underway;

/// Makes mounts. A clone is the same engine.
///
/// Any number of mounts may be under way at once, and none waits for another: there is no lock over a mount and
/// no limit to their number, which a mount from a silent server would hold. What they have in common is asked once
/// for all who ask at the same time: what the kernel knows, and what a server answers to a NULL call. Worker processes
/// do one job after the other; one that waits for its server costs less than a megabyte (0.8 MB, measured).
#[derive(Clone, Debug)]
pub struct Engine {
    network: Arc<dyn Network>,
    worker: Arc<dyn Worker>,
    mounts: Arc<dyn MountTable>,
    kernel: KernelOptions,
    times: MountTimes,
}

/// What a mount is doing, for whoever waits for it.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The kernel is asked, with this text of options.
    Asking {
        /// As mount(8) would show them.
        options: String,
    },
    /// Something was tried and failed, in these words; what follows may succeed.
    Failed(String),
    /// `bg`: the caller need not wait any more; the mount goes on being tried.
    InBackground(Box<MountFault>),
}

impl Engine {
    /// An engine of these parts.
    #[must_use]
    pub fn new(
        network: Arc<dyn Network>,
        worker: Arc<dyn Worker>,
        mounts: Arc<dyn MountTable>,
    ) -> Self {
        let kernel = KernelOptions::new(Arc::clone(&worker));
        let network = Arc::new(Joined::new(network));
        Self { network, worker, mounts, kernel, times: MountTimes::default() }
    }

    /// The engine of this host. Its program must answer to [`crate::host::worker::ARGUMENT`].
    #[must_use]
    pub fn of_this_host() -> Self {
        Self::new(Arc::new(HostNetwork), Arc::new(ChildWorker::default()), Arc::new(ProcMountTable))
    }

    /// How long mounts took.
    #[must_use]
    pub fn times(&self) -> &MountTimes {
        &self.times
    }

    /// Mounts, for as long as the request's patience lasts. `request.target` is spelled as the kernel's mount
    /// table spells it: absolute, without links.
    ///
    /// Where `cancel` is cancelled, this returns within a second. To drop the future is to cancel too, but then
    /// nobody is told when the mount has been taken back.
    ///
    /// # Errors
    /// Says why it is not mounted. Nothing that this call made is left.
    pub async fn mount(
        &self,
        request: MountRequest,
        cancel: CancellationToken,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Mounted, MountFault> {
        let began = Instant::now();
        let cancel = cancel.child_token();
        let _cancels_when_dropped = cancel.clone().drop_guard();
        let underway = Underway::new(self.clone(), &request, cancel, Box::new(progress));
        let work = async move {
            if let Some(refusal) = underway.unknown_option().await {
                return Err(underway.give_up(once::diagnose(&refusal, &request)));
            }
            let mut policy = Policy::new(request, underway.facts().await, Instant::now());
            underway.drive(|answer, now| policy.next(answer, now)).await
        };
        match tokio::spawn(carried(work)).await {
            Ok(outcome) => {
                self.times.note(&outcome, began.elapsed());
                outcome
            }
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only the end of the runtime aborts the task, and then nobody resumes this one either.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
