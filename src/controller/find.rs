//! Volumes that are there: whether, what they are, and how large they are said to be.

use crate::controller::Controller;
use crate::controller::api::CloudFault;
use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::quota::SizeError;
use crate::controller::quota::size_of_quota;
use crate::controller::record::VolumeRecord;
use crate::controller::tree::ExportFault;
use crate::model::Changes;
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

/// What is to become of what is known about a volume.
enum Change {
    Nothing,
    /// At least this size, in bytes.
    Size(i64),
    Of(Changes),
}

impl Controller {
    /// What is known about a volume.
    ///
    /// # Errors
    /// When there is none, or its mount target does not say.
    pub async fn find(&self, handle: &VolumeHandle) -> Result<VolumeRecord, FindError> {
        self.find_and(handle, Change::Nothing).await
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
        self.find_and(handle, Change::Size(capacity)).await
    }

    /// Changes what may be changed of a volume.
    ///
    /// # Errors
    /// When there is none, or its mount target does not take note.
    pub async fn modify(
        &self,
        handle: &VolumeHandle,
        changes: Changes,
    ) -> Result<VolumeRecord, FindError> {
        let _operation = self.begin(&handle.key)?;
        self.find_and(handle, Change::Of(changes)).await
    }

    /// Writes what is known about a volume only where the change makes it another.
    async fn find_and(
        &self,
        handle: &VolumeHandle,
        change: Change,
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
        let held = home.record(tree, key).await.map_err(broken)?.ok_or_else(missing)?;
        let mut record = held.clone();
        match change {
            Change::Nothing => {}
            Change::Size(size) if record.quota_on.is_some() => {
                // Also where it is as large already: a deletion that was cut may have cancelled it.
                let least = size_of_quota(size, 0).map_err(FindError::Size)?.max(record.capacity);
                self.ensure_quota(export, &record, least).await?;
                record.capacity = least;
            }
            Change::Size(size) => record.capacity = record.capacity.max(size),
            Change::Of(Changes { on_delete }) => {
                record.on_delete = on_delete.unwrap_or(record.on_delete);
            }
        }
        if record != held {
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
    use crate::model::OnDelete;

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

    #[tokio::test]
    async fn what_becomes_of_a_volume_is_changed_wherever_it_is_cut_and_only_where_it_is_another() {
        let changes = Changes { on_delete: Some(OnDelete::Retain) };
        for carried in [Carried::Out, Carried::Not] {
            for call in 0.. {
                let servers = Servers::default().with("a.test");
                let handle = made(&servers).await;
                servers.break_at("a.test", call, carried);
                let first = servers.controller().modify(&handle, changes).await;
                if !servers.has_broken("a.test") {
                    assert!(call > 5, "only {call} calls");
                    break;
                }
                assert!(first.is_err());
                let controller = servers.controller();
                let record = controller.modify(&handle, changes).await.unwrap();
                assert_eq!(record.on_delete, OnDelete::Retain);
                let calls = servers.calls("a.test");
                controller.modify(&handle, changes).await.unwrap();
                controller.modify(&handle, Changes::default()).await.unwrap();
                let per_look = (servers.calls("a.test") - calls) / 2;
                let calls = servers.calls("a.test");
                assert_eq!(controller.find(&handle).await.unwrap().on_delete, OnDelete::Retain);
                assert_eq!(servers.calls("a.test") - calls, per_look, "nothing was written");
            }
        }
    }

    #[tokio::test]
    async fn a_size_that_was_never_noted_leaves_nothing_behind_when_its_volume_goes() {
        let servers = Servers::default().with("a.test");
        let handle = made(&servers).await;
        for call in 0..12 {
            servers.break_at("a.test", call, Carried::Out);
            let _cut =
                servers.controller().expand(&handle, 20 + i64::try_from(call).unwrap()).await;
            servers.has_broken("a.test");
        }
        let controller = servers.controller();
        controller.delete(&handle).await.unwrap();
        let records = |path: &&String| path.starts_with(".alinas-csi/volumes/") && path.len() > 20;
        let paths = servers.paths("a.test");
        assert_eq!(paths.iter().find(records), None, "{paths:?}");
        controller.stopped().await;
    }
}
