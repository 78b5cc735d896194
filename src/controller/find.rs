//! Volumes that are there: whether, what they are, and how large they are said to be.

use crate::controller::Controller;
use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::record::VolumeRecord;
use crate::controller::tree::ExportFault;
use crate::model::VolumeHandle;
use crate::runtime::in_flight::Busy;

/// Why nothing can be said about a volume.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Another call for it is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// There is none.
    #[error("there is no volume {0:?}")]
    NotFound(String),
    /// Its mount target cannot be used.
    #[error(transparent)]
    Export(ExportFault),
    /// What is on it cannot be.
    #[error("{server}: {source}")]
    Home {
        /// The mount target.
        server: String,
        /// Why.
        source: HomeFault,
    },
}

impl Controller {
    /// What is known about a volume.
    ///
    /// # Errors
    /// When there is none, or its mount target does not say.
    pub async fn find(&self, handle: &VolumeHandle) -> Result<VolumeRecord, FindError> {
        self.find_and(handle, None).await
    }

    /// Takes note of a larger size. Nothing enforces one, so nothing has to be done for it. A volume is never made
    /// smaller.
    ///
    /// # Errors
    /// When there is none, or its mount target does not take note.
    pub async fn expand(
        &self,
        handle: &VolumeHandle,
        capacity: i64,
    ) -> Result<VolumeRecord, FindError> {
        let _operation = self.begin(&handle.key)?;
        self.find_and(handle, Some(capacity)).await
    }

    async fn find_and(
        &self,
        handle: &VolumeHandle,
        capacity: Option<i64>,
    ) -> Result<VolumeRecord, FindError> {
        let VolumeHandle { export, key } = handle;
        let missing = || FindError::NotFound(handle.to_string());
        let broken = |source| FindError::Home { server: export.spec.host.to_string(), source };
        let mut tree = match self.exports.open(export).await {
            Ok(tree) => tree,
            Err(ExportFault::NoSuchPath { .. }) => return Err(missing()),
            Err(fault) => return Err(FindError::Export(fault)),
        };
        let tree = tree.as_mut();
        let home = Home::find(tree).await.map_err(broken)?.ok_or_else(missing)?;
        let mut record = home.record(tree, key).await.map_err(broken)?.ok_or_else(missing)?;
        if let Some(capacity) = capacity.filter(|capacity| *capacity > record.capacity) {
            record.capacity = capacity;
            home.replace(tree, key, &record).await.map_err(broken)?;
        }
        Ok(record)
    }
}
