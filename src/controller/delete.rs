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
use crate::runtime::in_flight::Busy;

/// Why a volume is still there.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// Another call for it is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
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
        let mut tree = match self.exports.open(export).await {
            Ok(tree) => tree,
            // Whoever removed the directory of all volumes has removed this one.
            Err(ExportFault::NoSuchPath { .. }) => return Ok(Deleted::Already),
            Err(fault) => return Err(DeleteError::Export(fault)),
        };
        let now = self.clock.now().wall;
        let deleted = take_away(tree.as_mut(), key, now).await.map_err(|source| {
            DeleteError::Home { server: export.spec.host.to_string(), source }
        })?;
        drop(tree);
        self.sweeper.notice(export);
        Ok(deleted)
    }
}

async fn take_away(
    tree: &mut dyn Tree,
    key: &VolumeKey,
    now: Duration,
) -> Result<Deleted, HomeFault> {
    let Some(home) = Home::find(tree).await? else { return Ok(Deleted::Already) };
    let Some(record) = home.record(tree, key).await? else {
        // A file without content was begun for a volume that has never been.
        home.forget(tree, key).await?;
        return Ok(Deleted::Already);
    };
    match record.on_delete {
        OnDelete::Delete => {
            let name = Name::parse(&format!("{key}.{:x}", now.as_millis()))?;
            let root = tree.root();
            move_to(tree, &root, &record, (&home.trash, &name)).await?;
        }
        OnDelete::Archive => {
            let (root, name) = (tree.root(), free_archive(tree, &record, now).await?);
            move_to(tree, &root, &record, (&root, &name)).await?;
        }
        OnDelete::Retain => {}
    }
    home.forget(tree, key).await?;
    Ok(Deleted::Now(record.on_delete))
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
