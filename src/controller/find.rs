//! Volumes that are there: whether, what they are, and how large they are said to be.

use crate::controller::Controller;
use crate::controller::api::CloudFault;
use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::quota::SizeError;
use crate::controller::quota::size_of_quota;
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
    /// The vendor's API.
    #[error("{0}")]
    Cloud(#[from] CloudFault),
    /// The size is none of a quota.
    #[error(transparent)]
    Size(SizeError),
    /// Its mount target cannot be used.
    #[error(transparent)]
    Export(Box<ExportFault>),
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

    /// Makes its quota larger, where it has one, and takes note of the size. A volume is never made smaller.
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
            Err(fault) => return Err(FindError::Export(Box::new(fault))),
        };
        let tree = tree.as_mut();
        let home = Home::find(tree).await.map_err(broken)?.ok_or_else(missing)?;
        let mut record = home.record(tree, key).await.map_err(broken)?.ok_or_else(missing)?;
        let mut capacity = capacity;
        if let (Some(wanted), Some(_)) = (capacity, &record.quota_on) {
            // Also where it is as large already: a deletion that was cut may have cancelled it.
            let least = size_of_quota(wanted, 0).map_err(FindError::Size)?.max(record.capacity);
            self.ensure_quota(export, &record, least).await?;
            capacity = Some(least);
        }
        if let Some(capacity) = capacity.filter(|capacity| *capacity > record.capacity) {
            record.capacity = capacity;
            home.replace(tree, key, &record).await.map_err(broken)?;
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::create::tests::request;
    use crate::controller::fake::Carried;
    use crate::controller::fake::Servers;

    async fn made(servers: &Servers) -> VolumeHandle {
        let created = servers.controller().create(request("pvc-1", &[])).await.unwrap();
        VolumeHandle::parse(created.id.as_str()).unwrap()
    }

    #[tokio::test]
    async fn a_volume_is_found_by_its_id_and_no_other_is() {
        let servers = Servers::default().with("a.test");
        let handle = made(&servers).await;
        let controller = servers.controller();
        assert_eq!(controller.find(&handle).await.unwrap().name, "pvc-1");
        for other in ["v1:a.test:/:pvc-2", "v1:b.test:/:pvc-1"] {
            let found = controller.find(&VolumeHandle::parse(other).unwrap()).await;
            assert!(matches!(found, Err(FindError::NotFound(_))), "{other}");
        }
    }

    #[tokio::test]
    async fn a_size_grows_and_never_shrinks_wherever_it_is_cut() {
        for carried in [Carried::Out, Carried::Not] {
            for call in 0.. {
                let servers = Servers::default().with("a.test");
                let handle = made(&servers).await;
                servers.break_at("a.test", call, carried);
                let first = servers.controller().expand(&handle, 20).await;
                if !servers.has_broken("a.test") {
                    assert!(call > 5, "only {call} calls");
                    break;
                }
                assert!(first.is_err());
                let controller = servers.controller();
                assert_eq!(controller.expand(&handle, 20).await.unwrap().capacity, 20);
                assert_eq!(controller.expand(&handle, 15).await.unwrap().capacity, 20);
                assert_eq!(controller.find(&handle).await.unwrap().capacity, 20);
            }
        }
    }
}
