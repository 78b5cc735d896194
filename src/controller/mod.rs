//! What the cluster does for a volume: makes its directory on a mount target, and removes it.
//!
//! ```text
//! <path>/<directory>                      the volume
//! <path>/.alinas-csi/volumes/<key>.json   what is known about it: written before it, removed after it
//! <path>/.alinas-csi/trash/<key>.<time>   what was a volume, until it is removed in the background
//! ```
//!
//! There is no database and no cluster here: an id says how to get to a record, and the record says the rest. Every
//! step may be the last of this process, and the same call made again ends what was begun ([`create`], [`delete`]);
//! the trash is the queue of what is still to be removed ([`sweep`]).
//!
//! All of it goes over NFSv3 through TLS, spoken by this process, which mounts nothing and needs no right. Knows
//! nothing of gRPC codes (that is `csi`). Start with [`create`].

pub mod create;
pub mod delete;
pub mod domain;
#[cfg(test)]
pub(crate) mod fake;
pub mod find;
pub mod home;
pub mod network;
pub mod record;
pub mod sweep;
pub mod tree;

use std::sync::Arc;

use crate::model::VolumeKey;
use crate::runtime::Clock;
use crate::runtime::InFlight;
use crate::runtime::in_flight::Busy;
use crate::runtime::in_flight::Operation;

pub use create::CreateError;
pub use create::CreateRequest;
pub use create::Created;
pub use delete::DeleteError;
pub use find::FindError;
pub use network::NetworkExports;
pub use record::VolumeRecord;
pub use sweep::Sweeper;
pub use tree::ExportFault;
pub use tree::Exports;
pub use tree::Tree;

/// Serves volumes for a cluster. A clone serves the same ones.
#[derive(Clone, Debug)]
pub struct Controller {
    exports: Arc<dyn Exports>,
    sweeper: Sweeper,
    clock: Arc<dyn Clock>,
    in_flight: InFlight,
}

impl Controller {
    /// A controller with no operation under way.
    #[must_use]
    pub fn new(exports: Arc<dyn Exports>, clock: Arc<dyn Clock>) -> Self {
        let sweeper = Sweeper::new(Arc::clone(&exports));
        Self { exports, sweeper, clock, in_flight: InFlight::default() }
    }

    /// Ends what is done in the background. The trash remembers what was left.
    pub async fn stopped(&self) {
        self.sweeper.stop().await;
    }

    /// Marks a volume, whichever call it is for.
    fn begin(&self, key: &VolumeKey) -> Result<Operation, Busy> {
        self.in_flight.begin(key.as_str())
    }
}
