//! What a node does for a volume: stages it once, publishes it to each pod, and takes both back.
//!
//! ```text
//! stage      tunnel acquired -> NFS mounted at the staging path     (plain NFS: no tunnel)
//! publish    staging path bound to the pod's target path         (any number of times)
//! unpublish  target path unmounted and removed
//! unstage    staging path unmounted -> tunnel released
//! ```
//!
//! The kernel's mount table is the state. Nothing is remembered but the options of a volume of plain NFS, which
//! the table does not show ([`plain_record`]). A staging mount is shared, so its bind mounts
//! carry its peer group, and that is how the volume's publications are known. Nothing here touches a path that
//! has an NFS mount on it: such calls could block for ever, so they run in a [`Worker`] with a deadline.
//!
//! Knows nothing of gRPC codes (that is `csi`) or of TLS (that is behind [`tunnels`]). Start with [`stage`].

use std::path::Path;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::host::mount_table::MountTable;
use crate::host::worker::Worker;
use crate::model::VolumeId;
use crate::nfs::Engine;
use crate::nfs::engine::MountTimes;
use crate::nfs::engine::Network;
use crate::nfs::farewell::Mountd;
use crate::runtime::InFlight;

pub mod access;
pub mod accounts;
mod background;
pub mod census;
pub mod claim_notes;
pub mod deadline;
pub mod directory;
#[cfg(test)]
pub(crate) mod fake;
pub mod mounts;
pub mod place;
pub mod plain_record;
pub mod publish;
pub mod stage;
pub mod stats;
pub mod tunnels;
pub mod unmount;
pub mod unpublish;
pub mod unstage;
pub mod zone;

use background::Background;
use census::Reading;

pub use access::AccessMode;
pub use census::Census;
pub use plain_record::PlainRecordFiles;
pub use plain_record::PlainRecords;
pub use publish::PublishError;
pub use publish::PublishRequest;
pub use publish::Published;
pub use stage::StageError;
pub use stage::StageRequest;
pub use stage::Staged;
pub use stats::StatsError;
pub use stats::StatsRequest;
pub use tunnels::TunnelFault;
pub use tunnels::Tunnels;
pub use tunnels::WatchdogTunnels;
pub use unpublish::UnpublishError;
pub use unpublish::UnpublishRequest;
pub use unstage::UnstageError;
pub use unstage::UnstageRequest;

/// Serves volumes on this node. A clone serves the same node.
#[derive(Clone, Debug)]
pub struct Node {
    mounts: Arc<dyn MountTable>,
    worker: Arc<dyn Worker>,
    tunnels: Arc<dyn Tunnels>,
    records: Arc<dyn PlainRecords>,
    mountd: Arc<dyn Mountd>,
    engine: Engine,
    background: Background,
    reading: Reading,
    in_flight: InFlight,
    operations: TaskTracker,
}

impl Node {
    /// A node with no operation under way.
    #[must_use]
    pub fn new(
        mounts: Arc<dyn MountTable>,
        worker: Arc<dyn Worker>,
        tunnels: Arc<dyn Tunnels>,
        network: Arc<dyn Network>,
        records: Arc<dyn PlainRecords>,
        mountd: Arc<dyn Mountd>,
    ) -> Self {
        let engine = Engine::new(network, Arc::clone(&worker), Arc::clone(&mounts));
        Self {
            mounts,
            worker,
            tunnels,
            records,
            mountd,
            engine,
            background: Background::default(),
            reading: Reading::default(),
            in_flight: InFlight::default(),
            operations: TaskTracker::new(),
        }
    }

    /// How long mounts took, by version and by what came of them.
    #[must_use]
    pub fn mount_times(&self) -> &MountTimes {
        self.engine.times()
    }

    /// Returns once no operation is under way, those included whose caller hung up. What is tried in the
    /// background is given up: the kubelet asks for it again.
    pub async fn drained(&self) {
        self.background.end_all().await;
        self.operations.close();
        self.operations.wait().await;
    }
}

/// The in-flight key of one path of a volume, for what may run beside work on the volume's other paths.
fn key_at(volume: &VolumeId, path: &Path) -> String {
    format!("{volume} at {}", path.display())
}
