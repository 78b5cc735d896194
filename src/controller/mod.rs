//! What the cluster does for a volume: makes its directory on a mount target, and removes it.
//!
//! ```text
//! <path>/<directory>                      the volume
//! <path>/.alinas-csi/volumes/<key>.json   what is known about it: written before it, removed after it
//! <path>/.alinas-csi/trash/<key>.<time>   what was a volume, until it is removed in the background
//! <path>/.alinas-csi/snapshots/<key>      a snapshot: its record, and the copy
//! <path>/.alinas-csi/copies/<name>        a copy of a volume or snapshot that is being made
//! ```
//!
//! There is no database and no cluster here: an id says how to get to a record, and the record says the rest. Every
//! step may be the last of this process, and the same call made again ends what was begun ([`create`], [`delete`]);
//! the trash is the queue of what is still to be removed ([`sweep`]). A copy is made out of sight and shown when it is
//! whole ([`copier`]).
//!
//! All of it goes over NFSv3 through TLS, spoken by this process, which mounts nothing and needs no right. Knows
//! nothing of gRPC codes (that is `csi`). Start with [`create`].
//!
//! Volumes that are no directories, and quotas, are made by the vendor's API ([`api`]); [`cloud`] tells the kinds apart.

mod access_point;
pub mod api;
pub mod capacity;
pub mod cloud;
pub mod condition;
pub mod copier;
mod copy;
#[cfg(test)]
mod copy_tests;
pub mod create;
pub mod delete;
pub mod domain;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod fake_api;
mod file_system;
pub mod find;
pub mod home;
#[cfg(test)]
mod hostile_tests;
pub mod list;
pub mod network;
mod origin;
pub mod quota;
pub mod record;
pub mod snapshot;
pub mod sweep;
pub mod tree;
mod work;

use std::sync::Arc;

use crate::model::VolumeKey;
use crate::runtime::Clock;
use crate::runtime::InFlight;
use crate::runtime::in_flight::Busy;
use crate::runtime::in_flight::Operation;

use copier::Copier;

pub use api::Cloud;
pub use api::CloudFault;
pub use capacity::CapacityError;
pub use cloud::Facts;
pub use cloud::Provisioned;
pub use cloud::Removed;
pub use cloud::Wanted;
pub use condition::Condition;
pub use copier::CopyError;
pub use create::CreateError;
pub use create::CreateRequest;
pub use create::Created;
pub use delete::DeleteError;
pub use find::FindError;
pub use list::InUse;
pub use list::ListError;
pub use list::Listed;
pub use network::NetworkExports;
pub use record::Origin;
pub use record::VolumeRecord;
pub use snapshot::Snapshot;
pub use snapshot::SnapshotError;
pub use sweep::SweepReport;
pub use sweep::Sweeper;
pub use tree::ExportFault;
pub use tree::Exports;
pub use tree::Tree;

/// Serves volumes for a cluster. A clone serves the same ones.
#[derive(Clone, Debug)]
pub struct Controller {
    exports: Arc<dyn Exports>,
    sweeper: Sweeper,
    copier: Copier,
    clock: Arc<dyn Clock>,
    in_flight: InFlight,
    /// The vendor's API, where it is set up.
    cloud: Option<Cloud>,
    /// The volumes of a cluster, where there is one.
    in_use: Option<InUse>,
}

impl Controller {
    /// A controller with no operation under way.
    #[must_use]
    pub fn new(exports: Arc<dyn Exports>, clock: Arc<dyn Clock>) -> Self {
        let sweeper = Sweeper::new(Arc::clone(&exports));
        let copier = Copier::new(Arc::clone(&exports), Arc::clone(&clock));
        let (in_flight, cloud, in_use) = (InFlight::default(), None, None);
        Self { exports, sweeper, copier, clock, in_flight, cloud, in_use }
    }

    /// The same, with the vendor's API for what only that can make.
    #[must_use]
    pub fn with_cloud(self, cloud: Cloud) -> Self {
        Self { cloud: Some(cloud), ..self }
    }

    /// How far the trash is emptied.
    #[must_use]
    pub fn trash(&self) -> SweepReport {
        self.sweeper.report()
    }

    /// Ends what is done in the background. The trash remembers what was left, and so do the places of work.
    pub async fn stopped(&self) {
        self.copier.stop().await;
        self.sweeper.stop().await;
    }

    /// Marks a volume, whichever call it is for.
    fn begin(&self, key: &VolumeKey) -> Result<Operation, Busy> {
        self.in_flight.begin(key.as_str())
    }

    /// Marks a snapshot, whichever call it is for.
    fn begin_snapshot(&self, key: &VolumeKey) -> Result<Operation, Busy> {
        self.in_flight.begin(&format!("snapshot {key}"))
    }
}
