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

mod network;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::host::mount_table::MountTable;
use crate::host::mount_table::ProcMountTable;
use crate::host::worker::ChildWorker;
use crate::host::worker::Worker;
use crate::nfs::MountFault;
use crate::nfs::MountRequest;
use crate::nfs::policy::Mounted;

pub use network::HostNetwork;
pub use network::Network;

/// Makes mounts. A clone is the same engine; any number of mounts may be under way at once.
#[derive(Clone, Debug)]
pub struct Engine {
    network: Arc<dyn Network>,
    worker: Arc<dyn Worker>,
    mounts: Arc<dyn MountTable>,
}

/// What a mount is doing, for whoever waits for it.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The kernel is asked, with this text of options.
    Asking {
        /// As mount(8) would show them.
        options: String,
    },
    /// An attempt failed, in these words, and another one may follow.
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
        Self { network, worker, mounts }
    }

    /// The engine of this host. Its program must answer to [`crate::host::worker::ARGUMENT`].
    #[must_use]
    pub fn of_this_host() -> Self {
        Self::new(Arc::new(HostNetwork), Arc::new(ChildWorker), Arc::new(ProcMountTable))
    }

    /// Mounts, for as long as the request's patience lasts. `request.target` is spelled as the kernel's mount
    /// table spells it: absolute, without links.
    ///
    /// Where `cancel` is cancelled, this returns within a second. The future must not be dropped instead: a
    /// mount that came to be in that moment would stay.
    ///
    /// # Errors
    /// Says why it is not mounted. Nothing that this call made is left.
    pub async fn mount(
        &self,
        request: MountRequest,
        cancel: CancellationToken,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Mounted, MountFault> {
        let _ = (&self.network, &self.worker, &self.mounts, &request, &cancel, &progress);
        std::future::pending().await
    }
}
