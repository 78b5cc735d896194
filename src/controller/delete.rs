//! DeleteVolume: what the volume's class said is to become of it.
//!
//! ```text
//! delete   directory renamed into the trash -> record removed -> trash emptied in the background
//! archive  directory renamed beside the volumes -> record removed
//! retain   record removed
//! ```
//!
//! A call that was cut is made again: a directory that is gone has been renamed, and a volume without a record has
//! been deleted.

use std::time::Duration;

use crate::controller::Controller;
use crate::controller::api::CloudFault;
use crate::controller::copier::Becomes;
use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::home::find_directory;
use crate::controller::record::VolumeRecord;
use crate::controller::tree::ExportFault;
use crate::controller::tree::Tree;
use crate::model::OnDelete;
use crate::model::VolumeHandle;
use crate::model::VolumeKey;
use crate::model::storage_class::ARCHIVED;
use crate::nfs::client::Handle;
use crate::nfs::client::Name;
use crate::runtime::FailurePoint;
use crate::runtime::in_flight::Busy;

/// Why a volume is still there.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// Another call for it is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The vendor's API.
    #[error("{0}")]
    Cloud(#[from] CloudFault),
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

/// What became of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// This.
    Now(OnDelete),
    /// It was not there.
    Already,
}

impl Controller {
    /// Deletes a volume. One that is not there has been deleted.
    ///
    /// # Errors
    /// Says why it is still there; to be called again.
    pub async fn delete(&self, handle: &VolumeHandle) -> Result<Deleted, DeleteError> {
        let VolumeHandle { export, key } = handle;
        let _operation = self.begin(key)?;
        let becomes = Becomes::Volume(key.clone(), String::new());
        self.copier.cancel(export, &becomes).await;
        let mut tree = match self.exports.open(export).await {
            Ok(tree) => tree,
            // Whoever removed the directory of all volumes has removed this one.
            Err(ExportFault::NoSuchPath { .. }) => return Ok(Deleted::Already),
            Err(fault) => return Err(DeleteError::Export(Box::new(fault))),
        };
        let deleted = self.take_away(tree.as_mut(), handle).await?;
        drop(tree);
        self.sweeper.notice(export);
        Ok(deleted)
    }

    async fn take_away(
        &self,
        tree: &mut dyn Tree,
        VolumeHandle { export, key }: &VolumeHandle,
    ) -> Result<Deleted, DeleteError> {
        let failed = |source| DeleteError::Home { server: export.spec.host.to_string(), source };
        let Some(home) = Home::find(tree).await.map_err(failed)? else {
            return Ok(Deleted::Already);
        };
        let Some(record) = home.record(tree, key).await.map_err(failed)? else {
            // A file without content was begun for a volume that has never been.
            home.forget(tree, key).await.map_err(failed)?;
            return Ok(Deleted::Already);
        };
        // First, while the directory has its name: a quota stays with a directory that is moved.
        self.ensure_no_quota(export, &record).await?;
        self.end(tree, &home, key, &record).await.map_err(failed)?;
        Ok(Deleted::Now(record.on_delete))
    }

    async fn end(
        &self,
        tree: &mut dyn Tree,
        home: &Home,
        key: &VolumeKey,
        record: &VolumeRecord,
    ) -> Result<(), HomeFault> {
        let now = self.clock.now().wall;
        if record.origin.is_some() {
            // A copy that is not whole has a place of work, and nothing else.
            let becomes = Becomes::Volume(key.clone(), String::new());
            self.copier.discard(tree, home, &becomes).await?;
        }
        move_away(tree, home, key, record, now).await?;
        FailurePoint::DeleteMoved.pass();
        home.forget(tree, key).await?;
        FailurePoint::DeleteForgotten.pass();
        Ok(())
    }
}

async fn move_away(
    tree: &mut dyn Tree,
    home: &Home,
    key: &VolumeKey,
    record: &VolumeRecord,
    now: Duration,
) -> Result<(), HomeFault> {
    match record.on_delete {
        OnDelete::Delete => {
            let name = Name::parse(&format!("{key}.{:x}", now.as_millis()))?;
            let root = tree.root();
            move_to(tree, &root, record, (&home.trash, &name)).await?;
        }
        OnDelete::Archive => {
            let (root, name) = (tree.root(), free_archive(tree, record, now).await?);
            move_to(tree, &root, record, (&root, &name)).await?;
        }
        OnDelete::Retain => {}
    }
    Ok(())
}

async fn move_to(
    tree: &mut dyn Tree,
    root: &Handle,
    record: &VolumeRecord,
    to: (&Handle, &Name),
) -> Result<(), HomeFault> {
    let name = Name::parse(&record.directory)?;
    // A link or a file in its place is not ours to rename.
    if find_directory(tree, root, &name).await?.is_some() {
        tree.rename((root, &name), to).await?;
    }
    Ok(())
}

/// `archived-<name>.<number>`: the first number that is free, from the time in seconds on.
async fn free_archive(
    tree: &mut dyn Tree,
    record: &VolumeRecord,
    now: Duration,
) -> Result<Name, HomeFault> {
    let root = tree.root();
    let mut number = now.as_secs();
    loop {
        let name = Name::parse(&format!("{ARCHIVED}{}.{number}", record.directory))?;
        if tree.look_up(&root, &name).await?.is_none() {
            return Ok(name);
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::create::tests::request;
    use crate::controller::fake::Carried;
    use crate::controller::fake::Servers;
    use crate::nfs::client::Kind;

    const EMPTY: [&str; 3] = [".alinas-csi/", ".alinas-csi/trash/", ".alinas-csi/volumes/"];

    async fn made(servers: &Servers, on_delete: &str) -> VolumeHandle {
        let controller = servers.controller();
        let created =
            controller.create(request("pvc-1", &[("onDelete", on_delete)])).await.unwrap();
        servers.plant("a.test", "pvc-1/file", Kind::File);
        VolumeHandle::parse(created.id.as_str()).unwrap()
    }

    #[tokio::test]
    async fn each_class_says_what_becomes_of_the_data() {
        for (on_delete, left) in [
            ("delete", vec![]),
            ("archive", vec!["archived-pvc-1.1700000000/", "archived-pvc-1.1700000000/file"]),
            ("retain", vec!["pvc-1/", "pvc-1/file"]),
        ] {
            let servers = Servers::default().with("a.test");
            let handle = made(&servers, on_delete).await;
            let controller = servers.controller();
            assert!(matches!(controller.delete(&handle).await.unwrap(), Deleted::Now(_)));
            controller.sweeper.idle().await;
            assert_eq!(controller.delete(&handle).await.unwrap(), Deleted::Already);
            let expected: Vec<&str> = EMPTY.into_iter().chain(left).collect();
            assert_eq!(servers.paths("a.test"), expected, "{on_delete}");
        }
    }

    #[tokio::test]
    async fn whichever_call_breaks_the_next_attempt_deletes_the_volume_once() {
        for (on_delete, left) in [("delete", 0), ("archive", 2), ("retain", 2)] {
            for carried in [Carried::Out, Carried::Not] {
                for call in 0.. {
                    let servers = Servers::default().with("a.test");
                    let handle = made(&servers, on_delete).await;
                    servers.break_at("a.test", call, carried);
                    // Its sweep ends with it.
                    let first = servers.controller();
                    let outcome = first.delete(&handle).await;
                    first.stopped().await;
                    if !servers.has_broken("a.test") {
                        assert!(outcome.is_ok() && call > 5, "only {call} calls");
                        break;
                    }
                    let controller = servers.controller();
                    controller.delete(&handle).await.unwrap();
                    controller.sweeper.idle().await;
                    let paths = servers.paths("a.test");
                    assert_eq!(paths.len(), EMPTY.len() + left, "call {call}: {paths:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_volume_whose_export_is_gone_has_been_deleted_and_one_that_is_silent_has_not() {
        let servers = Servers::default().with("a.test");
        let handle = made(&servers, "delete").await;
        servers.silence("a.test");
        let error = servers.controller().delete(&handle).await.unwrap_err();
        assert!(matches!(error, DeleteError::Export(_)), "{error}");
        let elsewhere = VolumeHandle::parse("v1:b.test:/:pvc-1").unwrap();
        let deleted = servers.controller().delete(&elsewhere).await.unwrap();
        assert_eq!(deleted, Deleted::Already);
    }

    #[tokio::test]
    async fn a_volume_that_cannot_be_believed_is_not_deleted() {
        let servers = Servers::default().with("a.test");
        let handle = made(&servers, "delete").await;
        servers.plant("a.test", "other/precious", Kind::File);
        let record = ".alinas-csi/volumes/pvc-1.json";
        let content = String::from_utf8(servers.content("a.test", record).unwrap()).unwrap();
        for directory in ["other", "..", "a/b", ".alinas-csi"] {
            let changed = format!("\"directory\":\"{directory}\"");
            let changed = content.replace("\"directory\":\"pvc-1\"", &changed);
            servers.tamper("a.test", record, changed.as_bytes());
            let error = servers.controller().delete(&handle).await.unwrap_err();
            assert!(error.to_string().contains("pvc-1.json"), "{error}");
        }
        assert!(servers.paths("a.test").contains(&"other/precious".to_owned()));
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_the_directory_stays_where_it_is() {
        let servers = Servers::default().with("a.test");
        let controller = servers.controller();
        let created = controller.create(request("pvc-1", &[])).await.unwrap();
        controller.sweeper.idle().await;
        let handle = VolumeHandle::parse(created.id.as_str()).unwrap();
        servers.replace_by_link("a.test", "pvc-1");
        let error = controller.delete(&handle).await.unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[tokio::test]
    async fn two_calls_for_one_volume_do_not_meet() {
        let servers = Servers::default().with("a.test");
        let handle = made(&servers, "delete").await;
        let controller = servers.controller();
        let _under_way = controller.begin(&handle.key).unwrap();
        let error = controller.delete(&handle).await.unwrap_err();
        assert!(matches!(error, DeleteError::Busy(_)), "{error}");
    }
}
